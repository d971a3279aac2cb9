//! Imported calendars.

use std::path::Path;

use banqiao_item::{Calendars, ImportError, Store};
use banqiao_kit::calendar::WorkCalendar;
use jiff::civil::date;

use crate::scene::{NOON, Scene};

/// An example and no notice.
pub(crate) const YEAR_2027: &str =
    r#"{"2027": {"source": "example", "off": ["2027-01-01"], "makeup": ["2027-01-02"]}}"#;

pub(crate) async fn an_imported_year_is_counted_by_every_replica(scene: Scene) {
    let replica = Calendars::new(
        Store::open(&scene.settings).await.unwrap(),
        WorkCalendar::shipped(),
    );
    let eve = date(2026, 12, 31);
    assert!(replica.current().add_workdays(eve, 1).is_err());
    assert!(!replica.refresh().await.unwrap());
    let name = Path::new("2027.json");
    scene.calendars.import(name, YEAR_2027, NOON).await.unwrap();
    for calendars in [&replica, &scene.calendars] {
        assert!(calendars.refresh().await.unwrap());
        assert!(!calendars.refresh().await.unwrap());
        let next = calendars.current().add_workdays(eve, 1);
        assert_eq!(next, Ok(date(2027, 1, 2)));
    }
    // A later import replaces the year.
    let later = YEAR_2027.replace("[\"2027-01-02\"]", "[]");
    scene.calendars.import(name, &later, NOON).await.unwrap();
    assert!(replica.refresh().await.unwrap());
    let next = replica.current().add_workdays(eve, 1);
    assert_eq!(next, Ok(date(2027, 1, 4)));
}

pub(crate) async fn a_faulty_calendar_is_not_stored(scene: Scene) {
    let faulty = YEAR_2027.replace("example", "");
    let refused = scene
        .calendars
        .import(
            Path::new("2027.json"),
            &faulty,
            scene.clock.clock().now_us(),
        )
        .await;
    let Err(ImportError::CallerFaults(faults)) = refused else {
        panic!("{refused:?}")
    };
    assert!(
        faults.to_string().contains("2027.json: 2027.source"),
        "{faults}"
    );
    assert!(scene.store.calendars(0).await.unwrap().is_empty());
}
