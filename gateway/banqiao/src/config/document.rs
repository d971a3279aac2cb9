//! From the document to a [`Config`].

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use banqiao_directory::{CityCode, Clock};
use banqiao_ledger::DEFAULT_SUMMARY_INTERVAL;
use banqiao_proxy::{
    DEFAULT_MONITOR_INTERVAL, DEFAULT_RECONCILE_GRACE, DEFAULT_RECONCILE_INTERVAL,
    DEFAULT_RECONCILE_WINDOW, DEFAULT_WITNESS_PATIENCE, DEFAULT_WITNESSED_WITHIN,
    ReconcileSettings, TransparencySettings,
};
use banqiao_telemetry::{LogFormat, RawTelemetry, Resource, TelemetrySettings};
use toml::de::DeTable;

use super::{
    Config, ConfigError, CrlConfig, DEFAULT_CRL_GRACE, DEFAULT_DATA, DEFAULT_LEASE_RENEW,
    DEFAULT_LEASE_TTL, DEFAULT_LEDGER_KEYS, DEFAULT_LEDGER_QUEUE, DEFAULT_REFRESH,
    DEFAULT_SIGNING_KEY, DirectoryConfig, IdentityConfig, LedgerConfig, LedgerUrl, Place, Role,
    Severity,
    fault::Faults,
    files, limits, listeners,
    raw::{Located, Section, parsed},
    services, trust,
};

/// Parses the text of a config file.
pub(super) fn parse(
    file: &Path,
    text: &str,
    clock: &Clock,
) -> Result<(Config, Vec<super::Fault>), ConfigError> {
    let faults = Faults::new(text);
    let (table, broken) = DeTable::parse_recoverable(text);
    for error in broken {
        let line = error.span().map(|span| faults.line(&span));
        let at = Place {
            key: String::new(),
            line,
        };
        faults.error(&at, format!("not TOML: {}", error.message()), "");
    }
    let config = read(file, Section::root(&faults, table.get_ref()), clock);
    let faults = faults.into_sorted();
    match config {
        Some(config)
            if faults
                .iter()
                .all(|fault| fault.severity == Severity::Warning) =>
        {
            Ok((config, faults))
        }
        _ => Err(ConfigError::Faulty {
            file: file.to_path_buf(),
            faults,
        }),
    }
}

/// Reads only the sockets of the admin listener.
pub(super) fn admin_sockets(file: &Path, text: &str) -> Result<Vec<(Role, PathBuf)>, ConfigError> {
    let faults = Faults::new(text);
    let (table, _) = DeTable::parse_recoverable(text);
    let base = file.parent().unwrap_or_else(|| Path::new("/"));
    let mut admin = Section::root(&faults, table.get_ref())
        .section("listeners")
        .section("admin");
    let sockets = listeners::sockets(&mut admin, base);
    let faults = faults.into_sorted();
    if faults.iter().any(|fault| fault.severity == Severity::Error) {
        return Err(ConfigError::Faulty {
            file: file.to_path_buf(),
            faults,
        });
    }
    Ok(sockets
        .into_iter()
        .map(|(role, socket)| (role, socket.value))
        .collect())
}

/// Reads everything before it gives up on anything, so that every fault is found.
fn read(file: &Path, mut root: Section<'_, '_>, clock: &Clock) -> Option<Config> {
    let base = file.parent().unwrap_or_else(|| Path::new("/"));
    let city = root.required(
        "city",
        "write the city's code, such as city = \"370200\"",
        parsed::<CityCode>("the code is that of GB/T 2260, such as \"370200\" for Qingdao"),
    );
    let replica = root.required(
        "replica",
        "name this replica, such as replica = \"qingdao-1\"",
        name,
    );
    let data = root
        .optional("data", path_in(base))
        .map_or_else(|| base.join(DEFAULT_DATA), |it| it.value);
    let identity = identity(root.section("identity"), base);
    let directory = directory(root.section("directory"), base, &data);
    let crls = crls(root.section("crls"), base);
    let listeners = listeners::read(root.section("listeners"), base);
    let ledger = ledger(root.section("ledger"), base);
    let services = services::read(root.sections("services"), base);
    let limits = limits::read(root.section("limits"));
    let reconcile = reconcile(root.section("reconcile"), limits.exchange_skew);
    let resource = Resource::new("banqiao-gateway", env!("CARGO_PKG_VERSION"))
        .with(
            "banqiao.city",
            city.as_ref()
                .map(|it| it.value.to_string())
                .unwrap_or_default(),
        )
        .with(
            "service.instance.id",
            replica
                .as_ref()
                .map(|it| it.value.clone())
                .unwrap_or_default(),
        );
    let telemetry = telemetry(root.section("telemetry"), base, resource);
    let admin_at = root.place("listeners");
    trust::Stated {
        faults: root.faults(),
        clock,
        city: city.as_ref(),
        identity: identity.as_ref(),
        directory: directory.as_ref(),
        kept: data.join(KEPT_DIRECTORY).exists(),
        admin: listeners.as_ref().map(|it| (&admin_at, &it.admin)),
        services: &services,
    }
    .check();
    root.finish();
    Some(Config {
        file: file.to_path_buf(),
        city: city?.value,
        replica: replica?.value,
        data,
        identity: identity?.value,
        directory: directory?.value,
        crls,
        listeners: listeners?,
        ledger: ledger?,
        reconcile,
        services: services.into_iter().map(|it| it.value).collect(),
        limits,
        telemetry: telemetry?,
    })
}

fn identity(mut section: Section<'_, '_>, base: &Path) -> Option<Located<IdentityConfig>> {
    let certificate = section.required(
        "certificate",
        "name the PEM file that `banqiao pki` issued for the gateway",
        path_in(base),
    );
    let private_key = section.required(
        "private_key",
        "name the PEM file of the certificate's private key",
        path_in(base),
    );
    let at = section.at().clone();
    if let Some(file) = &certificate {
        files::must_be_file(section.faults(), &file.at, &file.value);
    }
    if let Some(file) = &private_key {
        files::must_be_private(section.faults(), &file.at, &file.value);
    }
    section.finish();
    let value = IdentityConfig {
        certificate: certificate?.value,
        private_key: private_key?.value,
    };
    Some(Located { value, at })
}

fn directory(
    mut section: Section<'_, '_>,
    base: &Path,
    data: &Path,
) -> Option<Located<DirectoryConfig>> {
    let file = section.required(
        "file",
        "name the file of the signed directory, such as file = \"directory.json\"",
        path_in(base),
    );
    let pin = section.required(
        "pin",
        "write the SHA-256 of the first directory's payload: `banqiao directory show` prints it",
        |text| {
            let mut pin = [0; 32];
            hex::decode_to_slice(text, &mut pin)
                .map(|()| pin)
                .map_err(|_| {
                    let hint =
                        "write 64 hexadecimal digits, as `banqiao directory show` prints them";
                    (format!("{text:?} is not a SHA-256 digest"), hint.to_owned())
                })
        },
    );
    let refresh = refresh(&mut section);
    if let Some(file) = &file
        && !file.value.exists()
    {
        // A gateway lives on its cached copy; only the very first start needs the file.
        let problem = format!("{} does not exist", file.value.display());
        let hint = "put the signed directory there: no newer one will be found until then";
        if data.join(KEPT_DIRECTORY).exists() {
            section.faults().warning(&file.at, problem, hint);
        } else {
            section
                .faults()
                .error(&file.at, problem, "put the signed directory there");
        }
    }
    let at = section.at().clone();
    section.finish();
    let value = DirectoryConfig {
        file: file?.value,
        pin: pin?.value,
        refresh,
    };
    Some(Located { value, at })
}

/// Name of the kept directory in the data folder, as the data plane writes it.
pub(super) const KEPT_DIRECTORY: &str = "directory.json";

/// `refresh`, which both the directory and the CRLs have.
fn refresh(section: &mut Section<'_, '_>) -> Duration {
    let range = Duration::from_secs(1)..=Duration::from_secs(86_400);
    section.setting("refresh", DEFAULT_REFRESH, &range)
}

fn crls(mut section: Section<'_, '_>, base: &Path) -> CrlConfig {
    let files = section.list("files", path_in(base));
    for file in &files {
        files::must_exist(section.faults(), &file.at, &file.value);
    }
    let refresh = refresh(&mut section);
    let grace_range = Duration::ZERO..=Duration::from_secs(7 * 86_400);
    let grace = section.setting("grace", DEFAULT_CRL_GRACE, &grace_range);
    section.finish();
    CrlConfig {
        files: files.into_iter().map(|it| it.value).collect(),
        refresh,
        grace,
    }
}

fn ledger(mut section: Section<'_, '_>, base: &Path) -> Option<LedgerConfig> {
    let hint = "write url = \"sqlite://ledger.db\" or url = \"postgres://user@host/database\"";
    let url = section.required("url", hint, |text| ledger_url(text, base));
    if let Some(url) = &url
        && let Some(file) = url.value.0.strip_prefix("sqlite://")
    {
        let folder = Path::new(file).parent().unwrap_or(base);
        files::must_be_folder(section.faults(), &url.at, folder);
    }
    let keys = section
        .optional("keys", path_in(base))
        .unwrap_or_else(|| Located {
            value: base.join(DEFAULT_LEDGER_KEYS),
            at: section.place("keys"),
        });
    files::must_be_private_folder(section.faults(), &keys.at, &keys.value);
    let signing_key = section
        .optional("signing_key", path_in(base))
        .unwrap_or_else(|| Located {
            value: base.join(DEFAULT_SIGNING_KEY),
            at: section.place("signing_key"),
        });
    files::must_be_private(section.faults(), &signing_key.at, &signing_key.value);
    let previous = section.optional("previous_signing_key", path_in(base));
    if let Some(key) = &previous {
        files::must_be_private(section.faults(), &key.at, &key.value);
    }
    let witness_key = section.optional("witness_key", path_in(base));
    if let Some(key) = &witness_key {
        files::must_be_private(section.faults(), &key.at, &key.value);
    }
    let epoch = section.setting("epoch", 1_u64, &(1..=u64::from(u32::MAX)));
    let queue = section.setting("queue", DEFAULT_LEDGER_QUEUE, &(16..=1_048_576));
    let seconds = Duration::from_secs;
    let lease_ttl = section.setting(
        "lease_ttl",
        DEFAULT_LEASE_TTL,
        &(seconds(1)..=seconds(3_600)),
    );
    let range = Duration::from_millis(100)..=seconds(1_200);
    let lease_renew = section.setting("lease_renew", DEFAULT_LEASE_RENEW, &range);
    if lease_renew * 2 > lease_ttl {
        let hint = "lower it to at most half of lease_ttl, so that one missed renewal does not lose the lease";
        section.faults().error(
            &section.place("lease_renew"),
            "is too long for lease_ttl",
            hint,
        );
    }
    let failover = section.setting("failover", false, &(false..=true));
    let anchor = section.optional("anchor", path_in(base));
    if let Some(anchor) = &anchor {
        let folder = anchor.value.parent().unwrap_or(base);
        files::must_be_folder(section.faults(), &anchor.at, folder);
        if url
            .as_ref()
            .is_some_and(|url| !url.value.0.starts_with("sqlite://"))
        {
            let problem = "is of use with SQLite only";
            let hint = "leave it out: a PostgreSQL server's replicas would each have their own";
            section.faults().error(&anchor.at, problem, hint);
        }
    }
    let archive = section.optional("archive", path_in(base));
    if let Some(archive) = &archive {
        files::must_be_folder(section.faults(), &archive.at, &archive.value);
    }
    let range = Duration::from_millis(100)..=seconds(600);
    let summary_interval = section.setting("summary_interval", DEFAULT_SUMMARY_INTERVAL, &range);
    let range = Duration::ZERO..=seconds(60);
    let clock_error = section.setting("clock_error", Duration::ZERO, &range);
    let range = seconds(1)..=seconds(3_600);
    let transparency = TransparencySettings {
        witness_patience: section.setting("witness_patience", DEFAULT_WITNESS_PATIENCE, &range),
        monitor_interval: section.setting("monitor_interval", DEFAULT_MONITOR_INTERVAL, &range),
        witnessed_within: section.setting("witnessed_within", DEFAULT_WITNESSED_WITHIN, &range),
    };
    section.finish();
    let queue = usize::try_from(queue).ok()?;
    Some(LedgerConfig {
        url: url?.value,
        keys: keys.value,
        signing_key: signing_key.value,
        previous_signing_key: previous.map(|key| key.value),
        epoch,
        witness_key: witness_key.map(|key| key.value),
        transparency,
        queue,
        failover,
        anchor: anchor.map(|anchor| anchor.value),
        archive: archive.map(|archive| archive.value),
        summary_interval,
        clock_error,
        lease_ttl,
        lease_renew,
    })
}

/// When the ledger is compared with those of the other cities.
fn reconcile(mut section: Section<'_, '_>, exchange_skew: Duration) -> ReconcileSettings {
    let (second, day) = (Duration::from_secs(1), Duration::from_secs(86_400));
    let settings = ReconcileSettings {
        interval: section.setting("interval", DEFAULT_RECONCILE_INTERVAL, &(second..=day)),
        window: section.setting("window", DEFAULT_RECONCILE_WINDOW, &(second..=day)),
        grace: section.setting("grace", DEFAULT_RECONCILE_GRACE, &(second..=day)),
    };
    if settings.grace < exchange_skew {
        section.faults().warning(
            &section.place("grace"),
            "is shorter than limits.exchange_skew",
            "an exchange id that a peer takes so late would come into a span that is compared already",
        );
    }
    section.finish();
    settings
}

/// A URL of a known scheme; SQLite's path is made absolute.
fn ledger_url(text: &str, base: &Path) -> Result<LedgerUrl, (String, String)> {
    if let Some(path) = text.strip_prefix("sqlite:") {
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.contains([':', '?', '#', '%']) {
            let hint =
                "write sqlite:// and the path of a file, without options: sqlite://ledger.db";
            return Err((format!("{text:?} names no file"), hint.to_owned()));
        }
        return Ok(LedgerUrl(format!("sqlite://{}", base.join(path).display())));
    }
    if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        return Ok(LedgerUrl(text.to_owned()));
    }
    let scheme = text.split(':').next().unwrap_or_default();
    let hint = "the ledger lives in SQLite (sqlite://FILE) or PostgreSQL (postgres://…)";
    Err((
        format!("{scheme:?} is not a kind of database for a ledger"),
        hint.to_owned(),
    ))
}

fn telemetry(
    mut section: Section<'_, '_>,
    base: &Path,
    resource: Resource,
) -> Option<TelemetrySettings> {
    let log_format = section.optional("log_format", |text| match text {
        "human" => Ok(LogFormat::Human),
        "json" => Ok(LogFormat::Json),
        _ => Err((
            format!("{text:?} is not a form of log"),
            "write \"human\" or \"json\"".to_owned(),
        )),
    });
    let text = |text: &str| Ok(text.to_owned());
    let log_filter = section.optional("log_filter", text);
    let otlp_endpoint = section.optional("otlp_endpoint", text);
    let otlp_ca = section.optional("otlp_ca", path_in(base));
    if let Some(file) = &otlp_ca {
        files::must_be_file(section.faults(), &file.at, &file.value);
    }
    let trace_ratio = section.ratio("trace_ratio");
    let raw = RawTelemetry {
        log_format: log_format.map(|it| it.value),
        log_filter: log_filter.map(|it| it.value),
        otlp_endpoint: otlp_endpoint.map(|it| it.value),
        otlp_ca: otlp_ca.map(|it| it.value),
        trace_ratio,
    };
    let settings = raw.parse(resource);
    if let Err(found) = &settings {
        for fault in found {
            section
                .faults()
                .error(&section.place(fault.key), fault.message.clone(), "");
        }
    }
    section.finish();
    settings.ok()
}

/// A path, relative to the config's folder.
pub(super) fn path_in(base: &Path) -> impl FnMut(&str) -> Result<PathBuf, (String, String)> {
    move |text| {
        if text.is_empty() {
            return Err(("is empty".to_owned(), "write a path".to_owned()));
        }
        Ok(base.join(text))
    }
}

/// A replica's name: it stands in entries, metrics and log lines.
fn name(text: &str) -> Result<String, (String, String)> {
    let sound = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    if (1..=64).contains(&text.len()) && text.bytes().all(sound) {
        return Ok(text.to_owned());
    }
    let hint = "write 1 to 64 letters, digits, '.', '-' or '_', such as \"qingdao-1\"";
    Err((format!("{text:?} is not a name"), hint.to_owned()))
}
