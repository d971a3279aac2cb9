//! Keeping what must not be written out of what is written.

use std::fmt;

/// A value whose `Debug` and `Display` say nothing: what it wraps can be used, but not printed by mistake.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Redacted<T>(T);

impl<T> Redacted<T> {
    /// Wraps a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// Unwraps the value.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> From<T> for Redacted<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl<T> fmt::Display for Redacted<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Length of a citizen's identity number (GB 11643-1999).
const IDENTITY_NUMBER: usize = 18;

/// Cleans one finished log line, in place of its bytes up to the final line feed.
///
/// - Characters that would start another line, drive a terminal or reorder text become `\uXXXX`, which is also a
///   valid escape inside a JSON string. One event is one line, whatever came from outside.
/// - Runs that have the form of an identity number are masked. No code of ours logs one; this stands behind it for
///   the errors of libraries, which may quote what they were given.
pub(crate) fn clean(line: &str, out: &mut String) {
    out.clear();
    out.reserve(line.len() + 1);
    let body = line.strip_suffix('\n').unwrap_or(line);
    let bytes = body.as_bytes();
    let mut at = 0;
    let mut after_digit = false;
    for (index, char) in body.char_indices() {
        if index < at {
            continue;
        }
        if (!after_digit || ends_in_escape(&bytes[..index])) && has_identity_form(&bytes[index..]) {
            out.push_str("[identity number]");
            at = index + IDENTITY_NUMBER;
            continue;
        }
        after_digit = char.is_ascii_digit();
        if is_unprintable(char) {
            // Every such character lies in the basic plane, so four digits are enough.
            out.push_str(&format!("\\u{:04x}", u32::from(char)));
        } else {
            out.push(char);
        }
    }
    out.push('\n');
}

/// Whether the text ends in a `\uXXXX` escape of the JSON formatter: its digits belong to no number.
fn ends_in_escape(text: &[u8]) -> bool {
    text.last_chunk::<6>()
        .is_some_and(|escape| escape.starts_with(b"\\u"))
}

/// Whether the text begins with 17 digits and a digit or `X`, which no digit follows, and they hold a plausible
/// date of birth. Letters may touch it: a number that was glued to a word is still a number.
fn has_identity_form(text: &[u8]) -> bool {
    let Some((number, rest)) = text.split_at_checked(IDENTITY_NUMBER) else {
        return false;
    };
    let ends = rest.first().is_none_or(|next| !next.is_ascii_digit());
    let Some((check, digits)) = number.split_last() else {
        return false;
    };
    ends && digits.iter().all(u8::is_ascii_digit)
        && (check.is_ascii_digit() || check.eq_ignore_ascii_case(&b'X'))
        && matches!(&digits[6..8], b"18" | b"19" | b"20")
        && (*b"01"..=*b"12").contains(&[digits[10], digits[11]])
        && (*b"01"..=*b"31").contains(&[digits[12], digits[13]])
}

/// Controls (C0, DEL, C1), line and paragraph separators, and the marks that change the direction of text.
const fn is_unprintable(char: char) -> bool {
    matches!(char,
        '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cleaned(line: &str) -> String {
        let mut out = String::new();
        clean(line, &mut out);
        out
    }

    #[test]
    fn a_redacted_value_prints_nothing_of_itself() {
        let secret = Redacted::new("370202190001010009");
        assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
        assert_eq!(secret.expose().len(), 18);
    }

    #[test]
    fn one_event_stays_one_line_and_drives_no_terminal() {
        let line = "title\n2026 ERROR forged\r\u{1b}[2J\u{202e}gpj\u{85}\u{2028}\0 end\n";
        let clean = cleaned(line);
        assert_eq!(
            clean,
            "title\\u000a2026 ERROR forged\\u000d\\u001b[2J\\u202egpj\\u0085\\u2028\\u0000 end\n"
        );
    }

    #[test]
    fn identity_numbers_are_masked_also_inside_json_and_chinese_text() {
        for number in [
            "370202190001010009",
            "37020219900230000X",
            "37020219900230000x",
        ] {
            assert_eq!(cleaned(&format!("{number}\n")), "[identity number]\n");
            assert_eq!(
                cleaned(&format!("{{\"id\":\"{number}\"}}\n")),
                "{\"id\":\"[identity number]\"}\n"
            );
            assert_eq!(
                cleaned(&format!("号码{number}，")),
                "号码[identity number]，\n"
            );
            assert_eq!(
                cleaned(&format!("\\n{number}\\u0000{number}")),
                "\\n[identity number]\\u0000[identity number]\n"
            );
            assert_eq!(
                cleaned(&format!("{number} {number}")),
                "[identity number] [identity number]\n"
            );
        }
    }

    #[test]
    fn digests_times_and_ids_are_left_alone() {
        for line in [
            "time=1763918400000000",
            "3702021900010100091",
            "370202190013010009",
            "0192d1f0-7c3e-7000-8000-370202190001",
        ] {
            assert_eq!(cleaned(line), format!("{line}\n"));
        }
    }
}
