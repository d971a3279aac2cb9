//! How fast reports are imported, and found by patient.
//!
//! ```text
//! cargo run --release -p banqiao-lab --example lab_rate -- URL REPORTS [SEARCHES]
//! ```
//!
//! Publishes so many synthetic reports of four results, ten for each patient, into a database (those that are there already are unchanged),
//! in batches as the bulk call does, two at once. Then it searches for patients anywhere among them, one search after another, as
//! `FindReports` does: each finds, records the reading, and reads ten reports; half of the patients are read for the first time.

#![expect(clippy::print_stdout, reason = "a program that prints figures")]

use std::{
    env,
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use banqiao_directory::{CityCode, Clock};
use banqiao_kit::{Caller, DatabaseSettings};
use banqiao_lab::{
    Catalogue, FindReports, LineOutcome, PUBLISH_BATCH, Publisher, Reports, Store, synthetic,
};
use banqiao_proto::lab::v1::{FindReportsRequest, Report};
use http::HeaderMap;

type Failure = Box<dyn Error>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let (url, count, searches) = match &*words {
        [url, count] => (*url, count.parse()?, 2_000),
        [url, count, searches] => (*url, count.parse()?, searches.parse()?),
        _ => return Err("usage: lab_rate URL REPORTS [SEARCHES]".into()),
    };
    let city: CityCode = "370200".parse()?;
    let store = Store::open(&DatabaseSettings::new(url.parse()?)).await?;
    let catalogue = Arc::new(Catalogue::built_in()?);
    let institutions = Arc::new(synthetic::institutions()?);
    let reports = Reports::new(store, city, Clock::system(), catalogue, institutions);
    import(&reports, city, count).await?;
    search(&reports, city, count, searches).await?;
    reports.store().close().await;
    Ok(())
}

async fn import(reports: &Reports, city: CityCode, count: u64) -> Result<(), Failure> {
    let mut lines = synthetic::reports(city, count)?.map(Some);
    let mut batch = || -> Vec<Option<Report>> { lines.by_ref().take(PUBLISH_BATCH).collect() };
    let (mut created, begin) = (0_u64, Instant::now());
    loop {
        let (one, two) = (batch(), batch());
        if one.is_empty() {
            break;
        }
        let operator = Publisher::Operator;
        let outcomes = tokio::try_join!(
            reports.publish(&one, &operator),
            reports.publish(&two, &operator)
        )?;
        for outcome in outcomes.0.iter().chain(&outcomes.1) {
            created += u64::from(matches!(outcome, LineOutcome::Created(_)));
            if let LineOutcome::Refused(faults) = outcome {
                return Err(format!("a synthetic report is refused: {faults:?}").into());
            }
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{count} reports in {seconds:.1} s, {created} new: {:.0} reports/s",
        count as f64 / seconds
    );
    Ok(())
}

async fn search(
    reports: &Reports,
    city: CityCode,
    count: u64,
    searches: u64,
) -> Result<(), Failure> {
    let patients = (count / 10).max(1);
    let caller = caller()?;
    let mut times: Vec<Duration> = Vec::new();
    for place in 0..searches {
        // Each second search is for a patient of the one before. 7,919 is prime, so that patients lie anywhere.
        let patient = synthetic::patient(city, place / 2 * 7_919 % patients).ok_or("no patient")?;
        let request = FindReportsRequest {
            patient_id: patient.citizen_id,
            ..FindReportsRequest::default()
        };
        let begin = Instant::now();
        let search = FindReports::parse(&request, reports.clock().now_us());
        let search = search.map_err(|faults| format!("{faults:?}"))?;
        let found = reports.find(&search, &caller).await?;
        times.push(begin.elapsed());
        if found.is_empty() {
            return Err("a patient without reports".into());
        }
    }
    times.sort();
    let at = |percent: usize| {
        let place = (times.len() * percent / 100).min(times.len().saturating_sub(1));
        times
            .get(place)
            .map_or(0.0, |time| time.as_secs_f64() * 1_000.0)
    };
    println!(
        "{searches} searches by patient: p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms",
        at(50),
        at(95),
        at(99)
    );
    Ok(())
}

fn caller() -> Result<Caller, Failure> {
    let mut headers = HeaderMap::new();
    headers.insert(
        "banqiao-client",
        "spiffe://yantai.jiaodong/hospital-1/emr".parse()?,
    );
    headers.insert("banqiao-purpose", "medical-treatment".parse()?);
    headers.insert("banqiao-basis", "statutory:basic-healthcare-30".parse()?);
    let exchange = format!("{}/1", uuid::Uuid::now_v7());
    headers.insert("banqiao-exchange-id", exchange.parse()?);
    Ok(Caller::from_headers(&headers)?)
}
