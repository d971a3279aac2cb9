//! Referrals as two hospitals meet them: each at its own city's gateway, the services hand over by themselves.

#[path = "referral/documents.rs"]
mod documents;

use std::time::Duration;

use banqiao_directory::Clock;
use banqiao_kit::{
    Basis, Destination, GatewayChannel, OutgoingCall, Purpose, document::DocumentDigest,
};
use banqiao_proto::lab::v1::{
    ActOnReferralRequest, CreateReferralRequest, DocumentChunk, DownloadDocumentRequest,
    FindUploadRequest, FindUploadResponse, ReadReferralRequest, ReadReferralResponse,
    ReferralAcceptance, ReferralContent, ReferralDiagnosis, ReferralDirection, ReferralDocument,
    ReferralDocumentKind, ReferralFeedback, ReferralMark, ReferralStatus, ReferralUrgency,
    UploadDocumentRequest, UploadDocumentResponse, UploadHeader, act_on_referral_request::Step,
    referral_service_client::ReferralServiceClient, upload_document_request::Part,
};
use banqiao_tests::{
    labs::Lab,
    network::{EMR, Network},
    wait::{PATIENCE, wait_every},
};
use prost_types::Timestamp;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::outgoing::System;

const CHUNK: usize = 1024 * 1024;
const MARK: ReferralMark = ReferralMark {};

/// A hospital's system, which calls its own city's service through its city's gateway.
struct Hospital {
    system: System,
    city: &'static str,
    /// 统一社会信用代码.
    code: String,
}

impl Hospital {
    fn of(network: &Network, labs: &[Lab; 2], place: usize) -> Self {
        let city = &network.cities[place];
        let credential = city.credential(EMR).unwrap();
        Self {
            system: System::of(
                network,
                city,
                &format!("hospital-{}", city.code),
                &credential,
            ),
            city: city.code,
            code: labs[place].hospital.clone(),
        }
    }

    fn service(&self) -> ReferralServiceClient<GatewayChannel> {
        let call = OutgoingCall::new(
            Destination::City(self.city.parse().unwrap()),
            Purpose::parse("medical-treatment").unwrap(),
            Basis::Statutory("基本医疗卫生与健康促进法第三十条".to_owned()),
        );
        // A document may take longer than the deadline of other calls.
        let channel = self.system.gateway.channel(&call.unlimited());
        ReferralServiceClient::new(channel).max_decoding_message_size(2 * CHUNK)
    }

    async fn create(&self, to: &Self) -> String {
        let content = ReferralContent {
            direction: ReferralDirection::Up.into(),
            citizen_id: "370602198506150002".to_owned(),
            name: "测试子安".to_owned(),
            from_institution: self.code.clone(),
            to_institution: to.code.clone(),
            department: "心内科".to_owned(),
            diagnoses: vec![diagnosis()],
            reason: "需行冠状动脉造影".to_owned(),
            urgency: ReferralUrgency::Urgent.into(),
            consent_reference: "consent-2026-17".to_owned(),
            ..ReferralContent::default()
        };
        let request = CreateReferralRequest {
            request_id: Uuid::now_v7().to_string(),
            content: Some(content),
        };
        let created = self.service().create_referral(request).await.unwrap();
        created.into_inner().referral_id
    }

    async fn act(&self, id: &str, step: Step) -> Result<ReferralStatus, Status> {
        let request = ActOnReferralRequest {
            request_id: Uuid::now_v7().to_string(),
            referral_id: id.to_owned(),
            step: Some(step),
        };
        let answer = self.service().act_on_referral(request).await?;
        Ok(answer.into_inner().status())
    }

    async fn read(&self, id: &str) -> Result<ReadReferralResponse, Status> {
        let request = ReadReferralRequest {
            referral_id: id.to_owned(),
        };
        Ok(self.service().read_referral(request).await?.into_inner())
    }

    /// Waits until the referral is so at this hospital's service.
    async fn sees(
        &self,
        what: &str,
        id: &str,
        so: impl Fn(&ReadReferralResponse) -> bool,
    ) -> ReadReferralResponse {
        let again = Duration::from_millis(50);
        let seen = wait_every(what, PATIENCE, again, || async {
            let read = self.read(id).await.ok()?;
            so(&read).then_some(read)
        });
        seen.await.unwrap()
    }

    async fn reaches(&self, id: &str, status: ReferralStatus) -> ReadReferralResponse {
        let seen = self.sees(status.as_str_name(), id, |read| {
            read.referral.as_ref().unwrap().status() == status
        });
        seen.await
    }

    async fn upload(
        &self,
        parts: Vec<UploadDocumentRequest>,
    ) -> Result<UploadDocumentResponse, Status> {
        let parts = tokio_stream::iter(parts);
        Ok(self.service().upload_document(parts).await?.into_inner())
    }

    async fn uploaded(&self, header: &UploadHeader) -> Result<FindUploadResponse, Status> {
        let request = FindUploadRequest {
            header: Some(header.clone()),
        };
        Ok(self.service().find_upload(request).await?.into_inner())
    }

    /// The chunks of a document from a byte on, at most so many.
    async fn download(
        &self,
        id: &str,
        sha256: &[u8],
        offset: u64,
        most: usize,
    ) -> Result<Vec<u8>, Status> {
        let request = DownloadDocumentRequest {
            referral_id: id.to_owned(),
            sha256: sha256.to_vec(),
            offset,
        };
        let mut chunks = self
            .service()
            .download_document(request)
            .await?
            .into_inner();
        let mut content = Vec::new();
        for _ in 0..most {
            let Some(answer) = chunks.message().await? else {
                break;
            };
            let chunk = answer.chunk.unwrap();
            assert_eq!(chunk.offset, offset + content.len() as u64);
            assert_eq!(chunk.sha256, DocumentDigest::of(&chunk.content).as_bytes());
            content.extend(chunk.content);
        }
        Ok(content)
    }
}

fn diagnosis() -> ReferralDiagnosis {
    ReferralDiagnosis {
        icd10: "I20.000".to_owned(),
        text: "不稳定性心绞痛".to_owned(),
    }
}

/// Holds a bed for so many seconds.
fn slot(seconds: i64) -> Step {
    Step::Accept(ReferralAcceptance {
        department: "心内科".to_owned(),
        slot: "12床".to_owned(),
        hold_until: Some(Timestamp {
            seconds: Clock::system().now_s() + seconds,
            nanos: 0,
        }),
    })
}

fn feedback() -> Step {
    let today = banqiao_kit::civil_date(Clock::system().now_us());
    Step::FeedBack(ReferralFeedback {
        discharged_on: today.to_string(),
        diagnoses: vec![diagnosis()],
        summary: "支架植入术后，病情平稳".to_owned(),
        advice: "双联抗血小板治疗一年".to_owned(),
        documents: Vec::new(),
    })
}

/// A scan that differs everywhere.
fn scan(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let bytes = (0..length - 5).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    b"%PDF-".iter().copied().chain(bytes).collect()
}

fn header(id: &str, content: &[u8], kind: ReferralDocumentKind) -> UploadHeader {
    let document = ReferralDocument {
        sha256: DocumentDigest::of(content).as_bytes().to_vec(),
        size: content.len() as u64,
        content_type: "application/pdf".to_owned(),
        kind: kind.into(),
        title: "病历摘要".to_owned(),
        institution: String::new(),
    };
    UploadHeader {
        referral_id: id.to_owned(),
        document: Some(document),
    }
}

fn first(header: &UploadHeader) -> UploadDocumentRequest {
    UploadDocumentRequest {
        part: Some(Part::Header(header.clone())),
    }
}

fn chunk(offset: usize, content: &[u8]) -> UploadDocumentRequest {
    UploadDocumentRequest {
        part: Some(Part::Chunk(DocumentChunk {
            offset: offset as u64,
            content: content.to_vec(),
            sha256: DocumentDigest::of(content).as_bytes().to_vec(),
        })),
    }
}

/// The messages of an upload from a byte on.
fn parts(header: &UploadHeader, content: &[u8], from: u64) -> Vec<UploadDocumentRequest> {
    let from = usize::try_from(from).unwrap();
    let chunks = content[from..].chunks(CHUNK).enumerate();
    let chunks = chunks.map(|(place, part)| chunk(from + place * CHUNK, part));
    [first(header)].into_iter().chain(chunks).collect()
}

/// Field and code of the first violation of a refusal.
fn violation(status: &Status) -> (String, String) {
    use tonic_types::StatusExt as _;
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    let mut violations = status.get_details_bad_request().unwrap().field_violations;
    let first = violations.remove(0);
    (first.field, first.reason)
}

fn events(read: &ReadReferralResponse) -> Vec<&str> {
    read.events
        .iter()
        .map(|event| event.event.as_str())
        .collect()
}

/// Two cities with their first hospitals.
async fn hospitals() -> (Network, [Lab; 2], Hospital, Hospital) {
    let (network, labs) = Network::laboratories().await.unwrap();
    let (qingdao, yantai) = (
        Hospital::of(&network, &labs, 0),
        Hospital::of(&network, &labs, 1),
    );
    (network, labs, qingdao, yantai)
}

#[tokio::test]
async fn a_patient_is_referred_treated_and_fed_back_through_two_gateways() {
    let (network, _labs, qingdao, yantai) = hospitals().await;
    let id = qingdao.create(&yantai).await;
    let summary = scan(3 * CHUNK + 17);
    let announced = header(&id, &summary, ReferralDocumentKind::Summary);
    let uploaded = qingdao
        .upload(parts(&announced, &summary, 0))
        .await
        .unwrap();
    assert_eq!(
        (uploaded.received, uploaded.complete),
        (summary.len() as u64, true)
    );
    qingdao.act(&id, Step::Send(MARK)).await.unwrap();

    // The letter comes by itself, and the document after it.
    yantai.reaches(&id, ReferralStatus::Sent).await;
    let there = yantai
        .sees("the document in Yantai", &id, |read| {
            read.awaited.is_empty()
        })
        .await;
    let shown = there.referral.unwrap();
    let content = shown.content.unwrap();
    assert_eq!(
        (content.name.as_str(), content.reason.as_str()),
        ("测试子安", "需行冠状动脉造影")
    );
    let sha256 = &shown.documents[0].sha256;
    assert!(yantai.download(&id, sha256, 0, 99).await.unwrap() == summary);

    yantai.act(&id, slot(3_600)).await.unwrap();
    let accepted = qingdao.reaches(&id, ReferralStatus::Accepted).await;
    let held = accepted.referral.unwrap().acceptance.unwrap();
    assert_eq!(
        (held.department.as_str(), held.slot.as_str()),
        ("心内科", "12床")
    );
    for step in [Step::Arrive(MARK), Step::BeginCare(MARK)] {
        yantai.act(&id, step).await.unwrap();
    }
    qingdao.reaches(&id, ReferralStatus::InCare).await;
    let discharge = scan(2_000);
    let announced = header(&id, &discharge, ReferralDocumentKind::Discharge);
    yantai
        .upload(parts(&announced, &discharge, 0))
        .await
        .unwrap();
    yantai.act(&id, feedback()).await.unwrap();

    let fed_back = qingdao.reaches(&id, ReferralStatus::FedBack).await;
    let told = fed_back.referral.unwrap().feedback.unwrap();
    assert_eq!(
        (
            told.summary.as_str(),
            told.advice.as_str(),
            told.documents.len()
        ),
        ("支架植入术后，病情平稳", "双联抗血小板治疗一年", 1)
    );
    qingdao
        .sees("the discharge letter in Qingdao", &id, |read| {
            read.awaited.is_empty()
        })
        .await;
    let sha256 = &told.documents[0].sha256;
    assert!(qingdao.download(&id, sha256, 0, 99).await.unwrap() == discharge);
    qingdao.act(&id, Step::Close(MARK)).await.unwrap();
    yantai.reaches(&id, ReferralStatus::Closed).await;
    let closed = qingdao
        .sees("the closure in Yantai to be known", &id, |read| {
            events(read).last() == Some(&"closure-delivered")
        })
        .await;
    assert_eq!(
        events(&closed),
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

    // Each hand-over and each document is an exchange of both ledgers: letter and closure, four answers, two documents.
    for (method, exchanges) in [("DeliverReferral", 6), ("DownloadDocument", 2)] {
        for city in &network.cities {
            let held = documents::exchanges(city, method).await;
            assert!(held.len() >= exchanges, "{}: {method}: {held:?}", city.name);
        }
    }
}

#[tokio::test]
async fn a_slot_to_which_nobody_comes_expires_in_both_cities() {
    let (_network, _labs, qingdao, yantai) = hospitals().await;
    // A busy machine needs a longer hold.
    for seconds in [3, 12, 36] {
        let id = qingdao.create(&yantai).await;
        qingdao.act(&id, Step::Send(MARK)).await.unwrap();
        yantai.reaches(&id, ReferralStatus::Sent).await;
        if let Err(late) = yantai.act(&id, slot(seconds)).await {
            assert_eq!(violation(&late).1, "REFERRAL_HOLD");
            continue;
        }
        let here = yantai.reaches(&id, ReferralStatus::Expired).await;
        // The acceptance may reach the other city before or after that.
        let mut steps = events(&here);
        steps.retain(|event| *event != "acceptance-delivered");
        assert_eq!(steps, ["sent", "accepted", "expired"]);
        let there = qingdao.reaches(&id, ReferralStatus::Expired).await;
        assert_eq!(events(&there).last(), Some(&"expired"));
        let late = yantai.act(&id, Step::Arrive(MARK)).await.unwrap_err();
        assert_eq!(late.code(), Code::FailedPrecondition, "{late:?}");
        return;
    }
    panic!("no slot was held within half a minute");
}
