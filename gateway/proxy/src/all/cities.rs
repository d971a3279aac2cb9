//! Whether all cities may be asked, and which they are.

use std::sync::Arc;

use banqiao_directory::{AskAll, CityCode, Status};
use banqiao_proto::exchange::v1::Reason;
use futures_util::{StreamExt as _, stream::FuturesUnordered};

use crate::{
    call::Call,
    carried::MethodPlan,
    peers::CatalogFault,
    refusal::{Refusal, not_granted},
    resolve,
};

/// The method as a city describes it that lets all be asked for the call's purpose: this city if it provides the method, else
/// the first that does. Each city's own option is held against its own part once more.
pub(super) async fn plan(call: &Call) -> Result<Arc<MethodPlan>, Refusal> {
    let shared = &call.conn.worker.shared;
    let snapshot = &call.snapshot;
    if snapshot.directory.status(shared.clock.now_us()) == Status::Expired {
        let what = "the directory has expired";
        return Err(Refusal::new(Reason::DirectoryExpired, what));
    }
    resolve::purpose(call)?;
    let mut known: Vec<Arc<MethodPlan>> = snapshot
        .catalog
        .method(&call.path)
        .into_iter()
        .chain(
            snapshot
                .directory
                .cities()
                .iter()
                .filter_map(|city| snapshot.remote.get(&city.code)?.method(&call.path)),
        )
        .cloned()
        .collect();
    if known.is_empty() {
        known.push(described(call).await?);
    }
    let open = |plan: &&Arc<MethodPlan>| plan.method.ask_all.is_some();
    let plan = known.iter().find(open);
    let Some(plan) = plan.or_else(|| known.first()) else {
        return Err(Refusal::new(Reason::ServiceUnknown, not_granted()));
    };
    fence(call, plan)?;
    Ok(Arc::clone(plan))
}

/// Asks the other cities for the method, where nobody has described it yet: the first that does will do.
async fn described(call: &Call) -> Result<Arc<MethodPlan>, Refusal> {
    let shared = &call.conn.worker.shared;
    let here = shared.names.city;
    let cities = call.snapshot.directory.cities().iter();
    let mut asked: FuturesUnordered<_> = cities
        .filter(|city| city.code != here)
        .map(|city| shared.peers.method(shared, city.code, &call.path))
        .collect();
    let mut unreachable = false;
    while let Some(answer) = asked.next().await {
        match answer {
            Ok(plan) => return Ok(plan),
            Err(CatalogFault::Unknown) => {}
            Err(CatalogFault::Unreachable) => unreachable = true,
        }
    }
    Err(if unreachable {
        Refusal::new(
            Reason::PeerUnreachable,
            "no city that can be reached describes the method, and not all can be reached",
        )
    } else {
        Refusal::new(Reason::ServiceUnknown, not_granted())
    })
}

/// The cities that the option names, of those that the directory lists.
pub(super) fn named(call: &Call, plan: &MethodPlan) -> Vec<CityCode> {
    let cities = call.snapshot.directory.cities().iter();
    let mut named: Vec<_> = cities
        .map(|city| city.code)
        .filter(|city| {
            plan.method
                .ask_all
                .as_ref()
                .is_none_or(|it| it.names(*city))
        })
        .collect();
    named.sort_unstable();
    named
}

/// The option of the city that a part goes to, by that city's own description. Returns the number of the field that names it.
pub(super) fn allowed(call: &Call) -> Result<u32, Refusal> {
    let Some(plan) = &call.plan else {
        return Err(Refusal::new(Reason::ServiceUnknown, not_granted()));
    };
    let option = fence(call, plan)?;
    let city = call.provider.as_ref().map(|(city, _)| *city);
    if !city.is_some_and(|city| option.names(city)) {
        return Err(refused("the city's own description leaves it out"));
    }
    Ok(option.city_field())
}

fn fence<'a>(call: &Call, plan: &'a MethodPlan) -> Result<&'a AskAll, Refusal> {
    let Some(option) = &plan.method.ask_all else {
        return Err(refused("the method does not allow it"));
    };
    if !option.allows_purpose(call.purpose()) || !plan.method.allows_purpose(call.purpose()) {
        return Err(Refusal::new(
            Reason::PurposeNotAllowed,
            "the method does not allow that all cities are asked for this purpose",
        )
        .field(
            "banqiao-purpose",
            "is one of the purposes of the method's option ask_all",
        ));
    }
    Ok(option)
}

fn refused(why: &'static str) -> Refusal {
    Refusal::new(
        Reason::AskAllNotAllowed,
        "the method cannot be asked of all cities",
    )
    .field("banqiao-to", why)
}
