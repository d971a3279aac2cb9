//! Entitlement and eligibility on the wire and from files: streams over TLS, and the commands.

use std::{fs, path::Path, process::Command, time::Duration};

use banqiao_card::{Instance, eligibility::beneficiaries, entitlement::insured};
use banqiao_directory::Clock;
use banqiao_kit::civil_date;
use banqiao_proto::card::v1::{
    EligibilityResult, ImportBeneficiariesRequest, ImportInsuranceRequest, InsuranceScheme,
    MatchEligibilityRequest, ReportLifeRequest,
    eligibility_service_client::EligibilityServiceClient,
    entitlement_service_client::EntitlementServiceClient,
};
use futures_util::stream;
use tempfile::TempDir;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::Code;

use crate::{
    certificates::{Certificates, ISSUER, WINDOW, request},
    entitlements::person,
    scene::{config_text, qingdao},
};

/// Far beyond what any of this takes.
const PATIENCE: Duration = Duration::from_secs(20);

fn ask(line: u64, index: u32) -> MatchEligibilityRequest {
    MatchEligibilityRequest {
        line,
        social_security_number: person(index),
        scheme: InsuranceScheme::Pension.into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_take_insured_persons_and_answer_matches_as_lines_come() {
    let certificates = Certificates::of_qingdao();
    let folder = certificates.folder.path();
    let cities = "[cities]\n371000 = 'weihai.jiaodong'\n";
    let text = format!("{}{cities}", config_text("sqlite://card.db"));
    let config = banqiao_card::CardConfig::parse(&text, folder).unwrap();
    let instance = Instance::start(config, Clock::system()).await.unwrap();
    let channel = certificates.channel(instance.local_addr(), folder, "gateway");
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let served = tasks.spawn(instance.serve(stop.clone().cancelled_owned()));
    let today = civil_date(Clock::system().now_us());

    let mut entitlement = EntitlementServiceClient::new(channel.clone());
    let periods = insured(qingdao(), 600, 1, today).unwrap();
    let lines: Vec<_> = (1..)
        .zip(periods)
        .map(|(line, period)| ImportInsuranceRequest {
            line,
            period: Some(period),
        })
        .collect();
    let refused = entitlement.import_insurance(request(stream::iter(lines.clone()), WINDOW));
    assert_eq!(refused.await.unwrap_err().code(), Code::PermissionDenied);
    let taken = entitlement.import_insurance(request(stream::iter(lines), ISSUER));
    let taken = taken.await.unwrap().into_inner();
    assert_eq!(
        (taken.created, taken.refused, taken.results.len()),
        (1_200, 0, 1_200)
    );
    assert!(
        (1..)
            .zip(&taken.results)
            .all(|(line, result)| result.line == line)
    );

    let mut eligibility = EligibilityServiceClient::new(channel);
    let people = beneficiaries(qingdao(), 600, 1, today).unwrap();
    let lines: Vec<_> = (1..)
        .zip(people)
        .map(|(line, beneficiary)| ImportBeneficiariesRequest {
            line,
            beneficiary: Some(beneficiary),
        })
        .collect();
    let (count, first) = (lines.len() as u64, lines[0].beneficiary.clone().unwrap());
    let taken = eligibility.import_beneficiaries(request(stream::iter(lines), ISSUER));
    assert_eq!(taken.await.unwrap().into_inner().created, count);
    let checked = ReportLifeRequest {
        request_id: uuid::Uuid::now_v7().to_string(),
        social_security_number: first.social_security_number.clone(),
        scheme: first.scheme,
        method: 2,
        evidence_type: 2,
        verified_on: today.to_string(),
        verifying_city: "371000".to_owned(),
        paying_city: "370200".to_owned(),
    };
    eligibility
        .report_life(request(checked, WINDOW))
        .await
        .unwrap();

    // An answer comes before the next line is sent, and many lines are answered in order.
    let (lines, sent) = mpsc::channel(1);
    let call = request(ReceiverStream::new(sent), WINDOW);
    let mut answers = eligibility
        .match_eligibility(call)
        .await
        .unwrap()
        .into_inner();
    let known = MatchEligibilityRequest {
        line: 1,
        social_security_number: first.social_security_number,
        scheme: first.scheme,
    };
    lines.send(known).await.unwrap();
    let answer = timeout(PATIENCE, answers.message())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    let verdict = answer.verdict.unwrap();
    assert_eq!(
        (verdict.result(), verdict.verifying_city.as_str()),
        (EligibilityResult::Confirmed, "371000")
    );
    let sending = tasks.spawn(async move {
        for line in 2..1_500 {
            let index = u32::try_from(line % 600).unwrap();
            lines.send(ask(line, index)).await.unwrap();
        }
    });
    for line in 2..1_500 {
        let answer = timeout(PATIENCE, answers.message())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(answer.line, line);
        assert!(answer.verdict.is_some());
    }
    assert_eq!(
        timeout(PATIENCE, answers.message()).await.unwrap().unwrap(),
        None
    );
    sending.await.unwrap();
    drop((entitlement, eligibility));
    stop.cancel();
    timeout(PATIENCE, served).await.unwrap().unwrap().unwrap();
}

fn card(arguments: &[&str], folder: &Path) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_banqiao-card"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap(),
    )
}

#[test]
fn files_of_insured_persons_and_beneficiaries_are_taken_and_faults_are_listed() {
    let folder = TempDir::new().unwrap();
    let at = folder.path();
    fs::write(at.join("card.toml"), config_text("sqlite://card.db")).unwrap();
    for (kind, lines) in [("insurance", 400), ("beneficiaries", 0)] {
        let generate = format!("generate-{kind}");
        let generated = card(
            &[
                "benefits",
                &generate,
                "--city",
                "370200",
                "--count",
                "200",
                "--on",
                "2026-11-20",
            ],
            at,
        );
        let file = format!("{kind}.csv");
        fs::write(at.join(&file), &generated.1).unwrap();
        let count = generated.1.lines().count() - 1;
        assert!(count == lines || lines == 0 && count > 20, "{count}");
        let import = format!("import-{kind}");
        let arguments = ["benefits", &import, &file, "--config", "card.toml"];
        let expected = format!("{count} new, 0 changed, 0 unchanged, 0 refused\n");
        assert_eq!(card(&arguments, at), (Some(0), expected));
        let faulty = generated
            .1
            .replacen("PENSION", "PENSIONS", 1)
            .replacen("370202", "370299", 1);
        fs::write(at.join(&file), faulty).unwrap();
        let (code, said) = card(&arguments, at);
        assert_eq!(code, Some(3), "{said}");
        let report = fs::read_to_string(at.join(format!("{kind}.refused.csv"))).unwrap();
        assert!(
            report.starts_with("line,field,code,rule\n2,scheme,VALUE_NAME,"),
            "{report}"
        );
    }
}
