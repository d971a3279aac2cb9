use super::*;
use crate::sample::{City, Document, keys};

/// What one change of a document is in words.
fn words(change: impl FnOnce(&mut Document)) -> Vec<String> {
    let document = Document::new(&keys(3), 2);
    let mut next = document.clone();
    change(&mut next);
    diff(&document.parse(), &next.parse())
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn every_change_is_said_in_plain_words() {
    assert_eq!(words(|_| {}), [""; 0]);
    assert_eq!(
        words(|d| {
            d.version = 7;
            d.expires = "2026-02-01T00:00:00Z".to_owned();
        }),
        [
            "directory: version is 7 instead of 1",
            "directory: expires is 2026-02-01T00:00:00Z instead of 2026-03-01T16:00:00Z"
        ]
    );
    assert_eq!(
        words(|d| d.threshold = 3),
        ["signers: threshold is 3 instead of 2"]
    );
    let guest = words(|d| {
        d.cities[1].guest = true;
        d.signers.remove(1);
    });
    assert!(
        guest[0].starts_with("signers: the key of 370200 ("),
        "{guest:?}"
    );
    assert!(guest[0].ends_with(") is removed"), "{guest:?}");
    assert_eq!(guest[1..], ["city 370200: becomes a guest"]);
    assert_eq!(
        words(|d| {
            d.cities[0].name = "Jinan".to_owned();
            d.cities[1].gateways.push("b.example:1".to_owned());
            d.cities[2].systems = vec!["spiffe://city3.jiaodong/hrss/pension".to_owned()];
        }),
        [
            "city 370100: name is 市 Jinan instead of 市 City 1",
            "city 370200: gateway b.example:1 is added",
            "city 370300: system spiffe://city3.jiaodong/hrss/card 社保卡 is removed",
            "city 370300: system spiffe://city3.jiaodong/hrss/pension 社保卡 is added",
        ]
    );
    assert_eq!(
        words(|d| {
            let mut guest = City::new(9);
            guest.guest = true;
            d.cities.push(guest);
            d.purposes = vec!["statistics".to_owned(), "audit".to_owned()];
        }),
        [
            "city 370900: 市 City 9 joins as a guest",
            "purposes: purpose card-service 目的 Purpose is removed",
            "purposes: purpose audit 目的 Purpose is added",
        ]
    );
    assert_eq!(
        words(|d| d.cities[0].more =
            "features = { receipts = \"required\" }\nprotocol = { min = 1, max = 2 }".to_owned()),
        [
            "city 370100: receipts is required instead of optional",
            "city 370100: protocol is 1 to 2 instead of 1 to 1",
        ]
    );
    let certificate = words(|d| d.cities[0].certificates = vec![vec![0x30, 0]]);
    assert_eq!(certificate.len(), 2);
    assert!(
        certificate
            .iter()
            .all(|line| line.contains("CA certificate sha256:"))
    );
}

#[test]
fn only_the_order_of_gateways_means_something() {
    let mut document = Document::new(&keys(3), 2);
    document.cities[0].gateways.push("b.example:1".to_owned());
    let mut next = document.clone();
    next.cities.reverse();
    next.purposes.reverse();
    assert_eq!(diff(&document.parse(), &next.parse()), []);
    next.cities[2].gateways.reverse();
    let changes = diff(&document.parse(), &next.parse());
    assert_eq!(changes.len(), 1);
    assert_eq!(changes[0].text, "the order of the gateways is another");
}
