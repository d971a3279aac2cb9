//! Watching cases: a stream that reads pages of the history as its reader takes them.
//!
//! There is no queue between writers and watchers, so a slow watcher costs one page of memory and loses nothing; HTTP/2's
//! flow control is the back-pressure. Entries of other replicas are found by polling the number of the newest.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use banqiao_kit::{CallError, Refusal, Rule, RuleTable};
use futures_util::{Stream, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    case::{Event, WatchFrom},
    store::{EventFilter, Store},
};

const TOO_MANY_WATCHES: Refusal = Refusal::exceeds(
    Rule::design(
        "TOO_MANY_WATCHES",
        "a service carries a bounded number of watches (`watch_limit`)",
        "item service",
    )
    .remedy("open the watch again after the delay in RetryInfo, or at another replica"),
);

pub(crate) fn rules() -> RuleTable {
    RuleTable::new("Watching").refusal(&TOO_MANY_WATCHES, &["WatchCase", "WatchDepartment"])
}

/// Changes that are read at once, about 30 KiB.
const PAGE: i64 = 128;

/// How watches behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchSettings {
    /// How often the newest change is looked for while somebody watches.
    pub poll: Duration,
    /// After how long without a change a message that only moves the cursor is sent.
    pub heartbeat: Duration,
    /// Watches at once.
    pub limit: usize,
}

impl WatchSettings {
    /// A poll is one indexed row, so twice a second is nothing to the database and well within what people notice; the heartbeat is half of the
    /// gateways' keepalive interval; a watch is for a system of a city or a hospital, of which there are some dozens.
    pub const DEFAULT: Self = Self {
        poll: Duration::from_millis(500),
        heartbeat: Duration::from_secs(15),
        limit: 256,
    };
}

/// Opens watches, up to the limit.
#[derive(Clone, Debug)]
pub struct Watches {
    store: Store,
    settings: WatchSettings,
    places: Arc<Semaphore>,
    stopping: CancellationToken,
}

impl Watches {
    /// Watches of a store that end when `stopping` is cancelled.
    pub fn new(store: Store, settings: WatchSettings, stopping: CancellationToken) -> Self {
        Self {
            store,
            settings,
            places: Arc::new(Semaphore::new(settings.limit)),
            stopping,
        }
    }

    /// Looks for changes of other replicas until the watches end. Run it once.
    pub async fn follow(&self) {
        let mut warned = false;
        while self
            .stopping
            .run_until_cancelled(tokio::time::sleep(self.settings.poll))
            .await
            .is_some()
        {
            if self.places.available_permits() == self.settings.limit {
                continue;
            }
            match self.store.poll_head().await {
                Ok(_) => warned = false,
                // The watches end with errors of their own; one line is enough here.
                Err(error) if !warned => {
                    tracing::warn!(error = %banqiao_telemetry::Chain(&error), "cannot look for changes");
                    warned = true;
                }
                Err(_) => {}
            }
        }
    }

    /// Opens a watch. Its first message comes at once, so that the watcher has a cursor to go on from.
    ///
    /// # Errors
    /// The limit is reached, the cursor lies after the newest entry, or the store fails.
    pub async fn open(
        &self,
        filter: EventFilter,
        from: WatchFrom,
    ) -> Result<impl Stream<Item = Result<Seen, CallError>> + Send + 'static, CallError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let limit = self.settings.limit;
            TOO_MANY_WATCHES.for_now(
                format!("this service carries {limit} watches at once"),
                self.settings.heartbeat,
            )
        })?;
        let heads = self.store.heads();
        let head = self.store.poll_head().await?;
        let cursor = match from {
            WatchFrom::After(cursor) if cursor > head => {
                return Err(CallError::CallerInvalid(WatchFrom::unknown_cursor()));
            }
            WatchFrom::After(cursor) => cursor,
            WatchFrom::Now => head,
        };
        let watch = Watch {
            store: self.store.clone(),
            filter,
            heads,
            cursor,
            page: VecDeque::new(),
            heartbeat: self.settings.heartbeat,
            silent: true,
            stopping: self.stopping.clone(),
            _place: place,
        };
        // After an error there is nothing more to say.
        Ok(stream::try_unfold(watch, |mut watch| async move {
            let message = watch.next().await?;
            Ok(Some((message, watch)))
        }))
    }
}

/// What a watcher gets: a cursor to go on from, and what happened; nothing in the first message and in silence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// The cursor.
    pub cursor: i64,
    /// What happened.
    pub event: Option<Event>,
}

struct Watch {
    store: Store,
    filter: EventFilter,
    heads: watch::Receiver<i64>,
    /// Number of the last entry that was sent or passed over.
    cursor: i64,
    page: VecDeque<Event>,
    heartbeat: Duration,
    /// Nothing was sent yet.
    silent: bool,
    stopping: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    async fn next(&mut self) -> Result<Seen, CallError> {
        loop {
            if self.stopping.is_cancelled() {
                return Err(CallError::Stopping);
            }
            if let Some(event) = self.page.pop_front() {
                self.silent = false;
                self.cursor = event.seq;
                return Ok(self.seen(Some(event)));
            }
            // Read before the page: what the page does not hold up to here is of others.
            let head = *self.heads.borrow_and_update();
            let page = self.store.events(&self.filter, self.cursor, PAGE).await?;
            if !page.is_empty() {
                self.page = page.into();
                continue;
            }
            self.cursor = self.cursor.max(head);
            if self.silent {
                self.silent = false;
                return Ok(self.seen(None));
            }
            let (cursor, stopping, silence) = (self.cursor, self.stopping.clone(), self.seen(None));
            tokio::select! {
                () = stopping.cancelled() => {}
                newer = self.heads.wait_for(|head| *head > cursor) => {
                    // The sender lives in the store that this watch holds.
                    newer.map_err(|error| CallError::Internal(error.into()))?;
                }
                () = tokio::time::sleep(self.heartbeat) => return Ok(silence),
            }
        }
    }

    const fn seen(&self, event: Option<Event>) -> Seen {
        Seen {
            cursor: self.cursor,
            event,
        }
    }
}
