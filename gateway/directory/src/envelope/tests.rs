use super::*;

/// RFC 8410 PKCS#8 of the seed 00 01 … 1f, as Python's `cryptography` writes it.
const KEY: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f
-----END PRIVATE KEY-----
";
const PUBLIC: &str = "03a107bff3ce10be1d70dd18e74bc09967e4d6309ba50d5f1ddc8664125531b8";
const KEY_ID: &str = "56475aa75463474c0285df5dbf2bcab73da651358839e9b77481b2eab107708c";
/// Made with Python's `cryptography` over DSSE's pre-authentication encoding of `version = 1\n`.
const SIGNATURE: &str =
    "XM7NXFpufVLtJrNUEuCEccxc63mLSeDDNGC/dGheOUUEY/jQKAwR5ZECO2V0K7Pg6myy1ztuX1u4D5cqLwkpDg==";

#[test]
fn signatures_are_those_of_another_implementation() {
    let key = SigningKey::from_pem(KEY).unwrap();
    assert_eq!(key.public().to_string(), PUBLIC);
    assert_eq!(&*key.to_pem().unwrap(), KEY);
    let mut envelope = Envelope::new(b"version = 1\n".to_vec());
    envelope.sign(&key);
    let json: serde_json::Value = serde_json::from_slice(&envelope.to_json().unwrap()).unwrap();
    assert_eq!(
        json,
        serde_json::json!({
            "payloadType": "application/vnd.banqiao.directory.v1+toml",
            "payload": "dmVyc2lvbiA9IDEK",
            "signatures": [{ "keyid": KEY_ID, "sig": SIGNATURE }],
        })
    );
    assert_eq!(
        hex::encode(envelope.digest()),
        "dbab12665d98aef021ba64953c61b0ed8a908cfb56a1c01e2fcb4b052b71a2a1"
    );
}

#[test]
fn envelopes_of_other_writers_are_read() {
    // URL-safe base64 without padding, unknown fields, no key id on one signature.
    let signature = SIGNATURE
        .replace('+', "-")
        .replace('/', "_")
        .replace('=', "");
    let json = format!(
        r#"{{"payload":"dmVyc2lvbiA9IDEK","payloadType":"{PAYLOAD_TYPE}","extra":1,
            "signatures":[{{"sig":"AAAA"}},{{"keyid":"{KEY_ID}","sig":"{signature}","cert":"x"}}]}}"#
    );
    let envelope = Envelope::parse(json.as_bytes()).unwrap();
    let key: PublicKey = PUBLIC.parse().unwrap();
    assert!(envelope.is_signed_by(&key));
    assert_eq!(
        Envelope::parse(&envelope.to_json().unwrap()).unwrap(),
        envelope
    );
}

#[test]
fn a_signature_covers_type_and_every_byte() {
    let key = SigningKey::generate().unwrap();
    let mut envelope = Envelope::new(b"version = 1\n".to_vec());
    envelope.sign(&key);
    assert!(envelope.is_signed_by(&key.public()));
    assert!(!envelope.is_signed_by(&SigningKey::generate().unwrap().public()));
    let mut other = envelope.clone();
    other.payload[0] ^= 1;
    assert!(!other.is_signed_by(&key.public()));
    // A bare signature over the payload is none over the envelope.
    let mut bare = envelope.clone();
    bare.signatures[0].bytes = key.sign(&envelope.payload);
    assert!(!bare.is_signed_by(&key.public()));
    // Signing again replaces.
    envelope.sign(&key);
    assert_eq!(envelope.key_ids().count(), 1);
}

#[test]
fn cities_sign_side_by_side() {
    let [first, second] = [
        SigningKey::generate().unwrap(),
        SigningKey::generate().unwrap(),
    ];
    let mut one = Envelope::new(b"version = 1\n".to_vec());
    let mut two = one.clone();
    one.sign(&first);
    two.sign(&second);
    one.merge(&two).unwrap();
    one.merge(&two).unwrap();
    assert!(one.is_signed_by(&first.public()) && one.is_signed_by(&second.public()));
    assert_eq!(one.key_ids().count(), 2);
    assert!(matches!(
        one.merge(&Envelope::new(b"version = 2\n".to_vec())),
        Err(EnvelopeError::OtherPayload)
    ));
}

#[test]
fn what_is_no_envelope_of_a_directory_is_refused() {
    let json = |text: &str| Envelope::parse(text.as_bytes());
    assert!(matches!(json("{}"), Err(EnvelopeError::Json(_))));
    assert!(matches!(json("[1"), Err(EnvelopeError::Json(_))));
    assert!(matches!(
        json(r#"{"payloadType":"application/vnd.in-toto+json","payload":"","signatures":[]}"#),
        Err(EnvelopeError::PayloadType(_))
    ));
    let typed = |payload: &str, signatures: &str| {
        json(&format!(
            r#"{{"payloadType":"{PAYLOAD_TYPE}","payload":"{payload}","signatures":[{signatures}]}}"#
        ))
    };
    assert!(matches!(
        typed("!", ""),
        Err(EnvelopeError::Base64("payload"))
    ));
    assert!(matches!(
        typed("", r#"{"sig":"!"}"#),
        Err(EnvelopeError::Base64("sig"))
    ));
    let many = [r#"{"sig":""}"#; MAX_SIGNATURES + 1].join(",");
    assert!(matches!(typed("", &many), Err(EnvelopeError::TooLarge)));
    let deep = format!(
        r#"{{"payloadType":"{PAYLOAD_TYPE}","payload":"","signatures":[],"history":
           [{{"payloadType":"{PAYLOAD_TYPE}","payload":"","signatures":[],"history":
           [{{"payloadType":"{PAYLOAD_TYPE}","payload":"","signatures":[]}}]}}]}}"#
    );
    assert!(matches!(json(&deep), Err(EnvelopeError::TooLarge)));
    assert!(matches!(
        Envelope::parse(&vec![b' '; MAX_ENVELOPE_BYTES + 1]),
        Err(EnvelopeError::TooLarge)
    ));
}

#[test]
fn history_keeps_the_newest_that_fit() {
    let mut envelope = Envelope::new(vec![0]);
    for version in 1..=40_u8 {
        let mut next = Envelope::new(vec![version]);
        next.follow(&envelope);
        envelope = next;
    }
    assert_eq!(envelope.history().len(), MAX_HISTORY);
    assert_eq!(envelope.history().first().unwrap().payload(), [8]);
    assert_eq!(envelope.history().last().unwrap().payload(), [39]);
    let json = envelope.to_json().unwrap();
    assert_eq!(Envelope::parse(&json).unwrap(), envelope);

    let mut large = Envelope::new(vec![b'x'; MAX_DOCUMENT_BYTES]);
    for version in 0..4_u8 {
        let mut next = Envelope::new(vec![version; MAX_DOCUMENT_BYTES]);
        next.follow(&large);
        large = next;
    }
    for _ in 0..MAX_SIGNATURES {
        large.sign(&SigningKey::generate().unwrap());
    }
    assert_eq!(large.history().len(), 1);
    assert!(Envelope::parse(&large.to_json().unwrap()).is_ok());
}
