//! Cities on loopback, each with its authority, its gateways and the services behind them.

mod halls;
mod laboratories;
mod offices;

use std::{
    collections::BTreeSet,
    fs,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use banqiao_proto::directory::v1::Grant;
use rustls::ClientConfig;
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use toml::{Table, Value};

use crate::{
    ECHO_SET, RULED_SET,
    admin::{Admin, grant},
    authority::{Authority, Credential, Profile},
    directory::{Draft, NoteKey, Signer},
    process::{Process, Signal, program},
    service::Service,
    wait::{PATIENCE, wait_for},
    wire::Caller,
};

pub use halls::{CASES, Halls, MATERIALS, STATISTICS};
pub use laboratories::{EMR, LIS, QUALITY, RECOGNITION, REFERRAL, REPORTS};

/// The founding members: code, name, trust domain.
pub const CITIES: [(&str, &str, &str); 5] = [
    ("370200", "青岛", "qingdao.jiaodong"),
    ("370600", "烟台", "yantai.jiaodong"),
    ("370700", "潍坊", "weifang.jiaodong"),
    ("371000", "威海", "weihai.jiaodong"),
    ("371100", "日照", "rizhao.jiaodong"),
];

/// Agency and system of the client that [`Network::echo`] gives its grants to.
pub const SYSTEM: &str = "hospital/his";

/// The foreign service without options.
pub const ECHO: &str = "example.echo.v1.EchoService";

/// The foreign service with options.
pub const RULED: &str = "example.echo.v1.RuledService";

/// The pension transfers of the card service.
pub const PENSION: &str = "banqiao.card.v1.PensionTransferService";

/// The card service.
pub const CARD: &str = "banqiao.card.v1.CardService";

/// The entitlement service.
pub const ENTITLEMENT: &str = "banqiao.card.v1.EntitlementService";

/// The eligibility service.
pub const ELIGIBILITY: &str = "banqiao.card.v1.EligibilityService";

/// Changes the config of a gateway, given its city's code, before it is written.
pub type Tweak = Arc<dyn Fn(&str, &mut Table) + Send + Sync>;

/// Cities to be started.
#[derive(Clone)]
pub struct Plan {
    cities: usize,
    replicas: usize,
    directory_lifetime_s: i64,
    tweak: Tweak,
    draft: Arc<dyn Fn(&mut Table) + Send + Sync>,
}

impl std::fmt::Debug for Plan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plan")
            .field("cities", &self.cities)
            .finish_non_exhaustive()
    }
}

impl Plan {
    /// So many cities, one gateway each.
    pub fn cities(cities: usize) -> Self {
        Self {
            cities,
            replicas: 1,
            directory_lifetime_s: 86_400,
            tweak: Arc::new(|_, _| {}),
            draft: Arc::new(|_| {}),
        }
    }

    /// So many gateways in each city. They need a PostgreSQL each city, by [`Plan::tweak`].
    #[must_use]
    pub const fn replicas(mut self, replicas: usize) -> Self {
        self.replicas = replicas;
        self
    }

    /// The directory's life in seconds.
    #[must_use]
    pub const fn directory_lifetime_s(mut self, seconds: i64) -> Self {
        self.directory_lifetime_s = seconds;
        self
    }

    /// Changes configs: see [`set`].
    #[must_use]
    pub fn tweak(mut self, tweak: impl Fn(&str, &mut Table) + Send + Sync + 'static) -> Self {
        self.tweak = Arc::new(tweak);
        self
    }

    /// Changes the first directory before it is signed.
    #[must_use]
    pub fn draft(mut self, draft: impl Fn(&mut Table) + Send + Sync + 'static) -> Self {
        self.draft = Arc::new(draft);
        self
    }

    /// Every city demands receipts.
    #[must_use]
    pub fn receipts_required(self) -> Self {
        self.draft(|document| {
            let cities = document.get_mut("cities").and_then(Value::as_array_mut);
            for city in cities.into_iter().flatten() {
                if let Value::Table(city) = city {
                    set(city, "features.receipts", "required");
                }
            }
        })
    }

    /// Lays everything out on disk and starts nothing.
    ///
    /// # Errors
    ///
    /// Fails when the machine has no room or no addresses.
    pub fn lay_out(self) -> Result<Network> {
        Network::lay_out(self)
    }

    /// Starts every gateway and waits until all are ready.
    ///
    /// # Errors
    ///
    /// Fails with the output of a gateway that does not become ready.
    pub async fn start(self) -> Result<Network> {
        let mut network = self.lay_out()?;
        network.run().await?;
        Ok(network)
    }
}

/// Sets a dotted key of a config.
pub fn set(config: &mut Table, key: &str, value: impl Into<Value>) {
    let (path, last) = key.rsplit_once('.').unwrap_or(("", key));
    let mut table = config;
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let inner = table
            .entry(part)
            .or_insert_with(|| Value::Table(Table::new()));
        let Value::Table(inner) = inner else { return };
        table = inner;
    }
    table.insert(last.to_owned(), value.into());
}

/// Running cities. Everything stops and vanishes when it is dropped.
#[derive(Debug)]
pub struct Network {
    /// The cities, in the order of [`CITIES`].
    pub cities: Vec<City>,
    /// The directory in its present version.
    pub directory: Draft,
    folder: TempDir,
}

impl Network {
    /// Starts so many cities with one gateway each.
    ///
    /// # Errors
    ///
    /// Fails with the output of a gateway that does not become ready.
    pub async fn start(cities: usize) -> Result<Self> {
        Plan::cities(cities).start().await
    }

    /// Starts two cities; behind the second stands a service, both its descriptor sets registered and everything
    /// granted to [`SYSTEM`] of the first.
    ///
    /// # Errors
    ///
    /// Fails with the output of a gateway that does not become ready.
    pub async fn echo() -> Result<(Self, Service)> {
        Self::echo_of(Plan::cities(2)).await
    }

    /// As [`Network::echo`], with a plan of at least two cities.
    ///
    /// # Errors
    ///
    /// Fails with the output of a gateway that does not become ready.
    pub async fn echo_of(plan: Plan) -> Result<(Self, Service)> {
        let network = plan.start().await?;
        let service = network.cities[1].serve().await?;
        network.cities[1].register().await?;
        let client = network.cities[0].id(SYSTEM);
        network.cities[1].grant(grant(&client, ECHO)).await?;
        network.cities[1].grant(grant(&client, RULED)).await?;
        Ok((network, service))
    }

    fn lay_out(plan: Plan) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("banqiao-net-").tempdir()?;
        fs::create_dir(folder.path().join("crls"))?;
        let mut cities = Vec::new();
        for (code, name, domain) in CITIES.into_iter().take(plan.cities) {
            cities.push(City::lay_out(
                folder.path(),
                code,
                name,
                domain,
                plan.replicas,
            )?);
        }
        let mut directory = Draft::new(&cities, plan.directory_lifetime_s);
        (plan.draft)(&mut directory.document);
        let mut network = Self {
            cities,
            directory,
            folder,
        };
        network.publish_file()?;
        let pin = network.directory.digest();
        for city in &mut network.cities {
            for gateway in &mut city.gateways {
                set(&mut gateway.config, "directory.pin", pin.clone());
                (plan.tweak)(city.code, &mut gateway.config);
                gateway.write_config()?;
            }
        }
        Ok(network)
    }

    /// Starts every gateway of a network that was laid out, and waits until all are ready.
    ///
    /// # Errors
    ///
    /// Fails with the output of a gateway that does not become ready.
    pub async fn run(&mut self) -> Result<()> {
        for gateway in self.cities.iter_mut().flat_map(|city| &mut city.gateways) {
            gateway.start()?;
        }
        for gateway in self.cities.iter_mut().flat_map(|city| &mut city.gateways) {
            gateway.ready().await?;
        }
        Ok(())
    }

    /// The keys of every city, for signing directories.
    pub fn signers(&self) -> Vec<&Signer> {
        self.cities.iter().map(|city| &city.signer).collect()
    }

    /// The folder of everything.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The present directory, signed by every city.
    ///
    /// # Errors
    ///
    /// Fails when signing does.
    pub fn envelope(&self) -> Result<Vec<u8>> {
        self.directory.sign(&self.signers())
    }

    /// Writes the present directory, signed by every city, to the file that every gateway watches.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be written.
    pub fn publish_file(&self) -> Result<()> {
        let path = self.folder.path().join("directory.json");
        let fresh = self.folder.path().join("directory.json.new");
        fs::write(&fresh, self.envelope()?)?;
        fs::rename(fresh, path)?;
        Ok(())
    }
}

/// One city.
#[derive(Debug)]
pub struct City {
    /// GB/T 2260 code.
    pub code: &'static str,
    /// Name.
    pub name: &'static str,
    /// Trust domain.
    pub domain: &'static str,
    /// Certificate authority.
    pub authority: Authority,
    /// Key that signs directories.
    pub signer: Signer,
    /// Key that signs checkpoints of the city's ledger.
    pub ledger: NoteKey,
    /// Key that cosigns the other cities' checkpoints.
    pub witness: NoteKey,
    /// Gateways.
    pub gateways: Vec<Gateway>,
    /// Where the service behind the gateways listens, once it is started.
    pub service_address: SocketAddr,
    crl: PathBuf,
}

impl City {
    fn lay_out(
        network: &Path,
        code: &'static str,
        name: &'static str,
        domain: &'static str,
        replicas: usize,
    ) -> Result<Self> {
        let authority = Authority::new(domain)?;
        let service_address = free_address()?;
        let ledger = NoteKey::new(&format!("{domain}/ledger/1"), 0x01)?;
        let witness = NoteKey::new(&format!("{domain}/witness"), 0x04)?;
        let mut gateways = Vec::new();
        for replica in 0..replicas {
            let short = domain.split('.').next().unwrap_or(domain);
            let folder = network.join(format!("{short}-{replica}"));
            fs::create_dir(&folder)?;
            let gateway = Gateway::lay_out(folder, code)?;
            let profile = Profile::system(&format!("spiffe://{domain}/gateway"), host());
            authority
                .issue(&profile)?
                .write(&gateway.folder, "gateway")?;
            ledger.write(&gateway.folder.join("ledger.key"))?;
            witness.write(&gateway.folder.join("witness.key"))?;
            gateways.push(gateway);
        }
        let crl = network.join("crls").join(format!("{domain}.der"));
        let city = Self {
            code,
            name,
            domain,
            authority,
            signer: Signer::new()?,
            ledger,
            witness,
            gateways,
            service_address,
            crl,
        };
        city.publish_crl(86_400)?;
        Ok(city)
    }

    /// The SPIFFE ID of a system: `agency/system`.
    pub fn id(&self, system: &str) -> String {
        format!("spiffe://{}/{system}", self.domain)
    }

    /// The first gateway.
    pub fn gateway(&self) -> &Gateway {
        &self.gateways[0]
    }

    /// The first gateway, to be stopped and started.
    pub fn gateway_mut(&mut self) -> &mut Gateway {
        &mut self.gateways[0]
    }

    /// The first gateway's admin listener.
    pub fn admin(&self) -> &Admin {
        &self.gateway().admin
    }

    /// Issues a sound certificate to a system, or to `gateway`.
    ///
    /// # Errors
    ///
    /// Fails when the name is none.
    pub fn credential(&self, system: &str) -> Result<Credential> {
        self.authority
            .issue(&Profile::system(&self.id(system), host()))
    }

    /// TLS of a system of this city, towards this city's own gateway or service.
    ///
    /// # Errors
    ///
    /// Fails when the name is none.
    pub fn tls(&self, system: &str) -> Result<Arc<ClientConfig>> {
        self.authority.client(Some(&self.credential(system)?))
    }

    /// Connects a system of this city to the first gateway's client listener.
    ///
    /// # Errors
    ///
    /// Fails when the gateway refuses it.
    pub async fn caller(&self, system: &str) -> Result<Caller> {
        Caller::connect(self.gateway().client, self.tls(system)?).await
    }

    /// Connects to another city's inter-city listener with this city's gateway identity: what a gateway of this
    /// city could do if it were not honest.
    ///
    /// # Errors
    ///
    /// Fails when the other gateway refuses it.
    pub async fn as_gateway(&self, other: &Self) -> Result<Caller> {
        let credential = self.credential("gateway")?;
        let tls = other.authority.client(Some(&credential))?;
        Caller::connect(other.gateway().inter_city, tls).await
    }

    /// Writes this city's CRL to the folder that every gateway watches.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be written.
    pub fn publish_crl(&self, until_s: i64) -> Result<()> {
        let fresh = self.crl.with_extension("new");
        fs::write(&fresh, self.authority.crl(until_s)?)?;
        fs::rename(fresh, &self.crl)?;
        Ok(())
    }

    /// Starts the service behind this city's gateways.
    ///
    /// # Errors
    ///
    /// Fails when its address is taken.
    pub async fn serve(&self) -> Result<Service> {
        let credential = self.credential("example/echo")?;
        Service::start(self.service_address, self.authority.server(&credential)?).await
    }

    /// Registers both foreign descriptor sets at the first gateway.
    ///
    /// # Errors
    ///
    /// Fails when the gateway refuses them.
    pub async fn register(&self) -> Result<()> {
        self.register_set(ECHO_SET).await?;
        self.register_set(RULED_SET).await
    }

    /// Registers a descriptor set at the first gateway, served where [`City::serve`] listens.
    ///
    /// # Errors
    ///
    /// Fails when the gateway refuses it.
    pub async fn register_set(&self, set: &[u8]) -> Result<()> {
        self.admin()
            .register(set, self.service_address, &self.id("example/echo"))
            .await
    }

    /// Adds a grant at the first gateway.
    ///
    /// # Errors
    ///
    /// Fails when the gateway refuses it.
    pub async fn grant(&self, grant: Grant) -> Result<Grant> {
        self.admin().grant(grant).await
    }
}

/// One gateway process.
#[derive(Debug)]
pub struct Gateway {
    /// Its folder.
    pub folder: PathBuf,
    /// Its config, as it is written next.
    pub config: Table,
    /// Address of the client listener.
    pub client: SocketAddr,
    /// Address of the inter-city listener.
    pub inter_city: SocketAddr,
    /// Address of the ops listener.
    pub ops: SocketAddr,
    /// Its admin listener.
    pub admin: Admin,
    process: Option<Process>,
}

impl Gateway {
    fn lay_out(folder: PathBuf, code: &str) -> Result<Self> {
        let (client, inter_city, ops) = (free_address()?, free_address()?, free_address()?);
        let replica = folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let mut config = Table::new();
        set(&mut config, "city", code);
        set(&mut config, "replica", replica);
        set(&mut config, "data", "state");
        set(&mut config, "identity.certificate", "gateway.crt");
        set(&mut config, "identity.private_key", "gateway.key");
        set(&mut config, "directory.file", "../directory.json");
        set(&mut config, "directory.refresh", "1s");
        set(&mut config, "crls.files", vec!["../crls".to_owned()]);
        set(&mut config, "crls.refresh", "1s");
        set(&mut config, "listeners.client.address", client.to_string());
        set(
            &mut config,
            "listeners.inter_city.address",
            inter_city.to_string(),
        );
        set(&mut config, "listeners.ops.address", ops.to_string());
        for role in ["administrator", "operator", "auditor"] {
            let key = format!("listeners.admin.{role}_socket");
            set(&mut config, &key, format!("admin/{role}.sock"));
        }
        set(&mut config, "ledger.url", "sqlite://gateway.db");
        set(&mut config, "ledger.keys", "keys");
        set(&mut config, "ledger.signing_key", "ledger.key");
        set(&mut config, "ledger.witness_key", "witness.key");
        set(&mut config, "ledger.summary_interval", "500ms");
        set(&mut config, "ledger.clock_error", "20ms");
        let admin = Admin::new(folder.join("admin"));
        Ok(Self {
            folder,
            config,
            client,
            inter_city,
            ops,
            admin,
            process: None,
        })
    }

    /// Writes the config to disk.
    ///
    /// # Errors
    ///
    /// Fails when the file cannot be written.
    pub fn write_config(&self) -> Result<()> {
        fs::write(
            self.folder.join("gateway.toml"),
            toml::to_string(&self.config)?,
        )?;
        Ok(())
    }

    /// Starts the process, without waiting.
    ///
    /// # Errors
    ///
    /// Fails when the program is not built.
    pub fn start(&mut self) -> Result<()> {
        let arguments = ["gateway", "--config", "gateway.toml"];
        let log = self.folder.join("gateway.log");
        // One that runs still holds the ledger's database: it ends before the next one asks for it.
        self.process = None;
        self.process = Some(Process::start(
            &program("banqiao")?,
            &arguments,
            &self.folder,
            log,
        )?);
        Ok(())
    }

    /// Waits until it says that it is ready.
    ///
    /// # Errors
    ///
    /// Fails with its output when it ends or does not become ready.
    pub async fn ready(&mut self) -> Result<()> {
        let ops = self.ops;
        let process = self.process.as_mut().context("not started")?;
        let waited = wait_for("a ready gateway", PATIENCE, || {
            let gone = process.still_runs().err();
            async move {
                if let Some(gone) = gone {
                    return Some(Err(gone));
                }
                matches!(http_get(ops, "/readyz").await, Ok((200, _))).then_some(Ok(()))
            }
        });
        match waited.await {
            Ok(done) => done,
            Err(error) => bail!("{error:#}\n{}", process.output()),
        }
    }

    /// The process.
    ///
    /// # Errors
    ///
    /// Fails when it was not started.
    pub fn process(&mut self) -> Result<&mut Process> {
        self.process.as_mut().context("not started")
    }

    /// Kills it as a crash would.
    ///
    /// # Errors
    ///
    /// Fails when it was not started.
    pub fn kill(&mut self) -> Result<()> {
        self.process()?.kill()
    }

    /// Stops it with SIGTERM and waits for its end.
    ///
    /// # Errors
    ///
    /// Fails when it does not end.
    pub async fn stop(&mut self) -> Result<std::process::ExitStatus> {
        let process = self.process()?;
        process.signal(Signal::Terminate)?;
        wait_for("the end of a gateway", PATIENCE, || {
            let exited = process.exited();
            async { exited.transpose() }
        })
        .await?
    }

    /// Starts it (again) and waits until it is ready.
    ///
    /// # Errors
    ///
    /// Fails with its output when it does not become ready.
    pub async fn restart(&mut self) -> Result<()> {
        self.start()?;
        self.ready().await
    }

    /// What `/metrics` says.
    ///
    /// # Errors
    ///
    /// Fails when the gateway is down.
    pub async fn metrics(&self) -> Result<String> {
        Ok(http_get(self.ops, "/metrics").await?.1)
    }
}

/// An entry of `[[services]]`.
fn carried(name: &str, endpoint: SocketAddr, identity: &str) -> Value {
    let mut carried = Table::new();
    set(&mut carried, "name", name);
    set(&mut carried, "endpoints", vec![endpoint.to_string()]);
    set(&mut carried, "identity", identity);
    Value::Table(carried)
}

/// A loopback address of this process alone: tests that run beside each other cannot take each other's ports.
fn host() -> IpAddr {
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    // 127.0.0.1 stays free for what a machine runs anyway.
    IpAddr::V4(Ipv4Addr::new(127, 64 | (high & 63), middle, low.max(2)))
}

/// An address that nobody listens on.
///
/// # Errors
///
/// Fails when the machine has none left.
pub fn free_address() -> Result<SocketAddr> {
    // The system may hand out a port again once it is free, and gateways share ports without an error.
    static GIVEN: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());
    loop {
        let address = TcpListener::bind((host(), 0))?.local_addr()?;
        let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
        if given.insert(address) {
            return Ok(address);
        }
    }
}

/// GET over HTTP/1.1.
///
/// # Errors
///
/// Fails when nobody answers.
pub async fn http_get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(Duration::from_secs(10), exchange).await??;
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .context("no status")?;
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body.to_owned())
        .unwrap_or_default();
    Ok((status, body))
}
