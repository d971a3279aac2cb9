//! A PostgreSQL server of our own: a Unix socket in a temporary folder, gone with its value.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use tempfile::TempDir;

const BINARIES: &str = "/usr/lib/postgresql/15/bin";

pub(crate) struct Postgres {
    folder: TempDir,
}

impl Postgres {
    /// Starts a server; none when it is not installed.
    pub(crate) fn start() -> Option<Self> {
        if !Path::new(BINARIES).join("initdb").exists() {
            eprintln!("SKIPPED: no PostgreSQL in {BINARIES}");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("lab-pg").tempdir().unwrap();
        if is_root() {
            succeed(Command::new("chown").arg("postgres").arg(folder.path()));
        }
        let this = Self { folder };
        let data = this.data();
        let initdb = [
            "--no-sync",
            "--auth=trust",
            "--username=postgres",
            "-E",
            "UTF8",
            "-D",
        ];
        succeed(tool("initdb").args(initdb).arg(&data));
        this.go_on();
        Some(this)
    }

    /// Starts the server, for the first time or again.
    pub(crate) fn go_on(&self) {
        let folder = self.folder.path();
        // fsync stays on: the service refuses a server without it.
        let options = format!(
            "-k {} -c listen_addresses='' -c max_connections=200",
            folder.display()
        );
        let mut start = tool("pg_ctl");
        start
            .args(["start", "-w", "-s", "-o", &options, "-l"])
            .arg(folder.join("log"));
        succeed(start.arg("-D").arg(self.data()));
    }

    /// Stops the server at once, as a crash does.
    pub(crate) fn stop(&mut self) {
        succeed(
            tool("pg_ctl")
                .args(["stop", "-w", "-s", "-m", "immediate", "-D"])
                .arg(self.data()),
        );
    }

    /// A new database.
    pub(crate) fn create(&self, name: &str) -> String {
        succeed(
            tool("createdb")
                .args(["-U", "postgres", "-h"])
                .arg(self.folder.path())
                .arg(name),
        );
        format!(
            "postgres:///{name}?host={}&user=postgres",
            self.folder.path().display()
        )
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        let stopped = tool("pg_ctl")
            .args(["stop", "-s", "-m", "immediate", "-D"])
            .arg(self.data())
            .output();
        if let Err(error) = stopped {
            eprintln!("cannot stop PostgreSQL: {error}");
        }
    }
}

/// PostgreSQL refuses to run as root.
fn tool(name: &str) -> Command {
    let path = format!("{BINARIES}/{name}");
    if !is_root() {
        return Command::new(path);
    }
    let mut command = Command::new("runuser");
    command
        .args(["-u", "postgres", "--", &path])
        .current_dir("/");
    command
}

fn is_root() -> bool {
    let Output { stdout, .. } = Command::new("id").arg("-u").output().unwrap();
    stdout.trim_ascii() == b"0"
}

fn succeed(command: &mut Command) {
    // pg_ctl leaves a server behind that would hold a pipe open.
    let status = command
        .stdout(std::process::Stdio::null())
        .status()
        .unwrap();
    assert!(status.success(), "{command:?}: {status}");
}
