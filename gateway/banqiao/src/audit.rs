//! `banqiao audit`: the auditor's view of a city's ledger. Every command is itself an entry there, but
//! `generate` and `verify`, which ask no gateway,
//! and `export --from-database`.

mod erase;
pub(crate) mod evidence;
mod fetch;
mod filter;
mod generate;
mod print;
mod receipt;
mod reconcile;
mod subject;
mod tiles;
mod verify;

use std::{fs, io, os::unix::fs::OpenOptionsExt as _, path::PathBuf};

use anyhow::{Context as _, Result};
use banqiao_ledger::{Decoded, decode};
use banqiao_proto::ledger::v1::{
    EntryFilter, IndexedEntry, SearchEntriesRequest, ShowExchangeRequest, TailEntriesRequest,
    audit_service_client::AuditServiceClient,
};
use clap::Subcommand;
use tonic::{Streaming, transport::Channel};

use crate::{
    answer,
    config::Role,
    connect::AdminArgs,
    exit::{Exit, Stop},
    outcomes,
    text::bar::bar,
};
pub use erase::{Decide, EraseCommand, ListErasures, Propose, RetireMonth};
pub use evidence::Evidence;
use filter::FilterArgs;
pub use generate::Generate;
use print::{Form, Printer};
pub use receipt::VerifyReceipt;
pub use reconcile::Reconcile;
pub use subject::SubjectCommand;
pub use verify::Verify;
pub(crate) use verify::listed_keys;

/// Search, show, follow, export and verify the ledger.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Erase private parts, by two identities.
    #[command(subcommand)]
    Erase(Box<EraseCommand>),
    /// Write everything that proves one exchange into a file: `banqiao verify` checks it offline.
    Evidence(Box<Evidence>),
    /// Write every entry that matches into a file, oldest first; or the whole log into a folder, as C2SP tlog-tiles has it.
    Export(Box<Export>),
    /// Compare the ledger's exchanges with those of other cities now; exit 0 nothing found, 1 discrepancies found, 69 a
    /// city cannot be reached.
    Reconcile(Box<Reconcile>),
    /// Write a synthetic ledger into an empty database, for tests and measurements.
    Generate(Box<Generate>),
    /// Propose to destroy the keys of a month, when every entry of it has passed its retention floor; `audit erase
    /// approve` does it.
    RetireMonth(Box<RetireMonth>),
    /// Entries that match, newest first.
    Search(Box<Search>),
    /// Every entry of one exchange.
    Show(Show),
    /// Who read a person's data: when, why and by which grant, here and in other cities. Exit 1: not every city that
    /// was to be asked has answered.
    Subject(Box<SubjectCommand>),
    /// Entries as they are committed.
    Tail(Box<Tail>),
    /// Verify a whole ledger again, straight from its database or an exported tile tree; exit 0 valid, 1 invalid.
    Verify(Box<Verify>),
    /// Verify a receipt that a client was given, without any gateway; exit 0 valid, 1 invalid.
    VerifyReceipt(Box<VerifyReceipt>),
}

/// How results are written.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct FormArgs {
    /// Print JSON, one entry a line.
    #[arg(long)]
    json: bool,
    /// Print CSV with a line of headings.
    #[arg(long, conflicts_with = "json")]
    csv: bool,
}

impl FormArgs {
    const fn form(self) -> Form {
        match (self.json, self.csv) {
            (true, _) => Form::Json,
            (_, true) => Form::Csv,
            _ => Form::Table,
        }
    }
}

/// Arguments of `audit search`.
#[derive(Debug, clap::Args)]
pub struct Search {
    #[command(flatten)]
    filter: FilterArgs,
    /// Most entries to print.
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: u32,
    /// Oldest first.
    #[arg(long)]
    ascending: bool,
    /// Go on behind this index.
    #[arg(long, value_name = "INDEX")]
    cursor: Option<u64>,
    #[command(flatten)]
    form: FormArgs,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `audit show`.
#[derive(Debug, clap::Args)]
pub struct Show {
    /// The exchange id, as answers carry it in banqiao-exchange-id.
    exchange_id: String,
    /// Open private parts too: subjects, operator, case number, client address. The entry of this query says so.
    #[arg(long)]
    open_private: bool,
    #[command(flatten)]
    form: FormArgs,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `audit tail`.
#[derive(Debug, clap::Args)]
pub struct Tail {
    #[command(flatten)]
    filter: FilterArgs,
    /// Begin at this index. Default: only new entries.
    #[arg(long, value_name = "INDEX")]
    from: Option<u64>,
    /// Stop at the end instead of waiting for new entries.
    #[arg(long)]
    stop_at_end: bool,
    #[command(flatten)]
    form: FormArgs,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `audit export`.
#[derive(Debug, clap::Args)]
pub struct Export {
    #[command(flatten)]
    filter: FilterArgs,
    /// The file to write. It must not exist.
    #[arg(
        long,
        short = 'o',
        value_name = "FILE",
        required_unless_present = "tiles"
    )]
    output: Option<PathBuf>,
    /// Write the whole log into this folder instead: `checkpoint`, `tile/` and `tile/entries/` (C2SP tlog-tiles), the
    /// checkpoint last. Where the folder holds an earlier export, it is gone on with.
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["output", "csv", "FilterArgs"])]
    tiles: Option<PathBuf>,
    /// Read the log from its database, without a gateway: sqlite://FILE or postgres://USER@HOST/DATABASE. Whoever may read
    /// the database may do so: this is no entry.
    #[arg(long, value_name = "URL", requires = "tiles")]
    from_database: Option<String>,
    /// The folder of the entries that have left that database (ledger.archive of the gateway).
    #[arg(long, value_name = "FOLDER", requires = "from_database")]
    archive: Option<PathBuf>,
    /// Write CSV instead of JSON lines.
    #[arg(long)]
    csv: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

impl AuditCommand {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// [`Stop`] where the gateway or database cannot be reached, or the gateway refuses.
    pub async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        match self {
            Self::Erase(command) => command.run(out).await,
            Self::Evidence(command) => command.run(out).await,
            Self::Export(command) => command.run(out).await,
            Self::Reconcile(command) => command.run(out).await,
            Self::Generate(command) => command.run(out).await,
            Self::RetireMonth(command) => command.run(out).await,
            Self::Search(command) => command.run(out).await,
            Self::Show(command) => command.run(out).await,
            Self::Subject(command) => command.run(out).await,
            Self::Tail(command) => command.run(out).await,
            Self::Verify(command) => command.run(out).await,
            Self::VerifyReceipt(command) => command.run(out),
        }
    }
}

/// Largest answer in bytes: every entry of one exchange, which a long stream has many of.
const MAX_ANSWER_BYTES: usize = 64 << 20;

async fn auditor(admin: &AdminArgs) -> Result<AuditServiceClient<Channel>, Stop> {
    let channel = admin.connect(Role::Auditor).await?;
    Ok(AuditServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES))
}

impl Search {
    async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let request = SearchEntriesRequest {
            filter: Some(self.filter.parse()?),
            limit: self.limit,
            ascending: self.ascending,
            cursor: self.cursor,
        };
        let asked = auditor(&self.admin).await?.search_entries(request).await;
        let mut found = asked.map_err(|status| answer::stop(&status))?.into_inner();
        let mut printer = Printer::new(self.form.form());
        while let Some(message) = found
            .message()
            .await
            .map_err(|status| answer::stop(&status))?
        {
            printer.entry(out, &message.entry.unwrap_or_default())?;
        }
        printer.finish(out)?;
        Ok(Exit::Done)
    }
}

impl Show {
    async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let request = ShowExchangeRequest {
            exchange_id: self.exchange_id.clone(),
            open_private: self.open_private,
        };
        let asked = auditor(&self.admin).await?.show_exchange(request).await;
        let entries = asked
            .map_err(|status| answer::stop(&status))?
            .into_inner()
            .entries;
        if entries.is_empty() {
            return Err(Stop::new(Exit::Failed, "this ledger has no entry of the exchange").into());
        }
        let form = if matches!(self.form.form(), Form::Table) {
            Form::Whole
        } else {
            self.form.form()
        };
        let mut printer = Printer::new(form);
        for entry in &entries {
            printer.entry(out, entry)?;
        }
        printer.finish(out)?;
        let known = entries.iter().filter_map(|it| match decode(&it.entry) {
            Ok(Decoded::Entry(entry)) => Some(*entry),
            _ => None,
        });
        if outcomes::unsaid(&known.collect::<Vec<_>>()) {
            // A failing terminal leaves nowhere to say so.
            let _ = io::Write::write_fmt(&mut io::stderr(), format_args!("{INTERRUPTED}\n"));
        }
        Ok(Exit::Done)
    }
}

/// Said of a call to all cities that has no entry for the whole.
const INTERRUPTED: &str = "INTERRUPTED as a whole, unless it is ending at this moment: no entry says what became of the call to \
    all cities, because its gateway died first. The caller was given no status; what each city was asked is above.";

impl Tail {
    async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let mut entries = tail(
            &self.admin,
            self.filter.parse()?,
            self.from,
            self.stop_at_end,
        )
        .await?;
        let mut printer = Printer::new(match self.form.form() {
            // Rows leave as they come, so their widths cannot wait for the longest.
            Form::Table => Form::Rows,
            form => form,
        });
        while let Some(entry) = next(&mut entries).await? {
            printer.entry(out, &entry)?;
            out.flush()?;
        }
        printer.finish(out)?;
        Ok(Exit::Done)
    }
}

impl Export {
    async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        if let Some(folder) = &self.tiles {
            let source = match &self.from_database {
                Some(url) => tiles::Source::database(url, self.archive.clone())?,
                None => tiles::Source::Gateway(auditor(&self.admin).await?),
            };
            return tiles::export(folder, source, out).await;
        }
        let Some(output) = &self.output else {
            return Err(Stop::usage("name --output or --tiles").into());
        };
        let filter = self.filter.parse()?;
        let private = !(filter.subject.is_empty()
            && filter.operator.is_empty()
            && filter.case_number.is_empty());
        // Who asked whom about what is not for every user of the machine.
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600);
        let file = file.open(output).map_err(|error| {
            Stop::usage(format!("cannot make {}", output.display())).caused_by(error)
        })?;
        let mut file = io::BufWriter::new(file);
        let mut printer = Printer::new(if self.csv { Form::Csv } else { Form::Json });
        let bar = bar(0, "{spinner} {human_pos} entries, {per_sec}");
        let mut written = 0_u64;
        if private {
            let request = SearchEntriesRequest {
                filter: Some(filter),
                limit: u32::MAX,
                ascending: true,
                cursor: None,
            };
            let asked = auditor(&self.admin).await?.search_entries(request).await;
            let mut found = asked.map_err(|status| answer::stop(&status))?.into_inner();
            while let Some(message) = found
                .message()
                .await
                .map_err(|status| answer::stop(&status))?
            {
                printer.entry(&mut file, &message.entry.unwrap_or_default())?;
                written += 1;
                bar.inc(1);
            }
        } else {
            let mut entries = tail(&self.admin, filter, Some(0), true).await?;
            while let Some(entry) = next(&mut entries).await? {
                printer.entry(&mut file, &entry)?;
                written += 1;
                bar.inc(1);
            }
        }
        printer.finish(&mut file)?;
        file.into_inner()
            .map_err(io::IntoInnerError::into_error)?
            .sync_all()
            .context("the export could not be kept")?;
        bar.finish_and_clear();
        writeln!(out, "{written} entries in {}", output.display())?;
        Ok(Exit::Done)
    }
}

type Entries = Streaming<banqiao_proto::ledger::v1::TailEntriesResponse>;

async fn tail(
    admin: &AdminArgs,
    filter: EntryFilter,
    from_index: Option<u64>,
    stop_at_end: bool,
) -> Result<Entries> {
    let request = TailEntriesRequest {
        from_index,
        filter: Some(filter),
        stop_at_end,
    };
    let asked = auditor(admin).await?.tail_entries(request).await;
    Ok(asked.map_err(|status| answer::stop(&status))?.into_inner())
}

async fn next(entries: &mut Entries) -> Result<Option<IndexedEntry>> {
    let message = entries
        .message()
        .await
        .map_err(|status| answer::stop(&status))?;
    Ok(message.map(|message| message.entry.unwrap_or_default()))
}
