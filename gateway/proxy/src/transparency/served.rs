//! What peer gateways may read of the log, and the witness: plain HTTP/2 requests on the inter-city listener.
//!
//! Entry bundles are not among it: entries tell who asked whom about what, and are for the city's own auditors.

use banqiao_directory::{CityCode, SpiffeId};
use banqiao_ledger::{Contradiction, LedgerError, WitnessStep};
use banqiao_telemetry::Chain;
use banqiao_tlog::{
    checkpoint::Checkpoint,
    note::Note,
    tile::TileId,
    witness::{AddCheckpoint, MAX_REQUEST_BYTES, Refusal, WitnessedLog, decide},
};
use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderValue, Method, Response, StatusCode, header, request::Parts};

use super::{city_of_log, forks, log_keys};
use crate::{forward::Responder, receipts::Signed, worker::Shared};

/// Below it lie `checkpoint` and `tile/…` (C2SP tlog-tiles).
pub(crate) const LOG: &str = "/log/";
/// Below it lie `add-checkpoint` (C2SP tlog-witness) and `checkpoint`, the newest that was cosigned of a log.
pub(crate) const WITNESS: &str = "/witness/";

const TEXT: &str = "text/plain; charset=utf-8";
const BYTES: &str = "application/octet-stream";
/// A full tile never changes (C2SP tlog-tiles, Caching).
const IMMUTABLE: &str = "public, max-age=31536000, immutable";
const FRESH: &str = "no-cache";

/// An answer with its whole body.
struct Answer {
    status: StatusCode,
    kind: &'static str,
    caching: &'static str,
    body: Bytes,
}

impl Answer {
    fn text(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self {
            status,
            kind: TEXT,
            caching: FRESH,
            body: body.into(),
        }
    }

    fn refused(refusal: &Refusal) -> Self {
        Self {
            kind: refusal.content_type(),
            ..Self::text(
                StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::BAD_REQUEST),
                refusal.body(),
            )
        }
    }

    fn broken(what: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        tracing::warn!(error = %Chain(error), "{what}");
        Self::text(
            StatusCode::SERVICE_UNAVAILABLE,
            "the ledger cannot be read or written\n",
        )
    }
}

/// Serves a request of a peer gateway.
pub(crate) async fn serve(
    shared: &Shared,
    peer: &SpiffeId,
    parts: &Parts,
    body: RecvStream,
    responder: &Responder,
) {
    let path = parts.uri.path();
    let answer = match (&parts.method, path) {
        (&Method::POST, "/witness/add-checkpoint") => add_checkpoint(shared, peer, body).await,
        (&Method::GET, "/witness/checkpoint") => witnessed(shared, parts.uri.query()).await,
        (&Method::GET, "/witness/fork") => fork(shared, parts.uri.query()),
        (&Method::GET, _) => match path.strip_prefix(LOG) {
            Some("checkpoint") => checkpoint(shared).await,
            Some(tile) => self::tile(shared, tile).await,
            None => not_found(),
        },
        _ => Answer::text(
            StatusCode::METHOD_NOT_ALLOWED,
            "GET log/checkpoint, log/tile/…, witness/checkpoint and witness/fork, POST witness/add-checkpoint\n",
        ),
    };
    send(answer, responder).await;
}

fn not_found() -> Answer {
    Answer::text(StatusCode::NOT_FOUND, "there is nothing here\n")
}

async fn send(answer: Answer, responder: &Responder) {
    let mut head = Response::new(());
    *head.status_mut() = answer.status;
    let headers = head.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(answer.kind));
    headers.insert(
        header::CACHE_CONTROL,
        HeaderValue::from_static(answer.caching),
    );
    // A peer that went away needs no answer.
    if responder.headers(head, false).is_ok() && responder.data(answer.body).await.is_ok() {
        let _ = responder.end();
    }
}

/// The newest published checkpoint, with the cosignatures that are under it.
async fn checkpoint(shared: &Shared) -> Answer {
    let reader = shared.ledger.reader();
    let read = async {
        let Some(mut note) = reader.checkpoint().await? else {
            return Ok(None);
        };
        // A newer one may be published at any moment: the cosignatures are those of this one.
        let size = Note::parse(note.as_bytes())
            .ok()
            .and_then(|note| note.text().parse::<Checkpoint>().ok())
            .map(|checkpoint| checkpoint.size());
        if let Some(size) = size {
            for line in reader.cosignatures(size).await? {
                note.push_str(&line);
                note.push('\n');
            }
        }
        Ok::<_, banqiao_ledger::StoreError>(Some(note))
    };
    match read.await {
        Ok(Some(note)) => Answer::text(StatusCode::OK, note),
        Ok(None) => not_found(),
        Err(error) => Answer::broken("a checkpoint cannot be read", &error),
    }
}

async fn tile(shared: &Shared, path: &str) -> Answer {
    if path.starts_with("tile/entries/") {
        return Answer::text(
            StatusCode::FORBIDDEN,
            "entries are shown to the city's own auditors\n",
        );
    }
    let Ok(id) = path.parse::<TileId>() else {
        return not_found();
    };
    match shared.ledger.reader().tile(id).await {
        Ok(Some(hashes)) => Answer {
            status: StatusCode::OK,
            kind: BYTES,
            caching: if id.is_full() { IMMUTABLE } else { FRESH },
            body: hashes.as_flattened().to_vec().into(),
        },
        Ok(None) => not_found(),
        Err(error) => Answer::broken("a tile cannot be read", &error),
    }
}

/// The newest checkpoint that our witness has cosigned of a log, as that log signed it; 204 where it knows the log and
/// has cosigned nothing. A log needs it to know that its database is the newest there is.
async fn witnessed(shared: &Shared, query: Option<&str>) -> Answer {
    if shared.transparency.witness.is_none() {
        return Answer::text(StatusCode::NOT_FOUND, "this gateway is no witness\n");
    }
    let Some(origin) = origin_of(query) else {
        return unnamed();
    };
    match shared.ledger.reader().witnessed_note(origin).await {
        Ok(Some(note)) => Answer::text(StatusCode::OK, note),
        // An earlier epoch's log is not listed any more, and what was cosigned of it is still told.
        Ok(None) if city_of_log(&shared.rights.snapshot().directory, origin).is_some() => {
            Answer::text(StatusCode::NO_CONTENT, "")
        }
        Ok(None) => Answer::text(StatusCode::NOT_FOUND, "no such log is listed\n"),
        Err(error) => Answer::broken("what was witnessed cannot be read", &error),
    }
}

/// A checkpoint of a log that contradicts another one of the same log, as the log signed it; 204 where none was found.
fn fork(shared: &Shared, query: Option<&str>) -> Answer {
    let Some(origin) = origin_of(query) else {
        return unnamed();
    };
    match shared.transparency.fork_of(origin) {
        Some(note) => Answer::text(StatusCode::OK, note),
        None => Answer::text(StatusCode::NO_CONTENT, ""),
    }
}

fn origin_of(query: Option<&str>) -> Option<&str> {
    query.and_then(|query| query.strip_prefix("origin="))
}

fn unnamed() -> Answer {
    Answer::text(StatusCode::BAD_REQUEST, "name the log: ?origin=ORIGIN\n")
}

/// C2SP tlog-witness, add-checkpoint.
async fn add_checkpoint(shared: &Shared, peer: &SpiffeId, body: RecvStream) -> Answer {
    let Some(witness) = &shared.transparency.witness else {
        return Answer::text(StatusCode::NOT_FOUND, "this gateway is no witness\n");
    };
    let Some(body) = collect(body).await else {
        return Answer::text(StatusCode::PAYLOAD_TOO_LARGE, "the request is too large\n");
    };
    let request = match AddCheckpoint::parse(&body) {
        Ok(request) => request,
        Err(error) => return Answer::refused(&Refusal::Request(error)),
    };
    let origin = request.checkpoint().origin();
    let snapshot = shared.rights.snapshot();
    // A gateway speaks for its own city's log, and nobody witnesses his own.
    let city = city_of_log(&snapshot.directory, origin)
        .filter(|city| city.trust_domain == *peer.trust_domain() && city.code != shared.names.city);
    let log = city.and_then(log_keys);
    let latest = match shared.ledger.reader().witnessed(origin).await {
        Ok(latest) => latest,
        Err(error) => return Answer::broken("what was witnessed cannot be read", &error),
    };
    let known = log.map(|(origin, keys)| WitnessedLog {
        origin: origin.to_owned(),
        keys,
        latest,
    });
    let accepted = match decide(known.as_ref(), &request) {
        Ok(accepted) => accepted,
        Err(refusal) => {
            shared.metrics.witness_refused(refusal.status());
            if let Some(city) = city {
                refused(shared, city.code, &request, &refusal).await;
            }
            return Answer::refused(&refusal);
        }
    };
    let step = WitnessStep {
        origin: origin.to_owned(),
        previous: accepted.previous(),
        next: accepted.checkpoint().head(),
        note: request.note().to_string(),
    };
    // Durable before the cosignature leaves.
    match shared.ledger.step_witness(step).await {
        Ok(true) => {}
        Ok(false) => return conflict(shared, &request).await,
        Err(LedgerError::Unavailable | LedgerError::Closed) => {
            return Answer::text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the witness cannot write now\n",
            );
        }
        Err(error) => return Answer::broken("a checkpoint was not witnessed", &error),
    }
    let time = u64::try_from(shared.clock.now_s()).unwrap_or(0);
    match accepted.reply(witness, time) {
        Ok(line) => {
            shared.metrics.witness_cosigned();
            Answer::text(StatusCode::OK, line)
        }
        Err(error) => Answer::broken("a checkpoint was not cosigned", &error),
    }
}

/// What a refused checkpoint tells of its log. Its signature is the log's own where a size or a proof was the reason.
async fn refused(shared: &Shared, city: CityCode, request: &AddCheckpoint, refusal: &Refusal) {
    let origin = request.checkpoint().origin();
    let head = request.checkpoint().head();
    match refusal {
        // No continuation of what it signed before: an honest log can always prove that its tree is one.
        Refusal::Inconsistent(_) => match shared.ledger.reader().witnessed_note(origin).await {
            Ok(Some(first)) => {
                let found = Contradiction {
                    origin: origin.to_owned(),
                    time_us: shared.clock.now_us(),
                    first,
                    second: request.note().to_string(),
                };
                forks::note(shared, city, found).await;
            }
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "what was witnessed cannot be read");
            }
        },
        // A step back. Another replica may have been faster, or it is another history: the links tell.
        Refusal::Conflict { size, .. } if head.size > 0 && head.size <= *size => {
            let signed = Signed {
                head,
                note: request.note().to_string(),
                since_s: shared.clock.now_s(),
            };
            shared.receipts.remember(city, signed);
        }
        _ => {}
    }
}

/// Another request came between.
async fn conflict(shared: &Shared, request: &AddCheckpoint) -> Answer {
    let origin = request.checkpoint().origin();
    match shared.ledger.reader().witnessed(origin).await {
        Ok(latest) => Answer::refused(&Refusal::Conflict {
            old: request.old_size(),
            size: latest.map_or(0, |latest| latest.size),
        }),
        Err(error) => Answer::broken("what was witnessed cannot be read", &error),
    }
}

/// The body, if it is no larger than a request may be.
async fn collect(mut body: RecvStream) -> Option<BytesMut> {
    let mut collected = BytesMut::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.ok()?;
        if collected.len() + chunk.len() > MAX_REQUEST_BYTES {
            return None;
        }
        body.flow_control().release_capacity(chunk.len()).ok()?;
        collected.extend_from_slice(&chunk);
    }
    Some(collected)
}
