//! The one form of a path under which a call is routed, authorised and recorded.

use std::{borrow::Cow, fmt::Write};

use banqiao_directory::{holds_identity_number, mask_identity_numbers};

/// Longest path of a call, in bytes.
pub const MAX_PATH: usize = 256;

/// Why a path is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PathFault {
    /// A name has a character that no protobuf identifier has, or begins with a digit.
    #[error("a name in the path is not a protobuf identifier")]
    Identifier,
    /// No slash at the start.
    #[error("the path does not begin with a slash")]
    NoLeadingSlash,
    /// Holds a citizen's identity number: a path is stored and logged in plain.
    #[error("the path must not hold a citizen's identity number")]
    Personal,
    /// Not exactly a service and a method.
    #[error("the path is not of the form /package.Service/Method")]
    Segments,
    /// Longer than [`MAX_PATH`].
    #[error("the path is longer than 256 bytes")]
    TooLong,
}

/// A path of exactly the form `/package.Service/Method`.
///
/// Names are protobuf identifiers, so that `..`, percent-escapes, queries and control characters can never stand in
/// one. The package may be missing, as protobuf allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CanonicalPath<'a> {
    path: &'a str,
    slash: usize,
}

impl<'a> CanonicalPath<'a> {
    /// Parses a `:path`.
    ///
    /// # Errors
    ///
    /// [`PathFault`] for every other form.
    pub fn parse(path: &'a str) -> Result<Self, PathFault> {
        if path.len() > MAX_PATH {
            return Err(PathFault::TooLong);
        }
        let names = path.strip_prefix('/').ok_or(PathFault::NoLeadingSlash)?;
        let (service, method) = names.split_once('/').ok_or(PathFault::Segments)?;
        if method.contains('/') || service.is_empty() || method.is_empty() {
            return Err(PathFault::Segments);
        }
        if !service.split('.').all(is_identifier) || !is_identifier(method) {
            return Err(PathFault::Identifier);
        }
        if holds_identity_number(path) {
            return Err(PathFault::Personal);
        }
        Ok(Self {
            path,
            slash: 1 + service.len(),
        })
    }

    /// The whole path.
    pub const fn as_str(self) -> &'a str {
        self.path
    }

    /// Full name of the service, such as `banqiao.card.v1.CardService`.
    pub fn service(self) -> &'a str {
        &self.path[1..self.slash]
    }

    /// Name of the method, such as `VerifyCard`.
    pub fn method(self) -> &'a str {
        &self.path[self.slash + 1..]
    }
}

/// Whether `name` is an identifier of the protobuf language.
fn is_identifier(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        && !name.as_bytes().first().is_none_or(u8::is_ascii_digit)
}

/// Writes any bytes that came as a path so that they can stand in an entry or a log line: letters, digits and
/// `/._-` as they are, everything else as `%XX`, at most [`MAX_PATH`] bytes. A `*` at the end says that more followed;
/// the characters of an identity number are each replaced by one.
pub fn escape_path(path: &[u8]) -> String {
    let mut text = String::with_capacity(path.len().min(MAX_PATH));
    for &byte in path {
        let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'_' | b'-');
        let width = if plain { 1 } else { 3 };
        // One byte is kept for the `*`, which never stands for itself.
        if text.len() + width > MAX_PATH - 1 {
            text.push('*');
            break;
        }
        if plain {
            text.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            write!(text, "%{byte:02X}").ok();
        }
    }
    match mask_identity_numbers(&text) {
        Cow::Borrowed(_) => text,
        Cow::Owned(masked) => masked,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn canonical_paths_are_cut_into_service_and_method() {
        for (text, service, method) in [
            (
                "/banqiao.card.v1.CardService/VerifyCard",
                "banqiao.card.v1.CardService",
                "VerifyCard",
            ),
            ("/Echo/unary", "Echo", "unary"),
            ("/a_1._b.C/_D2", "a_1._b.C", "_D2"),
        ] {
            let path = CanonicalPath::parse(text).unwrap();
            assert_eq!(
                (path.as_str(), path.service(), path.method()),
                (text, service, method)
            );
        }
    }

    #[test]
    fn every_other_form_is_refused() {
        for (text, fault) in [
            ("", PathFault::NoLeadingSlash),
            ("a.B/C", PathFault::NoLeadingSlash),
            ("*", PathFault::NoLeadingSlash),
            ("http://h/a.B/C", PathFault::NoLeadingSlash),
            ("/", PathFault::Segments),
            ("//", PathFault::Segments),
            ("/a.B", PathFault::Segments),
            ("/a.B/", PathFault::Segments),
            ("//a.B/C", PathFault::Segments),
            ("/a.B//C", PathFault::Segments),
            ("/a.B/C/", PathFault::Segments),
            ("/a.B/C/D", PathFault::Segments),
            ("/a.B/../C", PathFault::Segments),
            ("/../C", PathFault::Identifier),
            ("/./C", PathFault::Identifier),
            ("/a..B/C", PathFault::Identifier),
            ("/.a.B/C", PathFault::Identifier),
            ("/a.B./C", PathFault::Identifier),
            ("/a.B/..", PathFault::Identifier),
            ("/a.B/C%41", PathFault::Identifier),
            ("/a%2eB/C", PathFault::Identifier),
            ("/a.B%2fC/D", PathFault::Identifier),
            ("/a.B/C?x=1", PathFault::Identifier),
            ("/a.B/C#x", PathFault::Identifier),
            ("/a.B/C;x", PathFault::Identifier),
            ("/a.B/C\0", PathFault::Identifier),
            ("/a.B/C\n", PathFault::Identifier),
            ("/a.B/C ", PathFault::Identifier),
            (" /a.B/C", PathFault::NoLeadingSlash),
            ("/a.B\\C/D", PathFault::Identifier),
            ("/a-b.C/D", PathFault::Identifier),
            ("/a.1B/C", PathFault::Identifier),
            ("/a.B/1C", PathFault::Identifier),
            ("/板桥.B/C", PathFault::Identifier),
            ("/a.B/\u{ff23}", PathFault::Identifier),
            ("/a.B/C11010519491231002X", PathFault::Personal),
            ("/a11010519491231002X.B/C", PathFault::Personal),
        ] {
            assert_eq!(CanonicalPath::parse(text), Err(fault), "{text:?}");
        }
    }

    #[test]
    fn length_is_bounded() {
        let method = "m".repeat(MAX_PATH - 5);
        assert!(CanonicalPath::parse(&format!("/a.B/{method}")).is_ok());
        assert_eq!(
            CanonicalPath::parse(&format!("/a.B/{method}m")),
            Err(PathFault::TooLong)
        );
    }

    #[test]
    fn unusual_bytes_are_escaped() {
        assert_eq!(escape_path(b"/a.B/C"), "/a.B/C");
        assert_eq!(escape_path(b"/a\r\n%*\x1b[\xff"), "/a%0D%0A%25%2A%1B%5B%FF");
        assert_eq!(escape_path("\u{202e}".as_bytes()), "%E2%80%AE");
        assert_eq!(
            escape_path(b"/a.B/11010519491231002X?"),
            "/a.B/******************%3F"
        );
        let long = escape_path(&[b'a'; 300]);
        assert_eq!(long.len(), MAX_PATH);
        assert!(long.ends_with("a*"));
    }

    proptest! {
        #[test]
        fn escaped_paths_are_short_plain_and_injective(
            left in prop::collection::vec(any::<u8>(), 0..80),
            right in prop::collection::vec(any::<u8>(), 0..80),
            long in prop::collection::vec(any::<u8>(), 0..600),
        ) {
            prop_assert_eq!(left == right, escape_path(&left) == escape_path(&right));
            let text = escape_path(&long);
            prop_assert!(text.len() <= MAX_PATH);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_graphic()));
        }

        #[test]
        fn parsed_paths_hold_nothing_unusual(path in ".{0,40}|/[a-zA-Z0-9._%/]{0,30}") {
            if let Ok(canonical) = CanonicalPath::parse(&path) {
                prop_assert_eq!(format!("/{}/{}", canonical.service(), canonical.method()), path.clone());
                prop_assert_eq!(escape_path(path.as_bytes()), path);
            }
        }
    }
}
