//! Reads our options off descriptors of any pool.

use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, ReflectMessage, Value};

use super::CatalogError;

/// Number of the service, method and field options (`banqiao/exchange/v1/options.proto`).
const NUMBER: u32 = 51_701;

/// What a set says with one of our options.
pub(super) enum Stated<R> {
    /// The option is there.
    Rule(R),
    /// A field with the option's number is there, but the set lacks the file that declares it.
    Undeclared,
    /// Nothing.
    Nothing,
}

impl<R: Default> Stated<R> {
    /// The rule, or the defaults.
    pub(super) fn or_default(self) -> R {
        match self {
            Self::Rule(rule) => rule,
            Self::Nothing | Self::Undeclared => R::default(),
        }
    }
}

/// Reads the message option `name` of `options`, which stand on `of`.
///
/// The extension is looked up in the set's own pool: a set that was compiled without our file has no such
/// extension, and the bytes of a later version of it keep what this version knows.
pub(super) fn stated<R: Message + Default>(
    pool: &DescriptorPool,
    options: &DynamicMessage,
    name: &str,
    of: &str,
) -> Result<Stated<R>, CatalogError> {
    let declared = pool.get_extension_by_name(name).filter(|extension| {
        extension.number() == NUMBER && extension.containing_message() == options.descriptor()
    });
    let Some(extension) = declared else {
        let undeclared = options
            .unknown_fields()
            .any(|field| field.number() == NUMBER);
        return Ok(if undeclared {
            Stated::Undeclared
        } else {
            Stated::Nothing
        });
    };
    if !options.has_extension(&extension) {
        return Ok(Stated::Nothing);
    }
    let rule = match options.get_extension(&extension).as_ref() {
        Value::Message(rule) => rule.transcode_to().map_err(Some),
        _ => Err(None),
    };
    rule.map(Stated::Rule)
        .map_err(|source| CatalogError::Option {
            of: of.to_owned(),
            source,
        })
}
