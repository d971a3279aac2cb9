//! The service as a process of its own, from the sample configuration.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

use banqiao_proto::lab::v1::{
    FindReportsRequest, PublishReportsRequest, ReadReportRequest, WatchSupersededRequest,
};
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::{
    certificates::{Certificates, PATIENCE, request},
    scene::{DOCTOR, LABORATORY, patient_of, report},
};

/// Years before the scene's noon, so that the real clock lies behind it.
const LONG_AGO: i64 = 2 * 366 * crate::scene::DAY;
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Killed when it is dropped.
struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts the service with `lab.toml` of a folder, and waits until it serves.
    async fn serve(folder: &Path) -> (Self, SocketAddr) {
        let log = folder.join("lab.log");
        let child = Command::new(env!("CARGO_BIN_EXE_banqiao-lab"))
            .args(["serve", "--config", "lab.toml"])
            .current_dir(folder)
            .stdin(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let this = Self { child, log };
        let address = this.until(|| {
            let written = fs::read_to_string(&this.log).unwrap();
            let line = written.lines().find(|line| line.contains("\"serving\""))?;
            let line: serde_json::Value = serde_json::from_str(line).ok()?;
            let address = line["address"].as_str()?;
            Some(address.parse().unwrap())
        });
        let address = address.await;
        (this, address)
    }

    /// Waits for a condition.
    async fn until<T>(&self, mut condition: impl FnMut() -> Option<T>) -> T {
        let mut ticks = tokio::time::interval(POLL);
        let found = timeout(PATIENCE, async {
            loop {
                ticks.tick().await;
                if let Some(found) = condition() {
                    return found;
                }
            }
        });
        match found.await {
            Ok(found) => found,
            Err(_) => panic!("{}", fs::read_to_string(&self.log).unwrap()),
        }
    }

    fn terminate(&self) {
        let process = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &process]).status();
        assert!(sent.unwrap().success());
    }

    async fn ended(mut self) -> (ExitStatus, String) {
        let mut ticks = tokio::time::interval(POLL);
        let status = timeout(PATIENCE, async {
            loop {
                ticks.tick().await;
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
            }
        });
        let status = status.await;
        let log = fs::read_to_string(&self.log).unwrap();
        (status.unwrap_or_else(|_| panic!("{log}")), log)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is as good.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// The sample of a city's configuration, with the places of a folder.
fn sample(folder: &Path) -> String {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/config/lab.toml");
    let mut config: toml::Table = fs::read_to_string(sample).unwrap().parse().unwrap();
    let mut place = |section: Option<&str>, key: &str, value: String| {
        let table = match section {
            Some(section) => config[section].as_table_mut().unwrap(),
            None => &mut config,
        };
        // Only what the sample has is set: it names everything.
        assert!(
            table.insert(key.to_owned(), value.into()).is_some(),
            "{key}"
        );
    };
    place(None, "listen", "127.0.0.1:0".to_owned());
    let url = format!("sqlite://{}", folder.join("lab.db").display());
    place(Some("database"), "url", url);
    place(Some("lab"), "institutions", "institutions.tsv".to_owned());
    config.to_string()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_that_is_stopped_finishes_what_is_open_and_loses_nothing() {
    let certificates = Certificates::of_qingdao();
    let folder = certificates.folder.path();
    fs::write(folder.join("lab.toml"), sample(folder)).unwrap();
    let (process, address) = Process::serve(folder).await;
    let client = certificates.reports(address);
    let first = report(1, 1, LONG_AGO);
    let find = FindReportsRequest {
        patient_id: patient_of(&first),
        ..FindReportsRequest::default()
    };
    let mut reader = client.clone();
    let found = reader.find_reports(request(find, DOCTOR)).await.unwrap();
    assert!(found.into_inner().message().await.unwrap().is_none());

    // A bulk call that is half sent, and a watch, are open as the process is told to stop.
    let watch = WatchSupersededRequest::default();
    let watch = reader.watch_superseded(request(watch, DOCTOR)).await;
    let mut watch = watch.unwrap().into_inner();
    assert!(watch.message().await.unwrap().is_some());
    let (lines, sent) = mpsc::channel(1);
    let line = |index: u64| PublishReportsRequest {
        line: index,
        report: Some(report(index, index, LONG_AGO)),
    };
    let mut publisher = client.clone();
    let published = publisher.publish_reports(request(ReceiverStream::new(sent), LABORATORY));
    let stopping = async {
        for index in 1..=300 {
            lines.send(line(index)).await.unwrap();
        }
        process.terminate();
        // The watch ends first, so the process knows that it stops; then the rest of the call comes.
        let ended = timeout(PATIENCE, watch.message()).await.unwrap();
        assert_eq!(ended.unwrap_err().code(), Code::Unavailable);
        for index in 301..=700 {
            lines.send(line(index)).await.unwrap();
        }
        drop(lines);
    };
    let (published, ()) = tokio::join!(published, stopping);
    let published = published.unwrap().into_inner();
    assert_eq!((published.created, published.refused), (700, 0));
    let (status, log) = process.ended().await;
    assert!(status.success(), "{status}: {log}");
    assert!(!log.contains("cutting off"), "{log}");
    assert!(!log.contains("\"ERROR\""), "{log}");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());

    // Started again on the same files, it has everything.
    let (process, address) = Process::serve(folder).await;
    let read = ReadReportRequest {
        institution: first.institution.clone(),
        report_number: report(700, 700, LONG_AGO).report_number,
    };
    let mut client = certificates.reports(address);
    let read = client.read_report(request(read, DOCTOR)).await.unwrap();
    assert_eq!(read.into_inner().version, 1);
    process.terminate();
    assert!(process.ended().await.0.success());
}
