//! Loss reports.

use banqiao_card::{CardNumber, Cause, Lookup, ReportError, StoreError, Write};
use banqiao_proto::card::v1::{
    CardFunction, CardRecord, CardState, LossKind, ReportLossRequest, ReportLossResponse,
};
use futures_util::future::join_all;

use crate::scene::{DAY, NOON, SECOND, Scene, loss, report, report_as};

pub(crate) async fn a_temporary_loss_ends_by_itself(scene: Scene) {
    let records = scene.holders(2).await;
    let answer = report(&scene.cards, &loss(&records[0], LossKind::Temporary))
        .await
        .unwrap();
    assert!(answer.applied && !answer.repeated);
    assert_eq!(answer.state(), CardState::TempLost);
    assert_eq!(answer.until.unwrap().seconds * SECOND, NOON + 10 * DAY);
    assert_eq!(
        scene.state_of(&records[0]).await,
        (CardState::TempLost, CardState::Normal)
    );
    // A second report does not make it last longer.
    scene.clock.advance_us(DAY);
    let second = report(&scene.cards, &loss(&records[0], LossKind::Temporary))
        .await
        .unwrap();
    assert!(second.applied && !second.repeated);
    assert_eq!(
        (second.until, &second.cursor),
        (answer.until, &answer.cursor)
    );

    scene.clock.set_us(NOON + 10 * DAY - 1);
    assert_eq!(scene.cards.end_temporary_losses().await.unwrap(), 0);
    assert_eq!(scene.state_of(&records[0]).await.0, CardState::TempLost);
    scene.clock.advance_us(1);
    // Answers do not wait for the sweep.
    assert_eq!(scene.state_of(&records[0]).await.0, CardState::Normal);
    scene.clock.advance_us(SECOND);
    let replica = scene.replica().await;
    let ended = join_all([
        scene.cards.end_temporary_losses(),
        replica.end_temporary_losses(),
    ])
    .await;
    let ended: usize = ended.into_iter().map(Result::unwrap).sum();
    assert_eq!(ended, 1, "two replicas end it once");
    let last = scene.history(&records[0]).await.pop().unwrap();
    assert_eq!(
        (last.cause, last.changed_at_us),
        (Cause::TemporaryLossEnded, NOON + 10 * DAY)
    );
    assert_eq!(last.actor_city.as_str(), "370200");
}

pub(crate) async fn a_formal_loss_stays_and_the_functions_are_separate(scene: Scene) {
    let records = scene.holders(1).await;
    let financial = |kind| ReportLossRequest {
        function: CardFunction::Financial.into(),
        ..loss(&records[0], kind)
    };
    let answer = report(&scene.cards, &financial(LossKind::Temporary))
        .await
        .unwrap();
    assert_eq!(answer.until.unwrap().seconds * SECOND, NOON + 5 * DAY);
    let answer = report(&scene.cards, &financial(LossKind::Formal))
        .await
        .unwrap();
    assert_eq!((answer.state(), answer.until), (CardState::Lost, None));
    assert_eq!(
        scene.state_of(&records[0]).await,
        (CardState::Normal, CardState::Lost)
    );
    scene.clock.advance_us(30 * DAY);
    assert_eq!(scene.cards.end_temporary_losses().await.unwrap(), 0);
    assert_eq!(
        scene.state_of(&records[0]).await,
        (CardState::Normal, CardState::Lost)
    );
    // A temporary report of what is formally lost changes nothing and says how it stands.
    let weaker = report(&scene.cards, &financial(LossKind::Temporary))
        .await
        .unwrap();
    assert_eq!(
        (weaker.applied, weaker.state(), weaker.until),
        (true, CardState::Lost, None)
    );
    assert_eq!(weaker.cursor, answer.cursor);
    let history = scene.history(&records[0]).await;
    assert_eq!(history.last().unwrap().actor_city.as_str(), "371000");
}

pub(crate) async fn the_first_answer_is_given_again(scene: Scene) {
    let records = scene.holders(2).await;
    let request = loss(&records[0], LossKind::Temporary);
    let first = report(&scene.cards, &request).await.unwrap();
    scene.clock.advance_us(20 * DAY);
    scene.cards.end_temporary_losses().await.unwrap();
    let again = report(&scene.replica().await, &request).await.unwrap();
    assert_eq!(
        again,
        ReportLossResponse {
            repeated: true,
            ..first
        }
    );
    assert_eq!(
        scene.state_of(&records[0]).await.0,
        CardState::Normal,
        "and nothing is applied"
    );

    let other = ReportLossRequest {
        kind: LossKind::Formal.into(),
        ..request.clone()
    };
    let refused = report(&scene.cards, &other).await.unwrap_err();
    assert!(matches!(refused, ReportError::CallerReusedId));
    // Request ids of different clients do not meet.
    let elsewhere = report_as(&scene.cards, &other, "spiffe://rizhao.jiaodong/hrss/window")
        .await
        .unwrap();
    assert!(elsewhere.applied && !elsewhere.repeated);
}

pub(crate) async fn nothing_matched_says_nothing_more(scene: Scene) {
    let records = scene.holders(2).await;
    let wrong_name = ReportLossRequest {
        name: "测试旁人".into(),
        ..loss(&records[0], LossKind::Formal)
    };
    let mut unknown = loss(&records[0], LossKind::Formal);
    unknown.key.as_mut().unwrap().card_number = "T02999999".into();
    let mut cancelled = loss(&records[1], LossKind::Formal);
    let mut record = records[1].clone();
    record.social_state = CardState::Cancelled.into();
    scene.import(&[record]).await;
    cancelled.name = "测试旁人".into();
    for request in [&wrong_name, &unknown, &cancelled] {
        let answer = report(&scene.cards, request).await.unwrap();
        assert_eq!(answer, ReportLossResponse::default());
        let again = report(&scene.cards, request).await.unwrap();
        assert_eq!(
            again,
            ReportLossResponse {
                repeated: true,
                ..ReportLossResponse::default()
            }
        );
    }
    assert_eq!(
        scene.state_of(&records[0]).await,
        (CardState::Normal, CardState::Normal)
    );
}

pub(crate) async fn what_the_table_does_not_hold_is_refused(scene: Scene) {
    let records = scene.holders(4).await;
    let mut lines: Vec<CardRecord> = records.clone();
    lines[0].social_state = CardState::Locked.into();
    lines[1].social_state = CardState::Cancelled.into();
    lines[2].expires_on = "2026-11-22".into();
    scene.import(&lines).await;
    for (record, state) in [
        (&lines[0], CardState::Locked),
        (&lines[1], CardState::Cancelled),
        (&lines[2], CardState::Expired),
    ] {
        let refused = report(&scene.cards, &loss(record, LossKind::Formal))
            .await
            .unwrap_err();
        assert!(matches!(refused, ReportError::CallerTransition { shown, .. } if shown == state));
    }
}

pub(crate) async fn one_request_sent_many_times_at_once_is_applied_once(scene: Scene) {
    let records = scene.holders(1).await;
    let replica = scene.replica().await;
    let request = loss(&records[0], LossKind::Temporary);
    let sent = (0..32).map(|n| report(if n % 2 == 0 { &scene.cards } else { &replica }, &request));
    let answers: Vec<_> = join_all(sent)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert_eq!(answers.iter().filter(|answer| !answer.repeated).count(), 1);
    for answer in &answers {
        assert_eq!(
            (answer.state(), &answer.cursor),
            (CardState::TempLost, &answers[0].cursor)
        );
    }
    let reported = scene.history(&records[0]).await;
    assert_eq!(
        reported
            .iter()
            .filter(|change| change.cause == Cause::LossReported)
            .count(),
        1
    );
}

pub(crate) async fn transitions_at_once_make_one_chain(scene: Scene) {
    let records = scene.holders(1).await;
    let replica = scene.replica().await;
    let requests: Vec<_> = (0..24)
        .map(|n| {
            loss(
                &records[0],
                if n % 3 == 0 {
                    LossKind::Formal
                } else {
                    LossKind::Temporary
                },
            )
        })
        .collect();
    let sent = requests
        .iter()
        .enumerate()
        .map(|(n, request)| report(if n % 2 == 0 { &scene.cards } else { &replica }, request));
    let answers: Vec<_> = join_all(sent)
        .await
        .into_iter()
        .map(Result::unwrap)
        .collect();
    assert!(
        answers
            .iter()
            .all(|answer| answer.applied && !answer.repeated)
    );
    assert_eq!(scene.state_of(&records[0]).await.0, CardState::Lost);
    let history = scene.history(&records[0]).await;
    let social: Vec<_> = history
        .iter()
        .filter(|c| c.part == banqiao_card::Part::Social)
        .collect();
    for pair in social.windows(2) {
        assert_eq!(
            pair[1].from,
            Some(pair[0].to),
            "each change begins where the last one ended"
        );
    }
    assert!(social.len() <= 3, "NORMAL, perhaps TEMP_LOST, LOST");
}

pub(crate) async fn a_random_run_agrees_with_a_model(scene: Scene) {
    let records = scene.holders(3).await;
    // State, and end of a temporary loss, of the social function of each card.
    let mut model = [(CardState::Normal, 0); 3];
    let mut now = NOON;
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |limit: u64| {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) % limit
    };
    for step in 0..250 {
        let card = usize::try_from(draw(3)).unwrap();
        for (state, end) in &mut model {
            if *state == CardState::TempLost && *end <= now {
                *state = CardState::Normal;
            }
        }
        let (state, end) = &mut model[card];
        match draw(10) {
            0..=3 => {
                let answer = report(&scene.cards, &loss(&records[card], LossKind::Temporary))
                    .await
                    .unwrap();
                if *state == CardState::Normal {
                    (*state, *end) = (CardState::TempLost, now + 10 * DAY);
                }
                assert_eq!(answer.state(), *state, "step {step}");
            }
            4 => {
                let answer = report(&scene.cards, &loss(&records[card], LossKind::Formal))
                    .await
                    .unwrap();
                *state = CardState::Lost;
                assert_eq!(answer.state(), *state, "step {step}");
            }
            5 => {
                scene.cards.end_temporary_losses().await.unwrap();
            }
            6 => {
                // Data of the issuer that is older than every report lifts nothing.
                scene.import(&records).await;
            }
            _ => {
                now += i64::try_from(draw(4)).unwrap() * DAY;
                scene.clock.set_us(now);
            }
        }
        for (record, (state, end)) in records.iter().zip(&model) {
            let ended = *state == CardState::TempLost && *end <= now;
            let expected = if ended { CardState::Normal } else { *state };
            assert_eq!(scene.state_of(record).await.0, expected, "step {step}");
        }
    }
    scene.cards.end_temporary_losses().await.unwrap();
    let all = scene.cards.store().changes(0, 10_000).await.unwrap();
    assert!(
        (1..).zip(&all).all(|(seq, change)| change.seq == seq),
        "without a gap"
    );
}

pub(crate) async fn the_history_cannot_be_rewritten(scene: Scene) {
    let records = scene.holders(1).await;
    report(&scene.cards, &loss(&records[0], LossKind::Formal))
        .await
        .unwrap();
    for statement in [
        "UPDATE card_change SET actor_city = '370600'",
        "DELETE FROM card_change WHERE seq = 1",
        "UPDATE service_request SET seq = 7",
        "DELETE FROM service_request",
    ] {
        let refused = match &scene.settings.url {
            banqiao_kit::DatabaseUrl::Postgres(url) => {
                let pool = sqlx::PgPool::connect(url).await.unwrap();
                sqlx::query(statement).execute(&pool).await.map(drop)
            }
            banqiao_kit::DatabaseUrl::Sqlite(path) => {
                let pool = sqlx::SqlitePool::connect(path.to_str().unwrap())
                    .await
                    .unwrap();
                sqlx::query(statement).execute(&pool).await.map(drop)
            }
        };
        assert!(
            refused.unwrap_err().to_string().contains("append-only"),
            "{statement}"
        );
    }
    assert_eq!(scene.history(&records[0]).await.len(), 3);
}

pub(crate) async fn a_write_on_an_old_version_loses(scene: Scene) {
    let records = scene.holders(1).await;
    let number = CardNumber::parse(&records[0].card_number).unwrap();
    let read = scene
        .cards
        .store()
        .find(&Lookup::Number(number))
        .await
        .unwrap()
        .unwrap();
    report(&scene.cards, &loss(&records[0], LossKind::Formal))
        .await
        .unwrap();
    let mut stale = read.clone();
    stale.card.electronic = false;
    for write in [
        Write {
            updates: vec![stale],
            ..Write::default()
        },
        Write {
            inserts: vec![read],
            ..Write::default()
        },
    ] {
        let lost = scene.cards.store().write(&write).await.unwrap_err();
        assert!(matches!(lost, StoreError::Conflict), "{lost:?}");
    }
    assert_eq!(scene.state_of(&records[0]).await.0, CardState::Lost);
}
