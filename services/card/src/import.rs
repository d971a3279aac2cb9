//! Taking over cards in bulk: each line is judged alone, batches go through in one transaction each.

use std::collections::{HashMap, HashSet};

use banqiao_kit::{Rule, RuleTable, Violation, civil_date};
use banqiao_proto::card::v1::{ImportCardsRequest, ImportOutcome, ImportResult};

use crate::{
    card::{Card, CardNumber, ChipCode, ImportTerms, ImportedCard},
    cards::Cards,
    loss::{standing_mut, standing_of},
    request::Function,
    state::{Standing, State, reachable},
    store::{Actor, Cause, Life, NewChange, Part, StoreError, StoredCard, Write},
};

/// Lines in one transaction: large enough that the commit's fsync hardly counts, small enough that other writers wait for milliseconds.
pub const IMPORT_BATCH: usize = 500;

/// How often a batch is decided again after another change came first.
const ATTEMPTS: usize = 8;

const HOLDER_CHANGED: Rule = Rule::design(
    "HOLDER_CHANGED",
    "a card number stays with its holder: the number is recorded for another person",
    "card service",
);
const CHIP_TAKEN: Rule = Rule::design(
    "CHIP_TAKEN",
    "this card identification code is recorded for another card",
    "card service",
);
const TRANSITION: Rule = Rule::design(
    "TRANSITION",
    "no sequence of events leads from the recorded state to this one",
    "card service, table of transitions",
);
const LOSS_STANDS: Rule = Rule::design(
    "LOSS_STANDS",
    "a loss that was reported through the network is not lifted by an import, whose data may be older than the report",
    "card service",
);

pub(crate) fn rules() -> RuleTable {
    const IMPORT: &[&str] = &["ImportCards", "banqiao-card import"];
    RuleTable::new("Imports").fields(
        [&HOLDER_CHANGED, &CHIP_TAKEN, &TRANSITION, &LOSS_STANDS],
        IMPORT,
    )
}

/// Counts of an import, and one result for each line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportCounts {
    /// New cards.
    pub created: u64,
    /// Changed cards.
    pub updated: u64,
    /// Cards that stood already exactly so.
    pub unchanged: u64,
    /// Refused lines.
    pub refused: u64,
}

impl ImportCounts {
    /// Counts one result.
    pub fn add(&mut self, result: &ImportResult) {
        match result.outcome() {
            ImportOutcome::Created => self.created += 1,
            ImportOutcome::Updated => self.updated += 1,
            ImportOutcome::Unchanged => self.unchanged += 1,
            ImportOutcome::Refused | ImportOutcome::Unspecified => self.refused += 1,
        }
    }
}

/// What becomes of a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineOutcome {
    /// A new card.
    Created,
    /// The fields that break rules.
    Refused(Vec<Violation>),
    /// Nothing to change.
    Unchanged,
    /// A changed card.
    Updated,
}

impl LineOutcome {
    /// The result as the sender of the line gets it. Of several faults the first names the field; its rule is followed by the others.
    pub fn result(&self, line: u64) -> ImportResult {
        let outcome = match self {
            Self::Created => ImportOutcome::Created,
            Self::Refused(_) => ImportOutcome::Refused,
            Self::Unchanged => ImportOutcome::Unchanged,
            Self::Updated => ImportOutcome::Updated,
        };
        let (mut field, mut rule) = (String::new(), String::new());
        if let Self::Refused(faults) = self {
            for fault in faults {
                if field.is_empty() {
                    field = fault.field.clone().into_owned();
                    rule = fault.rule.to_string();
                } else {
                    rule.push_str("; ");
                    rule.push_str(&fault.to_string());
                }
            }
        }
        ImportResult {
            line,
            outcome: outcome.into(),
            field,
            rule,
        }
    }
}

impl Cards {
    /// Takes over lines, at best [`IMPORT_BATCH`] at a time, and gives the outcome of each, in order. A line that is sent again is unchanged.
    ///
    /// # Errors
    /// See [`StoreError`]. What went through before the error stays: send the lines again.
    pub async fn import(
        &self,
        lines: &[ImportCardsRequest],
        actor: &Actor,
    ) -> Result<Vec<LineOutcome>, StoreError> {
        let mut outcomes = Vec::with_capacity(lines.len());
        let mut rest = lines;
        while !rest.is_empty() {
            let (run, after) = rest.split_at(distinct(rest));
            outcomes.extend(self.import_apart(run, actor).await?);
            rest = after;
        }
        Ok(outcomes)
    }

    /// Lines that name each card and chip at most once, so that no line depends on another.
    pub(crate) async fn import_run(
        &self,
        lines: &[ImportCardsRequest],
        actor: &Actor,
    ) -> Result<Vec<LineOutcome>, StoreError> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let (write, outcomes) = self.decide_lines(lines, actor).await?;
            if write.inserts.is_empty() && write.updates.is_empty() {
                return Ok(outcomes);
            }
            match self.store.write(&write).await {
                Ok(_) => return Ok(outcomes),
                Err(StoreError::Conflict) if attempt < ATTEMPTS => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn decide_lines(
        &self,
        lines: &[ImportCardsRequest],
        actor: &Actor,
    ) -> Result<(Write, Vec<LineOutcome>), StoreError> {
        let now_us = self.clock.now_us();
        let terms = ImportTerms {
            city: self.city,
            today: civil_date(now_us),
            social_until_us: self.terms.end(Function::Social, now_us),
            financial_until_us: self.terms.end(Function::Financial, now_us),
        };
        let parsed: Vec<_> = lines
            .iter()
            .map(|line| ImportedCard::parse(line.card.as_ref(), &terms))
            .collect();
        let sound = || parsed.iter().flatten().map(|imported| &imported.card);
        let numbers: Vec<_> = sound().map(|card| &card.number).collect();
        let chips: Vec<_> = sound().map(|card| &card.chip).collect();
        let known = if numbers.is_empty() {
            Vec::new()
        } else {
            self.store.find_all(&numbers, &chips).await?
        };
        let known = Known::new(known);
        let mut write = Write::default();
        let mut outcomes = Vec::with_capacity(lines.len());
        for line in parsed {
            outcomes.push(match line {
                Err(faults) => LineOutcome::Refused(faults),
                Ok(imported) => self.decide_line(imported, &known, actor, now_us, &mut write)?,
            });
        }
        Ok((write, outcomes))
    }

    fn decide_line(
        &self,
        imported: ImportedCard,
        known: &Known,
        actor: &Actor,
        now_us: i64,
        write: &mut Write,
    ) -> Result<LineOutcome, StoreError> {
        let recorded = known.card(&imported.card);
        let mut faults = Vec::new();
        let mut refuse = |field: &'static str, rule| {
            faults.push(Violation {
                field: field.into(),
                rule,
            })
        };
        if recorded.is_some_and(|recorded| recorded.card.holder != imported.card.holder) {
            refuse("social_security_number", &HOLDER_CHANGED);
        }
        if known.chip_is_of_another(&imported.card) {
            refuse("card_identification_code", &CHIP_TAKEN);
        }
        let Some(recorded) = recorded.cloned() else {
            if !faults.is_empty() {
                return Ok(LineOutcome::Refused(faults));
            }
            let salt = salt()?;
            for function in [Function::Social, Function::Financial] {
                let to = standing_of(&imported.card, function).state();
                let number = imported.card.number.clone();
                let part = function.into();
                write
                    .changes
                    .push(imported_change(number, part, (None, to), actor, now_us));
            }
            write.inserts.push(StoredCard {
                card: imported.card,
                salt,
                version: 1,
                life: Life::default(),
            });
            return Ok(LineOutcome::Created);
        };
        let mut settled = recorded.clone();
        let mut changes = self.settle(&mut settled, Function::Social, now_us);
        changes.extend(self.settle(&mut settled, Function::Financial, now_us));
        let mut card = imported.card;
        // An electronic card that was issued through the network stays, and one that went over to the next card does not come back.
        let life = &settled.life;
        card.electronic = life.electronic_issued || (card.electronic && life.successor.is_none());
        for (function, to, field) in [
            (Function::Social, imported.social, "social_state"),
            (Function::Financial, imported.financial, "financial_state"),
        ] {
            let from = standing_of(&settled.card, function);
            let place = standing_mut(&mut card, function);
            match moved(from, to, place.until_us().unwrap_or_default()) {
                Ok(standing) => {
                    *place = standing;
                    if from.state() != to {
                        let number = card.number.clone();
                        let moved = (Some(from.state()), to);
                        let part = function.into();
                        changes.push(imported_change(number, part, moved, actor, now_us));
                    }
                }
                Err(rule) => refuse(field, rule),
            }
        }
        if !faults.is_empty() {
            return Ok(LineOutcome::Refused(faults));
        }
        if card == recorded.card {
            return Ok(LineOutcome::Unchanged);
        }
        changes.extend(electronic_change(
            &card,
            recorded.card.electronic,
            actor,
            now_us,
        ));
        write.changes.extend(changes);
        write.updates.push(StoredCard { card, ..recorded });
        Ok(LineOutcome::Updated)
    }
}

/// The standing of a recorded function after an import that says it is in state `to`.
fn moved(from: Standing, to: State, until_us: i64) -> Result<Standing, &'static Rule> {
    if from.state() == to {
        return Ok(from);
    }
    if !reachable(from.state(), to) {
        return Err(&TRANSITION);
    }
    // A reported temporary loss may become formal, and a card may be cancelled whatever was reported.
    let lifts = match from {
        Standing::TempLost { reported, .. } => {
            reported && !matches!(to, State::Lost | State::Cancelled)
        }
        Standing::Lost { reported } => reported && to != State::Cancelled,
        _ => false,
    };
    if lifts {
        return Err(&LOSS_STANDS);
    }
    let reported = from.is_reported() && to == State::Lost;
    Ok(Standing::begin(to, until_us, reported))
}

/// The change of an electronic card that the issuer's record links or takes away.
fn electronic_change(card: &Card, was: bool, actor: &Actor, now_us: i64) -> Option<NewChange> {
    let moved = match (was, card.electronic) {
        (false, true) => (None, State::Normal),
        (true, false) => (Some(State::Normal), State::Cancelled),
        _ => return None,
    };
    let number = card.number.clone();
    Some(imported_change(
        number,
        Part::Electronic,
        moved,
        actor,
        now_us,
    ))
}

fn imported_change(
    number: CardNumber,
    part: Part,
    (from, to): (Option<State>, State),
    actor: &Actor,
    now_us: i64,
) -> NewChange {
    let cause = Cause::Imported;
    NewChange {
        number,
        part,
        from,
        to,
        actor: actor.clone(),
        cause,
        changed_at_us: now_us,
    }
}

pub(crate) fn salt() -> Result<[u8; 32], StoreError> {
    let mut salt = [0; 32];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| StoreError::NoRandomBytes)?;
    Ok(salt)
}

/// How many lines from the front name each card and each chip at most once: at least one.
fn distinct(lines: &[ImportCardsRequest]) -> usize {
    let (mut numbers, mut chips) = (HashSet::new(), HashSet::new());
    let repeated = lines.iter().position(|line| {
        line.card.as_ref().is_some_and(|card| {
            let chip = card.card_identification_code.to_ascii_uppercase();
            !numbers.insert(card.card_number.as_str()) | !chips.insert(chip)
        })
    });
    repeated.unwrap_or(lines.len()).max(1)
}

/// The recorded cards that a run of lines touches.
struct Known {
    by_number: HashMap<CardNumber, StoredCard>,
    owners: HashMap<ChipCode, CardNumber>,
}

impl Known {
    fn new(cards: Vec<StoredCard>) -> Self {
        let owner = |stored: &StoredCard| (stored.card.chip.clone(), stored.card.number.clone());
        Self {
            owners: cards.iter().map(owner).collect(),
            by_number: cards
                .into_iter()
                .map(|stored| (stored.card.number.clone(), stored))
                .collect(),
        }
    }

    fn card(&self, card: &Card) -> Option<&StoredCard> {
        self.by_number.get(&card.number)
    }

    fn chip_is_of_another(&self, card: &Card) -> bool {
        self.owners
            .get(&card.chip)
            .is_some_and(|owner| *owner != card.number)
    }
}
