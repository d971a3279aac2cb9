//! The running record of a stream: PROGRESS entries, of which at most one window is behind what crosses.

use std::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicU64, Ordering},
};

use banqiao_ledger::{Append, AppendError, Appended};
use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{Direction, Kind, PrivatePart, Subject},
};
use tokio::sync::Mutex;

use super::{base, unwritable};
use crate::{call::Call, refusal::Refusal};

type Pending = Pin<Box<dyn Future<Output = Result<Appended, AppendError>> + Send>>;

/// What has crossed since the last PROGRESS, and the one that is not yet known to be durable.
#[derive(Default)]
pub(crate) struct Progress {
    messages: AtomicU64,
    bytes: AtomicU64,
    pending: Mutex<Option<Pending>>,
}

/// What a PROGRESS says.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) request: Direction,
    pub(crate) response: Direction,
    pub(crate) subjects: Vec<Subject>,
}

impl Progress {
    /// Counts what is about to cross; true when a window is full and [`Progress::enter`] is due.
    pub(crate) fn count(&self, call: &Call, messages: u64, bytes: u64) -> bool {
        let limits = &call.conn.worker.shared.limits;
        let messages = self.messages.fetch_add(messages, Ordering::Relaxed) + messages;
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        messages >= limits.progress_messages || bytes >= limits.progress_bytes
    }

    /// Whether anything has crossed since the last PROGRESS.
    pub(crate) fn dirty(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > 0
    }

    /// Submits a PROGRESS, after the one before is durable.
    ///
    /// # Errors
    ///
    /// The one before did not become durable in time: the stream must stop.
    pub(crate) async fn enter(
        &self,
        call: &Call,
        running: impl FnOnce() -> Running,
    ) -> Result<(), Refusal> {
        let mut pending = self.pending.lock().await;
        self.settle(call, &mut pending).await?;
        self.messages.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        let Running {
            request,
            response,
            subjects,
        } = running();
        let mut entry = base(call, Kind::Progress);
        entry.request = Some(request);
        entry.response = Some(response);
        let append = Append::new(entry).with_private(PrivatePart {
            subjects,
            ..PrivatePart::default()
        });
        *pending = Some(Box::pin(call.conn.worker.appender.append_queued(append)));
        Ok(())
    }

    async fn settle(&self, call: &Call, pending: &mut Option<Pending>) -> Result<(), Refusal> {
        let Some(waiting) = pending.as_mut() else {
            return Ok(());
        };
        let limit = call.conn.worker.shared.limits.progress_timeout;
        let outcome = tokio::time::timeout(limit, waiting).await;
        *pending = None;
        match outcome {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(unwritable(&error)),
            Err(_) => Err(Refusal::new(
                Reason::LedgerUnavailable,
                "the record of the stream could not be written in time",
            )),
        }
    }
}

impl std::fmt::Debug for Progress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Progress")
            .field("messages", &self.messages)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}
