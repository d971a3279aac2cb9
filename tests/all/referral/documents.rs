//! Documents between two hospitals: what is killed on the way goes on where it was, and what changed on the way is refused.

use std::collections::BTreeSet;

use aws_lc_rs::digest::{Context, SHA256};
use banqiao_proto::ledger::v1::{EntryFilter, Kind};
use banqiao_tests::{
    network::City,
    wait::{wait_for, wait_until},
};
use sqlx::{Connection as _, SqliteConnection};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::*;

/// Bytes of a mebibyte, as documents count.
const MEBIBYTE: u64 = CHUNK as u64;

/// Exchanges of a method of referrals in a city's ledger.
pub(super) async fn exchanges(city: &City, method: &str) -> BTreeSet<Vec<u8>> {
    let filter = EntryFilter {
        method: format!("/banqiao.lab.v1.ReferralService/{method}"),
        ..EntryFilter::default()
    };
    let found = city.admin().search(filter).await.unwrap();
    let exchanges = found.into_iter().map(|record| record.entry.exchange);
    exchanges.collect()
}

/// The bytes, the last one changed.
fn flipped(content: &[u8]) -> Vec<u8> {
    let mut flipped = content.to_vec();
    if let Some(byte) = flipped.last_mut() {
        *byte ^= 1;
    }
    flipped
}

#[tokio::test]
async fn an_upload_goes_on_after_the_service_was_killed_and_changed_bytes_are_refused() {
    let (_network, mut labs, qingdao, yantai) = hospitals().await;
    let id = qingdao.create(&yantai).await;
    let content = scan(9 * CHUNK + 100);
    let announced = header(&id, &content, ReferralDocumentKind::Image);

    // Five chunks arrive, then the service is killed while more are awaited.
    let (send, sent) = mpsc::channel(1);
    let mut service = qingdao.service();
    let upload = service.upload_document(ReceiverStream::new(sent));
    let process = &mut labs[0].process;
    let broken_off = async {
        for part in parts(&announced, &content, 0).into_iter().take(6) {
            send.send(part).await.unwrap();
        }
        let again = Duration::from_millis(20);
        let received = wait_every("five chunks", PATIENCE, again, || async {
            let found = qingdao.uploaded(&announced).await.unwrap();
            (found.received == 5 * MEBIBYTE).then_some(())
        });
        received.await.unwrap();
        process.kill().unwrap();
        send
    };
    let (answer, _send) = tokio::join!(upload, broken_off);
    let lost = answer.unwrap_err();
    assert_eq!(lost.code(), Code::Unavailable, "{lost:?}");
    labs[0].restart().await.unwrap();
    let again = Duration::from_millis(50);
    let found = wait_every("the service again", PATIENCE, again, || async {
        qingdao.uploaded(&announced).await.ok()
    });
    let found = found.await.unwrap();
    assert_eq!((found.received, found.complete), (5 * MEBIBYTE, false));

    // A byte that changes on the way: refused, and nothing before it is lost.
    let mut rest = parts(&announced, &content, found.received);
    let mut changed = rest.clone();
    if let Some(Part::Chunk(chunk)) = &mut changed[1].part {
        chunk.content = flipped(&chunk.content);
    }
    let refused = qingdao.upload(changed).await.unwrap_err();
    assert_eq!(
        violation(&refused),
        (
            "chunk.sha256".to_owned(),
            "DOCUMENT_CHUNK_DIGEST".to_owned()
        )
    );
    rest.truncate(3);
    let going_on = qingdao.upload(rest).await.unwrap();
    assert_eq!(
        (going_on.received, going_on.complete),
        (7 * MEBIBYTE, false)
    );
    let whole = qingdao
        .upload(parts(&announced, &content, 7 * MEBIBYTE))
        .await;
    let whole = whole.unwrap();
    assert_eq!(
        (whole.received, whole.complete),
        (content.len() as u64, true)
    );

    // Another document than was declared: dropped at its end.
    let small = scan(2 * CHUNK);
    let declared = header(&id, &small, ReferralDocumentKind::Other);
    let other = qingdao.upload(parts(&declared, &flipped(&small), 0)).await;
    assert_eq!(
        violation(&other.unwrap_err()),
        ("sha256".to_owned(), "DOCUMENT_WHOLE".to_owned())
    );
    assert_eq!(qingdao.uploaded(&declared).await.unwrap().received, 0);
    let read = qingdao.read(&id).await.unwrap();
    assert_eq!(read.referral.unwrap().documents.len(), 1);
}

#[tokio::test]
async fn five_hundred_mebibytes_are_taken_and_one_byte_more_is_refused() {
    let (_network, _labs, qingdao, yantai) = hospitals().await;
    let id = qingdao.create(&yantai).await;
    let begin = scan(CHUNK);
    let mut largest = header(&id, &begin, ReferralDocumentKind::Image);
    if let Some(document) = &mut largest.document {
        document.size = 500 * MEBIBYTE;
    }
    let begun = qingdao
        .upload(vec![first(&largest), chunk(0, &begin)])
        .await;
    let begun = begun.unwrap();
    assert_eq!((begun.received, begun.complete), (MEBIBYTE, false));
    let mut beyond = largest;
    if let Some(document) = &mut beyond.document {
        document.size += 1;
    }
    let refused = qingdao.upload(vec![first(&beyond), chunk(0, &begin)]).await;
    assert_eq!(
        violation(&refused.unwrap_err()),
        (
            "header.document.size".to_owned(),
            "REFERRAL_DOCUMENT_SIZE".to_owned()
        )
    );
}

/// What the service of a folder has of the document that it gets; none when it gets none.
async fn received(lab: &Lab) -> Option<u64> {
    let url = format!("sqlite://{}", lab.folder.join("lab.db").display());
    let mut database = SqliteConnection::connect(&url).await.unwrap();
    let query = sqlx::query_scalar("SELECT received FROM document_upload");
    let received: Option<i64> = query.fetch_optional(&mut database).await.unwrap();
    database.close().await.unwrap();
    received.map(i64::unsigned_abs)
}

/// The bytes that each finished call for documents brought to a city, in the order of their ends.
async fn brought(city: &City) -> Vec<u64> {
    let filter = EntryFilter {
        method: "/banqiao.lab.v1.ReferralService/DownloadDocument".to_owned(),
        kinds: vec![Kind::Close.into()],
        ..EntryFilter::default()
    };
    let found = city.admin().search(filter).await.unwrap();
    let bytes = |entry: banqiao_proto::ledger::v1::Entry| entry.response.map(|way| way.bytes);
    found
        .into_iter()
        .filter_map(|record| bytes(record.entry))
        .collect()
}

#[tokio::test]
async fn a_document_comes_to_the_end_though_services_are_killed_while_it_passes() {
    let (network, mut labs, qingdao, yantai) = hospitals().await;
    let id = qingdao.create(&yantai).await;
    let content = scan(32 * CHUNK);
    let announced = header(&id, &content, ReferralDocumentKind::Image);
    qingdao
        .upload(parts(&announced, &content, 0))
        .await
        .unwrap();
    qingdao.act(&id, Step::Send(MARK)).await.unwrap();

    // Yantai's service is killed while it gets the document.
    let under_way = wait_for("a part of the document", PATIENCE, || async {
        received(&labs[1])
            .await
            .filter(|received| *received >= 4 * MEBIBYTE)
    });
    under_way.await.unwrap();
    labs[1].process.kill().unwrap();
    let before = received(&labs[1])
        .await
        .expect("the document is still on its way");
    assert!(before < 32 * MEBIBYTE, "{before}");
    labs[1].restart().await.unwrap();
    let there = yantai
        .sees("the whole document", &id, |read| read.awaited.is_empty())
        .await;
    assert_eq!(events(&there), ["sent", "document-arrived"]);
    // It went on where it was: what came first did not come again.
    let rest = 32 * MEBIBYTE - before;
    wait_until("the end of the last call", PATIENCE, || async {
        let brought = brought(&network.cities[1]).await;
        let last = brought.last().copied().unwrap_or_default();
        brought.len() > 1 && (rest..rest + MEBIBYTE).contains(&last)
    })
    .await
    .unwrap();

    // A hospital reads it, and its city's service is killed under it.
    let sha256 = &announced.document.as_ref().unwrap().sha256;
    let request = DownloadDocumentRequest {
        referral_id: id.clone(),
        sha256: sha256.clone(),
        offset: 0,
    };
    let opened = yantai.service().download_document(request).await;
    let mut chunks = opened.unwrap().into_inner();
    let mut read = Vec::new();
    let broken = loop {
        match chunks.message().await {
            Ok(answer) => read.extend(
                answer
                    .expect("a killed service ends nothing")
                    .chunk
                    .unwrap()
                    .content,
            ),
            Err(status) => break status,
        }
        if read.len() == 3 * CHUNK {
            labs[1].process.kill().unwrap();
        }
    };
    assert_eq!(broken.code(), Code::Unavailable, "{broken:?}");
    assert!(read.len() < content.len());
    labs[1].restart().await.unwrap();
    let again = Duration::from_millis(50);
    let rest = wait_every("the rest", PATIENCE, again, || async {
        let from = read.len() as u64;
        yantai.download(&id, sha256, from, 99).await.ok()
    });
    read.extend(rest.await.unwrap());
    assert!(read == content);
}

/// Chunk `number` of a large document: all differ, and none is ever all in memory at once.
fn block(number: usize) -> Vec<u8> {
    let mut block = vec![0x5a; CHUNK];
    block[..8].copy_from_slice(&(number as u64).to_be_bytes());
    if number == 0 {
        block[..5].copy_from_slice(b"%PDF-");
    }
    block
}

fn large(id: &str, chunks: usize) -> UploadHeader {
    let mut hashed = Context::new(&SHA256);
    (0..chunks).for_each(|number| hashed.update(&block(number)));
    let mut header = header(id, b"%PDF-", ReferralDocumentKind::Image);
    if let Some(document) = &mut header.document {
        document.sha256 = hashed.finish().as_ref().to_vec();
        document.size = (chunks * CHUNK) as u64;
    }
    header
}

/// Refers a patient with a document of so many chunks, which passes both services.
async fn passes(chunks: usize, from: &Hospital, to: &Hospital) {
    let id = from.create(to).await;
    let header = large(&id, chunks);
    let parts = (0..chunks).map(|number| chunk(number * CHUNK, &block(number)));
    let parts = tokio_stream::iter([first(&header)].into_iter().chain(parts));
    let uploaded = from.service().upload_document(parts).await.unwrap();
    assert!(uploaded.into_inner().complete);
    from.act(&id, Step::Send(MARK)).await.unwrap();
    to.reaches(&id, ReferralStatus::Sent).await;
    to.sees("the document", &id, |read| read.awaited.is_empty())
        .await;
    let request = DownloadDocumentRequest {
        referral_id: id,
        sha256: header.document.unwrap().sha256,
        offset: 0,
    };
    let opened = to.service().download_document(request).await.unwrap();
    let (mut answers, mut number) = (opened.into_inner(), 0);
    while let Some(answer) = answers.message().await.unwrap() {
        assert!(answer.chunk.unwrap().content == block(number));
        number += 1;
    }
    assert_eq!(number, chunks);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_document_passes_while_the_services_memory_stays_flat() {
    const GROWTH: u64 = 16 << 20;
    let (_network, labs, qingdao, yantai) = hospitals().await;
    passes(16, &qingdao, &yantai).await;
    let peaks = || {
        labs.each_ref()
            .map(|lab| lab.process.peak_memory().unwrap())
    };
    let before = peaks();
    passes(104, &qingdao, &yantai).await;
    for ((before, after), lab) in before.into_iter().zip(peaks()).zip(&labs) {
        let folder = lab.folder.display();
        println!("{folder}: {} MiB, then {} MiB", before >> 20, after >> 20);
        assert!(after - before < GROWTH, "{folder}: {before} to {after}");
    }
}
