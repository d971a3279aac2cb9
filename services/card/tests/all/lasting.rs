//! The service as a process: what it answered stays when it is killed, and who may read the history of it.

use std::fs;

use banqiao_card::eligibility::BENEFICIARY_COLUMNS;
use banqiao_directory::Clock;
use banqiao_kit::civil_date;
use banqiao_proto::card::v1::{
    IdentityVerification, InsuranceScheme, ListEligibilityHistoryRequest, LossKind,
    ReadCardHistoryRequest, ReplaceCardRequest, VerificationMethod,
    card_life_service_client::CardLifeServiceClient,
    eligibility_service_client::EligibilityServiceClient,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use tonic_types::StatusExt;

use crate::{
    certificates::{Certificates, ISSUER, WINDOW, lines, request},
    command_line::{Process, card, text},
    eligibility::life,
    entitlements::person,
    scene::{application, config_text, key, loss},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_has_kept_what_it_answered() {
    let certificates = Certificates::of_qingdao();
    let folder = certificates.folder.path().to_owned();
    // The line that says where it serves is one of `info`.
    let config = config_text("sqlite://card.db").replace("\"warn\"", "\"info\"");
    fs::write(folder.join("card.toml"), config).unwrap();
    let new = format!(
        "card_number,card_identification_code,specification_version\nN1,{:032X},3\nN2,{:032X},3\n",
        1, 2
    );
    fs::write(folder.join("new.csv"), new).unwrap();
    for expected in ["2 new cards in stock\n", "0 new cards in stock\n"] {
        let stocked = card(&["stock", "new.csv", "--config", "card.toml"], &folder);
        assert_eq!(text(&stocked.stdout), expected, "{}", text(&stocked.stderr));
    }
    let (process, address) = Process::serve(&folder);
    let record = lines(1).remove(0).card.unwrap();
    let mut client = certificates.gateway(address);
    let sent = request(futures_util::stream::iter(lines(1)), ISSUER);
    client.import_cards(sent).await.unwrap();
    let reported = request(loss(&record, LossKind::Formal), WINDOW);
    client.report_loss(reported).await.unwrap();
    let replace = ReplaceCardRequest {
        application: application(&record),
        verification: Some(IdentityVerification {
            method: VerificationMethod::Office.into(),
            verified_at: Some(prost_types::Timestamp {
                seconds: Clock::system().now_s(),
                nanos: 0,
            }),
            reference_digest: vec![7; 32],
        }),
        reason: 1,
    };
    let life =
        |address| CardLifeServiceClient::new(certificates.channel(address, &folder, "gateway"));
    let mut client_of = life(address);
    let refused = client_of.replace_card(request(replace.clone(), WINDOW));
    let refused = refused.await.unwrap_err();
    let info = refused.get_details_error_info().unwrap();
    assert_eq!(info.reason, "VERIFIER_NOT_RECOGNISED");
    assert!(info.metadata["rule"].contains("(人社 portal"), "{info:?}");
    let mut client_of = life(address);
    let first = client_of.replace_card(request(replace.clone(), ISSUER));
    let first = first.await.unwrap().into_inner();
    process.kill();

    let (process, address) = Process::serve(&folder);
    let mut client_of = life(address);
    let again = client_of.replace_card(request(replace, ISSUER));
    let mut again = again.await.unwrap().into_inner();
    let outcome = again.outcome.as_mut().unwrap();
    assert!(std::mem::take(&mut outcome.repeated));
    assert_eq!(again, first);

    let history = ReadCardHistoryRequest {
        key: key(&record),
        cursor: String::new(),
    };
    let mut client_of = life(address);
    let foreign = client_of.read_card_history(request(history.clone(), WINDOW));
    let foreign = foreign.await.unwrap_err();
    let info = foreign.get_details_error_info().unwrap();
    assert_eq!(info.reason, "ISSUER_ONLY");
    let mut client_of = life(address);
    let read = client_of.read_card_history(request(history, ISSUER));
    let read = read.await.unwrap().into_inner();
    let told: Vec<_> = read
        .entries
        .iter()
        .map(|entry| {
            let change = entry.change.clone().unwrap();
            assert!(entry.exchange_id.ends_with("/1"), "{entry:?}");
            (change.cause, change.actor_city, entry.client.clone())
        })
        .collect();
    let row = |cause: &str, city: &str, client: &str| {
        (cause.to_owned(), city.to_owned(), client.to_owned())
    };
    let mut expected = vec![
        row("imported", "370200", ISSUER),
        row("imported", "370200", ISSUER),
        row("loss-reported", "371000", WINDOW),
    ];
    if record.electronic {
        expected.push(row("electronic-card-moved", "371000", ISSUER));
    }
    expected.push(row("replaced-lost", "371000", ISSUER));
    expected.push(row("replaced-lost", "371000", ISSUER));
    assert_eq!(told, expected);
    assert_eq!(read.next_cursor, "");
    let (status, log) = tokio::task::spawn_blocking(move || process.stop())
        .await
        .unwrap();
    assert!(status.success(), "{log}");
}

/// Reports that a service of eligibility has not answered when it is killed are sent again: nothing is lost, and nothing is done twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_has_kept_every_check_and_none_twice() {
    const PEOPLE: u32 = 24;
    let certificates = Certificates::of_qingdao();
    let folder = certificates.folder.path().to_owned();
    let config = config_text("sqlite://card.db").replace("\"warn\"", "\"info\"");
    let config = format!("{config}[cities]\n371000 = \"weihai.jiaodong\"\n");
    fs::write(folder.join("card.toml"), config).unwrap();
    let today = civil_date(Clock::system().now_us());
    let sheet = (0..PEOPLE).map(|index| format!("{},PENSION,PAYING,,{today}\n", person(index)));
    let header = BENEFICIARY_COLUMNS.join(",");
    fs::write(
        folder.join("paid.csv"),
        format!("{header}\n{}", sheet.collect::<String>()),
    )
    .unwrap();
    let import = [
        "benefits",
        "import-beneficiaries",
        "paid.csv",
        "--config",
        "card.toml",
    ];
    assert!(card(&import, &folder).status.success());
    let client =
        |address| EligibilityServiceClient::new(certificates.channel(address, &folder, "gateway"));
    let mut waiting: Vec<_> = (0..PEOPLE).map(|index| life(index, today)).collect();
    let mut answered = Vec::new();
    for answers in [1, 4, 9] {
        let (process, address) = tokio::task::block_in_place(|| Process::serve(&folder));
        let shared = client(address);
        let mut sent: FuturesUnordered<_> = waiting
            .drain(..)
            .map(|report| {
                let mut client = shared.clone();
                async move {
                    (
                        client.report_life(request(report.clone(), WINDOW)).await,
                        report,
                    )
                }
            })
            .collect();
        let mut outcomes: Vec<_> = (&mut sent).take(answers).collect().await;
        tokio::task::block_in_place(|| process.kill());
        outcomes.extend(sent.collect::<Vec<_>>().await);
        for (outcome, report) in outcomes {
            match outcome {
                Ok(answer) => answered.push((report, answer.into_inner())),
                Err(_) => waiting.push(report),
            }
        }
    }
    let (process, address) = tokio::task::block_in_place(|| Process::serve(&folder));
    let mut client = client(address);
    for (report, first) in answered {
        let again = client.report_life(request(report, WINDOW)).await;
        let again = again.unwrap().into_inner();
        assert!(again.repeated);
        assert_eq!(
            (again.cursor, again.valid_until),
            (first.cursor, first.valid_until)
        );
    }
    for report in waiting {
        client.report_life(request(report, WINDOW)).await.unwrap();
    }
    for index in 0..PEOPLE {
        let history = ListEligibilityHistoryRequest {
            social_security_number: person(index),
            scheme: InsuranceScheme::Pension.into(),
            cursor: String::new(),
        };
        let told = client
            .list_eligibility_history(request(history, ISSUER))
            .await;
        assert_eq!(told.unwrap().into_inner().entries.len(), 1, "{index}");
    }
    tokio::task::block_in_place(|| process.kill());
}
