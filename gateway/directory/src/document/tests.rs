use crate::{
    Directory, Fault, PublicKey, Receipts, SpiffeId, Status,
    sample::{City, Document, keys},
};

fn faults(toml: &str) -> Vec<String> {
    Directory::parse(toml.as_bytes())
        .unwrap_err()
        .iter()
        .map(Fault::to_string)
        .collect()
}

#[test]
fn a_document_is_found_its_way_around_in() {
    let mut document = Document::new(&keys(3), 2);
    document.cities[1].more =
        "protocol = { min = 1, max = 2 }\nfeatures = { receipts = \"required\" }".to_owned();
    let directory = document.parse();
    assert_eq!(directory.version(), 1);
    assert_eq!(directory.cities().len(), 3);
    let second = directory.city("370200".parse().unwrap()).unwrap();
    assert_eq!(second.receipts, Receipts::Required);
    assert_eq!((second.protocol.min, second.protocol.max), (1, 2));
    assert_eq!(second.ca_bundle, [[0x30, 1, 2]]);
    assert_eq!(
        (second.gateways[0].host(), second.gateways[0].port()),
        ("gateway2.example", 7443)
    );
    assert_eq!(second.agency("hrss").unwrap().name.zh, "人社局");
    assert_eq!(directory.city_by_domain(&second.trust_domain), Some(second));
    let id: SpiffeId = "spiffe://city2.jiaodong/hrss/card".parse().unwrap();
    assert_eq!(directory.system(&id).unwrap().1.title, "社保卡");
    assert!(directory.purpose("statistics").is_some() && directory.purpose("other").is_none());

    assert_eq!(directory.destination("370200"), Some((second, None)));
    assert_eq!(
        directory.destination(id.as_str()),
        Some((second, Some(id.clone())))
    );
    for nowhere in [
        "379900",
        "370202",
        "*",
        "",
        "spiffe://city2.jiaodong/hrss/other",
        "spiffe://city2.jiaodong/gateway",
        "SPIFFE://city2.jiaodong/hrss/card",
    ] {
        assert_eq!(directory.destination(nowhere), None, "{nowhere}");
    }
}

#[test]
fn validity_ages_at_half() {
    let mut document = Document::new(&keys(1), 1);
    document.issued = "1970-01-01T00:00:01Z".to_owned();
    document.expires = "1970-01-01T08:00:03+08:00".to_owned();
    let directory = document.parse();
    let status = |now| directory.status(now);
    assert_eq!(status(0), Status::Fresh);
    assert_eq!(status(1_999_999), Status::Fresh);
    assert_eq!(status(2_000_000), Status::Ageing);
    assert_eq!(status(2_999_999), Status::Ageing);
    assert_eq!(status(3_000_000), Status::Expired);
    assert_eq!(status(i64::MAX), Status::Expired);
    assert_eq!(
        (directory.age_us(0), directory.age_us(1_500_000)),
        (0, 500_000)
    );
}

#[test]
fn every_fault_is_reported_at_once_with_its_key_path() {
    let toml = r#"
version = 0
issued = 2026-01-01
expires = 2026-01-01T00:00:00Z
emergency = ""

[signers]
threshold = 1
[[signers.keys]]
city = "370200"
public_key = "abc"
[[signers.keys]]
city = "379900"
public_key = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8"

[[cities]]
code = "370202"
name = { zh = "" }
trust_domain = "Qingdao"
ca_bundle = "no PEM"
gateways = ["gateway", "gateway.example:0", "GATEWAY.example:1"]
protocol = { min = 3, max = 2 }
features = { receipts = "never" }
ledger = { origin = "x" }
witness = { quorum = 0 }

[[cities]]
code = "370200"
name = { zh = "青岛", en = "Qing\u202edao" }
trust_domain = "qingdao.jiaodong"
[[cities.agencies]]
code = "gateway"
name = { zh = "网关", en = "Gateway" }
[[cities.systems]]
id = "spiffe://yantai.jiaodong/hrss/card"
title = "社保卡"
agency = "hrss"

[[purposes]]
code = "Statistics"
"#;
    let found = faults(toml);
    let paths: Vec<_> = found
        .iter()
        .filter_map(|fault| fault.split(": ").next())
        .collect();
    assert_eq!(
        paths,
        [
            "version",
            "issued",
            "emergency",
            "cities[0].code",
            "cities[0].name.zh",
            "cities[0].name.en",
            "cities[0].trust_domain",
            "cities[0].ca_bundle",
            "cities[0].gateways[0]",
            "cities[0].gateways[1]",
            "cities[0].gateways[2]",
            "cities[0].features.receipts",
            "cities[0].protocol",
            "cities[0].ledger.keys",
            "cities[0].witness.keys",
            "cities[0].witness.quorum",
            "cities[1].name.en",
            "cities[1].ca_bundle",
            "cities[1].gateways",
            "cities[1].agencies[0].code",
            "cities[1].systems[0].agency",
            "cities[1].systems[0].id",
            "signers.keys[0].public_key",
            "signers.keys[1].city",
            "purposes[0].code",
            "purposes[0].title.zh",
            "purposes[0].title.en",
            "purposes[0].description",
        ],
        "{found:#?}"
    );
    assert_eq!(faults("")[..2], faults("\n")[..2]);
    assert!(
        faults("")
            .iter()
            .any(|fault| fault.starts_with("signers: is missing"))
    );
}

#[test]
fn text_that_is_no_such_document_is_reported_with_its_line() {
    assert_eq!(
        faults("version = 1\nverzion = 2\n")[0].split(',').next(),
        Some("line 2: unknown field `verzion`")
    );
    assert!(faults("version = \"1\"")[0].starts_with("line 1: invalid type"));
    assert!(
        faults("version = 1\n\n[")
            .iter()
            .all(|fault| fault.starts_with("line 3: "))
    );
    assert_eq!(
        Directory::parse(b"\xff").unwrap_err()[0].to_string(),
        "document: is not UTF-8"
    );
    let large = vec![b' '; super::MAX_DOCUMENT_BYTES + 1];
    assert_eq!(Directory::parse(&large).unwrap_err()[0].path, "document");
}

#[test]
fn deep_nesting_is_a_fault_like_any_other() {
    for (head, repeated) in [("a = ", "["), ("a = ", "{b = "), ("[", "a.")] {
        let toml = format!("{head}{}", repeated.repeat(200_000 / repeated.len()));
        assert_eq!(faults(&toml).len(), 1, "{repeated}");
    }
}

/// Asserts that a change of a sound document makes exactly these faults.
fn assert_faults(change: impl FnOnce(&mut Document), expected: &[&str]) {
    let mut document = Document::new(&keys(3), 2);
    document.parse();
    change(&mut document);
    assert_eq!(faults(&document.toml()), expected);
}

#[test]
fn cities_do_not_share_what_tells_them_apart() {
    assert_faults(
        |document| document.cities[2].code = document.cities[0].code.clone(),
        &[
            "cities[2].code: stands twice",
            "signers.keys[2].city: is no city of this directory",
        ],
    );
    assert_faults(
        |document| {
            document.cities[1].domain = document.cities[0].domain.clone();
            document.cities[1].systems.clear();
        },
        &["cities[1].trust_domain: stands twice"],
    );
    assert_faults(
        |document| document.cities[1].certificates.push(vec![0x30, 1, 1]),
        &["cities[1].ca_bundle: shares a certificate with the city 370100"],
    );
    assert_faults(
        |document| document.cities[1].gateways = document.cities[0].gateways.clone(),
        &["cities[1].gateways[0]: stands twice"],
    );
    assert_faults(
        |document| {
            document.cities[1]
                .systems
                .push("spiffe://city2.jiaodong/hrss/card".to_owned())
        },
        &["cities[1].systems[1].id: stands twice"],
    );
    assert_faults(
        |document| {
            document.cities[1].systems = vec!["spiffe://city1.jiaodong/hrss/card".to_owned()]
        },
        &["cities[1].systems[0].id: is not in the city's trust domain"],
    );
    assert_faults(
        |document| document.cities[1].systems = vec!["spiffe://city2.jiaodong/gateway".to_owned()],
        &["cities[1].systems[0].id: is the city's gateway, which is no system"],
    );
    assert_faults(
        |document| {
            document.cities[1].systems = vec!["spiffe://city2.jiaodong/health/card".to_owned()]
        },
        &["cities[1].systems[0].id: does not begin with the code of its agency"],
    );
}

#[test]
fn signers_are_members_and_a_majority() {
    let threshold = "signers.threshold: is more than half of the keys, and at most all of them";
    assert_faults(|document| document.threshold = 1, &[threshold]);
    assert_faults(|document| document.threshold = 4, &[threshold]);
    assert_faults(
        |document| document.cities[0].guest = true,
        &["signers.keys[0].city: is a guest, and guests do not sign"],
    );
    assert_faults(
        |document| drop(document.signers.remove(0)),
        &["cities[0]: is no guest and needs a key in signers.keys"],
    );
    assert_faults(
        |document| document.signers[1].1 = document.signers[0].1.clone(),
        &["signers.keys[1].public_key: stands twice"],
    );
    let mut document = Document::new(&keys(3), 2);
    document.signers.remove(0);
    document.emergency = Some("the key of city 1 is lost".to_owned());
    assert_eq!(document.parse().signers().keys.len(), 2);
    let mut guest = City::new(9);
    guest.guest = true;
    let mut document = Document::new(&keys(3), 2);
    document.cities.push(guest);
    assert!(document.parse().cities()[3].guest);
}

#[test]
fn certificates_are_whole_der_in_pem() {
    for (der, sound) in [
        (vec![0x30, 0], true),
        (vec![0x30, 1, 9], true),
        (vec![0x30, 2, 9], false),
        (vec![0x30, 1, 9, 9], false),
        (vec![0x31, 1, 9], false),
        (vec![0x30], false),
        ([vec![0x30, 0x81, 0x80], vec![0; 0x80]].concat(), true),
        ([vec![0x30, 0x82, 1, 0], vec![0; 0x100]].concat(), true),
        (vec![0x30, 0x81, 1, 9], false),
        (vec![0x30, 0x82, 1], false),
        (vec![0x30, 0x80, 0, 0], false),
        (
            vec![0x30, 0x88, 255, 255, 255, 255, 255, 255, 255, 255],
            false,
        ),
    ] {
        let mut document = Document::new(&keys(1), 1);
        document.cities[0].certificates = vec![der.clone()];
        assert_eq!(
            Directory::parse(document.toml().as_bytes()).is_ok(),
            sound,
            "{der:02x?}"
        );
    }
    let mut document = Document::new(&keys(1), 1);
    document.cities[0].certificates.push(vec![0x30, 1, 1]);
    assert_eq!(
        faults(&document.toml()),
        ["cities[0].ca_bundle: block 1 stands twice"]
    );
    let leaked = document.toml().replace("CERTIFICATE", "PRIVATE KEY");
    assert!(
        faults(&leaked)[0].ends_with("block 0 is no certificate"),
        "nothing of it is printed"
    );
}

#[test]
fn a_validity_has_an_end() {
    assert_faults(
        |document| document.expires = document.issued.clone(),
        &["expires: must lie after issued"],
    );
    assert_faults(
        |document| document.expires = "2027-01-03T00:00:00Z".to_owned(),
        &["expires: lies more than 366 days after issued"],
    );
    assert_faults(
        |document| document.expires = "2026-02-01T00:00:00".to_owned(),
        &["expires: needs date, time and offset, such as 2026-11-23T00:00:00Z"],
    );
}

#[test]
fn ledger_and_witness_keys_belong_to_their_city() {
    let go = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
    assert_faults(
        |document| {
            document.cities[0].more = format!(
                "ledger = {{ origin = \"city1.jiaodong/ledger/1\", keys = [\"{go}\"] }}\n\
                 witness = {{ quorum = 3, keys = [\"{go}\"] }}"
            );
        },
        &[
            "cities[0].ledger.keys[0]: its name is not the ledger's origin",
            "cities[0].witness.keys[0]: a witness signs with cosignature/v1 (0x04) or ML-DSA-44 (0x06)",
            "cities[0].witness.quorum: is more than the other cities",
        ],
    );
    for origin in [
        "city2.jiaodong/ledger/1",
        "city1.jiaodong/ledger/01",
        "city1.jiaodong/ledger/",
    ] {
        let mut document = Document::new(&keys(1), 1);
        document.cities[0].more =
            format!("ledger = {{ origin = \"{origin}\", keys = [\"{go}\"] }}");
        assert_eq!(
            faults(&document.toml())[0],
            "cities[0].ledger.origin: has the form <trust domain>/ledger/<epoch>"
        );
    }
}

#[test]
fn later_epoch_names_the_end_of_the_one_before() {
    let root = "ab".repeat(32);
    let sound = format!("origin = \"city1.jiaodong/ledger/1\", size = 7, root = \"{root}\"");
    let ledger = |epoch: u64, predecessor: &str| {
        let mut document = Document::new(&keys(1), 1);
        document.cities[0].more = format!(
            "[cities.ledger]\norigin = \"city1.jiaodong/ledger/{epoch}\"\n\
             keys = [\"{}\"]\n{predecessor}",
            ledger_key(epoch)
        );
        document
    };
    let named = |text: &str| format!("predecessor = {{ {text} }}");
    let parsed = ledger(2, &named(&sound)).parse();
    let policy = parsed.cities()[0].ledger.as_ref().unwrap();
    let predecessor = policy.predecessor.as_ref().unwrap();
    assert_eq!(predecessor.origin, "city1.jiaodong/ledger/1");
    assert_eq!((predecessor.size, predecessor.root), (7, [0xab; 32]));
    for (epoch, text, expected) in [
        (2, String::new(), "predecessor: is missing"),
        (1, named(&sound), "predecessor: stands with a first epoch"),
        (
            3,
            named(&sound),
            "predecessor.origin: is that of the epoch before",
        ),
        (
            2,
            named(&sound.replace("city1", "city2")),
            "predecessor.origin: is that",
        ),
        (
            2,
            named(&sound.replace("7", "-7")),
            "predecessor.size: is the number",
        ),
        (
            2,
            named(&sound.replace("abab", "ab")),
            "predecessor.root: is 64",
        ),
        (
            2,
            named(&sound.replace(", size = 7", "")),
            "predecessor.size: is the number",
        ),
    ] {
        let found = faults(&ledger(epoch, &text).toml());
        assert!(
            found[0].starts_with(&format!("cities[0].ledger.{expected}")),
            "{epoch} {text}: {found:?}"
        );
    }
}

/// A key of the first city's ledger, of any bytes.
fn ledger_key(epoch: u64) -> String {
    use aws_lc_rs::digest::{SHA256, digest};
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let name = format!("city1.jiaodong/ledger/{epoch}");
    let typed = [&[1_u8][..], &[7; 32]].concat();
    let id = digest(&SHA256, &[name.as_bytes(), b"\n", &typed].concat());
    format!(
        "{name}+{}+{}",
        hex::encode(&id.as_ref()[..4]),
        STANDARD.encode(typed)
    )
}

#[test]
fn keys_are_read_in_hexadecimal() {
    assert!("zz".repeat(32).parse::<PublicKey>().is_err());
    assert!("ab".repeat(31).parse::<PublicKey>().is_err());
    let key: PublicKey = "ab".repeat(32).parse().unwrap();
    assert_eq!(format!("{key:?}"), "ab".repeat(32));
}
