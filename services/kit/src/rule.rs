//! Rules of fields, each with its source, and the list of the rules that a request breaks.

use std::{borrow::Cow, fmt};

/// How certain a rule is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Certainty {
    /// Proposed by this project.
    Design,
    /// Standard knowledge, not read again in its source.
    Memory,
    /// Read in its source.
    Quoted,
}

impl Certainty {
    /// The tag that stands beside a source: `D`, `M` or `Q`.
    pub const fn tag(self) -> char {
        match self {
            Self::Design => 'D',
            Self::Memory => 'M',
            Self::Quoted => 'Q',
        }
    }
}

/// A rule that a value must keep. Its text never quotes the value.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule {
    /// Stable code in SCREAMING_SNAKE_CASE, for programs.
    pub code: &'static str,
    /// What is required, for people.
    pub text: &'static str,
    /// Law, standard or document that requires it.
    pub source: &'static str,
    /// How certain the rule is.
    pub certainty: Certainty,
    /// What whoever broke it does about it; empty where the text says it already.
    pub remedy: &'static str,
}

impl Rule {
    /// Says what whoever breaks the rule does about it.
    #[must_use]
    pub const fn remedy(self, remedy: &'static str) -> Self {
        Self { remedy, ..self }
    }

    /// A rule that this project set itself.
    pub const fn design(code: &'static str, text: &'static str, source: &'static str) -> Self {
        Self {
            code,
            text,
            source,
            certainty: Certainty::Design,
            remedy: "",
        }
    }

    /// A rule from standard knowledge.
    pub const fn memory(code: &'static str, text: &'static str, source: &'static str) -> Self {
        Self {
            code,
            text,
            source,
            certainty: Certainty::Memory,
            remedy: "",
        }
    }

    /// A rule that was read in its source.
    pub const fn quoted(code: &'static str, text: &'static str, source: &'static str) -> Self {
        Self {
            code,
            text,
            source,
            certainty: Certainty::Quoted,
            remedy: "",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({}, {})",
            self.text,
            self.source,
            self.certainty.tag()
        )
    }
}

/// A value breaks a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Broken(pub &'static Rule);

/// A field of a request breaks a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Path of the field in the request, dot-separated protobuf names.
    pub field: Cow<'static, str>,
    /// The rule.
    pub rule: &'static Rule,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.rule)
    }
}

/// Collects every violation of a request, so that its sender learns of all of them at once.
#[derive(Debug, Default)]
pub struct Violations(Vec<Violation>);

impl Violations {
    /// An empty list.
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// The value, or none and a violation of `field`.
    pub fn check<T>(
        &mut self,
        field: impl Into<Cow<'static, str>>,
        parsed: Result<T, Broken>,
    ) -> Option<T> {
        match parsed {
            Ok(value) => Some(value),
            Err(Broken(rule)) => {
                self.add(field, rule);
                None
            }
        }
    }

    /// Adds a violation.
    pub fn add(&mut self, field: impl Into<Cow<'static, str>>, rule: &'static Rule) {
        self.0.push(Violation {
            field: field.into(),
            rule,
        });
    }

    /// Whether no rule was broken so far.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The violations in the order in which they were found.
    pub fn into_vec(self) -> Vec<Violation> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Rule = Rule::quoted("LENGTH", "three characters or more", "standard 1");

    #[test]
    fn a_rule_names_its_source_and_certainty() {
        assert_eq!(
            SHORT.to_string(),
            "three characters or more (standard 1, Q)"
        );
        let violation = Violation {
            field: "key.name".into(),
            rule: &SHORT,
        };
        assert_eq!(
            violation.to_string(),
            "key.name: three characters or more (standard 1, Q)"
        );
    }

    #[test]
    fn every_violation_is_collected() {
        let mut violations = Violations::new();
        assert_eq!(violations.check("a", Ok(1)), Some(1));
        assert_eq!(violations.check::<u8>("b", Err(Broken(&SHORT))), None);
        violations.add("c", &SHORT);
        let fields: Vec<_> = violations.into_vec().into_iter().map(|v| v.field).collect();
        assert_eq!(fields, ["b", "c"]);
    }
}
