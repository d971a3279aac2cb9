//! Certificates of a city, a configuration that uses them, and clients that are its gateway.

use std::{collections::BTreeMap, net::SocketAddr, path::Path};

use banqiao_directory::{Clock, TrustDomain};
use banqiao_identity::{
    Expect, Identity, IdentityFiles, IdentitySettings,
    pki::{CertificateRequest, CityAuthority, NewAuthority},
};
use banqiao_proto::card::v1::card_service_client::CardServiceClient;
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tokio::net::TcpStream;
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};

use crate::Fallible;

/// Qingdao.
pub(crate) const CITY: &str = "370200";

/// The gateway's identity.
#[derive(Clone)]
pub(crate) struct Certificates {
    gateway: Identity,
    domain: TrustDomain,
}

impl Certificates {
    /// A city's CA in a folder, with certificates for its gateway and its card service.
    pub(crate) fn create(folder: &Path) -> Fallible<Self> {
        let domain: TrustDomain = "qingdao.jiaodong".parse()?;
        let (authority, _) =
            CityAuthority::create(folder, &NewAuthority::new(domain.clone()), Clock::system())?;
        authority.issue(&CertificateRequest::gateway(&domain))?;
        authority.issue(&CertificateRequest::system(&domain, "hrss/card")?.file_name("card")?)?;
        let files = IdentityFiles {
            certificate: folder.join("gateway.crt"),
            private_key: folder.join("gateway.key"),
        };
        let gateway = Identity::load(files, IdentitySettings::default(), Clock::system())?;
        let bundle = CertificateDer::from_pem_file(folder.join("ca.crt"))?;
        gateway.replace_bundles(BTreeMap::from([(domain.clone(), vec![bundle])]))?;
        gateway.offer_crl(&std::fs::read(folder.join("crl.der"))?)?;
        Ok(Self { gateway, domain })
    }

    /// A client with a connection of its own.
    pub(crate) fn client(&self, address: SocketAddr) -> Fallible<CardServiceClient<Channel>> {
        let (identity, expect) = (self.gateway.clone(), Expect::City(self.domain.clone()));
        let connector = tower::service_fn(move |_| {
            let (identity, expect) = (identity.clone(), expect.clone());
            async move {
                let tcp = TcpStream::connect(address).await?;
                tcp.set_nodelay(true)?;
                let tls = identity
                    .connect(&expect, tcp)
                    .await
                    .map_err(std::io::Error::other)?;
                Ok::<_, std::io::Error>(TokioIo::new(tls.0))
            }
        });
        let endpoint = Endpoint::from_static("http://card");
        Ok(CardServiceClient::new(
            endpoint.connect_with_connector_lazy(connector),
        ))
    }
}

/// A configuration whose files are those of [`Certificates::create`].
pub(crate) fn configuration(url: &str) -> String {
    format!(
        "city = \"{CITY}\"\nlisten = \"127.0.0.1:0\"\n[identity]\ncertificate = \"card.crt\"\n\
         private_key = \"card.key\"\nca_bundle = \"ca.crt\"\ncrl = \"crl.der\"\n\
         [database]\nurl = \"{url}\"\n[telemetry]\nlog_filter = \"warn\"\n"
    )
}

/// A system of the city itself, which may import.
pub(crate) const BUREAU: &str = "spiffe://qingdao.jiaodong/hrss/issuer";
/// A system of another city.
pub(crate) const WINDOW: &str = "spiffe://weihai.jiaodong/hrss/window";

/// A request with the context that a gateway sets.
pub(crate) fn request<T>(client: &str, message: T) -> Fallible<Request<T>> {
    let mut request = Request::new(message);
    let exchange = format!("{}/1", uuid::Uuid::now_v7());
    for (name, value) in [
        ("banqiao-client", client),
        ("banqiao-purpose", "card-service"),
        ("banqiao-basis", "statutory:social-insurance-handling-7"),
        ("banqiao-exchange-id", &exchange),
    ] {
        request.metadata_mut().insert(name, value.parse()?);
    }
    Ok(request)
}
