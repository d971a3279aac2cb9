//! How fast a database of cases is searched and written, at the service and without its gateways.
//!
//! ```console
//! cargo run --release -p banqiao-item --example item_rate -- generate URL CASES
//! cargo run --release -p banqiao-item --example item_rate -- measure URL SECONDS
//! ```

use std::{
    env,
    io::{self, Write},
};

use anyhow::{Context, bail};
use banqiao_directory::{CityCode, Clock};
use banqiao_item::{
    Act, Actor, Calendars, CaseFilter, CaseNumber, Cases, Catalogue, Client, StartCase, Store,
};
use banqiao_kit::{
    DatabaseSettings, ExchangeId, calendar::WorkCalendar, identifier::citizen_check_digit,
};
use banqiao_proto::item::v1::{
    ActOnCaseRequest, ActorRole, Applicant, ApplicantIdKind, CaseAction, CaseState, Channel,
    Document, SearchCasesRequest, StartCaseRequest,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use prost_types::Timestamp;
use uuid::Uuid;

const CITY: &str = "370200";
/// Items that are not collected by proxy and have no tasks.
const ITEMS: [&str; 4] = ["JD008", "JD014", "JD017", "JD020"];
/// Calls at once, as some dozens of systems make them.
const AT_ONCE: usize = 128;
/// Searches of each kind.
const SEARCHES: usize = 300;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let [what, url, count] = &arguments[..] else {
        bail!("generate URL CASES, or measure URL SECONDS");
    };
    let count: usize = count.parse().context("a number")?;
    let cases = open(url).await?;
    match what.as_str() {
        "generate" => generate(&cases, count).await,
        "measure" => {
            searches(&cases).await?;
            transitions(&cases, count).await
        }
        _ => bail!("generate or measure"),
    }
}

async fn open(url: &str) -> anyhow::Result<Cases> {
    let url = url.parse().map_err(anyhow::Error::msg)?;
    let store = Store::open(&DatabaseSettings::new(url)).await?;
    let calendars = Calendars::new(store.clone(), WorkCalendar::shipped());
    let city: CityCode = CITY.parse()?;
    let catalogue = Catalogue::load(&[])?;
    Ok(Cases::new(
        store,
        catalogue,
        calendars,
        city,
        Clock::system(),
    ))
}

fn actor(role: ActorRole) -> anyhow::Result<Actor> {
    let exchange = ExchangeId {
        exchange: Uuid::now_v7(),
        attempt: 1,
    };
    Ok(Actor {
        city: CITY.parse()?,
        role,
        client: Some(Client {
            id: "spiffe://qingdao.jiaodong/hall/rate".parse()?,
            exchange,
            operator: None,
        }),
    })
}

/// Nobody: sequence 000 is not issued. A number stands for some of the cases, as in life.
fn applicant(number: usize) -> anyhow::Result<Applicant> {
    let (year, month, day) = (
        1940 + number % 70,
        1 + number / 70 % 12,
        1 + number / 840 % 28,
    );
    let digits = format!("370202{year}{month:02}{day:02}000");
    let check = citizen_check_digit(digits.as_bytes()).context("17 digits")?;
    Ok(Applicant {
        id_kind: ApplicantIdKind::Citizen.into(),
        citizen_id: format!("{digits}{}", char::from(check)),
        name: "测试子安".into(),
        ..Applicant::default()
    })
}

async fn start(cases: &Cases, number: usize) -> anyhow::Result<CaseNumber> {
    let request = StartCaseRequest {
        request_id: Uuid::now_v7().to_string(),
        item_id: ITEMS[number % ITEMS.len()].into(),
        division: CITY.into(),
        role: ActorRole::Window.into(),
        applicant: Some(applicant(number)?),
        channel: Channel::Window.into(),
        ..StartCaseRequest::default()
    };
    let today = cases.today();
    let item = |id: &_| cases.catalogue().item(id, today).map(AsRef::as_ref);
    let start = StartCase::parse(&request, cases.city(), today, item);
    let start = start.map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
    let answered = cases.start(&start, [0; 32], &actor(start.role)?).await?;
    Ok(answered.standing.number)
}

async fn step(cases: &Cases, number: CaseNumber, action: CaseAction) -> anyhow::Result<()> {
    let request = ActOnCaseRequest {
        request_id: Uuid::now_v7().to_string(),
        number: number.to_string(),
        action: action.into(),
        role: ActorRole::Department.into(),
        document: Some(Document {
            number: "青受〔2026〕1号".into(),
            seal_digest: vec![7; 32],
        }),
        ..ActOnCaseRequest::default()
    };
    let act = Act::parse(&request).map_err(|faults| anyhow::anyhow!("{faults:?}"))?;
    cases.act(&act, [0; 32], &actor(act.role)?).await?;
    Ok(())
}

/// Starts cases; every second one is received, every fourth accepted.
async fn generate(cases: &Cases, count: usize) -> anyhow::Result<()> {
    let began = cases.clock().now_us();
    let made = stream::iter(0..count).map(|number| async move {
        let case = start(cases, number).await?;
        if number % 2 == 0 {
            step(cases, case, CaseAction::Receive).await?;
        }
        if number % 4 == 0 {
            step(cases, case, CaseAction::Accept).await?;
        }
        anyhow::Ok(())
    });
    made.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    let steps = count + count.div_ceil(2) + count.div_ceil(4);
    report("generate", steps, cases.clock().now_us() - began)
}

async fn searches(cases: &Cases) -> anyhow::Result<()> {
    let newest = cases
        .search(filter(&SearchCasesRequest::default(), cases)?, cases.city())
        .await?;
    let newest = newest
        .cases
        .first()
        .context("no case: generate some")?
        .number
        .clone();
    let in_days = |days: i64| Timestamp {
        seconds: cases.clock().now_s() + days * 86_400,
        nanos: 0,
    };
    for kind in [
        "number",
        "applicant",
        "item",
        "state",
        "department",
        "deadline",
    ] {
        let mut times = Vec::with_capacity(SEARCHES);
        for turn in 0..SEARCHES {
            let mut request = SearchCasesRequest::default();
            match kind {
                "number" => request.number.clone_from(&newest),
                "applicant" => request.applicant = Some(applicant(turn * 37)?),
                "item" => request.item_id = ITEMS[turn % ITEMS.len()].into(),
                "state" => request.state = CaseState::Accepted.into(),
                "department" => request.department = "公安".into(),
                _ => request.due_before = Some(in_days(30)),
            }
            let began = cases.clock().now_us();
            cases.search(filter(&request, cases)?, cases.city()).await?;
            times.push(cases.clock().now_us() - began);
        }
        times.sort_unstable();
        let at = |percent: usize| times[(times.len() - 1) * percent / 100];
        let mut out = io::stdout().lock();
        writeln!(
            out,
            "search by {kind}: p50 {} µs, p95 {} µs, p99 {} µs",
            at(50),
            at(95),
            at(99)
        )?;
    }
    Ok(())
}

fn filter(request: &SearchCasesRequest, cases: &Cases) -> anyhow::Result<CaseFilter> {
    let filter = CaseFilter::parse(request, cases.today());
    filter.map_err(|faults| anyhow::anyhow!("{faults:?}"))
}

/// Takes fresh cases from receipt to the review, as many as go into the time.
async fn transitions(cases: &Cases, seconds: usize) -> anyhow::Result<()> {
    const STEPS: [CaseAction; 3] = [
        CaseAction::Receive,
        CaseAction::Accept,
        CaseAction::BeginReview,
    ];
    let began = cases.clock().now_us();
    let until = began + i64::try_from(seconds)? * 1_000_000;
    let workers = (0..AT_ONCE).map(|worker| async move {
        let (mut steps, mut number) = (0, worker);
        while cases.clock().now_us() < until {
            let case = start(cases, number).await?;
            for action in STEPS {
                step(cases, case, action).await?;
            }
            steps += 1 + STEPS.len();
            number += AT_ONCE;
        }
        anyhow::Ok(steps)
    });
    let steps = futures_util::future::try_join_all(workers).await?;
    report(
        "transitions",
        steps.iter().sum(),
        cases.clock().now_us() - began,
    )
}

fn report(what: &str, steps: usize, micros: i64) -> anyhow::Result<()> {
    let micros = usize::try_from(micros.max(1))?;
    let mut out = io::stdout().lock();
    writeln!(
        out,
        "{what}: {steps} steps, {} /s",
        steps * 1_000_000 / micros
    )?;
    Ok(())
}
