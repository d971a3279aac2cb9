//! Imports.

use banqiao_card::{Cause, ImportCounts, LineOutcome, Part, synthetic};
use banqiao_proto::card::v1::{CardRecord, CardState, ImportCardsRequest, ImportOutcome, LossKind};
use futures_util::future::join_all;

use crate::scene::{DAY, Scene, loss, qingdao, report};

fn codes(outcome: &LineOutcome) -> Vec<(&str, &'static str)> {
    let LineOutcome::Refused(faults) = outcome else {
        return Vec::new();
    };
    faults
        .iter()
        .map(|fault| (fault.field.as_ref(), fault.rule.code))
        .collect()
}

fn in_state(record: &CardRecord, state: CardState) -> CardRecord {
    CardRecord {
        social_state: state.into(),
        ..record.clone()
    }
}

pub(crate) async fn a_file_is_taken_once_and_changes_are_taken_over(scene: Scene) {
    let records = scene.holders(1_200).await;
    let head = scene.cards.store().poll_head().await.unwrap();
    assert_eq!(head, 2_400, "one change for each function of each card");
    let again = scene.import(&records).await;
    assert!(
        again
            .iter()
            .all(|outcome| *outcome == LineOutcome::Unchanged)
    );
    assert_eq!(scene.cards.store().poll_head().await.unwrap(), head);

    let mut changed = records[0].clone();
    changed.name = "测试改名".into();
    changed.financial_state = CardState::Locked.into();
    assert_eq!(
        scene.import(&[changed.clone()]).await,
        [LineOutcome::Updated]
    );
    let answer = scene.verify(&crate::scene::verify_request(&changed)).await;
    assert!(answer.r#match);
    assert_eq!(answer.financial_state(), CardState::Locked);
    let history = scene.history(&changed).await;
    assert_eq!(history.len(), 3);
    assert_eq!(
        (history[2].seq, history[2].cause),
        (head + 1, Cause::Imported)
    );

    let mut counts = ImportCounts::default();
    for outcome in [
        &LineOutcome::Created,
        &LineOutcome::Updated,
        &LineOutcome::Unchanged,
    ] {
        counts.add(&outcome.result(1));
    }
    assert_eq!(
        counts,
        ImportCounts {
            created: 1,
            updated: 1,
            unchanged: 1,
            refused: 0
        }
    );
}

pub(crate) async fn each_faulty_line_names_field_and_rule_and_the_others_go_through(scene: Scene) {
    let taken = scene.holders(3).await;
    let fresh: Vec<CardRecord> = synthetic::holders(qingdao(), 20, 1)
        .unwrap()
        .skip(10)
        .collect();
    let change = |index: usize, change: &dyn Fn(&mut CardRecord)| {
        let mut record = fresh[index].clone();
        change(&mut record);
        record
    };
    let lines = [
        fresh[0].clone(),
        change(1, &|card| {
            card.social_security_number = "370202199001010008".into()
        }),
        change(2, &|card| {
            card.name = String::new();
            card.expires_on = "soon".into();
        }),
        change(3, &|card| card.card_number = taken[0].card_number.clone()),
        change(4, &|card| {
            card.card_identification_code = taken[1].card_identification_code.to_lowercase()
        }),
        // Two lines of one card in one batch: the second is judged by what the first made.
        fresh[5].clone(),
        change(5, &|card| card.social_state = CardState::Sealed.into()),
        change(6, &|card| card.issuing_division = "370602".into()),
        fresh[7].clone(),
    ];
    let outcomes = scene.import(&lines).await;
    let expected: [&[(&str, &str)]; 9] = [
        &[],
        &[("social_security_number", "CITIZEN_ID_CHECK_DIGIT")],
        &[("name", "HOLDER_NAME"), ("expires_on", "DATE")],
        &[("social_security_number", "HOLDER_CHANGED")],
        &[("card_identification_code", "CHIP_TAKEN")],
        &[],
        &[("social_state", "TRANSITION")],
        &[("issuing_division", "OTHER_CITY")],
        &[],
    ];
    for (outcome, expected) in outcomes.iter().zip(expected) {
        assert_eq!(codes(outcome), expected);
    }
    let result = outcomes[2].result(3);
    assert_eq!((result.line, result.outcome()), (3, ImportOutcome::Refused));
    assert_eq!(result.field, "name");
    assert!(result.rule.contains("GB/T 39046-2020") && result.rule.contains("; expires_on: "));
}

pub(crate) async fn an_electronic_link_that_an_import_changes_is_history(scene: Scene) {
    let record = scene.one_in(CardState::Normal, CardState::Normal).await;
    for (electronic, expected) in [
        (true, (None, CardState::Normal)),
        (false, (Some(CardState::Normal), CardState::Cancelled)),
        (true, (None, CardState::Normal)),
    ] {
        let before = scene.history(&record).await.len();
        let line = CardRecord {
            electronic,
            ..record.clone()
        };
        let outcomes = scene.import(std::slice::from_ref(&line)).await;
        assert_eq!(outcomes, [LineOutcome::Updated]);
        let outcomes = scene.import(&[line]).await;
        assert_eq!(outcomes, [LineOutcome::Unchanged]);
        let history = scene.history(&record).await;
        assert_eq!(history.len(), before + 1);
        let last = history.last().unwrap();
        assert_eq!(
            (
                last.part,
                last.from.map(|from| from.shown()),
                last.to.shown(),
                last.cause
            ),
            (Part::Electronic, expected.0, expected.1, Cause::Imported)
        );
    }
}

pub(crate) async fn an_import_keeps_the_state_machine(scene: Scene) {
    let records = scene.holders(6).await;
    let with = |index: usize, state| in_state(&records[index], state);
    // The issuer's own states come and go along the table.
    for (state, outcome) in [
        (CardState::Lost, LineOutcome::Updated),
        (CardState::Normal, LineOutcome::Updated),
        (CardState::TempLost, LineOutcome::Updated),
        (CardState::TempLost, LineOutcome::Unchanged),
        (CardState::Locked, LineOutcome::Updated),
        (CardState::Cancelled, LineOutcome::Updated),
    ] {
        assert_eq!(
            scene.import(&[with(0, state)]).await,
            [outcome],
            "{state:?}"
        );
    }
    let outcomes = scene.import(&[with(0, CardState::Normal)]).await;
    assert_eq!(codes(&outcomes[0]), [("social_state", "TRANSITION")]);
}

pub(crate) async fn an_import_lifts_no_reported_loss(scene: Scene) {
    let records = scene.holders(6).await;
    let with = |index: usize, state| in_state(&records[index], state);
    report(&scene.cards, &loss(&records[1], LossKind::Formal))
        .await
        .unwrap();
    report(&scene.cards, &loss(&records[2], LossKind::Temporary))
        .await
        .unwrap();
    for (line, expected) in [
        (
            with(1, CardState::Normal),
            Some(("social_state", "LOSS_STANDS")),
        ),
        (
            with(1, CardState::TempLost),
            Some(("social_state", "LOSS_STANDS")),
        ),
        (with(1, CardState::Lost), None),
        (
            with(2, CardState::Normal),
            Some(("social_state", "LOSS_STANDS")),
        ),
        (
            with(2, CardState::Locked),
            Some(("social_state", "LOSS_STANDS")),
        ),
        (with(2, CardState::Lost), None),
        // It came from a report and stays one.
        (
            with(2, CardState::Normal),
            Some(("social_state", "LOSS_STANDS")),
        ),
        (with(2, CardState::Cancelled), None),
    ] {
        let outcomes = scene.import(&[line]).await;
        assert_eq!(
            codes(&outcomes[0]),
            expected.into_iter().collect::<Vec<_>>()
        );
    }
}

pub(crate) async fn a_reported_loss_ends_and_a_recorded_one_may_be_reported(scene: Scene) {
    let records = scene.holders(6).await;
    let with = |index: usize, state| in_state(&records[index], state);
    // What the issuer recorded as lost and is then reported lost is no longer the issuer's to lift by an import.
    assert_eq!(
        scene.import(&[with(4, CardState::Lost)]).await,
        [LineOutcome::Updated]
    );
    report(&scene.cards, &loss(&records[4], LossKind::Temporary))
        .await
        .unwrap();
    assert_eq!(
        scene.import(&[with(4, CardState::Normal)]).await,
        [LineOutcome::Updated]
    );
    assert_eq!(
        scene.import(&[with(4, CardState::Lost)]).await,
        [LineOutcome::Updated]
    );
    let confirmed = report(&scene.cards, &loss(&records[4], LossKind::Formal))
        .await
        .unwrap();
    let history = scene.history(&records[4]).await;
    assert_eq!(
        confirmed.cursor,
        history.last().unwrap().seq.to_string(),
        "no state has changed"
    );
    let outcomes = scene.import(&[with(4, CardState::Normal)]).await;
    assert_eq!(codes(&outcomes[0]), [("social_state", "LOSS_STANDS")]);
    // A reported loss that has ended is over, also for an import that comes before the sweep.
    report(&scene.cards, &loss(&records[3], LossKind::Temporary))
        .await
        .unwrap();
    scene.clock.advance_us(10 * DAY);
    assert_eq!(
        scene.import(&[with(3, CardState::Locked)]).await,
        [LineOutcome::Updated]
    );
    let causes: Vec<_> = scene
        .history(&records[3])
        .await
        .iter()
        .map(|change| change.cause)
        .collect();
    assert_eq!(
        causes[2..],
        [
            Cause::LossReported,
            Cause::TemporaryLossEnded,
            Cause::Imported
        ]
    );
}

pub(crate) async fn imports_at_once_agree(scene: Scene) {
    let replica = scene.replica().await;
    let records: Vec<CardRecord> = synthetic::holders(qingdao(), 600, 1).unwrap().collect();
    let lines: Vec<_> = (1..)
        .zip(&records)
        .map(|(line, card)| ImportCardsRequest {
            line,
            card: Some(card.clone()),
        })
        .collect();
    let imports = [&scene.cards, &replica, &scene.cards].map(|cards| {
        let lines = &lines;
        async move { cards.import(lines, &cards.own_actor()).await.unwrap() }
    });
    let outcomes = join_all(imports).await;
    for line in 0..lines.len() {
        let created = outcomes
            .iter()
            .filter(|outcomes| outcomes[line] == LineOutcome::Created)
            .count();
        assert_eq!(created, 1, "line {line}");
    }
    assert_eq!(scene.cards.store().poll_head().await.unwrap(), 1_200);
}

pub(crate) async fn the_last_line_of_a_card_wins_however_long_the_file_is(scene: Scene) {
    let records: Vec<CardRecord> = synthetic::holders(qingdao(), 40, 1).unwrap().collect();
    let actor = scene.cards.own_actor();
    let mut import = scene.cards.importer(&actor);
    let mut outcomes = Vec::new();
    let mut number = 0;
    // Each batch repeats half of the one before it in another state.
    for (state, part) in [
        (CardState::Normal, &records[..20]),
        (CardState::Lost, &records[10..30]),
        (CardState::Normal, &records[20..]),
    ] {
        let lines = part.iter().map(|record| {
            number += 1;
            ImportCardsRequest {
                line: number,
                card: Some(in_state(record, state)),
            }
        });
        outcomes.extend(import.take(lines.collect()).await.unwrap());
    }
    outcomes.extend(import.finish().await.unwrap());
    let lines: Vec<_> = outcomes.iter().map(|(line, _)| *line).collect();
    assert_eq!(lines, (1..=60).collect::<Vec<_>>());
    for (line, outcome) in &outcomes {
        let repeated = matches!(line, 21..=30 | 41..=50);
        let expected = if repeated {
            LineOutcome::Updated
        } else {
            LineOutcome::Created
        };
        assert_eq!(*outcome, expected, "{line}");
    }
    assert_eq!(scene.state_of(&records[15]).await.0, CardState::Lost);
    assert_eq!(scene.state_of(&records[25]).await.0, CardState::Normal);
}
