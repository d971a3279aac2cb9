//! Whose records a message is about: the fields that its descriptor marks with a subject kind.

mod scan;

use std::{collections::HashMap, fmt};

use banqiao_directory::field_rule;
use banqiao_proto::{exchange::v1::FieldRule, ledger::v1 as ledger};
use prost_reflect::{ExtensionDescriptor, Kind, MessageDescriptor, ReflectMessage, Value};

pub(super) use scan::SubjectScanner;
pub use scan::{DEFAULT_SUBJECTS, MAX_SUBJECT, ScanCounts};

/// A person or body whose record a message is about.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// Number of the kind in `banqiao.exchange.v1.SubjectKind`; kinds newer than this build are kept.
    pub kind: u32,
    /// The identifier as it stood in the message.
    pub value: String,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subject")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl From<Subject> for ledger::Subject {
    fn from(subject: Subject) -> Self {
        Self {
            kind: subject.kind,
            value: subject.value,
        }
    }
}

/// What to do with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// Its value is a subject of this kind.
    Subject(u32),
    /// It is a message with subjects: go on at this node.
    Message(usize),
    /// It is a group with subjects: go on at this node.
    Group(usize),
}

/// Where the subjects of a message type stand.
///
/// The plan is a graph over field numbers with one node for each message type that can hold a subject, so that
/// recursive types are no special case. It looks into single and repeated messages, oneofs, maps, groups,
/// extensions that the descriptor pool knows, and `google.protobuf.StringValue`; it cannot look into `Any`.
#[derive(Clone, Debug, Default)]
pub struct SubjectPlan {
    /// The message itself is node 0. Fields are in number order.
    nodes: Vec<Vec<(u32, Step)>>,
    unusable: Vec<String>,
}

impl SubjectPlan {
    /// Reads the options on the fields of a message type, at any depth.
    pub fn for_message(message: &MessageDescriptor) -> Self {
        let mut draft = Draft::default();
        draft.node(message);
        while let Some((node, message)) = draft.open.pop() {
            draft.nodes[node] = draft.expand(&message);
        }
        draft.finish()
    }

    /// Whether no field names a subject: messages need not be scanned.
    pub const fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Full names of fields that carry the option on a type that cannot hold an identifier: a number, an enum, a
    /// message, a map. Their values are not read, so a service that has any should not be published.
    pub fn unusable(&self) -> &[String] {
        &self.unusable
    }

    fn step(&self, node: usize, number: u32) -> Option<Step> {
        let fields = self.nodes.get(node)?;
        let at = fields
            .binary_search_by_key(&number, |(known, _)| *known)
            .ok()?;
        Some(fields[at].1)
    }
}

/// A plan in the making: every message type that can be reached, with every field that may lead to a subject.
#[derive(Default)]
struct Draft {
    nodes: Vec<Vec<(u32, Step)>>,
    by_type: HashMap<String, usize>,
    wrappers: HashMap<u32, usize>,
    /// Nodes whose fields are still to be listed.
    open: Vec<(usize, MessageDescriptor)>,
    unusable: Vec<String>,
}

impl Draft {
    /// The node of a message type.
    fn node(&mut self, message: &MessageDescriptor) -> usize {
        if let Some(node) = self.by_type.get(message.full_name()) {
            return *node;
        }
        let node = self.nodes.len();
        self.nodes.push(Vec::new());
        self.by_type.insert(message.full_name().to_owned(), node);
        self.open.push((node, message.clone()));
        node
    }

    /// The node of a `google.protobuf.StringValue` that holds a subject.
    fn wrapper(&mut self, subject: u32) -> usize {
        *self.wrappers.entry(subject).or_insert_with(|| {
            self.nodes.push(vec![(1, Step::Subject(subject))]);
            self.nodes.len() - 1
        })
    }

    /// Lists the fields of a message type.
    fn expand(&mut self, message: &MessageDescriptor) -> Vec<(u32, Step)> {
        let mut fields = Vec::new();
        for field in message.fields() {
            let subject = field_rule(&field).map_or(0, |rule| rule.subject);
            let group = field.is_group() && !field.is_map();
            if let Some(step) = self.step(field.kind(), group, subject, field.full_name()) {
                fields.push((field.number(), step));
            }
        }
        for field in message.extensions() {
            let subject = extension_rule(&field).map_or(0, |rule| rule.subject);
            if let Some(step) =
                self.step(field.kind(), field.is_group(), subject, field.full_name())
            {
                fields.push((field.number(), step));
            }
        }
        fields.sort_unstable_by_key(|(number, _)| *number);
        fields
    }

    fn step(&mut self, kind: Kind, group: bool, subject: i32, name: &str) -> Option<Step> {
        let subject = u32::try_from(subject).unwrap_or_default();
        match kind {
            Kind::String | Kind::Bytes if subject != 0 => Some(Step::Subject(subject)),
            Kind::Message(inner) if subject != 0 && inner.full_name() == STRING_VALUE => {
                Some(Step::Message(self.wrapper(subject)))
            }
            kind => {
                if subject != 0 {
                    self.unusable.push(name.to_owned());
                }
                let Kind::Message(inner) = kind else {
                    return None;
                };
                let node = self.node(&inner);
                Some(if group {
                    Step::Group(node)
                } else {
                    Step::Message(node)
                })
            }
        }
    }

    /// Keeps only the ways that lead to a subject.
    fn finish(mut self) -> SubjectPlan {
        let mut useful = vec![false; self.nodes.len()];
        loop {
            let leads = |step: &Step, useful: &[bool]| match step {
                Step::Subject(_) => true,
                Step::Message(node) | Step::Group(node) => useful[*node],
            };
            let mut grown = false;
            for (node, fields) in self.nodes.iter().enumerate() {
                if !useful[node] && fields.iter().any(|(_, step)| leads(step, &useful)) {
                    useful[node] = true;
                    grown = true;
                }
            }
            if !grown {
                for fields in &mut self.nodes {
                    fields.retain(|(_, step)| leads(step, &useful));
                }
                break;
            }
        }
        // Node 0 is the message itself, if there is any.
        if !useful.first().is_some_and(|useful| *useful) {
            self.nodes.clear();
        }
        SubjectPlan {
            nodes: self.nodes,
            unusable: self.unusable,
        }
    }
}

/// The wrapper type that services use for a string that may be absent.
const STRING_VALUE: &str = "google.protobuf.StringValue";

/// The rule of an extension field, read as [`field_rule`] reads that of a field.
fn extension_rule(field: &ExtensionDescriptor) -> Option<FieldRule> {
    let option = field
        .parent_pool()
        .get_extension_by_name("banqiao.exchange.v1.field")?;
    let options = field.options();
    if option.containing_message() != options.descriptor() || !options.has_extension(&option) {
        return None;
    }
    match options.get_extension(&option).into_owned() {
        Value::Message(rule) => rule.transcode_to().ok(),
        _ => None,
    }
}
