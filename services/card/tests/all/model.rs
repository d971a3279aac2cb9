//! The state machines against a simple reference, with callers at once, calls that break off, and restarts.
//!
//! A round sends a few requests at once through several replicas. Some are cut off on the way, and all replicas are closed and opened again
//! between rounds, as after a crash; what was cut off is sent again with its request id. Then there must be an order in which the
//! reference, one request after the other, gives exactly these answers and ends where the database stands.

use banqiao_card::{Cards, Part, Store};
use banqiao_kit::CallError;
use banqiao_proto::card::v1::{
    ActivateCardRequest, CancelCardRequest, CardFunction, CardRecord, CardState,
    IssueElectronicCardRequest, LiftLossRequest, LossKind, RenewCardRequest, ReplaceCardRequest,
    ReportLossRequest, ReportPinAttemptRequest, ResetPinRequest,
};
use futures_util::future::join_all;
use tokio_util::task::TaskTracker;

use crate::{
    lives::{self, reason},
    scene::{DAY, Scene, WEIHAI, apply_as, key, loss, report, verify_request},
};

/// The reference: a card as a few plain values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Model {
    states: [CardState; 2],
    /// End of a temporary loss.
    ends: [i64; 2],
    wrong: u32,
    electronic: bool,
    /// Whether it was renewed, and the new card is still sealed.
    renewed: bool,
}

/// What a caller sees: states, wrong PINs left, whether there is a new card; or the reason.
type Seen = Result<([CardState; 2], u32, bool), String>;

#[derive(Clone, Debug)]
enum Call {
    Activate(ActivateCardRequest),
    Cancel(CancelCardRequest),
    Issue(IssueElectronicCardRequest),
    Lift(LiftLossRequest),
    Loss(ReportLossRequest),
    Pin(ReportPinAttemptRequest),
    Renew(RenewCardRequest),
    Replace(ReplaceCardRequest),
    Reset(ResetPinRequest),
}

impl Call {
    /// What is asked for, without whose card it is.
    fn name(&self) -> String {
        match self {
            Self::Activate(request) => format!("activate {}", request.function),
            Self::Cancel(_) => "cancel".into(),
            Self::Issue(_) => "issue".into(),
            Self::Lift(request) => format!("lift {}", request.function),
            Self::Loss(request) => format!("loss {} {:?}", request.function, request.kind()),
            Self::Pin(request) => format!("pin {}", request.correct),
            Self::Renew(_) => "renew".into(),
            Self::Replace(request) => format!("replace {}", request.reason),
            Self::Reset(_) => "reset".into(),
        }
    }
}

const TERMS: [i64; 2] = [10 * DAY, 5 * DAY];

const fn at(function: i32) -> usize {
    if function == 2 { 1 } else { 0 }
}

impl Model {
    fn settle(&mut self, now: i64) {
        for at in 0..2 {
            if self.states[at] == CardState::TempLost && self.ends[at] <= now {
                self.states[at] = CardState::Normal;
            }
        }
    }

    /// One request, alone.
    fn take(&mut self, call: &Call, now: i64) -> Seen {
        use CardState::{Cancelled, Locked, Lost, Normal, Sealed, TempLost};
        self.settle(now);
        let refused = Err("TRANSITION_NOT_ALLOWED".to_owned());
        let social = self.states[0];
        let (mut left, mut new_card) = (0, false);
        match call {
            Call::Activate(request) => match &mut self.states[at(request.function)] {
                state if *state == Sealed => *state = Normal,
                _ => return refused,
            },
            Call::Lift(request) => match &mut self.states[at(request.function)] {
                state if matches!(*state, TempLost | Lost) => *state = Normal,
                _ => return refused,
            },
            Call::Loss(request) => {
                let at = at(request.function);
                let state = &mut self.states[at];
                match (request.kind(), *state) {
                    (LossKind::Temporary, Normal) => {
                        (*state, self.ends[at]) = (TempLost, now + TERMS[at]);
                    }
                    (LossKind::Temporary, TempLost | Lost) | (LossKind::Formal, Lost) => {}
                    (LossKind::Formal, Normal | TempLost) => *state = Lost,
                    _ => return refused,
                }
                // A report answers with the one state.
                return Ok(([*state, *state], 0, false));
            }
            Call::Cancel(_) if self.states == [Cancelled; 2] => return refused,
            Call::Cancel(_) => self.states = [Cancelled; 2],
            Call::Pin(request) => match social {
                Locked => {}
                Normal => {
                    self.wrong = if request.correct { 0 } else { self.wrong + 1 };
                    left = 6 - self.wrong;
                    if left == 0 {
                        (self.states[0], self.wrong) = (Locked, 0);
                    }
                }
                _ => return refused,
            },
            Call::Reset(_) if !matches!(social, Normal | Locked) => return refused,
            Call::Reset(_) => (self.states[0], self.wrong) = (Normal, 0),
            Call::Issue(_) if social != Normal => return refused,
            Call::Issue(_) if self.electronic => return Err("ELECTRONIC_LINKED".into()),
            Call::Issue(_) => self.electronic = true,
            Call::Renew(_) if !matches!(social, Normal | Locked) => return refused,
            Call::Renew(_) if self.renewed => return Err("SUCCESSOR_ISSUED".into()),
            Call::Renew(_) => (self.renewed, new_card) = (true, true),
            Call::Replace(request) => {
                match (request.reason, social) {
                    (_, Cancelled) => return refused,
                    (1, Lost) | (2, Normal | Locked) => {}
                    (1, _) => return Err("REPORT_LOSS_FIRST".into()),
                    _ => return refused,
                }
                if self.renewed {
                    return Err("SUCCESSOR_ISSUED".into());
                }
                (self.states, new_card) = ([Cancelled; 2], true);
                (self.electronic, self.renewed) = (false, true);
            }
        }
        Ok((self.states, left, new_card))
    }
}

async fn send(cards: &Cards, call: &Call) -> Seen {
    let applied = match call {
        Call::Loss(request) => {
            return match report(cards, request).await {
                Ok(answer) => Ok(([answer.state(), answer.state()], 0, false)),
                Err(error) => Err(reason(&CallError::from(error))),
            };
        }
        Call::Activate(request) => apply_as(cards, request, WEIHAI).await,
        Call::Cancel(request) => apply_as(cards, request, WEIHAI).await,
        Call::Issue(request) => apply_as(cards, request, WEIHAI).await,
        Call::Lift(request) => apply_as(cards, request, WEIHAI).await,
        Call::Pin(request) => apply_as(cards, request, WEIHAI).await,
        Call::Renew(request) => apply_as(cards, request, WEIHAI).await,
        Call::Replace(request) => apply_as(cards, request, WEIHAI).await,
        Call::Reset(request) => apply_as(cards, request, WEIHAI).await,
    };
    let applied = applied.map_err(|error| reason(&error))?;
    let outcome = applied.outcome.unwrap();
    let states = [outcome.social_state(), outcome.financial_state()];
    Ok((states, applied.attempts_left, applied.new_card.is_some()))
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

    fn call(&mut self, scene: &Scene, record: &CardRecord) -> Call {
        let function = if self.draw(4) == 0 {
            CardFunction::Financial.into()
        } else {
            CardFunction::Social.into()
        };
        match self.draw(24) {
            0..=2 => Call::Activate(ActivateCardRequest {
                function,
                ..lives::activate(scene, record)
            }),
            3..=6 => Call::Lift(LiftLossRequest {
                function,
                ..lives::lift(scene, record)
            }),
            7..=11 => {
                let kind = if self.draw(3) == 0 {
                    LossKind::Formal
                } else {
                    LossKind::Temporary
                };
                Call::Loss(ReportLossRequest {
                    function,
                    ..loss(record, kind)
                })
            }
            12..=18 => Call::Pin(lives::pin(record, self.draw(8) == 0)),
            19 => Call::Reset(lives::reset(scene, record)),
            20 => Call::Issue(lives::issue(scene, record)),
            21 => Call::Renew(lives::renew(scene, record)),
            22 => {
                let why = if self.draw(2) == 0 { 1 } else { 2 };
                Call::Replace(lives::replace(scene, record, why))
            }
            _ if self.draw(3) == 0 => Call::Cancel(lives::cancel(scene, record)),
            _ => Call::Pin(lives::pin(record, false)),
        }
    }
}

/// How the reference stands after each order of the calls that gives these answers and this end: nothing when there is none, several where
/// the answers leave open which came first.
fn explained(
    model: Model,
    now: i64,
    calls: &[(Call, Seen)],
    end: [CardState; 2],
    stands: &mut Vec<Model>,
) {
    if calls.is_empty() {
        let mut shown = model;
        shown.settle(now);
        if shown.states == end && !stands.contains(&model) {
            stands.push(model);
        }
        return;
    }
    for first in 0..calls.len() {
        let mut rest = calls.to_vec();
        let (call, seen) = rest.remove(first);
        let mut model = model;
        if model.take(&call, now) == seen {
            explained(model, now, &rest, end, stands);
        }
    }
}

/// Sends calls at once, cuts some of them off, restarts, and sends those again.
async fn round(scene: &Scene, dice: &mut Dice, calls: Vec<Call>) -> Vec<(Call, Seen)> {
    let replicas = [scene.replica().await, scene.replica().await];
    let tasks = TaskTracker::new();
    let mut sent = Vec::new();
    for (n, call) in calls.into_iter().enumerate() {
        let (cards, own) = (replicas[n % 2].clone(), call.clone());
        let task = tasks.spawn(async move { send(&cards, &own).await });
        sent.push((call, task, dice.draw(4) == 0));
    }
    for (_, task, cut) in &sent {
        if *cut {
            for _ in 0..dice.draw(40) {
                tokio::task::yield_now().await;
            }
            task.abort();
        }
    }
    let mut answers = Vec::new();
    let mut again = Vec::new();
    for (call, task, _) in sent {
        match task.await {
            Ok(seen) => answers.push((call, seen)),
            Err(_) => again.push(call),
        }
    }
    for replica in replicas {
        replica.store().close().await;
    }
    let restarted = scene.replica().await;
    let seen = join_all(again.iter().map(|call| send(&restarted, call))).await;
    answers.extend(again.into_iter().zip(seen));
    // Whoever repeats any of them learns the same again, and changes nothing.
    for (call, seen) in &answers {
        if seen.is_ok() {
            assert_eq!(send(&restarted, call).await, *seen, "repeated: {call:?}");
        }
    }
    restarted.store().close().await;
    answers
}

async fn check_history(store: &Store) {
    let all = store.changes(0, 100_000).await.unwrap();
    let mut stands = std::collections::HashMap::new();
    for (seq, change) in (1..).zip(&all) {
        assert_eq!(change.seq, seq, "without a gap");
        let place = (change.number.clone(), change.part);
        let before = stands.insert(place, change.to);
        // An electronic card may be linked again after it was gone.
        if change.part != Part::Electronic {
            assert_eq!(
                before, change.from,
                "each change begins where the last one ended"
            );
        }
    }
}

/// One case: a card from a state on, through rounds of a few calls at once.
async fn case(scene: &Scene, seed: u64, start: CardState) {
    let mut dice = Dice(seed);
    let record = scene.one_in(start, CardState::Normal).await;
    // Valid for a month, so that it may be renewed, and time stays within it.
    let today = banqiao_kit::civil_date(scene.cards.clock().now_us());
    let record = CardRecord {
        expires_on: (today + jiff::Span::new().days(50)).to_string(),
        ..record
    };
    scene.import(std::slice::from_ref(&record)).await;
    let mut models = vec![Model {
        states: [start, CardState::Normal],
        ends: [scene.cards.clock().now_us() + TERMS[0], 0],
        wrong: 0,
        electronic: false,
        renewed: false,
    }];
    for turn in 0..6 {
        scene
            .clock
            .advance_us(i64::try_from(dice.draw(4)).unwrap() * 2 * DAY);
        let now = scene.cards.clock().now_us();
        let count = 1 + dice.draw(4);
        let calls = (0..count).map(|_| dice.call(scene, &record)).collect();
        let answers = round(scene, &mut dice, calls).await;
        let mut request = verify_request(&record);
        request.key = key(&record);
        let shown = scene.verify(&request).await;
        let end = [shown.social_state(), shown.financial_state()];
        let mut stands = Vec::new();
        for model in &models {
            explained(*model, now, &answers, end, &mut stands);
        }
        let told = || answers.iter().map(|(call, seen)| (call.name(), seen));
        assert!(
            !stands.is_empty(),
            "seed {seed}, turn {turn}: {models:?} cannot end in {end:?} by {:?}",
            told().collect::<Vec<_>>()
        );
        models = stands;
    }
}

pub(crate) async fn callers_at_once_and_restarts_agree_with_the_reference(scene: Scene) {
    scene.stock(200).await;
    let starts = [
        CardState::Sealed,
        CardState::Normal,
        CardState::TempLost,
        CardState::Lost,
        CardState::Locked,
        CardState::Normal,
    ];
    for (seed, start) in (1..=18).zip(starts.into_iter().cycle()) {
        case(&scene, seed * 0x9e37_79b9, start).await;
    }
    scene.cards.end_temporary_losses().await.unwrap();
    check_history(scene.cards.store()).await;
}
