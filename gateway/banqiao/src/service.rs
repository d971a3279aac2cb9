//! The services inside this program, for `banqiao demo`. Cities run `banqiao-card`, `banqiao-lab` and `banqiao-item`.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Result;
use banqiao_card::CardConfig;
use banqiao_directory::{Clock, ManualClock};
use banqiao_item::ItemConfig;
use banqiao_lab::LabConfig;
use jiff::Timestamp;

use crate::{
    exit::{Exit, Stop},
    sandbox::exit_with_parent,
};

/// How often the file of a simulated clock is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// What every service is told.
#[derive(Debug, clap::Args)]
pub struct ServiceArguments {
    /// The service's config.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Stop when standard input is closed.
    #[arg(long)]
    exit_with_parent: bool,
}

impl ServiceArguments {
    /// The config, or every fault of it.
    fn read<C, F: std::error::Error + Send + Sync + 'static>(
        &self,
        read: impl FnOnce(&Path) -> Result<C, F>,
    ) -> Result<C, Stop> {
        read(&self.config).map_err(|faults| {
            Stop::usage(format!("{} cannot be used", self.config.display())).caused_by(faults)
        })
    }

    /// Done when the parent is gone or the keyboard interrupts.
    async fn stop(&self) {
        tokio::select! {
            _ = tokio::signal::ctrl_c() => {}
            () = exit_with_parent(), if self.exit_with_parent => {}
        }
    }
}

/// Run a card service.
#[derive(Debug, clap::Args)]
pub struct CardCommand {
    #[command(flatten)]
    arguments: ServiceArguments,
    /// For `banqiao demo`: records live at the moment that this file names (RFC 3339), and in the present while there is none.
    /// Certificates are judged in the present.
    #[arg(long, value_name = "FILE", hide = true)]
    records_clock: Option<PathBuf>,
}

impl CardCommand {
    /// Serves until the parent is gone or the keyboard interrupts.
    ///
    /// # Errors
    ///
    /// The config is at fault, or something that it names cannot be used.
    pub async fn run(&self) -> Result<Exit> {
        let config = self.arguments.read(CardConfig::read)?;
        let records = Records::of(self.records_clock.as_deref());
        let clock = records.clock();
        let instance = banqiao_card::Instance::start_apart(config, Clock::system(), clock).await?;
        let serving = instance.serve(self.arguments.stop());
        Box::pin(records.follow_during(serving)).await?;
        Ok(Exit::Done)
    }
}

/// Run a laboratory service.
#[derive(Debug, clap::Args)]
pub struct LabCommand {
    #[command(flatten)]
    arguments: ServiceArguments,
}

impl LabCommand {
    /// Serves until the parent is gone or the keyboard interrupts.
    ///
    /// # Errors
    ///
    /// The config is at fault, or something that it names cannot be used.
    pub async fn run(&self) -> Result<Exit> {
        let config = self.arguments.read(LabConfig::read)?;
        Box::pin(banqiao_lab::run(config, self.arguments.stop())).await?;
        Ok(Exit::Done)
    }
}

/// Run an item service.
#[derive(Debug, clap::Args)]
pub struct ItemCommand {
    #[command(flatten)]
    arguments: ServiceArguments,
    /// For `banqiao demo`: cases live at the moment that this file names (RFC 3339), and in the present while there is none.
    /// Certificates are judged in the present.
    #[arg(long, value_name = "FILE", hide = true)]
    records_clock: Option<PathBuf>,
}

impl ItemCommand {
    /// Serves until the parent is gone or the keyboard interrupts.
    ///
    /// # Errors
    ///
    /// The config is at fault, or something that it names cannot be used.
    pub async fn run(&self) -> Result<Exit> {
        let config = self.arguments.read(ItemConfig::read)?;
        let records = Records::of(self.records_clock.as_deref());
        let clock = records.clock();
        let instance = banqiao_item::Instance::start_apart(config, Clock::system(), clock).await?;
        let serving = instance.serve(self.arguments.stop());
        Box::pin(records.follow_during(serving)).await?;
        Ok(Exit::Done)
    }
}

/// The clock of a service's records: the present, or the moment that a file names.
struct Records<'a> {
    file: Option<&'a Path>,
    named: ManualClock,
}

impl<'a> Records<'a> {
    fn of(file: Option<&'a Path>) -> Self {
        Self {
            file,
            named: ManualClock::new(Clock::system().now_us()),
        }
    }

    fn clock(&self) -> Clock {
        match self.file {
            Some(_) => self.named.clock(),
            None => Clock::system(),
        }
    }

    /// Follows the file for as long as a service serves.
    async fn follow_during<E>(
        &self,
        serving: impl Future<Output = Result<(), E>>,
    ) -> Result<(), E> {
        tokio::select! {
            served = serving => served,
            () = self.follow(), if self.file.is_some() => Ok(()),
        }
    }

    async fn follow(&self) {
        while let Some(file) = self.file {
            let text = std::fs::read_to_string(file).ok();
            let moment: Option<Timestamp> = text.and_then(|text| text.trim().parse().ok());
            let present = || Clock::system().now_us();
            self.named
                .set_us(moment.map_or_else(present, Timestamp::as_microsecond));
            tokio::time::sleep(LOOK).await;
        }
    }
}
