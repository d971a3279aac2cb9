//! The figures of months against a plain count over random histories.

use std::collections::BTreeMap;

use banqiao_item::{Case, CaseNumber, Event, FigureRow, Figures, Months, is_bad};
use banqiao_kit::{DatabaseUrl, civil_date};
use banqiao_proto::item::v1::{
    ActorRole::{Applicant, Department, Window},
    CaseAction as A, HandlingMode, Satisfaction,
};

use crate::{
    model::draws,
    rating::{rate, rating},
    scene::{DAY, MOVE, PASSPORT, QINGDAO, QUERY, Scene, WEIHAI, YANTAI},
};

impl Scene {
    pub(crate) async fn figures(&self, from: &str, to: &str) -> Vec<FigureRow> {
        let months = Months::parse(from, to).unwrap();
        let figures = self.store.figures(self.cases.city(), &months).await;
        figures.unwrap()
    }
}

/// Sums of the whole time of a test.
pub(crate) async fn total(scene: &Scene) -> Figures {
    sum(&scene.figures("2026-01", "2026-12").await)
}

pub(crate) fn sum(rows: &[FigureRow]) -> Figures {
    let mut total = Figures::default();
    for row in rows {
        total.merge(&row.figures);
    }
    total
}

type Key = (String, String, String, HandlingMode);

fn month(at_us: i64) -> String {
    civil_date(at_us).to_string()[..7].to_owned()
}

/// What a clerk would count who reads the history of a case.
fn count(sums: &mut BTreeMap<Key, Figures>, case: &Case, history: &[Event]) {
    for event in history {
        let key = (
            month(event.at_us),
            case.receiving_city.to_string(),
            case.item.to_string(),
            case.mode,
        );
        let sum = sums.entry(key).or_default();
        match event.action {
            A::Submit => sum.submitted += 1,
            A::Receive => sum.received += 1,
            A::Accept => sum.accepted += 1,
            A::DeemAccepted => {
                sum.accepted += 1;
                sum.deemed_accepted += 1;
            }
            A::RefuseAcceptance => sum.not_accepted += 1,
            A::NotifyCorrection => sum.corrections += 1,
            A::Extend => sum.extensions += 1,
            A::BeginSpecial => sum.special_procedures += 1,
            A::Conclude => sum.concluded += 1,
            A::Deliver => sum.delivered += 1,
            A::Withdraw => sum.withdrawn += 1,
            A::Terminate => sum.terminated += 1,
            A::WarnYellow => sum.yellow += 1,
            A::WarnRed => sum.red += 1,
            A::Grant => sum.granted += 1,
            A::Refuse => sum.refused += 1,
            _ => {}
        }
        if matches!(event.action, A::Grant | A::Refuse) {
            if case.on_time.unwrap() {
                sum.on_time += 1;
            } else {
                sum.late += 1;
            }
            sum.timed += 1;
            sum.workdays += case.handling_workdays.unwrap();
        }
    }
}

const ACTIONS: [A; 20] = [
    A::Receive,
    A::Receive,
    A::HandOver,
    A::HandOver,
    A::NotifyCorrection,
    A::Supplement,
    A::Accept,
    A::Accept,
    A::RefuseAcceptance,
    A::BeginReview,
    A::BeginReview,
    A::BeginSpecial,
    A::EndSpecial,
    A::Extend,
    A::Grant,
    A::Grant,
    A::Refuse,
    A::Conclude,
    A::Deliver,
    A::Withdraw,
];

pub(crate) async fn figures_agree_with_a_count_over_random_histories(scene: Scene) {
    let mut draw = draws(0x0dd0_5eed_0f01_9ea1);
    let mut cases: Vec<(CaseNumber, &str)> = Vec::new();
    let mut expected = BTreeMap::new();
    for _ in 0..500 {
        if cases.len() < 8 || draw(12) == 0 {
            let item = [PASSPORT, QUERY, MOVE][draw(3)];
            let from = match item {
                MOVE => QINGDAO,
                _ => [WEIHAI, YANTAI, QINGDAO][draw(3)],
            };
            cases.push((scene.started(item, from).await, from));
            continue;
        }
        if draw(7) == 0 {
            let days = i64::try_from(1 + draw(3)).unwrap();
            scene.pass(days * DAY).await;
        }
        let recent = cases.len().min(8);
        let (number, from) = cases[cases.len() - 1 - draw(recent)];
        if draw(8) == 0 {
            rate_something(&scene, number, from, &mut draw, &mut expected).await;
            continue;
        }
        let action = ACTIONS[draw(ACTIONS.len())];
        let (role, place) = match action {
            A::Receive | A::HandOver if from != QINGDAO => {
                let proxy = scene.case(number).await.mode == HandlingMode::ProxyCollection;
                (Window, if proxy { from } else { QINGDAO })
            }
            A::Receive | A::HandOver => (Window, QINGDAO),
            A::Supplement | A::Withdraw => (Applicant, from),
            _ => (Department, QINGDAO),
        };
        // Whatever is refused leaves no trace.
        let _ = scene.step(number, action, role, place).await;
    }
    for (number, _) in &cases {
        let history = scene.history(*number).await;
        count(&mut expected, &scene.case(*number).await, &history);
    }
    agree(&scene, &expected).await;
    // What a migration counts of a database that had no tallies is the same, apart from ratings, of which it had none.
    count_anew(&scene).await;
    for figures in expected.values_mut() {
        figures.ratings = [0; 5];
        figures.rectifications = 0;
    }
    expected.retain(|_, figures| *figures != Figures::default());
    agree(&scene, &expected).await;
}

/// Rates a contact where there is one, and counts it.
async fn rate_something(
    scene: &Scene,
    number: CaseNumber,
    from: &str,
    draw: &mut impl FnMut(usize) -> usize,
    expected: &mut BTreeMap<Key, Figures>,
) {
    let history = scene.history(number).await;
    let at = draw(history.len());
    let level = draw(5);
    let satisfaction = Satisfaction::try_from(i32::try_from(level + 1).unwrap()).unwrap();
    let version = u64::try_from(history[at].version).unwrap();
    let request = rating(number, version, satisfaction);
    if rate(scene, &request, from).await.is_err() {
        return;
    }
    let case = scene.case(number).await;
    let key = (
        month(scene.clock.clock().now_us()),
        history[at].city.to_string(),
        case.item.to_string(),
        case.mode,
    );
    let sum = expected.entry(key).or_default();
    sum.ratings[level] += 1;
    sum.rectifications += i64::from(is_bad(satisfaction));
}

async fn agree(scene: &Scene, expected: &BTreeMap<Key, Figures>) {
    let rows = scene.figures("2026-01", "2026-12").await;
    let found: BTreeMap<Key, Figures> = rows
        .into_iter()
        .filter(|row| row.figures != Figures::default())
        .map(|row| {
            let name = format!("HANDLING_MODE_{}", row.mode);
            let mode = HandlingMode::from_str_name(&name).unwrap();
            assert!(!row.tasks && row.city == QINGDAO);
            ((row.month, row.applied_city, row.item, mode), row.figures)
        })
        .collect();
    let months: std::collections::BTreeSet<_> = found.keys().map(|key| &key.0).collect();
    assert!(months.len() > 2, "{months:?}");
    assert_eq!(&found, expected);
}

/// Runs the statements by which the migration fills the tallies.
async fn count_anew(scene: &Scene) {
    let fill = |migration: &'static str| {
        let (_, fill) = migration.split_once("-- What happened before").unwrap();
        fill.split_once('\n').unwrap().1
    };
    match &scene.settings.url {
        DatabaseUrl::Postgres(url) => {
            let pool = sqlx::PgPool::connect(url).await.unwrap();
            let fill = fill(include_str!(
                "../../migrations/postgres/0004_ratings_and_figures.sql"
            ));
            sqlx::query("DELETE FROM tally")
                .execute(&pool)
                .await
                .unwrap();
            sqlx::raw_sql(fill).execute(&pool).await.unwrap();
        }
        DatabaseUrl::Sqlite(path) => {
            let pool = sqlx::SqlitePool::connect(path.to_str().unwrap());
            let pool = pool.await.unwrap();
            let fill = fill(include_str!(
                "../../migrations/sqlite/0004_ratings_and_figures.sql"
            ));
            sqlx::query("DELETE FROM tally")
                .execute(&pool)
                .await
                .unwrap();
            sqlx::raw_sql(fill).execute(&pool).await.unwrap();
        }
    }
}
