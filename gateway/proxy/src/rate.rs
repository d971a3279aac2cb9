//! Layer: the rate of a grant. Last of the deciding layers, so that only what is permitted uses it up.

use banqiao_proto::exchange::v1::Reason;

use crate::{call::Call, refusal::Refusal};

pub(crate) fn take(call: &Call) -> Result<(), Refusal> {
    let Some(grant) = &call.grant else {
        return Ok(());
    };
    let shared = &call.conn.worker.shared;
    shared
        .rates
        .check(grant, shared.clock.now_us())
        .map_err(|wait| {
            shared.metrics.limit_hit("grant_rate");
            Refusal::new(Reason::RateExceeded, "the grant's rate is used up").retry_after(wait.0)
        })
}
