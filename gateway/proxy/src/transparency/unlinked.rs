//! Receipts that were not linked before the gateway ended: they wait in memory, and stand beside the entries that name them.

use std::collections::BTreeSet;

use banqiao_directory::{CityCode, Directory};
use banqiao_ledger::{
    EvidenceKind, StoreError,
    receipt::{self, KnownCheckpoints, Proven},
};
use banqiao_telemetry::Chain;

use super::{city_of_log, log_keys};
use crate::{receipts::Signed, worker::Shared};

/// Receipts that are looked at, newest first: as many as may wait of one city.
const LOOKED_AT: usize = 16_384;
/// Receipts that are read at once.
const PAGE: u32 = 256;

/// Finds the newest receipts whose checkpoints are not linked, of whichever replica, and lets them wait again.
pub(crate) async fn recall(shared: &Shared) {
    match find(shared).await {
        Ok(0) => {}
        Ok(found) => tracing::info!(
            found,
            "checkpoints of receipts were not linked before the start"
        ),
        Err(error) => {
            tracing::warn!(error = %Chain(&error), "receipts that are not linked cannot be looked for");
        }
    }
}

async fn find(shared: &Shared) -> Result<usize, StoreError> {
    let directory = shared.rights.snapshot().directory.clone();
    let reader = shared.ledger.reader();
    let known = KnownCheckpoints::new();
    let mut before = reader.size().await?;
    let mut seen = BTreeSet::new();
    let (mut looked_at, mut found) = (0, 0);
    while looked_at < LOOKED_AT {
        let page = reader
            .evidence_before(before, EvidenceKind::Receipt, PAGE)
            .await?;
        let Some((last, _)) = page.last() else {
            break;
        };
        before = *last;
        looked_at += page.len();
        for (_, bytes) in page {
            // One that was refused proves nothing, and links nothing.
            let Some((city, origin, proven)) = prove(&directory, &bytes, &known) else {
                continue;
            };
            let head = proven.head;
            if !seen.insert((city, head.size, head.root))
                || reader.link(origin, &head).await?.is_some()
            {
                continue;
            }
            let signed = Signed {
                head,
                note: proven.checkpoint,
                since_s: shared.clock.now_s(),
            };
            shared.receipts.remember(city, signed);
            found += 1;
        }
    }
    Ok(found)
}

/// The city and log whose receipt it is: its checkpoint's first line is the log's origin.
fn prove<'d>(
    directory: &'d Directory,
    bytes: &[u8],
    known: &KnownCheckpoints,
) -> Option<(CityCode, &'d str, Proven)> {
    let origin = receipt::origin(bytes)?;
    let city = city_of_log(directory, &origin)?;
    let (origin, keys) = log_keys(city)?;
    let proven = receipt::verify(bytes, origin, || keys, known).ok()?;
    Some((city.code, origin, proven))
}
