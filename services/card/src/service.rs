//! The gRPC service: requests in, answers out, errors through one door.

use std::{pin::Pin, sync::Arc, time::Duration};

use banqiao_directory::TrustDomain;
use banqiao_kit::{CallError, Caller, ExchangeId, Refusal, Rule, RuleTable, civil_date, rescue};
use banqiao_proto::card::v1::{
    ImportCardsRequest, ImportCardsResponse, ImportResult, ReportLossRequest, ReportLossResponse,
    VerifyCardRequest, VerifyCardResponse, WatchCardStatesRequest, WatchCardStatesResponse,
    card_service_server::CardService,
};
use futures_util::{Stream, StreamExt};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    cards::Cards,
    import::{IMPORT_BATCH, ImportCounts},
    importer::Outcomes,
    request::{LossReport, Verify, parse_cursor},
    store::Actor,
    watch::Watches,
};

/// Domain of this service's reasons in `google.rpc.ErrorInfo`.
pub const DOMAIN: &str = "banqiao.card";

/// Lines in one call: with a refused line's text of some 200 bytes their results stay below the method's limit of 64 MiB.
pub const MAX_IMPORT_LINES: usize = 200_000;

/// Imports at once: each holds its results until its end, some 80 MiB when every line is refused.
const IMPORTS_AT_ONCE: usize = 2;
/// When to try again while others import: a call of the longest import takes about this.
const IMPORT_RETRY: Duration = Duration::from_secs(30);

pub(crate) const ISSUER_ONLY: Refusal = Refusal::forbidden(
    Rule::design(
        "ISSUER_ONLY",
        "records and their history belong to the bureau that issued the cards: only systems of its own city read or replace them",
        "社会保险经办条例 art. 38, 49",
    )
    .remedy("ask the issuing city's bureau"),
);
const TOO_MANY_IMPORTS: Refusal = Refusal::exceeds(
    Rule::design(
        "TOO_MANY_IMPORTS",
        "a service takes two imports at once",
        "card service",
    )
    .remedy("send the import again after the delay in RetryInfo"),
);
const IMPORT_TOO_LONG: Refusal = Refusal::exceeds(
    Rule::design(
        "IMPORT_TOO_LONG",
        "a call takes 200000 lines; those that were taken stay",
        "card service",
    )
    .remedy("send the rest in another call"),
);

pub(crate) fn rules() -> RuleTable {
    const IMPORT: &[&str] = &["ImportCards"];
    RuleTable::new("Who may call, and how much")
        .refusal(&ISSUER_ONLY, &["ImportCards", "ReadCardHistory"])
        .refusal(&TOO_MANY_IMPORTS, IMPORT)
        .refusal(&IMPORT_TOO_LONG, IMPORT)
}

/// The service of a city.
#[derive(Clone, Debug)]
pub struct CardServer {
    cards: Cards,
    watches: Watches,
    home: TrustDomain,
    imports: Arc<Semaphore>,
}

impl CardServer {
    /// A service of the city whose trust domain is `home`; only its own systems may import.
    pub fn new(cards: Cards, watches: Watches, home: TrustDomain) -> Self {
        Self {
            cards,
            watches,
            home,
            imports: Arc::new(Semaphore::new(IMPORTS_AT_ONCE)),
        }
    }

    fn today(&self) -> jiff::civil::Date {
        civil_date(self.cards.clock().now_us())
    }

    async fn import(
        &self,
        caller: &Caller,
        mut lines: Streaming<ImportCardsRequest>,
    ) -> Result<ImportCardsResponse, CallError> {
        if *caller.client.trust_domain() != self.home {
            return Err(ISSUER_ONLY.because("only systems of the issuing city import its cards"));
        }
        let _place = self.imports.try_acquire().map_err(|_| {
            TOO_MANY_IMPORTS.for_now(
                format!("this service takes {IMPORTS_AT_ONCE} imports at once"),
                IMPORT_RETRY,
            )
        })?;
        let call = Some((caller.client.clone(), caller.exchange));
        let actor = Actor {
            city: self.cards.city(),
            call,
        };
        let mut results = Results::default();
        let mut import = self.cards.importer(&actor);
        let mut batch = Vec::with_capacity(IMPORT_BATCH);
        let mut taken = 0;
        loop {
            // Batches go on while lines come in.
            let line = tokio::select! {
                line = lines.message() => line,
                known = import.go_on(), if import.is_under_way() => {
                    results.add(known?);
                    continue;
                }
            };
            let Some(line) = line.transpose() else { break };
            let line = line.map_err(|status| CallError::CallerBrokeOff(Box::new(status)))?;
            batch.push(line);
            taken += 1;
            if taken > MAX_IMPORT_LINES {
                // Those before stay.
                import.finish().await?;
                return Err(IMPORT_TOO_LONG.because(format!(
                    "a call takes {MAX_IMPORT_LINES} lines; those before stay"
                )));
            }
            if batch.len() == IMPORT_BATCH {
                results.add(import.take(std::mem::take(&mut batch)).await?);
            }
        }
        results.add(import.take(batch).await?);
        results.add(import.finish().await?);
        Ok(results.response())
    }
}

/// Counts of an import, and one result for each line.
#[derive(Default)]
struct Results {
    counts: ImportCounts,
    results: Vec<ImportResult>,
}

impl Results {
    fn add(&mut self, outcomes: Outcomes) {
        for (line, outcome) in outcomes {
            let result = outcome.result(line);
            self.counts.add(&result);
            self.results.push(result);
        }
    }

    fn response(self) -> ImportCardsResponse {
        let ImportCounts {
            created,
            updated,
            unchanged,
            refused,
        } = self.counts;
        ImportCardsResponse {
            results: self.results,
            created,
            updated,
            unchanged,
            refused,
        }
    }
}

/// The context that the kit's server put beside the request.
pub(crate) fn caller_of<T>(request: &Request<T>) -> Result<Caller, CallError> {
    let caller = request.extensions().get::<Caller>().cloned();
    caller.ok_or_else(|| CallError::Internal("a request without a caller's context".into()))
}

/// Answers a call, or tells why not.
pub(crate) async fn answered<T>(
    exchange: Option<ExchangeId>,
    answer: impl Future<Output = Result<T, CallError>>,
) -> Result<Response<T>, Status> {
    answer
        .await
        .map(Response::new)
        .map_err(|error| rescue(error, DOMAIN, exchange))
}

#[tonic::async_trait]
impl CardService for CardServer {
    async fn verify_card(
        &self,
        request: Request<VerifyCardRequest>,
    ) -> Result<Response<VerifyCardResponse>, Status> {
        let caller = caller_of(&request);
        answered(caller.as_ref().ok().map(|caller| caller.exchange), async {
            caller?;
            let request = Verify::parse(request.get_ref(), self.today());
            let request = request.map_err(CallError::CallerInvalid)?;
            Ok(self.cards.verify(&request).await?)
        })
        .await
    }

    async fn report_loss(
        &self,
        request: Request<ReportLossRequest>,
    ) -> Result<Response<ReportLossResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        // Boxed: it holds a transaction and its statements.
        let reported = Box::pin(async {
            let caller = caller?;
            let request = LossReport::parse(request.get_ref(), self.today());
            let request = request.map_err(CallError::CallerInvalid)?;
            Ok(self.cards.report_loss(&request, &caller).await?)
        });
        answered(exchange, reported).await
    }

    type WatchCardStatesStream =
        Pin<Box<dyn Stream<Item = Result<WatchCardStatesResponse, Status>> + Send>>;

    async fn watch_card_states(
        &self,
        request: Request<WatchCardStatesRequest>,
    ) -> Result<Response<Self::WatchCardStatesStream>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        answered(exchange, async {
            caller?;
            let from = parse_cursor(&request.get_ref().cursor);
            let changes = self
                .watches
                .open(from.map_err(CallError::CallerInvalid)?)
                .await?;
            let changes =
                changes.map(move |next| next.map_err(|error| rescue(error, DOMAIN, exchange)));
            Ok(changes.boxed() as Self::WatchCardStatesStream)
        })
        .await
    }

    async fn import_cards(
        &self,
        request: Request<Streaming<ImportCardsRequest>>,
    ) -> Result<Response<ImportCardsResponse>, Status> {
        let caller = caller_of(&request);
        let exchange = caller.as_ref().ok().map(|caller| caller.exchange);
        // Boxed: it holds a batch and its transaction.
        let imported = Box::pin(async { self.import(&caller?, request.into_inner()).await });
        answered(exchange, imported).await
    }
}
