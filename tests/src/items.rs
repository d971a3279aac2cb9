//! A real item service process.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tokio::net::TcpStream;
use toml::{Table, Value};

use crate::{
    network::{CITIES, Network, free_address, set},
    process::{Process, program},
    wait::{PATIENCE, wait_until},
};

/// Agency and system of the service.
pub const ITEM_SYSTEM: &str = "hall/item";
/// Agency and system of a window.
pub const WINDOW: &str = "hall/window";
/// Agency and system of the department that decides.
pub const DEPARTMENT: &str = "psb/case";

/// A running item service.
#[derive(Debug)]
pub struct Items {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its folder.
    pub folder: PathBuf,
    /// The process.
    pub process: Process,
}

impl Items {
    /// Configures it for a city and starts it. Limits and tasks are looked at often.
    ///
    /// # Errors
    ///
    /// Fails when the program is not built, or with what it says.
    pub fn lay_out(network: &Network, city: usize) -> Result<Self> {
        let city = &network.cities[city];
        let folder = network.folder().join(format!("item-{}", city.code));
        fs::create_dir(&folder)?;
        let address = free_address()?;
        city.credential(ITEM_SYSTEM)?.write(&folder, "item")?;
        fs::write(folder.join("ca.crt"), city.authority.pem())?;
        let mut config = Table::new();
        for (key, value) in [
            ("city", city.code.to_owned()),
            ("listen", address.to_string()),
            ("identity.certificate", "item.crt".to_owned()),
            ("identity.private_key", "item.key".to_owned()),
            ("identity.ca_bundle", "ca.crt".to_owned()),
            ("identity.crl", format!("../crls/{}.der", city.domain)),
            (
                "database.url",
                format!("sqlite://{}", folder.join("item.db").display()),
            ),
            ("gateway.address", city.gateway().client.to_string()),
            ("item.sweep", "100ms".to_owned()),
            ("telemetry.log_format", "json".to_owned()),
        ] {
            set(&mut config, key, value);
        }
        let cities = CITIES.map(|(code, _, domain)| {
            let mut known = Table::new();
            set(&mut known, "code", code);
            set(&mut known, "trust_domain", domain);
            Value::Table(known)
        });
        set(&mut config, "cities", cities.to_vec());
        fs::write(folder.join("item.toml"), toml::to_string(&config)?)?;
        Ok(Self {
            address,
            process: start(&folder)?,
            folder,
        })
    }

    /// Waits until it listens.
    ///
    /// # Errors
    ///
    /// Fails with its output when it does not.
    pub async fn listens(&self) -> Result<()> {
        let address = self.address;
        let listening = wait_until("the item service", PATIENCE, || async move {
            TcpStream::connect(address).await.is_ok()
        });
        listening.await.with_context(|| self.process.output())
    }
}

fn start(folder: &Path) -> Result<Process> {
    let arguments = ["serve", "--config", "item.toml"];
    let log = folder.join("item.log");
    Process::start(&program("banqiao-item")?, &arguments, folder, log)
}
