//! `AdminService.ArchiveEntries`: old entries leave the database, and stay readable.

use banqiao_ledger::{ARCHIVED, Effect, retention::hot_since_us};
use banqiao_proto::directory::v1::{ArchiveEntriesRequest, ArchiveEntriesResponse};
use banqiao_telemetry::Chain;
use tokio::sync::{OwnedMutexGuard, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::{Actor, Core, audit::unreadable, invalid};
use crate::moment;

/// Messages on their way to a slow reader.
const AHEAD: usize = 16;
/// Entries between two reports.
const REPORT_EVERY: u64 = 4_096;

pub(super) type Told = ReceiverStream<Result<ArchiveEntriesResponse, Status>>;
type Sender = mpsc::Sender<Result<ArchiveEntriesResponse, Status>>;

/// Begins to archive, and tells of it as it goes on. It ends with whoever asked, between two runs at the latest.
pub(super) async fn begin(
    core: &Core,
    actor: Actor,
    asked: ArchiveEntriesRequest,
) -> Result<Response<Told>, Status> {
    let before = before(core, &asked)?;
    let turn = core.archiving.clone().try_lock_owned();
    let turn = turn.map_err(|_| Status::aborted("entries are being archived already"))?;
    let ledger = core.control.ledger();
    if !asked.dry_run && !ledger.has_archive() {
        return Err(Status::failed_precondition(
            "this gateway has no archive: name a folder as ledger.archive in its config",
        ));
    }
    let range = ledger.archivable(before).await.map_err(unreadable)?;
    let first = ArchiveEntriesResponse {
        from: range.start,
        until: range.end,
        written: range.start,
        archived: range.start,
        ..ArchiveEntriesResponse::default()
    };
    let (sender, receiver) = mpsc::channel(AHEAD);
    // The channel is empty.
    let _ = sender.send(Ok(first)).await;
    if !asked.dry_run {
        let background = core.clone();
        core.background(async move {
            if let Err(status) = archive(&background, &actor, first, &sender, turn).await {
                let _ = sender.send(Err(status)).await;
            }
        });
    }
    Ok(Response::new(ReceiverStream::new(receiver)))
}

/// The time that is asked for, in microseconds UTC.
fn before(core: &Core, asked: &ArchiveEntriesRequest) -> Result<i64, Status> {
    let hot = hot_since_us(core.clock.now_us());
    let Some(asked) = &asked.before else {
        return Ok(hot);
    };
    let before = moment::from_proto(asked);
    if before > hot {
        let problem = format!(
            "is {} at the latest: entries of the last 190 days stay in the database",
            moment::local(hot)
        );
        return Err(invalid(
            "nothing was archived",
            [("before".to_owned(), problem)],
        ));
    }
    Ok(before)
}

async fn archive(
    core: &Core,
    actor: &Actor,
    mut told: ArchiveEntriesResponse,
    sender: &Sender,
    _turn: OwnedMutexGuard<()>,
) -> Result<(), Status> {
    let ledger = core.control.ledger();
    // Rows that an earlier one left behind go first.
    drop_rows(core, &mut told, sender).await?;
    while told.archived < told.until {
        if sender.is_closed() {
            return Ok(());
        }
        let first = told.archived;
        let run = ledger.write_run(first..told.until, |done| {
            if done % REPORT_EVERY == 0 {
                told.written = first + done;
                // A reader that is slow sees fewer of them.
                let _ = sender.try_send(Ok(told));
            }
        });
        let run = run.await.map_err(unreadable)?;
        let digests = (Vec::new(), run.digest.to_vec());
        let entries = run.entries.clone();
        let effects = vec![Effect::Detach { entries }];
        core.change(actor, ARCHIVED, &run.to_string(), digests, effects)
            .await?;
        told.archived = run.entries.end;
        told.written = run.entries.end;
        drop_rows(core, &mut told, sender).await?;
    }
    // Of the others some may have been left out.
    let _ = sender.send(Ok(told)).await;
    Ok(())
}

/// The rows of what is archived leave the database, a few at a time: calls go on meanwhile.
async fn drop_rows(
    core: &Core,
    told: &mut ArchiveEntriesResponse,
    sender: &Sender,
) -> Result<(), Status> {
    loop {
        let dropped = core.control.ledger().drop_archived().await;
        let dropped = dropped.map_err(|error| {
            tracing::warn!(error = %Chain(&error), "rows of archived entries stay in the database");
            Status::unavailable(
                "the entries are archived, and rows of them are still in the database: they go when the \
                 gateway starts, or when this is asked for again",
            )
        })?;
        if dropped == 0 {
            return Ok(());
        }
        told.dropped += dropped;
        let _ = sender.try_send(Ok(*told));
        tokio::task::yield_now().await;
    }
}
