//! Refused in the handshake: the client sees an alert, the ledger a count.

use banqiao_proto::exchange::v1::Reason;
use banqiao_tests::{
    authority::{Credential, Profile},
    network::{City, Network, Plan, SYSTEM},
    wire::alert,
};
use rcgen::ExtendedKeyUsagePurpose;

use super::{At, Row, Scene, Seen, prove};

pub(super) const ROWS: &[Row] = &[
    Row {
        reason: Reason::CertificateMissing,
        at: At::Consumer,
        how: "no certificate at the client listener",
        provoke: |scene| Box::pin(async { client(scene, None).await }),
    },
    Row {
        reason: Reason::CertificateMissing,
        at: At::Provider,
        how: "no certificate at the inter-city listener",
        provoke: |scene| Box::pin(async { inter_city(scene, None).await }),
    },
    Row {
        reason: Reason::CertificateUntrusted,
        at: At::Consumer,
        how: "an identity of this city from the wrong city's CA",
        provoke: |scene| {
            Box::pin(async {
                let forged = issue(scene.provider(), &sound(scene.consumer(), SYSTEM));
                client(scene, Some(&forged)).await
            })
        },
    },
    Row {
        reason: Reason::CertificateUntrusted,
        at: At::Provider,
        how: "another city's gateway from the provider's own CA",
        provoke: |scene| {
            Box::pin(async {
                let forged = issue(scene.provider(), &sound(scene.consumer(), "gateway"));
                inter_city(scene, Some(&forged)).await
            })
        },
    },
    Row {
        reason: Reason::CertificateUntrusted,
        at: At::Consumer,
        how: "a city that the directory does not list",
        provoke: |scene| {
            Box::pin(async {
                let mut profile = sound(scene.consumer(), SYSTEM);
                profile.ids = vec!["spiffe://elsewhere.jiaodong/a/b".to_owned()];
                client(scene, Some(&issue(scene.consumer(), &profile))).await
            })
        },
    },
    Row {
        reason: Reason::CertificateExpired,
        at: At::Consumer,
        how: "a certificate whose life is over",
        provoke: |scene| {
            Box::pin(async {
                let profile = Profile {
                    until_s: -5,
                    ..sound(scene.consumer(), SYSTEM)
                };
                client(scene, Some(&issue(scene.consumer(), &profile))).await
            })
        },
    },
    Row {
        reason: Reason::CertificateExpired,
        at: At::Consumer,
        how: "a certificate whose life has not begun",
        provoke: |scene| {
            Box::pin(async {
                let profile = Profile {
                    from_s: 3_600,
                    ..sound(scene.consumer(), SYSTEM)
                };
                client(scene, Some(&issue(scene.consumer(), &profile))).await
            })
        },
    },
    Row {
        reason: Reason::CertificateRevoked,
        at: At::Consumer,
        how: "a certificate on the CRL",
        provoke: |scene| {
            Box::pin(async {
                let revoked = revoke(scene.consumer(), SYSTEM);
                scene.consumer().admin().reload().await.unwrap();
                client(scene, Some(&revoked)).await
            })
        },
    },
    Row {
        reason: Reason::CertificateRevoked,
        at: At::Provider,
        how: "another city's gateway on that city's CRL",
        provoke: |scene| {
            Box::pin(async {
                let revoked = revoke(scene.consumer(), "gateway");
                scene.provider().admin().reload().await.unwrap();
                inter_city(scene, Some(&revoked)).await
            })
        },
    },
    Row {
        reason: Reason::CertificateInvalid,
        at: At::Consumer,
        how: "two SPIFFE IDs",
        provoke: |scene| {
            Box::pin(async {
                let mut profile = sound(scene.consumer(), SYSTEM);
                profile.ids.push(scene.consumer().id("hrss/other"));
                client(scene, Some(&issue(scene.consumer(), &profile))).await
            })
        },
    },
    Row {
        reason: Reason::CertificateInvalid,
        at: At::Consumer,
        how: "no SPIFFE ID",
        provoke: |scene| {
            Box::pin(async {
                let profile = Profile {
                    ids: Vec::new(),
                    ..sound(scene.consumer(), SYSTEM)
                };
                client(scene, Some(&issue(scene.consumer(), &profile))).await
            })
        },
    },
    Row {
        reason: Reason::CertificateInvalid,
        at: At::Consumer,
        how: "a leaf that is a CA",
        provoke: |scene| {
            Box::pin(async {
                let profile = Profile {
                    authority: true,
                    ..sound(scene.consumer(), SYSTEM)
                };
                client(scene, Some(&issue(scene.consumer(), &profile))).await
            })
        },
    },
    Row {
        reason: Reason::CertificateInvalid,
        at: At::Consumer,
        how: "a server's key usage alone",
        provoke: |scene| {
            Box::pin(async {
                let usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
                let profile = Profile {
                    usages,
                    ..sound(scene.consumer(), SYSTEM)
                };
                client(scene, Some(&issue(scene.consumer(), &profile))).await
            })
        },
    },
    Row {
        reason: Reason::CrlUnavailable,
        at: At::Provider,
        how: "a city whose CRL nobody has",
        provoke: |scene| {
            Box::pin(async {
                let unknown = scene.network.cities[2].credential("gateway").unwrap();
                inter_city(scene, Some(&unknown)).await
            })
        },
    },
];

fn sound(city: &City, system: &str) -> Profile {
    Profile::system(&city.id(system), city.service_address.ip())
}

fn issue(city: &City, profile: &Profile) -> Credential {
    city.authority.issue(profile).unwrap()
}

fn revoke(city: &City, system: &str) -> Credential {
    let credential = city.credential(system).unwrap();
    city.authority.revoke(&credential);
    city.publish_crl(86_400).unwrap();
    credential
}

async fn client(scene: &Scene, credential: Option<&Credential>) -> Seen {
    let tls = scene.consumer().authority.client(credential).unwrap();
    Seen::Alert(alert(scene.consumer().gateway().client, tls).await.unwrap())
}

async fn inter_city(scene: &Scene, credential: Option<&Credential>) -> Seen {
    let tls = scene.provider().authority.client(credential).unwrap();
    Seen::Alert(
        alert(scene.provider().gateway().inter_city, tls)
            .await
            .unwrap(),
    )
}

#[tokio::test]
async fn faulty_certificates_are_refused_with_their_alerts() {
    let mut network = Plan::cities(3).lay_out().unwrap();
    std::fs::remove_file(network.folder().join("crls/weifang.jiaodong.der")).unwrap();
    // The third city's gateway does not run, so nobody can learn its CRL.
    let idle = network.cities[2].gateways.split_off(0);
    network.run().await.unwrap();
    network.cities[2].gateways = idle;
    let service = network.cities[1].serve().await.unwrap();
    let mut scene = Scene::new((network, service)).await;
    prove(&mut scene, ROWS).await;
    let _: &Network = &scene.network;
}
