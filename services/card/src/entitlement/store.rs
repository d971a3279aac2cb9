//! Periods in the database. Both databases understand the same statements here, so that each is written once; what differs is
//! how a list comes as one parameter.

use banqiao_kit::{
    Database,
    identifier::{CitizenId, DivisionCode},
    mapping::Mapped,
};
use banqiao_proto::card::v1::{InsuranceScheme, InsuredStatus, TreatmentState};
use jiff::civil::Date;

use super::{Period, mapped};
use crate::{
    card::parse_date,
    people::PeoplePage,
    store::{Store, StoreError},
};

/// What a batch of lines writes.
#[derive(Clone, Debug, Default)]
pub(super) struct PeriodWrite {
    pub(super) inserts: Vec<Period>,
    pub(super) updates: Vec<Period>,
}

#[derive(Clone, Debug)]
pub(super) struct PeriodStore {
    database: Database,
    /// The bureau's own tables, where the periods are in them.
    mapped: Option<Mapped>,
}

macro_rules! columns {
    () => {
        "social_security_number, scheme, insured_division, begins_on, ends_on, insured_status, \
         treatment_state, suspended_from, suspended_until, as_of"
    };
}

impl PeriodStore {
    pub(super) fn new(store: &Store) -> Self {
        Self {
            database: store.database().clone(),
            mapped: store.mapped(mapped::INSURANCE.name),
        }
    }

    /// The periods of a person under a scheme, by first day.
    pub(super) async fn periods(
        &self,
        holder: &CitizenId,
        scheme: InsuranceScheme,
        today: Date,
    ) -> Result<Vec<Period>, StoreError> {
        if let (Database::Postgres(pool), Some(mapped)) = (&self.database, &self.mapped) {
            let mut periods = Box::pin(mapped::periods(mapped, pool, holder, today)).await?;
            periods.retain(|period| period.scheme == scheme);
            return Ok(periods);
        }
        let (holder, scheme) = (holder.as_str(), i32::from(scheme));
        const SQL: &str = concat!(
            "SELECT ",
            columns!(),
            " FROM insurance_period WHERE social_security_number = $1 AND scheme = $2 ORDER BY begins_on"
        );
        let rows: Vec<Row> = match &self.database {
            Database::Postgres(pool) => {
                let query = sqlx::query_as(SQL).bind(holder).bind(scheme);
                query.fetch_all(pool).await
            }
            Database::Sqlite(database) => {
                let query = sqlx::query_as(SQL).bind(holder).bind(scheme);
                query.fetch_all(database.readers()).await
            }
        }?;
        rows.into_iter().map(Period::try_from).collect()
    }

    /// People who have periods, after one of them.
    pub(super) async fn page(&self, after: &str, limit: i64) -> Result<PeoplePage, StoreError> {
        const SQL: &str = "SELECT DISTINCT social_security_number FROM insurance_period \
            WHERE social_security_number > $1 ORDER BY social_security_number LIMIT $2";
        let numbers: Vec<String> = match (&self.database, &self.mapped) {
            (Database::Postgres(pool), Some(mapped)) => {
                let relation = mapped::INSURANCE.name;
                let page = PeoplePage::of_bureau(mapped, pool, relation, after, limit);
                return Box::pin(page).await;
            }
            (Database::Postgres(pool), None) => {
                let query = sqlx::query_scalar(SQL).bind(after).bind(limit);
                query.fetch_all(pool).await
            }
            (Database::Sqlite(database), _) => {
                let query = sqlx::query_scalar(SQL).bind(after).bind(limit);
                query.fetch_all(database.readers()).await
            }
        }?;
        let people: Result<_, _> = numbers.iter().map(|number| citizen(number)).collect();
        Ok(PeoplePage::own(people?))
    }

    /// Every period of some people, by person, scheme and first day, and how many of the bureau's rows cannot be used.
    pub(super) async fn all(
        &self,
        people: &[CitizenId],
        today: Date,
    ) -> Result<(Vec<Period>, u64), StoreError> {
        let people_list = list(people.iter());
        let (mut periods, unusable) = match (&self.database, &self.mapped) {
            (Database::Postgres(pool), Some(mapped)) => {
                Box::pin(mapped::look(mapped, pool, people, today)).await
            }
            (Database::Postgres(pool), None) => {
                let mut connection = pool.acquire().await?;
                Ok((postgres::read(&mut connection, &people_list).await?, 0))
            }
            (Database::Sqlite(database), _) => {
                let mut connection = database.readers().acquire().await?;
                Ok((sqlite::read(&mut connection, &people_list).await?, 0))
            }
        }?;
        periods.sort_by(|one, other| {
            let key = |period: &Period| (i32::from(period.scheme), period.begins_on);
            let holders = one.holder.as_str().cmp(other.holder.as_str());
            holders.then(key(one).cmp(&key(other)))
        });
        Ok((periods, unusable))
    }

    /// Reads every period of some people, decides, and writes, in one transaction that no other writer of periods comes between.
    pub(super) async fn change<T>(
        &self,
        people: &[CitizenId],
        today: Date,
        decide: impl FnOnce(Vec<Period>) -> (PeriodWrite, T),
    ) -> Result<T, StoreError> {
        let list = list(people.iter());
        match &self.database {
            Database::Postgres(pool) => {
                let mut transaction = pool.begin().await?;
                if let Some(mapped) = &self.mapped {
                    // Writers meet here; the bureau's own programs at the values that a statement names.
                    postgres::begin(&mut transaction).await?;
                    let read = mapped::read(mapped, &mut transaction, people, today).await?;
                    let known = read.iter().map(|(_, period)| period.clone());
                    let (write, decided) = decide(known.collect());
                    mapped::write(mapped, &mut transaction, &read, &write).await?;
                    transaction.commit().await?;
                    return Ok(decided);
                }
                let decided = postgres::change(&mut transaction, &list, decide).await?;
                transaction.commit().await?;
                Ok(decided)
            }
            Database::Sqlite(database) => {
                let mut transaction = database.writer().begin_with("BEGIN IMMEDIATE").await?;
                let decided = sqlite::change(&mut transaction, &list, decide).await?;
                transaction.commit().await?;
                Ok(decided)
            }
        }
    }
}

macro_rules! statements {
    ($name:ident, $database:ident, $list:literal) => {
        mod $name {
            use sqlx::{Transaction, $database};

            use super::{Period, PeriodWrite, Row, StoreError};

            /// Writers meet here, so that what is read is what is written over.
            pub(super) async fn begin(
                transaction: &mut Transaction<'_, $database>,
            ) -> Result<(), StoreError> {
                sqlx::query("UPDATE insurance_head SET writes = writes + 1 WHERE id = 1")
                    .execute(&mut **transaction)
                    .await?;
                Ok(())
            }

            pub(super) async fn read(
                connection: &mut <$database as sqlx::Database>::Connection,
                people: &str,
            ) -> Result<Vec<Period>, StoreError> {
                let rows: Vec<Row> = sqlx::query_as(concat!(
                    "SELECT ",
                    columns!(),
                    " FROM insurance_period WHERE social_security_number IN (",
                    $list,
                    ") ORDER BY begins_on"
                ))
                .bind(people)
                .fetch_all(connection)
                .await?;
                rows.into_iter().map(Period::try_from).collect()
            }

            pub(super) async fn change<T>(
                transaction: &mut Transaction<'_, $database>,
                people: &str,
                decide: impl FnOnce(Vec<Period>) -> (PeriodWrite, T),
            ) -> Result<T, StoreError> {
                begin(transaction).await?;
                let (write, decided) = decide(read(transaction, people).await?);
                for period in &write.inserts {
                    insert(transaction, period).await?;
                }
                for period in &write.updates {
                    sqlx::query(
                        "DELETE FROM insurance_period WHERE social_security_number = $1 AND \
                         scheme = $2 AND begins_on = $3",
                    )
                    .bind(period.holder.as_str())
                    .bind(i32::from(period.scheme))
                    .bind(period.begins_on.to_string())
                    .execute(&mut **transaction)
                    .await?;
                    insert(transaction, period).await?;
                }
                Ok(decided)
            }

            async fn insert(
                transaction: &mut Transaction<'_, $database>,
                period: &Period,
            ) -> Result<(), StoreError> {
                sqlx::query(concat!(
                    "INSERT INTO insurance_period (",
                    columns!(),
                    ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)"
                ))
                .bind(period.holder.as_str())
                .bind(i32::from(period.scheme))
                .bind(period.division.as_str())
                .bind(period.begins_on.to_string())
                .bind(period.ends_on.map(|day| day.to_string()))
                .bind(i32::from(period.status))
                .bind(i32::from(period.treatment))
                .bind(period.suspension.map(|(from, _)| from.to_string()))
                .bind(period.suspension.map(|(_, until)| until.to_string()))
                .bind(period.as_of.to_string())
                .execute(&mut **transaction)
                .await?;
                Ok(())
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

#[derive(sqlx::FromRow)]
struct Row {
    social_security_number: String,
    scheme: i32,
    insured_division: String,
    begins_on: String,
    ends_on: Option<String>,
    insured_status: i32,
    treatment_state: i32,
    suspended_from: Option<String>,
    suspended_until: Option<String>,
    as_of: String,
}

impl TryFrom<Row> for Period {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            holder: citizen(&row.social_security_number)?,
            scheme: InsuranceScheme::try_from(row.scheme)
                .map_err(|_| StoreError::Corrupt("scheme"))?,
            division: DivisionCode::parse(&row.insured_division)
                .map_err(|_| StoreError::Corrupt("division"))?,
            begins_on: date(&row.begins_on)?,
            ends_on: optional(row.ends_on)?,
            status: InsuredStatus::try_from(row.insured_status)
                .map_err(|_| StoreError::Corrupt("insured status"))?,
            treatment: TreatmentState::try_from(row.treatment_state)
                .map_err(|_| StoreError::Corrupt("treatment state"))?,
            suspension: optional(row.suspended_from)?.zip(optional(row.suspended_until)?),
            as_of: date(&row.as_of)?,
        })
    }
}

/// It was checked when it came in; what was in the past then is so now.
pub(crate) fn citizen(text: &str) -> Result<CitizenId, StoreError> {
    CitizenId::parse(text, Date::MAX).map_err(|_| StoreError::Corrupt("social security number"))
}

pub(crate) fn date(text: &str) -> Result<Date, StoreError> {
    parse_date(text).map_err(|_| StoreError::Corrupt("date"))
}

pub(crate) fn optional(text: Option<String>) -> Result<Option<Date>, StoreError> {
    text.as_deref().map(date).transpose()
}

/// Numbers as a JSON array: digits and X, so nothing needs escaping.
pub(crate) fn list<'a>(people: impl Iterator<Item = &'a CitizenId>) -> String {
    let mut json = String::from("[");
    for person in people {
        let comma = if json.len() > 1 { "," } else { "" };
        json.extend([comma, "\"", person.as_str(), "\""]);
    }
    json.push(']');
    json
}
