//! The thread that commits.
use crate::{
    ledger::{Core, LedgerError, LedgerSettings},
    store::StoreUrl,
};
use std::sync::Arc;
pub(crate) async fn start(_: Arc<Core>, _: StoreUrl, _: LedgerSettings) -> Result<(), LedgerError> {
    Err(LedgerError::Closed)
}
