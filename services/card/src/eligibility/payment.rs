//! What the bureau's record of a payment makes of what is known: when it is handed over, and, where payments are in the bureau's own
//! tables, when its programs have changed one.
//!
//! What this service keeps of a payment is then what it saw last. Whoever acts on a person first takes over what differs, in the same
//! transaction; a sweep takes over the rest, so that campaigns tell of people about whom nobody asked.

use std::collections::{HashMap, HashSet};

use banqiao_directory::SpiffeId;
use banqiao_kit::identifier::CitizenId;
use banqiao_proto::card::v1::{EligibilityEventKind, EligibilityResult, PaymentState};
use banqiao_telemetry::Chain;
use jiff::civil::Date;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Eligibility,
    decide::{Context, Effects, due, due_as_set},
    record::{Payment, Person},
    store::{Changes, Found},
};
use crate::{people::PeoplePage, store::StoreError};

/// People who are looked at in one step of a sweep.
const PAGE: i64 = 500;

/// What a sweep found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// People whose payments the bureau's own programs had changed.
    pub changed: u64,
    /// People whose rows cannot be used, and rows without a person; the log names column and cause.
    pub unusable: u64,
}

impl Eligibility {
    /// Reads, takes over what the bureau's own programs have changed, decides, and writes, in one transaction.
    pub(super) async fn change<T, E: From<StoreError>>(
        &self,
        holders: &[CitizenId],
        request: Option<(&SpiffeId, Uuid)>,
        decide: impl FnOnce(Found) -> Result<(Changes, T), E> + Send,
    ) -> Result<T, E> {
        let decide = |mut found: Found| {
            let mut people = self.catch_up(&mut found);
            let (mut changes, decided) = decide(found)?;
            people.append(&mut changes.people);
            changes.people = people;
            Ok((changes, decided))
        };
        self.store.change(holders, request, decide).await
    }

    /// Brings what was found up to the bureau's own tables, where they differ; gives what that changes.
    fn catch_up(&self, found: &mut Found) -> Vec<(Person, Effects)> {
        let Some(payments) = found.payments.take() else {
            return Vec::new();
        };
        let now_us = self.clock.now_us();
        let known: HashSet<_> = found.people.iter().map(|person| person.key).collect();
        let new = payments.iter().filter(|(key, _)| !known.contains(key));
        let new = new.map(|(key, _)| Person::unknown(*key));
        found.people.extend(new);
        let payments: HashMap<_, _> = payments.into_iter().collect();
        let mut changed = Vec::new();
        for person in &mut found.people {
            let payment = payments.get(&person.key).copied();
            if person.payment == payment {
                continue;
            }
            let context = Context {
                entry: self.event(person.key, None, now_us),
                next: found.next,
                own: self.city,
            };
            let effects = match payment {
                Some(payment) => changed_by_bureau(person, payment, &context),
                None => not_paid(person),
            };
            found.next += i64::try_from(effects.events.len()).unwrap_or_default();
            changed.push((person.clone(), effects));
        }
        changed
    }

    /// Takes over what the bureau's own programs have changed, page by page. Nothing where payments are in this service's own tables.
    ///
    /// # Errors
    /// See [`StoreError`]. What was taken over before stays.
    pub async fn sweep_payments(&self) -> Result<Swept, StoreError> {
        let mut swept = Swept::default();
        if !self.store.is_mapped() {
            return Ok(swept);
        }
        let mut after = String::new();
        loop {
            let page = self.store.people_page(&after, PAGE).await?;
            match self.sweep_page(page, &mut swept).await? {
                Some(last) => after = last,
                None => break,
            }
        }
        // Those whom the bureau's tables do not hold any more.
        let (mut after, mut again) = (String::new(), Swept::default());
        loop {
            let page = self.store.paid_page(&after, PAGE).await?;
            match self.sweep_page(page, &mut again).await? {
                Some(last) => after = last,
                None => break,
            }
        }
        swept.changed += again.changed;
        Ok(swept)
    }

    /// Takes over one page, and gives the place of the next.
    async fn sweep_page(
        &self,
        page: PeoplePage,
        swept: &mut Swept,
    ) -> Result<Option<String>, StoreError> {
        swept.unusable += page.unusable;
        let changed = self.changed_by_bureau(&page.people, swept).await?;
        if !changed.is_empty() {
            swept.changed += u64::try_from(changed.len()).unwrap_or_default();
            let nothing = |_: Found| Ok((Changes::default(), ()));
            Box::pin(self.change::<_, StoreError>(&changed, None, nothing)).await?;
        }
        Ok(page.last)
    }

    /// Who of these stands otherwise in the bureau's tables than this service saw last. Writers are not kept waiting for it.
    async fn changed_by_bureau(
        &self,
        holders: &[CitizenId],
        swept: &mut Swept,
    ) -> Result<Vec<CitizenId>, StoreError> {
        if holders.is_empty() {
            return Ok(Vec::new());
        }
        let (mut payments, unusable) = self.store.look(holders).await?;
        swept.unusable += u64::try_from(unusable.len()).unwrap_or_default();
        let mut changed = HashSet::new();
        for person in self.store.people(holders).await? {
            if person.payment != payments.remove(&person.key) {
                changed.insert(person.key.holder);
            }
        }
        changed.extend(payments.into_keys().map(|key| key.holder));
        changed.retain(|holder| !unusable.contains(holder));
        Ok(changed.into_iter().collect())
    }

    /// Sweeps until `stop`. Run it once.
    pub(crate) async fn follow_payments(self, every: std::time::Duration, stop: CancellationToken) {
        if !self.store.is_mapped() {
            return;
        }
        loop {
            // Boxed: it holds a transaction.
            match stop
                .run_until_cancelled(Box::pin(self.sweep_payments()))
                .await
            {
                None => return,
                Some(Ok(Swept {
                    changed: 0,
                    unusable: 0,
                })) => {}
                Some(Ok(Swept { changed, unusable })) => {
                    tracing::info!(
                        changed,
                        unusable,
                        "payments of the bureau's tables taken over"
                    );
                }
                Some(Err(error)) => {
                    tracing::warn!(error = %Chain(&error), "cannot look for changed payments; calls about a person see them all the same");
                }
            }
            let pause = tokio::time::sleep(every);
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
    }
}

/// What a record of a payment that is handed over makes of what is known.
pub(super) fn pay(person: &mut Person, payment: Payment, context: &Context) -> Effects {
    record(person, payment, context, false)
}

/// What a change by the bureau's own programs makes of it: a day that they have moved stands.
fn changed_by_bureau(person: &mut Person, payment: Payment, context: &Context) -> Effects {
    let before = person.payment;
    let is_set = before.is_some_and(|before| before.due_on != payment.due_on);
    record(person, payment, context, is_set)
}

/// The bureau's tables do not hold the person any more. An investigation that is open is concluded all the same.
fn not_paid(person: &mut Person) -> Effects {
    let before = person.payment.take();
    person.resumption = None;
    Effects {
        not_due: before.map(|payment| payment.due_on).into_iter().collect(),
        ..Effects::default()
    }
}

fn record(person: &mut Person, payment: Payment, context: &Context, is_set: bool) -> Effects {
    let mut effects = Effects::default();
    let before = person.payment.replace(payment);
    if payment.state == PaymentState::Paying {
        // The bureau has carried the instruction out.
        person.resumption = None;
    }
    let suspected = person
        .adverse
        .filter(|adverse| adverse.result == EligibilityResult::LostSuspected);
    if let Some(adverse) = suspected
        && before.is_none()
        && person.investigation.is_none()
        && payment.state != PaymentState::Stopped
    {
        // The sign came before the bureau's record.
        let event = super::Event {
            seq: context.next,
            kind: EligibilityEventKind::InvestigationOpened,
            city: adverse.city,
            investigation: Some(context.next),
            ..context.entry.clone()
        };
        person.investigation = Some(context.next);
        effects.events.push(event);
        effects.opened = true;
    }
    if is_set {
        due_as_set(person, &mut effects);
    } else {
        due(person, &mut effects, context);
    }
    let month = |day: Date| (day.year(), day.month());
    let now_due = person.payment.map(|payment| month(payment.due_on));
    if let Some(before) = before
        && Some(month(before.due_on)) != now_due
    {
        effects.not_due.push(before.due_on);
    }
    effects
}
