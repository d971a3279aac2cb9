//! Server reflection, v1 and v1alpha, over the services that the asking system may call.

use std::{
    pin::Pin,
    sync::{Arc, LazyLock},
};

use prost_reflect::{DescriptorPool, FileDescriptor};
use tokio_stream::{Stream, StreamExt};
use tonic::{Code, Request, Response, Status, Streaming};
use tonic_reflection::pb::{v1, v1alpha};

use super::{Caller, visible};

#[derive(Clone, Copy, Debug)]
pub(super) struct Reflection;

/// The gateway's own services, which every system may call.
static OWN: LazyLock<DescriptorPool> = LazyLock::new(|| {
    let mut pool = DescriptorPool::new();
    for set in [
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        v1::FILE_DESCRIPTOR_SET,
        v1alpha::FILE_DESCRIPTOR_SET,
    ] {
        // They were compiled with the crates that serve them; a test asks for each.
        if let Err(error) = pool.decode_file_descriptor_set(set) {
            tracing::error!(%error, "a service of the gateway itself cannot be described");
        }
    }
    pool
});

/// What is asked, in terms common to both versions of the protocol.
enum Question {
    Extension { message: String, number: i32 },
    ExtensionNumbers { message: String },
    File { name: String },
    Nothing,
    Services,
    Symbol { name: String },
}

enum Answer {
    ExtensionNumbers { message: String, numbers: Vec<i32> },
    Files(Vec<Vec<u8>>),
    Services(Vec<Arc<str>>),
    Unknown(&'static str),
}

fn answer(caller: &Caller, question: Question) -> Answer {
    let shared = caller.shared();
    let snapshot = shared.rights.snapshot();
    let names = visible(shared, &snapshot, caller.id());
    let catalogs = std::iter::once(&snapshot.catalog).chain(snapshot.remote.values());
    let pools: Vec<DescriptorPool> = catalogs
        .flat_map(|carried| {
            names
                .iter()
                .filter_map(|name| carried.catalog().service(name))
        })
        .filter_map(|service| Some(service.methods.first()?.request.parent_pool().clone()))
        .chain([OWN.clone()])
        .collect();
    match question {
        Question::Symbol { name } => files(pools.iter().find_map(|pool| symbol(pool, &name))),
        Question::File { name } => {
            files(pools.iter().find_map(|pool| pool.get_file_by_name(&name)))
        }
        Question::Extension { message, number } => files(pools.iter().find_map(|pool| {
            let number = u32::try_from(number).ok()?;
            let message = pool.get_message_by_name(&message)?;
            Some(message.get_extension(number)?.parent_file())
        })),
        Question::ExtensionNumbers { message } => {
            let known = pools
                .iter()
                .find_map(|pool| pool.get_message_by_name(&message));
            let Some(known) = known else {
                return Answer::Unknown("no such message");
            };
            let numbers = known
                .extensions()
                .filter_map(|known| i32::try_from(known.number()).ok());
            let numbers = numbers.collect();
            Answer::ExtensionNumbers { message, numbers }
        }
        Question::Services => {
            let own = OWN.services().map(|service| Arc::from(service.full_name()));
            Answer::Services(own.chain(names).collect())
        }
        Question::Nothing => Answer::Unknown("the request asks nothing"),
    }
}

fn files(found: Option<FileDescriptor>) -> Answer {
    found.map_or(Answer::Unknown("no such file or symbol"), |file| {
        Answer::Files(vec![file.encode_to_vec()])
    })
}

fn symbol(pool: &DescriptorPool, name: &str) -> Option<FileDescriptor> {
    let method = || {
        let (service, method) = name.rsplit_once('.')?;
        let service = pool.get_service_by_name(service)?;
        let found = service.methods().any(|known| known.name() == method);
        found.then(|| service.parent_file())
    };
    let service = pool
        .get_service_by_name(name)
        .map(|found| found.parent_file());
    service
        .or_else(|| {
            pool.get_message_by_name(name)
                .map(|found| found.parent_file())
        })
        .or_else(|| pool.get_enum_by_name(name).map(|found| found.parent_file()))
        .or_else(|| {
            pool.get_extension_by_name(name)
                .map(|found| found.parent_file())
        })
        .or_else(method)
}

macro_rules! version {
    ($version:ident) => {
        #[tonic::async_trait]
        impl $version::server_reflection_server::ServerReflection for Reflection {
            type ServerReflectionInfoStream = Pin<
                Box<dyn Stream<Item = Result<$version::ServerReflectionResponse, Status>> + Send>,
            >;

            async fn server_reflection_info(
                &self,
                request: Request<Streaming<$version::ServerReflectionRequest>>,
            ) -> Result<Response<Self::ServerReflectionInfoStream>, Status> {
                use $version::{
                    ErrorResponse, ExtensionNumberResponse, FileDescriptorResponse,
                    ListServiceResponse, ServerReflectionResponse, ServiceResponse,
                    server_reflection_request::MessageRequest as Asked,
                    server_reflection_response::MessageResponse as Answered,
                };
                let caller = Caller::of(&request)?;
                let stream = request.into_inner().map(move |request| {
                    let request = request?;
                    let question = match request.message_request.clone() {
                        Some(Asked::FileByFilename(name)) => Question::File { name },
                        Some(Asked::FileContainingSymbol(name)) => Question::Symbol { name },
                        Some(Asked::FileContainingExtension(asked)) => Question::Extension {
                            message: asked.containing_type,
                            number: asked.extension_number,
                        },
                        Some(Asked::AllExtensionNumbersOfType(message)) => {
                            Question::ExtensionNumbers { message }
                        }
                        Some(Asked::ListServices(_)) => Question::Services,
                        None => Question::Nothing,
                    };
                    let answered = match answer(&caller, question) {
                        Answer::Files(files) => {
                            Answered::FileDescriptorResponse(FileDescriptorResponse {
                                file_descriptor_proto: files,
                            })
                        }
                        Answer::Services(names) => {
                            Answered::ListServicesResponse(ListServiceResponse {
                                service: names
                                    .iter()
                                    .map(|name| ServiceResponse {
                                        name: name.to_string(),
                                    })
                                    .collect(),
                            })
                        }
                        Answer::ExtensionNumbers { message, numbers } => {
                            Answered::AllExtensionNumbersResponse(ExtensionNumberResponse {
                                base_type_name: message,
                                extension_number: numbers,
                            })
                        }
                        Answer::Unknown(what) => Answered::ErrorResponse(ErrorResponse {
                            error_code: Code::NotFound.into(),
                            error_message: what.to_owned(),
                        }),
                    };
                    Ok(ServerReflectionResponse {
                        valid_host: request.host.clone(),
                        original_request: Some(request),
                        message_response: Some(answered),
                    })
                });
                Ok(Response::new(Box::pin(stream)))
            }
        }
    };
}

version!(v1);
version!(v1alpha);
