//! `banqiao audit generate`: a synthetic ledger in an empty database, for tests and measurements.

use std::{
    io,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Result;
use banqiao_card::synthetic::holders;
use banqiao_directory::{CityCode, Clock};
use banqiao_ledger::{
    LedgerSettings,
    synthetic::{REPLICA, Synthesis, SynthesisError, Synthesised, generate},
};
use serde_json::json;

use crate::{
    exit::{Exit, Stop},
    moment::Moment,
    notekey::{NoteKeyUse, ledger_signer},
    text::{bar::entries_bar, json::write_pretty},
};

/// The cities whose people the calls are about.
const CITIES: [&str; 5] = ["370200", "370600", "370700", "371000", "371100"];
/// People of each city, at most; a ledger of few entries is about fewer.
const MOST_HOLDERS: u32 = 20_000;
/// So many entries for each person, of a small ledger.
const ENTRIES_EACH: u64 = 50;

/// Arguments of `audit generate`.
#[derive(Debug, clap::Args)]
pub struct Generate {
    /// The database to write, in which nothing may be: sqlite://FILE or postgres://USER@HOST/DATABASE. A password is better
    /// kept in PGPASSFILE than on the command line.
    #[arg(long, value_name = "URL")]
    database: String,
    /// Folder for the month keys that encrypt the private parts. Take one of its own.
    #[arg(long, value_name = "FOLDER")]
    keys: PathBuf,
    /// The key that signs checkpoints, as `banqiao pki note-key` makes it.
    #[arg(long, value_name = "FILE")]
    signing_key: PathBuf,
    /// Origin of the log, DOMAIN/ledger/EPOCH.
    #[arg(
        long,
        value_name = "ORIGIN",
        default_value = "synthetic.jiaodong/ledger/1"
    )]
    origin: NoteKeyUse,
    /// The city whose ledger it is to be: 370200, 370600, 370700, 371000 or 371100.
    #[arg(long, value_name = "CODE")]
    city: CityCode,
    /// Entries to write.
    #[arg(long, value_name = "N")]
    entries: u64,
    /// Time of the first entry: 90d (ago), 2026-11-23, or RFC 3339.
    #[arg(long, value_name = "MOMENT", default_value = "90d")]
    from: String,
    /// No entry is made at or behind this time.
    #[arg(long, value_name = "MOMENT", default_value = "now")]
    until: String,
    /// The same seed, times and sizes give the same entries, apart from ids and keys.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,
    /// Client systems of each city.
    #[arg(long, value_name = "N", default_value_t = 12)]
    clients: u32,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl Generate {
    pub(super) async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let NoteKeyUse::Ledger(origin) = &self.origin else {
            return Err(Stop::usage("--origin: a ledger's is DOMAIN/ledger/EPOCH").into());
        };
        let signer = ledger_signer(&self.signing_key, origin)?;
        let keys = self.keys.clone();
        let settings = LedgerSettings::new(&self.database, self.city, REPLICA, keys, signer);
        let synthesis = self.synthesis()?;
        let bar = entries_bar(self.entries);
        let begun = Instant::now();
        let generated = generate(settings, &synthesis, |done| bar.set_position(done));
        let generated = tokio::select! {
            generated = generated => generated.map_err(stop)?,
            _ = tokio::signal::ctrl_c() => {
                bar.finish_and_clear();
                return Ok(Exit::Interrupted);
            }
        };
        bar.finish_and_clear();
        self.report(out, origin, generated, begun.elapsed())?;
        Ok(Exit::Done)
    }

    fn synthesis(&self) -> Result<Synthesis> {
        let clock = Clock::system();
        let moment = |field: &str, text: &str| {
            let moment = Moment::parse(text)
                .map_err(|error| Stop::usage(format!("--{field}")).caused_by(error))?;
            Ok::<_, Stop>(moment.before(&clock))
        };
        let (from_us, until_us) = (moment("from", &self.from)?, moment("until", &self.until)?);
        let count = self.entries / ENTRIES_EACH / CITIES.len() as u64 + 1;
        let count = u32::try_from(count).unwrap_or(u32::MAX).min(MOST_HOLDERS);
        let mut subjects = Vec::new();
        for city in CITIES {
            let city = city.parse()?;
            let of_city = holders(city, count, self.seed)?;
            subjects.extend(of_city.map(|holder| holder.social_security_number));
        }
        Ok(Synthesis {
            entries: self.entries,
            from_us,
            until_us,
            seed: self.seed,
            clients: self.clients,
            subjects,
        })
    }

    fn report(
        &self,
        out: &mut dyn io::Write,
        origin: &str,
        generated: Synthesised,
        took: Duration,
    ) -> Result<()> {
        let Synthesised { entries, exchanges } = generated;
        let seconds = took.as_secs_f64();
        if self.json {
            let object = json!({
                "synthetic": true,
                "origin": origin,
                "city": self.city.as_str(),
                "entries": entries,
                "exchanges": exchanges,
                "seed": self.seed,
                "seconds": seconds,
            });
            write_pretty(out, &object)?;
            writeln!(out)?;
        } else {
            writeln!(
                out,
                "synthetic ledger {origin} of {}: {entries} entries, {exchanges} exchanges, in {seconds:.1} s",
                self.city
            )?;
        }
        Ok(())
    }
}

/// What was asked for wrongly, and what cannot be written.
fn stop(error: SynthesisError) -> Stop {
    let usage = matches!(
        error,
        SynthesisError::City | SynthesisError::NotEmpty | SynthesisError::Settings
    );
    if usage {
        Stop::usage("no synthetic ledger was written").caused_by(error)
    } else {
        Stop::unavailable("the synthetic ledger cannot be written").caused_by(error)
    }
}
