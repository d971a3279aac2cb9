//! Verifying.

use banqiao_proto::card::v1::{
    CardKey, CardState, ElectronicCardState, LossKind, VerifyCardRequest, VerifyCardResponse,
};

use crate::scene::{DAY, NOON, SECOND, Scene, loss, report, verify_request};

pub(crate) async fn everything_that_belongs_together_matches(scene: Scene) {
    let records = scene.holders(2).await;
    let by_number = VerifyCardRequest {
        key: crate::scene::key(&records[0]),
        ..Default::default()
    };
    let by_chip = VerifyCardRequest {
        key: Some(CardKey {
            social_security_number: records[0].social_security_number.clone(),
            card_identification_code: records[0].card_identification_code.to_lowercase(),
            ..CardKey::default()
        }),
        name: format!(" {} ", records[0].name),
        service_code: 2,
    };
    let first = scene.verify(&verify_request(&records[0])).await;
    assert_eq!(first.checked_at.unwrap().seconds * SECOND, NOON);
    assert_eq!(
        (first.issuing_city.as_str(), first.source_city.as_str()),
        ("370200", "370200")
    );
    assert_eq!(first.expires_on, records[0].expires_on);
    assert_eq!(first.electronic_state(), ElectronicCardState::Usable);
    assert_eq!(first.evidence_digest.len(), 32);
    for request in [by_number, by_chip] {
        assert_eq!(scene.verify(&request).await, first);
    }
    assert_ne!(
        scene
            .verify(&verify_request(&records[1]))
            .await
            .evidence_digest,
        first.evidence_digest
    );
    report(&scene.cards, &loss(&records[0], LossKind::Temporary))
        .await
        .unwrap();
    let lost = scene.verify(&verify_request(&records[0])).await;
    assert_ne!(lost.evidence_digest, first.evidence_digest);
    assert_eq!(lost.electronic_state(), ElectronicCardState::ByHolderOnly);
}

pub(crate) async fn no_match_never_tells_which_field(scene: Scene) {
    let records = scene.holders(2).await;
    let (mine, other) = (&records[0], &records[1]);
    let with = |change: &dyn Fn(&mut VerifyCardRequest, &mut CardKey)| {
        let mut request = verify_request(mine);
        let mut key = request.key.take().unwrap();
        change(&mut request, &mut key);
        request.key = Some(key);
        request
    };
    let expected = VerifyCardResponse {
        checked_at: scene.verify(&verify_request(mine)).await.checked_at,
        source_city: "370200".into(),
        ..VerifyCardResponse::default()
    };
    for request in [
        with(&|request, _| request.name = other.name.clone() + "二"),
        with(&|_, key| key.social_security_number = other.social_security_number.clone()),
        with(&|_, key| key.card_identification_code = other.card_identification_code.clone()),
        with(&|_, key| key.card_number = other.card_number.clone()),
        with(&|_, key| key.card_number = "T02999999".into()),
        with(&|_, key| {
            key.card_number = String::new();
            key.social_security_number = other.social_security_number.clone();
        }),
        with(&|_, key| {
            key.card_number = String::new();
            key.card_identification_code = "0123456789ABCDEF".into();
        }),
    ] {
        assert_eq!(scene.verify(&request).await, expected);
    }
}

pub(crate) async fn expiry_and_electronic_card_are_computed(scene: Scene) {
    let mut records = scene.holders(3).await;
    records[0].expires_on = "2026-11-23".into();
    records[1].social_state = CardState::Cancelled.into();
    records[1].expires_on = "2026-11-23".into();
    records[2].electronic = false;
    scene.import(&records).await;
    assert_eq!(
        scene.state_of(&records[0]).await,
        (CardState::Normal, CardState::Normal)
    );
    scene.clock.advance_us(DAY);
    assert_eq!(
        scene.state_of(&records[0]).await,
        (CardState::Expired, CardState::Expired)
    );
    assert_eq!(
        scene.state_of(&records[1]).await,
        (CardState::Cancelled, CardState::Expired)
    );
    let electronic = |index: usize| {
        let request = verify_request(&records[index]);
        let scene = &scene;
        async move { scene.verify(&request).await.electronic_state() }
    };
    assert_eq!(electronic(0).await, ElectronicCardState::Unusable);
    assert_eq!(electronic(2).await, ElectronicCardState::Unspecified);
}
