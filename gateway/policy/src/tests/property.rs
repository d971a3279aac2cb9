//! HARDENING property 5: 100,000 random requests against random grants agree with a small reference evaluator,
//! which is written on the messages and shares no code with the crate.

use banqiao_proto::exchange::v1::Reason;
use proptest::prelude::*;

use super::*;
use crate::{Decision, GrantSet};

const CASES: u32 = 5_000;
const REQUESTS: usize = 20;

const CLIENTS: [&str; 7] = [
    "spiffe://yantai.jiaodong/hrss/pension",
    "spiffe://yantai.jiaodong/hrss/pension/east",
    "spiffe://yantai.jiaodong/hrss2/pension",
    "spiffe://yantai.jiaodong/health/lab",
    "spiffe://yantai.jiaodong/gateway",
    "spiffe://weihai.jiaodong/hrss/pension",
    "spiffe://yantai.jiaodong.x/hrss/pension",
];
const PATTERNS: [&str; 8] = [
    "spiffe://yantai.jiaodong/hrss/pension",
    "spiffe://yantai.jiaodong/hrss/pension/east",
    "spiffe://yantai.jiaodong/hrss/pension/*",
    "spiffe://yantai.jiaodong/hrss/*",
    "spiffe://yantai.jiaodong/*",
    "spiffe://yantai.jiaodong/health/lab",
    "spiffe://weihai.jiaodong/*",
    "spiffe://yantai.jiaodong/gateway/*",
];
/// Service, method, its purposes (none: all), whether it is shared.
const METHODS: [(&str, &str, &[&str], bool); 5] = [
    ("t.v1.A", "Free", &[], true),
    ("t.v1.A", "Bound", &["p1", "p2"], true),
    ("t.v1.A", "Secret", &[], false),
    ("t.v1.B", "Free", &[], true),
    ("t.v1.B", "Bound", &["p3"], true),
];
const PURPOSES: [&str; 4] = ["p1", "p2", "p3", "p4"];

/// The answer by the words of the contract: the id of the grant, or the reason.
fn reference(
    grants: &[proto::Grant],
    client: &str,
    (service, method, allowed, shared): (&str, &str, &[&str], bool),
    purpose: &str,
    now_s: i64,
) -> Result<String, Reason> {
    let covers = |grant: &&proto::Grant| {
        let client_covered = match grant.client.strip_suffix('*') {
            None => grant.client == client,
            Some(prefix) => client.starts_with(prefix),
        };
        client_covered
            && !client.ends_with(".jiaodong/gateway")
            && grant.service == service
            && (grant.methods.is_empty() || grant.methods.iter().any(|name| name == method))
            && grant.revoked_at.is_none()
            && shared
    };
    let granted: Vec<_> = grants.iter().filter(covers).collect();
    if granted.is_empty() {
        return Err(Reason::NotGranted);
    }
    let for_purpose: Vec<_> = granted
        .into_iter()
        .filter(|grant| grant.purposes.iter().any(|p| p == purpose))
        .filter(|_| allowed.is_empty() || allowed.contains(&purpose))
        .collect();
    if for_purpose.is_empty() {
        return Err(Reason::PurposeNotAllowed);
    }
    let closest = |grant: &&proto::Grant| {
        let exact = !grant.client.ends_with('*');
        (
            exact,
            grant.client.len(),
            !grant.methods.is_empty(),
            grant.id.clone(),
        )
    };
    for_purpose
        .into_iter()
        .filter(|grant| {
            grant.not_before.unwrap().seconds <= now_s && now_s < grant.not_after.unwrap().seconds
        })
        .max_by_key(closest)
        .map(|grant| grant.id.clone())
        .ok_or(Reason::GrantExpired)
}

fn grant() -> impl Strategy<Value = proto::Grant> {
    (
        prop::sample::select(&PATTERNS[..]),
        prop::sample::select(&["t.v1.A", "t.v1.B"][..]),
        prop::sample::subsequence(&["Free", "Bound", "Secret"][..], 0..3),
        prop::sample::subsequence(&PURPOSES[..], 1..4),
        (0..8_i64, 1..8_i64),
        prop::bool::weighted(0.15),
    )
        .prop_map(
            |(client, service, methods, purposes, (from, length), revoked)| proto::Grant {
                client: client.to_owned(),
                service: service.to_owned(),
                methods: methods.into_iter().map(str::to_owned).collect(),
                purposes: purposes.into_iter().map(str::to_owned).collect(),
                not_before: Some(at(from)),
                not_after: Some(at(from + length)),
                revoked_at: revoked.then(|| at(0)),
                ..sample()
            },
        )
}

fn request() -> impl Strategy<Value = (usize, usize, usize, i64)> {
    (
        0..CLIENTS.len(),
        0..METHODS.len(),
        0..PURPOSES.len(),
        0..16_i64,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: CASES, ..ProptestConfig::default() })]

    #[test]
    fn decisions_agree_with_the_reference(
        grants in prop::collection::vec(grant(), 0..12),
        order in any::<u64>(),
        requests in prop::collection::vec(request(), REQUESTS),
    ) {
        // Ids by no order that the set could rely on.
        let numbered: Vec<_> = grants
            .into_iter()
            .enumerate()
            .map(|(at, grant)| {
                let shuffled = (at as u64).wrapping_mul(order | 1) % 251 * 16 + at as u64;
                let id = Uuid::from_u128(
                    (u128::from(shuffled) << 80) | 0x7000_8000_0000_0000_0000,
                );
                proto::Grant { id: id.to_string(), ..grant }
            })
            .collect();
        let set = GrantSet::new(numbered.iter().cloned().map(parse));
        for (client, method, purpose, now_s) in requests {
            let (client, rule, purpose) = (CLIENTS[client], METHODS[method], PURPOSES[purpose]);
            let path = format!("/{}/{}", rule.0, rule.1);
            let method = CATALOG.method(&path).unwrap();
            let client_id = id(client);
            let now_us = now_s * 1_000_000;
            let expected = reference(&numbered, client, rule, purpose, now_s);
            let decided = match set.decide(&client_id, method, purpose, now_us) {
                Decision::Permit(grant) => Ok(grant.id().to_owned()),
                Decision::Refuse(reason) => Err(reason),
            };
            prop_assert_eq!(&decided, &expected, "{} {} {} at {}", client, path, purpose, now_s);
            let visible = set.covers_client(&client_id, rule.0, now_us);
            prop_assert!(visible || decided.is_err(), "a permitted call is of a visible service");
            prop_assert!(
                !visible || set.covers_city(client_id.trust_domain(), rule.0, now_us),
                "what a client sees, its city sees"
            );
        }
    }
}
