//! What is published, what is refused, what supersedes what.

use banqiao_kit::DatabaseUrl;
use banqiao_lab::{LineOutcome, Publisher};
use banqiao_proto::lab::v1::{Quantity, Report, ReportStatus, result::Value};
use futures_util::future::join_all;

use crate::{
    report_faults::{BOUNDS, Change, FAULTS},
    scene::{DAY, DOCTOR, LABORATORY, Scene, codes, corrected, publish, report, search},
};

pub(crate) async fn a_report_is_published_once(scene: Scene) {
    let reports: Vec<_> = (0..3).map(|index| report(index, index, DAY)).collect();
    scene.published(&reports).await;
    // Sent again, also with what only the service may add, nothing changes.
    let mut again = reports.clone();
    again[0].results[0].item_code = "0000000A".to_owned();
    again[1].results[0].normalised = Some(banqiao_proto::lab::v1::NormalisedValue {
        value: "1".to_owned(),
        ..Default::default()
    });
    let unchanged = LineOutcome::Unchanged(1);
    assert_eq!(scene.publish(&again).await, vec![unchanged; 3]);
    // The same report twice in one batch: the second line sees the first.
    let new = report(9, 9, DAY);
    let outcomes = scene.publish(&[new.clone(), new]).await;
    assert_eq!(outcomes[1], LineOutcome::Unchanged(1));
}

pub(crate) async fn each_fault_names_field_and_rule_and_the_other_lines_go_through(scene: Scene) {
    let mut lines = Vec::new();
    for (index, (change, ..)) in (0..).zip(FAULTS.iter().chain(BOUNDS)) {
        // Item 0 of the catalogue has an interval with both bounds.
        let mut faulty = report(0, index, DAY);
        faulty.report_number = format!("F{index}");
        change(&mut faulty);
        lines.push(faulty);
        lines.push(report(1_000 + index, index, DAY));
    }
    let outcomes = scene.publish(&lines).await;
    for (pair, (_, field, code)) in outcomes.chunks(2).zip(FAULTS.iter().chain(BOUNDS)) {
        assert_eq!(codes(&pair[0]), [(*field, *code)]);
        assert!(matches!(pair[1], LineOutcome::Created(_)));
    }
    let empty = [None, Some(Report::default())];
    let everything = scene
        .reports
        .publish(&empty, &Publisher::Operator)
        .await
        .unwrap();
    assert_eq!(codes(&everything[0]), [("report", "REPORT_MISSING")]);
    let fields: Vec<_> = codes(&everything[1])
        .into_iter()
        .map(|(field, _)| field)
        .collect();
    assert_eq!(
        fields,
        [
            "institution",
            "report_number",
            "status",
            "patient",
            "collected_at",
            "issued_at",
            "results"
        ]
    );
    let result = everything[1].result(7);
    assert_eq!((result.line, result.faults.len()), (7, 7));
    assert!(
        result.faults[0].rule.contains("GB 32100-2015, M"),
        "{}",
        result.faults[0].rule
    );
}

pub(crate) async fn a_newer_version_supersedes_and_the_old_one_is_kept(scene: Scene) {
    let first = report(1, 1, DAY);
    scene.published(std::slice::from_ref(&first)).await;
    let second = corrected(&first, ReportStatus::Corrected);
    let outcomes = scene.publish(std::slice::from_ref(&second)).await;
    assert!(
        matches!(outcomes[0], LineOutcome::Superseded(2, _)),
        "{outcomes:?}"
    );
    assert_eq!(scene.publish(&[second]).await, [LineOutcome::Unchanged(2)]);
    let found = scene.find(&search(&first), DOCTOR).await;
    assert_eq!(
        (found[0].version, found[0].report.conclusion.as_str()),
        (2, "已更正")
    );
    let mut cancelled = corrected(&first, ReportStatus::Cancelled);
    cancelled.issued_at.as_mut().unwrap().seconds += 60;
    cancelled.results.clear();
    let outcomes = scene.publish(&[cancelled]).await;
    assert!(
        matches!(outcomes[0], LineOutcome::Superseded(3, _)),
        "{outcomes:?}"
    );
    assert_eq!(
        count(&scene, "SELECT count(*) FROM report_version").await,
        2
    );
    assert_eq!(count(&scene, "SELECT seq FROM report_change_head").await, 2);
}

pub(crate) async fn corrections_sent_together_are_numbered_in_their_order(scene: Scene) {
    let reports: Vec<_> = (0..40).map(|index| report(index, index, DAY)).collect();
    scene.published(&reports).await;
    // Each second one, from two replicas at once, of which one comes first.
    let corrections: Vec<_> = reports
        .iter()
        .step_by(2)
        .map(|report| corrected(report, ReportStatus::Corrected))
        .collect();
    let replica = scene.replica().await;
    let (here, there) = tokio::join!(
        publish(&scene.reports, &corrections),
        publish(&replica, &corrections)
    );
    for outcomes in here.iter().zip(&there) {
        assert!(
            matches!(
                outcomes,
                (LineOutcome::Superseded(2, _), LineOutcome::Unchanged(2))
                    | (LineOutcome::Unchanged(2), LineOutcome::Superseded(2, _))
            ),
            "{outcomes:?}"
        );
    }
    for (sql, expected) in [
        ("SELECT count(*) FROM report_version WHERE version = 1", 20),
        ("SELECT count(*) FROM report WHERE version = 1", 20),
        (
            "SELECT count(*) FROM report_change JOIN report USING (institution, report_number, version, status)",
            20,
        ),
        ("SELECT seq FROM report_change_head", 20),
        (
            "SELECT count(*) FROM report_change a JOIN report_change b ON b.seq = a.seq + 1 \
             WHERE a.report_number < b.report_number",
            19,
        ),
    ] {
        assert_eq!(count(&scene, sql).await, expected, "{sql}");
    }
    let found = scene.find(&search(&corrections[3]), DOCTOR).await;
    assert_eq!(found[0].report.conclusion, "已更正");
}

pub(crate) async fn what_may_not_follow_is_refused(scene: Scene) {
    let first = report(1, 1, DAY);
    scene.published(std::slice::from_ref(&first)).await;
    let refused = |change: Change| {
        let mut next = corrected(&first, ReportStatus::Corrected);
        change(&mut next);
        let scene = &scene;
        async move { scene.publish(&[next]).await.remove(0) }
    };
    let outcome = refused(|r| r.set_status(ReportStatus::Final)).await;
    assert_eq!(codes(&outcome), [("status", "REPORT_STANDS")]);
    let outcome = refused(|r| r.issued_at.as_mut().unwrap().seconds -= 61).await;
    assert_eq!(codes(&outcome), [("issued_at", "OLDER_ISSUE")]);
    let outcome = refused(|r| r.patient = report(1, 2, DAY).patient).await;
    assert_eq!(codes(&outcome), [("patient.citizen_id", "PATIENT_CHANGED")]);
    let outcome = refused(|r| r.set_status(ReportStatus::EnteredInError)).await;
    assert!(matches!(outcome, LineOutcome::Superseded(2, _)));
    let outcome = refused(|r| r.issued_at.as_mut().unwrap().seconds += 60).await;
    assert_eq!(codes(&outcome), [("status", "REPORT_WITHDRAWN")]);
    // A correction whose first version was out before the institution joined is its first here.
    let outcomes = scene
        .publish(&[corrected(&report(2, 2, DAY), ReportStatus::Amended)])
        .await;
    assert!(matches!(outcomes[0], LineOutcome::Created(_)));
}

pub(crate) async fn values_keep_the_senders_number_and_are_normalised_beside_it(scene: Scene) {
    let catalogue = crate::scene::built_in();
    let mut sent = report(1, 1, DAY);
    let cases = [
        // LOINC, number and unit; what stands beside it.
        ("14682-9", "1.0", "mg/dL", "88.4", "88.4", ""),
        ("22664-7", "14", "mg/dL", "", "", "UREA_BASIS"),
        ("22664-7", "14", "mg{BUN}/dL", "5.00", "0.357", ""),
        ("4548-4", "48", "mmol/mol", "6.542", "1/10.929", ""),
        ("4548-4", "6.5", "%{IFCC}", "", "", "HBA1C_FORMULA"),
        ("13969-1", "25", "U/L", "", "", "CKMB_ACTIVITY"),
        ("48065-7", "0.8", "mg/L DDU", "", "", "DDIMER_DDU"),
        ("48065-7", "0.8", "mg/L", "", "", "DDIMER_BASIS"),
        ("48065-7", "500", "ng/mL FEU", "0.5000", "0.001", ""),
        ("2823-3", "4.10", "mmol/L", "4.10", "1", ""),
        ("2823-3", "4.10", "furlong", "", "", "NO_CONVERSION"),
    ];
    sent.results = cases
        .iter()
        .map(|(loinc, value, unit, ..)| {
            let item = catalogue.item(loinc).unwrap();
            let mut result = banqiao_lab::synthetic::result(item, 1).unwrap();
            result.value = Some(Value::Quantity(Quantity {
                value: (*value).to_owned(),
                unit: (*unit).to_owned(),
                ..Quantity::default()
            }));
            result
        })
        .collect();
    let outcomes = scene.publish(std::slice::from_ref(&sent)).await;
    let LineOutcome::Created(not_normalised) = &outcomes[0] else {
        panic!("{outcomes:?}")
    };
    let found = scene.find(&search(&sent), DOCTOR).await;
    let mut refused = Vec::new();
    for (place, (result, (loinc, value, unit, number, factor, refusal))) in
        found[0].report.results.iter().zip(cases).enumerate()
    {
        let Some(Value::Quantity(kept)) = &result.value else {
            panic!("no quantity")
        };
        assert_eq!((kept.value.as_str(), kept.unit.as_str()), (value, unit));
        let normalised = result.normalised.as_ref().unwrap();
        assert_eq!(normalised.value, number, "{loinc} {unit}");
        assert_eq!(normalised.factor, factor, "{loinc} {unit}");
        assert_eq!(normalised.refused, refusal, "{loinc} {unit}");
        assert_eq!(normalised.rule_version, catalogue.version());
        if !refusal.is_empty() {
            refused.push((u32::try_from(place).unwrap(), refusal));
        }
    }
    let told: Vec<_> = not_normalised
        .iter()
        .map(|one| (one.result, one.code.as_str()))
        .collect();
    assert_eq!(told, refused);
    assert!(not_normalised[0].reason.contains("mg{BUN}/dL"));
}

pub(crate) async fn a_system_publishes_for_its_own_institution(scene: Scene) {
    let line = Some(report(1, 1, DAY));
    let publish = |client: &str| {
        let publisher = Publisher::System(client.parse().unwrap());
        let (scene, line) = (&scene, line.clone());
        async move {
            scene
                .reports
                .publish(&[line], &publisher)
                .await
                .unwrap()
                .remove(0)
        }
    };
    let stranger = publish("spiffe://qingdao.jiaodong/hospital-2/lis").await;
    assert_eq!(codes(&stranger), [("institution", "NOT_YOUR_INSTITUTION")]);
    assert!(matches!(publish(LABORATORY).await, LineOutcome::Created(_)));
}

pub(crate) async fn one_report_sent_many_times_at_once_is_published_once(scene: Scene) {
    let replica = scene.replica().await;
    let lines: Vec<_> = (0..300).map(|index| report(index, index, DAY)).collect();
    let at_once = [&scene.reports, &replica, &scene.reports, &replica];
    let outcomes = join_all(at_once.map(|reports| publish(reports, &lines))).await;
    for line in 0..lines.len() {
        let created = outcomes
            .iter()
            .filter(|outcomes| matches!(outcomes[line], LineOutcome::Created(_)));
        assert_eq!(created.count(), 1, "line {line}");
    }
    // Corrections at once make one chain.
    let next: Vec<_> = lines
        .iter()
        .map(|line| corrected(line, ReportStatus::Corrected))
        .collect();
    let outcomes = join_all(at_once.map(|reports| publish(reports, &next))).await;
    for line in 0..lines.len() {
        let superseded = outcomes
            .iter()
            .filter(|outcomes| matches!(outcomes[line], LineOutcome::Superseded(2, _)));
        assert_eq!(superseded.count(), 1, "line {line}");
    }
    assert_eq!(
        scene.reports.store().poll_report_changes().await.unwrap(),
        300
    );
}

pub(crate) async fn versions_readings_and_changes_cannot_be_rewritten(scene: Scene) {
    let first = report(1, 1, DAY);
    scene.published(std::slice::from_ref(&first)).await;
    scene.find(&search(&first), DOCTOR).await;
    scene
        .publish(&[corrected(&first, ReportStatus::Corrected)])
        .await;
    for statement in [
        "UPDATE report_version SET superseded_at = 0",
        "DELETE FROM report_version",
        "UPDATE report_reading SET client = ''",
        "DELETE FROM report_reading",
        "UPDATE report_change SET version = 9",
        "DELETE FROM report_change",
    ] {
        let error = execute(&scene, statement).await.unwrap_err();
        assert!(
            error.to_string().contains("is append-only"),
            "{statement}: {error}"
        );
    }
}

pub(crate) async fn execute(scene: &Scene, statement: &'static str) -> Result<(), sqlx::Error> {
    match &scene.settings.url {
        DatabaseUrl::Postgres(url) => {
            let pool = sqlx::PgPool::connect(url).await?;
            sqlx::query(statement).execute(&pool).await.map(drop)
        }
        DatabaseUrl::Sqlite(path) => {
            let pool = sqlx::SqlitePool::connect(path.to_str().unwrap()).await?;
            sqlx::query(statement).execute(&pool).await.map(drop)
        }
    }
}

async fn count(scene: &Scene, query: &'static str) -> i64 {
    match &scene.settings.url {
        DatabaseUrl::Postgres(url) => {
            let pool = sqlx::PgPool::connect(url).await.unwrap();
            sqlx::query_scalar(query).fetch_one(&pool).await.unwrap()
        }
        DatabaseUrl::Sqlite(path) => {
            let pool = sqlx::SqlitePool::connect(path.to_str().unwrap())
                .await
                .unwrap();
            sqlx::query_scalar(query).fetch_one(&pool).await.unwrap()
        }
    }
}
