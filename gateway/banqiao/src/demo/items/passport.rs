//! 普通护照异地申领: collected in Rizhao, decided in Weifang, with a correction and a special procedure.

use anyhow::{Context as _, Result};
use banqiao_proto::{
    card::v1::CardRecord,
    item::v1::{
        ActOnCaseRequest, CaseAction as A, CaseEvent, CaseState, CorrectionPoint, SpecialProcedure,
        SpecialTerms, WatchCaseRequest, WatchCaseResponse,
    },
};
use tonic::Streaming;
use tonic_types::StatusExt as _;

use super::{
    desk::{Desk, Started, application, result, sealed, step, with_document},
    move_to, request, timeline,
};
use crate::demo::{
    Steps,
    pension::SOON,
    scenario::{Scenario, holder},
};

/// 普通护照异地申领.
const ITEM: &str = "JD002";
/// Where the applicant stands, and where the passport is decided.
const RECEIVING: &str = "371100";
const DECIDING: &str = "370700";
/// A synthetic holder of Weifang whom no other scene uses.
const HOLDER: u32 = 70;
/// Every step of the case, as its history must have them.
const STEPS: [A; 13] = [
    A::Submit,
    A::Receive,
    A::HandOver,
    A::NotifyCorrection,
    A::Supplement,
    A::Accept,
    A::BeginReview,
    A::BeginSpecial,
    A::EndSpecial,
    A::Grant,
    A::Conclude,
    A::Deliver,
    A::Evaluate,
];

/// The two cities and who applies.
struct Scene<'a> {
    window: Desk<'a>,
    department: Desk<'a>,
    case: Started<'a>,
    holder: CardRecord,
}

pub(super) async fn play(scenario: &mut Scenario<'_>, steps: &Steps) -> Result<()> {
    let (rizhao, weifang) = (scenario.city(RECEIVING)?, scenario.city(DECIDING)?);
    move_to(scenario, &[weifang], "2026-03-02").await?;
    let window = Desk::window(rizhao).await?;
    let holder = holder(&weifang.founder, HOLDER)?;
    let applied = application(ITEM, &holder, DECIDING);
    let case = window.start(applied, weifang).await?;
    let scene = Scene {
        department: Desk::department(weifang).await?,
        window,
        case,
        holder,
    };
    let watch = WatchCaseRequest {
        number: scene.case.number.clone(),
        cursor: "0".to_owned(),
    };
    let watch = request(watch, DECIDING)?;
    let watch = scene.window.system.cases().watch_case(watch).await?;
    scene.collected(scenario, steps).await?;
    scene.corrected(scenario, steps).await?;
    scene.stopped(scenario, steps).await?;
    scene.delivered(scenario).await?;
    scene.watched(scenario, steps, watch.into_inner()).await?;
    let seen = scene.window.read(&scene.case).await?;
    timeline::show(scenario, steps, "passport timeline", &seen, &STEPS);
    let case = &scene.case;
    timeline::in_both_ledgers(
        scenario,
        steps,
        "passport exchanges",
        case,
        &seen,
        Vec::new(),
    )
    .await
}

impl Scene<'_> {
    /// The window checks who stands there, and has the identity card verified instead of copied.
    async fn collected(&self, scenario: &mut Scenario<'_>, steps: &Steps) -> Result<()> {
        let (window, case) = (&self.window, &self.case);
        let checked = ActOnCaseRequest {
            identity_checked: true,
            ..step()
        };
        window.act(case, A::Receive, checked).await?;
        let proof = window.verify(case, "identity-card", &self.holder, DECIDING);
        let proof = proof.await?;
        let copy = window.upload(case, "identity-card").await?;
        let reason = reason(copy.err());
        window.act(case, A::HandOver, step()).await?;
        let held = proof.is_some() && reason == "MATERIAL_NOT_TO_BE_ASKED";
        let seen = format!(
            "Weifang's card service confirms the identity card, exchange {}; a copy is refused ({reason})",
            proof.unwrap_or_default()
        );
        scenario.check(steps, "passport identity", held, seen);
        Ok(())
    }

    /// Weifang cannot accept without a photograph, tells what is missing, and Rizhao brings it.
    async fn corrected(&self, scenario: &mut Scenario<'_>, steps: &Steps) -> Result<()> {
        let (window, department, case) = (&self.window, &self.department, &self.case);
        let weifang = [case.decided_in];
        move_to(scenario, &weifang, "2026-03-03").await?;
        let early = department.attempt(case, A::Accept, with_document("潍受〔2026〕1号"));
        let early = early.await?.err();
        let names = early.as_ref().map(|status| status.message().to_owned());
        let names = names.unwrap_or_default();
        let notice = ActOnCaseRequest {
            corrections: vec![CorrectionPoint {
                material_id: "passport-photo".to_owned(),
                text: "请补交近期免冠照片".to_owned(),
            }],
            ..with_document("潍补〔2026〕1号")
        };
        department.act(case, A::NotifyCorrection, notice).await?;
        move_to(scenario, &weifang, "2026-03-05").await?;
        window.upload(case, "passport-photo").await??;
        window.act(case, A::Supplement, step()).await?;
        move_to(scenario, &weifang, "2026-03-06").await?;
        let accepted = department.act(case, A::Accept, with_document("潍受〔2026〕1号"));
        accepted.await?;
        let reason = reason(early);
        let held = reason == "MATERIALS_MISSING" && names.contains("passport-photo");
        let seen =
            format!("{reason} until Rizhao uploads the photograph that Weifang's notice asks for");
        scenario.check(steps, "passport corrected", held, seen);
        Ok(())
    }

    /// A special procedure stops the clock.
    async fn stopped(&self, scenario: &mut Scenario<'_>, steps: &Steps) -> Result<()> {
        let (department, case) = (&self.department, &self.case);
        let weifang = [case.decided_in];
        department.act(case, A::BeginReview, step()).await?;
        let before = timeline::last_day(&self.window.read(case).await?);
        move_to(scenario, &weifang, "2026-03-10").await?;
        let special = ActOnCaseRequest {
            special: Some(SpecialTerms {
                procedure: SpecialProcedure::Appraisal.into(),
                workdays: 6,
            }),
            reason: "照片与原证件需要鉴定".to_owned(),
            ..step()
        };
        department.act(case, A::BeginSpecial, special).await?;
        let during = timeline::last_day(&self.window.read(case).await?);
        move_to(scenario, &weifang, "2026-03-18").await?;
        department.act(case, A::EndSpecial, step()).await?;
        let after = timeline::last_day(&self.window.read(case).await?);
        // Two of ten working days had run when the clock stopped.
        let held = before.as_deref() == Some("2026-03-20")
            && during.is_none()
            && after.as_deref() == Some("2026-03-30");
        let seen = format!(
            "last day {}, none while the photograph is examined from 2026-03-10 to 2026-03-18, then {}",
            before.unwrap_or_default(),
            after.unwrap_or_default()
        );
        scenario.check(steps, "passport clock stopped", held, seen);
        Ok(())
    }

    /// The passport is issued in Weifang, handed over in Rizhao, and rated there.
    async fn delivered(&self, scenario: &Scenario<'_>) -> Result<()> {
        let (window, department, case) = (&self.window, &self.department, &self.case);
        let weifang = [case.decided_in];
        move_to(scenario, &weifang, "2026-03-20").await?;
        let grant = with_document("潍准〔2026〕1号");
        department.act(case, A::Grant, grant).await?;
        let conclude = ActOnCaseRequest {
            result: result("普通护照", "E00000001"),
            document: sealed("潍准〔2026〕1号"),
            ..step()
        };
        department.act(case, A::Conclude, conclude).await?;
        move_to(scenario, &weifang, "2026-03-24").await?;
        window.deliver(case).await?;
        window.rate(case, &self.holder).await
    }

    /// Rizhao's window was told of every step as it was taken.
    async fn watched(
        &self,
        scenario: &mut Scenario<'_>,
        steps: &Steps,
        mut watch: Streaming<WatchCaseResponse>,
    ) -> Result<()> {
        let mut told: Vec<CaseEvent> = Vec::new();
        let watching = async {
            while told.last().is_none_or(|last| last.action() != A::Evaluate) {
                let message = watch.message().await?.context("the watch ended")?;
                told.extend(message.event);
            }
            anyhow::Ok(())
        };
        let watching = tokio::time::timeout(SOON, watching).await;
        let seen = self.window.read(&self.case).await?;
        let state = seen.case.unwrap_or_default().state();
        let held = matches!(watching, Ok(Ok(()))) && told == seen.history;
        let rated = state == CaseState::Evaluated;
        let seen = format!(
            "Rizhao's window was told of {} steps as they were taken, the last one the rating",
            told.len()
        );
        scenario.check(steps, "passport watched", held && rated, seen);
        Ok(())
    }
}

/// The reason of a refusal.
pub(super) fn reason(refused: Option<tonic::Status>) -> String {
    let info = refused.and_then(|status| status.get_details_error_info());
    info.map_or_else(|| "not refused".to_owned(), |info| info.reason)
}
