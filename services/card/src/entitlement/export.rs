//! Insured persons into a file that can be imported again.

use std::io;

use banqiao_kit::{SheetWriter, civil_date, identifier::DivisionCode};
use banqiao_proto::card::v1::InsurancePeriod;

use super::{Entitlements, Period, insurance_row};
use crate::export::{ExportError, Exported, PAGE, within};

impl Entitlements {
    /// Writes the periods of insured persons, by person, scheme and first day, page by page: memory is that of a page. With a division, those
    /// alone who are insured there or, where it ends in zeros, within it. `seen` is told how many periods were looked at and how many
    /// of them were written.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub async fn export<W: io::Write + Send>(
        &self,
        division: Option<&DivisionCode>,
        writer: &mut SheetWriter<W>,
        mut seen: impl FnMut(u64, u64),
    ) -> Result<Exported, ExportError> {
        let today = civil_date(self.clock.now_us());
        let (mut looked_at, mut exported) = (0, Exported::default());
        let (mut after, mut before) = (String::new(), None);
        loop {
            let page = self.store.page(&after, PAGE).await;
            let mut page = page.map_err(ExportError::Store)?;
            exported.unreadable += page.unusable;
            // All rows of a person came with the page in which the first one stood.
            page.people
                .retain(|holder| before.replace(*holder) != Some(*holder));
            let read = self.store.all(&page.people, today).await;
            let (periods, unusable) = read.map_err(ExportError::Store)?;
            exported.unreadable += unusable;
            for period in &periods {
                looked_at += 1;
                if division.is_none_or(|division| within(division, &period.division)) {
                    exported.written += 1;
                    let row = insurance_row(&record(period));
                    writer.write(&row).map_err(ExportError::Sheet)?;
                }
                seen(looked_at, exported.written);
            }
            match page.last {
                Some(last) => after = last,
                None => return Ok(exported),
            }
        }
    }
}

/// A period as a line of an import that changes nothing.
fn record(period: &Period) -> InsurancePeriod {
    let day = |day: Option<jiff::civil::Date>| day.map(|day| day.to_string()).unwrap_or_default();
    InsurancePeriod {
        social_security_number: period.holder.as_str().to_owned(),
        scheme: period.scheme.into(),
        insured_division: period.division.as_str().to_owned(),
        begins_on: period.begins_on.to_string(),
        ends_on: day(period.ends_on),
        insured_status: period.status.into(),
        treatment_state: period.treatment.into(),
        settlement_suspended_from: day(period.suspension.map(|(from, _)| from)),
        settlement_suspended_until: day(period.suspension.map(|(_, until)| until)),
        recorded_as_of: period.as_of.to_string(),
    }
}
