//! From a stored or offered grant to a parsed one: every fault at once, with the path of its field.

use std::{collections::BTreeSet, fmt, sync::Arc, time::Duration};

use banqiao_directory::{
    Catalog, Directory, Method, NameError, TrustDomain, disclosure_groups, field_at,
    holds_identity_number, is_code, is_plain_text,
};
use banqiao_proto::{directory::v1 as proto, exchange::v1::SharingAttribute};
use prost::Message;
use uuid::Uuid;

use crate::{ClientPattern, Disclosed, Grant, Rate};

/// Largest encoded grant in bytes: it must fit into a ledger entry with room to spare.
const MAX_GRANT_BYTES: usize = 32 << 10;
/// Longest legal basis or request number, in characters.
const MAX_TEXT: usize = 500;
/// Longest rate window: longer ones are quotas, which outlive a gateway's memory.
const MAX_WINDOW: Duration = Duration::from_secs(31 * 86_400);
/// Last second of the year 9999.
const MAX_SECONDS: i64 = 253_402_300_799;

/// One fault of a grant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrantFault {
    /// The field, such as `purposes[1]` or `rate.per`.
    pub path: String,
    /// What is wrong with it.
    pub problem: GrantProblem,
}

impl fmt::Display for GrantFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.problem)
    }
}

impl std::error::Error for GrantFault {}

/// What can be wrong with a field of a grant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantProblem {
    /// The client is neither a SPIFFE ID nor a pattern of one.
    #[error("names no client system: {0}")]
    Client(NameError),
    /// The directory lists no city with the client's trust domain.
    #[error("the directory lists no city with the trust domain {0}")]
    ClientCity(TrustDomain),
    /// The same value stands before.
    #[error("stands twice")]
    Duplicate,
    /// The window is empty or too long.
    #[error("must be more than zero and at most 31 days")]
    Window,
    /// Required, but empty.
    #[error("is required")]
    Missing,
    /// Not a name of the form that the field needs.
    #[error("is not a name of a {0}")]
    Name(&'static str),
    /// No response of the granted methods has this field or group.
    #[error("no response of the granted methods has this {0}")]
    NoSuchField(&'static str),
    /// The service has no such method.
    #[error("the service has no such method")]
    NoSuchMethod,
    /// The gateway's catalogue has no such service.
    #[error("the catalogue has no such service")]
    NoSuchService,
    /// The provider does not share the method (政务数据共享条例 art. 14).
    #[error("is not shared (不予共享) and cannot be granted")]
    NotShared,
    /// The end does not lie after the beginning.
    #[error("must lie after not_before")]
    NotAfter,
    /// The purpose is not one of the directory's.
    #[error("the directory lists no such purpose")]
    PurposeUnknown,
    /// None of the granted methods allows the purpose.
    #[error("none of the granted methods allows this purpose")]
    PurposeNotAllowed,
    /// The granted method allows none of the granted purposes.
    #[error("allows none of the granted purposes")]
    PurposeOfMethod,
    /// Text with control characters, or too much of it.
    #[error("must be at most 500 characters without control characters")]
    Text,
    /// No moment between 1970 and 9999.
    #[error("is not a moment between the years 1970 and 9999")]
    Time,
    /// The whole grant is too large.
    #[error("has more than 32 KiB")]
    TooLarge,
    /// Not a UUIDv7 in lower case with hyphens.
    #[error("is not a UUIDv7")]
    Uuid,
    /// Grants are stored in plain.
    #[error("must not hold a citizen's identity number, for it is stored in plain")]
    Personal,
    /// Zero where at least one is needed.
    #[error("must be at least 1")]
    Zero,
}

impl Grant {
    /// Parses a grant, whose `id` is filled.
    ///
    /// With a directory, the client's city and the purposes must stand in it; with a catalogue, the service, its
    /// methods and the disclosed fields must exist there and allow the grant. A gateway passes both when a grant is
    /// added, and neither when it loads stored ones: what has since left the catalogue is refused when it is called.
    ///
    /// # Errors
    /// Every fault of the grant, in the order of its fields.
    pub fn parse(
        grant: proto::Grant,
        directory: Option<&Directory>,
        catalog: Option<&Catalog>,
    ) -> Result<Self, Vec<GrantFault>> {
        let mut faults = Faults::default();
        let uuid = faults.take("id", uuid(&grant.id));
        let client = faults.take("client", client(&grant.client, directory));
        let methods = scope(&grant, catalog, &mut faults);
        purposes(&grant, directory, methods.as_deref(), &mut faults);
        let disclosed = disclosed(&grant, methods.as_deref(), &mut faults);
        let rate = grant
            .rate
            .as_ref()
            .and_then(|stated| rate(stated, &mut faults));
        let not_before = faults.take("not_before", required_us(grant.not_before));
        let not_after = faults.take("not_after", required_us(grant.not_after));
        if let (Some(from), Some(until)) = (not_before, not_after)
            && until <= from
        {
            faults.push("not_after", GrantProblem::NotAfter);
        }
        faults.take("legal_basis", required_text(&grant.legal_basis));
        faults.take("request_number", required_text(&grant.request_number));
        let revoked_at = grant
            .revoked_at
            .and_then(|at| faults.take("revoked_at", time_us(at)));
        if grant.encoded_len() > MAX_GRANT_BYTES {
            faults.push("grant", GrantProblem::TooLarge);
        }
        let (Some(uuid), Some(client), Some(not_before_us), Some(not_after_us), true) =
            (uuid, client, not_before, not_after, faults.0.is_empty())
        else {
            return Err(faults.0);
        };
        Ok(Self {
            uuid,
            client,
            service: grant.service.as_str().into(),
            methods: grant.methods.clone(),
            purposes: grant.purposes.clone(),
            disclosed,
            rate,
            not_before_us,
            not_after_us,
            revoked_at_us: revoked_at,
            proto: grant,
        })
    }
}

#[derive(Default)]
struct Faults(Vec<GrantFault>);

impl Faults {
    fn push(&mut self, path: impl Into<String>, problem: GrantProblem) {
        self.0.push(GrantFault {
            path: path.into(),
            problem,
        });
    }

    fn take<T>(&mut self, path: &str, result: Result<T, GrantProblem>) -> Option<T> {
        result.map_err(|problem| self.push(path, problem)).ok()
    }
}

fn uuid(text: &str) -> Result<Uuid, GrantProblem> {
    let uuid = Uuid::try_parse(text).map_err(|_| GrantProblem::Uuid)?;
    let mut canonical = Uuid::encode_buffer();
    let sound =
        uuid.get_version_num() == 7 && uuid.hyphenated().encode_lower(&mut canonical) == text;
    if sound {
        Ok(uuid)
    } else {
        Err(GrantProblem::Uuid)
    }
}

fn client(text: &str, directory: Option<&Directory>) -> Result<ClientPattern, GrantProblem> {
    if text.is_empty() {
        return Err(GrantProblem::Missing);
    }
    let client: ClientPattern = text.parse().map_err(GrantProblem::Client)?;
    let domain = client.trust_domain();
    match directory {
        Some(directory) if directory.city_by_domain(domain).is_none() => {
            Err(GrantProblem::ClientCity(domain.clone()))
        }
        _ => Ok(client),
    }
}

/// Checks service and methods; the methods that the grant covers, where the catalogue is at hand.
fn scope(
    grant: &proto::Grant,
    catalog: Option<&Catalog>,
    faults: &mut Faults,
) -> Option<Vec<Arc<Method>>> {
    if grant.service.is_empty() {
        faults.push("service", GrantProblem::Missing);
    } else if !grant.service.split('.').all(is_identifier) {
        faults.push("service", GrantProblem::Name("service"));
    }
    let mut seen = BTreeSet::new();
    for (at, name) in grant.methods.iter().enumerate() {
        if !is_identifier(name) {
            faults.push(format!("methods[{at}]"), GrantProblem::Name("method"));
        } else if !seen.insert(name) {
            faults.push(format!("methods[{at}]"), GrantProblem::Duplicate);
        }
    }
    let Some(service) = catalog?.service(&grant.service) else {
        if !grant.service.is_empty() {
            faults.push("service", GrantProblem::NoSuchService);
        }
        return None;
    };
    if grant.methods.is_empty() {
        let shared = |method: &&Arc<Method>| method.sharing() != SharingAttribute::NotShared;
        let covered: Vec<_> = service.methods.iter().filter(shared).cloned().collect();
        if covered.is_empty() {
            faults.push("service", GrantProblem::NotShared);
        }
        return Some(covered);
    }
    let mut covered = Vec::new();
    for (at, name) in grant.methods.iter().enumerate() {
        let path = format!("methods[{at}]");
        match service.method(name) {
            None => faults.push(path, GrantProblem::NoSuchMethod),
            Some(method) if method.sharing() == SharingAttribute::NotShared => {
                faults.push(path, GrantProblem::NotShared);
            }
            Some(method) => {
                if !grant
                    .purposes
                    .iter()
                    .any(|purpose| method.allows_purpose(purpose))
                {
                    faults.push(path, GrantProblem::PurposeOfMethod);
                }
                covered.push(Arc::clone(method));
            }
        }
    }
    Some(covered)
}

fn purposes(
    grant: &proto::Grant,
    directory: Option<&Directory>,
    methods: Option<&[Arc<Method>]>,
    faults: &mut Faults,
) {
    if grant.purposes.is_empty() {
        faults.push("purposes", GrantProblem::Missing);
    }
    let mut seen = BTreeSet::new();
    for (at, purpose) in grant.purposes.iter().enumerate() {
        let problem = if !is_code(purpose) {
            GrantProblem::Name("purpose")
        } else if !seen.insert(purpose) {
            GrantProblem::Duplicate
        } else if directory.is_some_and(|directory| directory.purpose(purpose).is_none()) {
            GrantProblem::PurposeUnknown
        } else if methods.is_some_and(|methods| {
            !methods.is_empty() && !methods.iter().any(|method| method.allows_purpose(purpose))
        }) {
            GrantProblem::PurposeNotAllowed
        } else {
            continue;
        };
        faults.push(format!("purposes[{at}]"), problem);
    }
}

fn disclosed(
    grant: &proto::Grant,
    methods: Option<&[Arc<Method>]>,
    faults: &mut Faults,
) -> Vec<Disclosed> {
    // Nothing can be looked up where no granted method was found; that fault stands already.
    let methods = methods.filter(|methods| !methods.is_empty());
    let groups = methods.map(|methods| -> BTreeSet<String> {
        methods
            .iter()
            .flat_map(|method| disclosure_groups(&method.response))
            .collect()
    });
    let mut disclosed = Vec::with_capacity(grant.disclosed_fields.len());
    for (at, text) in grant.disclosed_fields.iter().enumerate() {
        let (field, known) = match text.strip_prefix("group:") {
            Some(group) => (
                is_code(group).then(|| Disclosed::Group(group.into())),
                groups.as_ref().is_none_or(|groups| groups.contains(group)),
            ),
            None => (
                text.split('.')
                    .all(is_identifier)
                    .then(|| Disclosed::Field(text.as_str().into())),
                methods.is_none_or(|methods| {
                    methods
                        .iter()
                        .any(|method| field_at(&method.response, text).is_some())
                }),
            ),
        };
        let kind = if text.starts_with("group:") {
            "disclosure group"
        } else {
            "field"
        };
        let problem = match field {
            None => GrantProblem::Name(kind),
            Some(field) if disclosed.contains(&field) => GrantProblem::Duplicate,
            Some(_) if !known => GrantProblem::NoSuchField(kind),
            Some(field) => {
                disclosed.push(field);
                continue;
            }
        };
        faults.push(format!("disclosed_fields[{at}]"), problem);
    }
    disclosed
}

fn rate(stated: &proto::Rate, faults: &mut Faults) -> Option<Rate> {
    if stated.calls == 0 {
        faults.push("rate.calls", GrantProblem::Zero);
    }
    let per = stated
        .per
        .and_then(|per| Duration::try_from(per).ok())
        .filter(|per| !per.is_zero() && *per <= MAX_WINDOW);
    let Some(per) = per else {
        faults.push("rate.per", GrantProblem::Window);
        return None;
    };
    let burst = if stated.burst == 0 {
        stated.calls
    } else {
        stated.burst
    };
    (stated.calls > 0).then_some(Rate {
        calls: stated.calls,
        per,
        burst,
    })
}

fn required_us(time: Option<prost_types::Timestamp>) -> Result<i64, GrantProblem> {
    time_us(time.ok_or(GrantProblem::Missing)?)
}

fn time_us(time: prost_types::Timestamp) -> Result<i64, GrantProblem> {
    if (0..=MAX_SECONDS).contains(&time.seconds) && (0..1_000_000_000).contains(&time.nanos) {
        Ok(time.seconds * 1_000_000 + i64::from(time.nanos / 1_000))
    } else {
        Err(GrantProblem::Time)
    }
}

fn required_text(text: &str) -> Result<(), GrantProblem> {
    if text.trim().is_empty() {
        Err(GrantProblem::Missing)
    } else if holds_identity_number(text) {
        Err(GrantProblem::Personal)
    } else if is_plain_text(text, MAX_TEXT) {
        Ok(())
    } else {
        Err(GrantProblem::Text)
    }
}

/// A protobuf identifier.
fn is_identifier(text: &str) -> bool {
    text.len() <= 255
        && text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
