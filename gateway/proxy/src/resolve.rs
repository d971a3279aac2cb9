//! Layer: where a call goes. Directory, destination, descriptor.

use std::sync::Arc;

use banqiao_directory::Status;
use banqiao_identity::Expect;
use banqiao_proto::exchange::v1::Reason;
use banqiao_proto::ledger::v1::Side;

use crate::{
    call::Call,
    peers::CatalogFault,
    refusal::{Refusal, not_granted},
    stack::from_peer_gateway,
    upstream::Target,
};

/// The next hop.
#[derive(Debug)]
pub(crate) struct Next {
    pub(crate) target: Target,
    /// The next hop is another city's gateway.
    pub(crate) peer: bool,
}

pub(crate) async fn find(call: &mut Call) -> Result<Next, Refusal> {
    let shared = Arc::clone(&call.conn.worker.shared);
    let snapshot = Arc::clone(&call.snapshot);
    if snapshot.directory.status(shared.clock.now_us()) == Status::Expired {
        return Err(Refusal::new(
            Reason::DirectoryExpired,
            "the directory has expired",
        ));
    }
    let to = call
        .reserved
        .as_ref()
        .and_then(|reserved| reserved.to.as_ref())
        .map_or("", |to| to.as_str());
    let Some((city, system)) = snapshot.directory.destination(to) else {
        let reason = if from_peer_gateway(call) {
            Reason::DestinationNotHere
        } else {
            Reason::DestinationUnknown
        };
        return Err(
            Refusal::new(reason, "the directory lists no such city or system").field(
                "banqiao-to",
                "is a city code or the SPIFFE ID of a system in the directory",
            ),
        );
    };
    let here = city.code == shared.names.city;
    if from_peer_gateway(call) && !here {
        return Err(Refusal::new(
            Reason::DestinationNotHere,
            "this gateway serves its own city and forwards for nobody",
        ));
    }
    call.provider = Some((city.code, system.clone()));
    purpose(call)?;
    if !here {
        return remote(call, city).await;
    }
    if !from_peer_gateway(call) {
        call.side = Side::Local;
    }
    let unknown = || Refusal::new(Reason::ServiceUnknown, not_granted());
    let plan = snapshot.catalog.method(&call.path).ok_or_else(unknown)?;
    let route = snapshot
        .routes
        .get(&plan.method.service)
        .ok_or_else(unknown)?;
    if system.is_some_and(|system| system != route.identity) {
        return Err(unknown());
    }
    call.plan = Some(Arc::clone(plan));
    Ok(Next {
        target: Target {
            addresses: Arc::clone(&route.endpoints),
            expect: Expect::Id(route.identity.clone()),
        },
        peer: false,
    })
}

/// The purpose is one that the directory lists, whoever decides in the end.
pub(crate) fn purpose(call: &Call) -> Result<(), Refusal> {
    if call.snapshot.directory.purpose(call.purpose()).is_some() {
        return Ok(());
    }
    Err(Refusal::new(
        Reason::PurposeNotAllowed,
        "the directory lists no such purpose",
    )
    .field("banqiao-purpose", "is a purpose code of the directory"))
}

async fn remote(call: &mut Call, city: &banqiao_directory::City) -> Result<Next, Refusal> {
    let shared = Arc::clone(&call.conn.worker.shared);
    let known = call
        .snapshot
        .remote
        .get(&city.code)
        .and_then(|carried| carried.method(&call.path))
        .cloned();
    let plan = match known {
        Some(plan) => plan,
        // A service may have been granted a moment ago: look once before saying no.
        None => match shared.peers.method(&shared, city.code, &call.path).await {
            Ok(plan) => plan,
            Err(CatalogFault::Unknown) => {
                return Err(Refusal::new(Reason::ServiceUnknown, not_granted()));
            }
            Err(CatalogFault::Unreachable) => {
                return Err(Refusal::new(
                    Reason::PeerUnreachable,
                    "the provider city's gateway cannot be reached",
                ));
            }
        },
    };
    call.plan = Some(plan);
    Ok(Next {
        target: Target {
            addresses: city
                .gateways
                .iter()
                .map(|gateway| gateway.address.clone())
                .collect(),
            expect: Expect::Gateway(city.trust_domain.clone()),
        },
        peer: true,
    })
}
