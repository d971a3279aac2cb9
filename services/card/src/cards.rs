//! What a city's card service does, apart from the wire: verifying here, loss reports and imports beside.

use std::{sync::Arc, time::Duration};

use banqiao_directory::{CityCode, Clock};
use banqiao_kit::civil_date;
use banqiao_proto::card::v1::VerifyCardResponse;
use prost_types::Timestamp;

use crate::{
    compare::{NOBODY, evidence, matches},
    request::{Function, Verify},
    state::electronic_state,
    store::{Actor, Store, StoreError},
    verification::VerificationPolicy,
};

/// How long a temporary loss lasts, for each function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LossTerms {
    /// 社保功能.
    pub social: Duration,
    /// 金融功能.
    pub financial: Duration,
}

impl LossTerms {
    /// That it ends by itself is quoted from 省人社厅 2022-09-28 (Q); no term of Shandong's was found. Cities elsewhere publish 10 days
    /// for the social function (and some 15), and their banks 5 days for the financial one (Q, other provinces); taking the
    /// former as the default is this project's proposal (D).
    pub const DEFAULT: Self = Self {
        social: Duration::from_secs(10 * 24 * 60 * 60),
        financial: Duration::from_secs(5 * 24 * 60 * 60),
    };

    /// When a loss that begins now ends, in microseconds since 1970-01-01 UTC.
    pub(crate) fn end(&self, function: Function, now_us: i64) -> i64 {
        let term = match function {
            Function::Financial => self.financial,
            Function::Social => self.social,
        };
        now_us.saturating_add(i64::try_from(term.as_micros()).unwrap_or(i64::MAX))
    }
}

/// A city's cards. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cards {
    pub(crate) store: Store,
    pub(crate) city: CityCode,
    pub(crate) clock: Clock,
    pub(crate) terms: LossTerms,
    pub(crate) policy: Arc<VerificationPolicy>,
    pub(crate) new_card_years: u8,
}

/// A social-security card is valid for ten years (M); cities may issue it for another time.
pub const DEFAULT_NEW_CARD_YEARS: u8 = 10;

impl Cards {
    /// The cards of `city` in an open store. No identity verification is recognised yet, and new cards are valid for
    /// [`DEFAULT_NEW_CARD_YEARS`].
    pub fn new(store: Store, city: CityCode, clock: Clock, terms: LossTerms) -> Self {
        Self {
            store,
            city,
            clock,
            terms,
            policy: Arc::new(VerificationPolicy::none()),
            new_card_years: DEFAULT_NEW_CARD_YEARS,
        }
    }

    /// Sets whose identity verifications the city recognises.
    #[must_use]
    pub fn recognising(self, policy: VerificationPolicy) -> Self {
        let policy = Arc::new(policy);
        Self { policy, ..self }
    }

    /// Sets for how many years new cards are valid.
    #[must_use]
    pub fn issuing_for(self, new_card_years: u8) -> Self {
        Self {
            new_card_years,
            ..self
        }
    }

    /// The store.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The issuing city.
    pub const fn city(&self) -> CityCode {
        self.city
    }

    /// The clock by which losses end and cards expire.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Who acts when the service acts by itself or its own city feeds it.
    pub const fn own_actor(&self) -> Actor {
        Actor {
            city: self.city,
            call: None,
        }
    }

    /// Whether everything that was given belongs to one card, and how that card stands.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn verify(&self, request: &Verify) -> Result<VerifyCardResponse, StoreError> {
        let stored = self.store.find(&request.key.lookup).await?;
        let now_us = self.clock.now_us();
        let is_match = matches(stored.as_ref(), &request.key, request.name.as_ref());
        // The whole answer is made in either case, so that making it does not take a different time.
        let stored = stored.as_ref().unwrap_or(&NOBODY);
        let (card, today) = (&stored.card, civil_date(now_us));
        let social = card.social.settled(now_us).shown(card.expires_on, today);
        let financial = card.financial.settled(now_us).shown(card.expires_on, today);
        let issuing_city = card.division.city().unwrap_or(self.city);
        let full = VerifyCardResponse {
            r#match: true,
            social_state: social.into(),
            financial_state: financial.into(),
            electronic_state: electronic_state(card.electronic, social).into(),
            issuing_city: issuing_city.to_string(),
            expires_on: card.expires_on.to_string(),
            checked_at: Some(timestamp(now_us)),
            source_city: self.city.to_string(),
            evidence_digest: evidence(stored, now_us).to_vec(),
        };
        Ok(if is_match {
            full
        } else {
            nothing_matched(full)
        })
    }
}

/// What is left of an answer when nothing matched: when and where it was asked.
fn nothing_matched(full: VerifyCardResponse) -> VerifyCardResponse {
    VerifyCardResponse {
        checked_at: full.checked_at,
        source_city: full.source_city,
        ..VerifyCardResponse::default()
    }
}

/// Microseconds since 1970-01-01 UTC as protobuf has them.
pub(crate) fn timestamp(time_us: i64) -> Timestamp {
    let nanos = time_us.rem_euclid(1_000_000) * 1_000;
    Timestamp {
        seconds: time_us.div_euclid(1_000_000),
        // Below 10^9.
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}
