//! A service that is killed while it works, again and again: nothing that it answered is lost, and nothing is done twice.

use std::fs;

use banqiao_item::CaseNumber;
use banqiao_kit::DatabaseUrl;
use banqiao_proto::item::v1::{
    ActOnCaseRequest,
    ActorRole::{self, Applicant, Department, Supervisor, Window},
    CaseAction, CaseState,
    case_service_client::CaseServiceClient,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tonic::{Status, transport::Channel};
use tonic_types::StatusExt;

use crate::{
    certificates::Certificates,
    model::{ACTIONS, Model, draws, nothing_is_lost},
    scene::{PASSPORT, QINGDAO, Scene, WEIHAI, config_text, full, start_request},
    service::{DEPARTMENT, Process, SUPERVISOR, WINDOW, by},
};

/// How often the service is killed.
const KILLS: usize = 5;
/// Cases that are open at once.
const OPEN: usize = 6;

/// A step that is asked for.
#[derive(Clone, Debug)]
struct Asked {
    /// Place of its case among the models.
    at: usize,
    client: &'static str,
    home: bool,
    role: ActorRole,
    action: CaseAction,
    request: ActOnCaseRequest,
}

impl Asked {
    fn draw(draw: &mut impl FnMut(usize) -> usize, at: usize, number: CaseNumber) -> Self {
        let action = ACTIONS[draw(ACTIONS.len())];
        let (role, client, home) = match draw(12) {
            0 => (Supervisor, SUPERVISOR, true),
            1 => (Applicant, WINDOW, false),
            2 => (Department, WINDOW, false),
            3..=6 => (Window, WINDOW, false),
            _ => (Department, DEPARTMENT, true),
        };
        Self {
            at,
            client,
            home,
            role,
            action,
            request: full(number, action, role),
        }
    }

    /// The state after the step, or none where it was refused; an error where the service gave no answer.
    async fn send(
        &self,
        mut cases: CaseServiceClient<Channel>,
    ) -> Result<Option<CaseState>, Status> {
        match cases
            .act_on_case(by(self.request.clone(), self.client))
            .await
        {
            Ok(answer) => Ok(Some(answer.into_inner().standing.unwrap().state())),
            Err(status)
                if status
                    .get_details_error_info()
                    .is_some_and(|info| info.domain == "banqiao.item") =>
            {
                Ok(None)
            }
            Err(status) => Err(status),
        }
    }

    fn compare(&self, models: &mut [Model], answered: Option<CaseState>) {
        let model = &mut models[self.at];
        let expected = model.after(self.action, self.role, self.home);
        assert_eq!(answered, expected, "{self:?} on {model:?}");
        if let Some(state) = expected {
            model.took(self.action, state, 0);
        }
    }
}

async fn started(cases: &mut CaseServiceClient<Channel>) -> Model {
    let request = start_request(PASSPORT, QINGDAO, WEIHAI);
    let started = cases.start_case(by(request, WINDOW)).await.unwrap();
    let standing = started.into_inner().standing.unwrap();
    Model::begin(standing.number.parse().unwrap())
}

pub(crate) async fn a_killed_service_loses_nothing_and_does_nothing_twice(scene: Scene) {
    let certificates = Certificates::of_qingdao();
    let folder = certificates.folder.path().to_owned();
    let url = match &scene.settings.url {
        DatabaseUrl::Postgres(url) => url.clone(),
        DatabaseUrl::Sqlite(path) => format!("sqlite://{}", path.display()),
    };
    let config = config_text(&url).replace("\"warn\"", "\"info\"");
    fs::write(folder.join("item.toml"), config).unwrap();
    let mut draw = draws(0x5eed_0b1e_55ed_c0de);
    let mut models: Vec<Model> = Vec::new();
    let mut unanswered: Vec<Asked> = Vec::new();
    for kill in 0..=KILLS {
        let (process, address) = tokio::task::block_in_place(|| Process::serve(&folder));
        let mut cases = CaseServiceClient::new(certificates.gateway(address));
        // What was cut off is sent again as it was, and answered as if it had not been.
        for asked in unanswered.drain(..) {
            let answered = asked.send(cases.clone()).await.unwrap();
            asked.compare(&mut models, answered);
        }
        for _ in 0..30 {
            if models.len() < OPEN || draw(14) == 0 {
                let model = started(&mut cases).await;
                scene.bring_materials(model.number).await;
                models.push(model);
                continue;
            }
            let at = models.len() - 1 - draw(OPEN);
            let asked = Asked::draw(&mut draw, at, models[at].number);
            let answered = asked.send(cases.clone()).await.unwrap();
            asked.compare(&mut models, answered);
        }
        if kill == KILLS {
            tokio::task::block_in_place(|| process.kill());
            break;
        }
        // One step of each open case at once, and death among them.
        let burst: Vec<_> = (models.len() - OPEN..models.len())
            .map(|at| Asked::draw(&mut draw, at, models[at].number))
            .collect();
        let mut sent: FuturesUnordered<_> = burst
            .iter()
            .map(|asked| {
                let cases = cases.clone();
                async move { (asked, asked.send(cases).await) }
            })
            .collect();
        let mut answers = Vec::new();
        for _ in 0..=draw(2) {
            answers.extend(sent.next().await);
        }
        tokio::task::block_in_place(|| process.kill());
        while let Some(answer) = sent.next().await {
            answers.push(answer);
        }
        for (asked, answer) in answers {
            match answer {
                Ok(answered) => asked.compare(&mut models, answered),
                Err(_) => unanswered.push(asked.clone()),
            }
        }
    }
    nothing_is_lost(&scene, &models).await;
}
