//! Which role may call which method.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use banqiao_proto::exchange::v1::Reason;
use http::{Request, Response};
use tonic::body::Body;
use tower::{Layer, Service};

use super::{Actor, Core, refusal};
use crate::config::Role;

const ANY: &[Role] = &Role::ALL;
const ADMINISTRATOR: &[Role] = &[Role::Administrator];
const OPERATOR: &[Role] = &[Role::Operator];
const AUDITOR: &[Role] = &[Role::Auditor];
/// One proposes, the other approves: see `erasure.rs`.
const EITHER: &[Role] = &[Role::Administrator, Role::Auditor];

/// Every method of the listener with the roles that may call it. A method that does not stand here, nobody may call.
pub const METHODS: [(&str, &[Role]); 23] = [
    (
        "/banqiao.directory.v1.AdminService/ArchiveEntries",
        OPERATOR,
    ),
    ("/banqiao.directory.v1.AdminService/Drain", OPERATOR),
    ("/banqiao.directory.v1.AdminService/GetStatus", ANY),
    ("/banqiao.directory.v1.AdminService/ListServices", ANY),
    (
        "/banqiao.directory.v1.AdminService/PublishDirectory",
        ADMINISTRATOR,
    ),
    (
        "/banqiao.directory.v1.AdminService/RegisterDescriptorSet",
        ADMINISTRATOR,
    ),
    ("/banqiao.directory.v1.AdminService/Reload", OPERATOR),
    ("/banqiao.directory.v1.AdminService/ShowDirectory", ANY),
    ("/banqiao.directory.v1.GrantService/AddGrant", ADMINISTRATOR),
    ("/banqiao.directory.v1.GrantService/ExplainGrant", ANY),
    ("/banqiao.directory.v1.GrantService/ListGrants", ANY),
    (
        "/banqiao.directory.v1.GrantService/RevokeGrant",
        ADMINISTRATOR,
    ),
    ("/banqiao.ledger.v1.AuditService/GetEvidence", AUDITOR),
    ("/banqiao.ledger.v1.AuditService/ReadLog", AUDITOR),
    ("/banqiao.ledger.v1.AuditService/Reconcile", AUDITOR),
    ("/banqiao.ledger.v1.AuditService/ReportSubject", AUDITOR),
    ("/banqiao.ledger.v1.AuditService/SearchEntries", AUDITOR),
    ("/banqiao.ledger.v1.AuditService/ShowExchange", AUDITOR),
    ("/banqiao.ledger.v1.AuditService/TailEntries", AUDITOR),
    ("/banqiao.ledger.v1.ErasureService/ApproveErasure", EITHER),
    ("/banqiao.ledger.v1.ErasureService/ListErasures", EITHER),
    ("/banqiao.ledger.v1.ErasureService/ProposeErasure", EITHER),
    ("/banqiao.ledger.v1.ErasureService/WithdrawErasure", EITHER),
];

/// Refuses what the actor's role may not call, and enters the refusal.
#[derive(Clone, Debug)]
pub(super) struct GuardLayer {
    core: Core,
}

impl GuardLayer {
    pub(super) const fn new(core: Core) -> Self {
        Self { core }
    }
}

impl<S> Layer<S> for GuardLayer {
    type Service = Guard<S>;

    fn layer(&self, inner: S) -> Guard<S> {
        Guard {
            inner,
            core: self.core.clone(),
        }
    }
}

/// The layer's service.
#[derive(Clone, Debug)]
pub(super) struct Guard<S> {
    inner: S,
    core: Core,
}

impl<S> Service<Request<Body>> for Guard<S>
where
    S: Service<Request<Body>, Response = Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The clone takes the place of the one that was polled ready.
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let core = self.core.clone();
        Box::pin(async move {
            let actor = request.extensions().get::<Actor>().cloned();
            let allowed = roles(request.uri().path());
            match actor {
                Some(actor) if allowed.contains(&actor.role) => inner.call(request).await,
                Some(actor) => {
                    let action = request.uri().path().trim_start_matches('/').to_owned();
                    let action: String = action
                        .chars()
                        .filter(char::is_ascii_graphic)
                        .take(128)
                        .collect();
                    let needed: Vec<&str> = allowed.iter().map(|role| role.as_str()).collect();
                    let status = match core.refused(&actor, &action, Reason::RoleMissing).await {
                        Ok(()) => refusal(
                            Reason::RoleMissing,
                            format!(
                                "the role {} may not do this; it takes: {}",
                                actor.role,
                                needed.join(", ")
                            ),
                        ),
                        Err(status) => status,
                    };
                    Ok(status.into_http())
                }
                None => {
                    Ok(tonic::Status::unauthenticated("the connection has no role").into_http())
                }
            }
        })
    }
}

fn roles(path: &str) -> &'static [Role] {
    METHODS
        .iter()
        .find(|(method, _)| *method == path)
        .map_or(&[], |(_, roles)| roles)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_admin_method_has_its_roles() {
        let pool = banqiao_proto::descriptors();
        let services = [
            "banqiao.directory.v1.AdminService",
            "banqiao.directory.v1.GrantService",
            "banqiao.ledger.v1.AuditService",
            "banqiao.ledger.v1.ErasureService",
        ];
        let mut methods: Vec<String> = services
            .iter()
            .flat_map(|name| {
                pool.get_service_by_name(name)
                    .unwrap()
                    .methods()
                    .collect::<Vec<_>>()
            })
            .map(|method| format!("/{}/{}", method.parent_service().full_name(), method.name()))
            .collect();
        methods.sort();
        let table: Vec<String> = METHODS.iter().map(|(path, _)| (*path).to_owned()).collect();
        assert_eq!(table, methods);
    }

    #[test]
    fn nobody_both_grants_and_audits() {
        for (path, roles) in METHODS {
            let changes = [
                "AddGrant",
                "RevokeGrant",
                "PublishDirectory",
                "RegisterDescriptorSet",
            ];
            if changes.iter().any(|method| path.ends_with(method)) {
                assert_eq!(roles, ADMINISTRATOR, "{path}");
            }
            if path.contains("AuditService") {
                assert_eq!(roles, AUDITOR, "{path}");
            }
        }
    }
}
