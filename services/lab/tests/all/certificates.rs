//! A city's certificates in a folder, and clients that use them.

use std::{collections::BTreeMap, net::SocketAddr, path::Path, time::Duration};

use banqiao_directory::{Clock, TrustDomain};
use banqiao_identity::{
    Expect, Identity, IdentityFiles, IdentitySettings,
    pki::{CertificateRequest, CityAuthority, NewAuthority},
};
use banqiao_proto::lab::v1::{
    catalogue_service_client::CatalogueServiceClient, fhir_service_client::FhirServiceClient,
    quality_service_client::QualityServiceClient,
    recognition_service_client::RecognitionServiceClient,
    report_service_client::ReportServiceClient,
};
use hyper_util::rt::TokioIo;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tonic::{
    Request,
    transport::{Channel, Endpoint},
};

use crate::scene::metadata;

/// Far beyond what any of this takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A city's CA in a folder.
pub(crate) fn city(folder: &Path, domain: &str) -> CityAuthority {
    let domain: TrustDomain = domain.parse().unwrap();
    CityAuthority::create(folder, &NewAuthority::new(domain), Clock::system())
        .unwrap()
        .0
}

/// Qingdao: `gateway`, and `lab` (the service).
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
        let system = CertificateRequest::system(&domain, "health/lab").unwrap();
        authority.issue(&system.file_name("lab").unwrap()).unwrap();
        std::fs::write(
            folder.path().join("institutions.tsv"),
            banqiao_lab::synthetic::institution_table(),
        )
        .unwrap();
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
        Endpoint::from_static("http://lab").connect_with_connector_lazy(connector)
    }

    /// The city's gateway as a client of the reports.
    pub(crate) fn reports(&self, address: SocketAddr) -> ReportServiceClient<Channel> {
        ReportServiceClient::new(self.channel(address, self.folder.path(), "gateway"))
            .max_decoding_message_size(64 * 1024 * 1024)
    }

    /// The city's gateway as a client of the reports as FHIR.
    pub(crate) fn fhir(&self, address: SocketAddr) -> FhirServiceClient<Channel> {
        FhirServiceClient::new(self.channel(address, self.folder.path(), "gateway"))
    }

    /// The city's gateway as a client of the quality rounds.
    pub(crate) fn quality(&self, address: SocketAddr) -> QualityServiceClient<Channel> {
        QualityServiceClient::new(self.channel(address, self.folder.path(), "gateway"))
    }

    /// The city's gateway as a client of recognition.
    pub(crate) fn recognition(&self, address: SocketAddr) -> RecognitionServiceClient<Channel> {
        RecognitionServiceClient::new(self.channel(address, self.folder.path(), "gateway"))
    }

    /// The city's gateway as a client of the catalogue.
    pub(crate) fn catalogue(&self, address: SocketAddr) -> CatalogueServiceClient<Channel> {
        CatalogueServiceClient::new(self.channel(address, self.folder.path(), "gateway"))
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
