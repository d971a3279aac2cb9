//! Who it was: the client's certificate, and the private parts that are opened.

use banqiao_identity::{CertificateFault, peer_at};
use banqiao_ledger::check_opening;
use banqiao_proto::ledger::v1::{Entry, Kind, PrivateOpening, Receipt, Side};
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
    let all = held;
    for held in held {
        opened(bundle, held, all, report);
    }
}

/// What the consumer's city opened to the provider's during the call.
fn given(bundle: &Bundle, all: &[Held], held: &Held, peer: &PrivateOpening, report: &mut Report) {
    let check = "private";
    let receipt = bundle
        .get(&names::receipt(&held.entry.peer_receipt))
        .and_then(|bytes| Receipt::decode(bytes).ok())
        .and_then(|receipt| Entry::decode(receipt.entry.as_slice()).ok());
    let own = all.iter().find(|other| {
        other.entry.side() == Side::Consumer
            && other.entry.kind() == Kind::Open
            && other.entry.attempt == held.entry.attempt
    });
    let committed = receipt.as_ref().or_else(|| own.map(|own| &own.entry));
    let Some(committed) = committed else { return };
    match check_opening(&committed.private_commitment, peer) {
        Ok(part) => report.proven(
            check,
            format!(
                "the consumer's city committed to the operator {:?} and the case {:?} when it called, and cannot name another",
                part.operator, part.case_number
            ),
        ),
        Err(_) => report.broken(
            check,
            format!("what {held} says that it was opened is not what the consumer's entry commits to"),
        ),
    }
}

fn certificate(bundle: &Bundle, trust: &Trust, entry: &Entry, report: &mut Report) {
    let check = "client";
    let client = entry.client.clone().unwrap_or_default();
    if client.key_sha256.is_empty() {
        report.missing(
            check,
            "the entry of the client's city does not say which key the client proved",
        );
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
                    "the caller proved to be {} by a certificate that its city had issued and, by the CRL that was known then, not revoked",
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
fn opened(bundle: &Bundle, held: &Held, all: &[Held], report: &mut Report) {
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
                format!(
                    "the {what} was {value}: the word of {}, entered with {held}",
                    held.city
                ),
            );
        }
    }
    if let Some(peer) = &part.peer {
        given(bundle, all, held, peer, report);
    }
    if !part.subjects.is_empty() {
        report.add(
            Standing::Proven,
            check,
            format!("{held} names {} subject(s)", part.subjects.len()),
        );
    }
}
