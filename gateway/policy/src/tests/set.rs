use banqiao_directory::Method;
use banqiao_proto::exchange::v1::Reason;

use super::*;
use crate::{Decision, Finding, GrantSet};

const CLIENT: &str = "spiffe://yantai.jiaodong/hrss/pension";
const NOW: i64 = 15_000_000;

fn method(path: &str) -> &'static Method {
    CATALOG.method(path).unwrap()
}

fn decide(set: &GrantSet, client: &str, path: &str, purpose: &str, now_us: i64) -> Decision {
    let decision = set.decide(&id(client), method(path), purpose, now_us);
    let explained = set.explain(&id(client), method(path), purpose, now_us);
    assert_eq!(
        explained.decision, decision,
        "explanations are the decision's own"
    );
    decision
}

fn refused(decision: &Decision) -> Reason {
    match decision {
        Decision::Refuse(reason) => *reason,
        Decision::Permit(grant) => panic!("permitted by {}", grant.id()),
    }
}

#[test]
fn nothing_is_permitted_that_no_grant_names() {
    let set = GrantSet::new([parse(sample())]);
    let decide = |client, path, purpose, now| decide(&set, client, path, purpose, now);
    assert!(
        matches!(decide(CLIENT, "/t.v1.A/Free", "p1", NOW), Decision::Permit(grant)
        if grant.id() == uuid(1))
    );
    for (client, path, purpose, now, reason) in [
        (
            "spiffe://yantai.jiaodong/hrss/other",
            "/t.v1.A/Free",
            "p1",
            NOW,
            Reason::NotGranted,
        ),
        (
            "spiffe://weihai.jiaodong/hrss/pension",
            "/t.v1.A/Free",
            "p1",
            NOW,
            Reason::NotGranted,
        ),
        (
            "spiffe://yantai.jiaodong/gateway",
            "/t.v1.A/Free",
            "p1",
            NOW,
            Reason::NotGranted,
        ),
        (CLIENT, "/t.v1.B/Free", "p1", NOW, Reason::NotGranted),
        (CLIENT, "/t.v1.A/Secret", "p1", NOW, Reason::NotGranted),
        (CLIENT, "/t.v1.A/Free", "p2", NOW, Reason::PurposeNotAllowed),
        (
            CLIENT,
            "/t.v1.A/Free",
            "p1",
            9_999_999,
            Reason::GrantExpired,
        ),
        (
            CLIENT,
            "/t.v1.A/Free",
            "p1",
            20_000_000,
            Reason::GrantExpired,
        ),
    ] {
        assert_eq!(
            refused(&decide(client, path, purpose, now)),
            reason,
            "{client} {path}"
        );
    }
    assert!(matches!(
        decide(CLIENT, "/t.v1.A/Free", "p1", 10_000_000),
        Decision::Permit(_)
    ));
    assert!(matches!(
        decide(CLIENT, "/t.v1.A/Free", "p1", 19_999_999),
        Decision::Permit(_)
    ));
    assert_eq!(
        refused(&GrantSet::default().decide(&id(CLIENT), method("/t.v1.A/Free"), "p1", NOW)),
        Reason::NotGranted
    );
}

#[test]
fn a_method_forbids_what_a_grant_would_allow() {
    let mut grant = sample();
    grant.purposes = vec!["p1".to_owned(), "p4".to_owned()];
    let set = GrantSet::new([parse(grant)]);
    assert!(matches!(
        decide(&set, CLIENT, "/t.v1.A/Bound", "p1", NOW),
        Decision::Permit(_)
    ));
    assert_eq!(
        refused(&decide(&set, CLIENT, "/t.v1.A/Bound", "p4", NOW)),
        Reason::PurposeNotAllowed
    );
}

#[test]
fn a_revoked_grant_ends_at_once_on_every_replica() {
    let mut grant = sample();
    // Its replica's clock was ahead.
    grant.revoked_at = Some(at(19));
    let revoked = GrantSet::new([parse(grant.clone())]);
    assert_eq!(
        refused(&decide(&revoked, CLIENT, "/t.v1.A/Free", "p1", NOW)),
        Reason::NotGranted
    );
    assert_eq!(revoked.in_force(NOW), 0);
    assert_eq!(revoked.digest(), GrantSet::default().digest());
    assert!(!parse(grant).valid_at(NOW));
}

#[test]
fn the_closest_and_newest_grant_decides() {
    let grant = |at: u8, client: &str, methods: &[&str]| {
        let mut grant = sample();
        grant.id = uuid(at);
        grant.client = client.to_owned();
        grant.methods = methods.iter().map(|method| (*method).to_owned()).collect();
        parse(grant)
    };
    // In order of precedence.
    let grants = [
        grant(3, CLIENT, &["Free", "Bound"]),
        grant(1, CLIENT, &["Free"]),
        grant(4, CLIENT, &[]),
        grant(2, CLIENT, &[]),
        grant(9, "spiffe://yantai.jiaodong/hrss/*", &[]),
        grant(11, "spiffe://yantai.jiaodong/*", &["Free"]),
        grant(10, "spiffe://yantai.jiaodong/*", &[]),
    ];
    for from in 0..grants.len() {
        let set = GrantSet::new(grants[from..].iter().rev().cloned());
        let explained = set.explain(&id(CLIENT), method("/t.v1.A/Free"), "p1", NOW);
        let order: Vec<_> = explained
            .considered
            .iter()
            .map(|c| c.grant.id().to_owned())
            .collect();
        let expected: Vec<_> = grants[from..]
            .iter()
            .map(|grant| grant.id().to_owned())
            .collect();
        assert_eq!(order, expected);
        assert_eq!(explained.considered[0].finding, Finding::Decides);
        assert!(
            explained.considered[1..]
                .iter()
                .all(|c| c.finding == Finding::AlsoPermits)
        );
    }
}

#[test]
fn an_explanation_says_what_each_grant_does() {
    let change = |at: u8, change: &dyn Fn(&mut proto::Grant)| {
        let mut grant = sample();
        grant.id = uuid(at);
        change(&mut grant);
        parse(grant)
    };
    let set = GrantSet::new([
        change(1, &|_| {}),
        change(2, &|grant| grant.purposes = vec!["p2".to_owned()]),
        change(3, &|grant| grant.not_after = Some(at(12))),
        change(4, &|grant| grant.not_before = Some(at(18))),
        change(5, &|grant| grant.revoked_at = Some(at(1))),
        change(6, &|grant| grant.service = "t.v1.B".to_owned()),
        change(7, &|grant| grant.methods = vec!["Bound".to_owned()]),
    ]);
    let explained = set.explain(&id(CLIENT), method("/t.v1.A/Free"), "p1", NOW);
    let answer = proto::ExplainGrantResponse::from(&explained);
    assert!(answer.permitted);
    assert_eq!(answer.grant_id, uuid(1));
    let findings: Vec<_> = answer
        .considered
        .iter()
        .map(|c| (c.grant_id.clone(), c.finding.as_str()))
        .collect();
    assert_eq!(
        findings,
        [
            (uuid(7), "does not name the method"),
            (uuid(5), "was revoked"),
            (uuid(4), "is not valid yet"),
            (uuid(3), "is past its validity"),
            (uuid(2), "does not name the purpose"),
            (uuid(1), "permits the call"),
        ]
    );
    let refused = set.explain(&id(CLIENT), method("/t.v1.A/Secret"), "p1", NOW);
    let answer = proto::ExplainGrantResponse::from(&refused);
    assert!(!answer.permitted && answer.grant_id.is_empty());
    assert_eq!(answer.reason(), Reason::NotGranted);
    assert!(
        answer
            .considered
            .iter()
            .any(|c| c.finding.contains("does not share"))
    );
}

#[test]
fn the_digest_is_of_the_set_and_not_of_its_order() {
    let other = || {
        let mut grant = sample();
        grant.id = uuid(2);
        parse(grant)
    };
    let both = GrantSet::new([parse(sample()), other()]);
    assert_eq!(
        both.digest(),
        GrantSet::new([other(), parse(sample())]).digest()
    );
    assert_ne!(both.digest(), GrantSet::new([other()]).digest());
    let mut changed = sample();
    changed.legal_basis.push('.');
    assert_ne!(
        both.digest(),
        GrantSet::new([parse(changed), other()]).digest()
    );
    assert_eq!((both.len(), both.is_empty()), (2, false));
    assert_eq!(
        both.grants()
            .map(|grant| grant.id().to_owned())
            .collect::<Vec<_>>(),
        [uuid(2), uuid(1)]
    );
    assert!(both.grant(&other().uuid()).is_some());
}

#[test]
fn a_city_and_a_client_see_what_they_have_a_grant_for() {
    let mut city = sample();
    city.id = uuid(2);
    city.client = "spiffe://yantai.jiaodong/health/*".to_owned();
    city.service = "t.v1.B".to_owned();
    let set = GrantSet::new([parse(sample()), parse(city)]);
    let yantai = id(CLIENT).trust_domain().clone();
    let weihai = "weihai.jiaodong".parse().unwrap();
    assert!(set.covers_city(&yantai, "t.v1.A", NOW));
    assert!(!set.covers_city(&yantai, "t.v1.A", 20_000_000));
    assert!(!set.covers_city(&weihai, "t.v1.A", NOW));
    assert!(!set.covers_city(&yantai, "t.v1.Hidden", NOW));
    let clients = set.clients_of_city(&yantai, "t.v1.B", NOW);
    assert_eq!(
        clients.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["spiffe://yantai.jiaodong/health/*"]
    );
    let visible = |client: &str, now| {
        set.visible_services(&id(client), now)
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    assert_eq!(visible(CLIENT, NOW), ["t.v1.A"]);
    assert_eq!(
        visible("spiffe://yantai.jiaodong/health/lab", NOW),
        ["t.v1.B"]
    );
    assert_eq!(visible("spiffe://yantai.jiaodong/gateway", NOW), [""; 0]);
    assert_eq!(visible(CLIENT, 0), [""; 0]);
}
