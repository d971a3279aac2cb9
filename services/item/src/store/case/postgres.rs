//! Cases on PostgreSQL. Rows of a batch go as one JSON parameter, one statement for all of them.

use banqiao_directory::{CityCode, SpiffeId};
use banqiao_kit::identifier::DivisionCode;
use jiff::civil::Date;
use sqlx::{PgPool, Postgres, Transaction};
use uuid::Uuid;

use super::{AnswerRow, FirstAnswer, Pending, writer::Batch};
use crate::{
    case::{Case, CaseFilter, CaseNumber, Event},
    store::{
        StoreError,
        row::{EventRow, case_of, event_columns},
    },
};

pub(super) async fn take_serials(
    pool: &PgPool,
    division: DivisionCode,
    day: Date,
    count: i64,
) -> Result<i64, StoreError> {
    let query = sqlx::query_scalar(
        "INSERT INTO case_serial AS known (division, day, last) VALUES ($1, $2, $3) \
         ON CONFLICT (division, day) DO UPDATE SET last = known.last + $3 RETURNING last",
    );
    let query = query.bind(division.to_string()).bind(day.to_string());
    Ok(query.bind(count).fetch_one(pool).await?)
}

pub(super) async fn case(pool: &PgPool, number: CaseNumber) -> Result<Option<Case>, StoreError> {
    let query = sqlx::query_scalar("SELECT body FROM case_record WHERE number = $1");
    let body: Option<String> = query.bind(number.as_str()).fetch_optional(pool).await?;
    body.map(|body| case_of(&body)).transpose()
}

pub(super) async fn case_of_local_number(
    pool: &PgPool,
    receiving_city: CityCode,
    local_number: &str,
) -> Result<Option<Case>, StoreError> {
    let body: Option<String> = sqlx::query_scalar(
        "SELECT body FROM case_record WHERE receiving_city = $1 AND local_number = $2",
    )
    .bind(receiving_city.as_str())
    .bind(local_number)
    .fetch_optional(pool)
    .await?;
    body.map(|body| case_of(&body)).transpose()
}

pub(super) async fn first_answer(
    pool: &PgPool,
    client: &SpiffeId,
    request_id: Uuid,
) -> Result<Option<FirstAnswer>, StoreError> {
    let row: Option<AnswerRow> = sqlx::query_as(
        "SELECT seq, case_number, version, to_state, request_digest, at FROM case_event \
         WHERE request_id = $1 AND client = $2",
    )
    .bind(request_id.to_string())
    .bind(client.as_str())
    .fetch_optional(pool)
    .await?;
    row.map(FirstAnswer::try_from).transpose()
}

pub(super) async fn case_events(
    pool: &PgPool,
    number: CaseNumber,
    after: i64,
    limit: i64,
) -> Result<Vec<Event>, StoreError> {
    let rows: Vec<EventRow> = sqlx::query_as(concat!(
        "SELECT ",
        event_columns!(),
        " FROM case_event WHERE case_number = $1 AND seq > $2 ORDER BY version LIMIT $3"
    ))
    .bind(number.as_str())
    .bind(after)
    .bind(limit)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Event::try_from).collect()
}

pub(super) async fn department_events(
    pool: &PgPool,
    department: &str,
    warnings_only: bool,
    after: i64,
    limit: i64,
) -> Result<Vec<Event>, StoreError> {
    let rows: Vec<EventRow> = sqlx::query_as(concat!(
        "SELECT ",
        event_columns!(),
        " FROM case_event WHERE seq > $1 AND ($2 = '' OR department = $2) \
         AND (NOT $3 OR action IN (24, 25)) ORDER BY seq LIMIT $4"
    ))
    .bind(after)
    .bind(department)
    .bind(warnings_only)
    .bind(limit)
    // Planned with its values: without a department the order of the entries leads, with one its index.
    .persistent(false)
    .fetch_all(pool)
    .await?;
    rows.into_iter().map(Event::try_from).collect()
}

/// What must be true of a case, in each order.
macro_rules! where_all {
    () => {
        "SELECT body FROM case_record WHERE ($1::text IS NULL OR number = $1) \
         AND ($2::text IS NULL OR applicant = $2) AND ($3::text IS NULL OR item_id = $3) \
         AND ($4::integer IS NULL OR state BETWEEN $4 AND $4) AND ($5::text IS NULL OR department = $5) \
         AND ($6::integer IS NULL OR warning >= $6) \
         AND ($7::text IS NULL OR receiving_city = $7 OR parent_city = $7) "
    };
}

pub(super) async fn search(pool: &PgPool, filter: &CaseFilter) -> Result<Vec<Case>, StoreError> {
    let after = filter.after;
    let query = match (filter.due_before, filter.state) {
        // Of one state by the index of states. Were it a constant to the planner, it would drop it from the order and walk all
        // cases from the newest on, expecting the state evenly among them: the newest have moved on together.
        (None, Some(_)) => sqlx::query_scalar(concat!(
            where_all!(),
            "AND ($8::text IS NULL OR number < $8) ORDER BY state DESC, number DESC LIMIT $9"
        )),
        (None, None) => sqlx::query_scalar(concat!(
            where_all!(),
            "AND ($8::text IS NULL OR number < $8) ORDER BY number DESC LIMIT $9"
        )),
        (Some(_), _) => sqlx::query_scalar(concat!(
            where_all!(),
            "AND ($8::text IS NULL OR (due_at, number) > ($11, $8)) AND due_at < $10 \
             ORDER BY due_at, number LIMIT $9"
        )),
    };
    let mut query = query
        .bind(filter.number.map(|number| number.to_string()))
        .bind(filter.applicant.as_ref().map(|id| id.as_str().to_owned()))
        .bind(filter.item.as_ref().map(ToString::to_string))
        .bind(filter.state.map(i32::from))
        .bind(filter.department.as_deref())
        .bind(filter.warning.map(i32::from))
        .bind(filter.city.map(|city| city.to_string()))
        .bind(after.map(|(_, number)| number.to_string()))
        .bind(i64::from(filter.page_size));
    if let Some(before) = filter.due_before {
        query = query.bind(before).bind(after.map_or(0, |(due, _)| due));
    }
    // Planned with its values: which index serves depends on what was given.
    let bodies: Vec<String> = query.persistent(false).fetch_all(pool).await?;
    bodies.iter().map(|body| case_of(body)).collect()
}

pub(super) async fn pending(
    pool: &PgPool,
    pending: Pending,
    limit: i64,
) -> Result<Vec<Case>, StoreError> {
    let query = match pending {
        Pending::Coordination(after) => sqlx::query_scalar(
            "SELECT body FROM case_record WHERE coordinate AND number > $1 ORDER BY number LIMIT $2",
        )
        .bind(after.map_or_else(String::new, |number| number.to_string())),
        Pending::Due(now_us) => sqlx::query_scalar(
            "SELECT body FROM case_record WHERE wake_at <= $1 ORDER BY wake_at LIMIT $2",
        )
        .bind(now_us),
        Pending::Missing(year) => sqlx::query_scalar(
            "SELECT body FROM case_record WHERE missing_year <= $1 ORDER BY number LIMIT $2",
        )
        .bind(i32::from(year)),
    };
    let bodies: Vec<String> = query.bind(limit).fetch_all(pool).await?;
    bodies.iter().map(|body| case_of(body)).collect()
}

pub(super) async fn head(pool: &PgPool) -> Result<i64, StoreError> {
    let query = sqlx::query_scalar("SELECT seq FROM event_head WHERE id = 1");
    Ok(query.fetch_one(pool).await?)
}

/// A transaction of a batch.
pub(super) struct Transacted(pub(super) Transaction<'static, Postgres>);

impl Batch for Transacted {
    async fn lock(&mut self) -> Result<i64, StoreError> {
        let query = sqlx::query_scalar("SELECT seq FROM event_head WHERE id = 1 FOR UPDATE");
        Ok(query.fetch_one(&mut *self.0).await?)
    }

    async fn used(&mut self, ids: &str) -> Result<Vec<(String, String)>, StoreError> {
        let query = sqlx::query_as(
            "SELECT request_id, client FROM case_event WHERE request_id = ANY \
             (SELECT jsonb_array_elements_text($1::text::jsonb))",
        );
        Ok(query.bind(ids).fetch_all(&mut *self.0).await?)
    }

    async fn insert(&mut self, rows: &str) -> Result<Vec<String>, StoreError> {
        let query = sqlx::query_scalar(
            "INSERT INTO case_record (number, version, item_id, mode, department, receiving_city, parent_city, applicant, \
         local_number, state, decision, warning, due_at, wake_at, missing_year, coordinate, \
         submitted_at, received_at, accepted_at, decided_at, concluded_at, on_time, \
         handling_workdays, notices, body) SELECT number, version, item_id, mode, department, receiving_city, parent_city, applicant, \
         local_number, state, decision, warning, due_at, wake_at, missing_year, coordinate, \
         submitted_at, received_at, accepted_at, decided_at, concluded_at, on_time, \
         handling_workdays, notices, body \
         FROM jsonb_to_recordset($1::text::jsonb) AS new (base bigint, number text, version bigint, item_id text, mode integer, department text, \
         receiving_city text, parent_city text, applicant text, local_number text, state integer, \
         decision integer, warning integer, due_at bigint, wake_at bigint, missing_year integer, \
         coordinate boolean, submitted_at bigint, received_at bigint, accepted_at bigint, \
         decided_at bigint, concluded_at bigint, on_time boolean, handling_workdays bigint, \
         notices integer, body text) \
         ON CONFLICT DO NOTHING RETURNING number",
        );
        Ok(query.bind(rows).fetch_all(&mut *self.0).await?)
    }

    async fn update(&mut self, rows: &str) -> Result<Vec<String>, StoreError> {
        let query = sqlx::query_scalar(
            "UPDATE case_record AS old SET version = new.version, state = new.state, decision = new.decision, warning = new.warning, \
         due_at = new.due_at, wake_at = new.wake_at, missing_year = new.missing_year, \
         coordinate = new.coordinate, submitted_at = new.submitted_at, \
         received_at = new.received_at, accepted_at = new.accepted_at, decided_at = new.decided_at, \
         concluded_at = new.concluded_at, on_time = new.on_time, \
         handling_workdays = new.handling_workdays, notices = new.notices, body = new.body \
         FROM jsonb_to_recordset($1::text::jsonb) AS new (base bigint, number text, version bigint, item_id text, mode integer, department text, \
         receiving_city text, parent_city text, applicant text, local_number text, state integer, \
         decision integer, warning integer, due_at bigint, wake_at bigint, missing_year integer, \
         coordinate boolean, submitted_at bigint, received_at bigint, accepted_at bigint, \
         decided_at bigint, concluded_at bigint, on_time boolean, handling_workdays bigint, \
         notices integer, body text) \
         WHERE old.number = new.number AND old.version = new.base RETURNING old.number",
        );
        Ok(query.bind(rows).fetch_all(&mut *self.0).await?)
    }

    async fn append(&mut self, rows: &str, last: i64) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO case_event (seq, case_number, version, action, from_state, to_state, role, city, department, client, \
         exchange, request_id, request_digest, detail, at) SELECT seq, case_number, version, action, from_state, to_state, role, city, department, client, \
         exchange, request_id, request_digest, detail, at \
         FROM jsonb_to_recordset($1::text::jsonb) AS new (seq bigint, case_number text, version bigint, action integer, from_state integer, \
         to_state integer, role integer, city text, department text, client text, exchange text, \
         request_id text, request_digest text, detail text, at bigint)",
        )
        .bind(rows)
        .execute(&mut *self.0)
        .await?;
        let query = sqlx::query("UPDATE event_head SET seq = $1 WHERE id = 1");
        query.bind(last).execute(&mut *self.0).await?;
        Ok(())
    }

    async fn tally(&mut self, rows: &str) -> Result<(), StoreError> {
        let query = sqlx::query(
            "INSERT INTO tally AS known (month, city, item_id, mode, task, measure, counted) \
             SELECT month, city, item_id, mode, task, measure, counted \
             FROM jsonb_to_recordset($1::text::jsonb) AS new (month text, city text, item_id text, mode integer, task boolean, \
             measure integer, counted bigint) ON CONFLICT (month, city, item_id, mode, task, measure) \
             DO UPDATE SET counted = known.counted + excluded.counted",
        );
        query.bind(rows).execute(&mut *self.0).await?;
        Ok(())
    }
}
