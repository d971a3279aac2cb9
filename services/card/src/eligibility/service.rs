//! The service on the wire, and what its calls do.

use std::{pin::Pin, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use banqiao_kit::{
    CallError, Caller, Refusal, Rule, RuleTable, Violation, Violations, civil_date, rescue,
};
use banqiao_proto::card::v1::{
    CheckEligibilityRequest, CheckEligibilityResponse, ConcludeInvestigationRequest,
    ConcludeInvestigationResponse, EligibilityEventKind, EligibilityResult,
    ImportBeneficiariesRequest, ImportBeneficiariesResponse, ListCampaignRequest,
    ListCampaignResponse, ListEligibilityHistoryRequest, ListEligibilityHistoryResponse,
    ListInvestigationsRequest, ListInvestigationsResponse, MatchEligibilityRequest,
    MatchEligibilityResponse, ReportLifeRequest, ReportLifeResponse, ReportLossSignRequest,
    ReportLossSignResponse, ReportUnreachableRequest, ReportUnreachableResponse,
    SummariseCampaignRequest, SummariseCampaignResponse, WatchEligibilityRequest,
    WatchEligibilityResponse, eligibility_service_server::EligibilityService,
};
use futures_util::{FutureExt, Stream, StreamExt, stream};
use prost::Message;
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::{
    Eligibility, EligibilityWatches, WatchedBy,
    decide::{self, Context, Effects, NOT_OPEN, valid_until},
    record::{Evidence, Person, PersonKey, Verdict},
    request::{CheckReport, Conclusion, parse_key},
    store::{Changes, FirstRequest, Found},
};
use crate::{
    bulk::{Bulk, own_city},
    cards::timestamp,
    cities::Cities,
    import::ImportCounts,
    request::{REQUEST_ID_REUSED, parse_cursor},
    service::{DOMAIN, answered, caller_of},
    store::StoreError,
};

/// Lines that are looked up at once in a match: one statement, some 30 KiB.
const MATCH_BATCH: usize = 256;
/// Matches at once: each holds a batch.
const MATCHES_AT_ONCE: usize = 16;

const CITY_NOT_LISTED: Refusal = Refusal::forbidden(
    Rule::design(
        "CITY_NOT_LISTED",
        "a check is reported, and watched, by a system of the city that it names; this service must know the city's trust domain",
        "card service, setting [cities]",
    )
    .remedy("name the caller's own city; or let the operator list its trust domain"),
);
const TOO_MANY_MATCHES: Refusal = Refusal::exceeds(
    Rule::design(
        "TOO_MANY_MATCHES",
        "sixteen bulk matches at once",
        "card service",
    )
    .remedy("try again when one of them has ended"),
);

pub(super) fn rules(table: RuleTable) -> RuleTable {
    table
        .refusal(
            &CITY_NOT_LISTED,
            &[
                "ReportLife",
                "ReportLossSign",
                "ReportUnreachable",
                "WatchEligibility",
            ],
        )
        .refusal(&TOO_MANY_MATCHES, &["MatchEligibility"])
}

impl Eligibility {
    /// Records a check and gives what `answer` makes of it, or the first answer again.
    async fn report<A: Message + Default>(
        &self,
        report: CheckReport,
        digest: [u8; 32],
        caller: &Caller,
        answer: impl FnOnce(&Effects, i64) -> A + Send,
    ) -> Result<(A, bool), CallError> {
        let now_us = self.clock.now_us();
        let mut entry = self.event(report.key, Some(caller), now_us);
        entry.paying_city = report.paying_city;
        entry.city = report.verifying_city;
        entry.method = report.method;
        entry.evidence = report.evidence;
        entry.on = Some(report.on);
        (entry.result, entry.valid_until) = match report.evidence {
            Evidence::Life(_) => (
                EligibilityResult::Confirmed,
                Some(valid_until(report.on, self.terms)),
            ),
            Evidence::Loss(_) => (EligibilityResult::LostSuspected, None),
            Evidence::Unreached => (EligibilityResult::Unreachable, None),
        };
        entry.kind = EligibilityEventKind::Checked;
        let act = |person: &mut Person, next| {
            let own = self.city;
            let context = Context { entry, next, own };
            Ok(decide::check(person, &report, self.terms, &context))
        };
        let request = (report.request_id, digest);
        self.once(report.key, request, caller, act, answer).await
    }

    /// Concludes an investigation, or gives the first answer again.
    ///
    /// # Errors
    /// It is not open; the request id was used for another request; the store fails.
    async fn conclude(
        &self,
        conclusion: Conclusion,
        digest: [u8; 32],
        caller: &Caller,
    ) -> Result<ConcludeInvestigationResponse, CallError> {
        let number = conclusion.investigation;
        let not_open = || NOT_OPEN.because(format!("investigation {number} is not open"));
        let Some(key) = self.store.investigated(number).await? else {
            return Err(not_open());
        };
        let now_us = self.clock.now_us();
        let entry = self.event(key, Some(caller), now_us);
        let act = |person: &mut Person, next| {
            if person.investigation != Some(number) {
                return Err(not_open());
            }
            let own = self.city;
            let context = Context { entry, next, own };
            Ok(decide::conclude(person, &conclusion, &context))
        };
        let answer = |effects: &Effects, cursor: i64| ConcludeInvestigationResponse {
            cursor: cursor.to_string(),
            repeated: false,
            resumption_instructed: effects.resumed,
        };
        let request = (conclusion.request_id, digest);
        let (mut answer, repeated) = self.once(key, request, caller, act, answer).await?;
        answer.repeated = repeated;
        Ok(answer)
    }

    /// Acts on a person once for a request id; whether the answer is a repetition.
    async fn once<A: Message + Default>(
        &self,
        key: PersonKey,
        (request_id, digest): (Uuid, [u8; 32]),
        caller: &Caller,
        act: impl FnOnce(&mut Person, i64) -> Result<Effects, CallError> + Send,
        answer: impl FnOnce(&Effects, i64) -> A + Send,
    ) -> Result<(A, bool), CallError> {
        let decide = |found: Found| {
            if let Some((first, bytes)) = found.first {
                // Not secret: the client chose both requests.
                if first != digest {
                    return Err(CallError::CallerInvalid(vec![Violation {
                        field: "request_id".into(),
                        rule: &REQUEST_ID_REUSED,
                    }]));
                }
                let first = A::decode(&*bytes);
                let first = first.map_err(|_| StoreError::Corrupt("first answer"))?;
                return Ok((Changes::default(), (first, true)));
            }
            let mut people = found.people.into_iter();
            let known = people.find(|person| person.key == key);
            let mut person = known.unwrap_or_else(|| Person::unknown(key));
            let effects = act(&mut person, found.next)?;
            let answer = answer(&effects, found.next);
            let request = FirstRequest {
                client: caller.client.clone(),
                request_id,
                digest,
                answer: answer.encode_to_vec(),
            };
            let changes = Changes {
                people: vec![(person, effects)],
                request: Some(request),
                recorded: false,
            };
            Ok((changes, (answer, false)))
        };
        let request = Some((&caller.client, request_id));
        self.change(&[key.holder], request, decide).await
    }

    /// Verdicts of today, in the order of the keys.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn verdicts(&self, keys: &[PersonKey]) -> Result<Vec<Verdict>, StoreError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let holders: Vec<_> = keys.iter().map(|key| key.holder).collect();
        let people = self.store.people(&holders).await?;
        let known: std::collections::HashMap<_, _> =
            people.iter().map(|person| (person.key, person)).collect();
        let today = civil_date(self.clock.now_us());
        let verdict = |key| {
            known
                .get(key)
                .map_or(Verdict::NONE, |person: &&Person| person.verdict(today))
        };
        Ok(keys.iter().map(verdict).collect())
    }

    /// The answers to lines of a match, in order.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn match_lines(
        &self,
        lines: &[MatchEligibilityRequest],
    ) -> Result<Vec<MatchEligibilityResponse>, StoreError> {
        let today = civil_date(self.clock.now_us());
        let parsed: Vec<_> = lines
            .iter()
            .map(|line| {
                let mut faults = Violations::new();
                let number = &line.social_security_number;
                let key = parse_key(number, line.scheme, today, &mut faults);
                key.ok_or_else(|| faults.into_vec())
            })
            .collect();
        let keys: Vec<_> = parsed.iter().flatten().copied().collect();
        let mut verdicts = self.verdicts(&keys).await?.into_iter();
        let answers = lines.iter().zip(parsed).map(|(line, parsed)| match parsed {
            Ok(_) => MatchEligibilityResponse {
                line: line.line,
                verdict: verdicts.next().map(|verdict| verdict.shown()),
                ..MatchEligibilityResponse::default()
            },
            Err(faults) => {
                let fault = faults.first();
                MatchEligibilityResponse {
                    line: line.line,
                    field: fault
                        .map(|fault| fault.field.to_string())
                        .unwrap_or_default(),
                    rule: fault
                        .map(|fault| fault.rule.to_string())
                        .unwrap_or_default(),
                    ..MatchEligibilityResponse::default()
                }
            }
        });
        Ok(answers.collect())
    }
}

/// The eligibility service of a city.
#[derive(Clone, Debug)]
pub struct EligibilityServer {
    eligibility: Eligibility,
    watches: EligibilityWatches,
    cities: Cities,
    bulk: Bulk,
    matches: Arc<Semaphore>,
}

impl EligibilityServer {
    /// A service of the city's checks.
    pub fn new(eligibility: Eligibility, watches: EligibilityWatches, cities: Cities) -> Self {
        Self {
            eligibility,
            watches,
            cities,
            bulk: Bulk::new(),
            matches: Arc::new(Semaphore::new(MATCHES_AT_ONCE)),
        }
    }

    fn today(&self) -> jiff::civil::Date {
        civil_date(self.eligibility.clock().now_us())
    }

    /// A report says whose check it is; only that city's systems may say so.
    fn of_its_city(
        &self,
        report: Result<CheckReport, Vec<Violation>>,
        caller: &Caller,
    ) -> Result<CheckReport, CallError> {
        let report = report.map_err(CallError::CallerInvalid)?;
        if self.cities.city_of(&caller.client) == Some(report.verifying_city) {
            Ok(report)
        } else {
            Err(CITY_NOT_LISTED.because("the caller is not known as a system of verifying_city"))
        }
    }

    async fn import(
        &self,
        caller: &Caller,
        lines: Streaming<ImportBeneficiariesRequest>,
    ) -> Result<ImportBeneficiariesResponse, CallError> {
        own_city(&self.cities, caller)?;
        let eligibility = &self.eligibility;
        let each = |batch: Vec<_>| {
            async move { Ok(eligibility.import(&batch, Some(caller)).await?) }.boxed()
        };
        let (results, counts) = self.bulk.take(lines, |line| line.line, each).await?;
        let ImportCounts {
            created,
            updated,
            unchanged,
            refused,
        } = counts;
        Ok(ImportBeneficiariesResponse {
            results,
            created,
            updated,
            unchanged,
            refused,
        })
    }

    /// Answers lines as they come: what has arrived is looked up together, and nothing is read ahead of what the caller takes.
    fn matched(
        &self,
        lines: Streaming<MatchEligibilityRequest>,
        caller: &Caller,
    ) -> Result<AnswerStream<MatchEligibilityResponse>, CallError> {
        let place = Arc::clone(&self.matches).try_acquire_owned();
        let place = place.map_err(|_| {
            TOO_MANY_MATCHES.because(format!(
                "this service carries {MATCHES_AT_ONCE} matches at once"
            ))
        })?;
        let (eligibility, exchange) = (self.eligibility.clone(), caller.exchange);
        let answers = lines.ready_chunks(MATCH_BATCH).then(move |chunk| {
            let (eligibility, _place) = (eligibility.clone(), &place);
            async move {
                let mut answers = Vec::with_capacity(chunk.len());
                let broken = chunk.iter().position(Result::is_err);
                let mut chunk = chunk.into_iter();
                let sound: Vec<_> = chunk
                    .by_ref()
                    .take(broken.unwrap_or(MATCH_BATCH))
                    .flatten()
                    .collect();
                match eligibility.match_lines(&sound).await {
                    Ok(found) => answers.extend(found.into_iter().map(Ok)),
                    Err(error) => {
                        answers.push(Err(rescue(error.into(), DOMAIN, Some(exchange))));
                        return answers;
                    }
                }
                if let Some(Err(status)) = chunk.next() {
                    let error = CallError::CallerBrokeOff(Box::new(status));
                    answers.push(Err(rescue(error, DOMAIN, Some(exchange))));
                }
                answers
            }
        });
        // After an error there is nothing more to say.
        let answers = answers.flat_map(stream::iter).scan(false, |ended, answer| {
            let next = (!*ended).then_some(answer);
            *ended |= next.as_ref().is_some_and(Result::is_err);
            std::future::ready(next)
        });
        Ok(answers.boxed())
    }
}

type AnswerStream<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// SHA-256 over the request as it is encoded: fields in order, defaults left out.
fn digest_of(request: &impl Message) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, &request.encode_to_vec()).as_ref());
    bytes
}

/// Runs a call that only systems of the own city may make.
macro_rules! own_only {
    ($server:expr, $request:expr, $method:ident) => {{
        let caller = caller_of(&$request);
        answered(caller.as_ref().ok().map(|caller| caller.exchange), async {
            own_city(&$server.cities, &caller?)?;
            $server.eligibility.$method($request.get_ref()).await
        })
        .await
    }};
}

#[tonic::async_trait]
impl EligibilityService for EligibilityServer {
    async fn report_life(
        &self,
        request: Request<ReportLifeRequest>,
    ) -> Result<Response<ReportLifeResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        // Boxed: it holds a transaction and its statements.
        let reported = Box::pin(async {
            let (caller, request) = (caller?, request.get_ref());
            let report = CheckReport::life(request, self.today(), self.eligibility.terms);
            let report = self.of_its_city(report, &caller)?;
            let until = valid_until(report.on, self.eligibility.terms);
            let answer = |effects: &Effects, cursor: i64| ReportLifeResponse {
                valid_until: until.to_string(),
                cursor: cursor.to_string(),
                repeated: false,
                resumption_instructed: effects.resumed,
            };
            let digest = digest_of(request);
            let reported = self.eligibility.report(report, digest, &caller, answer);
            let (mut answer, repeated) = reported.await?;
            answer.repeated = repeated;
            Ok(answer)
        });
        answered(exchange, reported).await
    }

    async fn report_loss_sign(
        &self,
        request: Request<ReportLossSignRequest>,
    ) -> Result<Response<ReportLossSignResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let reported = Box::pin(async {
            let (caller, request) = (caller?, request.get_ref());
            let report = CheckReport::loss(request, self.today());
            let report = self.of_its_city(report, &caller)?;
            let answer = |effects: &Effects, cursor: i64| {
                let opened = effects.events.last().filter(|_| effects.opened);
                ReportLossSignResponse {
                    cursor: cursor.to_string(),
                    repeated: false,
                    investigation: opened
                        .map(|event| event.seq.to_string())
                        .unwrap_or_default(),
                }
            };
            let digest = digest_of(request);
            let reported = self.eligibility.report(report, digest, &caller, answer);
            let (mut answer, repeated) = reported.await?;
            answer.repeated = repeated;
            Ok(answer)
        });
        answered(exchange, reported).await
    }

    async fn report_unreachable(
        &self,
        request: Request<ReportUnreachableRequest>,
    ) -> Result<Response<ReportUnreachableResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let reported = Box::pin(async {
            let (caller, request) = (caller?, request.get_ref());
            let report = CheckReport::unreachable(request, self.today());
            let report = self.of_its_city(report, &caller)?;
            let answer = |_: &Effects, cursor: i64| ReportUnreachableResponse {
                cursor: cursor.to_string(),
                repeated: false,
            };
            let digest = digest_of(request);
            let reported = self.eligibility.report(report, digest, &caller, answer);
            let (mut answer, repeated) = reported.await?;
            answer.repeated = repeated;
            Ok(answer)
        });
        answered(exchange, reported).await
    }

    async fn check_eligibility(
        &self,
        request: Request<CheckEligibilityRequest>,
    ) -> Result<Response<CheckEligibilityResponse>, Status> {
        let caller = caller_of(&request);
        answered(caller.as_ref().ok().map(|caller| caller.exchange), async {
            caller?;
            let request = request.get_ref();
            let mut faults = Violations::new();
            let number = &request.social_security_number;
            let key = parse_key(number, request.scheme, self.today(), &mut faults);
            let key = key.ok_or_else(|| CallError::CallerInvalid(faults.into_vec()))?;
            let verdicts = self.eligibility.verdicts(&[key]).await?;
            Ok(CheckEligibilityResponse {
                verdict: verdicts.first().map(Verdict::shown),
                checked_at: Some(timestamp(self.eligibility.clock().now_us())),
                source_city: self.eligibility.city().to_string(),
            })
        })
        .await
    }

    type MatchEligibilityStream = AnswerStream<MatchEligibilityResponse>;

    async fn match_eligibility(
        &self,
        request: Request<Streaming<MatchEligibilityRequest>>,
    ) -> Result<Response<Self::MatchEligibilityStream>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        answered(exchange, async {
            self.matched(request.into_inner(), &caller?)
        })
        .await
    }

    type WatchEligibilityStream = AnswerStream<WatchEligibilityResponse>;

    async fn watch_eligibility(
        &self,
        request: Request<WatchEligibilityRequest>,
    ) -> Result<Response<Self::WatchEligibilityStream>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        answered(exchange, async {
            let city = self.cities.city_of(&caller?.client).ok_or_else(|| {
                CITY_NOT_LISTED.because("this service does not know the caller's city")
            })?;
            let from = parse_cursor(&request.get_ref().cursor);
            let from = from.map_err(CallError::CallerInvalid)?;
            let entries = self.watches.open(WatchedBy { city }, from).await?;
            let entries =
                entries.map(move |next| next.map_err(|error| rescue(error, DOMAIN, exchange)));
            Ok(entries.boxed() as Self::WatchEligibilityStream)
        })
        .await
    }

    async fn list_investigations(
        &self,
        request: Request<ListInvestigationsRequest>,
    ) -> Result<Response<ListInvestigationsResponse>, Status> {
        own_only!(self, request, investigations)
    }

    async fn conclude_investigation(
        &self,
        request: Request<ConcludeInvestigationRequest>,
    ) -> Result<Response<ConcludeInvestigationResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        let concluded = Box::pin(async {
            let (caller, request) = (caller?, request.get_ref());
            own_city(&self.cities, &caller)?;
            let conclusion = Conclusion::parse(request).map_err(CallError::CallerInvalid)?;
            let digest = digest_of(request);
            self.eligibility.conclude(conclusion, digest, &caller).await
        });
        answered(exchange, concluded).await
    }

    async fn summarise_campaign(
        &self,
        request: Request<SummariseCampaignRequest>,
    ) -> Result<Response<SummariseCampaignResponse>, Status> {
        own_only!(self, request, summarise)
    }

    async fn list_campaign(
        &self,
        request: Request<ListCampaignRequest>,
    ) -> Result<Response<ListCampaignResponse>, Status> {
        own_only!(self, request, list_campaign)
    }

    async fn list_eligibility_history(
        &self,
        request: Request<ListEligibilityHistoryRequest>,
    ) -> Result<Response<ListEligibilityHistoryResponse>, Status> {
        own_only!(self, request, history)
    }

    async fn import_beneficiaries(
        &self,
        request: Request<Streaming<ImportBeneficiariesRequest>>,
    ) -> Result<Response<ImportBeneficiariesResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        // Boxed: it holds a batch and its transaction.
        let imported = Box::pin(async { self.import(&caller?, request.into_inner()).await });
        answered(exchange, imported).await
    }
}
