//! The gateway's own services on the gRPC listeners: reflection and health for systems, directory, catalogue and what
//! counterparties may read of the ledger for peer gateways. They are tonic services behind the same connection, TLS and identity as every call.

mod counterparty;
mod directory;
mod health;
mod reflection;

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
};

use banqiao_directory::SpiffeId;
use banqiao_proto::{
    directory::v1::directory_service_server::DirectoryServiceServer,
    ledger::v1::counterparty_service_server::CounterpartyServiceServer,
};
use banqiao_telemetry::{OTHER, Side, Tracer};
use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{Request, Response, request::Parts};
use http_body::{Body as _, Frame};
use tonic::{body::Body, service::Routes};
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::pb::{
    v1::server_reflection_server::ServerReflectionServer as ReflectionV1,
    v1alpha::server_reflection_server::ServerReflectionServer as ReflectionV1Alpha,
};
use tower::Service;

pub(crate) use counterparty::Counterparts;

use crate::{
    accept::Listener, call::Call, connection::Conn, forward::Responder, identity, record, rescue,
    rights::Snapshot, transparency::served, worker::Shared,
};

const CLIENT: [&str; 3] = [
    "/grpc.health.v1.Health/",
    "/grpc.reflection.v1.ServerReflection/",
    "/grpc.reflection.v1alpha.ServerReflection/",
];
const INTER_CITY: [&str; 4] = [
    "/banqiao.directory.v1.DirectoryService/",
    "/banqiao.ledger.v1.CounterpartyService/",
    served::LOG,
    served::WITNESS,
];

/// The services of both listeners.
#[derive(Clone, Debug)]
pub(crate) struct LocalServices {
    client: Routes,
    inter_city: Routes,
}

impl LocalServices {
    pub(crate) fn new() -> Self {
        Self {
            client: Routes::new(HealthServer::new(health::Health))
                .add_service(ReflectionV1::new(reflection::Reflection))
                .add_service(ReflectionV1Alpha::new(reflection::Reflection))
                .prepare(),
            inter_city: Routes::new(DirectoryServiceServer::new(directory::Directory))
                .add_service(CounterpartyServiceServer::new(counterparty::Counterparty))
                .prepare(),
        }
    }
}

/// Whether a path is one of the gateway's own services on this listener.
pub(crate) fn is_local(listener: Listener, path: &str) -> bool {
    let prefixes: &[&str] = match listener {
        Listener::Client => &CLIENT,
        Listener::InterCity => &INTER_CITY,
    };
    prefixes.iter().any(|prefix| path.starts_with(prefix))
}

/// Serves a request by one of them. The identity rules of the listener hold here too.
pub(crate) async fn serve(
    conn: Arc<Conn>,
    parts: Parts,
    body: RecvStream,
    respond: SendResponse<Bytes>,
) {
    let span = Tracer::off().start(None, OTHER, Side::Consumer);
    let mut call = Call::begin(Arc::clone(&conn), parts.uri.path(), span);
    if let Err(refusal) = identity::check(&mut call) {
        let receipt = record::refused(&call, &refusal).await;
        rescue::answer(call, &refusal, receipt, &Responder::new(respond));
        return;
    }
    let registered = conn.worker.calls.register(Arc::clone(&conn.peer), None);
    let mut routes = match conn.listener {
        Listener::Client => conn.worker.shared.local.client.clone(),
        Listener::InterCity => conn.worker.shared.local.inter_city.clone(),
    };
    let responder = Responder::new(respond);
    let answered = async {
        let path = parts.uri.path();
        if conn.listener == Listener::InterCity
            && (path.starts_with(served::LOG) || path.starts_with(served::WITNESS))
        {
            let shared = &conn.worker.shared;
            served::serve(shared, &conn.peer.id, &parts, body, &responder).await;
            return;
        }
        let mut request = Request::from_parts(parts, Body::new(Incoming(body)));
        request.extensions_mut().insert(Caller(Arc::clone(&conn)));
        answer(&mut routes, request, &responder).await;
    };
    tokio::select! {
        () = answered => {}
        reason = registered.ended() => {
            rescue::end(&call, &responder, &crate::refusal::Refusal::new(reason, "the stream was ended"), None);
        }
        () = std::future::poll_fn(|cx| responder.poll_gone(cx)) => responder.reset(),
    }
}

async fn answer(routes: &mut Routes, request: Request<Body>, responder: &Responder) {
    let response: Result<Response<Body>, Infallible> = routes.call(request).await;
    let Ok(response) = response;
    let (parts, body) = response.into_parts();
    let head = Response::from_parts(parts, ());
    let mut body = pin!(body);
    if body.is_end_stream() {
        let _ = responder.headers(head, true);
        return;
    }
    if responder.headers(head, false).is_err() {
        return;
    }
    while let Some(frame) = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        let sent = match frame.map(Frame::into_data) {
            Ok(Ok(data)) => responder.data(data).await,
            Ok(Err(frame)) => match frame.into_trailers() {
                Ok(trailers) => {
                    let _ = responder.trailers(trailers);
                    return;
                }
                Err(_) => Ok(()),
            },
            Err(_) => break,
        };
        if sent.is_err() {
            return;
        }
    }
    responder.reset();
}

/// Who calls one of the gateway's own services.
#[derive(Clone, Debug)]
struct Caller(Arc<Conn>);

impl Caller {
    fn shared(&self) -> &Arc<Shared> {
        &self.0.worker.shared
    }

    fn id(&self) -> &SpiffeId {
        &self.0.peer.id
    }

    fn of<T>(request: &tonic::Request<T>) -> Result<Self, tonic::Status> {
        let caller = request.extensions().get::<Self>().cloned();
        caller.ok_or_else(|| tonic::Status::internal("the caller is not known"))
    }
}

/// Services that a system may see: those that it has a grant for, here and in other cities.
fn visible(shared: &Shared, snapshot: &Snapshot, client: &SpiffeId) -> Vec<Arc<str>> {
    let now = shared.clock.now_us();
    let mut names = snapshot.grants.visible_services(client, now);
    names.retain(|name| snapshot.catalog.catalog().service(name).is_some());
    for carried in snapshot.remote.values() {
        let others = carried
            .catalog()
            .services()
            .iter()
            .map(|service| &service.name);
        names.extend(others.filter(|name| carried.shows(name, client)).cloned());
    }
    names.sort();
    names.dedup();
    names
}

/// A request body as http-body has it.
#[derive(Debug)]
struct Incoming(RecvStream);

impl http_body::Body for Incoming {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        match self.0.poll_data(cx) {
            Poll::Ready(Some(Ok(data))) => {
                let _ = self.0.flow_control().release_capacity(data.len());
                Poll::Ready(Some(Ok(Frame::data(data))))
            }
            Poll::Ready(Some(Err(error))) => Poll::Ready(Some(Err(error))),
            Poll::Ready(None) => match self.0.poll_trailers(cx) {
                Poll::Ready(Ok(trailers)) => {
                    Poll::Ready(trailers.map(|map| Ok(Frame::trailers(map))))
                }
                Poll::Ready(Err(error)) => Poll::Ready(Some(Err(error))),
                Poll::Pending => Poll::Pending,
            },
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
