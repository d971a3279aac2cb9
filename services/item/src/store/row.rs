//! Rows of both stores, and what they mean. Rows are written as JSON arrays, one statement for all of a batch.

use banqiao_proto::item::v1::CaseState;
use serde::Serialize;

use super::{NewCaseWrite, StoreError};
use crate::case::{Case, Event, NewEvent};

/// Columns of a case that the database sorts and searches by; the case itself is the body.
#[derive(Serialize)]
pub(super) struct CaseRow {
    number: String,
    /// Version in the database before; 0 for a new case.
    base: i64,
    version: i64,
    item_id: String,
    mode: i32,
    department: String,
    receiving_city: String,
    parent_city: Option<String>,
    applicant: String,
    local_number: Option<String>,
    state: i32,
    decision: i32,
    warning: i32,
    due_at: Option<i64>,
    wake_at: Option<i64>,
    missing_year: Option<i16>,
    coordinate: bool,
    submitted_at: Option<i64>,
    received_at: Option<i64>,
    accepted_at: Option<i64>,
    decided_at: Option<i64>,
    concluded_at: Option<i64>,
    on_time: Option<bool>,
    handling_workdays: Option<i64>,
    notices: u32,
    body: String,
}

impl CaseRow {
    pub(super) fn of(write: &NewCaseWrite) -> Result<Self, StoreError> {
        let case = &write.case;
        let body = serde_json::to_string(case).map_err(|_| StoreError::Corrupt("case"))?;
        let draft = case.state == CaseState::Draft;
        Ok(Self {
            number: case.number.to_string(),
            base: write.base.unwrap_or_default(),
            version: case.version,
            item_id: case.item.to_string(),
            mode: case.mode.into(),
            department: case.department.clone(),
            receiving_city: case.receiving_city.to_string(),
            parent_city: parent_city(case),
            applicant: case.applicant.id.as_str().to_owned(),
            local_number: (!case.local_number.is_empty()).then(|| case.local_number.clone()),
            state: case.state.into(),
            decision: case.decision.into(),
            warning: case.warning.into(),
            due_at: case.due_us(),
            wake_at: case.wake_us(),
            missing_year: case.missing_year(),
            coordinate: case.needs_coordination(),
            submitted_at: case.times.submitted.filter(|_| !draft),
            received_at: case.times.first_received,
            accepted_at: case.times.accepted,
            decided_at: case.times.decided,
            concluded_at: case.times.concluded,
            on_time: case.on_time,
            handling_workdays: case.handling_workdays,
            notices: case.notices,
            body,
        })
    }
}

fn parent_city(case: &Case) -> Option<String> {
    let parent = case.parent.as_ref()?;
    parent.number.city().map(|city| city.to_string())
}

/// Parses a case from its body.
pub(super) fn case_of(body: &str) -> Result<Case, StoreError> {
    serde_json::from_str(body).map_err(|_| StoreError::Corrupt("case"))
}

/// The columns of an entry, in the order in which both stores read them.
macro_rules! event_columns {
    () => {
        "seq, case_number, version, action, from_state, to_state, role, city, department, client, exchange, detail, at"
    };
}

pub(super) use event_columns;

/// An entry as it is written.
#[derive(Serialize)]
pub(super) struct NewEventRow {
    pub(super) seq: i64,
    case_number: String,
    version: i64,
    action: i32,
    from_state: i32,
    to_state: i32,
    role: i32,
    city: String,
    department: String,
    client: String,
    exchange: String,
    request_id: Option<String>,
    request_digest: Option<String>,
    detail: String,
    at: i64,
}

impl NewEventRow {
    pub(super) fn of(case: &Case, event: &NewEvent, seq: i64) -> Result<Self, StoreError> {
        let client = event.actor.client.as_ref();
        let detail =
            serde_json::to_string(&event.detail).map_err(|_| StoreError::Corrupt("entry"))?;
        Ok(Self {
            seq,
            case_number: case.number.to_string(),
            version: event.version,
            action: event.action.into(),
            from_state: event.from.into(),
            to_state: event.to.into(),
            role: event.actor.role.into(),
            city: event.actor.city.to_string(),
            department: case.department.clone(),
            client: client.map_or_else(String::new, |client| client.id.to_string()),
            exchange: client.map_or_else(String::new, |client| client.exchange.to_string()),
            request_id: event.request.map(|(id, _)| id.to_string()),
            request_digest: event.request.map(|(_, digest)| hex::encode(digest)),
            detail,
            at: event.at_us,
        })
    }
}

/// An entry as it is read.
#[derive(sqlx::FromRow)]
pub(super) struct EventRow {
    seq: i64,
    case_number: String,
    version: i64,
    action: i32,
    from_state: i32,
    to_state: i32,
    role: i32,
    city: String,
    department: String,
    client: String,
    exchange: String,
    detail: String,
    at: i64,
}

impl TryFrom<EventRow> for Event {
    type Error = StoreError;

    fn try_from(row: EventRow) -> Result<Self, StoreError> {
        fn known<T: TryFrom<i32>>(number: i32, what: &'static str) -> Result<T, StoreError> {
            T::try_from(number).map_err(|_| StoreError::Corrupt(what))
        }
        Ok(Self {
            seq: row.seq,
            number: row
                .case_number
                .parse()
                .map_err(|_| StoreError::Corrupt("case number"))?,
            version: row.version,
            action: known(row.action, "action")?,
            from: known(row.from_state, "state")?,
            to: known(row.to_state, "state")?,
            role: known(row.role, "role")?,
            city: row.city.parse().map_err(|_| StoreError::Corrupt("city"))?,
            department: row.department,
            client: row.client,
            exchange: row.exchange,
            detail: serde_json::from_str(&row.detail).map_err(|_| StoreError::Corrupt("entry"))?,
            at_us: row.at,
        })
    }
}
