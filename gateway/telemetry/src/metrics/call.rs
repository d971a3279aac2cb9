//! The histogram of calls, on the way of every call.

use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use opentelemetry::{
    KeyValue,
    metrics::{BoundHistogram, Histogram},
};
use parking_lot::Mutex;
use tonic::Code;

use super::OTHER;

pub(super) const NAME: &str = "banqiao.call.duration";

/// Combinations of labels that get a series of their own: 20 methods × 5 cities × 20 outcomes, seen in practice as a
/// few hundred. One series costs about half a kilobyte and 21 lines of `/metrics`.
const COMBINATIONS: usize = 2_000;

/// The above, and the combinations of side and code that stand for the rest.
pub(super) const SERIES: usize = COMBINATIONS + 5 * 17;

/// Where in the network a call is seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// A client program.
    Client,
    /// The gateway of the calling system's city.
    Consumer,
    /// A gateway whose city both calls and provides.
    Local,
    /// The gateway of the providing city.
    Provider,
    /// The service behind a gateway.
    Service,
}

impl Side {
    pub(crate) const ALL: [Self; 5] = [
        Self::Client,
        Self::Consumer,
        Self::Local,
        Self::Provider,
        Self::Service,
    ];

    /// The label's value.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Consumer => "consumer",
            Self::Local => "local",
            Self::Provider => "provider",
            Self::Service => "service",
        }
    }
}

/// What a call is counted under. An empty text is the same as no label.
#[derive(Clone, Copy, Debug)]
pub struct CallLabels<'a> {
    /// Where the call was seen.
    pub side: Side,
    /// Full name of the service, from the catalogue.
    pub service: &'a str,
    /// Name of the method, from the catalogue.
    pub method: &'a str,
    /// Code of the other city, from the directory; empty at a service.
    pub peer_city: &'a str,
    /// The status that the caller got.
    pub code: Code,
    /// Name of the gateway's reason in the table of reasons; empty when the gateway raised none.
    pub reason: &'a str,
}

pub(super) struct Calls {
    histogram: Histogram<f64>,
    // Read by every call, replaced as a whole by the first call of each combination: readers never wait, and a
    // combination costs one copy of at most COMBINATIONS pointers, once.
    series: ArcSwap<HashMap<Key<'static>, BoundHistogram<f64>>>,
    admission: Mutex<()>,
}

impl Calls {
    pub(super) fn new(histogram: Histogram<f64>) -> Self {
        Self {
            histogram,
            series: ArcSwap::default(),
            admission: Mutex::default(),
        }
    }

    pub(super) fn record(&self, labels: &CallLabels<'_>, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let key = Key::new(labels);
        if let Some(series) = find(&self.series.load(), &key) {
            series.record(seconds);
        } else {
            self.admit(key).record(seconds);
        }
    }

    #[cold]
    fn admit(&self, key: Key<'_>) -> BoundHistogram<f64> {
        let _one_at_a_time = self.admission.lock();
        let known = self.series.load_full();
        let key = if known.len() < COMBINATIONS || find(&known, &key).is_some() {
            key
        } else {
            key.without_names()
        };
        if let Some(series) = find(&known, &key) {
            return series.clone();
        }
        let series = self.histogram.bind(&key.attributes());
        let mut next = HashMap::clone(&known);
        next.insert(key.into_owned(), series.clone());
        self.series.store(Arc::new(next));
        series
    }
}

/// A map is covariant in its keys, so a map of owned keys is searched by a borrowed one without allocating.
fn find<'m, 'k>(
    series: &'m HashMap<Key<'k>, BoundHistogram<f64>>,
    key: &Key<'k>,
) -> Option<&'m BoundHistogram<f64>> {
    series.get(key)
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key<'a> {
    side: Side,
    code: Code,
    method: Text<'a>,
    service: Text<'a>,
    peer_city: Text<'a>,
    reason: Text<'a>,
}

impl<'a> Key<'a> {
    const fn new(labels: &CallLabels<'a>) -> Self {
        Self {
            side: labels.side,
            code: labels.code,
            method: Text::Borrowed(labels.method),
            service: Text::Borrowed(labels.service),
            peer_city: Text::Borrowed(labels.peer_city),
            reason: Text::Borrowed(labels.reason),
        }
    }

    const fn without_names(&self) -> Self {
        Self::new(&CallLabels {
            side: self.side,
            service: OTHER,
            method: OTHER,
            peer_city: OTHER,
            code: self.code,
            reason: OTHER,
        })
    }

    fn attributes(&self) -> Vec<KeyValue> {
        let names = [
            ("service", &self.service),
            ("method", &self.method),
            ("peer_city", &self.peer_city),
            ("reason", &self.reason),
        ];
        let mut attributes = vec![
            KeyValue::new("side", self.side.as_str()),
            KeyValue::new("code", code_name(self.code)),
        ];
        attributes.extend(names.map(|(name, text)| KeyValue::new(name, text.to_shared())));
        attributes
    }

    fn into_owned(self) -> Key<'static> {
        let own = |text: Text<'_>| Text::Shared(text.to_shared());
        Key {
            side: self.side,
            code: self.code,
            method: own(self.method),
            service: own(self.service),
            peer_city: own(self.peer_city),
            reason: own(self.reason),
        }
    }
}

/// A text that is borrowed while it is looked up and shared once it is kept.
#[derive(Clone)]
enum Text<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
}

impl Text<'_> {
    fn as_str(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }

    fn to_shared(&self) -> Arc<str> {
        match self {
            Self::Borrowed(text) => Arc::from(*text),
            Self::Shared(text) => Arc::clone(text),
        }
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Text<'_> {}

impl Hash for Text<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

/// The name of a gRPC status code as the gRPC documentation writes it.
pub(crate) const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
