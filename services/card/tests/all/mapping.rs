//! What is particular to cards in a bureau's own tables.

use banqiao_card::CardNumber;
use banqiao_card::{
    CARD_MAPPING, LineOutcome, Lookup, Store, StoreError, Verify, Write, entitlement::Asked,
    synthetic,
};
use banqiao_kit::{
    CallError, DatabaseError, DatabaseUrl, civil_date,
    mapping::{Mapping, MappingError},
    rescue,
};
use banqiao_proto::card::v1::{
    BenefitCode, CardRecord, CardState, CheckEntitlementRequest, InsuredStatus, LossKind,
};
use sqlx::PgConnection;
use tonic::Code;

use crate::{
    bureau,
    entitlements::{entitlements, medical, take},
    scene::{DAY, Scene, loss, qingdao, report, verify_request},
};

/// The administrator's connection to the database of a scene.
pub(crate) async fn administrator(scene: &Scene) -> PgConnection {
    let DatabaseUrl::Postgres(url) = &scene.settings.url else {
        panic!("a bureau is on PostgreSQL")
    };
    let (url, _) = url.split_once("&options").unwrap_or((url, ""));
    bureau::connect(&url.replace("user=card", "user=postgres")).await
}

async fn state_at_bureau(connection: &mut PgConnection, record: &CardRecord) -> (String, String) {
    sqlx::query_as("SELECT aaz502::text, bank_state::text FROM hrss.card_base WHERE aaz500 = $1")
        .bind(&record.card_number)
        .fetch_one(connection)
        .await
        .unwrap()
}

/// What another program of the bureau does.
async fn set_at_bureau(connection: &mut PgConnection, record: &CardRecord, state: &str) {
    let done = sqlx::query("UPDATE hrss.card_base SET aaz502 = $2 WHERE aaz500 = $1")
        .bind(&record.card_number)
        .bind(state)
        .execute(connection)
        .await
        .unwrap();
    assert_eq!(done.rows_affected(), 1);
}

pub(crate) async fn the_bureaus_tables_hold_what_was_reported(scene: Scene) {
    let records = scene.holders(2).await;
    let mut bureau = administrator(&scene).await;
    assert_eq!(
        state_at_bureau(&mut bureau, &records[0]).await,
        ("1".into(), "1".into())
    );
    report(&scene.cards, &loss(&records[0], LossKind::Temporary))
        .await
        .unwrap();
    assert_eq!(
        state_at_bureau(&mut bureau, &records[0]).await,
        ("2".into(), "1".into())
    );
    scene.clock.advance_us(11 * DAY);
    assert_eq!(scene.cards.end_temporary_losses().await.unwrap(), 1);
    assert_eq!(
        state_at_bureau(&mut bureau, &records[0]).await,
        ("1".into(), "1".into())
    );
    assert_eq!(scene.cards.end_temporary_losses().await.unwrap(), 0);

    let changed = CardRecord {
        name: "测试改名".into(),
        expires_on: "2036-02-03".into(),
        ..records[1].clone()
    };
    assert_eq!(
        scene.import(std::slice::from_ref(&changed)).await,
        [LineOutcome::Updated]
    );
    let row: (String, String) =
        sqlx::query_as("SELECT aac003, aae031::text FROM hrss.card_for_network WHERE aaz500 = $1")
            .bind(&changed.card_number)
            .fetch_one(&mut bureau)
            .await
            .unwrap();
    assert_eq!(row, ("测试改名".into(), "20360203".into()));
}

pub(crate) async fn an_unknown_code_refuses_its_record_and_no_other(scene: Scene) {
    let records = scene.holders(5).await;
    let mut bureau = administrator(&scene).await;
    set_at_bureau(&mut bureau, &records[1], "7").await;
    let today = civil_date(scene.cards.clock().now_us());
    let request = Verify::parse(&verify_request(&records[1]), today).unwrap();
    let error = scene.cards.verify(&request).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Unreadable("social_state")),
        "{error:?}"
    );
    let status = rescue(CallError::from(error), banqiao_card::DOMAIN, None);
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(
        status.message().contains("social_state"),
        "{}",
        status.message()
    );
    assert!(scene.verify(&verify_request(&records[0])).await.r#match);

    let outcomes = scene.import(&records).await;
    for (place, outcome) in outcomes.iter().enumerate() {
        match outcome {
            LineOutcome::Refused(faults) if place == 1 => {
                assert_eq!(
                    (faults[0].field.as_ref(), faults[0].rule.code),
                    ("social_state", "RECORD_UNREADABLE")
                );
            }
            outcome => assert_eq!(*outcome, LineOutcome::Unchanged, "{place}"),
        }
    }
    let page = scene.cards.store().page("", 10).await.unwrap();
    assert_eq!((page.cards.len(), page.unreadable.len()), (4, 1));
    assert_eq!(
        page.unreadable[0],
        (records[1].card_number.clone(), "social_state")
    );
    // A second code for a state is read as that state.
    set_at_bureau(&mut bureau, &records[1], "8").await;
    assert_eq!(scene.state_of(&records[1]).await.0, CardState::Cancelled);
}

pub(crate) async fn a_change_by_the_bureaus_own_programs_counts(scene: Scene) {
    let records = scene.holders(1).await;
    let mut bureau = administrator(&scene).await;
    let store = scene.cards.store();
    let lookup = Lookup::Number(CardNumber::parse(&records[0].card_number).unwrap());
    let mut read = store.find(&lookup).await.unwrap().unwrap();
    set_at_bureau(&mut bureau, &records[0], "4").await;
    assert_eq!(scene.state_of(&records[0]).await.0, CardState::Locked);
    read.card.electronic = !read.card.electronic;
    let write = Write {
        updates: vec![read],
        ..Write::default()
    };
    let lost = store.write(&write).await.unwrap_err();
    assert!(matches!(lost, StoreError::Conflict), "{lost:?}");
    // The table of transitions judges by what the bureau has now.
    report(&scene.cards, &loss(&records[0], LossKind::Formal))
        .await
        .unwrap_err();
    set_at_bureau(&mut bureau, &records[0], "1").await;
    let answer = report(&scene.cards, &loss(&records[0], LossKind::Formal))
        .await
        .unwrap();
    assert!(answer.applied);
}

pub(crate) async fn bureau_and_history_change_together_or_not_at_all(scene: Scene) {
    let records = scene.holders(2).await;
    let mut bureau = administrator(&scene).await;
    let head = scene.cards.store().poll_head().await.unwrap();
    // The history cannot be written.
    sqlx::raw_sql(
        "ALTER TABLE banqiao_card.card_change ADD CONSTRAINT none CHECK (cause <> 'loss-reported')",
    )
    .execute(&mut bureau)
    .await
    .unwrap();
    report(&scene.cards, &loss(&records[0], LossKind::Formal))
        .await
        .unwrap_err();
    assert_eq!(state_at_bureau(&mut bureau, &records[0]).await.0, "1");
    // The bureau's table cannot be written.
    sqlx::raw_sql("ALTER TABLE banqiao_card.card_change DROP CONSTRAINT none; ALTER TABLE hrss.card_base ADD CONSTRAINT never CHECK (aaz502 <> '3')")
        .execute(&mut bureau)
        .await
        .unwrap();
    report(&scene.cards, &loss(&records[0], LossKind::Formal))
        .await
        .unwrap_err();
    assert_eq!(scene.cards.store().poll_head().await.unwrap(), head);
    sqlx::raw_sql("ALTER TABLE hrss.card_base DROP CONSTRAINT never")
        .execute(&mut bureau)
        .await
        .unwrap();
    assert!(
        report(&scene.cards, &loss(&records[0], LossKind::Formal))
            .await
            .unwrap()
            .applied
    );
    assert_eq!(scene.cards.store().poll_head().await.unwrap(), head + 1);
    assert_eq!(state_at_bureau(&mut bureau, &records[0]).await.0, "3");
}

pub(crate) async fn a_loss_that_the_bureau_ended_is_over(scene: Scene) {
    let records = scene.holders(2).await;
    let mut bureau = administrator(&scene).await;
    report(&scene.cards, &loss(&records[0], LossKind::Temporary))
        .await
        .unwrap();
    set_at_bureau(&mut bureau, &records[0], "1").await;
    assert_eq!(scene.state_of(&records[0]).await.0, CardState::Normal);
    scene.clock.advance_us(11 * DAY);
    assert_eq!(scene.cards.end_temporary_losses().await.unwrap(), 0);
    // One that the bureau recorded itself has no end here: its own programs end it.
    set_at_bureau(&mut bureau, &records[1], "2").await;
    scene.clock.advance_us(300 * DAY);
    assert_eq!(scene.cards.end_temporary_losses().await.unwrap(), 0);
    assert_eq!(scene.state_of(&records[1]).await.0, CardState::TempLost);
}

pub(crate) async fn evidence_stays_as_it_is_when_this_service_keeps_a_row(scene: Scene) {
    let records = scene.holders(1).await;
    let mut bureau = administrator(&scene).await;
    // A card that came into the bureau's table by another way.
    sqlx::raw_sql(
        "INSERT INTO hrss.ac01 (aac002, aac003) VALUES ('370202199001010007', '测试子安'); \
         INSERT INTO hrss.card_base SELECT 'T02999999', aac001, '370200d156000005', '1', '1', true, '370202', '20250101', '20350101', 'SYNTHETIC' \
         FROM hrss.ac01 WHERE aac002 = '370202199001010007'",
    )
    .execute(&mut bureau)
    .await
    .unwrap();
    let mut other = records[0].clone();
    other.card_number = "T02999999".into();
    other.social_security_number = "370202199001010007".into();
    other.name = "测试子安".into();
    other.card_identification_code = "370200D156000005".into();
    let first = scene.verify(&verify_request(&other)).await;
    assert!(first.r#match);
    assert_eq!(
        scene
            .replica()
            .await
            .verify(
                &Verify::parse(
                    &verify_request(&other),
                    civil_date(scene.cards.clock().now_us())
                )
                .unwrap()
            )
            .await
            .unwrap(),
        first
    );
    report(&scene.cards, &loss(&other, LossKind::Formal))
        .await
        .unwrap();
    assert_ne!(
        scene.verify(&verify_request(&other)).await.evidence_digest,
        first.evidence_digest
    );
    set_at_bureau(&mut bureau, &other, "1").await;
    assert_eq!(scene.verify(&verify_request(&other)).await, first);
}

pub(crate) async fn mismatches(scene: &Scene, mapping: &str) -> Vec<String> {
    let mapping = Mapping::parse(mapping, &CARD_MAPPING).unwrap();
    let Err(DatabaseError::Mapping(MappingError::Faults(faults))) =
        Store::open_mapped(&scene.settings, Some(&mapping)).await
    else {
        return Vec::new();
    };
    faults.0.iter().map(ToString::to_string).collect()
}

pub(crate) async fn every_mismatch_is_named_at_once(scene: Scene) {
    let records = scene.holders(1).await;
    let mut bureau = administrator(&scene).await;
    set_at_bureau(&mut bureau, &records[0], "7").await;
    sqlx::raw_sql("REVOKE UPDATE ON hrss.card_base FROM card")
        .execute(&mut bureau)
        .await
        .unwrap();
    let found = mismatches(&scene, bureau::MAPPING).await;
    assert_eq!(
        found,
        [
            "card.social_state: rows hold the code \"7\" in the column AAZ502, which is not in [codes.state]",
            "statements.set_card_state: the database does not take it: permission denied for table card_base (SQLSTATE 42501)",
            "statements.set_card_states: the database does not take it: permission denied for table card_base (SQLSTATE 42501)",
            "statements.update_card: the database does not take it: permission denied for table card_base (SQLSTATE 42501)",
            "statements.update_cards: the database does not take it: permission denied for table card_base (SQLSTATE 42501)",
        ]
    );

    let faulty = bureau::MAPPING
        .replace("\"AAC003\"", "\"AAC099\"")
        .replacen("{ column = \"AAE030\", date = \"%Y%m%d\" }", "\"ecard\"", 1)
        .replace("card_number = \"AAZ500\"", "card_number = \"ecard\"")
        .replace(
            ":electronic::boolean,\n    card_version",
            ":electronic,\n    card_version",
        )
        .replace("FROM person\n", "FROM persons\n");
    let found = mismatches(&scene, &faulty).await;
    for (found, expected) in found.iter().zip([
        "card.card_number: the column ecard is boolean: records are found by it",
        "card.name: there is no column AAC099 in hrss.card_for_network",
        "card.issued_on: the column ecard is boolean: a date is",
        "statements.insert_card: the database does not take it: relation \"persons\" does not exist",
        "statements.set_card_state: the database does not take it: permission denied",
        "statements.set_card_states: the database does not take it: permission denied",
        "statements.update_card: the database does not take it: column \"ecard\" is of type boolean but expression is of type text",
        "statements.update_cards: the database does not take it: permission denied",
    ]) {
        assert!(found.starts_with(expected), "{expected}: {found}");
    }
    assert_eq!(found.len(), 8, "{found:#?}");

    let found = mismatches(
        &scene,
        &bureau::MAPPING.replace("hrss.card_for_network", "hrss.cards"),
    )
    .await;
    assert_eq!(
        found[0],
        "card.relation: there is no table or view hrss.cards"
    );
    let found = mismatches(
        &scene,
        &bureau::MAPPING.replace("hrss.card_for_network", "hrss.card_base"),
    )
    .await;
    assert_eq!(
        found[0],
        "card.social_security_number: there is no column AAC002 in hrss.card_base"
    );
}

pub(crate) async fn many_cards_are_one_statement_and_agree_with_one_by_one(scene: Scene) {
    let mut bureau = administrator(&scene).await;
    // Whoever writes a statement for one card is told.
    sqlx::raw_sql(
        "CREATE TABLE hrss.statements (rows int); CREATE FUNCTION hrss.note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS \
         $$ BEGIN INSERT INTO hrss.statements SELECT count(*) FROM new; RETURN NULL; END $$; \
         CREATE TRIGGER inserted AFTER INSERT ON hrss.card_base REFERENCING NEW TABLE AS new FOR EACH STATEMENT EXECUTE FUNCTION hrss.note(); \
         CREATE TRIGGER updated AFTER UPDATE ON hrss.card_base REFERENCING NEW TABLE AS new FOR EACH STATEMENT EXECUTE FUNCTION hrss.note()",
    )
    .execute(&mut bureau)
    .await
    .unwrap();
    let records = scene.holders(40).await;
    let changed: Vec<_> = (0..)
        .zip(&records)
        .map(|(at, record)| match at % 3 {
            0 => CardRecord {
                social_state: CardState::Cancelled.into(),
                ..record.clone()
            },
            1 => CardRecord {
                name: format!("测试{at}"),
                ..record.clone()
            },
            _ => record.clone(),
        })
        .collect();
    let outcomes = scene.import(&changed).await;
    for (at, outcome) in outcomes.iter().enumerate() {
        let expected = match (at % 3, records[at].social_state()) {
            (2, _) | (0, CardState::Cancelled) => LineOutcome::Unchanged,
            _ => LineOutcome::Updated,
        };
        assert_eq!(*outcome, expected, "{at}");
    }
    let statements: Vec<i32> = sqlx::query_scalar("SELECT rows FROM hrss.statements")
        .fetch_all(&mut bureau)
        .await
        .unwrap();
    assert_eq!(statements.len(), 3, "{statements:?}");
    assert_eq!((statements[0], statements[2]), (40, 13));
    assert!(
        scene
            .import(&changed)
            .await
            .iter()
            .all(|outcome| *outcome == LineOutcome::Unchanged)
    );
    // One that the bureau's tables refuse is refused alone.
    let mut more: Vec<_> = synthetic::holders(qingdao(), 48, 1)
        .unwrap()
        .skip(40)
        .collect();
    more[3].card_number = "TNEVER".into();
    sqlx::raw_sql("ALTER TABLE hrss.card_base ADD CONSTRAINT never CHECK (aaz500 <> 'TNEVER')")
        .execute(&mut bureau)
        .await
        .unwrap();
    let outcomes = scene.import(&more).await;
    let refused: Vec<_> = (0..8)
        .filter(|at| matches!(outcomes[*at], LineOutcome::Refused(_)))
        .collect();
    assert_eq!(refused, [3], "{outcomes:?}");
    more.remove(3);
    assert!(
        scene
            .import(&more)
            .await
            .iter()
            .all(|outcome| *outcome == LineOutcome::Unchanged)
    );
}

pub(crate) async fn insured_persons_are_those_of_the_bureaus_table(scene: Scene) {
    let mut bureau = administrator(&scene).await;
    let today = civil_date(scene.cards.clock().now_us());
    let mut period = medical(3);
    assert_eq!(
        take(&scene, &[period.clone()]).await,
        [LineOutcome::Created]
    );
    let row: (String, String, Option<String>) = sqlx::query_as(
        "SELECT aae140::text, aac008::text, aae031::text FROM hrss.insurance_for_network WHERE aac002 = $1",
    )
    .bind(&period.social_security_number)
    .fetch_one(&mut bureau)
    .await
    .unwrap();
    assert_eq!(row, ("310".into(), "1".into(), None));
    period.ends_on = "2026-12-31".into();
    period.set_insured_status(InsuredStatus::Paused);
    assert_eq!(
        take(&scene, &[period.clone()]).await,
        [LineOutcome::Updated]
    );
    assert_eq!(
        take(&scene, &[period.clone()]).await,
        [LineOutcome::Unchanged]
    );
    let request = CheckEntitlementRequest {
        social_security_number: period.social_security_number.clone(),
        scheme: period.scheme,
        benefit: BenefitCode::ManualReimbursement.into(),
        on_date: today.to_string(),
        insured_city: String::new(),
    };
    let asked = Asked::parse(&request, today).unwrap();
    let judge = async || entitlements(&scene).judge(&asked).await;
    assert_eq!(judge().await.unwrap().status, InsuredStatus::Paused);
    let none: i64 = sqlx::query_scalar("SELECT count(*) FROM banqiao_card.insurance_period")
        .fetch_one(&mut bureau)
        .await
        .unwrap();
    assert_eq!(none, 0, "this service keeps no copy");
    // The bureau's own programs count at once, and what they hold is never guessed.
    sqlx::raw_sql("UPDATE hrss.ac02 SET aac008 = '1'")
        .execute(&mut bureau)
        .await
        .unwrap();
    assert_eq!(judge().await.unwrap().status, InsuredStatus::Normal);
    sqlx::raw_sql("UPDATE hrss.ac02 SET aac008 = '7'")
        .execute(&mut bureau)
        .await
        .unwrap();
    let error = judge().await.unwrap_err();
    assert!(
        matches!(error, StoreError::Unreadable("insured_status")),
        "{error:?}"
    );
    let outcomes = take(&scene, &[medical(5), period.clone()]).await;
    assert_eq!(outcomes[0], LineOutcome::Created);
    assert!(matches!(outcomes[1], LineOutcome::Refused(_)));
    assert_eq!(
        mismatches(&scene, bureau::MAPPING).await,
        [
            "insurance.insured_status: rows hold the code \"7\" in the column AAC008, which is not in [codes.insured]"
        ]
    );
    sqlx::raw_sql(
        "UPDATE hrss.ac02 SET aac008 = '1'; INSERT INTO hrss.ac02 SELECT aac001, aae140, aab301, '20260101', NULL, aac008, aae116, NULL, NULL, recorded_as_of \
         FROM hrss.ac02",
    )
    .execute(&mut bureau)
    .await
    .unwrap();
    let error = judge().await.unwrap_err();
    assert!(
        matches!(error, StoreError::Unreadable("begins_on")),
        "{error:?}"
    );
}
