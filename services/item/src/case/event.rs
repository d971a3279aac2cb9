//! Entries of the history.

use std::fmt;

use banqiao_directory::{CityCode, SpiffeId};
use banqiao_kit::{Asserted, Caller, ExchangeId};
use banqiao_proto::item::v1::{ActorRole, CaseAction, CaseState, LimitKind};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{CaseNumber, Document, wire};

/// The system that asked for a step, and the exchange by which it did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// The system.
    pub id: SpiffeId,
    /// The exchange.
    pub exchange: ExchangeId,
    /// The official whom the system named.
    pub operator: Option<Asserted>,
}

impl From<&Caller> for Client {
    fn from(caller: &Caller) -> Self {
        Self {
            id: caller.client.clone(),
            exchange: caller.exchange,
            operator: caller.operator.clone(),
        }
    }
}

/// On whose behalf a step is taken.
#[derive(Clone, Debug)]
pub struct Actor {
    /// City.
    pub city: CityCode,
    /// As what.
    pub role: ActorRole,
    /// Client system; none when the service acts by itself.
    pub client: Option<Client>,
}

/// What belongs to an entry beside who, what and when. `Debug` shows nothing that people wrote.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventDetail {
    /// Reason.
    pub reason: String,
    /// Remedy.
    pub remedy: String,
    /// Document.
    pub document: Option<Document>,
    /// Limit that a warning is about.
    #[serde(with = "wire", default)]
    pub limit: LimitKind,
    /// Task that it is about.
    pub task: String,
    /// Official whom the client named.
    pub operator: String,
}

impl fmt::Debug for EventDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = (&self.limit, &self.task);
        f.debug_tuple("EventDetail").field(&shown).finish()
    }
}

/// An entry that is to be written.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// Version of the case after it.
    pub version: i64,
    /// What was done.
    pub action: CaseAction,
    /// State before; UNSPECIFIED when the case begins with it.
    pub from: CaseState,
    /// State after.
    pub to: CaseState,
    /// Who did it.
    pub actor: Actor,
    /// What belongs to it.
    pub detail: EventDetail,
    /// When, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
    /// Request id of the client, and SHA-256 of the request.
    pub request: Option<(Uuid, [u8; 32])>,
}

/// An entry of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Its number: entries are numbered from 1 without gaps, in the order of their commits.
    pub seq: i64,
    /// The case.
    pub number: CaseNumber,
    /// Version of the case after it.
    pub version: i64,
    /// What was done.
    pub action: CaseAction,
    /// State before; UNSPECIFIED when the case begins with it.
    pub from: CaseState,
    /// State after.
    pub to: CaseState,
    /// As what it was done.
    pub role: ActorRole,
    /// City that did it.
    pub city: CityCode,
    /// Department of the case.
    pub department: String,
    /// Client system; empty when the service acted by itself.
    pub client: String,
    /// Exchange; empty when the service acted by itself.
    pub exchange: String,
    /// What belongs to it.
    pub detail: EventDetail,
    /// When, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}
