//! Decisions about one side of a transfer: pure functions from what stands and what is asked to what stands next.

use banqiao_directory::CityCode;
use banqiao_kit::{CallError, civil_date};
use banqiao_proto::card::v1::{
    ContactLetter, Decision, InformationTable, PensionScheme, Reason, TransferRecord,
    TransferSide as Side, TransferState as State,
};
use jiff::civil::Date;

use super::{
    act::{Act, Asked, Document, PensionError},
    amounts::check_sums,
    clock::difference,
    request::{Application, schemes},
    settings::PensionSettings,
    state::{self, Event, has_limit},
};

/// What decisions rest on beside the record.
pub(super) struct Ground<'a> {
    pub(super) city: CityCode,
    pub(super) now_us: i64,
    pub(super) settings: &'a PensionSettings,
}

/// What is decided.
#[derive(Debug)]
pub(super) struct Decided {
    /// The side afterwards.
    pub(super) record: TransferRecord,
    /// What happened; none where a document changes nothing.
    pub(super) event: Option<Event>,
    /// The document that follows, for the other city.
    pub(super) document: Option<Document>,
}

/// Why nothing is decided.
#[derive(Debug)]
pub(super) enum Undecided {
    /// The transfer does not allow it.
    Not(PensionError),
    /// The request contradicts itself.
    Inconsistent(CallError),
}

impl From<PensionError> for Undecided {
    fn from(error: PensionError) -> Self {
        Self::Not(error)
    }
}

/// Decides about a request. `stored` is the side as it stands, if there is one.
pub(super) fn decide(
    ground: &Ground<'_>,
    stored: Option<&TransferRecord>,
    asked: &Asked,
) -> Result<Decided, Undecided> {
    if let Act::Apply(application) = &asked.act {
        return Ok(apply(ground, stored, asked, application)?);
    }
    if let Act::Receive(from, Document::ContactLetter(letter)) = &asked.act {
        return Ok(receive_letter(ground, stored, asked, *from, letter)?);
    }
    let standing = stored.filter(|record| record.social_security_number == asked.holder.as_str());
    let mut side = Standing {
        record: standing.cloned().ok_or(PensionError::CallerUnknown)?,
        now_us: ground.now_us,
    };
    let (event, document) = match &asked.act {
        Act::Apply(_) => return Err(PensionError::CallerUnknown.into()),
        Act::IssueLetter => side.issue_letter(ground)?,
        Act::Refuse(reason) => (side.explained(Event::Refused, reason)?, None),
        Act::TransferOut(table) => side.transfer_out(table)?,
        Act::Decline(reason) => {
            let document = Document::DeclineNotice(written(reason));
            (side.explained(Event::Declined, reason)?, Some(document))
        }
        Act::ConfirmFunds(funds) => {
            if !side.funds_required() {
                return Err(PensionError::CallerNoFunds.into());
            }
            side.record.funds = Some(funds.clone());
            side.judge(Event::FundsReceived, Event::FundsComplete)?
        }
        Act::Complete => {
            let document = Document::CompletionNotice(Decision {});
            (side.step(Event::Completed)?, Some(document))
        }
        Act::Dispute(reason) => {
            let document = Document::CorrectionRequest(written(reason));
            (side.explained(Event::Disputed, reason)?, Some(document))
        }
        Act::Withdraw(reason) => side.withdraw(reason)?,
        Act::Receive(from, document) => {
            side.other_city_is(*from)?;
            return side.receive(document);
        }
    };
    Ok(Decided {
        record: side.record,
        event: Some(event),
        document,
    })
}

/// The other city's service took a document, at a time.
pub(super) fn delivered(
    record: &TransferRecord,
    now_us: i64,
    kind: &str,
    (received_at_us, state): (i64, State),
) -> Decided {
    let mut side = Standing {
        record: record.clone(),
        now_us,
    };
    let event = match kind {
        "contact-letter" => {
            let event = side.step(Event::LetterDelivered).ok();
            if has_limit(side.record.state()) && side.record.limit_from_us == 0 || event.is_some() {
                side.record.limit_from_us = received_at_us;
            }
            event
        }
        "withdrawal" if state == State::Withdrawn => side.step(Event::Withdrawn).ok(),
        "withdrawal" => side.step(Event::WithdrawalLate).ok(),
        _ => None,
    };
    Decided {
        record: side.record,
        event,
        document: None,
    }
}

/// The other city's service will never take a document.
pub(super) fn returned(record: &TransferRecord, now_us: i64, kind: &str, why: &str) -> Decided {
    let mut side = Standing {
        record: record.clone(),
        now_us,
    };
    let event = match kind {
        "contact-letter" => side.step(Event::LetterReturned).ok(),
        "information-table" => side.step(Event::TableReturned).ok(),
        "withdrawal" => side.step(Event::WithdrawalLate).ok(),
        _ => None,
    };
    if event.is_some() {
        // What a reason may have at most.
        side.record.reason = why.chars().take(500).collect();
    }
    Decided {
        record: side.record,
        event,
        document: None,
    }
}

/// How a document is called in the outbox and in histories.
pub(super) const fn kind_of(document: &Document) -> &'static str {
    match document {
        Document::CompletionNotice(_) => "completion-notice",
        Document::ContactLetter(_) => "contact-letter",
        Document::CorrectionRequest(_) => "correction-request",
        Document::DeclineNotice(_) => "decline-notice",
        Document::InformationTable(_) => "information-table",
        Document::Withdrawal(_) => "withdrawal",
    }
}

fn apply(
    ground: &Ground<'_>,
    stored: Option<&TransferRecord>,
    asked: &Asked,
    application: &Application,
) -> Result<Decided, PensionError> {
    let temporary = gets_temporary_account(ground, asked, application);
    let event = if temporary {
        Event::TemporaryAccount
    } else {
        Event::Applied
    };
    let mut record = TransferRecord {
        side: Side::NewCity.into(),
        social_security_number: asked.holder.as_str().to_owned(),
        from_city: application.from_city.to_string(),
        letter: Some(application.letter.clone()),
        ..TransferRecord::default()
    };
    if temporary {
        record.reason = super::rule::AGE.to_string();
    }
    begin(ground, stored, record, event)
}

fn receive_letter(
    ground: &Ground<'_>,
    stored: Option<&TransferRecord>,
    asked: &Asked,
    from: CityCode,
    letter: &ContactLetter,
) -> Result<Decided, PensionError> {
    if letter.to_city != from.as_str() {
        return Err(PensionError::CallerForeign(
            "a contact letter comes from the city to which the relation moves",
        ));
    }
    let pair = schemes(letter.from_scheme, letter.to_scheme);
    let agreed = pair.is_ok_and(|pair| {
        ground.settings.funds_required(ground.city, from, pair) == letter.funds_required
    });
    if !agreed {
        return Err(PensionError::CallerFundsRule {
            letter: letter.funds_required,
        });
    }
    let record = TransferRecord {
        side: Side::OldCity.into(),
        social_security_number: asked.holder.as_str().to_owned(),
        from_city: ground.city.to_string(),
        letter: Some(letter.clone()),
        ..TransferRecord::default()
    };
    begin(ground, stored, record, Event::LetterReceived)
}

/// The first event of a side.
fn begin(
    ground: &Ground<'_>,
    stored: Option<&TransferRecord>,
    mut record: TransferRecord,
    event: Event,
) -> Result<Decided, PensionError> {
    let state = stored.map(TransferRecord::state);
    let to = match state {
        None => state::next(record.side(), None, event),
        Some(_) => None,
    };
    let to = to.ok_or(PensionError::CallerTransition { state, event })?;
    record.state = to.into();
    record.changed_at_us = ground.now_us;
    record.limit_from_us = if has_limit(to) { ground.now_us } else { 0 };
    Ok(Decided {
        record,
        event: Some(event),
        document: None,
    })
}

/// 男满50, 女满40 首次异地参保.
fn gets_temporary_account(ground: &Ground<'_>, asked: &Asked, application: &Application) -> bool {
    let age = if asked.holder.is_male() {
        ground.settings.age_male
    } else {
        ground.settings.age_female
    };
    let to_employee = application.letter.to_scheme() == PensionScheme::Employee;
    let born = asked.holder.birth_date();
    let reached = born.is_some_and(|born| years(born, civil_date(ground.now_us)) >= i16::from(age));
    application.first_away_from_home && to_employee && reached
}

/// Full years of life on a day; a birthday counts from its day on (民法典 art. 1259: 以上 includes the number itself).
fn years(born: Date, today: Date) -> i16 {
    let birthday_passed = (today.month(), today.day()) >= (born.month(), born.day());
    today.year() - born.year() - i16::from(!birthday_passed)
}

fn written(reason: &str) -> Reason {
    Reason {
        text: reason.to_owned(),
    }
}

/// A side that stands, and is changed.
struct Standing {
    record: TransferRecord,
    now_us: i64,
}

impl Standing {
    /// Goes where the table leads.
    fn step(&mut self, event: Event) -> Result<Event, PensionError> {
        let record = &mut self.record;
        let from = record.state();
        let Some(to) = state::next(record.side(), Some(from), event) else {
            let state = Some(from);
            return Err(PensionError::CallerTransition { state, event });
        };
        record.state = to.into();
        record.changed_at_us = self.now_us;
        let begins = matches!(
            to,
            State::UnderReview | State::Completing | State::TransferringOut
        );
        if !has_limit(to) {
            record.limit_from_us = 0;
        } else if begins && from != to || record.limit_from_us == 0 && to != State::Withdrawing {
            record.limit_from_us = self.now_us;
        }
        Ok(event)
    }

    fn explained(&mut self, event: Event, reason: &str) -> Result<Event, PensionError> {
        let event = self.step(event)?;
        reason.clone_into(&mut self.record.reason);
        Ok(event)
    }

    fn funds_required(&self) -> bool {
        let letter = self.record.letter.as_ref();
        letter.is_some_and(|letter| letter.funds_required)
    }

    fn schemes(&self) -> (PensionScheme, PensionScheme) {
        let letter = self.record.letter.as_ref();
        letter.map_or_else(Default::default, |letter| {
            (letter.from_scheme(), letter.to_scheme())
        })
    }

    fn other_city_is(&self, from: CityCode) -> Result<(), PensionError> {
        let other = match self.record.side() {
            Side::OldCity => self.record.letter.as_ref().map(|letter| &letter.to_city),
            _ => Some(&self.record.from_city),
        };
        if other.is_some_and(|other| other == from.as_str()) {
            Ok(())
        } else {
            Err(PensionError::CallerForeign(
                "a document of a transfer comes from the other city of it",
            ))
        }
    }

    fn issue_letter(
        &mut self,
        ground: &Ground<'_>,
    ) -> Result<(Event, Option<Document>), PensionError> {
        let event = self.step(Event::LetterIssued)?;
        let pair = self.schemes();
        let from = self.record.from_city.parse();
        let letter = self.record.letter.get_or_insert_default();
        letter.funds_required =
            from.is_ok_and(|from| ground.settings.funds_required(from, ground.city, pair));
        Ok((event, Some(Document::ContactLetter(letter.clone()))))
    }

    fn transfer_out(
        &mut self,
        table: &InformationTable,
    ) -> Result<(Event, Option<Document>), Undecided> {
        let event = self.step(Event::TransferredOut)?;
        check_sums(table, self.schemes().0).map_err(Undecided::Inconsistent)?;
        let before = self.record.table.as_ref().map(|table| table.revision);
        let table = InformationTable {
            revision: before.map_or(0, |revision| revision + 1),
            ..table.clone()
        };
        self.record.table = Some(table.clone());
        Ok((event, Some(Document::InformationTable(table))))
    }

    fn withdraw(&mut self, reason: &str) -> Result<(Event, Option<Document>), PensionError> {
        if self.record.state() == State::UnderReview {
            return Ok((self.explained(Event::Withdrawn, reason)?, None));
        }
        let event = self.explained(Event::WithdrawalAsked, reason)?;
        Ok((event, Some(Document::Withdrawal(written(reason)))))
    }

    /// What table and funds together mean: `alone` while the other is missing, `complete` when nothing is.
    fn judge(
        &mut self,
        alone: Event,
        complete: Event,
    ) -> Result<(Event, Option<Document>), PensionError> {
        let missing = match alone {
            Event::FundsReceived => self.record.table.is_none(),
            _ => self.funds_required() && self.record.funds.is_none(),
        };
        let difference = difference(&self.record);
        if missing {
            Ok((self.step(alone)?, None))
        } else if difference == 0 {
            Ok((self.step(complete)?, None))
        } else {
            let reason = format!("到账金额与信息表相差 {difference} 分");
            let event = self.explained(Event::AmountsDiffer, &reason)?;
            Ok((event, Some(Document::CorrectionRequest(written(&reason)))))
        }
    }

    fn receive(mut self, document: &Document) -> Result<Decided, Undecided> {
        let mut answer = None;
        let event = match document {
            // It begins a side, and none may stand yet.
            Document::ContactLetter(_) => Some(self.step(Event::LetterReceived)?),
            Document::InformationTable(table) => {
                check_sums(table, self.schemes().0).map_err(Undecided::Inconsistent)?;
                self.record.table = Some(table.clone());
                let (event, document) = self.judge(Event::TableReceived, Event::TableComplete)?;
                answer = document;
                Some(event)
            }
            Document::DeclineNotice(reason) => {
                Some(self.explained(Event::DeclineReceived, &reason.text)?)
            }
            Document::CorrectionRequest(reason) => {
                Some(self.explained(Event::CorrectionReceived, &reason.text)?)
            }
            Document::CompletionNotice(_) => Some(self.step(Event::CompletionReceived)?),
            // Too late is an answer, and no fault: the new city reads it from the state.
            Document::Withdrawal(reason) if self.record.side() == Side::OldCity => {
                self.explained(Event::WithdrawalReceived, &reason.text).ok()
            }
            Document::Withdrawal(_) => Some(self.step(Event::WithdrawalReceived)?),
        };
        Ok(Decided {
            record: self.record,
            event,
            document: answer,
        })
    }
}
