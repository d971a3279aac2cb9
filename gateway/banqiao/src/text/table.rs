//! Tables for people.

use std::io;

use super::{clean, width};

/// Rows under headings, with columns as wide as their widest cell.
#[derive(Debug)]
pub struct Table {
    headings: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table.
    pub const fn new(headings: &'static [&'static str]) -> Self {
        Self {
            headings,
            rows: Vec::new(),
        }
    }

    /// Adds a row. Its cells are made safe for a terminal here.
    pub fn row<S: AsRef<str>>(&mut self, cells: impl IntoIterator<Item = S>) {
        self.rows.push(
            cells
                .into_iter()
                .map(|cell| clean(cell.as_ref()).into_owned())
                .collect(),
        );
    }

    /// Whether it has no rows.
    pub const fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Writes headings and rows.
    ///
    /// # Errors
    ///
    /// When the writer fails.
    pub fn write(&self, out: &mut dyn io::Write) -> io::Result<()> {
        let mut widths: Vec<usize> = self.headings.iter().map(|heading| width(heading)).collect();
        for row in &self.rows {
            for (column, cell) in widths.iter_mut().zip(row) {
                *column = (*column).max(width(cell));
            }
        }
        line(out, &widths, self.headings.iter().copied())?;
        for row in &self.rows {
            line(out, &widths, row.iter().map(String::as_str))?;
        }
        Ok(())
    }
}

/// Writes one row; the last cell is not padded.
fn line<'a>(
    out: &mut dyn io::Write,
    widths: &[usize],
    cells: impl Iterator<Item = &'a str>,
) -> io::Result<()> {
    let mut padding = 0;
    for (column, cell) in widths.iter().zip(cells) {
        write!(out, "{:padding$}{cell}", "")?;
        padding = column - width(cell) + 2;
    }
    writeln!(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_also_with_chinese_text() {
        let mut table = Table::new(&["CITY", "NAME", "X"]);
        table.row(["370200", "青岛", "a"]);
        table.row(["3", "Yantai\u{1b}", ""]);
        let mut out = Vec::new();
        table.write(&mut out).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "CITY    NAME          X\n370200  青岛          a\n3       Yantai\\u{1b}  \n"
        );
    }
}
