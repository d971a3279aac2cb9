//! A city's certificates in a folder, and clients that use them.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use banqiao_directory::{Clock, TrustDomain};
use banqiao_identity::{
    Expect, Identity, IdentityFiles, IdentitySettings,
    pki::{CertificateRequest, CityAuthority, NewAuthority},
};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};

/// A city's CA in a folder.
fn city(folder: &Path, domain: &str) -> CityAuthority {
    let domain: TrustDomain = domain.parse().unwrap();
    CityAuthority::create(folder, &NewAuthority::new(domain), Clock::system())
        .unwrap()
        .0
}

/// Qingdao: `gateway` and `item` (the service).
pub(crate) struct Certificates {
    pub(crate) folder: TempDir,
}

impl Certificates {
    pub(crate) fn of_qingdao() -> Self {
        let folder = TempDir::new().unwrap();
        let authority = city(folder.path(), "qingdao.jiaodong");
        let domain: TrustDomain = "qingdao.jiaodong".parse().unwrap();
        authority
            .issue(&CertificateRequest::gateway(&domain))
            .unwrap();
        let system = CertificateRequest::system(&domain, "hall/item").unwrap();
        authority.issue(&system.file_name("item").unwrap()).unwrap();
        Self { folder }
    }

    /// The identity `name` of a folder, which trusts Qingdao.
    fn identity(&self, folder: &Path, name: &str) -> Identity {
        let files = IdentityFiles {
            certificate: folder.join(format!("{name}.crt")),
            private_key: folder.join(format!("{name}.key")),
        };
        let identity = Identity::load(files, IdentitySettings::default(), Clock::system()).unwrap();
        let bundle = CertificateDer::from_pem_file(self.folder.path().join("ca.crt")).unwrap();
        let domain = "qingdao.jiaodong".parse().unwrap();
        identity
            .replace_bundles(BTreeMap::from([(domain, vec![bundle])]))
            .unwrap();
        let crl = std::fs::read(self.folder.path().join("crl.der")).unwrap();
        identity.offer_crl(&crl).unwrap();
        identity
    }

    /// A channel of the city's gateway.
    pub(crate) fn gateway(&self, address: SocketAddr) -> Channel {
        let identity = self.identity(self.folder.path(), "gateway");
        let expect = Expect::City("qingdao.jiaodong".parse().unwrap());
        let connector = tower::service_fn(move |_| {
            let (identity, expect) = (identity.clone(), expect.clone());
            async move {
                let tcp = TcpStream::connect(address).await?;
                let tls = identity
                    .connect(&expect, tcp)
                    .await
                    .map_err(std::io::Error::other)?;
                Ok::<_, std::io::Error>(TokioIo::new(tls.0))
            }
        });
        Endpoint::from_static("http://item").connect_with_connector_lazy(connector)
    }
}
