use jiff::civil::date;
use proptest::prelude::*;

use super::*;

/// The transitions of the domain reference, written a second time as a matrix: rows are states, columns are events.
fn reference(from: State, event: Event) -> Option<State> {
    use Event::*;
    use State::*;
    match (from, event) {
        (Cancelled, _) => None,
        (_, Cancel) => Some(Cancelled),
        (Sealed, Activate) => Some(Normal),
        (Normal, ReportTemporaryLoss) => Some(TempLost),
        (TempLost, EndTemporaryLoss | LiftLoss) => Some(Normal),
        (Normal | TempLost, ReportLoss) => Some(Lost),
        (Lost, LiftLoss) => Some(Normal),
        (Normal, LockPin) => Some(Locked),
        (Locked, ResetPin) => Some(Normal),
        _ => None,
    }
}

const EVENTS: [Event; 8] = [
    Event::Activate,
    Event::Cancel,
    Event::EndTemporaryLoss,
    Event::LiftLoss,
    Event::LockPin,
    Event::ReportLoss,
    Event::ReportTemporaryLoss,
    Event::ResetPin,
];

#[test]
fn the_table_is_the_reference_and_says_where_each_row_comes_from() {
    for from in State::ALL {
        for event in EVENTS {
            assert_eq!(
                next(from, event),
                reference(from, event),
                "{from:?} {event:?}"
            );
        }
    }
    for (position, row) in TRANSITIONS.iter().enumerate() {
        assert!(!row.source.is_empty());
        let same = |other: &&Transition| other.from == row.from && other.event == row.event;
        assert_eq!(
            TRANSITIONS.iter().filter(same).count(),
            1,
            "row {position} stands twice"
        );
    }
}

#[test]
fn cancelled_is_terminal_and_nothing_is_sealed_again() {
    for state in State::ALL {
        assert_eq!(
            reachable(State::Cancelled, state),
            state == State::Cancelled
        );
        assert_eq!(reachable(state, State::Sealed), state == State::Sealed);
        assert!(reachable(state, State::Cancelled));
    }
    assert!(reachable(State::Locked, State::Lost));
}

#[test]
fn stored_states_have_the_numbers_of_the_proto() {
    for state in State::ALL {
        assert_eq!(State::of(state.shown()), Some(state));
    }
    assert_eq!(State::of(CardState::Expired), None);
    assert_eq!(State::of(CardState::Unspecified), None);
}

#[test]
fn expiry_is_shown_from_the_day_after_the_last() {
    let last = date(2026, 11, 23);
    for state in State::ALL {
        let standing = Standing::begin(state, i64::MAX, false);
        assert_eq!(standing.shown(last, last), state.shown());
        let expected = if state == State::Cancelled {
            CardState::Cancelled
        } else {
            CardState::Expired
        };
        assert_eq!(standing.shown(last, date(2026, 11, 24)), expected);
    }
}

#[test]
fn the_electronic_card_follows_the_physical_one() {
    for (social, expected) in [
        (CardState::Sealed, ElectronicCardState::Unusable),
        (CardState::Normal, ElectronicCardState::Usable),
        (CardState::TempLost, ElectronicCardState::ByHolderOnly),
        (CardState::Lost, ElectronicCardState::Unusable),
        (CardState::Locked, ElectronicCardState::ByHolderOnly),
        (CardState::Cancelled, ElectronicCardState::Unusable),
        (CardState::Expired, ElectronicCardState::Unusable),
    ] {
        assert_eq!(electronic_state(true, social), expected);
        assert_eq!(
            electronic_state(false, social),
            ElectronicCardState::Unspecified
        );
    }
}

/// What a report can meet in a run of the model.
#[derive(Clone, Debug)]
enum Step {
    Pass(i64),
    Report(LossKind),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0_i64..40).prop_map(Step::Pass),
        Just(Step::Report(LossKind::Temporary)),
        Just(Step::Report(LossKind::Formal)),
        Just(Step::Report(LossKind::Unspecified)),
    ]
}

const TERM: i64 = 20;

proptest! {
    /// The model knows only: the state, and when a temporary loss ends. Time passes and reports come in any order.
    #[test]
    fn reports_and_time_agree_with_a_model(
        start in prop::sample::select(State::ALL.to_vec()),
        steps in prop::collection::vec(step(), 0..40),
    ) {
        let mut now = 0;
        let mut standing = Standing::begin(start, TERM, false);
        let (mut state, mut end) = (start, TERM);
        for step in steps {
            match step {
                Step::Pass(time) => now += time,
                Step::Report(kind) => {
                    let report = standing.settled(now).report(kind, now + TERM);
                    let event = match kind {
                        LossKind::Temporary => Some(Event::ReportTemporaryLoss),
                        LossKind::Formal => Some(Event::ReportLoss),
                        LossKind::Unspecified => None,
                    };
                    match event.and_then(|event| reference(state, event)) {
                        Some(after) => {
                            state = after;
                            end = now + TERM;
                            let Report::Changes(changed) = report else {
                                panic!("{report:?} instead of a change to {after:?}");
                            };
                            prop_assert!(changed.is_reported());
                            standing = changed;
                        }
                        None => {
                            let blocked = match kind {
                                LossKind::Temporary => matches!(state, State::TempLost | State::Lost),
                                LossKind::Formal => state == State::Lost,
                                LossKind::Unspecified => false,
                            };
                            match report {
                                Report::Stands(stands) => {
                                    prop_assert!(blocked);
                                    prop_assert_eq!(stands.until_us(), standing.until_us());
                                    let same_kind = (kind == LossKind::Formal) == (state == State::Lost);
                                    prop_assert_eq!(
                                        stands.is_reported(),
                                        same_kind || standing.is_reported()
                                    );
                                    standing = stands;
                                }
                                other => prop_assert!(!blocked && other == Report::Refused),
                            }
                        }
                    }
                }
            }
            if state == State::TempLost && end <= now {
                state = State::Normal;
            }
            prop_assert_eq!(standing.settled(now).state(), state);
            let until = (state == State::TempLost).then_some(end);
            prop_assert_eq!(standing.settled(now).until_us(), until);
        }
    }
}
