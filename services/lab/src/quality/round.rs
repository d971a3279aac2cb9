//! A round as registered, judged field by field.

use std::{collections::BTreeSet, fmt};

use banqiao_kit::{Broken, Rule, Violation, Violations};
use banqiao_proto::lab::v1::{MarkScope, QualityRound, RoundItem};
use prost_types::Timestamp;

use super::rule;
use crate::{
    catalogue::{Catalogue, ItemCode},
    decimal::Decimal,
    report::microseconds,
};

/// Most items of a round.
const MAX_ITEMS: usize = 100;
/// Samples of an item (`ROUND_SAMPLES`).
const SAMPLES: std::ops::RangeInclusive<usize> = 5..=20;

/// The organiser's number of a round.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoundId(String);

impl RoundId {
    /// Parses a number.
    ///
    /// # Errors
    /// It has another form.
    pub fn parse(text: &str) -> Result<Self, Broken> {
        if printable(text, 50) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Broken(&rule::ROUND_ID))
        }
    }

    /// The number.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RoundId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A round that keeps every rule.
#[derive(Clone, Debug, PartialEq)]
pub struct Round {
    id: RoundId,
    opens_at_us: i64,
    closes_at_us: i64,
    items: Vec<ItemCode>,
    record: QualityRound,
}

impl Round {
    /// Judges a round.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn parse(
        round: Option<&QualityRound>,
        catalogue: &Catalogue,
        now_us: i64,
    ) -> Result<Self, Vec<Violation>> {
        let mut faults = Violations::new();
        let Some(round) = round else {
            faults.add("round", &rule::ROUND_MISSING);
            return Err(faults.into_vec());
        };
        let id = faults.check("round_id", RoundId::parse(&round.round_id));
        check_text(
            "organiser",
            &round.organiser,
            100,
            &rule::ORGANISER,
            &mut faults,
        );
        check_text("scheme", &round.scheme, 50, &rule::SCHEME, &mut faults);
        check_scope(round, &mut faults);
        let opens = faults.check("opens_at", time(round.opens_at.as_ref()));
        let closes = faults.check("closes_at", time(round.closes_at.as_ref()));
        if opens
            .zip(closes)
            .is_some_and(|(opens, closes)| closes <= opens || closes <= now_us)
        {
            faults.add("closes_at", &rule::ROUND_TIMES);
        }
        let items = check_items(&round.items, catalogue, &mut faults);
        match (id, opens, closes) {
            (Some(id), Some(opens_at_us), Some(closes_at_us)) if faults.is_empty() => Ok(Self {
                id,
                opens_at_us,
                closes_at_us,
                items,
                record: round.clone(),
            }),
            _ => Err(faults.into_vec()),
        }
    }

    /// Its number.
    pub const fn id(&self) -> &RoundId {
        &self.id
    }

    /// From when on results are taken, in microseconds since 1970-01-01 UTC.
    pub const fn opens_at_us(&self) -> i64 {
        self.opens_at_us
    }

    /// From when on none are taken any more.
    pub const fn closes_at_us(&self) -> i64 {
        self.closes_at_us
    }

    /// Its items.
    pub fn items(&self) -> impl Iterator<Item = &ItemCode> {
        self.items.iter()
    }

    /// The round as registered.
    pub const fn record(&self) -> &QualityRound {
        &self.record
    }
}

/// The span of a registered round, in microseconds since 1970-01-01 UTC.
pub(super) fn span(round: &QualityRound) -> (i64, i64) {
    let at = |time: &Option<Timestamp>| time.as_ref().and_then(microseconds);
    // Registered rounds have both.
    (
        at(&round.opens_at).unwrap_or(i64::MAX),
        at(&round.closes_at).unwrap_or(i64::MAX),
    )
}

pub(super) fn printable(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn check_text(
    field: &'static str,
    text: &str,
    most: usize,
    rule: &'static Rule,
    faults: &mut Violations,
) {
    let sound = !text.trim().is_empty()
        && text.len() <= most * 4
        && text.chars().count() <= most
        && !text.chars().any(|c| c.is_control() || c == '\u{FFFD}');
    if !sound {
        faults.add(field, rule);
    }
}

fn check_scope(round: &QualityRound, faults: &mut Violations) {
    let code = round.scope_code.as_str();
    let digits = code.len() == 6 && code.bytes().all(|byte| byte.is_ascii_digit());
    let sound = match MarkScope::try_from(round.scope) {
        Ok(MarkScope::Unspecified) | Err(_) => {
            faults.add("scope", &rule::MARK_SCOPE);
            return;
        }
        Ok(MarkScope::National | MarkScope::Region) => code.is_empty(),
        Ok(MarkScope::Province) => digits && code.ends_with("0000"),
        Ok(MarkScope::City) => digits && code.ends_with("00") && !code.ends_with("0000"),
    };
    if !sound {
        faults.add("scope_code", &rule::SCOPE_CODE);
    }
}

fn time(time: Option<&Timestamp>) -> Result<i64, Broken> {
    time.and_then(microseconds)
        .ok_or(Broken(&rule::ROUND_TIMES))
}

fn check_items(
    items: &[RoundItem],
    catalogue: &Catalogue,
    faults: &mut Violations,
) -> Vec<ItemCode> {
    if !(1..=MAX_ITEMS).contains(&items.len()) {
        faults.add("items", &rule::ROUND_ITEMS);
        return Vec::new();
    }
    let (mut codes, mut seen) = (Vec::new(), BTreeSet::new());
    for (place, item) in items.iter().enumerate() {
        let path = format!("items[{place}]");
        match catalogue.item(&item.item_code) {
            Some(known)
                if known.code.as_str() == item.item_code && seen.insert(&item.item_code) =>
            {
                if known.allowable_error.is_none() {
                    faults.add(format!("{path}.item_code"), &rule::NO_LIMIT);
                }
                codes.push(known.code.clone());
            }
            _ => faults.add(format!("{path}.item_code"), &rule::ROUND_ITEMS),
        }
        check_samples(&path, item, faults);
    }
    codes
}

fn check_samples(path: &str, item: &RoundItem, faults: &mut Violations) {
    let numbers: BTreeSet<_> = item.samples.iter().map(|sample| &sample.sample).collect();
    if !SAMPLES.contains(&item.samples.len()) || numbers.len() != item.samples.len() {
        faults.add(format!("{path}.samples"), &rule::ROUND_SAMPLES);
        return;
    }
    for (place, sample) in item.samples.iter().enumerate() {
        if !printable(&sample.sample, 20) {
            faults.add(format!("{path}.samples[{place}].sample"), &rule::SAMPLE);
        }
        let target = Decimal::parse(&sample.target);
        if !target.is_ok_and(Decimal::is_positive) {
            faults.add(format!("{path}.samples[{place}].target"), &rule::TARGET);
        }
    }
}
