//! What goes wrong with a mapping.

use crate::settings::SettingFaults;

/// Why a mapping cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MappingError {
    /// The database cannot be asked.
    #[error("cannot check the mapping against the database")]
    Database(#[source] sqlx::Error),
    /// The file and the database do not fit.
    #[error("the mapping does not fit the database")]
    Faults(#[source] SettingFaults),
}

/// A record that cannot be used: what it holds is not what the mapping says. Its text names field and column and never quotes a value
/// of a person; a code is no such value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordFault {
    /// A code that the mapping's table does not hold.
    #[error(
        "{field}: the column {column} holds the code {code:?}, which the mapping does not know"
    )]
    Code {
        /// The field.
        field: &'static str,
        /// The column.
        column: String,
        /// The code.
        code: String,
    },
    /// The file gives the field a constant, and this is another value.
    #[error("{field}: the mapping gives a constant, and the value is another")]
    Constant {
        /// The field.
        field: &'static str,
    },
    /// A date of another form.
    #[error("{field}: the column {column} holds no date of the form {format}")]
    Date {
        /// The field.
        field: &'static str,
        /// The column.
        column: String,
        /// The form that the mapping names.
        format: String,
    },
    /// NULL or empty.
    #[error("{field}: the column {column} is empty")]
    Empty {
        /// The field.
        field: &'static str,
        /// The column.
        column: String,
    },
    /// The service asked for a field or statement that its shape does not hold.
    #[error("{0} is not mapped")]
    NotMapped(&'static str),
}

impl RecordFault {
    /// The field that is at fault.
    pub const fn field(&self) -> &'static str {
        match self {
            Self::Code { field, .. }
            | Self::Constant { field }
            | Self::Date { field, .. }
            | Self::Empty { field, .. } => field,
            Self::NotMapped(name) => name,
        }
    }
}
