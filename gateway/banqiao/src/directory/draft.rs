//! The TOML of a first directory, written from what `banqiao pki` left in the cities' folders.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    path::{Path, PathBuf},
    str::FromStr,
};

use banqiao_directory::{CityCode, KeyError, NameError, PublicKey, SpiffeId, TrustDomain};
use jiff::Timestamp;
use serde::Deserialize;

use super::{PUBLIC_FILE, fault, read};

/// The cities of Shandong at prefecture level (GB/T 2260): code, Chinese and English name.
const CITIES: [(&str, &str, &str); 16] = [
    ("370100", "济南", "Jinan"),
    ("370200", "青岛", "Qingdao"),
    ("370300", "淄博", "Zibo"),
    ("370400", "枣庄", "Zaozhuang"),
    ("370500", "东营", "Dongying"),
    ("370600", "烟台", "Yantai"),
    ("370700", "潍坊", "Weifang"),
    ("370800", "济宁", "Jining"),
    ("370900", "泰安", "Tai'an"),
    ("371000", "威海", "Weihai"),
    ("371100", "日照", "Rizhao"),
    ("371300", "临沂", "Linyi"),
    ("371400", "德州", "Dezhou"),
    ("371500", "聊城", "Liaocheng"),
    ("371600", "滨州", "Binzhou"),
    ("371700", "菏泽", "Heze"),
];

/// Agencies by the codes that this project's own services use.
const AGENCIES: [(&str, &str, &str); 4] = [
    ("health", "卫生健康委员会", "Health Commission"),
    (
        "hrss",
        "人力资源和社会保障局",
        "Human Resources and Social Security Bureau",
    ),
    (
        "insurance",
        "医疗保障局",
        "Healthcare Security Administration",
    ),
    (
        "services",
        "行政审批服务局",
        "Administrative Approval and Service Bureau",
    ),
];

/// The purposes of the first network: code, Chinese and English title, description.
pub const PURPOSES: [(&str, &str, &str, &str); 7] = [
    (
        "medical-treatment",
        "诊疗",
        "Medical treatment",
        "为正在接受诊疗的患者调阅或确认所需信息。Records that the treatment of a patient who is being treated needs.",
    ),
    (
        "benefit-eligibility",
        "待遇资格认证",
        "Benefit eligibility",
        "核验当事人是否具备领取社会保险等待遇的资格。Whether a person is entitled to a benefit (社会保险经办条例 art. 26).",
    ),
    (
        "card-service",
        "社会保障卡服务",
        "Card service",
        "办理社会保障卡挂失、状态联动等持卡人业务。The holder's own business with a social-security card.",
    ),
    (
        "case-handling",
        "事项办理",
        "Case handling",
        "办理当事人申请的政务服务事项。A government service that the person has applied for.",
    ),
    (
        "quality-control",
        "质量控制",
        "Quality control",
        "检验检查结果互认的质量控制。Quality control of what cities recognise of each other.",
    ),
    (
        "statistics",
        "统计分析",
        "Statistics",
        "不针对个人的汇总统计。Totals that are about no single person.",
    ),
    (
        "audit",
        "审计监督",
        "Audit",
        "依法审计、监督和答复当事人查询。Lawful audit, supervision, and answers to a person about their own records.",
    ),
];

/// What the command line says of a city: `CODE=FOLDER@HOST:PORT[,HOST:PORT]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DraftCity {
    /// Code (GB/T 2260).
    pub code: CityCode,
    /// Folder with `ca.crt`, `ca.json` and `directory.pub`.
    pub folder: PathBuf,
    /// Addresses of its gateways.
    pub gateways: Vec<String>,
}

impl FromStr for DraftCity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const FORM: &str =
            "write CODE=FOLDER@HOST:PORT, such as 370200=qingdao@gateway.qingdao.example:7443";
        let (code, rest) = text.split_once('=').ok_or(FORM)?;
        let (folder, gateways) = rest.rsplit_once('@').ok_or(FORM)?;
        if folder.is_empty() || gateways.is_empty() {
            return Err(FORM.to_owned());
        }
        Ok(Self {
            code: code.parse().map_err(|error: NameError| error.to_string())?,
            folder: folder.into(),
            gateways: gateways.split(',').map(str::to_owned).collect(),
        })
    }
}

/// A directory to write.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Version.
    pub version: u64,
    /// When it is issued, in seconds since 1970.
    pub issued_s: i64,
    /// When it expires, in seconds since 1970.
    pub expires_s: i64,
    /// Signatures needed.
    pub threshold: usize,
    /// The cities.
    pub cities: Vec<CityDraft>,
}

/// One city's section to write.
#[derive(Clone, Debug)]
pub struct CityDraft {
    /// Code.
    pub code: CityCode,
    /// Trust domain.
    pub trust_domain: TrustDomain,
    /// Certificates of its CA, PEM.
    pub ca_bundle: String,
    /// Addresses of its gateways.
    pub gateways: Vec<String>,
    /// Its key, or nothing for a guest.
    pub public_key: Option<PublicKey>,
    /// Its systems, with their titles.
    pub systems: Vec<(SpiffeId, String)>,
}

/// What is read of `ca.json`, which `banqiao pki` writes.
#[derive(Deserialize)]
struct Issued {
    trust_domain: String,
    #[serde(default)]
    certificates: Vec<IssuedCertificate>,
}

#[derive(Deserialize)]
struct IssuedCertificate {
    id: String,
    kind: String,
    name: String,
    revoked: Option<serde::de::IgnoredAny>,
}

impl CityDraft {
    /// Reads the public files of a city's folder: its systems are those that its CA has issued certificates to.
    ///
    /// # Errors
    ///
    /// [`crate::exit::Stop`] where a file is missing or not what it should be.
    pub fn read(city: &DraftCity, guest: bool) -> anyhow::Result<Self> {
        let certificate = city.folder.join("ca.crt");
        let ca_bundle = text(&certificate)?;
        if ca_bundle.contains("'''") {
            return Err(fault(&certificate, "is no PEM").into());
        }
        let path = city.folder.join("ca.json");
        let issued: Issued = serde_json::from_slice(&read(&path)?)
            .map_err(|error| fault(&path, "is not what `banqiao pki` writes").caused_by(error))?;
        let trust_domain = issued
            .trust_domain
            .parse()
            .map_err(|error: NameError| fault(&path, "names no trust domain").caused_by(error))?;
        let mut seen = BTreeSet::new();
        let mut systems = Vec::new();
        for system in issued.certificates {
            let id: SpiffeId = system
                .id
                .parse()
                .map_err(|error: NameError| fault(&path, "names no SPIFFE ID").caused_by(error))?;
            if system.kind == "system" && system.revoked.is_none() && seen.insert(id.clone()) {
                systems.push((id, system.name));
            }
        }
        let public_key = if guest {
            None
        } else {
            Some(public_key(&city.folder)?)
        };
        Ok(Self {
            code: city.code,
            trust_domain,
            ca_bundle,
            gateways: city.gateways.clone(),
            public_key,
            systems,
        })
    }
}

fn public_key(folder: &Path) -> anyhow::Result<PublicKey> {
    let path = folder.join(PUBLIC_FILE);
    text(&path)?.trim().parse().map_err(|error: KeyError| {
        fault(&path, "is no public directory key")
            .caused_by(error)
            .into()
    })
}

fn text(path: &Path) -> anyhow::Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|error| fault(path, "is not UTF-8").caused_by(error).into())
}

impl Draft {
    /// The document, with the purposes of the first network.
    pub fn toml(&self) -> String {
        let mut out = String::from(
            "# The directory of the network. Edit, raise the version, and let the cities sign it:\n\
             # banqiao directory sign --toml directory.toml --previous directory.json --key … next.json\n",
        );
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "version = {}\nissued = {}\nexpires = {}\n\n[signers]\nthreshold = {}",
            self.version,
            moment(self.issued_s),
            moment(self.expires_s),
            self.threshold
        );
        for city in &self.cities {
            if let Some(key) = &city.public_key {
                let _ = writeln!(
                    out,
                    "\n[[signers.keys]]\ncity = \"{}\"\npublic_key = \"{key}\"",
                    city.code
                );
            }
        }
        for city in &self.cities {
            city.write(&mut out);
        }
        for (code, zh, en, description) in PURPOSES {
            let _ = writeln!(
                out,
                "\n[[purposes]]\ncode = \"{code}\"\ntitle = {}\ndescription = {}",
                name(zh, en),
                quoted(description)
            );
        }
        out
    }
}

impl CityDraft {
    fn write(&self, out: &mut String) {
        let known = CITIES.iter().find(|(code, ..)| *code == self.code.as_str());
        let (zh, en) = known.map_or((self.code.as_str(), self.code.as_str()), |(_, zh, en)| {
            (*zh, *en)
        });
        let gateways: Vec<_> = self
            .gateways
            .iter()
            .map(|gateway| quoted(gateway))
            .collect();
        // Writing to a string cannot fail.
        let _ = writeln!(
            out,
            "\n[[cities]]\ncode = \"{}\"\nname = {}\ntrust_domain = \"{}\"\ngateways = [{}]\nguest = {}\n\
             ca_bundle = '''\n{}\n'''",
            self.code,
            name(zh, en),
            self.trust_domain,
            gateways.join(", "),
            self.public_key.is_none(),
            self.ca_bundle.trim_end(),
        );
        let agencies: BTreeSet<_> = self.systems.iter().map(|(id, _)| id.agency()).collect();
        for code in agencies {
            let known = AGENCIES.iter().find(|(known, ..)| *known == code);
            let (zh, en) = known.map_or((code, code), |(_, zh, en)| (*zh, *en));
            let _ = writeln!(
                out,
                "\n[[cities.agencies]]\ncode = {}\nname = {}",
                quoted(code),
                name(zh, en)
            );
        }
        for (id, title) in &self.systems {
            let _ = writeln!(
                out,
                "\n[[cities.systems]]\nid = \"{id}\"\ntitle = {}\nagency = {}",
                quoted(title),
                quoted(id.agency())
            );
        }
    }
}

fn name(zh: &str, en: &str) -> String {
    format!("{{ zh = {}, en = {} }}", quoted(zh), quoted(en))
}

fn quoted(text: &str) -> String {
    toml::Value::from(text).to_string()
}

/// RFC 3339; a moment that no calendar holds becomes one that the document's parser refuses.
fn moment(seconds: i64) -> String {
    Timestamp::from_second(seconds)
        .unwrap_or(Timestamp::MAX)
        .to_string()
}
