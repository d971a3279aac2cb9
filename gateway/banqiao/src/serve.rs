//! `banqiao gateway`: config → build → serve → drain.

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result};
use banqiao_directory::Clock;
use banqiao_identity::{Identity, IdentityFiles, IdentitySettings};
use banqiao_ledger::{FailureKind, LeaseSettings, Ledger, LedgerObserver, LedgerSettings};
use banqiao_proto::ledger::v1 as record;
use banqiao_proxy::{ConfiguredService, Gateway, Names, Parts, Route};
use banqiao_telemetry::{Metrics, Telemetry};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    admin,
    config::{Config, ServiceConfig},
    exit::{Exit, Stop},
    notekey::{self, NoteKeyUse},
    ops::{self, Ops, Readiness},
    sandbox::exit_with_parent,
};

/// Run one city's gateway.
#[derive(Debug, clap::Args)]
pub struct GatewayCommand {
    /// The gateway's config.
    #[arg(long, value_name = "FILE", env = "BANQIAO_CONFIG")]
    config: PathBuf,
    /// Worker threads. Default: one for each core.
    #[arg(long, value_name = "N")]
    workers: Option<usize>,
    /// Stop when standard input is closed, as children of `banqiao demo` do.
    #[arg(long, hide = true)]
    exit_with_parent: bool,
}

impl GatewayCommand {
    /// Runs until a signal asks it to stop, and drains.
    ///
    /// # Errors
    ///
    /// The config is at fault, or something that it names cannot be used.
    pub fn run(&self) -> Result<Exit> {
        let (config, warnings) =
            Config::load(&self.config, &Clock::system()).map_err(Stop::from)?;
        for warning in warnings {
            writeln!(std::io::stderr(), "{warning}")?;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("upkeep")
            .enable_all()
            .build()?;
        runtime.block_on(self.serve(config))
    }

    async fn serve(&self, config: Config) -> Result<Exit> {
        let clock = Clock::system();
        let telemetry = banqiao_telemetry::init(config.telemetry.clone(), clock.clone())
            .context("telemetry")?;
        let workers = self.workers.unwrap_or_else(cores).max(1);
        let gateway = build(&config, &telemetry, clock, workers).await?;
        tracing::info!(
            city = config.city.as_str(),
            client = %gateway.client_address(),
            inter_city = %gateway.inter_city_address(),
            workers,
            "gateway serves"
        );
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let control = gateway.control().clone();
        let telemetry = Arc::new(telemetry);
        // Before readiness can be read: who is told that the gateway is ready may ask it anything.
        admin::start(&config, control.clone(), &tasks, &stop)
            .await
            .context("admin listener")?;
        if let Some(address) = config.listeners.ops {
            let listener = TcpListener::bind(address)
                .await
                .with_context(|| format!("ops listener {address}"))?;
            let tells = Arc::new(Tells {
                control: control.clone(),
                telemetry: Arc::clone(&telemetry),
            });
            tasks.spawn(ops::serve(listener, tells, tasks.clone(), stop.clone()));
        }
        tokio::select! {
            () = signalled() => tracing::info!("asked to stop"),
            () = exit_with_parent(), if self.exit_with_parent => tracing::info!("the parent is gone"),
        }
        let ledger = control.ledger().clone();
        gateway.drain().await;
        stop.cancel();
        tasks.close();
        // A connection of an operator that does not end must not hold the gateway.
        let _ = tokio::time::timeout(Duration::from_secs(2), tasks.wait()).await;
        ledger.close().await;
        telemetry.shutdown();
        Ok(Exit::Done)
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// SIGTERM or an interrupt from the keyboard.
async fn signalled() {
    let Ok(mut terminate) = signal(SignalKind::terminate()) else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Assembles the gateway that a config describes.
pub(crate) async fn build(
    config: &Config,
    telemetry: &Telemetry,
    clock: Clock,
    workers: usize,
) -> Result<Gateway> {
    let files = IdentityFiles {
        certificate: config.identity.certificate.clone(),
        private_key: config.identity.private_key.clone(),
    };
    let settings = IdentitySettings {
        crl_grace: config.crls.grace,
    };
    let identity = Identity::load(files, settings, clock.clone()).context("identity")?;
    let trust_domain = identity.own().id.trust_domain().clone();
    let metrics = telemetry.metrics().clone();
    let mut ledger = LedgerSettings::new(
        config.ledger.url.expose(),
        config.city,
        config.replica.clone(),
        config.ledger.keys.clone(),
        notekey::ledger_signer(
            &config.ledger.signing_key,
            &NoteKeyUse::ledger(&trust_domain, config.ledger.epoch).to_string(),
        )?,
    );
    if let Some(previous) = &config.ledger.previous_signing_key {
        let origin = NoteKeyUse::ledger(&trust_domain, config.ledger.epoch).to_string();
        ledger.previous_signer = Some(notekey::ledger_signer(previous, &origin)?);
    }
    ledger.queue = config.ledger.queue;
    ledger.lease = LeaseSettings {
        ttl: config.ledger.lease_ttl,
        renew: config.ledger.lease_renew,
    };
    ledger.failover = config.ledger.failover;
    ledger.anchor.clone_from(&config.ledger.anchor);
    ledger.archive.clone_from(&config.ledger.archive);
    // Calls wait until the witnesses have been asked whether they hold a newer state.
    ledger.hold = true;
    ledger.summary_interval = config.ledger.summary_interval;
    if !config.ledger.clock_error.is_zero() {
        ledger.clock = record::Clock {
            source: record::ClockSource::Synchronised.into(),
            error_bound_us: u64::try_from(config.ledger.clock_error.as_micros())
                .unwrap_or(u64::MAX),
        };
    }
    let witness = config
        .ledger
        .witness_key
        .as_ref()
        .map(|key| {
            let name = NoteKeyUse::witness(&trust_domain).to_string();
            notekey::witness_signer(key, &name)
        })
        .transpose()?;
    // Known from the start: an alert on a gauge that is not there would be silent.
    metrics.ledger_witnessed(0, 0);
    let observer = Arc::new(Watches(metrics.clone()));
    let ledger = Ledger::open(ledger, clock.clone(), observer)
        .await
        .context("ledger")?;
    let services = config
        .services
        .iter()
        .map(configured)
        .collect::<Result<_>>()?;
    let parts = Parts {
        names: Names {
            city: config.city,
            trust_domain,
            state: config.data.clone(),
        },
        client: config.listeners.client,
        inter_city: config.listeners.inter_city,
        workers,
        limits: config.limits.clone(),
        identity,
        ledger,
        witness,
        services,
        directory_file: config.directory.file.clone(),
        directory_pin: config.directory.pin,
        crl_files: config.crls.files.clone(),
        reconcile: config.reconcile,
        transparency: config.ledger.transparency,
        refresh: config.directory.refresh.min(config.crls.refresh),
        metrics,
        tracer: telemetry.tracer().clone(),
        clock,
    };
    Ok(Gateway::start(parts).await?)
}

fn configured(service: &ServiceConfig) -> Result<ConfiguredService> {
    let descriptor_set = match &service.descriptor_set {
        Some(path) => Some(read(path)?),
        None => built_in(&service.name),
    };
    Ok(ConfiguredService {
        name: service.name.clone(),
        descriptor_set,
        route: Route {
            endpoints: service.endpoints.clone().into(),
            identity: service.identity.clone(),
        },
    })
}

fn read(path: &Path) -> Result<Arc<[u8]>> {
    Ok(fs::read(path)
        .with_context(|| format!("cannot read {}", path.display()))?
        .into())
}

/// The descriptors of Banqiao's own services are part of the program.
fn built_in(service: &str) -> Option<Arc<[u8]>> {
    let known = banqiao_proto::descriptors().get_service_by_name(service);
    known.map(|_| banqiao_proto::FILE_DESCRIPTOR_SET.into())
}

struct Tells {
    control: banqiao_proxy::Control,
    telemetry: Arc<Telemetry>,
}

impl Ops for Tells {
    fn readiness(&self) -> Readiness {
        Readiness {
            obstacles: self
                .control
                .ready()
                .err()
                .map(str::to_owned)
                .into_iter()
                .collect(),
        }
    }

    fn metrics(&self) -> String {
        self.telemetry.prometheus()
    }
}

/// Tells telemetry what the ledger does.
#[derive(Debug)]
struct Watches(Metrics);

impl LedgerObserver for Watches {
    fn committed(&self, entries: usize, bytes: usize, duration: Duration) {
        self.0.commit(entries, bytes, duration);
    }

    fn queue_depth(&self, entries: usize) {
        self.0.queue_depth(entries);
    }

    fn failed(&self, kind: FailureKind) {
        self.0.ledger_failed(match kind {
            FailureKind::Connection => "connection",
            FailureKind::Frozen => "frozen",
            FailureKind::LeaseLost => "lease-lost",
            FailureKind::OutcomeUnknown => "outcome-unknown",
            FailureKind::Transient => "transient",
            _ => "other",
        });
    }
}
