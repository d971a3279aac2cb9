//! The transfers of a city: read, decide, write in one transaction, again when somebody else came first.

use std::sync::Arc;

use banqiao_directory::{CityCode, Clock, TrustDomain};
use banqiao_kit::{
    CallError, Caller, ExchangeId, NewParcel, Outbox, Parcel, calendar::WorkCalendar,
    identifier::CitizenId,
};
use banqiao_proto::card::v1::{
    DeliverDocumentRequest, GetProgressResponse, LimitWarning, ListWarningsResponse, TransferEvent,
    TransferProgress, TransferState,
};
use prost::Message;
use uuid::Uuid;

use super::{
    act::{Act, Asked, Document, PensionError},
    clock,
    decide::{self, Decided, Ground, Undecided, decide, kind_of},
    settings::PensionSettings,
    state::is_end,
    store::{NewAnswer, NewTransferEvent, PensionStore, PensionWrite, StoredEvent, StoredTransfer},
};
use crate::{cards::timestamp, store::StoreError};

/// How often a decision is made again after another change came first. Each time, somebody else got on.
const ATTEMPTS: usize = 16;
/// Events of a transfer that one answer shows: dozens of corrections.
pub(super) const MOST_EVENTS: i64 = 500;
/// Open transfers that one call of ListWarnings looks at.
const MOST_LOOKED_AT: i64 = 500;

/// A first answer, or the same again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transition {
    /// State of this side after the request.
    pub state: TransferState,
    /// Number of the event that made it so.
    pub seq: i64,
    /// Credited funds less the table's total, in fen.
    pub difference_fen: i64,
    /// When it was first answered, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
    /// It was answered before.
    pub repeated: bool,
}

/// A city's transfers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Transfers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: PensionStore,
    city: CityCode,
    home: TrustDomain,
    clock: Clock,
    calendar: WorkCalendar,
    settings: PensionSettings,
}

impl Transfers {
    /// The transfers of `city`, whose trust domain is `home`.
    pub fn new(
        store: PensionStore,
        (city, home): (CityCode, TrustDomain),
        clock: Clock,
        calendar: WorkCalendar,
        settings: PensionSettings,
    ) -> Self {
        Self(Arc::new(Inner {
            store,
            city,
            home,
            clock,
            calendar,
            settings,
        }))
    }

    /// The store.
    pub fn store(&self) -> &PensionStore {
        &self.0.store
    }

    /// The city.
    pub fn city(&self) -> CityCode {
        self.0.city
    }

    /// The clock by which limits begin and end.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    /// The documents that wait.
    pub fn outbox(&self) -> &Outbox {
        self.0.store.outbox()
    }

    /// Does what is asked for, once and for good, or gives the first answer again.
    ///
    /// # Errors
    /// See [`PensionError`], and a table that does not add up. A request that ends in an error of the store may have been done: repeat it
    /// with its request id.
    pub async fn act(&self, asked: &Asked, caller: &Caller) -> Result<Transition, CallError> {
        self.admit(asked, caller)?;
        for _ in 0..ATTEMPTS {
            if let Some(first) = self.answered(asked, caller).await? {
                return Ok(first);
            }
            let stored = self.0.store.find(asked.transfer).await?;
            let now_us = self.0.clock.now_us();
            let ground = Ground {
                city: self.0.city,
                now_us,
                settings: &self.0.settings,
            };
            let record = stored.as_ref().map(|stored| &stored.record);
            let decided: Result<_, CallError> = match decide(&ground, record, asked) {
                Ok(decided) => self
                    .check_free(stored.as_ref(), &decided)
                    .await
                    .map(|()| decided)
                    .map_err(Into::into),
                Err(Undecided::Not(error)) => Err(error.into()),
                Err(Undecided::Inconsistent(error)) => Err(error),
            };
            let decided = match decided {
                Ok(decided) => decided,
                // What stands in the way may be this very request, carried out between the two readings.
                Err(error) => {
                    return self.answered(asked, caller).await?.ok_or(error);
                }
            };
            let actor_city = match &asked.act {
                Act::Receive(from, _) => *from,
                _ => self.0.city,
            };
            let mut answer = Transition {
                state: decided.record.state(),
                seq: 0,
                difference_fen: clock::difference(&decided.record),
                at_us: now_us,
                repeated: false,
            };
            let event = decided.event.map(|event| NewTransferEvent {
                event: event.code(),
                from: record.map(|record| record.state()),
                to: decided.record.state(),
                actor_city,
                client: Some(caller.client.clone()),
                exchange: Some(caller.exchange),
                at_us: now_us,
            });
            let mut write = self.written(asked.transfer, stored.as_ref(), decided, event);
            write.answer = Some(NewAnswer {
                client: caller.client.clone(),
                request_id: asked.request_id,
                digest: asked.digest,
                answer,
            });
            match self.0.store.write(&write).await {
                Ok(seq) => {
                    answer.seq = seq;
                    return Ok(answer);
                }
                Err(PensionError::Store(StoreError::Conflict)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// The answer that the same request was given before.
    async fn answered(
        &self,
        asked: &Asked,
        caller: &Caller,
    ) -> Result<Option<Transition>, CallError> {
        let first = self
            .0
            .store
            .answer(&caller.client, asked.request_id)
            .await?;
        match first {
            // Not secret: the client chose both requests.
            Some(first) if first.digest == asked.digest => Ok(Some(first.answer)),
            Some(_) => Err(PensionError::CallerReusedId.into()),
            None => Ok(None),
        }
    }

    /// Whose systems may ask for this.
    fn admit(&self, asked: &Asked, caller: &Caller) -> Result<(), PensionError> {
        let (domain, cities) = (caller.client.trust_domain(), &self.0.settings.cities);
        let connected = |city: &CityCode| {
            cities
                .get(city)
                .ok_or(PensionError::CallerCityNotConnected(*city))
        };
        match &asked.act {
            Act::Receive(from, _) if connected(from)? != domain => {
                Err(PensionError::CallerForeign(
                    "a document of a city comes from a system of that city",
                ))
            }
            Act::Receive(..) => Ok(()),
            _ if *domain != self.0.home => Err(PensionError::CallerForeign(
                "only systems of this city decide about its side of a transfer",
            )),
            Act::Apply(application) => connected(&application.from_city).map(drop),
            _ => Ok(()),
        }
    }

    /// A person has one open transfer at each side at most. The store's index enforces it; this finds out in time to say so.
    async fn check_free(
        &self,
        stored: Option<&StoredTransfer>,
        decided: &Decided,
    ) -> Result<(), PensionError> {
        let record = &decided.record;
        if stored.is_some() || is_end(record.state()) {
            return Ok(());
        }
        let other = self
            .0
            .store
            .open_of(record.side(), &record.social_security_number);
        match other.await? {
            Some(_) => Err(PensionError::CallerOpenTransfer),
            None => Ok(()),
        }
    }

    /// What a decision writes.
    fn written(
        &self,
        id: Uuid,
        stored: Option<&StoredTransfer>,
        decided: Decided,
        event: Option<NewTransferEvent>,
    ) -> PensionWrite {
        let parcel = decided.document.map(|document| {
            let record = &decided.record;
            let request_id = Uuid::now_v7();
            let to_old = matches!(
                document,
                Document::ContactLetter(_)
                    | Document::CorrectionRequest(_)
                    | Document::CompletionNotice(_)
                    | Document::Withdrawal(_)
            );
            let to_city = record.letter.as_ref().map(|letter| letter.to_city.as_str());
            let destination = if to_old {
                Some(record.from_city.as_str())
            } else {
                to_city
            };
            let (kind, posted_at_us) = (kind_of(&document), record.changed_at_us);
            let request = DeliverDocumentRequest {
                request_id: request_id.to_string(),
                transfer_id: id.to_string(),
                social_security_number: record.social_security_number.clone(),
                from_city: self.0.city.to_string(),
                document: Some(document),
            };
            NewParcel {
                // Both cities were parsed when the transfer began.
                destination: destination
                    .and_then(|city| city.parse().ok())
                    .unwrap_or(self.0.city),
                kind,
                subject: id.to_string(),
                request_id,
                payload: request.encode_to_vec(),
                posted_at_us,
            }
        });
        let changed = event.is_some() || stored.is_some_and(|old| old.record != decided.record);
        PensionWrite {
            id,
            version: stored.map(|stored| stored.version),
            record: changed.then_some(decided.record),
            event,
            parcel,
            ..PensionWrite::default()
        }
    }

    /// Writes what the answer to a document means: its exchange, and the transition that follows. `outcome` is when it arrived
    /// and the receiver's state, or why it will never be taken. Another replica may have done so already.
    ///
    /// # Errors
    /// See [`PensionError`].
    pub async fn carried(
        &self,
        parcel: &Parcel,
        exchange: Option<ExchangeId>,
        outcome: Result<(i64, TransferState), String>,
    ) -> Result<(), PensionError> {
        let id = Uuid::try_parse(&parcel.subject)
            .map_err(|_| StoreError::Corrupt("subject of a document"))?;
        let destination = parcel.destination.parse();
        let destination = destination.map_err(|_| StoreError::Corrupt("city of a document"))?;
        for _ in 0..ATTEMPTS {
            let stored = self.0.store.find(id).await?;
            let stored = stored.ok_or(StoreError::Corrupt("document without a transfer"))?;
            let (before, now_us) = (stored.record.state(), self.0.clock.now_us());
            let decided = match &outcome {
                Ok(arrived) => decide::delivered(&stored.record, now_us, &parcel.kind, *arrived),
                Err(why) => decide::returned(&stored.record, now_us, &parcel.kind, why),
            };
            let event = NewTransferEvent {
                event: decided.event.map_or_else(
                    || carried_code(&parcel.kind, outcome.is_ok()),
                    super::state::Event::code,
                ),
                from: Some(before),
                to: decided.record.state(),
                actor_city: if outcome.is_ok() {
                    self.0.city
                } else {
                    destination
                },
                client: None,
                exchange,
                at_us: now_us,
            };
            let mut write = self.written(id, Some(&stored), decided, Some(event));
            write.take_off = Some(parcel.seq);
            match self.0.store.write(&write).await {
                Ok(_) => return Ok(()),
                Err(PensionError::Store(StoreError::Conflict)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Where a transfer stands, for whoever knows its number and its person.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn progress(
        &self,
        id: Uuid,
        holder: &CitizenId,
    ) -> Result<Option<TransferProgress>, StoreError> {
        let stored = self.0.store.find(id).await?;
        let stored = stored.filter(|it| it.record.social_security_number == holder.as_str());
        Ok(stored.map(|stored| self.shown(&stored)))
    }

    /// Where a transfer stands, and what happened so far.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn told(
        &self,
        id: Uuid,
        holder: &CitizenId,
    ) -> Result<GetProgressResponse, StoreError> {
        let Some(progress) = self.progress(id, holder).await? else {
            return Ok(GetProgressResponse::default());
        };
        let events = self.events(id, 0).await?;
        Ok(GetProgressResponse {
            cursor: events
                .last()
                .map_or_else(String::new, |last| last.cursor.clone()),
            progress: Some(progress),
            events,
        })
    }

    /// Events of a transfer after a cursor, oldest first, at most some hundred.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn events(&self, id: Uuid, after: i64) -> Result<Vec<TransferEvent>, StoreError> {
        let events = self.0.store.events(id, after, MOST_EVENTS).await?;
        Ok(events.into_iter().map(shown_event).collect())
    }

    /// Open transfers with a warning, in the order of their numbers.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn warnings(
        &self,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<ListWarningsResponse, StoreError> {
        let limit = match i64::from(limit) {
            0 => MOST_LOOKED_AT,
            limit => limit.min(MOST_LOOKED_AT),
        };
        let open = self.0.store.open(after, limit).await?;
        let full = i64::try_from(open.len()).is_ok_and(|length| length == limit);
        let next = open.last().filter(|_| full);
        let next = next.map_or_else(String::new, |last| last.id.to_string());
        let shown = open.iter().map(|stored| self.shown(stored));
        let transfers = shown.filter(|shown| shown.warning() != LimitWarning::Unspecified);
        Ok(ListWarningsResponse {
            transfers: transfers.collect(),
            next,
        })
    }

    fn shown(&self, stored: &StoredTransfer) -> TransferProgress {
        let inner = &self.0;
        let yellow = inner.settings.yellow_workdays;
        clock::progress(stored, &inner.calendar, yellow, inner.clock.now_us())
    }
}

/// The history's word for a document whose answer changes nothing.
fn carried_code(kind: &str, taken: bool) -> &'static str {
    match (kind, taken) {
        ("completion-notice", true) => "completion-notice-delivered",
        ("completion-notice", false) => "completion-notice-returned",
        ("contact-letter", true) => "contact-letter-delivered",
        ("contact-letter", false) => "contact-letter-returned",
        ("correction-request", true) => "correction-request-delivered",
        ("correction-request", false) => "correction-request-returned",
        ("decline-notice", true) => "decline-notice-delivered",
        ("decline-notice", false) => "decline-notice-returned",
        ("information-table", true) => "information-table-delivered",
        ("information-table", false) => "information-table-returned",
        ("withdrawal", true) => "withdrawal-delivered",
        (_, true) => "document-delivered",
        (_, false) => "document-returned",
    }
}

/// An event as answers show it.
pub(super) fn shown_event(event: StoredEvent) -> TransferEvent {
    TransferEvent {
        cursor: event.seq.to_string(),
        event: event.event,
        from: event.from_state.into(),
        to: event.to_state.into(),
        actor_city: event.actor_city,
        exchange: event.exchange.unwrap_or_default(),
        at: Some(timestamp(event.at)),
    }
}
