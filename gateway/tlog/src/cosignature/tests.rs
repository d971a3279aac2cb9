use super::*;
use crate::{hash::TreeHead, note::Signer};

const QUORUM: NonZeroUsize = NonZeroUsize::new(3).unwrap();
const ONE: NonZeroUsize = NonZeroUsize::MIN;

fn checkpoint() -> Checkpoint {
    let head = TreeHead {
        size: 300,
        root: [7; 32],
    };
    Checkpoint::new("weihai.jiaodong/ledger/1", head).unwrap()
}

fn witness(number: u8) -> WitnessSigner {
    WitnessSigner::from_seed(&format!("witness{number}.jiaodong"), &[number; 32]).unwrap()
}

fn cosigned(witnesses: &[u8]) -> Note {
    let log = Signer::from_seed("weihai.jiaodong/ledger/1", &[99; 32]).unwrap();
    let mut note = checkpoint().sign(&log).unwrap();
    for number in witnesses {
        let signature = witness(*number).cosign(&checkpoint(), 1_700_000_000);
        note.add(signature.unwrap()).unwrap();
    }
    note
}

fn keys(witnesses: &[u8]) -> Vec<WitnessVerifier> {
    witnesses
        .iter()
        .map(|number| witness(*number).verifier().clone())
        .collect()
}

/// `cmd/skylight/testdata` of FiloSottile/sunlight: a mirror, and a witness beside a log that signs in another way.
#[test]
fn cosignatures_of_another_implementation_are_verified() {
    for (key, note) in [
        (
            "mirror.example.org+3fb148ef+BAAjjch9GyYz0sJsJx7ALhbdAtz2ov0unbzSl1vMp94O",
            "rome2026h1.example.org\n300\ngw31yQrqZZCcEOPrzX+bpy3nJ6QgngTKn8G1m0i62uU=\n\n\
            — mirror.example.org P7FI7wAAAABpVGeAjA1S4pJm6MbcXjX7UUImu4azZtrfcVW2uyr/LXIYlwEJzXC0N0EiZkbqfLdXt/4gVEEuGmxJjAfXKMCISpsJAg==\n",
        ),
        (
            "witness.example.org+b8a2cf20+BFLN3yikSfFkVAJtrnh/CiY3Zozkoy7clp+P7XB28qUN",
            "rome2026h1.example.org\n300\nlCkHUpkmVBEms2r2T1K6Og69+wUuuN3MIEW1/ezu2v0=\n\n\
            — rome2026h1.example.org kVB1JgAAAZtxtEwABAMARzBFAiEAi+mTa2xjL1IdWpH82OeciGsGvwRAP+f1WkfKaSZCfFECIHoNPZ/Q3y6UNzvKOO9cuLr6V16vPNfhwhle9f6r5H/Z\n\
            — witness.example.org uKLPIAAAAABpVGeAhm2bOvKc3LaB9PFN1ruG19Y5yqslmcAAbhftnn1Zznmo0LXFZq4LGvqKqLX8jWlwLKasxEGTLIqAVusneCBmBw==\n",
        ),
        (
            "witness2.example.org+2e55b896+BIZ7fpceQWd60IfqQeS9IAnmNOCZjMDne8lZuguz/bi9",
            "milan2026h1.example.org\n300\nlCkHUpkmVBEms2r2T1K6Og69+wUuuN3MIEW1/ezu2v0=\n\n\
            — witness2.example.org LlW4lgAAAABpVGeAN/uFWqfjdU94rrKxFycCggM0Sa1L5tOJCJdYBwJ41CQsgKWA6B0+vywok3cPI3JIzuPeR+VotuYe/eNy0+30Dw==\n",
        ),
    ] {
        let keys: [WitnessVerifier; 1] = [key.parse().unwrap()];
        assert_eq!(keys[0].to_string(), key);
        let note = Note::parse(note.as_bytes()).unwrap();
        let found = witnessed(&note, &keys, ONE).unwrap();
        // 2025-12-31T00:00:00Z, by its generator.
        assert_eq!(
            found,
            [Cosignature {
                witness: &keys[0],
                time: 1_767_139_200
            }]
        );
    }
}

/// Made by `cmd/skylight/testdata/gen.go` of FiloSottile/sunlight from the SHA-256 of this phrase.
#[test]
fn cosignature_is_that_of_another_implementation() {
    let seed = crate::hash::sha256(b"skylight test mirror key");
    let signer = WitnessSigner::from_seed("mirror.example.org", &seed).unwrap();
    let text = "rome2026h1.example.org\n300\ngw31yQrqZZCcEOPrzX+bpy3nJ6QgngTKn8G1m0i62uU=\n";
    let signature = signer
        .cosign(&text.parse().unwrap(), 1_767_139_200)
        .unwrap();
    assert_eq!(
        signature.to_string(),
        "— mirror.example.org P7FI7wAAAABpVGeAjA1S4pJm6MbcXjX7UUImu4azZtrfcVW2uyr/LXIYlwEJzXC0N0EiZkbqfLdXt/4gVEEuGmxJjAfXKMCISpsJAg=="
    );
}

#[test]
fn keys_of_other_types_are_no_witnesses() {
    // transparency-dev/formats note/note_cosigv1_test.go.
    let native = "remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2";
    let plain = "TEST+7997405c+AQcC+FTVKf0jlTdHDY3rbevmnKxxPjigCXlVtGe6RIr6";
    assert_eq!(native.parse::<WitnessVerifier>().unwrap().id(), 0xda77_ade7);
    assert_eq!(
        plain.parse::<WitnessVerifier>(),
        Err(KeyError::Type {
            expected: 4,
            found: 1
        })
    );
    assert!(native.parse::<crate::note::Verifier>().is_err());
    // One key of both types has two ids.
    let key = [9; 32];
    let witness = WitnessVerifier::new("a", key).unwrap();
    let log = crate::note::Verifier::new("a", key).unwrap();
    assert_ne!(witness.id(), log.id());
}

#[test]
fn quorum_counts_distinct_keys() {
    let known = keys(&[1, 2, 3, 4]);
    let found = witnessed(&cosigned(&[1, 3, 4]), &known, QUORUM).unwrap();
    let names: Vec<&str> = found.iter().map(|found| found.witness.name()).collect();
    assert_eq!(
        names,
        [
            "witness1.jiaodong",
            "witness3.jiaodong",
            "witness4.jiaodong"
        ]
    );
    let too_few = |found| {
        Err(QuorumError::TooFew {
            found,
            quorum: QUORUM,
        })
    };
    assert_eq!(witnessed(&cosigned(&[1, 3]), &known, QUORUM), too_few(2));
    assert_eq!(witnessed(&cosigned(&[1, 8, 9]), &known, QUORUM), too_few(1));
    assert_eq!(witnessed(&cosigned(&[1, 2, 3]), &[], QUORUM), too_few(0));

    // One key under three names is one witness.
    let aliases: Vec<WitnessSigner> = ["a", "b", "c"]
        .iter()
        .map(|name| WitnessSigner::from_seed(name, &[1; 32]).unwrap())
        .collect();
    let mut note = cosigned(&[]);
    for (time, alias) in (5..).zip(&aliases) {
        note.add(alias.cosign(&checkpoint(), time).unwrap())
            .unwrap();
    }
    let known: Vec<WitnessVerifier> = aliases
        .iter()
        .map(|alias| alias.verifier().clone())
        .collect();
    assert_eq!(witnessed(&note, &known, QUORUM), too_few(1));
    assert_eq!(witnessed(&note, &known, ONE).unwrap()[0].time, 7);
}

#[test]
fn false_cosignature_of_a_known_witness_spoils_the_note() {
    let known = keys(&[1, 2, 3, 4]);
    let mut note = cosigned(&[1, 2, 3]);
    let other = Checkpoint::new("weihai.jiaodong/ledger/1", TreeHead::EMPTY).unwrap();
    note.add(witness(4).cosign(&other, 1_700_000_000).unwrap())
        .unwrap();
    assert!(matches!(
        witnessed(&note, &known, QUORUM),
        Err(QuorumError::Signature(SignatureError::False { .. }))
    ));
    assert!(witnessed(&note, &known[..3], QUORUM).is_ok());
}

#[test]
fn every_bit_of_a_cosignature_counts() {
    let verifier = witness(1).verifier().clone();
    let text = checkpoint().to_string();
    let signature = witness(1).cosign(&checkpoint(), 1_700_000_000).unwrap();
    assert_eq!(verifier.verify(&text, &signature), Ok(1_700_000_000));
    let with =
        |bytes: Vec<u8>| Signature::from_parts(verifier.name().to_owned(), verifier.id(), bytes);
    for bit in 0..72 * 8 {
        let mut bytes = signature.bytes().to_vec();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(verifier.verify(&text, &with(bytes)).is_err(), "bit {bit}");
    }
    for length in 1..72 {
        let bytes = signature.bytes()[..length].to_vec();
        assert!(verifier.verify(&text, &with(bytes)).is_err());
    }
    let longer = [signature.bytes(), &[0]].concat();
    assert!(verifier.verify(&text, &with(longer)).is_err());
    assert_eq!(
        witness(2).verifier().verify(&text, &signature),
        Err(SignatureError::Unknown)
    );
}

#[test]
fn times_are_within_the_specification() {
    for time in [0, MAX_TIME + 1, u64::MAX] {
        assert_eq!(witness(1).cosign(&checkpoint(), time), Err(TimeError(time)));
        // Even a signature that is right over such a time.
        let text = checkpoint().to_string();
        let key = SecretKey::from_seed("witness1.jiaodong", COSIGNATURE_TYPE, &[1; 32]).unwrap();
        let signature = key.sign(&time.to_be_bytes(), &message(time, &text));
        assert!(witness(1).verifier().verify(&text, &signature).is_err());
    }
    assert!(witness(1).cosign(&checkpoint(), MAX_TIME).is_ok());
}
