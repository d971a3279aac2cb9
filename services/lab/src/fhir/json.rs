//! JSON whose numbers stay as they are written: `6.0` is neither `6` nor a binary fraction (FHIR R4 §2.24.0.1, decimal).

use std::fmt::Write;

/// Deepest nesting. The deepest element of a bundle lies at 14.
const MAX_DEPTH: usize = 40;

/// A value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Json {
    Bool(bool),
    List(Vec<Self>),
    Members(Vec<(String, Self)>),
    Null,
    Number(String),
    Text(String),
}

/// Where a text is not JSON: the byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NotJson(pub(super) usize);

impl Json {
    pub(super) fn parse(text: &str) -> Result<Self, NotJson> {
        let mut parser = Parser { text, at: 0 };
        let value = parser.value(0)?;
        parser.space();
        if parser.at == text.len() {
            Ok(value)
        } else {
            Err(NotJson(parser.at))
        }
    }

    pub(super) fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// The value as JSON text.
    pub(super) fn render(&self, out: &mut String) {
        match self {
            Self::Bool(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::List(values) => {
                out.push('[');
                for (place, value) in values.iter().enumerate() {
                    out.push_str(if place > 0 { "," } else { "" });
                    value.render(out);
                }
                out.push(']');
            }
            Self::Members(members) => {
                out.push('{');
                for (place, (name, value)) in members.iter().enumerate() {
                    out.push_str(if place > 0 { "," } else { "" });
                    quote(name, out);
                    out.push(':');
                    value.render(out);
                }
                out.push('}');
            }
            Self::Null => out.push_str("null"),
            Self::Number(number) => out.push_str(number),
            Self::Text(text) => quote(text, out),
        }
    }
}

fn quote(text: &str, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            c if c.is_control() => {
                // Writing into a string cannot fail; all control characters lie below U+00A0.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl Parser<'_> {
    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.byte(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn eat(&mut self, expected: u8) -> bool {
        self.space();
        let there = self.byte() == Some(expected);
        self.at += usize::from(there);
        there
    }

    fn value(&mut self, depth: usize) -> Result<Json, NotJson> {
        self.space();
        if depth > MAX_DEPTH {
            return Err(NotJson(self.at));
        }
        match self.byte() {
            Some(b'{') => self.members(depth),
            Some(b'[') => self.list(depth),
            Some(b'"') => Ok(Json::Text(self.string()?)),
            _ => self.scalar(),
        }
    }

    fn members(&mut self, depth: usize) -> Result<Json, NotJson> {
        self.at += 1;
        let mut members: Vec<(String, Json)> = Vec::new();
        if self.eat(b'}') {
            return Ok(Json::Members(members));
        }
        loop {
            self.space();
            let begin = self.at;
            if self.byte() != Some(b'"') {
                return Err(NotJson(begin));
            }
            let name = self.string()?;
            // A name that stands twice would be read by chance.
            if members.iter().any(|(known, _)| *known == name) || !self.eat(b':') {
                return Err(NotJson(begin));
            }
            members.push((name, self.value(depth + 1)?));
            if self.eat(b'}') {
                return Ok(Json::Members(members));
            }
            if !self.eat(b',') {
                return Err(NotJson(self.at));
            }
        }
    }

    fn list(&mut self, depth: usize) -> Result<Json, NotJson> {
        self.at += 1;
        let mut values = Vec::new();
        if self.eat(b']') {
            return Ok(Json::List(values));
        }
        loop {
            values.push(self.value(depth + 1)?);
            if self.eat(b']') {
                return Ok(Json::List(values));
            }
            if !self.eat(b',') {
                return Err(NotJson(self.at));
            }
        }
    }

    fn string(&mut self) -> Result<String, NotJson> {
        let begin = self.at;
        self.at += 1;
        loop {
            match self.byte() {
                Some(b'"') => break,
                Some(b'\\') => self.at += 2,
                Some(_) => self.at += 1,
                None => return Err(NotJson(begin)),
            }
        }
        self.at += 1;
        let quoted = self.text.get(begin..self.at).ok_or(NotJson(begin))?;
        serde_json::from_str(quoted).map_err(|_| NotJson(begin))
    }

    fn scalar(&mut self) -> Result<Json, NotJson> {
        let begin = self.at;
        while matches!(
            self.byte(),
            Some(b'-' | b'+' | b'.' | b'0'..=b'9' | b'a'..=b'z' | b'E')
        ) {
            self.at += 1;
        }
        match &self.text[begin..self.at] {
            "true" => Ok(Json::Bool(true)),
            "false" => Ok(Json::Bool(false)),
            "null" => Ok(Json::Null),
            number if serde_json::from_str::<serde_json::Number>(number).is_ok() => {
                Ok(Json::Number(number.to_owned()))
            }
            _ => Err(NotJson(begin)),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rendered(json: &Json) -> String {
        let mut text = String::new();
        json.render(&mut text);
        text
    }

    #[test]
    fn numbers_stay_as_they_are_written() {
        let text = r#"{"a":[6.0,10,-0.50,1e3],"b":null,"c":true,"d":"\"\\\n é"}"#;
        assert_eq!(rendered(&Json::parse(text).unwrap()), text);
    }

    #[test]
    fn what_is_no_json_is_refused_where_it_breaks() {
        for (text, at) in [
            ("", 0),
            ("{\"a\":1,}", 7),
            ("{\"a\":1,\"a\":2}", 7),
            ("[1 2]", 3),
            ("01", 0),
            ("\"open", 0),
            ("{} x", 3),
            ("nul", 0),
        ] {
            assert_eq!(Json::parse(text), Err(NotJson(at)), "{text}");
        }
        assert!(Json::parse(&"[".repeat(100)).is_err());
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_a_panic(text in "\\PC{0,40}") {
            let _ = Json::parse(&text);
        }

        #[test]
        fn any_string_comes_back(text in any::<String>()) {
            let json = Json::Text(text);
            prop_assert_eq!(Json::parse(&rendered(&json)).unwrap(), json);
        }
    }
}
