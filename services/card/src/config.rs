//! The configuration file of the service.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, time::Duration};

use banqiao_directory::{CityCode, SpiffeId, TrustDomain};
use banqiao_kit::{
    DEFAULT_DRAIN, DatabaseSettings, DatabaseUrl, FollowSettings, GatewaySettings, Section,
    SettingFaults, SettingsFile, TrustSettings,
    calendar::WorkCalendar,
    identifier::{DivisionCode, DivisionKind},
    mapping::Mapping,
    read_telemetry,
};
use banqiao_telemetry::{Resource, TelemetrySettings};

use crate::{
    cards::{DEFAULT_NEW_CARD_YEARS, LossTerms},
    eligibility::EligibilityTerms,
    entitlement::EntitlementTerms,
    pension::PensionSettings,
    request::parse_city,
    store::CARD_MAPPING,
    verification::VerificationPolicy,
};

/// How often ended temporary losses are looked for. Answers are right without it; it is for watchers.
const DEFAULT_SWEEP: Duration = Duration::from_secs(5);

/// A sweep reads every payment: two statements for 500 people. Campaigns are of a month, so they need no fresher ones.
const DEFAULT_PAYMENT_SWEEP: Duration = Duration::from_secs(900);

const DAY: Duration = Duration::from_secs(86_400);
const HOUR: Duration = Duration::from_secs(3_600);

/// Everything that a card service is told.
#[derive(Clone, Debug)]
pub struct CardConfig {
    /// The city whose cards these are (`city`).
    pub city: CityCode,
    /// Where it listens (`listen`).
    pub listen: SocketAddr,
    /// How long open calls may take to finish after a stop (`drain`).
    pub drain: Duration,
    /// `[identity]`.
    pub trust: TrustSettings,
    /// `[database]`.
    pub database: DatabaseSettings,
    /// The mapping of the bureau's own tables (`mapping`, a file); none: the cards are in this service's tables.
    pub mapping: Option<Mapping>,
    /// `[card]`: `temporary_loss_social`, `temporary_loss_financial`.
    pub terms: LossTerms,
    /// `[card]`: systems of other cities whose identity verifications are recognised (`verifiers`), and for how long one is taken
    /// (`verification_validity`).
    pub verifiers: (Vec<SpiffeId>, Duration),
    /// `[card]`: years for which new cards are valid (`new_card_years`).
    pub new_card_years: u8,
    /// `[card]`: how often ended temporary losses are looked for (`sweep`).
    pub sweep: Duration,
    /// `[card]`: `watch_poll`, `watch_heartbeat`, `watch_limit`.
    pub watch: FollowSettings,
    /// `[gateway]`: the way to other cities. Without it documents of pension transfers wait.
    pub gateway: Option<GatewaySettings>,
    /// `[pension]`.
    pub pension: PensionSettings,
    /// `work_calendar`.
    pub calendar: WorkCalendar,
    /// `[entitlement]`: how old records of insured persons may be (`record_age`).
    pub entitlement: EntitlementTerms,
    /// `[eligibility]`: for how many months a check is recognised (`validity_months`).
    pub eligibility: EligibilityTerms,
    /// `[eligibility]`: where payments are in the bureau's own tables, how often its changes are looked for of people about whom nobody
    /// asks, so that campaigns tell of them (`sweep`).
    pub payment_sweep: Duration,
    /// `[cities]`: the other cities' trust domains by code, for what their systems may report, watch and hand over.
    pub cities: BTreeMap<CityCode, TrustDomain>,
    /// `[telemetry]`.
    pub telemetry: TelemetrySettings,
}

impl CardConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// Every fault at once, with its key path.
    pub fn read(path: &Path) -> Result<Self, SettingFaults> {
        SettingsFile::read(path)?.finish(Self::of)
    }

    /// Parses text whose paths are relative to `folder`.
    ///
    /// # Errors
    /// Every fault at once, with its key path.
    pub fn parse(text: &str, folder: &Path) -> Result<Self, SettingFaults> {
        SettingsFile::parse(text, folder)?.finish(Self::of)
    }

    fn of(top: &mut Section<'_>) -> Option<Self> {
        let city = read_city(top);
        let listen = top.parsed("listen");
        let drain = top.duration("drain", DEFAULT_DRAIN, Duration::ZERO..=HOUR);
        let trust = TrustSettings::read(&mut top.section("identity"));
        let database = DatabaseSettings::read(&mut top.section("database"));
        let mapping = read_mapping(top, database.as_ref());
        let mut card = top.section("card");
        let terms = LossTerms {
            social: card.duration(
                "temporary_loss_social",
                LossTerms::DEFAULT.social,
                HOUR..=DAY * 366,
            ),
            financial: card.duration(
                "temporary_loss_financial",
                LossTerms::DEFAULT.financial,
                HOUR..=DAY * 366,
            ),
        };
        let verifiers = read_verifiers(&mut card);
        let validity = card.duration(
            "verification_validity",
            VerificationPolicy::DEFAULT_VALIDITY,
            Duration::from_secs(60)..=DAY,
        );
        let new_card_years = card.number("new_card_years", DEFAULT_NEW_CARD_YEARS, 1..=50);
        let sweep = card.duration("sweep", DEFAULT_SWEEP, Duration::from_millis(100)..=HOUR);
        let watch = FollowSettings {
            poll: card.duration(
                "watch_poll",
                FollowSettings::DEFAULT.poll,
                Duration::from_millis(10)..=Duration::from_secs(60),
            ),
            heartbeat: card.duration(
                "watch_heartbeat",
                FollowSettings::DEFAULT.heartbeat,
                Duration::from_millis(100)..=HOUR,
            ),
            limit: usize::from(card.number("watch_limit", 256_u16, 1..=10_000)),
        };
        drop(card);
        let gateway = GatewaySettings::read_optional(top);
        let cities = read_cities(top);
        let mut pension = PensionSettings::read(&mut top.section("pension"));
        pension.cities.clone_from(&cities);
        let calendar = WorkCalendar::read(top);
        let mut section = top.section("entitlement");
        let age = EntitlementTerms::DEFAULT.record_age;
        let entitlement = EntitlementTerms {
            record_age: section.duration("record_age", age, DAY..=DAY * 366),
        };
        drop(section);
        let mut section = top.section("eligibility");
        let months = EligibilityTerms::DEFAULT.validity_months;
        let eligibility = EligibilityTerms {
            validity_months: section.number("validity_months", months, 1..=36),
        };
        let payment_sweep = section.duration(
            "sweep",
            DEFAULT_PAYMENT_SWEEP,
            Duration::from_millis(100)..=DAY,
        );
        drop(section);
        let resource = Resource::new("banqiao-card", env!("CARGO_PKG_VERSION"));
        let resource = match city {
            Some(city) => resource.with("banqiao.city", city.as_str()),
            None => resource,
        };
        let telemetry = read_telemetry(top, resource);
        Some(Self {
            city: city?,
            listen: listen?,
            drain,
            trust: trust?,
            database: database?,
            mapping,
            terms,
            verifiers: (verifiers, validity),
            new_card_years,
            sweep,
            watch,
            gateway,
            pension,
            calendar: calendar?,
            entitlement,
            eligibility,
            payment_sweep,
            cities,
            telemetry: telemetry?,
        })
    }
}

fn read_verifiers(card: &mut Section<'_>) -> Vec<SpiffeId> {
    let Some(listed) = card.value("verifiers") else {
        return Vec::new();
    };
    let parsed = listed.as_array().and_then(|listed| {
        let parse = |entry: &toml::Value| entry.as_str()?.parse().ok();
        listed.iter().map(parse).collect()
    });
    parsed.unwrap_or_else(|| {
        card.fault(
            "verifiers",
            "is a list of SPIFFE IDs of systems, such as spiffe://weihai.jiaodong/hrss/window",
        );
        Vec::new()
    })
}

/// Reads the file of the mapping; its faults come with the file's key before their own.
fn read_mapping(top: &mut Section<'_>, database: Option<&DatabaseSettings>) -> Option<Mapping> {
    let path = top.optional_path("mapping")?;
    if database.is_some_and(|database| matches!(database.url, DatabaseUrl::Sqlite(_))) {
        top.fault("mapping", "needs PostgreSQL in database.url: the bureau's tables and the service's own are one database");
    }
    match Mapping::read(&path, &CARD_MAPPING) {
        Ok(mapping) => Some(mapping),
        Err(faults) => {
            for fault in faults.0 {
                top.fault("mapping", fault.to_string());
            }
            None
        }
    }
}

fn read_city(top: &mut Section<'_>) -> Option<CityCode> {
    let city: CityCode = top.parsed("city")?;
    let division = DivisionCode::parse(city.as_str()).ok()?.division();
    match division.map(|division| division.kind) {
        Some(DivisionKind::City | DivisionKind::GuestCity) => Some(city),
        _ => {
            top.fault(
                "city",
                "is no city of the network, such as 370200 for Qingdao",
            );
            None
        }
    }
}

/// The trust domains of other cities, by code.
fn read_cities(top: &mut Section<'_>) -> BTreeMap<CityCode, TrustDomain> {
    const KEY: &str = "cities";
    let mut cities = BTreeMap::new();
    let table = match top.value(KEY) {
        None => return cities,
        Some(value) => value.as_table(),
    };
    let Some(table) = table else {
        top.fault(KEY, "must be a table of trust domains by city code");
        return cities;
    };
    for (code, domain) in table {
        let key = format!("{KEY}.{code}");
        match (parse_city(code), domain.as_str().map(str::parse)) {
            (Ok(code), Some(Ok(domain))) => {
                cities.insert(code, domain);
            }
            (Err(_), _) => top.fault(&key, "is no city of the network, such as 370600"),
            _ => top.fault(&key, "is no trust domain such as \"yantai.jiaodong\""),
        }
    }
    cities
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &str = r#"
city = "370200"
listen = "127.0.0.1:9443"

[identity]
certificate = "card.crt"
private_key = "card.key"
ca_bundle = "ca.crt"
crl = "crl.der"

[database]
url = "sqlite://card.db"

[card]
temporary_loss_social = "7d"

[telemetry]
log_format = "json"
"#;

    #[test]
    fn a_small_file_is_enough() {
        let config = CardConfig::parse(WHOLE, Path::new("/etc/banqiao")).unwrap();
        assert_eq!(
            config.database.url,
            DatabaseUrl::Sqlite("/etc/banqiao/card.db".into())
        );
        assert_eq!(config.trust.crl, Path::new("/etc/banqiao/crl.der"));
        assert_eq!(config.terms.social, DAY * 7);
        assert_eq!(config.terms.financial, LossTerms::DEFAULT.financial);
    }

    #[test]
    fn every_fault_comes_with_its_key_path() {
        let text = "city = '370202'\nlisten = 'here'\ncolour = 1\n[identity]\ncertificate = ''\n\
                    [database]\nurl = 'mysql://x'\n[card]\nsweep = '2h'\nverifiers = ['window']\n[telemetry]\nlog_filter = 'a=b=c'\n";
        let faults = CardConfig::parse(text, Path::new("")).unwrap_err();
        let keys: Vec<_> = faults.0.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "city",
                "listen",
                "identity.certificate",
                "identity.private_key",
                "identity.ca_bundle",
                "identity.crl",
                "database.url",
                "card.verifiers",
                "card.sweep",
                "telemetry.log_filter",
                "colour",
            ]
        );
    }
}
