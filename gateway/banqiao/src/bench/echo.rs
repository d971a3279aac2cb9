//! The service that a benchmark calls: it answers with the message that it got.

use std::{future::poll_fn, net::SocketAddr, path::PathBuf};

use anyhow::Result;
use banqiao_identity::IdentityFiles;
use bytes::{Bytes, BytesMut};
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Response};
use prost::Message as _;
use prost_types::{
    DescriptorProto, FieldDescriptorProto, FileDescriptorProto, FileDescriptorSet,
    MethodDescriptorProto, MethodOptions, ServiceDescriptorProto,
    field_descriptor_proto::{Label, Type},
    method_options::IdempotencyLevel,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{exit::Exit, sandbox::exit_with_parent};

/// Full name of the service.
pub(super) const SERVICE: &str = "banqiao.bench.v1.EchoService";
/// Method without side effects.
pub(super) const READ: &str = "Read";
/// Method with side effects: its OPEN is durable before the service is called.
pub(super) const WRITE: &str = "Write";

/// The service's descriptors.
pub(super) fn descriptor_set() -> Vec<u8> {
    let method = |name: &str, level: Option<IdempotencyLevel>| MethodDescriptorProto {
        name: Some(name.to_owned()),
        input_type: Some(".banqiao.bench.v1.Echo".to_owned()),
        output_type: Some(".banqiao.bench.v1.Echo".to_owned()),
        options: level.map(|level| MethodOptions {
            idempotency_level: Some(level.into()),
            ..MethodOptions::default()
        }),
        ..MethodDescriptorProto::default()
    };
    let file = FileDescriptorProto {
        name: Some("banqiao/bench/v1/echo.proto".to_owned()),
        package: Some("banqiao.bench.v1".to_owned()),
        syntax: Some("proto3".to_owned()),
        message_type: vec![DescriptorProto {
            name: Some("Echo".to_owned()),
            field: vec![FieldDescriptorProto {
                name: Some("payload".to_owned()),
                number: Some(1),
                label: Some(Label::Optional.into()),
                r#type: Some(Type::Bytes.into()),
                ..FieldDescriptorProto::default()
            }],
            ..DescriptorProto::default()
        }],
        service: vec![ServiceDescriptorProto {
            name: Some("EchoService".to_owned()),
            method: vec![
                method(READ, Some(IdempotencyLevel::NoSideEffects)),
                method(WRITE, None),
            ],
            ..ServiceDescriptorProto::default()
        }],
        ..FileDescriptorProto::default()
    };
    FileDescriptorSet { file: vec![file] }.encode_to_vec()
}

/// The echo service as a process of its own.
#[derive(Debug, clap::Args)]
pub struct BenchEchoCommand {
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    cert: PathBuf,
    #[arg(long)]
    key: PathBuf,
    #[arg(long)]
    ca: PathBuf,
    #[arg(long)]
    crl: PathBuf,
}

impl BenchEchoCommand {
    /// Serves until the parent is gone.
    ///
    /// # Errors
    ///
    /// The certificate or the address cannot be used.
    pub async fn run(&self) -> Result<Exit> {
        let files = IdentityFiles {
            certificate: self.cert.clone(),
            private_key: self.key.clone(),
        };
        let identity = super::load_identity(files, &self.ca, &self.crl)?;
        let listener = TcpListener::bind(self.listen).await?;
        let mut connections = JoinSet::new();
        let mut parent = std::pin::pin!(exit_with_parent());
        loop {
            let stream = tokio::select! {
                () = &mut parent => return Ok(Exit::Done),
                accepted = listener.accept() => accepted?.0,
            };
            let acceptor = tokio_rustls::TlsAcceptor::from(identity.server_config());
            connections.spawn(async move {
                // A broken connection is the other side's to report.
                let _ = serve(stream, acceptor).await;
            });
        }
    }
}

async fn serve(stream: TcpStream, acceptor: tokio_rustls::TlsAcceptor) -> Result<()> {
    stream.set_nodelay(true)?;
    let tls = acceptor.accept(stream).await?;
    let mut connection = h2::server::Builder::new()
        .max_concurrent_streams(1_000)
        .handshake::<_, Bytes>(tls)
        .await?;
    let mut calls = JoinSet::new();
    while let Some(request) = connection.accept().await {
        let (request, respond) = request?;
        calls.spawn(echo(request.into_body(), respond));
        while calls.try_join_next().is_some() {}
    }
    Ok(())
}

async fn echo(mut body: RecvStream, mut respond: SendResponse<Bytes>) -> Result<()> {
    let mut message = BytesMut::new();
    while let Some(chunk) = poll_fn(|cx| body.poll_data(cx)).await {
        let chunk = chunk?;
        body.flow_control().release_capacity(chunk.len())?;
        message.extend_from_slice(&chunk);
    }
    let mut response = Response::new(());
    response
        .headers_mut()
        .insert("content-type", HeaderValue::from_static("application/grpc"));
    let mut stream = respond.send_response(response, false)?;
    stream.send_data(message.freeze(), false)?;
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    stream.send_trailers(trailers)?;
    Ok(())
}
