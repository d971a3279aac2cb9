//! The configuration file of the service.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use banqiao_directory::{CityCode, SpiffeId};
use banqiao_kit::{
    DEFAULT_DRAIN, DatabaseSettings, GatewaySettings, Section, SettingFaults, SettingsFile,
    TrustSettings,
    identifier::{DivisionCode, DivisionKind},
    read_telemetry,
};
use banqiao_telemetry::{Resource, TelemetrySettings};

use crate::{
    catalogue::Catalogue, institution::Institutions, recognition::Estimates, report::WatchSettings,
    table::TableFaults,
};

const HOUR: Duration = Duration::from_secs(3_600);
/// A referral that somebody acts on is looked at first; this is for those on which nobody does.
const DEFAULT_SWEEP: Duration = Duration::from_secs(5);

/// Everything that a laboratory service is told.
#[derive(Clone, Debug)]
pub struct LabConfig {
    /// The city whose reports these are (`city`).
    pub city: CityCode,
    /// Where it listens (`listen`).
    pub listen: SocketAddr,
    /// How long open calls may take to finish after a stop (`drain`).
    pub drain: Duration,
    /// `[identity]`.
    pub trust: TrustSettings,
    /// `[database]`.
    pub database: DatabaseSettings,
    /// `[lab]`: the catalogue (`catalogue`), or the one that comes with the service.
    pub catalogue: Arc<Catalogue>,
    /// `[lab]`: the institutions (`institutions`).
    pub institutions: Arc<Institutions>,
    /// `[lab]`: what a recognised result saves (`estimates`), or the estimates that come with the service.
    pub estimates: Arc<Estimates>,
    /// `[gateway]`: the way to other cities' services. Without it, decisions about their reports wait.
    pub gateway: Option<GatewaySettings>,
    /// `[lab]`: the systems that register and evaluate quality rounds (`quality_organisers`).
    pub quality_organisers: Arc<[SpiffeId]>,
    /// `[lab]`: how often referrals that ran out, and documents of other cities, are looked for (`referral_sweep`).
    pub referral_sweep: Duration,
    /// `[lab]`: `watch_poll`, `watch_heartbeat`, `watch_limit`.
    pub watch: WatchSettings,
    /// `[telemetry]`.
    pub telemetry: TelemetrySettings,
}

impl LabConfig {
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
        let mut lab = top.section("lab");
        let catalogue = match lab.optional_path("catalogue") {
            Some(path) => Catalogue::read(&path),
            None => Catalogue::built_in(),
        };
        let catalogue = loaded(&mut lab, "catalogue", catalogue);
        let institutions = lab.path("institutions");
        let institutions = institutions
            .and_then(|path| loaded(&mut lab, "institutions", Institutions::read(&path)));
        let estimates = match lab.optional_path("estimates") {
            Some(path) => Estimates::read(&path),
            None => Estimates::built_in(),
        };
        let estimates = loaded(&mut lab, "estimates", estimates);
        let quality_organisers = read_organisers(&mut lab);
        let referral_sweep = lab.duration(
            "referral_sweep",
            DEFAULT_SWEEP,
            Duration::from_millis(10)..=HOUR,
        );
        let watch = read_watch(&mut lab);
        drop(lab);
        let gateway = GatewaySettings::read_optional(top);
        let resource = Resource::new("banqiao-lab", env!("CARGO_PKG_VERSION"));
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
            catalogue: catalogue?,
            institutions: institutions?,
            estimates: estimates?,
            gateway,
            quality_organisers,
            referral_sweep,
            watch,
            telemetry: telemetry?,
        })
    }
}

fn read_watch(lab: &mut Section<'_>) -> WatchSettings {
    let default = WatchSettings::DEFAULT;
    WatchSettings {
        poll: lab.duration(
            "watch_poll",
            default.poll,
            Duration::from_millis(10)..=Duration::from_secs(60),
        ),
        heartbeat: lab.duration(
            "watch_heartbeat",
            default.heartbeat,
            Duration::from_millis(100)..=HOUR,
        ),
        limit: usize::from(lab.number("watch_limit", 256_u16, 1..=10_000)),
    }
}

fn read_organisers(lab: &mut Section<'_>) -> Arc<[SpiffeId]> {
    const KEY: &str = "quality_organisers";
    let Some(listed) = lab.value(KEY) else {
        return Arc::default();
    };
    let parse = |entry: &toml::Value| entry.as_str()?.parse().ok();
    let listed = listed.as_array().map(|listed| listed.iter().map(parse));
    let parsed = listed.and_then(Iterator::collect);
    parsed.unwrap_or_else(|| {
        lab.fault(
            KEY,
            "is a list of SPIFFE IDs of systems, such as spiffe://qingdao.jiaodong/health/quality",
        );
        Arc::default()
    })
}

/// Each fault of a reference file is a fault of the key that names it.
fn loaded<T>(
    section: &mut Section<'_>,
    key: &'static str,
    read: Result<T, TableFaults>,
) -> Option<Arc<T>> {
    match read {
        Ok(value) => Some(Arc::new(value)),
        Err(faults) => {
            for fault in faults.0 {
                section.fault(key, fault.to_string());
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_comes_with_its_key_path() {
        let folder = tempfile::TempDir::new().unwrap();
        let institutions = "#version 1\ncredit_code\tname\tlevel\tcity\tsystems\n1\t2\t3\t4\t5\n";
        std::fs::write(folder.path().join("institutions.tsv"), institutions).unwrap();
        let text = "city = '370202'\nlisten = 'here'\n[identity]\ncertificate = 'a'\nprivate_key = 'b'\n\
                    ca_bundle = 'c'\ncrl = 'd'\n[database]\nurl = 'sqlite:lab.db'\n\
                    [lab]\ncatalogue = 'none.tsv'\ninstitutions = 'institutions.tsv'\nquality_organisers = ['nobody']\nwatch_poll = '2h'\n";
        let faults = LabConfig::parse(text, folder.path()).unwrap_err();
        let keys: Vec<_> = faults.0.iter().map(|fault| fault.key.as_str()).collect();
        let lines = ["lab.institutions"; 4];
        assert_eq!(keys[..3], ["city", "listen", "lab.catalogue"]);
        assert_eq!(keys[3..7], lines);
        assert_eq!(keys[7..], ["lab.quality_organisers", "lab.watch_poll"]);
        assert!(
            faults.0[3]
                .message
                .contains("institutions.tsv:3: credit_code: "),
            "{faults}"
        );
    }
}
