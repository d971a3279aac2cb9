//! Documents of a referral: taken from its hospitals, given to them, and got from the other city.

use banqiao_kit::{
    CallError, Caller, Violations,
    document::{
        DeclaredDocument, DocumentChunk, DocumentDigest, DocumentSource, DocumentTerms, PullError,
        StoredDocument, UploadProgress, pull,
    },
};
use banqiao_proto::lab::v1::{ReferralDocument, UploadHeader};
use futures_util::Stream;
use uuid::Uuid;

use super::{
    act::{Act, ReferralError},
    referrals::Referrals,
    request::{check_document, uuid},
    rule,
};
use crate::store::{ReferralPull, StoreError};

/// Which documents a referral takes.
pub const REFERRAL_DOCUMENTS: DocumentTerms = DocumentTerms {
    max_bytes: 500 * 1024 * 1024,
    content_types: &[
        "application/pdf",
        "application/ofd",
        "image/jpeg",
        "image/png",
        "image/tiff",
        "application/dicom",
        "application/zip",
        "application/fhir+json",
    ],
    size_rule: &rule::DOCUMENT_SIZE,
    type_rule: &rule::DOCUMENT_TYPE,
};

/// As what this service gets documents of other cities.
const PULLS: &str = "referral-pull";

/// An upload that a hospital announced.
#[derive(Clone, Debug, PartialEq)]
pub struct Upload {
    referral: Uuid,
    document: ReferralDocument,
    declared: DeclaredDocument,
}

/// Parses the header of an upload.
///
/// # Errors
/// Every field that breaks a rule.
pub fn header(header: Option<&UploadHeader>) -> Result<Upload, CallError> {
    let mut faults = Violations::new();
    let Some(header) = header else {
        faults.add("header", &rule::DOCUMENT_HEADER);
        return Err(CallError::CallerInvalid(faults.into_vec()));
    };
    let id = uuid(&header.referral_id, &rule::REFERRAL_ID);
    let referral = faults.check("header.referral_id", id);
    let declared = match &header.document {
        None => {
            faults.add("header.document", &rule::DOCUMENT_HEADER);
            None
        }
        Some(document) => check_document(document, "header.document.", &mut faults),
    };
    match (referral, declared, &header.document) {
        (Some(referral), Some(declared), Some(document)) if faults.is_empty() => Ok(Upload {
            referral,
            document: document.clone(),
            declared,
        }),
        _ => Err(CallError::CallerInvalid(faults.into_vec())),
    }
}

impl Referrals {
    /// Takes chunks of a document of a referral, and attaches it when it is whole.
    ///
    /// # Errors
    /// The rules of documents and of referrals; the stream's own error.
    pub async fn upload(
        &self,
        upload: &Upload,
        chunks: impl Stream<Item = Result<DocumentChunk, CallError>> + Unpin,
        caller: &Caller,
    ) -> Result<UploadProgress, CallError> {
        let document = self.attachable(upload, caller).await?;
        let owner = caller.client.as_str();
        let documents = self.documents();
        let received = documents.receive(&upload.declared, owner, chunks);
        let progress = Box::pin(received).await?;
        if progress.complete {
            Box::pin(self.attach(upload.referral, document, caller)).await?;
        }
        Ok(progress)
    }

    /// How far an upload of the caller is.
    ///
    /// # Errors
    /// The rules of documents and of referrals.
    pub async fn uploaded(
        &self,
        upload: &Upload,
        caller: &Caller,
    ) -> Result<UploadProgress, CallError> {
        self.visible(upload.referral, caller).await?;
        let owner = caller.client.as_str();
        Ok(self.documents().progress(&upload.declared, owner).await?)
    }

    /// The document as it will be attached. Refused before 500 MiB come for nothing.
    async fn attachable(
        &self,
        upload: &Upload,
        caller: &Caller,
    ) -> Result<ReferralDocument, CallError> {
        let stored = self.visible(upload.referral, caller).await?;
        let institution = self.institutions().of_client(&caller.client);
        let institution = institution.ok_or(ReferralError::CallerUnknown)?;
        let document = ReferralDocument {
            institution: institution.credit_code.to_string(),
            ..upload.document.clone()
        };
        self.judge(&stored, Act::Attach(document.clone()))?;
        Ok(document)
    }

    /// A document of a referral, for its hospitals of this city and the service of the other one.
    ///
    /// # Errors
    /// The caller has no part in the referral, or the document is none of it, or not here yet.
    pub async fn document(
        &self,
        referral: Uuid,
        sha256: &[u8],
        caller: &Caller,
    ) -> Result<StoredDocument, CallError> {
        let stored = self.shared(referral, caller).await?;
        let mut faults = Violations::new();
        let Some(digest) = faults.check("sha256", DocumentDigest::parse(sha256)) else {
            return Err(CallError::CallerInvalid(faults.into_vec()));
        };
        let mut documents = stored.record.documents.iter();
        let belongs = documents.any(|document| document.sha256 == sha256);
        let found = match belongs {
            true => self.documents().find(&digest).await?,
            false => None,
        };
        let unknown = banqiao_kit::document::DocumentError::CallerUnknown;
        found.ok_or_else(|| unknown.into())
    }

    /// Gets a document of the other city from where the last attempt broke off, and tells the hospitals when it is here.
    ///
    /// # Errors
    /// See [`PullError`]; the store. What came stays.
    pub async fn get(
        &self,
        awaited: &ReferralPull,
        source: &impl DocumentSource,
    ) -> Result<(), CallError> {
        let got = pull(self.documents(), &awaited.document, PULLS, source);
        match Box::pin(got).await {
            Ok(_) => Ok(Box::pin(self.came(awaited)).await?),
            Err(error) => {
                let now_us = self.clock().now_us();
                self.store().tried(awaited, now_us).await?;
                Err(match error {
                    PullError::Store(error) => error.into(),
                    error => CallError::StoreUnavailable(error.into()),
                })
            }
        }
    }

    async fn came(&self, awaited: &ReferralPull) -> Result<(), ReferralError> {
        loop {
            let stored = self.store().find(awaited.referral).await?;
            let stored = stored.ok_or(StoreError::Corrupt("document without a referral"))?;
            let left = self.store().awaited(awaited.referral).await?;
            let digest = *awaited.document.digest();
            if !left.iter().any(|left| left == digest.as_bytes()) {
                // Another replica was faster.
                return Ok(());
            }
            match self.note_arrival(&stored, digest).await {
                Err(ReferralError::Store(StoreError::Conflict)) => {}
                written => return written,
            }
        }
    }
}
