//! The state machine of each side of a transfer, as a table.

use banqiao_kit::Certainty;
use banqiao_proto::card::v1::{TransferSide as Side, TransferState as State};

/// What can happen to a side of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// 到账金额与信息表不符: table and credited funds differ.
    AmountsDiffer,
    /// 申请.
    Applied,
    /// 办结, at the new city.
    Completed,
    /// 办结 was told to the old city.
    CompletionReceived,
    /// The old city was asked for a correction.
    CorrectionReceived,
    /// The old city cannot transfer.
    Declined,
    /// The old city's refusal arrived.
    DeclineReceived,
    /// The new city's bureau disputes the table.
    Disputed,
    /// The funds are here, and with them everything.
    FundsComplete,
    /// The funds are here, the table is not.
    FundsReceived,
    /// The old city's service has the contact letter.
    LetterDelivered,
    /// 同意接收函 was issued.
    LetterIssued,
    /// 联系函 arrived at the old city.
    LetterReceived,
    /// The old city's service does not take the letter.
    LetterReturned,
    /// 审核不符合, in writing.
    Refused,
    /// The table is here, and with it everything.
    TableComplete,
    /// The table is here, the funds are not.
    TableReceived,
    /// The new city's service does not take the table.
    TableReturned,
    /// A temporary account was opened instead.
    TemporaryAccount,
    /// 转出: the table was sent and the funds remitted.
    TransferredOut,
    /// The insured withdraws before the letter went out, or the old city has agreed.
    Withdrawn,
    /// The insured withdraws after the letter went out.
    WithdrawalAsked,
    /// It was too late to withdraw.
    WithdrawalLate,
    /// The withdrawal arrived at the old city in time.
    WithdrawalReceived,
}

impl Event {
    /// The code in histories.
    pub const fn code(self) -> &'static str {
        match self {
            Self::AmountsDiffer => "amounts-differ",
            Self::Applied => "applied",
            Self::Completed => "completed",
            Self::CompletionReceived => "completion-received",
            Self::CorrectionReceived => "correction-received",
            Self::Declined => "declined",
            Self::DeclineReceived => "decline-received",
            Self::Disputed => "disputed",
            Self::FundsComplete => "funds-complete",
            Self::FundsReceived => "funds-received",
            Self::LetterDelivered => "letter-delivered",
            Self::LetterIssued => "letter-issued",
            Self::LetterReceived => "letter-received",
            Self::LetterReturned => "letter-returned",
            Self::Refused => "refused",
            Self::TableComplete => "table-complete",
            Self::TableReceived => "table-received",
            Self::TableReturned => "table-returned",
            Self::TemporaryAccount => "temporary-account",
            Self::TransferredOut => "transferred-out",
            Self::Withdrawn => "withdrawn",
            Self::WithdrawalAsked => "withdrawal-asked",
            Self::WithdrawalLate => "withdrawal-late",
            Self::WithdrawalReceived => "withdrawal-received",
        }
    }
}

/// A row of the table of transitions.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Whose side.
    pub side: Side,
    /// State before; none for the first event.
    pub from: Option<State>,
    /// What happens.
    pub event: Event,
    /// State after.
    pub to: State,
    /// Where the transition comes from.
    pub source: &'static str,
    /// How certain it is.
    pub certainty: Certainty,
}

const NOTICE: &str = "国办发〔2009〕66号 (转移接续程序)";
const TEMPORARY: &str = "国办发〔2009〕66号 (临时基本养老保险缴费账户)";
const PROPOSAL: &str = "pension transfer, project proposal";

const fn new(from: State, event: Event, to: State) -> Row {
    row(
        Side::NewCity,
        Some(from),
        event,
        to,
        PROPOSAL,
        Certainty::Design,
    )
}

const fn new_by_law(from: State, event: Event, to: State) -> Row {
    row(
        Side::NewCity,
        Some(from),
        event,
        to,
        NOTICE,
        Certainty::Quoted,
    )
}

const fn old(from: State, event: Event, to: State) -> Row {
    row(
        Side::OldCity,
        Some(from),
        event,
        to,
        PROPOSAL,
        Certainty::Design,
    )
}

const fn row(
    side: Side,
    from: Option<State>,
    event: Event,
    to: State,
    source: &'static str,
    certainty: Certainty,
) -> Row {
    Row {
        side,
        from,
        event,
        to,
        source,
        certainty,
    }
}

/// Every transition. What does not stand here does not happen.
pub const TRANSITIONS: &[Row] = &[
    row(
        Side::NewCity,
        None,
        Event::Applied,
        State::UnderReview,
        NOTICE,
        Certainty::Quoted,
    ),
    row(
        Side::NewCity,
        None,
        Event::TemporaryAccount,
        State::TemporaryAccount,
        TEMPORARY,
        Certainty::Memory,
    ),
    new_by_law(State::UnderReview, Event::Refused, State::Refused),
    new_by_law(State::UnderReview, Event::LetterIssued, State::LetterIssued),
    new(State::UnderReview, Event::Withdrawn, State::Withdrawn),
    new_by_law(
        State::LetterIssued,
        Event::LetterDelivered,
        State::AwaitingTransferOut,
    ),
    new(
        State::LetterIssued,
        Event::LetterReturned,
        State::UnderReview,
    ),
    new(
        State::LetterIssued,
        Event::WithdrawalAsked,
        State::Withdrawing,
    ),
    new(
        State::AwaitingTransferOut,
        Event::WithdrawalAsked,
        State::Withdrawing,
    ),
    // The letter's answer may have been lost: whatever follows from the letter says that it arrived.
    new(
        State::LetterIssued,
        Event::TableReceived,
        State::AwaitingFunds,
    ),
    new(State::LetterIssued, Event::TableComplete, State::Completing),
    new(State::LetterIssued, Event::DeclineReceived, State::Declined),
    new_by_law(
        State::AwaitingTransferOut,
        Event::TableReceived,
        State::AwaitingFunds,
    ),
    new(
        State::AwaitingTransferOut,
        Event::TableComplete,
        State::Completing,
    ),
    new_by_law(
        State::AwaitingTransferOut,
        Event::FundsReceived,
        State::AwaitingTable,
    ),
    new(
        State::AwaitingTransferOut,
        Event::DeclineReceived,
        State::Declined,
    ),
    new_by_law(
        State::AwaitingTable,
        Event::TableComplete,
        State::Completing,
    ),
    new(State::AwaitingTable, Event::AmountsDiffer, State::Disputed),
    new(
        State::AwaitingTable,
        Event::DeclineReceived,
        State::Declined,
    ),
    new_by_law(
        State::AwaitingFunds,
        Event::FundsComplete,
        State::Completing,
    ),
    new(State::AwaitingFunds, Event::AmountsDiffer, State::Disputed),
    new(State::AwaitingFunds, Event::Disputed, State::Disputed),
    new(State::Completing, Event::Disputed, State::Disputed),
    new_by_law(State::Completing, Event::Completed, State::Completed),
    // A corrected table, or another confirmation, replaces the one before.
    new(
        State::AwaitingFunds,
        Event::TableReceived,
        State::AwaitingFunds,
    ),
    new(
        State::AwaitingTable,
        Event::FundsReceived,
        State::AwaitingTable,
    ),
    new(State::Completing, Event::TableComplete, State::Completing),
    new(State::Completing, Event::AmountsDiffer, State::Disputed),
    new(State::Disputed, Event::TableReceived, State::AwaitingFunds),
    new(State::Disputed, Event::TableComplete, State::Completing),
    new(State::Disputed, Event::FundsComplete, State::Completing),
    new(State::Disputed, Event::AmountsDiffer, State::Disputed),
    // The old city was faster than the withdrawal, or its answer is still on the way.
    new(
        State::Withdrawing,
        Event::TableReceived,
        State::AwaitingFunds,
    ),
    new(State::Withdrawing, Event::TableComplete, State::Completing),
    new(State::Withdrawing, Event::DeclineReceived, State::Declined),
    new(State::Withdrawing, Event::LetterReturned, State::Withdrawn),
    new(State::Withdrawing, Event::Withdrawn, State::Withdrawn),
    new(
        State::Withdrawing,
        Event::WithdrawalLate,
        State::AwaitingTransferOut,
    ),
    row(
        Side::OldCity,
        None,
        Event::LetterReceived,
        State::TransferringOut,
        NOTICE,
        Certainty::Quoted,
    ),
    row(
        Side::OldCity,
        Some(State::TransferringOut),
        Event::TransferredOut,
        State::TransferredOut,
        NOTICE,
        Certainty::Quoted,
    ),
    old(State::TransferringOut, Event::Declined, State::Declined),
    old(
        State::TransferringOut,
        Event::WithdrawalReceived,
        State::Withdrawn,
    ),
    old(
        State::TransferredOut,
        Event::CorrectionReceived,
        State::Disputed,
    ),
    old(
        State::TransferredOut,
        Event::TableReturned,
        State::TransferringOut,
    ),
    row(
        Side::OldCity,
        Some(State::TransferredOut),
        Event::CompletionReceived,
        State::Completed,
        NOTICE,
        Certainty::Quoted,
    ),
    // A second letter about the same table changes nothing, and must not be lost.
    old(State::Disputed, Event::CorrectionReceived, State::Disputed),
    old(
        State::Disputed,
        Event::TransferredOut,
        State::TransferredOut,
    ),
    // The new city did not take a late correction: it had completed.
    old(
        State::TransferringOut,
        Event::CompletionReceived,
        State::Completed,
    ),
    // The new city's funds were confirmed anew and agree.
    old(State::Disputed, Event::CompletionReceived, State::Completed),
];

/// The state after an event; none when the table does not hold it.
pub fn next(side: Side, from: Option<State>, event: Event) -> Option<State> {
    TRANSITIONS
        .iter()
        .find(|row| row.side == side && row.from == from && row.event == event)
        .map(|row| row.to)
}

/// Whether a side has come to its end.
pub const fn is_end(state: State) -> bool {
    matches!(
        state,
        State::Refused
            | State::TemporaryAccount
            | State::Completed
            | State::Declined
            | State::Withdrawn
    )
}

/// Step of 国办发〔2009〕66号 that is under way in a state; 0 at an end.
pub const fn step(state: State) -> u32 {
    match state {
        State::UnderReview => 2,
        State::LetterIssued
        | State::AwaitingTransferOut
        | State::AwaitingFunds
        | State::AwaitingTable
        | State::Withdrawing
        | State::TransferringOut => 3,
        State::Completing | State::Disputed | State::TransferredOut => 4,
        _ => 0,
    }
}

/// Whose turn it is in a state; UNSPECIFIED at an end.
pub const fn turn(state: State) -> Side {
    match state {
        State::UnderReview
        // The old city cannot act on what it does not have.
        | State::LetterIssued
        | State::Completing
        | State::TransferredOut => Side::NewCity,
        State::AwaitingTransferOut
        | State::AwaitingFunds
        | State::AwaitingTable
        | State::Disputed
        | State::Withdrawing
        | State::TransferringOut => Side::OldCity,
        _ => Side::Unspecified,
    }
}

/// Whether the limit of a step runs in a state, so that the record must say since when.
pub const fn has_limit(state: State) -> bool {
    matches!(
        state,
        State::UnderReview
            | State::AwaitingTransferOut
            | State::AwaitingFunds
            | State::AwaitingTable
            | State::Completing
            | State::Withdrawing
            | State::TransferringOut
    )
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn the_table_has_one_row_for_each_event_in_a_state_and_ends_are_ends() {
        let mut seen = HashSet::new();
        for row in TRANSITIONS {
            assert!(
                seen.insert((row.side as i32, row.from, row.event)),
                "{row:?}"
            );
            assert!(row.from.is_none_or(|from| !is_end(from)), "{row:?}");
            assert!(!row.source.is_empty());
        }
    }

    #[test]
    fn every_state_is_reached_and_every_open_one_leads_to_an_end() {
        for side in [Side::NewCity, Side::OldCity] {
            let rows: Vec<_> = TRANSITIONS.iter().filter(|row| row.side == side).collect();
            let states: HashSet<_> = rows.iter().map(|row| row.to).collect();
            for row in &rows {
                assert!(
                    row.from.is_none_or(|from| states.contains(&from)),
                    "{row:?}"
                );
            }
            let mut ending: HashSet<State> = states
                .iter()
                .copied()
                .filter(|state| is_end(*state))
                .collect();
            for _ in 0..states.len() {
                for row in rows
                    .iter()
                    .filter(|row| ending.contains(&row.to))
                    .collect::<Vec<_>>()
                {
                    ending.extend(row.from);
                }
            }
            assert!(states.is_subset(&ending), "{side:?}");
        }
    }

    #[test]
    fn a_step_and_a_turn_belong_to_every_open_state_and_to_no_end() {
        for row in TRANSITIONS {
            assert_eq!(step(row.to) == 0, is_end(row.to), "{row:?}");
            assert_eq!(turn(row.to) == Side::Unspecified, is_end(row.to), "{row:?}");
        }
    }
}
