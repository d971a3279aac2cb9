//! What a database error means for the caller.

/// What to do about an error of a statement or a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// A fault of this program or of the schema.
    Broken,
    /// Another transaction won: read again and decide again.
    Conflict,
    /// The database is away, full or overloaded. A commit whose answer was lost may have been applied.
    Unavailable,
}

/// Sorts an error.
pub fn classify(error: &sqlx::Error) -> FaultKind {
    match error {
        sqlx::Error::Database(error) if error.is_unique_violation() => FaultKind::Conflict,
        sqlx::Error::Database(error) => error
            .code()
            .map_or(FaultKind::Broken, |code| of_code(&code)),
        sqlx::Error::Io(_)
        | sqlx::Error::Tls(_)
        | sqlx::Error::PoolTimedOut
        | sqlx::Error::PoolClosed
        | sqlx::Error::WorkerCrashed => FaultKind::Unavailable,
        _ => FaultKind::Broken,
    }
}

/// SQLSTATE has five characters; SQLite's result codes are numbers whose low byte is the primary code.
fn of_code(code: &str) -> FaultKind {
    match code {
        // serialization_failure, deadlock_detected
        "40001" | "40P01" => FaultKind::Conflict,
        // lock_not_available, query_canceled, read_only_sql_transaction (a standby after a failover)
        "55P03" | "57014" | "25006" => FaultKind::Unavailable,
        // connection exceptions, insufficient resources, operator intervention, system errors
        state if state.len() == 5 => match &state[..2] {
            "08" | "53" | "57" | "58" => FaultKind::Unavailable,
            _ => FaultKind::Broken,
        },
        number => match number.parse::<u32>().map(|code| code & 0xff) {
            // BUSY, LOCKED, READONLY, IOERR, FULL, CANTOPEN
            Ok(5 | 6 | 8 | 10 | 13 | 14) => FaultKind::Unavailable,
            _ => FaultKind::Broken,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted() {
        for (code, kind) in [
            ("40001", FaultKind::Conflict),
            ("40P01", FaultKind::Conflict),
            ("55P03", FaultKind::Unavailable),
            ("57P01", FaultKind::Unavailable),
            ("53300", FaultKind::Unavailable),
            ("08006", FaultKind::Unavailable),
            ("42P01", FaultKind::Broken),
            ("23514", FaultKind::Broken),
            ("5", FaultKind::Unavailable),
            ("517", FaultKind::Unavailable),
            ("13", FaultKind::Unavailable),
            ("1", FaultKind::Broken),
            ("275", FaultKind::Broken),
        ] {
            assert_eq!(of_code(code), kind, "{code}");
        }
        assert_eq!(classify(&sqlx::Error::PoolTimedOut), FaultKind::Unavailable);
        assert_eq!(classify(&sqlx::Error::RowNotFound), FaultKind::Broken);
    }
}
