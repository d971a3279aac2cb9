//! The decisions of a city: recorded once and for good, delivered to the city of the report, read by both hospitals.

use banqiao_directory::SpiffeId;
use banqiao_kit::{
    CallError, Caller, ExchangeId, NewParcel, Parcel, Violation, Violations, identifier::CreditCode,
};
use banqiao_proto::lab::v1::{
    Decision, DecisionSide, DeliverDecisionRequest, DeliveryState, ListDecisionsRequest,
    ListDecisionsResponse, RecordedDecision,
};
use prost::Message;
use uuid::Uuid;

use super::{
    Recognition,
    courier::DECISION_PARCEL,
    decision::{Delivered, NewDecision, RecordDecision},
    rule,
};
use crate::{
    report::{Reports, timestamp},
    store::{DecisionError, DecisionWrite, Delivery, Store, StoreError, StoredDecision},
};

/// Times that a lost race is run again. Each time another writer has won, so more are not needed in practice.
const ATTEMPTS: u32 = 5;
/// Decisions of a page that does not say how many.
const DEFAULT_PAGE: u32 = 100;
/// Most decisions of a page.
const MAX_PAGE: u32 = 500;

/// What was answered to a request.
#[derive(Clone, Debug, PartialEq)]
pub struct Recorded {
    /// The decision.
    pub decision: Decision,
    /// Where it is on its way.
    pub delivery: DeliveryState,
    /// When it was written, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
    /// It had been answered before.
    pub repeated: bool,
}

/// The decisions of a city. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Decisions {
    reports: Reports,
}

impl From<DecisionError> for CallError {
    fn from(error: DecisionError) -> Self {
        match error {
            DecisionError::OutboxFull(_) => rule::OUTBOX.because(error.to_string()),
            DecisionError::Store(error) => error.into(),
        }
    }
}

impl Decisions {
    /// The decisions in the database of a city's reports.
    pub const fn new(reports: Reports) -> Self {
        Self { reports }
    }

    fn store(&self) -> &Store {
        self.reports.store()
    }

    /// Records a decision once, or gives the first answer again.
    ///
    /// # Errors
    /// The caller is no system of the institution, fields break rules, or the report is not there. A request that ends in an error of the
    /// store may have been done: send it again with its request id.
    pub async fn record(
        &self,
        request: &RecordDecision,
        caller: &Caller,
    ) -> Result<Recorded, CallError> {
        let institutions = self.reports.institutions();
        let own = institutions.of(request.about.institution);
        let own = own.filter(|own| own.city == self.reports.city() && own.owns(&caller.client));
        if own.is_none() {
            return Err(violation("institution", &rule::DECIDING));
        }
        for _ in 0..ATTEMPTS {
            let first = self.store().decision_of(&caller.client, request.request_id);
            if let Some(first) = first.await? {
                // Not secret: the client chose both requests.
                return if first.digest == request.digest {
                    Ok(self.repeated(first))
                } else {
                    Err(violation("request_id", &rule::REQUEST_ID_REUSED))
                };
            }
            self.check_report(&request.about).await?;
            let write = self.written(request, caller);
            match self.store().write_decision(&write).await {
                Ok(()) => {
                    let delivery = match &write.parcel {
                        Some(_) => DeliveryState::Waiting,
                        None => DeliveryState::Local,
                    };
                    return Ok(Recorded {
                        decision: write.decision,
                        delivery,
                        at_us: write.now_us,
                        repeated: false,
                    });
                }
                Err(DecisionError::Store(StoreError::Conflict)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    fn written(&self, request: &RecordDecision, caller: &Caller) -> DecisionWrite {
        let now_us = self.reports.clock().now_us();
        let id = Uuid::now_v7();
        let decision = Decision {
            decision_id: id.to_string(),
            decided_at: Some(timestamp(now_us)),
            ..request.decision.clone()
        };
        let about = &request.about;
        let parcel = (about.report_city != self.reports.city()).then(|| {
            let delivered = Decision {
                // The other hospital learns who decided, and not which doctor.
                doctor_id: String::new(),
                ..decision.clone()
            };
            let request = DeliverDecisionRequest {
                decision: Some(delivered),
            };
            NewParcel {
                destination: about.report_city,
                kind: DECISION_PARCEL,
                subject: id.to_string(),
                request_id: id,
                payload: request.encode_to_vec(),
                posted_at_us: now_us,
            }
        });
        DecisionWrite {
            id,
            institution: about.institution,
            report: about.report.clone(),
            item: about.item.clone(),
            decision,
            decided_at_us: now_us,
            digest: request.digest,
            received: false,
            client: caller.client.clone(),
            request_id: request.request_id,
            exchange: caller.exchange,
            now_us,
            parcel,
        }
    }

    /// Takes over a decision of another city about a report of this one, once.
    ///
    /// # Errors
    /// The caller is no system of the deciding institution's city, fields break rules, or the report is not there.
    pub async fn receive(
        &self,
        request: &DeliverDecisionRequest,
        caller: &Caller,
    ) -> Result<Recorded, CallError> {
        let institutions = self.reports.institutions();
        let deciding = request.decision.as_ref();
        let deciding = deciding.and_then(|one| CreditCode::parse(&one.institution).ok());
        if deciding.is_some_and(|code| institutions.of(code).is_none()) {
            // A register may lag behind: the sender waits.
            return Err(rule::SENDER.because("the deciding institution is not registered here"));
        }
        let delivered =
            Delivered::parse(request, institutions).map_err(CallError::CallerInvalid)?;
        let own = self.reports.city();
        let of_city =
            delivered.deciding.systems_domain().as_ref() == Some(caller.client.trust_domain());
        if !of_city || delivered.deciding.city == own || delivered.about.report_city != own {
            return Err(rule::SENDER
                .because("the decision is not of the caller's city, or not for this one"));
        }
        for _ in 0..ATTEMPTS {
            if let Some(first) = self.store().decision(delivered.id).await? {
                return if first.received && first.digest == delivered.digest {
                    Ok(self.repeated(first))
                } else {
                    Err(rule::DECISION_STANDS.because("another decision has this number"))
                };
            }
            self.check_report(&delivered.about).await?;
            let now_us = self.reports.clock().now_us();
            let write = DecisionWrite {
                id: delivered.id,
                institution: delivered.about.institution,
                report: delivered.about.report.clone(),
                item: delivered.about.item.clone(),
                decision: delivered.decision.clone(),
                decided_at_us: delivered.decided_at_us,
                digest: delivered.digest,
                received: true,
                client: caller.client.clone(),
                request_id: delivered.id,
                exchange: caller.exchange,
                now_us,
                parcel: None,
            };
            match self.store().write_decision(&write).await {
                Ok(()) => {
                    return Ok(Recorded {
                        decision: write.decision,
                        delivery: DeliveryState::Received,
                        at_us: now_us,
                        repeated: false,
                    });
                }
                Err(DecisionError::Store(StoreError::Conflict)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// A report of this city must be there, in a version that was read, and hold the item unless it was superseded since.
    async fn check_report(&self, about: &NewDecision) -> Result<(), CallError> {
        if about.report_city != self.reports.city() {
            return Ok(());
        }
        let found = self
            .store()
            .reports(std::slice::from_ref(&about.report))
            .await?;
        let known = found.first().is_some_and(|stored| {
            let mut results = stored.report.results.iter();
            let has = results.any(|result| result.item_code == about.item.as_str());
            about.report_version < stored.version || (about.report_version == stored.version && has)
        });
        if known {
            Ok(())
        } else {
            Err(rule::NO_REPORT
                .because("this city's service holds no such report, version or item"))
        }
    }

    /// Writes what the answer to a delivery means. Another replica may have done so already.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub(super) async fn carried(
        &self,
        parcel: &Parcel,
        exchange: Option<ExchangeId>,
        delivery: &Delivery,
    ) -> Result<(), StoreError> {
        let id = Uuid::try_parse(&parcel.subject);
        let id = id.map_err(|_| StoreError::Corrupt("subject of a decision"))?;
        let now_us = self.reports.clock().now_us();
        self.store()
            .decision_carried(parcel.seq, id, delivery, exchange, now_us)
            .await
    }

    fn repeated(&self, first: StoredDecision) -> Recorded {
        Recorded {
            delivery: self.state(&first),
            at_us: first.recorded_at_us,
            decision: first.decision,
            repeated: true,
        }
    }

    fn state(&self, stored: &StoredDecision) -> DeliveryState {
        let issuing = self
            .reports
            .institutions()
            .find(&stored.decision.report_institution);
        match &stored.delivery {
            _ if stored.received => DeliveryState::Received,
            Delivery::Delivered => DeliveryState::Delivered,
            Delivery::Returned(_) => DeliveryState::Returned,
            Delivery::Waiting if issuing.is_ok_and(|it| it.city == self.reports.city()) => {
                DeliveryState::Local
            }
            Delivery::Waiting => DeliveryState::Waiting,
        }
    }

    fn shown(&self, stored: StoredDecision) -> RecordedDecision {
        RecordedDecision {
            delivery: self.state(&stored).into(),
            returned: match stored.delivery {
                Delivery::Returned(why) => why,
                Delivery::Waiting | Delivery::Delivered => String::new(),
            },
            cursor: stored.seq.to_string(),
            decision: Some(stored.decision),
        }
    }
}

impl Recognition {
    /// Decisions of an institution of this city, or about its reports.
    ///
    /// # Errors
    /// Fields break rules, or the caller may not see the institution's decisions.
    pub async fn list(
        &self,
        request: &ListDecisionsRequest,
        client: &SpiffeId,
    ) -> Result<ListDecisionsResponse, CallError> {
        let mut faults = Violations::new();
        let institution = self.reports.institutions().find(&request.institution);
        let institution = faults.check("institution", institution);
        let side = DecisionSide::try_from(request.side);
        if side.is_err() {
            faults.add("side", &rule::SIDE);
        }
        let cursor = request.cursor.as_str();
        let digits = cursor.len() <= 18 && cursor.bytes().all(|byte| byte.is_ascii_digit());
        let after = match cursor {
            "" => Some(0),
            _ if digits => cursor.parse().ok(),
            _ => None,
        };
        if after.is_none() {
            faults.add("cursor", &rule::CURSOR);
        }
        if request.limit > MAX_PAGE {
            faults.add("limit", &rule::LIMIT);
        }
        let (Some(institution), Ok(side), Some(after), true) =
            (institution, side, after, faults.is_empty())
        else {
            return Err(CallError::CallerInvalid(faults.into_vec()));
        };
        if !institution.owns(client) && !self.rounds.actor(client).organises() {
            return Err(rule::NOT_YOURS.because("the client is no system of the institution"));
        }
        let limit = match request.limit {
            0 => DEFAULT_PAGE,
            limit => limit,
        };
        let store = self.reports.store();
        let found = store.decisions(side, institution.credit_code, after, limit.into());
        let found = found.await?;
        let full = u32::try_from(found.len()).is_ok_and(|length| length == limit);
        let next = found
            .last()
            .filter(|_| full)
            .map(|last| last.seq.to_string());
        let decisions = Decisions::new(self.reports.clone());
        Ok(ListDecisionsResponse {
            decisions: found.into_iter().map(|one| decisions.shown(one)).collect(),
            next: next.unwrap_or_default(),
        })
    }
}

fn violation(field: &'static str, rule: &'static banqiao_kit::Rule) -> CallError {
    CallError::CallerInvalid(vec![Violation {
        field: field.into(),
        rule,
    }])
}
