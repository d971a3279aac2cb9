//! Carries documents to the other city's service, through the gateways, until they are answered.

use banqiao_kit::{
    Answer, Asserted, Basis, CallRefusal, Carried, Courier, Destination, Gateway, OutgoingCall,
    Parcel, Purpose, RefusalKind,
};
use banqiao_proto::card::v1::{
    DeliverDocumentRequest, DeliverDocumentResponse,
    pension_transfer_service_client::PensionTransferServiceClient,
};
use banqiao_telemetry::Chain;
use prost::Message;

use super::transfers::Transfers;

/// Purpose of every hand-over: a transfer is a case (办件) of both cities.
const PURPOSE: &str = "case-handling";
/// What both cities do it by.
const BASIS: &str = "社会保险经办条例第十二条; 国办发〔2009〕66号";

/// The way of a city's documents.
#[derive(Clone, Debug)]
pub struct PensionCourier {
    transfers: Transfers,
    gateway: Gateway,
}

impl PensionCourier {
    /// Carries what waits in the outbox of `transfers` through the city's gateway.
    pub const fn new(transfers: Transfers, gateway: Gateway) -> Self {
        Self { transfers, gateway }
    }

    async fn deliver(
        &self,
        parcel: &Parcel,
    ) -> Option<Result<Answer<DeliverDocumentResponse>, CallRefusal>> {
        let request = DeliverDocumentRequest::decode(parcel.payload.as_slice()).ok()?;
        let to = Destination::City(parcel.destination.parse().ok()?);
        let basis = Basis::Statutory(BASIS.to_owned());
        let call = OutgoingCall::new(to, Purpose::parse(PURPOSE)?, basis);
        let call = match Asserted::parse(&parcel.subject) {
            Some(case) => call.case(case),
            None => call,
        };
        let channel = self.gateway.channel(&call);
        let answer = PensionTransferServiceClient::new(channel)
            .deliver_document(request)
            .await;
        Some(Answer::of(answer))
    }
}

impl Courier for PensionCourier {
    async fn carry(&self, parcel: &Parcel) -> Carried {
        // Boxed: it holds a call with its messages.
        let Some(answer) = Box::pin(self.deliver(parcel)).await else {
            tracing::error!(
                ?parcel,
                "a document of the outbox cannot be read; it stays there"
            );
            return Carried::Later(None);
        };
        let (exchange, outcome) = match answer {
            Ok(Answer { message, exchange }) => {
                let arrived = message.received_at.unwrap_or_default();
                let arrived_us = arrived.seconds * 1_000_000 + i64::from(arrived.nanos) / 1_000;
                (exchange, Ok((arrived_us, message.state())))
            }
            Err(refusal) if is_final(&refusal) => {
                tracing::warn!(?parcel, %refusal, "the other city does not take a document");
                (refusal.exchange, Err(refusal.message))
            }
            Err(refusal) => {
                tracing::warn!(?parcel, %refusal, "a document waits");
                return Carried::Later(refusal.retry_after);
            }
        };
        // Boxed: it holds a transaction and its statements.
        let carried = Box::pin(self.transfers.carried(parcel, exchange, outcome));
        match carried.await {
            Ok(()) => Carried::Done,
            Err(error) => {
                tracing::warn!(?parcel, error = %Chain(&error), "cannot write what became of a document");
                Carried::Later(None)
            }
        }
    }
}

/// Whether the other city's service itself says that it will not take the document. Whatever an operator of either city can
/// mend (rights, settings, a calendar, a city that is not connected yet) only delays it.
fn is_final(refusal: &CallRefusal) -> bool {
    const MENDED: [&str; 3] = ["CALENDAR_NOT_LOADED", "CITY_NOT_CONNECTED", "OWN_CITY_ONLY"];
    let mended = |reason: &str| MENDED.contains(&reason);
    let says_no = matches!(refusal.kind, RefusalKind::Refused | RefusalKind::Invalid);
    says_no && refusal.is_by_service() && !refusal.reason.as_deref().is_some_and(mended)
}
