//! Processes of a sandbox. Each has a pipe from its parent as standard input and stops when it closes, so that none
//! outlives a parent that was killed.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::AsyncReadExt as _,
    process::{Child as TokioChild, ChildStdin, Command},
};

/// What a child may take to drain before it is killed.
const PATIENCE: Duration = Duration::from_secs(15);

/// A running process.
#[derive(Debug)]
pub struct Child {
    process: TokioChild,
    /// Closing it asks the child to stop.
    stdin: Option<ChildStdin>,
    log: PathBuf,
}

impl Child {
    /// Starts this very program with other arguments; what it says goes into a log file.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    pub fn start<'a>(arguments: impl IntoIterator<Item = &'a str>, log: &Path) -> Result<Self> {
        let program = std::env::current_exe().context("the path of this program")?;
        let path = log.to_owned();
        let log = fs::OpenOptions::new().create(true).append(true).open(log)?;
        let mut process = Command::new(program)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start a process of the sandbox")?;
        let stdin = process.stdin.take();
        Ok(Self {
            process,
            stdin,
            log: path,
        })
    }

    /// Process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// Whether it has ended, and how.
    ///
    /// # Errors
    ///
    /// The system does not say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.process.try_wait()?)
    }

    /// What it wrote last, and into which file.
    #[must_use]
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<_> = log.lines().filter(|line| !line.is_empty()).collect();
        let last = lines[lines.len().saturating_sub(3)..].join("\n    ");
        format!("{} ends with\n    {last}", self.log.display())
    }

    /// Asks it to stop and waits until it has.
    ///
    /// # Errors
    ///
    /// It had to be killed.
    pub async fn stop(mut self) -> Result<ExitStatus> {
        drop(self.stdin.take());
        if let Ok(status) = tokio::time::timeout(PATIENCE, self.process.wait()).await {
            return Ok(status?);
        }
        self.process.kill().await?;
        anyhow::bail!("a process of the sandbox did not stop and was killed")
    }
}

/// Done when standard input is closed: the parent wants this process to stop, or is gone.
pub async fn exit_with_parent() {
    let mut input = tokio::io::stdin();
    let mut ignored = [0; 64];
    while !matches!(input.read(&mut ignored).await, Ok(0) | Err(_)) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn last_words_are_the_last_lines_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("gateway.log");
        fs::write(&log, "one\ntwo\n\nthree\nfour\n").unwrap();
        // This program, a test, lists nothing and ends.
        let mut child = Child::start(["--list", "--exact", "no such test"], &log).unwrap();
        child.process.wait().await.unwrap();
        fs::write(&log, "one\ntwo\n\nthree\nfour\n").unwrap();
        let words = child.last_words();
        assert!(words.starts_with(&log.display().to_string()), "{words}");
        assert!(
            words.ends_with("ends with\n    two\n    three\n    four"),
            "{words}"
        );
    }
}
