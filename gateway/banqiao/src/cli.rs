//! The command line: subcommands, exit codes, and how errors are printed.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap::{Parser, Subcommand, error::ErrorKind};

use crate::{
    answer::print_error,
    archive::ArchiveCommand,
    audit::AuditCommand,
    backup::{BackupCommand, RestoreCommand},
    bench::{BenchCommand, BenchEchoCommand},
    call::CallCommand,
    config::check::CheckCommand,
    demo::DemoCommand,
    directory::DirectoryCommand,
    exit::{Exit, exit_of},
    grant::GrantCommand,
    operate::{CatalogCommand, DrainCommand, PublishCommand, ReloadCommand, StatusCommand},
    pki::PkiCommand,
    reasons::ReasonsCommand,
    recover::RecoverCommand,
    serve::GatewayCommand,
    service::{CardCommand, ItemCommand, LabCommand},
    verify::VerifyCommand,
};

/// The exchange network of city governments: gateways, their administration, and a client.
#[derive(Debug, Parser)]
#[command(name = "banqiao", version, about, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 done (of a question: yes); 1 failed (no); 64 wrong command line, config or input file; \
69 the gateway or database cannot be reached; 77 the identity or socket lacks the role; 130 interrupted.";

#[derive(Debug, Subcommand)]
enum Command {
    /// Search, show, follow, export and verify the ledger.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Move old entries of the ledger out of its database. They stay readable.
    Archive(ArchiveCommand),
    /// Copy a ledger while its gateway runs.
    Backup(BackupCommand),
    /// Load a network, print throughput, latency percentiles and CPU per call.
    Bench(BenchCommand),
    #[command(hide = true)]
    BenchEcho(BenchEchoCommand),
    /// Call a method through a gateway.
    Call(Box<CallCommand>),
    #[command(hide = true)]
    Card(CardCommand),
    /// The services that a gateway carries.
    #[command(subcommand)]
    Catalog(CatalogCommand),
    /// Check a gateway's config: every fault at once.
    Check(CheckCommand),
    /// Run five cities on this machine: calls, refusals, the log.
    Demo(DemoCommand),
    /// Write, sign and compare directories.
    #[command(subcommand)]
    Directory(DirectoryCommand),
    /// Take no more calls and let the open ones finish.
    Drain(DrainCommand),
    /// Run one city's gateway.
    Gateway(GatewayCommand),
    /// Add, list, revoke and explain grants.
    #[command(subcommand)]
    Grant(GrantCommand),
    #[command(hide = true)]
    Item(ItemCommand),
    #[command(hide = true)]
    Lab(LabCommand),
    /// Make a city's authority and certificates, and revoke them.
    #[command(subcommand)]
    Pki(PkiCommand),
    /// Offer a signed directory to a gateway.
    Publish(PublishCommand),
    /// Explain the reasons for which gateways refuse calls.
    Reasons(ReasonsCommand),
    /// Say why a ledger is frozen, and begin a new epoch.
    Recover(RecoverCommand),
    /// Read certificates, bundles, CRLs and the directory again at once.
    Reload(ReloadCommand),
    /// Restore a copy of a ledger into an empty database.
    Restore(RestoreCommand),
    /// Show the state of a gateway.
    Status(StatusCommand),
    /// Check an evidence file offline: exit 0 valid, 1 invalid, 2 incomplete.
    Verify(VerifyCommand),
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A failing terminal leaves nowhere to say so.
            let _ = error.print();
            return match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => Exit::Done.into(),
                _ => Exit::Usage.into(),
            };
        }
    };
    let mut out = io::stdout();
    let mut err = io::stderr();
    let ended = run(cli.command, &mut out).and_then(|exit| {
        out.flush()?;
        Ok(exit)
    });
    match ended {
        Ok(exit) => exit.into(),
        Err(error) if is_broken_pipe(&error) => Exit::Done.into(),
        Err(error) => {
            let _ = print_error(&mut err, &error);
            exit_of(&error).into()
        }
    }
}

fn run(command: Command, out: &mut (dyn io::Write + Send)) -> anyhow::Result<Exit> {
    match command {
        Command::Archive(command) => client(command.run(out)),
        Command::Audit(command) => client(command.run(out)),
        Command::Backup(command) => client(command.run(out)),
        Command::Catalog(command) => client(command.run(out)),
        Command::Drain(command) => client(command.run(out)),
        Command::Grant(command) => client(command.run(out)),
        Command::Publish(command) => client(command.run(out)),
        Command::Reload(command) => client(command.run(out)),
        Command::Status(command) => client(command.run(out)),
        Command::Bench(command) => client(command.run(out)),
        Command::BenchEcho(command) => client(command.run()),
        Command::Call(command) => client(command.run(out, &mut io::stderr())),
        Command::Card(command) => client(command.run()),
        Command::Item(command) => client(command.run()),
        Command::Lab(command) => client(command.run()),
        Command::Check(command) => command.run(out),
        Command::Demo(command) => client(command.run(out)),
        Command::Directory(command) => command.run(out),
        Command::Gateway(command) => command.run(),
        Command::Pki(command) => command.run(out),
        Command::Reasons(command) => command.run(out),
        Command::Verify(command) => command.run(out),
        Command::Recover(command) => client(command.run(out)),
        Command::Restore(command) => client(command.run(out)),
    }
}

/// Runs a command that talks to a gateway: one thread is enough for it.
fn client(command: impl Future<Output = anyhow::Result<Exit>>) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(command);
    // A read of standard input may never return; it must not keep the program alive.
    runtime.shutdown_background();
    ended
}

/// Whoever reads our output has seen enough: `banqiao audit search | head`.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<io::Error>().map(io::Error::kind);
        let json = cause
            .downcast_ref::<serde_json::Error>()
            .and_then(serde_json::Error::io_error_kind);
        let csv = cause
            .downcast_ref::<csv::Error>()
            .and_then(|error| match error.kind() {
                csv::ErrorKind::Io(error) => Some(error.kind()),
                _ => None,
            });
        io.or(json).or(csv) == Some(io::ErrorKind::BrokenPipe)
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
