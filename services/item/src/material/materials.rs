//! The materials of a city's cases: verified, uploaded, listed, given out.

use std::sync::Arc;

use banqiao_directory::CityCode;
use banqiao_kit::{
    Broken, CallError, Caller, Violations,
    document::{
        DeclaredDocument, DocumentChunk, DocumentDigest, DocumentStore, DocumentTerms,
        StoredDocument, UploadProgress,
    },
};
use banqiao_proto::item::v1::{CaseState, CorrectionPoint, DataCallCity, Decision};
use futures_util::Stream;

use super::{
    call::{CallHints, DataCalls, Verification},
    rule,
};
use crate::{
    case::{Case, CaseNumber, settle},
    cases::{CaseError, Cases},
    catalogue::{Call, Item, Material},
    store::{MaterialEntry, MaterialEntryKind, StoreError},
};

/// Which documents any material may be. The catalogue allows less for each.
pub const MATERIAL_DOCUMENTS: DocumentTerms = DocumentTerms {
    max_bytes: 100 * 1024 * 1024,
    content_types: &[
        "application/pdf",
        "application/ofd",
        "image/jpeg",
        "image/png",
        "image/tiff",
        "application/zip",
    ],
    size_rule: &rule::SIZE,
    type_rule: &rule::TYPE,
};

/// A material with what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// The catalogue's rule.
    pub material: Material,
    /// Entries, oldest first.
    pub entries: Vec<MaterialEntry>,
}

impl Shown {
    /// The proof by which the material is not asked for.
    pub fn proof(&self) -> Option<&MaterialEntry> {
        let mut entries = self.entries.iter();
        entries.find(|entry| entry.kind == MaterialEntryKind::Verified)
    }

    /// Whether it was uploaded, or verified.
    pub fn is_here(&self) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| entry.kind != MaterialEntryKind::Unverified)
    }

    /// Whether data calls were tried, in vain.
    fn was_tried(&self) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|entry| entry.kind == MaterialEntryKind::Unverified)
    }
}

/// An upload that somebody announced.
#[derive(Clone, Debug, PartialEq)]
pub struct MaterialUpload {
    number: CaseNumber,
    material: String,
    declared: DeclaredDocument,
}

/// A city's materials. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Materials {
    cases: Cases,
    documents: DocumentStore,
    calls: Option<Arc<dyn DataCalls>>,
}

impl Materials {
    /// The materials of `cases`; without data calls nothing can be verified.
    pub fn new(cases: Cases, calls: Option<Arc<dyn DataCalls>>) -> Self {
        let database = cases.store().database().clone();
        let documents = DocumentStore::new(database, cases.clock().clone(), MATERIAL_DOCUMENTS);
        Self {
            cases,
            documents,
            calls,
        }
    }

    /// The documents.
    pub const fn documents(&self) -> &DocumentStore {
        &self.documents
    }

    /// The materials of a case in which a city takes part.
    ///
    /// # Errors
    /// See [`CaseError`].
    pub async fn list(&self, number: CaseNumber, city: CityCode) -> Result<Vec<Shown>, CaseError> {
        let case = self.cases.visible(number, city).await?;
        let entries = self.cases.store().materials(number).await?;
        let materials = self.item(&case)?.materials.iter();
        Ok(materials
            .map(|material| Shown {
                material: material.clone(),
                entries: (entries.iter())
                    .filter(|entry| entry.material == material.id)
                    .cloned()
                    .collect(),
            })
            .collect())
    }

    fn item(&self, case: &Case) -> Result<&Item, StoreError> {
        let item = self
            .cases
            .catalogue()
            .version(&case.item, case.item_version);
        item.map(AsRef::as_ref)
            .ok_or(StoreError::Corrupt("item of a case"))
    }

    async fn one(
        &self,
        number: CaseNumber,
        material: &str,
        city: CityCode,
    ) -> Result<(Case, Shown), CallError> {
        let case = self.cases.visible(number, city).await?;
        let mut shown = self.list(number, city).await?;
        let place = shown.iter().position(|one| one.material.id == material);
        let Some(place) = place else {
            let mut faults = Violations::new();
            faults.add("material_id", &rule::MATERIAL);
            return Err(CallError::CallerInvalid(faults.into_vec()));
        };
        Ok((case, shown.swap_remove(place)))
    }

    /// Asks the data calls by which a material is waived, in turn, until one confirms it. What was verified before is not asked
    /// again.
    ///
    /// # Errors
    /// The case is not the city's, the item has no such material, or the case is decided.
    pub async fn verify(
        &self,
        number: CaseNumber,
        material: &str,
        hints: &CallHints,
        caller: &Caller,
        city: CityCode,
    ) -> Result<Shown, CallError> {
        let (case, shown) = self.one(number, material, city).await?;
        refuse_closed(&case)?;
        if shown.proof().is_none() {
            Box::pin(self.ask(&case, &shown.material, hints, caller)).await?;
        }
        let (_, shown) = self.one(number, material, city).await?;
        Ok(shown)
    }

    async fn ask(
        &self,
        case: &Case,
        material: &Material,
        hints: &CallHints,
        caller: &Caller,
    ) -> Result<(), CallError> {
        let known = &self.item(case)?.calls;
        let calls = known.iter();
        for call in calls.filter(|call| material.waived_by.contains(&call.id)) {
            let entry = self.ask_one(case, material, call, hints, caller).await;
            self.cases
                .store()
                .write_material(case.number, &entry)
                .await?;
            if entry.kind == MaterialEntryKind::Verified {
                break;
            }
        }
        Ok(())
    }

    /// Makes a data call, and says what became of it.
    async fn ask_one(
        &self,
        case: &Case,
        material: &Material,
        call: &Call,
        hints: &CallHints,
        caller: &Caller,
    ) -> MaterialEntry {
        let city = match call.asked {
            DataCallCity::Former => former_city(case, hints),
            DataCallCity::Issuing => hints.card_city.or(Some(case.deciding_city)),
            _ => Some(case.deciding_city),
        };
        let mut entry = MaterialEntry {
            material: material.id.clone(),
            kind: MaterialEntryKind::Unverified,
            call: call.id.clone(),
            city: city.map_or_else(String::new, |city| city.to_string()),
            exchange: String::new(),
            reason: String::new(),
            digest: None,
            size: 0,
            content_type: String::new(),
            client: caller.client.as_str().to_owned(),
            at_us: self.cases.clock().now_us(),
        };
        let (Some(calls), Some(city)) = (&self.calls, city) else {
            entry.reason = match city {
                None => "the application names no former city".to_owned(),
                Some(_) => "this service has no way to other services (`[gateway]`)".to_owned(),
            };
            return entry;
        };
        match calls.verify(call, city, case, hints).await {
            Ok(answer) => {
                if let Some(exchange) = answer.exchange {
                    entry.exchange = exchange.to_string();
                }
                match answer.message {
                    // Without its exchange nothing proves it.
                    Verification::Confirmed if !entry.exchange.is_empty() => {
                        entry.kind = MaterialEntryKind::Verified;
                    }
                    Verification::Confirmed => {
                        entry.reason = "the answer came without an exchange".to_owned();
                    }
                    Verification::NotConfirmed => {
                        entry.reason = "the service that was asked does not confirm it".to_owned();
                    }
                    Verification::NotPossible(why) => why.clone_into(&mut entry.reason),
                }
            }
            Err(refusal) => {
                if let Some(exchange) = refusal.exchange {
                    entry.exchange = exchange.to_string();
                }
                entry.reason = refusal.to_string();
            }
        }
        entry
    }

    /// Refuses a correction notice that asks for what a data call verifies (国务院令第716号 art. 7). Each such material is asked about
    /// first.
    ///
    /// # Errors
    /// A material was verified; see [`CaseError`].
    pub async fn check_corrections(
        &self,
        number: CaseNumber,
        points: &[CorrectionPoint],
        caller: &Caller,
        city: CityCode,
    ) -> Result<(), CallError> {
        let case = self.cases.visible(number, city).await?;
        if !self.waits(&case) {
            return Ok(());
        }
        let shown = self.list(number, city).await?;
        for one in shown {
            let named = |point: &CorrectionPoint| point.material_id == one.material.id;
            if points.iter().any(named) {
                self.refuse_verified(&case, &one, caller, city).await?;
            }
        }
        Ok(())
    }

    /// Whether a case waits for its acceptance, by the clock too: silence may have accepted it already.
    fn waits(&self, case: &Case) -> bool {
        let mut now = case.clone();
        let calendar = self.cases.calendars().current();
        settle(&mut now, &calendar, self.cases.clock().now_us());
        now.state == CaseState::Received
    }

    /// Refuses to accept a case that lacks a required material. What a data call may verify, and was not asked about yet, is asked
    /// about first.
    ///
    /// # Errors
    /// Materials are missing, which are named; see [`CaseError`].
    pub async fn check_acceptance(
        &self,
        number: CaseNumber,
        caller: &Caller,
        city: CityCode,
    ) -> Result<(), CallError> {
        let case = self.cases.visible(number, city).await?;
        // In another state the table of transitions answers, or the first answer is given again.
        if !self.waits(&case) {
            return Ok(());
        }
        let mut missing = Vec::new();
        for one in self.list(number, city).await? {
            let Material { id, name, .. } = &one.material;
            if !one.material.required || one.is_here() {
                continue;
            }
            if !one.material.waived_by.is_empty() && !one.was_tried() {
                let hints = CallHints::default();
                let verified = self.verify(number, id, &hints, caller, city);
                if Box::pin(verified).await?.is_here() {
                    continue;
                }
            }
            missing.push(format!("{id} ({name})"));
        }
        if missing.is_empty() {
            return Ok(());
        }
        Err(rule::MISSING.because(format!("missing: {}", missing.join(", "))))
    }

    async fn refuse_verified(
        &self,
        case: &Case,
        shown: &Shown,
        caller: &Caller,
        city: CityCode,
    ) -> Result<(), CallError> {
        let id = &shown.material.id;
        let asked = if shown.proof().is_some() || shown.was_tried() {
            shown.clone()
        } else {
            let hints = CallHints::default();
            let verified = self.verify(case.number, id, &hints, caller, city);
            Box::pin(verified).await?
        };
        match asked.proof() {
            None => Ok(()),
            Some(proof) => Err(rule::NOT_TO_BE_ASKED.because(format!(
                "material {id} was verified by exchange {}",
                proof.exchange
            ))),
        }
    }

    /// Parses the header of an upload. What the catalogue allows for the material is judged when the upload begins.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn announced(
        number: CaseNumber,
        material: &str,
        declared: (&[u8], u64, &str),
    ) -> Result<MaterialUpload, CallError> {
        let mut faults = Violations::new();
        let parsed = DeclaredDocument::parse(&MATERIAL_DOCUMENTS, declared, "header.", &mut faults);
        let upload = parsed.map(|declared| MaterialUpload {
            number,
            material: material.to_owned(),
            declared,
        });
        upload.ok_or_else(|| CallError::CallerInvalid(faults.into_vec()))
    }

    /// Takes chunks of a document, and adds it to the case when it is whole. What a data call verifies is refused.
    ///
    /// # Errors
    /// The rules of documents and materials; the stream's own error.
    pub async fn upload(
        &self,
        upload: &MaterialUpload,
        chunks: impl Stream<Item = Result<DocumentChunk, CallError>> + Unpin,
        caller: &Caller,
        city: CityCode,
    ) -> Result<UploadProgress, CallError> {
        let (case, shown) = self.one(upload.number, &upload.material, city).await?;
        refuse_closed(&case)?;
        self.check_terms(upload, &shown.material)?;
        Box::pin(self.refuse_verified(&case, &shown, caller, city)).await?;
        let owner = owner_of(upload, caller);
        let received = self.documents.receive(&upload.declared, &owner, chunks);
        let progress = Box::pin(received).await?;
        if progress.complete {
            let entry = MaterialEntry {
                material: upload.material.clone(),
                kind: MaterialEntryKind::Uploaded,
                call: String::new(),
                city: city.to_string(),
                exchange: caller.exchange.to_string(),
                reason: String::new(),
                digest: Some(*upload.declared.digest()),
                size: upload.declared.size(),
                content_type: upload.declared.content_type().to_owned(),
                client: caller.client.as_str().to_owned(),
                at_us: self.cases.clock().now_us(),
            };
            let written = self.cases.store().write_material(upload.number, &entry);
            Box::pin(written).await?;
        }
        Ok(progress)
    }

    fn check_terms(&self, upload: &MaterialUpload, material: &Material) -> Result<(), CallError> {
        let mut faults = Violations::new();
        if upload.declared.size() > material.max_bytes {
            faults.add("header.size", &rule::SIZE);
        }
        let name = upload.declared.content_type();
        if !material.content_types.iter().any(|one| one == name) {
            faults.add("header.content_type", &rule::TYPE);
        }
        if faults.is_empty() {
            Ok(())
        } else {
            Err(CallError::CallerInvalid(faults.into_vec()))
        }
    }

    /// How far an upload of the caller is.
    ///
    /// # Errors
    /// The rules of documents and materials.
    pub async fn uploaded(
        &self,
        upload: &MaterialUpload,
        caller: &Caller,
        city: CityCode,
    ) -> Result<UploadProgress, CallError> {
        self.one(upload.number, &upload.material, city).await?;
        let owner = owner_of(upload, caller);
        Ok(self.documents.progress(&upload.declared, &owner).await?)
    }

    /// A document that was uploaded for a case in which a city takes part.
    ///
    /// # Errors
    /// There is none.
    pub async fn document(
        &self,
        number: CaseNumber,
        digest: &DocumentDigest,
        city: CityCode,
    ) -> Result<StoredDocument, CallError> {
        let shown = self.list(number, city).await?;
        let mut entries = shown.iter().flat_map(|one| &one.entries);
        let found = match entries.any(|entry| entry.digest.as_ref() == Some(digest)) {
            true => self.documents.find(digest).await?,
            false => None,
        };
        found.ok_or_else(|| rule::UNKNOWN.because("no such document was uploaded for the case"))
    }
}

/// Who brings a document: a client, for one case. To another case it is brought again, so that nobody gets a document by its digest.
fn owner_of(upload: &MaterialUpload, caller: &Caller) -> String {
    format!("{} {}", caller.client, upload.number)
}

/// The city of the applicant's former home: the one that the applicant names, or the other city of the case.
fn former_city(case: &Case, hints: &CallHints) -> Option<CityCode> {
    let other = |city: &CityCode| *city != case.deciding_city;
    let tasks = case.tasks.iter().map(|task| task.city);
    let receiving = std::iter::once(case.receiving_city);
    hints
        .former_city
        .or_else(|| tasks.chain(receiving).find(other))
}

fn refuse_closed(case: &Case) -> Result<(), CallError> {
    if case.decision == Decision::Unspecified && !case.is_over() {
        Ok(())
    } else {
        Err(rule::CLOSED.because("the case is decided"))
    }
}

impl CallHints {
    /// Parses what a request shows.
    ///
    /// # Errors
    /// The former city or that of the card is none.
    pub fn parse(
        former_city: &str,
        card_identification_code: &str,
        card_city: &str,
    ) -> Result<Self, CallError> {
        let mut faults = Violations::new();
        let city = |text: &str| match text {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| Broken(&rule::FORMER_CITY)),
        };
        let former_city = faults.check("former_city", city(former_city));
        let card_city = faults.check("card_city", city(card_city));
        let hints = former_city
            .zip(card_city)
            .map(|(former_city, card_city)| Self {
                former_city,
                card_identification_code: card_identification_code.to_owned(),
                card_city,
            });
        hints.ok_or_else(|| CallError::CallerInvalid(faults.into_vec()))
    }
}
