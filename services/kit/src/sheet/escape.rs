//! Formulas. A spreadsheet program executes a CSV field that begins with one of a few characters (OWASP, CSV injection).

/// Whether a spreadsheet would take a text for a formula, apart from quotes that were put before it.
fn is_formula(text: &str) -> bool {
    text.trim_start_matches('\'')
        .starts_with(['=', '+', '-', '@', '\t', '\r'])
}

/// The text as a field that no spreadsheet executes: with a quote before it where it needs one.
pub(super) fn escaped(text: &str) -> String {
    if is_formula(text) {
        format!("'{text}")
    } else {
        text.to_owned()
    }
}

/// The text of a field that was escaped.
pub(super) fn unescaped(text: &str) -> &str {
    match text.strip_prefix('\'') {
        Some(rest) if is_formula(rest) => rest,
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_become_text() {
        for formula in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "'=1"] {
            assert_eq!(escaped(formula), format!("'{formula}"));
        }
        assert_eq!(escaped("测试"), "测试");
        assert_eq!(unescaped("'quoted'"), "'quoted'");
    }

    proptest::proptest! {
        #[test]
        fn every_text_comes_back(text in "['=+@a-]{0,6}") {
            let escaped = escaped(&text);
            proptest::prop_assert!(!escaped.starts_with(['=', '+', '-', '@']));
            proptest::prop_assert_eq!(unescaped(&escaped), text);
        }
    }
}
