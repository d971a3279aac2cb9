//! Cards, and the stock of new ones, out of the database into a file that can be imported again. Insured persons and beneficiaries are
//! written beside their modules.

use std::io;

use banqiao_kit::{SheetError, SheetWriter, civil_date, identifier::DivisionCode};
use banqiao_proto::card::v1::{CardRecord, CardState};
use jiff::civil::Date;

use crate::{
    card::{Card, CardNumber},
    cards::Cards,
    sheet::row_of,
    store::{StoreError, StoredCard},
};

/// Cards, or people, in one query.
pub(crate) const PAGE: i64 = 500;

/// Which cards are exported. The default is all of them.
#[derive(Clone, Debug, Default)]
pub struct ExportFilter {
    /// Social function in one of these states, as verifications show it today; EXPIRED, too. All, if empty.
    pub states: Vec<CardState>,
    /// Last day before this one.
    pub expires_before: Option<Date>,
    /// Issued by this division or, where it ends in zeros, by one within it.
    pub division: Option<DivisionCode>,
    /// These cards alone, if there are any.
    pub numbers: Vec<CardNumber>,
}

impl ExportFilter {
    fn takes(&self, card: &Card, today: Date, now_us: i64) -> bool {
        let shown = card.social.settled(now_us).shown(card.expires_on, today);
        (self.states.is_empty() || self.states.contains(&shown))
            && self.expires_before.is_none_or(|day| card.expires_on < day)
            && self
                .division
                .as_ref()
                .is_none_or(|division| within(division, &card.division))
            && (self.numbers.is_empty() || self.numbers.contains(&card.number))
    }
}

/// Whether a division is another one or, where that ends in zeros, lies within it.
pub(crate) fn within(outer: &DivisionCode, inner: &DivisionCode) -> bool {
    let outer = outer.as_str().trim_end_matches("00");
    inner.as_str().starts_with(outer)
}

/// What an export wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// Records in the file.
    pub written: u64,
    /// Records of the bureau's own tables that cannot be used and are not in the file, whatever the filter.
    pub unreadable: u64,
}

/// Why an export broke off.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ExportError {
    /// The file.
    #[error("cannot write the records")]
    Sheet(#[source] SheetError),
    /// The database.
    #[error("cannot read the records")]
    Store(#[source] StoreError),
}

impl Cards {
    /// Writes the cards that a filter takes, in the order of their numbers, page by page: memory is that of a page. `seen` is told
    /// how many cards were looked at and how many of them were written.
    ///
    /// Cards that change meanwhile come as they were or as they are.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub async fn export<W: io::Write + Send>(
        &self,
        filter: &ExportFilter,
        writer: &mut SheetWriter<W>,
        mut seen: impl FnMut(u64, u64),
    ) -> Result<Exported, ExportError> {
        let now_us = self.clock.now_us();
        let today = civil_date(now_us);
        let (mut looked_at, mut exported) = (0, Exported::default());
        let mut write = |stored: &StoredCard, exported: &mut Exported| {
            looked_at += 1;
            if filter.takes(&stored.card, today, now_us) {
                exported.written += 1;
                let card = record(&stored.card, now_us);
                writer.write(&row_of(&card)).map_err(ExportError::Sheet)?;
            }
            seen(looked_at, exported.written);
            Ok(())
        };
        if !filter.numbers.is_empty() {
            let numbers: Vec<_> = filter.numbers.iter().collect();
            let mut found = self
                .store
                .find_all(&numbers, &[])
                .await
                .map_err(ExportError::Store)?;
            found.sort_by(|one, other| one.card.number.as_str().cmp(other.card.number.as_str()));
            for stored in &found {
                write(stored, &mut exported)?;
            }
            return Ok(exported);
        }
        let mut after = String::new();
        loop {
            let page = self.store.page(&after, PAGE).await;
            let page = page.map_err(ExportError::Store)?;
            exported.unreadable += u64::try_from(page.unreadable.len()).unwrap_or(u64::MAX);
            for stored in &page.cards {
                write(stored, &mut exported)?;
            }
            match page.last {
                Some(last) => after = last,
                None => return Ok(exported),
            }
        }
    }
}

impl Cards {
    /// Writes the stock of new cards, in the order of their numbers, page by page, as [`Cards::stock_file`] takes it. `seen` is told how
    /// many were written.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub async fn export_stock<W: io::Write + Send>(
        &self,
        writer: &mut SheetWriter<W>,
        mut seen: impl FnMut(u64),
    ) -> Result<Exported, ExportError> {
        let (mut after, mut exported) = (String::new(), Exported::default());
        loop {
            let blanks = self.store.blanks_after(&after, PAGE).await;
            let blanks = blanks.map_err(ExportError::Store)?;
            for blank in &blanks {
                let row = [
                    blank.number.as_str(),
                    blank.chip.as_str(),
                    &blank.specification,
                ];
                writer.write(&row).map_err(ExportError::Sheet)?;
                exported.written += 1;
                seen(exported.written);
            }
            match blanks.last() {
                Some(last) => after = last.number.as_str().to_owned(),
                None => return Ok(exported),
            }
        }
    }
}

/// A card as a line of an import that changes nothing: its states are those that it has apart from its expiry.
fn record(card: &Card, now_us: i64) -> CardRecord {
    CardRecord {
        card_number: card.number.as_str().to_owned(),
        social_security_number: card.holder.as_str().to_owned(),
        name: card.name.as_str().to_owned(),
        card_identification_code: card.chip.as_str().to_owned(),
        issuing_division: card.division.as_str().to_owned(),
        issued_on: card.issued_on.to_string(),
        expires_on: card.expires_on.to_string(),
        social_state: card.social.settled(now_us).state().shown().into(),
        financial_state: card.financial.settled(now_us).state().shown().into(),
        electronic: card.electronic,
        specification_version: card.specification.clone(),
    }
}
