//! Errors printed with their causes.

use std::{error::Error, fmt};

/// Prints an error and then each of its sources, joined by `: `.
///
/// Our errors leave the source out of their own `Display`, so that a chain says everything once.
#[derive(Clone, Copy)]
pub struct Chain<'a>(pub &'a (dyn Error + 'a));

/// Deeper chains are cut: a cycle of sources must not hang a log line.
const MAX_LINKS: usize = 32;

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut source = self.0.source();
        for _ in 0..MAX_LINKS {
            let Some(error) = source else { return Ok(()) };
            write!(f, ": {error}")?;
            source = error.source();
        }
        f.write_str(": …")
    }
}

impl fmt::Debug for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot open the ledger")]
    struct Outer(#[source] std::io::Error);

    #[test]
    fn every_cause_is_printed_once() {
        let error = Outer(std::io::Error::other("disk is full"));
        assert_eq!(
            Chain(&error).to_string(),
            "cannot open the ledger: disk is full"
        );
    }
}
