//! Text from outside, made harmless for terminals, spreadsheets and logs.

use std::{borrow::Cow, fmt::Write as _};

pub(crate) mod bar;
pub mod json;
pub mod table;

/// Whether a character could move the cursor, start an escape sequence, break a line or reorder what is read.
///
/// These are the C0 and C1 controls, the line and paragraph separators, the bidirectional controls of UAX #9, the
/// byte-order mark, and the invisible tag characters.
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// The text with every unsafe character written as an escape, in one line.
pub fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if is_unsafe(c) => {
                // Writing to a string cannot fail.
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// A CSV cell that no spreadsheet takes for a formula: cleaned, and with an apostrophe before `= + - @`.
///
/// Quoting is left to the CSV writer. (OWASP, CSV injection.)
pub fn cell(text: &str) -> Cow<'_, str> {
    let text = clean(text);
    // Spreadsheets also see a formula after spaces, and in the full-width forms of the four signs.
    let first = text.trim_start().chars().next();
    match first {
        Some('=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠') => {
            Cow::Owned(format!("'{text}"))
        }
        _ => text,
    }
}

/// Columns that a text takes in a terminal: two for a Chinese, Japanese or Korean character.
pub fn width(text: &str) -> usize {
    text.chars()
        .map(|c| match c {
            '\u{1100}'..='\u{115f}'
            | '\u{2e80}'..='\u{303e}'
            | '\u{3041}'..='\u{a4cf}'
            | '\u{ac00}'..='\u{d7a3}'
            | '\u{f900}'..='\u{faff}'
            | '\u{fe30}'..='\u{fe6f}'
            | '\u{ff00}'..='\u{ff60}'
            | '\u{ffe0}'..='\u{ffe6}'
            | '\u{20000}'..='\u{3fffd}' => 2,
            _ => 1,
        })
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_a_cursor_or_turns_text_round_is_printed() {
        assert_eq!(clean("青岛 card"), "青岛 card");
        assert_eq!(clean("a\nb\r\t"), "a\\nb\\r\\t");
        assert_eq!(clean("\u{1b}[2J"), "\\u{1b}[2J");
        assert_eq!(clean("x\u{202e}gpj"), "x\\u{202e}gpj");
        assert_eq!(clean("\u{9b}31m\u{0}"), "\\u{9b}31m\\u{0}");
        for c in [
            '\u{200b}',
            '\u{2066}',
            '\u{feff}',
            '\u{2028}',
            '\u{e0041}',
            '\u{85}',
        ] {
            assert!(!clean(&c.to_string()).contains(c), "{c:?}");
        }
    }

    #[test]
    fn spreadsheet_formulas_are_text() {
        assert_eq!(cell("=cmd|' /C calc'!A0"), "'=cmd|' /C calc'!A0");
        assert_eq!(cell("+1"), "'+1");
        assert_eq!(cell("-1"), "'-1");
        assert_eq!(cell("@sum"), "'@sum");
        assert_eq!(cell("  =1"), "'  =1");
        assert_eq!(cell("＝1"), "'＝1");
        assert_eq!(cell("\t=1"), "\\t=1");
        assert_eq!(cell("370200"), "370200");
    }

    #[test]
    fn chinese_takes_two_columns() {
        assert_eq!(width("青岛"), 4);
        assert_eq!(width("abc"), 3);
    }
}
