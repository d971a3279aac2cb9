//! Bounds of everything that is text in a report.

use banqiao_kit::{Rule, Violations};
use banqiao_proto::lab::v1::{
    Actor, Concept, Identifier, Quantity, ReferenceInterval, Report, Result,
};

/// Rule of every text.
pub(super) const TEXT: Rule = Rule::design(
    "TEXT",
    "a text has at most 1000 characters (a conclusion or comment 8000) and no control characters but line breaks",
    "laboratory service",
);
/// Rule of every list.
pub(super) const LIST: Rule = Rule::design(
    "LIST",
    "a list has at most 20 entries (codings, intervals, comments)",
    "laboratory service",
);

const SHORT: usize = 1_000;
const LONG: usize = 8_000;
const ENTRIES: usize = 20;

/// Judges every text and every list of a report.
pub(super) fn check(report: &Report, faults: &mut Violations) {
    let mut texts = Texts { faults };
    texts.list("categories", report.categories.len());
    for (place, category) in report.categories.iter().take(ENTRIES).enumerate() {
        texts.concept(&format!("categories[{place}]"), Some(category));
    }
    texts.concept("code", report.code.as_ref());
    texts.concept("specimen", report.specimen.as_ref());
    texts.actor("performer", report.performer.as_ref());
    texts.actor("reviewer", report.reviewer.as_ref());
    texts.text("conclusion", &report.conclusion, LONG);
    texts.list("identifiers", report.identifiers.len());
    for (place, Identifier { system, value }) in report.identifiers.iter().take(ENTRIES).enumerate()
    {
        texts.text(&format!("identifiers[{place}].system"), system, SHORT);
        texts.text(&format!("identifiers[{place}].value"), value, SHORT);
    }
    if let Some(patient) = &report.patient {
        texts.text("patient.reference", &patient.reference, SHORT);
    }
    for (place, result) in report.results.iter().enumerate() {
        texts.result(&format!("results[{place}]"), result);
    }
}

struct Texts<'a> {
    faults: &'a mut Violations,
}

impl Texts<'_> {
    fn result(&mut self, path: &str, result: &Result) {
        use banqiao_proto::lab::v1::result::Value;
        self.concept(&format!("{path}.code"), result.code.as_ref());
        match &result.value {
            Some(Value::Concept(concept)) => {
                self.concept(&format!("{path}.concept"), Some(concept))
            }
            Some(Value::Quantity(quantity)) => {
                self.quantity(&format!("{path}.quantity"), Some(quantity))
            }
            Some(Value::Text(text)) => self.text(&format!("{path}.text"), text, LONG),
            None => {}
        }
        self.list(&format!("{path}.intervals"), result.intervals.len());
        for (place, interval) in result.intervals.iter().take(ENTRIES).enumerate() {
            self.interval(&format!("{path}.intervals[{place}]"), interval);
        }
        self.list(
            &format!("{path}.interpretations"),
            result.interpretations.len(),
        );
        for (place, concept) in result.interpretations.iter().take(ENTRIES).enumerate() {
            self.concept(&format!("{path}.interpretations[{place}]"), Some(concept));
        }
        self.concept(&format!("{path}.specimen"), result.specimen.as_ref());
        self.concept(&format!("{path}.method"), result.method.as_ref());
        self.actor(&format!("{path}.device"), result.device.as_ref());
        self.actor(&format!("{path}.performer"), result.performer.as_ref());
        self.list(&format!("{path}.comments"), result.comments.len());
        for (place, comment) in result.comments.iter().take(ENTRIES).enumerate() {
            self.text(&format!("{path}.comments[{place}]"), comment, LONG);
        }
    }

    fn interval(&mut self, path: &str, interval: &ReferenceInterval) {
        self.quantity(&format!("{path}.low"), interval.low.as_ref());
        self.quantity(&format!("{path}.high"), interval.high.as_ref());
        self.text(&format!("{path}.text"), &interval.text, SHORT);
        self.concept(&format!("{path}.kind"), interval.kind.as_ref());
        self.list(&format!("{path}.applies_to"), interval.applies_to.len());
        for (place, concept) in interval.applies_to.iter().take(ENTRIES).enumerate() {
            self.concept(&format!("{path}.applies_to[{place}]"), Some(concept));
        }
    }

    fn quantity(&mut self, path: &str, quantity: Option<&Quantity>) {
        if let Some(quantity) = quantity {
            self.text(&format!("{path}.unit"), &quantity.unit, SHORT);
            self.text(&format!("{path}.ucum"), &quantity.ucum, SHORT);
        }
    }

    fn concept(&mut self, path: &str, concept: Option<&Concept>) {
        let Some(concept) = concept else { return };
        self.text(&format!("{path}.text"), &concept.text, SHORT);
        self.list(&format!("{path}.codings"), concept.codings.len());
        for (place, coding) in concept.codings.iter().take(ENTRIES).enumerate() {
            for text in [&coding.system, &coding.code, &coding.display] {
                self.text(&format!("{path}.codings[{place}]"), text, SHORT);
            }
        }
    }

    fn actor(&mut self, path: &str, actor: Option<&Actor>) {
        if let Some(actor) = actor {
            self.text(&format!("{path}.reference"), &actor.reference, SHORT);
            self.text(&format!("{path}.name"), &actor.name, SHORT);
        }
    }

    fn list(&mut self, path: &str, length: usize) {
        if length > ENTRIES {
            self.faults.add(path.to_owned(), &LIST);
        }
    }

    fn text(&mut self, path: &str, text: &str, limit: usize) {
        let control = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
        // Counting characters of what is too long anyway would be work for nothing.
        let long = text.len() > limit && (text.len() > limit * 4 || text.chars().count() > limit);
        if long || text.chars().any(control) {
            self.faults.add(path.to_owned(), &TEXT);
        }
    }
}
