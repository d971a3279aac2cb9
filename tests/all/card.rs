//! The card service as its users meet it: through two gateways.

use std::collections::BTreeSet;

use banqiao_proto::{
    card::v1::{
        CardKey, CardState, ElectronicCardState, LossKind, ReportLossRequest, ReportLossResponse,
        VerifyCardRequest, VerifyCardResponse, WatchCardStatesRequest, WatchCardStatesResponse,
    },
    directory::v1::Grant,
    exchange::v1::Trace,
    ledger::v1::EntryFilter,
};
use banqiao_tests::{
    admin::grant,
    cards::Holder,
    network::{Network, SYSTEM},
    wire::{Head, Message},
};
use prost::Message as _;
use tonic_types::StatusExt as _;
use uuid::Uuid;

fn head(method: &str) -> Head {
    Head::new(&format!("/banqiao.card.v1.CardService/{method}"), "370600")
        .set("banqiao-purpose", "card-service")
}

fn verify(holder: &Holder, name: &str) -> VerifyCardRequest {
    let key = CardKey {
        card_number: holder.card_number.clone(),
        ..Default::default()
    };
    VerifyCardRequest {
        key: Some(key),
        name: name.to_owned(),
        ..Default::default()
    }
}

#[tokio::test]
async fn card_of_another_city_is_verified_and_its_loss_reported_and_watched() {
    let (network, cards) = Network::card(100).await.unwrap();
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    let holder = &cards.holders[0];

    let answer = caller
        .unary(&head("VerifyCard"), &verify(holder, &holder.name))
        .await
        .unwrap();
    let verified: VerifyCardResponse = answer.only().unwrap();
    assert!(verified.r#match);
    assert_eq!(
        (verified.social_state(), verified.source_city.as_str()),
        (CardState::Normal, "370600")
    );
    // A wrong name with a right number does not say which of them is wrong.
    let answer = caller
        .unary(&head("VerifyCard"), &verify(holder, "测试他人"))
        .await
        .unwrap();
    let wrong_name: VerifyCardResponse = answer.only().unwrap();
    let unknown = Holder {
        card_number: "T99999999".to_owned(),
        ..holder.clone()
    };
    let answer = caller
        .unary(&head("VerifyCard"), &verify(&unknown, &holder.name))
        .await
        .unwrap();
    let wrong_number: VerifyCardResponse = answer.only().unwrap();
    let without_time = |response| VerifyCardResponse {
        checked_at: None,
        ..response
    };
    assert_eq!(without_time(wrong_name), without_time(wrong_number));

    let mut watch = caller.open(&head("WatchCardStates")).await.unwrap();
    watch
        .send(&Message::of(&WatchCardStatesRequest::default()))
        .await
        .unwrap();
    watch.finish();
    let (mut request, _, mut changes) = watch.headers().await.unwrap();

    let report = ReportLossRequest {
        request_id: Uuid::now_v7().to_string(),
        key: Some(CardKey {
            card_number: holder.card_number.clone(),
            ..Default::default()
        }),
        name: holder.name.clone(),
        kind: LossKind::Temporary.into(),
        reported_in: "370200".to_owned(),
        ..Default::default()
    };
    let mut answers = Vec::new();
    for _ in 0..2 {
        let answer = caller.unary(&head("ReportLoss"), &report).await.unwrap();
        answers.push(answer.only::<ReportLossResponse>().unwrap());
    }
    assert!(
        answers
            .iter()
            .all(|answer| answer.applied && answer.state() == CardState::TempLost)
    );
    assert_eq!([answers[0].repeated, answers[1].repeated], [false, true]);
    let change = loop {
        let message = changes.next().await.unwrap().expect("the stream goes on");
        let response = WatchCardStatesResponse::decode(message.bytes).unwrap();
        if let Some(change) = response.change {
            break change;
        }
    };
    assert_eq!(change.card_number, holder.card_number);
    assert_eq!(
        (change.to(), change.actor_city.as_str()),
        (CardState::TempLost, "370200")
    );
    request.send_reset(h2::Reason::CANCEL);

    // Whoever asks about the person finds all of it, at both ends.
    for city in &network.cities {
        let filter = EntryFilter {
            subject: holder.card_number.clone(),
            ..Default::default()
        };
        let found = city.admin().search(filter).await.unwrap();
        let exchanges: BTreeSet<_> = found
            .iter()
            .map(|record| record.entry.exchange.clone())
            .collect();
        assert!(
            exchanges.len() >= 4,
            "{}: {} exchanges",
            city.name,
            exchanges.len()
        );
    }
}

/// The numbers of the fields of a message as it is on the wire.
pub(crate) fn fields(mut bytes: &[u8]) -> BTreeSet<u64> {
    let mut found = BTreeSet::new();
    while !bytes.is_empty() {
        let key = prost::encoding::decode_varint(&mut bytes).unwrap();
        let length = match key & 7 {
            0 => {
                prost::encoding::decode_varint(&mut bytes).unwrap();
                0
            }
            2 => usize::try_from(prost::encoding::decode_varint(&mut bytes).unwrap()).unwrap(),
            other => panic!("wire type {other}"),
        };
        bytes = &bytes[length..];
        found.insert(key >> 3);
    }
    found
}

#[tokio::test]
async fn hospital_bank_and_bureau_receive_the_fields_of_their_grants_and_no_others() {
    let (network, cards) = Network::card(20).await.unwrap();
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    // Whose card has an electronic one, so that every field of the answer is set.
    let bureau = qingdao.caller(SYSTEM).await.unwrap();
    let mut linked = None;
    for holder in &cards.holders {
        let request = verify(holder, &holder.name);
        let answer = bureau.unary(&head("VerifyCard"), &request).await.unwrap();
        let response: VerifyCardResponse = answer.only().unwrap();
        if response.electronic_state() != ElectronicCardState::Unspecified {
            linked = Some(request);
            break;
        }
    }
    let request = linked.unwrap();
    for (system, purpose, groups, expected) in [
        // 医院: who the card is, and whether card and electronic card can be used.
        (
            "hospital/ward",
            "medical-treatment",
            &["group:basic", "group:electronic"][..],
            &[1, 2, 4, 5, 7, 8][..],
        ),
        // 银行: the function that it serves, and how long.
        (
            "hrss/bank",
            "card-service",
            &["group:basic", "group:financial", "group:validity"],
            &[1, 2, 3, 5, 6, 7, 8],
        ),
        // 人社部门: everything.
        (
            "hrss/desk",
            "benefit-eligibility",
            &[],
            &[1, 2, 3, 4, 5, 6, 7, 8, 9],
        ),
    ] {
        let limited = Grant {
            purposes: vec![purpose.to_owned()],
            disclosed_fields: groups.iter().map(|&group| group.to_owned()).collect(),
            ..grant(&qingdao.id(system), "banqiao.card.v1.CardService")
        };
        yantai.grant(limited).await.unwrap();
        let caller = qingdao.caller(system).await.unwrap();
        let head = head("VerifyCard").set("banqiao-purpose", purpose);
        let answer = caller.unary(&head, &request).await.unwrap();
        assert_eq!(answer.code(), Some(0), "{system}: {:?}", answer.grpc());
        let on_the_wire = fields(&answer.messages[0].bytes);
        assert!(on_the_wire.iter().eq(expected), "{system}: {on_the_wire:?}");
    }
}

#[tokio::test]
async fn what_fails_validation_names_the_field_and_the_rule() {
    let (network, _cards) = Network::card(10).await.unwrap();
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    let key = CardKey {
        // The last digit is not the check digit of the others.
        social_security_number: "370602198506150001".to_owned(),
        card_identification_code: "0".repeat(32),
        ..Default::default()
    };
    let request = VerifyCardRequest {
        key: Some(key),
        ..Default::default()
    };
    let answer = caller.unary(&head("VerifyCard"), &request).await.unwrap();
    assert_eq!(answer.code(), Some(3), "{:?}", answer.grpc());
    let status = answer.grpc().unwrap();
    let fault = status.get_details_bad_request().unwrap();
    let field = &fault.field_violations[0];
    assert!(field.field.ends_with("social_security_number"), "{field:?}");
    assert!(field.description.contains("GB 11643"), "{field:?}");
    assert!(
        !format!("{status:?}").contains("370602198506150001"),
        "the number is repeated"
    );
    let (exchange, _) = answer.exchange().unwrap();
    network.cities[0]
        .admin()
        .holds(exchange, Trace::OpenClose)
        .await
        .unwrap();
}
