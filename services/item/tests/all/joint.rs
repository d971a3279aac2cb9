//! 多地联办 between two cities, each with a service and a database of its own.

use std::sync::Arc;

use banqiao_directory::CityCode;
use banqiao_item::{CaseNumber, Coordinator, DOMAIN, Network};
use banqiao_kit::{Answer, CallError, CallRefusal, ExchangeId, rescue};
use banqiao_proto::item::v1::{
    ActOnCaseRequest, ActorRole, CaseAction as A, CaseState as S, Decision, ReadCaseRequest,
    ReadCaseResponse, StartCaseRequest,
};
use parking_lot::Mutex;
use tempfile::TempDir;
use uuid::Uuid;

use crate::scene::{DAY, MOVE, QINGDAO, Scene, YANTAI, city, refusal};

/// The other city's engine, reached without gateways; it may be away.
#[derive(Clone)]
struct Near {
    other: Arc<Scene>,
    away: Arc<Mutex<bool>>,
    /// Cases are started, but the answers do not come back.
    answers_lost: Arc<Mutex<bool>>,
    calls: Arc<Mutex<usize>>,
}

impl std::fmt::Debug for Near {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Near")
    }
}

fn refused(error: impl Into<CallError>) -> CallRefusal {
    CallRefusal::of(&rescue(error.into(), DOMAIN, None))
}

impl Near {
    fn reach(&self) -> Result<(), CallRefusal> {
        *self.calls.lock() += 1;
        if *self.away.lock() {
            Err(refused(CallError::Stopping))
        } else {
            Ok(())
        }
    }
}

#[tonic::async_trait]
impl Network for Near {
    async fn start(
        &self,
        to: CityCode,
        _: CaseNumber,
        request: StartCaseRequest,
    ) -> Result<Answer<String>, CallRefusal> {
        self.reach()?;
        assert_eq!(to, self.other.cases.city());
        let answer = self.other.start(&request, QINGDAO).await.map_err(refused)?;
        if *self.answers_lost.lock() {
            return Err(refused(CallError::Stopping));
        }
        let exchange = ExchangeId {
            exchange: Uuid::now_v7(),
            attempt: 1,
        };
        Ok(Answer {
            message: answer.standing.number.to_string(),
            exchange: Some(exchange),
        })
    }

    async fn act(
        &self,
        _: CityCode,
        _: CaseNumber,
        request: ActOnCaseRequest,
    ) -> Result<(), CallRefusal> {
        self.reach()?;
        self.other
            .ask(&request, QINGDAO)
            .await
            .map(|_| ())
            .map_err(refused)
    }

    async fn read(
        &self,
        _: CityCode,
        _: CaseNumber,
        request: ReadCaseRequest,
    ) -> Result<ReadCaseResponse, CallRefusal> {
        self.reach()?;
        let number = request.number.parse().unwrap();
        let (case, _) = self
            .other
            .cases
            .read(number, city(QINGDAO))
            .await
            .map_err(refused)?;
        Ok(ReadCaseResponse {
            case: Some(case.shown()),
            history: Vec::new(),
        })
    }
}

struct Both {
    _folder: TempDir,
    yantai: Arc<Scene>,
    near: Near,
    coordinator: Coordinator,
    parent: CaseNumber,
}

/// A joint case of the scene's city, under review, and Yantai's service.
async fn both(scene: &Scene) -> Both {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("yantai.db").display());
    let yantai = Arc::new(Scene::of(&url, YANTAI, scene.clock.clone()).await);
    let near = Near {
        other: Arc::clone(&yantai),
        away: Arc::default(),
        answers_lost: Arc::default(),
        calls: Arc::default(),
    };
    let coordinator = Coordinator::new(scene.cases.clone(), Arc::new(near.clone()));
    let parent = scene.accepted(MOVE, QINGDAO).await;
    scene.decide(parent, &[A::BeginReview]).await;
    Both {
        _folder: folder,
        yantai,
        near,
        coordinator,
        parent,
    }
}

impl Both {
    /// Opens the task, and gives its number.
    async fn opened(&self, scene: &Scene) -> CaseNumber {
        self.coordinator.pass().await.unwrap();
        scene.case(self.parent).await.tasks[0].number.unwrap()
    }
}

pub(crate) async fn a_joint_case_completes_when_its_tasks_do(scene: Scene) {
    let both = both(&scene).await;
    *both.near.away.lock() = true;
    both.coordinator.pass().await.unwrap();
    assert_eq!(
        scene.case(both.parent).await.tasks[0].number,
        None,
        "a city that is away is asked again"
    );
    assert_eq!(
        refusal(
            scene
                .step(both.parent, A::Grant, ActorRole::Department, QINGDAO)
                .await
        ),
        "TASKS_OPEN"
    );
    *both.near.away.lock() = false;
    let task = both.opened(&scene).await;
    let child = both.yantai.case(task).await;
    assert_eq!(
        (child.state, child.parent.as_ref().unwrap().number),
        (S::Accepted, both.parent)
    );
    assert_eq!(
        (child.item_name.as_str(), child.department.as_str()),
        ("迁出地办理迁出", "公安")
    );
    assert!(!scene.case(both.parent).await.tasks[0].exchange.is_empty());
    assert_eq!(child.terms.legal, Some(20), "行政许可法 art. 43");
    both.yantai
        .decide(task, &[A::BeginReview, A::Grant, A::Conclude])
        .await;
    both.coordinator.pass().await.unwrap();
    let calls = *both.near.calls.lock();
    both.coordinator.pass().await.unwrap();
    assert_eq!(
        *both.near.calls.lock(),
        calls,
        "what is over is not asked for again"
    );
    scene
        .decide(both.parent, &[A::Grant, A::Conclude, A::Deliver])
        .await;
    assert_eq!(scene.case(both.parent).await.decision, Decision::Granted);
    let actions = scene.actions(both.parent).await;
    assert_eq!(actions[4..7], [A::OpenTask, A::NoteTask, A::NoteTask]);
}

pub(crate) async fn a_refused_task_refuses_the_case(scene: Scene) {
    let both = both(&scene).await;
    let task = both.opened(&scene).await;
    both.yantai
        .decide(task, &[A::BeginReview, A::Refuse, A::Conclude])
        .await;
    both.coordinator.pass().await.unwrap();
    assert_eq!(
        refusal(
            scene
                .step(both.parent, A::Grant, ActorRole::Department, QINGDAO)
                .await
        ),
        "TASK_FAILED"
    );
    scene.decide(both.parent, &[A::Refuse]).await;
    both.coordinator.pass().await.unwrap();
    scene.decide(both.parent, &[A::Conclude]).await;
    assert_eq!(both.yantai.state(task).await, S::Terminated);
}

pub(crate) async fn what_a_task_did_is_undone_when_the_case_is_lost(scene: Scene) {
    for end in [A::Refuse, A::Withdraw, A::Terminate] {
        let both = both(&scene).await;
        let task = both.opened(&scene).await;
        both.yantai
            .decide(task, &[A::BeginReview, A::Grant, A::Conclude])
            .await;
        both.coordinator.pass().await.unwrap();
        let role = if end == A::Withdraw {
            ActorRole::Window
        } else {
            ActorRole::Department
        };
        scene.step(both.parent, end, role, QINGDAO).await.unwrap();
        *both.near.away.lock() = true;
        both.coordinator.pass().await.unwrap();
        assert_eq!(
            both.yantai.state(task).await,
            S::Concluded,
            "not reached yet"
        );
        *both.near.away.lock() = false;
        both.coordinator.pass().await.unwrap();
        let undone = both.yantai.history(task).await;
        let undone = undone.last().unwrap();
        assert_eq!(
            (undone.action, undone.city, undone.to),
            (A::Compensate, city(QINGDAO), S::Terminated)
        );
        let case = scene.case(both.parent).await;
        assert!(
            case.tasks[0].compensated && !case.needs_coordination(),
            "{end:?}"
        );
    }
}

pub(crate) async fn a_task_whose_answer_was_lost_is_undone_too(scene: Scene) {
    let both = both(&scene).await;
    *both.near.answers_lost.lock() = true;
    both.coordinator.pass().await.unwrap();
    let task = scene.case(both.parent).await.tasks[0].clone();
    assert_eq!((task.asked, task.number), (true, None));
    scene
        .step(both.parent, A::Withdraw, ActorRole::Window, QINGDAO)
        .await
        .unwrap();
    *both.near.answers_lost.lock() = false;
    both.coordinator.pass().await.unwrap();
    both.coordinator.pass().await.unwrap();
    let case = scene.case(both.parent).await;
    assert!(case.tasks[0].compensated && !case.needs_coordination());
    let number = case.tasks[0].number.unwrap();
    assert_eq!(both.yantai.state(number).await, S::Terminated);
    // A case that was lost before anybody was asked asks nobody.
    let unasked = scene.accepted(MOVE, QINGDAO).await;
    scene.decide(unasked, &[A::BeginReview, A::Terminate]).await;
    let calls = *both.near.calls.lock();
    both.coordinator.pass().await.unwrap();
    assert_eq!(*both.near.calls.lock(), calls);
}

pub(crate) async fn only_the_case_s_own_city_coordinates_a_task(scene: Scene) {
    let both = both(&scene).await;
    let task = both.opened(&scene).await;
    let own = both
        .yantai
        .step(task, A::Compensate, ActorRole::Coordinator, YANTAI)
        .await;
    assert_eq!(refusal(own), "PLACE_NOT_ALLOWED");
    let applicant = both
        .yantai
        .step(task, A::Withdraw, ActorRole::Applicant, QINGDAO)
        .await;
    assert_eq!(refusal(applicant), "TRANSITION_NOT_ALLOWED");
    // A restarted coordinator asks with the same request ids, so nothing is opened twice.
    scene.clock.advance_us(DAY);
    let again = Coordinator::new(scene.replica().await.cases, Arc::new(both.near.clone()));
    again.pass().await.unwrap();
    let filter = banqiao_item::EventFilter::Department {
        department: String::new(),
        warnings_only: false,
    };
    assert_eq!(
        both.yantai
            .store
            .events(&filter, 0, 10)
            .await
            .unwrap()
            .len(),
        1
    );
}

/// Does the task of a joint case at the other city.
pub(crate) async fn with_tasks_done(scene: &Scene, parent: CaseNumber) {
    let folder = TempDir::new().unwrap();
    let url = format!("sqlite://{}", folder.path().join("other.db").display());
    let other = Arc::new(Scene::of(&url, YANTAI, scene.clock.clone()).await);
    let near = Near {
        other: Arc::clone(&other),
        away: Arc::default(),
        answers_lost: Arc::default(),
        calls: Arc::default(),
    };
    let coordinator = Coordinator::new(scene.cases.clone(), Arc::new(near));
    coordinator.pass().await.unwrap();
    for task in scene.case(parent).await.tasks {
        other
            .decide(
                task.number.unwrap(),
                &[A::BeginReview, A::Grant, A::Conclude],
            )
            .await;
    }
    coordinator.pass().await.unwrap();
}
