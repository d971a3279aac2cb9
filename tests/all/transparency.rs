//! Property 1 of the hardening list: through two gateways a call behaves as it does directly.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use banqiao_tests::{
    echo::EchoRequest,
    network::{Network, SYSTEM},
    service::{SCRIPT, Service},
    wait::{PATIENCE, wait_for},
    wire::{Answer, Caller, Head, Message},
};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use futures_util::{StreamExt as _, stream};
use http::{HeaderMap, HeaderName, HeaderValue};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

const CALLS: u64 = 5_000;
const YANTAI: &str = "370600";

/// A generated call: what the client sends, and what the service answers.
#[derive(Clone, Debug)]
struct Scene {
    method: &'static str,
    metadata: HeaderMap,
    requests: Vec<Message>,
    /// None: trailers-only.
    headers: Option<HeaderMap>,
    responses: Vec<Message>,
    trailers: HeaderMap,
}

/// What the service received of it.
type Received = Arc<Mutex<BTreeMap<String, Vec<Message>>>>;

fn metadata(rng: &mut StdRng) -> HeaderMap {
    let mut map = HeaderMap::new();
    for _ in 0..rng.random_range(0..6) {
        // Few names, so that some stand twice.
        let number = rng.random_range(0..4);
        let binary: Vec<u8> = (0..rng.random_range(0..60)).map(|_| rng.random()).collect();
        let (name, value) = match rng.random_range(0..4) {
            0 => (
                format!("x-gen-{number}-bin"),
                STANDARD_NO_PAD.encode(&binary),
            ),
            1 => (
                format!("x-gen-{number}"),
                "a%20b%E6%9D%BF, c;d=\"e\"".to_owned(),
            ),
            2 => (format!("x-gen-{number}"), String::new()),
            _ => (
                format!("x-gen-{number}.y_z"),
                "v".repeat(rng.random_range(1..400)),
            ),
        };
        map.append(
            HeaderName::try_from(name).unwrap(),
            HeaderValue::try_from(value).unwrap(),
        );
    }
    map
}

/// An encoded message: field 1, a string of any size that a window may split.
fn text(rng: &mut StdRng) -> Message {
    let letters = match rng.random_range(0..20) {
        0 => 0,
        1 => rng.random_range(5_000..6_000),
        2 => rng.random_range(15_000..20_000),
        _ => rng.random_range(1..600),
    };
    Message::of(&EchoRequest {
        text: "字".repeat(letters),
        payload: Vec::new(),
    })
}

fn scene(rng: &mut StdRng) -> Scene {
    let (method, client_streams, server_streams) = [
        ("Echo", false, false),
        ("Put", false, false),
        ("Look", false, false),
        ("Collect", true, false),
        ("Expand", false, true),
        ("Chat", true, true),
    ][rng.random_range(0..6)];
    let compressed = rng.random_bool(0.3);
    let mut call = metadata(rng);
    let mut answer = metadata(rng);
    let mut list = |streams: bool| -> Vec<Message> {
        let count = if streams { rng.random_range(0..8) } else { 1 };
        // Where compression was announced, a message may still go without it.
        let one = |rng: &mut StdRng| {
            let message = text(rng);
            if compressed && rng.random_bool(0.7) {
                gzip(&message)
            } else {
                message
            }
        };
        (0..count).map(|_| one(rng)).collect()
    };
    let requests = list(client_streams);
    let responses = list(server_streams);
    if compressed {
        call.insert("grpc-encoding", HeaderValue::from_static("gzip"));
        answer.insert("grpc-encoding", HeaderValue::from_static("gzip"));
    }
    call.insert(
        "grpc-accept-encoding",
        HeaderValue::from_static("identity, gzip"),
    );
    call.insert("user-agent", HeaderValue::from_static("generated/1"));
    let failed = rng.random_bool(0.4);
    let mut trailers = metadata(rng);
    let code = if failed { rng.random_range(1..=16) } else { 0 };
    trailers.insert("grpc-status", HeaderValue::from(code));
    if failed && rng.random_bool(0.7) {
        let message = "no%20%E2%82%AC%0A at all %25".repeat(rng.random_range(1..5));
        trailers.insert("grpc-message", message.try_into().unwrap());
    }
    if failed && rng.random_bool(0.5) {
        let details: Vec<u8> = (0..rng.random_range(0..200))
            .map(|_| rng.random())
            .collect();
        let details = STANDARD_NO_PAD.encode(details);
        trailers.insert("grpc-status-details-bin", details.try_into().unwrap());
    }
    let trailers_only = failed && rng.random_bool(0.5);
    let responses = match (trailers_only, failed, server_streams) {
        (true, ..) | (false, true, false) => Vec::new(),
        _ => responses,
    };
    let headers = (!trailers_only).then_some(answer);
    Scene {
        method,
        metadata: call,
        requests,
        headers,
        responses,
        trailers,
    }
}

/// One stored block of a gzip member: valid, and made without a library.
fn gzip(message: &Message) -> Message {
    let size = u16::try_from(message.bytes.len()).unwrap();
    let mut member = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255, 1];
    member.extend(size.to_le_bytes());
    member.extend((!size).to_le_bytes());
    member.extend(&message.bytes);
    member.extend(crc32(&message.bytes).to_le_bytes());
    member.extend(u32::from(size).to_le_bytes());
    Message {
        compressed: true,
        bytes: member.into(),
    }
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    })
}

fn play(service: &Service, name: &str, scene: &Scene, received: &Received) {
    let (scene, received, key) = (scene.clone(), Arc::clone(received), name.to_owned());
    service.script(name, move |mut call| {
        let (scene, received, key) = (scene.clone(), Arc::clone(&received), key.clone());
        async move {
            let mut messages = Vec::new();
            while let Some(message) = call.messages.next().await? {
                messages.push(message);
            }
            received.lock().unwrap().insert(key, messages);
            let Some(headers) = scene.headers else {
                return call.trailers_only(scene.trailers);
            };
            let mut reply = call.answer(headers)?;
            for message in &scene.responses {
                reply.send(message).await?;
            }
            reply.end(scene.trailers)
        }
    });
}

/// Takes away what the documentation says a gateway adds.
fn bare(mut answer: Answer) -> Answer {
    answer.headers.remove("banqiao-exchange-id");
    if let Some(trailers) = &mut answer.trailers {
        trailers.remove("banqiao-exchange-id");
    }
    answer
}

/// What the service saw, but for the names that the documentation lists.
fn seen_bare(headers: &HeaderMap) -> HeaderMap {
    let documented =
        |name: &str| name.starts_with("banqiao-") || name == "grpc-timeout" || name == SCRIPT;
    let kept = headers
        .iter()
        .filter(|(name, _)| !documented(name.as_str()));
    let mut rest = HeaderMap::new();
    for (name, value) in kept {
        rest.append(name, value.clone());
    }
    rest
}

#[tokio::test]
async fn generated_calls_do_not_differ_from_direct_ones() {
    let (network, service) = Network::echo().await.unwrap();
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    let through = qingdao.caller(SYSTEM).await.unwrap();
    let tls = yantai.tls("gateway").unwrap();
    let direct = Caller::connect(service.address(), tls).await.unwrap();
    let received = Received::default();
    let one = |number: u64| {
        let (service, received, through, direct) = (&service, &received, &through, &direct);
        async move {
            // The number is the seed: a failure names it, and it alone can be run again.
            let scene = scene(&mut StdRng::seed_from_u64(number));
            let path = format!("/example.echo.v1.EchoService/{}", scene.method);
            let head = |name: &str| {
                let mut head = Head::new(&path, YANTAI).with(SCRIPT, name);
                head.headers.extend(scene.metadata.clone());
                head
            };
            let names = [format!("direct-{number}"), format!("through-{number}")];
            play(service, &names[0], &scene, received);
            play(service, &names[1], &scene, received);
            let expected = direct
                .exchange(&head(&names[0]), &scene.requests)
                .await
                .unwrap();
            let found = through
                .exchange(&head(&names[1]), &scene.requests)
                .await
                .unwrap();
            assert!(
                found.exchange().is_some(),
                "seed {number}: no exchange id in {found:?}"
            );
            assert_eq!(bare(found), bare(expected), "seed {number}: {scene:?}");
            let [one, other] = names.map(|name| received.lock().unwrap().remove(&name));
            assert_eq!(one, other, "seed {number}: request messages");
        }
    };
    stream::iter(0..CALLS).for_each_concurrent(16, one).await;
    // What the service saw of the heads agrees too.
    let seen = service.seen();
    let by_script = |prefix: &str| -> BTreeMap<u64, HeaderMap> {
        let named = seen.iter().filter_map(|seen| {
            let name = seen.headers.get(SCRIPT)?.to_str().ok()?;
            Some((
                name.strip_prefix(prefix)?.parse().ok()?,
                seen_bare(&seen.headers),
            ))
        });
        named.collect()
    };
    let (direct, through) = (by_script("direct-"), by_script("through-"));
    assert_eq!(direct.len() as u64, CALLS);
    for (seed, headers) in direct {
        let mut headers = headers;
        // Direct calls carried them to the service; gateways keep them among themselves.
        headers.remove("banqiao-to");
        assert_eq!(
            through.get(&seed),
            Some(&headers),
            "seed {seed}: headers at the service"
        );
    }
}

/// Waits for the call of a script and gives its place.
async fn arrived(service: &Service, script: &str) -> usize {
    wait_for("the call at the service", PATIENCE, || async {
        service
            .seen()
            .iter()
            .position(|seen| seen.headers.get(SCRIPT).is_some_and(|s| s == script))
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn cancelled_call_is_cancelled_at_the_service_within_a_tenth_of_a_second() {
    let (network, service) = Network::echo().await.unwrap();
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    let mut slowest = Duration::ZERO;
    for round in 0..20 {
        let name = format!("hang-{round}");
        let answers_first = round % 2 == 0;
        service.script(&name, move |mut call| async move {
            if answers_first {
                let mut reply = call.answer(HeaderMap::new())?;
                reply
                    .send(&Message {
                        compressed: false,
                        bytes: "".into(),
                    })
                    .await?;
                reply.cancelled().await;
            } else {
                call.cancelled().await;
            }
            Ok(())
        });
        let method = if answers_first { "Expand" } else { "Echo" };
        let head = Head::new(&format!("/example.echo.v1.EchoService/{method}"), YANTAI);
        let mut call = caller.open(&head.with(SCRIPT, &name)).await.unwrap();
        call.send(&Message {
            compressed: false,
            bytes: "".into(),
        })
        .await
        .unwrap();
        call.finish();
        let place = arrived(&service, &name).await;
        let left = Instant::now();
        if answers_first {
            let (mut request, _, mut messages) = call.headers().await.unwrap();
            messages.next().await.unwrap();
            request.send_reset(h2::Reason::CANCEL);
        } else {
            call.cancel();
        }
        let ended = wait_for("the cancel at the service", PATIENCE, || async {
            service.seen()[place].cancelled
        });
        slowest = slowest.max(ended.await.unwrap().saturating_duration_since(left));
    }
    assert!(slowest < Duration::from_millis(100), "{slowest:?}");
}

/// A `grpc-timeout` value as a duration.
fn timeout(value: &str) -> Duration {
    let (number, unit) = value.split_at(value.len() - 1);
    let number: u64 = number.parse().unwrap();
    assert!(value.len() <= 9, "{value}: at most eight digits");
    match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => panic!("{value}: no unit"),
    }
}

#[tokio::test]
async fn deadlines_shrink_and_never_grow() {
    let (network, service) = Network::echo().await.unwrap();
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    let request = EchoRequest::default();
    // What the client states, and the most that may reach the service; unary calls are cut to 60 s.
    let rows = [
        ("5S", Duration::from_secs(5)),
        ("30000m", Duration::from_secs(30)),
        ("10000000u", Duration::from_secs(10)),
        ("99999999n", Duration::from_millis(100)),
        ("1M", Duration::from_secs(60)),
        ("2H", Duration::from_secs(60)),
        ("99999999H", Duration::from_secs(60)),
    ];
    for (stated, most) in rows {
        let head = Head::new("/example.echo.v1.EchoService/Echo", YANTAI);
        let head = head.with("grpc-timeout", stated).with("x-row", stated);
        let answer = caller.unary(&head, &request).await.unwrap();
        assert_eq!(answer.code(), Some(0), "{stated}: {:?}", answer.grpc());
        let seen = service
            .seen()
            .into_iter()
            .find(|s| s.headers.get("x-row").is_some_and(|v| v == stated));
        let headers = seen.unwrap().headers;
        let left = timeout(headers.get("grpc-timeout").expect(stated).to_str().unwrap());
        assert!(
            left < most && left > Duration::ZERO,
            "{stated} reached the service as {left:?}"
        );
    }
    // A stream without a deadline keeps none.
    let head = Head::new("/example.echo.v1.EchoService/Chat", YANTAI).with("x-row", "none");
    caller.exchange(&head, &[]).await.unwrap();
    let seen = service
        .seen()
        .into_iter()
        .find(|s| s.headers.get("x-row").is_some_and(|v| v == "none"));
    assert_eq!(seen.unwrap().headers.get("grpc-timeout"), None);
}
