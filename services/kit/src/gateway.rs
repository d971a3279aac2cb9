//! Calls of a service to services of other cities, or of its own, through its own city's gateway.
//!
//! ```text
//!   OutgoingCall (to, purpose, basis, case, operator, deadline)
//!        │
//!   CardServiceClient::new(gateway.channel(call)) ──metadata──▶ the city's gateway ──▶ …
//!        │
//!   Answer::of(result) ──▶ Answer{message, exchange} or CallRefusal{kind, reason, domain, exchange, retry_after}
//! ```
//!
//! The service calls as the system that its certificate names, so the certificate needs both extended key usages, and the
//! provider grants it what it may do. One connection serves all calls; it is made at the first one, and again after the certificate
//! was renewed, after the gateway's was withdrawn, and whenever it breaks.

mod address;
mod call;
mod refusal;

use std::{
    io,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use banqiao_identity::{Expect, Identity, OwnCertificate, Peer};
use http::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tonic::{
    body::Body,
    transport::{Channel, Endpoint, Error},
};
use tower::{Service, service_fn};

pub use address::{AddressFault, GatewayAddress};
pub use call::{Destination, OutgoingCall};
pub use refusal::{Answer, CallRefusal, RefusalKind, exchange_of};

use crate::{settings::Section, trust::ServiceIdentity};

/// A gateway in the same city answers in milliseconds; this is for one that is starting.
const DEFAULT_CONNECT: Duration = Duration::from_secs(5);
/// For a unary call, through two gateways and to a service that may wait for its database.
const DEFAULT_DEADLINE: Duration = Duration::from_secs(10);
/// A silent gateway is gone within 40 s, as this kit's own server has it.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// The `[gateway]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewaySettings {
    /// Client listener of the service's own city's gateway (`address`).
    pub address: GatewayAddress,
    /// How long a connection may take, TLS included (`connect`).
    pub connect: Duration,
    /// How long a unary call may take that states no deadline of its own (`deadline`).
    pub deadline: Duration,
}

impl GatewaySettings {
    /// Settings for an address, with the defaults for the rest.
    pub const fn new(address: GatewayAddress) -> Self {
        Self {
            address,
            connect: DEFAULT_CONNECT,
            deadline: DEFAULT_DEADLINE,
        }
    }

    /// Reads the `[gateway]` table: `address`, `connect`, `deadline`.
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        let (brief, minute) = (Duration::from_millis(10), Duration::from_secs(60));
        let address = section.parsed("address");
        let connect = section.duration("connect", DEFAULT_CONNECT, brief..=minute);
        let deadline = section.duration("deadline", DEFAULT_DEADLINE, brief..=minute * 10);
        Some(Self {
            address: address?,
            connect,
            deadline,
        })
    }

    /// As [`GatewaySettings::read`]; none and no fault where the file has no such table: the service calls nobody.
    pub fn read_optional(top: &mut Section<'_>) -> Option<Self> {
        const KEY: &str = "gateway";
        top.value(KEY)?;
        Self::read(&mut top.section(KEY))
    }
}

/// The way out of a city's service. Cheap to clone; all clones share one connection.
#[derive(Clone, Debug)]
pub struct Gateway(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    settings: GatewaySettings,
    identity: Identity,
    expect: Expect,
    live: Mutex<Option<Live>>,
}

/// The connection in use, and what it rests on.
#[derive(Debug)]
struct Live {
    /// The certificate that the gateway was shown.
    own: Arc<OwnCertificate>,
    /// The gateway, once it is connected.
    peer: Arc<Mutex<Option<Peer>>>,
    channel: Channel,
}

impl Gateway {
    /// Connects nothing yet: a gateway that is down delays the first call and not the service's start.
    pub fn new(settings: GatewaySettings, identity: &ServiceIdentity) -> Self {
        Self(Arc::new(Inner {
            settings,
            expect: Expect::Gateway(identity.home().clone()),
            identity: identity.identity().clone(),
            live: Mutex::default(),
        }))
    }

    /// A channel on which a generated client makes this call, as often as it likes: `CardServiceClient::new(gateway.channel(call))`.
    pub fn channel(&self, call: &OutgoingCall) -> GatewayChannel {
        GatewayChannel {
            gateway: self.clone(),
            call: Arc::new(call.headers(self.0.settings.deadline)),
            ready: None,
        }
    }

    /// The connection in use, or a new one where the old one rests on a certificate that is not good any more. Calls that are open on
    /// the old one finish there.
    fn current(&self) -> Channel {
        let identity = &self.0.identity;
        let own = identity.own();
        let mut live = self.0.live.lock();
        if let Some(Live {
            own: shown,
            peer,
            channel,
        }) = live.as_ref()
        {
            let peer_good = peer
                .lock()
                .as_ref()
                .is_none_or(|peer| identity.check(peer).is_ok());
            if Arc::ptr_eq(shown, &own) && peer_good {
                return channel.clone();
            }
        }
        let peer = Arc::new(Mutex::new(None));
        let channel = self.connect(Arc::clone(&peer));
        *live = Some(Live {
            own,
            peer,
            channel: channel.clone(),
        });
        channel
    }

    fn connect(&self, seen: Arc<Mutex<Option<Peer>>>) -> Channel {
        let Inner {
            settings,
            identity,
            expect,
            ..
        } = &*self.0;
        let (address, identity, expect) =
            (settings.address.clone(), identity.clone(), expect.clone());
        let connect = service_fn(move |_: Uri| {
            let (address, identity, expect) = (address.clone(), identity.clone(), expect.clone());
            let seen = Arc::clone(&seen);
            async move {
                let stream = TcpStream::connect((address.host(), address.port())).await?;
                stream.set_nodelay(true)?;
                let connected = identity.connect(&expect, stream).await;
                let (stream, peer) = connected.map_err(io::Error::other)?;
                *seen.lock() = Some(peer);
                io::Result::Ok(TokioIo::new(stream))
            }
        });
        Endpoint::from(settings.address.uri())
            .connect_timeout(settings.connect)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connect)
    }
}

/// What [`Gateway::channel`] gives: puts the network's metadata on each request, and its deadline where the request has none.
#[derive(Debug)]
pub struct GatewayChannel {
    gateway: Gateway,
    call: Arc<call::Headers>,
    ready: Option<Channel>,
}

impl Clone for GatewayChannel {
    // Readiness belongs to the one that waited for it.
    fn clone(&self) -> Self {
        Self {
            gateway: self.gateway.clone(),
            call: Arc::clone(&self.call),
            ready: None,
        }
    }
}

impl Service<Request<Body>> for GatewayChannel {
    type Response = Response<Body>;
    type Error = Error;
    type Future = <Channel as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let Self { gateway, ready, .. } = self;
        Service::poll_ready(ready.get_or_insert_with(|| gateway.current()), context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        self.call.put(request.headers_mut());
        let mut channel = self.ready.take().unwrap_or_else(|| self.gateway.current());
        channel.call(request)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::settings::SettingsFile;

    fn parse(text: &str) -> Result<Option<GatewaySettings>, Vec<String>> {
        let file = SettingsFile::parse(text, Path::new("")).unwrap();
        file.finish(|top| Some(GatewaySettings::read_optional(top)))
            .map_err(|faults| faults.0.into_iter().map(|fault| fault.key).collect())
    }

    #[test]
    fn the_table_may_be_left_out_and_an_address_is_enough() {
        assert_eq!(parse(""), Ok(None));
        let settings = parse("[gateway]\naddress = 'gateway.qingdao'\ndeadline = '3s'\n");
        let settings = settings.unwrap().unwrap();
        assert_eq!(
            (settings.address.host(), settings.address.port()),
            ("gateway.qingdao", 8443)
        );
        assert_eq!(settings.deadline, Duration::from_secs(3));
        assert_eq!(settings.connect, DEFAULT_CONNECT);
    }

    #[test]
    fn faults_come_with_their_key_paths() {
        assert_eq!(
            parse("[gateway]\ndeadline = '0s'\ncolour = 1\n"),
            Err(vec![
                "gateway.address".to_owned(),
                "gateway.deadline".to_owned(),
                "gateway.colour".to_owned()
            ])
        );
        assert_eq!(
            parse("[gateway]\naddress = 'a b'\n"),
            Err(vec!["gateway.address".to_owned()])
        );
        assert_eq!(
            parse("gateway = 1\n"),
            Err(vec!["gateway".to_owned(), "gateway.address".to_owned()])
        );
    }
}
