//! Layer: the provider decides. A consumer's gateway asks nobody here; the provider's gateway and the gateway of a
//! call within one city judge by the grants.

use banqiao_policy::Decision;
use banqiao_proto::exchange::v1::Reason;

use crate::{
    call::Call,
    refusal::{Refusal, not_granted},
};

pub(crate) fn decide(call: &mut Call) -> Result<(), Refusal> {
    if !call.decides() {
        return Ok(());
    }
    let shared = &call.conn.worker.shared;
    if shared.rights.grants_stale(shared.limits.grants_stale) {
        return Err(
            Refusal::new(Reason::GrantsStale, "the grants could not be read")
                .retry_after(std::time::Duration::from_secs(1)),
        );
    }
    let (Some(plan), Some(client)) = (&call.plan, &call.client) else {
        return Err(Refusal::new(Reason::NotGranted, not_granted()));
    };
    match call
        .snapshot
        .grants
        .decide(client, &plan.method, call.purpose(), shared.clock.now_us())
    {
        Decision::Permit(grant) => {
            call.grant = Some(grant);
            Ok(())
        }
        Decision::Refuse(reason) => Err(Refusal::new(
            reason,
            match reason {
                Reason::PurposeNotAllowed => {
                    "the purpose is not one that the method and the grant allow"
                }
                Reason::GrantExpired => "the grant is not in its time of validity",
                _ => not_granted(),
            },
        )),
    }
}
