//! Reading of configuration files: every fault at once, each with its key path.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use jiff::{Span, SpanRelativeTo};
use toml::{Table, Value};

/// A fault of a configuration file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingFault {
    /// Key path, such as `identity.private_key`. Empty: the file as a whole.
    pub key: String,
    /// What is wrong, and what is expected.
    pub message: String,
}

impl fmt::Display for SettingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.key.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.key, self.message)
        }
    }
}

/// Every fault of a configuration file, in the order of the keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SettingFaults(pub Vec<SettingFault>);

impl fmt::Display for SettingFaults {
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

impl SettingFaults {
    /// One fault of a key, such as one that shows only when the value is used.
    pub fn of(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self(vec![SettingFault {
            key: key.into(),
            message: message.into(),
        }])
    }
}

/// A configuration file that was read: its table, and the folder to which its paths are relative.
#[derive(Debug)]
pub struct SettingsFile {
    table: Table,
    folder: PathBuf,
    faults: RefCell<Vec<SettingFault>>,
}

impl SettingsFile {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is not TOML.
    pub fn read(path: &Path) -> Result<Self, SettingFaults> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| whole(format!("cannot read {}: {error}", path.display())))?;
        Self::parse(&text, path.parent().unwrap_or_else(|| Path::new("")))
    }

    /// Parses text; its paths are relative to `folder`.
    ///
    /// # Errors
    /// The text is not TOML.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, SettingFaults> {
        let table = text
            .parse()
            .map_err(|error: toml::de::Error| whole(error.to_string()))?;
        Ok(Self {
            table,
            folder: folder.to_owned(),
            faults: RefCell::default(),
        })
    }

    /// Reads the whole file with `read`, and gives its value when no fault was found in any key.
    ///
    /// # Errors
    /// Every fault.
    pub fn finish<T>(
        self,
        read: impl FnOnce(&mut Section<'_>) -> Option<T>,
    ) -> Result<T, SettingFaults> {
        let mut top = Section {
            file: &self,
            path: String::new(),
            table: Some(&self.table),
            read: BTreeSet::new(),
        };
        let value = read(&mut top);
        drop(top);
        let faults = self.faults.into_inner();
        match value {
            Some(value) if faults.is_empty() => Ok(value),
            _ => Err(SettingFaults(faults)),
        }
    }
}

fn whole(message: String) -> SettingFaults {
    SettingFaults::of("", message)
}

/// A table of a configuration file. Keys that nothing asked for are faults when it is dropped.
#[derive(Debug)]
pub struct Section<'a> {
    file: &'a SettingsFile,
    path: String,
    table: Option<&'a Table>,
    read: BTreeSet<&'static str>,
}

impl<'a> Section<'a> {
    /// The table under `key`; an empty one when it is not there.
    pub fn section(&mut self, key: &'static str) -> Self {
        let table = match self.value(key) {
            None => None,
            Some(Value::Table(table)) => Some(table),
            Some(_) => {
                self.fault(key, "must be a table");
                None
            }
        };
        Section {
            file: self.file,
            path: self.path_of(key),
            table,
            read: BTreeSet::new(),
        }
    }

    /// The raw value under `key`.
    pub fn value(&mut self, key: &'static str) -> Option<&'a Value> {
        self.read.insert(key);
        self.table?.get(key)
    }

    /// Adds a fault of `key`.
    pub fn fault(&self, key: &str, message: impl Into<String>) {
        let fault = SettingFault {
            key: self.path_of(key),
            message: message.into(),
        };
        self.file.faults.borrow_mut().push(fault);
    }

    /// Text under `key`; none and no fault when it is not there.
    pub fn optional_text(&mut self, key: &'static str) -> Option<&'a str> {
        match self.value(key)? {
            Value::String(text) if !text.is_empty() => Some(text),
            _ => {
                self.fault(key, "must be text and not empty");
                None
            }
        }
    }

    /// Text under `key`, which is required.
    pub fn text(&mut self, key: &'static str) -> Option<&'a str> {
        if self.value(key).is_none() {
            self.fault(key, "is required");
        }
        self.optional_text(key)
    }

    /// A value that is parsed from text, such as an address.
    pub fn parsed<T>(&mut self, key: &'static str) -> Option<T>
    where
        T: FromStr<Err: fmt::Display>,
    {
        match self.text(key)?.parse() {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(key, format!("{error}"));
                None
            }
        }
    }

    /// A path, relative to the file's folder, which is required.
    pub fn path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.text(key).map(|text| self.file.folder.join(text))
    }

    /// A path, relative to the file's folder.
    pub fn optional_path(&mut self, key: &'static str) -> Option<PathBuf> {
        self.optional_text(key)
            .map(|text| self.file.folder.join(text))
    }

    /// The folder to which paths are relative.
    pub fn folder(&self) -> &'a Path {
        &self.file.folder
    }

    /// A duration such as `"10s"`, `"5min"` or `"10d"` (days of 24 hours) that lies in `range`; `default` when it is not there.
    pub fn duration(
        &mut self,
        key: &'static str,
        default: Duration,
        range: std::ops::RangeInclusive<Duration>,
    ) -> Duration {
        if self.value(key).is_none() {
            return default;
        }
        let Some(text) = self.optional_text(key) else {
            return default;
        };
        match parse_duration(text) {
            Some(duration) if range.contains(&duration) => return duration,
            Some(_) => self.fault(
                key,
                format!("must lie between {:?} and {:?}", range.start(), range.end()),
            ),
            None => self.fault(
                key,
                "must be a duration such as \"10s\", \"5min\" or \"10d\"",
            ),
        }
        default
    }

    /// A whole number that lies in `range`; `default` when it is not there.
    pub fn number<T>(
        &mut self,
        key: &'static str,
        default: T,
        range: std::ops::RangeInclusive<T>,
    ) -> T
    where
        T: TryFrom<i64> + PartialOrd + fmt::Display,
    {
        let Some(value) = self.value(key) else {
            return default;
        };
        match value
            .as_integer()
            .and_then(|number| T::try_from(number).ok())
        {
            Some(number) if range.contains(&number) => number,
            _ => {
                let message = format!(
                    "must be a whole number from {} to {}",
                    range.start(),
                    range.end()
                );
                self.fault(key, message);
                default
            }
        }
    }

    fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }
}

impl Drop for Section<'_> {
    fn drop(&mut self) {
        let Some(table) = self.table else { return };
        for key in table.keys().filter(|key| !self.read.contains(key.as_str())) {
            let known: Vec<_> = self.read.iter().copied().collect();
            self.fault(
                key,
                format!("is not a key here; known are {}", known.join(", ")),
            );
        }
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    let span: Span = text.parse().ok()?;
    let duration = span.to_duration(SpanRelativeTo::days_are_24_hours()).ok()?;
    Duration::try_from(duration).ok()
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    const RANGE: std::ops::RangeInclusive<Duration> =
        Duration::from_secs(1)..=Duration::from_secs(864_000);

    #[derive(Debug, PartialEq)]
    struct Example {
        listen: SocketAddr,
        key: PathBuf,
        term: Duration,
        streams: u32,
    }

    fn read(text: &str) -> Result<Example, Vec<String>> {
        let file = SettingsFile::parse(text, Path::new("/etc/card")).unwrap();
        let example = file.finish(|top| {
            let listen = top.parsed("listen");
            let mut identity = top.section("identity");
            let key = identity.path("private_key");
            let term = top.duration("term", Duration::from_secs(60), RANGE);
            let streams = top.number("streams", 100, 1..=1000);
            Some(Example {
                listen: listen?,
                key: key?,
                term,
                streams,
            })
        });
        example.map_err(|faults| faults.0.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn defaults_stand_in_and_paths_are_relative_to_the_file() {
        let example =
            read("listen = \"127.0.0.1:0\"\n[identity]\nprivate_key = \"k.pem\"\n").unwrap();
        assert_eq!(example.key, Path::new("/etc/card/k.pem"));
        assert_eq!(
            (example.term, example.streams),
            (Duration::from_secs(60), 100)
        );
    }

    #[test]
    fn days_and_minutes_are_durations() {
        for (text, seconds) in [("10d", 864_000), ("5min", 300), ("1h 30m", 5_400)] {
            let text = format!("listen='127.0.0.1:0'\nterm='{text}'\nidentity.private_key='k'");
            assert_eq!(read(&text).unwrap().term, Duration::from_secs(seconds));
        }
    }

    #[test]
    fn every_fault_is_reported_with_its_key_path() {
        let faults = read(
            "listen = \"nowhere\"\nterm = \"11d\"\nstreams = 0\ncolour = 1\n[identity]\nprivat_key = \"k\"\n",
        );
        let faults = faults.unwrap_err();
        let keys: Vec<_> = faults
            .iter()
            .map(|fault| fault.split(':').next().unwrap())
            .collect();
        assert_eq!(
            keys,
            [
                "listen",
                "identity.private_key",
                "term",
                "streams",
                "identity.privat_key",
                "colour"
            ]
        );
        assert!(
            faults[5].contains("known are identity, listen, streams, term"),
            "{}",
            faults[5]
        );
    }

    #[test]
    fn a_file_that_is_not_toml_says_where() {
        let faults = SettingsFile::parse("listen = ", Path::new("")).unwrap_err();
        assert!(faults.to_string().contains("line 1"), "{faults}");
    }
}
