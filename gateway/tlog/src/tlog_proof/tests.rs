use std::num::NonZeroUsize;

use proptest::prelude::*;

use super::*;
use crate::{
    cosignature::{WitnessSigner, witnessed},
    hash::TreeHead,
    note::Signer,
    reference,
};

const ORIGIN: &str = "yantai.jiaodong/ledger/1";

fn signer() -> Signer {
    Signer::from_seed(ORIGIN, &[6; 32]).unwrap()
}

fn proof(index: usize, leaves: &[Hash]) -> TlogProof {
    let head = TreeHead {
        size: leaves.len() as u64,
        root: reference::root(leaves),
    };
    let note = Checkpoint::new(ORIGIN, head).unwrap().sign(&signer());
    let path = reference::path(index, leaves);
    TlogProof::new(index as u64, path, note.unwrap()).unwrap()
}

#[test]
fn proof_shows_that_the_leaf_is_in_the_witnessed_log() {
    let leaves = reference::leaves(300);
    let mut made = proof(77, &leaves);
    let keys = [signer().verifier().clone()];
    let checkpoint = made.verify(&leaves[77], ORIGIN, &keys).unwrap();
    assert_eq!(checkpoint.size(), 300);

    let witness = WitnessSigner::from_seed("weifang.jiaodong/witness", &[7; 32]).unwrap();
    let mut note = made.note().clone();
    note.add(witness.cosign(&checkpoint, 1_700_000_000).unwrap())
        .unwrap();
    made = TlogProof::new(77, made.path().to_vec(), note).unwrap();
    let read = TlogProof::parse(made.to_string().as_bytes()).unwrap();
    assert_eq!(read, made);
    assert!(read.verify(&leaves[77], ORIGIN, &keys).is_ok());
    let known = [witness.verifier().clone()];
    assert!(witnessed(read.note(), &known, NonZeroUsize::MIN).is_ok());

    assert_eq!(
        read.verify(&leaves[78], ORIGIN, &keys),
        Err(UnprovenError::Inclusion(ProofError::Root))
    );
    assert!(matches!(
        read.verify(&leaves[77], "weihai.jiaodong/ledger/1", &keys),
        Err(UnprovenError::Checkpoint(CheckpointError::OtherOrigin(_)))
    ));
    assert!(matches!(
        read.verify(&leaves[77], ORIGIN, &[]),
        Err(UnprovenError::Checkpoint(CheckpointError::Signature(_)))
    ));
}

#[test]
fn form_is_that_of_the_specification() {
    // C2SP tlog-proof, the example; its signatures and its extra data are abridged there and so are other ones here.
    let text = "c2sp.org/tlog-proof@v1\n\
        extra YWdlLXYxLjIuMS1kYXJ3aW4tYXJtNjQudGFyLmd6\n\
        index 73894\n\
        gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=\n\
        B95lDa8R83lS8n0eG+o0buTxRKQTYFi//1U8anccXmA=\n\
        EKNzoDWG8LGC0Yp9o+sv3qllpMP9uHQ9B20KNL+Q1zs=\n\
        RoopEkOdqkYqMB4MJXrbt/hMjOxsVn0IrWjpz1ZMMes=\n\
        AHCioX9nLjsrse6YhjRRmk1WUEirVOLLRoOQ6vfO5vk=\n\
        \n\
        example.com/fancylog\n\
        109482\n\
        sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=\n\
        \n\
        — example.com/fancylog hI2DJ1roloI=\n\
        — witness1.example mJirIklj\n";
    let proof = TlogProof::parse(text.as_bytes()).unwrap();
    assert_eq!(proof.extra(), Some(&b"age-v1.2.1-darwin-arm64.tar.gz"[..]));
    assert_eq!(proof.index(), 73_894);
    assert_eq!(proof.path().len(), 5);
    assert_eq!(proof.note().signatures().len(), 2);
    assert_eq!(proof.to_string(), text);

    for bad in [
        String::new(),
        "c2sp.org/tlog-proof@v1\n\n".to_owned(),
        text.replace("@v1", "@v2"),
        format!("\n{text}"),
        text.replace("extra Y", "extra  Y"),
        text.replace("extra YWdlLXYxLjIuMS1kYXJ3aW4tYXJtNjQudGFyLmd6", "extra "),
        text.replace("extra Y", "other Y"),
        text.replace("index 73894\n", ""),
        text.replace("index 73894", "index 073894"),
        text.replace("index 73894", "index -1"),
        text.replace("index 73894", "index 9223372036854775808"),
        text.replace("index 73894\n", "index 73894\n\n"),
        text.replace("gSKy", "gSK"),
        text.replace("5vk=\n", "5vk=\n5vk=\n"),
        text.replace("5vk=\n\n", "5vk=\n"),
        text.replace('\n', "\r\n"),
        text.trim_end().to_owned(),
        // The lines in another order.
        "c2sp.org/tlog-proof@v1\nindex 1\nextra YWdl\n\na\n1\nb\n\n— a hI2DJ1roloI=\n".to_owned(),
    ] {
        assert!(TlogProof::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
}

#[test]
fn proof_is_limited() {
    let leaves = reference::leaves(1);
    let made = proof(0, &leaves);
    let note = made.note().clone();
    let path = vec![[0; 32]; MAX_PROOF_HASHES + 1];
    assert_eq!(
        TlogProof::new(0, path, note.clone()),
        Err(TlogProofError::TooLong)
    );
    assert_eq!(
        TlogProof::new(1 << 63, vec![], note.clone()),
        Err(TlogProofError::Index)
    );
    assert_eq!(made.clone().with_extra(vec![]), Err(TlogProofError::Extra));
    assert_eq!(
        made.with_extra(vec![0; MAX_EXTRA_BYTES + 1]),
        Err(TlogProofError::Extra)
    );
    let path = vec![[0; 32]; MAX_PROOF_HASHES];
    let largest = TlogProof::new(i64::MAX.cast_unsigned(), path, note)
        .and_then(|proof| proof.with_extra(vec![0; MAX_EXTRA_BYTES]))
        .unwrap();
    assert_eq!(
        TlogProof::parse(largest.to_string().as_bytes()),
        Ok(largest.clone())
    );
    let longer =
        largest
            .to_string()
            .replacen("\n\n", &format!("\n{}\n\n", text::encode([0; 32])), 1);
    assert_eq!(
        TlogProof::parse(longer.as_bytes()),
        Err(TlogProofError::TooLong)
    );
    assert_eq!(
        TlogProof::parse(&vec![b'a'; MAX_TLOG_PROOF_BYTES + 1]),
        Err(TlogProofError::TooLong)
    );
}

proptest! {
    #[test]
    fn no_changed_byte_goes_unseen(size in 1_usize..50, at: prop::sample::Index, byte: prop::sample::Index, by in 1_u8..) {
        let leaves = reference::leaves(size);
        let index = at.index(size);
        let made = proof(index, &leaves);
        let keys = [signer().verifier().clone()];
        let mut bytes = made.to_string().into_bytes();
        prop_assert!(made.verify(&leaves[index], ORIGIN, &keys).is_ok());
        let byte = byte.index(bytes.len());
        bytes[byte] = bytes[byte].wrapping_add(by);
        let verified = TlogProof::parse(&bytes)
            .is_ok_and(|proof| proof.verify(&leaves[index], ORIGIN, &keys).is_ok());
        prop_assert!(!verified);
    }
}
