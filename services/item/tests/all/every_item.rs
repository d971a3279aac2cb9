//! Every item of the catalogue, started, handled and concluded.

use banqiao_item::{CaseNumber, Materials};
use banqiao_proto::item::v1::{
    CaseAction as A, CaseState as S, Decision, HandlingMode, ProjectType,
};

use crate::{
    joint::with_tasks_done,
    materials::{announced, caller, code, parts, scan, upload},
    scene::{QINGDAO, Scene, WEIHAI, city},
};

pub(crate) async fn every_item_is_started_handled_and_concluded(scene: Scene) {
    let catalogue = scene.cases.catalogue().clone();
    let items: Vec<_> = catalogue.items(scene.cases.today()).collect();
    assert_eq!(items.len(), 82);
    let materials = Materials::new(scene.cases.clone(), None);
    for item in items {
        let from = match item.mode {
            HandlingMode::JointHandling => QINGDAO,
            _ => WEIHAI,
        };
        let number = scene.received(item.id.as_str(), from).await;
        every_material_is_asked_for_and_brought(&scene, &materials, number).await;
        scene.decide(number, &[A::Accept]).await;
        if item.project_type == ProjectType::Immediate {
            scene.decide(number, &[A::Grant]).await;
        } else {
            scene.decide(number, &[A::BeginReview]).await;
            if item.mode == HandlingMode::JointHandling {
                with_tasks_done(&scene, number).await;
            }
            scene.decide(number, &[A::Grant]).await;
        }
        scene.decide(number, &[A::Conclude, A::Deliver]).await;
        let case = scene.case(number).await;
        assert_eq!(
            (case.state, case.decision),
            (S::Delivered, Decision::Granted),
            "{}",
            item.name
        );
        assert_eq!(
            (&case.item_name, &case.department),
            (&item.name, &item.lead_department)
        );
        let legal = item.legal.as_ref().map(|legal| legal.workdays);
        assert_eq!(
            (case.terms.legal, case.terms.promised),
            (legal, item.promise.of(case.deciding_city))
        );
    }
}

/// A case is not accepted until the last of its required materials is there.
async fn every_material_is_asked_for_and_brought(
    scene: &Scene,
    materials: &Materials,
    number: CaseNumber,
) {
    let (window, home) = (caller(), city(QINGDAO));
    let content = scan(100);
    loop {
        let listed = materials.list(number, home).await.unwrap();
        let mut missing = listed
            .iter()
            .filter(|one| one.material.required && !one.is_here());
        let Some(first) = missing.next() else { break };
        let refused = materials.check_acceptance(number, &window, home).await;
        let refused = refused.unwrap_err();
        assert!(
            refused.to_string().contains(&first.material.id),
            "{refused}"
        );
        assert_eq!(code(refused), "MATERIALS_MISSING");
        let document = announced(number, &first.material.id, &content);
        assert!(upload(materials, &document, parts(&content)).await.unwrap());
    }
    materials
        .check_acceptance(number, &window, home)
        .await
        .unwrap();
    assert_eq!(scene.state(number).await, S::Received);
}
