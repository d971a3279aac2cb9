//! The tables that a batch goes into: their statements, and how a row is bound.

use banqiao_tlog::{frontier::root_of, tile::Tile};
use sqlx::{Arguments as _, error::BoxDynError, sqlite::SqliteArguments};
use uuid::Uuid;

use super::grouped::Grouped;
use crate::{
    append::EvidenceKind,
    index::{Part, Posting, UnitId},
    plan::{Call, Claim, EntryRow},
    private::{Sealed, Token},
    store::stored,
};

type Bound = Result<(), BoxDynError>;

const FILLED: &str = "WHERE column1 IS NOT NULL";

pub(super) static ENTRIES: Grouped = Grouped::new(
    "INSERT INTO entry (ledger, idx, kind, time_us, exchange, leaf, bytes) SELECT 1, * FROM",
    6,
    FILLED,
);

pub(super) fn entry(arguments: &mut SqliteArguments, row: &EntryRow<'_>) -> Bound {
    arguments.add(stored(row.index)?)?;
    arguments.add(row.prepared.kind)?;
    arguments.add(row.prepared.time_us)?;
    arguments.add(row.prepared.call.map(|call| call.exchange.to_vec()))?;
    arguments.add(&row.leaf[..])?;
    arguments.add(&row.bytes[..])
}

pub(super) static UIDS: Grouped = Grouped::new(
    "INSERT INTO entry_uid (ledger, uid, idx) SELECT 1, * FROM",
    2,
    FILLED,
);

pub(super) fn uid(arguments: &mut SqliteArguments, row: &EntryRow<'_>) -> Bound {
    arguments.add(&row.prepared.uid[..])?;
    arguments.add(stored(row.index)?)
}

pub(super) static PRIVATE: Grouped = Grouped::new(
    "INSERT INTO private (ledger, idx, month, ciphertext) SELECT 1, * FROM",
    3,
    FILLED,
);

pub(super) fn private(arguments: &mut SqliteArguments, (index, sealed): &(u64, &Sealed)) -> Bound {
    arguments.add(stored(*index)?)?;
    arguments.add(sealed.month.number())?;
    arguments.add(&sealed.ciphertext[..])
}

pub(super) static EVIDENCE: Grouped = Grouped::new(
    "INSERT INTO evidence (ledger, idx, kind, bytes) SELECT 1, * FROM",
    3,
    FILLED,
);

pub(super) fn evidence(
    arguments: &mut SqliteArguments,
    (index, kind, bytes): &(u64, EvidenceKind, &[u8]),
) -> Bound {
    arguments.add(stored(*index)?)?;
    arguments.add(kind.number())?;
    arguments.add(*bytes)
}

pub(super) static TOKENS: Grouped = Grouped::new(
    "INSERT INTO token (ledger, segment, token, idx) SELECT 1, column2 / 4096, * FROM",
    2,
    FILLED,
);

pub(super) fn token(arguments: &mut SqliteArguments, (token, index): &(Token, u64)) -> Bound {
    arguments.add(&token.0[..])?;
    arguments.add(stored(*index)?)
}

/// Unit, facet and value of postings, and their entries.
pub(super) static POSTINGS: Grouped = Grouped::new(
    "INSERT INTO posting (ledger, level, n, facet, value, entries) SELECT 1, * FROM",
    5,
    FILLED,
);

pub(super) fn posting(arguments: &mut SqliteArguments, unit: UnitId, posting: &Posting) -> Bound {
    arguments.add(unit.level.number())?;
    arguments.add(stored(unit.n)?)?;
    arguments.add(posting.facet)?;
    arguments.add(&posting.value[..])?;
    arguments.add(&posting.entries[..])
}

/// Group and part, and its pairs.
pub(super) static PARTS: Grouped = Grouped::new(
    "INSERT INTO presence (ledger, level, n, part, pairs) SELECT 1, * FROM",
    4,
    FILLED,
);

pub(super) fn part(arguments: &mut SqliteArguments, unit: UnitId, part: &Part) -> Bound {
    arguments.add(unit.level.number())?;
    arguments.add(stored(unit.n)?)?;
    arguments.add(part.part)?;
    arguments.add(&part.pairs[..])
}

pub(super) static TILES: Grouped = Grouped::new(
    "INSERT INTO tile (ledger, level, n, root, bytes) SELECT 1, * FROM",
    4,
    FILLED,
);

pub(super) fn tile(arguments: &mut SqliteArguments, tile: &Tile) -> Bound {
    arguments.add(tile.id().level())?;
    arguments.add(stored(tile.id().index())?)?;
    arguments.add(&root_of(tile.hashes())[..])?;
    arguments.add(tile.to_bytes())
}

pub(super) static CLAIMS: Grouped = Grouped::new(
    "INSERT INTO claim (ledger, exchange, attempt, consumer, idx) SELECT 1, * FROM",
    4,
    FILLED,
);

pub(super) fn claim(
    arguments: &mut SqliteArguments,
    ((id, consumer), index): &(Claim<'_>, u64),
) -> Bound {
    arguments.add(&id.exchange[..])?;
    arguments.add(id.attempt)?;
    arguments.add(consumer.as_bytes())?;
    arguments.add(stored(*index)?)
}

pub(super) static OPENED: Grouped = Grouped::new(
    "INSERT INTO in_flight (ledger, exchange, attempt, side, peer, boot, idx) SELECT 1, * FROM",
    6,
    FILLED,
);

pub(super) fn opened(
    arguments: &mut SqliteArguments,
    boot: Uuid,
    (call, index): &(Call<'_>, u64),
) -> Bound {
    closed(arguments, call)?;
    arguments.add(boot)?;
    arguments.add(stored(*index)?)
}

pub(super) static CLOSED: Grouped = Grouped::new(
    "DELETE FROM in_flight WHERE ledger = 1 AND (exchange, attempt, side, peer) IN (SELECT * FROM",
    4,
    ")",
);

pub(super) fn closed(arguments: &mut SqliteArguments, (id, peer): &Call<'_>) -> Bound {
    arguments.add(&id.exchange[..])?;
    arguments.add(id.attempt)?;
    arguments.add(id.side)?;
    arguments.add(peer.as_bytes())
}
