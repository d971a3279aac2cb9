//! A city with a database, a clock that the test moves, and reports to publish.

use std::{path::Path, sync::Arc, time::Duration};

use banqiao_directory::{CityCode, ManualClock};
use banqiao_kit::{Caller, DatabaseSettings, Violation};
use banqiao_lab::{
    Catalogue, FindReports, Institutions, LineOutcome, Publisher, Reports, Store, StoredReport,
    WatchSettings, Watches, synthetic,
};
use banqiao_proto::lab::v1::{FindReportsRequest, Report, ReportStatus};
use http::HeaderMap;
use prost_types::Timestamp;
use tokio_util::sync::CancellationToken;

/// 2026-11-23 12:00 in the cities.
pub(crate) const NOON: i64 = 1_795_406_400_000_000;
pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const HOUR: i64 = 3_600 * SECOND;
pub(crate) const DAY: i64 = 24 * HOUR;

/// A doctor's workstation in another city.
pub(crate) const DOCTOR: &str = "spiffe://yantai.jiaodong/hospital-1/emr";
/// The laboratory system of the first hospital.
pub(crate) const LABORATORY: &str = "spiffe://qingdao.jiaodong/hospital-1/lis";

pub(crate) struct Scene {
    pub(crate) reports: Reports,
    pub(crate) clock: ManualClock,
    pub(crate) settings: DatabaseSettings,
    pub(crate) stopping: CancellationToken,
}

pub(crate) fn qingdao() -> CityCode {
    "370200".parse().unwrap()
}

pub(crate) fn yantai() -> CityCode {
    "370600".parse().unwrap()
}

/// The code of a city's hospital: 0 the first, 1 the second.
pub(crate) fn hospital(city: CityCode, place: usize) -> String {
    let institutions = institutions();
    let mut of_city = institutions.iter().filter(|one| one.city == city);
    of_city.nth(place).unwrap().credit_code.to_string()
}

pub(crate) fn institutions() -> Arc<Institutions> {
    Arc::new(synthetic::institutions().unwrap())
}

pub(crate) fn built_in() -> Arc<Catalogue> {
    Arc::new(Catalogue::built_in().unwrap())
}

/// A neighbouring city of its own, in a folder.
pub(crate) async fn neighbour(folder: &Path, clock: &ManualClock) -> Reports {
    let url = format!("sqlite://{}", folder.join("yantai.db").display());
    let settings = DatabaseSettings::new(url.parse().unwrap());
    open(&settings, yantai(), clock).await
}

impl Scene {
    pub(crate) async fn open(url: &str) -> Self {
        let settings = DatabaseSettings::new(url.parse().unwrap());
        let clock = ManualClock::new(NOON);
        let reports = open(&settings, qingdao(), &clock).await;
        Self {
            reports,
            clock,
            settings,
            stopping: CancellationToken::new(),
        }
    }

    /// Another replica: its own connections to the same database, the same clock.
    pub(crate) async fn replica(&self) -> Reports {
        open(&self.settings, qingdao(), &self.clock).await
    }

    pub(crate) async fn publish(&self, reports: &[Report]) -> Vec<LineOutcome> {
        publish(&self.reports, reports).await
    }

    /// Publishes reports that must go through.
    pub(crate) async fn published(&self, reports: &[Report]) {
        let outcomes = self.publish(reports).await;
        let created = |outcome: &LineOutcome| matches!(outcome, LineOutcome::Created(_));
        assert!(outcomes.iter().all(created), "{outcomes:?}");
    }

    pub(crate) async fn find(
        &self,
        request: &FindReportsRequest,
        client: &str,
    ) -> Vec<StoredReport> {
        let search = FindReports::parse(request, self.clock.clock().now_us()).unwrap();
        self.reports.find(&search, &caller(client)).await.unwrap()
    }

    pub(crate) fn watches(&self, settings: WatchSettings) -> Watches {
        let store = self.reports.store().clone();
        Watches::new(store, qingdao(), settings, self.stopping.clone())
    }
}

async fn open(settings: &DatabaseSettings, city: CityCode, clock: &ManualClock) -> Reports {
    let store = Store::open(settings).await.unwrap();
    Reports::new(store, city, clock.clock(), built_in(), institutions())
}

pub(crate) async fn publish(reports: &Reports, lines: &[Report]) -> Vec<LineOutcome> {
    let lines: Vec<_> = lines.iter().cloned().map(Some).collect();
    reports.publish(&lines, &Publisher::Operator).await.unwrap()
}

/// The report `index` of the first hospital, for the patient of that number, collected so long before noon.
pub(crate) fn report(index: u64, patient: u64, before: i64) -> Report {
    let institutions = institutions();
    let hospital = institutions
        .iter()
        .find(|one| one.city == qingdao())
        .unwrap();
    let patient = synthetic::patient(qingdao(), patient).unwrap();
    synthetic::report(
        &built_in(),
        hospital.credit_code,
        patient,
        index,
        NOON - before,
    )
    .unwrap()
}

/// A later version of a report.
pub(crate) fn corrected(report: &Report, status: ReportStatus) -> Report {
    let mut corrected = report.clone();
    corrected.set_status(status);
    corrected.issued_at.as_mut().unwrap().seconds += 60;
    corrected.conclusion = "已更正".to_owned();
    corrected
}

pub(crate) fn patient_of(report: &Report) -> String {
    report.patient.as_ref().unwrap().citizen_id.clone()
}

pub(crate) fn search(report: &Report) -> FindReportsRequest {
    FindReportsRequest {
        patient_id: patient_of(report),
        ..FindReportsRequest::default()
    }
}

pub(crate) const fn time(at_us: i64) -> Option<Timestamp> {
    Some(Timestamp {
        seconds: at_us / SECOND,
        nanos: 0,
    })
}

/// Fields and codes of a refused line.
pub(crate) fn codes(outcome: &LineOutcome) -> Vec<(&str, &'static str)> {
    match outcome {
        LineOutcome::Refused(faults) => of(faults),
        _ => Vec::new(),
    }
}

pub(crate) fn of(faults: &[Violation]) -> Vec<(&str, &'static str)> {
    faults
        .iter()
        .map(|fault| (fault.field.as_ref(), fault.rule.code))
        .collect()
}

pub(crate) fn caller(client: &str) -> Caller {
    let mut headers = HeaderMap::new();
    for (name, value) in metadata(client) {
        headers.insert(name, value.parse().unwrap());
    }
    Caller::from_headers(&headers).unwrap()
}

pub(crate) fn metadata(client: &str) -> [(&'static str, String); 4] {
    [
        ("banqiao-client", client.to_owned()),
        ("banqiao-purpose", "medical-treatment".to_owned()),
        ("banqiao-basis", "statutory:basic-healthcare-30".to_owned()),
        ("banqiao-exchange-id", format!("{}/1", uuid::Uuid::now_v7())),
    ]
}

/// Fast enough for a test, slow enough not to spin.
pub(crate) const BRISK: WatchSettings = WatchSettings {
    poll: Duration::from_millis(10),
    heartbeat: Duration::from_secs(3600),
    limit: 4,
};

pub(crate) fn config_text(url: &str) -> String {
    format!(
        "city = \"370200\"\nlisten = \"127.0.0.1:0\"\ndrain = \"15s\"\n\
         [identity]\ncertificate = \"lab.crt\"\nprivate_key = \"lab.key\"\nca_bundle = \"ca.crt\"\n\
         crl = \"crl.der\"\nreload = \"100ms\"\n[database]\nurl = \"{url}\"\n\
         [lab]\ninstitutions = \"institutions.tsv\"\nquality_organisers = [\"spiffe://qingdao.jiaodong/health/quality\"]\nwatch_poll = \"10ms\"\n[telemetry]\nlog_filter = \"warn\"\n"
    )
}
