//! One comparison with one city.

use std::{cmp::Ordering, collections::BTreeSet, sync::Arc, time::Duration};

use banqiao_directory::City;
use banqiao_ledger::{
    Reader,
    reconcile::{Key, Malformed, OpenAttempt, Pair, WINDOW_MS, Window, Windows, compare, made_ms},
};
use banqiao_proto::ledger::v1::{
    CompareDetail, CompareExchangesRequest, CompareExchangesResponse, ExchangeRecord, RecordState,
    compare_exchanges_response::Part, counterparty_service_client::CounterpartyServiceClient,
};
use tonic::{Streaming, transport::Channel};
use uuid::Uuid;

use super::{ReconcileError, report::Report};
use crate::{
    peers::{self, PeerError},
    worker::Shared,
};

/// Longest wait for the next part of an answer: the other side may read its whole ledger for it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Single exchanges that are asked for at once.
const EXCHANGES: u32 = 1_000;

/// A connection to a city's gateway, and what was found so far.
pub(super) struct Comparison {
    pair: Pair,
    client: CounterpartyServiceClient<Channel>,
    reader: Reader,
    /// What ended since then may not have ended at the other side, microseconds since 1970.
    recent_us: i64,
    pub(super) report: Report,
}

impl Comparison {
    pub(super) async fn begin(
        shared: &Arc<Shared>,
        city: &City,
        report: Report,
    ) -> Result<Self, ReconcileError> {
        let channel = peers::channel(shared, city).await?;
        let grace = i64::try_from(shared.reconciliation.settings.grace.as_micros());
        let grace = grace.unwrap_or(i64::MAX);
        Ok(Self {
            pair: Pair {
                here: shared.names.city,
                there: city.code,
            },
            client: CounterpartyServiceClient::new(channel),
            reader: shared.ledger.reader(),
            recent_us: shared.clock.now_us().saturating_sub(grace),
            report,
        })
    }

    /// Compares the exchanges whose ids were made in a span of milliseconds since 1970.
    pub(super) async fn span(&mut self, from_ms: i64, until_ms: i64) -> Result<(), ReconcileError> {
        let differing = self.differing(from_ms, until_ms).await?;
        let mut differing = differing.into_iter().peekable();
        while let Some(start) = differing.next() {
            let mut end = start + WINDOW_MS;
            // Minutes that touch are asked for at once.
            while differing.next_if_eq(&end).is_some() {
                end += WINDOW_MS;
            }
            self.records(start.max(from_ms), end.min(until_ms)).await?;
        }
        Ok(())
    }

    /// The minutes that are to be looked into: those that differ, and those with calls that are still running.
    async fn differing(
        &mut self,
        from_ms: i64,
        until_ms: i64,
    ) -> Result<BTreeSet<i64>, ReconcileError> {
        let mut theirs = self
            .ask(CompareExchangesRequest {
                from_ms,
                until_ms,
                detail: CompareDetail::Windows.into(),
                exchanges: Vec::new(),
            })
            .await?;
        let mut ours = Ours {
            records: self.reader.records(self.pair, from_ms, until_ms),
            windows: Windows::new(self.pair),
            running: BTreeSet::new(),
            read: 0,
        };
        let mut differing = BTreeSet::new();
        let mut here = ours.next().await?;
        let mut there = theirs.window(from_ms, until_ms).await?;
        loop {
            let order = match (&here, &there) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some(here), Some(there)) => here.start_ms.cmp(&there.start_ms),
            };
            if here != there {
                let earlier = if order == Ordering::Greater {
                    &there
                } else {
                    &here
                };
                differing.extend(earlier.map(|window| window.start_ms));
            }
            if order != Ordering::Greater {
                here = ours.next().await?;
            }
            if order != Ordering::Less {
                there = theirs.window(from_ms, until_ms).await?;
            }
        }
        differing.append(&mut ours.running);
        self.report.exchanges += ours.read;
        Ok(differing)
    }

    /// Compares record by record.
    async fn records(&mut self, from_ms: i64, until_ms: i64) -> Result<(), ReconcileError> {
        let mut theirs = self
            .ask(CompareExchangesRequest {
                from_ms,
                until_ms,
                detail: CompareDetail::Records.into(),
                exchanges: Vec::new(),
            })
            .await?;
        let mut ours = self.reader.records(self.pair, from_ms, until_ms);
        let mut here = ours.next().await?;
        let mut there = theirs.record(from_ms, until_ms).await?;
        loop {
            let of_here = here.as_ref().map(|it| Key::of(it, self.pair)).transpose()?;
            let of_there = there.as_ref().map(|(key, _)| *key);
            let (key, order) = match (of_here, of_there) {
                (None, None) => return Ok(()),
                (Some(key), None) => (key, Ordering::Less),
                (None, Some(key)) => (key, Ordering::Greater),
                (Some(key), Some(other)) => (key.min(other), key.cmp(&other)),
            };
            let mut pair = (None, None);
            if order != Ordering::Greater {
                pair.0 = here.take();
                here = ours.next().await?;
            }
            if order != Ordering::Less {
                pair.1 = there.take().map(|(_, record)| record);
                there = theirs.record(from_ms, until_ms).await?;
            }
            self.judge(key, pair.0, pair.1).await;
        }
    }

    /// Looks again at what had not ended before. Returns what has.
    pub(super) async fn again(&mut self) -> Result<Vec<OpenAttempt>, ReconcileError> {
        let mut ended = Vec::new();
        let mut behind = None;
        loop {
            let city = self.pair.there;
            let open = self.reader.open_attempts(city.as_str(), behind, EXCHANGES);
            let open = open.await?;
            let Some(last) = open.last() else {
                return Ok(ended);
            };
            behind = Some(*last);
            let ids: BTreeSet<[u8; 16]> = open.iter().map(|it| it.exchange).collect();
            let mut theirs = self
                .ask(CompareExchangesRequest {
                    exchanges: ids.iter().map(|id| id.to_vec()).collect(),
                    ..CompareExchangesRequest::default()
                })
                .await?;
            let mut there = Vec::new();
            while let Some(told) = theirs.record(0, i64::MAX).await? {
                there.push(told);
            }
            let mut here = Vec::new();
            for id in &ids {
                let records = self
                    .reader
                    .records_of(self.pair, Uuid::from_bytes(*id))
                    .await?;
                for record in records {
                    here.push((Key::of(&record, self.pair)?, record));
                }
            }
            let keys: BTreeSet<Key> = here.iter().chain(&there).map(|(key, _)| *key).collect();
            let held = |list: &[(Key, ExchangeRecord)], key: Key| {
                let found = list.iter().find(|(known, _)| *known == key);
                found.map(|(_, record)| record.clone())
            };
            for key in keys {
                let attempt = OpenAttempt {
                    exchange: key.exchange,
                    attempt: key.attempt,
                };
                if open.binary_search(&attempt).is_ok() {
                    self.judge(key, held(&here, key), held(&there, key)).await;
                }
            }
            let still = &self.report.open;
            ended.extend(open.into_iter().filter(|attempt| !still.contains(attempt)));
        }
    }

    async fn judge(
        &mut self,
        key: Key,
        here: Option<ExchangeRecord>,
        there: Option<ExchangeRecord>,
    ) {
        let verdict = compare(here.as_ref(), there.as_ref(), self.recent_us);
        self.report.take(key, here, there, verdict).await;
    }

    async fn ask(&mut self, request: CompareExchangesRequest) -> Result<Theirs, ReconcileError> {
        let there = self.pair.there;
        let asked = tokio::time::timeout(PATIENCE, self.client.compare_exchanges(request));
        let answer = asked.await.map_err(|_| ReconcileError::Patience)?;
        let stream = answer.map_err(|status| PeerError::Status {
            city: there,
            source: Box::new(status),
        })?;
        Ok(Theirs {
            stream: stream.into_inner(),
            pair: self.pair,
            window: None,
            key: None,
        })
    }
}

/// The windows of this ledger.
struct Ours {
    records: banqiao_ledger::reconcile::Records,
    windows: Windows,
    /// Minutes with calls that are still running.
    running: BTreeSet<i64>,
    read: u64,
}

impl Ours {
    async fn next(&mut self) -> Result<Option<Window>, ReconcileError> {
        while let Some(record) = self.records.next().await? {
            self.read += 1;
            if record.state() == RecordState::Open
                && let Ok(id) = record.exchange.as_slice().try_into()
            {
                let start = made_ms(id).div_euclid(WINDOW_MS) * WINDOW_MS;
                self.running.insert(start);
            }
            if let Some(window) = self.windows.add(&record)? {
                return Ok(Some(window));
            }
        }
        Ok(self.windows.finish())
    }
}

/// What the other city tells. It is held to the order and the span that it was asked for.
struct Theirs {
    stream: Streaming<CompareExchangesResponse>,
    pair: Pair,
    window: Option<i64>,
    key: Option<Key>,
}

impl Theirs {
    async fn part(&mut self) -> Result<Option<Part>, ReconcileError> {
        let there = self.pair.there;
        let message = tokio::time::timeout(PATIENCE, self.stream.message()).await;
        let message = message.map_err(|_| ReconcileError::Patience)?;
        let message = message.map_err(|status| PeerError::Status {
            city: there,
            source: Box::new(status),
        })?;
        match message {
            None => Ok(None),
            Some(CompareExchangesResponse { part: Some(part) }) => Ok(Some(part)),
            Some(CompareExchangesResponse { part: None }) => Err(Malformed.into()),
        }
    }

    async fn window(
        &mut self,
        from_ms: i64,
        until_ms: i64,
    ) -> Result<Option<Window>, ReconcileError> {
        let told = match self.part().await? {
            None => return Ok(None),
            Some(Part::Window(told)) => Window::heard(&told)?,
            Some(Part::Record(_)) => return Err(Malformed.into()),
        };
        let start = told.start_ms;
        let sound = start % WINDOW_MS == 0
            && start > from_ms - WINDOW_MS
            && start < until_ms
            && self.window.is_none_or(|last| last < start);
        if !sound {
            return Err(Malformed.into());
        }
        self.window = Some(start);
        Ok(Some(told))
    }

    async fn record(
        &mut self,
        from_ms: i64,
        until_ms: i64,
    ) -> Result<Option<(Key, ExchangeRecord)>, ReconcileError> {
        let record = match self.part().await? {
            None => return Ok(None),
            Some(Part::Record(record)) => record,
            Some(Part::Window(_)) => return Err(Malformed.into()),
        };
        // A record of theirs is seen from there.
        let key = Key::of(&record, self.pair.turned())?;
        let made = made_ms(&key.exchange);
        let sound = (from_ms..until_ms).contains(&made)
            && record.state() != RecordState::Unspecified
            && self.key.is_none_or(|last| last < key);
        if !sound {
            return Err(Malformed.into());
        }
        self.key = Some(key);
        Ok(Some((key, record)))
    }
}
