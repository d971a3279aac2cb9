//! The directory in force: how a newer one comes, what does not, and life without any source.

use banqiao_tests::{
    echo::EchoRequest,
    network::{City, Network, Plan, SYSTEM, set},
    wait::{PATIENCE, wait_until},
    wire::Head,
};

async fn version(city: &City) -> u64 {
    city.admin()
        .status()
        .await
        .map_or(0, |status| status.directory_version)
}

async fn reaches(city: &City, expected: u64) {
    let what = format!("version {expected} at {}", city.name);
    wait_until(&what, PATIENCE, || async {
        version(city).await == expected
    })
    .await
    .unwrap();
}

async fn carried(network: &Network) -> bool {
    let caller = network.cities[0].caller(SYSTEM).await.unwrap();
    let head = Head::new("/example.echo.v1.EchoService/Echo", network.cities[1].code);
    caller
        .unary(&head, &EchoRequest::default())
        .await
        .unwrap()
        .code()
        == Some(0)
}

#[tokio::test]
async fn newer_directory_in_the_file_is_taken_over_by_every_gateway() {
    let (mut network, _service) = Network::echo().await.unwrap();
    network.directory = network.directory.next(&network.signers(), 86_400);
    network.publish_file().unwrap();
    for city in &network.cities {
        reaches(city, 2).await;
    }
    assert!(carried(&network).await);
}

#[tokio::test]
async fn newer_directory_comes_from_a_peer() {
    // Each gateway has a file of its own that nobody ever renews.
    let plan = Plan::cities(2).tweak(|_, config| set(config, "directory.file", "first.json"));
    let mut network = plan.lay_out().unwrap();
    for city in &network.cities {
        std::fs::write(
            city.gateway().folder.join("first.json"),
            network.envelope().unwrap(),
        )
        .unwrap();
    }
    network.run().await.unwrap();
    let next = network.directory.next(&network.signers(), 86_400);
    let envelope = next.sign(&network.signers()).unwrap();
    assert_eq!(
        network.cities[0].admin().publish(envelope).await.unwrap(),
        2
    );
    reaches(&network.cities[1], 2).await;
}

#[tokio::test]
async fn older_and_unsigned_directories_in_the_file_change_nothing() {
    let (mut network, _service) = Network::echo().await.unwrap();
    let first = network.envelope().unwrap();
    let second = network.directory.next(&network.signers(), 86_400);
    network.directory = second.clone();
    network.publish_file().unwrap();
    for city in &network.cities {
        reaches(city, 2).await;
    }
    let third = second.next(&network.signers(), 86_400);
    let alone = third.sign(&[&network.cities[0].signer]).unwrap();
    for offered in [first, alone, b"not a directory".to_vec()] {
        std::fs::write(network.folder().join("directory.json"), offered).unwrap();
        for city in &network.cities {
            city.admin().reload().await.unwrap();
            assert_eq!(version(city).await, 2);
        }
    }
    assert!(carried(&network).await);
}

#[tokio::test]
async fn gateway_lives_on_its_cached_copy_through_an_outage() {
    let (mut network, _service) = Network::echo().await.unwrap();
    network.directory = network.directory.next(&network.signers(), 86_400);
    network.publish_file().unwrap();
    for city in &network.cities {
        reaches(city, 2).await;
    }
    std::fs::remove_file(network.folder().join("directory.json")).unwrap();
    for city in &mut network.cities {
        city.gateway_mut().kill().unwrap();
    }
    // One after the other: the first one finds no peer either.
    for city in &mut network.cities {
        city.gateway_mut().restart().await.unwrap();
    }
    for city in &network.cities {
        assert_eq!(version(city).await, 2);
    }
    wait_until("calls again", PATIENCE, || carried(&network))
        .await
        .unwrap();
}

#[tokio::test]
async fn ageing_directory_is_a_warning() {
    let network = Plan::cities(1)
        .directory_lifetime_s(40)
        .start()
        .await
        .unwrap();
    let warned = || async {
        let status = network.cities[0].admin().status().await.unwrap();
        status
            .warnings
            .iter()
            .any(|warning| warning.contains("past half of its validity"))
    };
    assert!(!warned().await, "it is fresh");
    wait_until("the warning at half of its life", PATIENCE, warned)
        .await
        .unwrap();
}

#[tokio::test]
async fn city_that_leaves_the_directory_is_a_stranger() {
    let (network, _service) = Network::echo_of(Plan::cities(3)).await.unwrap();
    assert!(carried(&network).await);
    let mut next = network.directory.next(&network.signers(), 86_400);
    // Qingdao leaves: its section and its key.
    for (path, list) in [("cities", "code"), ("keys", "city")] {
        let table = if path == "keys" {
            next.document["signers"].as_table_mut().unwrap()
        } else {
            &mut next.document
        };
        let members = table[path].as_array_mut().unwrap();
        members.retain(|member| member[list].as_str() != Some("370200"));
    }
    // Of two cities each has one other as its witness.
    for city in next.document["cities"].as_array_mut().unwrap() {
        set(city.as_table_mut().unwrap(), "witness.quorum", 1);
    }
    let yantai = &network.cities[1];
    let envelope = next.sign(&network.signers()).unwrap();
    assert_eq!(yantai.admin().publish(envelope).await.unwrap(), 2);
    let credential = network.cities[0].credential("gateway").unwrap();
    let tls = yantai.authority.client(Some(&credential)).unwrap();
    let alert = banqiao_tests::wire::alert(yantai.gateway().inter_city, tls)
        .await
        .unwrap();
    assert_eq!(alert, "unknown_ca");
    wait_until("no calls", PATIENCE, || async { !carried(&network).await })
        .await
        .unwrap();
}
