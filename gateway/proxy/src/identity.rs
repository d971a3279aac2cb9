//! Layer: who may use which listener.

use banqiao_proto::exchange::v1::Reason;

use crate::{accept::Listener, call::Call, refusal::Refusal};

/// Systems of this city on the client listener; gateways of other cities that the directory lists on the inter-city
/// listener.
pub(crate) fn check(call: &mut Call) -> Result<(), Refusal> {
    let names = &call.conn.worker.shared.names;
    let id = &call.conn.peer.id;
    match call.conn.listener {
        Listener::Client => {
            if id.trust_domain() != &names.trust_domain {
                return Err(refusal(
                    "the client listener takes systems of this city only",
                ));
            }
            if id.is_gateway() {
                return Err(refusal(
                    "a gateway is not a system: it uses the inter-city listener",
                ));
            }
            call.consumer_city = Some(names.city);
        }
        Listener::InterCity => {
            if !id.is_gateway() {
                return Err(refusal("the inter-city listener takes gateways only"));
            }
            if id.trust_domain() == &names.trust_domain {
                return Err(refusal(
                    "the inter-city listener takes gateways of other cities only",
                ));
            }
            let Some(city) = call.snapshot.directory.city_by_domain(id.trust_domain()) else {
                return Err(refusal("the directory does not list this gateway's city"));
            };
            call.consumer_city = Some(city.code);
        }
    }
    Ok(())
}

fn refusal(detail: &'static str) -> Refusal {
    Refusal::new(Reason::IdentityNotAllowed, detail)
}
