//! The item service as its users meet it: cases that go from city to city through the gateways.

use std::fs;

use banqiao_directory::Clock;
use banqiao_kit::{
    Answer, Basis, Destination, GatewayChannel, OutgoingCall, Purpose, civil_date, exchange_of,
};
use banqiao_proto::{
    exchange::v1::{CityResult, Reason, Trace},
    item::v1::{
        ActOnCaseRequest, ActorRole, Applicant, ApplicantIdKind, CaseAction as A, CaseEvent,
        CaseMaterial, CaseState as S, CaseTask, Channel, Decision, Delivery, Document,
        MaterialChunk, MaterialEntryKind, MaterialHeader, ReadCaseRequest, ReadCaseResponse,
        ReadFiguresRequest, ReadFiguresResponse, StartCaseRequest, TaskCity, UploadMaterialRequest,
        VerifyMaterialRequest, case_service_client::CaseServiceClient,
        material_service_client::MaterialServiceClient, upload_material_request::Part,
    },
    lab::v1::{PublishReportRequest, report_service_client::ReportServiceClient},
};
use banqiao_tests::{
    admin::held,
    items::{DEPARTMENT, WINDOW},
    network::{Halls, LIS, Network, STATISTICS},
    wait::{PATIENCE, wait_for, wait_until},
    wire::Head,
};
use prost::Message as _;
use tonic::{Code, Response, Status};
use tonic_types::StatusExt as _;
use uuid::Uuid;

use crate::{all_cities::outcomes, lab::report, outgoing::System};

/// 户口迁移, 普通护照异地申领, 开具户籍类证明, 工伤异地就医申请.
const MOVE: &str = "JD001";
const PASSPORT: &str = "JD002";
const CERTIFICATE: &str = "JD008";
const INJURY: &str = "JD077";

const QINGDAO: &str = "370200";
const YANTAI: &str = "370600";
const WEIFANG: &str = "370700";

/// A window or a department, which calls through its city's gateway.
struct Desk {
    system: System,
    city: &'static str,
    role: ActorRole,
}

/// A case and the city that decides it.
#[derive(Clone)]
struct Started {
    number: String,
    city: &'static str,
}

impl Desk {
    fn of(network: &Network, city: usize, system: &str, role: ActorRole) -> Self {
        let city = &network.cities[city];
        let credential = city.credential(system).unwrap();
        let name = Uuid::now_v7().to_string();
        Self {
            system: System::of(network, city, &name, &credential),
            city: city.code,
            role,
        }
    }

    fn window(network: &Network, city: usize) -> Self {
        Self::of(network, city, WINDOW, ActorRole::Window)
    }

    fn department(network: &Network, city: usize) -> Self {
        Self::of(network, city, DEPARTMENT, ActorRole::Department)
    }

    fn channel(&self, to: &str, purpose: &str) -> GatewayChannel {
        let call = OutgoingCall::new(
            Destination::City(to.parse().unwrap()),
            Purpose::parse(purpose).unwrap(),
            Basis::Statutory("国办发〔2020〕35号".to_owned()),
        );
        self.system.gateway.channel(&call)
    }

    fn cases(&self, to: &str) -> CaseServiceClient<GatewayChannel> {
        CaseServiceClient::new(self.channel(to, "case-handling"))
    }

    fn materials(&self, to: &str) -> MaterialServiceClient<GatewayChannel> {
        MaterialServiceClient::new(self.channel(to, "case-handling"))
    }

    fn application(&self, item: &str, decided_in: &str, applicant: &Applicant) -> StartCaseRequest {
        let tasks = (item == MOVE).then(|| TaskCity {
            task: "move-out".into(),
            city: YANTAI.into(),
        });
        StartCaseRequest {
            request_id: Uuid::now_v7().to_string(),
            item_id: item.into(),
            division: decided_in.into(),
            receiving_city: self.city.into(),
            role: self.role.into(),
            applicant: Some(applicant.clone()),
            channel: Channel::Window.into(),
            tasks: tasks.into_iter().collect(),
            ..StartCaseRequest::default()
        }
    }

    async fn start(&self, item: &str, decided_in: &'static str, applicant: &Applicant) -> Started {
        let application = self.application(item, decided_in, applicant);
        let answer = self.cases(decided_in).start_case(application).await;
        Started {
            number: answer.unwrap().into_inner().standing.unwrap().number,
            city: decided_in,
        }
    }

    /// A step that brings everything.
    fn step(&self, case: &Started, action: A) -> ActOnCaseRequest {
        ActOnCaseRequest {
            request_id: Uuid::now_v7().to_string(),
            number: case.number.clone(),
            action: action.into(),
            role: self.role.into(),
            reason: "理由".into(),
            remedy: "可以依法申请行政复议或者提起行政诉讼".into(),
            document: Some(Document {
                number: "文书〔2026〕1号".into(),
                seal_digest: vec![7; 32],
            }),
            result: Some(banqiao_proto::item::v1::CaseResult {
                name: "证照".into(),
                number: "E0001".into(),
                valid_until: String::new(),
            }),
            delivery: Some(Delivery::default()),
            identity_checked: true,
            ..ActOnCaseRequest::default()
        }
    }

    async fn act(&self, case: &Started, actions: &[A]) {
        for action in actions {
            let step = self.step(case, *action);
            let taken = self.cases(case.city).act_on_case(step).await;
            taken.unwrap_or_else(|status| panic!("{action:?}: {status}"));
        }
    }

    /// The rule by which a step is refused.
    async fn refused(&self, case: &Started, action: A) -> String {
        let step = self.step(case, action);
        rule(self.cases(case.city).act_on_case(step).await)
    }

    async fn read(&self, case: &Started) -> ReadCaseResponse {
        let read = ReadCaseRequest {
            number: case.number.clone(),
        };
        let read = self.cases(case.city).read_case(read).await;
        read.unwrap().into_inner()
    }

    async fn verify(&self, request: VerifyMaterialRequest, case: &Started) -> CaseMaterial {
        let request = VerifyMaterialRequest {
            number: case.number.clone(),
            role: self.role.into(),
            ..request
        };
        let verified = self.materials(case.city).verify_material(request).await;
        verified.unwrap().into_inner().material.unwrap()
    }

    /// Uploads a page for each of some materials.
    async fn upload(&self, case: &Started, materials: &[&str]) {
        for material in materials {
            let content = format!("%PDF-1.7 {material}").into_bytes();
            let sha256 = banqiao_ledger::digest::sha256(&content).to_vec();
            let header = MaterialHeader {
                number: case.number.clone(),
                material_id: (*material).to_owned(),
                role: self.role.into(),
                sha256: sha256.clone(),
                size: content.len() as u64,
                content_type: "application/pdf".into(),
            };
            let chunk = MaterialChunk {
                offset: 0,
                content,
                sha256,
            };
            let parts = [Part::Header(header), Part::Chunk(chunk)];
            let parts = parts.map(|part| UploadMaterialRequest { part: Some(part) });
            let sent = tokio_stream::iter(parts);
            let taken = self.materials(case.city).upload_material(sent).await;
            assert!(taken.unwrap().into_inner().complete);
        }
    }
}

fn rule<T: std::fmt::Debug>(answer: Result<Response<T>, Status>) -> String {
    let refused = answer.unwrap_err();
    refused.get_details_error_info().unwrap().reason
}

fn id(exchange: &str) -> Uuid {
    exchange.split('/').next().unwrap().parse().unwrap()
}

/// The ledgers of the city that asked and of the city that answered hold the exchange to its end.
async fn in_both_ledgers(halls: &Halls, [asked, answered]: [usize; 2], exchange: &str) {
    let admin = |city: usize| halls.network.cities[city].admin();
    let opened = admin(asked).holds(id(exchange), Trace::OpenClose).await;
    assert!(!opened.unwrap().is_empty(), "{exchange}");
    wait_until(
        "the exchange at the city that answered",
        PATIENCE,
        || async {
            let records = admin(answered).exchange(id(exchange)).await.unwrap();
            // A read has one entry there.
            matches!(held(&records), Some(Trace::OpenClose | Trace::Close))
        },
    )
    .await
    .unwrap();
}

/// Somebody with a card of Qingdao, and the card.
fn holder(halls: &Halls, index: usize) -> (Applicant, String) {
    let sheet = fs::read_to_string(halls.cards.folder.join("cards.csv")).unwrap();
    let mut lines = sheet.lines();
    let column = |line: &str, name: &str| {
        let place = sheet.lines().next().unwrap().split(',');
        let place = place.into_iter().position(|one| one == name).unwrap();
        line.split(',').nth(place).unwrap().to_owned()
    };
    let line = lines.nth(index + 1).unwrap();
    let applicant = Applicant {
        id_kind: ApplicantIdKind::Citizen.into(),
        citizen_id: column(line, "social_security_number"),
        name: column(line, "name"),
        ..Applicant::default()
    };
    (applicant, column(line, "card_identification_code"))
}

/// Parent and task of a joint case.
async fn task(window: &Desk, case: &Started, holds: impl Fn(&CaseTask) -> bool) -> CaseTask {
    let found = wait_for("the task", PATIENCE, || async {
        let seen = window.read(case).await.case.unwrap();
        seen.tasks.into_iter().find(&holds)
    });
    found.await.unwrap()
}

/// The entry of a history by an action.
fn entry(history: &[CaseEvent], action: A) -> &CaseEvent {
    let mut entries = history.iter();
    entries.find(|event| event.action() == action).unwrap()
}

#[tokio::test]
async fn a_joint_case_runs_through_two_cities_and_what_is_refused_or_lost_is_undone() {
    let halls = Halls::start().await.unwrap();
    let network = &halls.network;
    let window = Desk::window(network, 0);
    let (new, old) = (Desk::department(network, 0), Desk::department(network, 1));
    let (applicant, _) = holder(&halls, 0);
    // How Yantai decides its part, how Qingdao goes on, and how both end.
    for (decides, goes_on, state, decision) in [
        (A::Grant, A::Grant, S::Delivered, Decision::Granted),
        (A::Refuse, A::Refuse, S::Concluded, Decision::Refused),
        (A::Grant, A::Refuse, S::Concluded, Decision::Refused),
    ] {
        let case = window.start(MOVE, QINGDAO, &applicant).await;
        new.act(&case, &[A::Receive]).await;
        // Required materials are there before the case is accepted.
        assert_eq!(new.refused(&case, A::Accept).await, "MATERIALS_MISSING");
        window
            .upload(&case, &["identity-card", "household-register"])
            .await;
        new.act(&case, &[A::Accept, A::BeginReview]).await;
        let opened = task(&window, &case, |task| !task.number.is_empty()).await;
        in_both_ledgers(&halls, [0, 1], &opened.exchange).await;
        assert_eq!(new.refused(&case, A::Grant).await, "TASKS_OPEN");
        let child = Started {
            number: opened.number,
            city: YANTAI,
        };
        old.act(&child, &[A::BeginReview, decides, A::Conclude])
            .await;
        // What is refused is over, and may be undone already.
        let over = |task: &CaseTask| matches!(task.state(), S::Concluded | S::Terminated);
        task(&window, &case, over).await;
        if decides == A::Refuse {
            assert_eq!(new.refused(&case, A::Grant).await, "TASK_FAILED");
        }
        new.act(&case, &[goes_on]).await;
        if decision == Decision::Refused {
            let undone = task(&window, &case, |task| task.compensated).await;
            assert_eq!(undone.state(), S::Terminated);
            let history = old.read(&child).await.history;
            let undone = entry(&history, A::Compensate);
            assert_eq!(
                (undone.city.as_str(), undone.to()),
                (QINGDAO, S::Terminated)
            );
            in_both_ledgers(&halls, [0, 1], &undone.exchange).await;
        }
        new.act(&case, &[A::Conclude]).await;
        if decision == Decision::Granted {
            window.act(&case, &[A::Deliver]).await;
        }
        let ended = window.read(&case).await.case.unwrap();
        assert_eq!((ended.state(), ended.decision()), (state, decision));
    }
}

#[tokio::test]
async fn what_other_cities_know_is_not_asked_for_and_the_exchange_proves_it() {
    let halls = Halls::start().await.unwrap();
    let network = &halls.network;
    let window = Desk::window(network, 0);
    let (new, old) = (Desk::department(network, 0), Desk::department(network, 1));
    let (applicant, card) = holder(&halls, 1);
    let proven = |material: &CaseMaterial, call: &str, city: &str| {
        let last = material.entries.last().unwrap();
        assert!(material.waived, "{material:?}");
        assert_eq!((last.data_call.as_str(), last.city.as_str()), (call, city));
        last.exchange.clone()
    };
    let shown = |material: &str| VerifyMaterialRequest {
        material_id: material.to_owned(),
        card_identification_code: card.clone(),
        card_city: QINGDAO.to_owned(),
        ..VerifyMaterialRequest::default()
    };
    // Yantai decides, and asks Qingdao about Qingdao's card.
    let certificate = window.start(CERTIFICATE, YANTAI, &applicant).await;
    old.act(&certificate, &[A::Receive]).await;
    let stranger = VerifyMaterialRequest {
        card_identification_code: format!("{QINGDAO}00000000000000000000000000"),
        ..shown("identity-card")
    };
    let unknown = window.verify(stranger, &certificate).await;
    assert!(!unknown.waived, "{unknown:?}");
    let known = window.verify(shown("identity-card"), &certificate).await;
    let exchange = proven(&known, "card-holder", QINGDAO);
    in_both_ledgers(&halls, [1, 0], &exchange).await;
    old.act(&certificate, &[A::Accept]).await;

    // Qingdao decides, and asks Yantai about the certificate: not granted, granted and not given yet, given.
    let case = window.start(MOVE, QINGDAO, &applicant).await;
    new.act(&case, &[A::Receive]).await;
    for step in [A::Grant, A::Conclude] {
        let early = window.verify(shown("household-register"), &case).await;
        let last = early.entries.last().unwrap();
        assert_eq!(last.kind(), MaterialEntryKind::Unverified, "{early:?}");
        old.act(&certificate, &[step]).await;
    }
    let register = window.verify(shown("household-register"), &case).await;
    let exchange = proven(&register, "household-certificate", YANTAI);
    in_both_ledgers(&halls, [0, 1], &exchange).await;
    let own = window.verify(shown("identity-card"), &case).await;
    proven(&own, "card-holder", QINGDAO);
    new.act(&case, &[A::Accept]).await;

    // Qingdao decides, and asks the laboratory service of the city of treatment.
    let injury = window.start(INJURY, QINGDAO, &patient()).await;
    new.act(&injury, &[A::Receive]).await;
    let treated = || VerifyMaterialRequest {
        former_city: YANTAI.to_owned(),
        ..shown("medical-record")
    };
    let none = window.verify(treated(), &injury).await;
    assert!(!none.waived, "{none:?}");
    let lis = Desk::of(network, 1, LIS, ActorRole::Applicant);
    let publish = PublishReportRequest {
        report: Some(report(&halls.lab.hospital)),
    };
    let channel = lis.channel(YANTAI, "medical-treatment");
    let published = ReportServiceClient::new(channel)
        .publish_report(publish)
        .await;
    published.unwrap();
    let found = window.verify(treated(), &injury).await;
    let exchange = proven(&found, "laboratory-report", YANTAI);
    in_both_ledgers(&halls, [0, 1], &exchange).await;
}

/// Whom the laboratory's report is about.
fn patient() -> Applicant {
    let patient = report("").patient.unwrap();
    Applicant {
        id_kind: ApplicantIdKind::Citizen.into(),
        citizen_id: patient.citizen_id,
        name: patient.name,
        ..Applicant::default()
    }
}

#[tokio::test]
async fn the_receiving_city_sees_its_case_and_a_repeated_request_is_answered_as_at_first() {
    let halls = Halls::start().await.unwrap();
    let network = &halls.network;
    let (window, yantai) = (Desk::window(network, 2), Desk::window(network, 1));
    let department = Desk::department(network, 0);
    let (applicant, _) = holder(&halls, 2);
    let application = window.application(PASSPORT, QINGDAO, &applicant);
    let mut answers = Vec::new();
    for _ in 0..2 {
        let answer = window.cases(QINGDAO).start_case(application.clone()).await;
        answers.push(Answer::of(answer).unwrap());
    }
    let [first, again] = &answers[..] else {
        panic!("two answers")
    };
    assert_eq!(first.message.standing, again.message.standing);
    assert_eq!(
        (first.message.repeated, again.message.repeated),
        (false, true)
    );
    // Each of the two calls is an exchange; the case is one.
    assert_ne!(first.exchange, again.exchange);
    for answer in &answers {
        let exchange = answer.exchange.unwrap().to_string();
        in_both_ledgers(&halls, [2, 0], &exchange).await;
    }
    let other = StartCaseRequest {
        item_id: CERTIFICATE.into(),
        ..application
    };
    let reused = window.cases(QINGDAO).start_case(other).await.unwrap_err();
    let violations = reused.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations[0].reason, "REQUEST_ID_REUSED");

    let case = Started {
        number: first.message.standing.as_ref().unwrap().number.clone(),
        city: QINGDAO,
    };
    window.act(&case, &[A::Receive, A::HandOver]).await;
    window
        .upload(&case, &["identity-card", "passport-photo"])
        .await;
    let accept = department.step(&case, A::Accept);
    for repeated in [false, true] {
        let answer = department.cases(QINGDAO).act_on_case(accept.clone()).await;
        assert_eq!(answer.unwrap().into_inner().repeated, repeated);
    }
    let seen = window.read(&case).await;
    let (shown, history) = (seen.case.unwrap(), seen.history);
    assert_eq!(
        (shown.state(), shown.receiving_city.as_str(), history.len()),
        (S::Accepted, WEIFANG, 4)
    );
    for handed in &history[..3] {
        assert_eq!(handed.city, WEIFANG);
        in_both_ledgers(&halls, [2, 0], &handed.exchange).await;
    }
    // A city that takes no part does not learn whether there is such a case.
    let request = ReadCaseRequest {
        number: case.number.clone(),
    };
    let stranger = yantai.cases(QINGDAO).read_case(request).await;
    assert_eq!(stranger.as_ref().unwrap_err().code(), Code::NotFound);
    assert!(exchange_of(stranger.as_ref().unwrap_err().metadata()).is_some());
    assert_eq!(rule(stranger), "CASE_UNKNOWN");
}

#[tokio::test]
async fn figures_of_all_cities_are_asked_for_at_once_and_a_city_that_is_down_is_named() {
    let mut halls = Halls::start().await.unwrap();
    let (applicant, _) = holder(&halls, 3);
    for (city, code) in [(0, QINGDAO), (1, YANTAI), (2, WEIFANG)] {
        let window = Desk::window(&halls.network, city);
        window.start(CERTIFICATE, code, &applicant).await;
    }
    let day = civil_date(Clock::system().now_us()).to_string();
    let figures = ReadFiguresRequest {
        from: day[..7].to_owned(),
        to: day[..7].to_owned(),
    };
    let head = || {
        let method = format!("/{STATISTICS}/ReadFigures");
        Head::new(&method, "*").set("banqiao-purpose", "statistics")
    };
    let caller = halls.network.cities[0].caller(WINDOW).await.unwrap();
    // A gateway that does not know another city's methods yet asks for them.
    let whole = wait_for("figures of every city", PATIENCE, || async {
        let answer = caller.unary(&head(), &figures).await.unwrap();
        (answer.code() == Some(0)).then_some(answer)
    });
    let whole = whole.await.unwrap();
    let cities = |answer: &banqiao_tests::wire::Answer| {
        let rows = answer.messages.iter();
        let rows = rows.map(|row| ReadFiguresResponse::decode(row.bytes.clone()).unwrap());
        let counted = rows.filter(|row| row.figures.as_ref().unwrap().submitted == 1);
        let mut cities: Vec<_> = counted.map(|row| row.city).collect();
        cities.sort_unstable();
        cities
    };
    assert_eq!(cities(&whole), [QINGDAO, YANTAI, WEIFANG]);

    halls.network.cities[2].gateway_mut().kill().unwrap();
    let partial = caller.unary(&head(), &figures).await.unwrap();
    assert_eq!(partial.reason(), Some(Reason::PartialResult));
    assert_eq!(cities(&partial), [QINGDAO, YANTAI], "what there is, comes");
    let told = outcomes(&partial);
    for (city, result) in [
        (QINGDAO, CityResult::Answered),
        (YANTAI, CityResult::Answered),
        (WEIFANG, CityResult::Unreachable),
    ] {
        assert_eq!(told[city].result(), result, "{city}");
    }
}
