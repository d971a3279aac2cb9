//! Writing ratings and rectifications, each in a transaction.

use banqiao_kit::Database;

use super::{NewRatingWrite, advanced, row::body_of};
use crate::{
    rating::{NewRectificationStep, Rectification},
    store::{Store, StoreError, TallyRow},
};

/// The same statements in one transaction on either database.
macro_rules! within {
    ($store:expr, $transaction:ident, $body:block) => {
        match &$store.database {
            Database::Postgres(pool) => {
                let mut $transaction = pool.begin().await?;
                let value = $body;
                $transaction.commit().await?;
                value
            }
            Database::Sqlite(database) => {
                let mut $transaction = database.writer().begin_with("BEGIN IMMEDIATE").await?;
                let value = $body;
                $transaction.commit().await?;
                value
            }
        }
    };
}

/// The next number; from here on no other writer of ratings goes on until the end.
const NEXT: &str = "UPDATE rating_head SET seq = seq + 1 WHERE id = 1 RETURNING seq";
const INSERT_RATING: &str = "INSERT INTO rating (seq, id, case_number, contact, rated_city, department, item_id, mode, stage, satisfaction, \
     channel, real_name, comment, masked, given_at, client, exchange, request_id, request_digest) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19) \
     ON CONFLICT DO NOTHING";
const INSERT_TASK: &str = "INSERT INTO rectification (rating_id, version, state, rated_city, warning, wake_at, missing_year, body, seq) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)";
const UPDATE_TASK: &str = "UPDATE rectification SET version = $2, state = $3, warning = $5, wake_at = $6, missing_year = $7, body = $8 \
     WHERE rating_id = $1 AND rated_city = $4 AND version = $9";
const INSERT_STEP: &str = "INSERT INTO rectification_step (seq, rating_id, version, action, from_state, to_state, role, city, client, \
     exchange, request_id, request_digest, words, at) \
     VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)";
const ADD_TALLY: &str = "INSERT INTO tally AS known (month, city, item_id, mode, task, measure, counted) \
     VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (month, city, item_id, mode, task, measure) \
     DO UPDATE SET counted = known.counted + excluded.counted";

macro_rules! insert_rating {
    ($write:expr, $seq:expr) => {{
        let (rating, given) = (&$write.rating, &$write.rating.given);
        sqlx::query(INSERT_RATING)
            .bind($seq)
            .bind(rating.id.to_string())
            .bind(given.number.to_string())
            .bind(given.contact)
            .bind(rating.rated.city.to_string())
            .bind(&rating.rated.department)
            .bind(rating.rated.item.to_string())
            .bind(i32::from(rating.rated.mode))
            .bind(i32::from(rating.rated.stage))
            .bind(i32::from(given.satisfaction))
            .bind(i32::from(given.channel))
            .bind(given.real_name)
            .bind(&given.comment)
            .bind(&rating.masked)
            .bind(rating.at_us)
            .bind(rating.client.id.to_string())
            .bind(rating.client.exchange.to_string())
            .bind(given.request_id.to_string())
            .bind(hex::encode($write.digest))
    }};
}

macro_rules! task_row {
    ($statement:expr, $task:expr, $last:expr) => {{
        let task: &Rectification = $task;
        sqlx::query($statement)
            .bind(task.id.to_string())
            .bind(task.version)
            .bind(i32::from(task.state))
            .bind(task.rated.city.to_string())
            .bind(i32::from(task.warning))
            .bind(task.wake_us())
            .bind(task.missing_year().map(i32::from))
            .bind(body_of(task)?)
            .bind($last)
    }};
}

macro_rules! step_row {
    ($task:expr, $step:expr, $seq:expr) => {{
        let (task, step): (&Rectification, &NewRectificationStep) = ($task, $step);
        let client = step.actor.client.as_ref();
        sqlx::query(INSERT_STEP)
            .bind($seq)
            .bind(task.id.to_string())
            .bind(step.version)
            .bind(i32::from(step.action))
            .bind(i32::from(step.from))
            .bind(i32::from(step.to))
            .bind(i32::from(step.actor.role))
            .bind(step.actor.city.to_string())
            .bind(client.map_or_else(String::new, |client| client.id.to_string()))
            .bind(client.map_or_else(String::new, |client| client.exchange.to_string()))
            .bind(step.request.map(|(id, _)| id.to_string()))
            .bind(step.request.map(|(_, digest)| hex::encode(digest)))
            .bind(&step.text)
            .bind(step.at_us)
    }};
}

macro_rules! add_tallies {
    ($tallies:expr, $transaction:ident) => {
        for row in $tallies {
            let query = sqlx::query(ADD_TALLY)
                .bind(&row.month)
                .bind(&row.city)
                .bind(&row.item_id)
                .bind(row.mode)
                .bind(row.task)
                .bind(row.measure)
                .bind(row.counted);
            query.execute(&mut *$transaction).await?;
        }
    };
}

impl Store {
    /// Writes a rating, once for each contact of a case.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the contact was rated meanwhile. See [`StoreError`] for the rest.
    pub async fn rate(&self, write: &NewRatingWrite) -> Result<(), StoreError> {
        let head = within!(self, transaction, {
            let mut seq: i64 = sqlx::query_scalar(NEXT)
                .fetch_one(&mut *transaction)
                .await?;
            let inserted = insert_rating!(write, seq)
                .execute(&mut *transaction)
                .await?;
            if inserted.rows_affected() == 0 {
                return Err(StoreError::Conflict);
            }
            if let Some((task, step)) = &write.rectification {
                let query = task_row!(INSERT_TASK, task, seq);
                query.execute(&mut *transaction).await?;
                seq = sqlx::query_scalar(NEXT)
                    .fetch_one(&mut *transaction)
                    .await?;
                step_row!(task, step, seq)
                    .execute(&mut *transaction)
                    .await?;
            }
            if write.evaluates {
                let query = sqlx::query("INSERT INTO evaluation_due (case_number) VALUES ($1)");
                let query = query.bind(write.rating.given.number.to_string());
                query.execute(&mut *transaction).await?;
            }
            add_tallies!(&write.tallies, transaction);
            seq
        });
        self.ratings_head
            .send_if_modified(|known| advanced(known, head));
        Ok(())
    }

    /// Writes steps of a rectification.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when it is not at version `base` any more. See [`StoreError`] for the rest.
    pub async fn rectify(
        &self,
        task: &Rectification,
        base: i64,
        steps: &[NewRectificationStep],
        tallies: &[TallyRow],
    ) -> Result<(), StoreError> {
        let head = within!(self, transaction, {
            let query = task_row!(UPDATE_TASK, task, base);
            let updated = query.execute(&mut *transaction).await?;
            if updated.rows_affected() == 0 {
                return Err(StoreError::Conflict);
            }
            let mut seq = 0_i64;
            for step in steps {
                seq = sqlx::query_scalar(NEXT)
                    .fetch_one(&mut *transaction)
                    .await?;
                step_row!(task, step, seq)
                    .execute(&mut *transaction)
                    .await?;
            }
            add_tallies!(tallies, transaction);
            seq
        });
        self.ratings_head
            .send_if_modified(|known| advanced(known, head));
        Ok(())
    }
}
