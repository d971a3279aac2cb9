//! A city with a database, a clock that the test moves, and requests to make.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use banqiao_card::{
    Application, Applied, Applies, CardConfig, CardNumber, Cards, Change, LineOutcome, LossReport,
    LossTerms, Store, VerificationPolicy, Verify, Watches, synthetic,
};
use banqiao_directory::{CityCode, ManualClock};
use banqiao_kit::{
    CallError, Caller, DatabaseSettings, FollowSettings, civil_date, mapping::Mapping,
};
use banqiao_proto::card::v1::{
    self as proto, CardKey, CardRecord, CardState, IdentityVerification, ImportCardsRequest,
    LossKind, ReportLossRequest, ReportLossResponse, VerificationMethod, VerifyCardRequest,
    VerifyCardResponse,
};
use http::HeaderMap;
use tokio_util::sync::CancellationToken;

use crate::bureau;

/// 2026-11-23 12:00 in the cities.
pub(crate) const NOON: i64 = 1_795_406_400_000_000;
pub(crate) const SECOND: i64 = 1_000_000;
pub(crate) const DAY: i64 = 86_400 * SECOND;

/// Terms of 10 and 5 days.
pub(crate) const TERMS: LossTerms = LossTerms::DEFAULT;

pub(crate) struct Scene {
    pub(crate) cards: Cards,
    pub(crate) clock: ManualClock,
    pub(crate) settings: DatabaseSettings,
    pub(crate) mapping: Option<Mapping>,
    pub(crate) stopping: CancellationToken,
    /// Makes numbers of cards.
    serial: AtomicU64,
}

pub(crate) fn qingdao() -> CityCode {
    "370200".parse().unwrap()
}

/// Qingdao takes its own verifications, and those of Weihai's window.
fn policy() -> VerificationPolicy {
    let verifiers = vec![WEIHAI.parse().unwrap()];
    let home = "qingdao.jiaodong".parse().unwrap();
    VerificationPolicy::new(home, verifiers, VerificationPolicy::DEFAULT_VALIDITY)
}

/// A window of another city, whose verifications are recognised.
pub(crate) const WEIHAI: &str = "spiffe://weihai.jiaodong/hrss/window";
/// One whose verifications are not.
pub(crate) const RIZHAO: &str = "spiffe://rizhao.jiaodong/hrss/window";
/// The issuing bureau's own counter.
pub(crate) const COUNTER: &str = "spiffe://qingdao.jiaodong/hrss/counter";

impl Scene {
    /// Puts new cards into the stock.
    pub(crate) async fn stock(&self, count: u32) {
        let mut sheet = "card_number,card_identification_code,specification_version\n".to_owned();
        for n in 0..count {
            sheet.push_str(&format!("N{n:08},{:032X},3.00\n", n + 1));
        }
        let added = self.cards.stock(sheet.as_bytes()).await.unwrap();
        assert_eq!(added, u64::from(count));
    }

    /// How an application ends at the window of Weihai.
    pub(crate) async fn apply(&self, request: &impl Applies) -> Result<Applied, CallError> {
        apply_as(&self.cards, request, WEIHAI).await
    }

    /// A fresh verification at an office.
    pub(crate) fn verified(&self) -> Option<IdentityVerification> {
        let at = self.cards.clock().now_us();
        Some(IdentityVerification {
            method: VerificationMethod::Office.into(),
            verified_at: Some(prost_types::Timestamp {
                seconds: at / SECOND,
                nanos: 0,
            }),
            reference_digest: [
                uuid::Uuid::now_v7().into_bytes(),
                uuid::Uuid::now_v7().into_bytes(),
            ]
            .concat(),
        })
    }

    /// Imports a card in these states, without an electronic card.
    pub(crate) async fn one_in(&self, social: CardState, financial: CardState) -> CardRecord {
        let serial = self.serial.fetch_add(1, Ordering::Relaxed);
        let mut records = synthetic::holders(qingdao(), 1, 1).unwrap();
        let record = CardRecord {
            card_number: format!("S{serial:010}"),
            card_identification_code: format!("{:032X}", u128::from(serial) << 64),
            social_state: social.into(),
            financial_state: financial.into(),
            electronic: false,
            ..records.next().unwrap()
        };
        let outcomes = self.import(std::slice::from_ref(&record)).await;
        assert_eq!(outcomes, [LineOutcome::Created]);
        record
    }

    pub(crate) async fn open(url: &str) -> Self {
        Self::open_with(DatabaseSettings::new(url.parse().unwrap()), None).await
    }

    /// The cards are in a bureau's own tables.
    pub(crate) async fn open_mapped(url: &str) -> Self {
        bureau::create(url).await;
        Self::open_with(bureau::settings(url), Some(bureau::mapping())).await
    }

    async fn open_with(settings: DatabaseSettings, mapping: Option<Mapping>) -> Self {
        let clock = ManualClock::new(NOON);
        let store = Store::open_mapped(&settings, mapping.as_ref())
            .await
            .unwrap();
        let cards = Cards::new(store, qingdao(), clock.clock(), TERMS).recognising(policy());
        Self {
            cards,
            clock,
            settings,
            mapping,
            stopping: CancellationToken::new(),
            serial: AtomicU64::new(1),
        }
    }

    /// Another replica: its own connections to the same database, the same clock.
    pub(crate) async fn replica(&self) -> Cards {
        let store = Store::open_mapped(&self.settings, self.mapping.as_ref())
            .await
            .unwrap();
        Cards::new(store, qingdao(), self.clock.clock(), TERMS).recognising(policy())
    }

    /// Imports records and gives the outcome of each.
    pub(crate) async fn import(&self, records: &[CardRecord]) -> Vec<LineOutcome> {
        let lines: Vec<_> = (1..)
            .zip(records)
            .map(|(line, card)| ImportCardsRequest {
                line,
                card: Some(card.clone()),
            })
            .collect();
        self.cards
            .import(&lines, &self.cards.own_actor())
            .await
            .unwrap()
    }

    /// Imports `count` holders, the first ones with cards in order.
    pub(crate) async fn holders(&self, count: u32) -> Vec<CardRecord> {
        let records: Vec<_> = synthetic::holders(qingdao(), count, 1).unwrap().collect();
        let outcomes = self.import(&records).await;
        assert!(
            outcomes
                .iter()
                .all(|outcome| *outcome == LineOutcome::Created)
        );
        records
    }

    pub(crate) async fn verify(&self, request: &VerifyCardRequest) -> VerifyCardResponse {
        let today = civil_date(self.cards.clock().now_us());
        self.cards
            .verify(&Verify::parse(request, today).unwrap())
            .await
            .unwrap()
    }

    pub(crate) async fn state_of(&self, record: &CardRecord) -> (CardState, CardState) {
        let answer = self.verify(&verify_request(record)).await;
        assert!(answer.r#match);
        (answer.social_state(), answer.financial_state())
    }

    pub(crate) async fn history(&self, record: &CardRecord) -> Vec<Change> {
        let number = CardNumber::parse(&record.card_number).unwrap();
        self.cards.store().history(&number).await.unwrap()
    }

    pub(crate) fn watches(&self, settings: FollowSettings) -> Watches {
        Watches::new(self.cards.store().clone(), settings, self.stopping.clone())
    }
}

pub(crate) async fn report(
    cards: &Cards,
    request: &ReportLossRequest,
) -> Result<ReportLossResponse, banqiao_card::ReportError> {
    report_as(cards, request, "spiffe://weihai.jiaodong/hrss/window").await
}

pub(crate) async fn report_as(
    cards: &Cards,
    request: &ReportLossRequest,
    client: &str,
) -> Result<ReportLossResponse, banqiao_card::ReportError> {
    let today = civil_date(cards.clock().now_us());
    cards
        .report_loss(&LossReport::parse(request, today).unwrap(), &caller(client))
        .await
}

pub(crate) async fn apply_as(
    cards: &Cards,
    request: &impl Applies,
    client: &str,
) -> Result<Applied, CallError> {
    let today = civil_date(cards.clock().now_us());
    let application = Application::parse(request, today).map_err(CallError::CallerInvalid)?;
    cards.apply(&application, &caller(client)).await
}

/// An application for a card, with a new request id.
pub(crate) fn application(record: &CardRecord) -> Option<proto::Application> {
    Some(proto::Application {
        request_id: uuid::Uuid::now_v7().to_string(),
        key: key(record),
        name: record.name.clone(),
        applied_in: "371000".to_owned(),
    })
}

pub(crate) fn caller(client: &str) -> Caller {
    let mut headers = HeaderMap::new();
    for (name, value) in metadata(client) {
        headers.insert(name, value.parse().unwrap());
    }
    Caller::from_headers(&headers).unwrap()
}

pub(crate) fn metadata(client: &str) -> [(&'static str, String); 4] {
    [
        ("banqiao-client", client.to_owned()),
        ("banqiao-purpose", "card-service".to_owned()),
        (
            "banqiao-basis",
            "statutory:social-insurance-handling-7".to_owned(),
        ),
        ("banqiao-exchange-id", format!("{}/1", uuid::Uuid::now_v7())),
    ]
}

pub(crate) fn key(record: &CardRecord) -> Option<CardKey> {
    Some(CardKey {
        card_number: record.card_number.clone(),
        ..CardKey::default()
    })
}

/// Asks with everything that is known of a card.
pub(crate) fn verify_request(record: &CardRecord) -> VerifyCardRequest {
    VerifyCardRequest {
        key: Some(CardKey {
            card_number: record.card_number.clone(),
            social_security_number: record.social_security_number.clone(),
            card_identification_code: record.card_identification_code.clone(),
        }),
        name: record.name.clone(),
        service_code: 1,
    }
}

pub(crate) fn loss(record: &CardRecord, kind: LossKind) -> ReportLossRequest {
    ReportLossRequest {
        request_id: uuid::Uuid::now_v7().to_string(),
        key: key(record),
        name: record.name.clone(),
        kind: kind.into(),
        function: 1,
        reported_in: "371000".to_owned(),
    }
}

/// Fast enough for a test, slow enough not to spin.
pub(crate) const BRISK: FollowSettings = FollowSettings {
    poll: Duration::from_millis(10),
    heartbeat: Duration::from_secs(3600),
    limit: 4,
};

/// A configuration as text, with its certificates in the folder of the file.
pub(crate) fn config(folder: &std::path::Path, url: &str) -> CardConfig {
    CardConfig::parse(&config_text(url), folder).unwrap()
}

pub(crate) fn config_text(url: &str) -> String {
    format!(
        "city = \"370200\"\nlisten = \"127.0.0.1:0\"\ndrain = \"15s\"\n\
         [identity]\ncertificate = \"card.crt\"\nprivate_key = \"card.key\"\nca_bundle = \"ca.crt\"\n\
         crl = \"crl.der\"\nreload = \"100ms\"\n[database]\nurl = \"{url}\"\n\
         [card]\nwatch_poll = \"10ms\"\nsweep = \"100ms\"\n[telemetry]\nlog_filter = \"warn\"\n"
    )
}
