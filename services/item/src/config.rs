//! The configuration file of the service.

use std::{net::SocketAddr, path::Path, time::Duration};

use banqiao_directory::CityCode;
use banqiao_kit::{
    DEFAULT_DRAIN, DatabaseSettings, FollowSettings, GatewaySettings, Section, SettingFaults,
    SettingsFile, TrustSettings,
    calendar::WorkCalendar,
    identifier::{DivisionCode, DivisionKind},
    read_telemetry,
};
use banqiao_telemetry::{Resource, TelemetrySettings};

use crate::{catalogue::Catalogue, peers::Peers};

/// How often limits are looked at and new calendars loaded. Every action looks at the limits of its own case first; this is for
/// warnings, and for cases on which nobody acts.
const DEFAULT_SWEEP: Duration = Duration::from_secs(5);

const HOUR: Duration = Duration::from_secs(3_600);

/// Everything that an item service is told.
#[derive(Clone, Debug)]
pub struct ItemConfig {
    /// The city that decides the cases (`city`).
    pub city: CityCode,
    /// Where it listens (`listen`).
    pub listen: SocketAddr,
    /// How long open calls may take to finish after a stop (`drain`).
    pub drain: Duration,
    /// Files of the city's own items (`catalogue`), with the shipped ones.
    pub catalogue: Catalogue,
    /// Working days (`work_calendar`), with the shipped ones.
    pub calendar: WorkCalendar,
    /// The cities and what their systems may act as (`[[cities]]`).
    pub peers: Peers,
    /// The way to other cities (`[gateway]`). None: joint cases cannot be coordinated.
    pub gateway: Option<GatewaySettings>,
    /// `[identity]`.
    pub trust: TrustSettings,
    /// `[database]`.
    pub database: DatabaseSettings,
    /// `[item]`: how often limits are looked at (`sweep`).
    pub sweep: Duration,
    /// `[item]`: `watch_poll`, `watch_heartbeat`, `watch_limit`.
    pub watch: FollowSettings,
    /// `[telemetry]`.
    pub telemetry: TelemetrySettings,
}

impl ItemConfig {
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
        let catalogue = Catalogue::read(top);
        let calendar = WorkCalendar::read(top);
        let peers = Peers::read(top, city);
        let gateway = GatewaySettings::read_optional(top);
        let trust = TrustSettings::read(&mut top.section("identity"));
        let database = DatabaseSettings::read(&mut top.section("database"));
        let mut item = top.section("item");
        let sweep = item.duration("sweep", DEFAULT_SWEEP, Duration::from_millis(10)..=HOUR);
        let watch = FollowSettings {
            poll: item.duration(
                "watch_poll",
                FollowSettings::DEFAULT.poll,
                Duration::from_millis(10)..=Duration::from_secs(60),
            ),
            heartbeat: item.duration(
                "watch_heartbeat",
                FollowSettings::DEFAULT.heartbeat,
                Duration::from_millis(100)..=HOUR,
            ),
            limit: usize::from(item.number("watch_limit", 256_u16, 1..=10_000)),
        };
        drop(item);
        let resource = Resource::new("banqiao-item", env!("CARGO_PKG_VERSION"));
        let resource = match city {
            Some(city) => resource.with("banqiao.city", city.as_str()),
            None => resource,
        };
        let telemetry = read_telemetry(top, resource);
        Some(Self {
            city: city?,
            listen: listen?,
            drain,
            catalogue: catalogue?,
            calendar: calendar?,
            peers: peers?,
            gateway,
            trust: trust?,
            database: database?,
            sweep,
            watch,
            telemetry: telemetry?,
        })
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

    const WHOLE: &str = "city = \"370200\"\nlisten = \"127.0.0.1:9447\"\n[[cities]]\ncode = \"370200\"\n\
        trust_domain = \"qingdao.jiaodong\"\n[identity]\ncertificate = \"item.crt\"\n\
        private_key = \"item.key\"\nca_bundle = \"ca.crt\"\ncrl = \"crl.der\"\n[database]\nurl = \"sqlite://item.db\"\n\
        [telemetry]\nlog_format = \"json\"\n";

    #[test]
    fn a_small_file_is_enough() {
        let config = ItemConfig::parse(WHOLE, Path::new("/etc/banqiao")).unwrap();
        assert_eq!(config.sweep, DEFAULT_SWEEP);
        assert_eq!(config.calendar.loaded_years().last(), Some(2026));
        assert_eq!(config.trust.crl, Path::new("/etc/banqiao/crl.der"));
    }

    #[test]
    fn every_fault_comes_with_its_key_path() {
        let text = "city = '370202'\nlisten = 'here'\ncolour = 1\ncatalogue = ['none.toml']\nwork_calendar = 'none'\n\
                    [[cities]]\ncode = '370200'\n[[cities]]\ncode = '370600'\ntrust_domain = 'yantai.jiaodong'\n\
                    systems = [{ path = '/hall/', roles = ['SERVICE'] }]\n[gateway]\naddress = 'a b'\n\
                    [identity]\ncertificate = ''\n[database]\nurl = 'mysql://x'\n[item]\nsweep = '2h'\n";
        let faults = ItemConfig::parse(text, Path::new("")).unwrap_err();
        let keys: Vec<_> = faults.0.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "city",
                "listen",
                "catalogue",
                "work_calendar",
                "cities[0].trust_domain",
                "cities[1].systems[0].roles",
                "gateway.address",
                "identity.certificate",
                "identity.private_key",
                "identity.ca_bundle",
                "identity.crl",
                "database.url",
                "item.sweep",
                "colour",
            ]
        );
    }
}
