//! The program behind its gateway: a process, TLS, the gateway's metadata.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use banqiao_directory::Clock;
use banqiao_item::CaseNumber;
use banqiao_kit::{civil_date, document::DocumentDigest};
use banqiao_proto::item::v1::{
    ActOnRectificationRequest, ActorRole, CaseAction as A, CaseState, ListItemsRequest,
    ListRatingsRequest, MaterialChunk, MaterialHeader, ReadCaseRequest, ReadFiguresRequest,
    ReadItemRequest, ReadRatingRequest, ReadReportRequest, RectificationAction, ReportFormat,
    ReportLanguage, Satisfaction, SearchCasesRequest, SearchRectificationsRequest,
    StartCaseRequest, UploadMaterialRequest, WatchCaseRequest, WatchDepartmentRequest,
    WatchRectificationsRequest, case_service_client::CaseServiceClient,
    catalogue_service_client::CatalogueServiceClient,
    material_service_client::MaterialServiceClient, rating_service_client::RatingServiceClient,
    statistics_service_client::StatisticsServiceClient, upload_material_request::Part,
};
use prost::Message;
use tonic::{Code, Request, Status, transport::Channel};
use tonic_types::StatusExt;

use crate::{
    certificates::Certificates,
    materials::scan,
    rating::{hides_everybody, rating},
    scene::{PASSPORT, QINGDAO, WEIHAI, applicant, config_text, full, start_request},
};

pub(crate) const WINDOW: &str = "spiffe://weihai.jiaodong/hall/window";
const HALL: &str = "spiffe://qingdao.jiaodong/hall/window";
pub(crate) const DEPARTMENT: &str = "spiffe://qingdao.jiaodong/psb/case";
pub(crate) const SUPERVISOR: &str = "spiffe://qingdao.jiaodong/supervision/case";
const STRANGER: &str = "spiffe://linyi.jiaodong/hall/window";

/// A service in a process of its own, with everything that it writes.
pub(crate) struct Process {
    child: Child,
    written: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Process {
    /// Starts and waits until it serves; gives its address too.
    pub(crate) fn serve(folder: &Path) -> (Self, SocketAddr) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_banqiao-item"))
            .args(["serve", "--config", "item.toml"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let written = Arc::new(Mutex::new(String::new()));
        let (serving, address) = mpsc::channel();
        let log = Arc::clone(&written);
        let reader = thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                if line.contains(" serving") || line.contains("serving ") {
                    let after = line.split("address=").nth(1);
                    if let Some(address) = after.and_then(|rest| rest.split_whitespace().next()) {
                        let _ = serving.send(address.parse().unwrap());
                    }
                }
                let mut log = log.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let address = address.recv_timeout(Duration::from_secs(30));
        let address = address.unwrap_or_else(|_| panic!("{}", written.lock().unwrap()));
        (
            Self {
                child,
                written,
                reader,
            },
            address,
        )
    }

    /// Ends it at once, as a power failure would: SIGKILL.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.reader.join().unwrap();
    }

    /// Sends SIGTERM and gives the exit status and the log.
    fn stop(mut self) -> (ExitStatus, String) {
        let process = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args(["-TERM", &process])
                .status()
                .unwrap()
                .success()
        );
        let status = self.child.wait().unwrap();
        self.reader.join().unwrap();
        let log = self.written.lock().unwrap().clone();
        (status, log)
    }
}

/// A request with the context that a gateway sets.
pub(crate) fn by<T>(message: T, client: &str) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in [
        ("banqiao-client", client.to_owned()),
        ("banqiao-purpose", "case-handling".to_owned()),
        ("banqiao-basis", "statutory:licensing-32".to_owned()),
        ("banqiao-exchange-id", format!("{}/1", uuid::Uuid::now_v7())),
    ] {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    request
}

fn reason<T: std::fmt::Debug>(refused: Result<T, Status>) -> (Code, String) {
    let status = refused.unwrap_err();
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.domain, "banqiao.item");
    (status.code(), info.reason)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_handles_cases_behind_its_gateway_and_writes_nobody_into_its_log() {
    let certificates = Certificates::of_qingdao();
    let folder = certificates.folder.path().to_owned();
    let config = config_text("sqlite://item.db").replace("\"warn\"", "\"debug\"");
    fs::write(folder.join("item.toml"), config).unwrap();
    let (process, address) = Process::serve(&folder);
    let channel = certificates.gateway(address);
    the_catalogue_is_served(channel.clone()).await;
    let mut cases = CaseServiceClient::new(channel.clone());
    let number = a_case_is_accepted(channel.clone()).await;
    ratings_are_served(channel.clone(), number).await;
    figures_are_served(channel).await;
    whoever_may_not_is_told_why(&mut cases, number).await;
    let watch = WatchCaseRequest {
        number: number.to_string(),
        cursor: "0".into(),
    };
    let watch = cases.watch_case(by(watch, WINDOW)).await.unwrap();
    let mut watch = watch.into_inner();
    for action in [A::Submit, A::Receive, A::HandOver, A::Accept] {
        let event = watch.message().await.unwrap().unwrap().event.unwrap();
        assert_eq!(event.action(), action);
        assert!(!event.exchange.is_empty());
    }
    let stopped = tokio::task::spawn_blocking(move || process.stop());
    let ended = watch.message().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable, "another replica goes on");
    drop((watch, cases));
    let (status, log) = stopped.await.unwrap();
    assert!(status.success() && log.contains("stopped"), "{log}");
    let known = applicant();
    for secret in [&known.citizen_id[..17], &known.name, &known.phone] {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

async fn the_catalogue_is_served(channel: Channel) {
    let mut catalogue = CatalogueServiceClient::new(channel);
    let list = ListItemsRequest::default();
    let list = catalogue
        .list_items(by(list, WINDOW))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (list.label.as_str(), list.items.len()),
        ("示例目录, 非官方82项", 82)
    );
    let read = |on: &str| ReadItemRequest {
        id: PASSPORT.into(),
        on: on.into(),
    };
    let item = catalogue
        .read_item(by(read(""), WINDOW))
        .await
        .unwrap()
        .into_inner();
    let item = item.item.unwrap();
    assert_eq!(
        (item.fee_fen, item.legal_limit.unwrap().workdays),
        (12_000, 15)
    );
    let before = catalogue.read_item(by(read("2025-12-31"), WINDOW)).await;
    assert_eq!(
        reason(before),
        (Code::InvalidArgument, "FIELD_INVALID".into())
    );
}

/// Uploads a document for a material in one chunk.
async fn uploaded(channel: Channel, number: CaseNumber, material: &str) {
    let content = scan(1_000);
    let sha256 = DocumentDigest::of(&content).as_bytes().to_vec();
    let header = MaterialHeader {
        number: number.to_string(),
        material_id: material.to_owned(),
        role: ActorRole::Window.into(),
        sha256: sha256.clone(),
        size: content.len() as u64,
        content_type: "application/pdf".into(),
    };
    let chunk = MaterialChunk {
        offset: 0,
        content,
        sha256,
    };
    let sent = [Part::Header(header), Part::Chunk(chunk)]
        .map(|part| UploadMaterialRequest { part: Some(part) });
    let sent = by(futures_util::stream::iter(sent), WINDOW);
    let taken = MaterialServiceClient::new(channel)
        .upload_material(sent)
        .await;
    assert!(taken.unwrap().into_inner().complete);
}

async fn a_case_is_accepted(channel: Channel) -> CaseNumber {
    let cases = &mut CaseServiceClient::new(channel.clone());
    let start = start_request(PASSPORT, QINGDAO, WEIHAI);
    let started = cases.start_case(by(start.clone(), WINDOW)).await.unwrap();
    let standing = started.into_inner().standing.unwrap();
    let again = cases
        .start_case(by(start, WINDOW))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (again.standing.as_ref(), again.repeated),
        (Some(&standing), true)
    );
    let number: CaseNumber = standing.number.parse().unwrap();
    for action in [A::Receive, A::HandOver] {
        let step = full(number, action, ActorRole::Window);
        cases.act_on_case(by(step, WINDOW)).await.unwrap();
    }
    let accept = full(number, A::Accept, ActorRole::Department);
    let refused = cases.act_on_case(by(accept.clone(), DEPARTMENT)).await;
    let message = refused.as_ref().unwrap_err().message().to_owned();
    let expected = (Code::FailedPrecondition, "MATERIALS_MISSING".into());
    assert_eq!(reason(refused), expected);
    for material in ["identity-card", "passport-photo"] {
        assert!(message.contains(material), "{message}");
        uploaded(channel.clone(), number, material).await;
    }
    for repeated in [false, true] {
        let accepted = cases.act_on_case(by(accept.clone(), DEPARTMENT)).await;
        assert_eq!(accepted.unwrap().into_inner().repeated, repeated);
    }
    let read = ReadCaseRequest {
        number: number.to_string(),
    };
    let read = cases
        .read_case(by(read, WINDOW))
        .await
        .unwrap()
        .into_inner();
    let case = read.case.unwrap();
    assert_eq!(
        (case.state(), case.limits.len(), read.history.len()),
        (CaseState::Accepted, 2, 4)
    );
    let search = SearchCasesRequest {
        applicant: Some(applicant()),
        ..SearchCasesRequest::default()
    };
    let found = cases
        .search_cases(by(search, WINDOW))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(found.cases[0].number, number.to_string());
    number
}

async fn ratings_are_served(channel: Channel, number: CaseNumber) {
    let mut ratings = RatingServiceClient::new(channel);
    let request = rating(number, 2, Satisfaction::Dissatisfied);
    let rated = ratings.rate_case(by(request, WINDOW)).await.unwrap();
    let id = rated.into_inner().id;
    let list = ListRatingsRequest {
        role: ActorRole::Window.into(),
        ..ListRatingsRequest::default()
    };
    let list = ratings.list_ratings(by(list, WINDOW)).await.unwrap();
    let list = list.into_inner();
    assert_eq!(list.ratings[0].id, id);
    hides_everybody(number, &list.encode_to_vec());
    let act = ActOnRectificationRequest {
        request_id: uuid::Uuid::now_v7().to_string(),
        id: id.clone(),
        action: RectificationAction::Report.into(),
        role: ActorRole::Window.into(),
        text: "已增开窗口".into(),
        version: 1,
    };
    let acted = ratings.act_on_rectification(by(act, WINDOW)).await.unwrap();
    assert_eq!(acted.into_inner().version, 2);
    let read = || ReadRatingRequest { id: id.clone() };
    let refused = ratings.read_rating(by(read(), HALL)).await;
    let denied = Code::PermissionDenied;
    assert_eq!(reason(refused), (denied, "ROLE_NOT_GIVEN".into()));
    let read = ratings.read_rating(by(read(), SUPERVISOR)).await.unwrap();
    assert_eq!(read.into_inner().rater.unwrap().number, number.to_string());
    let search = SearchRectificationsRequest {
        role: ActorRole::Supervisor.into(),
        ..SearchRectificationsRequest::default()
    };
    let found = ratings.search_rectifications(by(search, SUPERVISOR)).await;
    let found = found.unwrap().into_inner();
    assert_eq!(found.rectifications.len(), 1);
    hides_everybody(number, &found.encode_to_vec());
    let watch = || WatchRectificationsRequest { cursor: "0".into() };
    let refused = ratings
        .watch_rectifications(by(watch(), WINDOW))
        .await
        .map(drop);
    assert_eq!(reason(refused), (denied, "SUPERVISORS_ONLY".into()));
    let steps = ratings.watch_rectifications(by(watch(), SUPERVISOR)).await;
    let mut steps = steps.unwrap().into_inner();
    for action in [RectificationAction::Open, RectificationAction::Report] {
        let step = steps.message().await.unwrap().unwrap();
        assert_eq!(step.event.as_ref().unwrap().action(), action);
        hides_everybody(number, &step.encode_to_vec());
    }
}

async fn figures_are_served(channel: Channel) {
    let mut statistics = StatisticsServiceClient::new(channel);
    let today = civil_date(Clock::system().now_us()).to_string();
    let month = &today[..7];
    let figures = ReadFiguresRequest {
        from: month.into(),
        to: month.into(),
    };
    let figures = statistics.read_figures(by(figures, WINDOW)).await.unwrap();
    let row = figures.into_inner().message().await.unwrap().unwrap();
    assert_eq!(
        (row.city.as_str(), row.applied_city.as_str()),
        (QINGDAO, WEIHAI)
    );
    let counted = row.figures.unwrap();
    assert_eq!(
        (counted.submitted, counted.accepted, counted.rectifications),
        (1, 1, 1)
    );
    assert_eq!(counted.ratings, [0, 0, 0, 1, 0]);
    let report = ReadReportRequest {
        from: month.into(),
        to: month.into(),
        format: ReportFormat::Html.into(),
        language: ReportLanguage::English.into(),
    };
    let mut report = statistics
        .read_report(by(report, WINDOW))
        .await
        .unwrap()
        .into_inner();
    let first = report.message().await.unwrap().unwrap();
    assert_eq!(first.content_type, "text/html; charset=utf-8");
    assert_eq!(first.file_name, format!("items-{month}-{month}.html"));
    let mut page = first.content;
    while let Some(piece) = report.message().await.unwrap() {
        page.extend(piece.content);
    }
    let page = String::from_utf8(page).unwrap();
    assert!(page.ends_with("</html>\n") && page.contains("Weihai"));
    let wrong = ReadReportRequest {
        from: "2026-02".into(),
        to: "2026-01".into(),
        ..ReadReportRequest::default()
    };
    let refused = statistics.read_report(by(wrong, WINDOW)).await.map(drop);
    let faults = refused.unwrap_err().get_details_bad_request().unwrap();
    let fields: Vec<_> = (faults.field_violations.iter())
        .map(|fault| fault.field.as_str())
        .collect();
    assert_eq!(fields, ["to", "format"]);
}

async fn whoever_may_not_is_told_why(cases: &mut CaseServiceClient<Channel>, number: CaseNumber) {
    let review = || full(number, A::BeginReview, ActorRole::Department);
    let denied = Code::PermissionDenied;
    let refused = cases.act_on_case(by(review(), HALL)).await;
    assert_eq!(reason(refused), (denied, "ROLE_NOT_GIVEN".into()));
    let refused = cases.act_on_case(by(review(), WINDOW)).await;
    assert_eq!(reason(refused), (denied, "PLACE_NOT_ALLOWED".into()));
    let refused = cases.act_on_case(by(review(), STRANGER)).await;
    assert_eq!(reason(refused), (denied, "CITY_UNKNOWN".into()));
    let watch = WatchDepartmentRequest::default();
    let refused = cases.watch_department(by(watch, WINDOW)).await.map(drop);
    assert_eq!(reason(refused), (denied, "HOME_ONLY".into()));
    let again = full(number, A::Accept, ActorRole::Department);
    let refused = cases.act_on_case(by(again, DEPARTMENT)).await;
    let expected = (Code::FailedPrecondition, "TRANSITION_NOT_ALLOWED".into());
    assert_eq!(reason(refused), expected);
    let read = ReadCaseRequest {
        number: "3702022026112300000001A".into(),
    };
    let refused = cases.read_case(by(read, DEPARTMENT)).await;
    assert_eq!(reason(refused), (Code::NotFound, "CASE_UNKNOWN".into()));
    let empty = cases
        .start_case(by(StartCaseRequest::default(), WINDOW))
        .await;
    let faults = empty
        .unwrap_err()
        .get_details_bad_request()
        .unwrap()
        .field_violations;
    let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
    assert_eq!(
        fields,
        [
            "request_id",
            "item_id",
            "division",
            "role",
            "applicant",
            "channel"
        ]
    );
}
