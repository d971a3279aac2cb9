//! The referrals of a city: read, decide, write in one transaction, again when somebody else came first.

use std::sync::Arc;

use banqiao_directory::{CityCode, Clock, TrustDomain};
use banqiao_kit::{
    CallError, Caller, ExchangeId, NewParcel, Parcel, Violations,
    document::{DeclaredDocument, DocumentDigest, DocumentStore},
};
use banqiao_proto::lab::v1::{
    DeliverReferralRequest, ReadReferralResponse, Referral, ReferralDocument, ReferralEvent,
    ReferralStatus,
};
use prost::Message as _;
use uuid::Uuid;

use super::{
    act::{Act, Asked, ReferralError},
    decide::{self, Decided, Ground, decide, due_us, kind_of},
    documents::REFERRAL_DOCUMENTS,
    state::Party,
};
use crate::{
    institution::{Institution, Institutions},
    report::{Reports, timestamp},
    store::{
        NewReferralAnswer, NewReferralEvent, ReferralPull, ReferralStore, ReferralWrite,
        StoreError, StoredReferral, StoredReferralEvent,
    },
};

/// How often a decision is made again after another change came first. Each time, somebody else got on.
const ATTEMPTS: usize = 16;
/// Referrals that one pass of the clock looks at.
const PASS: i64 = 256;

/// A first answer, or the same again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReferralAnswer {
    /// Status here after the request.
    pub status: ReferralStatus,
    /// Number of the event that made it so.
    pub seq: i64,
    /// It was answered before.
    pub repeated: bool,
}

/// A city's referrals. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Referrals(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: ReferralStore,
    documents: DocumentStore,
    city: CityCode,
    clock: Clock,
    institutions: Arc<Institutions>,
}

impl Referrals {
    /// The referrals in the database of a city's reports.
    pub fn new(reports: &Reports) -> Self {
        let (store, clock) = (reports.store().referrals(), reports.clock().clone());
        let database = store.database().clone();
        Self(Arc::new(Inner {
            documents: DocumentStore::new(database, clock.clone(), REFERRAL_DOCUMENTS),
            store,
            city: reports.city(),
            clock,
            institutions: reports.institutions().clone(),
        }))
    }

    /// The store.
    pub fn store(&self) -> &ReferralStore {
        &self.0.store
    }

    /// The documents.
    pub fn documents(&self) -> &DocumentStore {
        &self.0.documents
    }

    /// The clock by which referrals run out.
    pub fn clock(&self) -> &Clock {
        &self.0.clock
    }

    pub(super) fn institutions(&self) -> &Institutions {
        &self.0.institutions
    }

    /// Does what is asked for, once and for good, or gives the first answer again.
    ///
    /// # Errors
    /// See [`ReferralError`]. A request that ends in an error of the store may have been done: repeat it with its request id.
    pub async fn act(
        &self,
        asked: &Asked,
        caller: &Caller,
    ) -> Result<ReferralAnswer, ReferralError> {
        for _ in 0..ATTEMPTS {
            if let Some(first) = self.answered(asked, caller).await? {
                return Ok(first);
            }
            let stored = self.0.store.find(asked.referral).await?;
            self.admit(asked, stored.as_ref(), caller)?;
            if let Some(stored) = stored.as_ref().filter(|stored| self.is_over(stored)) {
                Box::pin(self.expire_one(stored)).await?;
                continue;
            }
            let record = stored.as_ref().map(|stored| &stored.record);
            let decided = match decide(&self.ground(), record, asked) {
                Ok(decided) => decided,
                // What stands in the way may be this very step, taken between the two readings.
                Err(error) => return self.answered(asked, caller).await?.ok_or(error),
            };
            let status = decided.record.status();
            let mut write = self.written(asked, stored.as_ref(), decided, Some(caller))?;
            write.answer = Some(NewReferralAnswer {
                client: caller.client.clone(),
                request_id: asked.request_id,
                digest: asked.digest,
            });
            match Box::pin(self.0.store.write(&write)).await {
                Ok(seq) => {
                    return Ok(ReferralAnswer {
                        status,
                        seq,
                        repeated: false,
                    });
                }
                Err(ReferralError::Store(StoreError::Conflict)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// The answer that the same request was given before.
    async fn answered(
        &self,
        asked: &Asked,
        caller: &Caller,
    ) -> Result<Option<ReferralAnswer>, ReferralError> {
        let first = self.0.store.answer(&caller.client, asked.request_id);
        match first.await? {
            // Not secret: the client chose both requests.
            Some(first) if first.digest == asked.digest => Ok(Some(ReferralAnswer {
                status: first.status,
                seq: first.seq,
                repeated: true,
            })),
            Some(_) => Err(ReferralError::CallerReusedId),
            None => Ok(None),
        }
    }

    /// Attaches a document that is whole.
    pub(super) async fn attach(
        &self,
        id: Uuid,
        document: ReferralDocument,
        caller: &Caller,
    ) -> Result<(), ReferralError> {
        for _ in 0..ATTEMPTS {
            let stored = self.visible(id, caller).await?;
            let asked = own_act(id, Act::Attach(document.clone()));
            let decided = decide(&self.ground(), Some(&stored.record), &asked)?;
            if decided.event.is_none() {
                return Ok(());
            }
            let write = self.written(&asked, Some(&stored), decided, Some(caller))?;
            match Box::pin(self.0.store.write(&write)).await {
                Ok(_) => return Ok(()),
                Err(ReferralError::Store(StoreError::Conflict)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Whether an act would go through now.
    pub(super) fn judge(&self, stored: &StoredReferral, act: Act) -> Result<(), ReferralError> {
        let asked = own_act(stored.id, act);
        decide(&self.ground(), Some(&stored.record), &asked).map(drop)
    }

    /// Ends referrals that nobody answered, and gives back slots to which nobody came. Any replica may do it at any time.
    ///
    /// # Errors
    /// See [`ReferralError`].
    pub async fn run_clock(&self) -> Result<usize, ReferralError> {
        let mut ended = 0;
        for id in self.0.store.due(self.0.clock.now_us(), PASS).await? {
            let stored = self.0.store.find(id).await?;
            let Some(stored) = stored.filter(|stored| self.is_over(stored)) else {
                continue;
            };
            if Box::pin(self.expire_one(&stored)).await? {
                ended += 1;
            }
        }
        Ok(ended)
    }

    fn is_over(&self, stored: &StoredReferral) -> bool {
        due_us(&stored.record, self.0.city).is_some_and(|due| due <= self.0.clock.now_us())
    }

    /// False when another change came first.
    async fn expire_one(&self, stored: &StoredReferral) -> Result<bool, ReferralError> {
        let asked = own_act(stored.id, Act::Expire);
        let decided = decide(&self.ground(), Some(&stored.record), &asked)?;
        let write = self.written(&asked, Some(stored), decided, None)?;
        match Box::pin(self.0.store.write(&write)).await {
            Ok(_) => Ok(true),
            Err(ReferralError::Store(StoreError::Conflict)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn ground(&self) -> Ground<'_> {
        Ground {
            city: self.0.city,
            now_us: self.0.clock.now_us(),
            institutions: &self.0.institutions,
        }
    }

    /// Whose systems may ask for this.
    fn admit(
        &self,
        asked: &Asked,
        stored: Option<&StoredReferral>,
        caller: &Caller,
    ) -> Result<(), ReferralError> {
        let content = match &asked.act {
            Act::Create(content) => Some(&**content),
            Act::Letter(letter) => letter.content.as_ref(),
            _ => stored.and_then(|stored| stored.record.content.as_ref()),
        };
        let content = content.ok_or(ReferralError::CallerUnknown)?;
        let party = asked.act.party().unwrap_or(Party::Referring);
        let code = match party {
            Party::Referring => &content.from_institution,
            Party::Receiving => &content.to_institution,
        };
        let foreign = Err(ReferralError::CallerForeign(match asked.from {
            None => "this step is taken by a system of the other hospital",
            Some(_) => "a message comes from a system of the city whose hospital took the step",
        }));
        let Ok(institution) = self.0.institutions.find(code) else {
            return foreign;
        };
        match asked.from {
            Some(from) => {
                let speaks = from == institution.city
                    && from != self.0.city
                    && is_of_city(institution, caller);
                if speaks { Ok(()) } else { foreign }
            }
            None if institution.city == self.0.city && institution.owns(&caller.client) => Ok(()),
            // Not even that it exists.
            None if stored.is_some_and(|stored| !self.takes_part(&stored.record, caller)) => {
                Err(ReferralError::CallerUnknown)
            }
            None => foreign,
        }
    }

    /// Whether a client is a system of a hospital of this city that takes part.
    fn takes_part(&self, record: &Referral, caller: &Caller) -> bool {
        let mut hospitals = self.hospitals(record).into_iter().flatten();
        hospitals.any(|one| one.city == self.0.city && one.owns(&caller.client))
    }

    fn hospitals(&self, record: &Referral) -> [Option<&Institution>; 2] {
        let content = record.content.as_ref();
        let of = |code: Option<&String>| code.and_then(|code| self.0.institutions.find(code).ok());
        [
            of(content.map(|content| &content.from_institution)),
            of(content.map(|content| &content.to_institution)),
        ]
    }

    /// A referral in which the caller's hospital takes part.
    pub(super) async fn visible(
        &self,
        id: Uuid,
        caller: &Caller,
    ) -> Result<StoredReferral, ReferralError> {
        let stored = self.0.store.find(id).await?;
        let stored = stored.filter(|stored| self.takes_part(&stored.record, caller));
        stored.ok_or(ReferralError::CallerUnknown)
    }

    /// As [`Referrals::visible`], for systems of the other city of a referral that was sent too.
    pub(super) async fn shared(
        &self,
        id: Uuid,
        caller: &Caller,
    ) -> Result<StoredReferral, ReferralError> {
        let stored = self.0.store.find(id).await?;
        let other = |stored: &StoredReferral| {
            let mut hospitals = self.hospitals(&stored.record).into_iter().flatten();
            let sent = stored.record.sent_at.is_some();
            sent && hospitals.any(|one| one.city != self.0.city && is_of_city(one, caller))
        };
        let stored =
            stored.filter(|stored| self.takes_part(&stored.record, caller) || other(stored));
        stored.ok_or(ReferralError::CallerUnknown)
    }

    /// The hospital of this city whose system the caller is.
    pub(super) fn hospital(&self, caller: &Caller) -> Result<&Institution, ReferralError> {
        let institution = self.0.institutions.of_client(&caller.client);
        let institution = institution.filter(|one| one.city == self.0.city);
        institution.ok_or(ReferralError::CallerForeign(
            "referrals are followed by systems of this city's hospitals",
        ))
    }

    /// A referral with its history.
    ///
    /// # Errors
    /// See [`ReferralError`].
    pub async fn read(
        &self,
        id: Uuid,
        caller: &Caller,
    ) -> Result<ReadReferralResponse, ReferralError> {
        let stored = self.visible(id, caller).await?;
        let events = self.0.store.history(id).await?;
        Ok(ReadReferralResponse {
            referral: Some(stored.record),
            events: events.into_iter().map(shown).collect(),
            awaited: self.0.store.awaited(id).await?,
        })
    }

    /// Writes what the answer to a message means: its exchange, and the transition that follows. Another replica may have done so
    /// already.
    ///
    /// # Errors
    /// See [`ReferralError`].
    pub async fn carried(
        &self,
        parcel: &Parcel,
        exchange: Option<ExchangeId>,
        outcome: &Result<ReferralStatus, String>,
    ) -> Result<(), ReferralError> {
        let id = Uuid::try_parse(&parcel.subject)
            .map_err(|_| StoreError::Corrupt("subject of a message"))?;
        let kind = parcel.kind.strip_prefix(PREFIX).unwrap_or(&parcel.kind);
        for _ in 0..ATTEMPTS {
            let stored = self.0.store.find(id).await?;
            let stored = stored.ok_or(StoreError::Corrupt("message without a referral"))?;
            let decided = decide::carried(stored.record.clone(), kind, outcome);
            let mut write = self.written(&own_act(id, Act::Send), Some(&stored), decided, None)?;
            write.take_off = Some(parcel.seq);
            write.kept.clear();
            if let Some(event) = &mut write.event {
                event.exchange = exchange;
            }
            match Box::pin(self.0.store.write(&write)).await {
                Ok(_) => return Ok(()),
                Err(ReferralError::Store(StoreError::Conflict)) => {}
                Err(error) => return Err(error),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Writes that a document came from the other city.
    pub(super) async fn note_arrival(
        &self,
        stored: &StoredReferral,
        digest: DocumentDigest,
    ) -> Result<(), ReferralError> {
        let decided = Decided {
            record: stored.record.clone(),
            event: Some("document-arrived".into()),
            message: None,
        };
        let asked = own_act(stored.id, Act::Send);
        let mut write = self.written(&asked, Some(stored), decided, None)?;
        write.came = Some(digest);
        Box::pin(self.0.store.write(&write)).await.map(drop)
    }

    /// What a decision writes.
    fn written(
        &self,
        asked: &Asked,
        stored: Option<&StoredReferral>,
        decided: Decided,
        caller: Option<&Caller>,
    ) -> Result<ReferralWrite, ReferralError> {
        let now_us = self.0.clock.now_us();
        let Decided {
            record,
            event,
            message,
        } = decided;
        let event = event.map(|event| NewReferralEvent {
            event,
            from: stored.map(|stored| stored.record.status()),
            actor_city: asked.from.unwrap_or(self.0.city),
            client: caller.map(|caller| caller.client.clone()),
            exchange: caller.map(|caller| caller.exchange),
            at_us: now_us,
        });
        let parcel = match message {
            None => None,
            Some(message) => {
                let (kind, request_id) = (parcel_kind(kind_of(&message)), Uuid::now_v7());
                let request = DeliverReferralRequest {
                    request_id: request_id.to_string(),
                    referral_id: record.referral_id.clone(),
                    from_city: self.0.city.to_string(),
                    step: Some(message),
                };
                Some(NewParcel {
                    destination: self.other_city(&record)?,
                    kind,
                    subject: record.referral_id.clone(),
                    request_id,
                    payload: request.encode_to_vec(),
                    posted_at_us: now_us,
                })
            }
        };
        let kept = match &asked.act {
            Act::Attach(document) => vec![digest_of(document)?],
            _ => Vec::new(),
        };
        Ok(ReferralWrite {
            id: asked.referral,
            version: stored.map(|stored| stored.version),
            due_us: due_us(&record, self.0.city),
            awaited: self.awaited(asked)?,
            record,
            event,
            parcel,
            take_off: None,
            answer: None,
            kept,
            came: None,
        })
    }

    /// The documents that a message names: they are to be got.
    fn awaited(&self, asked: &Asked) -> Result<Vec<ReferralPull>, ReferralError> {
        let Some(city) = asked.from else {
            return Ok(Vec::new());
        };
        let documents = match &asked.act {
            Act::Letter(letter) => letter.documents.as_slice(),
            Act::FeedBack(feedback) => feedback.documents.as_slice(),
            _ => &[],
        };
        let pulls = documents.iter().map(|document| {
            let declared = (
                document.sha256.as_slice(),
                document.size,
                document.content_type.as_str(),
            );
            let faults = &mut Violations::new();
            let document = DeclaredDocument::parse(&REFERRAL_DOCUMENTS, declared, "", faults);
            Ok(ReferralPull {
                referral: asked.referral,
                city,
                document: document.ok_or(StoreError::Corrupt("document"))?,
            })
        });
        pulls.collect()
    }

    fn other_city(&self, record: &Referral) -> Result<CityCode, StoreError> {
        let other = if record.from_city == self.0.city.as_str() {
            &record.to_city
        } else {
            &record.from_city
        };
        other
            .parse()
            .map_err(|_| StoreError::Corrupt("city of a referral"))
    }
}

/// What this service does by itself, or for a request that has its answer elsewhere.
fn own_act(referral: Uuid, act: Act) -> Asked {
    Asked {
        request_id: Uuid::nil(),
        referral,
        digest: [0; 32],
        from: None,
        act,
    }
}

fn is_of_city(institution: &Institution, caller: &Caller) -> bool {
    let domain: Option<TrustDomain> = institution.systems_domain();
    domain.is_some_and(|domain| domain == *caller.client.trust_domain())
}

fn digest_of(document: &ReferralDocument) -> Result<DocumentDigest, StoreError> {
    DocumentDigest::parse(&document.sha256).map_err(|_| StoreError::Corrupt("digest"))
}

/// What the messages of referrals begin with in the outbox, which other parts of the service use too.
const PREFIX: &str = "referral-";

/// How a message is called in the outbox.
fn parcel_kind(kind: &'static str) -> &'static str {
    match kind {
        "acceptance" => "referral-acceptance",
        "arrival" => "referral-arrival",
        "cancel" => "referral-cancel",
        "care" => "referral-care",
        "closure" => "referral-closure",
        "expiry" => "referral-expiry",
        "feedback" => "referral-feedback",
        "letter" => "referral-letter",
        "rejection" => "referral-rejection",
        other => other,
    }
}

/// Whether a parcel of the outbox is of a referral.
pub(super) fn is_parcel(kind: &str) -> bool {
    kind.starts_with(PREFIX)
}

/// An event in an answer.
pub(super) fn shown(event: StoredReferralEvent) -> ReferralEvent {
    ReferralEvent {
        cursor: event.seq.to_string(),
        referral_id: event.referral,
        event: event.event,
        from: event.from_status.into(),
        to: event.to_status.into(),
        actor_city: event.actor_city,
        exchange: event.exchange.unwrap_or_default(),
        at: Some(timestamp(event.at)),
    }
}

impl From<ReferralAnswer> for (i32, String, bool) {
    fn from(answer: ReferralAnswer) -> Self {
        let status = answer.status.into();
        (status, answer.seq.to_string(), answer.repeated)
    }
}

impl Referrals {
    /// Parses and does what a hospital or another city's service asks for.
    pub(super) async fn ask<R>(
        &self,
        request: &R,
        parse: impl FnOnce(&R, &Institutions, i64) -> Result<Asked, Vec<banqiao_kit::Violation>>,
        caller: &Caller,
    ) -> Result<ReferralAnswer, CallError> {
        let asked = parse(request, &self.0.institutions, self.0.clock.now_us());
        let asked = asked.map_err(CallError::CallerInvalid)?;
        Ok(Box::pin(self.act(&asked, caller)).await?)
    }
}
