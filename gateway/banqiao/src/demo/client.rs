//! Systems of the demo's cities, as clients of their gateways.

use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use banqiao_proto::{
    card::v1::{
        card_life_service_client::CardLifeServiceClient, card_service_client::CardServiceClient,
        eligibility_service_client::EligibilityServiceClient,
        entitlement_service_client::EntitlementServiceClient,
        pension_transfer_service_client::PensionTransferServiceClient,
    },
    directory::v1::{
        admin_service_client::AdminServiceClient, grant_service_client::GrantServiceClient,
    },
    exchange::v1::Reason,
    item::v1::{
        case_service_client::CaseServiceClient, material_service_client::MaterialServiceClient,
        rating_service_client::RatingServiceClient,
        statistics_service_client::StatisticsServiceClient,
    },
    lab::v1::{
        quality_service_client::QualityServiceClient,
        recognition_service_client::RecognitionServiceClient,
        report_service_client::ReportServiceClient,
    },
    ledger::v1::audit_service_client::AuditServiceClient,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::{
    Request, Status,
    metadata::{AsciiMetadataValue, MetadataMap},
    transport::Channel,
};
use tonic_types::StatusExt as _;

use crate::{
    config::Role,
    connect::{self, TlsFiles},
    sandbox::SandboxCity,
};

/// Largest answer of an import: a result for each of 2,000 lines and more.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// A system of a city with a connection to its gateway.
#[derive(Clone)]
pub(super) struct System {
    channel: Channel,
}

impl System {
    pub(super) async fn connect(city: &SandboxCity, system: &str) -> Result<Self> {
        let (certificate, private_key) = city.system_files(system);
        let files = TlsFiles {
            certificate,
            private_key,
            ca: city.ca(),
        };
        let channel = connect::gateway(&city.client.to_string(), &files).await?;
        Ok(Self { channel })
    }

    pub(super) fn cards(&self) -> CardServiceClient<Channel> {
        CardServiceClient::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(super) fn card_life(&self) -> CardLifeServiceClient<Channel> {
        CardLifeServiceClient::new(self.channel.clone())
    }

    pub(super) fn transfers(&self) -> PensionTransferServiceClient<Channel> {
        PensionTransferServiceClient::new(self.channel.clone())
    }

    pub(super) fn reports(&self) -> ReportServiceClient<Channel> {
        ReportServiceClient::new(self.channel.clone())
    }

    pub(super) fn quality(&self) -> QualityServiceClient<Channel> {
        QualityServiceClient::new(self.channel.clone())
    }

    pub(super) fn recognition(&self) -> RecognitionServiceClient<Channel> {
        RecognitionServiceClient::new(self.channel.clone())
    }

    pub(super) fn cases(&self) -> CaseServiceClient<Channel> {
        CaseServiceClient::new(self.channel.clone())
    }

    pub(super) fn materials(&self) -> MaterialServiceClient<Channel> {
        MaterialServiceClient::new(self.channel.clone())
    }

    pub(super) fn ratings(&self) -> RatingServiceClient<Channel> {
        RatingServiceClient::new(self.channel.clone())
    }

    pub(super) fn statistics(&self) -> StatisticsServiceClient<Channel> {
        StatisticsServiceClient::new(self.channel.clone())
    }

    pub(super) fn entitlement(&self) -> EntitlementServiceClient<Channel> {
        EntitlementServiceClient::new(self.channel.clone())
    }

    pub(super) fn eligibility(&self) -> EligibilityServiceClient<Channel> {
        EligibilityServiceClient::new(self.channel.clone())
    }
}

/// A request with the metadata that a call carries.
pub(super) fn request<T>(message: T, to: &str, purpose: &str) -> Result<Request<T>> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("banqiao-to", to.parse()?);
    metadata.insert("banqiao-purpose", purpose.parse()?);
    // Metadata is ASCII; other characters are percent-encoded.
    let basis = "statutory:%E7%A4%BE%E4%BC%9A%E4%BF%9D%E9%99%A9%E7%BB%8F%E5%8A%9E%E6%9D%A1%E4%BE%8B%E7%AC%AC%E4%B8%83%E6%9D%A1";
    metadata.insert("banqiao-basis", AsciiMetadataValue::from_static(basis));
    metadata.insert(
        "banqiao-operator",
        AsciiMetadataValue::from_static("demo-operator-01"),
    );
    Ok(request)
}

/// As [`request`], on another basis.
pub(super) fn request_on<T>(
    message: T,
    to: &str,
    purpose: &str,
    basis: &str,
) -> Result<Request<T>> {
    let mut request = request(message, to, purpose)?;
    // Metadata is ASCII; other characters are percent-encoded.
    let basis: String = basis.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let basis = format!("statutory:{basis}").parse()?;
    request.metadata_mut().insert("banqiao-basis", basis);
    Ok(request)
}

/// The reason that a gateway gave, and the exchange id of the answer.
pub(super) fn refusal(status: &Status) -> (Reason, String) {
    let reason = status
        .get_details_error_info()
        .filter(|info| info.domain == "banqiao")
        .and_then(|info| banqiao_proto::ReasonTable::by_name(&info.reason))
        .unwrap_or_default();
    (reason, exchange_id(status.metadata()))
}

/// `banqiao-exchange-id` of an answer.
pub(super) fn exchange_id(metadata: &MetadataMap) -> String {
    let id = metadata
        .get("banqiao-exchange-id")
        .and_then(|value| value.to_str().ok());
    id.unwrap_or_default().to_owned()
}

/// Grants of a city, as its administrator.
pub(super) async fn grants(city: &SandboxCity) -> Result<GrantServiceClient<Channel>> {
    let socket = city.socket(Role::Administrator.as_str());
    Ok(GrantServiceClient::new(connect::unix(&socket).await?))
}

/// The log of a city, as its auditor.
pub(super) async fn audit(city: &SandboxCity) -> Result<AuditServiceClient<Channel>> {
    let socket = city.socket(Role::Auditor.as_str());
    Ok(AuditServiceClient::new(connect::unix(&socket).await?))
}

/// The gateway of a city, as its operator.
pub(super) async fn operator(city: &SandboxCity) -> Result<AdminServiceClient<Channel>> {
    let socket = city.socket(Role::Operator.as_str());
    Ok(AdminServiceClient::new(connect::unix(&socket).await?))
}

/// Whether a gateway says that it takes calls.
pub(crate) async fn is_ready(ops: SocketAddr) -> bool {
    readyz(ops).await.unwrap_or(false)
}

async fn readyz(ops: SocketAddr) -> Result<bool> {
    let mut stream = tokio::net::TcpStream::connect(ops).await?;
    stream
        .write_all(b"GET /readyz HTTP/1.1\r\nhost: gateway\r\nconnection: close\r\n\r\n")
        .await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    let status = answer
        .split(|byte| *byte == b' ')
        .nth(1)
        .context("no status line")?;
    Ok(status == b"200")
}
