//! What is wrong with a config.

use std::{cell::RefCell, fmt, ops::Range};

use serde::Serialize;

use crate::text::clean;

/// How bad a fault is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The gateway does not start.
    Error,
    /// It starts, but an operator should know.
    Warning,
}

/// One fault: where, what, and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// How bad it is.
    pub severity: Severity,
    /// Path of the key, such as `listeners.client.address` or `services[1].endpoints`; empty: the whole file.
    pub key: String,
    /// Line in the file, from 1, where it is known.
    pub line: Option<usize>,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: ")?;
        if !self.key.is_empty() {
            write!(f, "{}", clean(&self.key))?;
            if let Some(line) = self.line {
                write!(f, " (line {line})")?;
            }
            f.write_str(": ")?;
        } else if let Some(line) = self.line {
            write!(f, "line {line}: ")?;
        }
        write!(f, "{}", clean(&self.problem))?;
        if !self.hint.is_empty() {
            write!(f, "\n  hint: {}", clean(&self.hint))?;
        }
        Ok(())
    }
}

/// Where a value stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Path of the key.
    pub key: String,
    /// Line, from 1.
    pub line: Option<usize>,
}

/// Collects faults while a config is read; shared by every section's reader.
#[derive(Debug)]
pub(super) struct Faults<'a> {
    text: &'a str,
    found: RefCell<Vec<Fault>>,
}

impl<'a> Faults<'a> {
    /// No faults yet in this text.
    pub(super) const fn new(text: &'a str) -> Self {
        Self {
            text,
            found: RefCell::new(Vec::new()),
        }
    }

    /// The line of a place in the text, from 1.
    pub(super) fn line(&self, span: &Range<usize>) -> usize {
        let before = self.text.as_bytes().get(..span.start).unwrap_or_default();
        1 + before.iter().filter(|byte| **byte == b'\n').count()
    }

    /// Adds an error.
    pub(super) fn error(&self, at: &Place, problem: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Error, at, problem.into(), hint.into());
    }

    /// Adds a warning.
    pub(super) fn warning(&self, at: &Place, problem: impl Into<String>, hint: impl Into<String>) {
        self.add(Severity::Warning, at, problem.into(), hint.into());
    }

    fn add(&self, severity: Severity, at: &Place, problem: String, hint: String) {
        let fault = Fault {
            severity,
            key: at.key.clone(),
            line: at.line,
            problem,
            hint,
        };
        self.found.borrow_mut().push(fault);
    }

    /// Everything that was found: by line, what has none last.
    pub(super) fn into_sorted(self) -> Vec<Fault> {
        let mut found = self.found.into_inner();
        found.sort_by(|a, b| match (a.line, b.line) {
            (Some(one), Some(other)) => (one, &a.key).cmp(&(other, &b.key)),
            (one, other) => one.is_none().cmp(&other.is_none()),
        });
        found
    }
}
