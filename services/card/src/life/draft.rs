//! A card as an application changes it, before it is written.

use banqiao_kit::{CallError, Caller, civil_date};
use banqiao_proto::card::v1::{CancellationReason, CardState, NewCard, Outcome, ReplacementReason};
use jiff::{ToSpan, civil::Date};

use super::{
    Applied, ELECTRONIC_LINKED, NO_BLANK_CARD, RENEW_TOO_EARLY, RENEWAL_DAYS, REPORT_LOSS_FIRST,
    SUCCESSOR_ISSUED, WRONG_PINS,
};
use crate::{
    application::Application,
    card::{Card, CardNumber},
    cards::Cards,
    import::salt,
    loss::{TRANSITION_NOT_ALLOWED, standing_mut, standing_of},
    request::{Function, Lookup},
    state::{Event, Standing, State, electronic_state, next},
    store::{Actor, Cause, Life, NewChange, Part, StoreError, StoredCard, Write},
};

const FUNCTIONS: [Function; 2] = [Function::Social, Function::Financial];

/// What is to be written, so far.
pub(super) struct Draft<'a> {
    cards: &'a Cards,
    actor: Actor,
    /// For choosing from the stock: callers at once choose apart.
    seed: u128,
    now_us: i64,
    today: Date,
    original: StoredCard,
    card: StoredCard,
    write: Write,
    new_card: Option<NewCard>,
}

impl<'a> Draft<'a> {
    /// Begins with a card whose temporary losses are settled.
    pub(super) fn begin(
        cards: &'a Cards,
        original: StoredCard,
        application: &Application,
        caller: &Caller,
    ) -> Self {
        let now_us = cards.clock.now_us();
        let mut card = original.clone();
        let mut write = Write::default();
        for function in FUNCTIONS {
            write
                .changes
                .extend(cards.settle(&mut card, function, now_us));
        }
        Self {
            cards,
            actor: Actor {
                city: application.applied_in,
                call: Some((caller.client.clone(), caller.exchange)),
            },
            seed: application.request_id.as_u128(),
            now_us,
            today: civil_date(now_us),
            original,
            card,
            write,
            new_card: None,
        }
    }

    pub(super) const fn number(&self) -> &CardNumber {
        &self.card.card.number
    }

    /// How the card stands now.
    pub(super) fn applied(&self) -> Applied {
        let social = self.shown(Function::Social);
        Applied {
            outcome: Some(Outcome {
                applied: true,
                social_state: social.into(),
                financial_state: self.shown(Function::Financial).into(),
                electronic_state: electronic_state(self.card.card.electronic, social).into(),
                cursor: String::new(),
                repeated: false,
            }),
            new_card: self.new_card.clone(),
            attempts_left: 0,
        }
    }

    /// Everything that is to be written.
    pub(super) fn finish(mut self) -> Write {
        if self.card != self.original {
            self.write.updates.push(self.card);
        }
        self.write
    }

    fn shown(&self, function: Function) -> CardState {
        standing_of(&self.card.card, function).shown(self.card.card.expires_on, self.today)
    }

    fn refuse(&self, function: Function) -> CallError {
        TRANSITION_NOT_ALLOWED.because(format!(
            "the {} is in {}: this cannot be done from there",
            function.shown().as_str_name(),
            self.shown(function).as_str_name()
        ))
    }

    /// Takes one transition of the table; an expired card takes none.
    pub(super) fn step(
        &mut self,
        function: Function,
        event: Event,
        cause: Cause,
    ) -> Result<(), CallError> {
        if self.shown(function) == CardState::Expired {
            return Err(self.refuse(function));
        }
        let from = standing_of(&self.card.card, function).state();
        let Some(to) = next(from, event) else {
            return Err(self.refuse(function));
        };
        *standing_mut(&mut self.card.card, function) = Standing::begin(to, 0, false);
        let number = self.number().clone();
        self.note(number, function.into(), Some(from), to, cause);
        Ok(())
    }

    pub(super) fn cancel(&mut self, reason: CancellationReason) -> Result<(), CallError> {
        let cause = match reason {
            CancellationReason::Death => Cause::CancelledAfterDeath,
            CancellationReason::SettledAbroad => Cause::CancelledSettledAbroad,
            CancellationReason::Holder | CancellationReason::Unspecified => {
                Cause::CancelledByHolder
            }
        };
        if FUNCTIONS
            .iter()
            .all(|function| self.shown(*function) == CardState::Cancelled)
        {
            return Err(self.refuse(Function::Social));
        }
        let mut card = self.card.clone();
        self.end(&mut card, cause);
        self.card = card;
        Ok(())
    }

    pub(super) fn issue_electronic(&mut self) -> Result<(), CallError> {
        if self.shown(Function::Social) != CardState::Normal {
            return Err(self.refuse(Function::Social));
        }
        if self.card.card.electronic {
            return Err(ELECTRONIC_LINKED.because("an electronic card is linked already"));
        }
        self.card.card.electronic = true;
        self.card.life.electronic_issued = true;
        let number = self.number().clone();
        let cause = Cause::ElectronicIssued;
        self.note(number, Part::Electronic, None, State::Normal, cause);
        Ok(())
    }

    /// Counts an attempt and says how many wrong ones are left.
    pub(super) fn count_pin(&mut self, correct: bool) -> Result<u32, CallError> {
        match self.shown(Function::Social) {
            CardState::Locked => return Ok(0),
            CardState::Normal => {}
            _ => return Err(self.refuse(Function::Social)),
        }
        let wrong = if correct {
            0
        } else {
            self.card.life.wrong_pins.saturating_add(1)
        };
        self.card.life.wrong_pins = wrong;
        if wrong >= WRONG_PINS {
            self.step(Function::Social, Event::LockPin, Cause::WrongPins)?;
            // Whatever unlocks the card, the count begins anew.
            self.card.life.wrong_pins = 0;
        }
        Ok(u32::from(WRONG_PINS.saturating_sub(wrong)))
    }

    /// Unlocks; of a card that is not locked it only begins the count anew.
    pub(super) fn reset_pin(&mut self) -> Result<(), CallError> {
        if self.shown(Function::Social) != CardState::Normal {
            self.step(Function::Social, Event::ResetPin, Cause::PinReset)?;
        }
        self.card.life.wrong_pins = 0;
        Ok(())
    }

    pub(super) async fn renew(&mut self) -> Result<(), CallError> {
        let state = self.card.card.social.state();
        if !matches!(state, State::Normal | State::Locked) {
            return Err(self.refuse(Function::Social));
        }
        let last = self.card.card.expires_on;
        let first = last.saturating_sub(RENEWAL_DAYS.days());
        if self.today < first {
            return Err(RENEW_TOO_EARLY.because(format!(
                "the card is valid until {last} and can be renewed from {first} on"
            )));
        }
        self.succeed(Cause::RenewalIssued, false).await
    }

    pub(super) async fn replace(&mut self, reason: ReplacementReason) -> Result<(), CallError> {
        let state = self.card.card.social.state();
        let cause = match (reason, state) {
            (_, State::Cancelled) => return Err(self.refuse(Function::Social)),
            (ReplacementReason::Lost, State::Lost) => Cause::ReplacedLost,
            (ReplacementReason::Lost, _) => {
                return Err(REPORT_LOSS_FIRST.because("the loss was not reported"));
            }
            (_, State::Normal | State::Locked) => Cause::ReplacedDamaged,
            _ => return Err(self.refuse(Function::Social)),
        };
        self.succeed(Cause::ReplacementIssued, true).await?;
        let mut card = self.card.clone();
        self.end(&mut card, cause);
        self.card = card;
        Ok(())
    }

    /// The activated card takes the place of the one before it.
    pub(super) async fn end_predecessor(&mut self) -> Result<(), CallError> {
        let Some(number) = self.card.life.predecessor.clone() else {
            return Ok(());
        };
        let old = self.cards.store.find(&Lookup::Number(number)).await?;
        let mut old = old.ok_or(StoreError::Corrupt("predecessor"))?;
        let ended = |function| standing_of(&old.card, function).state() == State::Cancelled;
        if FUNCTIONS.into_iter().all(ended) {
            return Ok(());
        }
        for function in FUNCTIONS {
            let settled = self.cards.settle(&mut old, function, self.now_us);
            self.write.changes.extend(settled);
        }
        self.end(&mut old, Cause::Renewed);
        let mut card = self.card.clone();
        self.move_electronic(&mut old, &mut card);
        self.card = card;
        self.write.updates.push(old);
        Ok(())
    }

    /// Gives the holder a new card from the stock.
    async fn succeed(&mut self, cause: Cause, takes_electronic: bool) -> Result<(), CallError> {
        if let Some(number) = self.card.life.successor.clone() {
            let successor = self.cards.store.find(&Lookup::Number(number)).await?;
            let successor = successor.ok_or(StoreError::Corrupt("successor"))?;
            if successor.card.social.state() != State::Cancelled {
                return Err(SUCCESSOR_ISSUED.because("a new card was issued for this one"));
            }
        }
        let Some(blank) = self.cards.store.blank(self.seed).await? else {
            return Err(NO_BLANK_CARD.because("the stock of new cards is empty"));
        };
        let years = i64::from(self.cards.new_card_years);
        let card = Card {
            number: blank.number.clone(),
            chip: blank.chip,
            specification: blank.specification,
            issued_on: self.today,
            // 2026-02-28 is followed by 2036-02-27: the day before the anniversary is the last.
            expires_on: self
                .today
                .saturating_add(years.years())
                .saturating_sub(1.day()),
            social: Standing::Sealed,
            financial: Standing::Sealed,
            electronic: false,
            ..self.card.card.clone()
        };
        let mut new = StoredCard {
            card,
            salt: salt()?,
            version: 1,
            life: Life {
                predecessor: Some(self.number().clone()),
                ..Life::default()
            },
        };
        for function in FUNCTIONS {
            let number = blank.number.clone();
            self.note(number, function.into(), None, State::Sealed, cause);
        }
        self.card.life.successor = Some(blank.number.clone());
        if takes_electronic {
            let mut old = self.card.clone();
            self.move_electronic(&mut old, &mut new);
            self.card = old;
        }
        self.new_card = Some(NewCard {
            card_number: blank.number.as_str().to_owned(),
            expires_on: new.card.expires_on.to_string(),
        });
        self.write.blank = Some(blank.number);
        self.write.inserts.push(new);
        Ok(())
    }

    /// Cancels what is not cancelled yet.
    fn end(&mut self, stored: &mut StoredCard, cause: Cause) {
        for function in FUNCTIONS {
            let from = standing_of(&stored.card, function).state();
            if let Some(to) = next(from, Event::Cancel) {
                *standing_mut(&mut stored.card, function) = Standing::begin(to, 0, false);
                self.note(
                    stored.card.number.clone(),
                    function.into(),
                    Some(from),
                    to,
                    cause,
                );
            }
        }
    }

    fn move_electronic(&mut self, old: &mut StoredCard, new: &mut StoredCard) {
        if !old.card.electronic {
            return;
        }
        (old.card.electronic, new.card.electronic) = (false, true);
        (old.life.electronic_issued, new.life.electronic_issued) = (false, true);
        let (part, cause) = (Part::Electronic, Cause::ElectronicMoved);
        let (linked, gone) = (State::Normal, State::Cancelled);
        self.note(old.card.number.clone(), part, Some(linked), gone, cause);
        self.note(new.card.number.clone(), part, None, linked, cause);
    }

    fn note(
        &mut self,
        number: CardNumber,
        part: Part,
        from: Option<State>,
        to: State,
        cause: Cause,
    ) {
        self.write.changes.push(NewChange {
            number,
            part,
            from,
            to,
            actor: self.actor.clone(),
            cause,
            changed_at_us: self.now_us,
        });
    }
}
