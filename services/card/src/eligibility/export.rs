//! Whom the city pays, into a file that can be imported again.

use std::{collections::HashSet, io};

use banqiao_kit::{SheetWriter, identifier::CitizenId};
use banqiao_proto::card::v1::Beneficiary;

use super::{
    Eligibility, beneficiary_row,
    record::{Payment, PersonKey},
};
use crate::{
    export::{ExportError, Exported, PAGE},
    store::StoreError,
};

impl Eligibility {
    /// Writes whom the city pays, by person and scheme, page by page: memory is that of a page. Payments in the bureau's own tables are
    /// written as they stand there. `seen` is told how many were written.
    ///
    /// # Errors
    /// See [`ExportError`].
    pub async fn export<W: io::Write + Send>(
        &self,
        writer: &mut SheetWriter<W>,
        mut seen: impl FnMut(u64),
    ) -> Result<Exported, ExportError> {
        let mut exported = Exported::default();
        let (mut after, mut before) = (String::new(), None);
        loop {
            let page = self.store.people_page(&after, PAGE).await;
            let mut page = page.map_err(ExportError::Store)?;
            exported.unreadable += page.unusable;
            // All rows of a person came with the page in which the first one stood.
            page.people
                .retain(|holder| before.replace(*holder) != Some(*holder));
            let read = self.payments(&page.people).await;
            let (payments, unusable) = read.map_err(ExportError::Store)?;
            exported.unreadable += u64::try_from(unusable.len()).unwrap_or(u64::MAX);
            for (key, payment) in payments {
                if unusable.contains(&key.holder) {
                    continue;
                }
                exported.written += 1;
                let row = beneficiary_row(&record(key, payment));
                writer.write(&row).map_err(ExportError::Sheet)?;
                seen(exported.written);
            }
            match page.last {
                Some(last) => after = last,
                None => return Ok(exported),
            }
        }
    }

    /// The payments of some people, by person and scheme, and whose rows cannot be used.
    async fn payments(
        &self,
        people: &[CitizenId],
    ) -> Result<(Vec<(PersonKey, Payment)>, HashSet<CitizenId>), StoreError> {
        let (mut payments, mut unusable) = (Vec::new(), HashSet::new());
        if self.store.is_mapped() {
            let (found, faulty) = self.store.look(people).await?;
            payments.extend(found);
            unusable = faulty;
        } else {
            let found = self.store.people(people).await?;
            let paid = found
                .iter()
                .filter_map(|person| Some((person.key, person.payment?)));
            payments.extend(paid);
        }
        payments.sort_by(|(one, _), (other, _)| {
            let holders = one.holder.as_str().cmp(other.holder.as_str());
            holders.then(i32::from(one.scheme).cmp(&i32::from(other.scheme)))
        });
        Ok((payments, unusable))
    }
}

/// A payment as a line of an import that changes nothing.
fn record(key: PersonKey, payment: Payment) -> Beneficiary {
    let from = payment.not_paid_from.map(|day| day.to_string());
    Beneficiary {
        social_security_number: key.holder.as_str().to_owned(),
        scheme: key.scheme.into(),
        payment_state: payment.state.into(),
        not_paid_from: from.unwrap_or_default(),
        due_on: payment.due_on.to_string(),
    }
}
