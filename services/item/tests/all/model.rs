//! Random steps against the engine and against a simple model of the states, across restarts.

use banqiao_item::CaseNumber;
use banqiao_proto::item::v1::{
    ActorRole::{self, Applicant, Department, Supervisor, Window},
    CaseAction as A, CaseState as S,
};

use crate::scene::{DAY, NOON, PASSPORT, QINGDAO, Scene, WEIHAI};

/// What a department knows of a case without the engine: its state, whether it was handed over, when it was received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Model {
    pub(crate) number: CaseNumber,
    state: S,
    handed_over: bool,
    extended: bool,
    received: i64,
    steps: usize,
}

impl Model {
    /// A case that came in.
    pub(crate) const fn begin(number: CaseNumber) -> Self {
        Self {
            number,
            state: S::Submitted,
            handed_over: false,
            extended: false,
            received: 0,
            steps: 1,
        }
    }

    /// A step was taken.
    pub(crate) fn took(&mut self, action: A, state: S, now: i64) {
        self.state = state;
        self.steps += 1;
        self.handed_over |= action == A::HandOver;
        self.extended |= action == A::Extend;
        if matches!(action, A::Receive | A::Supplement) {
            self.received = now;
        }
    }

    /// The state after a step, written down again from RULES and not from the engine's table.
    pub(crate) fn after(&self, action: A, role: ActorRole, home: bool) -> Option<S> {
        let window = role == Window && !home;
        let department = role == Department && home;
        let applicant = role == Applicant || role == Window;
        let ended = matches!(
            self.state,
            S::NotAccepted | S::Withdrawn | S::Terminated | S::Evaluated
        );
        match (self.state, action) {
            _ if ended => None,
            (S::Submitted, A::Receive) if window => Some(S::Received),
            (S::Received, A::HandOver) if window && !self.handed_over => Some(S::Received),
            (S::Received, A::NotifyCorrection) if department && self.handed_over => {
                Some(S::Correction)
            }
            (S::Received, A::Accept) if department && self.handed_over => Some(S::Accepted),
            (S::Received, A::RefuseAcceptance) if department && self.handed_over => {
                Some(S::NotAccepted)
            }
            (S::Correction, A::Supplement) if applicant => Some(S::Received),
            (S::Accepted, A::BeginReview) if department => Some(S::UnderReview),
            (S::Accepted | S::UnderReview, A::Extend) if department && !self.extended => {
                Some(self.state)
            }
            (S::UnderReview, A::BeginSpecial) if department => Some(S::SpecialProcedure),
            (S::SpecialProcedure, A::EndSpecial) if department => Some(S::UnderReview),
            (S::UnderReview, A::Grant | A::Refuse) if department => Some(S::Decided),
            (S::Decided, A::Conclude) if department => Some(S::Concluded),
            (S::Concluded, A::Deliver) if department || role == Window => Some(S::Delivered),
            (S::Delivered | S::Decided | S::Concluded, _) => None,
            (_, A::Withdraw) if applicant => Some(S::Withdrawn),
            (S::Submitted, A::Terminate) => None,
            (_, A::Terminate) if home && (role == Department || role == Supervisor) => {
                Some(S::Terminated)
            }
            _ => None,
        }
    }
}

pub(crate) const ACTIONS: [A; 18] = [
    A::Receive,
    A::HandOver,
    A::NotifyCorrection,
    A::Supplement,
    A::Accept,
    A::RefuseAcceptance,
    A::BeginReview,
    A::BeginReview,
    A::BeginSpecial,
    A::EndSpecial,
    A::Extend,
    A::Grant,
    A::Refuse,
    A::Conclude,
    A::Deliver,
    A::Withdraw,
    A::Terminate,
    A::DeemAccepted,
];

pub(crate) fn draws(mut seed: u64) -> impl FnMut(usize) -> usize {
    move |limit| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(seed >> 33).unwrap() % limit
    }
}

pub(crate) async fn a_random_run_agrees_with_a_model_across_restarts(scene: Scene) {
    let mut scene = scene;
    let mut draw = draws(0x9e37_79b9_7f4a_7c15);
    let mut models: Vec<Model> = Vec::new();
    let mut now = NOON;
    for step in 0..900 {
        if models.len() < 6 || draw(14) == 0 {
            let number = scene.started(PASSPORT, WEIHAI).await;
            models.push(Model::begin(number));
            continue;
        }
        if draw(30) == 0 {
            scene = scene.replica().await;
            continue;
        }
        if draw(10) == 0 {
            now += DAY;
            scene.clock.set_us(now);
            scene.cases.run_clocks().await.unwrap();
        }
        let recent = models.len().min(6);
        let at = models.len() - 1 - draw(recent);
        let model = &mut models[at];
        let calendar = scene.calendars.current();
        if model.state == S::Received && now >= calendar.deadline(model.received, 5).unwrap() {
            model.state = S::Accepted;
        }
        let action = ACTIONS[draw(ACTIONS.len())];
        // Mostly whoever may, sometimes whoever may not.
        let (role, from) = match draw(12) {
            0 => (Supervisor, QINGDAO),
            1 => (Applicant, WEIHAI),
            2 => (Department, WEIHAI),
            3..=6 => (Window, WEIHAI),
            _ => (Department, QINGDAO),
        };
        let expected = model.after(action, role, from == QINGDAO);
        let taken = scene.step(model.number, action, role, from).await;
        assert_eq!(
            taken.as_ref().ok().map(|answered| answered.standing.state),
            expected,
            "step {step}: {action:?} as {role:?} from {from} on {model:?}: {taken:?}"
        );
        if let Some(state) = expected {
            model.took(action, state, now);
        }
    }
    nothing_is_lost(&scene, &models).await;
}

pub(crate) async fn nothing_is_lost(scene: &Scene, models: &[Model]) {
    let mut entries = 0;
    for model in models {
        let history = scene.history(model.number).await;
        assert!(
            (1..)
                .zip(&history)
                .all(|(version, event)| event.version == version),
            "no version is missing"
        );
        assert!(
            history.windows(2).all(|pair| pair[0].to == pair[1].from),
            "no illegal step"
        );
        let by_clients = history
            .iter()
            .filter(|event| !event.client.is_empty())
            .count();
        assert_eq!(by_clients, model.steps, "no lost history");
        entries += history.len();
    }
    let filter = banqiao_item::EventFilter::Department {
        department: String::new(),
        warnings_only: false,
    };
    let all = scene.store.events(&filter, 0, 100_000).await.unwrap();
    assert_eq!(all.len(), entries);
    assert!(
        (1..).zip(&all).all(|(seq, event)| event.seq == seq),
        "without a gap"
    );
}
