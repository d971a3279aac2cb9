//! The rules of a service in one list: what the code refuses by, and what its page of rules is printed from.
//!
//! A rule is a constant beside the code that applies it. Each module gives a [`RuleTable`] of its constants, a service joins the
//! tables in a [`Rulebook`], and a test compares the page with what the book prints, so that an auditor reads what the code does.

use std::{borrow::Cow, fmt::Write, time::Duration};

use serde_json::{Value, json};
use tonic::Code;

use crate::{
    rescue::CallError,
    rule::{Certainty, Rule},
};

/// A rule that refuses a whole call, not one field. Its reason in `ErrorInfo` is the code of the rule.
#[derive(Debug)]
pub struct Refusal {
    /// The rule.
    pub rule: Rule,
    /// Code of the gRPC status.
    pub code: Code,
}

impl Refusal {
    /// The record is in a state that does not allow it (`FAILED_PRECONDITION`).
    pub const fn conflict(rule: Rule) -> Self {
        let code = Code::FailedPrecondition;
        Self { rule, code }
    }

    /// More than is taken at once (`RESOURCE_EXHAUSTED`).
    pub const fn exceeds(rule: Rule) -> Self {
        let code = Code::ResourceExhausted;
        Self { rule, code }
    }

    /// This client may not do it, whatever its grant says (`PERMISSION_DENIED`).
    pub const fn forbidden(rule: Rule) -> Self {
        let code = Code::PermissionDenied;
        Self { rule, code }
    }

    /// There is no such record, and the caller may know (`NOT_FOUND`).
    pub const fn not_found(rule: Rule) -> Self {
        let code = Code::NotFound;
        Self { rule, code }
    }

    /// Refuses a call. The message says how it stands here and holds nothing that the caller may not know; rule and remedy follow it.
    pub fn because(&'static self, message: impl Into<Cow<'static, str>>) -> CallError {
        CallError::CallerRefused {
            refusal: self,
            message: message.into(),
            retry_after: None,
        }
    }

    /// Refuses a call that may come again after a while.
    pub fn for_now(
        &'static self,
        message: impl Into<Cow<'static, str>>,
        retry_after: Duration,
    ) -> CallError {
        CallError::CallerRefused {
            refusal: self,
            message: message.into(),
            retry_after: Some(retry_after),
        }
    }
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// It makes the answer what it is, and refuses nothing.
    Answers,
    /// It refuses the call with this code and its own code as reason.
    Refuses(Code),
    /// A field that breaks it refuses the request: `INVALID_ARGUMENT`, `FIELD_INVALID`, and a field violation whose reason is its code.
    Violates,
}

/// A rule where it applies.
#[derive(Clone, Copy, Debug)]
pub struct RuleRow {
    /// The rule.
    pub rule: &'static Rule,
    /// What it does.
    pub effect: Effect,
    /// Methods or commands where it does so.
    pub places: &'static [&'static str],
}

/// A row of a state machine.
#[derive(Clone, Copy, Debug)]
pub struct TransitionRow {
    /// State before.
    pub from: &'static str,
    /// What happens.
    pub event: &'static str,
    /// State after.
    pub to: &'static str,
    /// Law, standard or document.
    pub source: &'static str,
    /// How certain the row is.
    pub certainty: Certainty,
}

/// The rules of a module.
#[derive(Clone, Debug)]
pub struct RuleTable {
    /// What they are about.
    pub title: &'static str,
    /// Its rules.
    pub rules: Vec<RuleRow>,
    /// Its state machine; empty when it has none.
    pub transitions: Vec<TransitionRow>,
}

impl RuleTable {
    /// An empty table.
    pub const fn new(title: &'static str) -> Self {
        Self {
            title,
            rules: Vec::new(),
            transitions: Vec::new(),
        }
    }

    /// Adds a rule that makes answers what they are.
    #[must_use]
    pub fn answer(self, rule: &'static Rule, places: &'static [&'static str]) -> Self {
        self.row(rule, Effect::Answers, places)
    }

    /// Adds a rule of a field.
    #[must_use]
    pub fn field(self, rule: &'static Rule, places: &'static [&'static str]) -> Self {
        self.row(rule, Effect::Violates, places)
    }

    /// Adds several rules of fields, such as those of an identifier.
    #[must_use]
    pub fn fields(
        self,
        rules: impl IntoIterator<Item = &'static Rule>,
        places: &'static [&'static str],
    ) -> Self {
        rules
            .into_iter()
            .fold(self, |table, rule| table.field(rule, places))
    }

    /// Adds a refusal.
    #[must_use]
    pub fn refusal(self, refusal: &'static Refusal, places: &'static [&'static str]) -> Self {
        self.row(&refusal.rule, Effect::Refuses(refusal.code), places)
    }

    /// Adds the rows of a state machine.
    #[must_use]
    pub fn transitions(mut self, rows: impl IntoIterator<Item = TransitionRow>) -> Self {
        self.transitions.extend(rows);
        self
    }

    fn row(mut self, rule: &'static Rule, effect: Effect, places: &'static [&'static str]) -> Self {
        self.rules.push(RuleRow {
            rule,
            effect,
            places,
        });
        self
    }
}

/// All rules of a service.
#[derive(Clone, Debug)]
pub struct Rulebook {
    /// Name of the service's program, which prints the book.
    pub program: &'static str,
    /// Domain of its reasons.
    pub domain: &'static str,
    /// Its tables.
    pub tables: Vec<RuleTable>,
}

const HEAD: &str = "| rule | what holds | source | certainty | where | refused with | what to do |\n\
                    |---|---|---|---|---|---|---|\n";
const TRANSITION_HEAD: &str =
    "| from | what happens | to | source | certainty |\n|---|---|---|---|---|\n";

/// What the sender of a faulty field does, unless the rule says something else.
const CORRECT: &str = "correct the field and send the request again";

impl Rulebook {
    /// Every rule of every table.
    pub fn rules(&self) -> impl Iterator<Item = &RuleRow> {
        self.tables.iter().flat_map(|table| &table.rules)
    }

    /// The book as a page of Markdown.
    pub fn markdown(&self) -> String {
        let mut page = format!(
            "# Rules of {program}\n\n\
             Every rule by which this service refuses or answers, with the law, standard or notice it rests on.\n\
             Generated by `{program} rules` from the constants that the code itself applies; a test keeps it up to date.\n\n\
             Certainty: Q, read in its source; M, standard knowledge, not read again; D, set by this project.\n\
             A refusal carries its rule as reason in `google.rpc.ErrorInfo` with the domain `{domain}`. A field that breaks a\n\
             rule is refused with INVALID_ARGUMENT and the reason FIELD_INVALID; the rule is the reason of its violation in\n\
             `google.rpc.BadRequest`. – in `refused with`: the rule refuses nothing, it makes the answer what it is.\n",
            program = self.program,
            domain = self.domain,
        );
        for table in &self.tables {
            page.extend(["\n## ", table.title, "\n"]);
            if !table.rules.is_empty() {
                page.extend(["\n", HEAD]);
                page.extend(table.rules.iter().map(markdown_row));
            }
            if !table.transitions.is_empty() {
                page.extend(["\n", TRANSITION_HEAD]);
                page.extend(table.transitions.iter().map(markdown_transition));
            }
        }
        page
    }

    /// The book as JSON, for programs.
    pub fn json(&self) -> Value {
        let table = |table: &RuleTable| {
            let rules: Vec<_> = table.rules.iter().map(json_row).collect();
            let transitions: Vec<_> = table.transitions.iter().map(json_transition).collect();
            json!({"title": table.title, "rules": rules, "transitions": transitions})
        };
        let tables: Vec<_> = self.tables.iter().map(table).collect();
        json!({"program": self.program, "domain": self.domain, "tables": tables})
    }
}

/// What the caller does about a rule.
fn remedy(row: &RuleRow) -> &'static str {
    match (row.rule.remedy, row.effect) {
        ("", Effect::Violates) => CORRECT,
        (remedy, _) => remedy,
    }
}

/// Name of the status code and reason; none for a rule that refuses nothing.
fn refused_with(effect: Effect, rule: &'static Rule) -> Option<(&'static str, &'static str)> {
    match effect {
        Effect::Answers => None,
        Effect::Refuses(code) => Some((code_name(code), rule.code)),
        Effect::Violates => Some((code_name(Code::InvalidArgument), "FIELD_INVALID")),
    }
}

/// The name of a code as the gRPC specification writes it.
const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

fn markdown_row(row: &RuleRow) -> String {
    let rule = row.rule;
    let refused = match refused_with(row.effect, rule) {
        None => "–".to_owned(),
        Some((code, _)) => code.to_owned(),
    };
    let mut line = String::new();
    for cell in [
        rule.code,
        rule.text,
        rule.source,
        &rule.certainty.tag().to_string(),
        &row.places.join(", "),
        &refused,
        remedy(row),
    ] {
        line.push_str("| ");
        line.push_str(&cell.replace('|', "\\|"));
        line.push(' ');
    }
    line.push_str("|\n");
    line
}

fn markdown_transition(row: &TransitionRow) -> String {
    let mut line = String::new();
    let tag = row.certainty.tag();
    // Writing to a string does not fail.
    let _ = writeln!(
        line,
        "| {} | {} | {} | {} | {tag} |",
        row.from, row.event, row.to, row.source
    );
    line
}

fn json_row(row: &RuleRow) -> Value {
    let refused = refused_with(row.effect, row.rule);
    json!({
        "code": row.rule.code,
        "text": row.rule.text,
        "source": row.rule.source,
        "certainty": row.rule.certainty.tag().to_string(),
        "places": row.places,
        "status": refused.map(|(code, _)| code),
        "reason": refused.map(|(_, reason)| reason),
        "remedy": remedy(row),
    })
}

fn json_transition(row: &TransitionRow) -> Value {
    json!({
        "from": row.from, "event": row.event, "to": row.to,
        "source": row.source, "certainty": row.certainty.tag().to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELD: Rule = Rule::quoted("LENGTH", "a|b", "standard 1");
    const TOO_EARLY: Refusal = Refusal::conflict(
        Rule::memory("TOO_EARLY", "not before May", "notice 2").remedy("come in May"),
    );
    const ENDS: Rule = Rule::design("ENDS", "it ends by itself", "service");

    fn book() -> Rulebook {
        let table = RuleTable::new("Things")
            .field(&FIELD, &["Make", "Break"])
            .refusal(&TOO_EARLY, &["Make"])
            .answer(&ENDS, &["Ask"])
            .transitions([TransitionRow {
                from: "OPEN",
                event: "close",
                to: "CLOSED",
                source: "notice 2",
                certainty: Certainty::Quoted,
            }]);
        Rulebook {
            program: "banqiao-thing",
            domain: "banqiao.thing",
            tables: vec![table],
        }
    }

    #[test]
    fn the_page_has_a_line_for_each_rule_and_transition() {
        let page = book().markdown();
        for line in [
            "| LENGTH | a\\|b | standard 1 | Q | Make, Break | INVALID_ARGUMENT | correct the field and send the request again |",
            "| TOO_EARLY | not before May | notice 2 | M | Make | FAILED_PRECONDITION | come in May |",
            "| ENDS | it ends by itself | service | D | Ask | – |  |",
            "| OPEN | close | CLOSED | notice 2 | Q |",
        ] {
            assert!(page.lines().any(|other| other == line), "{line}\n{page}");
        }
    }

    #[test]
    fn programs_read_status_and_reason() {
        let json = book().json();
        let rules = &json["tables"][0]["rules"];
        assert_eq!(rules[0]["reason"], "FIELD_INVALID");
        assert_eq!(rules[1]["status"], "FAILED_PRECONDITION");
        assert_eq!(rules[1]["reason"], "TOO_EARLY");
        assert_eq!(rules[2]["status"], Value::Null);
        assert_eq!(json["tables"][0]["transitions"][0]["to"], "CLOSED");
    }

    #[test]
    fn a_refusal_tells_how_it_stands_and_what_to_do() {
        let CallError::CallerRefused {
            message,
            retry_after,
            ..
        } = TOO_EARLY.for_now("it is April", Duration::from_secs(1))
        else {
            panic!("another error");
        };
        assert_eq!(
            (&*message, retry_after),
            ("it is April", Some(Duration::from_secs(1)))
        );
    }
}
