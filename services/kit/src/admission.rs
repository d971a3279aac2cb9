//! Who may call, and the context of the call: a layer around every route.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use banqiao_directory::SpiffeId;
use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

use crate::{
    caller::{Caller, ExchangeId},
    connection::Remote,
    rescue::{CallError, NETWORK_DOMAIN, rescue},
};

/// Services that are about this server and not about anybody's records: the gateway asks them by itself, without a client's context.
const WITHOUT_CONTEXT: [&str; 3] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];

/// Lets the city's gateway in and nobody else, and puts the [`Caller`] into the request's extensions.
#[derive(Clone, Debug)]
pub(crate) struct AdmissionLayer {
    gateway: SpiffeId,
}

impl AdmissionLayer {
    pub(crate) const fn new(gateway: SpiffeId) -> Self {
        Self { gateway }
    }
}

impl<S> Layer<S> for AdmissionLayer {
    type Service = Admission<S>;

    fn layer(&self, inner: S) -> Admission<S> {
        Admission {
            inner,
            gateway: self.gateway.clone(),
        }
    }
}

/// What [`AdmissionLayer`] makes.
#[derive(Clone, Debug)]
pub(crate) struct Admission<S> {
    inner: S,
    gateway: SpiffeId,
}

impl<S> Admission<S> {
    fn admit<B>(&self, request: &mut Request<B>) -> Result<(), CallError> {
        let remote = request.extensions().get::<Remote>();
        if remote.is_none_or(|remote| remote.peer.id != self.gateway) {
            return Err(CallError::CallerNotGateway);
        }
        let path = request.uri().path();
        if !WITHOUT_CONTEXT
            .iter()
            .any(|service| path.starts_with(service))
        {
            let caller = Caller::from_headers(request.headers())?;
            request.extensions_mut().insert(caller);
        }
        Ok(())
    }
}

impl<S, B> Service<Request<B>> for Admission<S>
where
    S: Service<Request<B>, Response = Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        match self.admit(&mut request) {
            Ok(()) => Box::pin(self.inner.call(request)),
            Err(error) => {
                let exchange = ExchangeId::of(request.headers());
                let refused = rescue(error, NETWORK_DOMAIN, exchange).into_http();
                Box::pin(async move { Ok(refused) })
            }
        }
    }
}
