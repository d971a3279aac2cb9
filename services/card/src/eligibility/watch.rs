//! Watching entries about the people of one paying city.

use banqiao_directory::CityCode;
use banqiao_kit::{
    CallError, ChangeLog, FollowFrom, FollowRules, FollowSettings, Followers, Refusal, Rule,
    RuleTable, Seen,
};
use banqiao_proto::card::v1::{EligibilityChange, WatchEligibilityResponse};
use futures_util::{Stream, TryStreamExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Eligibility, record::Event, store::EligibilityStore};
use crate::{cards::timestamp, request::CURSOR, store::StoreError};

const TOO_MANY: Refusal = Refusal::exceeds(
    Rule::design(
        "TOO_MANY_ELIGIBILITY_WATCHES",
        "the service carries a number of watches at once",
        "card service, setting watch_limit",
    )
    .remedy("end a watch, or try again"),
);

const RULES: FollowRules = FollowRules {
    too_many: &TOO_MANY,
    cursor: &CURSOR,
};

/// Who watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WatchedBy {
    /// City whose people it is about.
    pub city: CityCode,
}

impl ChangeLog for EligibilityStore {
    type Filter = WatchedBy;
    type Change = Event;
    type Error = StoreError;

    fn heads(&self) -> watch::Receiver<i64> {
        Self::heads(self)
    }

    async fn poll_head(&self) -> Result<i64, StoreError> {
        Self::poll_head(self).await
    }

    async fn page(&self, by: &WatchedBy, after: i64, limit: i64) -> Result<Vec<Event>, StoreError> {
        self.events_for(by.city, after, limit).await
    }

    fn number(change: &Event) -> i64 {
        change.seq
    }
}

/// Opens watches, up to the limit. Cheap to clone.
#[derive(Clone, Debug)]
pub struct EligibilityWatches(Followers<EligibilityStore>);

impl EligibilityWatches {
    /// Watches of a city's checks that end when `stopping` is cancelled.
    pub fn new(
        eligibility: &Eligibility,
        settings: FollowSettings,
        stopping: CancellationToken,
    ) -> Self {
        let log = eligibility.store.clone();
        Self(Followers::new(log, settings, RULES, stopping))
    }

    /// Looks for entries of other replicas until the watches end. Run it once.
    pub async fn follow(&self) {
        self.0.look().await;
    }

    /// Opens a watch. Its first message comes at once, so that the watcher has a cursor to go on from.
    ///
    /// # Errors
    /// The limit is reached, the cursor lies after the newest entry, or the store fails.
    pub async fn open(
        &self,
        by: WatchedBy,
        from: FollowFrom,
    ) -> Result<
        impl Stream<Item = Result<WatchEligibilityResponse, CallError>> + Send + 'static,
        CallError,
    > {
        Ok(self.0.open(by, from).await?.map_ok(message))
    }
}

fn message(seen: Seen<Event>) -> WatchEligibilityResponse {
    let change = seen.change.map(|event| EligibilityChange {
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
        cursor: seen.cursor.to_string(),
        change,
    }
}

pub(super) fn rules(table: RuleTable) -> RuleTable {
    table.refusal(&TOO_MANY, &["WatchEligibility"])
}
