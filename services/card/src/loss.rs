//! 挂失: loss reports, and the end of temporary ones.

use banqiao_kit::{CallError, Caller, Refusal, Rule, RuleTable, Violation, civil_date};
use banqiao_proto::card::v1::{CardState, ReportLossResponse};

use crate::{
    card::Card,
    cards::{Cards, timestamp},
    compare::matches,
    request::{Function, LossReport, REQUEST_ID_REUSED, digest_parts, key_parts},
    state::{self, Standing, State},
    store::{
        Actor, Cause, FirstAnswer, NewChange, Report, ReportAnswer, StoreError, StoredCard, Write,
    },
};

pub(crate) const TRANSITION_NOT_ALLOWED: Refusal = Refusal::conflict(
    Rule::design(
        "TRANSITION_NOT_ALLOWED",
        "a state changes only as the table of transitions says; who names number and name of the card learns its state",
        "人社 portal service codes; project proposal of transitions",
    )
    .remedy("ask for what the state allows, or let the holder turn to the issuing city"),
);
const TEMPORARY_LOSS_ENDS: Rule = Rule::quoted(
    "TEMPORARY_LOSS_ENDS",
    "a temporary loss has a term and ends by itself (`temporary_loss_social`, `temporary_loss_financial`); reporting it again does not prolong it",
    "省人社厅 2022-09-28",
);
const ACCEPTED_ANYWHERE: Rule = Rule::design(
    "LOSS_ACCEPTED_ANYWHERE",
    "a loss is reported in any city, and is in force at the issuing city when the answer comes",
    "鲁政发〔2020〕2号 (十七); 社会保险经办条例 art. 7",
);
const NOTHING_MATCHED: Rule = Rule::design(
    "NOTHING_MATCHED",
    "when number, name or chip do not belong together the answer is empty and does not say which",
    "个人信息保护法 art. 6",
);

pub(crate) fn rules() -> RuleTable {
    const LOSS: &[&str] = &["ReportLoss"];
    const CHANGES: &[&str] = &["ReportLoss", "applications"];
    RuleTable::new("Changes of state")
        .refusal(&TRANSITION_NOT_ALLOWED, CHANGES)
        .answer(&TEMPORARY_LOSS_ENDS, LOSS)
        .answer(&ACCEPTED_ANYWHERE, LOSS)
        .answer(
            &NOTHING_MATCHED,
            &["VerifyCard", "ReportLoss", "applications"],
        )
}

/// How often a decision is made again after another change came first. Each time, somebody else got on.
pub(crate) const ATTEMPTS: usize = 16;

/// Temporary losses that one pass ends at most, so that a pass stays short after a long stop.
const ENDED_AT_ONCE: i64 = 256;

/// Why a loss report is not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// The request id stands for another request of this client.
    #[error("the request id was used for another report")]
    CallerReusedId,
    /// The table of transitions has none from this state. Only who knows number and name learns it.
    #[error("a function in this state cannot be reported lost")]
    CallerTransition {
        /// The function.
        function: Function,
        /// The state that it shows.
        shown: CardState,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<ReportError> for CallError {
    fn from(error: ReportError) -> Self {
        match error {
            ReportError::CallerReusedId => {
                let rule = &REQUEST_ID_REUSED;
                Self::CallerInvalid(vec![Violation {
                    field: "request_id".into(),
                    rule,
                }])
            }
            ReportError::CallerTransition { function, shown } => {
                TRANSITION_NOT_ALLOWED.because(format!(
                    "the {} is in {}: from there it cannot be reported lost",
                    function.shown().as_str_name(),
                    shown.as_str_name()
                ))
            }
            ReportError::Store(error) => error.into(),
        }
    }
}

impl Cards {
    /// Applies a loss report at once and for good, or gives the first answer again.
    ///
    /// # Errors
    /// See [`ReportError`]. A report that ends in an error of the store may have been applied: repeat it with its request id.
    pub async fn report_loss(
        &self,
        request: &LossReport,
        caller: &Caller,
    ) -> Result<ReportLossResponse, ReportError> {
        let digest = digest_of(request);
        for _ in 0..ATTEMPTS {
            let first = self
                .store
                .first_answer(&caller.client, request.request_id)
                .await?;
            if let Some(FirstAnswer {
                digest: first_digest,
                answer,
                ..
            }) = first
            {
                // Not secret: the client chose both requests.
                return if first_digest == digest {
                    Ok(response(answer, true))
                } else {
                    Err(ReportError::CallerReusedId)
                };
            }
            let (mut write, mut answer) = self.decide_report(request, caller).await?;
            write.report = Some(Report {
                client: caller.client.clone(),
                request_id: request.request_id,
                digest,
                answer,
                exchange: caller.exchange,
                reported_at_us: self.clock.now_us(),
                outcome: None,
                verification: None,
            });
            match self.store.write(&write).await {
                Ok(last) => {
                    if let ReportAnswer::Applied { seq, .. } = &mut answer {
                        seq.get_or_insert(last);
                    }
                    return Ok(response(answer, false));
                }
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(StoreError::Conflict.into())
    }

    async fn decide_report(
        &self,
        request: &LossReport,
        caller: &Caller,
    ) -> Result<(Write, ReportAnswer), ReportError> {
        let stored = self.store.find(&request.key.lookup).await?;
        let is_match = matches(stored.as_ref(), &request.key, Some(&request.name));
        let Some(mut stored) = stored.filter(|_| is_match) else {
            return Ok((Write::default(), ReportAnswer::NothingMatched));
        };
        let (now_us, function) = (self.clock.now_us(), request.function);
        let standing = standing_of(&stored.card, function).settled(now_us);
        let shown = standing.shown(stored.card.expires_on, civil_date(now_us));
        let until_us = self.terms.end(function, now_us);
        let report = match shown {
            CardState::Expired => state::Report::Refused,
            _ => standing.report(request.kind, until_us),
        };
        match report {
            state::Report::Refused => Err(ReportError::CallerTransition { function, shown }),
            state::Report::Stands(now_reported) => {
                let history = self.store.history(&stored.card.number).await?;
                let made_so = history
                    .iter()
                    .rev()
                    .find(|change| change.part == function.into());
                let answer = ReportAnswer::Applied {
                    state: standing.state(),
                    until_us: standing.until_us(),
                    seq: Some(made_so.map_or(0, |change| change.seq)),
                };
                let mut write = Write::default();
                if now_reported != standing {
                    *standing_mut(&mut stored.card, function) = now_reported;
                    write.updates.push(stored);
                }
                Ok((write, answer))
            }
            state::Report::Changes(changed) => {
                let mut changes = self.settle(&mut stored, function, now_us);
                changes.push(NewChange {
                    number: stored.card.number.clone(),
                    part: function.into(),
                    from: Some(standing.state()),
                    to: changed.state(),
                    actor: Actor {
                        city: request.reported_in,
                        call: Some((caller.client.clone(), caller.exchange)),
                    },
                    cause: Cause::LossReported,
                    changed_at_us: now_us,
                });
                *standing_mut(&mut stored.card, function) = changed;
                let answer = ReportAnswer::Applied {
                    state: changed.state(),
                    until_us: changed.until_us(),
                    seq: None,
                };
                Ok((
                    Write {
                        updates: vec![stored],
                        changes,
                        ..Write::default()
                    },
                    answer,
                ))
            }
        }
    }

    /// Ends the temporary loss of a function whose end has come, and gives the change that tells so.
    pub(crate) fn settle(
        &self,
        stored: &mut StoredCard,
        function: Function,
        now_us: i64,
    ) -> Vec<NewChange> {
        let standing = standing_of(&stored.card, function);
        let settled = standing.settled(now_us);
        let Some(ended_at_us) = standing.until_us().filter(|_| settled != standing) else {
            return Vec::new();
        };
        *standing_mut(&mut stored.card, function) = settled;
        vec![NewChange {
            number: stored.card.number.clone(),
            part: function.into(),
            from: Some(State::TempLost),
            to: settled.state(),
            actor: self.own_actor(),
            cause: Cause::TemporaryLossEnded,
            changed_at_us: ended_at_us,
        }]
    }

    /// Ends the temporary losses whose end has come, and says how many cards it changed. Any replica may do it at any time.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn end_temporary_losses(&self) -> Result<usize, StoreError> {
        let now_us = self.clock.now_us();
        let mut ended = 0;
        for mut stored in self.store.ended_losses(now_us, ENDED_AT_ONCE).await? {
            let mut changes = self.settle(&mut stored, Function::Social, now_us);
            changes.extend(self.settle(&mut stored, Function::Financial, now_us));
            let write = Write {
                updates: vec![stored],
                changes,
                ..Write::default()
            };
            match self.store.write(&write).await {
                Ok(_) => ended += 1,
                // A report or another replica came first.
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(ended)
    }
}

/// The standing of a function.
pub(crate) const fn standing_of(card: &Card, function: Function) -> Standing {
    match function {
        Function::Financial => card.financial,
        Function::Social => card.social,
    }
}

/// The place of a function's standing.
pub(crate) const fn standing_mut(card: &mut Card, function: Function) -> &mut Standing {
    match function {
        Function::Financial => &mut card.financial,
        Function::Social => &mut card.social,
    }
}

fn response(answer: ReportAnswer, repeated: bool) -> ReportLossResponse {
    match answer {
        ReportAnswer::Applied {
            state,
            until_us,
            seq,
        } => ReportLossResponse {
            applied: true,
            state: state.shown().into(),
            until: until_us.map(timestamp),
            cursor: seq.unwrap_or_default().to_string(),
            repeated,
        },
        ReportAnswer::NothingMatched => ReportLossResponse {
            repeated,
            ..ReportLossResponse::default()
        },
    }
}

/// SHA-256 over everything that the request asks for.
fn digest_of(request: &LossReport) -> [u8; 32] {
    let [number, holder, chip] = key_parts(&request.key);
    digest_parts(
        &[
            number,
            holder,
            chip,
            request.name.as_str(),
            request.kind.as_str_name(),
            request.function.shown().as_str_name(),
            request.reported_in.as_str(),
        ]
        .map(str::as_bytes),
    )
}
