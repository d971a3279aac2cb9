//! Carries decisions to the service of the report's city, through the gateways, until they are answered.

use banqiao_kit::{
    Answer, Asserted, Basis, CallRefusal, Carried, Courier, Destination, Gateway, OutgoingCall,
    Parcel, Purpose, RefusalKind,
};
use banqiao_proto::lab::v1::{
    DeliverDecisionRequest, DeliverDecisionResponse,
    recognition_service_client::RecognitionServiceClient,
};
use banqiao_telemetry::Chain;
use prost::Message;

use super::{Decisions, rule};
use crate::store::Delivery;

/// What a decision is called in the outbox.
pub(super) const DECISION_PARCEL: &str = "recognition-decision";
/// Purpose of every delivery.
const PURPOSE: &str = "medical-treatment";
/// What both cities do it by.
const BASIS: &str = "国卫医发〔2022〕6号";

/// The way of a city's decisions.
#[derive(Clone, Debug)]
pub struct DecisionCourier {
    decisions: Decisions,
    gateway: Gateway,
}

impl DecisionCourier {
    /// What a decision is called in the outbox.
    pub const KIND: &str = DECISION_PARCEL;

    /// Carries decisions through the city's gateway.
    pub const fn new(decisions: Decisions, gateway: Gateway) -> Self {
        Self { decisions, gateway }
    }

    async fn deliver(
        &self,
        parcel: &Parcel,
    ) -> Option<Result<Answer<DeliverDecisionResponse>, CallRefusal>> {
        let request = DeliverDecisionRequest::decode(parcel.payload.as_slice()).ok()?;
        let to = Destination::City(parcel.destination.parse().ok()?);
        let basis = Basis::Statutory(BASIS.to_owned());
        let call = OutgoingCall::new(to, Purpose::parse(PURPOSE)?, basis);
        let call = match Asserted::parse(&parcel.subject) {
            Some(case) => call.case(case),
            None => call,
        };
        let mut client = RecognitionServiceClient::new(self.gateway.channel(&call));
        Some(Answer::of(client.deliver_decision(request).await))
    }
}

impl Courier for DecisionCourier {
    async fn carry(&self, parcel: &Parcel) -> Carried {
        // Boxed: it holds a call with its messages.
        let Some(answer) = Box::pin(self.deliver(parcel)).await else {
            tracing::error!(
                ?parcel,
                "a decision of the outbox cannot be read; it stays there"
            );
            return Carried::Later(None);
        };
        let (exchange, delivery) = match answer {
            Ok(Answer { exchange, .. }) => (exchange, Delivery::Delivered),
            Err(refusal) if is_final(&refusal) => {
                tracing::warn!(?parcel, %refusal, "the other city does not take a decision");
                (refusal.exchange, Delivery::Returned(refusal.message))
            }
            Err(refusal) => {
                tracing::warn!(?parcel, %refusal, "a decision waits");
                return Carried::Later(refusal.retry_after);
            }
        };
        // Boxed: it holds a transaction and its statements.
        let carried = Box::pin(self.decisions.carried(parcel, exchange, &delivery));
        match carried.await {
            Ok(()) => Carried::Done,
            Err(error) => {
                tracing::warn!(?parcel, error = %Chain(&error), "cannot write what became of a decision");
                Carried::Later(None)
            }
        }
    }
}

/// Whether the other city's service itself says that it will not take the decision. What an operator of either city can mend (rights,
/// registers of institutions) only delays it.
fn is_final(refusal: &CallRefusal) -> bool {
    let mended = refusal.reason.as_deref() == Some(rule::SENDER.rule.code);
    let says_no = matches!(refusal.kind, RefusalKind::Refused | RefusalKind::Invalid);
    says_no && refusal.is_by_service() && !mended
}
