//! A short connection to a peer gateway's `DirectoryService`.

use std::sync::Arc;

use banqiao_directory::{City, CityCode};
use banqiao_identity::{Expect, Identity};
use banqiao_proto::directory::v1::{
    GetCatalogRequest, GetCatalogResponse, GetDescriptorSetRequest, GetDescriptorSetResponse,
    GetDirectoryRequest, GetDirectoryResponse, ListCrlsRequest, ListCrlsResponse,
    directory_service_client::DirectoryServiceClient,
};
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::PeerError;
use crate::worker::Shared;

/// Largest answer: descriptor sets and directories.
const MAX_ANSWER: usize = 32 * 1024 * 1024;

pub(super) struct PeerClient {
    city: CityCode,
    client: DirectoryServiceClient<Channel>,
}

impl PeerClient {
    /// Connects to the first gateway of a city that answers.
    pub(super) async fn connect(shared: &Arc<Shared>, city: &City) -> Result<Self, PeerError> {
        let client = DirectoryServiceClient::new(channel(shared, city).await?)
            .max_decoding_message_size(MAX_ANSWER);
        Ok(Self {
            city: city.code,
            client,
        })
    }

    pub(super) async fn ask<Q: Question>(&mut self, question: Q) -> Result<Q::Answer, PeerError> {
        let answer = question.put(&mut self.client).await;
        answer.map_err(|status| PeerError::Status {
            city: self.city,
            source: Box::new(status),
        })
    }
}

/// A connection to the first gateway of a city that answers.
pub(crate) async fn channel(shared: &Arc<Shared>, city: &City) -> Result<Channel, PeerError> {
    let expect = Expect::Gateway(city.trust_domain.clone());
    let mut last = None;
    for gateway in &city.gateways {
        let Ok(endpoint) = Endpoint::from_shared(format!("http://{}", gateway.address)) else {
            continue;
        };
        let identity = shared.identity.clone();
        let expect = expect.clone();
        let limits = &shared.limits;
        let endpoint = endpoint
            .connect_timeout(limits.connect_timeout)
            .timeout(limits.unary_deadline)
            .http2_keep_alive_interval(limits.keepalive_interval)
            .keep_alive_timeout(limits.keepalive_timeout)
            .keep_alive_while_idle(true);
        let connector = service_fn(move |uri: Uri| connect(identity.clone(), expect.clone(), uri));
        match endpoint.connect_with_connector(connector).await {
            Ok(channel) => return Ok(channel),
            Err(error) => last = Some(Box::new(error)),
        }
    }
    Err(PeerError::Unreachable {
        city: city.code,
        source: last,
    })
}

async fn connect(
    identity: Identity,
    expect: Expect,
    uri: Uri,
) -> Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>, std::io::Error> {
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(443))).await?;
    stream.set_nodelay(true)?;
    let config = identity
        .client_config(&expect)
        .map_err(std::io::Error::other)?;
    let tls = tokio_rustls::TlsConnector::from(config)
        .connect(expect.server_name(), stream)
        .await?;
    Ok(TokioIo::new(tls))
}

/// A request of the service, with the answer that belongs to it.
pub(super) trait Question {
    type Answer;

    async fn put(
        self,
        client: &mut DirectoryServiceClient<Channel>,
    ) -> Result<Self::Answer, tonic::Status>;
}

macro_rules! question {
    ($request:ident => $response:ident by $method:ident) => {
        impl Question for $request {
            type Answer = $response;

            async fn put(
                self,
                client: &mut DirectoryServiceClient<Channel>,
            ) -> Result<$response, tonic::Status> {
                client.$method(self).await.map(tonic::Response::into_inner)
            }
        }
    };
}

question!(GetCatalogRequest => GetCatalogResponse by get_catalog);
question!(GetDescriptorSetRequest => GetDescriptorSetResponse by get_descriptor_set);
question!(GetDirectoryRequest => GetDirectoryResponse by get_directory);
question!(ListCrlsRequest => ListCrlsResponse by list_crls);
