//! Cities for tests: a CA, a gateway's certificate, and a signed directory, made by the same code as real ones.

use std::{
    future::Future,
    path::{Path, PathBuf},
    time::Duration,
};

use banqiao_directory::{Clock, Envelope, SigningKey, TrustDomain};
use banqiao_identity::pki::{
    CertificateRequest, CityAuthority, DEFAULT_CRL_LIFETIME, Issued, NewAuthority, RevocationReason,
};
use tempfile::TempDir;

/// A gateway's config without any fault, apart from its pin.
const SOUND: &str = r#"city = "370200"
replica = "qingdao-1"

[identity]
certificate = "gateway.crt"
private_key = "gateway.key"

[directory]
file = "directory.json"
pin = "PIN"

[crls]
files = ["crl.der"]

[listeners.client]
address = "127.0.0.1:8443"
[listeners.inter_city]
address = "127.0.0.1:8444"
[listeners.ops]
address = "127.0.0.1:9100"
[listeners.admin]
administrator_socket = "admin/administrator.sock"
operator_socket = "admin/operator.sock"
auditor_socket = "admin/auditor.sock"

[ledger]
url = "sqlite://gateway.db"

[[services]]
name = "banqiao.card.v1.CardService"
endpoints = ["127.0.0.1:9443"]
identity = "spiffe://qingdao.jiaodong/hrss/card"
"#;

/// The deadline of what a test waits for: a machine that is busy with a build passes too.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until there is something.
pub(crate) async fn wait_for<T, F: Future<Output = Option<T>>>(
    what: &str,
    mut found: impl FnMut() -> F,
) -> T {
    let mut ticks = tokio::time::interval(Duration::from_millis(5));
    let waiting = async {
        loop {
            ticks.tick().await;
            if let Some(it) = found().await {
                return it;
            }
        }
    };
    let outcome = tokio::time::timeout(PATIENCE, waiting).await;
    outcome.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}

/// A city's folder. Its directory also lists Yantai, which has no gateway.
pub(crate) struct City {
    dir: TempDir,
    authority: CityAuthority,
    envelope: Envelope,
}

impl City {
    /// A city with `gateway.crt`, `gateway.key`, `ledger.key`, `ca.crt` and `crl.der` in its folder.
    pub(crate) fn new(code: &str, domain: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let domain: TrustDomain = domain.parse().unwrap();
        let authority = authority(dir.path(), &domain);
        authority
            .issue(&CertificateRequest::gateway(&domain).loopback())
            .unwrap();
        crate::notekey::make(&dir.path().join("ledger.key")).unwrap();
        let yantai = authority_elsewhere(dir.path());
        let keys = [
            SigningKey::generate().unwrap(),
            SigningKey::generate().unwrap(),
        ];
        let cities = [
            (code, domain.as_str(), &authority),
            ("370600", "yantai.jiaodong", &yantai),
        ];
        let mut envelope = Envelope::new(document(&cities, &keys).into_bytes());
        keys.iter().for_each(|key| envelope.sign(key));
        Self {
            dir,
            authority,
            envelope,
        }
    }

    /// A path in the folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The signed directory.
    pub(crate) const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The text of a sound config; every file that it names is in the folder.
    pub(crate) fn sound_config(&self) -> String {
        std::fs::write(
            self.path("directory.json"),
            self.envelope.to_json().unwrap(),
        )
        .unwrap();
        SOUND.replace("PIN", &hex::encode(self.envelope.digest()))
    }

    /// Issues a certificate for a system.
    pub(crate) fn issue_system(&self, path: &str) -> Issued {
        let request = CertificateRequest::system(self.authority.trust_domain(), path).unwrap();
        self.authority.issue(&request.loopback()).unwrap()
    }

    /// Revokes a certificate; its gateway sees the new CRL in the folder.
    pub(crate) fn revoke(&self, issued: &Issued) {
        let reason = RevocationReason::KeyCompromise;
        self.authority
            .revoke(&issued.record.serial, reason, DEFAULT_CRL_LIFETIME)
            .unwrap();
    }
}

fn authority(dir: &Path, domain: &TrustDomain) -> CityAuthority {
    CityAuthority::create(dir, &NewAuthority::new(domain.clone()), Clock::system())
        .unwrap()
        .0
}

fn authority_elsewhere(dir: &Path) -> CityAuthority {
    authority(&dir.join("yantai"), &"yantai.jiaodong".parse().unwrap())
}

/// The TOML of a directory that both cities sign.
fn document(cities: &[(&str, &str, &CityAuthority); 2], keys: &[SigningKey; 2]) -> String {
    let mut text = format!(
        "version = 1\nissued = {}\nexpires = {}\n[signers]\nthreshold = 2\n",
        crate::moment::utc(Clock::system().now_us() - 60_000_000),
        crate::moment::utc(Clock::system().now_us() + 90 * 86_400_000_000),
    );
    for ((code, ..), key) in cities.iter().zip(keys) {
        text += &format!(
            "[[signers.keys]]\ncity = {code:?}\npublic_key = {:?}\n",
            key.public().to_string()
        );
    }
    for (code, domain, authority) in cities {
        let ca = std::fs::read_to_string(authority.crl_path().with_file_name("ca.crt")).unwrap();
        text += &format!(
            "[[cities]]\ncode = {code:?}\nname = {{ zh = \"市\", en = \"City\" }}\ntrust_domain = {domain:?}\n\
             ca_bundle = '''\n{ca}'''\ngateways = [\"gateway.{domain}:8444\"]\n\
             [[cities.agencies]]\ncode = \"hrss\"\nname = {{ zh = \"人社局\", en = \"Social Security\" }}\n\
             [[cities.systems]]\nid = \"spiffe://{domain}/hrss/card\"\ntitle = \"社保卡\"\nagency = \"hrss\"\n"
        );
    }
    for code in ["benefit-eligibility", "card-service"] {
        text += &format!(
            "[[purposes]]\ncode = {code:?}\ntitle = {{ zh = \"目的\", en = \"Purpose\" }}\ndescription = \"A purpose.\"\n"
        );
    }
    text
}

/// Parses arguments as the command line does.
pub(crate) fn parse<P: clap::Parser>(arguments: &[&str]) -> Result<P, clap::Error> {
    P::try_parse_from(["banqiao"].iter().chain(arguments))
}
