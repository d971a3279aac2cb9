//! Referrals between two cities: steps, clocks, messages and documents.

use std::sync::atomic::{AtomicUsize, Ordering};

use banqiao_kit::{
    CallError, CallRefusal, Caller,
    document::{Chunks, DOCUMENT_CHUNK, DocumentChunk, DocumentDigest, DocumentSource},
};
use banqiao_lab::{
    ReferralAnswer, ReferralError, ReferralWatches, Referrals, Reports, header, parse_act,
    parse_create, parse_delivery,
};
use banqiao_proto::lab::v1::{
    ActOnReferralRequest, CreateReferralRequest, DeliverReferralRequest, ReadReferralResponse,
    ReferralAcceptance, ReferralContent, ReferralDiagnosis, ReferralDirection, ReferralDocument,
    ReferralDocumentKind, ReferralFeedback, ReferralMark, ReferralMedication, ReferralReason,
    ReferralStatus as Status, ReferralUrgency, UploadHeader, act_on_referral_request::Step,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use prost::Message;
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    publishing::execute,
    scene::{
        BRISK, HOUR, NOON, Scene, caller, hospital, institutions, neighbour, of, qingdao, time,
        yantai,
    },
};

const REFERRING: &str = "spiffe://qingdao.jiaodong/hospital-2/his";
const RECEIVING: &str = "spiffe://yantai.jiaodong/hospital-1/his";
const QINGDAO_SERVICE: &str = "spiffe://qingdao.jiaodong/health/lab";
const YANTAI_SERVICE: &str = "spiffe://yantai.jiaodong/health/lab";
const MARK: ReferralMark = ReferralMark {};

/// The services of both cities, Qingdao's on the store under test.
pub(crate) struct Cities {
    _folder: TempDir,
    scene: Scene,
    qingdao: Referrals,
    yantai: Referrals,
    neighbour: Reports,
}

impl Cities {
    async fn open(scene: Scene) -> Self {
        let folder = TempDir::new().unwrap();
        let neighbour = neighbour(folder.path(), &scene.clock).await;
        Self {
            qingdao: Referrals::new(&scene.reports),
            yantai: Referrals::new(&neighbour),
            neighbour,
            scene,
            _folder: folder,
        }
    }

    /// Carries every message that waits, as the couriers do.
    async fn carry(&self) {
        let qingdao = (&self.scene.reports, &self.qingdao, QINGDAO_SERVICE);
        let yantai = (&self.neighbour, &self.yantai, YANTAI_SERVICE);
        for ((reports, sender, client), receiver) in [(qingdao, yantai.1), (yantai, qingdao.1)] {
            while let Some(parcel) = reports.store().outbox().next().await.unwrap().pop() {
                let request = DeliverReferralRequest::decode(&*parcel.payload).unwrap();
                let service = caller(client);
                let outcome = match deliver(receiver, &request, &service).await {
                    Ok(answer) => Ok(answer.status),
                    Err(error) => Err(error.to_string()),
                };
                let exchange = Some(service.exchange);
                sender.carried(&parcel, exchange, &outcome).await.unwrap();
            }
        }
    }

    async fn status(&self, id: &str) -> (Status, Status) {
        let qingdao = read(&self.qingdao, id, REFERRING).await;
        let yantai = read(&self.yantai, id, RECEIVING).await;
        let status = |read: ReadReferralResponse| read.referral.unwrap().status();
        (status(qingdao), status(yantai))
    }

    /// A referral that lies in Yantai.
    async fn sent(&self) -> String {
        let id = draft(&self.qingdao, content()).await;
        act(&self.qingdao, &id, Step::Send(MARK), REFERRING)
            .await
            .unwrap();
        self.carry().await;
        id
    }
}

async fn deliver(
    referrals: &Referrals,
    request: &DeliverReferralRequest,
    caller: &Caller,
) -> Result<ReferralAnswer, CallError> {
    let asked = parse_delivery(request, &institutions(), referrals.clock().now_us());
    let asked = asked.map_err(CallError::CallerInvalid)?;
    Ok(referrals.act(&asked, caller).await?)
}

fn content() -> ReferralContent {
    ReferralContent {
        direction: ReferralDirection::Up.into(),
        citizen_id: "370202199001010007".into(),
        name: "测试子安".into(),
        from_institution: hospital(qingdao(), 1),
        to_institution: hospital(yantai(), 0),
        department: "心内科".into(),
        diagnoses: vec![diagnosis()],
        reason: "需行冠状动脉造影".into(),
        urgency: ReferralUrgency::Urgent.into(),
        consent_reference: "consent-2026-17".into(),
        ..ReferralContent::default()
    }
}

fn diagnosis() -> ReferralDiagnosis {
    ReferralDiagnosis {
        icd10: "I20.000".into(),
        text: "不稳定性心绞痛".into(),
    }
}

fn slot(until_us: i64) -> Step {
    Step::Accept(ReferralAcceptance {
        department: "心内科".into(),
        slot: "12床".into(),
        hold_until: time(until_us),
    })
}

fn feedback() -> Step {
    Step::FeedBack(ReferralFeedback {
        discharged_on: "2026-11-23".into(),
        diagnoses: vec![diagnosis()],
        summary: "支架植入术后, 病情平稳".into(),
        advice: "双联抗血小板治疗一年".into(),
        documents: Vec::new(),
    })
}

fn because(text: &str) -> ReferralReason {
    ReferralReason { text: text.into() }
}

fn create_request(content: ReferralContent) -> CreateReferralRequest {
    CreateReferralRequest {
        request_id: Uuid::now_v7().to_string(),
        content: Some(content),
    }
}

async fn draft(referrals: &Referrals, content: ReferralContent) -> String {
    let request = create_request(content);
    let asked = parse_create(&request, &institutions(), NOON).unwrap();
    let answer = referrals.act(&asked, &caller(REFERRING)).await.unwrap();
    assert_eq!(answer.status, Status::Draft);
    request.request_id
}

async fn act(
    referrals: &Referrals,
    id: &str,
    step: Step,
    client: &str,
) -> Result<ReferralAnswer, ReferralError> {
    let request = ActOnReferralRequest {
        request_id: Uuid::now_v7().to_string(),
        referral_id: id.into(),
        step: Some(step),
    };
    let now_us = referrals.clock().now_us();
    let asked = parse_act(&request, &institutions(), now_us).unwrap();
    referrals.act(&asked, &caller(client)).await
}

async fn read(referrals: &Referrals, id: &str, client: &str) -> ReadReferralResponse {
    let id = id.parse().unwrap();
    referrals.read(id, &caller(client)).await.unwrap()
}

fn code(error: impl Into<CallError>) -> &'static str {
    match error.into() {
        CallError::CallerRefused { refusal, .. } => refusal.rule.code,
        CallError::CallerInvalid(violations) => violations[0].rule.code,
        other => panic!("{other:?}"),
    }
}

/// A scan of some megabytes that differs everywhere.
fn scan(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let bytes = (0..length).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    b"%PDF-".iter().copied().chain(bytes).collect()
}

fn document(content: &[u8], kind: ReferralDocumentKind) -> ReferralDocument {
    ReferralDocument {
        sha256: DocumentDigest::of(content).as_bytes().to_vec(),
        size: content.len() as u64,
        content_type: "application/pdf".into(),
        kind: kind.into(),
        title: "病历".into(),
        institution: String::new(),
    }
}

fn parts(content: &[u8]) -> Vec<Result<DocumentChunk, CallError>> {
    let parts = content.chunks(DOCUMENT_CHUNK).enumerate();
    parts
        .map(|(place, part)| {
            let offset = (place * DOCUMENT_CHUNK) as u64;
            Ok(DocumentChunk::new(offset, part.to_vec()))
        })
        .collect()
}

async fn upload(
    referrals: &Referrals,
    id: &str,
    document: &ReferralDocument,
    parts: Vec<Result<DocumentChunk, CallError>>,
    client: &str,
) -> Result<(u64, bool), CallError> {
    let upload = header(Some(&UploadHeader {
        referral_id: id.into(),
        document: Some(document.clone()),
    }))?;
    let parts = stream::iter(parts);
    let progress = referrals.upload(&upload, parts, &caller(client)).await?;
    let found = referrals.uploaded(&upload, &caller(client)).await?;
    assert_eq!(found, progress);
    Ok((progress.received, progress.complete))
}

/// The other city's service, which flips a byte of its second chunk and breaks off after some chunks, the first time.
struct Broken<'a> {
    referrals: &'a Referrals,
    id: &'a str,
    sha256: &'a [u8],
    client: &'a str,
    opened: AtomicUsize,
}

impl DocumentSource for Broken<'_> {
    async fn open(&self, offset: u64) -> Result<Chunks, CallRefusal> {
        let (id, client) = (self.id.parse().unwrap(), caller(self.client));
        let found = self.referrals.document(id, self.sha256, &client);
        let found = found.await.unwrap();
        let chunks = self.referrals.documents().read(found, offset).unwrap();
        let mut chunks: Vec<_> = chunks.try_collect().await.unwrap();
        let mut last = None;
        match self.opened.fetch_add(1, Ordering::Relaxed) {
            0 => {
                chunks.truncate(3);
                last = Some(Err(tonic::Status::unavailable("the connection broke")));
            }
            1 => chunks[0].content[77] ^= 1,
            _ => {}
        }
        Ok(stream::iter(chunks.into_iter().map(Ok).chain(last)).boxed())
    }
}

/// Gets what a city awaits.
async fn get(at: &Referrals, from: &Referrals, client: &str) -> usize {
    let pulls = at.store().pulls(16).await.unwrap();
    for pull in &pulls {
        let id = pull.referral.to_string();
        let source = Broken {
            referrals: from,
            id: &id,
            sha256: pull.document.digest().as_bytes(),
            client,
            opened: AtomicUsize::new(0),
        };
        // The second connection brings a byte that changed; the third one all the rest.
        at.get(pull, &source).await.unwrap();
        assert_eq!(source.opened.into_inner(), 3);
    }
    pulls.len()
}

pub(crate) async fn a_referral_goes_to_another_city_with_its_documents_and_comes_back(
    scene: Scene,
) {
    let cities = Cities::open(scene).await;
    let (qingdao, yantai) = (&cities.qingdao, &cities.yantai);
    let id = draft(qingdao, content()).await;
    // 24 MiB, interrupted after 5 chunks, with a byte that changed on the way, and resumed.
    let scanned = scan(24 * 1024 * 1024);
    let summary = document(&scanned, ReferralDocumentKind::Summary);
    let mut first: Vec<_> = parts(&scanned).into_iter().take(6).collect();
    first[5].as_mut().unwrap().content[1_000] ^= 1;
    let flipped = upload(qingdao, &id, &summary, first, REFERRING).await;
    assert_eq!(code(flipped.unwrap_err()), "DOCUMENT_CHUNK_DIGEST");
    let rest: Vec<_> = parts(&scanned).into_iter().skip(5).collect();
    let whole = upload(qingdao, &id, &summary, rest, REFERRING)
        .await
        .unwrap();
    assert_eq!(whole, (scanned.len() as u64, true));
    act(qingdao, &id, Step::Send(MARK), REFERRING)
        .await
        .unwrap();
    cities.carry().await;
    assert_eq!(cities.status(&id).await, (Status::Sent, Status::Sent));

    assert_eq!(
        read(yantai, &id, RECEIVING).await.awaited,
        std::slice::from_ref(&summary.sha256)
    );
    assert_eq!(get(yantai, qingdao, YANTAI_SERVICE).await, 1);
    assert!(read(yantai, &id, RECEIVING).await.awaited.is_empty());
    let there = yantai
        .document(id.parse().unwrap(), &summary.sha256, &caller(RECEIVING))
        .await
        .unwrap();
    let there: Vec<_> = yantai
        .documents()
        .read(there, 0)
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    let there: Vec<u8> = there.into_iter().flat_map(|chunk| chunk.content).collect();
    assert!(there == scanned);

    for step in [slot(NOON + HOUR), Step::Arrive(MARK), Step::BeginCare(MARK)] {
        act(yantai, &id, step, RECEIVING).await.unwrap();
    }
    let discharge = scan(2_000);
    let report = document(&discharge, ReferralDocumentKind::Discharge);
    upload(yantai, &id, &report, parts(&discharge), RECEIVING)
        .await
        .unwrap();
    act(yantai, &id, feedback(), RECEIVING).await.unwrap();
    cities.carry().await;
    let back = read(qingdao, &id, REFERRING).await;
    assert_eq!(back.awaited, std::slice::from_ref(&report.sha256));
    let referral = back.referral.unwrap();
    assert_eq!(referral.status(), Status::FedBack);
    assert_eq!(referral.acceptance.unwrap().slot, "12床");
    assert_eq!(referral.feedback.unwrap().documents.len(), 1);
    let pull = &qingdao.store().pulls(16).await.unwrap()[0];
    let source = Broken {
        referrals: yantai,
        id: &id,
        sha256: &report.sha256,
        client: QINGDAO_SERVICE,
        opened: AtomicUsize::new(2),
    };
    qingdao.get(pull, &source).await.unwrap();
    act(qingdao, &id, Step::Close(MARK), REFERRING)
        .await
        .unwrap();
    cities.carry().await;
    assert_eq!(cities.status(&id).await, (Status::Closed, Status::Closed));
    let events = read(qingdao, &id, REFERRING).await.events;
    let events: Vec<_> = events.iter().map(|event| event.event.as_str()).collect();
    assert_eq!(
        events,
        [
            "created",
            "document-attached",
            "sent",
            "letter-delivered",
            "accepted",
            "arrived",
            "care-begun",
            "fed-back",
            "document-arrived",
            "closed",
            "closure-delivered"
        ]
    );
}

pub(crate) async fn each_hospital_takes_its_own_steps_and_strangers_see_nothing(scene: Scene) {
    let cities = Cities::open(scene).await;
    let (qingdao, yantai) = (&cities.qingdao, &cities.yantai);
    let id = cities.sent().await;
    let own = act(qingdao, &id, slot(NOON + HOUR), REFERRING).await;
    assert_eq!(code(own.unwrap_err()), "REFERRAL_PARTY");
    let cancel = Step::Cancel(because("家属放弃"));
    let other = act(yantai, &id, cancel.clone(), RECEIVING).await;
    assert_eq!(code(other.unwrap_err()), "REFERRAL_PARTY");
    let early = act(yantai, &id, Step::Arrive(MARK), RECEIVING).await;
    assert_eq!(code(early.unwrap_err()), "REFERRAL_NOT_IN_STATUS");
    let third = "spiffe://qingdao.jiaodong/hospital-1/his";
    let stranger = act(qingdao, &id, cancel, third).await;
    assert_eq!(code(stranger.unwrap_err()), "REFERRAL_UNKNOWN");
    let number: Uuid = id.parse().unwrap();
    assert!(qingdao.read(number, &caller(third)).await.is_err());
    let weihai = caller("spiffe://weihai.jiaodong/health/lab");
    let refused = qingdao.document(number, &[0; 32], &weihai).await;
    assert_eq!(code(refused.unwrap_err()), "REFERRAL_UNKNOWN");
    let none = qingdao.document(number, &[0; 32], &caller(REFERRING)).await;
    assert_eq!(code(none.unwrap_err()), "DOCUMENT_UNKNOWN");
    // A city does not speak for another one.
    let forged = DeliverReferralRequest {
        request_id: Uuid::now_v7().to_string(),
        referral_id: id.clone(),
        from_city: "370600".into(),
        step: Some(banqiao_lab::Message::Arrive(MARK)),
    };
    let refused = deliver(qingdao, &forged, &weihai).await;
    assert_eq!(code(refused.unwrap_err()), "REFERRAL_PARTY");
    let late = document(b"%PDF-", ReferralDocumentKind::Other);
    let refused = upload(qingdao, &id, &late, parts(b"%PDF-"), REFERRING).await;
    assert_eq!(code(refused.unwrap_err()), "REFERRAL_ATTACHMENT");
}

pub(crate) async fn a_step_is_taken_once_and_two_at_once_cannot_both_win(scene: Scene) {
    let cities = Cities::open(scene).await;
    let request = create_request(content());
    let asked = parse_create(&request, &institutions(), NOON).unwrap();
    let first = cities
        .qingdao
        .act(&asked, &caller(REFERRING))
        .await
        .unwrap();
    let again = cities
        .qingdao
        .act(&asked, &caller(REFERRING))
        .await
        .unwrap();
    assert_eq!((again.seq, again.repeated), (first.seq, true));
    let mut other = request.clone();
    other.content.as_mut().unwrap().reason = "其他".into();
    let asked = parse_create(&other, &institutions(), NOON).unwrap();
    let reused = cities.qingdao.act(&asked, &caller(REFERRING)).await;
    assert_eq!(code(reused.unwrap_err()), "REFERRAL_REQUEST_ID_REUSED");

    // Within one city nothing is sent, and both hospitals act on one record: on the store under test.
    let within = ReferralContent {
        to_institution: hospital(qingdao(), 0),
        ..content()
    };
    let receiving = "spiffe://qingdao.jiaodong/hospital-1/his";
    let qingdao = &cities.qingdao;
    for _ in 0..5 {
        let id = draft(qingdao, within.clone()).await;
        act(qingdao, &id, Step::Send(MARK), REFERRING)
            .await
            .unwrap();
        let (accepted, rejected, cancelled) = tokio::join!(
            act(qingdao, &id, slot(NOON + HOUR), receiving),
            act(qingdao, &id, Step::Reject(because("无床位")), receiving),
            act(qingdao, &id, Step::Cancel(because("家属放弃")), REFERRING),
        );
        // An accepted one can still be refused or cancelled, and then neither of the other two follows.
        let ends = u8::from(rejected.is_ok()) + u8::from(cancelled.is_ok());
        assert_eq!(ends, 1, "{accepted:?} {rejected:?} {cancelled:?}");
        let history = read(qingdao, &id, REFERRING).await.events;
        let taken = 2 + usize::from(accepted.is_ok()) + usize::from(ends);
        assert_eq!(history.len(), taken);
        for pair in history.windows(2) {
            assert_eq!(pair[0].to, pair[1].from);
        }
    }
    assert!(
        cities
            .scene
            .reports
            .store()
            .outbox()
            .next()
            .await
            .unwrap()
            .is_empty()
    );
}

pub(crate) async fn what_nobody_answers_and_slots_to_which_nobody_comes_run_out(scene: Scene) {
    let cities = Cities::open(scene).await;
    let (qingdao, yantai) = (&cities.qingdao, &cities.yantai);
    let (unanswered, held) = (cities.sent().await, cities.sent().await);
    act(yantai, &held, slot(NOON + 2 * HOUR), RECEIVING)
        .await
        .unwrap();
    cities.carry().await;
    assert_eq!(
        cities.status(&held).await,
        (Status::Accepted, Status::Accepted)
    );
    cities.scene.clock.advance_us(2 * HOUR);
    // Too late, even before the clock was looked at: the slot may be somebody else's.
    let late = act(yantai, &held, Step::Arrive(MARK), RECEIVING).await;
    assert_eq!(code(late.unwrap_err()), "REFERRAL_NOT_IN_STATUS");
    assert_eq!(yantai.run_clock().await.unwrap(), 0);
    cities.scene.clock.advance_us(22 * HOUR);
    // The referring city decides about nothing here.
    assert_eq!(qingdao.run_clock().await.unwrap(), 0);
    assert_eq!(yantai.run_clock().await.unwrap(), 1);
    cities.carry().await;
    for id in [&held, &unanswered] {
        assert_eq!(cities.status(id).await, (Status::Expired, Status::Expired));
    }
}

pub(crate) async fn a_slot_that_is_held_on_the_store_under_test_runs_out(scene: Scene) {
    let receiving = "spiffe://qingdao.jiaodong/hospital-1/his";
    let within = ReferralContent {
        to_institution: hospital(qingdao(), 0),
        urgency: ReferralUrgency::Emergency.into(),
        ..content()
    };
    let qingdao = Referrals::new(&scene.reports);
    let (unanswered, held) = (
        draft(&qingdao, within.clone()).await,
        draft(&qingdao, within).await,
    );
    for id in [&unanswered, &held] {
        act(&qingdao, id, Step::Send(MARK), REFERRING)
            .await
            .unwrap();
    }
    act(&qingdao, &held, slot(NOON + 3 * HOUR), receiving)
        .await
        .unwrap();
    scene.clock.advance_us(2 * HOUR - 1);
    assert_eq!(qingdao.run_clock().await.unwrap(), 0);
    scene.clock.advance_us(1);
    // Two replicas look at the same time, and it runs out once.
    let replica = Referrals::new(&scene.replica().await);
    let (one, two) = tokio::join!(qingdao.run_clock(), replica.run_clock());
    assert_eq!(one.unwrap() + two.unwrap(), 1);
    scene.clock.advance_us(HOUR);
    assert_eq!(qingdao.run_clock().await.unwrap(), 1);
    for id in [&unanswered, &held] {
        let read = read(&qingdao, id, receiving).await;
        assert_eq!(read.referral.unwrap().status(), Status::Expired);
    }
}

pub(crate) async fn a_cancellation_stands_when_the_receiving_city_says_so(scene: Scene) {
    let cities = Cities::open(scene).await;
    let (qingdao, yantai) = (&cities.qingdao, &cities.yantai);
    let cancel = || Step::Cancel(because("家属放弃"));
    let id = cities.sent().await;
    let asked = act(qingdao, &id, cancel(), REFERRING).await.unwrap();
    assert_eq!(asked.status, Status::Sent);
    let twice = act(qingdao, &id, cancel(), REFERRING).await;
    assert_eq!(code(twice.unwrap_err()), "REFERRAL_NOT_IN_STATUS");
    cities.carry().await;
    assert_eq!(
        cities.status(&id).await,
        (Status::Cancelled, Status::Cancelled)
    );

    // The patient was there already when it was asked for.
    let id = cities.sent().await;
    act(yantai, &id, slot(NOON + HOUR), RECEIVING)
        .await
        .unwrap();
    act(yantai, &id, Step::Arrive(MARK), RECEIVING)
        .await
        .unwrap();
    act(qingdao, &id, cancel(), REFERRING).await.unwrap();
    cities.carry().await;
    assert_eq!(cities.status(&id).await, (Status::Arrived, Status::Arrived));
    let read = read(qingdao, &id, REFERRING).await;
    assert!(!read.referral.unwrap().cancellation_asked);
    let mut events = read.events.iter().map(|event| event.event.as_str());
    assert!(events.any(|event| event == "cancellation-late"));
    // A draft is nobody else's business.
    let id = draft(qingdao, content()).await;
    let answer = act(qingdao, &id, cancel(), REFERRING).await.unwrap();
    assert_eq!(answer.status, Status::Cancelled);
}

pub(crate) async fn a_letter_that_the_other_city_does_not_take_comes_back_as_a_draft(scene: Scene) {
    let cities = Cities::open(scene).await;
    let qingdao = &cities.qingdao;
    let id = draft(qingdao, content()).await;
    act(qingdao, &id, Step::Send(MARK), REFERRING)
        .await
        .unwrap();
    let parcel = cities
        .scene
        .reports
        .store()
        .outbox()
        .next()
        .await
        .unwrap()
        .pop();
    let outcome = Err("the receiving department is closed".to_owned());
    let parcel = parcel.unwrap();
    qingdao.carried(&parcel, None, &outcome).await.unwrap();
    // Another replica that carried it too changes nothing.
    qingdao.carried(&parcel, None, &outcome).await.unwrap();
    let back = read(qingdao, &id, REFERRING).await;
    let (referral, events) = (back.referral.unwrap(), back.events);
    assert_eq!(referral.status(), Status::Draft);
    assert_eq!(referral.reason, "the receiving department is closed");
    assert_eq!(events.len(), 3);
    let mut revised = content();
    revised.department = "胸外科".into();
    act(qingdao, &id, Step::Revise(revised), REFERRING)
        .await
        .unwrap();
    act(qingdao, &id, Step::Send(MARK), REFERRING)
        .await
        .unwrap();
    cities.carry().await;
    let there = read(&cities.yantai, &id, RECEIVING).await.referral.unwrap();
    assert_eq!(there.content.unwrap().department, "胸外科");
}

pub(crate) async fn a_hospital_watches_its_referrals_and_resumes_after_a_cursor(scene: Scene) {
    let cities = Cities::open(scene).await;
    let qingdao = &cities.qingdao;
    let stopping = cities.scene.stopping.clone();
    let watches = ReferralWatches::new(qingdao.clone(), BRISK, stopping);
    let watcher = caller(REFERRING);
    let mut watch = watches.open(&watcher, "").await.unwrap().boxed();
    assert_eq!(watch.next().await.unwrap().unwrap().event, None);
    let id = cities.sent().await;
    let first = watch.next().await.unwrap().unwrap();
    assert_eq!(first.event.unwrap().event, "created");
    drop(watch);
    let mut watch = watches.open(&watcher, &first.cursor).await.unwrap().boxed();
    for expected in ["sent", "letter-delivered"] {
        let event = watch.next().await.unwrap().unwrap().event.unwrap();
        assert_eq!((event.event.as_str(), &event.referral_id), (expected, &id));
    }
    // Another hospital's referrals only move the cursor; another city's systems follow nothing.
    let other = caller("spiffe://qingdao.jiaodong/hospital-1/his");
    let mut other = watches.open(&other, "0").await.unwrap().boxed();
    let moved = other.next().await.unwrap().unwrap();
    assert_eq!((moved.cursor.as_str(), moved.event), ("3", None));
    let foreign = watches.open(&caller(RECEIVING), "").await.err().unwrap();
    assert_eq!(code(foreign), "REFERRAL_PARTY");
    let beyond = watches.open(&watcher, "99").await.err().unwrap();
    assert_eq!(code(beyond), "REFERRAL_CURSOR");
}

pub(crate) async fn the_history_of_a_referral_cannot_be_rewritten(scene: Scene) {
    let qingdao = Referrals::new(&scene.reports);
    draft(&qingdao, content()).await;
    for statement in [
        "UPDATE referral_event SET event = 'x'",
        "DELETE FROM referral_event",
        "UPDATE referral_answer SET seq = 0",
        "DELETE FROM referral_answer",
    ] {
        assert!(execute(&scene, statement).await.is_err(), "{statement}");
    }
}

type Change = fn(&mut ReferralContent);

const FAULTS: &[(Change, &str, &str)] = &[
    (
        |c| c.citizen_id = "1".into(),
        "content.citizen_id",
        "CITIZEN_ID_LENGTH",
    ),
    (|c| c.name.clear(), "content.name", "REFERRAL_NAME"),
    (
        |c| c.to_institution.clone_from(&c.from_institution),
        "content.to_institution",
        "REFERRAL_INSTITUTIONS",
    ),
    (
        |c| c.direction = 0,
        "content.direction",
        "REFERRAL_DIRECTION",
    ),
    (
        |c| c.department = "a\u{7}".into(),
        "content.department",
        "REFERRAL_TEXT",
    ),
    (
        |c| c.diagnoses[0].icd10 = "心绞痛".into(),
        "content.diagnoses[0].icd10",
        "REFERRAL_ICD10",
    ),
    (
        |c| c.diagnoses.clear(),
        "content.diagnoses",
        "REFERRAL_DIAGNOSES",
    ),
    (|c| c.urgency = 9, "content.urgency", "REFERRAL_URGENCY"),
    (
        |c| c.consent_reference.clear(),
        "content.consent_reference",
        "REFERRAL_BASIS",
    ),
    (
        |c| c.statutory_basis = "传染病防治法".into(),
        "content.consent_reference",
        "REFERRAL_BASIS",
    ),
];

#[test]
fn each_fault_of_a_referral_names_field_and_rule() {
    for (change, field, code) in FAULTS {
        let mut faulty = content();
        change(&mut faulty);
        let faults = parse_create(&create_request(faulty), &institutions(), NOON).unwrap_err();
        assert_eq!(of(&faults), [(*field, *code)]);
    }
    // 下转 goes down, and carries plan and medication.
    let mut down = content();
    down.set_direction(ReferralDirection::Down);
    let faults = parse_create(&create_request(down.clone()), &institutions(), NOON).unwrap_err();
    let codes: Vec<_> = faults.iter().map(|fault| fault.rule.code).collect();
    assert_eq!(
        codes,
        ["REFERRAL_DIRECTION", "REFERRAL_PLAN", "REFERRAL_PLAN"]
    );
    (down.from_institution, down.to_institution) = (hospital(yantai(), 0), hospital(qingdao(), 1));
    down.treatment_plan = "心脏康复训练".into();
    down.medications.push(ReferralMedication {
        name: "阿司匹林".into(),
        usage: "100 mg 每日一次".into(),
    });
    parse_create(&create_request(down), &institutions(), NOON).unwrap();
}

#[test]
fn a_step_names_its_faults() {
    let asked = |step| ActOnReferralRequest {
        request_id: "1".into(),
        referral_id: Uuid::nil().to_string(),
        step,
    };
    let faults = |step| {
        let faults = parse_act(&asked(step), &institutions(), NOON).unwrap_err();
        faults[2..]
            .iter()
            .map(|fault| fault.rule.code)
            .collect::<Vec<_>>()
    };
    assert_eq!(faults(None), ["REFERRAL_STEP"]);
    assert_eq!(faults(Some(slot(NOON))), ["REFERRAL_HOLD"]);
    assert_eq!(faults(Some(slot(NOON + 31 * 24 * HOUR))), ["REFERRAL_HOLD"]);
    assert_eq!(faults(Some(Step::Reject(because("")))), ["REFERRAL_REASON"]);
    let later = ReferralFeedback {
        discharged_on: "2026-11-24".into(),
        ..ReferralFeedback::default()
    };
    assert_eq!(
        faults(Some(Step::FeedBack(later))),
        ["REFERRAL_DAY", "REFERRAL_DIAGNOSES", "REFERRAL_TEXT"]
    );
    assert_eq!(code(header(None).unwrap_err()), "REFERRAL_DOCUMENT_HEADER");
    let mut large = document(b"%PDF-", ReferralDocumentKind::Other);
    large.size = 500 * 1024 * 1024 + 1;
    let large = UploadHeader {
        referral_id: Uuid::now_v7().to_string(),
        document: Some(large),
    };
    assert_eq!(
        code(header(Some(&large)).unwrap_err()),
        "REFERRAL_DOCUMENT_SIZE"
    );
}
