//! Materials: what a data call verifies is not asked for; everything else is uploaded, resumed and given out.

use std::{fmt, sync::Arc};

use banqiao_directory::CityCode;
use banqiao_item::{
    Call, CallHints, Case, CaseFilter, CaseNumber, DOMAIN, DataCalls, MaterialEntryKind,
    MaterialUpload, Materials, Verification,
};
use banqiao_kit::{
    Answer, CallError, CallRefusal, Caller, ExchangeId,
    document::{DOCUMENT_CHUNK, DocumentChunk, DocumentDigest},
    rescue,
};
use banqiao_proto::item::v1::{
    ActorRole, CaseAction as A, CaseState, CorrectionPoint, SearchCasesRequest,
};
use futures_util::{TryStreamExt, stream};
use http::HeaderMap;
use tempfile::TempDir;
use uuid::Uuid;

use crate::scene::{MOVE, QINGDAO, Scene, YANTAI, city};

/// Waived by `household-certificate`, asked of the city of the former home.
const WAIVED: &str = "household-register";
/// 开具户籍类证明, whose grant confirms it.
const CERTIFICATE: &str = "JD008";
/// Waived by nothing.
const PLAIN: &str = "passport-photo";
const PDF: &str = "application/pdf";

/// The former city's engine, reached without gateways; it may be away.
struct Former {
    other: Option<Scene>,
}

impl fmt::Debug for Former {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Former")
    }
}

#[tonic::async_trait]
impl DataCalls for Former {
    async fn verify(
        &self,
        call: &Call,
        asked: CityCode,
        case: &Case,
        _: &CallHints,
    ) -> Result<Answer<Verification>, CallRefusal> {
        let Some(other) = &self.other else {
            return Err(CallRefusal::of(&rescue(CallError::Stopping, DOMAIN, None)));
        };
        let known = (call.id.as_str(), asked);
        assert_eq!(known, ("household-certificate", city(YANTAI)));
        let request = SearchCasesRequest {
            applicant: Some(case.applicant.shown()),
            ..SearchCasesRequest::default()
        };
        let filter = CaseFilter::parse(&request, other.cases.today()).unwrap();
        let found = other.cases.search(filter, city(YANTAI)).await.unwrap();
        let mut found = found.cases.iter();
        let granted = found.any(|case| call.is_confirmed_by(case));
        Ok(Answer {
            message: match granted {
                true => Verification::Confirmed,
                false => Verification::NotConfirmed,
            },
            exchange: Some(ExchangeId {
                exchange: Uuid::now_v7(),
                attempt: 1,
            }),
        })
    }
}

pub(crate) fn caller() -> Caller {
    let mut headers = HeaderMap::new();
    for (name, value) in [
        (
            "banqiao-client",
            "spiffe://qingdao.jiaodong/hall/window".to_owned(),
        ),
        ("banqiao-purpose", "case-handling".to_owned()),
        ("banqiao-basis", "statutory:716-7".to_owned()),
        ("banqiao-exchange-id", format!("{}/1", Uuid::now_v7())),
    ] {
        headers.insert(name, value.parse().unwrap());
    }
    Caller::from_headers(&headers).unwrap()
}

fn materials(scene: &Scene, former: Option<Former>) -> Materials {
    let calls = former.map(|former| Arc::new(former) as Arc<dyn DataCalls>);
    Materials::new(scene.cases.clone(), calls)
}

/// Yantai's service, which took the applicant's cases of items so far.
async fn former(folder: &TempDir, scene: &Scene, cases: &[(&str, &[A])]) -> Former {
    let name = format!("{}.db", Uuid::now_v7());
    let url = format!("sqlite://{}", folder.path().join(name).display());
    let other = Scene::of(&url, YANTAI, scene.clock.clone()).await;
    for (item, steps) in cases {
        let number = other.accepted(item, YANTAI).await;
        other.decide(number, steps).await;
    }
    Former { other: Some(other) }
}

pub(crate) fn scan(length: usize) -> Vec<u8> {
    let mut state = 3_u32;
    let bytes = (0..length).map(|_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    });
    b"%PDF-".iter().copied().chain(bytes).collect()
}

pub(crate) fn announced(number: CaseNumber, material: &str, content: &[u8]) -> MaterialUpload {
    let digest = DocumentDigest::of(content);
    let declared = (digest.as_bytes(), content.len() as u64, PDF);
    Materials::announced(number, material, declared).unwrap()
}

pub(crate) fn parts(content: &[u8]) -> Vec<Result<DocumentChunk, CallError>> {
    let parts = content.chunks(DOCUMENT_CHUNK).enumerate();
    parts
        .map(|(place, part)| {
            let offset = (place * DOCUMENT_CHUNK) as u64;
            Ok(DocumentChunk::new(offset, part.to_vec()))
        })
        .collect()
}

pub(crate) async fn upload(
    materials: &Materials,
    upload: &MaterialUpload,
    parts: Vec<Result<DocumentChunk, CallError>>,
) -> Result<bool, CallError> {
    let (caller, home) = (caller(), city(QINGDAO));
    let taken = materials.upload(upload, stream::iter(parts), &caller, home);
    Ok(taken.await?.complete)
}

async fn kinds(
    materials: &Materials,
    number: CaseNumber,
    id: &str,
) -> Vec<(MaterialEntryKind, String)> {
    let listed = materials.list(number, city(QINGDAO)).await.unwrap();
    let one = listed
        .into_iter()
        .find(|one| one.material.id == id)
        .unwrap();
    let entries = one.entries.into_iter();
    entries.map(|entry| (entry.kind, entry.reason)).collect()
}

pub(crate) fn code(error: CallError) -> &'static str {
    match error {
        CallError::CallerRefused { refusal, .. } => refusal.rule.code,
        CallError::CallerInvalid(violations) => violations[0].rule.code,
        other => panic!("{other:?}"),
    }
}

/// An item whose case names a material.
fn item_with(scene: &Scene, material: &str) -> String {
    let today = scene.cases.today();
    let mut items = scene.cases.catalogue().items(today);
    let has = |item: &&Arc<banqiao_item::Item>| {
        item.tasks.is_empty() && item.materials.iter().any(|one| one.id == material)
    };
    items.find(has).unwrap().id.to_string()
}

pub(crate) async fn what_a_data_call_verifies_is_not_asked_for(scene: Scene) {
    let folder = TempDir::new().unwrap();
    let number = scene.started(MOVE, QINGDAO).await;
    let certified = [(CERTIFICATE, &[A::Grant, A::Conclude][..])];
    let former = former(&folder, &scene, &certified).await;
    let materials = materials(&scene, Some(former));
    let content = scan(1_000);
    let refused = upload(
        &materials,
        &announced(number, WAIVED, &content),
        parts(&content),
    )
    .await;
    assert_eq!(code(refused.unwrap_err()), "MATERIAL_NOT_TO_BE_ASKED");
    let listed = materials.list(number, city(QINGDAO)).await.unwrap();
    let one = listed.iter().find(|one| one.material.id == WAIVED).unwrap();
    let proof = one.proof().unwrap();
    assert_eq!(
        (proof.call.as_str(), proof.city.as_str()),
        ("household-certificate", YANTAI)
    );
    assert!(proof.exchange.ends_with("/1"), "{}", proof.exchange);
    // Asked again it is not asked of the other city again.
    let hints = CallHints::default();
    let (window, home) = (caller(), city(QINGDAO));
    let again = materials.verify(number, WAIVED, &hints, &window, home);
    assert_eq!(again.await.unwrap().entries.len(), 1);
    // A notice must not ask for it either.
    scene.decide(number, &[A::Receive]).await;
    assert_eq!(scene.state(number).await, CaseState::Received);
    let point = [CorrectionPoint {
        material_id: WAIVED.into(),
        text: "请提交户口簿".into(),
    }];
    let notice = materials.check_corrections(number, &point, &window, home);
    assert_eq!(code(notice.await.unwrap_err()), "MATERIAL_NOT_TO_BE_ASKED");
    let other = [CorrectionPoint {
        material_id: String::new(),
        text: "签名缺失".into(),
    }];
    let notice = materials.check_corrections(number, &other, &window, home);
    notice.await.unwrap();
}

pub(crate) async fn what_no_data_call_verifies_is_uploaded_and_says_why(scene: Scene) {
    let folder = TempDir::new().unwrap();
    let content = scan(1_000);
    // Another item's grant says nothing about this material, and neither does a certificate that was refused or not given yet.
    let others = [
        ("JD017", &[A::Grant, A::Conclude][..]),
        (CERTIFICATE, &[A::Refuse, A::Conclude]),
        (CERTIFICATE, &[A::Grant]),
    ];
    for (former, reason) in [
        (
            None,
            "this service has no way to other services (`[gateway]`)",
        ),
        (
            Some(Former { other: None }),
            "DRAINING: the service is stopping",
        ),
        (
            Some(former(&folder, &scene, &others).await),
            "the service that was asked does not confirm it",
        ),
    ] {
        let number = scene.started(MOVE, QINGDAO).await;
        let materials = materials(&scene, former);
        let announced = announced(number, WAIVED, &content);
        assert!(
            upload(&materials, &announced, parts(&content))
                .await
                .unwrap()
        );
        // The same again changes nothing.
        assert!(upload(&materials, &announced, Vec::new()).await.unwrap());
        assert_eq!(
            kinds(&materials, number, WAIVED).await,
            [
                (MaterialEntryKind::Unverified, reason.to_owned()),
                (MaterialEntryKind::Uploaded, String::new())
            ]
        );
    }
    let identity = scene.started(MOVE, QINGDAO).await;
    let refused = materials(&scene, None);
    let unknown = upload(
        &refused,
        &announced(identity, "no-such", &content),
        Vec::new(),
    )
    .await;
    assert_eq!(code(unknown.unwrap_err()), "MATERIAL");
}

pub(crate) async fn a_material_is_uploaded_resumed_and_given_out_to_whoever_takes_part(
    scene: Scene,
) {
    let number = scene.started(&item_with(&scene, PLAIN), QINGDAO).await;
    let materials = materials(&scene, None);
    let content = scan(3 * DOCUMENT_CHUNK + 99);
    let document = announced(number, PLAIN, &content);
    let mut flipped: Vec<_> = parts(&content);
    flipped[2].as_mut().unwrap().content[7] ^= 1;
    let refused = upload(&materials, &document, flipped).await;
    assert_eq!(code(refused.unwrap_err()), "DOCUMENT_CHUNK_DIGEST");
    let found = materials
        .uploaded(&document, &caller(), city(QINGDAO))
        .await;
    assert_eq!(found.unwrap().received, 2 * DOCUMENT_CHUNK as u64);
    let rest = parts(&content).into_iter().skip(2).collect();
    assert!(upload(&materials, &document, rest).await.unwrap());

    let digest = DocumentDigest::of(&content);
    let found = materials
        .document(number, &digest, city(QINGDAO))
        .await
        .unwrap();
    let chunks: Vec<_> = (materials.documents().read(found, 0).unwrap())
        .try_collect()
        .await
        .unwrap();
    let read: Vec<u8> = chunks.into_iter().flat_map(|chunk| chunk.content).collect();
    assert!(read == content);
    // A city that takes no part does not learn of the case; another case's document is none of this one.
    let stranger = materials.document(number, &digest, city(YANTAI)).await;
    assert_eq!(code(stranger.unwrap_err()), "CASE_UNKNOWN");
    let other = scene.started(&item_with(&scene, PLAIN), QINGDAO).await;
    let none = materials.document(other, &digest, city(QINGDAO)).await;
    assert_eq!(code(none.unwrap_err()), "MATERIAL_UNKNOWN");
    // Whoever knows its digest cannot name it for another case; who has the picture brings it again.
    let known = announced(other, PLAIN, &content);
    assert!(!upload(&materials, &known, Vec::new()).await.unwrap());
    let none = materials.document(other, &digest, city(QINGDAO)).await;
    assert_eq!(code(none.unwrap_err()), "MATERIAL_UNKNOWN");
    assert!(upload(&materials, &known, parts(&content)).await.unwrap());
    let found = materials.document(other, &digest, city(QINGDAO)).await;
    assert_eq!(found.unwrap().size, content.len() as u64);
}

pub(crate) async fn the_catalogue_bounds_each_material_and_a_decided_case_takes_none(scene: Scene) {
    let number = scene.started(&item_with(&scene, PLAIN), QINGDAO).await;
    let materials = materials(&scene, None);
    let digest = DocumentDigest::of(b"x");
    let of = |size, name| Materials::announced(number, PLAIN, (digest.as_bytes(), size, name));
    for (size, name, rule) in [
        (101 * 1024 * 1024, PDF, "MATERIAL_SIZE"),
        (1, "text/html", "MATERIAL_TYPE"),
    ] {
        assert_eq!(code(of(size, name).unwrap_err()), rule);
    }
    for (size, name, rule) in [
        (21 * 1024 * 1024, PDF, "MATERIAL_SIZE"),
        (1, "application/zip", "MATERIAL_TYPE"),
    ] {
        let refused = upload(&materials, &of(size, name).unwrap(), Vec::new()).await;
        assert_eq!(code(refused.unwrap_err()), rule);
    }
    let html = b"<html>".to_vec();
    let refused = upload(&materials, &announced(number, PLAIN, &html), parts(&html)).await;
    assert_eq!(code(refused.unwrap_err()), "DOCUMENT_SIGNATURE");
    let withdrawn = scene
        .step(number, A::Withdraw, ActorRole::Window, QINGDAO)
        .await;
    withdrawn.unwrap();
    let content = scan(100);
    let refused = upload(
        &materials,
        &announced(number, PLAIN, &content),
        parts(&content),
    )
    .await;
    assert_eq!(code(refused.unwrap_err()), "MATERIALS_CLOSED");
}
