//! Watching for what supersedes a report that the watcher has read: pages of the history, as the watcher takes them.
//!
//! There is no queue between writers and watchers, so a slow watcher costs one page of memory and loses nothing; HTTP/2's
//! flow control is the back-pressure. Changes of other replicas are found by polling the number of the newest change.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use banqiao_directory::{CityCode, SpiffeId};
use banqiao_kit::{Broken, CallError, Refusal, Rule, RuleTable, Violation};
use banqiao_proto::lab::v1::{Superseded, WatchSupersededResponse};
use futures_util::{Stream, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::timestamp;
use crate::store::{Store, StoredChange};

/// Changes that are read at once, about 30 KiB.
const PAGE: usize = 128;

/// Rule of cursors.
const CURSOR: Rule = Rule::design(
    "CURSOR",
    "a cursor is empty, 0, or one that this service gave and has not moved past its last change",
    "laboratory service",
);

/// More watches than the service carries.
const TOO_MANY_WATCHES: Refusal = Refusal::exceeds(
    Rule::design(
        "TOO_MANY_WATCHES",
        "a service carries a number of watches at once",
        "laboratory service",
    )
    .remedy("try again after the delay, or end a watch that is not needed"),
);

/// The rules of this module.
pub(super) fn rules() -> RuleTable {
    const WATCH: &[&str] = &["WatchSuperseded"];
    RuleTable::new("Watching")
        .field(&CURSOR, WATCH)
        .refusal(&TOO_MANY_WATCHES, WATCH)
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchFrom {
    /// After this change; 0 is before the first.
    After(i64),
    /// With the changes that come.
    Now,
}

impl WatchFrom {
    /// Parses a cursor.
    ///
    /// # Errors
    /// It is none that this service gives.
    pub fn parse(cursor: &str) -> Result<Self, Vec<Violation>> {
        if cursor.is_empty() {
            return Ok(Self::Now);
        }
        let digits = cursor.len() <= 19 && cursor.bytes().all(|byte| byte.is_ascii_digit());
        let number = digits
            .then(|| cursor.parse().ok())
            .flatten()
            .ok_or(Broken(&CURSOR));
        number.map(Self::After).map_err(|_| Self::unknown_cursor())
    }

    fn unknown_cursor() -> Vec<Violation> {
        vec![Violation {
            field: "cursor".into(),
            rule: &CURSOR,
        }]
    }
}

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
    /// A poll is one row; the heartbeat is half of the gateways' keepalive interval; a watch is for a system of a hospital, of which
    /// there are some dozens.
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
    city: CityCode,
    settings: WatchSettings,
    places: Arc<Semaphore>,
    stopping: CancellationToken,
}

impl Watches {
    /// Watches of a city's store that end when `stopping` is cancelled.
    pub fn new(
        store: Store,
        city: CityCode,
        settings: WatchSettings,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            store,
            city,
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
            match self.store.poll_report_changes().await {
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

    /// Opens a watch of a client. Its first message comes at once, so that the watcher has a cursor to go on from.
    ///
    /// # Errors
    /// The limit is reached, the cursor lies after the newest change, or the store fails.
    pub async fn open(
        &self,
        client: SpiffeId,
        from: WatchFrom,
    ) -> Result<
        impl Stream<Item = Result<WatchSupersededResponse, CallError>> + Send + 'static,
        CallError,
    > {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let limit = self.settings.limit;
            let message = format!("this service carries {limit} watches at once");
            TOO_MANY_WATCHES.for_now(message, self.settings.heartbeat)
        })?;
        let heads = self.store.report_changes();
        let head = self.store.poll_report_changes().await?;
        let cursor = match from {
            WatchFrom::After(cursor) if cursor > head => {
                return Err(CallError::CallerInvalid(WatchFrom::unknown_cursor()));
            }
            WatchFrom::After(cursor) => cursor,
            WatchFrom::Now => head,
        };
        let watch = Watch {
            watches: self.clone(),
            client,
            heads,
            cursor,
            page: VecDeque::new(),
            silent: true,
            _place: place,
        };
        // After an error there is nothing more to say.
        Ok(stream::try_unfold(watch, |mut watch| async move {
            let message = watch.next().await?;
            Ok(Some((message, watch)))
        }))
    }
}

struct Watch {
    watches: Watches,
    client: SpiffeId,
    heads: watch::Receiver<i64>,
    /// Number of the last change that was looked at.
    cursor: i64,
    page: VecDeque<StoredChange>,
    /// Nothing was sent yet.
    silent: bool,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    async fn next(&mut self) -> Result<WatchSupersededResponse, CallError> {
        loop {
            if self.watches.stopping.is_cancelled() {
                return Err(CallError::Stopping);
            }
            if let Some(change) = self.page.pop_front() {
                self.silent = false;
                self.cursor = change.seq;
                return Ok(self.message(Some(change)));
            }
            // Up to the head that is known before the page is read: what is committed later has a higher number.
            let head = *self.heads.borrow_and_update();
            if head > self.cursor {
                self.read_page(head).await?;
                continue;
            }
            if self.silent {
                self.silent = false;
                return Ok(self.message(None));
            }
            let (cursor, stopping) = (self.cursor, self.watches.stopping.clone());
            let heartbeat = self.watches.settings.heartbeat;
            let silence = tokio::select! {
                () = stopping.cancelled() => false,
                newer = self.heads.wait_for(|head| *head > cursor) => {
                    // The sender lives in the store that this watch holds.
                    newer.map_err(|error| CallError::Internal(error.into()))?;
                    false
                }
                () = tokio::time::sleep(heartbeat) => true,
            };
            if silence {
                return Ok(self.message(None));
            }
        }
    }

    async fn read_page(&mut self, head: i64) -> Result<(), CallError> {
        let limit = i64::try_from(PAGE).unwrap_or(i64::MAX);
        let store = &self.watches.store;
        let page = store
            .superseded(&self.client, self.cursor, head, limit)
            .await?;
        if page.is_empty() {
            // Others' reports: nothing to send, and nothing to look at again.
            self.cursor = head;
        }
        self.page = page.into();
        Ok(())
    }

    fn message(&self, change: Option<StoredChange>) -> WatchSupersededResponse {
        let superseded = change.map(|change| Superseded {
            city: self.watches.city.to_string(),
            institution: change.key.institution.to_string(),
            report_number: change.key.number.as_str().to_owned(),
            version: change.version.unsigned_abs(),
            status: change.status.into(),
            read_version: change.read_version.unsigned_abs(),
            superseded_at: Some(timestamp(change.superseded_at_us)),
        });
        WatchSupersededResponse {
            cursor: self.cursor.to_string(),
            superseded,
        }
    }
}
