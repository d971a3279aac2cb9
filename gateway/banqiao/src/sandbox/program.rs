//! The programs that a sandbox city runs beside its gateway: identity, address and config of each.

use std::{fmt::Write as _, fs, net::SocketAddr, path::PathBuf};

use anyhow::Result;
use banqiao_lab::synthetic;

use super::{FOUNDERS, Founder, Plan, SandboxCity};

/// A service's program.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Program {
    /// Social-security cards and benefits (`banqiao-card`).
    Card,
    /// Laboratory reports (`banqiao-lab`).
    Lab,
    /// The items of “一网通办” (`banqiao-item`).
    Item,
}

impl Program {
    /// Every program.
    pub const ALL: [Self; 3] = [Self::Card, Self::Lab, Self::Item];

    /// Its command in this program, and the name of its files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Card => "card",
            Self::Lab => "lab",
            Self::Item => "item",
        }
    }

    /// Path of its identity.
    pub const fn system(self) -> &'static str {
        match self {
            Self::Card => "hrss/card",
            Self::Lab => "health/lab",
            Self::Item => "hall/item",
        }
    }

    /// Where a city's listens.
    pub const fn address(self, city: &SandboxCity) -> SocketAddr {
        match self {
            Self::Card => city.card,
            Self::Lab => city.lab,
            Self::Item => city.item,
        }
    }

    /// The config of a city's.
    pub fn config(self, city: &SandboxCity) -> PathBuf {
        city.folder.join(format!("{}.toml", self.name()))
    }

    /// Writes the config of a city's, and the files that it names.
    pub(super) fn write_config(self, city: &SandboxCity, plan: &Plan) -> Result<()> {
        let name = self.name();
        let identity = self.system().replace('/', "-");
        let mut text = format!(
            r#"# Made by `banqiao demo`; written again at each start.
city = "{code}"
listen = "{listen}"
"#,
            code = city.founder.code,
            listen = self.address(city),
        );
        match self {
            Self::Card => card(&mut text, city)?,
            Self::Lab => lab(&mut text, city)?,
            Self::Item => item(&mut text, city)?,
        }
        write!(
            text,
            r#"
[identity]
certificate = "pki/{identity}.crt"
private_key = "pki/{identity}.key"
ca_bundle = "pki/ca.crt"
crl = "pki/crl.der"

[database]
url = "sqlite://{name}.db"
{extra}"#,
            extra = plan.extra_config,
        )?;
        fs::write(self.config(city), text)?;
        Ok(())
    }
}

fn domain(founder: &Founder) -> String {
    format!("{}.jiaodong", founder.en.to_lowercase())
}

/// `[gateway]` and `[cities]`: how a service reaches the other cities.
fn network(text: &mut String, city: &SandboxCity) -> Result<()> {
    writeln!(
        text,
        "\n[gateway]\naddress = \"{}\"\n\n[cities]",
        city.client
    )?;
    for founder in &FOUNDERS {
        writeln!(text, "{} = \"{}\"", founder.code, domain(founder))?;
    }
    Ok(())
}

fn card(text: &mut String, city: &SandboxCity) -> Result<()> {
    let halls = FOUNDERS.map(|founder| format!("\"spiffe://{}/hrss/hall\"", domain(&founder)));
    write!(
        text,
        "\n[card]\n# The halls of the cities recognise each other's identity verifications.\nverifiers = [{}]\n",
        halls.join(", ")
    )?;
    network(text, city)
}

fn lab(text: &mut String, city: &SandboxCity) -> Result<()> {
    let register = "lab-institutions.tsv";
    fs::write(city.folder.join(register), synthetic::institution_table())?;
    writeln!(
        text,
        "\n[lab]\ninstitutions = \"{register}\"\nquality_organisers = [\"spiffe://{}/health/quality\"]\n\n[gateway]\naddress = \"{}\"",
        city.domain, city.client
    )?;
    Ok(())
}

fn item(text: &mut String, city: &SandboxCity) -> Result<()> {
    for founder in &FOUNDERS {
        writeln!(
            text,
            "\n[[cities]]\ncode = \"{}\"\ntrust_domain = \"{}\"",
            founder.code,
            domain(founder)
        )?;
    }
    // Limits are looked at often, so that what is simulated shows at once.
    writeln!(
        text,
        "\n[gateway]\naddress = \"{}\"\n\n[item]\nsweep = \"200ms\"",
        city.client
    )?;
    Ok(())
}
