//! Exit codes, and errors that choose one.

use std::{error::Error, process::ExitCode};

/// How a subcommand ends. The numbers are those of `sysexits.h` where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// 0: done; of a question: yes.
    Done = 0,
    /// 1: a gateway or service answered with an error; of a question: no.
    Failed = 1,
    /// 2: what was verified is not wrong, and not whole.
    Incomplete = 2,
    /// 64: the command line, a config or an input file is wrong; nothing was sent or changed.
    Usage = 64,
    /// 69: the gateway or database could not be reached.
    Unavailable = 69,
    /// 77: the identity or socket lacks the role that the command needs.
    NotPermitted = 77,
    /// 130: interrupted from the keyboard.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// An error that says with which code the program ends.
///
/// `Display` is the message alone; the cause is its `source`.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Stop {
    exit: Exit,
    message: String,
    #[source]
    source: Option<Box<dyn Error + Send + Sync>>,
}

impl Stop {
    /// A stop with this code.
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            source: None,
        }
    }

    /// The command line or an input file is wrong.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Exit::Usage, message)
    }

    /// The gateway could not be reached.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Exit::Unavailable, message)
    }

    /// Adds the error that caused it.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// The code.
    pub const fn exit(&self) -> Exit {
        self.exit
    }
}

/// The code of an error: that of the outermost [`Stop`] in its chain, else [`Exit::Failed`].
pub fn exit_of(error: &anyhow::Error) -> Exit {
    error
        .chain()
        .find_map(|cause| cause.downcast_ref::<Stop>())
        .map_or(Exit::Failed, Stop::exit)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn the_outermost_stop_decides_also_below_context() {
        let error = Err::<(), _>(Stop::usage("no such file").caused_by("reason"))
            .context("reading the grant")
            .unwrap_err();
        assert_eq!(exit_of(&error), Exit::Usage);
        assert_eq!(error.chain().count(), 3);
        assert_eq!(exit_of(&anyhow::anyhow!("other")), Exit::Failed);
    }
}
