//! `banqiao.ledger.v1.SubjectService`: who read a person's data, by this city's ledger.
//!
//! It is a service of this city like any other, only that the gateway itself is the one that answers: it listens on
//! loopback, with the gateway's own identity, and lets in nobody but the gateway. So its calls pass the same layers as
//! all others, and what holds for those (grants, entries on both sides, receipts, subjects, limits, drain) holds for
//! them without a second kind of call in the data plane.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use banqiao_directory::{OWN_SERVICE, ServiceSet};
use banqiao_ledger::{Append, QueryError, StoreError, SubjectReport};
use banqiao_proto::ledger::v1::{
    Entry, Kind, ListAccessesRequest, ListAccessesResponse, Read, SubjectAccess, SubjectNumber,
    SubjectReportEnd,
    list_accesses_response::Part,
    subject_service_server::{SubjectService, SubjectServiceServer},
};
use banqiao_telemetry::Chain;
use futures_util::StreamExt as _;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Request, Response, Status, transport::Server};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{rights::Route, worker::Shared};

/// Handshakes at one time: each worker has a few connections.
const HANDSHAKES: usize = 16;
/// A handshake on loopback.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Reports at one time on one connection: each holds a page.
const STREAMS: u32 = 32;
/// Accesses on their way to a slow reader.
const AHEAD: usize = 64;

/// Why no report can be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubjectError {
    /// What is asked for cannot be searched by.
    #[error("the accesses cannot be searched by what is asked for")]
    Query(#[source] QueryError),
    /// The ledger cannot be read.
    #[error("the ledger cannot be read")]
    Store(#[source] StoreError),
    /// That it was read could not be entered, so nothing is shown.
    #[error("the report cannot be entered")]
    Unwritable(#[source] banqiao_ledger::AppendError),
}

/// What is asked for: a number, and from when until when in microseconds since 1970.
#[derive(Clone, Default)]
pub struct SubjectQuestion {
    /// Whose accesses.
    pub subject: Option<SubjectNumber>,
    /// First moment; 0: from the beginning.
    pub from_us: i64,
    /// First moment that is too late; 0: up to now.
    pub until_us: i64,
}

/// Never shows the number.
impl std::fmt::Debug for SubjectQuestion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SubjectQuestion")
            .field("from_us", &self.from_us)
            .field("until_us", &self.until_us)
            .finish_non_exhaustive()
    }
}

/// The accesses to one person's data, each page of which is entered as READ before it is handed out.
#[derive(Debug)]
pub struct EnteredReport {
    shared: Arc<Shared>,
    report: SubjectReport,
    actor: String,
    query: String,
    /// The page that was read first, and what was listed so far.
    first: Option<Vec<SubjectAccess>>,
    listed: u64,
}

impl EnteredReport {
    /// Reads and enters the first page, on behalf of `actor`; `more` is what else the entries say.
    ///
    /// # Errors
    ///
    /// [`SubjectError`]; nothing was shown.
    pub(crate) async fn begin(
        shared: Arc<Shared>,
        question: SubjectQuestion,
        actor: &str,
        more: &str,
    ) -> Result<Self, SubjectError> {
        let SubjectQuestion {
            subject,
            from_us,
            until_us,
        } = question;
        let report =
            SubjectReport::new(shared.ledger.reader(), subject.as_ref(), from_us, until_us);
        let report = report.map_err(SubjectError::Query)?;
        let query = format!("{}{more}", report.describe());
        let mut this = Self {
            shared,
            report,
            actor: actor.to_owned(),
            query,
            first: None,
            listed: 0,
        };
        let first = this.report.next().await.map_err(SubjectError::Store)?;
        let entered = this.enter("", first.len()).await?;
        // What is committed from here on is not part of the report.
        this.report.end_at(entered);
        this.first = Some(first);
        Ok(this)
    }

    /// The next page; none: the list has ended.
    ///
    /// # Errors
    ///
    /// [`SubjectError`]; what was not entered is not shown.
    pub async fn next(&mut self) -> Result<Option<Vec<SubjectAccess>>, SubjectError> {
        let page = match self.first.take() {
            Some(first) => first,
            None => {
                let page = self.report.next().await.map_err(SubjectError::Store)?;
                if !page.is_empty() {
                    self.enter(", continued", page.len()).await?;
                }
                page
            }
        };
        self.listed += page.len() as u64;
        Ok((!page.is_empty()).then_some(page))
    }

    /// What stands behind the last page.
    ///
    /// # Errors
    ///
    /// [`SubjectError::Store`].
    pub async fn end(&self) -> Result<SubjectReportEnd, SubjectError> {
        let closed = self.report.closed_months().await;
        let closed = closed.map_err(SubjectError::Store)?;
        let snapshot = self.shared.rights.snapshot();
        let own = self.shared.names.city;
        let cities = snapshot.directory.cities().iter().map(|city| city.code);
        Ok(SubjectReportEnd {
            city: own.to_string(),
            accesses: self.listed,
            other_cities: cities
                .filter(|code| *code != own)
                .map(|code| code.to_string())
                .collect(),
            closed_months: closed.iter().map(ToString::to_string).collect(),
        })
    }

    async fn enter(&self, more: &str, shown: usize) -> Result<u64, SubjectError> {
        let entry = Entry {
            kind: Kind::Read.into(),
            read: Some(Read {
                actor: self.actor.clone(),
                query: format!("{}{more}", self.query),
                shown: shown as u64,
            }),
            ..Entry::default()
        };
        let appended = self.shared.appender.append(Append::new(entry)).await;
        appended
            .map(|appended| appended.index)
            .map_err(SubjectError::Unwritable)
    }
}

/// The gateway's own carried service, before it serves.
#[derive(Debug)]
pub(crate) struct OwnService {
    pub(crate) set: ServiceSet,
    pub(crate) route: Route,
    socket: TcpListener,
}

impl OwnService {
    /// Takes an address on loopback.
    ///
    /// # Errors
    ///
    /// There is none.
    pub(crate) async fn bind(identity: &banqiao_identity::Identity) -> io::Result<Self> {
        let socket = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).await?;
        let set = ServiceSet::decode_offered(banqiao_proto::FILE_DESCRIPTOR_SET)
            .and_then(|set| set.restrict([OWN_SERVICE]))
            .map_err(io::Error::other)?;
        Ok(Self {
            set,
            route: Route {
                endpoints: vec![socket.local_addr()?.to_string()].into(),
                identity: identity.own().id.clone(),
            },
            socket,
        })
    }

    /// Serves until `stop` is cancelled.
    pub(crate) fn serve(
        socket: TcpListener,
        shared: &Arc<Shared>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) {
        let lines = lines(socket, shared, tasks, stop);
        let service = SubjectServiceServer::new(Subjects {
            shared: Arc::clone(shared),
            tasks: tasks.clone(),
            stop: stop.clone(),
        });
        let server = Server::builder()
            .max_concurrent_streams(STREAMS)
            .add_service(service)
            .serve_with_incoming_shutdown(lines, stop.clone().cancelled_owned());
        tasks.spawn(async move {
            if let Err(error) = server.await {
                tracing::error!(error = %Chain(&error), "the gateway's own service ended");
            }
        });
    }

    /// Parts with the socket.
    pub(crate) fn into_parts(self) -> ((ServiceSet, Route), TcpListener) {
        ((self.set, self.route), self.socket)
    }
}

/// Connections of this gateway to itself.
fn lines(
    socket: TcpListener,
    shared: &Arc<Shared>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> ReceiverStream<io::Result<TlsStream<TcpStream>>> {
    let (sender, receiver) = mpsc::channel(HANDSHAKES);
    let room = Arc::new(Semaphore::new(HANDSHAKES));
    let (identity, running) = (shared.identity.clone(), tasks.clone());
    let accepting = async move {
        let own = identity.own().id.clone();
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else {
                return;
            };
            let Ok((stream, _)) = socket.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let (identity, own, sender) = (identity.clone(), own.clone(), sender.clone());
            running.spawn(async move {
                let accepted =
                    tokio::time::timeout(HANDSHAKE_TIMEOUT, identity.accept(stream)).await;
                match accepted {
                    Ok(Ok((stream, peer))) if peer.id == own => {
                        // A service that has stopped wants no more connections.
                        let _ = sender.send(Ok(stream)).await;
                    }
                    _ => tracing::warn!("somebody else than this gateway asked its own service"),
                }
                drop(place);
            });
        }
    };
    tasks.spawn(stop.clone().run_until_cancelled_owned(accepting));
    ReceiverStream::new(receiver)
}

struct Subjects {
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl SubjectService for Subjects {
    type ListAccessesStream = std::pin::Pin<
        Box<dyn futures_util::Stream<Item = Result<ListAccessesResponse, Status>> + Send>,
    >;

    async fn list_accesses(
        &self,
        request: Request<ListAccessesRequest>,
    ) -> Result<Response<Self::ListAccessesStream>, Status> {
        // Only the gateway is let in, and it says who calls.
        let named = |name: &str| {
            let value = request.metadata().get(name);
            value
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        let unknown = || Status::internal("the gateway names no caller");
        let client = named("banqiao-client").ok_or_else(unknown)?;
        let exchange = named("banqiao-exchange-id").ok_or_else(unknown)?;
        let asked = request.into_inner();
        let question = SubjectQuestion {
            subject: asked.subject,
            from_us: asked.from_us,
            until_us: asked.until_us,
        };
        let more = format!(" exchange={exchange}");
        let report = EnteredReport::begin(Arc::clone(&self.shared), question, &client, &more);
        let report = report.await.map_err(|error| status(&error))?;
        let (sender, receiver) = mpsc::channel(AHEAD);
        // Ends with the stream: a reader that goes away closes the channel.
        self.tasks.spawn(
            self.stop
                .clone()
                .run_until_cancelled_owned(tell(report, sender)),
        );
        let stream = ReceiverStream::new(receiver).map(|part| {
            part.map(|part| ListAccessesResponse { part: Some(part) })
                .map_err(|error| status(&error))
        });
        Ok(Response::new(Box::pin(stream)))
    }
}

async fn tell(mut report: EnteredReport, sender: mpsc::Sender<Result<Part, SubjectError>>) {
    let told = async {
        while let Some(page) = report.next().await? {
            for access in page {
                if sender.send(Ok(Part::Access(access))).await.is_err() {
                    return Ok(());
                }
            }
        }
        let end = report.end().await?;
        let _ = sender.send(Ok(Part::End(end))).await;
        Ok(())
    };
    let told: Result<(), SubjectError> = told.await;
    if let Err(error) = told {
        let _ = sender.send(Err(error)).await;
    }
}

/// What a system of any city is told.
fn status(error: &SubjectError) -> Status {
    match error {
        SubjectError::Query(fault) => {
            let mut details = ErrorDetails::new();
            details.add_bad_request_violation(fault.field, fault.problem);
            let message = "the accesses cannot be searched by what is asked for";
            Status::with_error_details(tonic::Code::InvalidArgument, message, details)
        }
        SubjectError::Store(_) | SubjectError::Unwritable(_) => {
            tracing::warn!(error = %Chain(error), "a subject's report could not be made");
            Status::unavailable("the ledger cannot be used now")
        }
    }
}
