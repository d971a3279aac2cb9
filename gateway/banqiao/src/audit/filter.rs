//! What to look for.

use std::{
    io::{self, BufRead as _, IsTerminal as _, Write as _},
    path::{Path, PathBuf},
};

use banqiao_directory::Clock;
use banqiao_proto::{
    ReasonTable,
    ledger::v1::{EntryFilter, Kind, Outcome},
};
use clap::ValueEnum;

use crate::{exit::Stop, moment::Moment};

/// Filters. All that are given must hold.
#[derive(Debug, clap::Args)]
pub(super) struct FilterArgs {
    /// First moment: 2h (ago), 2026-11-23, 2026-11-23T08:00, or RFC 3339.
    #[arg(long, value_name = "MOMENT")]
    since: Option<String>,
    /// First moment that is too late.
    #[arg(long, value_name = "MOMENT")]
    until: Option<String>,
    /// City code on either side.
    #[arg(long, value_name = "CODE", default_value = "")]
    city: String,
    /// SPIFFE ID of the client, or a prefix that ends in *.
    #[arg(long, value_name = "ID", default_value = "")]
    client: String,
    /// Full name of the service.
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,
    /// Method name, or /package.Service/Method.
    #[arg(long, value_name = "NAME", default_value = "")]
    method: String,
    /// Purpose code.
    #[arg(long, value_name = "CODE", default_value = "")]
    purpose: String,
    /// Operator, as the client sent it.
    #[arg(long, value_name = "TEXT", default_value = "")]
    operator: String,
    /// Case number, as the client sent it.
    #[arg(long = "case", value_name = "TEXT", default_value = "")]
    case_number: String,
    /// Ask for the subject's number at a prompt, or read it from standard input. It is turned into its tokens by the
    /// gateway and never stored.
    #[arg(long)]
    subject: bool,
    /// Read the subject's number from a file.
    #[arg(long, value_name = "FILE", conflicts_with = "subject")]
    subject_file: Option<PathBuf>,
    /// Exchange id.
    #[arg(long, value_name = "ID", default_value = "")]
    exchange: String,
    /// Kind of entry; may be repeated.
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<EntryKind>,
    /// How the call ended.
    #[arg(long, value_name = "RESULT")]
    result: Option<CallOutcome>,
    /// Reason of refusal, such as NOT_GRANTED.
    #[arg(long, value_name = "REASON")]
    reason: Option<String>,
}

/// Kind of an entry.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum EntryKind {
    Admin,
    Close,
    Epoch,
    Erase,
    Key,
    Open,
    Progress,
    Read,
    Reconciled,
    Refused,
    Summary,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum CallOutcome {
    Failed,
    Interrupted,
    Ok,
    Refused,
}

impl FilterArgs {
    pub(super) fn parse(&self) -> Result<EntryFilter, Stop> {
        let clock = Clock::system();
        let moment = |flag: &str, text: &Option<String>| match text {
            None => Ok(0),
            Some(text) => Moment::parse(text)
                .map(|moment| moment.before(&clock))
                .map_err(|error| Stop::usage(format!("{flag} {text}: {error}"))),
        };
        let reason = match &self.reason {
            None => 0,
            Some(name) => ReasonTable::by_name(&name.to_ascii_uppercase().replace('-', "_"))
                .ok_or_else(|| {
                    Stop::usage(format!("--reason {name}: `banqiao reasons` lists them"))
                })?
                .into(),
        };
        Ok(EntryFilter {
            from_us: moment("--since", &self.since)?,
            until_us: moment("--until", &self.until)?,
            city: self.city.clone(),
            client: self.client.clone(),
            service: self.service.clone(),
            method: self.method.clone(),
            purpose: self.purpose.clone(),
            operator: self.operator.clone(),
            case_number: self.case_number.clone(),
            subject: self.read_subject()?,
            exchange_id: self.exchange.clone(),
            kinds: self.kinds.iter().map(|kind| kind.proto().into()).collect(),
            outcome: self.result.map_or(0, |outcome| outcome.proto().into()),
            reason,
        })
    }

    fn read_subject(&self) -> Result<String, Stop> {
        if self.subject_file.is_none() && !self.subject {
            return Ok(String::new());
        }
        read_number(self.subject_file.as_deref())
    }
}

/// Reads a number from a file, or from a prompt or standard input. It never stands on the command line, where every
/// process of the machine can read it.
pub(super) fn read_number(file: Option<&Path>) -> Result<String, Stop> {
    let text = if let Some(file) = file {
        std::fs::read_to_string(file).map_err(|error| {
            Stop::usage(format!("cannot read {}", file.display())).caused_by(error)
        })?
    } else {
        if io::stdin().is_terminal() {
            // A prompt that cannot be shown does not keep the answer from being read.
            let _ = write!(io::stderr(), "number of the subject: ");
            let _ = io::stderr().flush();
        }
        let mut line = String::new();
        io::stdin()
            .lock()
            .read_line(&mut line)
            .map_err(|error| Stop::usage("cannot read standard input").caused_by(error))?;
        line
    };
    let text = text.trim();
    if text.is_empty() {
        return Err(Stop::usage("the subject's number is empty"));
    }
    Ok(text.to_owned())
}

impl EntryKind {
    const fn proto(self) -> Kind {
        match self {
            Self::Admin => Kind::Admin,
            Self::Close => Kind::Close,
            Self::Epoch => Kind::Epoch,
            Self::Erase => Kind::Erase,
            Self::Key => Kind::Key,
            Self::Open => Kind::Open,
            Self::Progress => Kind::Progress,
            Self::Read => Kind::Read,
            Self::Reconciled => Kind::Reconciled,
            Self::Refused => Kind::Refused,
            Self::Summary => Kind::Summary,
        }
    }
}

impl CallOutcome {
    const fn proto(self) -> Outcome {
        match self {
            Self::Failed => Outcome::Failed,
            Self::Interrupted => Outcome::Interrupted,
            Self::Ok => Outcome::Ok,
            Self::Refused => Outcome::Refused,
        }
    }
}
