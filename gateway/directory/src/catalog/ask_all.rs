//! The methods that may be asked of all cities at once.

use std::collections::BTreeSet;

use banqiao_proto::exchange::v1::MethodRule;
use prost_reflect::{Kind, MethodDescriptor};

use super::{CatalogError, Idempotency};
use crate::{CityCode, is_code};

/// Name of the response field in which each message names the city that sends it.
pub const CITY_FIELD: &str = "city";

/// How a method may be asked of all cities: the option `ask_all`, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskAll {
    purposes: BTreeSet<String>,
    cities: BTreeSet<CityCode>,
    city_field: u32,
}

impl AskAll {
    /// Whether all cities may be asked for a purpose, as far as this option goes.
    pub fn allows_purpose(&self, purpose: &str) -> bool {
        self.purposes.is_empty() || self.purposes.contains(purpose)
    }

    /// Whether a city is among those that are asked.
    pub fn names(&self, city: CityCode) -> bool {
        self.cities.is_empty() || self.cities.contains(&city)
    }

    /// The cities that the option names; empty for every city of the directory.
    pub const fn cities(&self) -> &BTreeSet<CityCode> {
        &self.cities
    }

    /// Number of [`CITY_FIELD`] in the response message.
    pub const fn city_field(&self) -> u32 {
        self.city_field
    }

    /// The option of a method, held against the method's shape.
    pub(super) fn read(
        rule: &MethodRule,
        method: &MethodDescriptor,
        idempotency: Idempotency,
        name: &str,
    ) -> Result<Option<Self>, CatalogError> {
        let Some(stated) = &rule.ask_all else {
            return Ok(None);
        };
        let refuse = |fault: String| CatalogError::AskAll {
            method: name.to_owned(),
            fault,
        };
        if let Some(fault) = shape(method, idempotency, rule.long_lived) {
            return Err(refuse(fault.to_owned()));
        }
        let output = method.output();
        let field = output.get_field_by_name(CITY_FIELD).filter(|field| {
            field.kind() == Kind::String && !field.is_list() && field.containing_oneof().is_none()
        });
        let Some(field) = field else {
            return Err(refuse(format!(
                "its response {} needs a field `string {CITY_FIELD}` outside of any oneof",
                output.full_name()
            )));
        };
        let mut cities = BTreeSet::new();
        for code in &stated.cities {
            let code = code
                .parse()
                .map_err(|fault| refuse(format!("ask_all.cities has {code:?}: {fault}")))?;
            cities.insert(code);
        }
        for purpose in &stated.purposes {
            if !is_code(purpose) {
                return Err(refuse(format!(
                    "ask_all.purposes has {purpose:?}: a purpose code is of a-z, 0-9, '-' and '_'"
                )));
            }
            if !rule.purposes.is_empty() && !rule.purposes.contains(purpose) {
                return Err(refuse(format!(
                    "ask_all.purposes has {purpose:?}, which the method's own purposes leave out"
                )));
            }
        }
        Ok(Some(Self {
            purposes: stated.purposes.iter().cloned().collect(),
            cities,
            city_field: field.number(),
        }))
    }
}

fn shape(
    method: &MethodDescriptor,
    idempotency: Idempotency,
    long_lived: bool,
) -> Option<&'static str> {
    if method.is_client_streaming() {
        return Some("it takes a stream of requests; one request goes to every city");
    }
    if !method.is_server_streaming() {
        return Some("it must stream its responses: declare `returns (stream …)`");
    }
    if idempotency != Idempotency::NoSideEffects {
        return Some("it must have no side effects: set idempotency_level = NO_SIDE_EFFECTS");
    }
    long_lived.then_some("it is long_lived, and an answer of all cities must come to an end")
}
