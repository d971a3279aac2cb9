//! The outbox on SQLite; PostgreSQL is exercised by the card service's suite.

use parking_lot::Mutex;
use tempfile::TempDir;

use super::*;
use crate::database::{DatabaseSettings, DatabaseUrl, Migrations};

const MIGRATIONS: Migrations = Migrations {
    postgres: &[("outbox", OUTBOX_POSTGRES)],
    sqlite: &[("outbox", OUTBOX_SQLITE)],
};

async fn open(folder: &TempDir) -> (Outbox, Database) {
    let url = DatabaseUrl::Sqlite(folder.path().join("outbox.db"));
    let database = Database::open(&DatabaseSettings::new(url), MIGRATIONS)
        .await
        .unwrap();
    (Outbox::new(database.clone()), database)
}

fn parcel(destination: &str, kind: &'static str) -> NewParcel {
    NewParcel {
        destination: destination.parse().unwrap(),
        kind,
        subject: "1".to_owned(),
        request_id: Uuid::now_v7(),
        payload: vec![1, 2, 3],
        posted_at_us: 7,
    }
}

async fn post(database: &Database, parcel: &NewParcel) -> Result<(), PostError> {
    let Database::Sqlite(database) = database else {
        unreachable!("opened as SQLite")
    };
    let mut transaction = database.writer().begin().await.unwrap();
    Outbox::post_sqlite(&mut transaction, parcel).await?;
    transaction.commit().await.unwrap();
    Ok(())
}

/// Takes parcels off, but fails for a city that is down, and stops after the last one.
struct Recorder {
    database: Database,
    down: &'static str,
    carried: Mutex<Vec<(String, String)>>,
    enough: usize,
    stop: CancellationToken,
}

impl Courier for Recorder {
    async fn carry(&self, parcel: &Parcel) -> Carried {
        let carried = {
            let mut carried = self.carried.lock();
            carried.push((parcel.destination.clone(), parcel.kind.clone()));
            carried.len()
        };
        if carried == self.enough {
            self.stop.cancel();
        }
        if parcel.destination == self.down {
            return Carried::Later(None);
        }
        let Database::Sqlite(database) = &self.database else {
            unreachable!("opened as SQLite")
        };
        let mut transaction = database.writer().begin().await.unwrap();
        assert!(
            Outbox::take_off_sqlite(&mut transaction, parcel.seq)
                .await
                .unwrap()
        );
        transaction.commit().await.unwrap();
        Carried::Done
    }
}

#[tokio::test]
async fn parcels_go_in_order_and_a_city_that_is_down_holds_up_nobody_else() {
    let folder = TempDir::new().unwrap();
    let (outbox, database) = open(&folder).await;
    for (city, kind) in [
        ("370600", "a"),
        ("371000", "b"),
        ("370600", "c"),
        ("371000", "d"),
        ("370600", "e"),
    ] {
        post(&database, &parcel(city, kind)).await.unwrap();
    }
    let stop = CancellationToken::new();
    let recorder = Recorder {
        database: database.clone(),
        down: "371000",
        carried: Mutex::default(),
        enough: 4,
        stop: stop.clone(),
    };
    outbox.send(&recorder, stop).await;
    let carried = recorder.carried.into_inner();
    let to = |city: &str| -> Vec<String> {
        let of = carried.iter().filter(|(to, _)| to == city);
        of.map(|(_, kind)| kind.clone()).collect()
    };
    assert_eq!(to("370600")[..2], ["a", "c"]);
    assert!(to("371000").iter().all(|kind| kind == "b"), "{carried:?}");

    // After a restart what was not taken off is there, in order.
    database.close().await;
    let (outbox, _database) = open(&folder).await;
    let next = outbox.next().await.unwrap();
    assert!(next.iter().any(|parcel| parcel.kind == "b"), "{next:?}");
}

#[tokio::test]
async fn the_outbox_is_bounded() {
    let folder = TempDir::new().unwrap();
    let (_, database) = open(&folder).await;
    let mut long = parcel("370600", "a");
    long.payload = vec![0; MAX_PARCEL + 1];
    assert!(matches!(
        post(&database, &long).await,
        Err(PostError::TooLong(_))
    ));
    let Database::Sqlite(sqlite) = &database else {
        unreachable!("opened as SQLite")
    };
    sqlx::query(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) \
         INSERT INTO outbox (destination, kind, subject, request_id, payload, posted_at) \
         SELECT '370600', 'a', '', i, x'00', 0 FROM n",
    )
    .bind(OUTBOX_LIMIT)
    .execute(sqlite.writer())
    .await
    .unwrap();
    assert!(matches!(
        post(&database, &parcel("370600", "a")).await,
        Err(PostError::Full(_))
    ));
    post(&database, &parcel("371000", "a")).await.unwrap();
}

#[test]
fn pauses_grow_up_to_a_limit() {
    let mut pause = Pause::default();
    let mut last = Duration::ZERO;
    for _ in 0..20 {
        let before = Instant::now();
        pause.lengthen(None);
        let length = pause.until - before;
        assert!(length + Duration::from_secs(1) > last && length < LONGEST_PAUSE + FIRST_PAUSE);
        last = length;
    }
    assert!(last >= LONGEST_PAUSE);
}
