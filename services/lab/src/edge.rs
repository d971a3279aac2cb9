//! What every gRPC service of this crate does at its edge: the caller's context in, errors out through one door.

use banqiao_kit::{CallError, Caller, ExchangeId, rescue};
use tonic::{Request, Response, Status};

/// Domain of this service's reasons in `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "banqiao.lab";

/// The context that the kit's server put beside the request.
pub(crate) fn caller_of<T>(request: &Request<T>) -> Result<Caller, CallError> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| CallError::Internal("a request without a caller's context".into()))
}

/// Answers a call, or tells why not.
pub(crate) async fn answered<T>(
    exchange: Option<ExchangeId>,
    answer: impl Future<Output = Result<T, CallError>>,
) -> Result<Response<T>, Status> {
    answer
        .await
        .map(Response::new)
        .map_err(|error| rescue(error, DOMAIN, exchange))
}
