//! The admin listener: grants, directory, descriptors, state and the ledger, for three roles that no identity combines.
//!
//! A role is a Unix socket of its own, or an identity that the config gives it on an mTLS address. Which role may call
//! which method stands in one table ([`METHODS`]); refusals are entries too.

mod archive;
mod audit;
mod directory;
mod erasure;
mod evidence;
mod grants;
mod guard;
mod line;

use std::{fs, io, net::SocketAddr, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use anyhow::{Context as _, Result};
use banqiao_directory::{CityCode, Clock};
use banqiao_ledger::{Append, AppendError, Appender, Effect};
use banqiao_proto::{
    directory::v1::{
        admin_service_server::AdminServiceServer, grant_service_server::GrantServiceServer,
    },
    exchange::v1::Reason,
    ledger::v1::{
        AdminChange, Decision, Entry, Kind, Result as EntryResult,
        audit_service_server::AuditServiceServer, erasure_service_server::ErasureServiceServer,
    },
};
use banqiao_proxy::Control;
use tokio::{
    net::{TcpListener, UnixListener},
    sync::Mutex,
};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Status, transport::Server};
use tonic_types::{ErrorDetails, StatusExt as _};

pub use guard::METHODS;
use line::{Line, tls_lines};

use crate::config::{AdminListener, Config, Role};

/// Largest request: a descriptor set, and what stands beside it.
const MAX_REQUEST: usize = banqiao_directory::MAX_DESCRIPTOR_SET_BYTES + 64 * 1024;

/// Who administers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Actor {
    pub(crate) role: Role,
    /// A SPIFFE ID, or `socket:<role>`.
    pub(crate) name: Arc<str>,
}

impl Actor {
    /// The actor of a request, as its connection proved it.
    fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        let actor = request.extensions().get::<Self>().cloned();
        actor.ok_or_else(|| Status::internal("the connection has no role"))
    }
}

/// What the services of the listener share.
#[derive(Clone, Debug)]
pub(crate) struct Core {
    control: Control,
    appender: Appender,
    city: CityCode,
    /// Digest of the first directory that the gateway trusts.
    directory_pin: [u8; 32],
    replica: Arc<str>,
    started_us: i64,
    clock: Clock,
    /// Entries are archived by one request at a time.
    archiving: Arc<Mutex<()>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Core {
    /// Runs the far end of a stream until it is done or the listener stops.
    fn background(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks
            .spawn(self.stop.clone().run_until_cancelled_owned(task));
    }

    /// Enters a change, together with what it changes.
    async fn change(
        &self,
        actor: &Actor,
        action: &str,
        target: &str,
        digests: (Vec<u8>, Vec<u8>),
        effects: Vec<Effect>,
    ) -> Result<(), Status> {
        let (before, after) = digests;
        let mut append = Append::new(Entry {
            kind: Kind::Admin.into(),
            admin: Some(AdminChange {
                action: action.to_owned(),
                actor: actor.name.to_string(),
                target: target.to_owned(),
                before,
                after,
            }),
            ..Entry::default()
        });
        append.effects = effects;
        self.appender
            .append(append)
            .await
            .map(drop)
            .map_err(|error| unwritable(&error))
    }

    /// Enters what an administrative identity was refused.
    async fn refused(&self, actor: &Actor, action: &str, reason: Reason) -> Result<(), Status> {
        let entry = Entry {
            kind: Kind::Admin.into(),
            decision: Some(Decision {
                reason: reason.into(),
                ..Decision::default()
            }),
            result: Some(EntryResult {
                status: banqiao_proto::reasons().rule(reason).status,
                reason: reason.into(),
                ..EntryResult::default()
            }),
            admin: Some(AdminChange {
                action: action.to_owned(),
                actor: actor.name.to_string(),
                ..AdminChange::default()
            }),
            ..Entry::default()
        };
        self.appender
            .append(Append::new(entry))
            .await
            .map(drop)
            .map_err(|error| unwritable(&error))
    }
}

/// A status with a reason of the table.
fn refusal(reason: Reason, message: impl Into<String>) -> Status {
    let rule = banqiao_proto::reasons().rule(reason);
    let name = banqiao_proto::ReasonTable::name(reason);
    let metadata: std::collections::HashMap<_, _> =
        [("remedy".to_owned(), rule.remedy.clone())].into();
    let code = tonic::Code::from(i32::try_from(rule.status).unwrap_or(13));
    Status::with_error_details(
        code,
        message,
        ErrorDetails::with_error_info(name, "banqiao", metadata),
    )
}

fn unwritable(error: &AppendError) -> Status {
    refusal(
        error.reason(),
        "the change was not made: it could not be entered in the ledger",
    )
}

/// Faults of fields, all of them.
fn invalid(message: &str, faults: impl IntoIterator<Item = (String, String)>) -> Status {
    let mut details = ErrorDetails::new();
    for (field, problem) in faults {
        details.add_bad_request_violation(field, problem);
    }
    Status::with_error_details(tonic::Code::InvalidArgument, message, details)
}

/// Starts the listener. It serves until `stop` is cancelled. Returns the mTLS address, if there is one.
///
/// # Errors
///
/// A socket or address cannot be used.
pub(crate) async fn start(
    config: &Config,
    control: Control,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Option<SocketAddr>> {
    let clock = Clock::system();
    let core = Core {
        appender: control.ledger().appender(),
        control,
        city: config.city,
        directory_pin: config.directory.pin,
        replica: config.replica.as_str().into(),
        started_us: clock.now_us(),
        clock,
        archiving: Arc::default(),
        tasks: tasks.clone(),
        stop: stop.clone(),
    };
    let erasures = erasure::Erasures::new(core.clone());
    let AdminListener { sockets, address } = &config.listeners.admin;
    for (role, path) in sockets {
        let socket = bind(path).with_context(|| format!("admin socket {}", path.display()))?;
        let actor = Actor {
            role: *role,
            name: format!("socket:{role}").into(),
        };
        let lines = tokio_stream::StreamExt::map(UnixListenerStream::new(socket), move |line| {
            line.map(|line| Line::new(line, actor.clone()))
        });
        let server = server(&core, &erasures)
            .serve_with_incoming_shutdown(lines, stop.clone().cancelled_owned());
        spawn(tasks, server);
    }
    let Some((address, roles)) = address else {
        return Ok(None);
    };
    let socket = TcpListener::bind(address)
        .await
        .with_context(|| format!("admin listener {address}"))?;
    let address = socket.local_addr()?;
    let lines = tls_lines(
        socket,
        core.control.identity().clone(),
        roles.clone(),
        tasks,
        stop,
    );
    let server = server(&core, &erasures)
        .serve_with_incoming_shutdown(lines, stop.clone().cancelled_owned());
    spawn(tasks, server);
    Ok(Some(address))
}

fn spawn(
    tasks: &TaskTracker,
    server: impl Future<Output = Result<(), tonic::transport::Error>> + Send + 'static,
) {
    tasks.spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(error = %banqiao_telemetry::Chain(&error), "the admin listener ended");
        }
    });
}

fn server(
    core: &Core,
    erasures: &erasure::Erasures,
) -> tonic::transport::server::Router<
    tower::layer::util::Stack<guard::GuardLayer, tower::layer::util::Identity>,
> {
    Server::builder()
        .layer(guard::GuardLayer::new(core.clone()))
        .add_service(
            GrantServiceServer::new(grants::Grants(core.clone()))
                .max_decoding_message_size(MAX_REQUEST),
        )
        .add_service(
            AdminServiceServer::new(directory::Admin(core.clone()))
                .max_decoding_message_size(MAX_REQUEST),
        )
        .add_service(AuditServiceServer::new(audit::Audit(core.clone())))
        .add_service(ErasureServiceServer::new(erasures.clone()))
}

/// Binds a socket that only its owner can use. One that a dead process left behind is replaced.
fn bind(path: &Path) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
        fs::set_permissions(folder, fs::Permissions::from_mode(0o700))?;
    }
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        return Err(io::Error::new(
            io::ErrorKind::AddrInUse,
            "another process serves this socket",
        ));
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = UnixListener::bind(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
    Ok(socket)
}

#[cfg(test)]
mod tests;
