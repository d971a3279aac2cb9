//! The server of a service: TLS, health, reflection, telemetry, and a stop that finishes what is open.
//!
//! Around every call, outermost first: the span and the measurements of [`ServerTraceLayer`], so that refusals are seen too; then
//! admission, which lets only the city's gateway in and reads the caller's context; then the routes.

use std::{io, net::SocketAddr, time::Duration};

use banqiao_directory::Clock;
use banqiao_identity::Identity;
use banqiao_telemetry::{ServerTraceLayer, Telemetry};
use prost_reflect::{DescriptorError, DescriptorPool};
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    admission::AdmissionLayer,
    connection::Connections,
    trust::{ServiceIdentity, TrustError, TrustSettings},
};

/// Open calls finish within this after a stop: longer than any deadline of the services' unary methods.
pub const DEFAULT_DRAIN: Duration = Duration::from_secs(15);

/// A silent gateway is gone within 40 s.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Streams on a connection. The one peer is the city's gateway, which fences its clients and brings all their calls on a few connections.
const MAX_STREAMS: u32 = 1_000;
/// Resets that are tolerated: the cancels of one client with every stream open must not take the gateway's connection from all others.
const MAX_RESETS: usize = 2_000;
/// Header lists: as the gateway's own limit.
const MAX_HEADERS: u32 = 16 * 1024;
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;
/// Proven connections that wait to be taken by the server.
const READY: usize = 16;

/// What a service brings.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its routes.
    pub routes: Routes,
    /// Full names of its gRPC services, for health and reflection.
    pub names: &'static [&'static str],
    /// Encoded `FileDescriptorSet` that holds them, with options.
    pub descriptors: &'static [u8],
    /// Is cancelled when the server begins to stop: long streams end then, so that their callers go to another replica.
    pub stopping: CancellationToken,
}

/// Why a service does not serve.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The descriptor set does not hold a service: a fault of the program.
    #[error("the descriptor set has no service {0}")]
    Descriptor(&'static str),
    /// The descriptor set cannot be read: a fault of the program.
    #[error("cannot read the descriptor set")]
    Descriptors(#[source] DescriptorError),
    /// Reflection cannot be set up: a fault of the program.
    #[error("cannot set up reflection")]
    Reflection(#[source] tonic_reflection::server::Error),
    /// The transport failed.
    #[error("the server failed")]
    Transport(#[source] tonic::transport::Error),
    /// The certificates.
    #[error("cannot set up TLS")]
    Trust(#[from] TrustError),
}

/// A bound server that does not serve yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    identity: ServiceIdentity,
    telemetry: Telemetry,
    drain: Duration,
}

impl Server {
    /// Reads the certificates and listens; connections wait until [`Server::serve`].
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn bind(
        address: SocketAddr,
        trust: TrustSettings,
        telemetry: Telemetry,
        clock: Clock,
    ) -> Result<Self, ServerError> {
        let identity = ServiceIdentity::load(trust, clock)?;
        let bind = |source| ServerError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(bind)?;
        let address = listener.local_addr().map_err(bind)?;
        Ok(Self {
            listener,
            address,
            identity,
            telemetry,
            drain: DEFAULT_DRAIN,
        })
    }

    /// Sets how long open calls may take to finish after a stop.
    #[must_use]
    pub const fn drain(mut self, drain: Duration) -> Self {
        self.drain = drain;
        self
    }

    /// The address that it listens on; with its port, when it was bound to port 0.
    pub const fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Who this service is, and whom it trusts.
    pub const fn identity(&self) -> &ServiceIdentity {
        &self.identity
    }

    /// Serves until `shutdown` completes. Then health turns NOT_SERVING, `stopping` is cancelled, no new call is taken, open ones finish
    /// within the drain limit, and the rest is cut off.
    ///
    /// # Errors
    /// The descriptors do not fit the service, or the transport fails.
    pub async fn serve(
        self,
        service: Service,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServerError> {
        let methods = methods(&service)?;
        let (mut health, routes) = with_health_and_reflection(&service).await?;
        let identity: Identity = self.identity.identity().clone();
        let gateway = self.identity.gateway();
        let connections =
            Connections::new(gateway.clone(), identity, self.telemetry.metrics().clone());
        let (tasks, stop_tasks) = (TaskTracker::new(), CancellationToken::new());
        let (ready, incoming) = mpsc::channel(READY);
        let closing = CancellationToken::new();
        let accepting =
            connections
                .clone()
                .accept(self.listener, ready, tasks.clone(), closing.clone());
        tasks.spawn(accepting);
        tasks.spawn(connections.clone().watch_peers(stop_tasks.clone()));
        let (identity, stop) = (self.identity.clone(), stop_tasks.clone());
        let metrics = self.telemetry.metrics().clone();
        tasks.spawn(async move { identity.keep_current(&metrics, stop).await });
        let serving = transport()
            .layer(ServerTraceLayer::new(&self.telemetry, methods))
            .layer(AdmissionLayer::new(gateway.clone()))
            .add_routes(routes)
            .serve_with_incoming_shutdown(
                ReceiverStream::new(incoming),
                closing.clone().cancelled_owned(),
            );
        let mut serving = std::pin::pin!(serving);
        tracing::info!(address = %self.address, identity = %self.identity.identity().own().id, "serving");
        let early = tokio::select! {
            ended = &mut serving => Some(ended),
            () = shutdown => None,
        };
        set_health(&health, service.names, ServingStatus::NotServing).await;
        service.stopping.cancel();
        closing.cancel();
        // Whoever watches health has the news; without an end of their own these streams would last until the limit.
        for name in service.names.iter().copied().chain([""]) {
            health.clear_service_status(name).await;
        }
        let ended = match early {
            Some(ended) => ended,
            None => match timeout(self.drain, &mut serving).await {
                Ok(ended) => ended,
                Err(_) => {
                    tracing::warn!(limit = ?self.drain, "cutting off calls that did not finish");
                    connections.close_all();
                    serving.await
                }
            },
        };
        stop_tasks.cancel();
        tasks.close();
        tasks.wait().await;
        tracing::info!("stopped");
        ended.map_err(ServerError::Transport)
    }
}

fn transport() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .max_concurrent_streams(MAX_STREAMS)
        .http2_max_pending_accept_reset_streams(Some(MAX_RESETS))
        .http2_max_local_error_reset_streams(Some(MAX_RESETS))
        .http2_max_header_list_size(MAX_HEADERS)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
}

/// The paths of the service's methods, which may be labels of measurements.
fn methods(service: &Service) -> Result<Vec<String>, ServerError> {
    let pool = DescriptorPool::decode(service.descriptors).map_err(ServerError::Descriptors)?;
    let mut paths = Vec::new();
    for name in service.names {
        let described = pool
            .get_service_by_name(name)
            .ok_or(ServerError::Descriptor(name))?;
        paths.extend(
            described
                .methods()
                .map(|method| format!("/{name}/{}", method.name())),
        );
    }
    Ok(paths)
}

async fn with_health_and_reflection(
    service: &Service,
) -> Result<(HealthReporter, Routes), ServerError> {
    let (health, health_server) = tonic_health::server::health_reporter();
    set_health(&health, service.names, ServingStatus::Serving).await;
    let reflection = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(service.descriptors)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .with_service_name("grpc.health.v1.Health");
        service
            .names
            .iter()
            .fold(builder, |builder, name| builder.with_service_name(*name))
    };
    let v1 = reflection().build_v1().map_err(ServerError::Reflection)?;
    // grpcurl before 1.9 knows only this one.
    let v1alpha = reflection()
        .build_v1alpha()
        .map_err(ServerError::Reflection)?;
    let routes = service.routes.clone().add_service(health_server);
    Ok((health, routes.add_service(v1).add_service(v1alpha)))
}

/// Sets the health of the server as a whole and of each of its services.
async fn set_health(health: &HealthReporter, names: &[&str], status: ServingStatus) {
    for name in names.iter().copied().chain([""]) {
        health.set_service_status(name, status).await;
    }
}
