//! Carries messages to the other city's service, and gets its documents, through the gateways.

use banqiao_directory::CityCode;
use banqiao_kit::{
    Answer, Asserted, Basis, CallRefusal, Carried, Courier, Destination, Gateway, GatewayChannel,
    OutgoingCall, Parcel, Purpose, RefusalKind,
    document::{Chunks, DocumentChunk, DocumentSource},
};
use banqiao_proto::lab::v1::{
    DeliverReferralRequest, DeliverReferralResponse, DownloadDocumentRequest,
    referral_service_client::ReferralServiceClient,
};
use banqiao_telemetry::Chain;
use futures_util::StreamExt;
use prost::Message;

use super::{
    referrals::{Referrals, is_parcel},
    rule,
};
use crate::store::ReferralPull;

/// Purpose of every hand-over.
const PURPOSE: &str = "medical-treatment";
/// What both cities do it by. The patient's own consent or basis stands in the letter.
const BASIS: &str = "基本医疗卫生与健康促进法第三十条";
/// Documents that one pass gets.
const PULLS: i64 = 16;

/// The way of a city's referrals.
#[derive(Clone, Debug)]
pub struct ReferralCourier {
    referrals: Referrals,
    gateway: Gateway,
}

impl ReferralCourier {
    /// Carries messages of referrals through the city's gateway.
    pub const fn new(referrals: Referrals, gateway: Gateway) -> Self {
        Self { referrals, gateway }
    }

    /// Whether a parcel of the outbox is its to carry.
    pub fn carries(parcel: &Parcel) -> bool {
        is_parcel(&parcel.kind)
    }

    /// Gets the documents that are awaited, and gives how many came. What does not come is tried again by a later pass.
    pub async fn get_documents(&self) -> usize {
        let pulls = match self.referrals.store().pulls(PULLS).await {
            Ok(pulls) => pulls,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "cannot look for documents of referrals");
                return 0;
            }
        };
        let mut came = 0;
        for pull in &pulls {
            let source = GatewaySource::new(self.gateway.clone(), pull);
            match Box::pin(self.referrals.get(pull, &source)).await {
                Ok(()) => came += 1,
                Err(error) => {
                    tracing::warn!(referral = %pull.referral, error = %Chain(&error), "a document of a referral waits");
                }
            }
        }
        came
    }

    async fn deliver(
        &self,
        parcel: &Parcel,
    ) -> Option<Result<Answer<DeliverReferralResponse>, CallRefusal>> {
        let request = DeliverReferralRequest::decode(parcel.payload.as_slice()).ok()?;
        let city = parcel.destination.parse().ok()?;
        let mut client = client(&self.gateway, city, &parcel.subject, false)?;
        Some(Answer::of(client.deliver_referral(request).await))
    }
}

fn client(
    gateway: &Gateway,
    city: CityCode,
    referral: &str,
    stream: bool,
) -> Option<ReferralServiceClient<GatewayChannel>> {
    let (to, basis) = (Destination::City(city), Basis::Statutory(BASIS.to_owned()));
    let mut call = OutgoingCall::new(to, Purpose::parse(PURPOSE)?, basis);
    if let Some(case) = Asserted::parse(referral) {
        call = call.case(case);
    }
    if stream {
        call = call.unlimited();
    }
    Some(ReferralServiceClient::new(gateway.channel(&call)))
}

impl Courier for ReferralCourier {
    async fn carry(&self, parcel: &Parcel) -> Carried {
        // Boxed: it holds a call with its messages.
        let Some(answer) = Box::pin(self.deliver(parcel)).await else {
            tracing::error!(
                ?parcel,
                "a message of the outbox cannot be read; it stays there"
            );
            return Carried::Later(None);
        };
        let (exchange, outcome) = match answer {
            Ok(Answer { message, exchange }) => (exchange, Ok(message.status())),
            Err(refusal) if is_final(&refusal) => {
                tracing::warn!(?parcel, %refusal, "the other city does not take a message");
                (refusal.exchange, Err(refusal.message))
            }
            Err(refusal) => {
                tracing::warn!(?parcel, %refusal, "a message waits");
                return Carried::Later(refusal.retry_after);
            }
        };
        // Boxed: it holds a transaction and its statements.
        let carried = Box::pin(self.referrals.carried(parcel, exchange, &outcome));
        match carried.await {
            Ok(()) => Carried::Done,
            Err(error) => {
                tracing::warn!(?parcel, error = %Chain(&error), "cannot write what became of a message");
                Carried::Later(None)
            }
        }
    }
}

/// Whether the other city's service itself says that it will not take the message. What an operator of either city can mend (rights,
/// registers of institutions) only delays it.
fn is_final(refusal: &CallRefusal) -> bool {
    let mended = refusal.reason.as_deref() == Some(rule::PARTY.rule.code);
    let says_no = matches!(refusal.kind, RefusalKind::Refused | RefusalKind::Invalid);
    says_no && refusal.is_by_service() && !mended
}

/// A document at the other city's service.
#[derive(Clone, Debug)]
pub struct GatewaySource {
    gateway: Gateway,
    city: CityCode,
    referral: String,
    sha256: Vec<u8>,
}

impl GatewaySource {
    /// The source of a document that is awaited.
    pub fn new(gateway: Gateway, pull: &ReferralPull) -> Self {
        Self {
            gateway,
            city: pull.city,
            referral: pull.referral.to_string(),
            sha256: pull.document.digest().as_bytes().to_vec(),
        }
    }
}

impl DocumentSource for GatewaySource {
    async fn open(&self, offset: u64) -> Result<Chunks, CallRefusal> {
        let internal = || CallRefusal::of(&tonic::Status::internal("no purpose of the network"));
        let client = client(&self.gateway, self.city, &self.referral, true);
        let request = DownloadDocumentRequest {
            referral_id: self.referral.clone(),
            sha256: self.sha256.clone(),
            offset,
        };
        let answer = client
            .ok_or_else(internal)?
            .max_decoding_message_size(super::server::MAX_CHUNK)
            .download_document(request)
            .await;
        let chunks = Answer::of(answer)?.message;
        let chunks = chunks.map(|answer| {
            let chunk = answer?.chunk.unwrap_or_default();
            Ok(DocumentChunk {
                offset: chunk.offset,
                content: chunk.content,
                sha256: chunk.sha256,
            })
        });
        Ok(chunks.boxed())
    }
}
