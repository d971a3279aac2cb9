//! How single values stand in a stored record: enums of the protos as their numbers, identifiers as text.

use serde::{Deserialize, Deserializer, Serializer, de::Error};

pub(crate) fn serialize<T: Copy + Into<i32>, S: Serializer>(
    value: &T,
    to: S,
) -> Result<S::Ok, S::Error> {
    to.serialize_i32((*value).into())
}

pub(crate) fn deserialize<'de, T: TryFrom<i32>, D: Deserializer<'de>>(
    from: D,
) -> Result<T, D::Error> {
    let number = i32::deserialize(from)?;
    T::try_from(number)
        .map_err(|_| D::Error::custom("a number that no version of the protos knows"))
}

/// Values that parse from what they show.
pub(crate) mod text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<T: Display, S: Serializer>(
        value: &T,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(crate) fn deserialize<'de, T: FromStr, D: Deserializer<'de>>(
        from: D,
    ) -> Result<T, D::Error> {
        let text = String::deserialize(from)?;
        text.parse()
            .map_err(|_| D::Error::custom("text that does not parse"))
    }
}

/// Codes of divisions.
pub(crate) mod division {
    use banqiao_kit::identifier::DivisionCode;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(crate) fn serialize<S: Serializer>(value: &DivisionCode, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<DivisionCode, D::Error> {
        let text = String::deserialize(from)?;
        DivisionCode::parse(&text).map_err(D::Error::custom)
    }
}
