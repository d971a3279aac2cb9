//! A service on an office's own tables: which column of which table or view carries which field, and with which statements changes are
//! written.
//!
//! ```text
//!   service's MappingShape ─┐
//!   mapping.toml ───────────┴▶ Mapping ──check against the live database──▶ Mapped ─┬─▶ find, page: Record ▸ text, date, code
//!                              every fault of the file      every mismatch at once  └─▶ execute: a named statement, values bound
//! ```
//!
//! What it is not: it maps no types of its own and makes no statement that changes anything. Reads are one SELECT over a relation,
//! made from the catalog's own names; writes are the operator's statements, word for word, with each `:name` bound as text, or as an
//! array of texts where a statement changes many records. The
//! service's own tables live in a schema of their own of the same database, so that one transaction covers both.
//!
//! On PostgreSQL only. SQLite is the store of trials, where there is no office's table. MySQL and MariaDB are not carried: their tables could
//! not be in one transaction with the service's history, which is on PostgreSQL; a bureau on them exports files, or PostgreSQL
//! reads them as foreign tables.

mod check;
mod fault;
mod file;
mod mapped;
mod record;
mod sql;
mod statement;
#[cfg(test)]
mod tests;

pub use fault::{MappingError, RecordFault};
pub use file::Mapping;
pub use mapped::{Mapped, Parameters, StatementError};
pub use record::Record;

/// What a service can have mapped.
#[derive(Debug, PartialEq, Eq)]
pub struct MappingShape {
    /// What it reads.
    pub relations: &'static [RelationShape],
    /// What it writes.
    pub statements: &'static [StatementShape],
}

/// A table or view with one record a row.
#[derive(Debug, PartialEq, Eq)]
pub struct RelationShape {
    /// The key of its table in the file, such as `card`.
    pub name: &'static str,
    /// What a record holds.
    pub fields: &'static [FieldShape],
    /// Whether a mapping without it is at fault.
    pub required: bool,
}

/// A field of a record.
#[derive(Debug, PartialEq, Eq)]
pub struct FieldShape {
    /// Its key in the file.
    pub name: &'static str,
    /// What it holds.
    pub kind: FieldKind,
    /// Whether it may be left out of the file, and be NULL in a row. Every other field must be mapped.
    pub optional: bool,
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// One of these names, for each of which the office has its codes.
    Code(&'static [&'static str]),
    /// A day.
    Date,
    /// Text by which records are found: the column should have an index.
    Key,
    /// Text. May be a constant of the file.
    Text,
}

/// A statement that changes records.
#[derive(Debug, PartialEq, Eq)]
pub struct StatementShape {
    /// Its key under `statements` in the file.
    pub name: &'static str,
    /// The relation whose fields it is about: each is a parameter of its name, and `old_` before the name is the value that was read.
    pub relation: &'static str,
    /// Further parameters, all text.
    pub further: &'static [&'static str],
    /// Parameters that it must use, because without them two changes at once could both win, or the wrong record be changed.
    pub must_use: &'static [&'static str],
    /// Whether it changes many records at once: each parameter is an array of text with an element for each record, in one order.
    /// Otherwise it changes one record, and each parameter is text.
    pub many: bool,
    /// Whether a mapping of the relation without it is at fault.
    pub required: bool,
}

impl MappingShape {
    fn relation(&self, name: &str) -> Option<&'static RelationShape> {
        self.relations.iter().find(|relation| relation.name == name)
    }
}

impl RelationShape {
    fn field(&self, name: &str) -> Option<(usize, &'static FieldShape)> {
        let mut fields = self.fields.iter().enumerate();
        fields.find(|(_, field)| field.name == name)
    }
}
