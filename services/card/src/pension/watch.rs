//! Watching one transfer: what happens, and where it stands with each message.

use banqiao_kit::{
    CallError, ChangeLog, FollowFrom, FollowRules, FollowSettings, Followers, identifier::CitizenId,
};
use banqiao_proto::card::v1::WatchProgressResponse;
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    rule,
    store::{PensionStore, StoredEvent},
    transfers::{Transfers, shown_event},
};
use crate::store::StoreError;

const RULES: FollowRules = FollowRules {
    too_many: &rule::WATCHES,
    cursor: &rule::CURSOR,
};

impl ChangeLog for PensionStore {
    type Filter = Uuid;
    type Change = StoredEvent;
    type Error = StoreError;

    fn heads(&self) -> watch::Receiver<i64> {
        Self::heads(self)
    }

    async fn poll_head(&self) -> Result<i64, StoreError> {
        Self::poll_head(self).await
    }

    async fn page(
        &self,
        id: &Uuid,
        after: i64,
        limit: i64,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        self.events(*id, after, limit).await
    }

    fn number(change: &StoredEvent) -> i64 {
        change.seq
    }
}

/// Opens watches of transfers, up to the limit. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ProgressWatches {
    transfers: Transfers,
    followers: Followers<PensionStore>,
}

impl ProgressWatches {
    /// Watches that end when `stopping` is cancelled.
    pub fn new(
        transfers: Transfers,
        settings: FollowSettings,
        stopping: CancellationToken,
    ) -> Self {
        let log = transfers.store().clone();
        Self {
            transfers,
            followers: Followers::new(log, settings, RULES, stopping),
        }
    }

    /// Looks for events of other replicas until the watches end. Run it once.
    pub async fn follow(&self) {
        self.followers.look().await;
    }

    /// Opens a watch of a transfer after a cursor. Without such a transfer of this person it ends at once, and says nothing.
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
        let seen = self.followers.open(id, FollowFrom::After(cursor)).await?;
        let watch = (Box::pin(seen), self.transfers.clone());
        Ok(stream::try_unfold(
            watch,
            move |(mut seen, transfers)| async move {
                let Some(next) = seen.next().await.transpose()? else {
                    return Ok(None);
                };
                let Some(progress) = transfers.progress(id, &holder).await? else {
                    return Ok(None);
                };
                let message = WatchProgressResponse {
                    cursor: next.cursor.to_string(),
                    event: next.change.map(shown_event),
                    progress: Some(progress),
                };
                Ok(Some((message, (seen, transfers))))
            },
        ))
    }
}
