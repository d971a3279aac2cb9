//! Watching the referrals of an institution: pages of the history, as the watcher takes them.

use std::{collections::VecDeque, sync::Arc};

use banqiao_kit::{CallError, Caller, Violation, identifier::CreditCode};
use banqiao_proto::lab::v1::WatchReferralsResponse;
use futures_util::{Stream, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use super::{
    referrals::{Referrals, shown},
    rule,
};
use crate::{
    report::{WatchFrom, WatchSettings},
    store::StoredReferralEvent,
};

/// Events that are read at once.
const PAGE: i64 = 128;

/// Opens watches of referrals, up to the limit.
#[derive(Clone, Debug)]
pub struct ReferralWatches {
    referrals: Referrals,
    settings: WatchSettings,
    places: Arc<Semaphore>,
    stopping: CancellationToken,
}

impl ReferralWatches {
    /// Watches that end when `stopping` is cancelled.
    pub fn new(referrals: Referrals, settings: WatchSettings, stopping: CancellationToken) -> Self {
        Self {
            referrals,
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
                && let Err(error) = self.referrals.store().poll_head().await
            {
                tracing::debug!(%error, "cannot look for events of referrals");
            }
        }
    }

    /// Opens a watch of the caller's institution. Its first message comes at once, so that the watcher has a cursor to go on from.
    ///
    /// # Errors
    /// The caller is of no institution of this city, the limit is reached, the cursor lies after the newest event, or the store fails.
    pub async fn open(
        &self,
        caller: &Caller,
        cursor: &str,
    ) -> Result<
        impl Stream<Item = Result<WatchReferralsResponse, CallError>> + Send + use<>,
        CallError,
    > {
        let institution = self.referrals.hospital(caller)?.credit_code;
        let from = WatchFrom::parse(cursor).map_err(|_| unknown_cursor())?;
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let limit = self.settings.limit;
            let message = format!("this service carries {limit} watches at once");
            rule::WATCHES.for_now(message, self.settings.heartbeat)
        })?;
        let heads = self.referrals.store().heads();
        let head = self.referrals.store().poll_head().await?;
        let cursor = match from {
            WatchFrom::After(cursor) if cursor > head => return Err(unknown_cursor()),
            WatchFrom::After(cursor) => cursor,
            WatchFrom::Now => head,
        };
        let watch = Watch {
            watches: self.clone(),
            institution,
            heads,
            cursor,
            page: VecDeque::new(),
            silent: true,
            _place: place,
        };
        Ok(stream::try_unfold(watch, |mut watch| async move {
            let message = watch.next().await?;
            Ok(Some((message, watch)))
        }))
    }
}

fn unknown_cursor() -> CallError {
    CallError::CallerInvalid(vec![Violation {
        field: "cursor".into(),
        rule: &rule::CURSOR,
    }])
}

struct Watch {
    watches: ReferralWatches,
    institution: CreditCode,
    heads: watch::Receiver<i64>,
    /// Number of the last event that was looked at.
    cursor: i64,
    page: VecDeque<StoredReferralEvent>,
    /// Nothing was sent yet.
    silent: bool,
    _place: OwnedSemaphorePermit,
}

impl Watch {
    async fn next(&mut self) -> Result<WatchReferralsResponse, CallError> {
        loop {
            if self.watches.stopping.is_cancelled() {
                return Err(CallError::Stopping);
            }
            if let Some(event) = self.page.pop_front() {
                self.silent = false;
                self.cursor = event.seq;
                return Ok(self.message(Some(event)));
            }
            // Up to the head that is known before the page is read: what is committed later has a higher number.
            let head = *self.heads.borrow_and_update();
            if head > self.cursor {
                let between = (self.cursor, head);
                let store = self.watches.referrals.store();
                let page = store.events(self.institution, between, PAGE).await?;
                if page.is_empty() {
                    // Others' referrals: nothing to send, and nothing to look at again.
                    self.cursor = head;
                }
                self.page = page.into();
                continue;
            }
            if self.silent || self.silence().await? {
                self.silent = false;
                return Ok(self.message(None));
            }
        }
    }

    /// Waits for an event; true when it is time for a heartbeat.
    async fn silence(&mut self) -> Result<bool, CallError> {
        let cursor = self.cursor;
        tokio::select! {
            () = self.watches.stopping.cancelled() => Ok(false),
            newer = self.heads.wait_for(|head| *head > cursor) => {
                // The sender lives in the store that this watch holds.
                newer.map_err(|error| CallError::Internal(error.into()))?;
                Ok(false)
            }
            () = tokio::time::sleep(self.watches.settings.heartbeat) => Ok(true),
        }
    }

    fn message(&self, event: Option<StoredReferralEvent>) -> WatchReferralsResponse {
        WatchReferralsResponse {
            cursor: self.cursor.to_string(),
            event: event.map(shown),
        }
    }
}
