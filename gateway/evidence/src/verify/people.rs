//! Who it was: the client's certificate, and the private parts that are opened.

use banqiao_identity::{CertificateFault, peer_at};
use banqiao_ledger::check_opening;
use banqiao_proto::ledger::v1::{Entry, Kind, PrivateOpening, Side};
use prost::Message as _;

use super::{Trust, entries::Held};
use crate::{
    bundle::{Bundle, names},
    report::{Report, Standing},
};

/// A CRL counts so long past its next update, as gateways are set by default: 24 h.
const CRL_GRACE_S: i64 = 86_400;

pub(super) fn check(bundle: &Bundle, trust: &Trust, held: &[Held], report: &mut Report) {
    let first = held.iter().find(|held| {
        matches!(held.entry.side(), Side::Consumer | Side::Local)
            && matches!(held.entry.kind(), Kind::Open | Kind::Close | Kind::Refused)
    });
    if let Some(held) = first {
        certificate(bundle, trust, &held.entry, report);
    }
    for held in held {
        opened(bundle, held, report);
    }
}

fn certificate(bundle: &Bundle, trust: &Trust, entry: &Entry, report: &mut Report) {
    let check = "client";
    let client = entry.client.clone().unwrap_or_default();
    if client.key_sha256.is_empty() {
        return;
    }
    let Some(leaf) = bundle.get(&names::certificate(&client.key_sha256)) else {
        report.missing(
            check,
            format!("the certificate of {} is not here", client.spiffe_id),
        );
        return;
    };
    let Some(directory) = trust.at(entry) else {
        report.missing(
            check,
            "the directory that the call was judged by is not in the file's history",
        );
        return;
    };
    let city = client
        .city
        .parse()
        .ok()
        .and_then(|code| directory.city(code));
    let Some(city) = city else {
        report.broken(check, "the directory lists no such city");
        return;
    };
    let crl = bundle.get(&names::crl(city.trust_domain.as_str()));
    let at_s = entry.time_us.div_euclid(1_000_000);
    match peer_at(
        &city.trust_domain,
        &city.ca_bundle,
        crl,
        leaf,
        at_s,
        CRL_GRACE_S,
    ) {
        Ok(peer)
            if peer.id.as_str() == client.spiffe_id
                && peer.key_sha256[..] == client.key_sha256[..] =>
        {
            report.proven(
                check,
                format!(
                    "the caller proved to be {} by a certificate that its city had issued and not revoked",
                    client.spiffe_id
                ),
            );
        }
        Ok(peer) => report.broken(
            check,
            format!("the certificate is of {} and not of the caller", peer.id),
        ),
        Err(CertificateFault::CrlUnavailable) => report.missing(
            check,
            format!(
                "no CRL of {} that covers the call is here",
                city.trust_domain
            ),
        ),
        Err(fault) => report.broken(
            check,
            format!("the caller's certificate did not hold: {fault}"),
        ),
    }
}

/// What an entry commits to: proven to be what was said then, which makes it no more true.
fn opened(bundle: &Bundle, held: &Held, report: &mut Report) {
    let check = "private";
    let Some(bytes) = bundle.get(&names::private(held.city.as_str(), held.index)) else {
        return;
    };
    let part = PrivateOpening::decode(bytes)
        .ok()
        .and_then(|opening| check_opening(&held.entry.private_commitment, &opening).ok());
    let Some(part) = part else {
        report.broken(
            check,
            format!("the private part of {held} is not the one that the entry commits to"),
        );
        return;
    };
    report.proven(
        check,
        format!("the private part of {held} is the one that it committed to"),
    );
    for (what, value) in [("operator", &part.operator), ("case", &part.case_number)] {
        if !value.is_empty() {
            report.add(
                Standing::Asserted,
                check,
                format!("the {what} was {value}: the client's word, entered at the time of {held}"),
            );
        }
    }
    if !part.subjects.is_empty() {
        report.add(
            Standing::Proven,
            check,
            format!("{held} names {} subject(s)", part.subjects.len()),
        );
    }
}
