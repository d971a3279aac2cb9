//! Entitlement and eligibility in the demo: a check of one city that another recognises, a sign of loss that is only
//! investigated, and a question that the insured city answers.

use anyhow::{Context as _, Result};
use banqiao_card::{eligibility::beneficiaries, entitlement::insured};
use banqiao_directory::Clock;
use banqiao_kit::civil_date;
use banqiao_proto::{
    card::v1::{
        BenefitCode, CheckEligibilityRequest, CheckEntitlementRequest, EligibilityMethod,
        EligibilityResult, Entitlement, ImportBeneficiariesRequest, ImportInsuranceRequest,
        InsuranceScheme, LifeEvidenceType, LossEvidenceType, ReportLifeRequest,
        ReportLossSignRequest,
    },
    directory::v1::{AddGrantRequest, Grant, ListGrantsRequest},
};

use super::{
    ELIGIBILITY, ENTITLEMENT, Steps,
    client::{self, System},
    scenario::{SEED, Scenario, grant},
};
use crate::sandbox::{Sandbox, SandboxCity};

/// Among so many holders of each city the insured and the pensioners are taken.
const HOLDERS: u32 = 100;
const PURPOSE: &str = "benefit-eligibility";

/// Grants of a city, unless they stand from an earlier run: the halls of all cities may ask and report, the card services
/// may ask about who is insured here.
pub(super) async fn grants(sandbox: &Sandbox, city: &SandboxCity) -> Result<()> {
    let mut grants = client::grants(city).await?;
    let held = grants.list_grants(ListGrantsRequest::default()).await?;
    let held = held.into_inner().grants;
    let wanted = sandbox.cities.iter().flat_map(|other| {
        let of = |path: &str, service: &str| Grant {
            service: service.to_owned(),
            ..grant(
                format!("spiffe://{}/{path}", other.domain),
                &[],
                &[PURPOSE],
                &[],
            )
        };
        [
            of("hrss/hall", ENTITLEMENT),
            of("hrss/hall", ELIGIBILITY),
            of("hrss/card", ENTITLEMENT),
        ]
    });
    for grant in wanted {
        let stands = |held: &Grant| held.client == grant.client && held.service == grant.service;
        if !held.iter().any(stands) {
            let request = AddGrantRequest { grant: Some(grant) };
            grants.add_grant(request).await?;
        }
    }
    Ok(())
}

/// A city's bureau hands over whom it insures and whom it pays.
pub(super) async fn import(city: &SandboxCity) -> Result<()> {
    let hall = System::connect(city, "hrss/hall").await?;
    let today = civil_date(Clock::system().now_us());
    let code = city.founder.code;
    let periods = insured(code.parse()?, HOLDERS, SEED, today)?;
    let lines = (1..)
        .zip(periods)
        .map(|(line, period)| ImportInsuranceRequest {
            line,
            period: Some(period),
        });
    let lines: Vec<_> = lines.collect();
    let request = client::request(tokio_stream::iter(lines), code, PURPOSE)?;
    let taken = hall.entitlement().import_insurance(request).await?;
    anyhow::ensure!(taken.get_ref().refused == 0, "insured persons were refused");
    let people = beneficiaries(code.parse()?, HOLDERS, SEED, today)?;
    let lines = (1..)
        .zip(people)
        .map(|(line, beneficiary)| ImportBeneficiariesRequest {
            line,
            beneficiary: Some(beneficiary),
        });
    let lines: Vec<_> = lines.collect();
    let request = client::request(tokio_stream::iter(lines), code, PURPOSE)?;
    let taken = hall.eligibility().import_beneficiaries(request).await?;
    anyhow::ensure!(taken.get_ref().refused == 0, "beneficiaries were refused");
    Ok(())
}

impl Scenario<'_> {
    /// The checks about benefits.
    pub(super) async fn benefits(&mut self, steps: &Steps) -> Result<()> {
        self.recognised(steps).await?;
        self.only_investigated(steps).await?;
        self.insured_elsewhere(steps).await
    }

    /// The number of the pensioner `index` of Qingdao.
    fn pensioner(&self, index: usize) -> Result<String> {
        let today = civil_date(Clock::system().now_us());
        let mut people = beneficiaries("370200".parse()?, HOLDERS, SEED, today)?;
        let person = people.nth(index).context("no such pensioner")?;
        Ok(person.social_security_number)
    }

    /// What a city's hall is told by Qingdao: the verdict and the city that checked.
    async fn verdict(&self, from: &str, number: &str) -> Result<(EligibilityResult, String)> {
        let hall = System::connect(self.city(from)?, "hrss/hall").await?;
        let request = CheckEligibilityRequest {
            social_security_number: number.to_owned(),
            scheme: InsuranceScheme::Pension.into(),
        };
        let request = client::request(request, "370200", PURPOSE)?;
        let answer = hall.eligibility().check_eligibility(request).await?;
        let verdict = answer.into_inner().verdict.unwrap_or_default();
        Ok((verdict.result(), verdict.verifying_city))
    }

    /// Weihai's hall sees somebody whom Qingdao pays.
    async fn recognised(&mut self, steps: &Steps) -> Result<()> {
        let number = self.pensioner(0)?;
        let weihai = System::connect(self.city("371000")?, "hrss/hall").await?;
        let report = ReportLifeRequest {
            request_id: uuid::Uuid::now_v7().to_string(),
            social_security_number: number.clone(),
            scheme: InsuranceScheme::Pension.into(),
            method: EligibilityMethod::Office.into(),
            evidence_type: LifeEvidenceType::SeenInPerson.into(),
            verified_on: civil_date(Clock::system().now_us()).to_string(),
            verifying_city: "371000".to_owned(),
            paying_city: "370200".to_owned(),
        };
        let report = client::request(report, "370200", PURPOSE)?;
        let answer = weihai.eligibility().report_life(report).await?.into_inner();
        let seen = self.verdict("370200", &number).await?;
        let held = seen == (EligibilityResult::Confirmed, "371000".to_owned());
        let until = answer.valid_until;
        let seen = format!(
            "a pensioner of Qingdao, checked in Weihai, is confirmed in Qingdao until {until}"
        );
        self.check(steps, "eligibility recognised", held, seen);
        Ok(())
    }

    /// Rizhao notices a sign of loss: Qingdao investigates, and the payment stands.
    async fn only_investigated(&mut self, steps: &Steps) -> Result<()> {
        let number = self.pensioner(1)?;
        let rizhao = System::connect(self.city("371100")?, "hrss/hall").await?;
        let report = ReportLossSignRequest {
            request_id: uuid::Uuid::now_v7().to_string(),
            social_security_number: number.clone(),
            scheme: InsuranceScheme::Pension.into(),
            method: EligibilityMethod::DataMatch.into(),
            evidence_type: LossEvidenceType::DeathRecord.into(),
            noticed_on: civil_date(Clock::system().now_us()).to_string(),
            verifying_city: "371100".to_owned(),
            paying_city: "370200".to_owned(),
        };
        let report = client::request(report, "370200", PURPOSE)?;
        rizhao.eligibility().report_loss_sign(report).await?;
        let (result, _) = self.verdict("370600", &number).await?;
        let hall = System::connect(self.city("370200")?, "hrss/hall").await?;
        let list = client::request(Default::default(), "370200", PURPOSE)?;
        let open = hall
            .eligibility()
            .list_investigations(list)
            .await?
            .into_inner();
        let investigated = open
            .investigations
            .iter()
            .any(|investigation| investigation.social_security_number == number);
        let held = result == EligibilityResult::LostSuspected && investigated;
        let seen =
            "a sign from Rizhao opens an investigation in Qingdao; no call could stop the payment";
        self.check(steps, "loss only investigated", held, seen.to_owned());
        Ok(())
    }

    /// Qingdao's hall asks its own service about somebody who is insured in Weihai.
    async fn insured_elsewhere(&mut self, steps: &Steps) -> Result<()> {
        let today = civil_date(Clock::system().now_us());
        let mut periods = insured("371000".parse()?, HOLDERS, SEED, today)?;
        let period = periods.nth(1).context("nobody is insured")?;
        let hall = System::connect(self.city("370200")?, "hrss/hall").await?;
        let question = CheckEntitlementRequest {
            social_security_number: period.social_security_number,
            scheme: InsuranceScheme::Medical.into(),
            benefit: BenefitCode::InpatientSettlement.into(),
            on_date: String::new(),
            insured_city: "371000".to_owned(),
        };
        let question = client::request(question, "370200", PURPOSE)?;
        let answer = hall
            .entitlement()
            .check_entitlement(question)
            .await?
            .into_inner();
        let held = answer.eligible() == Entitlement::Yes && answer.source_city == "371000";
        let seen = format!(
            "Qingdao's service asked Weihai's: {}, {}, valid until {}",
            answer.eligible().as_str_name(),
            answer.policy_ref,
            answer.valid_until
        );
        self.check(steps, "entitlement of the insured city", held, seen);
        Ok(())
    }
}
