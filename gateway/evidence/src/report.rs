//! What came of a verification.

use std::fmt;

use serde::Serialize;

/// How a statement stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// Shown to be false: the file, or what it is about, was changed.
    Broken,
    /// It would be needed, and the file does not hold it.
    Missing,
    /// The two cities say different things; each of them is proven to have said it.
    Differs,
    /// Somebody said so, and nothing here shows it.
    Asserted,
    /// Shown.
    Proven,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Broken => "BROKEN",
            Self::Missing => "missing",
            Self::Differs => "differs",
            Self::Asserted => "asserted",
            Self::Proven => "proven",
        })
    }
}

/// A statement about the exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// How it stands.
    pub standing: Standing,
    /// A name for programs.
    pub check: &'static str,
    /// What it says, for people.
    pub text: String,
}

/// The whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Everything that is needed is proven.
    Valid,
    /// Something is shown to be false.
    Invalid,
    /// Nothing is false, and something is missing.
    Incomplete,
}

/// What a file proves of an exchange, and what it does not.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// UUID of the exchange.
    pub exchange: String,
    /// Every statement, in the order in which it was looked at.
    pub findings: Vec<Finding>,
}

impl Report {
    /// The verdict: nothing that is broken, then nothing that is missing.
    pub fn verdict(&self) -> Verdict {
        let worst = self.findings.iter().map(|finding| finding.standing).min();
        match worst {
            Some(Standing::Broken) => Verdict::Invalid,
            Some(Standing::Missing) | None => Verdict::Incomplete,
            Some(_) => Verdict::Valid,
        }
    }

    /// How many statements are proven.
    pub fn proven_count(&self) -> usize {
        let proven = self.findings.iter();
        proven
            .filter(|finding| finding.standing == Standing::Proven)
            .count()
    }

    pub(crate) fn add(&mut self, standing: Standing, check: &'static str, text: impl Into<String>) {
        self.findings.push(Finding {
            standing,
            check,
            text: text.into(),
        });
    }

    pub(crate) fn proven(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(Standing::Proven, check, text);
    }

    pub(crate) fn broken(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(Standing::Broken, check, text);
    }

    pub(crate) fn missing(&mut self, check: &'static str, text: impl Into<String>) {
        self.add(Standing::Missing, check, text);
    }
}
