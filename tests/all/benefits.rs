//! Entitlement and eligibility between two cities, each with a real card service behind its gateway.

use banqiao_proto::card::v1::{
    BenefitCode, CheckEligibilityRequest, CheckEligibilityResponse, CheckEntitlementRequest,
    CheckEntitlementResponse, EligibilityMethod, EligibilityResult, Entitlement, InsuranceScheme,
    LifeEvidenceType, ReportLifeRequest, ReportLifeResponse,
};
use banqiao_proto::directory::v1::Grant;
use banqiao_tests::{
    admin::grant,
    network::{Network, SYSTEM},
    wait::{PATIENCE, wait_until},
    wire::{Caller, Head},
};
use prost::Message as _;
use uuid::Uuid;

use crate::card::fields;

const ENTITLEMENT: &str = "/banqiao.card.v1.EntitlementService/CheckEntitlement";

fn head(path: &str, to: &str) -> Head {
    Head::new(path, to).set("banqiao-purpose", "benefit-eligibility")
}

fn eligibility(method: &str) -> Head {
    let path = format!("/banqiao.card.v1.EligibilityService/{method}");
    head(&path, "370200")
}

async fn verdict(caller: &Caller, pensioner: &str) -> (EligibilityResult, String, String) {
    let request = CheckEligibilityRequest {
        social_security_number: pensioner.to_owned(),
        scheme: InsuranceScheme::Pension.into(),
    };
    let answer = caller
        .unary(&eligibility("CheckEligibility"), &request)
        .await;
    let answer: CheckEligibilityResponse = answer.unwrap().only().unwrap();
    let verdict = answer.verdict.unwrap_or_default();
    (
        verdict.result(),
        verdict.verifying_city,
        verdict.valid_until,
    )
}

#[tokio::test]
async fn a_check_of_another_city_is_recognised_and_the_insured_city_answers_or_nobody_does() {
    let (mut network, [here, there]) = Network::benefits(60).await.unwrap();
    let qingdao = network.cities[0].caller(SYSTEM).await.unwrap();
    let yantai = network.cities[1].caller(SYSTEM).await.unwrap();

    // Yantai's window sees somebody whom Qingdao pays, and tells Qingdao.
    let pensioner = here.pensioner().unwrap();
    assert_eq!(
        verdict(&qingdao, &pensioner).await.0,
        EligibilityResult::Unspecified
    );
    let today = here.today();
    let report = ReportLifeRequest {
        request_id: Uuid::now_v7().to_string(),
        social_security_number: pensioner.clone(),
        scheme: InsuranceScheme::Pension.into(),
        method: EligibilityMethod::Office.into(),
        evidence_type: LifeEvidenceType::SeenInPerson.into(),
        verified_on: today,
        verifying_city: "370600".to_owned(),
        paying_city: "370200".to_owned(),
    };
    let answer = yantai
        .unary(&eligibility("ReportLife"), &report)
        .await
        .unwrap();
    let answer: ReportLifeResponse = answer.only().unwrap();
    let recognised = (
        EligibilityResult::Confirmed,
        "370600".to_owned(),
        answer.valid_until,
    );
    assert_eq!(verdict(&qingdao, &pensioner).await, recognised);
    assert_eq!(verdict(&yantai, &pensioner).await, recognised);
    // Qingdao's own system cannot report a check of Yantai's.
    let forged = ReportLifeRequest {
        request_id: Uuid::now_v7().to_string(),
        ..report
    };
    let refused = qingdao
        .unary(&eligibility("ReportLife"), &forged)
        .await
        .unwrap();
    assert_eq!(refused.code(), Some(7), "{:?}", refused.grpc());

    // Qingdao's window asks its own service about somebody who is insured in Yantai.
    let request = CheckEntitlementRequest {
        social_security_number: there.holders[40].social_security_number.clone(),
        scheme: InsuranceScheme::Medical.into(),
        benefit: BenefitCode::InpatientSettlement.into(),
        on_date: String::new(),
        insured_city: "370600".to_owned(),
    };
    let ask = async || -> CheckEntitlementResponse {
        let answer = qingdao.unary(&head(ENTITLEMENT, "370200"), &request).await;
        answer.unwrap().only().unwrap()
    };
    let answer = ask().await;
    assert_eq!(answer.eligible(), Entitlement::Yes, "{answer:?}");
    assert_eq!(
        (answer.source_city.as_str(), answer.insured_city.as_str()),
        ("370600", "370600")
    );
    // With Yantai down nothing is known: neither yes nor no, and not what was known before.
    network.cities[1].gateway_mut().stop().await.unwrap();
    let answer = ask().await;
    assert_eq!(answer.eligible(), Entitlement::Unknown, "{answer:?}");
    assert_eq!(answer.reason_code, "INSURED_CITY_UNREACHABLE");
    assert_eq!(
        (answer.source_city.as_str(), answer.valid_until.as_str()),
        ("370200", "")
    );
    network.cities[1].gateway_mut().restart().await.unwrap();
    wait_until("Yantai to answer again", PATIENCE, || async {
        ask().await.eligible() == Entitlement::Yes
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn hospital_bank_and_bureau_learn_of_a_person_what_their_grants_disclose() {
    let (network, [_, there]) = Network::benefits(60).await.unwrap();
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    // Somebody whom Yantai pays and has seen, so that every field of a verdict is set.
    let pensioner = there.pensioner().unwrap();
    let check = |method: &str| {
        let path = format!("/banqiao.card.v1.EligibilityService/{method}");
        head(&path, "370600")
    };
    let seen = ReportLifeRequest {
        request_id: Uuid::now_v7().to_string(),
        social_security_number: pensioner.clone(),
        scheme: InsuranceScheme::Pension.into(),
        method: EligibilityMethod::Office.into(),
        evidence_type: LifeEvidenceType::SeenInPerson.into(),
        verified_on: there.today(),
        verifying_city: "370600".to_owned(),
        paying_city: "370600".to_owned(),
    };
    let window = yantai.caller(SYSTEM).await.unwrap();
    let answer = window.unary(&check("ReportLife"), &seen).await.unwrap();
    assert_eq!(answer.code(), Some(0), "{:?}", answer.grpc());
    let entitlement = CheckEntitlementRequest {
        social_security_number: there.holders[40].social_security_number.clone(),
        scheme: InsuranceScheme::Medical.into(),
        benefit: BenefitCode::InpatientSettlement.into(),
        on_date: String::new(),
        insured_city: String::new(),
    };
    let eligibility = CheckEligibilityRequest {
        social_security_number: pensioner,
        scheme: InsuranceScheme::Pension.into(),
    };
    for (system, groups, of_entitlement, of_verdict) in [
        // 医院: whether the scheme pays, and whether somebody is treated under it already.
        (
            "hospital/ward",
            &["group:basic", "group:treatment"][..],
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 11][..],
            &[1, 2, 3, 4][..],
        ),
        // 银行: yes or no alone.
        (
            "hrss/bank",
            &["group:basic"],
            &[1, 2, 3, 4, 5, 6, 7, 8, 9],
            &[1, 2, 3, 4],
        ),
        // 人社部门: everything.
        (
            "hrss/desk",
            &[],
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11],
            &[1, 2, 3, 4, 5],
        ),
    ] {
        for service in ["EntitlementService", "EligibilityService"] {
            // A grant names the groups that its service has.
            let is_known =
                |group: &&str| service == "EntitlementService" || *group == "group:basic";
            let disclosed = groups.iter().copied().filter(is_known);
            let limited = Grant {
                purposes: vec!["benefit-eligibility".to_owned()],
                disclosed_fields: disclosed.map(str::to_owned).collect(),
                ..grant(&qingdao.id(system), &format!("banqiao.card.v1.{service}"))
            };
            yantai.grant(limited).await.unwrap();
        }
        let caller = qingdao.caller(system).await.unwrap();
        let answer = caller
            .unary(&head(ENTITLEMENT, "370600"), &entitlement)
            .await;
        let answer = answer.unwrap();
        assert_eq!(answer.code(), Some(0), "{system}: {:?}", answer.grpc());
        let on_the_wire = fields(&answer.messages[0].bytes);
        assert!(
            on_the_wire.iter().eq(of_entitlement),
            "{system}: {on_the_wire:?}"
        );

        let answer = caller.unary(&check("CheckEligibility"), &eligibility).await;
        let answer: CheckEligibilityResponse = answer.unwrap().only().unwrap();
        let verdict = answer.verdict.unwrap();
        assert_eq!(verdict.result(), EligibilityResult::Confirmed);
        let on_the_wire = fields(&verdict.encode_to_vec());
        assert!(
            on_the_wire.iter().eq(of_verdict),
            "{system}: {on_the_wire:?}"
        );
    }
}
