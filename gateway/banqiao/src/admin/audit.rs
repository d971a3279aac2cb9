//! `AuditService`. Every call is entered before its first result leaves.

mod log;
mod reconcile;
mod subject;

use std::pin::Pin;

use banqiao_ledger::{Append, Order, Page, Query, Reader, StoreError, Stored, Tail};
use banqiao_proto::ledger::v1::{
    Entry, EntryFilter, GetEvidenceRequest, GetEvidenceResponse, IndexedEntry, Kind, Read,
    ReadLogRequest, ReadLogResponse, ReconcileRequest, ReconcileResponse, ReportSubjectRequest,
    ReportSubjectResponse, SearchEntriesRequest, SearchEntriesResponse, ShowExchangeRequest,
    ShowExchangeResponse, TailEntriesRequest, TailEntriesResponse,
    audit_service_server::AuditService,
};
use banqiao_telemetry::Chain;
use tokio::sync::mpsc;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{
    Actor, Core,
    evidence::{self, CollectError},
    invalid, unwritable,
};

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
    type ReconcileStream = Entries<ReconcileResponse>;

    async fn reconcile(
        &self,
        request: Request<ReconcileRequest>,
    ) -> Result<Response<Self::ReconcileStream>, Status> {
        let actor = Actor::of(&request)?;
        reconcile::begin(&self.0, actor, request.into_inner()).await
    }

    type ReadLogStream = Entries<ReadLogResponse>;

    async fn read_log(
        &self,
        request: Request<ReadLogRequest>,
    ) -> Result<Response<Self::ReadLogStream>, Status> {
        let actor = Actor::of(&request)?;
        log::begin(&self.0, &actor, request.into_inner()).await
    }

    type ReportSubjectStream = Entries<ReportSubjectResponse>;

    async fn report_subject(
        &self,
        request: Request<ReportSubjectRequest>,
    ) -> Result<Response<Self::ReportSubjectStream>, Status> {
        let actor = Actor::of(&request)?;
        subject::begin(&self.0, &actor, request.into_inner()).await
    }

    type SearchEntriesStream = Entries<SearchEntriesResponse>;

    async fn search_entries(
        &self,
        request: Request<SearchEntriesRequest>,
    ) -> Result<Response<Self::SearchEntriesStream>, Status> {
        let actor = Actor::of(&request)?;
        let asked = request.into_inner();
        let query = parse(&asked.filter.unwrap_or_default())?;
        let described = format!("search {}", query.describe());
        let described = described.trim_end().to_owned();
        let limit = if asked.limit == 0 {
            DEFAULT_LIMIT
        } else {
            asked.limit
        };
        let mut pages = Pages {
            reader: self.0.control.ledger().reader(),
            query,
            order: if asked.ascending {
                Order::Ascending
            } else {
                Order::Descending
            },
            cursor: asked.cursor,
            left: limit as usize,
            end: None,
        };
        // Each page is read before its READ entry, so that the entry can say what is shown, and sent after it.
        let first = pages.next().await.map_err(unreadable)?;
        // What is committed from here on is not part of the search.
        pages.end = Some(enter(&self.0, &actor, &described, first.len()).await?);
        let (sender, receiver) = mpsc::channel::<Result<Stored, Status>>(AHEAD);
        let core = self.0.clone();
        // Ends with the stream: a reader that goes away closes the channel.
        self.0.background(async move {
            let mut page = first;
            while !page.is_empty() {
                for stored in page {
                    if sender.send(Ok(stored)).await.is_err() {
                        return;
                    }
                }
                let next = async {
                    let page = pages.next().await.map_err(unreadable)?;
                    if !page.is_empty() {
                        enter(
                            &core,
                            &actor,
                            &format!("{described}, continued"),
                            page.len(),
                        )
                        .await?;
                    }
                    Ok(page)
                };
                page = match next.await {
                    Ok(page) => page,
                    Err(status) => {
                        let _ = sender.send(Err(status)).await;
                        return;
                    }
                };
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
        let exchange = exchange_id(&asked.exchange_id)?;
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
        let query = format!("show {exchange}{opened}");
        enter(&self.0, &actor, &query, found.len()).await?;
        Ok(Response::new(ShowExchangeResponse {
            entries: found.into_iter().map(indexed).collect(),
        }))
    }

    type GetEvidenceStream = Entries<GetEvidenceResponse>;

    async fn get_evidence(
        &self,
        request: Request<GetEvidenceRequest>,
    ) -> Result<Response<Self::GetEvidenceStream>, Status> {
        let actor = Actor::of(&request)?;
        let asked = request.into_inner();
        let exchange = exchange_id(&asked.exchange_id)?;
        let city = match asked.city.as_str() {
            "" => None,
            code => Some(code.parse().map_err(|_| {
                let problem = "is a city code, such as 370600".to_owned();
                invalid("the city is not known", [("city".to_owned(), problem)])
            })?),
        };
        let (opening, offline) = (asked.open_private, asked.offline);
        let collected = evidence::collect(&self.0, exchange, city, opening, offline)
            .await
            .map_err(|error| {
                if let CollectError::Several(cities) = &error {
                    let cities: Vec<_> = cities.iter().map(String::as_str).collect();
                    let problem = format!("is needed (--city), one of {}", cities.join(", "));
                    let what = "the exchange went to several cities";
                    return invalid(what, [("city".to_owned(), problem)]);
                }
                tracing::warn!(error = %Chain(&error), "evidence could not be collected");
                Status::unavailable("the ledger could not be read: the gateway's log says why")
            })?;
        let opened = if asked.open_private {
            ", private parts opened"
        } else {
            ""
        };
        let of = city.map_or_else(String::new, |city| format!(" with {city}"));
        let query = format!("evidence {exchange}{of}{opened}");
        enter(&self.0, &actor, &query, collected.entries).await?;
        if collected.entries == 0 {
            return Err(Status::not_found(
                "this ledger has no entry of the exchange",
            ));
        }
        let city = self.0.city;
        let lacking = collected.lacking.into_iter().map(move |lacking| {
            Ok(GetEvidenceResponse {
                lacking,
                city: city.as_str().to_owned(),
                ..GetEvidenceResponse::default()
            })
        });
        let files = collected.files.into_iter().map(move |(name, content)| {
            Ok(GetEvidenceResponse {
                name,
                content,
                city: city.as_str().to_owned(),
                ..GetEvidenceResponse::default()
            })
        });
        let members = lacking.chain(files).collect::<Vec<_>>();
        Ok(Response::new(Box::pin(tokio_stream::iter(members))))
    }

    type TailEntriesStream = Entries<TailEntriesResponse>;

    async fn tail_entries(
        &self,
        request: Request<TailEntriesRequest>,
    ) -> Result<Response<Self::TailEntriesStream>, Status> {
        let actor = Actor::of(&request)?;
        let asked = request.into_inner();
        let query = parse(&asked.filter.unwrap_or_default())?;
        if query.is_private() {
            let problem = "subject, operator and case are searched for, not followed".to_owned();
            return Err(invalid(
                "the tail cannot be filtered so",
                [("filter".to_owned(), problem)],
            ));
        }
        let reader = self.0.control.ledger().reader();
        let tail = reader.tail(asked.from_index).await.map_err(unreadable)?;
        let from = asked
            .from_index
            .map_or_else(|| "now".to_owned(), |index| index.to_string());
        let described = format!("tail from {from} {}", query.describe());
        let described = described.trim_end().to_owned();
        let entered = enter(&self.0, &actor, &described, 0).await?;
        // A tail to the end shows what stood when it was asked for, not its own READ entry.
        let end = asked.stop_at_end.then_some(entered);
        let (sender, receiver) = mpsc::channel(AHEAD);
        let core = self.0.clone();
        self.0.tasks.spawn(async move {
            let mut shown = 0;
            tokio::select! {
                () = follow(tail, &query, end, sender, &mut shown) => {}
                () = core.stop.cancelled() => {}
            }
            // How much was shown is known only now; that it was asked for is entered already.
            if shown > 0 {
                let read = read(&actor, &format!("{described}, ended"), shown);
                if let Err(error) = core.appender.append_queued(Append::new(read)).await {
                    tracing::warn!(error = %Chain(&error), "the end of a tail was not entered");
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

/// The exchange that an id names, with or without its attempt.
fn exchange_id(text: &str) -> Result<Uuid, Status> {
    let text = text.split('/').next().unwrap_or_default();
    text.parse().map_err(|_| {
        let problem = "is a UUID, as banqiao-exchange-id has it".to_owned();
        invalid(
            "the exchange is not known",
            [("exchange_id".to_owned(), problem)],
        )
    })
}

/// The pages of a search.
struct Pages {
    reader: Reader,
    query: Query,
    order: Order,
    cursor: Option<u64>,
    left: usize,
    /// First index that is not shown: the search's own entry.
    end: Option<u64>,
}

impl Pages {
    /// The next page; an empty one is the end.
    async fn next(&mut self) -> Result<Vec<Stored>, StoreError> {
        let limit = self.left.min(PAGE);
        if limit == 0 {
            return Ok(Vec::new());
        }
        let page = Page {
            limit,
            order: self.order,
            cursor: self.cursor,
            open_private: false,
        };
        let mut found = self.reader.search(&self.query, page).await?;
        self.cursor = found.last().map(|stored| stored.index).or(self.cursor);
        self.left = if found.len() < limit {
            0
        } else {
            self.left - limit
        };
        found.retain(|stored| self.end.is_none_or(|end| stored.index < end));
        Ok(found)
    }
}

/// Sends entries as they are committed, up to `end`, until nobody listens.
async fn follow(
    mut tail: Tail,
    query: &Query,
    end: Option<u64>,
    sender: mpsc::Sender<Result<Stored, Status>>,
    shown: &mut usize,
) {
    loop {
        let read = if end.is_some() {
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
        let last = read.last().map(|stored| stored.index);
        for stored in read {
            let late = end.is_some_and(|end| stored.index >= end);
            let fits = matches!(
                banqiao_ledger::decode(&stored.bytes),
                Ok(banqiao_ledger::Decoded::Entry(entry)) if query.matches(&entry)
            );
            if !fits || late {
                continue;
            }
            // Counted before it leaves: what may have been seen counts as shown.
            *shown += 1;
            if sender.send(Ok(stored)).await.is_err() {
                return;
            }
        }
        if end.is_some_and(|end| last.is_none_or(|last| last + 1 >= end)) {
            return;
        }
    }
}

/// Parses a filter. What the READ entry will repeat must be names: a number that stands in the wrong field by
/// mistake would otherwise stay in the ledger for ever.
fn parse(filter: &EntryFilter) -> Result<Query, Status> {
    let name = |text: &str, more: &[char]| {
        let begins = |c: char| c.is_ascii_alphabetic() || c == '_' || more.contains(&c);
        text.chars().next().is_none_or(begins)
            && text.chars().all(|c| {
                c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-') || more.contains(&c)
            })
    };
    let client = filter.client.strip_prefix("spiffe://");
    let client = client.unwrap_or(if filter.client.is_empty() { "" } else { " " });
    let named = [
        ("client", name(client, &['/', '*'])),
        ("method", name(&filter.method, &['/'])),
        ("purpose", name(&filter.purpose, &[])),
        ("service", name(&filter.service, &[])),
    ];
    let faults: Vec<_> = named
        .into_iter()
        .filter(|(_, sound)| !sound)
        .map(|(field, _)| (format!("filter.{field}"), "is not such a name".to_owned()))
        .collect();
    if !faults.is_empty() {
        return Err(invalid("the filter cannot be searched by", faults));
    }
    Query::parse(filter).map_err(|error| faulty(&error))
}

/// A READ entry.
fn read(actor: &Actor, query: &str, shown: usize) -> Entry {
    Entry {
        kind: Kind::Read.into(),
        read: Some(Read {
            actor: actor.name.to_string(),
            query: query.to_owned(),
            shown: shown as u64,
        }),
        ..Entry::default()
    }
}

/// Enters a query. Returns the index of its entry.
async fn enter(core: &Core, actor: &Actor, query: &str, shown: usize) -> Result<u64, Status> {
    let appended = core
        .appender
        .append(Append::new(read(actor, query, shown)))
        .await;
    appended
        .map(|appended| appended.index)
        .map_err(|error| unwritable(&error))
}

fn indexed(stored: Stored) -> IndexedEntry {
    IndexedEntry {
        index: stored.index,
        entry: stored.bytes,
        private_part: stored.private,
    }
}

fn faulty(error: &banqiao_ledger::QueryError) -> Status {
    faulty_field(format!("filter.{}", error.field), error.problem)
}

/// A field that cannot be searched by.
fn faulty_field(field: String, problem: &str) -> Status {
    invalid(
        "the filter cannot be searched by",
        [(field, problem.to_owned())],
    )
}

pub(super) fn unreadable(error: StoreError) -> Status {
    tracing::warn!(error = %Chain(&error), "the ledger could not be read");
    if let StoreError::Archive { .. }
    | StoreError::ArchiveDiffers { .. }
    | StoreError::ArchiveUnnamed { .. } = &error
    {
        // What whoever asks can do something about.
        return Status::failed_precondition(Chain(&error).to_string());
    }
    Status::unavailable("the ledger could not be read: the gateway's log says why")
}
