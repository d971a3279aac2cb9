//! Eligibility against a simple reference, with callers at once, calls that break off, and restarts.
//!
//! As for the life of cards: a round sends a few requests about one person at once through two replicas, cuts some of them off, closes both,
//! and sends what was cut off again with its request id. Then there must be an order in which the reference, one request after the
//! other, gives exactly these answers and ends where the service stands.

use banqiao_card::{
    LineOutcome,
    eligibility::{
        BENEFICIARY_COLUMNS, BENEFICIARY_SHEET, Eligibility, EligibilityServer, EligibilityTerms,
        EligibilityWatches, beneficiary_line,
    },
};
use banqiao_kit::{SheetWriter, read_csv};
use banqiao_proto::card::v1::{
    Beneficiary, CheckEligibilityRequest, ConcludeInvestigationRequest, EligibilityEventKind,
    EligibilityMethod, EligibilityResult, ImportBeneficiariesRequest, InsuranceScheme,
    InvestigationOutcome, ListEligibilityHistoryRequest, ListInvestigationsRequest, PaymentState,
    ReportLifeRequest, ReportLossSignRequest, ReportUnreachableRequest,
    eligibility_service_server::EligibilityService,
};
use futures_util::future::join_all;
use jiff::{ToSpan, civil::Date};
use tokio_util::task::TaskTracker;
use tonic::Status;
use uuid::Uuid;

use crate::{
    eligibility::{by_data, life, paid, paused, reason, sign},
    entitlements::{HALL, TODAY, WEIHAI, cities, from, person},
    scene::{BRISK, DAY, Scene, qingdao},
};

/// The reference: a person as a few plain values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Model {
    /// Newest check that found life, and whether in person.
    confirmed: Option<(Date, bool)>,
    /// What stands against the person: whether it is a sign of loss, and its day.
    against: Option<(bool, Date)>,
    /// An open investigation: whether it was open when the round began.
    open: Option<bool>,
    /// State, and day by which a check is due.
    payment: Option<(PaymentState, Date)>,
    /// An instruction to resume is not carried out yet.
    instructed: bool,
}

/// What a caller sees.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    Instructed(bool),
    Opened(bool),
    Recorded,
    Line(&'static str),
    Refused(String),
}

#[derive(Clone, Debug)]
enum Call {
    Life(ReportLifeRequest, bool),
    Sign(ReportLossSignRequest),
    Unreached(ReportUnreachableRequest),
    /// Of the investigation that was open when the round began.
    Conclude(ConcludeInvestigationRequest),
    Import(Beneficiary),
}

/// How a person stands, as the service tells.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Standing {
    result: EligibilityResult,
    open: bool,
    payment: Option<(PaymentState, Date)>,
}

fn day(text: &str) -> Date {
    text.parse().unwrap()
}

impl Model {
    fn due(&mut self) {
        let Some((state, due)) = &mut self.payment else {
            return;
        };
        if let (None, Some((checked, _))) = (self.against, self.confirmed)
            && *state != PaymentState::Stopped
        {
            *due = (*due).max(checked + 12.months());
        }
    }

    fn resume(&mut self) -> bool {
        let unpaid = self
            .payment
            .is_some_and(|(state, _)| state != PaymentState::Paying);
        let instructs = unpaid && self.against.is_none() && !self.instructed;
        self.instructed |= instructs;
        instructs
    }

    /// One request, alone.
    fn take(&mut self, call: &Call) -> Seen {
        match call {
            Call::Life(request, in_person) => {
                let on = day(&request.verified_on);
                self.confirmed = self.confirmed.max(Some((on, *in_person)));
                let cleared = |(sign, since): (bool, Date)| on >= since && (!sign || *in_person);
                if self.against.is_some_and(cleared) {
                    (self.against, self.open) = (None, None);
                }
                let instructed = self.resume();
                self.due();
                Seen::Instructed(instructed)
            }
            Call::Sign(request) => {
                let on = day(&request.noticed_on);
                let seen = |(checked, in_person): (Date, bool)| in_person && checked > on;
                if self.confirmed.is_some_and(seen) {
                    return Seen::Opened(false);
                }
                let since = match self.against {
                    Some((true, since)) => since.max(on),
                    _ => on,
                };
                self.against = Some((true, since));
                let paid = self
                    .payment
                    .is_some_and(|(state, _)| state != PaymentState::Stopped);
                let opens = paid && self.open.is_none();
                if opens {
                    self.open = Some(false);
                }
                Seen::Opened(opens)
            }
            Call::Unreached(request) => {
                let on = day(&request.tried_on);
                let reached = self.confirmed.is_some_and(|(checked, _)| checked >= on);
                let more = self.against.is_some_and(|(sign, since)| sign || since > on);
                if !reached && !more {
                    self.against = Some((false, on));
                }
                Seen::Recorded
            }
            Call::Conclude(_) if self.open != Some(true) => {
                Seen::Refused("INVESTIGATION_NOT_OPEN".to_owned())
            }
            Call::Conclude(request) => {
                self.open = None;
                if request.outcome() == InvestigationOutcome::LossEstablished {
                    return Seen::Instructed(false);
                }
                self.against = None;
                let instructed = self.resume();
                self.due();
                Seen::Instructed(instructed)
            }
            Call::Import(line) => self.import(line),
        }
    }

    fn import(&mut self, line: &Beneficiary) -> Seen {
        let before = *self;
        let state = line.payment_state();
        self.payment = Some((state, day(&line.due_on)));
        self.instructed &= state != PaymentState::Paying;
        let sign = self.against.is_some_and(|(sign, _)| sign);
        if sign && before.payment.is_none() && state != PaymentState::Stopped {
            self.open = Some(false);
        }
        self.due();
        Seen::Line(match before.payment {
            None => "created",
            Some(_) if before == *self => "unchanged",
            Some(_) => "updated",
        })
    }

    fn standing(&self, today: Date) -> Standing {
        let result = match (self.against, self.confirmed) {
            (Some((true, _)), _) => EligibilityResult::LostSuspected,
            (Some((false, _)), _) => EligibilityResult::Unreachable,
            (None, Some((checked, _))) if checked + 12.months() >= today => {
                EligibilityResult::Confirmed
            }
            _ => EligibilityResult::Unspecified,
        };
        Standing {
            result,
            open: self.open.is_some(),
            payment: self.payment,
        }
    }
}

/// A service of the city, as one of its replicas.
struct Replica {
    cards: banqiao_card::Cards,
    eligibility: Eligibility,
    server: EligibilityServer,
}

impl Replica {
    async fn start(scene: &Scene) -> Self {
        let cards = scene.replica().await;
        let eligibility = Eligibility::new(
            cards.store(),
            qingdao(),
            scene.clock.clock(),
            EligibilityTerms::DEFAULT,
        );
        let watches = EligibilityWatches::new(&eligibility, BRISK, scene.stopping.clone());
        let server = EligibilityServer::new(eligibility.clone(), watches, cities());
        Self {
            cards,
            eligibility,
            server,
        }
    }
}

fn refused(status: &Status) -> Seen {
    Seen::Refused(reason(status))
}

async fn send(server: &EligibilityServer, eligibility: &Eligibility, call: &Call) -> Seen {
    match call.clone() {
        Call::Life(request, _) => match server.report_life(from(WEIHAI, request)).await {
            Ok(answer) => Seen::Instructed(answer.into_inner().resumption_instructed),
            Err(status) => refused(&status),
        },
        Call::Sign(request) => match server.report_loss_sign(from(WEIHAI, request)).await {
            Ok(answer) => Seen::Opened(!answer.into_inner().investigation.is_empty()),
            Err(status) => refused(&status),
        },
        Call::Unreached(request) => match server.report_unreachable(from(WEIHAI, request)).await {
            Ok(_) => Seen::Recorded,
            Err(status) => refused(&status),
        },
        Call::Conclude(request) => match server.conclude_investigation(from(HALL, request)).await {
            Ok(answer) => Seen::Instructed(answer.into_inner().resumption_instructed),
            Err(status) => refused(&status),
        },
        Call::Import(line) => {
            let line = ImportBeneficiariesRequest {
                line: 1,
                beneficiary: Some(line),
            };
            match eligibility.import(&[line], None).await.unwrap().remove(0) {
                LineOutcome::Created => Seen::Line("created"),
                LineOutcome::Updated => Seen::Line("updated"),
                LineOutcome::Unchanged => Seen::Line("unchanged"),
                LineOutcome::Refused(faults) => panic!("{faults:?}"),
            }
        }
    }
}

struct Dice(u64);

impl Dice {
    fn draw(&mut self, limit: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    /// A call about a person; `open` is the investigation that may be concluded.
    fn call(&mut self, index: u32, today: Date, open: Option<&str>) -> Call {
        let on = today - i64::try_from(self.draw(6)).unwrap().days();
        match self.draw(16) {
            0..=2 => Call::Life(life(index, on), true),
            3..=5 => Call::Life(by_data(index, on), false),
            6..=8 => Call::Sign(sign(index, on)),
            9..=10 => Call::Unreached(ReportUnreachableRequest {
                request_id: Uuid::now_v7().to_string(),
                social_security_number: person(index),
                scheme: InsuranceScheme::Pension.into(),
                method: EligibilityMethod::Office.into(),
                tried_on: on.to_string(),
                verifying_city: "371000".to_owned(),
                paying_city: "370200".to_owned(),
            }),
            11..=13 if open.is_some() => {
                let outcome = if self.draw(2) == 0 {
                    InvestigationOutcome::Entitled
                } else {
                    InvestigationOutcome::LossEstablished
                };
                Call::Conclude(ConcludeInvestigationRequest {
                    request_id: Uuid::now_v7().to_string(),
                    investigation: open.unwrap_or_default().to_owned(),
                    outcome: outcome.into(),
                    actor: "测试核查员".to_owned(),
                    reason: "seen at home".to_owned(),
                })
            }
            _ => self.line(index),
        }
    }

    fn line(&mut self, index: u32) -> Call {
        const SINCE: &str = "2026-11-01";
        let line = match self.draw(5) {
            0..=1 => paid(index, "2026-12-31"),
            2..=3 => paused(index, SINCE, "2026-12-31"),
            _ => Beneficiary {
                payment_state: PaymentState::Stopped.into(),
                ..paused(index, SINCE, "2026-12-31")
            },
        };
        Call::Import(line)
    }
}

/// How the reference may stand after some order of the calls that gives these answers and this end.
fn explained(
    model: Model,
    calls: &[(Call, Seen)],
    end: &(Standing, Date),
    stands: &mut Vec<Model>,
) {
    if calls.is_empty() {
        if model.standing(end.1) == end.0 && !stands.contains(&model) {
            stands.push(model);
        }
        return;
    }
    for first in 0..calls.len() {
        let mut rest = calls.to_vec();
        let (call, seen) = rest.remove(first);
        let mut model = model;
        if model.take(&call) == seen {
            explained(model, &rest, end, stands);
        }
    }
}

/// Sends calls at once, cuts some of them off, restarts, and sends those again. An import has no request id: it is not cut off.
/// The restarted service comes with the answers.
async fn round(scene: &Scene, dice: &mut Dice, calls: Vec<Call>) -> (Vec<(Call, Seen)>, Replica) {
    let replicas = [Replica::start(scene).await, Replica::start(scene).await];
    let tasks = TaskTracker::new();
    let mut sent = Vec::new();
    for (n, call) in calls.into_iter().enumerate() {
        let replica = &replicas[n % 2];
        let (server, eligibility) = (replica.server.clone(), replica.eligibility.clone());
        let own = call.clone();
        let task = tasks.spawn(async move { send(&server, &eligibility, &own).await });
        let cut = !matches!(call, Call::Import(_)) && dice.draw(4) == 0;
        sent.push((call, task, cut));
    }
    for (_, task, cut) in &sent {
        if *cut {
            for _ in 0..dice.draw(40) {
                tokio::task::yield_now().await;
            }
            task.abort();
        }
    }
    let (mut answers, mut again) = (Vec::new(), Vec::new());
    for (call, task, _) in sent {
        match task.await {
            Ok(seen) => answers.push((call, seen)),
            Err(_) => again.push(call),
        }
    }
    for replica in replicas {
        replica.cards.store().close().await;
    }
    let restarted = Replica::start(scene).await;
    let (server, eligibility) = (&restarted.server, &restarted.eligibility);
    let seen = join_all(again.iter().map(|call| send(server, eligibility, call))).await;
    answers.extend(again.into_iter().zip(seen));
    // Whoever repeats a report or a conclusion learns the same again, and changes nothing.
    for (call, seen) in &answers {
        let repeatable = !matches!(call, Call::Import(_)) && !matches!(seen, Seen::Refused(_));
        if repeatable {
            assert_eq!(
                send(server, eligibility, call).await,
                *seen,
                "repeated: {call:?}"
            );
        }
    }
    (answers, restarted)
}

/// How a person stands, and the open investigation.
async fn standing(replica: &Replica, index: u32) -> (Standing, Option<String>) {
    let request = CheckEligibilityRequest {
        social_security_number: person(index),
        scheme: InsuranceScheme::Pension.into(),
    };
    let answer = replica
        .server
        .check_eligibility(from(WEIHAI, request))
        .await;
    let result = answer.unwrap().into_inner().verdict.unwrap().result();
    let request = from(HALL, ListInvestigationsRequest::default());
    let listed = replica.server.list_investigations(request).await.unwrap();
    let listed = listed.into_inner().investigations.into_iter();
    let own: Vec<_> = listed
        .filter(|one| one.social_security_number == person(index))
        .collect();
    assert!(own.len() < 2, "{own:?}");
    let open = own.first().map(|one| one.investigation.clone());
    let standing = Standing {
        result,
        open: open.is_some(),
        payment: payment(&replica.eligibility, index).await,
    };
    (standing, open)
}

/// The payment as an export writes it.
async fn payment(eligibility: &Eligibility, index: u32) -> Option<(PaymentState, Date)> {
    let mut writer = SheetWriter::csv(Vec::new(), BENEFICIARY_COLUMNS).unwrap();
    eligibility.export(&mut writer, |_| {}).await.unwrap();
    let (file, mut found) = (writer.finish().unwrap(), None);
    read_csv(&*file, &BENEFICIARY_SHEET, |row| {
        let line = beneficiary_line(1, &row.values).unwrap();
        let one = line.beneficiary.unwrap();
        if one.social_security_number == person(index) {
            found = Some((one.payment_state(), day(&one.due_on)));
        }
        true
    })
    .unwrap();
    found
}

async fn case(scene: &Scene, index: u32, today: &mut Date) {
    let mut dice = Dice(0x9e37_79b9 * u64::from(index + 1));
    let mut models = vec![Model {
        confirmed: None,
        against: None,
        open: None,
        payment: None,
        instructed: false,
    }];
    let mut open = None;
    for turn in 0..7 {
        for model in &mut models {
            model.open = model.open.map(|_| true);
        }
        let mut calls: Vec<_> = (0..2 + dice.draw(3))
            .map(|_| dice.call(index, *today, open.as_deref()))
            .collect();
        if turn == 1 {
            calls.push(dice.line(index));
        }
        let (answers, replica) = round(scene, &mut dice, calls).await;
        let (stands_now, investigation) = standing(&replica, index).await;
        replica.cards.store().close().await;
        open = investigation;
        let end = (stands_now, *today);
        let mut stands = Vec::new();
        for model in &models {
            explained(*model, &answers, &end, &mut stands);
        }
        assert!(
            !stands.is_empty(),
            "person {index}, turn {turn}: {models:?} cannot end in {end:?} by {answers:?}"
        );
        models = stands;
        let days = i64::try_from(dice.draw(3)).unwrap();
        scene.clock.advance_us(days * DAY);
        *today += days.days();
    }
}

/// Numbers without gaps, and of each investigation that opened at most one end.
async fn check_history(scene: &Scene, people: u32) {
    let replica = Replica::start(scene).await;
    let mut numbers = Vec::new();
    for index in 0..people {
        let request = ListEligibilityHistoryRequest {
            social_security_number: person(index),
            scheme: InsuranceScheme::Pension.into(),
            cursor: String::new(),
        };
        let answer = replica
            .server
            .list_eligibility_history(from(HALL, request))
            .await;
        let mut open = None;
        for entry in answer.unwrap().into_inner().entries {
            numbers.push(entry.cursor.parse::<u64>().unwrap());
            match entry.kind() {
                EligibilityEventKind::InvestigationOpened => {
                    assert_eq!(open.replace(entry.investigation), None);
                }
                EligibilityEventKind::InvestigationConcluded => {
                    assert_eq!(open.take(), Some(entry.investigation));
                }
                _ => {}
            }
        }
    }
    numbers.sort_unstable();
    let expected: Vec<_> = (1..=u64::try_from(numbers.len()).unwrap()).collect();
    assert_eq!(numbers, expected);
    replica.cards.store().close().await;
}

pub(crate) async fn checks_at_once_and_restarts_agree_with_the_reference(scene: Scene) {
    const PEOPLE: u32 = 8;
    let mut today = TODAY;
    for index in 0..PEOPLE {
        case(&scene, index, &mut today).await;
    }
    check_history(&scene, PEOPLE).await;
}
