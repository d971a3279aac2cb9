//! Which pairs of records agree.
//!
//! The consumer's gateway sends a request and relays the answer; the provider's enters the end of a call before the
//! status leaves it. So:
//!
//! | consumer's record | provider's record | outcome |
//! |---|---|---|
//! | refused before it left, or not delivered | none | agree |
//! | none | refused as no call of the consumer's gateway | agree |
//! | ended with a status that was relayed | the same status and reason | agree, if both directions do |
//! | ended with a relayed refusal | refused with that reason | agree |
//! | ended with a relayed refusal | none | honest: beyond a quota, refusals are only counted |
//! | ended with a relayed "ledger unavailable" or "lease lost" | anything | honest: the provider's end was not entered in time |
//! | ended by its own gateway: cancelled, deadline, lost | anything, or nothing if no answer had come | honest, if it differs |
//! | running | running, or none yet | open |
//! | running | ended a moment ago, or the other way round | open |
//! | interrupted | anything | interrupted |
//! | anything else | | a discrepancy |
//!
//! A direction agrees if both sides hold the same messages. Where one of them was cut off, the sender holds at least
//! as many as the receiver; that they are the beginning of the same is shown by the frontiers in the entries.

use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{DirectionDigest, DiscrepancyClass as Class, ExchangeRecord, RecordState, Side},
};

use super::window::{is_refusal, shown, stands_alone};

/// What came of comparing two records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both cities hold what they should.
    Agree,
    /// They do not hold the same.
    Found {
        /// Class.
        class: Class,
        /// What differs.
        field: &'static str,
    },
}

/// Whether a class is something to look at: an open call and a difference that may be are not.
pub const fn is_discrepancy(class: Class) -> bool {
    !matches!(
        class,
        Class::Unspecified | Class::Open | Class::HonestDifference
    )
}

const fn found(class: Class, field: &'static str) -> Verdict {
    Verdict::Found { class, field }
}

/// Compares what two ledgers hold of one exchange and attempt. Whatever ended at or after `recent_us`, in microseconds
/// since 1970, may not have ended at the other side yet.
pub fn compare(
    here: Option<&ExchangeRecord>,
    there: Option<&ExchangeRecord>,
    recent_us: i64,
) -> Verdict {
    match (here, there) {
        (None, None) => Verdict::Agree,
        (Some(here), None) => alone(here, Class::OnlyHere, Class::InterruptedHere, recent_us),
        (None, Some(there)) => alone(there, Class::OnlyThere, Class::InterruptedThere, recent_us),
        (Some(here), Some(there)) => both(here, there, recent_us),
    }
}

fn alone(record: &ExchangeRecord, only: Class, interrupted: Class, recent_us: i64) -> Verdict {
    if stands_alone(record) {
        return Verdict::Agree;
    }
    match record.state() {
        // At the provider, a method without side effects has no entry before its end.
        RecordState::Open => found(Class::Open, "state"),
        RecordState::Interrupted => found(interrupted, "state"),
        RecordState::Unreadable => found(Class::DigestDiffers, "entry"),
        _ if record.ended_at_us >= recent_us => found(Class::Open, "state"),
        RecordState::Closed if record.side() == Side::Consumer => {
            let answered = record.response.as_ref().is_some_and(|it| it.count > 0);
            let ended_here = record.reason() != Reason::Unspecified;
            let counted = !ended_here && (is_refusal(record.peer_reason()) || lost(record));
            if counted || ended_here && !answered {
                found(Class::HonestDifference, "state")
            } else {
                found(only, "state")
            }
        }
        _ => found(only, "state"),
    }
}

/// The provider said that it could not enter the end.
const fn lost_reason(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::LedgerUnavailable | Reason::LeaseLost | Reason::Overloaded
    )
}

fn lost(consumer: &ExchangeRecord) -> bool {
    lost_reason(consumer.peer_reason())
}

fn both(here: &ExchangeRecord, there: &ExchangeRecord, recent_us: i64) -> Verdict {
    let unreadable = |record: &ExchangeRecord| record.state() == RecordState::Unreadable;
    if unreadable(here) || unreadable(there) {
        return found(Class::DigestDiffers, "entry");
    }
    for (field, here, there) in [
        ("method", &here.method_digest, &there.method_digest),
        ("client", &here.client_digest, &there.client_digest),
        ("purpose", &here.purpose_digest, &there.purpose_digest),
    ] {
        if here != there {
            return found(Class::DigestDiffers, field);
        }
    }
    match (here.state(), there.state()) {
        (RecordState::Interrupted, _) => return found(Class::InterruptedHere, "state"),
        (_, RecordState::Interrupted) => return found(Class::InterruptedThere, "state"),
        (RecordState::Open, RecordState::Open) => return found(Class::Open, "state"),
        (RecordState::Open, _) => return running(there, recent_us),
        (_, RecordState::Open) => return running(here, recent_us),
        _ => {}
    }
    match (here.side(), there.side()) {
        (Side::Consumer, Side::Provider) => ended(here, there),
        (Side::Provider, Side::Consumer) => ended(there, here),
        // Keys pair the sides; a peer that claims otherwise is at fault.
        _ => found(Class::DigestDiffers, "side"),
    }
}

/// One side is running and the other has ended.
fn running(ended: &ExchangeRecord, recent_us: i64) -> Verdict {
    if ended.ended_at_us >= recent_us {
        found(Class::Open, "state")
    } else {
        found(Class::StatusDiffers, "state")
    }
}

/// Both have ended.
fn ended(consumer: &ExchangeRecord, provider: &ExchangeRecord) -> Verdict {
    if consumer.state() == RecordState::Refused {
        // It never left the consumer's city, and yet the provider has it.
        return found(Class::StatusDiffers, "state");
    }
    let own = consumer.reason() != Reason::Unspecified;
    if own && stands_alone(consumer) {
        return found(Class::StatusDiffers, "reason");
    }
    if !own && !lost(consumer) {
        if consumer.status != provider.status {
            return found(Class::StatusDiffers, "status");
        }
        let said = shown(provider.reason());
        if said != Reason::Unspecified && consumer.peer_reason() != said {
            return found(Class::StatusDiffers, "reason");
        }
    }
    if provider.state() == RecordState::Refused {
        // A refusal has no messages to compare.
        return if own || lost(consumer) {
            found(Class::HonestDifference, "status")
        } else {
            Verdict::Agree
        };
    }
    let directions = [
        ("request", &consumer.request, &provider.request),
        ("response", &provider.response, &consumer.response),
    ];
    let mut honest = None;
    for (field, sent, received) in directions {
        let sent = sent.clone().unwrap_or_default();
        let mut received = received.clone().unwrap_or_default();
        // The status took the place of the messages that were on their way.
        received.complete &= !lost(consumer);
        match direction(&sent, &received) {
            Direction::Same => {}
            Direction::Cut => honest = honest.or(Some(field)),
            Direction::Differs => return found(Class::DigestDiffers, field),
        }
    }
    if consumer.status != provider.status {
        honest = Some("status");
    }
    honest.map_or(Verdict::Agree, |field| {
        found(Class::HonestDifference, field)
    })
}

/// How the two ends of a direction stand to each other.
enum Direction {
    Same,
    Cut,
    Differs,
}

fn direction(sent: &DirectionDigest, received: &DirectionDigest) -> Direction {
    if sent.count == received.count {
        // Also where it was cut off: the same number of messages is the same messages.
        if sent.root == received.root || sent.count == 0 {
            Direction::Same
        } else {
            Direction::Differs
        }
    } else if sent.count < received.count || sent.complete && received.complete {
        Direction::Differs
    } else {
        Direction::Cut
    }
}
