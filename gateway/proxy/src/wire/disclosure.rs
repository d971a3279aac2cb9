//! Cutting messages down to the fields that a grant discloses, on the wire format.

mod filter;

use std::collections::{BTreeSet, HashMap};

use banqiao_directory::{disclosure_groups, field_at, field_rule};
use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};

pub use filter::DisclosureError;

use super::tag::Wire;

/// Deepest nesting of messages that is disclosed.
const MAX_DEPTH: usize = 64;

/// Why fields cannot be disclosed as a grant says.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MaskError {
    /// No field is named. A grant that discloses everything needs no mask.
    #[error("no field is named")]
    Empty,
    /// A required field (proto2) would be cut, so that no receiver could read the message.
    #[error("the required field {0} is not disclosed")]
    Required(String),
    /// More than 64 levels.
    #[error("the path {0} is too deep")]
    TooDeep(String),
    /// No field of the message is in the group.
    #[error("no field is in the disclosure group {0}")]
    UnknownGroup(String),
    /// The message has no such field, or the path goes into a map or past a scalar.
    #[error("there is no field {0}")]
    UnknownPath(String),
}

/// What to do with a field. Fields that are not listed are dropped.
#[derive(Clone, Copy, Debug)]
enum Keep {
    /// Copy the value, if it is laid out so, or packed.
    Value { wire: Wire, packed: bool },
    /// Copy the message and cut it by the fields of this node.
    Message(usize),
    /// The same for a group.
    Group(usize),
}

/// The fields of a message type that a grant discloses.
///
/// A field is named by its path, such as `change.card_number`, or by its disclosure group, `group:basic`, at any
/// depth. Naming a message discloses all of it that its descriptor knows. Messages around a named field are kept, empty
/// if need be. Unknown fields and extensions are always dropped; groups of the wire format and `google.protobuf.Any`
/// unless the field itself is named, because their content is not what the name says.
#[derive(Clone, Debug)]
pub struct DisclosureMask {
    /// The message itself is node 0. Fields are in number order.
    nodes: Vec<Vec<(u32, Keep)>>,
}

impl DisclosureMask {
    /// Compiles the disclosed fields of a grant for a response type.
    ///
    /// # Errors
    ///
    /// [`MaskError`] where a name fits no field of the type, or where the result could not be read.
    pub fn for_message(message: &MessageDescriptor, disclosed: &[&str]) -> Result<Self, MaskError> {
        let mut groups = BTreeSet::new();
        let mut names = Names::default();
        let known_groups = disclosure_groups(message);
        for name in disclosed {
            if let Some(group) = name.strip_prefix("group:") {
                if !known_groups.contains(group) {
                    return Err(MaskError::UnknownGroup(group.to_owned()));
                }
                groups.insert(group.to_owned());
            } else if name.split('.').count() > MAX_DEPTH {
                return Err(MaskError::TooDeep((*name).to_owned()));
            } else if field_at(message, name).is_none() {
                return Err(MaskError::UnknownPath((*name).to_owned()));
            } else {
                names.insert(name.split('.'));
            }
        }
        if disclosed.is_empty() {
            return Err(MaskError::Empty);
        }
        let mut draft = Draft {
            groups,
            ..Draft::default()
        };
        draft.search(message, names);
        while let Some((node, task)) = draft.open.pop() {
            draft.nodes[node] = match task {
                Task::Whole(message) => draft.whole_fields(node, &message),
                Task::Search(message, names) => draft.searched_fields(node, &message, names),
            };
        }
        draft.finish()
    }

    fn keep(&self, node: usize, number: u32) -> Option<Keep> {
        let fields = self.nodes.get(node)?;
        let at = fields
            .binary_search_by_key(&number, |(known, _)| *known)
            .ok()?;
        Some(fields[at].1)
    }
}

/// Paths as a tree.
#[derive(Clone, Debug, Default)]
struct Names {
    /// A path ends here.
    whole: bool,
    children: HashMap<String, Self>,
}

impl Names {
    fn insert<'a>(&mut self, segments: impl Iterator<Item = &'a str>) {
        let mut at = self;
        for segment in segments {
            at = at.children.entry(segment.to_owned()).or_default();
        }
        at.whole = true;
    }
}

/// A node whose fields are still to be listed.
enum Task {
    /// All of the message that its descriptor knows.
    Whole(MessageDescriptor),
    /// What the names and groups select of it.
    Search(MessageDescriptor, Names),
}

/// A mask in the making.
#[derive(Default)]
struct Draft {
    groups: BTreeSet<String>,
    nodes: Vec<Vec<(u32, Keep)>>,
    /// Whether anything is disclosed at the node; known at once, or by where its fields lead.
    useful: Vec<bool>,
    whole: HashMap<String, usize>,
    searched: HashMap<String, usize>,
    required: Vec<(usize, u32, String)>,
    open: Vec<(usize, Task)>,
}

impl Draft {
    fn add(&mut self, useful: bool) -> usize {
        self.nodes.push(Vec::new());
        self.useful.push(useful);
        self.nodes.len() - 1
    }

    /// The node that keeps all of a message.
    fn whole(&mut self, message: &MessageDescriptor) -> usize {
        if let Some(node) = self.whole.get(message.full_name()) {
            return *node;
        }
        let node = self.add(true);
        self.whole.insert(message.full_name().to_owned(), node);
        self.open.push((node, Task::Whole(message.clone())));
        node
    }

    /// The node that keeps what names and groups select. Without names it is the same for each place where the type
    /// stands, which ends the recursion of recursive types.
    fn search(&mut self, message: &MessageDescriptor, names: Names) -> usize {
        let unnamed = names.children.is_empty();
        if let Some(node) = self.searched.get(message.full_name()).filter(|_| unnamed) {
            return *node;
        }
        let node = self.add(!unnamed);
        if unnamed {
            self.searched.insert(message.full_name().to_owned(), node);
        }
        self.open.push((node, Task::Search(message.clone(), names)));
        node
    }

    fn whole_fields(&mut self, node: usize, message: &MessageDescriptor) -> Vec<(u32, Keep)> {
        let mut kept = Vec::new();
        for field in message.fields() {
            self.note_required(node, &field);
            kept.extend(
                self.whole_field(&field, false)
                    .map(|keep| (field.number(), keep)),
            );
        }
        sorted(kept)
    }

    fn searched_fields(
        &mut self,
        node: usize,
        message: &MessageDescriptor,
        mut names: Names,
    ) -> Vec<(u32, Keep)> {
        let mut kept = Vec::new();
        for field in message.fields() {
            self.note_required(node, &field);
            let below = names.children.remove(field.name());
            let grouped = field_rule(&field).is_some_and(|rule| {
                self.groups.contains(&rule.disclosure_group) && !rule.disclosure_group.is_empty()
            });
            let keep = if grouped || below.as_ref().is_some_and(|names| names.whole) {
                let keep = self.whole_field(&field, true);
                self.useful[node] |= keep.is_some();
                keep
            } else {
                self.searched_field(&field, below)
            };
            kept.extend(keep.map(|keep| (field.number(), keep)));
        }
        sorted(kept)
    }

    /// Keeps all of a field. `exact` says that the field itself is named.
    fn whole_field(&mut self, field: &FieldDescriptor, exact: bool) -> Option<Keep> {
        let Kind::Message(inner) = field.kind() else {
            return Some(Keep::Value {
                wire: wire(&field.kind()),
                packed: field.is_list(),
            });
        };
        let opaque = Keep::Value {
            wire: Wire::Bytes,
            packed: false,
        };
        if field.is_map() {
            if !is_any(&inner.map_entry_value_field().kind()) {
                return Some(Keep::Message(self.whole(&inner)));
            }
            return exact.then(|| self.entry(&inner, opaque));
        }
        if is_any(&field.kind()) {
            return exact.then_some(opaque);
        }
        if field.is_group() {
            return exact.then(|| Keep::Group(self.whole(&inner)));
        }
        Some(Keep::Message(self.whole(&inner)))
    }

    /// Looks for what is named inside a field that is not named itself.
    fn searched_field(&mut self, field: &FieldDescriptor, below: Option<Names>) -> Option<Keep> {
        let Kind::Message(inner) = field.kind() else {
            return None;
        };
        if field.is_map() {
            // Paths do not go into maps; groups do, and keep the keys of the entries.
            let Kind::Message(value) = inner.map_entry_value_field().kind() else {
                return None;
            };
            let value = Keep::Message(self.search(&value, Names::default()));
            return Some(self.entry(&inner, value));
        }
        let node = self.search(&inner, below.unwrap_or_default());
        Some(if field.is_group() {
            Keep::Group(node)
        } else {
            Keep::Message(node)
        })
    }

    /// A map's entries with their keys and what is kept of their values.
    fn entry(&mut self, entry: &MessageDescriptor, value: Keep) -> Keep {
        let key = Keep::Value {
            wire: wire(&entry.map_entry_key_field().kind()),
            packed: false,
        };
        let node = self.add(matches!(value, Keep::Value { .. }));
        self.nodes[node] = vec![(1, key), (2, value)];
        Keep::Message(node)
    }

    fn note_required(&mut self, node: usize, field: &FieldDescriptor) {
        if field.is_required() {
            self.required
                .push((node, field.number(), field.full_name().to_owned()));
        }
    }

    /// Drops the ways that lead to nothing.
    fn finish(mut self) -> Result<DisclosureMask, MaskError> {
        let leads = |keep: &Keep, useful: &[bool]| match keep {
            // The key of a map's entry alone is no reason to keep it.
            Keep::Value { .. } => false,
            Keep::Message(node) | Keep::Group(node) => useful[*node],
        };
        loop {
            let mut grown = false;
            for (node, fields) in self.nodes.iter().enumerate() {
                if !self.useful[node] && fields.iter().any(|(_, keep)| leads(keep, &self.useful)) {
                    self.useful[node] = true;
                    grown = true;
                }
            }
            if !grown {
                break;
            }
        }
        for fields in &mut self.nodes {
            fields.retain(|(_, keep)| {
                matches!(keep, Keep::Value { .. }) || leads(keep, &self.useful)
            });
        }
        let mask = DisclosureMask { nodes: self.nodes };
        let cut = |(node, number, _): &(usize, u32, String)| {
            self.useful[*node] && mask.keep(*node, *number).is_none()
        };
        match self.required.into_iter().find(cut) {
            Some((_, _, name)) => Err(MaskError::Required(name)),
            None => Ok(mask),
        }
    }
}

fn sorted(mut fields: Vec<(u32, Keep)>) -> Vec<(u32, Keep)> {
    fields.sort_unstable_by_key(|(number, _)| *number);
    fields
}

fn is_any(kind: &Kind) -> bool {
    matches!(kind, Kind::Message(message) if message.full_name() == "google.protobuf.Any")
}

/// How a single value of a kind is laid out.
const fn wire(kind: &Kind) -> Wire {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Wire::Fixed64,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Wire::Fixed32,
        Kind::String | Kind::Bytes | Kind::Message(_) => Wire::Bytes,
        Kind::Int32
        | Kind::Int64
        | Kind::Uint32
        | Kind::Uint64
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Bool
        | Kind::Enum(_) => Wire::Varint,
    }
}

#[cfg(test)]
mod tests;
