//! The statements of a commit.
//!
//! A small batch, which is what a quiet ledger commits, is one message to the connection's thread: every row, the head
//! and the COMMIT. A large one goes table by table.

use std::sync::LazyLock;

use sqlx::{
    Arguments as _, SqliteConnection, error::BoxDynError, query, query_with,
    sqlite::SqliteArguments,
};
use uuid::Uuid;

use super::{
    LEDGER,
    archive::detach,
    erase::{erase, forget},
    grouped::{Grouped, unbound},
    reconcile::steps,
    rows::{self, CLAIMS, CLOSED, ENTRIES, EVIDENCE, OPENED, PRIVATE, TILES, TOKENS, UIDS},
};
use crate::{
    append::EvidenceKind,
    ledger::LedgerObserver,
    plan::{Call, Claim, EntryRow, Found, Plan, Wanted},
    private::{Sealed, Token},
    step::Step,
    store::{CommitFault, Fault, stored},
};

/// `CROSS JOIN` keeps the rows that are asked about on the outside of the loop.
static FIND_CLAIMS: Grouped = Grouped::new(
    "SELECT column1 FROM",
    4,
    "CROSS JOIN claim c WHERE c.ledger = 1 AND c.exchange = column2 AND c.attempt = column3 \
     AND c.consumer = column4",
);
static FIND_CALLS: Grouped = Grouped::new(
    "SELECT column1 FROM",
    5,
    "CROSS JOIN in_flight i WHERE i.ledger = 1 AND i.exchange = column2 AND i.attempt = column3 \
     AND i.side = column4 AND i.peer = column5",
);

/// Looks up which claims and calls are there.
pub(super) async fn look_up<'a>(
    connection: &mut SqliteConnection,
    wanted: &Wanted<'a>,
    found: &mut Found<'a>,
) -> Result<(), Fault> {
    let at = |ordinal: i64| usize::try_from(ordinal).ok();
    let claims: Vec<_> = wanted.claims.iter().copied().zip(0_i64..).collect();
    let numbers = FIND_CLAIMS
        .numbers(
            connection,
            &claims,
            |arguments, ((id, consumer), ordinal)| {
                arguments.add(*ordinal)?;
                arguments.add(&id.exchange[..])?;
                arguments.add(id.attempt)?;
                arguments.add(consumer.as_bytes())
            },
        )
        .await?;
    found.claims.extend(
        numbers
            .into_iter()
            .filter_map(|n| Some(claims.get(at(n)?)?.0)),
    );
    let calls: Vec<_> = wanted.calls.iter().copied().zip(0_i64..).collect();
    let numbers = FIND_CALLS
        .numbers(connection, &calls, |arguments, (call, ordinal)| {
            arguments.add(*ordinal)?;
            rows::closed(arguments, call)
        })
        .await?;
    found.calls.extend(
        numbers
            .into_iter()
            .filter_map(|n| Some(calls.get(at(n)?)?.0)),
    );
    Ok(())
}

/// The rows of a batch, table by table.
struct Rows<'p, 'a> {
    entries: &'p [EntryRow<'a>],
    private: Vec<(u64, &'p Sealed)>,
    evidence: &'p [(u64, EvidenceKind, &'a [u8])],
    tokens: &'p [(Token, u64)],
    claims: &'p [(Claim<'a>, u64)],
    opened: Vec<(Call<'a>, u64)>,
    closed: Vec<Call<'a>>,
}

/// Writes every row of a batch, advances the head and commits.
pub(super) async fn finish(
    connection: &mut SqliteConnection,
    observer: &dyn LedgerObserver,
    boot: Uuid,
    plan: &Plan<'_>,
) -> Result<(), CommitFault> {
    let refused = CommitFault::Refused;
    documents(connection, plan).await.map_err(refused)?;
    steps(connection, plan).await.map_err(refused)?;
    erase(connection, plan).await.map_err(refused)?;
    detach(connection, plan).await.map_err(refused)?;
    observer.reached(Step::DocumentsStored);
    for (month, id) in &plan.months {
        let insert = query("INSERT INTO month_key (ledger, month, key_id) VALUES (?1, ?2, ?3)")
            .bind(LEDGER)
            .bind(month.number())
            .bind(&id[..]);
        let inserted = insert.execute(&mut *connection).await;
        inserted.map_err(|error| refused(Fault::sqlite(error)))?;
    }
    // One commit in a few has a full tile.
    TILES
        .execute(&mut *connection, &plan.tiles, rows::tile)
        .await
        .map_err(refused)?;
    observer.reached(Step::TilesStored);
    let rows = Rows {
        entries: &plan.entries,
        private: plan
            .entries
            .iter()
            .filter_map(|row| Some((row.index, row.prepared.private.as_ref()?)))
            .collect(),
        evidence: &plan.evidence,
        tokens: &plan.tokens,
        claims: &plan.claims,
        opened: plan
            .opened
            .iter()
            .map(|(call, index)| (*call, *index))
            .collect(),
        closed: plan.closed.iter().copied().collect(),
    };
    let small: &'static [Whole; 2] = &SMALL;
    let whole = match small.iter().find(|whole| whole.holds(&rows)) {
        Some(whole) => {
            let arguments = whole
                .arguments(&rows, boot, plan)
                .map_err(unbound)
                .map_err(refused)?;
            query_with(whole.text.as_str(), arguments)
        }
        None => {
            rows.write(connection, boot).await.map_err(refused)?;
            observer.reached(Step::RowsStored);
            let mut arguments = SqliteArguments::default();
            head(&mut arguments, plan)
                .map_err(unbound)
                .map_err(refused)?;
            query_with(HEAD, arguments)
        }
    };
    whole
        .execute(&mut *connection)
        .await
        .map_err(CommitFault::sqlite)?;
    if !plan.erased.is_empty() {
        forget(connection).await;
    }
    Ok(())
}

/// The head was read in this transaction, which nobody else can write beside: the update cannot miss it.
const HEAD: &str = "UPDATE head SET size = ?, frontier = ?, note = ? WHERE ledger = 1; COMMIT";

fn head(arguments: &mut SqliteArguments, plan: &Plan<'_>) -> Result<(), BoxDynError> {
    arguments.add(stored(plan.frontier.count())?)?;
    arguments.add(plan.frontier.to_bytes())?;
    arguments.add(&*plan.note)
}

impl Rows<'_, '_> {
    async fn write(&self, connection: &mut SqliteConnection, boot: Uuid) -> Result<(), Fault> {
        ENTRIES
            .execute(connection, self.entries, rows::entry)
            .await?;
        UIDS.execute(connection, self.entries, rows::uid).await?;
        PRIVATE
            .execute(connection, &self.private, rows::private)
            .await?;
        EVIDENCE
            .execute(connection, self.evidence, rows::evidence)
            .await?;
        TOKENS.execute(connection, self.tokens, rows::token).await?;
        CLAIMS.execute(connection, self.claims, rows::claim).await?;
        let open = |arguments: &mut SqliteArguments, row: &_| rows::opened(arguments, boot, row);
        OPENED.execute(connection, &self.opened, open).await?;
        CLOSED.execute(connection, &self.closed, rows::closed).await
    }
}

/// The statement for a whole batch of at most so many rows in each table.
struct Whole {
    entries: usize,
    tokens: usize,
    text: String,
}

static SMALL: LazyLock<[Whole; 2]> = LazyLock::new(|| [Whole::new(1, 4), Whole::new(8, 24)]);

impl Whole {
    fn new(entries: usize, tokens: usize) -> Self {
        let parts = [
            ENTRIES.text(entries),
            UIDS.text(entries),
            PRIVATE.text(entries),
            EVIDENCE.text(entries),
            TOKENS.text(tokens),
            CLAIMS.text(entries),
            OPENED.text(entries),
            CLOSED.text(entries),
            HEAD.to_owned(),
        ];
        Self {
            entries,
            tokens,
            text: parts.join("; "),
        }
    }

    fn holds(&self, rows: &Rows<'_, '_>) -> bool {
        rows.entries.len() <= self.entries
            && rows.evidence.len() <= self.entries
            && rows.tokens.len() <= self.tokens
            && rows.claims.len() <= self.entries
            && rows.opened.len() <= self.entries
            && rows.closed.len() <= self.entries
    }

    fn arguments(
        &self,
        rows: &Rows<'_, '_>,
        boot: Uuid,
        plan: &Plan<'_>,
    ) -> Result<SqliteArguments, BoxDynError> {
        let mut all = SqliteArguments::default();
        all.reserve(self.entries * 35 + self.tokens * 2, 0);
        let into = &mut all;
        fill(into, &ENTRIES, self.entries, rows.entries, rows::entry)?;
        fill(into, &UIDS, self.entries, rows.entries, rows::uid)?;
        fill(into, &PRIVATE, self.entries, &rows.private, rows::private)?;
        fill(into, &EVIDENCE, self.entries, rows.evidence, rows::evidence)?;
        fill(into, &TOKENS, self.tokens, rows.tokens, rows::token)?;
        fill(into, &CLAIMS, self.entries, rows.claims, rows::claim)?;
        fill(into, &OPENED, self.entries, &rows.opened, |into, row| {
            rows::opened(into, boot, row)
        })?;
        fill(into, &CLOSED, self.entries, &rows.closed, rows::closed)?;
        head(into, plan)?;
        Ok(all)
    }
}

/// Binds rows, and NULL for each that is missing.
fn fill<R>(
    arguments: &mut SqliteArguments,
    table: &Grouped,
    width: usize,
    rows: &[R],
    bind: impl Fn(&mut SqliteArguments, &R) -> Result<(), BoxDynError>,
) -> Result<(), BoxDynError> {
    for row in rows {
        bind(arguments, row)?;
    }
    for _ in 0..(width - rows.len()) * table.columns() {
        arguments.add(None::<i64>)?;
    }
    Ok(())
}

/// Documents change seldom: one statement each.
async fn documents(connection: &mut SqliteConnection, plan: &Plan<'_>) -> Result<(), Fault> {
    if plan.revisions == 0 {
        return Ok(());
    }
    for ((kind, key), bytes) in &plan.documents {
        let change = match bytes {
            Some(bytes) => query(
                "INSERT INTO document (ledger, kind, key, bytes) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (ledger, kind, key) DO UPDATE SET bytes = excluded.bytes",
            )
            .bind(LEDGER)
            .bind(kind.number())
            .bind(key.as_bytes())
            .bind(*bytes),
            None => query("DELETE FROM document WHERE ledger = ?1 AND kind = ?2 AND key = ?3")
                .bind(LEDGER)
                .bind(kind.number())
                .bind(key.as_bytes()),
        };
        change
            .execute(&mut *connection)
            .await
            .map_err(Fault::sqlite)?;
    }
    query("UPDATE document_revision SET revision = revision + ?2 WHERE ledger = ?1")
        .bind(LEDGER)
        .bind(stored(plan.revisions).map_err(Fault::Storage)?)
        .execute(connection)
        .await
        .map_err(Fault::sqlite)?;
    Ok(())
}
