//! What the service does about ratings, apart from the wire: it takes them, shows them without whoever gave them, and
//! lets rectifications run.

use aws_lc_rs::rand;
use banqiao_directory::CityCode;
use banqiao_kit::{CallError, Violation};
use banqiao_proto::item::v1::{
    ActOnRectificationResponse, ActorRole, ListRatingsResponse, RateCaseResponse, Rater,
    ReadRatingResponse, RectificationAction, RectificationState, SearchRectificationsResponse,
};

use crate::{
    case::{Actor, CASE_UNKNOWN, Case, REQUEST_ID_REUSED, timestamp},
    cases::{CaseError, Cases},
    rating::{
        ActOnRectification, CONTACT_UNKNOWN, NOT_RATED_YET, NewRectificationStep, RATED_ALREADY,
        RATING_UNKNOWN, RateCase, Rated, Rating, RatingFilter, RatingId, Rectification,
        RectificationError, RectificationFilter, RectificationStep, StoredRating, is_bad, mask,
        rated_by_case, rated_by_contact, settle_rectification,
    },
    store::{
        FirstRatingAnswer, NewRatingWrite, StoreError, TallyRow,
        tally::{EXCLUDED, RATINGS, RECTIFICATIONS},
    },
};

/// How often a decision is made again after another change came first.
const ATTEMPTS: usize = 16;
/// Rectifications and rated cases that one pass of the clock takes at once.
const PASS: i64 = 256;

/// Why a rating is not taken or shown, or a rectification does not go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RatingError {
    /// The contact, or the case as a whole, was rated.
    #[error("it was rated")]
    CallerRatedAlready,
    /// The case goes on.
    #[error("the case is not over")]
    CallerNotOver,
    /// It is no contact with a window or department.
    #[error("no such contact")]
    CallerNoContact,
    /// The request id stands for another request of this client.
    #[error("the request id was used for another request")]
    CallerReusedId,
    /// There is no such case of this applicant.
    #[error("no such case")]
    CallerUnknownCase,
    /// There is no such rating that the client may see.
    #[error("no such rating")]
    CallerUnknown,
    /// The rectification does not go on so.
    #[error(transparent)]
    Rectification(#[from] RectificationError),
    /// The system gives no random numbers.
    #[error("no random number")]
    InternalRandom,
    /// The case.
    #[error(transparent)]
    Case(#[from] CaseError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<RatingError> for CallError {
    fn from(error: RatingError) -> Self {
        match error {
            RatingError::CallerRatedAlready => RATED_ALREADY.because("it was rated"),
            RatingError::CallerNotOver => NOT_RATED_YET.because("the case is not over"),
            RatingError::CallerNoContact => CONTACT_UNKNOWN.because("this is no contact"),
            RatingError::CallerReusedId => Self::CallerInvalid(vec![Violation {
                field: "request_id".into(),
                rule: &REQUEST_ID_REUSED,
            }]),
            RatingError::CallerUnknownCase => CASE_UNKNOWN.because("there is no such case here"),
            RatingError::CallerUnknown => RATING_UNKNOWN.because("there is no such rating here"),
            RatingError::Rectification(error) => error.into(),
            error @ RatingError::InternalRandom => Self::Internal(error.into()),
            RatingError::Case(error) => error.into(),
            RatingError::Store(error) => error.into(),
        }
    }
}

/// The ratings of a city's cases. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ratings {
    cases: Cases,
}

impl Ratings {
    /// The ratings of cases.
    pub const fn new(cases: Cases) -> Self {
        Self { cases }
    }

    /// Takes a rating, or gives the first answer again.
    ///
    /// # Errors
    /// See [`RatingError`].
    pub async fn rate(
        &self,
        given: &RateCase,
        digest: [u8; 32],
        actor: &Actor,
    ) -> Result<RateCaseResponse, RatingError> {
        let store = self.cases.store();
        let Some(client) = &actor.client else {
            return Err(RatingError::CallerUnknownCase);
        };
        let first = store.first_rating(&client.id, given.request_id).await?;
        if let Some(first) = first {
            return answered(&first, digest).map(rated_before);
        }
        let case = self.case_of(given, actor.city).await?;
        let rated = self.rated(&case, given).await?;
        if store.is_rated(given.number, given.contact).await? {
            // By this very request perhaps, between the two readings.
            let first = store.first_rating(&client.id, given.request_id).await?;
            let first = first.ok_or(RatingError::CallerRatedAlready)?;
            return answered(&first, digest).map(rated_before);
        }
        let now_us = self.cases.clock().now_us();
        let mut bytes = [0; 16];
        rand::fill(&mut bytes).map_err(|_| RatingError::InternalRandom)?;
        let shown = case.applicant.shown();
        let known = [
            shown.name.as_str(),
            &shown.citizen_id,
            &shown.organisation_code,
            &shown.phone,
        ];
        let rating = Rating {
            id: RatingId::random(bytes),
            given: given.clone(),
            rated,
            masked: mask(&given.comment, &known),
            client: client.clone(),
            at_us: now_us,
        };
        let id = rating.id;
        let write = self.new_write(rating, digest, now_us);
        let bad = write.rectification.is_some();
        // Boxed: it holds a transaction.
        match Box::pin(store.rate(&write)).await {
            Ok(()) => {}
            // Whoever came first had the same request id, or rated the same contact.
            Err(StoreError::Conflict) => {
                let first = store.first_rating(&client.id, given.request_id).await?;
                let first = first.ok_or(RatingError::CallerRatedAlready)?;
                return answered(&first, digest).map(rated_before);
            }
            Err(error) => return Err(error.into()),
        }
        if write.evaluates {
            Box::pin(self.note_evaluation(given.number)).await?;
        }
        Ok(RateCaseResponse {
            id: id.to_string(),
            rectification: opened(bad).into(),
            repeated: false,
        })
    }

    /// The case, where the city takes part in it and it is the applicant's.
    async fn case_of(&self, given: &RateCase, city: CityCode) -> Result<Case, RatingError> {
        let may = matches!(given.role, ActorRole::Applicant | ActorRole::Window);
        let case = self.cases.visible(given.number, city).await?;
        if may && case.applicant.id == given.applicant {
            Ok(case)
        } else {
            Err(RatingError::CallerUnknownCase)
        }
    }

    async fn rated(&self, case: &Case, given: &RateCase) -> Result<Rated, RatingError> {
        if given.contact == 0 {
            return rated_by_case(case).ok_or(RatingError::CallerNotOver);
        }
        let history = self.cases.store().history(case.number).await?;
        let contact = history
            .iter()
            .find(|event| event.version == given.contact && event.role != ActorRole::Service);
        let rated = contact.and_then(|event| rated_by_contact(case, event));
        rated.ok_or(RatingError::CallerNoContact)
    }

    fn new_write(&self, rating: Rating, digest: [u8; 32], now_us: i64) -> NewRatingWrite {
        let calendar = self.cases.calendars().current();
        let satisfaction = rating.given.satisfaction;
        let rectification = is_bad(satisfaction).then(|| {
            Rectification::begin(
                rating.id,
                rating.rated.clone(),
                rating.given.real_name,
                self.cases.city(),
                &calendar,
                now_us,
            )
        });
        let level = RATINGS + i32::from(satisfaction);
        let mut tallies = vec![TallyRow::of_rated(&rating.rated, now_us, level, 1)];
        if let Some((task, step)) = &rectification {
            tallies.push(of_step(task, step));
        }
        NewRatingWrite {
            evaluates: rating.given.contact == 0,
            rating,
            digest,
            rectification,
            tallies,
        }
    }

    async fn note_evaluation(&self, number: crate::case::CaseNumber) -> Result<(), RatingError> {
        self.cases.note_evaluation(number).await?;
        Ok(self.cases.store().evaluation_noted(number).await?)
    }

    /// Takes a rectification one step on, or gives the first answer again.
    ///
    /// # Errors
    /// See [`RatingError`].
    pub async fn act(
        &self,
        act: &ActOnRectification,
        digest: [u8; 32],
        actor: &Actor,
    ) -> Result<ActOnRectificationResponse, RatingError> {
        let store = self.cases.store();
        let Some(client) = &actor.client else {
            return Err(RatingError::CallerUnknown);
        };
        for _ in 0..ATTEMPTS {
            let first = store.first_rectification(&client.id, act.request_id);
            if let Some(first) = first.await? {
                return answered(&first, digest).map(acted_before);
            }
            let rating = self.visible(act.id, actor).await?;
            let mut task = rating.rectification.ok_or(RatingError::CallerUnknown)?;
            let (base, now_us) = (task.version, self.cases.clock().now_us());
            let calendar = self.cases.calendars().current();
            let city = self.cases.city();
            let mut steps = settle_rectification(&mut task, city, &calendar, now_us);
            let mut step = match task.step(act, actor.clone(), &calendar, now_us) {
                Ok(step) => step,
                // What stands in the way may be this very step, taken between the two readings.
                Err(error) => {
                    let first = store.first_rectification(&client.id, act.request_id);
                    return match first.await? {
                        Some(first) => answered(&first, digest).map(acted_before),
                        None => Err(error.into()),
                    };
                }
            };
            step.request = Some((act.request_id, digest));
            steps.push(step);
            let mut tallies: Vec<_> = steps.iter().map(|step| of_step(&task, step)).collect();
            if act.action == RectificationAction::Exclude {
                let level = RATINGS + i32::from(rating.satisfaction);
                // Taken back from the month in which it was counted.
                tallies.push(TallyRow::of_rated(&task.rated, rating.at_us, level, -1));
                tallies.push(TallyRow::of_rated(&task.rated, rating.at_us, EXCLUDED, 1));
            }
            match Box::pin(store.rectify(&task, base, &steps, &tallies)).await {
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
                Ok(()) => {
                    return Ok(ActOnRectificationResponse {
                        state: task.state.into(),
                        version: u64::try_from(task.version).unwrap_or_default(),
                        repeated: false,
                    });
                }
            }
        }
        Err(StoreError::Conflict.into())
    }

    /// A rating that a client may know of: its city is rated, or it is the deciding city's supervising office.
    async fn visible(&self, id: RatingId, actor: &Actor) -> Result<StoredRating, RatingError> {
        let rating = self.cases.store().rating(id).await?;
        let supervises = actor.role == ActorRole::Supervisor && actor.city == self.cases.city();
        let may = |rating: &StoredRating| supervises || rating.rated.city == actor.city;
        rating.filter(may).ok_or(RatingError::CallerUnknown)
    }

    /// A rating for a supervising office, with whoever rated under the own name.
    ///
    /// # Errors
    /// See [`RatingError`].
    pub async fn read(
        &self,
        id: RatingId,
        actor: &Actor,
    ) -> Result<ReadRatingResponse, RatingError> {
        if actor.role != ActorRole::Supervisor {
            return Err(RatingError::CallerUnknown);
        }
        let rating = self.visible(id, actor).await?;
        let store = self.cases.store();
        let history = store.rectification_steps(id).await?;
        let rater = match store.rater(id).await? {
            None => None,
            Some(rater) => {
                let case = store.case(rater.number).await?;
                let case = case.ok_or(StoreError::Corrupt("rated case"))?;
                Some(Rater {
                    number: rater.number.to_string(),
                    applicant: Some(case.applicant.shown()),
                    comment: rater.comment,
                    given_at: Some(timestamp(rating.at_us)),
                })
            }
        };
        Ok(ReadRatingResponse {
            rating: Some(rating.shown()),
            history: history.iter().map(RectificationStep::shown).collect(),
            rater,
        })
    }

    /// Which ratings a client sees: none for every one.
    fn scope(&self, actor: &Actor) -> Option<CityCode> {
        let all = actor.role == ActorRole::Supervisor && actor.city == self.cases.city();
        (!all).then_some(actor.city)
    }

    /// A page of ratings, without whoever gave them.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn list(
        &self,
        mut filter: RatingFilter,
        actor: &Actor,
    ) -> Result<ListRatingsResponse, StoreError> {
        filter.city = self.scope(actor);
        let ratings = self.cases.store().ratings(&filter).await?;
        Ok(ListRatingsResponse {
            next_page_token: next_page(&ratings, filter.page_size),
            ratings: ratings.iter().map(StoredRating::shown).collect(),
        })
    }

    /// A page of rectifications, without whoever gave the ratings.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn search(
        &self,
        mut filter: RectificationFilter,
        actor: &Actor,
    ) -> Result<SearchRectificationsResponse, StoreError> {
        filter.city = self.scope(actor);
        let found = self.cases.store().rectifications(&filter).await?;
        Ok(SearchRectificationsResponse {
            next_page_token: next_page(&found, filter.page_size),
            rectifications: (found.iter())
                .filter_map(StoredRating::shown_rectification)
                .collect(),
        })
    }

    /// Does what the clocks of rectifications did up to now, and notes rated cases whose history does not say so yet, such as
    /// after a crash. Gives how many it changed. Any replica may do it at any time.
    ///
    /// # Errors
    /// See [`RatingError`].
    pub async fn run_clocks(&self) -> Result<usize, RatingError> {
        let (store, city) = (self.cases.store(), self.cases.city());
        let calendar = self.cases.calendars().current();
        let mut changed = 0;
        for number in store.evaluations_due(PASS).await? {
            Box::pin(self.note_evaluation(number)).await?;
            changed += 1;
        }
        let years = calendar.loaded_years().last().unwrap_or_default();
        let now_us = self.cases.clock().now_us();
        for mut task in store.rectifications_due(now_us, years, PASS).await? {
            let base = task.version;
            let steps = settle_rectification(&mut task, city, &calendar, now_us);
            let tallies: Vec<_> = steps.iter().map(|step| of_step(&task, step)).collect();
            if steps.is_empty() {
                continue;
            }
            match Box::pin(store.rectify(&task, base, &steps, &tallies)).await {
                Ok(()) => changed += 1,
                // A step or another replica came first.
                Err(StoreError::Conflict) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(changed)
    }
}

fn of_step(task: &Rectification, step: &NewRectificationStep) -> TallyRow {
    let measure = RECTIFICATIONS + i32::from(step.action);
    TallyRow::of_rated(&task.rated, step.at_us, measure, 1)
}

const fn opened(bad: bool) -> RectificationState {
    if bad {
        RectificationState::Open
    } else {
        RectificationState::Unspecified
    }
}

fn answered(
    first: &FirstRatingAnswer,
    digest: [u8; 32],
) -> Result<&FirstRatingAnswer, RatingError> {
    if first.digest == digest {
        Ok(first)
    } else {
        Err(RatingError::CallerReusedId)
    }
}

fn acted_before(first: &FirstRatingAnswer) -> ActOnRectificationResponse {
    ActOnRectificationResponse {
        state: first.state,
        version: u64::try_from(first.version).unwrap_or_default(),
        repeated: true,
    }
}

fn rated_before(first: &FirstRatingAnswer) -> RateCaseResponse {
    RateCaseResponse {
        id: first.id.to_string(),
        rectification: first.state,
        repeated: true,
    }
}

/// The token of the page after a full one. Where an order is by rectification, its number is that of its rating.
fn next_page(page: &[StoredRating], size: u32) -> String {
    let full = u32::try_from(page.len()).is_ok_and(|count| count == size);
    let last = page.last().filter(|_| full);
    last.map_or_else(String::new, |rating| rating.seq.to_string())
}
