//! Two cities with a database each, one clock that the test moves, and a wire between their services that the test breaks.

use std::sync::atomic::{AtomicU32, Ordering};

use banqiao_card::{
    Store,
    pension::{
        Asked, FundsRule, PensionSettings, PensionStore, Transfers, Transition, parse_advance,
        parse_application, parse_delivery, parse_funds,
    },
};
use banqiao_directory::{CityCode, ManualClock};
use banqiao_kit::{
    CallError, Caller, DatabaseSettings, Parcel, calendar::WorkCalendar, civil_date,
    identifier::CitizenId, rescue,
};
use banqiao_proto::card::v1::{
    AdvanceTransferRequest, ApplyTransferRequest, ConfirmFundsRequest, ContributionPeriod,
    DeliverDocumentRequest, FundsConfirmation, InformationTable, ParticipationCertificate,
    PensionScheme, Reason, TransferEvent, TransferProgress, TransferState,
    advance_transfer_request::Decision,
};
use jiff::civil::{Date, date};
use prost::Message;
use tonic_types::StatusExt;
use uuid::Uuid;

use crate::scene::{DAY, caller};

/// A woman of 36 in 2026; nobody's number.
pub(crate) const HOLDER: &str = "370202199001010007";
/// Total of [`table`].
pub(crate) const TOTAL: i64 = 5_012_345 + 98_765 + 1_440_000;

/// Noon of a day in the cities, in microseconds since 1970-01-01 UTC.
pub(crate) fn noon(day: Date) -> i64 {
    let days = day.duration_since(date(1970, 1, 1)).as_secs() / 86_400;
    days * DAY + DAY / 6
}

pub(crate) struct City {
    pub(crate) code: CityCode,
    pub(crate) domain: &'static str,
    pub(crate) settings: DatabaseSettings,
    pub(crate) transfers: Transfers,
}

impl City {
    pub(crate) fn hall(&self) -> Caller {
        caller(&format!("spiffe://{}/hrss/hall", self.domain))
    }

    pub(crate) fn service(&self) -> Caller {
        caller(&format!("spiffe://{}/hrss/card", self.domain))
    }

    pub(crate) fn today(&self) -> Date {
        civil_date(self.transfers.clock().now_us())
    }

    pub(crate) async fn advance(
        &self,
        transfer: Uuid,
        decision: Decision,
    ) -> Result<Transition, CallError> {
        let asked = self.asked(transfer, decision);
        self.transfers.act(&asked, &self.hall()).await
    }

    pub(crate) fn asked(&self, transfer: Uuid, decision: Decision) -> Asked {
        let request = AdvanceTransferRequest {
            request_id: Uuid::now_v7().to_string(),
            transfer_id: transfer.to_string(),
            social_security_number: HOLDER.to_owned(),
            decision: Some(decision),
        };
        parse_advance(&request, self.today()).unwrap()
    }

    pub(crate) async fn funds(&self, transfer: Uuid, fen: i64) -> Result<Transition, CallError> {
        let request = ConfirmFundsRequest {
            request_id: Uuid::now_v7().to_string(),
            transfer_id: transfer.to_string(),
            social_security_number: HOLDER.to_owned(),
            confirmation: Some(FundsConfirmation {
                amount_fen: fen,
                credited_on: self.today().to_string(),
                bank_reference: "回单 1".to_owned(),
            }),
        };
        let asked = parse_funds(&request, self.today()).unwrap();
        self.transfers.act(&asked, &self.hall()).await
    }

    pub(crate) async fn progress(&self, transfer: Uuid) -> Option<TransferProgress> {
        let holder = CitizenId::parse(HOLDER, self.today()).unwrap();
        self.transfers.progress(transfer, &holder).await.unwrap()
    }

    pub(crate) async fn state(&self, transfer: Uuid) -> Option<TransferState> {
        let progress = self.progress(transfer).await;
        progress.map(|progress| progress.state())
    }

    pub(crate) async fn events(&self, transfer: Uuid) -> Vec<TransferEvent> {
        self.transfers.events(transfer, 0).await.unwrap()
    }

    pub(crate) async fn codes(&self, transfer: Uuid) -> Vec<String> {
        let events = self.events(transfer).await.into_iter();
        events.map(|event| event.event).collect()
    }

    /// The oldest document that waits.
    pub(crate) async fn waiting(&self) -> Option<Parcel> {
        self.transfers.outbox().next().await.unwrap().pop()
    }

    /// Takes a document of the other city.
    pub(crate) async fn receive(
        &self,
        parcel: &Parcel,
        from: &Self,
    ) -> Result<Transition, CallError> {
        let request = DeliverDocumentRequest::decode(parcel.payload.as_slice()).unwrap();
        let asked = parse_delivery(&request, self.code, self.today()).unwrap();
        self.transfers.act(&asked, &from.service()).await
    }
}

/// Yantai's relation moves to Qingdao.
pub(crate) struct Cities {
    pub(crate) new: City,
    pub(crate) old: City,
    pub(crate) clock: ManualClock,
}

impl Cities {
    pub(crate) async fn open(new_url: &str, old_url: &str) -> Self {
        let clock = ManualClock::new(noon(date(2026, 2, 6)));
        let (qingdao, yantai) = ("370200".parse().unwrap(), "370600".parse().unwrap());
        let new = open((qingdao, "qingdao.jiaodong"), new_url, &clock, vec![]).await;
        let old = open((yantai, "yantai.jiaodong"), old_url, &clock, vec![]).await;
        Self { new, old, clock }
    }

    /// The same cities with other processes, which have settled that no funds move from Yantai to Qingdao.
    pub(crate) async fn pooled(&self) -> Self {
        let rule = FundsRule {
            from: self.old.code,
            to: self.new.code,
            scheme: PensionScheme::Employee,
        };
        self.reopened(vec![rule]).await
    }

    /// The same cities after a restart of both services.
    pub(crate) async fn restarted(&self) -> Self {
        self.reopened(vec![]).await
    }

    async fn reopened(&self, rules: Vec<FundsRule>) -> Self {
        let again = async |city: &City, rules| {
            let database = city.settings.clone();
            start((city.code, city.domain), database, &self.clock, rules).await
        };
        Self {
            new: again(&self.new, rules.clone()).await,
            old: again(&self.old, rules).await,
            clock: self.clock.clone(),
        }
    }

    pub(crate) fn set(&self, day: Date) {
        self.clock.set_us(noon(day));
    }

    pub(crate) async fn applied(&self) -> Uuid {
        let (transfer, state) = self.apply(&application()).await.unwrap();
        assert_eq!(state, TransferState::UnderReview);
        transfer
    }

    pub(crate) async fn apply(
        &self,
        request: &ApplyTransferRequest,
    ) -> Result<(Uuid, TransferState), CallError> {
        let asked = parse_application(request, self.new.code, self.new.today()).unwrap();
        let answer = self.new.transfers.act(&asked, &self.new.hall()).await?;
        Ok((asked.transfer, answer.state))
    }

    /// A transfer whose letter has arrived.
    pub(crate) async fn lettered(&self) -> Uuid {
        let transfer = self.applied().await;
        let issued = self.new.advance(transfer, issue_letter()).await.unwrap();
        assert_eq!(issued.state, TransferState::LetterIssued);
        self.deliver().await;
        transfer
    }

    /// Carries every document that waits, both ways, until none is left.
    pub(crate) async fn deliver(&self) {
        loop {
            let carried = carry(&self.new, &self.old).await | carry(&self.old, &self.new).await;
            if !carried {
                return;
            }
        }
    }
}

async fn open(
    city: (CityCode, &'static str),
    url: &str,
    clock: &ManualClock,
    rules: Vec<FundsRule>,
) -> City {
    let settings = DatabaseSettings::new(url.parse().unwrap());
    start(city, settings, clock, rules).await
}

async fn start(
    (code, domain): (CityCode, &'static str),
    settings: DatabaseSettings,
    clock: &ManualClock,
    rules: Vec<FundsRule>,
) -> City {
    let store = Store::open(&settings).await.unwrap();
    let cities = [
        ("370200", "qingdao.jiaodong"),
        ("370600", "yantai.jiaodong"),
    ];
    let pension = PensionSettings {
        cities: cities
            .map(|(code, domain)| (code.parse().unwrap(), domain.parse().unwrap()))
            .into(),
        funds_not_required: rules,
        ..PensionSettings::default()
    };
    let transfers = Transfers::new(
        PensionStore::new(store.database().clone()),
        (code, domain.parse().unwrap()),
        clock.clock(),
        WorkCalendar::shipped(),
        pension,
    );
    City {
        code,
        domain,
        settings,
        transfers,
    }
}

/// Carries the oldest document, as the courier does; false when there is none.
pub(crate) async fn carry(from: &City, to: &City) -> bool {
    let Some(parcel) = from.waiting().await else {
        return false;
    };
    let answer = to.receive(&parcel, from).await;
    settle(from, &parcel, answer).await;
    true
}

/// What the courier makes of an answer.
pub(crate) async fn settle(from: &City, parcel: &Parcel, answer: Result<Transition, CallError>) {
    let outcome = match answer {
        Ok(answer) => Ok((answer.at_us, answer.state)),
        Err(error) => Err(error.to_string()),
    };
    let exchange = from.service().exchange;
    let carried = from.transfers.carried(parcel, Some(exchange), outcome);
    carried.await.unwrap();
}

pub(crate) fn application() -> ApplyTransferRequest {
    static NUMBER: AtomicU32 = AtomicU32::new(1);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    ApplyTransferRequest {
        request_id: Uuid::now_v7().to_string(),
        social_security_number: HOLDER.to_owned(),
        name: "测试子安".to_owned(),
        from_city: "370600".to_owned(),
        from_scheme: PensionScheme::Employee.into(),
        to_scheme: PensionScheme::Employee.into(),
        first_away_from_home: false,
        certificate: Some(ParticipationCertificate {
            number: format!("凭证 {number}"),
            first_month: "2019-01".to_owned(),
            months_paid: 24,
            account_fen: 5_111_110,
        }),
    }
}

pub(crate) fn table() -> InformationTable {
    let period = |year: u16, wages_fen| ContributionPeriod {
        from_month: format!("{year}-01"),
        to_month: format!("{year}-12"),
        months: 12,
        wages_fen,
    };
    InformationTable {
        periods: vec![period(2019, 5_400_000), period(2020, 6_600_000)],
        months_total: 24,
        account_principal_fen: 5_012_345,
        account_interest_fen: 98_765,
        wages_total_fen: 12_000_000,
        pooled_fen: 1_440_000,
        total_fen: TOTAL,
        revision: 0,
    }
}

pub(crate) const fn issue_letter() -> Decision {
    Decision::IssueLetter(banqiao_proto::card::v1::Decision {})
}

pub(crate) const fn complete() -> Decision {
    Decision::Complete(banqiao_proto::card::v1::Decision {})
}

pub(crate) fn because() -> Reason {
    Reason {
        text: "测试原因".to_owned(),
    }
}

/// The reason that a caller would read.
pub(crate) fn reason<T: std::fmt::Debug>(answer: Result<T, CallError>) -> String {
    let status = rescue(answer.unwrap_err(), banqiao_card::DOMAIN, None);
    status.get_details_error_info().unwrap().reason
}
