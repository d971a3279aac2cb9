//! 身份核验: which verifications of a holder the issuing city recognises.
//!
//! An application states that the holder was verified, how and when; the evidence stays with whoever verified. Who that was is no
//! statement: it is the calling system, which its own city's gateway has authenticated. So the issuing city decides by names that
//! nobody can borrow: its own systems always, those of other cities when it lists them. That is what 解挂 and 注销 ask for: a
//! verification at the level of the issuer, though the holder stands at a window of another city (异地代收代办, whose receiving window
//! does the 身份核验). A verification is fresh, and serves one application.

use std::time::Duration;

use banqiao_directory::{SpiffeId, TrustDomain};
use banqiao_kit::{Broken, CallError, Refusal, Rule, RuleTable, Violations};
use banqiao_proto::card::v1::{IdentityVerification, VerificationMethod};

use crate::application::Service;

/// How far a verifying system's clock may be ahead.
const CLOCK_SKEW_US: i64 = 60 * 1_000_000;

const ISSUER_LEVEL: &str = "人社 portal service codes: 解挂 and 注销 with identity verification at the issuer; 国办发〔2020〕35号, 异地代收代办";

const MISSING: Rule = Rule::design(
    "VERIFICATION_MISSING",
    "this service needs an identity verification: method, time, and the SHA-256 of its reference in 32 bytes",
    ISSUER_LEVEL,
);
const STALE: Refusal = Refusal::conflict(
    Rule::design(
        "VERIFICATION_STALE",
        "an identity verification is not in the future and not older than the issuing city takes (`verification_validity`, 30 minutes)",
        "card service",
    )
    .remedy("verify the holder again"),
);
const METHOD: Refusal = Refusal::conflict(
    Rule::design(
        "VERIFICATION_METHOD",
        "an agent (委托代办) may have a card replaced, renewed or cancelled; everything else needs the holder in person",
        ISSUER_LEVEL,
    )
    .remedy("verify the holder by face or at an office"),
);
const VERIFIER: Refusal = Refusal::forbidden(
    Rule::design(
        "VERIFIER_NOT_RECOGNISED",
        "the verifying system is one of the issuing city, or one that it lists (`verifiers`)",
        ISSUER_LEVEL,
    )
    .remedy("let a system of the issuing city verify the holder and apply, or ask that city to list this one"),
);
pub(crate) const USED: Refusal = Refusal::conflict(
    Rule::design(
        "VERIFICATION_USED",
        "an identity verification serves one application",
        "card service",
    )
    .remedy("verify the holder again"),
);

pub(crate) fn rules() -> RuleTable {
    const VERIFIED: &[&str] = &[
        "ActivateCard",
        "LiftLoss",
        "ReplaceCard",
        "RenewCard",
        "CancelCard",
        "ResetPin",
        "IssueElectronicCard",
    ];
    RuleTable::new("Identity verification at the issuer")
        .field(&MISSING, VERIFIED)
        .refusal(&VERIFIER, VERIFIED)
        .refusal(&METHOD, VERIFIED)
        .refusal(&STALE, VERIFIED)
        .refusal(&USED, VERIFIED)
}

/// A parsed [`IdentityVerification`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verification {
    /// How, never unspecified.
    pub method: VerificationMethod,
    /// When, in microseconds since 1970-01-01 UTC.
    pub verified_at_us: i64,
    /// SHA-256 of the verifying system's reference.
    pub reference_digest: [u8; 32],
}

impl Verification {
    pub(crate) fn parse(
        stated: Option<&IdentityVerification>,
        faults: &mut Violations,
    ) -> Option<Self> {
        let parsed = stated.and_then(|stated| {
            let method = VerificationMethod::try_from(stated.method).ok();
            let method = method.filter(|method| *method != VerificationMethod::Unspecified)?;
            let at = stated.verified_at?;
            let nanos = i64::from(at.nanos);
            let verified_at_us = at
                .seconds
                .checked_mul(1_000_000)
                .and_then(|us| us.checked_add(nanos / 1_000))?;
            let reference_digest = stated.reference_digest.as_slice().try_into().ok()?;
            Some(Self {
                method,
                verified_at_us,
                reference_digest,
            })
        });
        faults.check("verification", parsed.ok_or(Broken(&MISSING)))
    }
}

/// What the issuing city recognises.
#[derive(Clone, Debug)]
pub struct VerificationPolicy {
    /// Its own systems; none before the service knows its city's trust domain.
    home: Option<TrustDomain>,
    /// Systems of other cities (`verifiers`).
    verifiers: Vec<SpiffeId>,
    /// Age up to which a verification is taken (`verification_validity`).
    validity: Duration,
}

impl VerificationPolicy {
    /// A visit to a window takes minutes, and one waits for its turn with the document in hand.
    pub const DEFAULT_VALIDITY: Duration = Duration::from_secs(30 * 60);

    /// A policy of the city whose trust domain is `home`.
    pub const fn new(home: TrustDomain, verifiers: Vec<SpiffeId>, validity: Duration) -> Self {
        Self {
            home: Some(home),
            verifiers,
            validity,
        }
    }

    /// A policy that recognises nobody.
    pub const fn none() -> Self {
        Self {
            home: None,
            verifiers: Vec::new(),
            validity: Self::DEFAULT_VALIDITY,
        }
    }

    /// Whether a system belongs to the issuing city.
    pub fn is_own(&self, client: &SpiffeId) -> bool {
        self.home.as_ref() == Some(client.trust_domain())
    }

    /// Judges a verification that a client states for a service.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub(crate) fn judge(
        &self,
        verification: &Verification,
        client: &SpiffeId,
        service: Service,
        now_us: i64,
    ) -> Result<(), CallError> {
        if !self.is_own(client) && !self.verifiers.contains(client) {
            return Err(VERIFIER.because("this city does not take the caller's verifications"));
        }
        let by_agent = matches!(
            service,
            Service::Replace(_) | Service::Renew | Service::Cancel(_)
        );
        if verification.method == VerificationMethod::Entrusted && !by_agent {
            return Err(METHOD.because("an agent cannot apply for this"));
        }
        let age_us = now_us.saturating_sub(verification.verified_at_us);
        let validity_us = i64::try_from(self.validity.as_micros()).unwrap_or(i64::MAX);
        if !(-CLOCK_SKEW_US..=validity_us).contains(&age_us) {
            let minutes = self.validity.as_secs() / 60;
            return Err(STALE.because(format!("this city takes them for {minutes} minutes")));
        }
        Ok(())
    }
}
