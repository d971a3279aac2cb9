//! The table of transitions: what may be done to a case, by whom, from which city. What does not stand here does not happen.

use banqiao_kit::{Certainty, TransitionRow};
use banqiao_proto::item::v1::{
    ActorRole::{self, Applicant, Coordinator, Department, Service, Supervisor, Window},
    CaseAction as A, CaseState as S,
};

/// From which city a step is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The city of the joint case of which this is a task.
    Coordinating,
    /// The deciding city (业务属地).
    Deciding,
    /// The deciding or the receiving city.
    Either,
    /// The receiving city (收件地).
    Receiving,
}

/// For which cases a row stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// Every case.
    Any,
    /// Of items that are decided on the spot (即办件).
    Immediate,
    /// Joint cases.
    Joint,
    /// Not collected by proxy, and no task.
    Local,
    /// Everything but tasks.
    NoTask,
    /// Collected by proxy.
    Proxy,
    /// Tasks of joint cases.
    Task,
}

/// What a step must bring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Everything that has to be put right.
    Corrections,
    /// How the result reached the applicant.
    Delivery,
    /// A sealed document with its number.
    Document,
    /// Working days and approver.
    Extension,
    /// That the applicant's identity was checked.
    Identity,
    /// A reason.
    Reason,
    /// How the applicant may go against it.
    Remedy,
    /// Name and number of the result, where a grant has one.
    Result,
    /// Which procedure, and how long it takes.
    Special,
}

/// A row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Transition {
    /// State before; UNSPECIFIED where a case begins.
    pub from: S,
    /// What is done.
    pub action: A,
    /// State after.
    pub to: S,
    /// For which cases.
    pub only: Only,
    /// As what it may be done.
    pub roles: &'static [ActorRole],
    /// From which city.
    pub place: Place,
    /// What it must bring.
    pub needs: &'static [Need],
    /// Where it comes from.
    pub source: &'static str,
    /// How certain it is.
    pub certainty: Certainty,
}

const STAGES: &str = "GB/T 39046-2020 stages; project proposal of states";
const MODES: &str = "国办发〔2020〕35号";

macro_rules! rows {
    ($($from:ident $action:ident $to:ident, $only:ident, $roles:expr, $place:ident, [$($need:ident)*], $source:expr, $certainty:ident;)*) => {
        &[$(Transition {
            from: S::$from,
            action: A::$action,
            to: S::$to,
            only: Only::$only,
            roles: &$roles,
            place: Place::$place,
            needs: &[$(Need::$need),*],
            source: $source,
            certainty: Certainty::$certainty,
        }),*]
    };
}

macro_rules! licensing {
    ($article:literal) => {
        concat!("行政许可法 art. ", $article)
    };
}

/// Every transition.
#[rustfmt::skip]
pub const TRANSITIONS: &[Transition] = rows! {
    Unspecified Save Draft, NoTask, [Applicant, Window], Either, [], STAGES, Design;
    Unspecified Submit Submitted, NoTask, [Applicant, Window], Either, [], STAGES, Design;
    // The joint case was accepted; its task needs no acceptance of its own.
    Unspecified Submit Accepted, Task, [Coordinator], Coordinating, [], MODES, Design;
    Draft Submit Submitted, NoTask, [Applicant, Window], Either, [], STAGES, Design;
    Draft Withdraw Withdrawn, NoTask, [Applicant, Window], Either, [], STAGES, Design;

    // 收受分离: the receiving city checks form and identity, the deciding city accepts and decides.
    Submitted Receive Received, Proxy, [Window], Receiving, [Identity], MODES, Quoted;
    Submitted Receive Received, Local, [Window, Department], Deciding, [], STAGES, Design;
    Received HandOver Received, Proxy, [Window], Receiving, [], MODES, Quoted;
    Received NotifyCorrection Correction, NoTask, [Department], Deciding, [Corrections Document], licensing!(32), Quoted;
    Correction Supplement Received, NoTask, [Applicant, Window], Either, [], licensing!(32), Quoted;
    Received Accept Accepted, NoTask, [Department], Deciding, [Document], licensing!(32), Quoted;
    Received DeemAccepted Accepted, NoTask, [Service], Deciding, [], licensing!(32), Quoted;
    Received RefuseAcceptance NotAccepted, NoTask, [Department], Deciding, [Document Reason Remedy], licensing!("32, 38"), Quoted;

    Accepted BeginReview UnderReview, Any, [Department], Deciding, [], STAGES, Design;
    Accepted Grant Decided, Immediate, [Department], Deciding, [Document], licensing!(42), Quoted;
    Accepted Refuse Decided, Immediate, [Department], Deciding, [Document Reason Remedy], licensing!("38, 42"), Quoted;
    Accepted Extend Accepted, Any, [Department], Deciding, [Extension Reason], licensing!(42), Quoted;
    UnderReview Extend UnderReview, Any, [Department], Deciding, [Extension Reason], licensing!(42), Quoted;
    UnderReview BeginSpecial SpecialProcedure, Any, [Department], Deciding, [Special Reason], licensing!(45), Quoted;
    SpecialProcedure EndSpecial UnderReview, Any, [Department], Deciding, [], licensing!(45), Quoted;
    UnderReview Grant Decided, Any, [Department], Deciding, [Document], licensing!(38), Quoted;
    UnderReview Refuse Decided, Any, [Department], Deciding, [Document Reason Remedy], licensing!(38), Quoted;
    Decided Conclude Concluded, Any, [Department], Deciding, [Result], STAGES, Design;
    Concluded Deliver Delivered, NoTask, [Department, Window], Either, [Delivery], licensing!(44), Quoted;
    Delivered Evaluate Evaluated, NoTask, [Service], Deciding, [], "国办发〔2019〕51号", Quoted;

    Submitted Withdraw Withdrawn, NoTask, [Applicant, Window], Either, [], STAGES, Design;
    Received Withdraw Withdrawn, NoTask, [Applicant, Window], Either, [], STAGES, Design;
    Correction Withdraw Withdrawn, NoTask, [Applicant, Window], Either, [], STAGES, Design;
    Accepted Withdraw Withdrawn, NoTask, [Applicant, Window], Either, [], STAGES, Design;
    UnderReview Withdraw Withdrawn, NoTask, [Applicant, Window], Either, [], STAGES, Design;
    SpecialProcedure Withdraw Withdrawn, NoTask, [Applicant, Window], Either, [], STAGES, Design;
    Received Terminate Terminated, NoTask, [Department, Supervisor], Deciding, [Reason], STAGES, Design;
    Correction Terminate Terminated, NoTask, [Department, Supervisor], Deciding, [Reason], STAGES, Design;
    Accepted Terminate Terminated, Any, [Department, Supervisor], Deciding, [Reason], STAGES, Design;
    UnderReview Terminate Terminated, Any, [Department, Supervisor], Deciding, [Reason], STAGES, Design;
    SpecialProcedure Terminate Terminated, Any, [Department, Supervisor], Deciding, [Reason], STAGES, Design;

    // A joint case that cannot be granted undoes what its tasks did.
    Accepted Compensate Terminated, Task, [Coordinator], Coordinating, [Reason], MODES, Design;
    UnderReview Compensate Terminated, Task, [Coordinator], Coordinating, [Reason], MODES, Design;
    SpecialProcedure Compensate Terminated, Task, [Coordinator], Coordinating, [Reason], MODES, Design;
    Decided Compensate Terminated, Task, [Coordinator], Coordinating, [Reason], MODES, Design;
    Concluded Compensate Terminated, Task, [Coordinator], Coordinating, [Reason], MODES, Design;
    UnderReview OpenTask UnderReview, Joint, [Service], Deciding, [], MODES, Design;
    UnderReview NoteTask UnderReview, Joint, [Service], Deciding, [], MODES, Design;
    SpecialProcedure NoteTask SpecialProcedure, Joint, [Service], Deciding, [], MODES, Design;
    Decided NoteTask Decided, Joint, [Service], Deciding, [], MODES, Design;
    Withdrawn NoteTask Withdrawn, Joint, [Service], Deciding, [], MODES, Design;
    Terminated NoteTask Terminated, Joint, [Service], Deciding, [], MODES, Design;

    // 效能监察: warnings change no state.
    Received WarnYellow Received, Any, [Service], Deciding, [], STAGES, Design;
    Received WarnRed Received, Any, [Service], Deciding, [], STAGES, Design;
    Received Recount Received, Any, [Service], Deciding, [], licensing!(82), Quoted;
    Accepted WarnYellow Accepted, Any, [Service], Deciding, [], STAGES, Design;
    Accepted WarnRed Accepted, Any, [Service], Deciding, [], STAGES, Design;
    Accepted Recount Accepted, Any, [Service], Deciding, [], licensing!(82), Quoted;
    UnderReview WarnYellow UnderReview, Any, [Service], Deciding, [], STAGES, Design;
    UnderReview WarnRed UnderReview, Any, [Service], Deciding, [], STAGES, Design;
    UnderReview Recount UnderReview, Any, [Service], Deciding, [], licensing!(82), Quoted;
    Decided WarnYellow Decided, NoTask, [Service], Deciding, [], STAGES, Design;
    Decided WarnRed Decided, NoTask, [Service], Deciding, [], STAGES, Design;
    Decided Recount Decided, NoTask, [Service], Deciding, [], licensing!(82), Quoted;
    Concluded WarnYellow Concluded, NoTask, [Service], Deciding, [], STAGES, Design;
    Concluded WarnRed Concluded, NoTask, [Service], Deciding, [], STAGES, Design;
    Concluded Recount Concluded, NoTask, [Service], Deciding, [], licensing!(82), Quoted;
};

/// Rows from a state by an action, for cases that `applies` to.
pub fn transition(
    from: S,
    action: A,
    applies: impl Fn(Only) -> bool,
) -> impl Iterator<Item = &'static Transition> {
    let rows = TRANSITIONS.iter();
    rows.filter(move |row| row.from == from && row.action == action && applies(row.only))
}

/// The table as the page of rules has it.
pub(super) fn rows() -> impl Iterator<Item = TransitionRow> {
    TRANSITIONS.iter().map(|row| TransitionRow {
        from: match row.from {
            S::Unspecified => "(new)",
            from => from.as_str_name().trim_start_matches("CASE_STATE_"),
        },
        event: row.action.as_str_name().trim_start_matches("CASE_ACTION_"),
        to: row.to.as_str_name().trim_start_matches("CASE_STATE_"),
        source: row.source,
        certainty: row.certainty,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENDS: [S; 4] = [S::NotAccepted, S::Evaluated, S::Withdrawn, S::Terminated];

    #[test]
    fn ends_are_ends() {
        for row in TRANSITIONS {
            let note = row.action == A::NoteTask;
            assert!(note || !ENDS.contains(&row.from), "{row:?}");
        }
    }

    #[test]
    fn only_the_deciding_city_accepts_and_decides() {
        for row in TRANSITIONS {
            let decides = matches!(
                row.action,
                A::Accept
                    | A::RefuseAcceptance
                    | A::NotifyCorrection
                    | A::Grant
                    | A::Refuse
                    | A::Extend
                    | A::Conclude
            );
            assert!(
                !decides || (row.place == Place::Deciding && row.roles == [Department]),
                "{row:?}"
            );
        }
    }

    #[test]
    fn refusals_carry_reason_remedy_and_a_sealed_document() {
        for row in TRANSITIONS {
            if matches!(row.action, A::Refuse | A::RefuseAcceptance) {
                assert_eq!(row.needs, [Need::Document, Need::Reason, Need::Remedy]);
            }
        }
    }

    #[test]
    fn every_state_can_be_reached_and_left() {
        for number in 1..=14 {
            let state = S::try_from(number).unwrap();
            assert!(
                TRANSITIONS
                    .iter()
                    .any(|row| row.to == state && row.from != state),
                "{state:?}"
            );
            let left = TRANSITIONS
                .iter()
                .any(|row| row.from == state && row.to != state);
            assert_eq!(left, !ENDS.contains(&state), "{state:?}");
        }
    }

    #[test]
    fn the_service_by_itself_moves_no_state_but_by_silence_and_by_a_rating() {
        for row in TRANSITIONS.iter().filter(|row| row.roles == [Service]) {
            assert!(
                row.from == row.to || matches!(row.action, A::DeemAccepted | A::Evaluate),
                "{row:?}"
            );
        }
    }
}
