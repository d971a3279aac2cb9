//! Cases of “一网通办” in the demo: a passport that is collected by proxy and a household registration that two cities move
//! together, each from application to rating, in simulated days of March 2026.
//!
//! The gateways keep the present; the cases live at the moment that a file of the sandbox names.

mod desk;
mod household;
mod passport;
mod timeline;

use std::fs;

use anyhow::{Context as _, Result};
use banqiao_proto::{
    directory::v1::{AddGrantRequest, Grant, ListGrantsRequest},
    item::v1::{ReadReportRequest, ReportFormat, ReportLanguage},
};
use tonic::Request;

use super::{
    CARD, CASES, MATERIALS, RATINGS, STATISTICS, Steps,
    client::{self, System},
    pension::until,
    scenario::{Scenario, grant},
};
use crate::sandbox::SandboxCity;

/// Purpose of every call about a case.
const HANDLING: &str = "case-handling";
const STATISTICS_PURPOSE: &str = "statistics";
/// 异地代收代办, 多地联办: the basis of every call.
const BASIS: &str = "国办发〔2020〕35号";

/// The play.
pub(super) async fn play(scenario: &mut Scenario<'_>, steps: &Steps) -> Result<()> {
    steps.say("Handling cases across cities, in simulated days");
    for city in &scenario.sandbox.cities {
        grants(scenario, city)
            .await
            .with_context(|| format!("item grants of {}", city.founder.en))?;
    }
    let clock = scenario.sandbox.records_clock();
    // Boxed: each holds the requests of a whole case.
    let played = async {
        Box::pin(passport::play(scenario, steps)).await?;
        Box::pin(household::play(scenario, steps)).await
    };
    let played = played.await;
    if clock.exists() {
        fs::remove_file(clock)?;
    }
    played
}

/// Grants of a city, unless they stand from an earlier run: windows of all cities may start and follow cases, item services may open
/// tasks and verify, and the city's own department decides.
async fn grants(scenario: &Scenario<'_>, city: &SandboxCity) -> Result<()> {
    let mut grants = client::grants(city).await?;
    let held = grants.list_grants(ListGrantsRequest::default()).await?;
    let held = held.into_inner().grants;
    let of = |domain: &str, path: &str, service: &str, methods: &[&str], purpose: &str| Grant {
        service: service.to_owned(),
        legal_basis: BASIS.to_owned(),
        ..grant(
            format!("spiffe://{domain}/{path}"),
            methods,
            &[purpose],
            &[],
        )
    };
    let own = city.domain.as_str();
    let mut wanted = vec![
        of(own, "psb/case", CASES, &[], HANDLING),
        of(own, "psb/case", MATERIALS, &[], HANDLING),
        of(own, "hall/window", STATISTICS, &[], STATISTICS_PURPOSE),
    ];
    for other in &scenario.sandbox.cities {
        let other = other.domain.as_str();
        let window = ["StartCase", "ActOnCase", "ReadCase", "WatchCase"];
        let service = ["StartCase", "ActOnCase", "ReadCase", "SearchCases"];
        wanted.extend([
            of(other, "hall/window", CASES, &window, HANDLING),
            of(other, "hall/window", MATERIALS, &[], HANDLING),
            of(other, "hall/window", RATINGS, &["RateCase"], HANDLING),
            of(other, "hall/item", CASES, &service, HANDLING),
            of(other, "hall/item", CARD, &["VerifyCard"], HANDLING),
        ]);
    }
    for grant in wanted {
        let stands = |held: &Grant| held.client == grant.client && held.service == grant.service;
        if !held.iter().any(stands) {
            let request = AddGrantRequest { grant: Some(grant) };
            grants.add_grant(request).await?;
        }
    }
    Ok(())
}

/// A request about a case.
fn request<T>(message: T, to: &str) -> Result<Request<T>> {
    client::request_on(message, to, HANDLING, BASIS)
}

/// Moves the cases of every city to noon of a day, and waits until the services of some have taken it over.
async fn move_to(scenario: &Scenario<'_>, cities: &[&SandboxCity], day: &str) -> Result<()> {
    let file = scenario.sandbox.records_clock();
    let fresh = file.with_extension("new");
    fs::write(&fresh, format!("{day}T04:00:00Z"))?;
    fs::rename(fresh, file)?;
    for city in cities {
        let window = System::connect(city, "hall/window").await?;
        until(day, || async { Ok(today(&window, city).await? == day) }).await?;
    }
    Ok(())
}

/// The day on which a city's cases live: its reports say when they were made.
async fn today(window: &System, city: &SandboxCity) -> Result<String> {
    let report = ReadReportRequest {
        from: "2026-01".to_owned(),
        to: "2026-01".to_owned(),
        format: ReportFormat::Json.into(),
        language: ReportLanguage::English.into(),
    };
    let code = city.founder.code;
    let report = client::request_on(report, code, STATISTICS_PURPOSE, BASIS)?;
    let mut pieces = window.statistics().read_report(report).await?.into_inner();
    let mut text = Vec::new();
    while let Some(piece) = pieces.message().await? {
        text.extend(piece.content);
    }
    let report: serde_json::Value = serde_json::from_slice(&text)?;
    let day = report["made_on"].as_str();
    Ok(day.context("a report without a day")?.to_owned())
}
