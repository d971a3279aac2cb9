//! A private PostgreSQL cluster: a unix socket in a temporary folder, a database for each test.

use std::{
    fs,
    os::unix::fs::chown,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;

/// A running cluster, stopped and deleted when dropped. Durability is on: the ledger refuses it otherwise.
#[derive(Debug)]
pub struct Cluster {
    folder: TempDir,
    programs: PathBuf,
    databases: AtomicU32,
}

impl Cluster {
    /// Makes and starts a cluster with the newest PostgreSQL that Debian has installed. As root it runs as the user
    /// `postgres`, because PostgreSQL refuses root.
    ///
    /// # Errors
    ///
    /// Fails when PostgreSQL is not installed or does not start.
    pub fn start() -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("banqiao-pg-").tempdir()?;
        if is_root() {
            let (user, group) = postgres_user()?;
            chown(folder.path(), Some(user), Some(group))?;
        }
        let cluster = Self {
            programs: programs()?,
            folder,
            databases: AtomicU32::new(0),
        };
        let data = cluster.data();
        cluster.run(
            "initdb",
            &[
                "--no-sync",
                "-A",
                "trust",
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--no-locale",
                "-D",
                &data,
            ],
        )?;
        cluster.restart()?;
        Ok(cluster)
    }

    /// Makes an empty database and gives its URL.
    ///
    /// # Errors
    ///
    /// Fails when the cluster is stopped.
    pub fn database(&self) -> Result<String> {
        let name = format!("banqiao_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let socket = self.socket();
        self.run("createdb", &["-h", &socket, "-U", "postgres", &name])?;
        Ok(format!(
            "postgres://postgres@localhost/{name}?host={socket}"
        ))
    }

    /// Executes statements in a database, up to the first that fails.
    ///
    /// # Errors
    ///
    /// Fails with what the database says.
    pub fn execute(&self, url: &str, sql: &str) -> Result<()> {
        let stop = "ON_ERROR_STOP=1";
        self.run("psql", &["-X", "-q", "-v", stop, "-d", url, "-c", sql])
    }

    /// Stops it as a crash would: every connection breaks at once.
    ///
    /// # Errors
    ///
    /// Fails when it does not run.
    pub fn stop(&self) -> Result<()> {
        self.run(
            "pg_ctl",
            &["-D", &self.data(), "-w", "-m", "immediate", "stop"],
        )
    }

    /// Starts it after [`Cluster::stop`].
    ///
    /// # Errors
    ///
    /// Fails when it runs already.
    pub fn restart(&self) -> Result<()> {
        let options = format!("-k {} -c listen_addresses=''", self.socket());
        let log = format!("{}/log", self.socket());
        self.run(
            "pg_ctl",
            &[
                "-D",
                &self.data(),
                "-w",
                "-l",
                &log,
                "-o",
                &options,
                "start",
            ],
        )
    }

    fn data(&self) -> String {
        self.folder
            .path()
            .join("data")
            .to_string_lossy()
            .into_owned()
    }

    fn socket(&self) -> String {
        self.folder.path().to_string_lossy().into_owned()
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<()> {
        let path = self.programs.join(program);
        let mut command = if is_root() {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(path);
            command
        } else {
            Command::new(path)
        };
        // Not piped: the server that pg_ctl leaves behind would hold the pipe open for ever.
        let said = self.folder.path().join("said");
        let output = fs::File::create(&said)?;
        let status = command
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .status()
            .with_context(|| format!("cannot run {program}"))?;
        if !status.success() {
            bail!(
                "{program} failed: {}",
                fs::read_to_string(said).unwrap_or_default()
            );
        }
        Ok(())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A test may have stopped it already.
        let _stopped = self.stop();
    }
}

fn programs() -> Result<PathBuf> {
    let mut versions: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .context("PostgreSQL is not installed: apt-get install postgresql")?
        .filter_map(|entry| entry.ok().map(|entry| entry.path().join("bin")))
        .filter(|folder| folder.join("initdb").exists())
        .collect();
    versions.sort();
    versions
        .pop()
        .context("PostgreSQL is not installed: apt-get install postgresql")
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

fn postgres_user() -> Result<(u32, u32)> {
    let users = fs::read_to_string(Path::new("/etc/passwd"))?;
    let line = users
        .lines()
        .find(|line| line.starts_with("postgres:"))
        .context("no user postgres")?;
    let mut fields = line.split(':').skip(2);
    let mut number = || {
        fields
            .next()
            .and_then(|text| text.parse().ok())
            .context("bad passwd line")
    };
    Ok((number()?, number()?))
}
