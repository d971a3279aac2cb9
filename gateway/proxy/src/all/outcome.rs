//! What became of each city, in one word each.

use banqiao_proto::{
    ReasonTable,
    exchange::v1::{CityResult, Layer, Outcomes, Reason},
    reasons,
};

use crate::refusal::Refusal;

/// gRPC status DEADLINE_EXCEEDED.
const DEADLINE_EXCEEDED: u32 = 4;

/// The result of a part that ended with a status and a gateway's reason.
pub(super) fn result(status: u32, reason: Reason) -> CityResult {
    match reason {
        Reason::Unspecified => match status {
            0 => CityResult::Answered,
            DEADLINE_EXCEEDED => CityResult::Deadline,
            _ => CityResult::Failed,
        },
        Reason::DeadlineExceeded => CityResult::Deadline,
        Reason::Cancelled => CityResult::Cancelled,
        Reason::CityFalse => CityResult::Faulty,
        Reason::PeerUnreachable | Reason::ServiceUnreachable | Reason::UpstreamFailed => {
            CityResult::Unreachable
        }
        reason if reasons().rule(reason).layer() == Layer::Receipt => CityResult::Faulty,
        _ => CityResult::Refused,
    }
}

/// The word of a result, as metrics have it.
pub(super) const fn word(result: CityResult) -> &'static str {
    match result {
        CityResult::Answered => "answered",
        CityResult::Refused => "refused",
        CityResult::Unreachable => "unreachable",
        CityResult::Deadline => "deadline",
        CityResult::Faulty => "faulty",
        CityResult::Cancelled => "cancelled",
        CityResult::Failed | CityResult::Unspecified => "failed",
    }
}

/// The end of a call that not every city has answered to the end.
pub(super) fn partial(outcomes: &Outcomes) -> Option<Refusal> {
    let mut lacking = Vec::new();
    for city in &outcomes.cities {
        if city.result() == CityResult::Answered {
            continue;
        }
        let word = word(city.result());
        lacking.push(match city.reason() {
            Reason::Unspecified => format!("{} {word}", city.city),
            reason => format!("{} {word} ({})", city.city, ReasonTable::name(reason)),
        });
    }
    if lacking.is_empty() {
        return None;
    }
    let all = outcomes.cities.len();
    Some(Refusal::new(
        Reason::PartialResult,
        format!(
            "{} of {all} cities answered: {}",
            all - lacking.len(),
            lacking.join(", ")
        ),
    ))
}

#[cfg(test)]
mod tests {
    use banqiao_proto::exchange::v1::CityOutcome;

    use super::*;

    #[test]
    fn only_a_city_that_answered_to_the_end_leaves_the_result_whole() {
        let of = |status, reason| {
            let result = result(status, reason);
            let cities = vec![CityOutcome {
                city: "370600".to_owned(),
                result: result.into(),
                status,
                reason: reason.into(),
                ..CityOutcome::default()
            }];
            (result, partial(&Outcomes { cities }).is_some())
        };
        assert_eq!(of(0, Reason::Unspecified), (CityResult::Answered, false));
        for (status, reason, expected) in [
            (5, Reason::Unspecified, CityResult::Failed),
            (4, Reason::Unspecified, CityResult::Deadline),
            (4, Reason::DeadlineExceeded, CityResult::Deadline),
            (14, Reason::PeerUnreachable, CityResult::Unreachable),
            (14, Reason::ServiceUnreachable, CityResult::Unreachable),
            (15, Reason::ReceiptMissing, CityResult::Faulty),
            (15, Reason::CityFalse, CityResult::Faulty),
            (7, Reason::NotGranted, CityResult::Refused),
            (14, Reason::LedgerUnavailable, CityResult::Refused),
        ] {
            assert_eq!(of(status, reason), (expected, true), "{reason:?}");
        }
    }
}
