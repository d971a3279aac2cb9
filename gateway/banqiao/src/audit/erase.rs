//! `banqiao audit erase` and `banqiao audit retire-month`: two identities erase private parts, or destroy the keys of a
//! month.

use std::{io, path::PathBuf};

use anyhow::Result;
use banqiao_directory::Clock;
use banqiao_proto::ledger::v1::{
    ApproveErasureRequest, Entry, EntryIndices, Erase, ErasureProposal, ListErasuresRequest,
    ProposeErasureRequest, SubjectErasure, SubjectNumber, WithdrawErasureRequest,
    erasure_service_client::ErasureServiceClient, propose_erasure_request::Scope,
    subject_number::Number,
};
use clap::Subcommand;
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::filter::read_number;
use crate::{
    answer,
    config::Role,
    connect::AdminArgs,
    exit::{Exit, Stop},
    moment::{self, Moment},
    text::{clean, table::Table},
};

/// Erase private parts: who calls were about, and on whose behalf. It takes two certificates, one of the
/// administrator's role and one of the auditor's, at the admin listener's https address. Entries, tiles and proofs
/// stay.
#[derive(Debug, Subcommand)]
pub enum EraseCommand {
    /// Propose an erasure; nothing is erased yet. Exit 1: a retention floor forbids it; it says which, and until when.
    Propose(Box<Propose>),
    /// Erase what an identity of the other role has proposed.
    Approve(Decide),
    /// Withdraw or reject a proposal.
    Withdraw(Decide),
    /// The proposals that wait.
    List(ListErasures),
}

/// Arguments of `audit erase propose`.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("scope").required(true)))]
pub struct Propose {
    /// Index of an entry; may be repeated.
    #[arg(long = "index", value_name = "INDEX", group = "scope")]
    indices: Vec<u64>,
    /// Every entry of an exchange.
    #[arg(long, value_name = "ID", group = "scope")]
    exchange: Option<String>,
    /// Every entry about a person: ask for the number at a prompt, or read it from standard input. Other subjects of
    /// the same entries are erased with it.
    #[arg(long, group = "scope")]
    subject: bool,
    /// As --subject, with the number from a file.
    #[arg(long, value_name = "FILE", group = "scope")]
    subject_file: Option<PathBuf>,
    /// With a subject, the first moment: 2h (ago), 2026-11-23, 2026-11-23T08:00, or RFC 3339.
    #[arg(long, value_name = "MOMENT")]
    from: Option<String>,
    /// With a subject, the first moment that is too late.
    #[arg(long, value_name = "MOMENT")]
    until: Option<String>,
    /// Statutory basis, such as 'statutory:个人信息保护法 art. 47'. Needed below a retention floor.
    #[arg(long, value_name = "TEXT", default_value = "")]
    basis: String,
    /// Number of the decision that was taken.
    #[arg(long, value_name = "NUMBER")]
    request_number: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `audit erase approve` and `withdraw`.
#[derive(Debug, clap::Args)]
pub struct Decide {
    /// Id of the proposal.
    id: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `audit erase list`.
#[derive(Debug, clap::Args)]
pub struct ListErasures {
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `audit retire-month`.
#[derive(Debug, clap::Args)]
pub struct RetireMonth {
    /// The month, as 2023-07. Every entry of it must have passed its retention floor.
    month: String,
    /// Number of the decision that was taken.
    #[arg(long, value_name = "NUMBER")]
    request_number: String,
    #[command(flatten)]
    admin: AdminArgs,
}

const HEADINGS: [&str; 7] = [
    "PROPOSAL", "SCOPE", "ENTRIES", "BASIS", "FLOORS", "PROPOSED", "LAPSES",
];

impl EraseCommand {
    pub(super) async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        match self {
            Self::Propose(command) => command.run(out).await,
            Self::Approve(decide) => {
                let id = decide.id.clone();
                let request = ApproveErasureRequest { id };
                let asked = client(&decide.admin).await?.approve_erasure(request).await;
                let done = asked.map_err(|status| answer::stop(&status))?.into_inner();
                writeln!(
                    out,
                    "erased: {} private parts; entry {} of this ledger says so",
                    done.private_parts, done.index
                )?;
                Ok(Exit::Done)
            }
            Self::Withdraw(decide) => {
                let id = decide.id.clone();
                let request = WithdrawErasureRequest { id };
                let asked = client(&decide.admin).await?.withdraw_erasure(request).await;
                asked.map_err(|status| answer::stop(&status))?;
                writeln!(out, "withdrawn; nothing was erased")?;
                Ok(Exit::Done)
            }
            Self::List(list) => {
                let request = ListErasuresRequest {};
                let asked = client(&list.admin).await?.list_erasures(request).await;
                let listed = asked.map_err(|status| answer::stop(&status))?.into_inner();
                let mut table = Table::new(&HEADINGS);
                for proposal in &listed.proposals {
                    table.row([
                        proposal.id.clone(),
                        proposal.scope.clone(),
                        proposal.indices.len().to_string(),
                        proposal.basis.clone(),
                        proposal.floors.join(" "),
                        format!(
                            "{} by {}",
                            moment::local(proposal.proposed_at_us),
                            proposal.proposer
                        ),
                        moment::local(proposal.lapses_at_us),
                    ]);
                }
                table.write(out)?;
                Ok(Exit::Done)
            }
        }
    }
}

impl Propose {
    async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let request = ProposeErasureRequest {
            scope: Some(self.scope()?),
            basis: self.basis.clone(),
            request_number: self.request_number.clone(),
        };
        propose(&self.admin, request, out).await
    }

    fn scope(&self) -> Result<Scope, Stop> {
        if let Some(exchange) = &self.exchange {
            // In metadata the exchange id stands with its attempt.
            let id = exchange.split('/').next().unwrap_or_default();
            return Ok(Scope::ExchangeId(id.to_owned()));
        }
        if !self.indices.is_empty() {
            return Ok(Scope::Entries(EntryIndices {
                indices: self.indices.clone(),
            }));
        }
        let clock = Clock::system();
        let moment = |flag: &str, text: &Option<String>| match text {
            None => Ok(0),
            Some(text) => Moment::parse(text)
                .map(|moment| moment.before(&clock))
                .map_err(|error| Stop::usage(format!("{flag} {text}: {error}"))),
        };
        Ok(Scope::Subject(SubjectErasure {
            from_us: moment("--from", &self.from)?,
            until_us: moment("--until", &self.until)?,
            subject: Some(SubjectNumber {
                // Tokens are made of the number, whatever its kind.
                number: Some(Number::Citizen(read_number(self.subject_file.as_deref())?)),
            }),
        }))
    }
}

impl RetireMonth {
    pub(super) async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let request = ProposeErasureRequest {
            scope: Some(Scope::Month(self.month.clone())),
            basis: String::new(),
            request_number: self.request_number.clone(),
        };
        propose(&self.admin, request, out).await
    }
}

async fn propose(
    admin: &AdminArgs,
    request: ProposeErasureRequest,
    out: &mut dyn io::Write,
) -> Result<Exit> {
    let asked = client(admin).await?.propose_erasure(request).await;
    let answer = asked.map_err(|status| answer::stop(&status))?.into_inner();
    let ErasureProposal {
        id,
        scope,
        indices,
        month,
        floors,
        ..
    } = answer.proposal.unwrap_or_default();
    let what = if month.is_empty() {
        format!("{} private parts ({})", indices.len(), clean(&scope))
    } else {
        format!("the keys of {}", clean(&month))
    };
    writeln!(out, "proposed: {what}")?;
    for floor in floors {
        writeln!(out, "below the floor {}", clean(&floor))?;
    }
    let id = clean(&id);
    writeln!(
        out,
        "an identity of the other role approves it: banqiao audit erase approve {id}"
    )?;
    Ok(Exit::Done)
}

async fn client(admin: &AdminArgs) -> Result<ErasureServiceClient<Channel>, Stop> {
    // Over https the role is the certificate's; a socket may only list and withdraw.
    let channel = admin.connect(Role::Auditor).await?;
    Ok(ErasureServiceClient::new(channel))
}

/// What an ERASE entry says, and who stands for it.
pub(super) fn cells(entry: &Entry) -> (String, String) {
    let Some(erase) = &entry.erase else {
        return Default::default();
    };
    let what = if erase.month.is_empty() {
        format!("{} private parts ({})", erase.private_parts, erase.scope)
    } else {
        format!("keys of {}", erase.month)
    };
    let who = format!("{} and {}", erase.proposer, erase.approver);
    (format!("{what} {}", erase.basis).trim_end().to_owned(), who)
}

pub(super) fn value(erase: &Erase) -> Value {
    json!({
        "proposal": erase.proposal,
        "scope": erase.scope,
        "indices": erase.indices,
        "month": erase.month,
        "basis": erase.basis,
        "request_number": erase.request_number,
        "proposer": erase.proposer,
        "approver": erase.approver,
        "private_parts": erase.private_parts,
        "floors": erase.floors,
    })
}
