//! The tables of a ledger as a backup holds them, and the form of their rows.
//!
//! Rows are the same from both stores, so that a ledger can move from one to the other. A part is a line that names the
//! format and the table, then the rows, column by column: a byte for the type, and for a number eight bytes, for bytes and
//! text their length in four and themselves. All numbers are big-endian.

use std::{
    io::{self, Read, Write},
    sync::LazyLock,
};

/// First word of each part, and of the manifest.
pub(crate) const FORMAT: &str = "banqiao-backup-1";
/// Rows of one statement, when they are restored.
pub(crate) const GROUP: usize = 100;
/// Longest value: a document may hold a descriptor set.
const MAX_VALUE: u32 = 1 << 30;

/// What a column holds. PostgreSQL has a type of its own for ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Bytes,
    Number,
    Text,
    Uuid,
}

/// A table, without its column `ledger`.
#[derive(Debug)]
pub(crate) struct Table {
    pub(crate) name: &'static str,
    pub(crate) columns: &'static [(&'static str, Kind)],
    /// The order of its rows.
    order: &'static str,
}

use Kind::{Bytes, Number, Text, Uuid};

/// Every table but `head`, which the manifest has, and `lease`, which is of boots that are over.
pub(crate) static TABLES: [Table; 24] = [
    Table {
        name: "entry",
        columns: &[
            ("idx", Number),
            ("kind", Number),
            ("time_us", Number),
            ("exchange", Uuid),
            ("leaf", Bytes),
            ("bytes", Bytes),
        ],
        order: "idx",
    },
    Table {
        name: "entry_uid",
        columns: &[("uid", Uuid), ("idx", Number)],
        order: "uid",
    },
    Table {
        name: "private",
        columns: &[("idx", Number), ("month", Number), ("ciphertext", Bytes)],
        order: "idx",
    },
    Table {
        name: "token",
        columns: &[("segment", Number), ("token", Bytes), ("idx", Number)],
        order: "segment, token, idx",
    },
    Table {
        name: "month_key",
        columns: &[("month", Number), ("key_id", Bytes)],
        order: "month",
    },
    Table {
        name: "retired_month",
        columns: &[("month", Number), ("time_us", Number)],
        order: "month",
    },
    Table {
        name: "claim",
        columns: &[
            ("exchange", Uuid),
            ("attempt", Number),
            ("consumer", Bytes),
            ("idx", Number),
        ],
        order: "exchange, attempt, consumer",
    },
    Table {
        name: "in_flight",
        columns: &[
            ("exchange", Uuid),
            ("attempt", Number),
            ("side", Number),
            ("peer", Bytes),
            ("boot", Uuid),
            ("idx", Number),
        ],
        order: "exchange, attempt, side, peer",
    },
    Table {
        name: "document",
        columns: &[("kind", Number), ("key", Bytes), ("bytes", Bytes)],
        order: "kind, key",
    },
    Table {
        name: "document_revision",
        columns: &[("revision", Number)],
        order: "ledger",
    },
    Table {
        name: "tile",
        columns: &[
            ("level", Number),
            ("n", Number),
            ("root", Bytes),
            ("bytes", Bytes),
        ],
        order: "level, n",
    },
    Table {
        name: "checkpoint",
        columns: &[("size", Number), ("time_us", Number), ("note", Text)],
        order: "size",
    },
    Table {
        name: "cosignature",
        columns: &[
            ("size", Number),
            ("witness", Text),
            ("time_s", Number),
            ("line", Text),
        ],
        order: "size, witness",
    },
    Table {
        name: "witness_state",
        columns: &[
            ("origin", Text),
            ("size", Number),
            ("root", Bytes),
            ("note", Text),
        ],
        order: "origin",
    },
    Table {
        name: "span",
        columns: &[
            ("level", Number),
            ("n", Number),
            ("first_us", Number),
            ("last_us", Number),
        ],
        order: "level, n",
    },
    Table {
        name: "posting",
        columns: &[
            ("level", Number),
            ("n", Number),
            ("facet", Number),
            ("value", Bytes),
            ("entries", Bytes),
        ],
        order: "level, n, facet, value",
    },
    Table {
        name: "presence",
        columns: &[
            ("level", Number),
            ("n", Number),
            ("part", Number),
            ("pairs", Bytes),
        ],
        order: "level, n, part",
    },
    Table {
        name: "evidence",
        columns: &[("idx", Number), ("kind", Number), ("bytes", Bytes)],
        order: "idx, kind",
    },
    Table {
        name: "witnessed",
        columns: &[("origin", Text), ("size", Number), ("note", Text)],
        order: "origin, size",
    },
    Table {
        name: "link",
        columns: &[
            ("origin", Text),
            ("size", Number),
            ("root", Bytes),
            ("witnessed", Number),
            ("proof", Bytes),
        ],
        order: "origin, size, root",
    },
    Table {
        name: "contradiction",
        columns: &[
            ("origin", Text),
            ("time_us", Number),
            ("first", Text),
            ("second", Text),
        ],
        order: "origin, second",
    },
    Table {
        name: "credential",
        columns: &[
            ("kind", Number),
            ("name", Bytes),
            ("time_us", Number),
            ("bytes", Bytes),
        ],
        order: "kind, name, time_us",
    },
    Table {
        name: "reconcile",
        columns: &[
            ("city", Text),
            ("until_ms", Number),
            ("at_us", Number),
            ("found", Number),
            ("holder", Uuid),
            ("held_us", Number),
        ],
        order: "city",
    },
    Table {
        name: "reconcile_open",
        columns: &[("city", Text), ("exchange", Uuid), ("attempt", Number)],
        order: "city, exchange, attempt",
    },
];

/// Place of an entry's bytes among the columns of `entry`.
pub(crate) const ENTRY_BYTES: usize = 5;

/// The statements of a table; both stores understand them.
pub(crate) struct Statements {
    pub(crate) table: &'static Table,
    pub(crate) select: String,
    pub(crate) insert_one: String,
    pub(crate) insert_group: String,
}

/// In the order of [`TABLES`].
pub(crate) static STATEMENTS: LazyLock<Vec<Statements>> =
    LazyLock::new(|| TABLES.iter().map(Statements::of).collect());

impl Statements {
    fn of(table: &'static Table) -> Self {
        let Table {
            name,
            columns,
            order,
        } = table;
        let select: Vec<String> = columns
            .iter()
            .map(|(column, kind)| match kind {
                // PostgreSQL has numbers of several widths.
                Number => format!("CAST({column} AS BIGINT)"),
                Bytes | Text | Uuid => (*column).to_owned(),
            })
            .collect();
        let names: Vec<&str> = columns.iter().map(|(column, _)| *column).collect();
        let insert = |rows: usize| {
            let values: Vec<String> = (0..rows)
                .map(|row| {
                    let first = row * columns.len() + 1;
                    let places: Vec<String> = (first..first + columns.len())
                        .map(|place| format!("${place}"))
                        .collect();
                    format!("(1, {})", places.join(", "))
                })
                .collect();
            format!(
                "INSERT INTO {name} (ledger, {}) VALUES {}",
                names.join(", "),
                values.join(", ")
            )
        };
        Self {
            table,
            select: format!(
                "SELECT {} FROM {name} WHERE ledger = 1 ORDER BY {order}",
                select.join(", ")
            ),
            insert_one: insert(1),
            insert_group: insert(GROUP),
        }
    }
}

/// A value of a row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Bytes(Vec<u8>),
    Null,
    Number(i64),
    Text(String),
}

impl Value {
    pub(crate) fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let mut sized = |tag: u8, bytes: &[u8]| {
            let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
            out.write_all(&[tag])?;
            out.write_all(&length.to_be_bytes())?;
            out.write_all(bytes)
        };
        match self {
            Self::Null => out.write_all(&[0]),
            Self::Bytes(bytes) => sized(2, bytes),
            Self::Text(text) => sized(3, text.as_bytes()),
            Self::Number(number) => {
                out.write_all(&[1])?;
                out.write_all(&number.to_be_bytes())
            }
        }
    }

    /// `None` at the end.
    pub(crate) fn read(from: &mut impl Read) -> io::Result<Option<Self>> {
        let mut tag = [0];
        if from.read(&mut tag)? == 0 {
            return Ok(None);
        }
        let malformed = || io::Error::from(io::ErrorKind::InvalidData);
        let mut sized = || {
            let mut length = [0; 4];
            from.read_exact(&mut length)?;
            let length = u32::from_be_bytes(length);
            if length > MAX_VALUE {
                return Err(malformed());
            }
            let mut bytes = Vec::new();
            let taken = from.take(u64::from(length)).read_to_end(&mut bytes)?;
            if u32::try_from(taken) == Ok(length) {
                Ok(bytes)
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        };
        Ok(Some(match tag {
            [0] => Self::Null,
            [1] => {
                let mut number = [0; 8];
                from.read_exact(&mut number)?;
                Self::Number(i64::from_be_bytes(number))
            }
            [2] => Self::Bytes(sized()?),
            [3] => Self::Text(String::from_utf8(sized()?).map_err(|_| malformed())?),
            _ => return Err(malformed()),
        }))
    }

    /// Whether a column of a kind can hold it.
    pub(crate) const fn is(&self, kind: Kind) -> bool {
        matches!(
            (self, kind),
            (Self::Null, _)
                | (Self::Number(_), Number)
                | (Self::Text(_), Text)
                | (Self::Bytes(_), Bytes | Uuid)
        )
    }
}

/// Reads the next row of a part. `None` at the end.
pub(crate) fn read_row(table: &Table, from: &mut impl Read) -> io::Result<Option<Vec<Value>>> {
    let mut row = Vec::with_capacity(table.columns.len());
    for (_, kind) in table.columns {
        match Value::read(from)? {
            Some(value) if value.is(*kind) => row.push(value),
            None if row.is_empty() => return Ok(None),
            Some(_) => return Err(io::ErrorKind::InvalidData.into()),
            None => return Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
    Ok(Some(row))
}

/// The first line of a part.
pub(crate) fn head_line(table: &Table) -> String {
    format!("{FORMAT} {}\n", table.name)
}
