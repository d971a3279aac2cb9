//! Watching changes of cards: the log that is followed, by what rules, and what a watcher is told.

use banqiao_kit::{
    CallError, ChangeLog, FollowFrom, FollowRules, FollowSettings, Followers, Refusal, Rule,
    RuleTable, Seen,
};
use banqiao_proto::card::v1::{CardState, CardStateChange, WatchCardStatesResponse};
use futures_util::{Stream, TryStreamExt};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    cards::timestamp,
    request::CURSOR,
    store::{Change, Store, StoreError},
};

const TOO_MANY_WATCHES: Refusal = Refusal::exceeds(
    Rule::design(
        "TOO_MANY_WATCHES",
        "a service carries a bounded number of watches (`watch_limit`)",
        "card service",
    )
    .remedy("open the watch again after the delay in RetryInfo, or at another replica"),
);

pub(crate) fn rules() -> RuleTable {
    RuleTable::new("Watching").refusal(&TOO_MANY_WATCHES, &["WatchCardStates"])
}

const RULES: FollowRules = FollowRules {
    too_many: &TOO_MANY_WATCHES,
    cursor: &CURSOR,
};

impl ChangeLog for Store {
    type Filter = ();
    type Change = Change;
    type Error = StoreError;

    fn heads(&self) -> watch::Receiver<i64> {
        Self::heads(self)
    }

    async fn poll_head(&self) -> Result<i64, StoreError> {
        Self::poll_head(self).await
    }

    async fn page(&self, (): &(), after: i64, limit: i64) -> Result<Vec<Change>, StoreError> {
        self.changes(after, limit).await
    }

    fn number(change: &Change) -> i64 {
        change.seq
    }
}

/// Opens watches, up to the limit. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Watches(Followers<Store>);

impl Watches {
    /// Watches of a store that end when `stopping` is cancelled.
    pub fn new(store: Store, settings: FollowSettings, stopping: CancellationToken) -> Self {
        Self(Followers::new(store, settings, RULES, stopping))
    }

    /// Looks for changes of other replicas until the watches end. Run it once.
    pub async fn follow(&self) {
        self.0.look().await;
    }

    /// Opens a watch. Its first message comes at once, so that the watcher has a cursor to go on from.
    ///
    /// # Errors
    /// The limit is reached, the cursor lies after the newest change, or the store fails.
    pub async fn open(
        &self,
        from: FollowFrom,
    ) -> Result<
        impl Stream<Item = Result<WatchCardStatesResponse, CallError>> + Send + 'static,
        CallError,
    > {
        Ok(self.0.open((), from).await?.map_ok(message))
    }
}

fn message(seen: Seen<Change>) -> WatchCardStatesResponse {
    WatchCardStatesResponse {
        cursor: seen.cursor.to_string(),
        change: seen.change.as_ref().map(shown),
    }
}

/// A change as answers show it.
pub(crate) fn shown(change: &Change) -> CardStateChange {
    CardStateChange {
        card_number: change.number.as_str().to_owned(),
        function: change.part.shown().into(),
        from: change
            .from
            .map_or(CardState::Unspecified, |state| state.shown())
            .into(),
        to: change.to.shown().into(),
        actor_city: change.actor_city.to_string(),
        cause: change.cause.as_str().to_owned(),
        changed_at: Some(timestamp(change.changed_at_us)),
    }
}
