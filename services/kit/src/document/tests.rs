//! Documents on SQLite; PostgreSQL is exercised by the laboratory and item services' suites.

use banqiao_directory::ManualClock;
use futures_util::{StreamExt, TryStreamExt, future::join_all};
use parking_lot::Mutex;
use tempfile::TempDir;
use tonic::Status;

use super::*;
use crate::{
    database::{DatabaseSettings, DatabaseUrl, Migrations},
    gateway::CallRefusal,
    rule::Violations,
};

const MIGRATIONS: Migrations = Migrations {
    postgres: &[
        ("documents", DOCUMENT_POSTGRES),
        ("document holders", DOCUMENT_HOLDER_POSTGRES),
    ],
    sqlite: &[
        ("documents", DOCUMENT_SQLITE),
        ("document holders", DOCUMENT_HOLDER_SQLITE),
    ],
};
const SIZE: Rule = Rule::design("SIZE", "1 byte to 16 MiB", "test");
const TYPE: Rule = Rule::design("TYPE", "PDF or PNG", "test");
const TERMS: DocumentTerms = DocumentTerms {
    max_bytes: 16 * 1024 * 1024,
    content_types: &["application/pdf", "image/png"],
    size_rule: &SIZE,
    type_rule: &TYPE,
};
const OWNER: &str = "spiffe://qingdao.jiaodong/hospital-1/emr";
const PDF: &str = "application/pdf";
/// Three whole chunks and a bit.
const LENGTH: usize = 3 * DOCUMENT_CHUNK + 1_234;

struct Scene {
    _folder: TempDir,
    store: DocumentStore,
    clock: ManualClock,
}

async fn open() -> Scene {
    let folder = TempDir::new().unwrap();
    let url = DatabaseUrl::Sqlite(folder.path().join("documents.db"));
    let database = Database::open(&DatabaseSettings::new(url), MIGRATIONS)
        .await
        .unwrap();
    let clock = ManualClock::new(1_772_424_000_000_000);
    Scene {
        store: DocumentStore::new(database, clock.clock(), TERMS),
        _folder: folder,
        clock,
    }
}

/// Bytes of everything that is stored.
async fn stored_bytes(store: &DocumentStore) -> i64 {
    let Database::Sqlite(database) = &store.database else {
        panic!("SQLite")
    };
    let sum = "SELECT sum(length(content)) FROM document_chunk";
    let sum = sqlx::query_scalar(sum);
    sum.fetch_one(database.readers()).await.unwrap()
}

/// A document that differs in every chunk.
fn document(length: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let mut content: Vec<u8> = (0..length)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state.to_be_bytes()[0]
        })
        .collect();
    content[..5].copy_from_slice(b"%PDF-");
    content
}

fn declare(digest: DocumentDigest, size: usize, name: &str) -> DeclaredDocument {
    let mut faults = Violations::new();
    let declared = (digest.as_bytes(), size as u64, name);
    DeclaredDocument::parse(&TERMS, declared, "", &mut faults).unwrap()
}

fn declared(content: &[u8]) -> DeclaredDocument {
    declare(DocumentDigest::of(content), content.len(), PDF)
}

fn chunks(content: &[u8], from: usize) -> Vec<DocumentChunk> {
    let parts = content[from..].chunks(DOCUMENT_CHUNK).enumerate();
    parts
        .map(|(place, part)| {
            DocumentChunk::new((from + place * DOCUMENT_CHUNK) as u64, part.to_vec())
        })
        .collect()
}

async fn send(
    store: &DocumentStore,
    declared: &DeclaredDocument,
    owner: &str,
    sent: Vec<DocumentChunk>,
) -> Result<UploadProgress, CallError> {
    let sent = stream::iter(sent.into_iter().map(Ok));
    store.receive(declared, owner, sent).await
}

async fn read(store: &DocumentStore, digest: &DocumentDigest, offset: u64) -> Vec<u8> {
    let found = store.find(digest).await.unwrap().unwrap();
    let parts: Vec<_> = store
        .read(found, offset)
        .unwrap()
        .try_collect()
        .await
        .unwrap();
    assert!(
        parts
            .iter()
            .all(|part| part.content.len() <= DOCUMENT_CHUNK)
    );
    parts.into_iter().flat_map(|part| part.content).collect()
}

/// The code of the rule that refused.
fn code(error: CallError) -> &'static str {
    match error {
        CallError::CallerInvalid(violations) => violations[0].rule.code,
        CallError::CallerRefused { refusal, .. } => refusal.rule.code,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn an_upload_that_breaks_off_goes_on_where_it_was() {
    let Scene { store, _folder, .. } = open().await;
    let content = document(LENGTH);
    let declared = declared(&content);
    let mut sent = chunks(&content, 0);
    let broken = stream::iter(
        sent.drain(..2)
            .map(Ok)
            .chain([Err(CallError::CallerBrokeOff(Box::new(Status::cancelled(
                "gone",
            ))))]),
    );
    let broken = store.receive(&declared, OWNER, broken).await;
    assert!(matches!(broken, Err(CallError::CallerBrokeOff(_))));
    let progress = store.progress(&declared, OWNER).await.unwrap();
    let received = 2 * DOCUMENT_CHUNK as u64;
    assert_eq!((progress.received, progress.complete), (received, false));
    assert_eq!(store.find(declared.digest()).await.unwrap(), None);
    // A chunk whose answer was lost comes again; one that leaves a gap does not come in.
    let again = send(&store, &declared, OWNER, chunks(&content, 0)[1..2].to_vec()).await;
    assert_eq!(again.unwrap().received, received);
    let gap = send(&store, &declared, OWNER, chunks(&content, 0)[3..].to_vec()).await;
    assert_eq!(code(gap.unwrap_err()), "DOCUMENT_OFFSET");
    let done = send(&store, &declared, OWNER, sent).await.unwrap();
    assert!(done.complete);
    assert_eq!(read(&store, declared.digest(), 0).await, content);
    let middle = DOCUMENT_CHUNK + 17;
    assert_eq!(
        read(&store, declared.digest(), middle as u64).await,
        content[middle..]
    );
    let found = store.find(declared.digest()).await.unwrap().unwrap();
    assert!(store.read(found, LENGTH as u64 + 1).is_err());
}

#[tokio::test]
async fn a_flipped_byte_is_refused_and_nothing_before_it_is_lost() {
    let Scene { store, _folder, .. } = open().await;
    let content = document(LENGTH);
    let declared = declared(&content);
    let mut sent = chunks(&content, 0);
    sent[1].content[500] ^= 1;
    let refused = send(&store, &declared, OWNER, sent).await.unwrap_err();
    let CallError::CallerInvalid(violations) = refused else {
        panic!("{refused}")
    };
    assert_eq!(violations[0].field, "chunk.sha256");
    assert_eq!(violations[0].rule.code, "DOCUMENT_CHUNK_DIGEST");
    let received = store.progress(&declared, OWNER).await.unwrap().received;
    assert_eq!(received, DOCUMENT_CHUNK as u64);
    let rest = chunks(&content, DOCUMENT_CHUNK);
    assert!(send(&store, &declared, OWNER, rest).await.unwrap().complete);
}

#[tokio::test]
async fn a_document_that_is_not_what_was_declared_is_refused_whole() {
    let Scene { store, _folder, .. } = open().await;
    let content = document(LENGTH);
    let other = declare(DocumentDigest::of(b"other"), LENGTH, PDF);
    let refused = send(&store, &other, OWNER, chunks(&content, 0)).await;
    assert_eq!(code(refused.unwrap_err()), "DOCUMENT_WHOLE");
    assert_eq!(store.progress(&other, OWNER).await.unwrap().received, 0);
    let picture = declare(DocumentDigest::of(&content), LENGTH, "image/png");
    let refused = send(&store, &picture, OWNER, chunks(&content, 0)).await;
    assert_eq!(code(refused.unwrap_err()), "DOCUMENT_SIGNATURE");
    let short = chunks(&content[..DOCUMENT_CHUNK / 2], 0);
    let refused = send(&store, &declared(&content), OWNER, short).await;
    assert_eq!(code(refused.unwrap_err()), "DOCUMENT_CHUNK");
    // What is here already is not taken for another type or size either.
    let sent = chunks(&content, 0);
    assert!(
        send(&store, &declared(&content), OWNER, sent)
            .await
            .unwrap()
            .complete
    );
    for wrong in [
        picture,
        declare(DocumentDigest::of(&content), LENGTH + 1, PDF),
    ] {
        assert!(store.progress(&wrong, OWNER).await.is_err());
    }
}

#[test]
fn every_fault_of_a_declaration_is_named() {
    let mut faults = Violations::new();
    let none = DeclaredDocument::parse(&TERMS, (b"short", 0, "text/html"), "it.", &mut faults);
    assert_eq!(none, None);
    let faults: Vec<_> = faults
        .into_vec()
        .into_iter()
        .map(|fault| (fault.field.into_owned(), fault.rule.code))
        .collect();
    assert_eq!(
        faults,
        [
            ("it.sha256".to_owned(), "DOCUMENT_DIGEST"),
            ("it.size".to_owned(), "SIZE"),
            ("it.content_type".to_owned(), "TYPE")
        ]
    );
}

#[tokio::test]
async fn uploads_of_the_same_document_at_once_share_it() {
    let Scene { store, _folder, .. } = open().await;
    let content = document(LENGTH);
    let declared = declared(&content);
    let owners = ["a", "a", "b", "c"];
    let sent = owners.map(|owner| send(&store, &declared, owner, chunks(&content, 0)));
    for outcome in join_all(sent).await {
        assert!(outcome.unwrap().complete);
    }
    // Nobody's half upload spoils another's, and whoever knows the digest of what another brought does not have the bytes by it.
    let second = document(LENGTH - 1);
    let declared = self::declared(&second);
    let mut poisoned = second.clone();
    poisoned[99] ^= 1;
    let half = chunks(&poisoned, 0)[..2].to_vec();
    assert!(!send(&store, &declared, "a", half).await.unwrap().complete);
    let whole = send(&store, &declared, "b", chunks(&second, 0)).await;
    assert!(whole.unwrap().complete);
    assert!(!store.progress(&declared, "c").await.unwrap().complete);
    let told = send(&store, &declared, "c", Vec::new()).await.unwrap();
    assert_eq!((told.received, told.complete), (0, false));
    let rest = chunks(&poisoned, 0)[2..].to_vec();
    let refused = send(&store, &declared, "a", rest).await;
    assert_eq!(code(refused.unwrap_err()), "DOCUMENT_WHOLE");
    let own = send(&store, &declared, "a", chunks(&second, 0)).await;
    assert!(own.unwrap().complete);
    assert_eq!(read(&store, declared.digest(), 0).await, second);
    let twice = i64::try_from(2 * LENGTH - 1).unwrap();
    assert_eq!(stored_bytes(&store).await, twice, "each once");
}

#[tokio::test]
async fn what_nobody_goes_on_with_is_dropped_and_what_a_record_names_stays() {
    let Scene {
        store,
        clock,
        _folder,
    } = open().await;
    let (kept, loose, half) = (document(LENGTH), document(LENGTH - 1), document(LENGTH - 2));
    for content in [&kept, &loose] {
        let sent = chunks(content, 0);
        send(&store, &declared(content), OWNER, sent).await.unwrap();
    }
    let begun = chunks(&half, 0)[..1].to_vec();
    send(&store, &declared(&half), OWNER, begun).await.unwrap();
    let Database::Sqlite(sqlite) = &store.database else {
        unreachable!("opened as SQLite")
    };
    let mut connection = sqlite.writer().acquire().await.unwrap();
    for (content, there) in [(&kept, true), (&half, false)] {
        let digest = DocumentDigest::of(content);
        let held = DocumentStore::keep_sqlite(&mut connection, &digest).await;
        assert_eq!(held.unwrap(), there);
    }
    drop(connection);
    assert_eq!(store.expire().await.unwrap(), 0);
    clock.advance_us(25 * 3_600_000_000);
    assert_eq!(store.expire().await.unwrap(), 2);
    assert_eq!(read(&store, declared(&kept).digest(), 0).await, kept);
    assert_eq!(store.find(declared(&loose).digest()).await.unwrap(), None);
    let progress = store.progress(&declared(&half), OWNER).await.unwrap();
    assert_eq!(progress.received, 0);
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM document_chunk")
        .fetch_one(sqlite.readers())
        .await
        .unwrap();
    assert_eq!(left, 4);
}

#[tokio::test]
async fn uploads_and_streams_are_bounded() {
    let Scene { store, _folder, .. } = open().await;
    for index in 0..64 {
        let one = declare(DocumentDigest::of(&[index]), LENGTH, PDF);
        send(&store, &one, OWNER, Vec::new()).await.unwrap();
    }
    let more = declare(DocumentDigest::of(b"more"), LENGTH, PDF);
    let refused = send(&store, &more, OWNER, Vec::new()).await.unwrap_err();
    assert_eq!(code(refused), "TOO_MANY_UPLOADS");
    assert!(send(&store, &more, "another", Vec::new()).await.is_ok());
    let places: Vec<_> = (0..STREAMS).map(|_| store.place().unwrap()).collect();
    let refused = send(&store, &more, "another", Vec::new())
        .await
        .unwrap_err();
    assert_eq!(code(refused), "TOO_MANY_DOCUMENT_STREAMS");
    drop(places);
}

/// Another service that sends a document and breaks off as it is told.
struct Source {
    content: Vec<u8>,
    /// Chunks that each connection brings, in turn; then as many as there are.
    connections: Mutex<Vec<usize>>,
    /// The connection, from 0, that flips a byte of its first chunk.
    flips: Option<usize>,
    opened: Mutex<Vec<u64>>,
}

impl Source {
    fn new(content: Vec<u8>, connections: &[usize], flips: Option<usize>) -> Self {
        Self {
            content,
            connections: Mutex::new(connections.iter().rev().copied().collect()),
            flips,
            opened: Mutex::default(),
        }
    }
}

impl DocumentSource for Source {
    async fn open(&self, offset: u64) -> Result<Chunks, CallRefusal> {
        let place = {
            let mut opened = self.opened.lock();
            opened.push(offset);
            opened.len() - 1
        };
        let brings = self.connections.lock().pop();
        let mut parts = chunks(&self.content, usize::try_from(offset).unwrap());
        if self.flips == Some(place) {
            parts[0].content[9] ^= 1;
        }
        let whole = parts.into_iter().map(Ok);
        let sent: Vec<_> = match brings {
            None => whole.collect(),
            Some(count) => whole
                .take(count)
                .chain([Err(Status::unavailable("broken"))])
                .collect(),
        };
        Ok(stream::iter(sent).boxed())
    }
}

#[tokio::test]
async fn a_pull_goes_on_after_broken_connections_and_bytes_that_changed() {
    let Scene { store, _folder, .. } = open().await;
    let content = document(LENGTH);
    let declared = declared(&content);
    let source = Source::new(content.clone(), &[1, 2, 0], Some(1));
    // The first connection brings a chunk, the second one a flipped byte, the third none: given up for now.
    let error = pull(&store, &declared, "pull", &source).await.unwrap_err();
    assert!(matches!(error, PullError::Refused(_)), "{error}");
    let done = pull(&store, &declared, "pull", &source).await.unwrap();
    assert!(done.complete);
    let one = DOCUMENT_CHUNK as u64;
    assert_eq!(*source.opened.lock(), [0, one, one, one]);
    assert_eq!(read(&store, declared.digest(), 0).await, content);
    // What is here is not got again.
    assert!(
        pull(&store, &declared, "pull", &source)
            .await
            .unwrap()
            .complete
    );
    assert_eq!(source.opened.lock().len(), 4);
}

#[tokio::test]
async fn a_source_that_sends_another_document_is_not_believed() {
    let Scene { store, _folder, .. } = open().await;
    let content = document(LENGTH);
    let mut other = content.clone();
    other[LENGTH - 1] ^= 1;
    let declared = declared(&content);
    let source = Source::new(other, &[], None);
    let error = pull(&store, &declared, "pull", &source).await.unwrap_err();
    assert!(matches!(error, PullError::Other(_)), "{error}");
    let short = Source::new(content[..2 * DOCUMENT_CHUNK].to_vec(), &[], None);
    let error = pull(&store, &declared, "pull", &short).await.unwrap_err();
    assert!(
        matches!(error, PullError::Short { received } if received == 2 * DOCUMENT_CHUNK as u64),
        "{error}"
    );
    assert_eq!(store.find(declared.digest()).await.unwrap(), None);
}
