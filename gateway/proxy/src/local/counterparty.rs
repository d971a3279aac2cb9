//! `banqiao.ledger.v1.CounterpartyService` on the inter-city listener: what another city may know of the exchanges that it
//! has had with this one. Every read is entered before its first result leaves.

mod limit;

use std::{collections::VecDeque, pin::Pin};

use banqiao_ledger::{
    Append, CredentialKind, Decoded, EvidenceKind, ProofError, Reader, StoreError, Stored, decode,
    digest::sha256,
    reconcile::{Malformed, Pair, Records, Windows},
};
use banqiao_proto::{
    ReasonTable,
    exchange::v1::Reason,
    ledger::v1::{
        CompareDetail, CompareExchangesRequest, CompareExchangesResponse, Entry, ExchangeRecord,
        GetEntriesRequest, GetEntriesResponse, Kind, ProvenEntry, Read,
        compare_exchanges_response::Part, counterparty_service_server::CounterpartyService,
    },
};
use banqiao_telemetry::Chain;
use banqiao_tlog::{checkpoint::Checkpoint, note::Note};
use futures_util::{Stream, stream};
use tokio::sync::OwnedSemaphorePermit;
use tonic::{Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use uuid::Uuid;

pub(crate) use limit::Counterparts;

use super::Caller;
use crate::worker::Shared;

/// Single exchanges that may be asked for at once.
const MAX_EXCHANGES: usize = 1_000;
/// How long an entry may wait for the checkpoint that shows it: they are published each second.
const PUBLISH_PATIENCE: std::time::Duration = std::time::Duration::from_secs(5);
/// How often that is looked at.
const PUBLISH_POLL: std::time::Duration = std::time::Duration::from_millis(100);

#[derive(Clone, Copy, Debug)]
pub(super) struct Counterparty;

type Told = Pin<Box<dyn Stream<Item = Result<CompareExchangesResponse, Status>> + Send>>;

#[tonic::async_trait]
impl CounterpartyService for Counterparty {
    type CompareExchangesStream = Told;

    async fn compare_exchanges(
        &self,
        request: Request<CompareExchangesRequest>,
    ) -> Result<Response<Told>, Status> {
        let caller = Caller::of(&request)?;
        let pair = pair(&caller)?;
        let asked = request.into_inner();
        let counterparts = &caller.shared().reconciliation.counterparts;
        counterparts.take(pair.there).map_err(busy)?;
        let turn = counterparts.turn(pair.there).map_err(busy)?;
        let reader = caller.shared().ledger.reader();
        let telling = if asked.exchanges.is_empty() {
            if asked.from_ms < 0 || asked.from_ms >= asked.until_ms {
                return Err(Status::invalid_argument(
                    "until_ms: is not behind from_ms, or from_ms is before 1970",
                ));
            }
            let records = reader.records(pair, asked.from_ms, asked.until_ms);
            match asked.detail() {
                CompareDetail::Records => Telling::Records(records),
                _ => Telling::Windows(records, Windows::new(pair)),
            }
        } else {
            Telling::Exchanges(reader, pair, exchanges(&asked.exchanges)?, VecDeque::new())
        };
        enter(&caller, &described(&asked), 0).await?;
        let told = Tells {
            telling,
            _turn: turn,
        };
        let stream = stream::try_unfold(told, |mut told| async move {
            let part = told.telling.next().await.map_err(|error| {
                tracing::warn!(error = %Chain(&error), "a comparison was broken off");
                unreadable()
            })?;
            Ok(part.map(|part| (CompareExchangesResponse { part: Some(part) }, told)))
        });
        Ok(Response::new(Box::pin(stream)))
    }

    async fn get_entries(
        &self,
        request: Request<GetEntriesRequest>,
    ) -> Result<Response<GetEntriesResponse>, Status> {
        let caller = Caller::of(&request)?;
        let pair = pair(&caller)?;
        let asked = request.into_inner();
        let counterparts = &caller.shared().reconciliation.counterparts;
        counterparts.take(pair.there).map_err(busy)?;
        let exchange: Uuid = asked.exchange_id.parse().map_err(|_| {
            Status::invalid_argument("exchange_id: is a UUID, as banqiao-exchange-id has it")
        })?;
        let attempt = (asked.attempt > 0).then_some(asked.attempt);
        let reader = caller.shared().ledger.reader();
        let found = reader.entries_between(pair, exchange, attempt).await;
        let found = found.map_err(|error| {
            tracing::warn!(error = %Chain(&error), "entries were not read for a counterparty");
            unreadable()
        })?;
        enter(&caller, &format!("entries of {exchange}"), found.len()).await?;
        let Some(last) = found.last() else {
            // Of another city's exchange nothing is said, not even that there is one.
            return Err(Status::not_found(
                "this ledger has no such exchange with you",
            ));
        };
        let quorum = caller
            .shared()
            .rights
            .snapshot()
            .directory
            .city(pair.here)
            .and_then(|city| city.witness.as_ref())
            .map_or(0, |witness| witness.quorum);
        let (checkpoint, size) = published(&reader, last.index, quorum).await?;
        let client = client(&reader, pair, caller.shared(), &found).await?;
        let mut entries = Vec::with_capacity(found.len());
        for stored in found {
            let inclusion = reader.inclusion(stored.index, size).await;
            let inclusion = inclusion.map_err(|error: ProofError| {
                tracing::warn!(error = %Chain(&error), "an entry was not proven");
                unreadable()
            })?;
            entries.push(ProvenEntry {
                index: stored.index,
                entry: stored.bytes.to_vec(),
                inclusion: inclusion.iter().map(|hash| hash.to_vec()).collect(),
                receipt: receipt(&reader, stored.index).await?,
            });
        }
        let (client_certificate, client_crl) = client;
        Ok(Response::new(GetEntriesResponse {
            entries,
            checkpoint,
            client_certificate,
            client_crl,
        }))
    }
}

/// This city and the one that asks. Who may ask at all was decided by the listener's rule.
fn pair(caller: &Caller) -> Result<Pair, Status> {
    let shared = caller.shared();
    let snapshot = shared.rights.snapshot();
    let there = snapshot
        .directory
        .city_by_domain(caller.id().trust_domain())
        .ok_or_else(|| Status::permission_denied("the directory does not list this city"))?;
    Ok(Pair {
        here: shared.names.city,
        there: there.code,
    })
}

fn exchanges(ids: &[Vec<u8>]) -> Result<VecDeque<Uuid>, Status> {
    let faulty = "exchanges: are at most 1,000 ids of 16 bytes in growing order";
    let ids: Option<VecDeque<Uuid>> = ids.iter().map(|id| Uuid::from_slice(id).ok()).collect();
    ids.filter(|ids| ids.len() <= MAX_EXCHANGES && ids.iter().is_sorted_by(|a, b| a < b))
        .ok_or_else(|| Status::invalid_argument(faulty))
}

fn described(asked: &CompareExchangesRequest) -> String {
    if !asked.exchanges.is_empty() {
        return format!("compare {} exchanges", asked.exchanges.len());
    }
    let detail = match asked.detail() {
        CompareDetail::Records => "records",
        _ => "windows",
    };
    format!("compare {detail} {}..{} ms", asked.from_ms, asked.until_ms)
}

/// Enters what a counterparty reads.
async fn enter(caller: &Caller, query: &str, shown: usize) -> Result<(), Status> {
    let entry = Entry {
        kind: Kind::Read.into(),
        read: Some(Read {
            actor: caller.id().to_string(),
            query: query.to_owned(),
            shown: shown as u64,
        }),
        ..Entry::default()
    };
    let appended = caller.0.worker.appender.append(Append::new(entry)).await;
    appended.map(drop).map_err(|error| {
        tracing::warn!(error = %Chain(&error), "a counterparty's read was not entered");
        refusal(
            Reason::LedgerUnavailable,
            "the read could not be entered in the ledger",
        )
    })
}

/// A published checkpoint that holds an entry, with so many cosignatures if there is one, and its size.
async fn published(reader: &Reader, index: u64, quorum: u32) -> Result<(String, u64), Status> {
    let read = async {
        loop {
            if let Some(note) = reader.checkpoint_over(index, quorum).await? {
                let checkpoint = Note::parse(note.as_bytes())
                    .ok()
                    .and_then(|note| note.text().parse::<Checkpoint>().ok())
                    .ok_or(StoreError::Corrupt("checkpoint"))?;
                return Ok::<_, StoreError>((note, checkpoint.size()));
            }
            tokio::time::sleep(PUBLISH_POLL).await;
        }
    };
    match tokio::time::timeout(PUBLISH_PATIENCE, read).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(error)) => {
            tracing::warn!(error = %Chain(&error), "a checkpoint cannot be read");
            Err(unreadable())
        }
        Err(_) => Err(Status::unavailable(
            "the entry is not in a published checkpoint yet: try again",
        )),
    }
}

/// The receipt that the asking city gave for an exchange.
async fn receipt(reader: &Reader, index: u64) -> Result<Vec<u8>, Status> {
    let kept = reader.evidence(index, EvidenceKind::Receipt).await;
    let kept = kept.map_err(|error| {
        tracing::warn!(error = %Chain(&error), "a receipt cannot be read");
        unreadable()
    })?;
    Ok(kept.map(|bytes| bytes.to_vec()).unwrap_or_default())
}

/// Certificate and CRL of the client, where it is one of this city.
async fn client(
    reader: &Reader,
    pair: Pair,
    shared: &Shared,
    found: &[Stored],
) -> Result<(Vec<u8>, Vec<u8>), Status> {
    let named = found.iter().find_map(|stored| {
        let Ok(Decoded::Entry(entry)) = decode(&stored.bytes) else {
            return None;
        };
        let key: [u8; 32] = entry.client?.key_sha256.as_slice().try_into().ok()?;
        Some((key, entry.time_us))
    });
    let Some((key, at_us)) = named else {
        return Ok((Vec::new(), Vec::new()));
    };
    let snapshot = shared.rights.snapshot();
    let domain = snapshot
        .directory
        .city(pair.here)
        .map_or("", |city| city.trust_domain.as_str());
    let name = sha256(domain.as_bytes());
    let read = async {
        let certificate = reader
            .credential(CredentialKind::Certificate, key, at_us)
            .await?;
        let crl = reader.credential(CredentialKind::Crl, name, at_us).await?;
        Ok::<_, StoreError>((certificate, crl))
    };
    let (certificate, crl) = read.await.map_err(|error| {
        tracing::warn!(error = %Chain(&error), "a certificate cannot be read");
        unreadable()
    })?;
    let bytes = |kept: Option<banqiao_ledger::Credential>| kept.map(|kept| kept.bytes);
    Ok((
        bytes(certificate).unwrap_or_default(),
        bytes(crl).unwrap_or_default(),
    ))
}

fn unreadable() -> Status {
    Status::unavailable("the ledger cannot be read: try again later")
}

/// A status with a reason of the table.
fn refusal(reason: Reason, message: &str) -> Status {
    let rule = banqiao_proto::reasons().rule(reason);
    let metadata = [("remedy".to_owned(), rule.remedy.clone())];
    let details = ErrorDetails::with_error_info(ReasonTable::name(reason), "banqiao", metadata);
    let code = tonic::Code::from(i32::try_from(rule.status).unwrap_or(13));
    Status::with_error_details(code, message, details)
}

fn busy(_: limit::Busy) -> Status {
    refusal(
        Reason::RateExceeded,
        "your city reads too much at once: try again in a minute",
    )
}

/// A comparison that is being told. It counts for its city until it ends.
struct Tells {
    telling: Telling,
    _turn: OwnedSemaphorePermit,
}

enum Telling {
    Windows(Records, Windows),
    Records(Records),
    Exchanges(Reader, Pair, VecDeque<Uuid>, VecDeque<ExchangeRecord>),
}

/// Why a comparison cannot be told.
#[derive(Debug, thiserror::Error)]
enum Untold {
    #[error("the ledger holds what is no record")]
    Malformed(#[from] Malformed),
    #[error("the ledger cannot be read")]
    Store(#[from] StoreError),
}

impl Telling {
    async fn next(&mut self) -> Result<Option<Part>, Untold> {
        match self {
            Self::Records(records) => Ok(records.next().await?.map(Part::Record)),
            Self::Windows(records, windows) => {
                while let Some(record) = records.next().await? {
                    if let Some(window) = windows.add(&record)? {
                        return Ok(Some(Part::Window(window.told())));
                    }
                }
                Ok(windows.finish().map(|window| Part::Window(window.told())))
            }
            Self::Exchanges(reader, pair, exchanges, ready) => loop {
                if let Some(record) = ready.pop_front() {
                    return Ok(Some(Part::Record(record)));
                }
                let Some(exchange) = exchanges.pop_front() else {
                    return Ok(None);
                };
                ready.extend(reader.records_of(*pair, exchange).await?);
            },
        }
    }
}
