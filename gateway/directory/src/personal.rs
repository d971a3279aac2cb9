//! Identity numbers where none may stand: in what a gateway stores or logs in plain.

use std::{borrow::Cow, ops::Range};

/// First two digits of a division code (GB/T 2260-2007): provinces, 台湾 (71, and 83 on residence permits), 香港 and
/// 澳门.
const PROVINCES: [u8; 35] = [
    11, 12, 13, 14, 15, 21, 22, 23, 31, 32, 33, 34, 35, 36, 37, 41, 42, 43, 44, 45, 46, 50, 51, 52,
    53, 54, 61, 62, 63, 64, 65, 71, 81, 82, 83,
];
/// Weights of the first 17 digits (GB 11643-1999).
const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
/// Check characters by remainder (GB 11643-1999).
const CHECKS: [u8; 11] = *b"10X98765432";
/// Digits of a number of the first generation, which has a two-digit year and no check digit.
const FIRST_GENERATION: usize = 15;
/// Characters of a number of today.
const TODAY: usize = 18;

/// Whether a citizen's identity number (公民身份号码, GB 11643-1999, or the 15 digits of the first generation) stands
/// anywhere in the text, in ASCII or full-width digits.
///
/// The form decides: province, date of birth and check digit. A number that was encoded or broken up is not found.
pub fn holds_identity_number(text: &str) -> bool {
    find(text).is_some()
}

/// The text with each identity number's characters replaced by `*`.
pub fn mask_identity_numbers(text: &str) -> Cow<'_, str> {
    let Some(mut found) = find(text) else {
        return Cow::Borrowed(text);
    };
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    loop {
        masked.push_str(&rest[..found.start]);
        masked.extend(rest[found.clone()].chars().map(|_| '*'));
        rest = &rest[found.end..];
        match find(rest) {
            Some(next) => found = next,
            None => break,
        }
    }
    masked.push_str(rest);
    Cow::Owned(masked)
}

/// Where the first identity number stands, in bytes.
fn find(text: &str) -> Option<Range<usize>> {
    // Few texts have so many digits; they are told apart without decoding a character.
    let digits = text
        .bytes()
        .filter(|byte| byte.is_ascii_digit() || !byte.is_ascii())
        .count();
    if digits < FIRST_GENERATION {
        return None;
    }
    let mut run: Vec<(usize, u8)> = Vec::new();
    for (at, char) in text.char_indices() {
        match digit(char) {
            Some(digit) => run.push((at, digit)),
            None => {
                let check = matches!(char, 'X' | 'x' | 'Ｘ' | 'ｘ');
                if check && run.len() >= TODAY - 1 {
                    run.push((at, b'X'));
                }
                if let Some(found) = within(text, &run) {
                    return Some(found);
                }
                run.clear();
            }
        }
    }
    within(text, &run)
}

/// An identity number in digits that stand together.
fn within(text: &str, run: &[(usize, u8)]) -> Option<Range<usize>> {
    let range = |window: &[(usize, u8)]| {
        let end = window.last()?.0;
        let width = text[end..].chars().next()?.len_utf8();
        Some(window.first()?.0..end + width)
    };
    let today = run.windows(TODAY).find(|window| is_of_today(window));
    let found = today
        .or_else(|| (run.len() == FIRST_GENERATION && is_of_first_generation(run)).then_some(run));
    range(found?)
}

fn is_of_today(window: &[(usize, u8)]) -> bool {
    let (Some(check), Some(digits)) = (window.last(), window.get(..TODAY - 1)) else {
        return false;
    };
    let sum: u32 = digits
        .iter()
        .zip(WEIGHTS)
        .map(|((_, digit), weight)| u32::from(digit.wrapping_sub(b'0')) * weight)
        .sum();
    is_province(digits)
        && (1850..=2149).contains(&number(&digits[6..10]))
        && is_day(&digits[10..14])
        && usize::try_from(sum % 11).ok().and_then(|at| CHECKS.get(at)) == Some(&check.1)
}

fn is_of_first_generation(digits: &[(usize, u8)]) -> bool {
    is_province(digits) && is_day(&digits[8..12])
}

fn is_province(digits: &[(usize, u8)]) -> bool {
    PROVINCES
        .iter()
        .any(|province| u32::from(*province) == number(&digits[..2]))
}

/// Month and day, as far as a year is not needed to tell.
fn is_day(digits: &[(usize, u8)]) -> bool {
    (1..=12).contains(&number(&digits[..2])) && (1..=31).contains(&number(&digits[2..]))
}

fn number(digits: &[(usize, u8)]) -> u32 {
    digits.iter().fold(0, |sum, (_, digit)| {
        sum * 10 + u32::from(digit.wrapping_sub(b'0'))
    })
}

fn digit(char: char) -> Option<u8> {
    let value = match char {
        '0'..='9' => u32::from(char) - u32::from('0'),
        '０'..='９' => u32::from(char) - u32::from('０'),
        _ => return None,
    };
    u8::try_from(value).ok().map(|value| b'0' + value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Numbers of nobody: the sequence 000 is not issued.
    const NOBODY: [&str; 3] = [
        "370202199001010002",
        "11010519491231002X",
        "370681198512120006",
    ];

    fn checked(digits: &str) -> String {
        let sum: u32 = digits
            .bytes()
            .zip(WEIGHTS)
            .map(|(digit, weight)| u32::from(digit - b'0') * weight)
            .sum();
        format!("{digits}{}", char::from(CHECKS[(sum % 11) as usize]))
    }

    #[test]
    fn numbers_are_found_wherever_they_stand() {
        for number in NOBODY {
            let number = checked(&number[..17]);
            for text in [
                number.clone(),
                number.to_lowercase(),
                format!("consent:{number}"),
                format!("/a.B/C{number}d"),
                format!("身份证{number}号"),
                format!("99{number}"),
                format!("{number}7"),
                number
                    .chars()
                    .map(|c| char::from_u32(u32::from(c) - 0x20 + 0xff00).unwrap())
                    .collect(),
            ] {
                assert!(holds_identity_number(&text), "{text}");
                assert_ne!(mask_identity_numbers(&text), text);
                assert!(!holds_identity_number(&mask_identity_numbers(&text)));
            }
        }
        assert!(holds_identity_number("370202900101002"));
        assert_eq!(
            mask_identity_numbers(&format!(
                "a{}b{}c",
                checked("37020219900101000"),
                checked("37068119851212000")
            )),
            "a******************b******************c"
        );
    }

    #[test]
    fn other_numbers_are_left_alone() {
        let right = checked("37020219900101000");
        let wrong_check = format!(
            "{}{}",
            &right[..17],
            if right.ends_with('1') { '2' } else { '1' }
        );
        for text in [
            "",
            "statutory:政务数据共享条例第二十二条",
            "consent:2026-11-23-000000000000001",
            "consent:0198f6b2-7c1e-7d00-8000-123456789012",
            "91370200MA3C12345X",
            "202311230000123",
            "3702021990010100",
            &wrong_check,
            &checked("99020219900101000"),
            &checked("37020219901301000"),
            &checked("37020219900132000"),
            &checked("37020200420101000"),
        ] {
            assert!(!holds_identity_number(text), "{text}");
            assert!(matches!(mask_identity_numbers(text), Cow::Borrowed(same) if same == text));
        }
    }

    proptest! {
        #[test]
        fn every_number_is_found_and_masked(
            province in 0..PROVINCES.len(), place in 0..10_000_u32, year in 1900..2026_u32,
            month in 1..=12_u32, day in 1..=31_u32, before in "[^0-9０-９]{0,8}", after in "[^0-9０-９]{0,8}",
        ) {
            let number = checked(&format!("{}{place:04}{year}{month:02}{day:02}000", PROVINCES[province]));
            let text = format!("{before}{number}{after}");
            prop_assert!(holds_identity_number(&text));
            let masked = mask_identity_numbers(&text);
            prop_assert!(!masked.contains(&number));
            prop_assert!(!holds_identity_number(&masked));
            prop_assert!(masked.starts_with(&before) && masked.ends_with(&after));
        }

        #[test]
        fn any_text_is_taken(text in "\\PC{0,60}|[0-9X０-９]{0,60}") {
            prop_assert_eq!(holds_identity_number(&text), mask_identity_numbers(&text) != text);
        }
    }
}
