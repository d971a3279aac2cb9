//! The processes of the demo.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::net::TcpStream;

use super::is_ready;
use crate::sandbox::{self, Child, Program, Sandbox, SandboxCity};

/// What the processes may take to start, on a busy machine.
const START: Duration = Duration::from_secs(60);
/// CRLs are good for a day; they are written again well before.
const CRL_INTERVAL: Duration = Duration::from_secs(8 * 3_600);
/// The command that runs a gateway.
const GATEWAY: &str = "gateway";

/// The processes of the demo.
pub(super) struct Processes {
    children: Vec<(String, Child)>,
}

impl Processes {
    pub(super) fn start(sandbox: &Sandbox) -> Result<Self> {
        let clock = sandbox.records_clock();
        // A run that was interrupted may have left it.
        if clock.exists() {
            std::fs::remove_file(&clock)?;
        }
        let clock = clock.to_str().context("the folder's name is not UTF-8")?;
        let mut children = Vec::new();
        for city in &sandbox.cities {
            for program in Program::ALL {
                let config = program.config(city);
                let config = config.to_str().context("the folder's name is not UTF-8")?;
                let name = program.name();
                let mut arguments = vec![name, "--config", config, "--exit-with-parent"];
                // What happens in cards' and cases' records takes days; reports are of the present.
                if matches!(program, Program::Card | Program::Item) {
                    arguments.extend(["--records-clock", clock]);
                }
                let log = city.folder.join(format!("{name}.log"));
                children.push((named(name, city), Child::start(arguments, &log)?));
            }
            children.push((named(GATEWAY, city), start_gateway(city)?));
        }
        Ok(Self { children })
    }

    /// Waits until every gateway takes calls and every service listens.
    pub(super) async fn ready(&mut self, sandbox: &Sandbox) -> Result<()> {
        for city in &sandbox.cities {
            self.city_ready(city).await?;
        }
        Ok(())
    }

    async fn city_ready(&mut self, city: &SandboxCity) -> Result<()> {
        let what = format!("the start of {}", city.founder.en);
        let waiting = sandbox::until(START, &what, || async move {
            for program in Program::ALL {
                if TcpStream::connect(program.address(city)).await.is_err() {
                    return false;
                }
            }
            is_ready(city.ops).await
        });
        tokio::select! {
            waited = waiting => waited,
            gone = self.gone() => gone,
        }
    }

    /// Stops a city's gateway: no other city reaches it.
    pub(super) async fn take_down(&mut self, city: &SandboxCity) -> Result<()> {
        let name = named(GATEWAY, city);
        let at = self.children.iter().position(|(of, _)| *of == name);
        let (name, child) = self.children.remove(at.context("no such gateway")?);
        stop(name, child).await
    }

    /// Starts a city's gateway again, and waits until it takes calls.
    pub(super) async fn bring_up(&mut self, city: &SandboxCity) -> Result<()> {
        self.children
            .push((named(GATEWAY, city), start_gateway(city)?));
        self.city_ready(city).await
    }

    /// Done when one of the processes ends by itself.
    async fn gone(&mut self) -> Result<()> {
        loop {
            for (name, child) in &mut self.children {
                if let Some(status) = child.ended()? {
                    bail!("the {name} ended with {status}: {}", child.last_words());
                }
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Keeps the network up.
    pub(super) async fn keep(&mut self, sandbox: &Sandbox) -> Result<()> {
        loop {
            tokio::select! {
                gone = self.gone() => return gone,
                () = tokio::time::sleep(CRL_INTERVAL) => sandbox.write_crls()?,
            }
        }
    }

    pub(super) async fn stop(self) -> Result<()> {
        let stops = self
            .children
            .into_iter()
            .map(|(name, child)| stop(name, child));
        futures_util::future::try_join_all(stops).await.map(drop)
    }
}

fn named(kind: &str, city: &SandboxCity) -> String {
    format!("{kind} of {}", city.founder.en)
}

fn start_gateway(city: &SandboxCity) -> Result<Child> {
    let config = city.gateway_config();
    let config = config.to_str().context("the folder's name is not UTF-8")?;
    let arguments = [GATEWAY, "--config", config, "--exit-with-parent"];
    Child::start(arguments, &city.folder.join("gateway.log"))
}

async fn stop(name: String, child: Child) -> Result<()> {
    let status = child.stop().await.with_context(|| format!("the {name}"))?;
    if !status.success() {
        bail!("the {name} ended with {status}");
    }
    Ok(())
}
