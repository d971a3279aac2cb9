use std::{collections::BTreeMap, net::SocketAddr};

use banqiao_directory::Clock;
use banqiao_identity::{Identity, IdentityFiles, IdentitySettings, pki::Issued};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::Server;

use super::*;
use crate::testing::{City, parse};

#[test]
fn metadata_is_ascii_on_the_wire() {
    assert_eq!(
        percent_encoded("statutory:社会 100%"),
        "statutory:%E7%A4%BE%E4%BC%9A 100%25"
    );
    assert_eq!(percent_encoded("a\r\nb"), "a%0D%0Ab");
}

#[derive(Debug, clap::Parser)]
struct Line {
    #[command(flatten)]
    call: CallCommand,
}

/// A city's gateway that serves health and reflection only: one unary method, one that streams answers, and one that
/// streams both ways.
struct Scene {
    city: City,
    hall: Issued,
    address: SocketAddr,
    stop: CancellationToken,
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Scene {
    /// A gateway with the certificate that is called so.
    async fn with(certificate: &str) -> Self {
        let city = City::new("370200", "qingdao.jiaodong");
        let hall = city.issue_system("hrss/hall");
        let files = IdentityFiles {
            certificate: city.path(&format!("{certificate}.crt")),
            private_key: city.path(&format!("{certificate}.key")),
        };
        let settings = IdentitySettings::default();
        let identity = Identity::load(files, settings, Clock::system()).unwrap();
        let ca = CertificateDer::from_pem_file(city.path("ca.crt")).unwrap();
        let domain = identity.own().id.trust_domain().clone();
        identity
            .replace_bundles(BTreeMap::from([(domain, vec![ca])]))
            .unwrap();
        let crl = std::fs::read(city.path("crl.der")).unwrap();
        identity.offer_crl(&crl).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let connections = tokio_stream::StreamExt::then(TcpListenerStream::new(listener), {
            move |stream| {
                let identity = identity.clone();
                async move {
                    let accepted = identity.accept(stream?).await;
                    accepted.map(|(stream, _)| stream).map_err(io::Error::other)
                }
            }
        });
        let (_, health) = tonic_health::server::health_reporter();
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
            .build_v1()
            .unwrap();
        let server = Server::builder()
            .add_service(health)
            .add_service(reflection)
            .serve_with_incoming_shutdown(connections, stop.clone().cancelled_owned());
        TaskTracker::new().spawn(server);
        Self {
            city,
            hall,
            address,
            stop,
        }
    }

    async fn new() -> Self {
        Self::with("gateway").await
    }

    /// Runs the command: how it ended, standard output, standard error.
    async fn call(&self, arguments: &[&str]) -> (anyhow::Result<Exit>, String, String) {
        let gateway = self.address.to_string();
        let ca = self.city.path("ca.crt");
        let mut line = vec!["--gateway", &gateway, "--ca", ca.to_str().unwrap()];
        line.extend(["--cert", self.hall.certificate.to_str().unwrap()]);
        line.extend(["--key", self.hall.private_key.to_str().unwrap()]);
        line.extend([
            "--to",
            "370200",
            "--purpose",
            "card-service",
            "--basis",
            "emergency",
        ]);
        line.extend(arguments);
        let Line { call } = parse(&line).unwrap();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let ended = call.run(&mut out, &mut err).await;
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (ended, text(out), text(err))
    }
}

#[tokio::test]
async fn a_unary_method_is_found_by_its_short_name_and_speaks_json() {
    let scene = Scene::new().await;
    let (ended, out, err) = scene
        .call(&["Health/Check", "-d", "{\"service\":\"\"}"])
        .await;
    assert_eq!(ended.unwrap(), Exit::Done, "{err}");
    let answer: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!(answer["status"], "SERVING");
    assert!(err.starts_with("OK in "), "{err}");
}

#[tokio::test]
async fn an_error_status_is_told_and_ends_with_1() {
    let scene = Scene::new().await;
    let (ended, out, err) = scene
        .call(&[
            "grpc.health.v1.Health/Check",
            "-d",
            "{\"service\":\"nobody\"}",
        ])
        .await;
    assert_eq!(ended.unwrap(), Exit::Failed);
    assert!(out.is_empty());
    assert!(err.contains("NOT_FOUND: "), "{err}");
}

#[tokio::test]
async fn streams_are_one_value_a_line_both_ways() {
    let scene = Scene::new().await;
    let questions = "{\"listServices\":\"\"}\n{\"fileByFilename\":\"no\"} ";
    let (ended, out, err) = scene
        .call(&["ServerReflection/ServerReflectionInfo", "-d", questions])
        .await;
    // Reflection ends the stream with an error for a file that it does not know.
    assert!(ended.is_ok(), "{err}");
    let first: serde_json::Value = serde_json::from_str(out.lines().next().unwrap()).unwrap();
    assert!(
        first["listServicesResponse"]["service"].is_array(),
        "{first}"
    );
    let (ended, out, _) = scene
        .call(&["Health/Watch", "-d", "{}", "--deadline", "300ms"])
        .await;
    assert_eq!(
        ended.unwrap(),
        Exit::Failed,
        "a watch ends with its deadline"
    );
    assert_eq!(out.lines().count(), 1, "{out}");
}

#[tokio::test]
async fn what_is_wrong_on_this_side_is_a_usage_error() {
    let scene = Scene::new().await;
    let file = scene.city.path("request.json");
    std::fs::write(&file, "{\"listServices\":\"\"}\n{\"no\":1}").unwrap();
    let from_file = format!("@{}", file.display());
    for (method, data) in [
        ("Health/Check", "{\"service\":1}"),
        ("Health/Check", "{\"no\":\"\"}"),
        ("Health/Check", "{} {}"),
        ("Health/Check", ""),
        ("Health/Check", "{"),
        ("Health/Check", "@/nonexistent"),
        ("ServerReflection/ServerReflectionInfo", &from_file),
        ("Health/Gone", "{}"),
        ("Gone/Check", "{}"),
        ("Check", "{}"),
    ] {
        let (ended, _, err) = scene.call(&[method, "-d", data]).await;
        let error = ended.expect_err(method);
        let exit = crate::exit::exit_of(&error);
        assert_eq!(exit, Exit::Usage, "{method} {data}: {error:#} {err}");
    }
}

#[tokio::test]
async fn what_the_gateway_shows_can_be_listed() {
    let scene = Scene::new().await;
    let (ended, out, _) = scene.call(&["Health/", "--list"]).await;
    assert_eq!(ended.unwrap(), Exit::Done);
    assert!(out.contains("grpc.health.v1.Health/Watch"), "{out}");
    assert!(
        out.contains("stream grpc.health.v1.HealthCheckResponse"),
        "{out}"
    );
    assert!(!out.contains("ServerReflection"), "{out}");
}

#[tokio::test]
async fn a_descriptor_set_takes_the_place_of_reflection() {
    let scene = Scene::new().await;
    let set = scene.city.path("set.binpb");
    std::fs::write(&set, tonic_health::pb::FILE_DESCRIPTOR_SET).unwrap();
    let set = set.to_str().unwrap();
    let (ended, ..) = scene.call(&["Health/Check", "--descriptor-set", set]).await;
    assert_eq!(ended.unwrap(), Exit::Done);
    let (ended, ..) = scene.call(&["Echo/Echo", "--descriptor-set", set]).await;
    assert_eq!(crate::exit::exit_of(&ended.unwrap_err()), Exit::Usage);
}

#[tokio::test]
async fn whoever_is_not_the_citys_gateway_is_not_called() {
    let scene = Scene::with("hrss-hall").await;
    let (ended, ..) = scene.call(&["Health/Check"]).await;
    let error = ended.unwrap_err();
    assert_eq!(crate::exit::exit_of(&error), Exit::Unavailable, "{error:#}");
    assert!(
        format!("{error:#}").contains("spiffe://qingdao.jiaodong/gateway"),
        "{error:#}"
    );
    scene.stop.cancel();
}

#[tokio::test]
async fn a_key_that_others_may_read_is_refused() {
    use std::os::unix::fs::PermissionsExt as _;
    let scene = Scene::new().await;
    let open = std::fs::Permissions::from_mode(0o644);
    std::fs::set_permissions(&scene.hall.private_key, open).unwrap();
    let (ended, ..) = scene.call(&["Health/Check"]).await;
    let error = ended.unwrap_err();
    assert_eq!(crate::exit::exit_of(&error), Exit::Usage);
    assert!(error.to_string().contains("chmod 600"), "{error}");
}
