//! What the tests of this module share: descriptors and random messages of them.

use std::{path::Path, sync::LazyLock};

use prost::Message;
use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor,
    ReflectMessage, Value,
};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};

/// The sample messages beside this file.
static POOL: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let root = std::env::var("CARGO_MANIFEST_DIR").unwrap();
    let root = Path::new(&root);
    let mut compiler =
        protox::Compiler::new([root.join("src/wire/tests"), root.join("../../proto")]).unwrap();
    compiler
        .include_imports(true)
        .open_files(["sample.proto", "sample2.proto"])
        .unwrap();
    DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).unwrap()
});

pub(super) fn descriptor(name: &str) -> MessageDescriptor {
    POOL.get_message_by_name(name).unwrap()
}

/// A random message, the same for the same seed, with or without the extensions that the pool knows.
pub(super) fn message(of: &MessageDescriptor, seed: u64, extensions: bool) -> DynamicMessage {
    let mut source = Source {
        rng: StdRng::seed_from_u64(seed),
        extensions,
    };
    normal(&source.message(of, 0))
}

/// The same message as it comes off the wire: one that was built also remembers fields that were set to nothing.
pub(super) fn normal(message: &DynamicMessage) -> DynamicMessage {
    DynamicMessage::decode(message.descriptor(), message.encode_to_vec().as_slice()).unwrap()
}

struct Source {
    rng: StdRng,
    extensions: bool,
}

impl Source {
    fn message(&mut self, of: &MessageDescriptor, depth: u32) -> DynamicMessage {
        let mut message = DynamicMessage::new(of.clone());
        for field in of.fields() {
            let deep = matches!(field.kind(), Kind::Message(_)) && depth > 0;
            if !field.is_required() && !self.rng.random_ratio(1, 2 + 3 * depth * u32::from(deep)) {
                continue;
            }
            if depth > 6 && deep {
                continue;
            }
            let value = self.field(&field, depth);
            message.set_field(&field, value);
        }
        for field in of.extensions() {
            if self.extensions && depth < 4 && self.rng.random_ratio(1, 3) {
                let value = self.value(&field.kind(), depth);
                let value = if field.is_list() {
                    Value::List(vec![value])
                } else {
                    value
                };
                message.set_extension(&field, value);
            }
        }
        message
    }

    fn field(&mut self, field: &FieldDescriptor, depth: u32) -> Value {
        let count = self.rng.random_range(0..4);
        let Kind::Message(entry) = field.kind() else {
            return if field.is_list() {
                Value::List(
                    (0..count)
                        .map(|_| self.value(&field.kind(), depth))
                        .collect(),
                )
            } else {
                self.value(&field.kind(), depth)
            };
        };
        if field.is_map() {
            let [key, value] = [entry.map_entry_key_field(), entry.map_entry_value_field()];
            let entries = (0..count).map(|_| {
                let key = match self.value(&key.kind(), depth) {
                    Value::String(text) => MapKey::String(text),
                    Value::I32(number) => MapKey::I32(number),
                    Value::I64(number) => MapKey::I64(number),
                    other => panic!("no sample has a key like {other:?}"),
                };
                (key, self.value(&value.kind(), depth))
            });
            Value::Map(entries.collect())
        } else if field.is_list() {
            Value::List(
                (0..count)
                    .map(|_| self.value(&field.kind(), depth))
                    .collect(),
            )
        } else {
            self.value(&field.kind(), depth)
        }
    }

    fn value(&mut self, kind: &Kind, depth: u32) -> Value {
        match kind {
            Kind::Double => Value::F64(self.rng.random()),
            Kind::Float => Value::F32(self.rng.random()),
            Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Value::I32(self.rng.random()),
            Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Value::I64(self.rng.random()),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(self.rng.random_range(0..300)),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(self.rng.random()),
            Kind::Bool => Value::Bool(self.rng.random()),
            Kind::Enum(_) => Value::EnumNumber(self.rng.random_range(0..3)),
            Kind::String => Value::String(self.text()),
            Kind::Bytes => {
                let mut bytes = self.text().into_bytes();
                if self.rng.random_ratio(1, 8) {
                    bytes.push(0xff);
                }
                Value::Bytes(bytes.into())
            }
            Kind::Message(of) => Value::Message(self.message(of, depth + 1)),
        }
    }

    /// Mostly short texts out of few, so that some repeat; some empty, some long.
    fn text(&mut self) -> String {
        match self.rng.random_range(0..12) {
            0 => String::new(),
            1 => "长".repeat(self.rng.random_range(84..88)),
            2 => "x".repeat(self.rng.random_range(100..300)),
            _ => format!("{:x}", self.rng.next_u32() % 64),
        }
    }
}

/// Every way that leads through a message tree, for oracles: calls `visit` with each set field of each message.
pub(super) fn walk(message: &DynamicMessage, visit: &mut impl FnMut(&Found<'_>)) {
    for (field, value) in message.fields() {
        visit(&Found::Field(&field, value));
        each_message(value, &mut |inner| walk(inner, visit));
    }
    for (field, value) in message.extensions() {
        visit(&Found::Extension(field.full_name(), value));
        each_message(value, &mut |inner| walk(inner, visit));
    }
}

/// A set field.
pub(super) enum Found<'a> {
    Field(&'a FieldDescriptor, &'a Value),
    Extension(&'a str, &'a Value),
}

fn each_message(value: &Value, visit: &mut impl FnMut(&DynamicMessage)) {
    match value {
        Value::Message(inner) => visit(inner),
        Value::List(values) => values.iter().for_each(|value| each_message(value, visit)),
        Value::Map(entries) => entries
            .values()
            .for_each(|value| each_message(value, visit)),
        _ => {}
    }
}
