//! People whom a city pays, in a bureau's own tables.

use std::fs;

use banqiao_card::{
    CARD_MAPPING, DOMAIN, LineOutcome, Store, StoreError,
    eligibility::{Eligibility, EligibilityServer, EligibilityTerms, EligibilityWatches, Swept},
    synthetic,
};
use banqiao_kit::mapping::Mapping;
use banqiao_proto::card::v1::{
    Beneficiary, CampaignStatus, EligibilityResult, InsuranceScheme, ListInvestigationsRequest,
    PaymentState, SummariseCampaignRequest, eligibility_service_client::EligibilityServiceClient,
    eligibility_service_server::EligibilityService,
};
use jiff::civil::date;
use sqlx::PgConnection;
use tokio::time::timeout;
use tonic::Code;

use crate::{
    bureau,
    certificates::{Certificates, ISSUER, PATIENCE, request},
    command_line::Process,
    eligibility::{
        counts, eligibility, import, life, paid, paused, reason, report, server, sign, suspect,
        verdict,
    },
    entitlements::{HALL, TODAY, WEIHAI, cities, from, person},
    mapping::{administrator, mismatches},
    postgres::Postgres,
    scene::{BRISK, Scene, config_text, qingdao},
};

/// A row as the bureau has it: state, first day without payment, day by which a check is due.
async fn at_bureau(
    connection: &mut PgConnection,
    index: u32,
) -> Option<(String, Option<String>, String)> {
    sqlx::query_as(
        "SELECT aae116::text, not_paid_from::text, check_due::text FROM hrss.payment_for_network WHERE aac002 = $1",
    )
    .bind(person(index))
    .fetch_optional(connection)
    .await
    .unwrap()
}

/// What other programs of the bureau do.
async fn by_bureau(connection: &mut PgConnection, sql: &'static str) {
    sqlx::raw_sql(sql).execute(connection).await.unwrap();
}

/// Rows that the bureau's own programs make, as they write them.
async fn pays(connection: &mut PgConnection, numbers: &[String], scheme: &str, due: &str) {
    let made = sqlx::query(
        "WITH person AS (INSERT INTO hrss.ac01 (aac002) SELECT unnest($1::text[]) RETURNING aac001) \
         INSERT INTO hrss.payee (aac001, aae140, aae116, check_due) SELECT aac001, $2, '1', $3 FROM person",
    )
    .bind(numbers)
    .bind(scheme)
    .bind(due)
    .execute(connection)
    .await
    .unwrap();
    assert_eq!(made.rows_affected(), u64::try_from(numbers.len()).unwrap());
}

async fn swept(scene: &Scene) -> (u64, u64) {
    let Swept { changed, unusable } = eligibility(scene).sweep_payments().await.unwrap();
    (changed, unusable)
}

fn row(state: &str, from: Option<&str>, due: &str) -> Option<(String, Option<String>, String)> {
    Some((state.to_owned(), from.map(str::to_owned), due.to_owned()))
}

pub(crate) async fn payments_are_those_of_the_bureaus_table(scene: Scene) {
    let mut bureau = administrator(&scene).await;
    let people = [paid(0, "2026-12-31"), paused(1, "2026-09-01", "2026-08-31")];
    let created = [LineOutcome::Created, LineOutcome::Created];
    assert_eq!(import(&scene, &people).await, created);
    assert_eq!(at_bureau(&mut bureau, 0).await, row("1", None, "20261231"));
    let first = row("2", Some("2026-09-01"), "20260831");
    assert_eq!(at_bureau(&mut bureau, 1).await, first);
    assert_eq!(swept(&scene).await, (0, 0));

    // A check moves the day and nothing else, not even where it instructs to resume.
    report(&scene, WEIHAI, &life(0, TODAY)).await.unwrap();
    let answer = report(&scene, WEIHAI, &life(1, TODAY)).await.unwrap();
    assert!(answer.resumption_instructed);
    assert_eq!(at_bureau(&mut bureau, 0).await, row("1", None, "20271123"));
    let moved = row("2", Some("2026-09-01"), "20271123");
    assert_eq!(at_bureau(&mut bureau, 1).await, moved);

    // The bureau's own programs resume one payment and pause the other, and whoever acts on the person sees it at once.
    by_bureau(&mut bureau, "UPDATE hrss.payee SET aae116 = CASE aae116 WHEN '1' THEN '2' ELSE '1' END, not_paid_from = '2026-11-01'").await;
    let answer = report(&scene, WEIHAI, &life(0, TODAY)).await.unwrap();
    assert!(answer.resumption_instructed, "paused by the bureau");
    let answer = report(&scene, WEIHAI, &life(1, TODAY)).await.unwrap();
    assert!(!answer.resumption_instructed, "resumed by the bureau");
    let paused = row("2", Some("2026-11-01"), "20271123");
    assert_eq!(
        at_bureau(&mut bureau, 0).await,
        paused,
        "as the bureau left it"
    );
    assert_eq!(swept(&scene).await, (0, 0));

    // A sign of loss stops nothing there either.
    suspect(&scene, &sign(1, TODAY)).await;
    assert_eq!(at_bureau(&mut bureau, 1).await.unwrap().0, "1");
    // What an import hands over is written, under the codes of the bureau.
    let stopped = Beneficiary {
        payment_state: PaymentState::Stopped.into(),
        not_paid_from: "2026-12-01".to_owned(),
        ..paid(1, "2027-11-23")
    };
    let outcomes = import(&scene, std::slice::from_ref(&stopped)).await;
    assert_eq!(outcomes, [LineOutcome::Updated]);
    assert_eq!(
        at_bureau(&mut bureau, 1).await,
        row("3", Some("2026-12-01"), "20271123")
    );
    assert_eq!(import(&scene, &[stopped]).await, [LineOutcome::Unchanged]);
}

pub(crate) async fn campaigns_tell_of_rows_that_the_bureau_wrote_itself(scene: Scene) {
    let mut bureau = administrator(&scene).await;
    // More than two pages, and a sign of loss that came before the bureau's row.
    suspect(&scene, &sign(0, TODAY)).await;
    let holders = synthetic::holders(qingdao(), 1_200, 1).unwrap();
    let numbers: Vec<_> = holders
        .map(|holder| holder.social_security_number)
        .collect();
    pays(&mut bureau, &numbers, "110", "20261215").await;
    assert_eq!(counts(&scene, "2026-12").await, []);
    assert_eq!(swept(&scene).await, (1_200, 0));
    let expected = [
        (CampaignStatus::Pending, String::new(), 1_199),
        (CampaignStatus::LostSuspected, "371000".to_owned(), 1),
    ];
    assert_eq!(counts(&scene, "2026-12").await, expected);
    assert_eq!(swept(&scene).await, (0, 0), "nothing is taken over twice");
    let request = from(HALL, ListInvestigationsRequest::default());
    let open = server(&scene).list_investigations(request).await;
    assert_eq!(open.unwrap().into_inner().investigations.len(), 1);

    // Two people come under a second scheme; one payment is stopped, one is moved, five rows are gone.
    by_bureau(
        &mut bureau,
        "INSERT INTO hrss.payee (aac001, aae140, aae116, check_due) SELECT aac001, '900', '1', '20261220' FROM hrss.payee ORDER BY aac001 LIMIT 2; \
         UPDATE hrss.payee SET aae116 = '3', not_paid_from = '2026-11-01' WHERE aac001 = (SELECT max(aac001) FROM hrss.payee); \
         UPDATE hrss.payee SET check_due = '20270115' WHERE aac001 = (SELECT max(aac001) - 1 FROM hrss.payee); \
         DELETE FROM hrss.payee WHERE aac001 > (SELECT max(aac001) - 7 FROM hrss.payee) AND aac001 < (SELECT max(aac001) - 1 FROM hrss.payee)",
    )
    .await;
    assert_eq!(swept(&scene).await, (9, 0));
    let expected = [
        (CampaignStatus::Pending, String::new(), 1_192),
        (CampaignStatus::LostSuspected, "371000".to_owned(), 1),
    ];
    assert_eq!(counts(&scene, "2026-12").await, expected);
    let moved = [(CampaignStatus::Pending, String::new(), 1)];
    assert_eq!(counts(&scene, "2027-01").await, moved);
    assert_eq!(swept(&scene).await, (0, 0));
}

pub(crate) async fn a_day_that_the_bureau_sets_stands_until_the_next_check(scene: Scene) {
    let mut bureau = administrator(&scene).await;
    import(&scene, &[paid(0, "2026-12-31")]).await;
    report(&scene, WEIHAI, &life(0, TODAY)).await.unwrap();
    by_bureau(&mut bureau, "UPDATE hrss.payee SET check_due = '20261210'").await;
    assert_eq!(swept(&scene).await, (1, 0));
    assert_eq!(at_bureau(&mut bureau, 0).await, row("1", None, "20261210"));
    let pending = [(CampaignStatus::Pending, String::new(), 1)];
    assert_eq!(counts(&scene, "2026-12").await, pending);
    assert_eq!(counts(&scene, "2027-11").await, []);
    report(&scene, WEIHAI, &life(0, TODAY)).await.unwrap();
    assert_eq!(at_bureau(&mut bureau, 0).await, row("1", None, "20271123"));
    // A new row of somebody who was checked is moved, as a line of an import is.
    report(&scene, WEIHAI, &life(1, TODAY)).await.unwrap();
    pays(&mut bureau, &[person(1)], "110", "20261231").await;
    assert_eq!(swept(&scene).await, (1, 0));
    assert_eq!(at_bureau(&mut bureau, 1).await, row("1", None, "20271123"));
}

pub(crate) async fn rows_are_written_as_the_bureau_writes_them(scene: Scene) {
    let mut bureau = administrator(&scene).await;
    let index = (0..100)
        .find(|index| person(*index).ends_with('X'))
        .unwrap();
    // A second code for the scheme, and the check digit as a small letter.
    pays(
        &mut bureau,
        &[person(index).to_lowercase()],
        "120",
        "20261231",
    )
    .await;
    report(&scene, WEIHAI, &life(index, TODAY)).await.unwrap();
    let found = sqlx::query_as::<_, (String, String)>(
        "SELECT aae140::text, check_due::text FROM hrss.payment_for_network",
    );
    let found = found.fetch_all(&mut bureau).await.unwrap();
    assert_eq!(found, [("120".to_owned(), "20271123".to_owned())]);
    let outcomes = import(&scene, &[paused(index, "2026-11-01", "2027-11-23")]).await;
    assert_eq!(outcomes, [LineOutcome::Updated]);
    let states = sqlx::query_scalar::<_, String>("SELECT aae116::text FROM hrss.payee");
    assert_eq!(states.fetch_all(&mut bureau).await.unwrap(), ["2"]);
}

pub(crate) async fn a_row_that_cannot_be_used_refuses_its_person_and_no_other(scene: Scene) {
    let mut bureau = administrator(&scene).await;
    let people: Vec<_> = (0..5).map(|index| paid(index, "2026-12-31")).collect();
    import(&scene, &people).await;
    let first = life(2, TODAY);
    let answer = report(&scene, WEIHAI, &first).await.unwrap();
    // One with a code that the mapping does not know, one that is paused since no day.
    by_bureau(
        &mut bureau,
        "UPDATE hrss.payee SET aae116 = '7' WHERE aac001 = (SELECT min(aac001) + 2 FROM hrss.payee); \
         UPDATE hrss.payee SET aae116 = '2' WHERE aac001 = (SELECT max(aac001) FROM hrss.payee)",
    )
    .await;
    assert_eq!(swept(&scene).await, (0, 2));
    let refused = report(&scene, WEIHAI, &life(2, TODAY)).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(reason(&refused), "RECORD_UNREADABLE");
    assert!(refused.message().contains("payment_state"), "{refused:?}");
    // The first answer is given again, and verdicts need no payment.
    let again = report(&scene, WEIHAI, &first).await.unwrap();
    assert!(again.repeated);
    assert_eq!(again.valid_until, answer.valid_until);
    assert_eq!(
        verdict(&scene, 2).await.result(),
        EligibilityResult::Confirmed
    );
    report(&scene, WEIHAI, &life(0, TODAY)).await.unwrap();
    let outcomes = import(&scene, &people).await;
    for (place, field) in [(2, "payment_state"), (4, "not_paid_from")] {
        let LineOutcome::Refused(faults) = &outcomes[place] else {
            panic!("{outcomes:?}")
        };
        assert_eq!(faults[0].field, field);
        assert_eq!(faults[0].rule.code, "RECORD_UNREADABLE");
    }
    let sound = [0, 1, 3].map(|place| outcomes[place].clone());
    assert_eq!(sound, [(); 3].map(|()| LineOutcome::Unchanged));
    let faults = mismatches(&scene, bureau::MAPPING).await;
    assert_eq!(
        faults,
        [
            "payment.payment_state: rows hold the code \"7\" in the column AAE116, which is not in [codes.payment]"
        ]
    );
}

pub(crate) async fn a_mapping_of_payments_is_checked_and_may_leave_imports_out(scene: Scene) {
    let mut bureau = administrator(&scene).await;
    pays(&mut bureau, &[person(0)], "110", "20261231").await;
    let begin = bureau::MAPPING
        .find("# For imports of the people whom the city pays")
        .unwrap();
    let without_imports = &bureau::MAPPING[..begin];
    let mapping = Mapping::parse(without_imports, &CARD_MAPPING).unwrap();
    let store = Store::open_mapped(&scene.settings, Some(&mapping))
        .await
        .unwrap();
    let clock = scene.clock.clock();
    let there = Eligibility::new(&store, qingdao(), clock, EligibilityTerms::DEFAULT);
    let watches = EligibilityWatches::new(&there, BRISK, scene.stopping.clone());
    let server = EligibilityServer::new(there.clone(), watches, cities());
    server
        .report_life(from(WEIHAI, life(0, date(2026, 11, 20))))
        .await
        .unwrap();
    assert_eq!(at_bureau(&mut bureau, 0).await, row("1", None, "20271120"));
    let lines = [paid(1, "2026-12-31"), paused(0, "2026-11-01", "2027-11-20")];
    let lines = lines.map(
        |beneficiary| banqiao_proto::card::v1::ImportBeneficiariesRequest {
            line: 1,
            beneficiary: Some(beneficiary),
        },
    );
    let outcomes = there.import(&lines, None).await.unwrap();
    for (outcome, statement) in outcomes.iter().zip(["insert_payments", "update_payments"]) {
        let LineOutcome::Refused(faults) = outcome else {
            panic!("{outcome:?}")
        };
        assert_eq!(
            (faults[0].field.as_ref(), faults[0].rule.code),
            (statement, "NOT_MAPPED")
        );
    }
    let status = banqiao_kit::rescue(
        StoreError::NotMapped("insert_payments").into(),
        DOMAIN,
        None,
    );
    assert!(status.message().contains("insert_payments"));

    // The statement that checks need is not one of those.
    let begin = bureau::MAPPING.find("set_due_days = ").unwrap();
    let faults = Mapping::parse(&bureau::MAPPING[..begin], &CARD_MAPPING).unwrap_err();
    let faults: Vec<_> = faults.0.iter().map(ToString::to_string).collect();
    assert_eq!(faults, ["statements.set_due_days: is required"]);
    let faults = Mapping::parse(
        &bureau::MAPPING
            .replace("b.check_due = new.old_due\n", "true\n")
            .replace(
                ":due_on, :old_due_on) AS new(holder, scheme, due, old_due)",
                ":due_on) AS new(holder, scheme, due)",
            ),
        &CARD_MAPPING,
    )
    .unwrap_err();
    assert_eq!(
        faults.0[0].to_string(),
        "statements.set_due_days: must use :old_due_on"
    );
    // Every mismatch with the database at once.
    let faulty = bureau::MAPPING
        .replace(
            "not_paid_from = \"not_paid_from\"",
            "not_paid_from = \"stopped_on\"",
        )
        .replace(
            "{ column = \"check_due\", date = \"%Y%m%d\" }",
            "\"aae116\"",
        )
        .replace(
            "SET check_due = new.due, aae036",
            "SET due = new.due, aae036",
        );
    by_bureau(&mut bureau, "REVOKE INSERT ON hrss.payee FROM card").await;
    let found = mismatches(&scene, &faulty).await;
    for (found, expected) in found.iter().zip([
        "payment.not_paid_from: there is no column stopped_on in hrss.payment_for_network",
        "statements.insert_payments: the database does not take it: permission denied for table payee",
        "statements.set_due_days: the database does not take it: column \"due\" of relation \"payee\" does not exist",
    ]) {
        assert!(found.starts_with(expected), "{expected}: {found}");
    }
    assert_eq!(found.len(), 3, "{found:#?}");
}

/// The sweep of a process, over the wire: nobody asks about the person.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_service_takes_over_what_the_bureaus_programs_write() {
    let Some(postgres) = Postgres::start() else {
        return;
    };
    let url = postgres.create("bureau");
    bureau::create(&url).await;
    let certificates = Certificates::of_qingdao();
    let folder = certificates.folder.path().to_owned();
    let config = config_text(&url.replace("user=postgres", "user=card"))
        .replacen("[identity]", "mapping = \"mapping.toml\"\n[identity]", 1)
        .replace(
            "[card]",
            "schema = \"banqiao_card\"\n[eligibility]\nsweep = \"100ms\"\n[card]",
        )
        .replace("\"warn\"", "\"info\"");
    fs::write(folder.join("card.toml"), config).unwrap();
    fs::write(folder.join("mapping.toml"), bureau::MAPPING).unwrap();
    let (process, address) = tokio::task::block_in_place(|| Process::serve(&folder));
    let mut client =
        EligibilityServiceClient::new(certificates.channel(address, &folder, "gateway"));
    let mut bureau = bureau::connect(&url).await;
    let people: Vec<_> = (0..3).map(person).collect();
    pays(&mut bureau, &people, "110", "20261215").await;
    let campaign = SummariseCampaignRequest {
        month: "2026-12".to_owned(),
        scheme: InsuranceScheme::Pension.into(),
    };
    let told = timeout(PATIENCE, async {
        loop {
            let told = client
                .summarise_campaign(request(campaign.clone(), ISSUER))
                .await;
            let told = told.unwrap().into_inner();
            if told.due > 0 {
                return told;
            }
        }
    });
    assert_eq!(told.await.unwrap().due, 3);
    let (status, log) = tokio::task::block_in_place(|| process.stop());
    assert!(status.success(), "{log}");
    assert!(
        log.contains("taken over") && !log.contains(&people[0]),
        "{log}"
    );
}
