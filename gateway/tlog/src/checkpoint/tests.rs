use super::*;
use crate::reference::CT_ROOTS;

const ORIGIN: &str = "weifang.jiaodong/ledger/1";

fn head() -> TreeHead {
    let mut root = [0; 32];
    hex::decode_to_slice(CT_ROOTS[7], &mut root).unwrap();
    TreeHead { size: 8, root }
}

fn signer() -> Signer {
    Signer::from_seed(ORIGIN, &[1; 32]).unwrap()
}

/// Signs any text, as a checkpoint would be.
fn signed(text: &str) -> Note {
    Note::new(text.to_owned(), signer().sign(text)).unwrap()
}

#[test]
fn checkpoint_of_the_specification_is_read() {
    // C2SP tlog-checkpoint, the example.
    let text =
        "example.com/behind-the-sofa\n20852163\nCsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=\n";
    let note = format!(
        "{text}\n— example.com/behind-the-sofa Az3grlgtzPICa5OS8npVmf1Myq/5IZniMp+ZJurmRDeOoRDe4URYN7u5/Zhcyv2q1gGzGku9nTo+zyWE+xeMcTOAYQ8=\n"
    );
    let note = Note::parse(note.as_bytes()).unwrap();
    let checkpoint: Checkpoint = note.text().parse().unwrap();
    assert_eq!(checkpoint.origin(), "example.com/behind-the-sofa");
    assert_eq!(checkpoint.size(), 20_852_163);
    assert_eq!(checkpoint.to_string(), text);
}

/// The first checkpoint of `TestAddCheckpoint` in FiloSottile/sunlight internal/witness.
#[test]
fn checkpoint_of_another_implementation_is_opened() {
    let origin =
        "sigsum.org/v1/tree/4d6d8825a6bb689d459628312889dfbb0bcd41b5211d9e1ce768b0ff0309e562";
    let mut key = [0; 32];
    hex::decode_to_slice(
        "ffdc2d4d98e4124d3feaf788c0c2f9abfd796083d1f0495437f302ec79cf100f",
        &mut key,
    )
    .unwrap();
    let keys = [Verifier::new(origin, key).unwrap()];
    let note = format!(
        "{origin}\n1\nKgAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n\n— {origin} UgIom7fPZTqpxWWhyjWduBvTvGVqsokMbqTArsQilegKoFBJQjUFAmQ0+YeSPM3wfUQMFSzVnnNuWRTYrajXpNUbIQY=\n"
    );
    let note = Note::parse(note.as_bytes()).unwrap();
    assert_eq!(Checkpoint::open(&note, origin, &keys).unwrap().size(), 1);
}

#[test]
fn signed_checkpoint_is_opened_by_its_key_and_origin_alone() {
    let checkpoint = Checkpoint::new(ORIGIN, head()).unwrap();
    let note = checkpoint.sign(&signer()).unwrap();
    let note = Note::parse(note.to_string().as_bytes()).unwrap();
    let keys = [signer().verifier().clone()];
    assert_eq!(Checkpoint::open(&note, ORIGIN, &keys), Ok(checkpoint));
    assert_eq!(
        Checkpoint::open(&note, "rizhao.jiaodong/ledger/1", &keys),
        Err(CheckpointError::OtherOrigin(ORIGIN.to_owned()))
    );
    let other = Signer::from_seed(ORIGIN, &[2; 32]).unwrap();
    assert_eq!(
        Checkpoint::open(&note, ORIGIN, &[other.verifier().clone()]),
        Err(CheckpointError::Signature(SignatureError::Unknown))
    );
    // While a key is replaced, either will do.
    let both = [other.verifier().clone(), signer().verifier().clone()];
    assert!(Checkpoint::open(&note, ORIGIN, &both).is_ok());
    let empty = Checkpoint::new(ORIGIN, TreeHead::EMPTY).unwrap();
    assert!(Checkpoint::open(&empty.sign(&signer()).unwrap(), ORIGIN, &keys).is_ok());
}

#[test]
fn anything_but_three_lines_is_refused_though_signed() {
    let root = text::encode(head().root);
    let keys = [signer().verifier().clone()];
    let good = format!("{ORIGIN}\n8\n{root}\n");
    assert!(Checkpoint::open(&signed(&good), ORIGIN, &keys).is_ok());
    for (bad, error) in [
        (format!("{good}extension\n"), CheckpointError::Form),
        (format!("{good}\n"), CheckpointError::Form),
        (format!("{ORIGIN}\n8\n"), CheckpointError::Form),
        (format!("\n8\n{root}\n"), CheckpointError::Origin),
        (format!("{ORIGIN}\n08\n{root}\n"), CheckpointError::Size),
        (format!("{ORIGIN}\n+8\n{root}\n"), CheckpointError::Size),
        (format!("{ORIGIN}\n-8\n{root}\n"), CheckpointError::Size),
        (format!("{ORIGIN}\n\n{root}\n"), CheckpointError::Size),
        (
            format!("{ORIGIN}\n9223372036854775808\n{root}\n"),
            CheckpointError::Size,
        ),
        (format!("{ORIGIN}\n8\n{root}A\n"), CheckpointError::Root),
        (format!("{ORIGIN}\n8\n\n"), CheckpointError::Root),
        (
            format!("{ORIGIN}\n8\n{}\n", hex::encode(head().root)),
            CheckpointError::Root,
        ),
        (format!("{ORIGIN}\n0\n{root}\n"), CheckpointError::EmptyRoot),
    ] {
        assert_eq!(
            Checkpoint::open(&signed(&bad), ORIGIN, &keys),
            Err(error),
            "{bad:?}"
        );
    }
    for origin in ["", "a\nb", "a\tb", &"a".repeat(256)] {
        assert_eq!(
            Checkpoint::new(origin, head()),
            Err(CheckpointError::Origin)
        );
    }
    let large = TreeHead {
        size: MAX_SIZE + 1,
        ..head()
    };
    assert_eq!(Checkpoint::new(ORIGIN, large), Err(CheckpointError::Size));
}
