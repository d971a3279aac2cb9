//! The statements, once for each database.

macro_rules! statements {
    ($name:ident, $database:ident, $list:literal) => {
        pub(super) mod $name {
            use banqiao_directory::{CityCode, SpiffeId};
            use banqiao_kit::identifier::CitizenId;
            use banqiao_proto::card::v1::{CampaignStatus, Investigation};
            use sqlx::{$database, Pool, Transaction};
            use uuid::Uuid;

            use super::super::{
                super::{
                    decide::{DueRow, Effects},
                    record::{Event, Evidence, Person, PersonKey},
                },
                Campaign, CampaignRow, Changes, FirstRequest, Found,
                row::{
                    EventRow, InvestigationRow, PersonRow, event_columns, evidence_columns, key,
                    person_columns,
                },
            };
            use crate::{cards::timestamp, entitlement::citizen, store::StoreError};

            type Open<'a> = Transaction<'a, $database>;

            /// Takes the head, then reads.
            pub(in super::super) async fn found(
                transaction: &mut Open<'_>,
                people: &str,
                request: Option<(&SpiffeId, Uuid)>,
            ) -> Result<Found, StoreError> {
                let seq: i64 = sqlx::query_scalar(
                    "UPDATE eligibility_head SET seq = seq WHERE id = 1 RETURNING seq",
                )
                .fetch_one(&mut **transaction)
                .await?;
                let first = match request {
                    None => None,
                    Some((client, request_id)) => {
                        let row: Option<(Vec<u8>, Vec<u8>)> = sqlx::query_as(
                            "SELECT request_digest, answer FROM eligibility_request \
                             WHERE client = $1 AND request_id = $2",
                        )
                        .bind(client.as_str())
                        .bind(request_id.to_string())
                        .fetch_optional(&mut **transaction)
                        .await?;
                        row.map(|(digest, answer)| {
                            let digest = digest.try_into();
                            digest
                                .map(|digest| (digest, answer))
                                .map_err(|_| StoreError::Corrupt("digest"))
                        })
                        .transpose()?
                    }
                };
                let rows: Vec<PersonRow> = sqlx::query_as(concat!(
                    "SELECT ",
                    person_columns!(),
                    " FROM eligibility_person WHERE social_security_number IN (",
                    $list,
                    ")"
                ))
                .bind(people)
                .fetch_all(&mut **transaction)
                .await?;
                let people: Result<_, _> = rows.into_iter().map(Person::try_from).collect();
                Ok(Found {
                    next: seq + 1,
                    first,
                    people: people?,
                    payments: None,
                })
            }

            /// Writes everything and gives the number of the last entry.
            pub(in super::super) async fn write(
                transaction: &mut Open<'_>,
                next: i64,
                changes: &Changes,
            ) -> Result<i64, StoreError> {
                let mut last = next - 1;
                for (person, effects) in &changes.people {
                    put(transaction, person).await?;
                    last = entries(transaction, last, effects).await?;
                    campaigns(transaction, &person.key, effects).await?;
                }
                if let Some(request) = &changes.request {
                    remember(transaction, request).await?;
                }
                if last >= next {
                    sqlx::query("UPDATE eligibility_head SET seq = $1 WHERE id = 1")
                        .bind(last)
                        .execute(&mut **transaction)
                        .await?;
                }
                Ok(last)
            }

            async fn put(transaction: &mut Open<'_>, person: &Person) -> Result<(), StoreError> {
                let Person {
                    key,
                    payment,
                    confirmed,
                    adverse,
                    investigation,
                    resumption,
                } = person;
                sqlx::query("DELETE FROM eligibility_person WHERE social_security_number = $1 AND scheme = $2")
                    .bind(key.holder.as_str())
                    .bind(i32::from(key.scheme))
                    .execute(&mut **transaction)
                    .await?;
                sqlx::query(concat!(
                    "INSERT INTO eligibility_person (",
                    person_columns!(),
                    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
                ))
                .bind(key.holder.as_str())
                .bind(i32::from(key.scheme))
                .bind(payment.map(|payment| i32::from(payment.state)))
                .bind(payment.and_then(|payment| payment.not_paid_from.map(|day| day.to_string())))
                .bind(payment.map(|payment| payment.due_on.to_string()))
                .bind(confirmed.map(|check| check.verified_on.to_string()))
                .bind(confirmed.map(|check| check.valid_until.to_string()))
                .bind(confirmed.map(|check| check.city.to_string()))
                .bind(confirmed.map(|check| i32::from(check.method)))
                .bind(adverse.map(|adverse| i32::from(adverse.result)))
                .bind(adverse.map(|adverse| adverse.on.to_string()))
                .bind(adverse.map(|adverse| adverse.city.to_string()))
                .bind(adverse.map(|adverse| i32::from(adverse.method)))
                .bind(*investigation)
                .bind(resumption.map(|day| day.to_string()))
                .execute(&mut **transaction)
                .await?;
                Ok(())
            }

            /// Appends the entries, and what they open and conclude.
            async fn entries(
                transaction: &mut Open<'_>,
                mut last: i64,
                effects: &Effects,
            ) -> Result<i64, StoreError> {
                for event in &effects.events {
                    last += 1;
                    append(transaction, last, event).await?;
                }
                if effects.opened
                    && let (Some(sign), Some(opening)) =
                        (effects.events.first(), effects.events.last())
                {
                    open(transaction, sign, opening).await?;
                }
                if let Some((id, outcome)) = effects.concluded {
                    let conclusion = effects.events.iter().find(|event| event.outcome == outcome);
                    let (actor, reason, at) = conclusion
                        .map(|event| (&*event.actor, &*event.reason, event.recorded_at_us))
                        .unwrap_or_default();
                    sqlx::query(
                        "UPDATE investigation SET outcome = $1, actor = $2, reason = $3, \
                         concluded_at = $4 WHERE id = $5",
                    )
                    .bind(i32::from(outcome))
                    .bind(actor)
                    .bind(reason)
                    .bind(at)
                    .bind(id)
                    .execute(&mut **transaction)
                    .await?;
                }
                Ok(last)
            }

            async fn append(
                transaction: &mut Open<'_>,
                seq: i64,
                event: &Event,
            ) -> Result<(), StoreError> {
                let (life, loss) = evidence_columns(event.evidence);
                sqlx::query(concat!(
                    "INSERT INTO eligibility_event (",
                    event_columns!(),
                    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, \
                     $17, $18, $19, $20)"
                ))
                .bind(seq)
                .bind(event.key.holder.as_str())
                .bind(i32::from(event.key.scheme))
                .bind(i32::from(event.kind))
                .bind(event.paying_city.as_str())
                .bind(event.city.as_str())
                .bind(i32::from(event.result))
                .bind(i32::from(event.method))
                .bind(life)
                .bind(loss)
                .bind(event.on.map(|day| day.to_string()))
                .bind(event.valid_until.map(|day| day.to_string()))
                .bind(event.investigation)
                .bind(i32::from(event.outcome))
                .bind(&event.actor)
                .bind(&event.reason)
                .bind(event.arrears_from.map(|day| day.to_string()))
                .bind(&event.client)
                .bind(&event.exchange)
                .bind(event.recorded_at_us)
                .execute(&mut **transaction)
                .await?;
                Ok(())
            }

            async fn open(
                transaction: &mut Open<'_>,
                sign: &Event,
                opening: &Event,
            ) -> Result<(), StoreError> {
                let evidence = match sign.evidence {
                    Evidence::Loss(loss) => i32::from(loss),
                    Evidence::Life(_) | Evidence::Unreached => 0,
                };
                sqlx::query(
                    "INSERT INTO investigation (id, social_security_number, scheme, loss_evidence, city, \
                     opened_at, outcome, actor, reason) VALUES ($1, $2, $3, $4, $5, $6, 0, '', '')",
                )
                .bind(opening.seq)
                .bind(sign.key.holder.as_str())
                .bind(i32::from(sign.key.scheme))
                .bind(evidence)
                .bind(sign.city.as_str())
                .bind(opening.recorded_at_us)
                .execute(&mut **transaction)
                .await?;
                Ok(())
            }

            async fn campaigns(
                transaction: &mut Open<'_>,
                key: &PersonKey,
                effects: &Effects,
            ) -> Result<(), StoreError> {
                for day in &effects.not_due {
                    // What was confirmed or is suspected stays told.
                    sqlx::query(
                        "DELETE FROM eligibility_due WHERE scheme = $1 AND month = $2 AND \
                         social_security_number = $3 AND status IN (1, 5)",
                    )
                    .bind(i32::from(key.scheme))
                    .bind(day.strftime("%Y-%m").to_string())
                    .bind(key.holder.as_str())
                    .execute(&mut **transaction)
                    .await?;
                }
                for row in &effects.due {
                    put_due(transaction, key, row).await?;
                }
                Ok(())
            }

            async fn put_due(
                transaction: &mut Open<'_>,
                key: &PersonKey,
                row: &DueRow,
            ) -> Result<(), StoreError> {
                let month = row.due_on.strftime("%Y-%m").to_string();
                let verified_on = row.check.as_ref().map(|(day, _)| day.to_string());
                let city = row.check.as_ref().map_or("", |(_, city)| city.as_str());
                let updated = sqlx::query(
                    "UPDATE eligibility_due SET due_on = $1, status = $2, verified_on = $3, city = $4 \
                     WHERE scheme = $5 AND month = $6 AND social_security_number = $7",
                )
                .bind(row.due_on.to_string())
                .bind(i32::from(row.status))
                .bind(verified_on.as_deref())
                .bind(city)
                .bind(i32::from(key.scheme))
                .bind(&month)
                .bind(key.holder.as_str())
                .execute(&mut **transaction)
                .await?;
                if updated.rows_affected() > 0 {
                    return Ok(());
                }
                let id: i64 = sqlx::query_scalar(
                    "UPDATE eligibility_head SET due = due + 1 WHERE id = 1 RETURNING due",
                )
                .fetch_one(&mut **transaction)
                .await?;
                sqlx::query(
                    "INSERT INTO eligibility_due (id, scheme, month, social_security_number, due_on, \
                     status, verified_on, city) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                )
                .bind(id)
                .bind(i32::from(key.scheme))
                .bind(&month)
                .bind(key.holder.as_str())
                .bind(row.due_on.to_string())
                .bind(i32::from(row.status))
                .bind(verified_on.as_deref())
                .bind(city)
                .execute(&mut **transaction)
                .await?;
                Ok(())
            }

            async fn remember(
                transaction: &mut Open<'_>,
                request: &FirstRequest,
            ) -> Result<(), StoreError> {
                sqlx::query(
                    "INSERT INTO eligibility_request (client, request_id, request_digest, answer) \
                     VALUES ($1, $2, $3, $4)",
                )
                .bind(request.client.as_str())
                .bind(request.request_id.to_string())
                .bind(&request.digest[..])
                .bind(&request.answer)
                .execute(&mut **transaction)
                .await?;
                Ok(())
            }

            pub(in super::super) async fn people(
                pool: &Pool<$database>,
                people: &str,
            ) -> Result<Vec<Person>, StoreError> {
                let rows: Vec<PersonRow> = sqlx::query_as(concat!(
                    "SELECT ",
                    person_columns!(),
                    " FROM eligibility_person WHERE social_security_number IN (",
                    $list,
                    ")"
                ))
                .bind(people)
                .fetch_all(pool)
                .await?;
                rows.into_iter().map(Person::try_from).collect()
            }

            pub(in super::super) async fn paid_page(
                pool: &Pool<$database>,
                after: &str,
                limit: i64,
            ) -> Result<Vec<CitizenId>, StoreError> {
                let numbers: Vec<String> = sqlx::query_scalar(
                    "SELECT DISTINCT social_security_number FROM eligibility_person \
                     WHERE payment IS NOT NULL AND social_security_number > $1 \
                     ORDER BY social_security_number LIMIT $2",
                )
                .bind(after)
                .bind(limit)
                .fetch_all(pool)
                .await?;
                numbers.iter().map(|number| citizen(number)).collect()
            }

            pub(in super::super) async fn events_for(
                pool: &Pool<$database>,
                city: CityCode,
                after: i64,
                limit: i64,
            ) -> Result<Vec<Event>, StoreError> {
                let rows: Vec<EventRow> = sqlx::query_as(concat!(
                    "SELECT ",
                    event_columns!(),
                    " FROM eligibility_event WHERE paying_city = $1 AND seq > $2 ORDER BY seq LIMIT $3"
                ))
                .bind(city.as_str())
                .bind(after)
                .bind(limit)
                .fetch_all(pool)
                .await?;
                rows.into_iter().map(Event::try_from).collect()
            }

            pub(in super::super) async fn history(
                pool: &Pool<$database>,
                key: &PersonKey,
                after: i64,
                limit: i64,
            ) -> Result<Vec<Event>, StoreError> {
                let rows: Vec<EventRow> = sqlx::query_as(concat!(
                    "SELECT ",
                    event_columns!(),
                    " FROM eligibility_event WHERE social_security_number = $1 AND scheme = $2 \
                     AND seq > $3 ORDER BY seq LIMIT $4"
                ))
                .bind(key.holder.as_str())
                .bind(i32::from(key.scheme))
                .bind(after)
                .bind(limit)
                .fetch_all(pool)
                .await?;
                rows.into_iter().map(Event::try_from).collect()
            }

            pub(in super::super) async fn investigated(
                pool: &Pool<$database>,
                id: i64,
            ) -> Result<Option<PersonKey>, StoreError> {
                let row: Option<(String, i32)> = sqlx::query_as(
                    "SELECT social_security_number, scheme FROM investigation WHERE id = $1",
                )
                .bind(id)
                .fetch_optional(pool)
                .await?;
                row.map(|(number, scheme)| key(&number, scheme)).transpose()
            }

            pub(in super::super) async fn investigations(
                pool: &Pool<$database>,
                before: i64,
                concluded: bool,
                limit: i64,
            ) -> Result<Vec<Investigation>, StoreError> {
                let rows: Vec<InvestigationRow> = sqlx::query_as(
                    "SELECT id, social_security_number, scheme, loss_evidence, city, opened_at, outcome, \
                     actor, reason, concluded_at FROM investigation \
                     WHERE id < $1 AND outcome <= $2 ORDER BY id DESC LIMIT $3",
                )
                .bind(before)
                .bind(if concluded { 2 } else { 0 })
                .bind(limit)
                .fetch_all(pool)
                .await?;
                let shown = rows.into_iter().map(|row| Investigation {
                    investigation: row.id.to_string(),
                    social_security_number: row.social_security_number,
                    scheme: row.scheme,
                    evidence_type: row.loss_evidence,
                    verifying_city: row.city,
                    opened_at: Some(timestamp(row.opened_at)),
                    outcome: row.outcome,
                    actor: row.actor,
                    reason: row.reason,
                    concluded_at: row.concluded_at.map(timestamp),
                });
                Ok(shown.collect())
            }

            pub(in super::super) async fn counts(
                pool: &Pool<$database>,
                campaign: &Campaign,
            ) -> Result<Vec<(i32, String, i64)>, StoreError> {
                let counts = sqlx::query_as(
                    "SELECT status, city, count(*) FROM eligibility_due WHERE scheme = $1 AND month = $2 \
                     GROUP BY status, city ORDER BY status, city",
                )
                .bind(i32::from(campaign.scheme))
                .bind(&campaign.month)
                .fetch_all(pool)
                .await?;
                Ok(counts)
            }

            pub(in super::super) async fn campaign(
                pool: &Pool<$database>,
                campaign: &Campaign,
                status: CampaignStatus,
                after: i64,
                limit: i64,
            ) -> Result<Vec<CampaignRow>, StoreError> {
                let rows: Vec<(i64, String, String, i32, Option<String>, String)> = sqlx::query_as(
                    "SELECT id, social_security_number, due_on, status, verified_on, city \
                     FROM eligibility_due WHERE scheme = $1 AND month = $2 AND id > $3 \
                     AND ($4 = 0 OR status = $4) ORDER BY id LIMIT $5",
                )
                .bind(i32::from(campaign.scheme))
                .bind(&campaign.month)
                .bind(after)
                .bind(i32::from(status))
                .bind(limit)
                .fetch_all(pool)
                .await?;
                let row = |(id, holder, due_on, status, verified_on, city)| CampaignRow {
                    id,
                    holder,
                    due_on,
                    status,
                    verified_on,
                    city,
                };
                Ok(rows.into_iter().map(row).collect())
            }

            pub(in super::super) async fn head(pool: &Pool<$database>) -> Result<i64, StoreError> {
                let query = sqlx::query_scalar("SELECT seq FROM eligibility_head WHERE id = 1");
                Ok(query.fetch_one(pool).await?)
            }
        }
    };
}

statements!(
    postgres,
    Postgres,
    "SELECT jsonb_array_elements_text($1::jsonb)"
);
statements!(sqlite, Sqlite, "SELECT value FROM json_each($1)");
