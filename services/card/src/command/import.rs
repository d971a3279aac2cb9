//! `banqiao-card import`.

use std::collections::VecDeque;

use banqiao_card::{
    CARD_COLUMNS, CardConfig, Cards, Importer, LineOutcome, Outcomes, Store, card_of,
};
use banqiao_directory::Clock;
use banqiao_kit::{SheetRow, Violation};
use banqiao_proto::card::v1::ImportCardsRequest;
use banqiao_telemetry::install_log;

use super::refusals::{Refusals, SheetFile};

/// Takes over a file of cards, and says whether lines were refused.
pub(crate) async fn import(file: SheetFile) -> anyhow::Result<bool> {
    let config = CardConfig::read(&file.config)?;
    install_log(&config.telemetry)?;
    let (mut batches, refusals) = file.open(&CARD_COLUMNS)?;
    let store = Store::open_mapped(&config.database, config.mapping.as_ref()).await?;
    let cards = Cards::new(store, config.city, Clock::system(), config.terms);
    let actor = cards.own_actor();
    let mut import = Import {
        importer: cards.importer(&actor),
        waiting: VecDeque::new(),
        refusals,
    };
    loop {
        let batch = tokio::select! {
            batch = batches.next() => batch,
            known = import.importer.go_on(), if import.importer.is_under_way() => {
                import.took(known?)?;
                continue;
            }
        };
        let Some(batch) = batch else { break };
        import.take(batch).await?;
        batches.tell(&import.refusals);
    }
    let known = import.importer.finish().await?;
    import.took(known)?;
    cards.store().close().await;
    let refused = import.refusals.finish()?;
    batches.end().await?;
    Ok(refused)
}

/// An import under way.
struct Import<'a> {
    importer: Importer<'a>,
    /// Rows whose outcome is not known yet, with what was wrong with their form already.
    waiting: VecDeque<(SheetRow, Option<Vec<Violation>>)>,
    refusals: Refusals,
}

impl Import<'_> {
    async fn take(&mut self, rows: Vec<SheetRow>) -> anyhow::Result<()> {
        let mut sound = Vec::with_capacity(rows.len());
        for row in rows {
            let faults = match card_of(&row) {
                Ok(card) => {
                    let (line, card) = (row.line.number(), Some(card));
                    sound.push(ImportCardsRequest { line, card });
                    None
                }
                Err(faults) => Some(faults),
            };
            self.waiting.push_back((row, faults));
        }
        let known = self.importer.take(sound).await?;
        self.took(known)
    }

    /// Counts the rows up to the last one whose outcome is known.
    fn took(&mut self, known: Outcomes) -> anyhow::Result<()> {
        let mut known = known.into_iter().peekable();
        while let Some((row, faults)) = self.waiting.front() {
            let outcome = match faults {
                Some(faults) => LineOutcome::Refused(faults.clone()),
                None => match known.next_if(|(line, _)| *line == row.line.number()) {
                    Some((_, outcome)) => outcome,
                    None => return Ok(()),
                },
            };
            let Some((row, _)) = self.waiting.pop_front() else {
                return Ok(());
            };
            self.refusals.count(&row, outcome)?;
        }
        Ok(())
    }
}
