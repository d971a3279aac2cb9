//! Commands that work on files.

pub(crate) mod benefits;
pub(crate) mod export;
pub(crate) mod import;

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use anyhow::Context;
use banqiao_card::{CardConfig, Cards, Store, rulebook, synthetic, write_sheet};
use banqiao_directory::{CityCode, Clock};
use indicatif::{ProgressBar, ProgressStyle};

fn progress(bytes: u64) -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::new(bytes);
    bar.set_style(ProgressStyle::with_template(
        "{bar:32} {percent:>3} %  {binary_bytes_per_sec}  {eta} left  {msg}",
    )?);
    Ok(bar)
}

/// Takes new cards into the stock and says how many were new.
pub(crate) async fn stock(path: &Path, config: CardConfig) -> anyhow::Result<()> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let store = Store::open_mapped(&config.database, config.mapping.as_ref()).await?;
    let cards = Cards::new(store, config.city, Clock::system(), config.terms);
    let added = cards.stock(file).await;
    cards.store().close().await;
    writeln!(io::stdout().lock(), "{} new cards in stock", added?)?;
    Ok(())
}

/// Writes the table of rules to stdout.
pub(crate) fn rules(json: bool) -> anyhow::Result<()> {
    let (book, mut out) = (rulebook(), io::stdout().lock());
    if json {
        writeln!(out, "{:#}", book.json())?;
    } else {
        write!(out, "{}", book.markdown())?;
    }
    Ok(())
}

/// Writes synthetic cards to stdout.
pub(crate) fn generate(city: CityCode, count: u32, seed: u64) -> anyhow::Result<()> {
    write_sheet(io::stdout(), synthetic::holders(city, count, seed)?)?;
    Ok(())
}
