//! Watching entries about the people of one paying city: pages of the history as the reader takes them, without a queue.

use std::{collections::VecDeque, sync::Arc};

use banqiao_directory::CityCode;
use banqiao_kit::{CallError, Refusal, Rule, RuleTable};
use banqiao_proto::card::v1::{EligibilityChange, WatchEligibilityResponse};
use futures_util::{Stream, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{Eligibility, record::Event, store::EligibilityStore};
use crate::{cards::timestamp, request::WatchFrom, watch::WatchSettings};

/// Entries that are read at once, about 40 KiB.
const PAGE: i64 = 128;

const TOO_MANY: Refusal = Refusal::exceeds(
    Rule::design(
        "TOO_MANY_ELIGIBILITY_WATCHES",
        "the service carries a number of watches at once",
        "card service, setting watch_limit",
    )
    .remedy("end a watch, or try again"),
);

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchedBy {
    /// City whose people it is about.
    pub city: CityCode,
}

/// Opens watches, up to the limit.
#[derive(Clone, Debug)]
pub struct EligibilityWatches {
    store: EligibilityStore,
    settings: WatchSettings,
    places: Arc<Semaphore>,
    stopping: CancellationToken,
}

impl EligibilityWatches {
    /// Watches of a city's checks that end when `stopping` is cancelled.
    pub fn new(
        eligibility: &Eligibility,
        settings: WatchSettings,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            store: eligibility.store.clone(),
            settings,
            places: Arc::new(Semaphore::new(settings.limit)),
            stopping,
        }
    }

    /// Looks for entries of other replicas until the watches end. Run it once.
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
                    tracing::warn!(error = %banqiao_telemetry::Chain(&error), "cannot look for checks");
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
        by: WatchedBy,
        from: WatchFrom,
    ) -> Result<
        impl Stream<Item = Result<WatchEligibilityResponse, CallError>> + Send + 'static,
        CallError,
    > {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let limit = self.settings.limit;
            let message = format!("this service carries {limit} watches at once");
            TOO_MANY.for_now(message, self.settings.heartbeat)
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
            by,
            heads,
            cursor,
            page: VecDeque::new(),
            settings: self.settings,
            silent: true,
            stopping: self.stopping.clone(),
            _place: place,
        };
        Ok(stream::try_unfold(watch, |mut watch| async move {
            let message = watch.next().await?;
            Ok(Some((message, watch)))
        }))
    }
}

struct Watch {
    store: EligibilityStore,
    by: WatchedBy,
    heads: watch::Receiver<i64>,
    /// Everything up to here was looked at.
    cursor: i64,
    page: VecDeque<Event>,
    settings: WatchSettings,
    /// Nothing was sent yet.
    silent: bool,
    stopping: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    async fn next(&mut self) -> Result<WatchEligibilityResponse, CallError> {
        loop {
            if self.stopping.is_cancelled() {
                return Err(CallError::Stopping);
            }
            if let Some(event) = self.page.pop_front() {
                self.silent = false;
                self.cursor = event.seq;
                return Ok(message(self.cursor, Some(event)));
            }
            // The head is read first: entries that come after it are looked for again.
            let head = self.store.poll_head().await?;
            let page = self.store.events_for(self.by.city, self.cursor, PAGE);
            self.page = page.await?.into();
            if !self.page.is_empty() {
                continue;
            }
            // What lies up to the head is about people whom other cities pay.
            self.cursor = self.cursor.max(head);
            if self.silent {
                self.silent = false;
                return Ok(message(self.cursor, None));
            }
            let (cursor, stopping) = (self.cursor, self.stopping.clone());
            tokio::select! {
                () = stopping.cancelled() => {}
                newer = self.heads.wait_for(|head| *head > cursor) => {
                    // The sender lives in the store that this watch holds.
                    newer.map_err(|error| CallError::Internal(error.into()))?;
                }
                () = tokio::time::sleep(self.settings.heartbeat) => return Ok(message(cursor, None)),
            }
        }
    }
}

fn message(cursor: i64, event: Option<Event>) -> WatchEligibilityResponse {
    let change = event.map(|event| EligibilityChange {
        social_security_number: event.key.holder.as_str().to_owned(),
        scheme: event.key.scheme.into(),
        kind: event.kind.into(),
        verdict: event.verdict().map(|verdict| verdict.shown()),
        investigation: event
            .investigation
            .map(|id| id.to_string())
            .unwrap_or_default(),
        arrears_from: event
            .arrears_from
            .map(|day| day.to_string())
            .unwrap_or_default(),
        recorded_at: Some(timestamp(event.recorded_at_us)),
    });
    WatchEligibilityResponse {
        cursor: cursor.to_string(),
        change,
    }
}

pub(super) fn rules(table: RuleTable) -> RuleTable {
    table.refusal(&TOO_MANY, &["WatchEligibility"])
}
