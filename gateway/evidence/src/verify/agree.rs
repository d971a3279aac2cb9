//! Whether both sides say the same (LEDGER.md §1: which differences are honest).

use banqiao_ledger::receipt::MAX_CLOCK_BOUND_US;
use banqiao_proto::{
    ReasonTable,
    ledger::v1::{Direction, Entry, Result as Outcome},
};

use super::{Sides, moment};
use crate::report::{Report, Standing};

/// How far the two ends may lie apart beside the clocks' bounds: as far as a receipt may be old.
const APART_US: u64 = 60_000_000;

pub(super) fn check(sides: &Sides, report: &mut Report) {
    if sides.is_local() {
        match &sides.provider.end {
            Some(end) => says(end, "the city", report),
            None => report.missing("end", "the call has no end in the ledger"),
        }
        return;
    }
    let consumer = sides.consumer.end.as_ref().or(sides.consumer.open.as_ref());
    let provider = sides.provider.end.as_ref().or(sides.provider.open.as_ref());
    for (side, entry) in [("consumer", consumer), ("provider", provider)] {
        if entry.is_none() {
            report.missing("side", format!("nothing here is of the {side}'s ledger"));
        }
    }
    let (Some(consumer), Some(provider)) = (consumer, provider) else {
        if let Some(entry) = consumer.or(provider) {
            says(entry, "that side", report);
        }
        return;
    };
    terms(consumer, provider, report);
    for (name, ours, theirs) in [
        ("request", &consumer.request, &provider.request),
        ("response", &consumer.response, &provider.response),
    ] {
        direction(name, ours.as_ref(), theirs.as_ref(), report);
    }
    match (&sides.consumer.end, &sides.provider.end) {
        (Some(consumer), Some(provider)) => {
            outcome(consumer, provider, report);
            times(consumer, provider, report);
        }
        (None, _) => report.missing("end", "the end of the call is not in the consumer's part"),
        (_, None) => report.missing("end", "the end of the call is not in the provider's part"),
    }
}

/// Who asked whom for what, why, and on which basis.
fn terms(consumer: &Entry, provider: &Entry, report: &mut Report) {
    let client = |entry: &Entry| entry.client.clone().unwrap_or_default().spiffe_id;
    let city = |entry: &Entry| entry.provider.clone().unwrap_or_default().city;
    let same = [
        ("attempt", consumer.attempt == provider.attempt),
        ("client", client(consumer) == client(provider)),
        ("provider", city(consumer) == city(provider)),
        ("method", consumer.method == provider.method),
        ("purpose", consumer.purpose == provider.purpose),
        ("basis", consumer.basis == provider.basis),
    ];
    let different: Vec<_> = same
        .iter()
        .filter(|(_, same)| !same)
        .map(|(name, _)| *name)
        .collect();
    if different.is_empty() {
        report.proven(
            "terms",
            format!(
                "both cities entered that {} called {} of {} for the purpose {} on the basis {}",
                client(consumer),
                consumer.method,
                city(consumer),
                consumer.purpose,
                consumer.basis
            ),
        );
    } else {
        report.add(
            Standing::Differs,
            "terms",
            format!("the two cities entered another {}", different.join(", ")),
        );
    }
}

fn direction(
    name: &'static str,
    ours: Option<&Direction>,
    theirs: Option<&Direction>,
    report: &mut Report,
) {
    let (Some(ours), Some(theirs)) = (ours, theirs) else {
        return;
    };
    if !ours.complete || !theirs.complete {
        report.add(
            Standing::Asserted,
            name,
            format!(
                "the {name} was cut off: the consumer counted {} messages, the provider {}",
                ours.count, theirs.count
            ),
        );
    } else if (&ours.root, ours.count) == (&theirs.root, theirs.count) {
        report.proven(
            name,
            format!(
                "both cities entered the same {name}: {} message(s), {} bytes, root {}",
                ours.count,
                ours.bytes,
                hex::encode(&ours.root)
            ),
        );
    } else {
        report.add(
            Standing::Differs,
            name,
            format!(
                "the two cities entered another {name}: what one sent is not what the other got"
            ),
        );
    }
}

fn outcome(consumer: &Entry, provider: &Entry, report: &mut Report) {
    let (ours, theirs) = (result(consumer), result(provider));
    if ours.status == theirs.status {
        report.proven(
            "status",
            format!(
                "both cities entered that the call ended with {}",
                words(&theirs)
            ),
        );
    } else {
        report.add(
            Standing::Differs,
            "status",
            format!(
                "the consumer entered {}, the provider {}: look at who ended the call",
                words(&ours),
                words(&theirs)
            ),
        );
    }
}

fn result(entry: &Entry) -> Outcome {
    entry.result.clone().unwrap_or_default()
}

fn words(result: &Outcome) -> String {
    let reason = match (result.reason(), result.peer_reason()) {
        (own, _) if own as i32 != 0 => format!(" ({})", ReasonTable::name(own)),
        (_, peer) if peer as i32 != 0 => format!(" ({})", ReasonTable::name(peer)),
        _ => String::new(),
    };
    let interrupted = if result.interrupted {
        ", interrupted"
    } else {
        ""
    };
    format!("gRPC status {}{reason}{interrupted}", result.status)
}

fn times(consumer: &Entry, provider: &Entry, report: &mut Report) {
    let bound = |entry: &Entry| {
        entry
            .clock
            .as_ref()
            .map_or(0, |clock| clock.error_bound_us.min(MAX_CLOCK_BOUND_US))
    };
    let apart = consumer.time_us.abs_diff(provider.time_us);
    let may = APART_US + bound(consumer) + bound(provider);
    let text = format!(
        "the two ledgers put the end at {} and {}, {} ms apart",
        moment(consumer.time_us),
        moment(provider.time_us),
        apart / 1_000
    );
    let standing = if apart <= may {
        Standing::Proven
    } else {
        Standing::Differs
    };
    report.add(standing, "time", text);
}

/// What one city alone entered.
fn says(entry: &Entry, who: &str, report: &mut Report) {
    report.proven(
        "terms",
        format!(
            "{who} entered that {} called {} for the purpose {} on the basis {}, with {}",
            entry.client.clone().unwrap_or_default().spiffe_id,
            entry.method,
            entry.purpose,
            entry.basis,
            words(&result(entry))
        ),
    );
}
