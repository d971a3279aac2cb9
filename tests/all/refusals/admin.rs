//! Refused on the admin listener, and entered as what it is.

use banqiao_proto::{directory::v1::AddGrantRequest, exchange::v1::Reason};
use banqiao_tests::{
    admin::{Role, grant},
    network::{ECHO, Network, SYSTEM, set},
};

use super::{At, Row, Scene, Seen, prove};

async fn publish(scene: &Scene, envelope: Vec<u8>) -> Seen {
    let refused = scene.consumer().admin().publish(envelope).await;
    Seen::Admin(Box::new(refused.expect_err("a refused directory")))
}

pub(super) const ROWS: &[Row] = &[
    Row {
        reason: Reason::DirectoryUnsigned,
        at: At::Consumer,
        how: "one signature of two",
        provoke: |scene| {
            Box::pin(async {
                let next = scene
                    .network
                    .directory
                    .next(&scene.network.signers(), 86_400);
                let signed = next.sign(&[&scene.consumer().signer]).unwrap();
                publish(scene, signed).await
            })
        },
    },
    Row {
        reason: Reason::DirectoryUnsigned,
        at: At::Consumer,
        how: "signatures of strangers",
        provoke: |scene| {
            Box::pin(async {
                let strangers = [(); 2].map(|()| banqiao_tests::directory::Signer::new().unwrap());
                let next = scene
                    .network
                    .directory
                    .next(&scene.network.signers(), 86_400);
                let signed = next.sign(&[&strangers[0], &strangers[1]]).unwrap();
                publish(scene, signed).await
            })
        },
    },
    Row {
        reason: Reason::DirectoryRolledBack,
        at: At::Consumer,
        how: "version 1 after version 2",
        provoke: |scene| {
            Box::pin(async {
                let first = scene.network.envelope().unwrap();
                let next = scene
                    .network
                    .directory
                    .next(&scene.network.signers(), 86_400);
                let second = next.sign(&scene.network.signers()).unwrap();
                let taken = scene.consumer().admin().publish(second).await.unwrap();
                assert_eq!(taken, 2);
                publish(scene, first).await
            })
        },
    },
    Row {
        reason: Reason::DirectoryRolledBack,
        at: At::Consumer,
        how: "another document of the version in force",
        provoke: |scene| {
            Box::pin(async {
                let mut other = scene
                    .network
                    .directory
                    .next(&scene.network.signers(), 43_200);
                set(&mut other.document, "version", 2);
                let signed = other.sign(&scene.network.signers()).unwrap();
                publish(scene, signed).await
            })
        },
    },
    Row {
        reason: Reason::RoleMissing,
        at: At::Consumer,
        how: "an auditor adds a grant",
        provoke: |scene| {
            Box::pin(async {
                let wanted = grant(&scene.consumer().id(SYSTEM), ECHO);
                let request = AddGrantRequest {
                    grant: Some(wanted),
                };
                let mut grants = scene.consumer().admin().grants(Role::Auditor);
                Seen::Admin(Box::new(grants.add_grant(request).await.unwrap_err()))
            })
        },
    },
];

#[tokio::test]
async fn administration_is_refused_and_entered() {
    let mut scene = Scene::new(Network::echo().await.unwrap()).await;
    prove(&mut scene, ROWS).await;
    // No role does another's work, in either direction.
    use banqiao_proto::{
        directory::v1::{ListGrantsRequest, ReloadRequest},
        ledger::v1::{ShowExchangeRequest, audit_service_client::AuditServiceClient},
    };
    let admin = scene.consumer().admin();
    for role in [Role::Administrator, Role::Operator] {
        let request = ShowExchangeRequest {
            exchange_id: String::new(),
            open_private: false,
        };
        let mut audit = AuditServiceClient::new(admin.channel(role));
        let refused = audit.show_exchange(request).await.unwrap_err();
        assert_eq!(
            refused.code(),
            tonic::Code::PermissionDenied,
            "{role:?} reads the ledger"
        );
    }
    for role in [Role::Administrator, Role::Auditor] {
        let refused = admin
            .operation(role)
            .reload(ReloadRequest {})
            .await
            .unwrap_err();
        assert_eq!(
            refused.code(),
            tonic::Code::PermissionDenied,
            "{role:?} reloads"
        );
    }
    for role in [Role::Administrator, Role::Auditor, Role::Operator] {
        admin
            .grants(role)
            .list_grants(ListGrantsRequest::default())
            .await
            .unwrap();
    }
}
