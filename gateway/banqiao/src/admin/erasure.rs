//! `ErasureService`: private parts are erased by two identities, one of the administrator's role and one of the
//! auditor's. Nobody with one role alone erases anything, and no identity approves what it has proposed.

use std::sync::Arc;

use banqiao_directory::holds_identity_number;
use banqiao_ledger::{
    Append, DocumentKind, Effect, Month, Order, Page, Query,
    digest::sha256,
    retention::{Erasable, Kept, kept},
};
use banqiao_proto::ledger::v1::{
    ApproveErasureRequest, ApproveErasureResponse, Entry, EntryFilter, Erase, ErasureProposal,
    Kind, ListErasuresRequest, ListErasuresResponse, ProposeErasureRequest, ProposeErasureResponse,
    SubjectErasure, WithdrawErasureRequest, WithdrawErasureResponse,
    erasure_service_server::ErasureService, propose_erasure_request::Scope, subject_number::Number,
};
use prost::Message as _;
use tokio::sync::Mutex;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::{Actor, Core, audit::unreadable, invalid, unwritable};

/// Most entries of one erasure: their indices stand in one entry.
const MAX_ENTRIES: usize = 4_096;
/// Longest basis and request number, in characters.
const MAX_TEXT: usize = 200;
/// How long a proposal waits: longer than a week, and it is looked at anew.
const LAPSES_US: i64 = 7 * 86_400 * 1_000_000;

/// The service. Approvals of this replica come one after the other.
#[derive(Clone, Debug)]
pub(super) struct Erasures {
    core: Core,
    turn: Arc<Mutex<()>>,
}

/// What a request comes to.
struct Resolved {
    scope: String,
    indices: Vec<u64>,
    month: Option<Month>,
    /// Floors that some of the entries have not passed.
    kept: Vec<(u64, Kept)>,
}

impl Erasures {
    pub(super) fn new(core: Core) -> Self {
        Self {
            core,
            turn: Arc::default(),
        }
    }

    /// The entries or the month that a request names.
    async fn resolve(&self, scope: Option<Scope>) -> Result<Resolved, Status> {
        let reader = self.core.control.ledger().reader();
        let now = self.core.clock.now_us();
        let (scope, wanted) = match scope {
            Some(Scope::Month(text)) => {
                let month = text
                    .parse::<Month>()
                    .map_err(|()| fault("month", "is a month, as 2023-07"))?;
                return self.month(month).await;
            }
            Some(Scope::Entries(entries)) => ("entries".to_owned(), entries.indices),
            Some(Scope::ExchangeId(text)) => {
                let exchange: Uuid = text.parse().map_err(|_| {
                    fault("exchange_id", "is a UUID, as banqiao-exchange-id has it")
                })?;
                let found = reader.exchange(exchange, false).await.map_err(unreadable)?;
                let indices = found.iter().map(|stored| stored.index).collect();
                (format!("exchange {exchange}"), indices)
            }
            Some(Scope::Subject(subject)) => ("subject".to_owned(), self.subject(subject).await?),
            None => return Err(fault("scope", "is required")),
        };
        if wanted.len() > MAX_ENTRIES {
            return Err(fault(
                "scope",
                "has more than 4,096 entries: propose parts of it, by spans of time",
            ));
        }
        let erasable = reader.erasable(&wanted).await.map_err(unreadable)?;
        if erasable.is_empty() {
            return Err(fault("scope", "has no entry with a private part"));
        }
        let kept = below_floors(&erasable, now);
        Ok(Resolved {
            scope,
            indices: erasable.into_iter().map(|it| it.index).collect(),
            month: None,
            kept,
        })
    }

    async fn month(&self, month: Month) -> Result<Resolved, Status> {
        let reader = self.core.control.ledger().reader();
        if !reader.has_keys(month).map_err(unreadable)? {
            return Err(fault(
                "month",
                "has no keys: none were made, or they are destroyed",
            ));
        }
        let now = self.core.clock.now_us();
        // No basis helps here: what one person's right asks for is erased entry by entry.
        if let Some(kept) = reader.month_kept(month, now).await.map_err(unreadable)? {
            let problem = format!("{month} has entries that must be kept {kept}");
            return Err(refused("month", problem));
        }
        if month == Month::of(now) {
            return Err(fault("month", "is the present one"));
        }
        Ok(Resolved {
            scope: format!("month {month}"),
            indices: Vec::new(),
            month: Some(month),
            kept: Vec::new(),
        })
    }

    /// Indices of the entries of a person. At most one more than an erasure may have.
    async fn subject(&self, asked: SubjectErasure) -> Result<Vec<u64>, Status> {
        let number = match asked.subject.and_then(|subject| subject.number) {
            Some(Number::Card(number) | Number::Citizen(number) | Number::Organisation(number)) => {
                number
            }
            None => String::new(),
        };
        if number.trim().is_empty() {
            return Err(fault("subject.subject", "is required"));
        }
        let query = Query::parse(&EntryFilter {
            subject: number,
            from_us: asked.from_us,
            until_us: asked.until_us,
            ..EntryFilter::default()
        });
        let query = query.map_err(|error| fault(error.field, error.problem))?;
        let page = Page {
            limit: MAX_ENTRIES + 1,
            order: Order::Ascending,
            cursor: None,
            open_private: false,
        };
        let reader = self.core.control.ledger().reader();
        let found = reader.search(&query, page).await.map_err(unreadable)?;
        Ok(found.iter().map(|stored| stored.index).collect())
    }

    /// The proposal with an id, and its document.
    async fn proposal(&self, id: &str) -> Result<(ErasureProposal, Vec<u8>), Status> {
        let documents = self
            .core
            .control
            .ledger()
            .documents(DocumentKind::Erasure)
            .await;
        let (_, documents) = documents.map_err(unreadable)?;
        let found = documents.into_iter().find(|document| document.key == id);
        let bytes = found
            .ok_or_else(|| {
                Status::not_found(
                    "no such proposal waits: it was approved, withdrawn or never made",
                )
            })?
            .bytes;
        let proposal = ErasureProposal::decode(bytes.as_slice())
            .map_err(|_| Status::internal("the proposal is malformed"))?;
        Ok((proposal, bytes))
    }
}

#[tonic::async_trait]
impl ErasureService for Erasures {
    async fn propose_erasure(
        &self,
        request: Request<ProposeErasureRequest>,
    ) -> Result<Response<ProposeErasureResponse>, Status> {
        let actor = Actor::of(&request)?;
        somebody(&actor)?;
        let asked = request.into_inner();
        let (basis, request_number) = (asked.basis.trim(), asked.request_number.trim());
        for (field, text) in [("basis", basis), ("request_number", request_number)] {
            if text.chars().count() > MAX_TEXT || text.chars().any(char::is_control) {
                return Err(fault(field, "is a line of at most 200 characters"));
            }
            if holds_identity_number(text) {
                return Err(fault(
                    field,
                    "holds an identity number: it would stay for ever",
                ));
            }
        }
        if request_number.is_empty() {
            return Err(fault("request_number", "is required"));
        }
        let resolved = self.resolve(asked.scope).await?;
        if let Some((index, kept)) = resolved.kept.iter().max_by_key(|(_, kept)| kept.until_us)
            && !basis.starts_with("statutory:")
        {
            let problem = format!(
                "entry {index} must be kept {kept}; below a floor an erasure takes a statutory basis, such as \
                 statutory:个人信息保护法 art. 47"
            );
            return Err(refused("basis", problem));
        }
        let mut floors: Vec<String> = resolved
            .kept
            .iter()
            .map(|(_, kept)| kept.floor.name.to_owned())
            .collect();
        floors.sort();
        floors.dedup();
        let now = self.core.clock.now_us();
        let proposal = ErasureProposal {
            id: Uuid::now_v7().to_string(),
            scope: resolved.scope,
            indices: resolved.indices,
            month: resolved.month.map(|it| it.to_string()).unwrap_or_default(),
            basis: basis.to_owned(),
            request_number: request_number.to_owned(),
            proposer: actor.name.to_string(),
            proposer_role: actor.role.to_string(),
            proposed_at_us: now,
            lapses_at_us: now.saturating_add(LAPSES_US),
            floors,
        };
        let bytes = proposal.encode_to_vec();
        let digests = (Vec::new(), sha256(&bytes).to_vec());
        let effect = Effect::PutDocument {
            kind: DocumentKind::Erasure,
            key: proposal.id.clone(),
            bytes,
        };
        self.core
            .change(
                &actor,
                "erasure.propose",
                &proposal.id,
                digests,
                vec![effect],
            )
            .await?;
        Ok(Response::new(ProposeErasureResponse {
            proposal: Some(proposal),
        }))
    }

    async fn approve_erasure(
        &self,
        request: Request<ApproveErasureRequest>,
    ) -> Result<Response<ApproveErasureResponse>, Status> {
        let actor = Actor::of(&request)?;
        somebody(&actor)?;
        let _turn = self.turn.lock().await;
        let (proposal, _) = self.proposal(&request.get_ref().id).await?;
        if proposal.proposer == *actor.name {
            return Err(refused(
                "id",
                "is your own proposal: it takes a second identity".to_owned(),
            ));
        }
        if proposal.proposer_role == actor.role.as_str() {
            let problem = format!(
                "was proposed by the role {}, and it takes an identity of the other one",
                proposal.proposer_role
            );
            return Err(refused("id", problem));
        }
        if proposal.lapses_at_us <= self.core.clock.now_us() {
            return Err(refused("id", "has lapsed: propose it anew".to_owned()));
        }
        let reader = self.core.control.ledger().reader();
        let mut effects = vec![Effect::DeleteDocument {
            kind: DocumentKind::Erasure,
            key: proposal.id.clone(),
        }];
        let mut private_parts = 0;
        if proposal.month.is_empty() {
            // What was erased since is not erased again.
            let there = reader
                .erasable(&proposal.indices)
                .await
                .map_err(unreadable)?;
            private_parts = there.len() as u64;
            effects.push(Effect::Erase {
                indices: proposal.indices.clone(),
            });
        } else {
            let month = proposal.month.parse::<Month>();
            let month = month.map_err(|()| Status::internal("the proposal is malformed"))?;
            // Entries with an earlier time may have been appended since.
            self.month(month).await?;
            effects.push(Effect::RetireMonth(month));
        }
        let mut append = Append::new(Entry {
            kind: Kind::Erase.into(),
            erase: Some(Erase {
                proposal: proposal.id,
                scope: proposal.scope,
                indices: proposal.indices,
                month: proposal.month,
                basis: proposal.basis,
                request_number: proposal.request_number,
                proposer: proposal.proposer,
                approver: actor.name.to_string(),
                private_parts,
                floors: proposal.floors,
            }),
            ..Entry::default()
        });
        append.effects = effects;
        let appended = self.core.appender.append(append).await;
        let appended = appended.map_err(|error| unwritable(&error))?;
        Ok(Response::new(ApproveErasureResponse {
            index: appended.index,
            private_parts,
        }))
    }

    async fn withdraw_erasure(
        &self,
        request: Request<WithdrawErasureRequest>,
    ) -> Result<Response<WithdrawErasureResponse>, Status> {
        let actor = Actor::of(&request)?;
        let _turn = self.turn.lock().await;
        let (proposal, bytes) = self.proposal(&request.get_ref().id).await?;
        let effect = Effect::DeleteDocument {
            kind: DocumentKind::Erasure,
            key: proposal.id.clone(),
        };
        let digests = (sha256(&bytes).to_vec(), Vec::new());
        self.core
            .change(
                &actor,
                "erasure.withdraw",
                &proposal.id,
                digests,
                vec![effect],
            )
            .await?;
        Ok(Response::new(WithdrawErasureResponse {}))
    }

    async fn list_erasures(
        &self,
        _: Request<ListErasuresRequest>,
    ) -> Result<Response<ListErasuresResponse>, Status> {
        let documents = self
            .core
            .control
            .ledger()
            .documents(DocumentKind::Erasure)
            .await;
        let (_, documents) = documents.map_err(unreadable)?;
        let proposals = documents
            .iter()
            .filter_map(|document| ErasureProposal::decode(document.bytes.as_slice()).ok());
        Ok(Response::new(ListErasuresResponse {
            proposals: proposals.collect(),
        }))
    }
}

/// Refuses whoever came through a socket: it stands for a role, and not for anybody in particular.
fn somebody(actor: &Actor) -> Result<(), Status> {
    if actor.name.starts_with("spiffe://") {
        return Ok(());
    }
    Err(Status::permission_denied(
        "an erasure takes two identities, and a socket stands for nobody in particular: use the admin listener's \
         https address with a certificate",
    ))
}

fn below_floors(erasable: &[Erasable], now_us: i64) -> Vec<(u64, Kept)> {
    erasable
        .iter()
        .flat_map(|it| {
            let kept = kept(&it.entry, now_us).into_iter();
            kept.map(|kept| (it.index, kept))
        })
        .collect()
}

fn fault(field: &str, problem: &str) -> Status {
    invalid(
        "nothing was proposed",
        [(field.to_owned(), problem.to_owned())],
    )
}

/// What may not be erased now, or not by this identity.
fn refused(field: &str, problem: String) -> Status {
    use tonic_types::{ErrorDetails, StatusExt as _};
    let mut details = ErrorDetails::new();
    details.add_bad_request_violation(field, problem);
    Status::with_error_details(
        tonic::Code::FailedPrecondition,
        "nothing was erased",
        details,
    )
}
