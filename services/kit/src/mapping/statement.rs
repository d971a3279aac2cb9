//! Statements with named parameters.

/// A statement with `:name` turned into `$1`, `$2` and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Numbered {
    pub(super) sql: String,
    /// The name of each number, each name once.
    pub(super) parameters: Vec<String>,
}

/// Numbers the parameters. What stands in quotes, comments and after `::` is left alone.
///
/// # Errors
/// A quote or comment without an end, or a parameter that is numbered already.
pub(super) fn number(text: &str) -> Result<Numbered, &'static str> {
    let mut numbered = Numbered {
        sql: String::with_capacity(text.len()),
        parameters: Vec::new(),
    };
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let (token, parameter) = token(rest, first)?;
        match parameter {
            Some(name) => {
                let known = numbered.parameters.iter().position(|known| known == name);
                let place = known.unwrap_or_else(|| {
                    numbered.parameters.push(name.to_owned());
                    numbered.parameters.len() - 1
                });
                numbered.sql.push_str(&format!("${}", place + 1));
            }
            None => numbered.sql.push_str(token),
        }
        rest = rest.get(token.len()..).unwrap_or_default();
    }
    Ok(numbered)
}

/// The next piece of text, and the parameter that it is.
fn token(rest: &str, first: char) -> Result<(&str, Option<&str>), &'static str> {
    let until = |end: Option<usize>| end.and_then(|end| rest.get(..end));
    let piece = match first {
        // A doubled quote is the end of one and the beginning of the next.
        '\'' | '"' => {
            until(rest[1..].find(first).map(|end| end + 2)).ok_or("a quote has no end")?
        }
        '-' if rest.starts_with("--") => until(rest.find('\n')).unwrap_or(rest),
        '/' if rest.starts_with("/*") => {
            until(rest.find("*/").map(|end| end + 2)).ok_or("a comment has no end")?
        }
        '$' => return Err("a parameter is written :name, and dollar quotes are not taken"),
        ':' if rest.starts_with("::") => &rest[..2],
        ':' => {
            let name = word(&rest[1..]);
            return Ok((
                &rest[..=name.len()],
                Some(name).filter(|name| !name.is_empty()),
            ));
        }
        _ if first.is_alphanumeric() || first == '_' => word(rest),
        _ => &rest[..first.len_utf8()],
    };
    Ok((piece, None))
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
    end.and_then(|end| text.get(..end)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_numbered_once_each() {
        let numbered = number(
            "UPDATE a SET b = :new::date, \"c:d\" = ':x''y' -- :z\n WHERE b = :old /* :q */ AND :new = 社保",
        );
        let numbered = numbered.unwrap();
        assert_eq!(
            numbered.sql,
            "UPDATE a SET b = $1::date, \"c:d\" = ':x''y' -- :z\n WHERE b = $2 /* :q */ AND $1 = 社保"
        );
        assert_eq!(numbered.parameters, ["new", "old"]);
    }

    #[test]
    fn what_has_no_end_is_refused() {
        for bad in ["'a", "\"a", "/* a", "$1", "$$a$$"] {
            assert!(number(bad).is_err(), "{bad}");
        }
        assert_eq!(number("a : b").unwrap().parameters, Vec::<String>::new());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_numbered_or_refused(text in "[-a:'\"/*$社 \n]{0,40}") {
            if let Ok(numbered) = number(&text) {
                proptest::prop_assert_eq!(numbered.parameters.is_empty(), numbered.sql == text);
            }
        }
    }
}
