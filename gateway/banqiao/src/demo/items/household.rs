//! 户口迁移: applied for in Qingdao alone, done by Qingdao and Yantai together.

use anyhow::{Context as _, Result};
use banqiao_proto::{
    card::v1::CardRecord,
    item::v1::{
        ActOnCaseRequest, CaseAction as A, CaseState, CaseTask, Decision, ReadCaseResponse,
        StartCaseRequest,
    },
};

use super::{
    desk::{Desk, Started, application, result, step, task, with_document},
    move_to,
    passport::reason,
    timeline,
};
use crate::demo::{
    Steps,
    scenario::{Scenario, holder},
};

/// 户口迁移, and 开具户籍类证明.
const ITEM: &str = "JD001";
const CERTIFICATE: &str = "JD008";
/// 迁入地 and 迁出地.
const NEW: &str = "370200";
const OLD: &str = "370600";
/// A synthetic card holder of Qingdao, who works there already.
const HOLDER: u32 = 71;
/// Every step of the case but the notes about its task.
const STEPS: [A; 9] = [
    A::Submit,
    A::Receive,
    A::Accept,
    A::BeginReview,
    A::OpenTask,
    A::Grant,
    A::Conclude,
    A::Deliver,
    A::Evaluate,
];

/// Both cities, and who moves.
struct Scene<'a> {
    window: Desk<'a>,
    new: Desk<'a>,
    old: Desk<'a>,
    holder: CardRecord,
}

pub(super) async fn play(scenario: &mut Scenario<'_>, steps: &Steps) -> Result<()> {
    let (qingdao, yantai) = (scenario.city(NEW)?, scenario.city(OLD)?);
    let scene = Scene {
        window: Desk::window(qingdao).await?,
        new: Desk::department(qingdao).await?,
        old: Desk::department(yantai).await?,
        holder: holder(&qingdao.founder, HOLDER)?,
    };
    let both = [qingdao, yantai];
    move_to(scenario, &both, "2026-03-25").await?;
    scene.certified().await?;
    let (case, register) = scene.accepted(scenario, steps).await?;
    let opened = scene.window.sees(&case, "the task in Yantai", |seen| {
        task_of(seen).is_some_and(|task| !task.number.is_empty())
    });
    let opened = task_of(&opened.await?).context("no task")?;
    move_to(scenario, &both, "2026-03-27").await?;
    let early = scene
        .new
        .attempt(&case, A::Grant, with_document("青准〔2026〕1号"));
    let early = reason(early.await?.err());
    let child = Started {
        number: opened.number.clone(),
        decided_in: yantai,
    };
    scene.old.act(&child, A::BeginReview, step()).await?;
    let granted = with_document("烟迁〔2026〕1号");
    scene.old.act(&child, A::Grant, granted).await?;
    scene.old.act(&child, A::Conclude, step()).await?;
    let done = scene.window.sees(&case, "Yantai's part", |seen| {
        task_of(seen).is_some_and(|task| task.state() == CaseState::Concluded)
    });
    let done = task_of(&done.await?).context("no task")?;
    move_to(scenario, &both, "2026-03-30").await?;
    scene.moved(&case).await?;
    let seen = scene.window.sees(&case, "the rating", |seen| {
        seen.case
            .as_ref()
            .is_some_and(|case| case.state() == CaseState::Evaluated)
    });
    let seen = seen.await?;
    let held = early == "TASKS_OPEN" && done.decision() == Decision::Granted;
    let told = format!(
        "{early} in Qingdao until Yantai has done its part, case {}",
        opened.number
    );
    scenario.check(steps, "household needs both", held, told);
    timeline::show(scenario, steps, "household timeline", &seen, &STEPS);
    let (new, old) = (NEW.parse()?, OLD.parse()?);
    let exchanges = vec![(new, old, register), (new, old, opened.exchange)];
    timeline::in_both_ledgers(
        scenario,
        steps,
        "household exchanges",
        &case,
        &seen,
        exchanges,
    )
    .await
}

fn task_of(seen: &ReadCaseResponse) -> Option<CaseTask> {
    seen.case.as_ref()?.tasks.first().cloned()
}

impl<'a> Scene<'a> {
    /// Yantai certifies the household registration to Qingdao's window, before anybody thinks of moving.
    async fn certified(&self) -> Result<()> {
        let yantai = self.old.city;
        let applied = application(CERTIFICATE, &self.holder, OLD);
        let case = self.window.start(applied, yantai).await?;
        self.old.act(&case, A::Receive, step()).await?;
        let card = self
            .window
            .verify(&case, "identity-card", &self.holder, NEW);
        card.await?.context("Qingdao does not know its card")?;
        self.old
            .act(&case, A::Accept, with_document("烟受〔2026〕1号"))
            .await?;
        self.old
            .act(&case, A::Grant, with_document("烟准〔2026〕1号"))
            .await?;
        let conclude = ActOnCaseRequest {
            result: result("户籍类证明", "烟户证2026-1"),
            ..step()
        };
        self.old.act(&case, A::Conclude, conclude).await
    }

    /// Qingdao accepts the move; Yantai's certificate stands for the household register. Gives the case and the exchange that proves it.
    async fn accepted(
        &self,
        scenario: &mut Scenario<'_>,
        steps: &Steps,
    ) -> Result<(Started<'a>, String)> {
        let qingdao = self.new.city;
        let applied = StartCaseRequest {
            tasks: task("move-out", OLD),
            ..application(ITEM, &self.holder, NEW)
        };
        let case = self.window.start(applied, qingdao).await?;
        self.new.act(&case, A::Receive, step()).await?;
        let card = self
            .window
            .verify(&case, "identity-card", &self.holder, NEW);
        let card = card.await?;
        let register = self
            .window
            .verify(&case, "household-register", &self.holder, NEW);
        let register = register.await?;
        self.new
            .act(&case, A::Accept, with_document("青受〔2026〕1号"))
            .await?;
        self.new.act(&case, A::BeginReview, step()).await?;
        let held = card.is_some() && register.is_some();
        let register = register.unwrap_or_default();
        let seen = format!(
            "nothing is copied: Yantai's certificate stands for the household register, exchange {register}"
        );
        scenario.check(steps, "household register", held, seen);
        Ok((case, register))
    }

    /// Qingdao grants what Yantai has done its part of.
    async fn moved(&self, case: &Started<'_>) -> Result<()> {
        self.new
            .act(case, A::Grant, with_document("青准〔2026〕1号"))
            .await?;
        self.new.act(case, A::Conclude, step()).await?;
        self.window.deliver(case).await?;
        self.window.rate(case, &self.holder).await
    }
}
