//! Following a log of changes: a stream that reads pages of it as its reader takes them.
//!
//! There is no queue between writers and followers, so a slow follower costs one page of memory and loses nothing; HTTP/2's
//! flow control is the back-pressure. Changes of other replicas are found by polling the number of the newest.

use std::{collections::VecDeque, error::Error, sync::Arc, time::Duration};

use banqiao_telemetry::Chain;
use futures_util::{Stream, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::{
    rescue::CallError,
    rule::{Rule, Violation},
    rulebook::Refusal,
};

/// Changes that are read at once, about 30 KiB.
const PAGE: i64 = 128;

/// Changes with numbers that grow in the order of their commits, so that a reader who sees one has seen every smaller one.
pub trait ChangeLog: Clone + Send + Sync + 'static {
    /// Which changes a follower sees.
    type Filter: Send + Sync + 'static;
    /// A change.
    type Change: Send + 'static;
    /// Why it cannot be read.
    type Error: Error + Into<CallError> + Send + Sync + 'static;

    /// The number of the newest change that this process knows of, as it grows. The sender lives in the log.
    fn heads(&self) -> watch::Receiver<i64>;

    /// The number of the newest change in the database, of whatever replica; wakes the waiters of [`Self::heads`].
    fn poll_head(&self) -> impl Future<Output = Result<i64, Self::Error>> + Send;

    /// Changes after a number, oldest first, at most `limit`.
    fn page(
        &self,
        filter: &Self::Filter,
        after: i64,
        limit: i64,
    ) -> impl Future<Output = Result<Vec<Self::Change>, Self::Error>> + Send;

    /// The number of a change.
    fn number(change: &Self::Change) -> i64;
}

/// How followers behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowSettings {
    /// How often the newest change is looked for while somebody follows.
    pub poll: Duration,
    /// After how long without a change a message that only moves the cursor is sent.
    pub heartbeat: Duration,
    /// Followers at once.
    pub limit: usize,
}

impl FollowSettings {
    /// A poll is one indexed row, so twice a second is nothing to the database and well within what people notice; the heartbeat is half of the
    /// gateways' keepalive interval; a follower is a system of a city or a hospital, of which there are some dozens.
    pub const DEFAULT: Self = Self {
        poll: Duration::from_millis(500),
        heartbeat: Duration::from_secs(15),
        limit: 256,
    };
}

/// By what a service refuses to follow: its own rules, so that they stand in its own table.
#[derive(Clone, Copy, Debug)]
pub struct FollowRules {
    /// The limit is reached.
    pub too_many: &'static Refusal,
    /// The cursor was not given by this service, or lies after the newest change.
    pub cursor: &'static Rule,
}

impl FollowRules {
    fn unknown_cursor(&self) -> CallError {
        CallError::CallerInvalid(vec![Violation {
            field: "cursor".into(),
            rule: self.cursor,
        }])
    }
}

/// Where following begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FollowFrom {
    /// After this change; 0 is before the first.
    After(i64),
    /// With the changes that come.
    Now,
}

/// What a follower gets: a cursor to go on from, and a change; nothing in the first message and in silence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen<C> {
    /// The cursor.
    pub cursor: i64,
    /// What happened.
    pub change: Option<C>,
}

/// Opens streams of a log, up to a limit. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Followers<L> {
    log: L,
    settings: FollowSettings,
    rules: FollowRules,
    places: Arc<Semaphore>,
    stopping: CancellationToken,
}

impl<L: ChangeLog> Followers<L> {
    /// Followers of a log that end when `stopping` is cancelled.
    pub fn new(
        log: L,
        settings: FollowSettings,
        rules: FollowRules,
        stopping: CancellationToken,
    ) -> Self {
        Self {
            log,
            settings,
            rules,
            places: Arc::new(Semaphore::new(settings.limit)),
            stopping,
        }
    }

    /// Looks for changes of other replicas until the streams end. Run it once.
    pub async fn look(&self) {
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
            match self.log.poll_head().await {
                Ok(_) => warned = false,
                // The streams end with errors of their own; one line is enough here.
                Err(error) if !warned => {
                    tracing::warn!(error = %Chain(&error), "cannot look for changes");
                    warned = true;
                }
                Err(_) => {}
            }
        }
    }

    /// Opens a stream. Its first message comes at once, so that the follower has a cursor to go on from.
    ///
    /// # Errors
    /// The limit is reached, the cursor lies after the newest change, or the log cannot be read.
    pub async fn open(
        &self,
        filter: L::Filter,
        from: FollowFrom,
    ) -> Result<impl Stream<Item = Result<Seen<L::Change>, CallError>> + Send + 'static, CallError>
    {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| {
            let limit = self.settings.limit;
            self.rules.too_many.for_now(
                format!("this service carries {limit} watches at once"),
                self.settings.heartbeat,
            )
        })?;
        let heads = self.log.heads();
        let head = self.log.poll_head().await.map_err(Into::into)?;
        let cursor = match from {
            FollowFrom::After(cursor) if cursor > head => {
                return Err(self.rules.unknown_cursor());
            }
            FollowFrom::After(cursor) => cursor,
            FollowFrom::Now => head,
        };
        let follower = Follower {
            log: self.log.clone(),
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
        Ok(stream::try_unfold(follower, |mut follower| async move {
            let message = follower.next().await?;
            Ok(Some((message, follower)))
        }))
    }
}

struct Follower<L: ChangeLog> {
    log: L,
    filter: L::Filter,
    heads: watch::Receiver<i64>,
    /// Number of the last change that was sent or passed over.
    cursor: i64,
    page: VecDeque<L::Change>,
    heartbeat: Duration,
    /// Nothing was sent yet.
    silent: bool,
    stopping: CancellationToken,
    _place: OwnedSemaphorePermit,
}

impl<L: ChangeLog> Follower<L> {
    async fn next(&mut self) -> Result<Seen<L::Change>, CallError> {
        loop {
            if self.stopping.is_cancelled() {
                return Err(CallError::Stopping);
            }
            if let Some(change) = self.page.pop_front() {
                self.silent = false;
                self.cursor = L::number(&change);
                return Ok(self.seen(Some(change)));
            }
            // Read before the page: what the page does not hold up to here is of others.
            let head = *self.heads.borrow_and_update();
            let page = self.log.page(&self.filter, self.cursor, PAGE).await;
            let page = page.map_err(Into::into)?;
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
                    // The sender lives in the log that this stream holds.
                    newer.map_err(|error| CallError::Internal(error.into()))?;
                }
                () = tokio::time::sleep(self.heartbeat) => return Ok(silence),
            }
        }
    }

    const fn seen(&self, change: Option<L::Change>) -> Seen<L::Change> {
        Seen {
            cursor: self.cursor,
            change,
        }
    }
}
