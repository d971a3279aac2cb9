//! Headers on their way to the next hop and back.

use std::time::Duration;

use banqiao_directory::SpiffeId;
use http::{
    HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, Version,
    header::{CONTENT_TYPE, HOST, TE},
    uri::{Authority, PathAndQuery, Scheme},
};
use tokio::time::Instant;

use super::Forward;
use crate::{
    receipts::{PRIVATE, RECEIPT, WANT},
    refusal::Refusal,
    wire::{self, Hop},
};

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const ACCEPT_ENCODING: HeaderName = HeaderName::from_static("grpc-accept-encoding");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const EXCHANGE_ID: HeaderName = HeaderName::from_static("banqiao-exchange-id");
const CLIENT: HeaderName = HeaderName::from_static("banqiao-client");
const TO: &str = "banqiao-to";
pub(crate) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
pub(super) const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
pub(super) const DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");
const ENCODING: HeaderName = HeaderName::from_static("grpc-encoding");

/// Time that an answer needs for the way back over one hop, at most a twentieth of what is left.
const HOP_SHARE: Duration = Duration::from_millis(20);

/// What of an answer's headers and trailers passes under a grant that names fields: whatever else a service sends
/// might say what the fields do not.
const DISCLOSED: [HeaderName; 5] = [CONTENT_TYPE, STATUS, MESSAGE, DETAILS, ENCODING];

impl Forward {
    /// The request to the next hop.
    pub(super) fn request(
        &self,
        headers: &HeaderMap,
        authority: Authority,
    ) -> Result<Request<()>, Refusal> {
        let call = &self.call;
        let mut map = HeaderMap::with_capacity(headers.len() + 8);
        for (name, value) in headers {
            // `banqiao-to` ends at the provider's gateway; the rest of the admitted metadata goes all the way.
            if is_ours(name) || (!self.next.peer && name.as_str() == TO) {
                continue;
            }
            map.append(name.clone(), value.clone());
        }
        map.insert(EXCHANGE_ID, call.exchange_id());
        if let Some(client) = call.client.as_ref().map(SpiffeId::as_str)
            && let Ok(client) = HeaderValue::from_str(client)
        {
            map.insert(CLIENT, client);
        }
        if self.next.peer {
            let statement = self.statement.lock();
            if let Some(own) = &statement.own {
                map.insert(RECEIPT, wire::binary_value(&own.bytes));
                if let Some(private) = &statement.private {
                    map.insert(PRIVATE, private.clone());
                }
            }
        }
        if let Some(traceparent) = call.span.traceparent() {
            map.insert(TRACEPARENT, traceparent);
        }
        if let Some(deadline) = call.deadline {
            // A little less than is left here: the hop nearest to the cause says that time is up, before this one
            // cuts it off and it could only tell of a cancelled call.
            let left = deadline.saturating_duration_since(Instant::now());
            let left = left.saturating_sub(HOP_SHARE.min(left / 20));
            if let Ok(mut left) = HeaderValue::from_str(&wire::format_timeout(left)) {
                // Nearly each is another, as the exchange ids are.
                left.set_sensitive(true);
                map.insert(TIMEOUT, left);
            }
        }
        if self.mask.is_some() || self.responder.is_merged() {
            map.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        map.insert(TE, HeaderValue::from_static("trailers"));
        let path = PathAndQuery::try_from(&*call.path);
        let uri = path.map_err(http::Error::from).and_then(|path| {
            Uri::builder()
                .scheme(Scheme::HTTPS)
                .authority(authority)
                .path_and_query(path)
                .build()
        });
        let mut request = Request::new(());
        *request.method_mut() = http::Method::POST;
        *request.version_mut() = Version::HTTP_2;
        // The path has been found canonical, so this does not fail; if it did, nothing would be sent.
        *request.uri_mut() = uri.map_err(|_| {
            Refusal::new(
                banqiao_proto::exchange::v1::Reason::PathNotCanonical,
                "the path cannot be sent",
            )
        })?;
        *request.headers_mut() = map;
        Ok(request)
    }

    /// The head of an answer as the caller gets it.
    pub(super) fn head(&self, mut response: Response<()>) -> Response<()> {
        self.clean(response.headers_mut());
        response
            .headers_mut()
            .insert(EXCHANGE_ID, self.call.exchange_id());
        response.extensions_mut().clear();
        response
    }

    /// Headers or trailers of an answer, without what only gateways may say and what the grant does not disclose.
    pub(super) fn clean(&self, headers: &mut HeaderMap) {
        let hop = if self.next.peer {
            Hop::GatewayToGateway
        } else {
            Hop::GatewayToService
        };
        let mut stripped = wire::strip_response(headers, hop);
        // A service cannot speak as a gateway in its status either.
        if !self.next.peer && headers.contains_key(DETAILS) && wire::reason_of(headers).is_some() {
            headers.remove(DETAILS);
            stripped += 1;
        }
        if self.mask.is_some() {
            let others: Vec<_> = headers
                .keys()
                .filter(|name| !DISCLOSED.contains(name))
                .cloned()
                .collect();
            for name in others {
                headers.remove(name);
            }
            // Details are arbitrary messages: only a gateway's own pass.
            if !self.next.peer {
                headers.remove(DETAILS);
            }
        }
        if stripped > 0 {
            self.call
                .conn
                .worker
                .shared
                .metrics
                .stripped_metadata(stripped as u64);
        }
    }
}

/// What each hop sets for itself.
fn is_ours(name: &HeaderName) -> bool {
    static OURS: [HeaderName; 7] = [TIMEOUT, HOST, EXCHANGE_ID, CLIENT, RECEIPT, PRIVATE, WANT];
    OURS.contains(name)
}

/// `grpc-status`, where there is exactly one and it is valid: of several, each reader could take another.
pub(super) fn status(headers: &HeaderMap) -> Option<u32> {
    wire::code_of(headers)
}
