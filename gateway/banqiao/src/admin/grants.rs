//! `GrantService`.

use banqiao_directory::SpiffeId;
use banqiao_ledger::{DocumentKind, Effect, digest::sha256};
use banqiao_policy::{ClientPattern, Grant};
use banqiao_proto::directory::v1::{
    AddGrantRequest, AddGrantResponse, ExplainGrantRequest, ExplainGrantResponse, Grant as Stored,
    ListGrantsRequest, ListGrantsResponse, RevokeGrantRequest, RevokeGrantResponse,
    grant_service_server::GrantService,
};
use prost::Message as _;
use prost_types::Timestamp;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Actor, Core, invalid};

/// Longest reason of a revocation, in characters.
const MAX_REASON: usize = 500;

pub(super) struct Grants(pub(super) Core);

#[tonic::async_trait]
impl GrantService for Grants {
    async fn add_grant(
        &self,
        request: Request<AddGrantRequest>,
    ) -> Result<Response<AddGrantResponse>, Status> {
        let actor = Actor::of(&request)?;
        let mut grant = request
            .into_inner()
            .grant
            .ok_or_else(|| invalid("no grant", [("grant".to_owned(), "is required".to_owned())]))?;
        grant.id = Uuid::now_v7().to_string();
        grant.created_at = Some(timestamp(self.0.clock.now_us()));
        actor.name.as_ref().clone_into(&mut grant.created_by);
        grant.revoked_at = None;
        grant.revoked_by = String::new();
        grant.revoke_reason = String::new();
        let snapshot = self.0.control.snapshot();
        let catalog = snapshot.catalog.catalog();
        let grant =
            Grant::parse(grant, Some(&snapshot.directory), Some(catalog)).map_err(|faults| {
                let faults = faults
                    .iter()
                    .map(|fault| (format!("grant.{}", fault.path), fault.problem.to_string()));
                invalid("the grant has faults", faults)
            })?;
        let stored = grant.proto().clone();
        self.put(&actor, "grant.add", Vec::new(), &stored).await?;
        Ok(Response::new(AddGrantResponse {
            grant: Some(stored),
        }))
    }

    async fn list_grants(
        &self,
        request: Request<ListGrantsRequest>,
    ) -> Result<Response<ListGrantsResponse>, Status> {
        let asked = request.into_inner();
        let client = Wanted::parse(&asked.client)?;
        let snapshot = self.0.control.snapshot();
        let now = self.0.clock.now_us();
        let grants = snapshot.grants.grants().filter(|grant| {
            (asked.include_ended || (grant.revoked_at_us().is_none() && grant.not_after_us() > now))
                && (asked.service.is_empty() || **grant.service() == *asked.service)
                && client.fits(grant)
        });
        Ok(Response::new(ListGrantsResponse {
            grants: grants.map(|grant| grant.proto().clone()).collect(),
            set_digest: snapshot.grants_digest.to_vec(),
        }))
    }

    async fn revoke_grant(
        &self,
        request: Request<RevokeGrantRequest>,
    ) -> Result<Response<RevokeGrantResponse>, Status> {
        let actor = Actor::of(&request)?;
        let asked = request.into_inner();
        let mut faults = Vec::new();
        let id = asked.id.parse::<Uuid>();
        if id.is_err() {
            faults.push(("id".to_owned(), "is the grant's UUID".to_owned()));
        }
        if asked.reason.trim().is_empty() || asked.reason.chars().count() > MAX_REASON {
            let rule = "is required, at most 500 characters (政务数据共享条例 art. 27: no ending without cause)";
            faults.push(("reason".to_owned(), rule.to_owned()));
        }
        let (Ok(id), []) = (id, &*faults) else {
            return Err(invalid("the grant was not revoked", faults));
        };
        let snapshot = self.0.control.snapshot();
        let grant = snapshot
            .grants
            .grant(&id)
            .ok_or_else(|| Status::not_found("no such grant"))?;
        if grant.revoked_at_us().is_some() {
            // The first revocation stands.
            return Ok(Response::new(RevokeGrantResponse {
                grant: Some(grant.proto().clone()),
            }));
        }
        let before = sha256(&grant.proto().encode_to_vec()).to_vec();
        let mut stored = grant.proto().clone();
        stored.revoked_at = Some(timestamp(self.0.clock.now_us()));
        actor.name.as_ref().clone_into(&mut stored.revoked_by);
        stored.revoke_reason = asked.reason;
        self.put(&actor, "grant.revoke", before, &stored).await?;
        Ok(Response::new(RevokeGrantResponse {
            grant: Some(stored),
        }))
    }

    async fn explain_grant(
        &self,
        request: Request<ExplainGrantRequest>,
    ) -> Result<Response<ExplainGrantResponse>, Status> {
        let asked = request.into_inner();
        let client: SpiffeId = asked.client.parse().map_err(|error| {
            invalid(
                "the client is not known",
                [("client".to_owned(), format!("{error}"))],
            )
        })?;
        let snapshot = self.0.control.snapshot();
        let path = if asked.method.starts_with('/') {
            asked.method
        } else {
            format!("/{}", asked.method)
        };
        let method = snapshot.catalog.catalog().method(&path).ok_or_else(|| {
            let problem =
                "is no method that this gateway carries; `banqiao catalog list` shows them";
            invalid(
                "the method is not known",
                [("method".to_owned(), problem.to_owned())],
            )
        })?;
        let at = asked.at.map_or_else(
            || self.0.clock.now_us(),
            |at| {
                at.seconds
                    .saturating_mul(1_000_000)
                    .saturating_add(i64::from(at.nanos / 1_000))
            },
        );
        let explanation = snapshot.grants.explain(&client, method, &asked.purpose, at);
        Ok(Response::new(ExplainGrantResponse::from(&explanation)))
    }
}

impl Grants {
    /// Stores a grant with its entry; it holds at this replica before the answer leaves.
    async fn put(
        &self,
        actor: &Actor,
        action: &str,
        before: Vec<u8>,
        grant: &Stored,
    ) -> Result<(), Status> {
        let bytes = grant.encode_to_vec();
        let after = sha256(&bytes).to_vec();
        let effect = Effect::PutDocument {
            kind: DocumentKind::Grant,
            key: grant.id.clone(),
            bytes,
        };
        self.0
            .change(actor, action, &grant.id, (before, after), vec![effect])
            .await?;
        self.0.control.reread().await;
        Ok(())
    }
}

/// The client that a list is asked for.
enum Wanted {
    Any,
    Client(SpiffeId),
    Pattern(ClientPattern),
}

impl Wanted {
    fn parse(text: &str) -> Result<Self, Status> {
        if text.is_empty() {
            return Ok(Self::Any);
        }
        let problem = || {
            let rule = "is a SPIFFE ID, or a prefix that ends in /*";
            invalid(
                "the client is not known",
                [("client".to_owned(), rule.to_owned())],
            )
        };
        match text.parse() {
            Ok(client) => Ok(Self::Client(client)),
            Err(_) => text.parse().map(Self::Pattern).map_err(|_| problem()),
        }
    }

    fn fits(&self, grant: &Grant) -> bool {
        match self {
            Self::Any => true,
            Self::Client(client) => grant.covers_client(client),
            Self::Pattern(pattern) => grant.client() == pattern,
        }
    }
}

pub(super) fn timestamp(us: i64) -> Timestamp {
    Timestamp {
        seconds: us.div_euclid(1_000_000),
        nanos: i32::try_from(us.rem_euclid(1_000_000)).unwrap_or(0) * 1_000,
    }
}
