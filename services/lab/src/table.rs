//! Reference files: lines of fields by tab, comments with `#`, every fault at once with file, line and key.

use std::{
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
};

/// A fault of a reference file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableFault {
    /// The file.
    pub file: PathBuf,
    /// Line, from 1. 0: the file as a whole.
    pub line: usize,
    /// Column. Empty: the line as a whole.
    pub key: String,
    /// What is wrong, and what is expected.
    pub message: String,
}

impl fmt::Display for TableFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if self.line > 0 {
            write!(f, "{}:", self.line)?;
        }
        if !self.key.is_empty() {
            write!(f, " {}:", self.key)?;
        }
        write!(f, " {}", self.message)
    }
}

/// Every fault of a reference file, in the order of its lines. The file is refused whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct TableFaults(pub Vec<TableFault>);

impl fmt::Display for TableFaults {
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

/// Reads the text of a file.
pub(crate) fn read(path: &Path) -> Result<String, TableFaults> {
    std::fs::read_to_string(path).map_err(|error| {
        TableFaults(vec![TableFault {
            file: path.to_owned(),
            line: 0,
            key: String::new(),
            message: format!("cannot be read: {error}"),
        }])
    })
}

/// A file that is being read.
pub(crate) struct Table<'a> {
    file: &'a Path,
    columns: &'static [&'static str],
    line: usize,
    fields: Vec<&'a str>,
    version: Option<&'a str>,
    faults: Vec<TableFault>,
}

impl<'a> Table<'a> {
    /// Reads every line with `row`, and gives the version of the file (the text behind `#version`) and the rows.
    pub(crate) fn read<T>(
        file: &'a Path,
        text: &'a str,
        columns: &'static [&'static str],
        mut row: impl FnMut(&mut Self) -> Option<T>,
    ) -> Result<(String, Vec<T>), TableFaults> {
        let mut table = Self {
            file,
            columns,
            line: 0,
            fields: Vec::new(),
            version: None,
            faults: Vec::new(),
        };
        let mut rows = Vec::new();
        let mut header = false;
        for (line, content) in (1..).zip(text.lines()) {
            table.line = line;
            if let Some(version) = content.strip_prefix("#version ") {
                table.version(version.trim());
            } else if content.starts_with('#') || content.trim().is_empty() {
            } else if !header {
                header = true;
                if !content.split('\t').eq(columns.iter().copied()) {
                    table.fault("", format!("the columns must be {}", columns.join(", ")));
                    break;
                }
            } else {
                table.fields = content.split('\t').collect();
                if table.fields.len() == columns.len() {
                    rows.extend(row(&mut table));
                } else {
                    let message = format!(
                        "has {} fields instead of {}",
                        table.fields.len(),
                        columns.len()
                    );
                    table.fault("", message);
                }
            }
        }
        table.finish(rows)
    }

    fn finish<T>(mut self, rows: Vec<T>) -> Result<(String, Vec<T>), TableFaults> {
        if self.faults.is_empty() {
            self.line = 0;
            if self.version.is_none() {
                self.fault("", "must state its version in a line `#version …`");
            }
            if rows.is_empty() {
                self.fault("", "holds no line");
            }
        }
        match self.version {
            Some(version) if self.faults.is_empty() => Ok((version.to_owned(), rows)),
            _ => Err(TableFaults(self.faults)),
        }
    }

    fn version(&mut self, version: &'a str) {
        let sound = (1..=32).contains(&version.len())
            && version
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !sound {
            self.fault("version", "has 1 to 32 letters, digits, `.`, `_` and `-`");
        } else if self.version.replace(version).is_some() {
            self.fault("version", "stands twice");
        }
    }

    /// The text of a column of the current line.
    pub(crate) fn text(&self, key: &str) -> &'a str {
        let place = self.columns.iter().position(|column| *column == key);
        place
            .and_then(|place| self.fields.get(place))
            .map_or("", |field| field.trim())
    }

    /// The text of a column, which must not be empty.
    pub(crate) fn required(&mut self, key: &str) -> Option<&'a str> {
        let text = self.text(key);
        if text.is_empty() {
            self.fault(key, "is required");
            return None;
        }
        Some(text)
    }

    /// A column that is parsed, where an error says what is wrong.
    pub(crate) fn parsed<T, E: fmt::Display>(
        &mut self,
        key: &str,
        parse: impl FnOnce(&'a str) -> Result<T, E>,
    ) -> Option<T> {
        let text = self.required(key)?;
        match parse(text) {
            Ok(value) => Some(value),
            Err(error) => {
                self.fault(key, error.to_string());
                None
            }
        }
    }

    /// The parts of a list, each parsed.
    pub(crate) fn list<T>(
        &mut self,
        key: &str,
        parse: impl Fn(&'a str) -> Result<T, String>,
    ) -> Option<Vec<T>> {
        let text = self.text(key);
        let parts = text
            .split(';')
            .map(str::trim)
            .filter(|part| !part.is_empty());
        let (mut values, mut sound) = (Vec::new(), true);
        for part in parts {
            match parse(part) {
                Ok(value) => values.push(value),
                Err(message) => {
                    sound = false;
                    self.fault(key, format!("`{part}`: {message}"));
                }
            }
        }
        sound.then_some(values)
    }

    /// A value that must stand in no earlier line.
    pub(crate) fn unique(&mut self, key: &str, value: &str, seen: &mut BTreeSet<String>) {
        if !seen.insert(value.to_owned()) {
            self.fault(key, "stands in an earlier line");
        }
    }

    /// Adds a fault of the current line.
    pub(crate) fn fault(&mut self, key: &str, message: impl Into<String>) {
        self.faults.push(TableFault {
            file: self.file.to_owned(),
            line: self.line,
            key: key.to_owned(),
            message: message.into(),
        });
    }
}
