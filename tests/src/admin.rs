//! The admin listener of a gateway, as administrators, operators and auditors use it.

use std::{io, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use banqiao_directory::Clock;
use banqiao_proto::{
    directory::v1::{
        AddGrantRequest, GetStatusRequest, GetStatusResponse, Grant, ListGrantsRequest,
        PublishDirectoryRequest, RegisterDescriptorSetRequest, ReloadRequest, RevokeGrantRequest,
        admin_service_client::AdminServiceClient, grant_service_client::GrantServiceClient,
    },
    exchange::v1::{Reason, Trace},
    ledger::v1::{
        Entry, EntryFilter, IndexedEntry, Kind, PrivatePart, SearchEntriesRequest,
        ShowExchangeRequest, TailEntriesRequest, audit_service_client::AuditServiceClient,
    },
};
use hyper_util::rt::TokioIo;
use prost::Message as _;
use prost_types::Timestamp;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic_types::StatusExt as _;
use tower::service_fn;
use uuid::Uuid;

use crate::wait::{PATIENCE, wait_for};

/// A role, by the socket that stands for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Changes grants, directory and descriptors.
    Administrator,
    /// Reads the ledger.
    Auditor,
    /// Watches, reloads, drains.
    Operator,
}

impl Role {
    /// Name of the socket's file.
    pub const fn socket(self) -> &'static str {
        match self {
            Self::Administrator => "administrator.sock",
            Self::Auditor => "auditor.sock",
            Self::Operator => "operator.sock",
        }
    }
}

/// A refusal with everything that its details say.
fn told(status: tonic::Status) -> anyhow::Error {
    let details = status.get_error_details();
    let faults = details.bad_request().map(|bad| &bad.field_violations);
    anyhow::anyhow!("{status}: {:?}, {faults:?}", details.error_info())
}

/// The admin listener of one gateway.
#[derive(Clone, Debug)]
pub struct Admin(PathBuf);

impl Admin {
    /// The listener whose sockets lie in `folder`.
    pub const fn new(folder: PathBuf) -> Self {
        Self(folder)
    }

    /// The socket of a role.
    pub fn socket(&self, role: Role) -> PathBuf {
        self.0.join(role.socket())
    }

    /// A channel in a role.
    pub fn channel(&self, role: Role) -> Channel {
        let socket = self.socket(role);
        let connector = service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { Ok::<_, io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        });
        Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
    }

    /// Grants in a role.
    pub fn grants(&self, role: Role) -> GrantServiceClient<Channel> {
        GrantServiceClient::new(self.channel(role))
    }

    /// Operation in a role.
    pub fn operation(&self, role: Role) -> AdminServiceClient<Channel> {
        AdminServiceClient::new(self.channel(role))
    }

    /// Adds a grant as the administrator and gives it as stored.
    ///
    /// # Errors
    ///
    /// Fails when the gateway refuses it.
    pub async fn grant(&self, grant: Grant) -> Result<Grant> {
        let request = AddGrantRequest { grant: Some(grant) };
        let answer = self
            .grants(Role::Administrator)
            .add_grant(request)
            .await
            .map_err(told)?
            .into_inner();
        answer.grant.context("no grant in the answer")
    }

    /// Ids of the grants in force.
    ///
    /// # Errors
    ///
    /// Fails when the gateway refuses.
    pub async fn granted(&self) -> Result<Vec<String>> {
        let listed = self
            .grants(Role::Administrator)
            .list_grants(ListGrantsRequest::default())
            .await
            .map_err(told)?;
        let grants = listed.into_inner().grants.into_iter();
        Ok(grants.map(|grant| grant.id).collect())
    }

    /// Revokes a grant as the administrator.
    ///
    /// # Errors
    ///
    /// Fails when the gateway refuses.
    pub async fn revoke(&self, id: &str) -> Result<()> {
        let request = RevokeGrantRequest {
            id: id.to_owned(),
            reason: "end of the test".to_owned(),
        };
        self.grants(Role::Administrator)
            .revoke_grant(request)
            .await?;
        Ok(())
    }

    /// Registers every service of a descriptor set, served at an address by an identity, as the administrator.
    ///
    /// # Errors
    ///
    /// Fails when the gateway refuses it.
    pub async fn register(&self, set: &[u8], endpoint: SocketAddr, identity: &str) -> Result<()> {
        let request = RegisterDescriptorSetRequest {
            descriptor_set: set.to_vec(),
            services: Vec::new(),
            endpoints: vec![endpoint.to_string()],
            identity: identity.to_owned(),
        };
        self.operation(Role::Administrator)
            .register_descriptor_set(request)
            .await
            .map_err(told)?;
        Ok(())
    }

    /// Offers a directory as the administrator.
    ///
    /// # Errors
    ///
    /// Fails as the gateway says.
    pub async fn publish(&self, envelope: Vec<u8>) -> Result<u64, tonic::Status> {
        let request = PublishDirectoryRequest { envelope };
        let answer = self
            .operation(Role::Administrator)
            .publish_directory(request)
            .await?;
        Ok(answer.into_inner().version)
    }

    /// Has certificates, bundles and CRLs read again at once, as the operator.
    ///
    /// # Errors
    ///
    /// Fails when the gateway refuses.
    pub async fn reload(&self) -> Result<Vec<String>> {
        let answer = self
            .operation(Role::Operator)
            .reload(ReloadRequest {})
            .await?;
        Ok(answer.into_inner().changes)
    }

    /// The gateway's state.
    ///
    /// # Errors
    ///
    /// Fails when it is down.
    pub async fn status(&self) -> Result<GetStatusResponse> {
        let answer = self
            .operation(Role::Operator)
            .get_status(GetStatusRequest {})
            .await?;
        Ok(answer.into_inner())
    }

    fn audit(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.channel(Role::Auditor)).max_decoding_message_size(64 << 20)
    }

    /// Every entry of an exchange, private parts opened.
    ///
    /// # Errors
    ///
    /// Fails when the gateway is down or an entry does not decode.
    pub async fn exchange(&self, id: Uuid) -> Result<Vec<Record>> {
        let request = ShowExchangeRequest {
            exchange_id: id.to_string(),
            open_private: true,
        };
        let answer = self.audit().show_exchange(request).await?.into_inner();
        answer.entries.into_iter().map(Record::decode).collect()
    }

    /// Waits until an exchange holds exactly what `trace` says, and gives its entries.
    ///
    /// # Errors
    ///
    /// Fails when it does not within [`PATIENCE`], with what it holds instead.
    pub async fn holds(&self, id: Uuid, trace: Trace) -> Result<Vec<Record>> {
        let found = wait_for(
            "the exchange's entries",
            Duration::from_secs(15),
            || async {
                let records = self.exchange(id).await.ok()?;
                (held(&records) == Some(trace)).then_some(records)
            },
        )
        .await;
        match found {
            Ok(records) => Ok(records),
            Err(_) => {
                let records = self.exchange(id).await?;
                let kinds: Vec<_> = records.iter().map(|record| record.entry.kind()).collect();
                anyhow::bail!("exchange {id} should hold {trace:?} and holds {kinds:?}")
            }
        }
    }

    /// Entries that match, oldest first.
    ///
    /// # Errors
    ///
    /// Fails when the gateway is down or an entry does not decode.
    pub async fn search(&self, filter: EntryFilter) -> Result<Vec<Record>> {
        let request = SearchEntriesRequest {
            filter: Some(filter),
            limit: 100_000,
            ascending: true,
            cursor: None,
        };
        let mut answers = self.audit().search_entries(request).await?.into_inner();
        let mut records = Vec::new();
        while let Some(answer) = answers.message().await? {
            records.push(Record::decode(
                answer.entry.context("no entry in the answer")?,
            )?);
        }
        Ok(records)
    }

    /// Every entry from an index on.
    ///
    /// # Errors
    ///
    /// Fails when the gateway is down or an entry does not decode.
    pub async fn entries_from(&self, index: u64) -> Result<Vec<Record>> {
        let request = TailEntriesRequest {
            from_index: Some(index),
            filter: None,
            stop_at_end: true,
        };
        let mut answers = self.audit().tail_entries(request).await?.into_inner();
        let mut records = Vec::new();
        while let Some(answer) = answers.message().await? {
            records.push(Record::decode(
                answer.entry.context("no entry in the answer")?,
            )?);
        }
        Ok(records)
    }

    /// How often the summaries count a reason.
    ///
    /// # Errors
    ///
    /// Fails when the gateway is down.
    pub async fn summarised(&self, reason: Reason) -> Result<u64> {
        let filter = EntryFilter {
            kinds: vec![Kind::Summary.into()],
            ..Default::default()
        };
        let records = self.search(filter).await?;
        let summaries = records
            .into_iter()
            .filter_map(|record| record.entry.summary);
        let counts = summaries.flat_map(|summary| summary.counts);
        Ok(counts
            .filter(|count| count.reason() == reason)
            .map(|count| count.count)
            .sum())
    }

    /// Waits until the summaries count a reason more often than `before`.
    ///
    /// # Errors
    ///
    /// Fails when they do not within [`PATIENCE`].
    pub async fn summary_grows(&self, reason: Reason, before: u64) -> Result<()> {
        wait_for(
            &format!("a summary that counts {reason:?}"),
            PATIENCE,
            || async { (self.summarised(reason).await.ok()? > before).then_some(()) },
        )
        .await
    }
}

/// An entry of a ledger.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its place.
    pub index: u64,
    /// The entry.
    pub entry: Entry,
    /// Its private part, where it was opened.
    pub private: Option<PrivatePart>,
}

impl Record {
    fn decode(stored: IndexedEntry) -> Result<Self> {
        let entry = Entry::decode(stored.entry)?;
        Ok(Self {
            index: stored.index,
            entry,
            private: stored.private_part,
        })
    }
}

/// What the entries of one exchange amount to; `None` when they are no whole trace.
pub fn held(records: &[Record]) -> Option<Trace> {
    let count = |kind| {
        records
            .iter()
            .filter(|record| record.entry.kind() == kind)
            .count()
    };
    match (count(Kind::Open), count(Kind::Close), count(Kind::Refused)) {
        (0, 0, 0) => records.is_empty().then_some(Trace::None),
        (0, 0, 1) => (records.len() == 1).then_some(Trace::Refused),
        (1, 1, 0) => Some(Trace::OpenClose),
        (0, 1, 0) => Some(Trace::Close),
        _ => None,
    }
}

/// A grant for everything that `client` may want of `service` for the purpose `case-handling`.
pub fn grant(client: &str, service: &str) -> Grant {
    let now = Clock::system().now_s();
    let moment = |from_now: i64| {
        Some(Timestamp {
            seconds: now + from_now,
            nanos: 0,
        })
    };
    Grant {
        client: client.to_owned(),
        service: service.to_owned(),
        purposes: vec!["case-handling".to_owned()],
        not_before: moment(-60),
        not_after: moment(86_400),
        legal_basis: "政务数据共享条例第二十条".to_owned(),
        request_number: "TEST-1".to_owned(),
        ..Default::default()
    }
}
