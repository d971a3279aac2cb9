//! Property 2: one canonical path. Whatever else a client sends never reaches a service.

use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{EntryFilter, Kind},
};
use banqiao_tests::{
    echo::EchoRequest,
    hostile::{self, Block},
    network::{Network, SYSTEM},
    wire::Head,
};

const ECHO: &str = "/example.echo.v1.EchoService/Echo";

#[tokio::test]
async fn only_the_canonical_path_reaches_a_service() {
    let (network, service) = Network::echo().await.unwrap();
    let [qingdao, _] = network.cities.as_slice() else {
        panic!("two cities")
    };
    let address = qingdao.gateway().client;
    let tls = qingdao.tls(SYSTEM).unwrap();
    let head = Head::new(ECHO, "370600");
    let ordinary = || Block::of(&head, &address.to_string());
    let request = EchoRequest::default();
    let path = |path: &str| ordinary().set(":path", path);
    let long = format!("/{}", "a".repeat(9_000));
    let rows: Vec<(&str, Block)> = vec![
        ("no leading slash", path(&ECHO[1..])),
        ("two leading slashes", path(&format!("/{ECHO}"))),
        (
            "an empty segment",
            path("/example.echo.v1.EchoService//Echo"),
        ),
        ("a trailing slash", path(&format!("{ECHO}/"))),
        (
            "a parent segment",
            path("/x/../example.echo.v1.EchoService/Echo"),
        ),
        (
            "a present segment",
            path("/./example.echo.v1.EchoService/Echo"),
        ),
        (
            "three segments",
            path("/a/example.echo.v1.EchoService/Echo"),
        ),
        ("one segment", path("/example.echo.v1.EchoService")),
        ("the root", path("/")),
        ("nothing", path("")),
        ("an asterisk", path("*")),
        (
            "a percent-escape",
            path("/example.echo.v1.EchoService/%45cho"),
        ),
        (
            "an escaped slash",
            path("/example.echo.v1.EchoService%2fEcho"),
        ),
        ("a query", path(&format!("{ECHO}?x=1"))),
        ("an empty query", path(&format!("{ECHO}?"))),
        ("a NUL", path(&format!("{ECHO}\0"))),
        ("a line feed", path(&format!("{ECHO}\n"))),
        ("a tab", path(&format!("{ECHO}\t"))),
        ("a space", path(&format!("{ECHO} "))),
        ("a DEL", path(&format!("{ECHO}\u{7f}"))),
        (
            "a letter that is not ASCII",
            path("/example.echo.v1.EchoService/Echö"),
        ),
        ("a backslash", path("/example.echo.v1.EchoService\\Echo")),
        ("a semicolon", path(&format!("{ECHO};x"))),
        ("other case", path("/example.echo.v1.echoservice/Echo")),
        (
            "other case of the method",
            path("/example.echo.v1.EchoService/echo"),
        ),
        (
            "the absolute form",
            path(&format!("https://{address}{ECHO}")),
        ),
        ("an oversized path", path(&long)),
        (
            "an authority that is none",
            ordinary().set(":authority", "a@b:c/d"),
        ),
        (
            "an authority beside another host",
            ordinary().with("host", "elsewhere.example"),
        ),
        ("two paths", ordinary().with(":path", ECHO)),
        ("GET", ordinary().set(":method", "GET")),
        ("CONNECT", ordinary().set(":method", "CONNECT")),
    ];
    for (what, block) in rows {
        let answer = hostile::call(address, tls.clone(), &block, &request)
            .await
            .unwrap();
        assert_ne!(answer.code(), Some(0), "{what} was carried");
        let Some((exchange, _)) = answer.exchange() else {
            // What is no HTTP/2 is ended by the protocol, before there is a call.
            assert!(answer.reset.is_some(), "{what}: {answer:?}");
            continue;
        };
        let records = qingdao.admin().exchange(exchange).await.unwrap();
        let [record] = records.as_slice() else {
            panic!("{what}: {records:?}")
        };
        assert_eq!(record.entry.kind(), Kind::Refused, "{what}");
        let method = &record.entry.method;
        let printable = method.bytes().all(|byte| (b'!'..=b'~').contains(&byte));
        assert!(printable && method.len() <= 256, "{what}: {method:?}");
    }
    let reached = service
        .seen()
        .into_iter()
        .filter(|seen| seen.path.starts_with("/example"));
    assert_eq!(reached.map(|seen| seen.path).collect::<Vec<_>>(), [""; 0]);
    let filter = EntryFilter {
        reason: Reason::PathNotCanonical.into(),
        ..Default::default()
    };
    let entered = qingdao.admin().search(filter).await.unwrap().len();
    assert!(
        entered >= 12,
        "{entered} paths were entered as not canonical"
    );
    // The connection's own form is carried.
    let answer = hostile::call(address, tls, &ordinary(), &request)
        .await
        .unwrap();
    assert_eq!(answer.code(), Some(0), "{:?}", answer.grpc());
}

/// The HTTP library drops a fragment before anybody sees it, so that one path is judged, recorded and called.
#[tokio::test]
async fn fragment_is_no_part_of_the_path_that_anybody_sees() {
    let (network, service) = Network::echo().await.unwrap();
    let [qingdao, yantai] = network.cities.as_slice() else {
        panic!("two cities")
    };
    let address = qingdao.gateway().client;
    let head = Head::new(ECHO, "370600");
    let block =
        Block::of(&head, &address.to_string()).set(":path", format!("{ECHO}#/other.Service/No"));
    let tls = qingdao.tls(SYSTEM).unwrap();
    let answer = hostile::call(address, tls, &block, &EchoRequest::default())
        .await
        .unwrap();
    let (exchange, _) = answer.exchange().unwrap();
    assert!(service.seen().iter().all(|seen| !seen.path.contains('#')));
    for city in [qingdao, yantai] {
        let records = city.admin().exchange(exchange).await.unwrap();
        assert!(
            records.iter().all(|record| record.entry.method == ECHO),
            "{records:?}"
        );
    }
}
