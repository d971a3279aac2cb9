//! `AuditService`. Every call is entered before its first result leaves.

use std::pin::Pin;

use banqiao_ledger::{Append, Order, Page, Query, Stored};
use banqiao_proto::ledger::v1::{
    Entry, IndexedEntry, Kind, Read, SearchEntriesRequest, SearchEntriesResponse,
    ShowExchangeRequest, ShowExchangeResponse, TailEntriesRequest, TailEntriesResponse,
    audit_service_server::AuditService,
};
use banqiao_telemetry::Chain;
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Actor, Core, invalid, unwritable};

/// Entries of a search that states no limit.
const DEFAULT_LIMIT: u32 = 100;
/// Entries that are read from the database at once.
const PAGE: usize = 1_000;
/// Entries on their way to a slow reader.
const AHEAD: usize = 64;

pub(super) struct Audit(pub(super) Core);

type Entries<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl AuditService for Audit {
    type SearchEntriesStream = Entries<SearchEntriesResponse>;

    async fn search_entries(
        &self,
        request: Request<SearchEntriesRequest>,
    ) -> Result<Response<Self::SearchEntriesStream>, Status> {
        let actor = Actor::of(&request)?;
        let asked = request.into_inner();
        let filter = asked.filter.unwrap_or_default();
        let query = Query::parse(&filter).map_err(|error| faulty(&error))?;
        let limit = if asked.limit == 0 {
            DEFAULT_LIMIT
        } else {
            asked.limit
        } as usize;
        let order = if asked.ascending {
            Order::Ascending
        } else {
            Order::Descending
        };
        let reader = self.0.control.ledger().reader();
        // The first page is read before the READ entry, so that the entry can say what is shown of it.
        let page = move |cursor, limit: usize| Page {
            limit: limit.min(PAGE),
            order,
            cursor,
            open_private: false,
        };
        let first = reader
            .search(&query, page(asked.cursor, limit))
            .await
            .map_err(unreadable)?;
        self.enter(&actor, format!("search {}", query.describe()), first.len())
            .await?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        let mut cursor = first.last().map(|stored| stored.index);
        let mut left = limit.saturating_sub(first.len());
        let more = first.len() == limit.min(PAGE);
        // Ends with the stream: a reader that goes away closes the channel.
        self.0.background(async move {
            for stored in first {
                if sender.send(Ok(stored)).await.is_err() {
                    return;
                }
            }
            let mut more = more;
            while more && left > 0 {
                let found = match reader.search(&query, page(cursor, left)).await {
                    Ok(found) => found,
                    Err(error) => {
                        let _ = sender.send(Err(unreadable(error))).await;
                        return;
                    }
                };
                more = found.len() == left.min(PAGE);
                left -= found.len();
                cursor = found.last().map(|stored| stored.index);
                for stored in found {
                    if sender.send(Ok(stored)).await.is_err() {
                        return;
                    }
                }
            }
        });
        let stream = ReceiverStream::new(receiver).map(|stored| {
            Ok(SearchEntriesResponse {
                entry: Some(indexed(stored?)),
            })
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn show_exchange(
        &self,
        request: Request<ShowExchangeRequest>,
    ) -> Result<Response<ShowExchangeResponse>, Status> {
        let actor = Actor::of(&request)?;
        let asked = request.into_inner();
        let text = asked.exchange_id.split('/').next().unwrap_or_default();
        let exchange: Uuid = text.parse().map_err(|_| {
            let problem = "is a UUID, as banqiao-exchange-id has it".to_owned();
            invalid(
                "the exchange is not known",
                [("exchange_id".to_owned(), problem)],
            )
        })?;
        let reader = self.0.control.ledger().reader();
        let found = reader
            .exchange(exchange, asked.open_private)
            .await
            .map_err(unreadable)?;
        let opened = if asked.open_private {
            ", private parts opened"
        } else {
            ""
        };
        self.enter(&actor, format!("show {exchange}{opened}"), found.len())
            .await?;
        Ok(Response::new(ShowExchangeResponse {
            entries: found.into_iter().map(indexed).collect(),
        }))
    }

    type TailEntriesStream = Entries<TailEntriesResponse>;

    async fn tail_entries(
        &self,
        request: Request<TailEntriesRequest>,
    ) -> Result<Response<Self::TailEntriesStream>, Status> {
        let actor = Actor::of(&request)?;
        let asked = request.into_inner();
        let query =
            Query::parse(&asked.filter.unwrap_or_default()).map_err(|error| faulty(&error))?;
        if query.is_private() {
            let problem = "subject, operator and case are searched for, not followed".to_owned();
            return Err(invalid(
                "the tail cannot be filtered so",
                [("filter".to_owned(), problem)],
            ));
        }
        let reader = self.0.control.ledger().reader();
        let mut tail = reader.tail(asked.from_index).await.map_err(unreadable)?;
        // A tail to the end shows what stood when it was asked for, not its own READ entry.
        let end = self.0.control.ledger().size();
        let from = asked
            .from_index
            .map_or_else(|| "now".to_owned(), |index| index.to_string());
        self.enter(&actor, format!("tail from {from} {}", query.describe()), 0)
            .await?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        self.0.background(async move {
            loop {
                let read = if asked.stop_at_end {
                    tail.ready().await
                } else {
                    tokio::select! {
                        read = tail.next() => read,
                        () = sender.closed() => return,
                    }
                };
                let read = match read {
                    Ok(read) => read,
                    Err(error) => {
                        let _ = sender.send(Err(unreadable(error))).await;
                        return;
                    }
                };
                let done =
                    asked.stop_at_end && read.last().is_none_or(|last| last.index + 1 >= end);
                for stored in read {
                    let late = asked.stop_at_end && stored.index >= end;
                    let fits = matches!(
                        banqiao_ledger::decode(&stored.bytes),
                        Ok(banqiao_ledger::Decoded::Entry(entry)) if query.matches(&entry)
                    );
                    if fits && !late && sender.send(Ok(stored)).await.is_err() {
                        return;
                    }
                }
                if done {
                    return;
                }
            }
        });
        let stream = ReceiverStream::new(receiver).map(|stored: Result<Stored, Status>| {
            Ok(TailEntriesResponse {
                entry: Some(indexed(stored?)),
            })
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

impl Audit {
    async fn enter(&self, actor: &Actor, query: String, shown: usize) -> Result<(), Status> {
        let entry = Entry {
            kind: Kind::Read.into(),
            read: Some(Read {
                actor: actor.name.to_string(),
                query,
                shown: shown as u64,
            }),
            ..Entry::default()
        };
        let appended = self.0.appender.append(Append::new(entry)).await;
        appended.map(drop).map_err(|error| unwritable(&error))
    }
}

fn indexed(stored: Stored) -> IndexedEntry {
    IndexedEntry {
        index: stored.index,
        entry: stored.bytes,
        private_part: stored.private,
    }
}

fn faulty(error: &banqiao_ledger::QueryError) -> Status {
    let field = format!("filter.{}", error.field);
    invalid(
        "the filter cannot be searched by",
        [(field, error.problem.to_owned())],
    )
}

fn unreadable(error: banqiao_ledger::StoreError) -> Status {
    tracing::warn!(error = %Chain(&error), "the ledger could not be read");
    Status::unavailable("the ledger could not be read: the gateway's log says why")
}
