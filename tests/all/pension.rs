//! 养老保险关系转移接续 through real gateways: two cities' services hand each other documents.

use banqiao_kit::{
    Answer, Basis, CallRefusal, Destination, GatewayChannel, OutgoingCall, Purpose, RefusalKind,
};
use banqiao_proto::{
    card::v1::{
        AdvanceTransferRequest, ApplyTransferRequest, ConfirmFundsRequest, ContributionPeriod,
        Decision, FundsConfirmation, GetProgressRequest, GetProgressResponse, InformationTable,
        ParticipationCertificate, PensionScheme, TransferState as State, WatchProgressRequest,
        advance_transfer_request::Decision as Decided,
        pension_transfer_service_client::PensionTransferServiceClient,
    },
    exchange::v1::Trace,
    ledger::v1::EntryFilter,
};
use banqiao_tests::{
    cards::Cards,
    network::Network,
    wait::{PATIENCE, wait_until},
};
use uuid::Uuid;

use crate::outgoing::System;

/// Nobody's number.
const HOLDER: &str = "370202199001010007";

/// A city's bureau, which asks its own city's service through its own gateway.
struct Bureau {
    system: System,
    code: &'static str,
}

impl Bureau {
    fn of(network: &Network, city: usize) -> Self {
        let city = &network.cities[city];
        let credential = city.credential("hrss/card").unwrap();
        let name = format!("bureau-{}", city.code);
        Self {
            system: System::of(network, city, &name, &credential),
            code: city.code,
        }
    }

    fn transfers(&self) -> PensionTransferServiceClient<GatewayChannel> {
        let call = OutgoingCall::new(
            Destination::City(self.code.parse().unwrap()),
            Purpose::parse("case-handling").unwrap(),
            Basis::Statutory("社会保险经办条例第十二条".to_owned()),
        );
        PensionTransferServiceClient::new(self.system.gateway.channel(&call))
    }

    async fn advance(&self, transfer: &str, decision: Decided) -> Result<State, CallRefusal> {
        let request = AdvanceTransferRequest {
            request_id: Uuid::now_v7().to_string(),
            transfer_id: transfer.to_owned(),
            social_security_number: HOLDER.to_owned(),
            decision: Some(decision),
        };
        let answer = Answer::of(self.transfers().advance_transfer(request).await)?;
        Ok(answer.message.state())
    }

    async fn told(&self, transfer: &str) -> GetProgressResponse {
        let request = GetProgressRequest {
            transfer_id: transfer.to_owned(),
            social_security_number: HOLDER.to_owned(),
        };
        let answer = self.transfers().get_progress(request).await;
        answer.unwrap().into_inner()
    }

    async fn comes_to(&self, transfer: &str, state: State) {
        wait_until(state.as_str_name(), PATIENCE, || async {
            let progress = self.told(transfer).await.progress;
            progress.is_some_and(|progress| progress.state() == state)
        })
        .await
        .unwrap();
    }
}

fn application() -> ApplyTransferRequest {
    ApplyTransferRequest {
        request_id: Uuid::now_v7().to_string(),
        social_security_number: HOLDER.to_owned(),
        name: "测试子安".to_owned(),
        from_city: "370600".to_owned(),
        from_scheme: PensionScheme::Employee.into(),
        to_scheme: PensionScheme::Employee.into(),
        first_away_from_home: false,
        certificate: Some(ParticipationCertificate {
            number: "凭证 1".to_owned(),
            first_month: "2019-01".to_owned(),
            months_paid: 12,
            account_fen: 480_000,
        }),
    }
}

fn table() -> InformationTable {
    InformationTable {
        periods: vec![ContributionPeriod {
            from_month: "2019-01".to_owned(),
            to_month: "2019-12".to_owned(),
            months: 12,
            wages_fen: 6_000_000,
        }],
        months_total: 12,
        account_principal_fen: 480_000,
        account_interest_fen: 19_200,
        wages_total_fen: 6_000_000,
        pooled_fen: 720_000,
        total_fen: 1_219_200,
        revision: 0,
    }
}

async fn scene() -> (Network, [Cards; 2], Bureau, Bureau) {
    let (network, cards) = Network::pensions().await.unwrap();
    let (new, old) = (Bureau::of(&network, 0), Bureau::of(&network, 1));
    (network, cards, new, old)
}

#[tokio::test]
async fn a_relation_moves_between_two_cities_and_every_hand_over_is_an_exchange() {
    let (network, _cards, new, old) = scene().await;
    let applied = new.transfers().apply_transfer(application()).await.unwrap();
    let transfer = applied.into_inner().transfer_id;

    // The insured watches from the first event on.
    let watch = WatchProgressRequest {
        transfer_id: transfer.clone(),
        social_security_number: HOLDER.to_owned(),
        cursor: String::new(),
    };
    let watch = new.transfers().watch_progress(watch).await.unwrap();
    let mut watch = watch.into_inner();

    let issued = new
        .advance(&transfer, Decided::IssueLetter(Decision {}))
        .await;
    assert_eq!(issued.unwrap(), State::LetterIssued);
    old.comes_to(&transfer, State::TransferringOut).await;
    let mut wrong = table();
    wrong.total_fen -= 1;
    let refused = old
        .advance(&transfer, Decided::TransferOut(wrong))
        .await
        .unwrap_err();
    assert_eq!(
        (refused.kind, refused.reason.as_deref()),
        (RefusalKind::Invalid, Some("TRANSFERRED_TOTAL"))
    );
    assert!(refused.message.contains("by 1 fen"), "{refused}");
    old.advance(&transfer, Decided::TransferOut(table()))
        .await
        .unwrap();
    new.comes_to(&transfer, State::AwaitingFunds).await;
    let funds = ConfirmFundsRequest {
        request_id: Uuid::now_v7().to_string(),
        transfer_id: transfer.clone(),
        social_security_number: HOLDER.to_owned(),
        confirmation: Some(FundsConfirmation {
            amount_fen: 1_219_200,
            credited_on: "2026-11-02".to_owned(),
            bank_reference: "回单 1".to_owned(),
        }),
    };
    let confirmed = new
        .transfers()
        .confirm_funds(funds)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(confirmed.state(), State::Completing);
    new.advance(&transfer, Decided::Complete(Decision {}))
        .await
        .unwrap();
    old.comes_to(&transfer, State::Completed).await;

    let mut seen = Vec::new();
    while seen.last().is_none_or(|event| event != "completed") {
        let message = watch.message().await.unwrap().expect("the watch goes on");
        seen.extend(message.event.map(|event| event.event));
    }
    assert_eq!(
        seen,
        [
            "applied",
            "letter-issued",
            "letter-delivered",
            "table-received",
            "funds-complete",
            "completed"
        ]
    );
    // What one city handed over the other took in one and the same exchange, which both ledgers hold.
    let exchange_of = async |bureau: &Bureau, code: &str| {
        let events = bureau.told(&transfer).await.events.into_iter();
        let mut events = events.filter(|event| event.event == code);
        events
            .next()
            .map(|event| event.exchange)
            .unwrap_or_default()
    };
    for (sender, sent, taker, taken) in [
        (&new, "letter-delivered", &old, "letter-received"),
        (&old, "information-table-delivered", &new, "table-received"),
        (
            &new,
            "completion-notice-delivered",
            &old,
            "completion-received",
        ),
    ] {
        // The sender writes it down after the receiver.
        wait_until(sent, PATIENCE, || async {
            !exchange_of(sender, sent).await.is_empty()
        })
        .await
        .unwrap();
        let exchange = exchange_of(sender, sent).await;
        assert_eq!(exchange, exchange_of(taker, taken).await, "{sent}");
        let id = exchange.split('/').next().unwrap().parse().unwrap();
        for city in &network.cities {
            city.admin().holds(id, Trace::OpenClose).await.unwrap();
        }
    }
    for city in &network.cities {
        let filter = EntryFilter {
            subject: HOLDER.to_owned(),
            ..Default::default()
        };
        let found = city.admin().search(filter).await.unwrap();
        assert!(found.len() >= 6, "{}: {} entries", city.name, found.len());
    }
}

#[tokio::test]
async fn a_city_that_is_down_and_a_service_that_is_killed_lose_no_document() {
    let (mut network, mut cards, new, old) = scene().await;
    let applied = new.transfers().apply_transfer(application()).await.unwrap();
    let transfer = applied.into_inner().transfer_id;
    network.cities[1].gateway_mut().stop().await.unwrap();
    new.advance(&transfer, Decided::IssueLetter(Decision {}))
        .await
        .unwrap();
    let told = new.told(&transfer).await.progress.unwrap();
    assert_eq!(
        (told.state(), told.holding_city.as_str()),
        (State::LetterIssued, "370200")
    );

    cards[0].process.kill().unwrap();
    network.cities[1].gateway_mut().restart().await.unwrap();
    cards[0].restart().await.unwrap();
    old.comes_to(&transfer, State::TransferringOut).await;
    new.comes_to(&transfer, State::AwaitingTransferOut).await;

    // Another city's bureau decides nothing here: it has no grant, and the service would refuse it, too.
    let call = OutgoingCall::new(
        Destination::City("370600".parse().unwrap()),
        Purpose::parse("case-handling").unwrap(),
        Basis::Statutory("社会保险经办条例第十二条".to_owned()),
    );
    let mut abroad = PensionTransferServiceClient::new(new.system.gateway.channel(&call));
    let request = AdvanceTransferRequest {
        request_id: Uuid::now_v7().to_string(),
        transfer_id: transfer.clone(),
        social_security_number: HOLDER.to_owned(),
        decision: Some(Decided::TransferOut(table())),
    };
    let refused = Answer::of(abroad.advance_transfer(request).await).unwrap_err();
    assert_eq!(refused.reason.as_deref(), Some("OWN_CITY_ONLY"));
}
