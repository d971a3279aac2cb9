//! Whether an entry of another ledger is about the call in hand.

use std::fmt;

use banqiao_proto::ledger::v1::{Direction, Entry, Kind, Side};

use crate::digest::Hash;

/// The largest error bound of another city's clock that is allowed for, in microseconds.
pub const MAX_CLOCK_BOUND_US: u64 = 60_000_000;

/// What the entry of a receipt must say to be about a call. What is `None` is not compared.
#[derive(Clone, Copy, Debug, Default)]
pub struct Expected<'a> {
    /// Kinds that it may be of.
    pub kinds: &'a [Kind],
    /// Side of the city whose entry it is.
    pub side: Side,
    /// UUIDv7 of the exchange.
    pub exchange: &'a [u8],
    /// Number of the attempt.
    pub attempt: u32,
    /// SPIFFE ID of the client.
    pub client: &'a str,
    /// City code of the provider.
    pub provider_city: &'a str,
    /// SPIFFE ID of the provider where the client named a system, else empty.
    pub provider: &'a str,
    /// `/package.Service/Method`.
    pub method: &'a str,
    /// Purpose.
    pub purpose: &'a str,
    /// Legal basis as sent.
    pub basis: &'a str,
    /// The request. Compared where both sides say that it is complete.
    pub request: Option<&'a Direction>,
    /// The response, likewise.
    pub response: Option<&'a Direction>,
    /// Hash of the receipt that the other side was given. Empty: it was given none.
    pub peer_receipt: Option<&'a [u8]>,
    /// gRPC status that the call ended with.
    pub status: Option<u32>,
    /// Now, in microseconds UTC, with how far the entry's time may lie from it: the age that a receipt may have, and the
    /// error bound of the clock here. The bound of the clock there is in the entry.
    pub now_us: Option<(i64, u64)>,
}

/// What an entry says otherwise than the call in hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Disagreement {
    /// The name of the field of the entry.
    Field(&'static str),
    /// Too old, or not yet.
    Time,
}

impl fmt::Display for Disagreement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(field) => write!(f, "another {field} than the call in hand"),
            Self::Time => f.write_str("out of its time"),
        }
    }
}

impl Expected<'_> {
    /// The first thing in which an entry is not about the call.
    pub fn disagreement(&self, entry: &Entry) -> Option<Disagreement> {
        let field = |agrees: bool, name| (!agrees).then_some(Disagreement::Field(name));
        let client = entry.client.as_ref();
        let provider = entry.provider.as_ref();
        field(self.kinds.contains(&entry.kind()), "kind")
            .or_else(|| field(entry.side() == self.side, "side"))
            .or_else(|| field(entry.exchange == self.exchange, "exchange"))
            .or_else(|| field(entry.attempt == self.attempt, "attempt"))
            .or_else(|| {
                let is = client.map_or("", |party| &party.spiffe_id);
                field(is == self.client, "client")
            })
            .or_else(|| {
                let is = provider.map_or(("", ""), |party| (&*party.city, &*party.spiffe_id));
                field(is == (self.provider_city, self.provider), "provider")
            })
            .or_else(|| field(entry.method == self.method, "method"))
            .or_else(|| field(entry.purpose == self.purpose, "purpose"))
            .or_else(|| field(entry.basis == self.basis, "basis"))
            .or_else(|| field(same(entry.request.as_ref(), self.request), "request"))
            .or_else(|| field(same(entry.response.as_ref(), self.response), "response"))
            .or_else(|| {
                let agrees = self
                    .peer_receipt
                    .is_none_or(|hash| entry.peer_receipt == hash);
                field(agrees, "peer_receipt")
            })
            .or_else(|| {
                let is = entry.result.as_ref().map_or(0, |result| result.status);
                field(self.status.is_none_or(|status| is == status), "status")
            })
            .or_else(|| self.untimely(entry))
    }

    fn untimely(&self, entry: &Entry) -> Option<Disagreement> {
        let (now_us, tolerance_us) = self.now_us?;
        let bound = entry.clock.as_ref().map_or(0, |clock| clock.error_bound_us);
        // Whoever does not know his time within a minute has no clock to be believed.
        let bound = bound.min(MAX_CLOCK_BOUND_US);
        let apart = now_us.abs_diff(entry.time_us);
        (apart > tolerance_us.saturating_add(bound)).then_some(Disagreement::Time)
    }
}

/// Cancel, deadline and lost trailers make the two ends differ honestly: equality is asked for only where both say that
/// the direction is complete (LEDGER.md §1).
fn same(theirs: Option<&Direction>, ours: Option<&Direction>) -> bool {
    match (theirs, ours) {
        (Some(theirs), Some(ours)) if theirs.complete && ours.complete => {
            (&theirs.root, theirs.count) == (&ours.root, ours.count)
        }
        _ => true,
    }
}

/// The hash of a receipt that was given, as an entry has it.
impl<'a> Expected<'a> {
    /// Expects the entry to name the receipt that it was given; `None`: none.
    #[must_use]
    pub fn naming(mut self, receipt: Option<&'a Hash>) -> Self {
        self.peer_receipt = Some(receipt.map_or(&[], |hash| &hash[..]));
        self
    }
}
