//! Random decisions at both cities, over a wire that loses, repeats and delays, with restarts: compared with a simple model.

use std::collections::VecDeque;

use banqiao_kit::Parcel;
use banqiao_proto::card::v1::{
    TransferState as State, advance_transfer_request::Decision, deliver_document_request::Document,
};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use uuid::Uuid;

use crate::{
    pension_scene::{Cities, City, TOTAL, because, complete, issue_letter, settle, table},
    scene::DAY,
};

/// Random runs; each has some dozens of moves at two databases.
const RUNS: usize = 16;

#[derive(Clone, Copy, Debug)]
enum Move {
    IssueLetter,
    Refuse,
    /// The table's total, less the right one.
    TransferOut(i64),
    Decline,
    /// The credited amount, less the right one.
    Funds(i64),
    Dispute,
    Withdraw,
    Complete,
    /// The oldest document goes to the old city, or to the new one.
    Carry(bool, Fate),
    /// Something that was carried before comes once more.
    Replay(usize),
    Restart,
    Days(i64),
}

#[derive(Clone, Copy, Debug)]
enum Fate {
    Arrives,
    LostUnderway,
    AnswerLost,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let fate = prop_oneof![
        4 => Just(Fate::Arrives),
        1 => Just(Fate::LostUnderway),
        1 => Just(Fate::AnswerLost),
    ];
    let one = prop_oneof![
        3 => Just(Move::IssueLetter),
        1 => Just(Move::Refuse),
        4 => prop_oneof![3 => Just(0), 1 => Just(100_i64)].prop_map(Move::TransferOut),
        1 => Just(Move::Decline),
        4 => prop_oneof![3 => Just(0), 1 => Just(100_i64)].prop_map(Move::Funds),
        1 => Just(Move::Dispute),
        1 => Just(Move::Withdraw),
        3 => Just(Move::Complete),
        14 => (any::<bool>(), fate).prop_map(|(to_old, fate)| Move::Carry(to_old, fate)),
        3 => any::<usize>().prop_map(Move::Replay),
        1 => Just(Move::Restart),
        1 => (0..20_i64).prop_map(Move::Days),
    ];
    proptest::collection::vec(one, 20..60)
}

/// What a document says, to the model.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Paper {
    Letter,
    Table(i64),
    Decline,
    Correction,
    Completion,
    Withdrawal,
}

/// The process as one reads it in the notice, without tables, databases or exchanges. A transition that is not written here
/// leaves everything as it is.
#[derive(Debug)]
struct Model {
    new: State,
    old: Option<State>,
    table: Option<i64>,
    funds: Option<i64>,
    to_old: VecDeque<Paper>,
    to_new: VecDeque<Paper>,
    /// The oldest paper of a direction has arrived, but its sender does not know.
    answered: [Option<Option<State>>; 2],
}

impl Model {
    const fn begin() -> Self {
        Self {
            new: State::UnderReview,
            old: None,
            table: None,
            funds: None,
            to_old: VecDeque::new(),
            to_new: VecDeque::new(),
            answered: [None, None],
        }
    }

    /// A decision; whether it is possible.
    fn decide(&mut self, act: Move) -> bool {
        let (new, old) = (self.new, self.old);
        let with_old = matches!(
            new,
            State::AwaitingTransferOut
                | State::AwaitingFunds
                | State::AwaitingTable
                | State::Disputed
        );
        match act {
            Move::IssueLetter if new == State::UnderReview => {
                self.new = State::LetterIssued;
                self.to_old.push_back(Paper::Letter);
            }
            Move::Refuse if new == State::UnderReview => self.new = State::Refused,
            Move::Withdraw if new == State::UnderReview => self.new = State::Withdrawn,
            Move::Withdraw if matches!(new, State::LetterIssued | State::AwaitingTransferOut) => {
                self.new = State::Withdrawing;
                self.to_old.push_back(Paper::Withdrawal);
            }
            Move::Funds(off) if with_old => {
                self.funds = Some(off);
                self.weigh(State::AwaitingTable);
            }
            // A different amount is news at any time before the end.
            Move::Funds(off) if new == State::Completing && self.table != Some(off) => {
                self.funds = Some(off);
                self.weigh(State::AwaitingTable);
            }
            Move::Dispute if matches!(new, State::AwaitingFunds | State::Completing) => {
                self.new = State::Disputed;
                self.to_old.push_back(Paper::Correction);
            }
            Move::Complete if new == State::Completing => {
                self.new = State::Completed;
                self.to_old.push_back(Paper::Completion);
            }
            Move::TransferOut(off)
                if matches!(old, Some(State::TransferringOut | State::Disputed)) =>
            {
                self.old = Some(State::TransferredOut);
                self.to_new.push_back(Paper::Table(off));
            }
            Move::Decline if old == Some(State::TransferringOut) => {
                self.old = Some(State::Declined);
                self.to_new.push_back(Paper::Decline);
            }
            _ => return false,
        }
        true
    }

    /// Table and funds together.
    fn weigh(&mut self, alone: State) {
        match (self.table, self.funds) {
            (Some(table), Some(funds)) if table == funds => self.new = State::Completing,
            (Some(_), Some(_)) => {
                self.new = State::Disputed;
                self.to_old.push_back(Paper::Correction);
            }
            _ => self.new = alone,
        }
    }

    /// The oldest paper of a direction arrives, unless it has already; what the receiver answers: its state, or that it will not take it.
    fn arrive(&mut self, to_old: bool) {
        let side = usize::from(to_old);
        if self.answered[side].is_some() {
            return;
        }
        let queue = if to_old { &self.to_old } else { &self.to_new };
        let Some(paper) = queue.front().copied() else {
            return;
        };
        let taken = if to_old {
            self.at_old(paper)
        } else {
            self.at_new(paper)
        };
        let state = if to_old { self.old } else { Some(self.new) };
        self.answered[side] = Some(state.filter(|_| taken));
    }

    fn at_old(&mut self, paper: Paper) -> bool {
        let next = match (paper, self.old) {
            (Paper::Letter, None) => State::TransferringOut,
            (Paper::Withdrawal, Some(State::TransferringOut)) => State::Withdrawn,
            (Paper::Withdrawal, Some(state)) => state,
            (Paper::Correction, Some(State::TransferredOut | State::Disputed)) => State::Disputed,
            (
                Paper::Completion,
                Some(State::TransferredOut | State::Disputed | State::TransferringOut),
            ) => State::Completed,
            _ => return false,
        };
        self.old = Some(next);
        true
    }

    fn at_new(&mut self, paper: Paper) -> bool {
        let early = matches!(
            self.new,
            State::LetterIssued | State::AwaitingTransferOut | State::Withdrawing
        );
        let later = matches!(
            self.new,
            State::AwaitingFunds | State::AwaitingTable | State::Completing | State::Disputed
        );
        match paper {
            Paper::Table(off) if early || later => {
                self.table = Some(off);
                self.weigh(State::AwaitingFunds);
            }
            Paper::Decline if early || self.new == State::AwaitingTable => {
                self.new = State::Declined;
            }
            _ => return false,
        }
        true
    }

    /// The sender of the oldest paper of a direction learns what became of it.
    fn learn(&mut self, to_old: bool) {
        let Some(answer) = self.answered[usize::from(to_old)].take() else {
            return;
        };
        let queue = if to_old {
            &mut self.to_old
        } else {
            &mut self.to_new
        };
        match (queue.pop_front(), answer) {
            (Some(Paper::Letter), Some(_)) if self.new == State::LetterIssued => {
                self.new = State::AwaitingTransferOut;
            }
            (Some(Paper::Withdrawal), answer) if self.new == State::Withdrawing => {
                self.new = match answer {
                    Some(State::Withdrawn) => State::Withdrawn,
                    _ => State::AwaitingTransferOut,
                };
            }
            (Some(Paper::Table(_)), None) if self.old == Some(State::TransferredOut) => {
                self.old = Some(State::TransferringOut);
            }
            _ => {}
        }
    }
}

/// One random run.
struct Run {
    cities: Cities,
    transfer: Uuid,
    model: Model,
    /// Everything that was carried, and whether to the old city.
    carried: Vec<(Parcel, bool)>,
}

impl Run {
    fn ends(&self, to_old: bool) -> (&City, &City) {
        let Cities { new, old, .. } = &self.cities;
        if to_old { (new, old) } else { (old, new) }
    }

    async fn carry(&mut self, to_old: bool, fate: Fate) {
        let (from, to) = self.ends(to_old);
        let Some(parcel) = from.waiting().await else {
            let queue = if to_old {
                &self.model.to_old
            } else {
                &self.model.to_new
            };
            assert!(queue.is_empty(), "a document was lost: {:?}", self.model);
            return;
        };
        if !matches!(fate, Fate::LostUnderway) {
            let answer = to.receive(&parcel, from).await;
            self.model.arrive(to_old);
            if matches!(fate, Fate::Arrives) {
                let (from, _) = self.ends(to_old);
                settle(from, &parcel, answer).await;
                self.model.learn(to_old);
            }
            self.carried.push((parcel, to_old));
        }
    }

    async fn play(&mut self, act: Move) {
        let Cities { new, old, clock } = &self.cities;
        let transfer = self.transfer;
        let decision = match act {
            Move::Carry(to_old, fate) => return self.carry(to_old, fate).await,
            Move::Replay(which) => {
                if let Some(index) = which.checked_rem(self.carried.len()) {
                    let (parcel, to_old) = &self.carried[index];
                    let (from, to) = self.ends(*to_old);
                    // What was taken is answered again; what was not may be taken now only if it still waits.
                    if from.waiting().await.is_none_or(|first| first != *parcel)
                        && let Ok(answer) = to.receive(parcel, from).await
                    {
                        assert!(answer.repeated, "{parcel:?}");
                    }
                }
                return;
            }
            Move::Restart => {
                self.cities = self.cities.restarted().await;
                return;
            }
            Move::Days(days) => return clock.advance_us(days * DAY),
            Move::Funds(off) => {
                let done = new.funds(transfer, TOTAL + off).await;
                assert_eq!(
                    done.is_ok(),
                    self.model.decide(act),
                    "{act:?} {:?}",
                    self.model
                );
                return;
            }
            Move::TransferOut(off) => {
                let mut table = table();
                table.account_interest_fen += off;
                table.total_fen += off;
                Decision::TransferOut(table)
            }
            Move::IssueLetter => issue_letter(),
            Move::Refuse => Decision::Refuse(because()),
            Move::Decline => Decision::Decline(because()),
            Move::Dispute => Decision::Dispute(because()),
            Move::Withdraw => Decision::Withdraw(because()),
            Move::Complete => complete(),
        };
        let city = match act {
            Move::TransferOut(_) | Move::Decline => old,
            _ => new,
        };
        let done = city.advance(transfer, decision).await;
        assert_eq!(
            done.is_ok(),
            self.model.decide(act),
            "{act:?} {done:?} {:?}",
            self.model
        );
    }

    async fn agrees(&self) {
        let Cities { new, old, .. } = &self.cities;
        assert_eq!(
            new.state(self.transfer).await,
            Some(self.model.new),
            "{:?}",
            self.model
        );
        assert_eq!(
            old.state(self.transfer).await,
            self.model.old,
            "{:?}",
            self.model
        );
    }
}

pub(crate) async fn random_cities_agree_with_a_model(cities: Cities) {
    let mut runner = TestRunner::deterministic();
    let mut cities = Some(cities);
    for _ in 0..RUNS {
        let script = moves().new_tree(&mut runner).unwrap().current();
        let cities_now = cities.take().unwrap();
        let mut run = Run {
            transfer: cities_now.applied().await,
            cities: cities_now,
            model: Model::begin(),
            carried: Vec::new(),
        };
        for act in &script {
            run.play(*act).await;
            run.agrees().await;
        }
        finish(&mut run).await;
        cities = Some(run.cities);
    }
}

/// Once everything arrives and everybody does his part, both sides end, and in the same way.
async fn finish(run: &mut Run) {
    for _ in 0..8 {
        for to_old in [true, false, true, false] {
            while run.ends(to_old).0.waiting().await.is_some() {
                run.carry(to_old, Fate::Arrives).await;
            }
        }
        for act in [
            Move::IssueLetter,
            Move::TransferOut(0),
            Move::Carry(false, Fate::Arrives),
            Move::Funds(0),
            Move::Complete,
        ] {
            run.play(act).await;
            run.agrees().await;
        }
    }
    let (new, old) = (run.model.new, run.model.old);
    match new {
        State::Refused => assert_eq!(old, None),
        State::Withdrawn => assert!(matches!(old, None | Some(State::Withdrawn)), "{old:?}"),
        State::Completed | State::Declined => assert_eq!(old, Some(new)),
        open => panic!("{open:?} does not end: {:?}", run.model),
    }
    // Step 4 never began without both.
    let events = run.cities.new.codes(run.transfer).await;
    if new == State::Completed {
        let at = |code: &str| events.iter().any(|event| event == code);
        assert!(at("table-complete") || at("funds-complete"), "{events:?}");
    }
    let parcels = [&run.cities.new, &run.cities.old];
    for city in parcels {
        assert_eq!(city.waiting().await, None);
    }
}

/// The model knows every kind of document, so that a new one cannot be forgotten.
const _: fn(&Document) -> Paper = |document| match document {
    Document::ContactLetter(_) => Paper::Letter,
    Document::InformationTable(table) => Paper::Table(table.total_fen - TOTAL),
    Document::DeclineNotice(_) => Paper::Decline,
    Document::CorrectionRequest(_) => Paper::Correction,
    Document::CompletionNotice(_) => Paper::Completion,
    Document::Withdrawal(_) => Paper::Withdrawal,
};
