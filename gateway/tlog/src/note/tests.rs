use std::slice;

use proptest::prelude::*;

use super::*;

// golang.org/x/mod sumdb/note, note_test.go.
const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
const PETER_SECRET: &str = "AYEKFALVFGyNhPJEMzD1QIDr+Y7hfZx09iUvxdXHKDFz";
const ENOCH: &str = "EnochRoot+af0cfe78+ATtqJ7zOtqQtYqOo0CpvDXNlMhV3HeJDpjrASKGLWdop";
const TEXT: &str = "If you think cryptography is the answer to your problem,\n\
    then you don't know what your problem is.\n";
const PETER_LINE: &str = "— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n";
const ENOCH_LINE: &str = "— EnochRoot rwz+eBzmZa0SO3NbfRGzPCpDckykFXSdeX+MNtCOXm2/5n2tiOHp+vAF1aGrQ5ovTG01oOTGwnWLox33WWd1RvMc+QQ=\n";

fn key(text: &str) -> Verifier {
    text.parse().unwrap()
}

fn note(lines: &[&str]) -> Result<Note, NoteError> {
    Note::parse(format!("{TEXT}\n{}", lines.concat()).as_bytes())
}

fn names(signed: Result<Vec<&Verifier>, SignatureError>) -> Result<Vec<String>, SignatureError> {
    signed.map(|keys| keys.iter().map(|key| key.name().to_owned()).collect())
}

#[test]
fn note_of_the_specification_is_verified() {
    // C2SP signed-note, Example.
    let key = key("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k");
    let text = "This is an example message.\n\n— example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
    let note = Note::parse(text.as_bytes()).unwrap();
    assert_eq!(note.text(), "This is an example message.\n");
    assert_eq!(note.to_string(), text);
    assert_eq!(note.verify(slice::from_ref(&key)), Ok(vec![&key]));
}

#[test]
fn text_may_hold_empty_lines() {
    // C2SP signed-note, the first example.
    let text = "Ognuno sta solo sul cuor della terra\ntrafitto da un raggio di sole:\n\ned è subito sera.\n";
    let lines = "— quasimodo.example/salvatore NnugSzTjtVAewIS+Z/iJhUPeFDkO/5QQ2i5ddnGITLlC+EhfLW9oJKONrMouFSQU0xMcXxj99ihAQwaqP3ZekRwNtIc=\n";
    let note = Note::parse(format!("{text}\n{lines}").as_bytes()).unwrap();
    assert_eq!(note.text(), text);
    let note = Note::parse(format!("{text}\n\n{lines}").as_bytes()).unwrap();
    assert_eq!(note.text(), format!("{text}\n"));
}

#[test]
fn signature_is_that_of_another_implementation() {
    let seed: [u8; 32] = decode(PETER_SECRET).unwrap()[1..].try_into().unwrap();
    let signer = Signer::from_seed("PeterNeumann", &seed).unwrap();
    assert_eq!(signer.verifier().to_string(), PETER);
    let signature = signer.sign(TEXT);
    assert_eq!(format!("{signature}\n"), PETER_LINE);
    let mut made = Note::new(TEXT.to_owned(), signature.clone()).unwrap();
    assert_eq!(Ok(made.clone()), note(&[PETER_LINE]));
    // A second signature by the same key takes the place of the first.
    made.add(signature).unwrap();
    assert_eq!(Ok(made), note(&[PETER_LINE]));
    assert_eq!(format!("{signer:?}"), format!("Signer({PETER})"));
}

#[test]
fn signatures_of_unknown_keys_are_kept_and_passed_over() {
    let both = note(&[PETER_LINE, ENOCH_LINE]).unwrap();
    assert_eq!(both.signatures().len(), 2);
    let (peter, enoch) = (key(PETER), key(ENOCH));
    assert_eq!(
        names(both.verify(slice::from_ref(&peter))).unwrap(),
        ["PeterNeumann"]
    );
    assert_eq!(
        names(both.verify(&[enoch.clone(), peter.clone()])).unwrap(),
        ["PeterNeumann", "EnochRoot"]
    );
    assert_eq!(both.verify(&[]), Err(SignatureError::Unknown));
    let twice = note(&[PETER_LINE, PETER_LINE]).unwrap();
    assert_eq!(names(twice.verify(&[peter])).unwrap(), ["PeterNeumann"]);
    // A false signature of a key that is not known does not matter.
    let forged = ENOCH_LINE.replace("/5n2t", "/5n2u");
    let mixed = note(&[PETER_LINE, &forged]).unwrap();
    assert_eq!(
        names(mixed.verify(&[key(PETER)])).unwrap(),
        ["PeterNeumann"]
    );
    // Of a known one it does, beside a true one too.
    assert_eq!(
        names(mixed.verify(&[key(PETER), enoch])),
        Err(SignatureError::False {
            name: "EnochRoot".to_owned(),
            id: 0xaf0c_fe78
        })
    );
}

#[test]
fn keys_with_one_id_are_all_tried() {
    let twin = VerifierKey::parse(ENOCH, 1).unwrap();
    let peter = note(&[PETER_LINE]).unwrap();
    // The same name and id with another key, as someone could search for.
    let collision = Verifier::collide(&key(PETER), *twin.key());
    assert_eq!(
        names(peter.verify(&[collision.clone(), key(PETER)])).unwrap(),
        ["PeterNeumann"]
    );
    assert!(matches!(
        peter.verify(&[collision]),
        Err(SignatureError::False { .. })
    ));
}

#[test]
fn malformed_notes_are_refused() {
    let whole = format!("{TEXT}\n{PETER_LINE}");
    assert!(Note::parse(whole.as_bytes()).is_ok());
    for bad in [
        String::new(),
        "\n".to_owned(),
        "\n\n".to_owned(),
        TEXT.to_owned(),
        format!("{TEXT}\n"),
        format!("{TEXT}{PETER_LINE}"),
        whole.trim_end().to_owned(),
        format!("\u{1}{whole}"),
        whole.replace('\n', "\r\n"),
        format!("{whole}Unexpected line.\n"),
        format!("{whole}\n"),
        whole.replace("— ", "- "),
        whole.replace("— ", "—"),
        whole.replace("PeterNeumann x", "Peter Neumann x"),
        whole.replace("PeterNeumann x", "Peter+Neumann x"),
        whole.replace("PeterNeumann x", "Peter\u{a0}Neumann x"),
        whole.replace("PeterNeumann x", " x"),
        whole.replace("AM=", "AM"),
        whole.replace("AM=", "AN="),
        whole.replace("AM=", "AM= "),
        format!("{TEXT}\n— PeterNeumann \n"),
        format!("{TEXT}\n— PeterNeumann x08gow==\n"),
    ] {
        assert!(Note::parse(bad.as_bytes()).is_err(), "{bad:?}");
    }
    let mut bytes = whole.into_bytes();
    bytes[0] = 0xff;
    assert_eq!(Note::parse(&bytes), Err(NoteError::Characters));
    let signature = note(&[PETER_LINE]).unwrap().signatures()[0].clone();
    assert_eq!(
        Note::new("abc".to_owned(), signature.clone()),
        Err(NoteError::Text)
    );
    assert_eq!(
        Note::new("a\tb\n".to_owned(), signature),
        Err(NoteError::Characters)
    );
}

#[test]
fn size_and_signatures_are_limited() {
    assert!(note(&[PETER_LINE; 16]).is_ok());
    let full = note(&[PETER_LINE; MAX_SIGNATURES]).unwrap();
    assert_eq!(
        note(&[PETER_LINE; MAX_SIGNATURES + 1]),
        Err(NoteError::TooManySignatures)
    );
    let long = vec![b'a'; MAX_NOTE_BYTES + 1];
    assert_eq!(Note::parse(&long), Err(NoteError::TooLong(long.len())));
    let signature = full.signatures()[0].clone();
    assert_eq!(
        Note::new("a".repeat(MAX_NOTE_BYTES + 1), signature.clone()),
        Err(NoteError::TooLong(MAX_NOTE_BYTES + 1))
    );
    let mut note = Note::new("a\n".to_owned(), signature.clone()).unwrap();
    for id in 1..MAX_SIGNATURES {
        let id = u32::try_from(id).unwrap();
        note.add(Signature::from_parts("b".to_owned(), id, vec![1]))
            .unwrap();
    }
    let another = Signature::from_parts("c".to_owned(), 1, vec![1]);
    assert_eq!(note.add(another), Err(NoteError::TooManySignatures));
    assert_eq!(note.add(signature), Ok(()));
    assert_eq!(note.signatures().len(), MAX_SIGNATURES);
}

#[test]
fn mangled_keys_are_refused() {
    // As TestNewVerifier of golang.org/x/mod: every part of the key, and every byte raised by one.
    for start in 0..=PETER.len() {
        for end in start..=PETER.len() {
            if (start, end) != (0, PETER.len()) {
                assert!(PETER[start..end].parse::<Verifier>().is_err());
            }
        }
    }
    for at in 0..PETER.len() {
        let mut bytes = PETER.as_bytes().to_vec();
        bytes[at] += 1;
        let text = String::from_utf8(bytes).unwrap();
        assert!(text.parse::<Verifier>().is_err(), "{text}");
    }
    for (bad, error) in [
        // Its test of a key that is too long, and of an unknown type, both with the right id.
        (
            "PeterNeumann+cc469956+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TWBADKEY==",
            KeyError::Key,
        ),
        (
            "PeterNeumann+173116ae+ZRpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            KeyError::Type {
                expected: 1,
                found: 0x65,
            },
        ),
        (
            "PeterNeumann+C74F20A3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            KeyError::Id,
        ),
        ("PeterNeumann+c74f20a3+", KeyError::Key),
        ("PeterNeumann+c74f20a3", KeyError::Form),
        (
            "+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW",
            KeyError::Name,
        ),
    ] {
        assert_eq!(bad.parse::<Verifier>(), Err(error), "{bad}");
    }
    for name in ["", "a b", "a+b", "市", "a\n", &"a".repeat(256)] {
        assert_eq!(Verifier::new(name, [0; 32]), Err(KeyError::Name));
    }
    assert!(Verifier::new(&"a".repeat(255), [0; 32]).is_ok());
    assert!(matches!(
        Signer::from_pkcs8("a", b"not a key"),
        Err(KeyError::Private)
    ));
}

#[test]
fn key_of_the_go_checksum_database_is_read() {
    // sum.golang.org, as cmd/go carries it.
    let text = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
    let key = key(text);
    assert_eq!((key.name(), key.id()), ("sum.golang.org", 0x033d_e0ae));
    assert_eq!(key.to_string(), text);
    assert_eq!(Verifier::new(key.name(), *key.key()), Ok(key));
}

proptest! {
    #[test]
    fn what_is_read_is_written_the_same(text in "[ -~\n]{0,40}\n", names in prop::collection::vec("[a-z./]{1,9}", 1..5), bytes in prop::collection::vec(any::<u8>(), 5..90)) {
        let lines: Vec<String> = names.iter().map(|name| format!("— {name} {}\n", encode(&bytes))).collect();
        let whole = format!("{text}\n{}", lines.concat());
        let note = Note::parse(whole.as_bytes()).unwrap();
        prop_assert_eq!(note.text(), &text);
        prop_assert_eq!(note.to_string(), whole);
    }

    #[test]
    fn no_changed_byte_goes_unseen(at: prop::sample::Index, by in 1_u8..) {
        let mut bytes = format!("{TEXT}\n{PETER_LINE}").into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = bytes[at].wrapping_add(by);
        let verified = Note::parse(&bytes).is_ok_and(|note| note.verify(&[key(PETER)]).is_ok());
        prop_assert!(!verified);
    }
}
