//! 养老保险关系转移接续 step by step: two cities, simulated weeks.

use banqiao_card::pension::{ProgressWatches, Transfers};
use banqiao_kit::{CallError, FollowSettings, identifier::CitizenId};
use banqiao_proto::card::v1::{
    LimitWarning, PensionScheme, TransferProgress, TransferSide, TransferState as State,
    advance_transfer_request::Decision,
};
use futures_util::{StreamExt, future::join_all};
use jiff::civil::date;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    pension_scene::{
        Cities, HOLDER, TOTAL, application, because, carry, complete, issue_letter, reason, settle,
        table,
    },
    scene::BRISK,
};

fn shown(progress: &TransferProgress) -> (State, u32, &str, &str, i32) {
    (
        progress.state(),
        progress.step,
        &progress.holding_city,
        &progress.last_day,
        progress.working_days_left,
    )
}

pub(crate) async fn a_transfer_takes_its_steps_across_spring_festival(cities: Cities) {
    let Cities { new, old, .. } = &cities;
    let transfer = cities.applied().await;
    // 02-09 to 02-14 (a Saturday that is worked), 02-24 to 02-28 (another), 03-02 to 03-05.
    let progress = new.progress(transfer).await.unwrap();
    assert_eq!(
        shown(&progress),
        (State::UnderReview, 2, "370200", "2026-03-05", 15)
    );
    assert_eq!(progress.warning(), LimitWarning::Unspecified);

    cities.set(date(2026, 2, 13));
    new.advance(transfer, issue_letter()).await.unwrap();
    // Until the letter has arrived the old city has no limit.
    let progress = new.progress(transfer).await.unwrap();
    assert_eq!(shown(&progress), (State::LetterIssued, 3, "370200", "", 0));
    cities.deliver().await;
    for city in [new, old] {
        let progress = city.progress(transfer).await.unwrap();
        assert_eq!(
            (progress.step, progress.holding_city.as_str()),
            (3, "370600")
        );
        assert_eq!(
            (progress.last_day.as_str(), progress.working_days_left),
            ("2026-03-12", 15)
        );
    }

    cities.set(date(2026, 3, 2));
    old.advance(transfer, Decision::TransferOut(table()))
        .await
        .unwrap();
    cities.deliver().await;
    // Table alone: step 3 goes on, and its limit stays.
    let progress = new.progress(transfer).await.unwrap();
    assert_eq!(
        shown(&progress),
        (State::AwaitingFunds, 3, "370600", "2026-03-12", 8)
    );
    assert_eq!(
        reason(new.advance(transfer, complete()).await),
        "TRANSFER_NOT_IN_STATE"
    );

    cities.set(date(2026, 3, 10));
    let confirmed = new.funds(transfer, TOTAL).await.unwrap();
    assert_eq!(
        (confirmed.state, confirmed.difference_fen),
        (State::Completing, 0)
    );
    let progress = new.progress(transfer).await.unwrap();
    assert_eq!(
        shown(&progress),
        (State::Completing, 4, "370200", "2026-03-31", 15)
    );

    cities.set(date(2026, 3, 20));
    new.advance(transfer, complete()).await.unwrap();
    cities.deliver().await;
    for city in [new, old] {
        let progress = city.progress(transfer).await.unwrap();
        assert_eq!(shown(&progress), (State::Completed, 0, "", "", 0));
    }
    let told = |events: Vec<banqiao_proto::card::v1::TransferEvent>| -> Vec<String> {
        assert!(
            events.iter().all(|event| !event.exchange.is_empty()),
            "{events:?}"
        );
        events.into_iter().map(|event| event.event).collect()
    };
    assert_eq!(
        told(new.events(transfer).await),
        [
            "applied",
            "letter-issued",
            "letter-delivered",
            "table-received",
            "funds-complete",
            "completed",
            "completion-notice-delivered"
        ]
    );
    assert_eq!(
        told(old.events(transfer).await),
        [
            "letter-received",
            "transferred-out",
            "information-table-delivered",
            "completion-received"
        ]
    );
}

pub(crate) async fn step_four_begins_when_table_and_funds_have_both_arrived(cities: Cities) {
    let Cities { new, old, .. } = &cities;
    let transfer = cities.lettered().await;
    assert_eq!(
        new.funds(transfer, TOTAL).await.unwrap().state,
        State::AwaitingTable
    );
    let before = new.progress(transfer).await.unwrap();
    assert_eq!((before.step, before.holding_city.as_str()), (3, "370600"));
    cities.set(date(2026, 3, 4));
    old.advance(transfer, Decision::TransferOut(table()))
        .await
        .unwrap();
    assert_eq!(new.state(transfer).await, Some(State::AwaitingTable));
    cities.deliver().await;
    let after = new.progress(transfer).await.unwrap();
    assert_eq!(
        shown(&after),
        (State::Completing, 4, "370200", "2026-03-25", 15)
    );
}

pub(crate) async fn inside_a_pooled_scheme_the_limit_begins_with_the_table_alone(cities: Cities) {
    let pooled = cities.pooled().await;
    let transfer = pooled.lettered().await;
    assert!(!pooled.new.progress(transfer).await.unwrap().funds_required);
    assert_eq!(
        reason(pooled.new.funds(transfer, TOTAL).await),
        "FUNDS_NOT_REQUIRED"
    );
    pooled
        .old
        .advance(transfer, Decision::TransferOut(table()))
        .await
        .unwrap();
    pooled.deliver().await;
    assert_eq!(pooled.new.state(transfer).await, Some(State::Completing));
    pooled.new.advance(transfer, complete()).await.unwrap();
    pooled.deliver().await;

    // When the cities' settings disagree the letter comes back to the reviewer.
    let mixed = Cities {
        new: pooled.new,
        ..cities
    };
    let transfer = mixed.lettered().await;
    let progress = mixed.new.progress(transfer).await.unwrap();
    assert_eq!(progress.state(), State::UnderReview);
    assert!(
        progress.reason.contains("funds_required"),
        "{}",
        progress.reason
    );
    assert_eq!(mixed.old.state(transfer).await, None);
}

pub(crate) async fn the_age_rule_gives_a_temporary_account(cities: Cities) {
    let mut first = application();
    first.first_away_from_home = true;
    // 36 years: the relation moves.
    let (young, state) = cities.apply(&first).await.unwrap();
    assert_eq!(state, State::UnderReview);
    cities
        .new
        .advance(young, Decision::Withdraw(because()))
        .await
        .unwrap();
    // On the fortieth birthday it does not.
    cities.set(date(2029, 12, 31));
    first.request_id = Uuid::now_v7().to_string();
    assert_eq!(cities.apply(&first).await.unwrap().1, State::UnderReview);
    cities
        .new
        .advance(
            first.request_id.parse().unwrap(),
            Decision::Refuse(because()),
        )
        .await
        .unwrap();
    cities.set(date(2030, 1, 1));
    first.request_id = Uuid::now_v7().to_string();
    assert_eq!(
        cities.apply(&first).await.unwrap().1,
        State::TemporaryAccount
    );
    let transfer: Uuid = first.request_id.parse().unwrap();
    let progress = cities.new.progress(transfer).await.unwrap();
    assert!(
        progress.reason.contains("temporary account"),
        "{}",
        progress.reason
    );
    assert_eq!(cities.new.waiting().await, None);
    // Not for the first time, or to the residents' scheme: no temporary account.
    let mut again = application();
    again.to_scheme = PensionScheme::Resident.into();
    again.first_away_from_home = true;
    assert_eq!(cities.apply(&again).await.unwrap().1, State::UnderReview);
}

pub(crate) async fn tables_that_do_not_add_up_are_refused_with_the_difference(cities: Cities) {
    let Cities { new, old, .. } = &cities;
    let transfer = cities.lettered().await;
    let mut wrong = table();
    wrong.total_fen += 3;
    let refused = old
        .advance(transfer, Decision::TransferOut(wrong))
        .await
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("total_fen differs from its parts by -3 fen"),
        "{refused}"
    );
    assert_eq!(reason::<()>(Err(refused)), "TRANSFERRED_TOTAL");
    assert_eq!(old.state(transfer).await, Some(State::TransferringOut));

    // Table and funds differ: a dispute, a correction, and the end.
    old.advance(transfer, Decision::TransferOut(table()))
        .await
        .unwrap();
    cities.deliver().await;
    let confirmed = new.funds(transfer, TOTAL - 100).await.unwrap();
    assert_eq!(
        (confirmed.state, confirmed.difference_fen),
        (State::Disputed, -100)
    );
    cities.deliver().await;
    assert_eq!(old.state(transfer).await, Some(State::Disputed));
    let progress = new.progress(transfer).await.unwrap();
    assert_eq!(shown(&progress), (State::Disputed, 4, "370600", "", 0));
    let mut corrected = table();
    corrected.account_interest_fen -= 100;
    corrected.total_fen -= 100;
    old.advance(transfer, Decision::TransferOut(corrected))
        .await
        .unwrap();
    cities.deliver().await;
    assert_eq!(new.state(transfer).await, Some(State::Completing));
    // The bureau can dispute what adds up, too.
    new.advance(transfer, Decision::Dispute(because()))
        .await
        .unwrap();
    cities.deliver().await;
    old.advance(transfer, Decision::TransferOut(table()))
        .await
        .unwrap();
    cities.deliver().await;
    assert_eq!(new.state(transfer).await, Some(State::Disputed));
    assert_eq!(
        new.funds(transfer, TOTAL).await.unwrap().state,
        State::Completing
    );
    new.advance(transfer, complete()).await.unwrap();
    cities.deliver().await;
    assert_eq!(old.state(transfer).await, Some(State::Completed));
}

pub(crate) async fn the_insured_withdraws_while_the_relation_has_not_left(cities: Cities) {
    let Cities { new, old, .. } = &cities;
    let reviewed = cities.applied().await;
    new.advance(reviewed, Decision::Withdraw(because()))
        .await
        .unwrap();
    assert_eq!(new.state(reviewed).await, Some(State::Withdrawn));

    let in_time = cities.lettered().await;
    let asked = new
        .advance(in_time, Decision::Withdraw(because()))
        .await
        .unwrap();
    assert_eq!(asked.state, State::Withdrawing);
    cities.deliver().await;
    assert_eq!(new.state(in_time).await, Some(State::Withdrawn));
    assert_eq!(old.state(in_time).await, Some(State::Withdrawn));

    let late = cities.lettered().await;
    old.advance(late, Decision::TransferOut(table()))
        .await
        .unwrap();
    new.advance(late, Decision::Withdraw(because()))
        .await
        .unwrap();
    // The withdrawal is answered before the table arrives.
    assert!(carry(new, old).await);
    assert_eq!(new.state(late).await, Some(State::AwaitingTransferOut));
    cities.deliver().await;
    assert_eq!(new.state(late).await, Some(State::AwaitingFunds));
    assert_eq!(
        reason(new.advance(late, Decision::Withdraw(because())).await),
        "TRANSFER_NOT_IN_STATE"
    );
}

pub(crate) async fn a_refusal_is_explained_and_ends_both_sides(cities: Cities) {
    let Cities { new, old, .. } = &cities;
    let refused = cities.applied().await;
    new.advance(refused, Decision::Refuse(because()))
        .await
        .unwrap();
    let progress = new.progress(refused).await.unwrap();
    assert_eq!(
        (progress.state(), progress.reason.as_str()),
        (State::Refused, "测试原因")
    );

    let declined = cities.lettered().await;
    old.advance(declined, Decision::Decline(because()))
        .await
        .unwrap();
    cities.deliver().await;
    let progress = new.progress(declined).await.unwrap();
    assert_eq!(
        (progress.state(), progress.reason.as_str()),
        (State::Declined, "测试原因")
    );
    assert_eq!(progress.side(), TransferSide::NewCity);
}

pub(crate) async fn a_year_that_is_not_loaded_is_flagged_and_never_guessed(cities: Cities) {
    cities.set(date(2026, 12, 21));
    let transfer = cities.lettered().await;
    for city in [&cities.new, &cities.old] {
        let progress = city.progress(transfer).await.unwrap();
        assert_eq!(progress.warning(), LimitWarning::CalendarNotLoaded);
        assert_eq!(
            (progress.missing_year, progress.last_day.as_str()),
            (2027, "")
        );
        let warnings = city.transfers.warnings(None, 0).await.unwrap();
        assert_eq!(warnings.transfers, [progress]);
    }
}

pub(crate) async fn limits_turn_yellow_and_red(cities: Cities) {
    let transfer = cities.applied().await;
    let warnings = async || {
        cities
            .new
            .transfers
            .warnings(None, 0)
            .await
            .unwrap()
            .transfers
    };
    // Six working days are left.
    cities.set(date(2026, 2, 26));
    assert_eq!(warnings().await, []);
    for (day, warning, left) in [
        (date(2026, 2, 27), LimitWarning::Yellow, 5),
        (date(2026, 3, 5), LimitWarning::Yellow, 0),
        (date(2026, 3, 6), LimitWarning::Red, -1),
    ] {
        cities.set(day);
        let warned = warnings().await;
        assert_eq!(warned.len(), 1);
        assert_eq!(
            (warned[0].warning(), warned[0].working_days_left),
            (warning, left)
        );
    }
    cities
        .new
        .advance(transfer, Decision::Refuse(because()))
        .await
        .unwrap();
    assert_eq!(warnings().await, []);
}

pub(crate) async fn a_city_that_is_down_delays_a_document_and_loses_none(cities: Cities) {
    let Cities { new, old, .. } = &cities;
    let transfer = cities.applied().await;
    new.advance(transfer, issue_letter()).await.unwrap();
    // It arrives, and its answer is lost; then this service stops.
    let letter = new.waiting().await.unwrap();
    let first = old.receive(&letter, new).await.unwrap();
    let again = cities.restarted().await;
    cities.set(date(2026, 2, 10));
    assert_eq!(again.new.waiting().await, Some(letter.clone()));
    let repeated = again.old.receive(&letter, &again.new).await.unwrap();
    assert!(repeated.repeated && !first.repeated);
    // The limit counts from the day of the first arrival.
    assert_eq!(repeated.at_us, first.at_us);
    settle(&again.new, &letter, Ok(repeated)).await;
    let progress = again.new.progress(transfer).await.unwrap();
    assert_eq!(progress.last_day, "2026-03-05");
    // Another replica deals with the same answer: once is enough.
    settle(&again.new, &letter, Ok(repeated)).await;
    assert_eq!(
        again.new.codes(transfer).await,
        ["applied", "letter-issued", "letter-delivered"]
    );
    assert_eq!(again.old.codes(transfer).await, ["letter-received"]);
}

pub(crate) async fn of_decisions_at_once_one_wins(cities: Cities) {
    let transfer = cities.applied().await;
    let replica = cities.restarted().await;
    let decisions = (0..12).map(|number| {
        let city = if number % 2 == 0 {
            &cities.new
        } else {
            &replica.new
        };
        let decision = match number % 3 {
            0 => issue_letter(),
            1 => Decision::Refuse(because()),
            _ => Decision::Withdraw(because()),
        };
        city.advance(transfer, decision)
    });
    let answers = join_all(decisions).await;
    let won = answers.iter().filter(|answer| answer.is_ok()).count();
    // A withdrawal may follow a letter; nothing else follows anything.
    let codes = cities.new.codes(transfer).await;
    assert_eq!(won, codes.len() - 1, "{codes:?}");
    assert!(
        won == 1 || codes == ["applied", "letter-issued", "withdrawal-asked"],
        "{codes:?}"
    );

    // One application sent many times at once is one transfer; a second one of the same person is refused.
    cities.deliver().await;
    if cities.new.state(transfer).await != Some(State::Withdrawn) {
        let _ = cities
            .new
            .advance(transfer, Decision::Withdraw(because()))
            .await;
        cities.deliver().await;
    }
    let request = application();
    let same = join_all((0..6).map(|_| cities.apply(&request))).await;
    assert!(same.iter().all(Result::is_ok), "{same:?}");
    assert_eq!(reason(cities.apply(&application()).await), "TRANSFER_OPEN");
    let mut other = request.clone();
    other.name = "测试他人".to_owned();
    let reused = cities.apply(&other).await;
    assert!(
        matches!(reused, Err(CallError::CallerInvalid(faults)) if faults[0].rule.code == "TRANSFER_REQUEST_ID_REUSED")
    );
}

pub(crate) async fn each_city_decides_about_its_own_side(cities: Cities) {
    let Cities { new, old, .. } = &cities;
    let transfer = cities.lettered().await;
    let foreign = async |transfers: &Transfers, client| {
        let asked = old.asked(transfer, Decision::Decline(because()));
        reason(transfers.act(&asked, client).await)
    };
    assert_eq!(foreign(&old.transfers, &new.hall()).await, "OWN_CITY_ONLY");
    // A document of a city comes from that city's systems.
    old.advance(transfer, Decision::TransferOut(table()))
        .await
        .unwrap();
    let parcel = old.waiting().await.unwrap();
    assert_eq!(reason(new.receive(&parcel, new).await), "OWN_CITY_ONLY");
    assert_eq!(new.state(transfer).await, Some(State::AwaitingTransferOut));
    // A transfer of a person is not found under another person's number.
    let other = CitizenId::parse("370602198506150002", new.today()).unwrap();
    assert_eq!(
        new.transfers.progress(transfer, &other).await.unwrap(),
        None
    );
    let mut asked = new.asked(transfer, Decision::Withdraw(because()));
    asked.holder = other;
    assert_eq!(
        reason(new.transfers.act(&asked, &new.hall()).await),
        "TRANSFER_UNKNOWN"
    );
    let mut far = application();
    far.from_city = "371000".to_owned();
    assert_eq!(reason(cities.apply(&far).await), "CITY_NOT_CONNECTED");
}

pub(crate) async fn the_insured_watches_and_goes_on_after_a_cursor(cities: Cities) {
    let transfer = cities.applied().await;
    let stopping = CancellationToken::new();
    let settings = FollowSettings { limit: 1, ..BRISK };
    let watches = ProgressWatches::new(cities.new.transfers.clone(), settings, stopping.clone());
    let holder = CitizenId::parse(HOLDER, cities.new.today()).unwrap();
    let mut watch = Box::pin(watches.open(transfer, holder, 0).await.unwrap());
    let first = watch.next().await.unwrap().unwrap();
    assert_eq!(first.event.unwrap().event, "applied");
    assert_eq!(first.progress.unwrap().working_days_left, 15);
    let full = watches.open(transfer, holder, 0).await.map(drop);
    assert_eq!(reason(full), "TOO_MANY_PROGRESS_WATCHES");
    cities.new.advance(transfer, issue_letter()).await.unwrap();
    let second = watch.next().await.unwrap().unwrap();
    assert_eq!(second.event.unwrap().event, "letter-issued");
    drop(watch);

    cities.deliver().await;
    let cursor = second.cursor.parse().unwrap();
    let mut resumed = Box::pin(watches.open(transfer, holder, cursor).await.unwrap());
    let third = resumed.next().await.unwrap().unwrap();
    assert_eq!(third.event.unwrap().event, "letter-delivered");
    assert_eq!(third.progress.unwrap().holding_city, "370600");
    stopping.cancel();
    assert!(matches!(
        resumed.next().await,
        Some(Err(CallError::Stopping))
    ));
    drop(resumed);

    // Another person's number sees nothing, and an invented cursor is refused.
    let going_on = CancellationToken::new();
    let watches = ProgressWatches::new(cities.new.transfers.clone(), settings, going_on);
    let other = CitizenId::parse("370602198506150002", cities.new.today()).unwrap();
    let mut nothing = Box::pin(watches.open(transfer, other, 0).await.unwrap());
    assert!(nothing.next().await.is_none());
    drop(nothing);
    assert!(watches.open(transfer, holder, 999).await.is_err());
}

pub(crate) async fn the_history_of_transfers_cannot_be_rewritten(cities: Cities) {
    cities.applied().await;
    let store = banqiao_card::Store::open(&cities.new.settings)
        .await
        .unwrap();
    for statement in [
        "UPDATE pension_event SET event = 'refused'",
        "DELETE FROM pension_event",
        "UPDATE pension_answer SET state = 10",
        "DELETE FROM pension_answer",
    ] {
        let done = match store.database() {
            banqiao_kit::Database::Postgres(pool) => {
                sqlx::query(statement).execute(pool).await.map(drop)
            }
            banqiao_kit::Database::Sqlite(database) => sqlx::query(statement)
                .execute(database.writer())
                .await
                .map(drop),
        };
        assert!(
            done.unwrap_err().to_string().contains("append-only"),
            "{statement}"
        );
    }
}
