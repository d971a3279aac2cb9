//! A city with a database and a clock that the test moves.

use banqiao_directory::ManualClock;
use banqiao_item::{Calendars, Store};
use banqiao_kit::{DatabaseSettings, calendar::WorkCalendar};

/// 2026-11-23 12:00 in the cities.
pub(crate) const NOON: i64 = 1_795_406_400_000_000;

pub(crate) struct Scene {
    pub(crate) store: Store,
    pub(crate) calendars: Calendars,
    pub(crate) clock: ManualClock,
    pub(crate) settings: DatabaseSettings,
}

impl Scene {
    pub(crate) async fn open(url: &str) -> Self {
        let settings = DatabaseSettings::new(url.parse().unwrap());
        let store = Store::open(&settings).await.unwrap();
        Self {
            calendars: Calendars::new(store.clone(), WorkCalendar::shipped()),
            store,
            clock: ManualClock::new(NOON),
            settings,
        }
    }
}

pub(crate) fn config_text(url: &str) -> String {
    format!(
        "city = \"370200\"\nlisten = \"127.0.0.1:0\"\ndrain = \"15s\"\n\
         [identity]\ncertificate = \"item.crt\"\nprivate_key = \"item.key\"\nca_bundle = \"ca.crt\"\n\
         crl = \"crl.der\"\nreload = \"100ms\"\n[database]\nurl = \"{url}\"\n\
         [item]\nsweep = \"100ms\"\n[telemetry]\nlog_filter = \"warn\"\n"
    )
}
