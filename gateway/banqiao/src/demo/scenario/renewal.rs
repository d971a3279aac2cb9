//! 电子社保卡签发 and 换领: a Qingdao card, applied for in Weihai.

use anyhow::{Context as _, Result};
use banqiao_card::{CardConfig, Cards, Store};
use banqiao_directory::Clock;
use banqiao_proto::card::v1::{
    ActivateCardRequest, Application, CardFunction, CardKey, CardRecord, CardState,
    ElectronicCardState, IdentityVerification, ImportCardsRequest, IssueElectronicCardRequest,
    RenewCardRequest, VerificationMethod, VerifyCardRequest, VerifyCardResponse,
};
use jiff::ToSpan as _;
use prost_types::Timestamp;
use uuid::Uuid;

use super::{Scenario, Steps, client, holder};
use crate::{
    demo::client::System,
    sandbox::{Program, SandboxCity},
};

const ISSUER: &str = "370200";

impl Scenario<'_> {
    /// A card that expires in a month gets an electronic card, and then a new card that takes it over.
    pub(super) async fn renewal(&mut self, steps: &Steps) -> Result<()> {
        let (qingdao, weihai) = (self.city(ISSUER)?, self.city("371000")?);
        // Boxed: it opens the database of a service.
        let card = Box::pin(self.expiring(qingdao)).await?;
        let hall = System::connect(weihai, "hrss/hall").await?;
        let issue = IssueElectronicCardRequest {
            application: application(&card.card_number, &card.name),
            verification: verified(),
        };
        let issued = client::request(issue, ISSUER, "card-service")?;
        let issued = hall.card_life().issue_electronic_card(issued).await?;
        let issued = issued.into_inner().outcome.unwrap_or_default();
        self.check(
            steps,
            "electronic card",
            issued.electronic_state() == ElectronicCardState::Usable,
            "issued in Weihai for a Qingdao card, usable at once".to_owned(),
        );

        let renew = RenewCardRequest {
            application: application(&card.card_number, &card.name),
            verification: verified(),
        };
        let renewed = client::request(renew, ISSUER, "card-service")?;
        let renewed = hall.card_life().renew_card(renewed).await?.into_inner();
        let new = renewed.new_card.context("no new card")?.card_number;
        let before = verify(&hall, &card.card_number).await?;
        let activate = ActivateCardRequest {
            application: application(&new, &card.name),
            verification: verified(),
            function: CardFunction::Social.into(),
        };
        let activated = client::request(activate, ISSUER, "card-service")?;
        hall.card_life().activate_card(activated).await?;
        let (old, new) = (
            verify(&hall, &card.card_number).await?,
            verify(&hall, &new).await?,
        );
        let held = before.social_state() == CardState::Normal
            && old.social_state() == CardState::Cancelled
            && old.electronic_state() == ElectronicCardState::Unspecified
            && new.social_state() == CardState::Normal
            && new.electronic_state() == ElectronicCardState::Usable;
        let seen = format!(
            "in Weihai; the old card was in use until the new one, valid until {}, took over its electronic card",
            new.expires_on
        );
        self.check(steps, "card renewed", held, seen);
        Ok(())
    }

    /// A new card of Qingdao that expires in 30 days, and another in the stock. Each run has its own.
    async fn expiring(&self, qingdao: &SandboxCity) -> Result<CardRecord> {
        // In the cities it is at most a day later than in UTC.
        let now = jiff::Timestamp::from_second(Clock::system().now_s())?;
        let today = jiff::tz::Offset::UTC.to_datetime(now).date();
        let card = CardRecord {
            card_number: number('D'),
            card_identification_code: chip(),
            issued_on: today.saturating_sub(9.years()).to_string(),
            expires_on: today.saturating_add(30.days()).to_string(),
            electronic: false,
            ..holder(&qingdao.founder, self.holders)?
        };
        let hall = System::connect(qingdao, "hrss/hall").await?;
        let line = ImportCardsRequest {
            line: 1,
            card: Some(card.clone()),
        };
        let sent = client::request(tokio_stream::once(line), ISSUER, "card-service")?;
        hall.cards().import_cards(sent).await?;
        let config = CardConfig::read(&Program::Card.config(qingdao))?;
        let store = Store::open(&config.database).await?;
        let cards = Cards::new(store, config.city, Clock::system(), config.terms);
        let stock = format!(
            "card_number,card_identification_code,specification_version\n{},{},{}\n",
            number('N'),
            chip(),
            card.specification_version
        );
        let stocked = cards.stock(stock.as_bytes()).await;
        cards.store().close().await;
        stocked?;
        Ok(card)
    }
}

/// A number that no other run has used.
fn number(kind: char) -> String {
    let random = Uuid::now_v7().simple().to_string().to_uppercase();
    format!("{kind}{}", &random[12..])
}

fn chip() -> String {
    Uuid::now_v7().simple().to_string().to_uppercase()
}

fn key(number: &str) -> Option<CardKey> {
    Some(CardKey {
        card_number: number.to_owned(),
        ..CardKey::default()
    })
}

fn application(number: &str, name: &str) -> Option<Application> {
    Some(Application {
        request_id: Uuid::now_v7().to_string(),
        key: key(number),
        name: name.to_owned(),
        applied_in: "371000".to_owned(),
    })
}

/// The hall has just seen the holder's document.
fn verified() -> Option<IdentityVerification> {
    Some(IdentityVerification {
        method: VerificationMethod::Office.into(),
        verified_at: Some(Timestamp {
            seconds: Clock::system().now_s(),
            nanos: 0,
        }),
        reference_digest: [Uuid::now_v7().into_bytes(), Uuid::now_v7().into_bytes()].concat(),
    })
}

async fn verify(hall: &System, number: &str) -> Result<VerifyCardResponse> {
    let request = VerifyCardRequest {
        key: key(number),
        ..VerifyCardRequest::default()
    };
    let request = client::request(request, ISSUER, "card-service")?;
    Ok(hall.cards().verify_card(request).await?.into_inner())
}
