//! Watching: the logs that are followed, and by what rules.

use banqiao_kit::{
    CallError, ChangeLog, FollowFrom, FollowRules, FollowSettings, Followers, Refusal, Rule,
    RuleTable, Seen,
};
use futures_util::Stream;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    case::{CURSOR, Event},
    rating::RectificationStep,
    store::{EventFilter, Store, StoreError},
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
    RuleTable::new("Watching").refusal(
        &TOO_MANY_WATCHES,
        &["WatchCase", "WatchDepartment", "WatchRectifications"],
    )
}

const RULES: FollowRules = FollowRules {
    too_many: &TOO_MANY_WATCHES,
    cursor: &CURSOR,
};

/// The histories of cases.
#[derive(Clone, Debug)]
struct CaseLog(Store);

impl ChangeLog for CaseLog {
    type Filter = EventFilter;
    type Change = Event;
    type Error = StoreError;

    fn heads(&self) -> watch::Receiver<i64> {
        self.0.heads()
    }

    async fn poll_head(&self) -> Result<i64, StoreError> {
        self.0.poll_head().await
    }

    async fn page(
        &self,
        filter: &EventFilter,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Event>, StoreError> {
        self.0.events(filter, after, limit).await
    }

    fn number(change: &Event) -> i64 {
        change.seq
    }
}

/// The steps of rectifications.
#[derive(Clone, Debug)]
struct RectificationLog(Store);

impl ChangeLog for RectificationLog {
    type Filter = ();
    type Change = RectificationStep;
    type Error = StoreError;

    fn heads(&self) -> watch::Receiver<i64> {
        self.0.ratings_heads()
    }

    async fn poll_head(&self) -> Result<i64, StoreError> {
        self.0.poll_ratings_head().await
    }

    async fn page(
        &self,
        (): &(),
        after: i64,
        limit: i64,
    ) -> Result<Vec<RectificationStep>, StoreError> {
        self.0.rectification_log(after, limit).await
    }

    fn number(change: &RectificationStep) -> i64 {
        change.seq
    }
}

/// Opens watches, of each log up to the limit. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Watches {
    cases: Followers<CaseLog>,
    rectifications: Followers<RectificationLog>,
}

impl Watches {
    /// Watches of a store that end when `stopping` is cancelled.
    pub fn new(store: Store, settings: FollowSettings, stopping: CancellationToken) -> Self {
        Self {
            cases: Followers::new(CaseLog(store.clone()), settings, RULES, stopping.clone()),
            rectifications: Followers::new(RectificationLog(store), settings, RULES, stopping),
        }
    }

    /// Looks for changes of other replicas until the watches end. Run it once.
    pub async fn follow(&self) {
        futures_util::future::join(self.cases.look(), self.rectifications.look()).await;
    }

    /// Opens a watch of cases.
    ///
    /// # Errors
    /// The limit is reached, the cursor lies after the newest entry, or the store fails.
    pub async fn open(
        &self,
        filter: EventFilter,
        from: FollowFrom,
    ) -> Result<impl Stream<Item = Result<Seen<Event>, CallError>> + Send + 'static, CallError>
    {
        self.cases.open(filter, from).await
    }

    /// Opens a watch of rectifications.
    ///
    /// # Errors
    /// As of [`Self::open`].
    pub async fn open_rectifications(
        &self,
        from: FollowFrom,
    ) -> Result<
        impl Stream<Item = Result<Seen<RectificationStep>, CallError>> + Send + 'static,
        CallError,
    > {
        self.rectifications.open((), from).await
    }
}
