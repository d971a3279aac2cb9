//! Who acts on a case: a window of the receiving city, or the department that decides.

use anyhow::{Context as _, Result};
use banqiao_kit::document::DocumentDigest;
use banqiao_proto::{
    card::v1::CardRecord,
    item::v1::{
        ActOnCaseRequest, ActorRole, Applicant, ApplicantIdKind, CaseAction, CaseMaterial,
        CaseResult, Channel, Delivery, Document, MaterialChunk, MaterialEntryKind, MaterialHeader,
        RateCaseRequest, RatingChannel, ReadCaseRequest, ReadCaseResponse, Satisfaction,
        StartCaseRequest, TaskCity, UploadMaterialRequest, VerifyMaterialRequest,
        upload_material_request::Part,
    },
};
use tonic::Status;
use uuid::Uuid;

use super::{System, request};
use crate::{demo::pension::until, sandbox::SandboxCity};

/// The smallest file that is a picture in JPEG's form, as far as its first bytes say.
const PICTURE: &[u8] = b"\xff\xd8\xff\xe0\x00\x10JFIF\x00\x01\x01";

/// A system of a city.
pub(super) struct Desk<'a> {
    pub(super) system: System,
    pub(super) city: &'a SandboxCity,
    role: ActorRole,
}

/// A case that was started.
pub(super) struct Started<'a> {
    /// 办件编号.
    pub(super) number: String,
    /// City that decides it.
    pub(super) decided_in: &'a SandboxCity,
}

impl Started<'_> {
    pub(super) fn code(&self) -> &'static str {
        self.decided_in.founder.code
    }
}

/// Who applies: somebody of the synthetic card holders.
pub(super) fn applicant(holder: &CardRecord) -> Applicant {
    Applicant {
        id_kind: ApplicantIdKind::Citizen.into(),
        citizen_id: holder.social_security_number.clone(),
        name: holder.name.clone(),
        ..Applicant::default()
    }
}

/// An application for an item that is decided in a city.
pub(super) fn application(item: &str, holder: &CardRecord, decided_in: &str) -> StartCaseRequest {
    StartCaseRequest {
        request_id: Uuid::now_v7().to_string(),
        item_id: item.to_owned(),
        division: decided_in.to_owned(),
        applicant: Some(applicant(holder)),
        channel: Channel::Window.into(),
        ..StartCaseRequest::default()
    }
}

/// The city that does a task of a joint case.
pub(super) fn task(id: &str, city: &str) -> Vec<TaskCity> {
    vec![TaskCity {
        task: id.to_owned(),
        city: city.to_owned(),
    }]
}

/// A sealed document.
pub(super) fn sealed(number: &str) -> Option<Document> {
    let seal_digest = DocumentDigest::of(number.as_bytes()).as_bytes().to_vec();
    Some(Document {
        number: number.to_owned(),
        seal_digest,
    })
}

/// A step that needs no more than that it is taken.
pub(super) fn step() -> ActOnCaseRequest {
    ActOnCaseRequest::default()
}

/// A step that comes with a document.
pub(super) fn with_document(number: &str) -> ActOnCaseRequest {
    ActOnCaseRequest {
        document: sealed(number),
        ..step()
    }
}

/// A result that is sent to the applicant.
pub(super) fn result(name: &str, number: &str) -> Option<CaseResult> {
    Some(CaseResult {
        name: name.to_owned(),
        number: number.to_owned(),
        valid_until: String::new(),
    })
}

impl<'a> Desk<'a> {
    /// A window of a city's hall.
    pub(super) async fn window(city: &'a SandboxCity) -> Result<Self> {
        Self::of(city, "hall/window", ActorRole::Window).await
    }

    /// A city's department.
    pub(super) async fn department(city: &'a SandboxCity) -> Result<Self> {
        Self::of(city, "psb/case", ActorRole::Department).await
    }

    async fn of(city: &'a SandboxCity, system: &str, role: ActorRole) -> Result<Self> {
        let system = System::connect(city, system).await?;
        Ok(Self { system, city, role })
    }

    /// Starts a case at the city that decides it, for somebody who stands here.
    pub(super) async fn start(
        &self,
        application: StartCaseRequest,
        decided_in: &'a SandboxCity,
    ) -> Result<Started<'a>> {
        let application = StartCaseRequest {
            receiving_city: self.city.founder.code.to_owned(),
            role: self.role.into(),
            ..application
        };
        let sent = request(application, decided_in.founder.code)?;
        let started = self.system.cases().start_case(sent).await?.into_inner();
        let standing = started.standing.context("no standing")?;
        Ok(Started {
            number: standing.number,
            decided_in,
        })
    }

    /// Takes a step, if it may be taken.
    pub(super) async fn attempt(
        &self,
        case: &Started<'_>,
        action: CaseAction,
        step: ActOnCaseRequest,
    ) -> Result<Result<(), Status>> {
        let step = ActOnCaseRequest {
            request_id: Uuid::now_v7().to_string(),
            number: case.number.clone(),
            action: action.into(),
            role: self.role.into(),
            ..step
        };
        let step = request(step, case.code())?;
        Ok(self.system.cases().act_on_case(step).await.map(|_| ()))
    }

    /// Takes a step.
    pub(super) async fn act(
        &self,
        case: &Started<'_>,
        action: CaseAction,
        step: ActOnCaseRequest,
    ) -> Result<()> {
        let taken = self.attempt(case, action, step).await?;
        taken.with_context(|| action.as_str_name())
    }

    /// The case and its history, as this city sees them through the gateways.
    pub(super) async fn read(&self, case: &Started<'_>) -> Result<ReadCaseResponse> {
        let read = ReadCaseRequest {
            number: case.number.clone(),
        };
        let read = request(read, case.code())?;
        Ok(self.system.cases().read_case(read).await?.into_inner())
    }

    /// Waits until a case is as it should be.
    pub(super) async fn sees(
        &self,
        case: &Started<'_>,
        what: &str,
        holds: impl Fn(&ReadCaseResponse) -> bool,
    ) -> Result<ReadCaseResponse> {
        let (desk, holds) = (self, &holds);
        until(what, || async move { Ok(holds(&desk.read(case).await?)) }).await?;
        self.read(case).await
    }

    /// Has a material verified by the services that know it; gives the exchange that proves it.
    pub(super) async fn verify(
        &self,
        case: &Started<'_>,
        material: &str,
        card: &CardRecord,
        card_city: &str,
    ) -> Result<Option<String>> {
        let verify = VerifyMaterialRequest {
            number: case.number.clone(),
            material_id: material.to_owned(),
            role: self.role.into(),
            card_identification_code: card.card_identification_code.clone(),
            card_city: card_city.to_owned(),
            ..VerifyMaterialRequest::default()
        };
        let verify = request(verify, case.code())?;
        let verified = self.system.materials().verify_material(verify).await?;
        Ok(proof(&verified.into_inner().material.unwrap_or_default()))
    }

    /// Uploads a picture for a material, if it may be uploaded.
    pub(super) async fn upload(
        &self,
        case: &Started<'_>,
        material: &str,
    ) -> Result<Result<(), Status>> {
        let sha256 = DocumentDigest::of(PICTURE).as_bytes().to_vec();
        let header = MaterialHeader {
            number: case.number.clone(),
            material_id: material.to_owned(),
            role: self.role.into(),
            sha256: sha256.clone(),
            size: PICTURE.len() as u64,
            content_type: "image/jpeg".to_owned(),
        };
        let chunk = MaterialChunk {
            offset: 0,
            content: PICTURE.to_vec(),
            sha256,
        };
        let parts = [Part::Header(header), Part::Chunk(chunk)];
        let parts = parts.map(|part| UploadMaterialRequest { part: Some(part) });
        let parts = request(tokio_stream::iter(parts), case.code())?;
        let taken = self.system.materials().upload_material(parts).await;
        Ok(taken.map(|_| ()))
    }

    /// Hands a result to the applicant at this window.
    pub(super) async fn deliver(&self, case: &Started<'_>) -> Result<()> {
        let delivered = ActOnCaseRequest {
            delivery: Some(Delivery::default()),
            ..step()
        };
        self.act(case, CaseAction::Deliver, delivered).await
    }

    /// The applicant rates the whole case at this window.
    pub(super) async fn rate(&self, case: &Started<'_>, holder: &CardRecord) -> Result<()> {
        let rating = RateCaseRequest {
            request_id: Uuid::now_v7().to_string(),
            number: case.number.clone(),
            contact: 0,
            role: self.role.into(),
            applicant: Some(applicant(holder)),
            satisfaction: Satisfaction::VerySatisfied.into(),
            channel: RatingChannel::Window.into(),
            ..RateCaseRequest::default()
        };
        let rating = request(rating, case.code())?;
        self.system.ratings().rate_case(rating).await?;
        Ok(())
    }
}

fn proof(material: &CaseMaterial) -> Option<String> {
    let mut entries = material.entries.iter();
    let verified = entries.find(|entry| entry.kind() == MaterialEntryKind::Verified);
    verified.map(|entry| entry.exchange.clone())
}
