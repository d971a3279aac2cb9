//! What became of each city when all were asked at once, for people and for programs.

use std::collections::BTreeSet;

use banqiao_proto::{
    ReasonTable,
    exchange::v1::{CityOutcome, CityResult, Outcomes, Reason},
    ledger::v1::{Entry, Kind},
};
use prost::Message as _;
use serde_json::{Value, json};
use tonic::{Code, metadata::MetadataMap};

use crate::{
    reasons::code_name,
    text::{clean, table::Table},
};

/// The outcomes in the trailers of an answer, if it is one of all cities.
pub(crate) fn of(metadata: &MetadataMap) -> Option<Outcomes> {
    let value = metadata.get_bin("banqiao-outcomes-bin")?;
    Outcomes::decode(value.to_bytes().ok()?).ok()
}

/// A city's outcome in a few words, such as `371100 refused (NOT_GRANTED)`.
pub(crate) fn words(outcome: &CityOutcome) -> String {
    let city = clean(&outcome.city);
    let word = word(outcome);
    match outcome.result() {
        CityResult::Answered => format!("{city} {word} ({})", outcome.messages),
        _ => format!("{city} {word} ({})", why(outcome)),
    }
}

/// Whether the entries of one exchange are of a call to all cities of which every part has ended and no entry speaks of
/// the whole: its gateway died before it could enter what became of it.
pub(crate) fn unsaid(entries: &[Entry]) -> bool {
    let cities = |kinds: &[Kind]| -> BTreeSet<&str> {
        let named = entries.iter().filter(|it| kinds.contains(&it.kind()));
        let named = named.filter_map(|entry| entry.provider.as_ref());
        named.map(|provider| provider.city.as_str()).collect()
    };
    let asked = cities(&[Kind::Open, Kind::Close, Kind::Refused]);
    let ended = cities(&[Kind::Close, Kind::Refused]);
    asked.len() > 1 && asked == ended && entries.iter().all(|entry| entry.outcomes.is_none())
}

/// A table with a row for each city.
pub(crate) fn table(outcomes: &Outcomes) -> Table {
    let mut table = Table::new(&["CITY", "OUTCOME", "MESSAGES", "STATUS", "REASON"]);
    for outcome in &outcomes.cities {
        table.row([
            clean(&outcome.city).as_ref(),
            word(outcome),
            &outcome.messages.to_string(),
            status(outcome),
            reason(outcome).unwrap_or_default(),
        ]);
    }
    table
}

/// Every field, for programs.
pub(crate) fn value(outcomes: &Outcomes) -> Value {
    let cities = outcomes.cities.iter().map(|outcome| {
        json!({
            "city": outcome.city,
            "result": word(outcome),
            "messages": outcome.messages,
            "status": status(outcome),
            "reason": reason(outcome),
            "receipt_sha256": hex::encode(&outcome.receipt_sha256),
        })
    });
    Value::Array(cities.collect())
}

fn word(outcome: &CityOutcome) -> &'static str {
    match outcome.result() {
        CityResult::Unspecified => "unknown",
        CityResult::Answered => "answered",
        CityResult::Refused => "refused",
        CityResult::Unreachable => "unreachable",
        CityResult::Deadline => "deadline",
        CityResult::Faulty => "faulty",
        CityResult::Failed => "failed",
        CityResult::Cancelled => "cancelled",
    }
}

fn why(outcome: &CityOutcome) -> &'static str {
    reason(outcome).unwrap_or_else(|| status(outcome))
}

fn reason(outcome: &CityOutcome) -> Option<&'static str> {
    let reason = outcome.reason();
    (reason != Reason::Unspecified).then(|| ReasonTable::name(reason))
}

fn status(outcome: &CityOutcome) -> &'static str {
    code_name(Code::from(i32::try_from(outcome.status).unwrap_or(2)))
}

#[cfg(test)]
mod tests {
    use banqiao_proto::ledger::v1::Party;

    use super::*;

    #[test]
    fn a_whole_that_no_entry_speaks_of_is_seen() {
        let entry = |kind: Kind, city: &str| Entry {
            kind: kind.into(),
            provider: Some(Party {
                city: city.to_owned(),
                ..Party::default()
            }),
            ..Entry::default()
        };
        let one = [entry(Kind::Open, "370600"), entry(Kind::Close, "370600")];
        assert!(!unsaid(&one), "a call to one city has no whole");
        let mut parts = one.to_vec();
        parts.push(entry(Kind::Refused, "371100"));
        assert!(unsaid(&parts));
        parts.push(entry(Kind::Open, "370700"));
        assert!(!unsaid(&parts), "it still runs");
        parts.push(entry(Kind::Close, "370700"));
        assert!(unsaid(&parts));
        parts.push(Entry {
            kind: Kind::Close.into(),
            outcomes: Some(Outcomes::default()),
            ..Entry::default()
        });
        assert!(!unsaid(&parts));
    }
}
