//! A PostgreSQL server of one's own, on a Unix socket in a temporary folder.
//!
//! `initdb` runs once per machine, into a template that each server copies. Where the tests run as root, the server
//! runs as the user `postgres`, because it refuses root.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{PermissionsExt as _, chown},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU32, Ordering},
    },
};

use tempfile::TempDir;

/// Where Debian and PGDG packages put the programs.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

/// A running server. Dropping it stops it.
pub(crate) struct Cluster {
    folder: TempDir,
    databases: AtomicU32,
}

impl Cluster {
    /// The server that the tests of this process share.
    pub(crate) fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::start_new());
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    }

    /// A server for one test alone, which may stop it.
    pub(crate) fn start_new() -> Self {
        let template = template().expect("initdb");
        let folder = tempfile::Builder::new()
            .prefix("banqiao-pg")
            .tempdir()
            .unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        run(Command::new("cp")
            .arg("-a")
            .arg(template)
            .arg(folder.path().join("data")));
        let socket = folder.path().join("socket");
        fs::create_dir(&socket).unwrap();
        give_to_server(&socket);
        let cluster = Self {
            folder,
            databases: AtomicU32::new(0),
        };
        cluster.start();
        cluster
    }

    pub(crate) fn start(&self) {
        let options = format!("-k {} -c listen_addresses=''", self.socket().display());
        let log = self.folder.path().join("socket/log");
        let mut start = program("pg_ctl");
        start
            .arg("-D")
            .arg(self.data())
            .arg("-w")
            .arg("-o")
            .arg(options)
            .arg("-l")
            .arg(log);
        run(start.arg("start"));
    }

    pub(crate) fn stop(&self) {
        run(program("pg_ctl")
            .arg("-D")
            .arg(self.data())
            .args(["-w", "-m", "fast", "stop"]));
    }

    /// Makes a database and returns its URL.
    pub(crate) fn create_database(&self) -> String {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let socket = self.socket();
        run(program("createdb")
            .arg("-h")
            .arg(&socket)
            .args(["-U", "postgres", &name]));
        format!(
            "postgres://postgres@localhost/{name}?host={}",
            socket.display()
        )
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("socket")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // It may be stopped already.
        let mut stop = program("pg_ctl");
        let _ = stop
            .arg("-D")
            .arg(self.data())
            .args(["-m", "immediate", "stop"])
            .output();
    }
}

/// A data folder as `initdb` leaves it, shared by every test on the machine.
fn template() -> io::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("banqiao-pg15-template-{}", whoami()));
    fs::create_dir_all(&folder)?;
    let lock = File::create(folder.join("lock"))?;
    lock.lock()?;
    let data = folder.join("data");
    let done = folder.join("done");
    if !done.exists() {
        let _ = fs::remove_dir_all(&data);
        fs::create_dir(&data)?;
        give_to_server(&data);
        run(program("initdb")
            .arg("-D")
            .arg(&data)
            .args(["-A", "trust", "-U", "postgres", "-N"]));
        File::create(done)?;
    }
    Ok(data)
}

fn whoami() -> String {
    output(Command::new("id").arg("-u"))
}

fn give_to_server(path: &Path) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o700)).unwrap();
    if whoami() == "0" {
        let id = |flag| {
            output(Command::new("id").args([flag, "postgres"]))
                .parse()
                .ok()
        };
        chown(path, id("-u"), id("-g")).unwrap();
    }
}

/// A program of PostgreSQL, run as a user whom it accepts.
fn program(name: &str) -> Command {
    let path = Path::new(PROGRAMS).join(name);
    let mut command = if whoami() == "0" {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(path);
        command
    } else {
        Command::new(path)
    };
    command.current_dir("/");
    command
}

fn output(command: &mut Command) -> String {
    let output = command.output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

fn run(command: &mut Command) {
    // The server inherits the descriptors: with pipes the wait for their end would never end.
    let log = tempfile::tempfile().unwrap();
    let status = command
        .stdout(log.try_clone().unwrap())
        .stderr(log.try_clone().unwrap())
        .status()
        .unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
