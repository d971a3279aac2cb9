//! A real card service process with synthetic holders.

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
    network::{CITIES, Network, free_address, set},
    process::{Process, program},
    wait::{PATIENCE, wait_until},
};

/// A synthetic holder, as the service's own generator makes them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// 社会保障卡卡号.
    pub card_number: String,
    /// 社会保障号码.
    pub social_security_number: String,
    /// 姓名.
    pub name: String,
}

/// A running card service.
#[derive(Debug)]
pub struct Cards {
    /// Where it listens.
    pub address: SocketAddr,
    /// Its folder.
    pub folder: PathBuf,
    /// The holders that it was given.
    pub holders: Vec<Holder>,
    /// The process.
    pub process: Process,
}

impl Cards {
    /// Configures it for a city, imports so many synthetic cards and starts it.
    ///
    /// # Errors
    ///
    /// Fails when the program is not built, or with what it says.
    pub fn lay_out(network: &Network, city: usize, holders: u32) -> Result<Self> {
        Self::lay_out_with(network, city, holders, |_| {})
    }

    /// As [`Cards::lay_out`], with a configuration that `change` has had.
    ///
    /// # Errors
    ///
    /// As [`Cards::lay_out`].
    pub fn lay_out_with(
        network: &Network,
        city: usize,
        holders: u32,
        change: impl FnOnce(&mut Table),
    ) -> Result<Self> {
        let city = &network.cities[city];
        let folder = network.folder().join(format!("card-{}", city.code));
        fs::create_dir(&folder)?;
        let address = free_address()?;
        city.credential("hrss/card")?.write(&folder, "card")?;
        fs::write(folder.join("ca.crt"), city.authority.pem())?;
        let mut config = Table::new();
        set(&mut config, "city", city.code);
        set(&mut config, "listen", address.to_string());
        set(&mut config, "identity.certificate", "card.crt");
        set(&mut config, "identity.private_key", "card.key");
        set(&mut config, "identity.ca_bundle", "ca.crt");
        set(
            &mut config,
            "identity.crl",
            format!("../crls/{}.der", city.domain),
        );
        set(
            &mut config,
            "database.url",
            format!("sqlite://{}", folder.join("card.db").display()),
        );
        set(
            &mut config,
            "gateway.address",
            city.gateway().client.to_string(),
        );
        for (code, _, domain) in CITIES {
            set(&mut config, &format!("cities.{code}"), domain);
        }
        set(&mut config, "telemetry.log_format", "json");
        change(&mut config);
        fs::write(folder.join("card.toml"), toml::to_string(&config)?)?;
        let path = program("banqiao-card")?;
        let run = |arguments: &[&str]| run(&path, &folder, arguments);
        let sheet = run(&[
            "generate",
            "--city",
            city.code,
            "--count",
            &holders.to_string(),
        ])?;
        fs::write(folder.join("cards.csv"), &sheet)?;
        run(&["import", "--config", "card.toml", "--json", "cards.csv"])?;
        let arguments = ["serve", "--config", "card.toml"];
        let process = Process::start(&path, &arguments, &folder, folder.join("card.log"))?;
        Ok(Self {
            address,
            holders: read(&sheet)?,
            folder,
            process,
        })
    }

    /// Starts it again after it was killed, and waits until it listens.
    ///
    /// # Errors
    ///
    /// Fails with its output when it does not.
    pub async fn restart(&mut self) -> Result<()> {
        let arguments = ["serve", "--config", "card.toml"];
        let log = self.folder.join("card.log");
        self.process = Process::start(&program("banqiao-card")?, &arguments, &self.folder, log)?;
        self.listens().await
    }

    /// Gives it the insurance of the synthetic holders, and whom of them the city pays.
    ///
    /// # Errors
    ///
    /// Fails with what the program says.
    pub fn import_benefits(&self, city: &str, holders: u32) -> Result<()> {
        let path = program("banqiao-card")?;
        let count = holders.to_string();
        for kind in ["insurance", "beneficiaries"] {
            let (generate, import) = (format!("generate-{kind}"), format!("import-{kind}"));
            let generate = ["benefits", &generate, "--city", city, "--count", &count];
            let file = format!("{kind}.csv");
            fs::write(
                self.folder.join(&file),
                run(&path, &self.folder, &generate)?,
            )?;
            let import = ["benefits", &import, "--config", "card.toml", &file];
            run(&path, &self.folder, &import)?;
        }
        Ok(())
    }

    /// The number of somebody whom the city pays.
    ///
    /// # Errors
    ///
    /// Fails when nobody was imported by [`Cards::import_benefits`].
    pub fn pensioner(&self) -> Result<String> {
        let sheet = fs::read_to_string(self.folder.join("beneficiaries.csv"))?;
        let first = sheet.lines().nth(1).context("an empty sheet")?;
        let number = first.split(',').next().context("a short line")?;
        Ok(number.to_owned())
    }

    /// Today in the cities, as the services write it.
    pub fn today(&self) -> String {
        let now = banqiao_directory::Clock::system().now_us();
        banqiao_kit::civil_date(now).to_string()
    }

    /// Waits until it listens.
    ///
    /// # Errors
    ///
    /// Fails with its output when it does not.
    pub async fn listens(&self) -> Result<()> {
        let address = self.address;
        let listening = wait_until("the card service", PATIENCE, || async move {
            TcpStream::connect(address).await.is_ok()
        });
        listening.await.with_context(|| self.process.output())
    }
}

/// Runs the program and gives what it prints.
fn run(path: &Path, folder: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(path)
        .args(arguments)
        .current_dir(folder)
        .output()?;
    if !output.status.success() {
        bail!(
            "banqiao-card {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The holders of a sheet; its first three columns are card number, social security number and name.
fn read(sheet: &str) -> Result<Vec<Holder>> {
    let mut lines = sheet.lines();
    let head = lines.next().context("an empty sheet")?;
    if !head.starts_with("card_number,social_security_number,name,") {
        bail!("the sheet's columns are {head}");
    }
    lines
        .map(|line| {
            let mut fields = line.split(',').map(str::to_owned);
            let mut next = || fields.next().context("a short line");
            Ok(Holder {
                card_number: next()?,
                social_security_number: next()?,
                name: next()?,
            })
        })
        .collect()
}
