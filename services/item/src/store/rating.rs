//! Ratings and rectifications. They are few beside the steps of cases, so each has a transaction of its own; the same statements run on both
//! databases.

mod row;
mod write;

use banqiao_directory::SpiffeId;
use banqiao_kit::Database;
use tokio::sync::watch;
use uuid::Uuid;

use row::{AnswerRow, RatingRow, StepRow, task_of};

use super::{Store, StoreError, tally::TallyRow};
use crate::{
    case::CaseNumber,
    rating::{
        NewRectificationStep, Rating, RatingFilter, RatingId, Rectification, RectificationFilter,
        RectificationStep, StoredRater, StoredRating,
    },
};

/// One query on either database.
macro_rules! on_both {
    ($store:expr, $reach:ident, $fetch:ident, $query:expr) => {
        match &$store.database {
            Database::Postgres(pool) => $query.$fetch(pool).await?,
            Database::Sqlite(database) => $query.$fetch(database.$reach()).await?,
        }
    };
}

/// What a rating writes. All of it or nothing.
#[derive(Clone, Debug)]
pub struct NewRatingWrite {
    /// The rating.
    pub rating: Rating,
    /// SHA-256 of the request.
    pub digest: [u8; 32],
    /// What a bad one begins.
    pub rectification: Option<(Rectification, NewRectificationStep)>,
    /// The history of the case has to say that it was rated.
    pub evaluates: bool,
    /// What is counted.
    pub tallies: Vec<TallyRow>,
}

/// The first answer to a request about a rating.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstRatingAnswer {
    /// SHA-256 of the request.
    pub digest: [u8; 32],
    /// The rating.
    pub id: RatingId,
    /// State and version of its rectification then; zeros where there is none.
    pub state: i32,
    /// Version.
    pub version: i64,
}

macro_rules! rating_columns {
    ($rest:literal) => {
        concat!(
            "SELECT rating.seq, rating.id, rating.rated_city, rating.department, rating.item_id, rating.mode, rating.stage, \
             rating.satisfaction, rating.channel, rating.masked, rating.given_at, task.body FROM ",
            $rest
        )
    };
}

macro_rules! step_columns {
    ($rest:literal) => {
        concat!(
            "SELECT seq, rating_id, version, action, from_state, to_state, role, city, exchange, words, at \
             FROM rectification_step ",
            $rest
        )
    };
}

impl Store {
    /// A rating.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn rating(&self, id: RatingId) -> Result<Option<StoredRating>, StoreError> {
        let row: Option<RatingRow> = on_both!(
            self,
            readers,
            fetch_optional,
            sqlx::query_as(rating_columns!(
                "rating LEFT JOIN rectification AS task ON task.rating_id = rating.id WHERE rating.id = $1"
            ))
            .bind(id.to_string())
        );
        row.map(StoredRating::try_from).transpose()
    }

    /// Who gave a rating, where it was given under the own name.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn rater(&self, id: RatingId) -> Result<Option<StoredRater>, StoreError> {
        let row: Option<(String, String)> = on_both!(
            self,
            readers,
            fetch_optional,
            sqlx::query_as("SELECT case_number, comment FROM rating WHERE id = $1 AND real_name")
                .bind(id.to_string())
        );
        row.map(|(number, comment)| {
            let number = number.parse();
            let number = number.map_err(|_| StoreError::Corrupt("case number"))?;
            Ok(StoredRater { number, comment })
        })
        .transpose()
    }

    /// Whether a contact of a case was rated; 0 is the whole case.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn is_rated(&self, number: CaseNumber, contact: i64) -> Result<bool, StoreError> {
        let row: Option<i64> = on_both!(
            self,
            readers,
            fetch_optional,
            sqlx::query_scalar("SELECT seq FROM rating WHERE case_number = $1 AND contact = $2")
                .bind(number.to_string())
                .bind(contact)
        );
        Ok(row.is_some())
    }

    /// The first answer to a request to rate.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn first_rating(
        &self,
        client: &SpiffeId,
        request_id: Uuid,
    ) -> Result<Option<FirstRatingAnswer>, StoreError> {
        let row: Option<AnswerRow> = on_both!(
            self,
            readers,
            fetch_optional,
            sqlx::query_as(
                "SELECT request_digest AS digest, id, CASE WHEN satisfaction >= 4 THEN 1 ELSE 0 END AS state, \
                 CAST(0 AS bigint) AS version FROM rating WHERE request_id = $1 AND client = $2"
            )
            .bind(request_id.to_string())
            .bind(client.as_str())
        );
        row.map(FirstRatingAnswer::try_from).transpose()
    }

    /// The first answer to a request about a rectification.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn first_rectification(
        &self,
        client: &SpiffeId,
        request_id: Uuid,
    ) -> Result<Option<FirstRatingAnswer>, StoreError> {
        let row: Option<AnswerRow> = on_both!(
            self,
            readers,
            fetch_optional,
            sqlx::query_as(
                "SELECT request_digest AS digest, rating_id AS id, to_state AS state, version \
                 FROM rectification_step WHERE request_id = $1 AND client = $2"
            )
            .bind(request_id.to_string())
            .bind(client.as_str())
        );
        row.map(FirstRatingAnswer::try_from).transpose()
    }

    /// A page of ratings, newest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn ratings(&self, filter: &RatingFilter) -> Result<Vec<StoredRating>, StoreError> {
        let rows: Vec<RatingRow> = on_both!(
            self,
            readers,
            fetch_all,
            sqlx::query_as(rating_columns!(
                "rating LEFT JOIN rectification AS task ON task.rating_id = rating.id \
                 WHERE rating.seq < $1 AND ($2 = '' OR rating.rated_city = $2) \
                 AND (NOT $3 OR rating.department = $4) AND rating.satisfaction >= $5 \
                 ORDER BY rating.seq DESC LIMIT $6"
            ))
            .bind(filter.before.unwrap_or(i64::MAX))
            .bind(
                filter
                    .city
                    .map_or_else(String::new, |city| city.to_string())
            )
            .bind(filter.department.is_some())
            .bind(filter.department.clone().unwrap_or_default())
            .bind(filter.from_level)
            .bind(i64::from(filter.page_size))
            // Planned with its values: which index serves depends on what was given.
            .persistent(false)
        );
        rows.into_iter().map(StoredRating::try_from).collect()
    }

    /// A page of rectifications with their ratings, newest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn rectifications(
        &self,
        filter: &RectificationFilter,
    ) -> Result<Vec<StoredRating>, StoreError> {
        let rows: Vec<RatingRow> = on_both!(
            self,
            readers,
            fetch_all,
            sqlx::query_as(rating_columns!(
                "rectification AS task JOIN rating ON rating.id = task.rating_id \
                 WHERE task.seq < $1 AND ($2 = '' OR task.rated_city = $2) \
                 AND ($3 = 0 OR task.state = $3) AND task.warning >= $4 \
                 ORDER BY task.seq DESC LIMIT $5"
            ))
            .bind(filter.before.unwrap_or(i64::MAX))
            .bind(
                filter
                    .city
                    .map_or_else(String::new, |city| city.to_string())
            )
            .bind(filter.state.map_or(0, i32::from))
            .bind(filter.warning)
            .bind(i64::from(filter.page_size))
            .persistent(false)
        );
        rows.into_iter().map(StoredRating::try_from).collect()
    }

    /// Rectifications whose clock does something up to a time, or that wait for the calendar of a year up to this one.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn rectifications_due(
        &self,
        now_us: i64,
        year: i16,
        limit: i64,
    ) -> Result<Vec<Rectification>, StoreError> {
        let bodies: Vec<String> = on_both!(
            self,
            readers,
            fetch_all,
            sqlx::query_scalar(
                "SELECT body FROM rectification WHERE wake_at <= $1 OR missing_year <= $2 ORDER BY seq LIMIT $3"
            )
            .bind(now_us)
            .bind(i32::from(year))
            .bind(limit)
        );
        bodies.iter().map(|body| task_of(body)).collect()
    }

    /// The steps of a rectification, oldest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn rectification_steps(
        &self,
        id: RatingId,
    ) -> Result<Vec<RectificationStep>, StoreError> {
        let rows: Vec<StepRow> = on_both!(
            self,
            readers,
            fetch_all,
            sqlx::query_as(step_columns!("WHERE rating_id = $1 ORDER BY version"))
                .bind(id.to_string())
        );
        rows.into_iter().map(RectificationStep::try_from).collect()
    }

    /// Steps of every rectification after a number, oldest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn rectification_log(
        &self,
        after: i64,
        limit: i64,
    ) -> Result<Vec<RectificationStep>, StoreError> {
        let rows: Vec<StepRow> = on_both!(
            self,
            readers,
            fetch_all,
            sqlx::query_as(step_columns!("WHERE seq > $1 ORDER BY seq LIMIT $2"))
                .bind(after)
                .bind(limit)
        );
        rows.into_iter().map(RectificationStep::try_from).collect()
    }

    /// Number of the newest rating or step in the database; wakes the waiters of [`Store::ratings_heads`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn poll_ratings_head(&self) -> Result<i64, StoreError> {
        let head: i64 = on_both!(
            self,
            readers,
            fetch_one,
            sqlx::query_scalar("SELECT seq FROM rating_head WHERE id = 1")
        );
        self.ratings_head
            .send_if_modified(|known| advanced(known, head));
        Ok(head)
    }

    /// The number of the newest rating or step that this process knows of, as it grows.
    pub fn ratings_heads(&self) -> watch::Receiver<i64> {
        self.ratings_head.subscribe()
    }

    /// Rated cases whose history does not say so yet.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn evaluations_due(&self, limit: i64) -> Result<Vec<CaseNumber>, StoreError> {
        let numbers: Vec<String> = on_both!(
            self,
            readers,
            fetch_all,
            sqlx::query_scalar(
                "SELECT case_number FROM evaluation_due ORDER BY case_number LIMIT $1"
            )
            .bind(limit)
        );
        let numbers = numbers.iter().map(|number| number.parse());
        let numbers = numbers.collect::<Result<_, _>>();
        numbers.map_err(|_| StoreError::Corrupt("case number"))
    }

    /// Notes that the history of a rated case says so.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn evaluation_noted(&self, number: CaseNumber) -> Result<(), StoreError> {
        let _: Option<String> = on_both!(
            self,
            writer,
            fetch_optional,
            sqlx::query_scalar(
                "DELETE FROM evaluation_due WHERE case_number = $1 RETURNING case_number"
            )
            .bind(number.to_string())
        );
        Ok(())
    }
}

fn advanced(known: &mut i64, head: i64) -> bool {
    let newer = head > *known;
    if newer {
        *known = head;
    }
    newer
}
