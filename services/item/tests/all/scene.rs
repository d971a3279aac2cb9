//! A city with a database, a clock that the test moves, and steps to take.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use banqiao_directory::{CityCode, ManualClock};
use banqiao_item::{
    Act, Actor, Answered, Calendars, Case, CaseError, CaseNumber, Cases, Catalogue, Client, Event,
    MaterialEntry, MaterialEntryKind, StartCase, Store,
};
use banqiao_kit::{DatabaseSettings, ExchangeId, calendar::WorkCalendar};
use banqiao_proto::item::v1::{
    ActOnCaseRequest, ActorRole, Applicant, ApplicantIdKind, CaseAction, CaseResult, CaseState,
    Channel, CorrectionPoint, Delivery, Document, ExtensionTerms, SpecialProcedure, SpecialTerms,
    StartCaseRequest, TaskCity,
};
use prost::Message;
use uuid::Uuid;

/// 2026-03-02 (Monday) 12:00 in the cities.
pub(crate) const NOON: i64 = 1_772_424_000_000_000;
pub(crate) const HOUR: i64 = 3_600_000_000;
pub(crate) const DAY: i64 = 24 * HOUR;

pub(crate) const QINGDAO: &str = "370200";
pub(crate) const YANTAI: &str = "370600";
pub(crate) const WEIHAI: &str = "371000";

/// 户口迁移, 普通护照异地申领, 无犯罪记录证明 (collected by proxy), 出入境记录查询 (on the spot).
pub(crate) const MOVE: &str = "JD001";
pub(crate) const PASSPORT: &str = "JD002";
pub(crate) const QUERY: &str = "JD017";

/// Parsed once: it is long, and a test that parses it for each case keeps the others from running.
static CATALOGUE: LazyLock<Catalogue> = LazyLock::new(|| Catalogue::load(&[]).unwrap());

pub(crate) fn city(code: &str) -> CityCode {
    code.parse().unwrap()
}

pub(crate) struct Scene {
    pub(crate) store: Store,
    pub(crate) calendars: Calendars,
    pub(crate) cases: Cases,
    pub(crate) clock: ManualClock,
    pub(crate) settings: DatabaseSettings,
}

impl Scene {
    pub(crate) async fn open(url: &str) -> Self {
        Self::of(url, QINGDAO, ManualClock::new(NOON)).await
    }

    /// The service of a city.
    pub(crate) async fn of(url: &str, code: &str, clock: ManualClock) -> Self {
        let settings = DatabaseSettings::new(url.parse().unwrap());
        let store = Store::open(&settings).await.unwrap();
        let calendars = Calendars::new(store.clone(), WorkCalendar::shipped());
        let cases = Cases::new(
            store.clone(),
            CATALOGUE.clone(),
            calendars.clone(),
            city(code),
            clock.clock(),
        );
        Self {
            store,
            calendars,
            cases,
            clock,
            settings,
        }
    }

    /// Another replica, or the service after a restart: its own connections to the same database, the same clock.
    pub(crate) async fn replica(&self) -> Self {
        let url = match &self.settings.url {
            banqiao_kit::DatabaseUrl::Postgres(url) => url.clone(),
            banqiao_kit::DatabaseUrl::Sqlite(path) => format!("sqlite://{}", path.display()),
        };
        Self::of(&url, self.cases.city().as_str(), self.clock.clone()).await
    }

    pub(crate) async fn start(
        &self,
        request: &StartCaseRequest,
        from: &str,
    ) -> Result<Answered, CaseError> {
        let (cases, today) = (&self.cases, self.cases.today());
        let item = |id: &_| cases.catalogue().item(id, today).map(AsRef::as_ref);
        let start = StartCase::parse(request, cases.city(), today, item).unwrap();
        cases
            .start(&start, sha256(request), &actor(from, start.role))
            .await
    }

    /// Starts a case of an item from a city, as a window does.
    pub(crate) async fn started(&self, item: &str, from: &str) -> CaseNumber {
        let request = start_request(item, self.cases.city().as_str(), from);
        self.start(&request, from).await.unwrap().standing.number
    }

    pub(crate) async fn ask(
        &self,
        request: &ActOnCaseRequest,
        from: &str,
    ) -> Result<Answered, CaseError> {
        let act = Act::parse(request).unwrap();
        self.cases
            .act(&act, sha256(request), &actor(from, act.role))
            .await
    }

    /// Takes a step that brings everything.
    pub(crate) async fn step(
        &self,
        number: CaseNumber,
        action: CaseAction,
        role: ActorRole,
        from: &str,
    ) -> Result<Answered, CaseError> {
        self.ask(&full(number, action, role), from).await
    }

    /// Takes steps of the deciding city's department, which all succeed.
    pub(crate) async fn decide(&self, number: CaseNumber, actions: &[CaseAction]) {
        let home = self.cases.city();
        for action in actions {
            let step = self
                .step(number, *action, ActorRole::Department, home.as_str())
                .await;
            step.unwrap_or_else(|error| panic!("{action:?}: {error}"));
        }
    }

    /// A case up to its acceptance, whatever its mode.
    pub(crate) async fn accepted(&self, item: &str, from: &str) -> CaseNumber {
        let number = self.received(item, from).await;
        self.decide(number, &[CaseAction::Accept]).await;
        number
    }

    /// A case that waits for the deciding city's acceptance, whatever its mode.
    pub(crate) async fn received(&self, item: &str, from: &str) -> CaseNumber {
        let number = self.started(item, from).await;
        let proxy =
            self.case(number).await.mode == banqiao_proto::item::v1::HandlingMode::ProxyCollection;
        if proxy {
            for action in [CaseAction::Receive, CaseAction::HandOver] {
                self.step(number, action, ActorRole::Window, from)
                    .await
                    .unwrap();
            }
        } else {
            self.decide(number, &[CaseAction::Receive]).await;
        }
        number
    }

    /// Brings every required material of a case, as if data calls had verified them.
    pub(crate) async fn bring_materials(&self, number: CaseNumber) {
        let case = self.case(number).await;
        let item = self
            .cases
            .catalogue()
            .version(&case.item, case.item_version);
        let materials = item.unwrap().materials.iter();
        for material in materials.filter(|material| material.required) {
            let entry = MaterialEntry {
                material: material.id.clone(),
                kind: MaterialEntryKind::Verified,
                call: "card-holder".into(),
                city: case.deciding_city.to_string(),
                exchange: format!("{}/1", Uuid::now_v7()),
                reason: String::new(),
                digest: None,
                size: 0,
                content_type: String::new(),
                client: "spiffe://qingdao.jiaodong/hall/window".into(),
                at_us: self.clock.clock().now_us(),
            };
            self.store.write_material(number, &entry).await.unwrap();
        }
    }

    pub(crate) async fn case(&self, number: CaseNumber) -> Case {
        self.store.case(number).await.unwrap().unwrap()
    }

    pub(crate) async fn state(&self, number: CaseNumber) -> CaseState {
        self.case(number).await.state
    }

    pub(crate) async fn history(&self, number: CaseNumber) -> Vec<Event> {
        self.store.history(number).await.unwrap()
    }

    pub(crate) async fn actions(&self, number: CaseNumber) -> Vec<CaseAction> {
        let history = self.history(number).await;
        history.iter().map(|event| event.action).collect()
    }

    /// Moves the clock, and lets the service look at its limits.
    pub(crate) async fn pass(&self, time: i64) {
        self.clock.advance_us(time);
        self.cases.run_clocks().await.unwrap();
    }
}

pub(crate) fn sha256(request: &impl Message) -> [u8; 32] {
    digest(&SHA256, &request.encode_to_vec())
        .as_ref()
        .try_into()
        .unwrap()
}

pub(crate) fn actor(from: &str, role: ActorRole) -> Actor {
    let id = format!("spiffe://c{from}.jiaodong/hall/window")
        .parse()
        .unwrap();
    let exchange = ExchangeId {
        exchange: Uuid::now_v7(),
        attempt: 1,
    };
    Actor {
        city: city(from),
        role,
        client: Some(Client {
            id,
            exchange,
            operator: None,
        }),
    }
}

pub(crate) fn applicant() -> Applicant {
    Applicant {
        id_kind: ApplicantIdKind::Citizen.into(),
        citizen_id: "370602198506150002".into(),
        name: "测试子安".into(),
        phone: "0532-00000000".into(),
        ..Applicant::default()
    }
}

pub(crate) fn start_request(item: &str, deciding: &str, from: &str) -> StartCaseRequest {
    let item_id = item.parse().unwrap();
    let known = CATALOGUE.version(&item_id, 1).unwrap();
    let other = if deciding == YANTAI { QINGDAO } else { YANTAI };
    let tasks = known.tasks.iter().map(|task| TaskCity {
        task: task.id.clone(),
        city: other.into(),
    });
    StartCaseRequest {
        request_id: Uuid::now_v7().to_string(),
        item_id: item.into(),
        division: deciding.into(),
        receiving_city: from.into(),
        role: ActorRole::Window.into(),
        applicant: Some(applicant()),
        channel: Channel::Window.into(),
        tasks: tasks.collect(),
        ..StartCaseRequest::default()
    }
}

/// A step that brings everything that any step may need.
pub(crate) fn full(number: CaseNumber, action: CaseAction, role: ActorRole) -> ActOnCaseRequest {
    ActOnCaseRequest {
        request_id: Uuid::now_v7().to_string(),
        number: number.to_string(),
        action: action.into(),
        role: role.into(),
        version: 0,
        reason: "理由".into(),
        remedy: "可以依法申请行政复议或者提起行政诉讼".into(),
        document: Some(Document {
            number: "青受〔2026〕1号".into(),
            seal_digest: vec![7; 32],
        }),
        corrections: vec![CorrectionPoint {
            material_id: "identity-card".into(),
            text: "复印件不清晰".into(),
        }],
        special: Some(SpecialTerms {
            procedure: SpecialProcedure::ExpertReview.into(),
            workdays: 10,
        }),
        extension: Some(ExtensionTerms {
            workdays: 10,
            approver: "负责人".into(),
        }),
        result: Some(CaseResult {
            name: "证照".into(),
            number: "E0001".into(),
            valid_until: "2036-03-01".into(),
        }),
        delivery: Some(Delivery {
            courier: true,
            tracking_number: "SF0001".into(),
        }),
        identity_checked: true,
    }
}

/// Code of the rule by which a step was refused.
pub(crate) fn refusal(refused: Result<Answered, CaseError>) -> &'static str {
    match refused {
        Err(CaseError::Act(error)) => error.reason().unwrap_or("FIELD_INVALID"),
        other => panic!("{other:?}"),
    }
}

pub(crate) fn config_text(url: &str) -> String {
    format!(
        "city = \"370200\"\nlisten = \"127.0.0.1:0\"\ndrain = \"15s\"\n\
         [[cities]]\ncode = \"370200\"\ntrust_domain = \"qingdao.jiaodong\"\n\
         systems = [{{ path = \"/hall/\", roles = [\"WINDOW\"] }}, {{ path = \"/psb/case\", roles = [\"DEPARTMENT\"] }}, \
         {{ path = \"/supervision/\", roles = [\"SUPERVISOR\"] }}]\n\
         [[cities]]\ncode = \"371000\"\ntrust_domain = \"weihai.jiaodong\"\n\
         [identity]\ncertificate = \"item.crt\"\nprivate_key = \"item.key\"\nca_bundle = \"ca.crt\"\n\
         crl = \"crl.der\"\nreload = \"100ms\"\n[database]\nurl = \"{url}\"\n\
         [item]\nsweep = \"100ms\"\n[telemetry]\nlog_filter = \"warn\"\n"
    )
}
