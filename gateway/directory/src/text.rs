//! The forms of free text and codes from outside.

/// Whether text is not blank, has at most `max` characters, and none that controls how the rest is shown: no C0 or
/// C1 control, no bidirectional or zero-width formatting, no tag character. Those would let one text read as another.
pub fn is_plain_text(text: &str, max: usize) -> bool {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c,
                '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{2069}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}')
    };
    !text.trim().is_empty() && text.chars().count() <= max && !text.contains(hidden)
}

/// Whether text is a code such as `medical-treatment`: 1 to 64 characters of `a-z`, `0-9`, `-` and `_`.
pub fn is_code(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text
            .bytes()
            .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}
