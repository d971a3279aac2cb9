//! A city's certificates in a folder, and clients that use them.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, time::Duration};

use banqiao_card::synthetic;
use banqiao_directory::{Clock, TrustDomain};
use banqiao_identity::{
    CertificateFault, Expect, Identity, IdentityFiles, IdentitySettings,
    pki::{CertificateRequest, CityAuthority, NewAuthority},
    refusal_by_peer,
};
use banqiao_proto::card::v1::{ImportCardsRequest, card_service_client::CardServiceClient};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tempfile::TempDir;
use tokio::{io::AsyncReadExt, net::TcpStream, time::timeout};
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};

use crate::scene::{metadata, qingdao};

/// Far beyond what any of this takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
/// A service window of another city.
pub(crate) const WINDOW: &str = "spiffe://weihai.jiaodong/hrss/window";
/// A system of the issuing city.
pub(crate) const ISSUER: &str = "spiffe://qingdao.jiaodong/hrss/issuing";

/// A city's CA in a folder.
pub(crate) fn city(folder: &Path, domain: &str) -> CityAuthority {
    let domain: TrustDomain = domain.parse().unwrap();
    CityAuthority::create(folder, &NewAuthority::new(domain), Clock::system())
        .unwrap()
        .0
}

/// Qingdao: `gateway`, `card` (the service) and `window` (another system of the city).
pub(crate) struct Certificates {
    pub(crate) folder: TempDir,
    pub(crate) authority: CityAuthority,
}

impl Certificates {
    pub(crate) fn of_qingdao() -> Self {
        let folder = TempDir::new().unwrap();
        let authority = city(folder.path(), "qingdao.jiaodong");
        let domain: TrustDomain = "qingdao.jiaodong".parse().unwrap();
        authority
            .issue(&CertificateRequest::gateway(&domain))
            .unwrap();
        for (path, name) in [("hrss/card", "card"), ("hrss/window", "window")] {
            let system = CertificateRequest::system(&domain, path).unwrap();
            authority.issue(&system.file_name(name).unwrap()).unwrap();
        }
        Self { folder, authority }
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

    /// A channel with the certificate `name` of a folder.
    pub(crate) fn channel(&self, address: SocketAddr, folder: &Path, name: &str) -> Channel {
        let identity = self.identity(folder, name);
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
        Endpoint::from_static("http://card").connect_with_connector_lazy(connector)
    }

    /// The city's gateway as a client.
    pub(crate) fn gateway(&self, address: SocketAddr) -> CardServiceClient<Channel> {
        CardServiceClient::new(self.channel(address, self.folder.path(), "gateway"))
            .max_decoding_message_size(64 * 1024 * 1024)
    }

    /// What the server says of a certificate: nothing, or why it refuses it.
    pub(crate) async fn refusal(
        &self,
        address: SocketAddr,
        folder: &Path,
        name: &str,
    ) -> Option<CertificateFault> {
        let expect = Expect::City("qingdao.jiaodong".parse().unwrap());
        let tcp = TcpStream::connect(address).await.unwrap();
        let (mut tls, _) = self
            .identity(folder, name)
            .connect(&expect, tcp)
            .await
            .unwrap();
        // An HTTP/2 server speaks first; one that refuses sends an alert instead.
        match timeout(PATIENCE, tls.read_u8()).await.unwrap() {
            Ok(_) => None,
            Err(error) => refusal_by_peer(&error),
        }
    }
}

/// A request with the context that a gateway sets.
pub(crate) fn request<T>(message: T, client: &str) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in metadata(client) {
        request.metadata_mut().insert(name, value.parse().unwrap());
    }
    request
}

/// Lines of synthetic holders.
pub(crate) fn lines(count: u32) -> Vec<ImportCardsRequest> {
    let records = synthetic::holders(qingdao(), count, 1).unwrap();
    (1..)
        .zip(records)
        .map(|(line, card)| ImportCardsRequest {
            line,
            card: Some(card),
        })
        .collect()
}
