//! What our field options say, and how grants name fields.

use std::collections::BTreeSet;

use banqiao_proto::exchange::v1::FieldRule;
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

use super::{CatalogError, rule};

const OPTION: &str = "banqiao.exchange.v1.field";

/// The rule that a set states for a field, if any.
///
/// Descriptors that come from a [`super::ServiceSet`] have no malformed rules: its decoding read them all.
pub fn field_rule(field: &FieldDescriptor) -> Option<FieldRule> {
    read(field).ok().flatten()
}

/// The rule of a field, or why it cannot be read.
pub(super) fn read(field: &FieldDescriptor) -> Result<Option<FieldRule>, CatalogError> {
    // Most fields have no options at all: do not build a dynamic message for each.
    if field.field_descriptor_proto().options.is_none() {
        return Ok(None);
    }
    let stated = rule::stated(
        field.parent_pool(),
        &field.options(),
        OPTION,
        field.full_name(),
    )?;
    Ok(match stated {
        rule::Stated::Rule(rule) => Some(rule),
        rule::Stated::Nothing | rule::Stated::Undeclared => None,
    })
}

/// The field that a path such as `change.card_number` names, from `message` on.
///
/// A path goes through single and repeated messages, by proto field names; it does not go into maps, which are
/// disclosed whole or not at all.
pub fn field_at(message: &MessageDescriptor, path: &str) -> Option<FieldDescriptor> {
    let mut message = message.clone();
    let mut names = path.split('.').peekable();
    loop {
        let field = message.get_field_by_name(names.next()?)?;
        if names.peek().is_none() {
            return Some(field);
        }
        let Kind::Message(next) = field.kind() else {
            return None;
        };
        if field.is_map() {
            return None;
        }
        message = next;
    }
}

/// Every disclosure group that the fields of `message` belong to, at any depth.
pub fn disclosure_groups(message: &MessageDescriptor) -> BTreeSet<String> {
    let mut groups = BTreeSet::new();
    let mut seen = BTreeSet::from([message.full_name().to_owned()]);
    let mut open = vec![message.clone()];
    while let Some(message) = open.pop() {
        for field in message.fields() {
            if let Some(rule) = field_rule(&field)
                && !rule.disclosure_group.is_empty()
            {
                groups.insert(rule.disclosure_group);
            }
            if let Kind::Message(inner) = field.kind()
                && seen.insert(inner.full_name().to_owned())
            {
                open.push(inner);
            }
        }
    }
    groups
}
