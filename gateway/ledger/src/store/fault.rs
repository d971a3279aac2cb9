//! The classes of database errors (LEDGER.md §2.5).

use super::StoreError;
use crate::ledger::LedgerError;

/// A database error, by what has to follow.
#[derive(Debug)]
pub(crate) enum Fault {
    /// The connection is of no more use: connect again.
    Connection(StoreError),
    /// The database refuses what it was given: something in the batch, or a database that is not what it was.
    Rejected(StoreError),
    /// Reading or writing failed: freeze, open again, verify again.
    Storage(StoreError),
    /// Nothing was changed, and the same again may succeed.
    Transient(StoreError),
}

impl From<Fault> for LedgerError {
    fn from(fault: Fault) -> Self {
        Self::Store(fault.into_error())
    }
}

/// Why a COMMIT failed.
#[derive(Debug)]
pub(crate) enum CommitFault {
    /// Nothing was committed.
    Refused(Fault),
    /// It may have been committed.
    Unknown(Fault),
}

impl CommitFault {
    /// The fault, whatever became of the transaction.
    pub(crate) fn into_fault(self) -> Fault {
        match self {
            Self::Refused(fault) | Self::Unknown(fault) => fault,
        }
    }

    /// Classifies an error that PostgreSQL answered a COMMIT with, or the lack of an answer.
    pub(super) fn postgres(fault: Fault) -> Self {
        match fault {
            Fault::Rejected(_) | Fault::Transient(_) => Self::Refused(fault),
            Fault::Connection(_) | Fault::Storage(_) => Self::Unknown(fault),
        }
    }

    /// Classifies an error that SQLite answered a COMMIT with.
    pub(super) fn sqlite(error: sqlx::Error) -> Self {
        // READONLY and FULL: the frame that commits was not written. After a failed sync (IOERR) it may have been.
        let unwritten = primary_code(&error).is_some_and(|code| matches!(code, 8 | 13));
        match Fault::sqlite(error) {
            fault @ Fault::Storage(_) if unwritten => Self::Refused(fault),
            fault @ (Fault::Rejected(_) | Fault::Transient(_)) => Self::Refused(fault),
            fault => Self::Unknown(fault),
        }
    }
}

/// The primary result code of SQLite.
fn primary_code(error: &sqlx::Error) -> Option<u32> {
    let sqlx::Error::Database(database) = error else {
        return None;
    };
    let extended: u32 = database.code()?.parse().ok()?;
    Some(extended & 0xff)
}

impl Fault {
    /// The error, without its class.
    pub(crate) fn into_error(self) -> StoreError {
        match self {
            Self::Connection(error)
            | Self::Rejected(error)
            | Self::Storage(error)
            | Self::Transient(error) => error,
        }
    }

    /// The error, without its class.
    pub(crate) const fn error(&self) -> &StoreError {
        match self {
            Self::Connection(error)
            | Self::Rejected(error)
            | Self::Storage(error)
            | Self::Transient(error) => error,
        }
    }

    /// Classifies an error of PostgreSQL by its SQLSTATE (PostgreSQL manual, appendix A).
    pub(crate) fn postgres(error: sqlx::Error) -> Self {
        let class: fn(StoreError) -> Self = match &error {
            sqlx::Error::Database(database) => match database.code().as_deref() {
                // Serialisation failure, deadlock, lock not available, query cancelled.
                Some("40001" | "40P01" | "55P03" | "57014") => Self::Transient,
                // Idle in transaction, read-only (a standby), shutdown, crash, starting, connections.
                Some("25P03" | "25006") => Self::Connection,
                Some(code) if code.starts_with("08") || code.starts_with("57P") => Self::Connection,
                Some(code) if code.starts_with("53") && code != "53100" => Self::Connection,
                Some(code) if code.starts_with("28") || code.starts_with("3D") => Self::Connection,
                // Data, constraints, limits of the program.
                Some(code)
                    if code.starts_with("22")
                        || code.starts_with("23")
                        || code.starts_with("42")
                        || code.starts_with("54") =>
                {
                    Self::Rejected
                }
                // Disk full, input/output errors, corruption, and what nobody foresaw.
                _ => Self::Storage,
            },
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::BeginFailed
            | sqlx::Error::WorkerCrashed => Self::Connection,
            _ => Self::Storage,
        };
        class(StoreError::Database(error))
    }

    /// Classifies an error of SQLite by its primary result code (sqlite.org/rescode.html).
    pub(crate) fn sqlite(error: sqlx::Error) -> Self {
        let class: fn(StoreError) -> Self = match &error {
            sqlx::Error::Database(_) => match primary_code(&error) {
                // BUSY, LOCKED.
                Some(5 | 6) => Self::Transient,
                // TOOBIG, CONSTRAINT, MISMATCH, RANGE.
                Some(18 | 19 | 20 | 25) => Self::Rejected,
                // READONLY, IOERR, CORRUPT, FULL, CANTOPEN, NOTADB, and what nobody foresaw.
                _ => Self::Storage,
            },
            sqlx::Error::PoolTimedOut | sqlx::Error::PoolClosed | sqlx::Error::WorkerCrashed => {
                Self::Connection
            }
            _ => Self::Storage,
        };
        class(StoreError::Database(error))
    }
}
