//! A real laboratory service process.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use tokio::net::TcpStream;
use toml::Table;

use crate::{
    network::{Network, free_address, set},
    process::{Process, program},
    wait::{PATIENCE, wait_until},
};

/// Agency and system of the service.
pub const LAB_SYSTEM: &str = "health/lab";
/// Agency and system of who organises quality rounds.
pub const ORGANISER: &str = "health/quality";

/// A running laboratory service.
#[derive(Debug)]
pub struct Lab {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its folder.
    pub folder: PathBuf,
    /// 统一社会信用代码 of its city's first hospital, whose systems stand under `hospital-1`.
    pub hospital: String,
    /// The process.
    pub process: Process,
}

impl Lab {
    /// Configures it for a city with the synthetic institutions of the network, and starts it.
    ///
    /// # Errors
    ///
    /// Fails when the program is not built, or with what it says.
    pub fn lay_out(network: &Network, city: usize) -> Result<Self> {
        let city = &network.cities[city];
        let folder = network.folder().join(format!("lab-{}", city.code));
        fs::create_dir(&folder)?;
        let address = free_address()?;
        city.credential(LAB_SYSTEM)?.write(&folder, "lab")?;
        fs::write(folder.join("ca.crt"), city.authority.pem())?;
        let institutions = institutions(&folder)?;
        fs::write(folder.join("institutions.tsv"), &institutions)?;
        let systems = city.id("hospital-1");
        let hospital = institutions
            .lines()
            .find(|line| line.ends_with(&systems))
            .and_then(|line| line.split('\t').next())
            .context("no hospital of the city")?;
        let mut config = Table::new();
        for (key, value) in [
            ("city", city.code.to_owned()),
            ("listen", address.to_string()),
            ("identity.certificate", "lab.crt".to_owned()),
            ("identity.private_key", "lab.key".to_owned()),
            ("identity.ca_bundle", "ca.crt".to_owned()),
            ("identity.crl", format!("../crls/{}.der", city.domain)),
            (
                "database.url",
                format!("sqlite://{}", folder.join("lab.db").display()),
            ),
            ("lab.institutions", "institutions.tsv".to_owned()),
            ("lab.referral_sweep", "100ms".to_owned()),
            ("gateway.address", city.gateway().client.to_string()),
            ("telemetry.log_format", "json".to_owned()),
        ] {
            set(&mut config, key, value);
        }
        set(
            &mut config,
            "lab.quality_organisers",
            vec![city.id(ORGANISER)],
        );
        fs::write(folder.join("lab.toml"), toml::to_string(&config)?)?;
        Ok(Self {
            address,
            hospital: hospital.to_owned(),
            process: start(&folder)?,
            folder,
        })
    }

    /// Starts it again after it was killed, and waits until it listens.
    ///
    /// # Errors
    ///
    /// Fails with its output when it does not.
    pub async fn restart(&mut self) -> Result<()> {
        self.process = start(&self.folder)?;
        self.listens().await
    }

    /// Waits until it listens.
    ///
    /// # Errors
    ///
    /// Fails with its output when it does not.
    pub async fn listens(&self) -> Result<()> {
        let address = self.address;
        let listening = wait_until("the laboratory service", PATIENCE, || async move {
            TcpStream::connect(address).await.is_ok()
        });
        listening.await.with_context(|| self.process.output())
    }
}

fn start(folder: &Path) -> Result<Process> {
    let arguments = ["serve", "--config", "lab.toml"];
    Process::start(
        &program("banqiao-lab")?,
        &arguments,
        folder,
        folder.join("lab.log"),
    )
}

/// The register of synthetic institutions, as the service's own generator makes it.
fn institutions(folder: &Path) -> Result<String> {
    let mut command = Command::new(program("banqiao-lab")?);
    let output = command.arg("institutions").current_dir(folder).output()?;
    if !output.status.success() {
        bail!(
            "banqiao-lab institutions: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}
