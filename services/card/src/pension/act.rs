//! What can be asked for, and why it is not done.

use banqiao_directory::CityCode;
use banqiao_kit::{CallError, Violation, identifier::CitizenId};
use banqiao_proto::card::v1::{
    FundsConfirmation, InformationTable, TransferState, deliver_document_request,
};
use uuid::Uuid;

use super::{request::Application, rule, state::Event};
use crate::store::StoreError;

/// A document that one city's service sends the other's.
pub type Document = deliver_document_request::Document;

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// New city: 申请.
    Apply(Application),
    /// New city: 办结.
    Complete,
    /// New city: funds were credited.
    ConfirmFunds(FundsConfirmation),
    /// Old city: it cannot transfer, for this reason.
    Decline(String),
    /// New city: the table is wrong, for this reason.
    Dispute(String),
    /// New city: 同意接收函.
    IssueLetter,
    /// A document of the other city.
    Receive(CityCode, Document),
    /// New city: refused, for this reason.
    Refuse(String),
    /// Old city: 转出.
    TransferOut(InformationTable),
    /// New city: the insured withdraws, for this reason.
    Withdraw(String),
}

/// A request, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The idempotency key, within the asking client.
    pub request_id: Uuid,
    /// The transfer.
    pub transfer: Uuid,
    /// Whose it is.
    pub holder: CitizenId,
    /// SHA-256 of the request, to tell a repetition from another request.
    pub digest: [u8; 32],
    /// What is asked for.
    pub act: Act,
}

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PensionError {
    /// The settings name no trust domain for this city.
    #[error(
        "no relations are transferred from or to {0}: its trust domain stands in no `[cities]`"
    )]
    CallerCityNotConnected(CityCode),
    /// A system of another city decides, or a document comes from neither city of the transfer.
    #[error("{0}")]
    CallerForeign(&'static str),
    /// The two cities' settings disagree about whether funds move.
    #[error("the letter says funds_required = {letter}, and this city's settings say otherwise")]
    CallerFundsRule {
        /// What the letter says.
        letter: bool,
    },
    /// Inside a pooled scheme no funds move, so none can be confirmed.
    #[error("no funds move with this relation")]
    CallerNoFunds,
    /// The person has an open transfer at this side already.
    #[error("another transfer of this person is open")]
    CallerOpenTransfer,
    /// The request id stands for another request of this client.
    #[error("the request id was used for another request")]
    CallerReusedId,
    /// The table of transitions has none for this event in this state.
    #[error("{} is not possible in {}", event.code(), state.map_or("no state", |state| state.as_str_name()))]
    CallerTransition {
        /// State of this side; none where the transfer does not exist yet.
        state: Option<TransferState>,
        /// What was to happen.
        event: Event,
    },
    /// No transfer has this number and this person.
    #[error("no transfer has this number and this person")]
    CallerUnknown,
    /// As many documents as are kept wait for a city already.
    #[error("too many documents wait for {0}: its gateway has been out of reach for long")]
    OutboxFull(CityCode),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<PensionError> for CallError {
    fn from(error: PensionError) -> Self {
        let message = error.to_string();
        match error {
            PensionError::CallerCityNotConnected(_) => rule::CITY.because(message),
            PensionError::CallerForeign(_) => rule::OWN_CITY.because(message),
            PensionError::CallerFundsRule { .. } => rule::FUNDS_RULE.because(message),
            PensionError::CallerNoFunds => rule::FUNDS.because(message),
            PensionError::CallerOpenTransfer => rule::OPEN.because(message),
            PensionError::CallerReusedId => Self::CallerInvalid(vec![Violation {
                field: "request_id".into(),
                rule: &rule::REQUEST_ID_REUSED,
            }]),
            PensionError::CallerTransition { .. } => rule::STATE.because(message),
            PensionError::CallerUnknown => rule::UNKNOWN.because(message),
            PensionError::OutboxFull(_) => rule::OUTBOX.because(message),
            PensionError::Store(error) => error.into(),
        }
    }
}
