//! The card service inside this program, for `banqiao demo`. Cities run `banqiao-card`.

use std::path::PathBuf;

use anyhow::Result;
use banqiao_card::CardConfig;

use crate::{
    exit::{Exit, Stop},
    sandbox::exit_with_parent,
};

/// Run a card service.
#[derive(Debug, clap::Args)]
pub struct CardCommand {
    /// The service's config.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Stop when standard input is closed.
    #[arg(long)]
    exit_with_parent: bool,
}

impl CardCommand {
    /// Serves until the parent is gone or the keyboard interrupts.
    ///
    /// # Errors
    ///
    /// The config is at fault, or something that it names cannot be used.
    pub async fn run(&self) -> Result<Exit> {
        let config = CardConfig::read(&self.config).map_err(|faults| {
            Stop::usage(format!("{} cannot be used", self.config.display())).caused_by(faults)
        })?;
        banqiao_card::run(config, async {
            tokio::select! {
                _ = tokio::signal::ctrl_c() => {}
                () = exit_with_parent(), if self.exit_with_parent => {}
            }
        })
        .await?;
        Ok(Exit::Done)
    }
}
