//! One city's section, and the rules of it that need no other section.

use std::{collections::BTreeSet, fmt, net::Ipv6Addr, str::FromStr};

use super::{
    Name, NoteKey, NoteKeyKind,
    parse::{Faults, MAX_TITLE},
    raw,
};
use crate::{CityCode, SpiffeId, TrustDomain, text::is_code};

/// Protocol version of gateways that this program speaks, and the one that a section without a range states.
const PROTOCOL: u32 = 1;

/// A city that takes part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct City {
    /// Code (GB/T 2260).
    pub code: CityCode,
    /// Name.
    pub name: Name,
    /// Trust domain of its SPIFFE IDs.
    pub trust_domain: TrustDomain,
    /// Certificates of its CAs, DER.
    pub ca_bundle: Vec<Vec<u8>>,
    /// Where its gateway's inter-city listener is reached; at least one.
    pub gateways: Vec<GatewayEndpoint>,
    /// A guest member: it takes part but signs no directory.
    pub guest: bool,
    /// Whether it demands receipts.
    pub receipts: Receipts,
    /// Versions of the protocol between gateways that its gateway speaks.
    pub protocol: ProtocolRange,
    /// Origin and keys of its ledger.
    pub ledger: Option<LedgerPolicy>,
    /// Its witness, and how its ledger is to be witnessed.
    pub witness: Option<WitnessPolicy>,
    /// Its agencies.
    pub agencies: Vec<Agency>,
    /// Its systems: clients and services.
    pub systems: Vec<System>,
}

/// An address of a city's gateway.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GatewayEndpoint {
    /// `host:port`; the host is a DNS name, an IPv4 address or an IPv6 address in brackets.
    pub address: String,
}

impl GatewayEndpoint {
    /// The host, without the brackets of an IPv6 address.
    pub fn host(&self) -> &str {
        let host = self.address.rsplit_once(':').map_or("", |(host, _)| host);
        host.strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host)
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.address
            .rsplit_once(':')
            .and_then(|(_, port)| port.parse().ok())
            .unwrap_or(0)
    }
}

impl FromStr for GatewayEndpoint {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        const FORM: &str = "a gateway is written host:port, such as gateway.qingdao.example:7443";
        let (host, port) = text.rsplit_once(':').ok_or(FORM)?;
        let port_sound = port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok_and(|port| port != 0);
        let host_sound = match host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
        {
            Some(inner) => inner.parse::<Ipv6Addr>().is_ok(),
            None => {
                host.len() <= 253
                    && host.split('.').all(|label| {
                        (1..=63).contains(&label.len())
                            && !label.starts_with('-')
                            && !label.ends_with('-')
                            && label.bytes().all(|byte| {
                                byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
                            })
                    })
            }
        };
        if port_sound && host_sound {
            Ok(Self {
                address: text.to_owned(),
            })
        } else {
            Err(FORM)
        }
    }
}

impl fmt::Display for GatewayEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// Whether a city's gateway demands receipts of its peers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Receipts {
    /// It takes calls and answers without them.
    Optional,
    /// It refuses calls and answers without them.
    Required,
}

impl Receipts {
    /// As it is written in the document.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Optional => "optional",
            Self::Required => "required",
        }
    }
}

/// Versions of the protocol between gateways, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProtocolRange {
    /// Oldest.
    pub min: u32,
    /// Newest.
    pub max: u32,
}

impl fmt::Display for ProtocolRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.min, self.max)
    }
}

/// How a city's ledger is recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LedgerPolicy {
    /// Origin: `<trust domain>/ledger/<epoch>`.
    pub origin: String,
    /// Keys that sign its checkpoints; several while keys are rotated.
    pub keys: Vec<NoteKey>,
    /// The ledger that it takes the place of, from its second epoch on.
    pub predecessor: Option<Predecessor>,
}

/// The end of a ledger, as the cities agree on it: what it was shown to hold beyond that does not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predecessor {
    /// Origin: that of the epoch before.
    pub origin: String,
    /// Entries at its last checkpoint.
    pub size: u64,
    /// Root of the tree over them.
    pub root: [u8; 32],
}

impl fmt::Display for Predecessor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { origin, size, root } = self;
        write!(
            f,
            "{origin} with {size} entries, root {}",
            hex::encode(root)
        )
    }
}

/// A city's witness, and its demand on the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessPolicy {
    /// Keys that its witness cosigns with.
    pub keys: Vec<NoteKey>,
    /// Cosignatures of other cities that make a checkpoint of this city's ledger witnessed.
    pub quorum: u32,
}

/// An agency of a city.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agency {
    /// Code: the first path segment of its systems' SPIFFE IDs.
    pub code: String,
    /// Name.
    pub name: Name,
}

/// A system of an agency.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct System {
    /// SPIFFE ID.
    pub id: SpiffeId,
    /// Title.
    pub title: String,
    /// Code of its agency.
    pub agency: String,
}

impl City {
    /// The agency with a code.
    pub fn agency(&self, code: &str) -> Option<&Agency> {
        self.agencies.iter().find(|agency| agency.code == code)
    }

    pub(super) fn parse(raw: raw::City, path: &str, faults: &mut Faults) -> Option<Self> {
        let code = faults.parsed(&format!("{path}.code"), raw.code);
        let name = faults.name(&format!("{path}.name"), raw.name);
        let trust_domain =
            faults.parsed::<TrustDomain>(&format!("{path}.trust_domain"), raw.trust_domain);
        let ca_bundle = ca_bundle(raw.ca_bundle, path, faults);
        let gateways = gateways(raw.gateways, path, faults);
        let receipts = receipts(raw.features, path, faults);
        let protocol = protocol(raw.protocol, path, faults);
        let domain = trust_domain.as_ref();
        let ledger = raw
            .ledger
            .map(|ledger| ledger_policy(ledger, domain, path, faults));
        let witness = raw
            .witness
            .map(|witness| witness_policy(witness, path, faults));
        let agencies = agencies(raw.agencies, path, faults);
        let systems = systems(raw.systems, domain, &agencies, path, faults);
        Some(Self {
            code: code?,
            name: name?,
            trust_domain: trust_domain?,
            ca_bundle,
            gateways,
            guest: raw.guest,
            receipts,
            protocol,
            ledger,
            witness,
            agencies,
            systems,
        })
    }
}

fn ca_bundle(raw: Option<String>, path: &str, faults: &mut Faults) -> Vec<Vec<u8>> {
    let path = format!("{path}.ca_bundle");
    let Some(text) = raw else {
        faults.push(
            path,
            "is missing: the certificates of the city's CAs in PEM",
        );
        return Vec::new();
    };
    let blocks = pem::parse_many(&text).unwrap_or_default();
    if blocks.is_empty() {
        faults.push(path, "holds no certificate in PEM");
        return Vec::new();
    }
    let mut bundle: Vec<Vec<u8>> = Vec::with_capacity(blocks.len());
    for (at, block) in blocks.into_iter().enumerate() {
        if block.tag() != "CERTIFICATE" {
            // A private key in a published document must not pass silently, nor be printed.
            faults.push(&path, format!("block {at} is no certificate"));
        } else if !is_der_sequence(block.contents()) {
            faults.push(&path, format!("block {at} is not DER"));
        } else if bundle.iter().any(|held| held == block.contents()) {
            faults.push(&path, format!("block {at} stands twice"));
        } else {
            bundle.push(block.into_contents());
        }
    }
    bundle
}

/// Whether bytes are one whole DER SEQUENCE (X.690 §8.9). What is in it, the TLS library reads.
fn is_der_sequence(der: &[u8]) -> bool {
    let Some((&[0x30, first], rest)) = der.split_first_chunk() else {
        return false;
    };
    match first {
        0..=0x7f => usize::from(first) == rest.len(),
        0x81..=0x83 => {
            let count = usize::from(first - 0x80);
            rest.split_at_checked(count)
                .is_some_and(|(length, content)| {
                    let length = length
                        .iter()
                        .fold(0, |sum, byte| sum << 8 | usize::from(*byte));
                    length >= 0x80 && length == content.len()
                })
        }
        _ => false,
    }
}

fn gateways(raw: Vec<String>, path: &str, faults: &mut Faults) -> Vec<GatewayEndpoint> {
    if raw.is_empty() {
        faults.push(
            format!("{path}.gateways"),
            "is missing: at least one host:port",
        );
    }
    raw.into_iter()
        .enumerate()
        .filter_map(|(at, text)| faults.parsed(&format!("{path}.gateways[{at}]"), Some(text)))
        .collect()
}

fn receipts(raw: Option<raw::Features>, path: &str, faults: &mut Faults) -> Receipts {
    match raw.and_then(|features| features.receipts).as_deref() {
        None | Some("optional") => Receipts::Optional,
        Some("required") => Receipts::Required,
        Some(_) => {
            faults.push(
                format!("{path}.features.receipts"),
                "is \"optional\" or \"required\"",
            );
            Receipts::Optional
        }
    }
}

fn protocol(raw: Option<raw::Protocol>, path: &str, faults: &mut Faults) -> ProtocolRange {
    let Some(raw) = raw else {
        return ProtocolRange {
            min: PROTOCOL,
            max: PROTOCOL,
        };
    };
    let bound = |value: Option<i64>| value.and_then(|value| u32::try_from(value).ok());
    match (bound(raw.min), bound(raw.max)) {
        (Some(min), Some(max)) if 1 <= min && min <= max => ProtocolRange { min, max },
        _ => {
            let text = "needs min and max, with 1 <= min <= max";
            faults.push(format!("{path}.protocol"), text);
            ProtocolRange {
                min: PROTOCOL,
                max: PROTOCOL,
            }
        }
    }
}

fn ledger_policy(
    raw: raw::Ledger,
    domain: Option<&TrustDomain>,
    path: &str,
    faults: &mut Faults,
) -> LedgerPolicy {
    let path = format!("{path}.ledger");
    let origin = raw.origin.unwrap_or_default();
    let epoch = domain
        .and_then(|domain| origin.strip_prefix(domain.as_str()))
        .and_then(|rest| rest.strip_prefix("/ledger/"));
    let sound = epoch.is_some_and(|epoch| {
        !epoch.starts_with('0') && epoch.parse::<u64>().is_ok_and(|epoch| epoch > 0)
    });
    if domain.is_some() && !sound {
        faults.push(
            format!("{path}.origin"),
            "has the form <trust domain>/ledger/<epoch>",
        );
    }
    let keys = note_keys(raw.keys, &path, faults);
    for (at, key) in &keys {
        if key.kind() != NoteKeyKind::Ed25519 {
            faults.push(
                format!("{path}.keys[{at}]"),
                "a ledger signs with Ed25519 (0x01)",
            );
        }
        if key.name() != origin {
            faults.push(
                format!("{path}.keys[{at}]"),
                "its name is not the ledger's origin",
            );
        }
    }
    let epoch = epoch.and_then(|epoch| epoch.parse().ok());
    let predecessor = predecessor(raw.predecessor, domain.zip(epoch), &path, faults);
    LedgerPolicy {
        origin,
        keys: keys.into_iter().map(|(_, key)| key).collect(),
        predecessor,
    }
}

/// Each epoch but the first names the end of the one before.
fn predecessor(
    raw: Option<raw::Predecessor>,
    epoch: Option<(&TrustDomain, u64)>,
    path: &str,
    faults: &mut Faults,
) -> Option<Predecessor> {
    let path = format!("{path}.predecessor");
    let Some(raw) = raw else {
        if epoch.is_some_and(|(_, epoch)| epoch > 1) {
            let text =
                "is missing: origin, size and root of the last checkpoint of the epoch before";
            faults.push(path, text);
        }
        return None;
    };
    let origin = raw.origin.unwrap_or_default();
    if let Some((domain, epoch)) = epoch {
        let before = epoch.saturating_sub(1);
        if epoch < 2 {
            faults.push(path.clone(), "stands with a first epoch, which has none");
        } else if origin != format!("{domain}/ledger/{before}") {
            let text = format!("is that of the epoch before: {domain}/ledger/{before}");
            faults.push(format!("{path}.origin"), text);
        }
    }
    let size = raw.size.and_then(|size| u64::try_from(size).ok());
    if size.is_none() {
        faults.push(format!("{path}.size"), "is the number of its entries");
    }
    let mut root = [0; 32];
    if hex::decode_to_slice(raw.root.unwrap_or_default(), &mut root).is_err() {
        faults.push(format!("{path}.root"), "is 64 hexadecimal digits");
        return None;
    }
    Some(Predecessor {
        origin,
        size: size?,
        root,
    })
}

fn witness_policy(raw: raw::Witness, path: &str, faults: &mut Faults) -> WitnessPolicy {
    let path = format!("{path}.witness");
    let keys = note_keys(raw.keys, &path, faults);
    for (at, key) in &keys {
        if key.kind() == NoteKeyKind::Ed25519 {
            let text = "a witness signs with cosignature/v1 (0x04) or ML-DSA-44 (0x06)";
            faults.push(format!("{path}.keys[{at}]"), text);
        }
    }
    let quorum = raw
        .quorum
        .and_then(|quorum| u32::try_from(quorum).ok())
        .unwrap_or(0);
    if quorum == 0 {
        faults.push(format!("{path}.quorum"), "is a number of at least 1");
    }
    WitnessPolicy {
        keys: keys.into_iter().map(|(_, key)| key).collect(),
        quorum,
    }
}

fn note_keys(raw: Vec<String>, path: &str, faults: &mut Faults) -> Vec<(usize, NoteKey)> {
    if raw.is_empty() {
        faults.push(
            format!("{path}.keys"),
            "is missing: at least one verifier key",
        );
    }
    raw.into_iter()
        .enumerate()
        .filter_map(|(at, text)| {
            Some((
                at,
                faults.parsed(&format!("{path}.keys[{at}]"), Some(text))?,
            ))
        })
        .collect()
}

fn agencies(raw: Vec<raw::Agency>, path: &str, faults: &mut Faults) -> Vec<Agency> {
    let mut seen = BTreeSet::new();
    raw.into_iter()
        .enumerate()
        .filter_map(|(at, agency)| {
            let path = format!("{path}.agencies[{at}]");
            let code = agency.code.unwrap_or_default();
            if !is_code(&code) || code == "gateway" {
                let text = "is 1 to 64 characters of a-z, 0-9, '-' and '_', and not \"gateway\"";
                faults.push(format!("{path}.code"), text);
            } else if !seen.insert(code.clone()) {
                faults.push(format!("{path}.code"), "stands twice");
            }
            let name = faults.name(&format!("{path}.name"), agency.name)?;
            Some(Agency { code, name })
        })
        .collect()
}

fn systems(
    raw: Vec<raw::System>,
    domain: Option<&TrustDomain>,
    agencies: &[Agency],
    path: &str,
    faults: &mut Faults,
) -> Vec<System> {
    let mut seen = BTreeSet::new();
    raw.into_iter()
        .enumerate()
        .filter_map(|(at, system)| {
            let path = format!("{path}.systems[{at}]");
            let id = faults.parsed::<SpiffeId>(&format!("{path}.id"), system.id);
            let title = faults.text(&format!("{path}.title"), system.title, MAX_TITLE);
            let agency = system.agency.unwrap_or_default();
            if !agencies.iter().any(|known| known.code == agency) {
                faults.push(
                    format!("{path}.agency"),
                    "is not the code of an agency of this city",
                );
            }
            let id = id?;
            if domain.is_some_and(|domain| id.trust_domain() != domain) {
                faults.push(format!("{path}.id"), "is not in the city's trust domain");
            } else if id.is_gateway() {
                faults.push(
                    format!("{path}.id"),
                    "is the city's gateway, which is no system",
                );
            } else if id.agency() != agency {
                faults.push(
                    format!("{path}.id"),
                    "does not begin with the code of its agency",
                );
            } else if !seen.insert(id.clone()) {
                faults.push(format!("{path}.id"), "stands twice");
            }
            Some(System {
                id,
                title: title?,
                agency,
            })
        })
        .collect()
}
