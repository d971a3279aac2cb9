//! A pension relation moves from Yantai to Qingdao, in simulated weeks around Spring Festival 2026.
//!
//! The gateways keep the present. The card services' records live at the moment that a file of the sandbox names, and in the
//! present again once it is gone.

use std::{fs, future::Future, time::Duration};

use anyhow::{Context as _, Result, bail};
use banqiao_proto::{
    card::v1::{
        AdvanceTransferRequest, ApplyTransferRequest, CardRecord, ConfirmFundsRequest,
        ContributionPeriod, Decision, FundsConfirmation, GetProgressRequest, GetProgressResponse,
        InformationTable, ParticipationCertificate, PensionScheme, TransferState as State,
        VerifyCardRequest, WatchProgressRequest, advance_transfer_request::Decision as Decided,
    },
    directory::v1::{AddGrantRequest, Grant, ListGrantsRequest},
};
use prost_types::Timestamp;
use tonic::Code;
use tonic_types::StatusExt as _;

use super::{
    PENSION, Steps,
    client::{self, System},
    scenario::{Scenario, holder},
};
use crate::sandbox::SandboxCity;

const PURPOSE: &str = "case-handling";
/// How long a document may take from city to city, and a service to take over the simulated time.
pub(super) const SOON: Duration = Duration::from_secs(20);
/// How often it is looked for.
const LOOK: Duration = Duration::from_millis(50);
/// Validity of the grants.
const GRANT_DAYS: i64 = 365;
/// Wages of a year, in fen.
const WAGES: i64 = 6_000_000;

/// A city's bureau with its service.
struct Bureau<'a> {
    hall: System,
    city: &'a SandboxCity,
    holder: CardRecord,
}

/// Plays the transfer.
pub(super) async fn play(scenario: &mut Scenario<'_>, steps: &Steps) -> Result<()> {
    steps.say("Moving a pension relation from Yantai to Qingdao, in simulated weeks");
    let (qingdao, yantai) = (scenario.city("370200")?, scenario.city("370600")?);
    grant(qingdao, yantai).await?;
    grant(yantai, qingdao).await?;
    let clock = scenario.sandbox.records_clock();
    let played = transfer(scenario, steps, (qingdao, yantai)).await;
    if clock.exists() {
        fs::remove_file(clock)?;
    }
    played
}

async fn transfer(
    scenario: &mut Scenario<'_>,
    steps: &Steps,
    (qingdao, yantai): (&SandboxCity, &SandboxCity),
) -> Result<()> {
    let mut new = Bureau::of(qingdao, yantai).await?;
    let mut old = Bureau::of(yantai, yantai).await?;
    set_clock(scenario, &new, &old, "2026-02-06T04:00:00Z").await?;
    let id = new.apply(yantai).await?;
    old.holder = new.holder.clone();
    let watched = WatchProgressRequest {
        transfer_id: id.clone(),
        social_security_number: new.holder.social_security_number.clone(),
        cursor: String::new(),
    };
    let watched = client::request(watched, "370200", PURPOSE)?;
    let mut watch = new
        .hall
        .transfers()
        .watch_progress(watched)
        .await?
        .into_inner();

    set_clock(scenario, &new, &old, "2026-02-13T04:00:00Z").await?;
    new.advance(&id, Decided::IssueLetter(Decision {})).await?;
    old.comes_to(&id, State::TransferringOut).await?;
    let told = old.told(&id).await?.progress.unwrap_or_default();
    let seen = format!(
        "letter received 2026-02-13, last day {}: {} working days across Spring Festival",
        told.last_day, told.working_days_left
    );
    let held = told.last_day == "2026-03-12" && told.working_days_left == 15;
    scenario.check(steps, "pension limit", held, seen);

    set_clock(scenario, &new, &old, "2026-03-02T04:00:00Z").await?;
    let mut wrong = table();
    wrong.total_fen += 100;
    let refused = old
        .try_advance(&id, Decided::TransferOut(wrong))
        .await?
        .err();
    let refused = refused.context("a table that does not add up was taken")?;
    let reason = refused.get_details_error_info().map(|info| info.reason);
    let reason = reason.unwrap_or_default();
    let held = refused.code() == Code::InvalidArgument && refused.message().contains("by -100 fen");
    scenario.check(
        steps,
        "pension table refused",
        held,
        format!("{reason}: 100 fen too much"),
    );

    old.advance(&id, Decided::TransferOut(table())).await?;
    new.comes_to(&id, State::AwaitingFunds).await?;
    let early = new.try_advance(&id, Decided::Complete(Decision {})).await?;
    let seen = "table in Qingdao, no funds yet: the last step does not begin".to_owned();
    scenario.check(steps, "pension needs both", early.is_err(), seen);

    set_clock(scenario, &new, &old, "2026-03-10T04:00:00Z").await?;
    new.funds(&id).await?;
    let told = new.told(&id).await?.progress.unwrap_or_default();
    let begun = told.state() == State::Completing && told.last_day == "2026-03-31";
    new.advance(&id, Decided::Complete(Decision {})).await?;
    old.comes_to(&id, State::Completed).await?;
    let seen = format!(
        "table and funds on 2026-03-10, last day {}, both cities done",
        told.last_day
    );
    scenario.check(steps, "pension completed", begun, seen);

    let mut events = Vec::new();
    let watching = async {
        while events.last().is_none_or(|last| last != "completed") {
            let message = watch.message().await?.context("the watch ended")?;
            events.extend(message.event.map(|event| event.event));
        }
        anyhow::Ok(())
    };
    let watching = tokio::time::timeout(SOON, watching).await;
    let held = matches!(watching, Ok(Ok(()))) && events.len() == 6;
    scenario.check(steps, "pension watched", held, events.join(", "));
    handed_over(scenario, steps, &id, (&new, &old)).await
}

/// Each document is one exchange, which both cities' histories name.
async fn handed_over(
    scenario: &mut Scenario<'_>,
    steps: &Steps,
    id: &str,
    (new, old): (&Bureau<'_>, &Bureau<'_>),
) -> Result<()> {
    let mut same = 0;
    let mut last = String::new();
    for (sender, sent, taker, taken) in [
        (new, "letter-delivered", old, "letter-received"),
        (old, "information-table-delivered", new, "table-received"),
        (
            new,
            "completion-notice-delivered",
            old,
            "completion-received",
        ),
    ] {
        until(sent, || async {
            Ok(sender.exchange(id, sent).await?.is_some())
        })
        .await?;
        let exchange = sender.exchange(id, sent).await?;
        if exchange.is_some() && exchange == taker.exchange(id, taken).await? {
            same += 1;
            last = exchange.unwrap_or_default();
        }
    }
    let seen = format!("{same} documents, each in one exchange of both cities, the last {last}");
    scenario.check(steps, "pension documents", same == 3, seen);
    Ok(())
}

impl<'a> Bureau<'a> {
    async fn of(city: &'a SandboxCity, from: &SandboxCity) -> Result<Self> {
        Ok(Self {
            hall: System::connect(city, "hrss/hall").await?,
            city,
            holder: holder(&from.founder, 20)?,
        })
    }

    fn code(&self) -> &'static str {
        self.city.founder.code
    }

    /// Applies for the first of some people of the old city who has no open transfer from an interrupted run.
    async fn apply(&mut self, from: &SandboxCity) -> Result<String> {
        for index in 20..60 {
            self.holder = holder(&from.founder, index)?;
            let request = ApplyTransferRequest {
                request_id: uuid::Uuid::now_v7().to_string(),
                social_security_number: self.holder.social_security_number.clone(),
                name: self.holder.name.clone(),
                from_city: from.founder.code.to_owned(),
                from_scheme: PensionScheme::Employee.into(),
                to_scheme: PensionScheme::Employee.into(),
                first_away_from_home: false,
                certificate: Some(ParticipationCertificate {
                    number: "2026-0001".to_owned(),
                    first_month: "2019-01".to_owned(),
                    months_paid: 12,
                    account_fen: 499_200,
                }),
            };
            let request = client::request(request, self.code(), PURPOSE)?;
            match self.hall.transfers().apply_transfer(request).await {
                Ok(answer) => return Ok(answer.into_inner().transfer_id),
                Err(status) if status.code() == Code::FailedPrecondition => {}
                Err(status) => return Err(status.into()),
            }
        }
        bail!("everybody has an open transfer: run with --fresh")
    }

    async fn try_advance(
        &self,
        id: &str,
        decision: Decided,
    ) -> Result<Result<State, tonic::Status>> {
        let request = AdvanceTransferRequest {
            request_id: uuid::Uuid::now_v7().to_string(),
            transfer_id: id.to_owned(),
            social_security_number: self.holder.social_security_number.clone(),
            decision: Some(decision),
        };
        let request = client::request(request, self.code(), PURPOSE)?;
        let answer = self.hall.transfers().advance_transfer(request).await;
        Ok(answer.map(|answer| answer.into_inner().state()))
    }

    async fn advance(&self, id: &str, decision: Decided) -> Result<State> {
        Ok(self.try_advance(id, decision).await??)
    }

    async fn funds(&self, id: &str) -> Result<()> {
        let request = ConfirmFundsRequest {
            request_id: uuid::Uuid::now_v7().to_string(),
            transfer_id: id.to_owned(),
            social_security_number: self.holder.social_security_number.clone(),
            confirmation: Some(FundsConfirmation {
                amount_fen: table().total_fen,
                credited_on: "2026-03-09".to_owned(),
                bank_reference: "2026-03-09/1".to_owned(),
            }),
        };
        let request = client::request(request, self.code(), PURPOSE)?;
        self.hall.transfers().confirm_funds(request).await?;
        Ok(())
    }

    async fn told(&self, id: &str) -> Result<GetProgressResponse> {
        let request = GetProgressRequest {
            transfer_id: id.to_owned(),
            social_security_number: self.holder.social_security_number.clone(),
        };
        let request = client::request(request, self.code(), PURPOSE)?;
        Ok(self
            .hall
            .transfers()
            .get_progress(request)
            .await?
            .into_inner())
    }

    async fn comes_to(&self, id: &str, state: State) -> Result<()> {
        until(state.as_str_name(), || async {
            let progress = self.told(id).await?.progress;
            Ok(progress.is_some_and(|progress| progress.state() == state))
        })
        .await
    }

    /// The exchange of an event.
    async fn exchange(&self, id: &str, code: &str) -> Result<Option<String>> {
        let events = self.told(id).await?.events.into_iter();
        let mut events = events.filter(|event| event.event == code);
        Ok(events.next().map(|event| event.exchange))
    }

    /// When the service's records live, in seconds since 1970-01-01 UTC.
    async fn now_s(&self) -> Result<i64> {
        let request = VerifyCardRequest {
            key: Some(banqiao_proto::card::v1::CardKey {
                card_number: self.holder.card_number.clone(),
                ..Default::default()
            }),
            ..Default::default()
        };
        let request = client::request(request, self.code(), "card-service")?;
        let answer = self.hall.cards().verify_card(request).await?.into_inner();
        Ok(answer.checked_at.unwrap_or_default().seconds)
    }
}

/// Moves the records of every city's service to a moment, and waits until both have taken it over.
async fn set_clock(
    scenario: &Scenario<'_>,
    new: &Bureau<'_>,
    old: &Bureau<'_>,
    moment: &str,
) -> Result<()> {
    let file = scenario.sandbox.records_clock();
    let fresh = file.with_extension("new");
    fs::write(&fresh, moment)?;
    fs::rename(fresh, file)?;
    let wanted = moment.parse::<jiff::Timestamp>()?.as_second();
    until(moment, || async {
        Ok(new.now_s().await? == wanted && old.now_s().await? == wanted)
    })
    .await
}

/// Waits until a condition holds.
pub(super) async fn until<F>(what: &str, condition: impl Fn() -> F) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    let waiting = async {
        while !condition().await? {
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    };
    let waited = tokio::time::timeout(SOON, waiting).await;
    waited.with_context(|| format!("waited in vain: {what}"))?
}

/// What a year's contributions leave behind.
fn table() -> InformationTable {
    let (account_principal_fen, account_interest_fen) = (480_000, 19_200);
    let pooled_fen = WAGES * 12 / 100;
    InformationTable {
        periods: vec![ContributionPeriod {
            from_month: "2019-01".to_owned(),
            to_month: "2019-12".to_owned(),
            months: 12,
            wages_fen: WAGES,
        }],
        months_total: 12,
        account_principal_fen,
        account_interest_fen,
        wages_total_fen: WAGES,
        pooled_fen,
        total_fen: account_principal_fen + account_interest_fen + pooled_fen,
        revision: 0,
    }
}

/// A city lets its own hall decide, and the other city's service deliver documents, unless that stands from an earlier run.
async fn grant(city: &SandboxCity, other: &SandboxCity) -> Result<()> {
    let mut grants = client::grants(city).await?;
    let held = grants.list_grants(ListGrantsRequest::default()).await?;
    let held = held.into_inner().grants;
    let now = banqiao_directory::Clock::system().now_s();
    let moment = |seconds| Some(Timestamp { seconds, nanos: 0 });
    for (client, methods) in [
        (format!("spiffe://{}/hrss/hall", city.domain), vec![]),
        (
            format!("spiffe://{}/hrss/card", other.domain),
            vec!["DeliverDocument".to_owned()],
        ),
    ] {
        let stands = |held: &Grant| held.client == client && held.service == PENSION;
        if held.iter().any(stands) {
            continue;
        }
        let grant = Grant {
            client,
            service: PENSION.to_owned(),
            methods,
            purposes: vec![PURPOSE.to_owned()],
            not_before: moment(now - 60),
            not_after: moment(now + GRANT_DAYS * 86_400),
            legal_basis: "社会保险经办条例第十二条; 国办发〔2009〕66号".to_owned(),
            request_number: "DEMO-2026-0002".to_owned(),
            ..Grant::default()
        };
        let grant = Some(grant);
        grants.add_grant(AddGrantRequest { grant }).await?;
    }
    Ok(())
}
