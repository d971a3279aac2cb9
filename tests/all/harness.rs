//! The parts that the other tests stand on, shown to work without a gateway.

use banqiao_directory::{Envelope, verify_first};
use banqiao_tests::{
    admin::Role,
    authority::{Authority, Profile},
    echo::{EchoRequest, EchoResponse, ExpandRequest},
    hostile::{self, Block},
    network::{CITIES, Plan},
    postgres::Cluster,
    service::{SCRIPT, status},
    wait::{PATIENCE, wait_for},
    wire::{Caller, Head, alert},
};
use sqlx::{Connection as _, PgConnection};

#[tokio::test]
async fn service_answers_direct_calls_of_every_kind() {
    let network = Plan::cities(1).lay_out().unwrap();
    let city = &network.cities[0];
    let service = city.serve().await.unwrap();
    let tls = city.tls("gateway").unwrap();
    let caller = Caller::connect(service.address(), tls.clone())
        .await
        .unwrap();
    let request = EchoRequest {
        text: "板桥".to_owned(),
        payload: vec![1; 100_000],
    };
    let head = Head::bare("/example.echo.v1.EchoService/Echo");
    let answer = caller.unary(&head, &request).await.unwrap();
    let echoed: EchoResponse = answer.only().unwrap();
    assert_eq!(echoed.text, "板桥");
    assert_eq!(echoed.payload.len(), 100_000);

    let expand = ExpandRequest {
        text: "x".to_owned(),
        count: 3_000,
        payload_bytes: 1_000,
    };
    let head = Head::bare("/example.echo.v1.EchoService/Expand");
    let answer = caller.unary(&head, &expand).await.unwrap();
    assert_eq!((answer.messages.len(), answer.code()), (3_000, Some(0)));

    service.script("refuse", |mut call| async move {
        call.trailers_only(status(9, "no"))
    });
    let answer = caller
        .unary(&head.clone().with(SCRIPT, "refuse"), &expand)
        .await
        .unwrap();
    assert_eq!((answer.code(), answer.trailers), (Some(9), None));

    service.script("cut", |mut call| async move {
        call.reset(h2::Reason::REFUSED_STREAM);
        Ok(())
    });
    let answer = caller
        .unary(&head.with(SCRIPT, "cut"), &expand)
        .await
        .unwrap();
    assert_eq!(answer.reset, Some(h2::Reason::REFUSED_STREAM));

    let head = Head::bare("/example.echo.v1.EchoService/Echo").with("x-long", &"a".repeat(40_000));
    let block = Block::of(&head, "localhost").with("x-last", "z");
    let answer = hostile::call(service.address(), tls, &block, &request)
        .await
        .unwrap();
    assert_eq!(answer.code(), Some(0));
    assert_eq!(service.count("x-last", "z"), 1);
    assert_eq!(service.seen().len(), 5);
}

#[tokio::test]
async fn alerts_are_seen_by_their_names() {
    let network = Plan::cities(1).lay_out().unwrap();
    let city = &network.cities[0];
    let service = city.serve().await.unwrap();
    let stranger = Authority::new("stranger").unwrap();
    let profile = Profile::system("spiffe://qingdao.jiaodong/a/b", service.address().ip());
    let forged = stranger.issue(&profile).unwrap();
    let with = |credential| city.authority.client(credential).unwrap();
    assert_eq!(
        alert(service.address(), with(None)).await.unwrap(),
        "certificate_required"
    );
    assert_eq!(
        alert(service.address(), with(Some(&forged))).await.unwrap(),
        "unknown_ca"
    );
    let expired = Profile {
        until_s: -60,
        ..profile
    };
    let expired = city.authority.issue(&expired).unwrap();
    assert_eq!(
        alert(service.address(), with(Some(&expired)))
            .await
            .unwrap(),
        "certificate_expired"
    );
}

#[test]
fn directory_of_the_tests_is_one_that_gateways_accept() {
    let network = Plan::cities(CITIES.len()).lay_out().unwrap();
    let envelope = Envelope::parse(&network.envelope().unwrap()).unwrap();
    let mut pin = [0; 32];
    hex::decode_to_slice(network.directory.digest(), &mut pin).unwrap();
    let directory = verify_first(&envelope, &pin).unwrap();
    assert_eq!(directory.version(), 1);
    let next = network
        .directory
        .next(&network.signers(), 60)
        .sign(&network.signers())
        .unwrap();
    let next = Envelope::parse(&next).unwrap();
    assert_eq!(verify_first(&next, &pin).unwrap().version(), 2);
}

#[tokio::test]
async fn postgres_cluster_starts_stops_and_starts_again() {
    let cluster = Cluster::start().unwrap();
    let url = cluster.database().unwrap();
    let answer = |url: String| async move {
        let mut connection = PgConnection::connect(&url).await.ok()?;
        sqlx::query_scalar::<_, i32>("SELECT 42")
            .fetch_one(&mut connection)
            .await
            .ok()
    };
    assert_eq!(answer(url.clone()).await, Some(42));
    cluster.stop().unwrap();
    assert_eq!(answer(url.clone()).await, None);
    cluster.restart().unwrap();
    wait_for("PostgreSQL again", PATIENCE, || answer(url.clone()))
        .await
        .unwrap();
}

#[test]
fn each_role_has_a_socket_of_its_own() {
    let roles = [Role::Administrator, Role::Auditor, Role::Operator];
    let mut names = roles.map(Role::socket);
    names.sort_unstable();
    assert_eq!(
        names,
        ["administrator.sock", "auditor.sock", "operator.sock"]
    );
}
