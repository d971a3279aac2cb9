//! One city of a sandbox: its folder, certificates and configs.

use std::{
    fmt::Write as _,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use banqiao_directory::{Clock, SigningKey, TrustDomain};
use banqiao_identity::pki::{
    CertificateRequest, CityAuthority, DEFAULT_CRL_LIFETIME, NewAuthority,
};

use super::{Backend, Plan, directory};
use crate::notekey;

/// A founding member of the network.
#[derive(Clone, Copy, Debug)]
pub struct Founder {
    /// GB/T 2260.
    pub code: &'static str,
    /// Name in Chinese.
    pub zh: &'static str,
    /// Name in English, also of the folder.
    pub en: &'static str,
}

/// The five cities of 鲁政发〔2020〕2号.
pub const FOUNDERS: [Founder; 5] = [
    Founder {
        code: "370200",
        zh: "青岛",
        en: "Qingdao",
    },
    Founder {
        code: "370600",
        zh: "烟台",
        en: "Yantai",
    },
    Founder {
        code: "370700",
        zh: "潍坊",
        en: "Weifang",
    },
    Founder {
        code: "371000",
        zh: "威海",
        en: "Weihai",
    },
    Founder {
        code: "371100",
        zh: "日照",
        en: "Rizhao",
    },
];

/// Systems that each sandbox city has: path, title, agency.
pub(super) const SYSTEMS: [(&str, &str, &str); 11] = [
    ("hrss/hall", "社保服务大厅", "hrss"),
    ("hrss/card", "社会保障卡服务", "hrss"),
    ("hospital/his", "市立医院信息系统", "hospital"),
    ("bank/counter", "银行柜面系统", "bank"),
    ("health/lab", "检验结果互认服务", "health"),
    ("health/quality", "临床检验质量控制系统", "health"),
    ("hospital-1/lis", "第一医院检验信息系统", "hospital-1"),
    ("hospital-1/emr", "第一医院电子病历系统", "hospital-1"),
    ("hall/item", "一网通办办件服务", "hall"),
    ("hall/window", "政务服务大厅窗口系统", "hall"),
    ("psb/case", "公安局业务系统", "psb"),
];

/// A city.
#[derive(Clone, Debug)]
pub struct SandboxCity {
    /// Which one.
    pub founder: Founder,
    /// Trust domain.
    pub domain: TrustDomain,
    /// Its folder.
    pub folder: PathBuf,
    /// Client listener.
    pub client: SocketAddr,
    /// Inter-city listener.
    pub inter_city: SocketAddr,
    /// Ops listener.
    pub ops: SocketAddr,
    /// Card service.
    pub card: SocketAddr,
    /// Laboratory service.
    pub lab: SocketAddr,
    /// Item service.
    pub item: SocketAddr,
}

impl SandboxCity {
    /// Folder name of a founder.
    pub fn slug(&self) -> String {
        self.founder.en.to_lowercase()
    }

    pub(super) fn make(
        root: &Path,
        founder: &Founder,
        ports: &[u16],
        plan: &Plan,
        clock: &Clock,
    ) -> Result<Self> {
        let [client, inter_city, ops, card, lab, item] = *ports else {
            anyhow::bail!("a city takes six ports")
        };
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let slug = founder.en.to_lowercase();
        let city = Self {
            founder: *founder,
            domain: format!("{slug}.jiaodong").parse()?,
            folder: root.join(&slug),
            client: at(client),
            inter_city: at(inter_city),
            ops: at(ops),
            card: at(card),
            lab: at(lab),
            item: at(item),
        };
        fs::create_dir_all(&city.folder)?;
        city.certificates(plan, clock)
            .with_context(|| format!("certificates of {}", founder.en))?;
        Ok(city)
    }

    /// Folder of the city's CA.
    pub fn pki(&self) -> PathBuf {
        self.folder.join("pki")
    }

    fn certificates(&self, plan: &Plan, clock: &Clock) -> Result<()> {
        let pki = self.pki();
        let authority = if pki.join("ca.crt").exists() {
            CityAuthority::load(&pki, clock.clone())?
        } else {
            CityAuthority::create(&pki, &NewAuthority::new(self.domain.clone()), clock.clone())?.0
        };
        authority.issue(&CertificateRequest::gateway(&self.domain).loopback())?;
        let planned = plan.services.iter().map(|service| service.backend.system());
        let mut systems: Vec<&str> = SYSTEMS
            .iter()
            .map(|(path, ..)| *path)
            .chain(planned)
            .collect();
        systems.sort_unstable();
        systems.dedup();
        for system in systems {
            authority.issue(&CertificateRequest::system(&self.domain, system)?.loopback())?;
        }
        self.write_crl(&authority)?;
        let key = self.folder.join("directory.key");
        if !key.exists() {
            directory::write_key(&key, &SigningKey::generate()?)?;
        }
        notekey::make(&self.ledger_key())?;
        notekey::make(&self.witness_key())?;
        Ok(())
    }

    /// Key of the city's ledger.
    pub fn ledger_key(&self) -> PathBuf {
        self.folder.join("ledger.key")
    }

    /// Key of the city's witness.
    pub fn witness_key(&self) -> PathBuf {
        self.folder.join("witness.key")
    }

    pub(super) fn renew_crl(&self) -> Result<()> {
        self.write_crl(&CityAuthority::load(&self.pki(), Clock::system())?)
    }

    /// Writes a CRL, for this city and beside the directory for the others.
    fn write_crl(&self, authority: &CityAuthority) -> Result<()> {
        let crl = authority.write_crl(DEFAULT_CRL_LIFETIME)?;
        let shared = self.folder.join("../crls");
        fs::create_dir_all(&shared)?;
        let (name, new) = (
            format!("{}.crl", self.slug()),
            format!("{}.new", self.slug()),
        );
        fs::write(shared.join(&new), &crl.der)?;
        fs::rename(shared.join(&new), shared.join(name))?;
        Ok(())
    }

    /// Certificate and key files of a system, such as `hrss/hall`.
    pub fn system_files(&self, system: &str) -> (PathBuf, PathBuf) {
        let name = system.replace('/', "-");
        (
            self.pki().join(format!("{name}.crt")),
            self.pki().join(format!("{name}.key")),
        )
    }

    /// The CA certificate.
    pub fn ca(&self) -> PathBuf {
        self.pki().join("ca.crt")
    }

    /// Socket of an admin role.
    pub fn socket(&self, role: &str) -> PathBuf {
        self.folder.join("admin").join(format!("{role}.sock"))
    }

    /// The gateway's config.
    pub fn gateway_config(&self) -> PathBuf {
        self.folder.join("gateway.toml")
    }

    pub(super) fn write_configs(&self, root: &Path, plan: &Plan) -> Result<()> {
        let pin = fs::read_to_string(root.join("directory.pin"))?;
        let mut text = format!(
            r#"# Made by `banqiao demo` or `banqiao bench`; written again at each start.
city = "{code}"
replica = "{slug}-1"
data = "state"

[identity]
certificate = "pki/gateway.crt"
private_key = "pki/gateway.key"

[directory]
file = "../directory.json"
pin = "{pin}"

[crls]
# Beside the directory, as the cities hand it round: a gateway takes nobody whose CRL it does not have.
files = ["pki/crl.der", "../crls"]

[listeners.client]
address = "{client}"

[listeners.inter_city]
address = "{inter_city}"

[listeners.ops]
address = "{ops}"

[listeners.admin]
administrator_socket = "admin/administrator.sock"
operator_socket = "admin/operator.sock"
auditor_socket = "admin/auditor.sock"

[ledger]
url = "sqlite://gateway.db"
keys = "keys"
signing_key = "ledger.key"
witness_key = "witness.key"
"#,
            code = self.founder.code,
            slug = self.slug(),
            pin = pin.trim(),
            client = self.client,
            inter_city = self.inter_city,
            ops = self.ops,
        );
        for service in &plan.services {
            let file = format!("{}.binpb", service.name);
            fs::write(self.folder.join(&file), &service.descriptor_set)?;
            let address = match service.backend {
                Backend::Program(program) => program.address(self),
                Backend::Address(address) => address,
            };
            write!(
                text,
                "\n[[services]]\nname = \"{}\"\ndescriptor_set = \"{file}\"\nendpoints = [\"{address}\"]\n\
                 identity = \"spiffe://{}/{}\"\n",
                service.name,
                self.domain,
                service.backend.system()
            )?;
        }
        text.push_str(&plan.extra_config);
        fs::write(self.gateway_config(), text)?;
        for program in plan.programs() {
            program.write_config(self, plan)?;
        }
        Ok(())
    }
}
