//! Commands that work on files.

pub(crate) mod benefits;
pub(crate) mod export;
pub(crate) mod import;
pub(crate) mod refusals;

use std::{
    io::{self, Write},
    path::Path,
};

use anyhow::Context;
use banqiao_card::{
    CardConfig, Cards, RefusedLines, STOCK_COLUMNS, StockError, Store, rulebook, synthetic,
    write_sheet,
};
use banqiao_directory::{CityCode, Clock};
use indicatif::{ProgressBar, ProgressStyle};

fn progress(bytes: u64) -> anyhow::Result<ProgressBar> {
    let bar = ProgressBar::new(bytes);
    bar.set_style(ProgressStyle::with_template(
        "{bar:32} {percent:>3} %  {binary_bytes_per_sec}  {eta} left  {msg}",
    )?);
    Ok(bar)
}

/// Takes new cards into the stock and says how many were new; the refused lines go into a file of their own, where one is named.
pub(crate) async fn stock(
    path: &Path,
    refused: Option<&Path>,
    config: CardConfig,
) -> anyhow::Result<()> {
    if let Some(refused) = refused {
        refusals::apart(refused, path)?;
    }
    let store = Store::open_mapped(&config.database, config.mapping.as_ref()).await?;
    let cards = Cards::new(store, config.city, Clock::system(), config.terms);
    // Boxed: it holds the lines that are judged.
    let added = Box::pin(cards.stock_file(path)).await;
    cards.store().close().await;
    if let (Err(StockError::Lines(lines)), Some(refused)) = (&added, refused) {
        let cannot_write = || format!("cannot write {}", refused.display());
        let mut file = RefusedLines::create(refused, &STOCK_COLUMNS).with_context(cannot_write)?;
        for (row, faults) in lines {
            file.add(row, faults).with_context(cannot_write)?;
        }
        file.finish().with_context(cannot_write)?;
    }
    let added = added.with_context(|| format!("cannot import {}", path.display()))?;
    writeln!(io::stdout().lock(), "{added} new cards in stock")?;
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
