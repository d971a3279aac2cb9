//! `banqiao archive`: old entries of a gateway's ledger leave its database, and stay readable (LEDGER.md §6).

use std::io;

use anyhow::Result;
use banqiao_directory::Clock;
use banqiao_proto::directory::v1::{
    ArchiveEntriesRequest, ArchiveEntriesResponse, admin_service_client::AdminServiceClient,
};
use serde_json::json;

use crate::{
    answer,
    config::Role,
    connect::AdminArgs,
    exit::{Exit, Stop},
    moment::{self, Moment},
    text::{bar::entries_bar, json::write_line},
};

/// Arguments of `banqiao archive`.
#[derive(Debug, clap::Args)]
pub struct ArchiveCommand {
    /// Only entries that were made before: 400d (ago), 2026-01-01, 2026-01-01T08:00, or RFC 3339. At the latest, and by
    /// default: 190d.
    #[arg(long, value_name = "MOMENT")]
    before: Option<String>,
    /// Only tell what would be archived.
    #[arg(long)]
    dry_run: bool,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

impl ArchiveCommand {
    /// Archives what can be, and waits until it has left the database.
    ///
    /// # Errors
    ///
    /// [`Stop`] where the gateway cannot be reached or refuses. What is archived by then stays so; the same command goes on.
    pub async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let before = self.before.as_deref().map(Moment::parse).transpose();
        let before = before.map_err(|error| Stop::usage("--before").caused_by(error))?;
        let before = before.map(|it| moment::to_proto(it.before(&Clock::system())));
        let request = ArchiveEntriesRequest {
            before,
            dry_run: self.dry_run,
        };
        let mut client = AdminServiceClient::new(self.admin.connect(Role::Operator).await?);
        let asked = client.archive_entries(request).await;
        let mut told = asked.map_err(|status| answer::stop(&status))?.into_inner();
        let bar = entries_bar(0);
        let mut newest = ArchiveEntriesResponse::default();
        while let Some(message) = told
            .message()
            .await
            .map_err(|status| answer::stop(&status))?
        {
            newest = message;
            bar.set_length(newest.until.saturating_sub(newest.from));
            bar.set_position(newest.written.saturating_sub(newest.from));
        }
        bar.finish_and_clear();
        self.report(&newest, out)?;
        Ok(Exit::Done)
    }

    fn report(&self, told: &ArchiveEntriesResponse, out: &mut dyn io::Write) -> Result<()> {
        let ArchiveEntriesResponse {
            from,
            until,
            archived,
            dropped,
            ..
        } = *told;
        if self.json {
            let value = json!({
                "from": from, "until": until, "archived": archived, "dropped": dropped,
                "dry_run": self.dry_run,
            });
            write_line(out, &value)?;
            writeln!(out)?;
        } else if until <= from {
            writeln!(
                out,
                "nothing to archive: whole segments of 4,096 entries leave, once all of one are old enough; {archived} \
                 entries are archived"
            )?;
        } else if self.dry_run {
            writeln!(
                out,
                "{} entries would be archived, from index {from} to {}",
                until - from,
                until - 1
            )?;
        } else {
            writeln!(
                out,
                "archived {} entries, from index {from} to {}; {dropped} rows have left the database",
                archived - from,
                archived.saturating_sub(1)
            )?;
        }
        Ok(())
    }
}
