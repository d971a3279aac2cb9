//! Real processes: gateways and services, started, signalled and killed by their own process id.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, bail};

/// A signal that a test may send.
#[derive(Clone, Copy, Debug)]
pub enum Signal {
    /// SIGCONT.
    Continue,
    /// SIGKILL.
    Kill,
    /// SIGSTOP.
    Stop,
    /// SIGTERM.
    Terminate,
}

impl Signal {
    const fn name(self) -> &'static str {
        match self {
            Self::Continue => "-CONT",
            Self::Kill => "-KILL",
            Self::Stop => "-STOP",
            Self::Terminate => "-TERM",
        }
    }
}

/// A child process whose output goes to a file. It is killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` in `folder`; output is appended to `log`.
    ///
    /// # Errors
    ///
    /// Fails when the program or the log cannot be opened.
    pub fn start(program: &Path, arguments: &[&str], folder: &Path, log: PathBuf) -> Result<Self> {
        let output = File::options().create(true).append(true).open(&log)?;
        let child = Command::new(program)
            .args(arguments)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let name = format!("{} {}", program.display(), arguments.join(" "));
        Ok(Self { name, child, log })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed so far.
    pub fn output(&self) -> String {
        fs::read(&self.log)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// Fails when it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let status = Command::new("kill")
            .args([signal.name(), &self.id().to_string()])
            .status()?;
        if !status.success() {
            bail!("cannot send {signal:?} to {}", self.name);
        }
        Ok(())
    }

    /// Ends it with SIGKILL and reaps it.
    ///
    /// # Errors
    ///
    /// Fails when it cannot be waited for.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Its exit status, if it has ended.
    ///
    /// # Errors
    ///
    /// Fails when it cannot be waited for.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Fails with its last lines if it has ended.
    ///
    /// # Errors
    ///
    /// Fails when it has ended.
    pub fn still_runs(&mut self) -> Result<()> {
        if let Some(status) = self.exited()? {
            let output = self.output();
            let from = output.lines().count().saturating_sub(30);
            let last: Vec<_> = output.lines().skip(from).collect();
            bail!("{} ended with {status}:\n{}", self.name, last.join("\n"));
        }
        Ok(())
    }

    /// Peak resident memory (`VmHWM`) in bytes.
    ///
    /// # Errors
    ///
    /// Fails when the process is gone.
    pub fn peak_memory(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    /// Resident memory (`VmRSS`) in bytes.
    ///
    /// # Errors
    ///
    /// Fails when the process is gone.
    pub fn resident_memory(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most memory in bytes that the process itself has held: the peak of its resident memory without the pages of its
    /// program file, which it shares with every process of that program and the kernel can read again. A build without
    /// optimisation has several times as many of them as a release.
    ///
    /// # Errors
    ///
    /// Fails when the process is gone.
    pub fn peak_held(&self) -> Result<u64> {
        // Pages of the file that came after the peak would make the difference too small: what is held now is the least.
        let at_peak = self.peak_memory()?.saturating_sub(self.memory("RssFile:")?);
        Ok(at_peak.max(self.memory("RssAnon:")?))
    }

    fn memory(&self, key: &str) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(key))
            .context("no memory line")?;
        let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
        Ok(kib * 1024)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Already gone is as good.
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A program of this workspace: beside the test binary, in the same profile.
///
/// # Errors
///
/// Fails when it has not been built.
pub fn program(name: &str) -> Result<PathBuf> {
    let test = std::env::current_exe()?;
    let beside = test
        .parent()
        .and_then(Path::parent)
        .context("the test binary has no folder")?;
    let path = beside.join(name);
    if !path.exists() {
        bail!(
            "{} is not built; run `cargo build --workspace` in the same profile",
            path.display()
        );
    }
    Ok(path)
}
