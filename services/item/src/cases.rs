//! What a city's item service does, apart from the wire: it starts cases, takes them on, reads and searches them, and lets their
//! clocks run.

use std::{collections::HashMap, ops::Range, sync::Arc};

use banqiao_directory::{CityCode, Clock};
use banqiao_kit::{
    CallError, Rule, RuleTable, Violation, calendar::WorkCalendar, civil_date,
    identifier::DivisionCode,
};
use banqiao_proto::item::v1::{CaseAction, SearchCasesResponse, Standing};
use jiff::civil::Date;
use tokio::sync::Mutex;

use crate::{
    calendars::Calendars,
    case::{
        Act, ActError, Actor, CASE_UNKNOWN, Case, CaseFilter, CaseNumber, Event,
        LOCAL_NUMBER_REUSED, NewEvent, REQUEST_ID_REUSED, Serial, StartCase, begin, by_itself,
        settle, step, timestamp,
    },
    catalogue::Catalogue,
    store::{FirstAnswer, NewCaseWrite, Pending, Store, StoreError, StoredStanding},
};

const ANSWERED_ONCE: Rule = Rule::design(
    "ANSWERED_ONCE",
    "a request that is sent again with its request id is answered as at first, and changes nothing",
    "item service",
);
const DEEMED_ACCEPTED: Rule = Rule::quoted(
    "DEEMED_ACCEPTED",
    "a case whose applicant is not told within 5 working days what is missing counts as accepted from its receipt on",
    "行政许可法 art. 32",
);

pub(crate) fn rules() -> RuleTable {
    RuleTable::new("Cases")
        .answer(&ANSWERED_ONCE, &["StartCase", "ActOnCase"])
        .answer(&DEEMED_ACCEPTED, &["ActOnCase", "ReadCase"])
}

/// How often a decision is made again after another change came first. Each time, somebody else got on.
const ATTEMPTS: usize = 16;
/// Cases that one pass of the clock takes at once.
const PASS: i64 = 256;
/// Serials that are taken at once, so that starting a case costs one transaction.
const SERIALS: i64 = 32;

/// Why a case is not started, taken on or read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CaseError {
    /// The step is not taken.
    #[error(transparent)]
    Act(#[from] ActError),
    /// The local number stands for another case.
    #[error("the local number stands for another case")]
    CallerReusedLocalNumber,
    /// The request id stands for another request of this client.
    #[error("the request id was used for another request")]
    CallerReusedId,
    /// There is no such case in which the client's city takes part.
    #[error("no such case")]
    CallerUnknown,
    /// No serial is left for today.
    #[error("every number of a division and day is given")]
    InternalSerials,
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<CaseError> for CallError {
    fn from(error: CaseError) -> Self {
        let field = |field: &'static str, rule| {
            let field = field.into();
            Self::CallerInvalid(vec![Violation { field, rule }])
        };
        match error {
            CaseError::Act(error) => error.into(),
            CaseError::CallerReusedLocalNumber => field("local_number", &LOCAL_NUMBER_REUSED),
            CaseError::CallerReusedId => field("request_id", &REQUEST_ID_REUSED),
            CaseError::CallerUnknown => CASE_UNKNOWN.because("there is no such case here"),
            CaseError::InternalSerials => Self::Internal(error.into()),
            CaseError::Store(error) => error.into(),
        }
    }
}

/// An answer to a request that changes a case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answered {
    /// Where the case stood after the step.
    pub standing: StoredStanding,
    /// Whether it was answered before.
    pub repeated: bool,
}

impl Answered {
    /// The standing in an answer.
    pub fn shown(&self) -> Standing {
        let StoredStanding {
            number,
            state,
            version,
            seq,
            at_us,
        } = self.standing;
        Standing {
            number: number.to_string(),
            state: state.into(),
            version: u64::try_from(version).unwrap_or_default(),
            cursor: seq.to_string(),
            at: Some(timestamp(at_us)),
        }
    }
}

type Serials = HashMap<(DivisionCode, Date), Range<i64>>;

/// A city's cases. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Cases {
    store: Store,
    catalogue: Catalogue,
    calendars: Calendars,
    city: CityCode,
    clock: Clock,
    serials: Arc<Mutex<Serials>>,
}

impl Cases {
    /// The cases of `city` in an open store.
    pub fn new(
        store: Store,
        catalogue: Catalogue,
        calendars: Calendars,
        city: CityCode,
        clock: Clock,
    ) -> Self {
        Self {
            store,
            catalogue,
            calendars,
            city,
            clock,
            serials: Arc::default(),
        }
    }

    /// The store.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The catalogue.
    pub const fn catalogue(&self) -> &Catalogue {
        &self.catalogue
    }

    /// The calendars.
    pub const fn calendars(&self) -> &Calendars {
        &self.calendars
    }

    /// The deciding city.
    pub const fn city(&self) -> CityCode {
        self.city
    }

    /// The clock by which limits run.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// Today in the cities.
    pub fn today(&self) -> Date {
        civil_date(self.clock.now_us())
    }

    /// Starts a case, or gives the first answer again.
    ///
    /// # Errors
    /// See [`CaseError`]. What ends in an error of the store may have been done: repeat it with its request id.
    pub async fn start(
        &self,
        start: &StartCase,
        digest: [u8; 32],
        actor: &Actor,
    ) -> Result<Answered, CaseError> {
        let mut number = None;
        for _ in 0..ATTEMPTS {
            if let Some(answered) = self.answered(actor, start.request_id, digest).await? {
                return Ok(answered);
            }
            if let Some(answered) = self.known_by_local_number(start).await? {
                return Ok(answered);
            }
            let now_us = self.clock.now_us();
            let number = match number {
                Some(number) => number,
                None => *number.insert(self.next_number(start.division, now_us).await?),
            };
            let Some(item) = self.catalogue.item(&start.item, civil_date(now_us)) else {
                return Err(CaseError::CallerUnknown);
            };
            let calendar = self.calendars.current();
            let (case, mut event) = begin(
                item,
                start.clone(),
                number,
                actor.clone(),
                &calendar,
                now_us,
            )?;
            event.request = Some((start.request_id, digest));
            match self.write(case, None, vec![event]).await {
                Err(CaseError::Store(StoreError::Conflict)) => {}
                written => return written,
            }
        }
        Err(StoreError::Conflict.into())
    }

    async fn known_by_local_number(
        &self,
        start: &StartCase,
    ) -> Result<Option<Answered>, CaseError> {
        if start.local_number.is_empty() {
            return Ok(None);
        }
        let (city, local) = (start.receiving_city, &start.local_number);
        let Some(case) = self.store.case_of_local_number(city, local).await? else {
            return Ok(None);
        };
        if (&case.item, &case.applicant) != (&start.item, &start.applicant) {
            return Err(CaseError::CallerReusedLocalNumber);
        }
        let history = self.store.history(case.number).await?;
        let first = history.first().ok_or(StoreError::Corrupt("history"))?;
        Ok(Some(Answered {
            standing: standing(first),
            repeated: true,
        }))
    }

    /// Takes a case one step on, or gives the first answer again.
    ///
    /// # Errors
    /// See [`CaseError`]. What ends in an error of the store may have been done: repeat it with its request id.
    pub async fn act(
        &self,
        act: &Act,
        digest: [u8; 32],
        actor: &Actor,
    ) -> Result<Answered, CaseError> {
        for _ in 0..ATTEMPTS {
            if let Some(answered) = self.answered(actor, act.request_id, digest).await? {
                return Ok(answered);
            }
            let mut case = self.visible(act.number, actor.city).await?;
            let (base, now_us) = (case.version, self.clock.now_us());
            let calendar = self.calendars.current();
            let mut events = settle(&mut case, &calendar, now_us);
            let mut event = match step(&mut case, act, actor.clone(), &calendar, now_us) {
                Ok(event) => event,
                // What stands in the way may be this very step, taken between the two readings.
                Err(error) => {
                    let first = self.answered(actor, act.request_id, digest).await?;
                    return first.ok_or_else(|| error.into());
                }
            };
            event.request = Some((act.request_id, digest));
            events.push(event);
            match self.write(case, Some(base), events).await {
                Err(CaseError::Store(StoreError::Conflict)) => {}
                written => return written,
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// Notes that a delivered case was rated; one that was rated before stays as it is.
    ///
    /// # Errors
    /// See [`CaseError`].
    pub async fn note_evaluation(&self, number: CaseNumber) -> Result<(), CaseError> {
        self.by_itself(number, |case, calendar, now_us| {
            by_itself(case, CaseAction::Evaluate, calendar, now_us)
        })
        .await
        .map(|_| ())
    }

    /// Changes a case without a client. Says whether `change` made an entry; where it makes none it
    /// must leave the case as it is.
    pub(crate) async fn by_itself(
        &self,
        number: CaseNumber,
        change: impl Fn(&mut Case, &WorkCalendar, i64) -> Option<NewEvent>,
    ) -> Result<bool, CaseError> {
        for _ in 0..ATTEMPTS {
            let case = self.store.case(number).await?;
            let mut case = case.ok_or(CaseError::CallerUnknown)?;
            let (base, now_us) = (case.version, self.clock.now_us());
            let calendar = self.calendars.current();
            let mut events = settle(&mut case, &calendar, now_us);
            let entry = change(&mut case, &calendar, now_us);
            let changed = entry.is_some();
            events.extend(entry);
            if events.is_empty() {
                return Ok(false);
            }
            match self.write(case, Some(base), events).await {
                Err(CaseError::Store(StoreError::Conflict)) => {}
                written => return written.map(|_| changed),
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// A case in which a city takes part.
    ///
    /// # Errors
    /// See [`CaseError`].
    pub async fn visible(&self, number: CaseNumber, city: CityCode) -> Result<Case, CaseError> {
        let case = self.store.case(number).await?;
        let takes_part = |case: &Case| {
            let parent = case.parent.as_ref().and_then(|parent| parent.number.city());
            city == self.city || city == case.receiving_city || parent == Some(city)
        };
        case.filter(takes_part).ok_or(CaseError::CallerUnknown)
    }

    /// A case with its history.
    ///
    /// # Errors
    /// See [`CaseError`].
    pub async fn read(
        &self,
        number: CaseNumber,
        city: CityCode,
    ) -> Result<(Case, Vec<Event>), CaseError> {
        let case = self.visible(number, city).await?;
        let mut history = self.store.history(number).await?;
        // A step that came between belongs to the next answer.
        history.retain(|event| event.version <= case.version);
        Ok((case, history))
    }

    /// A page of the cases in which a city takes part.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn search(
        &self,
        mut filter: CaseFilter,
        city: CityCode,
    ) -> Result<SearchCasesResponse, StoreError> {
        filter.city = (city != self.city).then_some(city);
        let cases = self.store.search(&filter).await?;
        let full = u32::try_from(cases.len()).is_ok_and(|count| count == filter.page_size);
        let last = cases.last().filter(|_| full);
        Ok(SearchCasesResponse {
            next_page_token: last.map_or_else(String::new, |case| {
                CaseFilter::token(case.due_us().unwrap_or_default(), case.number)
            }),
            cases: cases.iter().map(Case::summary).collect(),
        })
    }

    /// Does what the clocks of cases did up to now, and gives how many cases it changed. Any replica may do it at any time.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn run_clocks(&self) -> Result<usize, StoreError> {
        let calendar = self.calendars.current();
        let mut changed = 0;
        loop {
            let due = self
                .store
                .pending(Pending::Due(self.clock.now_us()), PASS)
                .await?;
            let settled = self.settle_all(&due, &calendar).await?;
            changed += settled;
            if settled == 0 || due.len() < usize::try_from(PASS).unwrap_or_default() {
                break;
            }
        }
        let years = calendar.loaded_years().last().unwrap_or_default();
        let missing = self.store.pending(Pending::Missing(years), PASS).await?;
        Ok(changed + self.settle_all(&missing, &calendar).await?)
    }

    async fn settle_all(
        &self,
        cases: &[Case],
        calendar: &WorkCalendar,
    ) -> Result<usize, StoreError> {
        let now_us = self.clock.now_us();
        let settled = cases.iter().map(|case| async {
            let (mut case, base) = (case.clone(), case.version);
            let events = settle(&mut case, calendar, now_us);
            if events.is_empty() {
                return Ok(0);
            }
            let base = Some(base);
            match self.store.write(NewCaseWrite { case, base, events }).await {
                Ok(_) => Ok(1),
                // A step or another replica came first.
                Err(StoreError::Conflict) => Ok(0),
                Err(error) => Err(error),
            }
        });
        // All of them wait at once, so that they go in one transaction.
        let settled = futures_util::future::try_join_all(settled).await?;
        Ok(settled.into_iter().sum())
    }

    async fn answered(
        &self,
        actor: &Actor,
        request_id: uuid::Uuid,
        digest: [u8; 32],
    ) -> Result<Option<Answered>, CaseError> {
        let Some(client) = &actor.client else {
            return Ok(None);
        };
        match self.store.first_answer(&client.id, request_id).await? {
            None => Ok(None),
            // Not secret: the client chose both requests.
            Some(FirstAnswer {
                digest: first,
                standing,
            }) if first == digest => Ok(Some(Answered {
                standing,
                repeated: true,
            })),
            Some(_) => Err(CaseError::CallerReusedId),
        }
    }

    async fn write(
        &self,
        case: Case,
        base: Option<i64>,
        events: Vec<NewEvent>,
    ) -> Result<Answered, CaseError> {
        let (number, state, version) = (case.number, case.state, case.version);
        let at_us = events.last().map_or(0, |event| event.at_us);
        let seq = self
            .store
            .write(NewCaseWrite { case, base, events })
            .await?;
        let standing = StoredStanding {
            number,
            state,
            version,
            seq,
            at_us,
        };
        Ok(Answered {
            standing,
            repeated: false,
        })
    }

    async fn next_number(
        &self,
        division: DivisionCode,
        now_us: i64,
    ) -> Result<CaseNumber, CaseError> {
        let day = civil_date(now_us);
        // Held while serials are taken: whoever starts at the same time shares them.
        let mut serials = self.serials.lock().await;
        let left = serials.get_mut(&(division, day)).and_then(Iterator::next);
        let serial = match left {
            Some(serial) => serial,
            None => {
                let first = self.store.take_serials(division, day, SERIALS).await?;
                // Those of days before are gaps.
                serials.retain(|(_, of), _| *of == day);
                serials.insert((division, day), first + 1..first + SERIALS);
                first
            }
        };
        let serial = Serial::new(serial).ok_or(CaseError::InternalSerials)?;
        Ok(CaseNumber::new(division, day, serial))
    }
}

const fn standing(event: &Event) -> StoredStanding {
    StoredStanding {
        number: event.number,
        state: event.to,
        version: event.version,
        seq: event.seq,
        at_us: event.at_us,
    }
}
