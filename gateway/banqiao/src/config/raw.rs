//! Reads TOML into typed values and collects every fault on the way.
//!
//! serde stops at the first fault, and loses the place of a value below `flatten`; so the document is walked by
//! hand. A [`Section`] remembers which keys were asked for: what is left at the end is unknown.

use std::{
    collections::BTreeSet, fmt::Display, net::SocketAddr, ops::RangeInclusive, str::FromStr,
    time::Duration,
};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::fault::{Faults, Place};
use crate::moment::{format_duration, parse_duration};

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct Located<T> {
    /// The value.
    pub(super) value: T,
    /// Its place.
    pub(super) at: Place,
}

/// A table of the config, being read.
#[derive(Debug)]
pub(super) struct Section<'a, 't> {
    faults: &'a Faults<'t>,
    at: Place,
    table: Option<&'a DeTable<'a>>,
    asked: BTreeSet<&'static str>,
}

impl<'a, 't> Section<'a, 't> {
    /// The whole document.
    pub(super) const fn root(faults: &'a Faults<'t>, table: &'a DeTable<'a>) -> Self {
        let at = Place {
            key: String::new(),
            line: None,
        };
        Self {
            faults,
            at,
            table: Some(table),
            asked: BTreeSet::new(),
        }
    }

    /// Where this section stands.
    pub(super) const fn at(&self) -> &Place {
        &self.at
    }

    /// Where to report faults.
    pub(super) const fn faults(&self) -> &'a Faults<'t> {
        self.faults
    }

    /// The place of a key in this section, with the section's own line where the key is absent.
    pub(super) fn place(&self, key: &str) -> Place {
        let path = if self.at.key.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.at.key)
        };
        let line = self
            .table
            .and_then(|table| table.iter().find(|(name, _)| name.get_ref() == key))
            .map(|(name, _)| self.faults.line(&name.span()));
        Place {
            key: path,
            line: line.or(self.at.line),
        }
    }

    fn take(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.insert(key);
        self.table?
            .iter()
            .find(|(name, _)| name.get_ref() == key)
            .map(|(_, value)| value)
    }

    /// Whether the key stands in the file.
    pub(super) fn has(&self, key: &str) -> bool {
        self.table
            .is_some_and(|table| table.iter().any(|(name, _)| name.get_ref() == key))
    }

    /// A table below this one; an absent one reads as empty, so that its required keys are reported each.
    pub(super) fn section(&mut self, key: &'static str) -> Self {
        let value = self.take(key);
        let at = self.place(key);
        let table = value.and_then(|value| {
            let table = value.get_ref().as_table();
            if table.is_none() {
                self.faults.error(
                    &at,
                    mismatch("a table", value.get_ref()),
                    format!("write [{}]", at.key),
                );
            }
            table
        });
        Section {
            faults: self.faults,
            at,
            table,
            asked: BTreeSet::new(),
        }
    }

    /// An array of tables below this one; absent: none.
    pub(super) fn sections(&mut self, key: &'static str) -> Vec<Self> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let at = self.place(key);
        let Some(array) = value.get_ref().as_array() else {
            let hint = format!("write one [[{}]] for each", at.key);
            self.faults
                .error(&at, mismatch("an array of tables", value.get_ref()), hint);
            return Vec::new();
        };
        let mut sections = Vec::with_capacity(array.len());
        for (number, item) in array.iter().enumerate() {
            let line = Some(self.faults.line(&item.span()));
            let at = Place {
                key: format!("{}[{number}]", at.key),
                line,
            };
            let table = item.get_ref().as_table();
            if table.is_none() {
                self.faults
                    .error(&at, mismatch("a table", item.get_ref()), "");
            }
            sections.push(Section {
                faults: self.faults,
                at,
                table,
                asked: BTreeSet::new(),
            });
        }
        sections
    }

    /// An optional text, parsed.
    pub(super) fn optional<T>(
        &mut self,
        key: &'static str,
        parse: impl FnOnce(&str) -> Result<T, (String, String)>,
    ) -> Option<Located<T>> {
        let value = self.take(key)?;
        let at = self.place(key);
        let Some(text) = value.get_ref().as_str() else {
            self.faults.error(
                &at,
                mismatch("a text", value.get_ref()),
                format!("write {key} = \"…\""),
            );
            return None;
        };
        match parse(text) {
            Ok(value) => Some(Located { value, at }),
            Err((problem, hint)) => {
                self.faults.error(&at, problem, hint);
                None
            }
        }
    }

    /// A required text, parsed. `hint` says what to write where it is absent.
    pub(super) fn required<T>(
        &mut self,
        key: &'static str,
        hint: &str,
        parse: impl FnOnce(&str) -> Result<T, (String, String)>,
    ) -> Option<Located<T>> {
        if !self.has(key) {
            self.asked.insert(key);
            self.faults.error(&self.place(key), "is missing", hint);
            return None;
        }
        self.optional(key, parse)
    }

    /// An array of texts, each parsed; absent: none. The places are those of the items.
    pub(super) fn list<T>(
        &mut self,
        key: &'static str,
        mut parse: impl FnMut(&str) -> Result<T, (String, String)>,
    ) -> Vec<Located<T>> {
        let Some(value) = self.take(key) else {
            return Vec::new();
        };
        let at = self.place(key);
        let Some(array) = value.get_ref().as_array() else {
            let hint = format!("write {key} = [\"…\"]");
            self.faults
                .error(&at, mismatch("an array of texts", value.get_ref()), hint);
            return Vec::new();
        };
        let mut items = Vec::with_capacity(array.len());
        for (number, item) in array.iter().enumerate() {
            let line = Some(self.faults.line(&item.span()));
            let at = Place {
                key: format!("{}[{number}]", at.key),
                line,
            };
            match item.get_ref().as_str().map(&mut parse) {
                None => self
                    .faults
                    .error(&at, mismatch("a text", item.get_ref()), ""),
                Some(Ok(value)) => items.push(Located { value, at }),
                Some(Err((problem, hint))) => self.faults.error(&at, problem, hint),
            }
        }
        items
    }

    /// A setting with a default and a range.
    pub(super) fn setting<T: Setting>(
        &mut self,
        key: &'static str,
        default: T,
        range: &RangeInclusive<T>,
    ) -> T {
        let Some(value) = self.take(key) else {
            return default;
        };
        let at = self.place(key);
        let Some(read) = T::read(value.get_ref()) else {
            self.faults
                .error(&at, mismatch(T::FORM, value.get_ref()), T::HINT);
            return default;
        };
        if !range.contains(&read) {
            let problem = format!("{} is out of range", read.show());
            let hint = format!(
                "write a value from {} to {}; the default is {}",
                range.start().show(),
                range.end().show(),
                default.show()
            );
            self.faults.error(&at, problem, hint);
            return default;
        }
        read
    }

    /// An optional number that need not be whole.
    pub(super) fn ratio(&mut self, key: &'static str) -> Option<f64> {
        let value = self.take(key)?;
        let number = match value.get_ref() {
            DeValue::Float(number) => number.as_str().parse().ok(),
            DeValue::Integer(number) => number.as_str().parse().ok(),
            _ => None,
        };
        if number.is_none() {
            let at = self.place(key);
            self.faults.error(
                &at,
                mismatch("a number", value.get_ref()),
                format!("write {key} = 0.1"),
            );
        }
        number
    }

    /// Reports every key that nothing asked for.
    pub(super) fn finish(self) {
        let Some(table) = self.table else { return };
        for (name, _) in table {
            let key = name.get_ref().as_ref();
            if !self.asked.contains(key) {
                let known = self.asked.iter().copied();
                self.faults.error(
                    &self.place(key),
                    "is not a key of the config",
                    suggestion(key, known),
                );
            }
        }
    }
}

/// A value with a default: a duration, a number, a size.
pub(super) trait Setting: Copy + PartialOrd {
    /// What it is called in a fault.
    const FORM: &'static str;
    /// How to write it.
    const HINT: &'static str;
    /// Reads it.
    fn read(value: &DeValue<'_>) -> Option<Self>;
    /// Writes it as it would stand in a config.
    fn show(self) -> String;
}

impl Setting for Duration {
    const FORM: &'static str = "a duration";
    const HINT: &'static str = "write a duration such as \"500ms\", \"10s\", \"5min\" or \"24h\"";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        parse_duration(value.as_str()?).ok()
    }

    fn show(self) -> String {
        format_duration(self)
    }
}

impl Setting for bool {
    const FORM: &'static str = "true or false";
    const HINT: &'static str = "write true or false without quotes";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        value.as_bool()
    }

    fn show(self) -> String {
        self.to_string()
    }
}

impl Setting for u64 {
    const FORM: &'static str = "a whole number";
    const HINT: &'static str = "write a whole number without quotes";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        let number = value.as_integer()?;
        Self::from_str_radix(number.as_str(), number.radix()).ok()
    }

    fn show(self) -> String {
        self.to_string()
    }
}

/// A number of bytes, written as a whole number or as `"16KiB"`, `"4MiB"`, `"1GiB"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ByteSize(u64);

impl ByteSize {
    /// So many bytes.
    pub(super) const fn bytes(bytes: u64) -> Self {
        Self(bytes)
    }

    /// In bytes.
    pub(super) const fn get(self) -> u64 {
        self.0
    }
}

impl Setting for ByteSize {
    const FORM: &'static str = "a size";
    const HINT: &'static str =
        "write bytes as a whole number, or a size such as \"16KiB\" or \"4MiB\"";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        if let Some(number) = value.as_integer() {
            return u64::from_str_radix(number.as_str(), number.radix())
                .ok()
                .map(Self);
        }
        let text = value.as_str()?.trim();
        let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
        let unit = match text[digits.len()..].trim() {
            "B" => 0,
            "KiB" => 10,
            "MiB" => 20,
            "GiB" => 30,
            _ => return None,
        };
        digits.parse::<u64>().ok()?.checked_mul(1 << unit).map(Self)
    }

    fn show(self) -> String {
        for (bits, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
            if self.0 != 0 && self.0.trailing_zeros() >= bits {
                return format!("\"{}{unit}\"", self.0 >> bits);
            }
        }
        self.0.to_string()
    }
}

/// Parses by `FromStr`, with the error's text as the problem and this hint.
pub(super) fn parsed<T>(hint: &str) -> impl FnMut(&str) -> Result<T, (String, String)>
where
    T: FromStr<Err: Display>,
{
    move |text| {
        text.parse()
            .map_err(|error: T::Err| (format!("{text:?}: {error}"), hint.to_owned()))
    }
}

/// Parses an IP address and port to listen on.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, (String, String)> {
    text.parse().map_err(|_| {
        let hint = "write an IP address and a port, such as \"0.0.0.0:8443\" or \"[::]:8443\"";
        (
            format!("{text:?} is not an address to listen on"),
            hint.to_owned(),
        )
    })
}

fn mismatch(wanted: &str, found: &DeValue<'_>) -> String {
    format!(
        "must be {wanted}, but is {}",
        match found {
            DeValue::String(text) => format!("the text {text:?}"),
            DeValue::Integer(number) => format!("the number {number}"),
            DeValue::Float(number) => format!("the number {}", number.as_str()),
            DeValue::Boolean(value) => format!("{value}"),
            DeValue::Datetime(at) => format!("the time {at}"),
            DeValue::Array(_) => "an array".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        }
    )
}

/// "did you mean …" for a key that is at most two edits away from a known one, else the list of known ones.
fn suggestion<'k>(key: &str, known: impl Iterator<Item = &'k str> + Clone) -> String {
    let near = known
        .clone()
        .map(|candidate| (distance(key, candidate), candidate))
        .filter(|(edits, _)| *edits <= 2)
        .min();
    near.map_or_else(
        || {
            format!(
                "remove it; keys here are {}",
                known.collect::<Vec<_>>().join(", ")
            )
        },
        |(_, candidate)| format!("did you mean {candidate}?"),
    )
}

/// Levenshtein distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replace = diagonal + usize::from(from != *to);
            diagonal = row[j + 1];
            row[j + 1] = replace.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
