//! The life of a card: what an application does to it, decided on what was read and written in one transaction.

mod draft;
mod server;

use banqiao_kit::{CallError, Caller, Refusal, Rule, RuleTable, Violation};
use banqiao_proto::card::v1::{NewCard, Outcome};
use draft::Draft;
use prost::Message;
pub use server::CardLifeServer;

use crate::{
    application::{APPLICATIONS, Application, Service},
    cards::Cards,
    compare::matches,
    loss::ATTEMPTS,
    request::{Function, REQUEST_ID_REUSED, digest_parts, key_parts},
    state::{Event, State},
    store::{Cause, FirstAnswer, Report, ReportAnswer, StoreError, Use, Write},
    verification::{USED, Verification},
};

/// 密码连续错误6次锁卡.
const WRONG_PINS: u8 = 6;
/// 有效期满前60日可换领.
const RENEWAL_DAYS: i64 = 60;

const PINS_LOCK: Rule = Rule::quoted(
    "SIX_WRONG_PINS_LOCK",
    "six wrong PINs in a row lock 社保功能; a right one, or a reset, begins the count anew; terminals report attempts, never a PIN",
    "省人社厅 2022-09-28",
);
const RENEW_TOO_EARLY: Refusal = Refusal::conflict(
    Rule::quoted(
        "RENEW_TOO_EARLY",
        "a card is renewed from 60 days before its last day on, and after it",
        "省人社厅 2022-09-28",
    )
    .remedy("apply from the date on that the message names; a lost or damaged card is replaced at any time"),
);
const SUCCESSOR_ISSUED: Refusal = Refusal::conflict(
    Rule::design(
        "SUCCESSOR_ISSUED",
        "a card has one successor at a time",
        "card service",
    )
    .remedy("activate the new card, or have it cancelled"),
);
const REPORT_LOSS_FIRST: Refusal = Refusal::conflict(
    Rule::design(
        "REPORT_LOSS_FIRST",
        "a card is replaced as lost when its 社保功能 is in 正式挂失",
        "人社 portal service codes: LOST, 补领, CANCELLED",
    )
    .remedy("report the formal loss, and then apply again with a new request id"),
);
const NO_BLANK_CARD: Refusal = Refusal::conflict(
    Rule::design(
        "NO_BLANK_CARD",
        "new cards come from the issuing city's stock (`banqiao-card stock`)",
        "card service",
    )
    .remedy("let the issuing city fill its stock; nothing was changed"),
);
const ELECTRONIC_LINKED: Refusal = Refusal::conflict(
    Rule::quoted(
        "ELECTRONIC_LINKED",
        "a card has one electronic card (一一对应)",
        "省人社厅 2022-09-28",
    )
    .remedy("use the one that is linked"),
);
const FIRST_ANSWER: Rule = Rule::design(
    "FIRST_ANSWER",
    "the same application with the same request id is applied once and gets the first answer again",
    "card service",
);
const REPLACED: Rule = Rule::design(
    "REPLACED_AT_ONCE",
    "补领 cancels both functions of the old card at once; the new one is sealed, of the same holder, and takes over the electronic card",
    "人社 portal service codes: LOST, 补领, CANCELLED",
);
const RENEWED: Rule = Rule::design(
    "RENEWED_AT_ACTIVATION",
    "换领 leaves the old card in use until 社保功能 of the new one is activated, which cancels the old and takes over its electronic card",
    "card service",
);

pub(crate) fn rules() -> RuleTable {
    RuleTable::new("The life of a card")
        .answer(&FIRST_ANSWER, APPLICATIONS)
        .answer(&PINS_LOCK, &["ReportPinAttempt", "ResetPin"])
        .refusal(&RENEW_TOO_EARLY, &["RenewCard"])
        .answer(&RENEWED, &["RenewCard", "ActivateCard"])
        .answer(&REPLACED, &["ReplaceCard"])
        .refusal(&REPORT_LOSS_FIRST, &["ReplaceCard"])
        .refusal(&SUCCESSOR_ISSUED, &["RenewCard", "ReplaceCard"])
        .refusal(&NO_BLANK_CARD, &["RenewCard", "ReplaceCard"])
        .refusal(&ELECTRONIC_LINKED, &["IssueElectronicCard"])
}

/// What became of an application; also the form in which the store keeps it.
#[derive(Clone, PartialEq, Message)]
pub struct Applied {
    /// How the card stands.
    #[prost(message, optional, tag = "1")]
    pub outcome: Option<Outcome>,
    /// The card that follows it.
    #[prost(message, optional, tag = "2")]
    pub new_card: Option<NewCard>,
    /// Wrong PINs that are left.
    #[prost(uint32, tag = "3")]
    pub attempts_left: u32,
}

impl Cards {
    /// Applies an application at once and for good, or gives the first answer again.
    ///
    /// # Errors
    /// The refusals of the table of rules. An application that ends in an error of the store may have been applied: repeat it with its
    /// request id.
    pub async fn apply(
        &self,
        application: &Application,
        caller: &Caller,
    ) -> Result<Applied, CallError> {
        let digest = digest_of(application);
        for _ in 0..ATTEMPTS {
            let first = self
                .store
                .first_answer(&caller.client, application.request_id)
                .await?;
            if let Some(first) = first {
                return again(&first, digest);
            }
            let decided = async {
                self.judge(application, caller).await?;
                self.decide(application, caller).await
            };
            let (mut write, applied, seq) = match decided.await {
                Ok(decided) => decided,
                // What stands in the way may be this very application, applied between the two readings.
                Err(error) => {
                    let first = self
                        .store
                        .first_answer(&caller.client, application.request_id)
                        .await?;
                    return first.map_or(Err(error), |first| again(&first, digest));
                }
            };
            let mut applied = applied.unwrap_or_else(|| Applied {
                outcome: Some(Outcome::default()),
                ..Applied::default()
            });
            let is_match = applied.outcome.as_ref().is_some_and(|it| it.applied);
            write.report = Some(Report {
                client: caller.client.clone(),
                request_id: application.request_id,
                digest,
                answer: answer_of(&applied, seq),
                exchange: caller.exchange,
                reported_at_us: self.clock.now_us(),
                outcome: Some(applied.encode_to_vec()),
                // A mistyped name does not use up the verification.
                verification: application.verification.filter(|_| is_match).map(used),
            });
            match self.store.write(&write).await {
                Ok(last) => {
                    if let Some(outcome) = applied.outcome.as_mut().filter(|it| it.applied) {
                        outcome.cursor = seq.unwrap_or(last).to_string();
                    }
                    return Ok(applied);
                }
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Whether the city takes the verification that comes with an application.
    async fn judge(&self, application: &Application, caller: &Caller) -> Result<(), CallError> {
        let Some(verification) = &application.verification else {
            return Ok(());
        };
        let now_us = self.clock.now_us();
        self.policy
            .judge(verification, &caller.client, application.service, now_us)?;
        let used = self
            .store
            .is_used(&caller.client, &verification.reference_digest);
        if used.await? {
            return Err(USED.because("the reference stands beside another application"));
        }
        Ok(())
    }

    /// What an application writes and answers; no answer when nothing matched. The number is that of the change that made the card stand so,
    /// when the application itself makes none.
    async fn decide(
        &self,
        application: &Application,
        caller: &Caller,
    ) -> Result<(Write, Option<Applied>, Option<i64>), CallError> {
        let stored = self.store.find(&application.key.lookup).await?;
        let is_match = matches(stored.as_ref(), &application.key, Some(&application.name));
        let Some(stored) = stored.filter(|_| is_match) else {
            return Ok((Write::default(), None, None));
        };
        let mut draft = Draft::begin(self, stored, application, caller);
        let mut attempts_left = 0;
        match application.service {
            Service::Activate(function) => {
                draft.step(function, Event::Activate, Cause::Activated)?;
                if function == Function::Social {
                    draft.end_predecessor().await?;
                }
            }
            Service::Cancel(reason) => draft.cancel(reason)?,
            Service::IssueElectronic => draft.issue_electronic()?,
            Service::LiftLoss(function) => {
                draft.step(function, Event::LiftLoss, Cause::LossLifted)?;
            }
            Service::PinAttempt(correct) => attempts_left = draft.count_pin(correct)?,
            Service::Renew => draft.renew().await?,
            Service::Replace(reason) => draft.replace(reason).await?,
            Service::ResetPin => draft.reset_pin()?,
        }
        let mut applied = draft.applied();
        applied.attempts_left = attempts_left;
        let number = draft.number().clone();
        let write = draft.finish();
        let seq = if write.changes.is_empty() {
            let history = self.store.history(&number).await?;
            Some(history.last().map_or(0, |change| change.seq))
        } else {
            None
        };
        Ok((write, Some(applied), seq))
    }
}

/// The first answer again, or that the request id stands for something else.
fn again(first: &FirstAnswer, digest: [u8; 32]) -> Result<Applied, CallError> {
    // Not secret: the client chose both requests.
    let outcome = first.outcome.as_ref().filter(|_| first.digest == digest);
    let Some(outcome) = outcome else {
        return Err(CallError::CallerInvalid(vec![Violation {
            field: "application.request_id".into(),
            rule: &REQUEST_ID_REUSED,
        }]));
    };
    let mut applied =
        Applied::decode(outcome.as_slice()).map_err(|_| StoreError::Corrupt("first answer"))?;
    let outcome = applied.outcome.get_or_insert_default();
    outcome.repeated = true;
    if let ReportAnswer::Applied { seq: Some(seq), .. } = first.answer {
        outcome.cursor = seq.to_string();
    }
    Ok(applied)
}

fn answer_of(applied: &Applied, seq: Option<i64>) -> ReportAnswer {
    let outcome = applied.outcome.as_ref().filter(|it| it.applied);
    outcome.map_or(ReportAnswer::NothingMatched, |outcome| {
        ReportAnswer::Applied {
            // An expired card shows no stored state; its answer stands in the outcome.
            state: State::of(outcome.social_state()).unwrap_or(State::Normal),
            until_us: None,
            seq,
        }
    })
}

const fn used(verification: Verification) -> Use {
    Use {
        reference_digest: verification.reference_digest,
        method: verification.method,
    }
}

/// SHA-256 over everything that the application asks for.
fn digest_of(application: &Application) -> [u8; 32] {
    let [number, holder, chip] = key_parts(&application.key);
    let verification = application.verification.map_or_else(Vec::new, |it| {
        [
            &i32::from(it.method).to_be_bytes()[..],
            &it.verified_at_us.to_be_bytes(),
            &it.reference_digest,
        ]
        .concat()
    });
    digest_parts(&[
        number.as_bytes(),
        holder.as_bytes(),
        chip.as_bytes(),
        application.name.as_str().as_bytes(),
        application.service.text().as_bytes(),
        application.applied_in.as_str().as_bytes(),
        &verification,
    ])
}
