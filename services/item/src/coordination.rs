//! 多地联办: the service of a joint case opens the tasks at the other cities, looks at them, and undoes them when the case cannot be
//! granted. Each of these calls goes through the gateways and is an exchange.
//!
//! Request ids are made of the case and the task, so that a call whose answer was lost is repeated and not done twice.

use std::{fmt, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use banqiao_directory::CityCode;
use banqiao_kit::{
    Answer, Asserted, Basis, CallRefusal, Destination, Gateway, OutgoingCall, Purpose,
};
use banqiao_proto::item::v1::{
    ActOnCaseRequest, ActorRole, CaseAction, CaseState, Decision, ParentCase, ReadCaseRequest,
    ReadCaseResponse, StartCaseRequest, case_service_client::CaseServiceClient,
};
use banqiao_telemetry::Chain;
use uuid::Uuid;

use crate::{
    case::{Case, CaseNumber, CaseTask, by_itself},
    cases::{CaseError, Cases},
    store::{Pending, StoreError},
};

/// Purpose of the calls.
const PURPOSE: &str = "case-handling";
/// Legal basis of the calls: 各地政府内部协同, 材料经平台共享.
const BASIS: &str = "国办发〔2020〕35号";
/// Joint cases that a pass reads at once.
const PAGE: i64 = 64;
/// Why a task is undone; its own city's history holds it.
const REASON: &str = "联办件不能准予, 撤销本地办理结果";

/// Another city's case service, as the coordinator needs it.
#[tonic::async_trait]
pub trait Network: fmt::Debug + Send + Sync {
    /// Starts the case of a task, and gives its number and the exchange.
    ///
    /// # Errors
    /// The refusal.
    async fn start(
        &self,
        city: CityCode,
        parent: CaseNumber,
        request: StartCaseRequest,
    ) -> Result<Answer<String>, CallRefusal>;

    /// Takes the case of a task one step on.
    ///
    /// # Errors
    /// The refusal.
    async fn act(
        &self,
        city: CityCode,
        parent: CaseNumber,
        request: ActOnCaseRequest,
    ) -> Result<(), CallRefusal>;

    /// Reads the case of a task.
    ///
    /// # Errors
    /// The refusal.
    async fn read(
        &self,
        city: CityCode,
        parent: CaseNumber,
        request: ReadCaseRequest,
    ) -> Result<ReadCaseResponse, CallRefusal>;
}

/// The network through the city's own gateway.
#[derive(Clone, Debug)]
pub struct ThroughGateway {
    gateway: Gateway,
    purpose: Purpose,
}

impl ThroughGateway {
    /// None when the purpose is no purpose, which a test excludes.
    pub fn new(gateway: Gateway) -> Option<Self> {
        let purpose = Purpose::parse(PURPOSE)?;
        Some(Self { gateway, purpose })
    }

    /// The gateway.
    pub(crate) const fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    fn client(
        &self,
        city: CityCode,
        parent: CaseNumber,
    ) -> CaseServiceClient<banqiao_kit::GatewayChannel> {
        let basis = Basis::Statutory(BASIS.to_owned());
        let mut call = OutgoingCall::new(Destination::City(city), self.purpose.clone(), basis);
        if let Some(case) = Asserted::parse(parent.as_str()) {
            call = call.case(case);
        }
        CaseServiceClient::new(self.gateway.channel(&call))
    }
}

#[tonic::async_trait]
impl Network for ThroughGateway {
    async fn start(
        &self,
        city: CityCode,
        parent: CaseNumber,
        request: StartCaseRequest,
    ) -> Result<Answer<String>, CallRefusal> {
        let answer = Answer::of(self.client(city, parent).start_case(request).await)?;
        let standing = answer.message.standing.unwrap_or_default();
        Ok(Answer {
            message: standing.number,
            exchange: answer.exchange,
        })
    }

    async fn act(
        &self,
        city: CityCode,
        parent: CaseNumber,
        request: ActOnCaseRequest,
    ) -> Result<(), CallRefusal> {
        Answer::of(self.client(city, parent).act_on_case(request).await).map(|_| ())
    }

    async fn read(
        &self,
        city: CityCode,
        parent: CaseNumber,
        request: ReadCaseRequest,
    ) -> Result<ReadCaseResponse, CallRefusal> {
        let answer = Answer::of(self.client(city, parent).read_case(request).await);
        answer.map(|answer| answer.message)
    }
}

/// Coordinates the joint cases of a city. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Coordinator {
    cases: Cases,
    network: Arc<dyn Network>,
}

impl Coordinator {
    /// A coordinator of a city's cases.
    pub fn new(cases: Cases, network: Arc<dyn Network>) -> Self {
        Self { cases, network }
    }

    /// Goes once over every joint case that has something to do. A city that does not answer is asked again the next time.
    ///
    /// # Errors
    /// See [`CaseError`].
    pub async fn pass(&self) -> Result<(), CaseError> {
        let mut after = None;
        loop {
            let pending = Pending::Coordination(after);
            let cases = self.cases.store().pending(pending, PAGE).await?;
            let Some(last) = cases.last() else {
                return Ok(());
            };
            after = Some(last.number);
            for case in &cases {
                self.coordinate(case).await?;
            }
        }
    }

    async fn coordinate(&self, case: &Case) -> Result<(), CaseError> {
        let undo = case.is_lost() || case.has_failed_task();
        for task in &case.tasks {
            let outcome = match task.number {
                // Nobody was asked, so there is nothing to undo. Where an answer was lost, asking again gives it.
                None if undo && !task.asked => Ok(()),
                None => self.open(case, task).await?,
                Some(number) if undo => self.undo(case, task, number).await?,
                Some(number) => self.look(case, task, number).await?,
            };
            if let Err(refusal) = outcome {
                let (task, city) = (&task.task, task.city);
                tracing::warn!(case = %case.number, task, %city, error = %Chain(&refusal), "a task waits");
            }
        }
        Ok(())
    }

    async fn open(
        &self,
        case: &Case,
        task: &CaseTask,
    ) -> Result<Result<(), CallRefusal>, CaseError> {
        let asked = |task: &mut CaseTask| task.asked = true;
        // Written down before the call, so that a case that is lost meanwhile still undoes what the call did.
        if !task.asked
            && !self
                .note(case.number, &task.task, CaseAction::OpenTask, asked)
                .await?
        {
            return Ok(Ok(()));
        }
        let request = StartCaseRequest {
            request_id: request_id(case.number, &task.task, "open").to_string(),
            item_id: case.item.to_string(),
            division: task.city.to_string(),
            receiving_city: case.deciding_city.to_string(),
            role: ActorRole::Coordinator.into(),
            applicant: Some(case.applicant.shown()),
            channel: case.channel.into(),
            parent: Some(ParentCase {
                number: case.number.to_string(),
                task: task.task.clone(),
            }),
            ..StartCaseRequest::default()
        };
        let answer = match self.network.start(task.city, case.number, request).await {
            Ok(answer) => answer,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let number =
            CaseNumber::parse(&answer.message).map_err(|_| StoreError::Corrupt("task's number"))?;
        let exchange = answer
            .exchange
            .map_or_else(String::new, |exchange| exchange.to_string());
        self.note(case.number, &task.task, CaseAction::NoteTask, |task| {
            task.number = Some(number);
            task.state = CaseState::Accepted;
            task.exchange.clone_from(&exchange);
        })
        .await?;
        Ok(Ok(()))
    }

    async fn look(
        &self,
        case: &Case,
        task: &CaseTask,
        number: CaseNumber,
    ) -> Result<Result<(), CallRefusal>, CaseError> {
        let request = ReadCaseRequest {
            number: number.to_string(),
        };
        let answer = match self.network.read(task.city, case.number, request).await {
            Ok(answer) => answer.case.unwrap_or_default(),
            Err(refusal) => return Ok(Err(refusal)),
        };
        let (state, decision): (CaseState, Decision) = (answer.state(), answer.decision());
        if (state, decision) != (task.state, task.decision) {
            self.note(case.number, &task.task, CaseAction::NoteTask, |task| {
                (task.state, task.decision) = (state, decision);
            })
            .await?;
        }
        Ok(Ok(()))
    }

    /// Undoes a task, unless it ended by itself without a grant.
    async fn undo(
        &self,
        case: &Case,
        task: &CaseTask,
        number: CaseNumber,
    ) -> Result<Result<(), CallRefusal>, CaseError> {
        if task.compensated || task.state == CaseState::Terminated {
            return Ok(Ok(()));
        }
        let request = ActOnCaseRequest {
            request_id: request_id(case.number, &task.task, "undo").to_string(),
            number: number.to_string(),
            action: CaseAction::Compensate.into(),
            role: ActorRole::Coordinator.into(),
            reason: REASON.to_owned(),
            ..ActOnCaseRequest::default()
        };
        if let Err(refusal) = self.network.act(task.city, case.number, request).await {
            // It may have ended meanwhile: then there is nothing to undo.
            let ended = self.look(case, task, number).await?;
            return Ok(ended.and(Err(refusal)));
        }
        self.note(case.number, &task.task, CaseAction::NoteTask, |task| {
            task.state = CaseState::Terminated;
            task.compensated = true;
        })
        .await?;
        Ok(Ok(()))
    }

    /// Writes down what became of a task, and says whether the case still stood so that it could be.
    async fn note(
        &self,
        number: CaseNumber,
        id: &str,
        action: CaseAction,
        change: impl Fn(&mut CaseTask),
    ) -> Result<bool, CaseError> {
        let noted = self.cases.by_itself(number, |case, calendar, now_us| {
            let place = case.tasks.iter().position(|task| task.task == id)?;
            let mut event = by_itself(case, action, calendar, now_us)?;
            id.clone_into(&mut event.detail.task);
            change(&mut case.tasks[place]);
            Some(event)
        });
        noted.await
    }
}

/// The same id for the same thing, whoever asks and however often: a UUID of version 8 (RFC 9562 art. 5.8) from SHA-256.
fn request_id(case: CaseNumber, task: &str, what: &str) -> Uuid {
    let text = format!("banqiao.item {case} {task} {what}");
    let mut bytes = [0; 16];
    for (byte, hashed) in bytes
        .iter_mut()
        .zip(digest(&SHA256, text.as_bytes()).as_ref())
    {
        *byte = *hashed;
    }
    bytes[6] = (bytes[6] & 0x0f) | 0x80;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    Uuid::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_purpose_of_the_calls_is_a_purpose() {
        assert!(Purpose::parse(PURPOSE).is_some());
    }

    #[test]
    fn request_ids_are_stable_and_differ() {
        let number = CaseNumber::parse("3702022026112300000001A").unwrap();
        let id = request_id(number, "move-out", "open");
        assert_eq!(id, request_id(number, "move-out", "open"));
        assert_ne!(id, request_id(number, "move-out", "undo"));
        assert_eq!((id.get_version_num(), id.to_string().len()), (8, 36));
    }
}
