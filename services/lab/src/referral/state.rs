//! The state machine of a referral, as a table.

use banqiao_kit::Certainty;
use banqiao_proto::lab::v1::ReferralStatus as Status;

/// What can happen to a referral.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// A slot is held.
    Accept,
    /// The patient is there.
    Arrive,
    /// Care begins.
    BeginCare,
    /// It is cancelled.
    Cancel,
    /// The referring hospital took the patient over again.
    Close,
    /// It is written down.
    Create,
    /// Nobody answered, or the patient did not come, in time.
    Expire,
    /// Discharge.
    FeedBack,
    /// It is refused.
    Reject,
    /// The receiving city's service does not take the letter.
    Return,
    /// The draft is written anew.
    Revise,
    /// It goes to the receiving hospital.
    Send,
}

impl Step {
    /// The code in histories.
    pub const fn code(self) -> &'static str {
        match self {
            Self::Accept => "accepted",
            Self::Arrive => "arrived",
            Self::BeginCare => "care-begun",
            Self::Cancel => "cancelled",
            Self::Close => "closed",
            Self::Create => "created",
            Self::Expire => "expired",
            Self::FeedBack => "fed-back",
            Self::Reject => "rejected",
            Self::Return => "letter-returned",
            Self::Revise => "revised",
            Self::Send => "sent",
        }
    }
}

/// Who takes a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// The referring hospital.
    Referring,
    /// The receiving hospital, or its city's service by its clock.
    Receiving,
}

/// A row of the table of transitions.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Status before; none for the first step.
    pub from: Option<Status>,
    /// What happens.
    pub step: Step,
    /// Status after.
    pub to: Status,
    /// Who does it.
    pub party: Party,
    /// Where the transition comes from.
    pub source: &'static str,
    /// How certain it is.
    pub certainty: Certainty,
}

const LAW: &str = "基本医疗卫生与健康促进法 art. 30";
const PROPOSAL: &str = "referral, project proposal";

const fn row(from: Option<Status>, step: Step, to: Status, party: Party) -> Row {
    let (source, certainty) = match step {
        // 双向转诊 and 转诊审核责任制 are the law's; the rest is how they are done here.
        Step::Send | Step::Accept | Step::Reject => (LAW, Certainty::Quoted),
        _ => (PROPOSAL, Certainty::Design),
    };
    Row {
        from,
        step,
        to,
        party,
        source,
        certainty,
    }
}

const fn referring(from: Status, step: Step, to: Status) -> Row {
    row(Some(from), step, to, Party::Referring)
}

const fn receiving(from: Status, step: Step, to: Status) -> Row {
    row(Some(from), step, to, Party::Receiving)
}

/// Every transition. What does not stand here does not happen.
pub const TRANSITIONS: &[Row] = &[
    row(None, Step::Create, Status::Draft, Party::Referring),
    referring(Status::Draft, Step::Revise, Status::Draft),
    referring(Status::Draft, Step::Send, Status::Sent),
    referring(Status::Draft, Step::Cancel, Status::Cancelled),
    receiving(Status::Sent, Step::Return, Status::Draft),
    receiving(Status::Sent, Step::Accept, Status::Accepted),
    receiving(Status::Sent, Step::Reject, Status::Rejected),
    receiving(Status::Sent, Step::Expire, Status::Expired),
    referring(Status::Sent, Step::Cancel, Status::Cancelled),
    receiving(Status::Accepted, Step::Arrive, Status::Arrived),
    receiving(Status::Accepted, Step::Reject, Status::Rejected),
    receiving(Status::Accepted, Step::Expire, Status::Expired),
    referring(Status::Accepted, Step::Cancel, Status::Cancelled),
    receiving(Status::Arrived, Step::BeginCare, Status::InCare),
    receiving(Status::InCare, Step::FeedBack, Status::FedBack),
    referring(Status::FedBack, Step::Close, Status::Closed),
];

/// The row of a step, if there is one.
pub(super) fn row_of(from: Option<Status>, step: Step) -> Option<&'static Row> {
    let mut rows = TRANSITIONS.iter();
    rows.find(|row| row.from == from && row.step == step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::referral::is_end;

    #[test]
    fn every_status_is_reached_and_only_ends_have_no_way_on() {
        for number in 1..=10 {
            let status = Status::try_from(number).unwrap();
            assert!(TRANSITIONS.iter().any(|row| row.to == status), "{status:?}");
            let goes_on = TRANSITIONS.iter().any(|row| row.from == Some(status));
            assert_eq!(goes_on, !is_end(status), "{status:?}");
        }
    }

    #[test]
    fn no_step_of_a_status_stands_twice() {
        for row in TRANSITIONS {
            let same = |other: &&Row| (other.from, other.step) == (row.from, row.step);
            assert_eq!(TRANSITIONS.iter().filter(same).count(), 1, "{row:?}");
        }
    }
}
