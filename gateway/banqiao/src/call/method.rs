//! Finds the method that is to be called: in a descriptor set, or by asking the gateway.

use std::{collections::BTreeMap, io, path::Path};

use prost::Message as _;
use prost_reflect::{DescriptorPool, MethodDescriptor, ServiceDescriptor};
use prost_types::FileDescriptorProto;
use tokio_stream::StreamExt as _;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, ServerReflectionResponse,
    server_reflection_client::ServerReflectionClient, server_reflection_request::MessageRequest,
    server_reflection_response::MessageResponse,
};

use crate::{
    answer,
    exit::{Exit, Stop},
    text::{clean, table::Table},
};

/// Files that a description may have: a gateway's services import some dozens.
const MAX_FILES: usize = 1_000;
/// Largest answer to one reflection request, in bytes.
const MAX_REFLECTION_BYTES: usize = 16 << 20;

/// Finds a method by its name.
pub(super) async fn find(
    name: &str,
    descriptor_set: Option<&Path>,
    channel: &Channel,
) -> Result<MethodDescriptor, Stop> {
    let (service, method) = split(name)?;
    let service = match descriptor_set {
        Some(file) => in_set(file, service)?,
        None => match Reflection::open(channel.clone()).await {
            Ok(mut reflection) => reflection.service(service).await?,
            // A gateway that does not reflect may still carry Banqiao's own services.
            Err(status) => {
                matching(banqiao_proto::descriptors().services(), service)?.ok_or_else(|| {
                    Stop::new(
                        Exit::Failed,
                        format!(
                            "the gateway does not tell its methods: {}",
                            answer::describe(&status)
                        ),
                    )
                })?
            }
        },
    };
    let found = service.methods().find(|known| known.name() == method);
    found.ok_or_else(|| {
        let known: Vec<_> = service
            .methods()
            .map(|known| known.name().to_owned())
            .collect();
        let name = clean(service.full_name()).into_owned();
        Stop::usage(format!(
            "{name} has no method {method}; it has {}",
            clean(&known.join(", "))
        ))
    })
}

/// Prints every method that the gateway shows and whose name contains `part`.
pub(super) async fn list(
    channel: Channel,
    part: &str,
    out: &mut dyn io::Write,
) -> anyhow::Result<Exit> {
    let failed = |status: Status| answer::stop(&status);
    let mut reflection = Reflection::open(channel).await.map_err(failed)?;
    let mut table = Table::new(&["METHOD", "REQUEST", "RESPONSE"]);
    for name in reflection.names.clone() {
        let pool = reflection.describe(&name).await?;
        let Some(service) = pool.get_service_by_name(&name) else {
            continue;
        };
        for method in service.methods() {
            let path = format!("{}/{}", service.full_name(), method.name());
            if !path.contains(part) {
                continue;
            }
            let form = |stream: bool, name: &str| {
                if stream {
                    format!("stream {name}")
                } else {
                    name.to_owned()
                }
            };
            table.row([
                path.as_str(),
                &form(method.is_client_streaming(), method.input().full_name()),
                &form(method.is_server_streaming(), method.output().full_name()),
            ]);
        }
    }
    table.write(out)?;
    Ok(if table.is_empty() {
        Exit::Failed
    } else {
        Exit::Done
    })
}

/// `[/]service/method` or `service.method`.
fn split(name: &str) -> Result<(&str, &str), Stop> {
    let name = name.strip_prefix('/').unwrap_or(name);
    let parts = name.rsplit_once('/').or_else(|| name.rsplit_once('.'));
    parts
        .filter(|(service, method)| !service.is_empty() && !method.is_empty())
        .ok_or_else(|| {
            Stop::usage(format!(
                "{name:?} is not a method: write package.Service/Method"
            ))
        })
}

fn in_set(file: &Path, service: &str) -> Result<ServiceDescriptor, Stop> {
    let bytes = std::fs::read(file).map_err(|error| {
        Stop::usage(format!("{} cannot be read", file.display())).caused_by(error)
    })?;
    let pool = DescriptorPool::decode(bytes.as_slice()).map_err(|error| {
        let problem = format!(
            "{} is not a descriptor set with every import",
            file.display()
        );
        Stop::usage(problem).caused_by(error)
    })?;
    matching(pool.services(), service)?
        .ok_or_else(|| Stop::usage(format!("{} does not describe {service}", file.display())))
}

/// The one service with this full name, or whose full name ends in `.name`.
fn matching(
    services: impl Iterator<Item = ServiceDescriptor>,
    name: &str,
) -> Result<Option<ServiceDescriptor>, Stop> {
    let mut found: Vec<ServiceDescriptor> = Vec::new();
    for service in services {
        if service.full_name() == name {
            return Ok(Some(service));
        }
        if is_suffix(service.full_name(), name) {
            found.push(service);
        }
    }
    if found.len() > 1 {
        return Err(ambiguous(
            name,
            found.iter().map(ServiceDescriptor::full_name),
        ));
    }
    Ok(found.pop())
}

fn is_suffix(full: &str, name: &str) -> bool {
    full.strip_suffix(name)
        .is_some_and(|package| package.ends_with('.'))
}

fn ambiguous<'a>(name: &str, found: impl Iterator<Item = &'a str>) -> Stop {
    let found: Vec<_> = found.collect();
    Stop::usage(format!(
        "{name} may be {}: write the full name",
        clean(&found.join(" or "))
    ))
}

/// One reflection stream.
struct Reflection {
    requests: tokio::sync::mpsc::Sender<ServerReflectionRequest>,
    answers: Streaming<ServerReflectionResponse>,
    /// Full names of the services that the gateway shows.
    names: Vec<String>,
    files: BTreeMap<String, FileDescriptorProto>,
}

impl Reflection {
    async fn open(channel: Channel) -> Result<Self, Status> {
        let mut client =
            ServerReflectionClient::new(channel).max_decoding_message_size(MAX_REFLECTION_BYTES);
        let (requests, receiver) = tokio::sync::mpsc::channel(1);
        // The first request goes before the answer's headers are awaited: some servers send none until then.
        let list = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let _ = requests.try_send(list);
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let mut answers = client.server_reflection_info(stream).await?.into_inner();
        let names = match next(&mut answers).await? {
            MessageResponse::ListServicesResponse(list) => list
                .service
                .into_iter()
                .map(|service| service.name)
                .collect(),
            _ => return Err(Status::internal("the gateway answered another question")),
        };
        Ok(Self {
            requests,
            answers,
            names,
            files: BTreeMap::new(),
        })
    }

    /// The service with a full name, or whose full name ends so.
    async fn service(&mut self, name: &str) -> Result<ServiceDescriptor, Stop> {
        let mut names = self
            .names
            .iter()
            .filter(|full| *full == name || is_suffix(full, name));
        let full = match (names.next(), names.next()) {
            (Some(first), None) => first.clone(),
            (Some(_), Some(_)) if self.names.iter().any(|full| full == name) => name.to_owned(),
            (Some(first), Some(second)) => {
                return Err(ambiguous(
                    name,
                    [first.as_str(), second.as_str()].into_iter(),
                ));
            }
            (None, _) => {
                let known = clean(&self.names.join(", ")).into_owned();
                let problem = format!("the gateway shows you no service {name}");
                return Err(Stop::usage(format!("{problem}; it shows {known}")));
            }
        };
        let pool = self.describe(&full).await?;
        pool.get_service_by_name(&full).ok_or_else(|| {
            Stop::new(
                Exit::Failed,
                format!("the gateway's answer does not describe {name}"),
            )
        })
    }

    /// Fetches the file of a service and everything that it imports.
    async fn describe(&mut self, service: &str) -> Result<DescriptorPool, Stop> {
        let failed = |status: Status| answer::stop(&status);
        let symbol = MessageRequest::FileContainingSymbol(service.to_owned());
        self.fetch(symbol).await.map_err(failed)?;
        while let Some(missing) = self.missing() {
            if self.files.len() >= MAX_FILES {
                return Err(Stop::new(
                    Exit::Failed,
                    "the gateway's descriptors have no end",
                ));
            }
            let asked = missing.clone();
            self.fetch(MessageRequest::FileByFilename(missing))
                .await
                .map_err(failed)?;
            if !self.files.contains_key(&asked) {
                let problem = format!("the gateway does not tell {}", clean(&asked));
                return Err(Stop::new(Exit::Failed, problem));
            }
        }
        let mut pool = DescriptorPool::new();
        pool.add_file_descriptor_protos(self.files.values().cloned())
            .map_err(|error| {
                Stop::new(
                    Exit::Failed,
                    "the gateway's descriptors do not fit together",
                )
                .caused_by(error)
            })?;
        Ok(pool)
    }

    /// A file that is imported and was not fetched yet.
    fn missing(&self) -> Option<String> {
        let imports = self.files.values().flat_map(|file| &file.dependency);
        imports
            .into_iter()
            .find(|name| !self.files.contains_key(*name))
            .cloned()
    }

    async fn fetch(&mut self, question: MessageRequest) -> Result<(), Status> {
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(question),
        };
        // A closed stream tells why in its answer.
        let _ = self.requests.send(request).await;
        match next(&mut self.answers).await? {
            MessageResponse::FileDescriptorResponse(files) => {
                for bytes in files.file_descriptor_proto {
                    let file = FileDescriptorProto::decode(bytes.as_slice())
                        .map_err(|_| Status::internal("the gateway sent no file descriptor"))?;
                    self.files.insert(file.name().to_owned(), file);
                }
                Ok(())
            }
            _ => Err(Status::internal("the gateway answered another question")),
        }
    }
}

/// The next answer; an error within it becomes a status.
async fn next(
    answers: &mut Streaming<ServerReflectionResponse>,
) -> Result<MessageResponse, Status> {
    let closed = || Status::unavailable("the gateway ended the reflection stream");
    let answer = answers.next().await.ok_or_else(closed)??;
    match answer.message_response.ok_or_else(closed)? {
        MessageResponse::ErrorResponse(error) => Err(Status::new(
            Code::from(error.error_code),
            error.error_message,
        )),
        answer => Ok(answer),
    }
}
