//! What entries can be searched by.

use std::ops::RangeInclusive;

use banqiao_proto::{
    exchange::v1::{Reason, Trace},
    ledger::v1::{Entry, Kind, Outcome},
    reasons,
};

/// Longer values are cut; the match against the entry itself decides.
const MAX_VALUE_BYTES: usize = 512;

/// What a value is a value of. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Facet {
    City = 1,
    Client = 2,
    Kind = 3,
    Method = 4,
    Outcome = 5,
    Purpose = 6,
    Reason = 7,
    Service = 8,
}

impl Facet {
    pub(crate) const fn number(self) -> i16 {
        self as i16
    }
}

/// A facet and its value as bytes, ordered as the values are.
pub(crate) type FacetValue = (Facet, Box<[u8]>);

/// The value of a text, as it is stored.
pub(crate) fn text_value(text: &str) -> Box<[u8]> {
    let bytes = text.as_bytes();
    bytes[..bytes.len().min(MAX_VALUE_BYTES)].into()
}

/// The value of an enumeration.
pub(crate) fn number_value(number: i32) -> Box<[u8]> {
    number.to_be_bytes().into()
}

/// Values of a facet from one to another.
pub(crate) type ValueRange = RangeInclusive<Box<[u8]>>;

/// Every value that starts with a text.
pub(crate) fn prefix_range(prefix: &str) -> ValueRange {
    let from = text_value(prefix);
    let mut until = from.to_vec();
    until.resize(MAX_VALUE_BYTES + 1, 0xff);
    from..=until.into()
}

/// Service and bare name of a method's path; of a path of another form, no service and the path.
pub(crate) fn method_parts(path: &str) -> (&str, &str) {
    path.strip_prefix('/')
        .and_then(|rest| rest.split_once('/'))
        .unwrap_or(("", path))
}

/// The facets of an entry, as far as they have a value.
pub(crate) fn facets(entry: &Entry) -> Vec<FacetValue> {
    let mut all = Vec::with_capacity(10);
    all.push((Facet::Kind, number_value(entry.kind)));
    let mut text = |facet, value: &str| {
        if !value.is_empty() {
            all.push((facet, text_value(value)));
        }
    };
    for party in [&entry.client, &entry.provider].into_iter().flatten() {
        text(Facet::City, &party.city);
    }
    if let Some(client) = &entry.client {
        text(Facet::Client, &client.spiffe_id);
    }
    let (service, method) = method_parts(&entry.method);
    text(Facet::Service, service);
    text(Facet::Method, method);
    text(Facet::Purpose, &entry.purpose);
    for count in entry.summary.iter().flat_map(|summary| &summary.counts) {
        text(Facet::Client, &count.client);
    }
    all.extend(reasons_of(entry).map(|reason| (Facet::Reason, number_value(reason))));
    if let Some(outcome) = outcome(entry) {
        all.push((Facet::Outcome, number_value(outcome.into())));
    }
    all
}

/// Every reason that an entry names.
pub(crate) fn reasons_of(entry: &Entry) -> impl Iterator<Item = i32> {
    let decision = entry.decision.iter().map(|decision| decision.reason);
    let result = entry
        .result
        .iter()
        .flat_map(|result| [result.reason, result.peer_reason]);
    let counts = entry
        .summary
        .iter()
        .flat_map(|summary| &summary.counts)
        .map(|count| count.reason);
    decision
        .chain(result)
        .chain(counts)
        .filter(|reason| *reason != 0)
}

/// The outcome of the call that an entry ends; `None` for entries that end no call.
pub(crate) fn outcome(entry: &Entry) -> Option<Outcome> {
    match entry.kind() {
        Kind::Refused => Some(Outcome::Refused),
        Kind::Close => {
            let result = entry.result.as_ref()?;
            Some(if result.interrupted {
                Outcome::Interrupted
            } else if refused_by_peer(result.peer_reason()) {
                Outcome::Refused
            } else if result.status == 0 {
                Outcome::Ok
            } else {
                Outcome::Failed
            })
        }
        _ => None,
    }
}

/// Whether a peer that gave this reason refused the call, rather than ended one that it had permitted: the table of
/// reasons says what its ledger holds.
fn refused_by_peer(reason: Reason) -> bool {
    reason != Reason::Unspecified
        && reasons()
            .rule(reason)
            .at_provider
            .is_some_and(|held| matches!(held.provider(), Trace::Refused | Trace::Summary))
}

#[cfg(test)]
mod tests {
    use banqiao_proto::ledger::v1::Result as CallResult;

    use super::*;

    #[test]
    fn prefix_ranges_hold_exactly_the_values_with_the_prefix() {
        let range = prefix_range("spiffe://a.x/h/");
        for inside in [
            "spiffe://a.x/h/",
            "spiffe://a.x/h/card",
            "spiffe://a.x/h/\u{10ffff}",
        ] {
            assert!(range.contains(&text_value(inside)), "{inside}");
        }
        for outside in ["spiffe://a.x/h", "spiffe://a.x/i/", "spiffe://a.x/g/z", ""] {
            assert!(!range.contains(&text_value(outside)), "{outside}");
        }
    }

    #[test]
    fn outcome_tells_a_peers_refusal_from_a_failure() {
        let close = |status, peer_reason: Reason, interrupted| {
            outcome(&Entry {
                kind: Kind::Close.into(),
                result: Some(CallResult {
                    status,
                    peer_reason: peer_reason.into(),
                    interrupted,
                    ..CallResult::default()
                }),
                ..Entry::default()
            })
        };
        assert_eq!(close(0, Reason::Unspecified, false), Some(Outcome::Ok));
        assert_eq!(close(5, Reason::Unspecified, false), Some(Outcome::Failed));
        assert_eq!(close(7, Reason::NotGranted, false), Some(Outcome::Refused));
        assert_eq!(
            close(14, Reason::ServiceUnreachable, false),
            Some(Outcome::Failed)
        );
        assert_eq!(
            close(2, Reason::Unspecified, true),
            Some(Outcome::Interrupted)
        );
        let open = Entry {
            kind: Kind::Open.into(),
            ..Entry::default()
        };
        assert_eq!(outcome(&open), None);
        let refused = Entry {
            kind: Kind::Refused.into(),
            ..Entry::default()
        };
        assert_eq!(outcome(&refused), Some(Outcome::Refused));
    }
}
