//! Metrics as a scraper reads them.

use std::collections::{BTreeMap, HashSet};

use banqiao_directory::ManualClock;
use tonic::Code;

use super::*;
use crate::{Resource, Telemetry, TelemetrySettings};

const NOW_US: i64 = 1_790_000_000_000_000;

fn telemetry() -> (Telemetry, ManualClock) {
    let clock = ManualClock::new(NOW_US);
    let settings =
        TelemetrySettings::new(Resource::new("test", "0").with("banqiao.city", "370200"));
    (Telemetry::build(settings, clock.clock()).unwrap(), clock)
}

const LABELS: CallLabels<'static> = CallLabels {
    side: Side::Consumer,
    service: "banqiao.card.v1.CardService",
    method: "VerifyCard",
    peer_city: "370600",
    code: Code::Ok,
    reason: "",
};

/// One sample: its name, its labels in order and its value.
type Sample = (String, BTreeMap<String, String>, f64);

/// Parses Prometheus' text format 0.0.4 strictly: what it does not know fails the test.
fn parse(text: &str) -> (BTreeMap<String, String>, Vec<Sample>) {
    assert!(text.ends_with('\n'), "the last line must end");
    let (mut types, mut samples) = (BTreeMap::new(), Vec::new());
    for line in text.lines() {
        if let Some(typed) = line.strip_prefix("# TYPE ") {
            let (name, kind) = typed.split_once(' ').unwrap();
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            assert_eq!(
                types.insert(name.to_owned(), kind.to_owned()),
                None,
                "{name} twice"
            );
        } else if !line.starts_with("# HELP ") {
            samples.push(parse_sample(line));
        }
    }
    let series: HashSet<_> = samples
        .iter()
        .map(|(name, labels, _)| format!("{name} {labels:?}"))
        .collect();
    assert_eq!(series.len(), samples.len(), "a series appears twice");
    for (name, _, _) in &samples {
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'),
            "{name}"
        );
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| {
            name.strip_suffix(end)
                .filter(|name| types.get(*name).is_some_and(|it| it == "histogram"))
        });
        assert!(
            types.contains_key(family.unwrap_or(name)),
            "{name} has no type"
        );
    }
    (types, samples)
}

fn parse_sample(line: &str) -> Sample {
    let (series, value) = line.rsplit_once(' ').unwrap();
    let value = if value == "+Inf" {
        f64::INFINITY
    } else {
        value.parse().unwrap()
    };
    let Some((name, labels)) = series.split_once('{') else {
        return (series.to_owned(), BTreeMap::new(), value);
    };
    let mut rest = labels.strip_suffix('}').unwrap();
    let mut labels = BTreeMap::new();
    while let Some((label, quoted)) = rest.split_once("=\"") {
        let (mut text, mut chars) = (String::new(), quoted.char_indices());
        let end = loop {
            match chars.next().unwrap() {
                (at, '"') => break at,
                (_, '\\') => text.push(match chars.next().unwrap().1 {
                    'n' => '\n',
                    escaped @ ('\\' | '"') => escaped,
                    other => panic!("escape {other}"),
                }),
                (_, char) => text.push(char),
            }
        };
        assert_eq!(labels.insert(label.to_owned(), text), None, "{line}");
        rest = quoted[end + 1..].trim_start_matches(',');
    }
    assert_eq!(rest, "", "{line}");
    (name.to_owned(), labels, value)
}

fn value(samples: &[Sample], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let mut found = samples.iter().filter(|(known, has, _)| {
        known == name
            && labels
                .iter()
                .all(|(key, value)| has.get(*key).is_some_and(|it| it == value))
    });
    let value = found.next().map(|(_, _, value)| *value);
    assert!(found.next().is_none(), "{name} {labels:?} is ambiguous");
    value
}

fn scrape(telemetry: &Telemetry) -> Vec<Sample> {
    parse(&telemetry.prometheus()).1
}

#[test]
fn a_call_is_counted_under_its_labels_and_bucket() {
    let (telemetry, _clock) = telemetry();
    telemetry.metrics().call(&LABELS, Duration::from_micros(90));
    telemetry.metrics().call(&LABELS, Duration::from_millis(3));
    let refused = CallLabels {
        code: Code::PermissionDenied,
        reason: "NOT_GRANTED",
        ..LABELS
    };
    telemetry.metrics().call(&refused, Duration::from_secs(600));
    let samples = scrape(&telemetry);
    let bucket = |code, bound| {
        value(
            &samples,
            "banqiao_call_duration_seconds_bucket",
            &[
                ("code", code),
                ("le", bound),
                ("side", "consumer"),
                ("peer_city", "370600"),
            ],
        )
    };
    assert_eq!(bucket("OK", "0.0001"), Some(1.0));
    assert_eq!(bucket("OK", "0.0025"), Some(1.0));
    assert_eq!(bucket("OK", "0.005"), Some(2.0));
    assert_eq!(bucket("PERMISSION_DENIED", "60"), Some(0.0));
    assert_eq!(bucket("PERMISSION_DENIED", "+Inf"), Some(1.0));
    let count = "banqiao_call_duration_seconds_count";
    assert_eq!(
        value(&samples, count, &[("reason", "NOT_GRANTED")]),
        Some(1.0)
    );
    assert_eq!(
        value(&samples, count, &[("method", "VerifyCard"), ("reason", "")]),
        Some(2.0)
    );
}

#[test]
fn label_combinations_are_bounded_and_the_rest_is_other() {
    let (telemetry, _clock) = telemetry();
    for number in 0..3_000 {
        let method = format!("Method{number}");
        telemetry.metrics().call(
            &CallLabels {
                method: &method,
                ..LABELS
            },
            Duration::ZERO,
        );
    }
    telemetry.metrics().call(&LABELS, Duration::ZERO);
    // A combination that has its series keeps it.
    telemetry.metrics().call(
        &CallLabels {
            method: "Method7",
            ..LABELS
        },
        Duration::ZERO,
    );
    for number in 0..1_000 {
        let limit: &'static str = format!("limit{number}").leak();
        telemetry.metrics().limit_hit(limit);
    }
    let samples = scrape(&telemetry);
    let count = "banqiao_call_duration_seconds_count";
    assert_eq!(
        samples.iter().filter(|(name, _, _)| name == count).count(),
        2_001
    );
    assert_eq!(
        value(
            &samples,
            count,
            &[("method", "other"), ("service", "other")]
        ),
        Some(1_001.0)
    );
    assert_eq!(value(&samples, count, &[("method", "Method7")]), Some(2.0));
    assert!(
        samples
            .iter()
            .all(|(_, labels, _)| !labels.contains_key("otel_metric_overflow"))
    );
    let hits = "banqiao_limit_hits_total";
    assert_eq!(
        samples.iter().filter(|(name, _, _)| name == hits).count(),
        WORDS + 1
    );
    assert_eq!(
        value(&samples, hits, &[("limit", "other")]),
        Some(1_000.0 - WORDS as f64)
    );
}

#[test]
fn text_in_a_label_cannot_forge_a_sample() {
    let (telemetry, _clock) = telemetry();
    let service = "x\"} 1\nbanqiao_ledger_writable 1\n\\";
    telemetry
        .metrics()
        .call(&CallLabels { service, ..LABELS }, Duration::ZERO);
    let samples = scrape(&telemetry);
    assert_eq!(value(&samples, "banqiao_ledger_writable", &[]), None);
    assert_eq!(
        value(
            &samples,
            "banqiao_call_duration_seconds_count",
            &[("service", service)]
        ),
        Some(1.0)
    );
}

#[test]
fn ages_are_computed_when_they_are_read() {
    let (telemetry, clock) = telemetry();
    assert_eq!(
        value(&scrape(&telemetry), "banqiao_directory_age_seconds", &[]),
        None
    );
    telemetry
        .metrics()
        .directory(7, NOW_US - 60_000_000, NOW_US + 3_600_000_000);
    telemetry
        .metrics()
        .certificate(NOW_US / 1_000_000 + 86_400 * 30);
    telemetry.metrics().crls([
        ("qingdao.jiaodong", NOW_US / 1_000_000 + 43_200),
        ("gone", 0),
    ]);
    telemetry
        .metrics()
        .crls([("qingdao.jiaodong", NOW_US / 1_000_000 + 43_200)]);
    clock.advance_us(86_400 * 1_000_000);
    let samples = scrape(&telemetry);
    assert_eq!(value(&samples, "banqiao_directory_version", &[]), Some(7.0));
    assert_eq!(
        value(&samples, "banqiao_directory_age_seconds", &[]),
        Some(86_460.0)
    );
    assert_eq!(
        value(&samples, "banqiao_directory_expires_in_seconds", &[]),
        Some(-82_800.0)
    );
    assert_eq!(
        value(&samples, "banqiao_certificate_days_left", &[]),
        Some(29.0)
    );
    let domain = [("trust_domain", "qingdao.jiaodong")];
    assert_eq!(
        value(&samples, "banqiao_crl_days_left", &domain),
        Some(-0.5)
    );
    assert_eq!(
        value(
            &samples,
            "banqiao_crl_days_left",
            &[("trust_domain", "gone")]
        ),
        None
    );
}

#[test]
fn guards_count_what_is_open() {
    let (telemetry, _clock) = telemetry();
    let metrics = telemetry.metrics();
    let call = metrics.in_flight(Side::Provider);
    let _other = metrics.in_flight(Side::Consumer);
    let connection = metrics.connection(ConnectionKind::InterCity);
    let open = |samples: &[Sample]| {
        let calls = value(samples, "banqiao_calls_in_flight", &[("side", "provider")]);
        (
            calls,
            value(samples, "banqiao_connections", &[("kind", "inter_city")]),
        )
    };
    assert_eq!(open(&scrape(&telemetry)), (Some(1.0), Some(1.0)));
    assert_eq!(metrics.calls_in_flight(), 2);
    drop((call, connection));
    assert_eq!(open(&scrape(&telemetry)), (Some(0.0), Some(0.0)));
}

/// A telemetry in which everything has happened once.
fn eventful() -> Telemetry {
    let (telemetry, _clock) = telemetry();
    let metrics = telemetry.metrics();
    metrics.call(&LABELS, Duration::ZERO);
    metrics.commit(3, 1_500, Duration::from_micros(200));
    metrics.ledger_failed("busy");
    metrics.queue_depth(4);
    metrics.ledger_size(9);
    metrics.ledger_writable(true);
    metrics.directory(1, NOW_US, NOW_US);
    metrics.certificate(0);
    metrics.crls([("qingdao.jiaodong", 0)]);
    metrics.grants(2);
    metrics.refused_tls("CERTIFICATE_EXPIRED");
    metrics.limit_hit("streams_per_connection");
    metrics.stripped_metadata(1);
    metrics.reloaded("certificate", false);
    metrics.ledger_alarm("fork");
    metrics.receipt("verified");
    metrics.discrepancies("370600", "only_here", 3);
    metrics.ledger_witnessed(8, 12);
    metrics.ledger_degraded(true);
    metrics.witnesses([("370600", true), ("370700", false)]);
    metrics.witness_cosigned();
    metrics.witness_refused(409);
    metrics.witness_refused(422);
    metrics.witness_refused(404);
    metrics.cosignature_missing();
    telemetry
}

#[test]
fn everything_has_the_name_that_dashboards_and_alerts_use() {
    let telemetry = eventful();
    let (types, samples) = parse(&telemetry.prometheus());
    let names: Vec<_> = types
        .iter()
        .map(|(name, kind)| format!("{name} {kind}"))
        .collect();
    let expected = [
        "banqiao_call_duration_seconds histogram",
        "banqiao_calls_in_flight gauge",
        "banqiao_certificate_days_left gauge",
        "banqiao_connections gauge",
        "banqiao_crl_days_left gauge",
        "banqiao_directory_age_seconds gauge",
        "banqiao_directory_expires_in_seconds gauge",
        "banqiao_directory_version gauge",
        "banqiao_grants gauge",
        "banqiao_ledger_alarms_total counter",
        "banqiao_ledger_commit_duration_seconds histogram",
        "banqiao_ledger_commit_entries histogram",
        "banqiao_ledger_committed_bytes_total counter",
        "banqiao_ledger_degraded gauge",
        "banqiao_ledger_failures_total counter",
        "banqiao_ledger_queue_depth gauge",
        "banqiao_ledger_size gauge",
        "banqiao_ledger_witness_missing gauge",
        "banqiao_ledger_witness_wait_seconds gauge",
        "banqiao_ledger_witnessed gauge",
        "banqiao_ledger_writable gauge",
        "banqiao_limit_hits_total counter",
        "banqiao_metadata_stripped_total counter",
        "banqiao_receipts_total counter",
        "banqiao_reconciliation_discrepancies_total counter",
        "banqiao_reloads_total counter",
        "banqiao_tls_refused_total counter",
        "banqiao_witness_total counter",
        "process_cpu_time_seconds_total counter",
        "process_memory_usage_bytes gauge",
        "process_open_file_descriptor_count gauge",
        "target_info gauge",
    ];
    assert_eq!(names, expected);
    for outcome in ["cosigned", "conflict", "inconsistent", "refused", "missing"] {
        let label = [("outcome", outcome)];
        let counted = value(&samples, "banqiao_witness_total", &label);
        assert_eq!(counted, Some(1.0), "{outcome}");
    }
    for (city, missing) in [("370600", 1.0), ("370700", 0.0)] {
        let label = [("peer_city", city)];
        let shown = value(&samples, "banqiao_ledger_witness_missing", &label);
        assert_eq!(shown, Some(missing), "{city}");
    }
    assert_eq!(value(&samples, "banqiao_ledger_degraded", &[]), Some(1.0));
    let label = [("peer_city", "370600"), ("class", "only_here")];
    let counted = value(
        &samples,
        "banqiao_reconciliation_discrepancies_total",
        &label,
    );
    assert_eq!(counted, Some(3.0));
    assert_eq!(
        value(&samples, "target_info", &[("banqiao_city", "370200")]),
        Some(1.0)
    );
    assert_eq!(
        value(
            &samples,
            "banqiao_ledger_commit_entries_bucket",
            &[("le", "4")]
        ),
        Some(1.0)
    );
    assert!(value(&samples, "process_memory_usage_bytes", &[]) > Some(1e6));
}

/// Words of a text that could be names of our metrics.
fn metric_names(text: &str) -> impl Iterator<Item = &str> {
    text.split(|char: char| !char.is_ascii_alphanumeric() && char != '_')
        .filter(|word| word.starts_with("banqiao_") || word.starts_with("process_"))
}

#[test]
fn deployed_dashboards_and_alerts_ask_only_for_what_exists() {
    let telemetry = eventful();
    let (types, samples) = parse(&telemetry.prometheus());
    let known: HashSet<_> = types
        .keys()
        .chain(samples.iter().map(|(name, _, _)| name))
        .map(String::as_str)
        .collect();
    let deploy =
        std::path::Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("../../deploy");
    for file in [
        "grafana/gateway.json",
        "prometheus/banqiao.rules.yml",
        "prometheus/banqiao.rules.test.yml",
    ] {
        let text = std::fs::read_to_string(deploy.join(file)).unwrap();
        assert!(metric_names(&text).count() > 10, "{file} asks for nothing");
        for name in metric_names(&text) {
            assert!(known.contains(name), "{file} asks for {name}");
        }
    }
}
