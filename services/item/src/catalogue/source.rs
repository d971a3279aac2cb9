//! Catalogue files as TOML with the line of every value, so that each fault says where it stands.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fmt,
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
};

use jiff::civil::Date;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

/// Longest text in a catalogue, in bytes: names have at most 200 characters (GB/T 39046-2020) (Q).
const MAX_TEXT: usize = 600;

/// A fault of a catalogue file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CatalogueFault {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1 on.
    pub line: usize,
    /// Key path, such as `item[3].legal.workdays`. Empty: the file as a whole.
    pub key: String,
    /// What is wrong, and what is expected.
    pub message: String,
}

impl fmt::Display for CatalogueFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file.display(), self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

/// Every fault of the catalogue's files, in the order of the files and their lines.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct CatalogueFaults(pub Vec<CatalogueFault>);

impl fmt::Display for CatalogueFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, fault) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

/// A file that is being read, and its faults so far.
#[derive(Debug)]
pub(super) struct Source<'i> {
    file: &'i Path,
    text: &'i str,
    faults: RefCell<Vec<CatalogueFault>>,
}

impl<'i> Source<'i> {
    pub(super) fn new(file: &'i Path, text: &'i str) -> Self {
        Self {
            file,
            text,
            faults: RefCell::default(),
        }
    }

    /// The file's table. Faults of the syntax are noted, and what can be read is read.
    pub(super) fn table(&self) -> Spanned<DeTable<'i>> {
        let (table, errors) = DeTable::parse_recoverable(self.text);
        for error in errors {
            self.fault(error.span().unwrap_or(0..0), "", error.message());
        }
        table
    }

    pub(super) fn fault(&self, at: Range<usize>, key: &str, message: impl Into<String>) {
        let before = self.text.as_bytes().get(..at.start).unwrap_or_default();
        self.faults.borrow_mut().push(CatalogueFault {
            file: self.file.to_owned(),
            line: 1 + before.iter().filter(|byte| **byte == b'\n').count(),
            key: key.to_owned(),
            message: message.into(),
        });
    }

    pub(super) fn into_faults(self) -> Vec<CatalogueFault> {
        let mut faults = self.faults.into_inner();
        faults.sort_by_key(|fault| fault.line);
        faults
    }
}

/// A table of a file. Keys that nothing asked for are faults when it is dropped.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    source: &'a Source<'a>,
    path: String,
    at: Range<usize>,
    table: &'a DeTable<'a>,
    read: BTreeSet<&'static str>,
}

impl<'a> Entry<'a> {
    pub(super) fn top(source: &'a Source<'a>, table: &'a Spanned<DeTable<'a>>) -> Self {
        Self {
            source,
            path: String::new(),
            at: 0..0,
            table: table.get_ref(),
            read: BTreeSet::new(),
        }
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.read.insert(key);
        let found = self.table.iter().find(|(name, _)| name.get_ref() == key);
        found.map(|(_, value)| value)
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// Adds a fault of `key`, at its value, or at the entry where the key is missing.
    pub(super) fn fault(&self, key: &str, message: impl Into<String>) {
        let value = self.table.iter().find(|(name, _)| name.get_ref() == key);
        let at = value.map_or_else(|| self.at.clone(), |(_, value)| value.span());
        self.source.fault(at, &self.path_of(key), message);
    }

    /// Text, which is not empty.
    pub(super) fn optional_text(&mut self, key: &'static str) -> Option<&'a str> {
        match self.value(key)?.get_ref().as_str() {
            Some(text) if !text.trim().is_empty() && text.len() <= MAX_TEXT => Some(text),
            _ => {
                self.fault(key, format!("must be text of 1 to {MAX_TEXT} bytes"));
                None
            }
        }
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<&'a str> {
        if self.value(key).is_none() {
            self.fault(key, "is required");
        }
        self.optional_text(key)
    }

    /// A value that is parsed from text.
    pub(super) fn parsed<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<T> {
        let text = self.text(key)?;
        parse(text).map_err(|fault| self.fault(key, fault)).ok()
    }

    /// One of some words.
    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Option<T> {
        self.parsed(key, |text| choose(text, words))
    }

    /// One of some words, where the key is there.
    pub(super) fn optional_choice<T: Copy>(
        &mut self,
        key: &'static str,
        words: &[(&str, T)],
    ) -> Option<T> {
        let given = self.value(key).is_some();
        given.then(|| self.choice(key, words)).flatten()
    }

    pub(super) fn date(&mut self, key: &'static str) -> Option<Date> {
        self.parsed(key, parse_date)
    }

    pub(super) fn optional_date(&mut self, key: &'static str) -> Option<Date> {
        self.value(key).is_some().then(|| self.date(key)).flatten()
    }

    pub(super) fn optional_number(
        &mut self,
        key: &'static str,
        range: RangeInclusive<i64>,
    ) -> Option<i64> {
        let value = self.value(key)?;
        let number = whole(value.get_ref()).filter(|number| range.contains(number));
        if number.is_none() {
            self.fault(
                key,
                format!(
                    "must be a whole number from {} to {}",
                    range.start(),
                    range.end()
                ),
            );
        }
        number
    }

    pub(super) fn number(&mut self, key: &'static str, range: RangeInclusive<i64>) -> Option<i64> {
        if self.value(key).is_none() {
            self.fault(key, "is required");
        }
        self.optional_number(key, range)
    }

    /// A list of texts; an empty one when the key is not there.
    pub(super) fn texts(&mut self, key: &'static str) -> Vec<&'a str> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let texts: Option<Vec<_>> = (value.get_ref().as_array())
            .and_then(|array| array.iter().map(|one| one.get_ref().as_str()).collect());
        texts.unwrap_or_else(|| {
            self.fault(key, "must be a list of texts");
            Vec::new()
        })
    }

    /// A list of words.
    pub(super) fn choices<T: Copy>(&mut self, key: &'static str, words: &[(&str, T)]) -> Vec<T> {
        let texts = self.texts(key);
        let mut chosen = Vec::new();
        for text in texts {
            match choose(text, words) {
                Ok(one) => chosen.push(one),
                Err(fault) => self.fault(key, fault),
            }
        }
        chosen
    }

    /// A table.
    pub(super) fn entry(&mut self, key: &'static str) -> Option<Self> {
        let value = self.value(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.fault(key, "must be a table");
            return None;
        };
        Some(self.within(self.path_of(key), value.span(), table))
    }

    /// A list of tables.
    pub(super) fn entries(&mut self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            self.fault(key, "must be a list of tables");
            return Vec::new();
        };
        let mut entries = Vec::new();
        for (index, value) in array.iter().enumerate() {
            let path = format!("{}[{index}]", self.path_of(key));
            match value.get_ref().as_table() {
                Some(table) => entries.push(self.within(path, value.span(), table)),
                None => self.source.fault(value.span(), &path, "must be a table"),
            }
        }
        entries
    }

    /// The members of a table whose keys are not known beforehand.
    pub(super) fn members(&mut self, key: &'static str) -> Vec<(&'a str, &'a DeValue<'a>)> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let Some(table) = value.get_ref().as_table() else {
            self.fault(key, "must be a table");
            return Vec::new();
        };
        let members = table.iter();
        members
            .map(|(name, value)| (name.get_ref().as_ref(), value.get_ref()))
            .collect()
    }

    const fn within(&self, path: String, at: Range<usize>, table: &'a DeTable<'a>) -> Self {
        Self {
            source: self.source,
            path,
            at,
            table,
            read: BTreeSet::new(),
        }
    }
}

impl Drop for Entry<'_> {
    fn drop(&mut self) {
        for (name, _) in self.table {
            let key: &str = name.get_ref();
            if !self.read.contains(key) {
                let known: Vec<_> = self.read.iter().copied().collect();
                let message = format!("is not a key here; known are {}", known.join(", "));
                self.source.fault(name.span(), &self.path_of(key), message);
            }
        }
    }
}

/// A whole number of TOML.
pub(super) fn whole(value: &DeValue<'_>) -> Option<i64> {
    let integer = value.as_integer()?;
    i64::from_str_radix(integer.as_str(), integer.radix()).ok()
}

fn choose<T: Copy>(text: &str, words: &[(&str, T)]) -> Result<T, String> {
    let found = words.iter().find(|(word, _)| *word == text);
    found.map(|(_, value)| *value).ok_or_else(|| {
        let known: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        format!("must be one of {}", known.join(", "))
    })
}

/// A date in the one form `2026-01-31`.
fn parse_date(text: &str) -> Result<Date, String> {
    let date: Option<Date> = text.parse().ok();
    date.filter(|date| date.to_string() == text)
        .ok_or_else(|| "must be a date such as \"2026-01-31\"".to_owned())
}
