//! `banqiao bench`: what a call costs, directly, through one gateway and through two, with the record on.
//!
//! The load generator, an echo service and the gateways are processes of their own on this machine; CPU is what the
//! system accounts to each gateway's process.

mod echo;
mod load;
mod report;

use std::{io::Write, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use banqiao_directory::Clock;
use banqiao_identity::{Expect, Identity, IdentityFiles, IdentitySettings};
use banqiao_proto::directory::v1::{
    AddGrantRequest, Grant, grant_service_client::GrantServiceClient,
};
use prost_types::Timestamp;
use rustls::pki_types::CertificateDer;

pub use echo::BenchEchoCommand;

use crate::{
    config::Role,
    connect,
    exit::Exit,
    sandbox::{self, Backend, Child, PlannedService, Sandbox, SandboxCity},
};
use load::{Load, Sample};
use report::Row;

/// What the processes may take to start.
const START: Duration = Duration::from_secs(60);

/// Load a network, print throughput, latency percentiles and CPU per call.
#[derive(Debug, clap::Args)]
pub struct BenchCommand {
    /// Seconds of each measurement, after a quarter of that to warm up.
    #[arg(long, value_name = "S", default_value_t = 5)]
    seconds: u64,
    /// Runs of each row; medians are printed.
    #[arg(long, value_name = "N", default_value_t = 3)]
    runs: usize,
    /// Connections of the load generator.
    #[arg(long, value_name = "N", default_value_t = 8)]
    connections: usize,
    /// Calls in flight on each connection.
    #[arg(long, value_name = "N", default_value_t = 16)]
    streams: usize,
    /// Bytes of each request and answer.
    #[arg(long, value_name = "BYTES", default_value_t = 256)]
    payload: usize,
    /// Calls per second, at an even pace. Default: as many as go.
    #[arg(long, value_name = "N")]
    rate: Option<u64>,
    /// Worker threads of each gateway.
    #[arg(long, value_name = "N", default_value_t = 2)]
    workers: usize,
    /// PostgreSQL database for the gateways' ledgers, one for each city: the city's code is appended to the name.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Folder to use and keep. Default: a temporary one.
    #[arg(long, value_name = "FOLDER")]
    data: Option<PathBuf>,
}

/// A way that calls go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Direct,
    OneGateway,
    TwoGateways,
}

impl Way {
    const ALL: [Self; 3] = [Self::Direct, Self::OneGateway, Self::TwoGateways];

    const fn name(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::OneGateway => "one gateway",
            Self::TwoGateways => "two gateways",
        }
    }
}

impl BenchCommand {
    /// Runs the benchmark.
    ///
    /// # Errors
    ///
    /// The network does not start, or a call fails: a figure over failing calls means nothing.
    pub async fn run(&self, out: &mut (dyn Write + Send)) -> Result<Exit> {
        let temporary = tempfile::Builder::new()
            .prefix("banqiao-bench-")
            .tempdir()?;
        let root = self
            .data
            .clone()
            .unwrap_or_else(|| temporary.path().join("network"));
        let echo_address = free_address()?;
        let sandbox = Sandbox::open(&self.plan(root, echo_address))?;
        let mut network = Network::start(&sandbox, self, echo_address).await?;
        let measured = self.measure(&network).await;
        network.stop().await?;
        report::print(out, &measured?, self.json)?;
        Ok(Exit::Done)
    }

    fn plan(&self, root: PathBuf, echo: SocketAddr) -> sandbox::Plan {
        let mut extra_config = String::new();
        if self.database.is_some() {
            extra_config.push_str("# the ledger's URL is set on the command line\n");
        }
        sandbox::Plan {
            root,
            cities: 2,
            base_port: 0,
            services: vec![PlannedService {
                name: echo::SERVICE.to_owned(),
                descriptor_set: echo::descriptor_set(),
                backend: Backend::Address(echo),
            }],
            extra_config,
        }
    }

    async fn measure(&self, network: &Network<'_>) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for method in [echo::READ, echo::WRITE] {
            let mut samples: Vec<Vec<Sample>> = vec![Vec::new(); Way::ALL.len()];
            // The ways take turns, so that a drift of the machine touches all of them.
            for _ in 0..self.runs.max(1) {
                for (way, samples) in Way::ALL.into_iter().zip(&mut samples) {
                    samples.push(
                        self.sample(network, way, method)
                            .await
                            .context(way.name())?,
                    );
                }
            }
            for (way, samples) in Way::ALL.into_iter().zip(samples) {
                rows.push(Row::median(way.name(), method, samples));
            }
        }
        Ok(rows)
    }

    async fn sample(&self, network: &Network<'_>, way: Way, method: &str) -> Result<Sample> {
        let [provider, consumer, ..] = &*network.sandbox.cities else {
            anyhow::bail!("two cities are needed")
        };
        let (caller, address, expect) = match way {
            Way::Direct => {
                let id = format!("spiffe://{}/bench/echo", provider.domain).parse()?;
                (provider, network.echo_address, Expect::Id(id))
            }
            Way::OneGateway => (
                provider,
                provider.client,
                Expect::Gateway(provider.domain.clone()),
            ),
            Way::TwoGateways => (
                consumer,
                consumer.client,
                Expect::Gateway(consumer.domain.clone()),
            ),
        };
        let identity = identity(caller, "hospital/his")?;
        let load = Load {
            identity,
            expect,
            address,
            path: format!("/{}/{method}", echo::SERVICE),
            to: provider.founder.code,
            connections: self.connections,
            streams: self.streams,
            payload: self.payload,
            rate: self.rate,
            warm_up: Duration::from_millis(self.seconds * 250),
            duration: Duration::from_secs(self.seconds),
        };
        load.run(|| network.cpu()).await
    }
}

/// The processes of a benchmark.
struct Network<'a> {
    sandbox: &'a Sandbox,
    echo_address: SocketAddr,
    gateways: Vec<Child>,
    echo: Option<Child>,
}

impl<'a> Network<'a> {
    async fn start(
        sandbox: &'a Sandbox,
        command: &BenchCommand,
        echo_address: SocketAddr,
    ) -> Result<Self> {
        let [provider, ..] = &*sandbox.cities else {
            anyhow::bail!("no city")
        };
        let (certificate, key) = provider.system_files("bench/echo");
        let echo = Child::start(
            [
                "bench-echo",
                "--listen",
                &echo_address.to_string(),
                "--cert",
                path(&certificate)?,
                "--key",
                path(&key)?,
                "--ca",
                path(&provider.ca())?,
                "--crl",
                path(&provider.pki().join("crl.der"))?,
            ],
            &sandbox.root.join("echo.log"),
        )?;
        let mut gateways = Vec::new();
        for city in &sandbox.cities {
            if let Some(url) = &command.database {
                set_ledger(city, url)?;
            }
            let config = city.gateway_config();
            let workers = command.workers.to_string();
            let arguments = [
                "gateway",
                "--config",
                path(&config)?,
                "--workers",
                &workers,
                "--exit-with-parent",
            ];
            gateways.push(Child::start(arguments, &city.folder.join("gateway.log"))?);
        }
        let mut network = Self {
            sandbox,
            echo_address,
            gateways,
            echo: Some(echo),
        };
        let ready = network.ready().await;
        if ready.is_err() {
            network.stop().await?;
        }
        ready?;
        Ok(network)
    }

    async fn ready(&mut self) -> Result<()> {
        for city in &self.sandbox.cities {
            let ops = city.ops;
            sandbox::until(START, "the start of a gateway", || {
                crate::demo::is_ready(ops)
            })
            .await?;
        }
        let echo = self.echo_address;
        sandbox::until(START, "the start of the echo service", || async move {
            tokio::net::TcpStream::connect(echo).await.is_ok()
        })
        .await?;
        let [provider, ..] = &*self.sandbox.cities else {
            return Ok(());
        };
        let socket = provider.socket(Role::Administrator.as_str());
        let mut grants = GrantServiceClient::new(connect::unix(&socket).await?);
        for city in &self.sandbox.cities {
            let grant = grant(format!("spiffe://{}/hospital/his", city.domain));
            grants
                .add_grant(AddGrantRequest { grant: Some(grant) })
                .await?;
        }
        Ok(())
    }

    /// Seconds of CPU, user and system, that each gateway has used so far.
    fn cpu(&self) -> Vec<f64> {
        self.gateways
            .iter()
            .map(|child| child.id().map_or(0.0, load::cpu_seconds))
            .collect()
    }

    async fn stop(&mut self) -> Result<()> {
        for child in self.gateways.drain(..).chain(self.echo.take()) {
            child.stop().await?;
        }
        Ok(())
    }
}

fn set_ledger(city: &SandboxCity, url: &str) -> Result<()> {
    let file = city.gateway_config();
    let text = std::fs::read_to_string(&file)?;
    let (base, query) = url
        .split_once('?')
        .map_or((url, String::new()), |(base, query)| {
            (base, format!("?{query}"))
        });
    let url = format!("{base}{}{query}", city.founder.code);
    let text = text.replace("sqlite://gateway.db", &url);
    Ok(std::fs::write(file, text)?)
}

fn path(path: &std::path::Path) -> Result<&str> {
    path.to_str().context("a path is not UTF-8")
}

fn free_address() -> Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// The identity of a system, trusting its own city.
fn identity(city: &SandboxCity, system: &str) -> Result<Identity> {
    let (certificate, private_key) = city.system_files(system);
    load_identity(
        IdentityFiles {
            certificate,
            private_key,
        },
        &city.ca(),
        &city.pki().join("crl.der"),
    )
}

/// An identity that trusts one CA.
fn load_identity(
    files: IdentityFiles,
    ca: &std::path::Path,
    crl: &std::path::Path,
) -> Result<Identity> {
    use rustls::pki_types::pem::PemObject as _;
    let identity = Identity::load(files, IdentitySettings::default(), Clock::system())?;
    let domain = identity.own().id.trust_domain().clone();
    let certificates: Result<Vec<CertificateDer<'static>>, _> =
        CertificateDer::pem_file_iter(ca)?.collect();
    identity.replace_bundles([(domain, certificates?)].into())?;
    identity.offer_crl(&std::fs::read(crl)?)?;
    Ok(identity)
}

fn grant(client: String) -> Grant {
    let now = Clock::system().now_s();
    Grant {
        client,
        service: echo::SERVICE.to_owned(),
        purposes: vec!["medical-treatment".to_owned()],
        not_before: Some(Timestamp {
            seconds: now - 60,
            nanos: 0,
        }),
        not_after: Some(Timestamp {
            seconds: now + 86_400,
            nanos: 0,
        }),
        legal_basis: "benchmark".to_owned(),
        request_number: "BENCH-1".to_owned(),
        ..Grant::default()
    }
}
