//! How fast a city's cards come in, and how fast they are verified:
//! `cargo run --release -p banqiao-card --example card_rate -- URL [CARDS [SECONDS [CALLS]]]`.
//!
//! URL is that of an empty PostgreSQL database. A card service on loopback, with its TLS and its checks of callers, takes synthetic
//! cards by ImportCards, 200,000 lines a call; then it answers VerifyCard for cards drawn at random, CALLS at once. The clients run in
//! the same process: they are part of the figures.

#![expect(clippy::print_stdout, reason = "a program that prints figures")]

#[path = "card_rate/service.rs"]
mod service;

use std::{env, error::Error, fs, time::Duration};

use banqiao_card::{CardConfig, Instance, synthetic};
use banqiao_directory::{CityCode, Clock};
use banqiao_proto::card::v1::{
    CardKey, CardRecord, ImportCardsRequest, ImportOutcome, VerifyCardRequest,
    card_service_client::CardServiceClient,
};
use futures_util::stream;
use hdrhistogram::Histogram;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::Channel;

use service::Certificates;

type Fallible<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// A city has fewer synthetic holders than a large city has cards: each of them gets several.
const HOLDERS: u32 = 200_000;
/// What the service takes in a call.
const CALL_LINES: u64 = 200_000;
const MICROSECONDS: u64 = 1_000_000;

#[tokio::main]
async fn main() -> Fallible<()> {
    let mut arguments = env::args().skip(1);
    let url = arguments
        .next()
        .ok_or("name the URL of an empty database")?;
    let mut number = |default| arguments.next().map_or(Ok(default), |text| text.parse());
    let (cards, seconds, calls) = (number(200_000_u64)?, number(10)?, number(8)?);
    let folder = tempfile::TempDir::new()?;
    let certificates = Certificates::create(folder.path())?;
    let config = CardConfig::parse(&service::configuration(&url), folder.path())?;
    let clock = Clock::system();
    let instance = Instance::start(config, clock.clone()).await?;
    let address = instance.local_addr();
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let served = tasks.spawn(instance.serve(stop.clone().cancelled_owned()));
    import(&mut certificates.client(address)?, cards, &clock).await?;
    let city: CityCode = service::CITY.parse()?;
    let mut clients = Vec::new();
    let deadline = clock.now_us() + i64::try_from(seconds * MICROSECONDS)?;
    for client in 0..calls {
        let (certificates, clock) = (certificates.clone(), clock.clone());
        clients.push(tasks.spawn(async move {
            verify(client, certificates, address, city, cards, deadline, clock).await
        }));
    }
    let mut latencies = Histogram::<u64>::new(3)?;
    for client in clients {
        latencies.add(client.await??)?;
    }
    stop.cancel();
    served.await??;
    let at = |quantile| milliseconds(latencies.value_at_quantile(quantile));
    println!(
        "VerifyCard, {calls} at once: {}/s, p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms, slowest {:.2} ms",
        latencies.len() / seconds,
        at(0.5),
        at(0.99),
        at(0.999),
        milliseconds(latencies.max()),
    );
    println!("peak memory of the whole program: {}", peak()?);
    Ok(())
}

/// Card `index` of the city.
fn card(index: u64) -> Option<CardRecord> {
    let holders = u64::from(HOLDERS);
    let holder = u32::try_from(index % holders).ok()?;
    let mut card = synthetic::holder(service::CITY.parse().ok()?, holder, index / holders + 1)?;
    card.card_number = format!("L{index:08}");
    Some(card)
}

/// Imports through the service and prints the rate after each call.
async fn import(
    service: &mut CardServiceClient<Channel>,
    count: u64,
    clock: &Clock,
) -> Fallible<()> {
    let began = clock.now_us();
    let mut done = 0;
    while done < count {
        let lines = CALL_LINES.min(count - done);
        let first = done;
        let sent = stream::iter((1..=lines).map(move |line| ImportCardsRequest {
            line,
            card: card(first + line - 1),
        }));
        let answer = service
            .import_cards(service::request(service::BUREAU, sent)?)
            .await?
            .into_inner();
        if answer.created != lines {
            let refused = answer
                .results
                .into_iter()
                .find(|result| result.outcome() != ImportOutcome::Created);
            return Err(format!("not all were new: {refused:?}").into());
        }
        done += lines;
        let took = f64_of(clock.now_us() - began) / 1e6;
        println!(
            "imported {done}: {:.0} cards/s, peak memory {}",
            f64_of(i64::try_from(done)?) / took,
            peak()?,
        );
    }
    Ok(())
}

async fn verify(
    client: u64,
    certificates: Certificates,
    address: std::net::SocketAddr,
    city: CityCode,
    cards: u64,
    deadline: i64,
    clock: Clock,
) -> Fallible<Histogram<u64>> {
    let mut latencies = Histogram::new(3)?;
    let mut service = certificates.client(address)?;
    let mut index = client;
    loop {
        let began = clock.now_us();
        if began >= deadline {
            return Ok(latencies);
        }
        // A step prime to most counts visits the cards in no order that pages have.
        index = (index + 7_368_787) % cards;
        let card = card(index).ok_or("no such card")?;
        let request = VerifyCardRequest {
            key: Some(CardKey {
                card_number: card.card_number,
                social_security_number: card.social_security_number,
                card_identification_code: String::new(),
            }),
            name: card.name,
            service_code: 1,
        };
        let began = clock.now_us();
        let answer = service
            .verify_card(service::request(service::WINDOW, request)?)
            .await?
            .into_inner();
        latencies.record(u64::try_from(clock.now_us() - began)?)?;
        if !answer.r#match || answer.source_city != city.as_str() {
            return Err(format!("card {index} does not match").into());
        }
    }
}

/// Peak resident set of this process since its start.
fn peak() -> Fallible<String> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM:"))
        .ok_or("no VmHWM")?;
    Ok(line["VmHWM:".len()..].trim().to_owned())
}

fn milliseconds(microseconds: u64) -> f64 {
    Duration::from_micros(microseconds).as_secs_f64() * 1e3
}

#[expect(clippy::cast_precision_loss, reason = "figures for people")]
fn f64_of(number: i64) -> f64 {
    number as f64
}
