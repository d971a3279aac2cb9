//! What can be asked for, and why it is not done.

use banqiao_directory::CityCode;
use banqiao_kit::{CallError, PostError, Violation, document::DocumentError};
use banqiao_proto::lab::v1::{
    ReferralAcceptance, ReferralContent, ReferralDocument, ReferralFeedback, ReferralLetter,
    ReferralStatus, deliver_referral_request,
};
use uuid::Uuid;

use super::{
    rule,
    state::{Party, Step},
};
use crate::store::StoreError;

/// What one city's service tells the other's.
pub type Message = deliver_referral_request::Step;

/// What is asked for.
#[derive(Clone, Debug, PartialEq)]
pub enum Act {
    /// A slot is held.
    Accept(ReferralAcceptance),
    /// The patient is there.
    Arrive,
    /// A document that is whole belongs to the referral.
    Attach(ReferralDocument),
    /// Care begins.
    BeginCare,
    /// It is cancelled, for this reason.
    Cancel(String),
    /// The referring hospital took the patient over again.
    Close,
    /// A draft.
    Create(Box<ReferralContent>),
    /// It ran out.
    Expire,
    /// Discharge.
    FeedBack(ReferralFeedback),
    /// A letter of another city.
    Letter(Box<ReferralLetter>),
    /// It is refused, for this reason.
    Reject(String),
    /// The draft is written anew.
    Revise(Box<ReferralContent>),
    /// It goes to the receiving hospital.
    Send,
}

impl Act {
    /// The step of the table; none for a document, which changes no status.
    pub(super) const fn step(&self) -> Option<Step> {
        Some(match self {
            Self::Attach(_) => return None,
            Self::Accept(_) => Step::Accept,
            Self::Arrive => Step::Arrive,
            Self::BeginCare => Step::BeginCare,
            Self::Cancel(_) => Step::Cancel,
            Self::Close => Step::Close,
            Self::Create(_) => Step::Create,
            Self::Expire => Step::Expire,
            Self::FeedBack(_) => Step::FeedBack,
            Self::Letter(_) | Self::Send => Step::Send,
            Self::Reject(_) => Step::Reject,
            Self::Revise(_) => Step::Revise,
        })
    }

    /// Who takes it, whatever the status.
    pub(super) const fn party(&self) -> Option<Party> {
        Some(match self {
            Self::Attach(_) => return None,
            Self::Cancel(_)
            | Self::Close
            | Self::Create(_)
            | Self::Letter(_)
            | Self::Revise(_)
            | Self::Send => Party::Referring,
            Self::Accept(_)
            | Self::Arrive
            | Self::BeginCare
            | Self::Expire
            | Self::FeedBack(_)
            | Self::Reject(_) => Party::Receiving,
        })
    }
}

/// A request, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// The idempotency key, within the asking client.
    pub request_id: Uuid,
    /// The referral.
    pub referral: Uuid,
    /// SHA-256 of the request, to tell a repetition from another request.
    pub digest: [u8; 32],
    /// The city whose service tells it; none when a hospital of this city asks.
    pub from: Option<CityCode>,
    /// What is asked for.
    pub act: Act,
}

/// Why something is not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReferralError {
    /// A document cannot be attached now, or by this hospital.
    #[error("{0}")]
    CallerAttachment(&'static str),
    /// A field breaks a rule that depends on the referral.
    #[error("{0}")]
    CallerField(&'static str, &'static banqiao_kit::Rule),
    /// The client is no system of a hospital that may take this step, or of the city that it speaks for.
    #[error("{0}")]
    CallerForeign(&'static str),
    /// The request id stands for another request of this client.
    #[error("the request id was used for another request")]
    CallerReusedId,
    /// The table of transitions has none for this step in this status.
    #[error("{} is not possible in {}", step.code(), status.map_or("no status", |status| status.as_str_name()))]
    CallerTransition {
        /// Status here; none where the referral does not exist yet.
        status: Option<ReferralStatus>,
        /// What was to happen.
        step: Step,
    },
    /// No referral of the client's institution has this number.
    #[error("no referral of this institution has this number")]
    CallerUnknown,
    /// The store of documents.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// As many messages as are kept wait for a city already.
    #[error("too many messages wait for {0}: its gateway has been out of reach for long")]
    OutboxFull(CityCode),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for ReferralError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<PostError> for ReferralError {
    fn from(error: PostError) -> Self {
        match error {
            PostError::Database(error) => error.into(),
            PostError::Full(city) => Self::OutboxFull(city),
            _ => Self::Store(StoreError::Corrupt("length of a message")),
        }
    }
}

impl From<ReferralError> for CallError {
    fn from(error: ReferralError) -> Self {
        let field = |field: &'static str, rule| {
            let field = field.into();
            Self::CallerInvalid(vec![Violation { field, rule }])
        };
        match error {
            ReferralError::CallerAttachment(message) => rule::ATTACHMENT.because(message),
            ReferralError::CallerField(name, broken) => field(name, broken),
            ReferralError::CallerForeign(message) => rule::PARTY.because(message),
            ReferralError::CallerReusedId => field("request_id", &rule::REQUEST_ID_REUSED),
            ReferralError::CallerTransition { .. } => rule::STATE.because(error.to_string()),
            ReferralError::CallerUnknown => rule::UNKNOWN.because(error.to_string()),
            ReferralError::Document(error) => error.into(),
            ReferralError::OutboxFull(_) => rule::OUTBOX.because(error.to_string()),
            ReferralError::Store(error) => error.into(),
        }
    }
}
