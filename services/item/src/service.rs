//! The gRPC services, one module for each part: requests in, answers out, errors through one door.

mod case;
mod catalogue;
mod material;
mod rating;
mod statistics;

use banqiao_kit::{CallError, Caller, ExchangeId, rescue};
use tonic::{Request, Response, Status};

pub use case::CaseServer;
pub(crate) use case::rules as case_rules;
pub use catalogue::CatalogueServer;
pub(crate) use catalogue::rules as catalogue_rules;
pub use material::MaterialServer;
pub use rating::RatingServer;
pub(crate) use rating::rules as rating_rules;
pub use statistics::StatisticsServer;

/// Domain of this service's reasons in `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "banqiao.item";

/// The context that the kit's server put beside the request.
fn caller_of<T>(request: &Request<T>) -> Result<Caller, CallError> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| CallError::Internal("a request without a caller's context".into()))
}

/// Answers a call, or tells why not.
async fn answered<T>(
    exchange: Option<ExchangeId>,
    answer: impl Future<Output = Result<T, CallError>>,
) -> Result<Response<T>, Status> {
    answer
        .await
        .map(Response::new)
        .map_err(|error| rescue(error, DOMAIN, exchange))
}
