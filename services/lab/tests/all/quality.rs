//! Quality rounds: registered, measured, evaluated, and the marks that follow.

use std::sync::Arc;

use banqiao_kit::{CallError, Violation};
use banqiao_lab::{ItemMark, QualityActor, Rounds, SubmitLine, marks};
use banqiao_proto::lab::v1::{
    ChallengeSample, HrMark, ListMarksResponse, MarkScope, QualityRound, RoundItem,
    SubmitResultsRequest,
};
use futures_util::future::join_all;

use crate::{
    publishing::execute,
    scene::{
        DAY, DOCTOR, HOUR, LABORATORY, NOON, Scene, institutions, of, qingdao, report, search, time,
    },
};

/// A system that organises rounds.
pub(crate) const ORGANISER: &str = "spiffe://qingdao.jiaodong/health/quality";
/// ALT: 6 U/L up to 40 U/L, 15 % above.
pub(crate) const ALT: &str = "1500104A";

pub(crate) fn rounds(scene: &Scene) -> Rounds {
    Rounds::new(&scene.reports, Arc::from([ORGANISER.parse().unwrap()]))
}

pub(crate) fn organiser() -> QualityActor {
    QualityActor::Organiser(ORGANISER.parse().unwrap())
}

fn laboratory() -> QualityActor {
    QualityActor::System(LABORATORY.parse().unwrap())
}

/// The codes of Qingdao's two hospitals.
fn hospitals() -> [String; 2] {
    let institutions = institutions();
    let mut of_city = institutions.iter().filter(|one| one.city == qingdao());
    [(); 2].map(|()| of_city.next().unwrap().credit_code.to_string())
}

/// A round of ALT with five samples, open from an hour ago to a day from now.
pub(crate) fn round(id: &str) -> QualityRound {
    let samples = ["40", "40", "100", "100", "20"].iter().zip(1..);
    QualityRound {
        round_id: id.to_owned(),
        organiser: "测试临床检验中心".to_owned(),
        scheme: "临床化学".to_owned(),
        scope: MarkScope::Region.into(),
        scope_code: String::new(),
        opens_at: time(NOON - HOUR),
        closes_at: time(NOON + DAY),
        items: vec![RoundItem {
            item_code: ALT.to_owned(),
            samples: samples
                .map(|(target, number)| ChallengeSample {
                    sample: format!("S{number}"),
                    target: (*target).to_owned(),
                })
                .collect(),
        }],
    }
}

pub(crate) fn result(
    id: &str,
    institution: &str,
    sample: u32,
    value: &str,
) -> SubmitResultsRequest {
    SubmitResultsRequest {
        line: sample.into(),
        round_id: id.to_owned(),
        institution: institution.to_owned(),
        item_code: ALT.to_owned(),
        sample: format!("S{sample}"),
        value: value.to_owned(),
        ucum: "U/L".to_owned(),
    }
}

fn results(id: &str, institution: &str, values: [&str; 5]) -> Vec<SubmitResultsRequest> {
    let numbered = values.iter().zip(1..);
    numbered
        .map(|(value, sample)| result(id, institution, sample, value))
        .collect()
}

/// Values that lie exactly on the limits of [`round`].
const ON_THE_LIMITS: [&str; 5] = ["46", "34", "115", "85", "26"];

/// Registers a round in which the first hospital passes, and evaluates it.
pub(crate) async fn passed_round(scene: &Scene, round: &QualityRound) {
    let rounds = rounds(scene);
    assert!(rounds.register(Some(round), &organiser()).await.unwrap());
    let [first, _] = hospitals();
    let lines = results(&round.round_id, &first, ON_THE_LIMITS);
    rounds.submit(&lines, &laboratory()).await.unwrap();
    scene.clock.advance_us(DAY);
    let evaluated = rounds
        .evaluate(&round.round_id, &organiser())
        .await
        .unwrap();
    assert!(evaluated.scores[0].is_passed());
}

fn reason(error: CallError) -> &'static str {
    match error {
        CallError::CallerRefused { refusal, .. } => refusal.rule.code,
        other => panic!("{other:?}"),
    }
}

fn violations(error: CallError) -> Vec<Violation> {
    match error {
        CallError::CallerInvalid(violations) => violations,
        other => panic!("{other:?}"),
    }
}

type Change = fn(&mut QualityRound);

/// Each possible fault of a round, with the field and the rule that its refusal names.
const FAULTS: &[(Change, &str, &str)] = &[
    (
        |r| r.round_id = "质评1".into(),
        "round.round_id",
        "ROUND_ID",
    ),
    (|r| r.organiser = " ".into(), "round.organiser", "ORGANISER"),
    (|r| r.scheme = "x".repeat(51), "round.scheme", "SCHEME"),
    (|r| r.scope = 0, "round.scope", "MARK_SCOPE"),
    (
        |r| r.scope_code = "370000".into(),
        "round.scope_code",
        "SCOPE_CODE",
    ),
    (
        |r| {
            r.set_scope(MarkScope::City);
            r.scope_code = "370000".into();
        },
        "round.scope_code",
        "SCOPE_CODE",
    ),
    (
        |r| r.set_scope(MarkScope::Province),
        "round.scope_code",
        "SCOPE_CODE",
    ),
    (|r| r.opens_at = None, "round.opens_at", "ROUND_TIMES"),
    (
        |r| r.closes_at = r.opens_at,
        "round.closes_at",
        "ROUND_TIMES",
    ),
    (
        |r| r.closes_at = time(NOON - 1),
        "round.closes_at",
        "ROUND_TIMES",
    ),
    (|r| r.items.clear(), "round.items", "ROUND_ITEMS"),
    (
        |r| r.items[0].item_code = "9999999A".into(),
        "round.items[0].item_code",
        "ROUND_ITEMS",
    ),
    (
        |r| r.items.push(r.items[0].clone()),
        "round.items[1].item_code",
        "ROUND_ITEMS",
    ),
    (
        |r| r.items[0].item_code = "1101504A".into(),
        "round.items[0].item_code",
        "NO_ALLOWABLE_ERROR",
    ),
    (
        |r| drop(r.items[0].samples.pop()),
        "round.items[0].samples",
        "ROUND_SAMPLES",
    ),
    (
        |r| r.items[0].samples[1].sample = "S1".into(),
        "round.items[0].samples",
        "ROUND_SAMPLES",
    ),
    (
        |r| r.items[0].samples[1].sample = "S 2".into(),
        "round.items[0].samples[1].sample",
        "SAMPLE",
    ),
    (
        |r| r.items[0].samples[2].target = "0".into(),
        "round.items[0].samples[2].target",
        "TARGET",
    ),
    (
        |r| r.items[0].samples[2].target = "about 5".into(),
        "round.items[0].samples[2].target",
        "TARGET",
    ),
];

pub(crate) async fn a_round_is_registered_once_and_each_fault_names_field_and_rule(scene: Scene) {
    let rounds = rounds(&scene);
    let sound = round("R1");
    for (change, field, rule) in FAULTS {
        let mut faulty = sound.clone();
        change(&mut faulty);
        let refused = rounds.register(Some(&faulty), &organiser()).await;
        let faults = violations(refused.unwrap_err());
        assert!(
            of(&faults).contains(&(*field, *rule)),
            "{field} {rule}: {faults:?}"
        );
    }
    let missing = rounds.register(None, &organiser()).await.unwrap_err();
    assert_eq!(of(&violations(missing)), [("round", "ROUND_MISSING")]);
    assert!(rounds.register(Some(&sound), &organiser()).await.unwrap());
    assert!(!rounds.register(Some(&sound), &organiser()).await.unwrap());
    let mut other = sound.clone();
    other.items[0].samples[0].target = "41".to_owned();
    let stands = rounds
        .register(Some(&other), &organiser())
        .await
        .unwrap_err();
    assert_eq!(reason(stands), "ROUND_STANDS");
    // The same again is the same also after the round has closed.
    scene.clock.advance_us(2 * DAY);
    assert!(!rounds.register(Some(&sound), &organiser()).await.unwrap());
}

pub(crate) async fn only_organisers_register_and_evaluate(scene: Scene) {
    let rounds = rounds(&scene);
    for client in [LABORATORY, DOCTOR] {
        let actor = rounds.actor(&client.parse().unwrap());
        let refused = rounds.register(Some(&round("R1")), &actor).await;
        assert_eq!(reason(refused.unwrap_err()), "ORGANISER_ONLY");
        let refused = rounds.evaluate("R1", &actor).await;
        assert_eq!(reason(refused.unwrap_err()), "ORGANISER_ONLY");
    }
    let actor = rounds.actor(&ORGANISER.parse().unwrap());
    assert!(rounds.register(Some(&round("R1")), &actor).await.unwrap());
    let unknown = rounds.evaluate("R2", &actor).await.unwrap_err();
    assert_eq!(reason(unknown), "ROUND_UNKNOWN");
}

pub(crate) async fn results_are_taken_while_the_round_is_open_and_the_last_one_counts(
    scene: Scene,
) {
    let rounds = rounds(&scene);
    let [first, second] = hospitals();
    let mut early = round("R1");
    early.opens_at = time(NOON + HOUR);
    rounds.register(Some(&early), &organiser()).await.unwrap();
    let submit = async |value: &str| {
        let line = result("R1", &first, 1, value);
        rounds
            .submit(&[line], &laboratory())
            .await
            .unwrap()
            .remove(0)
    };
    let refused = |line: SubmitLine| match line {
        SubmitLine::Refused(faults) => faults[0].rule.code,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(submit("46").await), "ROUND_NOT_OPEN");
    scene.clock.advance_us(HOUR);
    assert_eq!(submit("46").await, SubmitLine::Created);
    assert_eq!(submit("46").await, SubmitLine::Unchanged);
    assert_eq!(submit("99").await, SubmitLine::Corrected);
    // The last microsecond before the closing time, and the closing time.
    scene.clock.advance_us(DAY - HOUR - 1);
    assert_eq!(submit("40").await, SubmitLine::Corrected);
    let open = rounds.evaluate("R1", &organiser()).await.unwrap_err();
    assert_eq!(reason(open), "ROUND_OPEN");
    scene.clock.advance_us(1);
    assert_eq!(refused(submit("41").await), "ROUND_CLOSED");
    assert_eq!(refused(submit("40").await), "ROUND_CLOSED");
    let late = rounds
        .submit(&[result("R1", &second, 1, "40")], &organiser())
        .await;
    assert_eq!(refused(late.unwrap().remove(0)), "ROUND_CLOSED");
    let evaluated = rounds.evaluate("R1", &organiser()).await.unwrap();
    assert_eq!(evaluated.scores.len(), 1);
    assert_eq!(
        (
            evaluated.scores[0].passed_samples,
            evaluated.scores[0].samples
        ),
        (1, 5)
    );
}

pub(crate) async fn each_refused_result_names_field_and_rule(scene: Scene) {
    let rounds = rounds(&scene);
    let [first, second] = hospitals();
    rounds
        .register(Some(&round("R1")), &organiser())
        .await
        .unwrap();
    let other_city = institutions();
    let other_city = other_city.iter().find(|one| one.city != qingdao()).unwrap();
    let other_city = other_city.credit_code.to_string();
    let sound = result("R1", &first, 1, "40");
    let with = |change: fn(&mut SubmitResultsRequest)| {
        let mut line = sound.clone();
        change(&mut line);
        line
    };
    let cases = [
        (with(|l| l.round_id.clear()), "round_id", "ROUND_ID"),
        (
            with(|l| l.round_id = "R9".into()),
            "round_id",
            "ROUND_NOT_REGISTERED",
        ),
        (
            with(|l| l.institution = "x".into()),
            "institution",
            "CREDIT_CODE_LENGTH",
        ),
        (result("R1", &second, 1, "40"), "institution", "PARTICIPANT"),
        (
            result("R1", &other_city, 1, "40"),
            "institution",
            "PARTICIPANT",
        ),
        (with(|l| l.item_code = "x".into()), "item_code", "ITEM_CODE"),
        (
            with(|l| l.item_code = "1500204A".into()),
            "item_code",
            "NOT_OF_ROUND",
        ),
        (with(|l| l.sample = "S6".into()), "sample", "NOT_OF_ROUND"),
        (with(|l| l.ucum = "ukat/L".into()), "ucum", "RESULT_UNIT"),
        (with(|l| l.value = "1e2".into()), "value", "DECIMAL"),
    ];
    let mut lines: Vec<_> = cases.iter().map(|(line, ..)| line.clone()).collect();
    lines.push(with(|l| l.ucum.clear()));
    let outcomes = rounds.submit(&lines, &laboratory()).await.unwrap();
    for ((_, field, rule), outcome) in cases.iter().zip(&outcomes) {
        let SubmitLine::Refused(faults) = outcome else {
            panic!("{field}: {outcome:?}")
        };
        assert!(
            of(faults).contains(&(*field, *rule)),
            "{field} {rule}: {faults:?}"
        );
        let shown = outcome.result(7);
        assert_eq!((shown.line, shown.faults.len()), (7, faults.len()));
    }
    // The others went through.
    assert_eq!(outcomes.last(), Some(&SubmitLine::Created));
}

pub(crate) async fn a_round_is_evaluated_once_and_at_the_limits_edges(scene: Scene) {
    let rounds = rounds(&scene);
    let [first, second] = hospitals();
    rounds
        .register(Some(&round("R1")), &organiser())
        .await
        .unwrap();
    let on_the_limits = results("R1", &first, ON_THE_LIMITS);
    rounds.submit(&on_the_limits, &laboratory()).await.unwrap();
    // A hundredth beyond two limits, and one sample without a value: three of five.
    let mut beyond = results("R1", &second, ["46.01", "34", "115.00", "85.0", "26.01"]);
    beyond.remove(3);
    rounds.submit(&beyond, &organiser()).await.unwrap();
    scene.clock.advance_us(DAY);
    let evaluations = join_all(
        [&rounds, &rounds.clone(), &rounds.clone()]
            .map(|rounds| async { rounds.evaluate("R1", &organiser()).await.unwrap() }),
    )
    .await;
    assert_eq!(evaluations.iter().filter(|one| !one.repeated).count(), 1);
    scene.clock.advance_us(HOUR);
    let again = rounds.evaluate("R1", &organiser()).await.unwrap();
    assert!(again.repeated && again.at_us == NOON + DAY);
    for evaluated in evaluations.iter().chain([&again]) {
        let mut scores: Vec<_> = evaluated
            .scores
            .iter()
            .map(|score| {
                (
                    score.institution.to_string(),
                    score.passed_samples,
                    score.is_passed(),
                )
            })
            .collect();
        scores.sort();
        let mut expected = [(first.clone(), 5, true), (second.clone(), 2, false)];
        expected.sort();
        assert_eq!(scores, expected);
    }
}

pub(crate) async fn results_and_evaluation_at_once_leave_nothing_out(scene: Scene) {
    let rounds = rounds(&scene);
    let replica = Rounds::new(
        &scene.replica().await,
        Arc::from([ORGANISER.parse().unwrap()]),
    );
    let [first, second] = hospitals();
    rounds
        .register(Some(&round("R1")), &organiser())
        .await
        .unwrap();
    // Both replicas take the same lines at once: each value has one version.
    let lines = [
        results("R1", &first, ON_THE_LIMITS),
        results("R1", &second, ON_THE_LIMITS),
    ]
    .concat();
    let (organiser_one, organiser_two) = (organiser(), organiser());
    let (one, two) = tokio::join!(
        rounds.submit(&lines, &organiser_one),
        replica.submit(&lines, &organiser_two)
    );
    let created = one.unwrap().into_iter().chain(two.unwrap());
    assert_eq!(
        created.filter(|line| *line == SubmitLine::Created).count(),
        10
    );
    scene.clock.advance_us(DAY);
    let evaluated = replica.evaluate("R1", &organiser()).await.unwrap();
    assert!(
        evaluated
            .scores
            .iter()
            .all(|score| score.passed_samples == 5)
    );
}

pub(crate) async fn marks_follow_from_passed_rounds_and_never_from_the_sender(scene: Scene) {
    let catalogue = crate::scene::built_in();
    let alt = catalogue.item(ALT).unwrap();
    let mut sent = report(1, 1, DAY);
    sent.results = vec![banqiao_lab::synthetic::result(alt, 1).unwrap()];
    sent.results[0].marks = vec![HrMark {
        label: "全国HR".to_owned(),
        ..HrMark::default()
    }];
    scene.published(std::slice::from_ref(&sent)).await;
    let found = scene.find(&search(&sent), DOCTOR).await;
    assert_eq!(found[0].report.results[0].marks, []);

    passed_round(&scene, &round("R1")).await;
    // It was issued before the mark was in force, and stays without.
    let found = scene.find(&search(&sent), DOCTOR).await;
    assert_eq!(found[0].report.results[0].marks, []);
    let mut later = sent.clone();
    later.report_number = "LATER".to_owned();
    later.collected_at = time(NOON + DAY);
    later.issued_at = time(NOON + DAY + HOUR);
    scene.clock.advance_us(HOUR);
    scene.published(std::slice::from_ref(&later)).await;
    let found = scene.find(&search(&sent), DOCTOR).await;
    let of_results: Vec<_> = found
        .iter()
        .map(|found| &found.report.results[0].marks)
        .collect();
    assert_eq!(of_results[1], &[]);
    let [mark] = of_results[0].as_slice() else {
        panic!("{of_results:?}")
    };
    assert_eq!(
        (
            mark.label.as_str(),
            mark.scope(),
            mark.round_id.as_str(),
            mark.valid_from
        ),
        ("胶东HR", MarkScope::Region, "R1", time(NOON + DAY))
    );
    // Sent back with its mark, it is the same report.
    let again = scene.publish(&[found[0].report.clone()]).await;
    assert_eq!(again, [banqiao_lab::LineOutcome::Unchanged(1)]);

    let listed = async |items: &[String]| {
        let [first, _] = hospitals();
        rounds(&scene).list_marks(&first, items).await.unwrap()
    };
    let all = ListMarksResponse {
        city: String::new(),
        marks: listed(&[]).await,
    };
    assert_eq!((all.marks.len(), all.marks[0].item_code.as_str()), (1, ALT));
    assert_eq!(listed(&["0100101A".to_owned()]).await, []);
    // The next round of the scheme is evaluated without it: the mark ends then.
    let mut next = round("R2");
    next.closes_at = time(NOON + 30 * DAY);
    let rounds = rounds(&scene);
    rounds.register(Some(&next), &organiser()).await.unwrap();
    scene.clock.advance_us(30 * DAY);
    rounds.evaluate("R2", &organiser()).await.unwrap();
    let ended = listed(&[ALT.to_owned()]).await;
    let until = ended[0].mark.as_ref().unwrap().valid_until;
    assert_eq!((ended.len(), until), (1, time(NOON + 31 * DAY + HOUR)));
    let [first, _] = hospitals();
    let institutions = institutions();
    let first = institutions.find(&first).unwrap();
    let judged = scene
        .reports
        .store()
        .judged_rounds(&[first.credit_code], &[])
        .await
        .unwrap();
    let computed: Vec<ItemMark> = marks(&judged[&first.credit_code], first.level);
    assert!(
        computed[0].is_in_force(NOON + DAY) && !computed[0].is_in_force(NOON + 31 * DAY + HOUR)
    );
}

pub(crate) async fn targets_and_scores_are_shown_to_those_whom_they_concern(scene: Scene) {
    let rounds = rounds(&scene);
    let [first, second] = hospitals();
    rounds
        .register(Some(&round("R1")), &organiser())
        .await
        .unwrap();
    for institution in [&first, &second] {
        rounds
            .submit(&results("R1", institution, ON_THE_LIMITS), &organiser())
            .await
            .unwrap();
    }
    let stranger = QualityActor::System(DOCTOR.parse().unwrap());
    let seen = async |actor: &QualityActor| {
        let read = rounds.read("R1", actor).await.unwrap();
        let items = &read.round.as_ref().unwrap().items;
        let targets = items[0]
            .samples
            .iter()
            .filter(|sample| !sample.target.is_empty());
        (targets.count(), read.evaluations.len())
    };
    assert_eq!(seen(&organiser()).await, (5, 0));
    assert_eq!(seen(&laboratory()).await, (0, 0));
    scene.clock.advance_us(DAY);
    rounds.evaluate("R1", &organiser()).await.unwrap();
    assert_eq!(seen(&organiser()).await, (5, 2));
    assert_eq!(seen(&laboratory()).await, (5, 1));
    assert_eq!(seen(&stranger).await, (5, 0));
    let own = rounds.read("R1", &laboratory()).await.unwrap();
    assert_eq!(own.evaluations[0].institution, first);
    let unknown = rounds.read("R2", &organiser()).await.unwrap_err();
    assert_eq!(reason(unknown), "ROUND_UNKNOWN");
    let many = rounds.list_marks(&first, &vec![ALT.to_owned(); 101]).await;
    assert_eq!(
        of(&violations(many.unwrap_err())),
        [("item_codes", "MARKED_ITEMS")]
    );
    let other = institutions();
    let other = other.iter().find(|one| one.city != qingdao()).unwrap();
    let foreign = rounds
        .list_marks(&other.credit_code.to_string(), &["x".to_owned()])
        .await;
    let foreign = violations(foreign.unwrap_err());
    assert_eq!(
        of(&foreign),
        [
            ("institution", "PARTICIPANT"),
            ("item_codes[0]", "ITEM_CODE")
        ]
    );
}

pub(crate) async fn rounds_results_and_evaluations_cannot_be_rewritten(scene: Scene) {
    passed_round(&scene, &round("R1")).await;
    for statement in [
        "UPDATE quality_round SET closes_at = closes_at + 1",
        "DELETE FROM quality_round",
        "DELETE FROM quality_item",
        "UPDATE quality_result SET value = '40'",
        "DELETE FROM quality_result",
        "UPDATE quality_evaluated SET evaluated_at = 1",
        "UPDATE quality_evaluation SET passed_samples = 5",
        "DELETE FROM quality_evaluation",
    ] {
        let error = execute(&scene, statement).await.unwrap_err();
        assert!(
            error.to_string().contains("is append-only"),
            "{statement}: {error}"
        );
    }
}
