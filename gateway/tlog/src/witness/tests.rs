use proptest::prelude::*;

use super::*;
use crate::{cosignature::WitnessVerifier, note::Signer, reference};

/// `TestAddCheckpoint` of FiloSottile/sunlight internal/witness, after `add-checkpoint.hurl` of torchwood: one
/// witness, these requests in this order.
const ORIGIN: &str =
    "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562";
const KEY: &str = "ffdc2d4d98e4124d3feaf788c0c2f9abfd796083d1f0495437f302ec79cf100f";
const LEAVES: [&str; 4] = [
    "KgEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "KgIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "KgMAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
    "KgQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
];
const SIZE_1: &str = "1\nKgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n— ORIGIN UgIom7fPZTqpxWWhyjWduBvTvGVqsokMbqTArsQilegKoFBJQjUFAmQ0+YeSPM3wfUQMFSzVnnNuWRTYrajXpNUbIQY=\n";
const SIZE_3: &str = "3\nRcCI1Nk56ZcSmIEfIn0SleqtV7uvrlXNccFx595Iwl0=\n\n— ORIGIN UgIom2VbtIcdFbwFAy1n7s6IkAxIY6J/GQOTuZF2ORV39d75cbAj2aQYwyJre36kezNobZs4SUUdrcawfAB8WVrx6go=\n";
const SIZE_5: &str = "5\nQrtXrQZCCvpIgsSmOsah7HdICzMLLyDfxToMql9WTjY=\n\n— ORIGIN UgIomw/EOJmWi0i1FQsOj+etB7F8IccFam/jgd6wzRns4QPVmyEZtdvl1U2KEmLOZ/ASRcWJi0tW90dJWAShei7sDww=\n";
const SIZE_FIVE: &str = "five\nKgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n— ORIGIN UgIom4JTC2MerrFcJ5xDcWHzRPVB6zzGBIw4OFqcKDflqjH4q4xY5vMxUxyczvdIlEwFYf7ivQU4KoWan2bLmzLx0go=\n";

fn body(old: u64, proof: &[&str], origin: &str, rest: &str) -> String {
    let proof: String = proof.iter().map(|hash| format!("{hash}\n")).collect();
    format!(
        "old {old}\n{proof}\n{origin}\n{}",
        rest.replace("ORIGIN", origin)
    )
}

fn answer(log: &WitnessedLog, body: &str) -> Result<Accepted, Refusal> {
    let request = AddCheckpoint::parse(body.as_bytes()).map_err(Refusal::Request)?;
    assert_eq!(request.to_string(), body);
    decide(Some(log), &request)
}

#[test]
fn requests_are_answered_as_by_another_implementation() {
    let mut key = [0; 32];
    hex::decode_to_slice(KEY, &mut key).unwrap();
    let mut log = WitnessedLog {
        origin: ORIGIN.to_owned(),
        keys: vec![Verifier::new(ORIGIN, key).unwrap()],
        latest: None,
    };
    let other = ORIGIN.replace("562", "563");
    let grown = [
        "KgIAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAABA=",
        "+fUDV+k970B4I3uKrqJM4aP1lloPZP8mvr2Z4wRw2LI=",
        "wgiIFdZfYNv6WU1OllBKsWnLYIS/DBMqt8Uh/S4OukE=",
    ];
    let [one, two, three, four] = LEAVES;
    // Published as ending in "gx=", which is no canonical base64 and so not a note here.
    let forged = SIZE_3.replace("6go=", "6gw=");
    for (name, body, status) in [
        ("first cosignature", body(0, &[], ORIGIN, SIZE_1), 200),
        (
            "invalid signature",
            body(1, &[one, two], ORIGIN, &forged),
            403,
        ),
        ("unknown log", body(1, &[one, two], &other, SIZE_3), 404),
        ("missing proof", body(1, &[], ORIGIN, SIZE_3), 422),
        (
            "wrong proof",
            body(1, &[one, grown[0]], ORIGIN, SIZE_3),
            422,
        ),
        ("grow to size 3", body(1, &[one, two], ORIGIN, SIZE_3), 200),
        (
            "old size 1 is not current",
            body(1, &[one, grown[1], four], ORIGIN, SIZE_5),
            409,
        ),
        (
            "grow to size 5",
            body(3, &[two, three, grown[2], four], ORIGIN, SIZE_5),
            200,
        ),
        (
            "old size 0 is not current",
            body(0, &[], ORIGIN, SIZE_5),
            409,
        ),
        ("invalid note", body(5, &[], ORIGIN, &SIZE_5[..47]), 400),
        ("invalid checkpoint", body(5, &[], ORIGIN, SIZE_FIVE), 400),
    ] {
        match answer(&log, &body) {
            Ok(accepted) => {
                assert_eq!(status, 200, "{name}");
                assert_eq!(accepted.previous(), log.latest);
                log.latest = Some(accepted.checkpoint().head());
            }
            Err(refusal) => {
                assert_eq!(refusal.status(), status, "{name}: {refusal:?}");
                if status == 409 {
                    let size = log.latest.unwrap().size;
                    assert_eq!(refusal.body(), format!("{size}\n"));
                    assert_eq!(refusal.content_type(), "text/x.tlog.size");
                    assert_eq!(
                        Reply::parse(409, refusal.body().as_bytes()),
                        Ok(Reply::Conflict(size))
                    );
                }
            }
        }
    }
}

const OURS: &str = "rizhao.jiaodong/ledger/1";

fn signer() -> Signer {
    Signer::from_seed(OURS, &[3; 32]).unwrap()
}

fn log(latest: Option<TreeHead>) -> WitnessedLog {
    WitnessedLog {
        origin: OURS.to_owned(),
        keys: vec![signer().verifier().clone()],
        latest,
    }
}

fn head(leaves: &[Hash]) -> TreeHead {
    TreeHead {
        size: leaves.len() as u64,
        root: reference::root(leaves),
    }
}

fn request(old: u64, proof: Vec<Hash>, head: TreeHead) -> AddCheckpoint {
    let note = Checkpoint::new(OURS, head).unwrap().sign(&signer());
    AddCheckpoint::new(old, proof, note.unwrap()).unwrap()
}

#[test]
fn each_check_has_its_status() {
    let leaves = reference::leaves(8);
    let (old, new) = (head(&leaves[..5]), head(&leaves));
    let proof = reference::proof(5, &leaves);
    let known = log(Some(old));
    let good = request(5, proof.clone(), new);
    assert!(decide(Some(&known), &good).is_ok());
    assert_eq!(decide(None, &good), Err(Refusal::UnknownOrigin));

    let mut stranger = known.clone();
    stranger.keys = vec![
        Signer::from_seed(OURS, &[4; 32])
            .unwrap()
            .verifier()
            .clone(),
    ];
    let refusal = decide(Some(&stranger), &good).unwrap_err();
    assert_eq!(refusal, Refusal::Signature(SignatureError::Unknown));
    assert_eq!(refusal.status(), 403);

    let refusal = decide(Some(&known), &request(9, vec![], new)).unwrap_err();
    assert_eq!(refusal, Refusal::OldSize { old: 9, size: 8 });
    assert_eq!(refusal.status(), 400);
    assert_eq!(
        decide(Some(&known), &request(4, proof.clone(), new)),
        Err(Refusal::Conflict { old: 4, size: 5 })
    );
    assert_eq!(
        decide(Some(&log(None)), &good),
        Err(Refusal::Conflict { old: 5, size: 0 })
    );
    // The old tree is signed again: no proof, the same root.
    assert!(decide(Some(&known), &request(5, vec![], old)).is_ok());
    let fork = TreeHead {
        root: new.root,
        ..old
    };
    let refusal = decide(Some(&known), &request(5, vec![], fork)).unwrap_err();
    assert_eq!(refusal, Refusal::Inconsistent(ProofError::Root));
    assert_eq!(refusal.status(), 422);
    let refusal = decide(Some(&known), &request(5, proof, old)).unwrap_err();
    assert_eq!(refusal.status(), 422);
}

#[test]
fn everything_grows_out_of_nothing_without_proof() {
    let leaves = reference::leaves(3);
    for latest in [None, Some(TreeHead::EMPTY)] {
        let known = log(latest);
        assert!(decide(Some(&known), &request(0, vec![], head(&leaves))).is_ok());
        assert!(decide(Some(&known), &request(0, vec![], TreeHead::EMPTY)).is_ok());
        let refusal = decide(Some(&known), &request(0, vec![leaves[0]], head(&leaves)));
        assert_eq!(refusal, Err(Refusal::UnneededProof));
        let other = TreeHead {
            size: 0,
            root: leaves[0],
        };
        let refusal = decide(Some(&known), &request(0, vec![], other)).unwrap_err();
        assert_eq!(refusal, Refusal::EmptyRoot);
        assert_eq!(refusal.status(), 422);
    }
}

#[test]
fn reply_holds_the_cosignature() {
    let witness = WitnessSigner::from_seed("qingdao.jiaodong/witness", &[5; 32]).unwrap();
    let request = request(0, vec![], head(&reference::leaves(3)));
    let accepted = decide(Some(&log(None)), &request).unwrap();
    let body = accepted.reply(&witness, 1_700_000_000).unwrap();
    assert!(accepted.reply(&witness, 0).is_err());
    let Ok(Reply::Cosigned(signatures)) = Reply::parse(200, body.as_bytes()) else {
        panic!("{body}");
    };
    let key: &WitnessVerifier = witness.verifier();
    assert_eq!(
        key.verify(request.note().text(), &signatures[0]),
        Ok(1_700_000_000)
    );
    assert_eq!(Reply::parse(403, b"no"), Ok(Reply::Refused(403)));
    for body in ["", "\n", "no\n", body.trim_end()] {
        assert!(Reply::parse(200, body.as_bytes()).is_err(), "{body:?}");
    }
    for body in ["", "\n", "3", "03\n", "3\n\n", "-3\n", "3 \n"] {
        assert_eq!(Reply::parse(409, body.as_bytes()), Err(ReplyError::Size));
    }
}

/// The request and reply that C2SP tlog-witness shows.
#[test]
fn examples_of_the_specification_are_read() {
    let body = "old 20852014\n\
        PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=\n\
        jrJZDmY8Y7SyJE0MWLpLozkIVMSMZcD5kvuKxPC3swk=\n\
        5+pKlUdi2LeF/BcMHBn+Ku6yhPGNCswZZD1X/6QgPd8=\n\
        /6WVhPs2CwSsb5rYBH5cjHV/wSmA79abXAwhXw3Kj/0=\n\
        \n\
        example.com/behind-the-sofa\n\
        20852163\n\
        CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n\
        \n\
        — example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n\
        — example.com/behind-the-sofa opLqBQsREYCgu6xQkYQwJr9fo45a62DN9EdmHXnZdXNqlcVGlCum2Wks+49/V6267UEjw6QUXTS5Rovnzv++qbSzm9Q=\n";
    let request = AddCheckpoint::parse(body.as_bytes()).unwrap();
    assert_eq!(request.old_size(), 20_852_014);
    assert_eq!(request.proof().len(), 4);
    assert_eq!(request.note().signatures().len(), 2);
    assert_eq!(request.checkpoint().size(), 20_852_163);
    assert_eq!(request.to_string(), body);
    let reply = "— witness.example/w1 CMp+6LWBU0anHGH5aNDTJkH/gj79sG+T6+iP2ThYN5krrDJbR1HDnucjL39QsZTSvVjyQLrdk3DXDqI5G2HgLatVs0pWh6Up69HVOw==\n\
        — witness.example/w1 I7rEps0pvK2UqkS2gSpVUDhrhVtQV9lgF6pRrWAvjJHjyWpW7VcE3SiOlVlbQNt64vWhO+DlkL0+UfzuOBMh9ChdMkP1vi/lCAsmlw==\n\
        — witness.example/w2 AWui8Sk55XjYLOijihBjhqEH6nS1ndDymE0a+6idX7pLcnoB+dhnz0854aLZgrrKbYKA7nC3HNJhm/kWl7oJlqU3rXXvpysAdyP3wQ==\n";
    let Ok(Reply::Cosigned(signatures)) = Reply::parse(200, reply.as_bytes()) else {
        panic!("three signatures");
    };
    assert_eq!(signatures.len(), 3);
}

#[test]
fn malformed_requests_are_refused() {
    let good = body(1, &LEAVES[..2], ORIGIN, SIZE_3);
    assert!(AddCheckpoint::parse(good.as_bytes()).is_ok());
    for bad in [
        String::new(),
        "old 1\n\n".to_owned(),
        good.replacen("old 1", "old 01", 1),
        good.replacen("old 1", "old", 1),
        good.replacen("old 1", "old  1", 1),
        good.replacen("old 1", "Old 1", 1),
        good.replacen("old 1", "old 9223372036854775808", 1),
        good.replacen("old 1\n", "", 1),
        good.replacen("AA=\n", "AA=\r\n", 1),
        good.replacen("AA=\n", "AA\n", 1),
        good.replacen("AA=\n", "AA=\nAA==\n", 1),
        good.replacen("AA=\n\n", "AA=\n", 1),
        good.replacen(&format!("\n\n{ORIGIN}"), &format!("\n\n\n{ORIGIN}"), 1),
        good.replacen("Iwl0=\n", "Iwl0=\nextension\n", 1),
        good.trim_end().to_owned(),
    ] {
        assert!(AddCheckpoint::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
    let long = body(1, &[LEAVES[0]; MAX_PROOF_LINES + 1], ORIGIN, SIZE_3);
    assert_eq!(
        AddCheckpoint::parse(long.as_bytes()),
        Err(RequestError::TooLong)
    );
    let longest = body(1, &[LEAVES[0]; MAX_PROOF_LINES], ORIGIN, SIZE_3);
    assert!(AddCheckpoint::parse(longest.as_bytes()).is_ok());
    let long = vec![b'a'; MAX_REQUEST_BYTES + 1];
    assert_eq!(AddCheckpoint::parse(&long), Err(RequestError::TooLong));
}

proptest! {
    #[test]
    fn witness_follows_a_growing_log_and_nothing_else(mut sizes in prop::collection::vec(1_usize..120, 1..6), bit in 0_usize..256) {
        sizes.sort_unstable();
        let leaves = reference::leaves(120);
        let mut known = log(None);
        for size in sizes {
            let new = head(&leaves[..size]);
            let (old, proof) = known.latest.map_or((0, vec![]), |latest| {
                let old = usize::try_from(latest.size).unwrap();
                (latest.size, reference::proof(old, &leaves[..size]))
            });
            let mut fork = new;
            fork.root[bit / 8] ^= 1 << (bit % 8);
            if old > 0 {
                let refusal = decide(Some(&known), &request(old, proof.clone(), fork)).unwrap_err();
                prop_assert_eq!(refusal.status(), 422);
            }
            let sent = request(old, proof, new);
            let read = AddCheckpoint::parse(sent.to_string().as_bytes()).unwrap();
            prop_assert_eq!(&read, &sent);
            let accepted = decide(Some(&known), &read).unwrap();
            prop_assert_eq!(accepted.checkpoint().head(), new);
            known.latest = Some(new);
        }
    }
}
