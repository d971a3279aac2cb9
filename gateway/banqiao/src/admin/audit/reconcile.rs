//! `AuditService.Reconcile`: a comparison with other cities, now.

use banqiao_directory::CityCode;
use banqiao_proto::ledger::v1::{
    ReconcileProgress, ReconcileRequest, ReconcileResponse, ReconcileSummary,
    reconcile_response::Part,
};
use banqiao_proxy::ReconcileEvent;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status};

use super::{AHEAD, Entries, enter};
use crate::admin::{Actor, Core, invalid};

/// What is compared where the request names no beginning: a day.
const DEFAULT_SPAN_MS: i64 = 86_400_000;

type Sender = mpsc::Sender<Result<ReconcileResponse, Status>>;

/// Begins a comparison and tells of it as it goes on.
pub(super) async fn begin(
    core: &Core,
    actor: Actor,
    asked: ReconcileRequest,
) -> Result<Response<Entries<ReconcileResponse>>, Status> {
    let cities = cities(core, &asked.cities)?;
    let span = span(core, &asked)?;
    let named: Vec<&str> = cities.iter().map(CityCode::as_str).collect();
    let query = format!("reconcile {} {}..{} ms", named.join(" "), span.0, span.1);
    enter(core, &actor, &query, 0).await?;
    let (sender, receiver) = mpsc::channel(AHEAD);
    let background = core.clone();
    core.background(async move {
        for city in cities {
            if sender.is_closed() {
                return;
            }
            compare(&background, &actor, city, span, &sender).await;
        }
    });
    Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
}

/// The cities that are named, or every other one.
fn cities(core: &Core, named: &[String]) -> Result<Vec<CityCode>, Status> {
    let snapshot = core.control.snapshot();
    let others = snapshot.directory.cities().iter().map(|city| city.code);
    let others: Vec<CityCode> = others.filter(|code| *code != core.city).collect();
    if named.is_empty() {
        return Ok(others);
    }
    let mut cities = Vec::new();
    for name in named {
        let code = name.parse().ok().filter(|code| others.contains(code));
        let Some(code) = code else {
            let problem = "is the code of another city that the directory lists".to_owned();
            let field = ("cities".to_owned(), problem);
            return Err(invalid("the city is not known", [field]));
        };
        if !cities.contains(&code) {
            cities.push(code);
        }
    }
    Ok(cities)
}

/// The span in milliseconds since 1970.
fn span(core: &Core, asked: &ReconcileRequest) -> Result<(i64, i64), Status> {
    let newest = core.control.reconcilable_until_ms();
    let until = match asked.until_us {
        0 => newest,
        until => until.div_euclid(1_000).min(newest),
    };
    let from = match asked.from_us {
        0 => until.saturating_sub(DEFAULT_SPAN_MS),
        from => from.div_euclid(1_000),
    };
    if asked.from_us < 0
        || asked.from_us != 0 && asked.until_us != 0 && asked.from_us >= asked.until_us
    {
        let field = ("until_us".to_owned(), "is behind from_us".to_owned());
        return Err(invalid("the span is none", [field]));
    }
    Ok((from.min(until), until))
}

/// Compares with one city.
async fn compare(core: &Core, actor: &Actor, city: CityCode, span: (i64, i64), sender: &Sender) {
    let (events, mut heard) = mpsc::channel(AHEAD);
    let comparing = core.control.reconcile(city, span, &actor.name, events);
    let telling = async {
        while let Some(event) = heard.recv().await {
            let part = match event {
                ReconcileEvent::Found(discrepancy) => Part::Discrepancy(*discrepancy),
                ReconcileEvent::Progress(done_ms) => Part::Progress(ReconcileProgress {
                    city: city.as_str().to_owned(),
                    done_ms,
                    span_ms: u64::try_from(span.1.saturating_sub(span.0)).unwrap_or(0),
                }),
            };
            if tell(sender, part).await.is_err() {
                // The comparison sees that its listener is gone, and ends.
                return;
            }
        }
    };
    let (outcome, ()) = tokio::join!(comparing, telling);
    if let Some(outcome) = outcome {
        let summary = ReconcileSummary {
            outcome: Some(outcome.reconciled),
            problem: outcome.problem.unwrap_or_default(),
            unreachable: outcome.unreachable,
        };
        // Whoever went away needs no summary: it is an entry too.
        let _ = tell(sender, Part::Summary(summary)).await;
    }
}

async fn tell(sender: &Sender, part: Part) -> Result<(), ()> {
    let response = ReconcileResponse { part: Some(part) };
    sender.send(Ok(response)).await.map_err(|_| ())
}
