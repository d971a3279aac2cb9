//! Which city a client system belongs to, and as what it may act.
//!
//! ```toml
//! [[cities]]
//! code = "370200"
//! trust_domain = "qingdao.jiaodong"
//! systems = [{ path = "/hall/", roles = ["WINDOW", "APPLICANT"] }, { path = "/psb/case", roles = ["DEPARTMENT"] }]
//! ```
//!
//! A path that ends in `/` stands for every system below it. A city without `systems` lets each of its systems act in every role;
//! the gateways' grants say which of them may call at all.

use std::collections::BTreeMap;

use banqiao_directory::{CityCode, SpiffeId, TrustDomain};
use banqiao_kit::{CallError, Caller, Refusal, Rule, RuleTable, Section};
use banqiao_proto::item::v1::ActorRole;
use toml::{Table, Value};

use crate::case::{Actor, Client};

const ROLE_NOT_GIVEN: Refusal = Refusal::forbidden(
    Rule::design(
        "ROLE_NOT_GIVEN",
        "a client system acts in the roles that the service's settings give it",
        "item service",
    )
    .remedy("ask the deciding city's operators for the role"),
);
const CITY_UNKNOWN: Refusal = Refusal::forbidden(
    Rule::design(
        "CITY_UNKNOWN",
        "a client belongs to a city that the service's settings name",
        "item service",
    )
    .remedy("ask the deciding city's operators to name the city"),
);

pub(crate) fn rules() -> RuleTable {
    const EVERY: &[&str] = &[
        "StartCase",
        "ActOnCase",
        "ReadCase",
        "SearchCases",
        "WatchCase",
        "WatchDepartment",
        "ListMaterials",
        "VerifyMaterial",
        "UploadMaterial",
        "FindMaterialUpload",
        "DownloadMaterial",
        "RateCase",
        "ListRatings",
        "ReadRating",
        "ActOnRectification",
        "SearchRectifications",
        "WatchRectifications",
        "ReadFigures",
        "ReadReport",
    ];
    const IN_ROLES: &[&str] = &[
        "StartCase",
        "ActOnCase",
        "VerifyMaterial",
        "UploadMaterial",
        "FindMaterialUpload",
        "RateCase",
        "ListRatings",
        "ReadRating",
        "ActOnRectification",
        "SearchRectifications",
        "WatchRectifications",
    ];
    RuleTable::new("Clients")
        .refusal(&CITY_UNKNOWN, EVERY)
        .refusal(&ROLE_NOT_GIVEN, IN_ROLES)
}

/// Key of the settings.
const KEY: &str = "cities";

const ROLES: [ActorRole; 5] = [
    ActorRole::Applicant,
    ActorRole::Window,
    ActorRole::Department,
    ActorRole::Supervisor,
    ActorRole::Coordinator,
];

/// Name of a role in the settings.
fn name(role: ActorRole) -> &'static str {
    role.as_str_name().trim_start_matches("ACTOR_ROLE_")
}

#[derive(Clone, Debug)]
struct Systems {
    path: String,
    roles: Vec<ActorRole>,
}

impl Systems {
    fn holds(&self, client: &SpiffeId) -> bool {
        if self.path.ends_with('/') {
            client.path().starts_with(&self.path)
        } else {
            client.path() == self.path
        }
    }
}

#[derive(Clone, Debug)]
struct Peer {
    city: CityCode,
    systems: Option<Vec<Systems>>,
}

/// The cities of the network and their systems.
#[derive(Clone, Debug)]
pub struct Peers(BTreeMap<TrustDomain, Peer>);

impl Peers {
    /// Reads `[[cities]]` from the top of a service's settings. `home` must be one of them.
    pub(crate) fn read(top: &mut Section<'_>, home: Option<CityCode>) -> Option<Self> {
        let Some(Value::Array(array)) = top.value(KEY) else {
            top.fault(
                KEY,
                "is required: a list of tables with code and trust_domain, this city among them",
            );
            return None;
        };
        let mut peers = BTreeMap::new();
        let mut sound = true;
        for (index, value) in array.iter().enumerate() {
            match read_peer(value) {
                Ok((domain, peer)) => {
                    if peers.insert(domain, peer).is_some() {
                        top.fault(&format!("{KEY}[{index}].trust_domain"), "is given twice");
                        sound = false;
                    }
                }
                Err((key, message)) => {
                    top.fault(&format!("{KEY}[{index}]{key}"), message);
                    sound = false;
                }
            }
        }
        if sound && home.is_some_and(|home| peers.values().all(|peer| peer.city != home)) {
            top.fault(KEY, "does not name this city");
            sound = false;
        }
        sound.then_some(Self(peers))
    }

    /// On whose behalf a call is made: the client's city is certified, the role is one that its system may have.
    ///
    /// # Errors
    /// The city is not known, or the system may not act so.
    pub fn actor(&self, caller: &Caller, role: ActorRole) -> Result<Actor, CallError> {
        let peer = self.peer(caller)?;
        let may = match &peer.systems {
            None => true,
            Some(systems) => systems
                .iter()
                .any(|systems| systems.holds(&caller.client) && systems.roles.contains(&role)),
        };
        if !may {
            return Err(
                ROLE_NOT_GIVEN.because(format!("this system may not act as {}", name(role)))
            );
        }
        Ok(Actor {
            city: peer.city,
            role,
            client: Some(Client::from(caller)),
        })
    }

    /// The city of a client.
    ///
    /// # Errors
    /// It is not known.
    pub fn city(&self, caller: &Caller) -> Result<CityCode, CallError> {
        self.peer(caller).map(|peer| peer.city)
    }

    fn peer(&self, caller: &Caller) -> Result<&Peer, CallError> {
        let peer = self.0.get(caller.client.trust_domain());
        peer.ok_or_else(|| CITY_UNKNOWN.because("this service does not know the client's city"))
    }
}

type Fault = (String, String);

fn read_peer(value: &Value) -> Result<(TrustDomain, Peer), Fault> {
    let fault = |key: &str, message: &str| (key.to_owned(), message.to_owned());
    let table = value
        .as_table()
        .ok_or_else(|| fault("", "must be a table"))?;
    refuse_unknown(table, &["code", "trust_domain", "systems"], "")?;
    let text = |key| {
        table
            .get(key)
            .and_then(Value::as_str)
            .and_then(|text| text.parse().ok())
    };
    let city =
        text("code").ok_or_else(|| fault(".code", "must be the code of a city, such as 370200"))?;
    let domain = table.get("trust_domain").and_then(Value::as_str);
    let domain = domain.and_then(|text| text.parse().ok());
    let domain = domain.ok_or_else(|| {
        fault(
            ".trust_domain",
            "must be a trust domain, such as qingdao.jiaodong",
        )
    })?;
    let systems = match table.get("systems") {
        None => None,
        Some(Value::Array(array)) => {
            let systems = array.iter().enumerate();
            Some(
                systems
                    .map(|(index, value)| read_systems(index, value))
                    .collect::<Result<_, _>>()?,
            )
        }
        Some(_) => return Err(fault(".systems", "must be a list of tables")),
    };
    Ok((domain, Peer { city, systems }))
}

fn read_systems(index: usize, value: &Value) -> Result<Systems, Fault> {
    let fault = |key: &str, message: String| (format!(".systems[{index}]{key}"), message);
    let table = value
        .as_table()
        .ok_or_else(|| fault("", "must be a table".into()))?;
    refuse_unknown(table, &["path", "roles"], &format!(".systems[{index}]"))?;
    let path = table
        .get("path")
        .and_then(Value::as_str)
        .filter(|path| path.starts_with('/'));
    let path = path.ok_or_else(|| fault(".path", "must be a path that begins with /".into()))?;
    let names = table
        .get("roles")
        .and_then(Value::as_array)
        .filter(|roles| !roles.is_empty());
    let roles = names.into_iter().flatten().map(|role| {
        ROLES
            .into_iter()
            .find(|known| role.as_str() == Some(name(*known)))
    });
    let roles: Option<Vec<_>> = roles.collect();
    let roles = roles.filter(|roles| !roles.is_empty()).ok_or_else(|| {
        fault(
            ".roles",
            format!("must be a list of some of {}", ROLES.map(name).join(", ")),
        )
    })?;
    Ok(Systems {
        path: path.to_owned(),
        roles,
    })
}

fn refuse_unknown(table: &Table, known: &[&str], path: &str) -> Result<(), Fault> {
    match table.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err((
            format!("{path}.{key}"),
            format!("is not a key here; known are {}", known.join(", ")),
        )),
    }
}
