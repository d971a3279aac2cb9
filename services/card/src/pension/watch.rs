//! Watching one transfer: a stream that reads the history as its reader takes it.

use std::{collections::VecDeque, sync::Arc};

use banqiao_kit::{CallError, identifier::CitizenId};
use banqiao_proto::card::v1::{TransferEvent, WatchProgressResponse};
use futures_util::{Stream, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{request::unknown_cursor, rule, transfers::Transfers};
use crate::watch::WatchSettings;

/// Opens watches of transfers, up to the limit.
#[derive(Clone, Debug)]
pub struct ProgressWatches {
    transfers: Transfers,
    settings: WatchSettings,
    places: Arc<Semaphore>,
    stopping: CancellationToken,
}

impl ProgressWatches {
    /// Watches that end when `stopping` is cancelled.
    pub fn new(transfers: Transfers, settings: WatchSettings, stopping: CancellationToken) -> Self {
        Self {
            transfers,
            settings,
            places: Arc::new(Semaphore::new(settings.limit)),
            stopping,
        }
    }

    /// Looks for events of other replicas until the watches end. Run it once.
    pub async fn follow(&self) {
        while self
            .stopping
            .run_until_cancelled(tokio::time::sleep(self.settings.poll))
            .await
            .is_some()
        {
            // The watches end with errors of their own.
            if self.places.available_permits() < self.settings.limit
                && let Err(error) = self.transfers.store().poll_head().await
            {
                tracing::debug!(%error, "cannot look for events of transfers");
            }
        }
    }

    /// Opens a watch of a transfer after a cursor. Without such a transfer it ends at once, and says nothing.
    ///
    /// # Errors
    /// The limit is reached, the cursor lies after the newest event, or the store fails.
    pub async fn open(
        &self,
        id: Uuid,
        holder: CitizenId,
        cursor: i64,
    ) -> Result<
        impl Stream<Item = Result<WatchProgressResponse, CallError>> + Send + 'static,
        CallError,
    > {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            rule::WATCHES.for_now(
                format!(
                    "this service carries {} watches at once",
                    self.settings.limit
                ),
                self.settings.heartbeat,
            )
        })?;
        let heads = self.transfers.store().heads();
        if cursor > self.transfers.store().poll_head().await? {
            return Err(unknown_cursor());
        }
        let watch = Watch {
            transfers: self.transfers.clone(),
            heads,
            id,
            holder,
            cursor,
            page: VecDeque::new(),
            settings: self.settings,
            silent: true,
            stopping: self.stopping.clone(),
            _place: place,
        };
        Ok(stream::try_unfold(watch, |mut watch| async move {
            Ok(watch.next().await?.map(|message| (message, watch)))
        }))
    }
}

struct Watch {
    transfers: Transfers,
    heads: watch::Receiver<i64>,
    id: Uuid,
    holder: CitizenId,
    /// Number of the last event that was sent.
    cursor: i64,
    page: VecDeque<TransferEvent>,
    settings: WatchSettings,
    /// Nothing was sent yet.
    silent: bool,
    stopping: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    async fn next(&mut self) -> Result<Option<WatchProgressResponse>, CallError> {
        loop {
            if self.stopping.is_cancelled() {
                return Err(CallError::Stopping);
            }
            if self.page.is_empty() {
                let head = *self.heads.borrow_and_update();
                let Some(progress) = self.transfers.progress(self.id, &self.holder).await? else {
                    return Ok(None);
                };
                self.page = self.transfers.events(self.id, self.cursor).await?.into();
                if self.page.is_empty() {
                    if !self.silent && !self.wait(head).await? {
                        continue;
                    }
                    self.silent = false;
                    let cursor = self.cursor.to_string();
                    return Ok(Some(WatchProgressResponse {
                        cursor,
                        event: None,
                        progress: Some(progress),
                    }));
                }
            }
            let Some(event) = self.page.pop_front() else {
                continue;
            };
            let progress = self.transfers.progress(self.id, &self.holder).await?;
            self.cursor = event.cursor.parse().unwrap_or(self.cursor);
            self.silent = false;
            return Ok(Some(WatchProgressResponse {
                cursor: event.cursor.clone(),
                event: Some(event),
                progress,
            }));
        }
    }

    /// Waits for an event after `head`, of whatever transfer; true when it is time for a heartbeat.
    async fn wait(&mut self, head: i64) -> Result<bool, CallError> {
        tokio::select! {
            () = self.stopping.cancelled() => Ok(false),
            newer = self.heads.wait_for(|known| *known > head) => {
                // The sender lives in the store that this watch holds.
                newer.map_err(|error| CallError::Internal(error.into()))?;
                Ok(false)
            }
            () = tokio::time::sleep(self.settings.heartbeat) => Ok(true),
        }
    }
}
