//! Every item of the catalogue, started, handled and concluded.

use banqiao_proto::item::v1::{
    CaseAction as A, CaseState as S, Decision, HandlingMode, ProjectType,
};

use crate::{
    joint::with_tasks_done,
    scene::{QINGDAO, Scene, WEIHAI},
};

pub(crate) async fn every_item_is_started_handled_and_concluded(scene: Scene) {
    let catalogue = scene.cases.catalogue().clone();
    let items: Vec<_> = catalogue.items(scene.cases.today()).collect();
    assert_eq!(items.len(), 82);
    for item in items {
        let from = match item.mode {
            HandlingMode::JointHandling => QINGDAO,
            _ => WEIHAI,
        };
        let number = scene.accepted(item.id.as_str(), from).await;
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
