//! Every reason of refusal, provoked at least once, against the table that stands in the proto.
//!
//! A row says which side raises the reason and how to provoke it. What must then hold is not written here: status or
//! alert, the reason that the caller sees, the exchange id, and exactly which ledgers hold it come from
//! `banqiao_proto::reasons()`.

#[path = "refusals/admin.rs"]
mod admin;
#[path = "refusals/forward.rs"]
mod forward;
#[path = "refusals/grants.rs"]
mod grants;
#[path = "refusals/headers.rs"]
mod headers;
#[path = "refusals/ledger.rs"]
mod ledger;
#[path = "refusals/limits.rs"]
mod limits;
#[path = "refusals/tls.rs"]
mod tls;

use std::collections::BTreeSet;

use banqiao_proto::{
    exchange::v1::{Held, Reason, Trace},
    ledger::v1::{EntryFilter, Kind},
    reasons,
};
use banqiao_tests::{
    admin::Record,
    network::{City, Network, SYSTEM},
    service::Service,
    wait::{PATIENCE, wait_until},
    wire::{Answer, Caller, Head},
};
use futures_util::future::LocalBoxFuture;
use tonic_types::StatusExt as _;
use uuid::Uuid;

const ECHO: &str = "/example.echo.v1.EchoService/Echo";
const YANTAI: &str = "370600";

/// The side whose gateway raises a reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Consumer,
    Provider,
}

/// What a row provokes, and how.
struct Row {
    reason: Reason,
    at: At,
    how: &'static str,
    provoke: for<'a> fn(&'a mut Scene) -> LocalBoxFuture<'a, Seen>,
}

/// What there was to see.
#[derive(Debug)]
enum Seen {
    /// A refused administrator: the gRPC status.
    Admin(Box<tonic::Status>),
    /// A TLS alert.
    Alert(String),
    /// An answer to the client (or to a gateway that is none).
    Answer(Box<Answer>),
    /// Nobody was left to see anything; the exchange.
    Entered(Uuid),
}

impl From<Answer> for Seen {
    fn from(answer: Answer) -> Self {
        Self::Answer(Box::new(answer))
    }
}

/// Qingdao calls, Yantai provides.
struct Scene {
    network: Network,
    service: Option<Service>,
    caller: Caller,
}

impl Scene {
    async fn new((network, service): (Network, Service)) -> Self {
        let caller = network.cities[0].caller(SYSTEM).await.unwrap();
        Self {
            network,
            service: Some(service),
            caller,
        }
    }

    fn consumer(&self) -> &City {
        &self.network.cities[0]
    }

    fn provider(&self) -> &City {
        &self.network.cities[1]
    }

    fn service(&self) -> &Service {
        self.service.as_ref().expect("the service")
    }

    /// A call to Yantai as a client makes it.
    fn head(path: &str) -> Head {
        Head::new(path, YANTAI)
    }

    /// A call as the consumer's gateway passes it on, with an exchange of its own.
    fn stated(&self, path: &str) -> Head {
        Self::head(path)
            .with("banqiao-client", &self.consumer().id(SYSTEM))
            .with("banqiao-exchange-id", &format!("{}/1", Uuid::now_v7()))
    }
}

/// Provokes each row in turn and holds what follows against the table.
async fn prove(scene: &mut Scene, rows: &[Row]) {
    for row in rows {
        let context = format!("{:?} at the {:?}: {}", row.reason, row.at, row.how);
        println!("{context}");
        let rule = reasons().rule(row.reason);
        let held = match row.at {
            At::Consumer => rule.at_consumer,
            At::Provider => rule.at_provider,
        };
        let held = held.unwrap_or_else(|| panic!("{context}: the table says it never is"));
        let before = [
            summarised(scene.consumer(), row.reason).await,
            summarised(scene.provider(), row.reason).await,
        ];
        let entered = administered(scene.consumer(), row.reason).await;
        let seen = (row.provoke)(scene).await;
        visible(&context, row.reason, &seen);
        match &seen {
            Seen::Admin(_) => {
                let after = administered(scene.consumer(), row.reason).await;
                assert_eq!(after, entered + 1, "{context}: ADMIN entries");
            }
            Seen::Alert(_) => summaries(scene, row.reason, &held, before).await,
            Seen::Answer(answer) => {
                let exchange = answer.exchange().map(|(id, _)| id);
                let exchange = exchange.unwrap_or_else(|| panic!("{context}: no id: {answer:?}"));
                entries(&context, scene, row, &held, exchange).await;
                summaries(scene, row.reason, &held, before).await;
            }
            Seen::Entered(exchange) => entries(&context, scene, row, &held, *exchange).await,
        }
    }
}

/// Status or alert, and the reason that may be seen.
fn visible(context: &str, reason: Reason, seen: &Seen) {
    let rule = reasons().rule(reason);
    let shown = match rule.shown_as() {
        Reason::Unspecified => reason,
        shown => shown,
    };
    let shown_rule = reasons().rule(shown);
    match seen {
        Seen::Alert(alert) => assert_eq!(*alert, rule.alert, "{context}"),
        Seen::Entered(_) => {}
        Seen::Answer(answer) => {
            assert_eq!(
                answer.code(),
                Some(shown_rule.status),
                "{context}: {:?}",
                answer.grpc()
            );
            assert_eq!(
                answer.reason(),
                Some(shown),
                "{context}: {:?}",
                answer.grpc()
            );
            let status = answer.grpc().unwrap();
            let info = status.get_details_error_info().unwrap();
            let id = answer
                .exchange()
                .map(|(id, attempt)| format!("{id}/{attempt}"));
            assert_eq!(
                info.metadata.get("exchange-id").cloned(),
                id,
                "{context}: {info:?}"
            );
        }
        Seen::Admin(status) => {
            assert_eq!(
                i32::from(status.code()),
                rule.status.cast_signed(),
                "{context}: {status}"
            );
            let info = status.get_details_error_info().unwrap();
            assert_eq!(
                info.reason,
                banqiao_proto::ReasonTable::name(reason),
                "{context}"
            );
            assert_eq!(info.domain, "banqiao", "{context}");
        }
    }
}

/// Exactly what each ledger holds of the exchange, and the reason in the ledger of the side that raised it.
async fn entries(context: &str, scene: &Scene, row: &Row, held: &Held, exchange: Uuid) {
    if row.reason == Reason::Replayed {
        // The first call of the exchange has its own entries beside the refusal of the second.
        let records = scene.provider().admin().exchange(exchange).await.unwrap();
        let refused = records
            .iter()
            .filter(|record| record.entry.kind() == Kind::Refused)
            .count();
        assert_eq!(refused, 1, "{context}: {records:?}");
        return;
    }
    if row.reason == Reason::LedgerUnavailable {
        // Nothing stands of it; or, where its OPEN was on its way when the ledger failed, that OPEN and the CLOSE
        // that says so.
        let city = match row.at {
            At::Consumer => scene.consumer(),
            At::Provider => scene.provider(),
        };
        let records = city.admin().exchange(exchange).await.unwrap();
        let close = records
            .iter()
            .find(|record| record.entry.kind() == Kind::Close);
        let said = close
            .and_then(|record| record.entry.result.as_ref())
            .map(|result| result.reason());
        assert!(
            records.is_empty() || said == Some(Reason::LedgerUnavailable),
            "{context}: {records:?}"
        );
        return;
    }
    let mut records: [Vec<Record>; 2] = Default::default();
    let traces = [
        (scene.consumer(), held.consumer()),
        (scene.provider(), held.provider()),
    ];
    for (place, (city, trace)) in traces.into_iter().enumerate() {
        let expected = match trace {
            // Counted, not entered.
            Trace::Summary | Trace::Unspecified => Trace::None,
            trace => trace,
        };
        let found = city.admin().holds(exchange, expected).await;
        records[place] = found.unwrap_or_else(|error| panic!("{context}, {}: {error}", city.name));
    }
    let [consumer, provider] = records;
    let (own, trace) = match row.at {
        At::Consumer => (consumer, held.consumer()),
        At::Provider => (provider, held.provider()),
    };
    let states = |record: &Record| match record.entry.kind() {
        Kind::Refused => record
            .entry
            .decision
            .as_ref()
            .map(|decision| decision.reason()),
        Kind::Close => record.entry.result.as_ref().map(|result| result.reason()),
        _ => None,
    };
    if !matches!(trace, Trace::Summary) {
        let stated: Vec<_> = own.iter().filter_map(states).collect();
        // Who has lost the lease can write no more: whoever fenced it has closed the call.
        let entered = match row.reason {
            Reason::LeaseLost => Reason::Interrupted,
            reason => reason,
        };
        assert_eq!(
            stated,
            [entered],
            "{context}: what the raising side has entered"
        );
    }
}

async fn summarised(city: &City, reason: Reason) -> u64 {
    city.admin().summarised(reason).await.unwrap_or(0)
}

async fn summaries(scene: &Scene, reason: Reason, held: &Held, before: [u64; 2]) {
    let traces = [
        (scene.consumer(), held.consumer()),
        (scene.provider(), held.provider()),
    ];
    for ((city, trace), before) in traces.into_iter().zip(before) {
        if trace == Trace::Summary {
            city.admin().summary_grows(reason, before).await.unwrap();
        }
    }
}

async fn administered(city: &City, reason: Reason) -> usize {
    let filter = EntryFilter {
        kinds: vec![Kind::Admin.into()],
        reason: reason.into(),
        ..Default::default()
    };
    city.admin()
        .search(filter)
        .await
        .map_or(0, |records| records.len())
}

/// Makes a call over and over until it is refused for a reason.
async fn until_refused(scene: &Scene, head: &Head, reason: Reason) -> Answer {
    let last = std::sync::Mutex::new(None);
    let refused = wait_until("the refusal", PATIENCE, || async {
        let Ok(answer) = scene.caller.unary(head, &()).await else {
            return false;
        };
        let fits = answer.reason() == Some(reason);
        *last.lock().unwrap() = Some(answer);
        fits
    });
    refused
        .await
        .unwrap_or_else(|error| panic!("{reason:?}: {error}; last {:?}", last.lock()));
    last.into_inner().unwrap().unwrap()
}

#[test]
fn every_reason_is_provoked() {
    let tables: [&[Row]; 12] = [
        tls::ROWS,
        headers::ROWS,
        grants::ROWS,
        forward::ROWS,
        forward::OUTAGES,
        limits::ROWS,
        limits::DIRECTORY,
        limits::PRESSURE,
        limits::DRAIN,
        ledger::SQLITE,
        ledger::POSTGRES,
        admin::ROWS,
    ];
    let provoked: BTreeSet<_> = tables
        .into_iter()
        .flatten()
        .map(|row| row.reason)
        // Only a gateway that lies provokes these.
        .chain(crate::receipts::PROVOKED)
        // Only a call to all cities.
        .chain(crate::all_cities::PROVOKED)
        .map(|reason| reason as i32)
        .collect();
    let missing: Vec<_> = reasons()
        .all()
        .iter()
        .filter(|(reason, _)| !provoked.contains(&(*reason as i32)))
        .map(|(reason, _)| reason)
        .collect();
    assert!(missing.is_empty(), "no row provokes {missing:?}");
}
