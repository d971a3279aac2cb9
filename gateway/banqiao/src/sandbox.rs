//! Whole cities on this machine, for `banqiao demo` and `banqiao bench`: authorities, certificates, a signed
//! directory, configs, and the processes themselves.
//!
//! Everything is made with the same code and run by the same program as in production; what differs is that one
//! folder holds the keys of every city, which no real city would allow.

mod city;
mod directory;
mod process;
mod program;

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    ops::Range,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use banqiao_directory::Clock;

pub use city::{FOUNDERS, Founder, SandboxCity};
pub use process::{Child, exit_with_parent};
pub use program::Program;

/// Ports that one city takes: client, inter-city, ops, and those of its services: cards, laboratories, items.
const PORTS: u16 = 6;
/// Above the ports of most servers.
const LOWEST_PORT: u16 = 11_000;

/// What a sandbox is to hold.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The folder.
    pub root: PathBuf,
    /// How many of [`FOUNDERS`].
    pub cities: usize,
    /// First port to try; each city takes six. 0: any free ones in a row.
    pub base_port: u16,
    /// Services of each city.
    pub services: Vec<PlannedService>,
    /// More configuration, appended to each gateway's.
    pub extra_config: String,
}

/// A service of a planned city.
#[derive(Clone, Debug)]
pub struct PlannedService {
    /// Full name.
    pub name: String,
    /// Descriptor set.
    pub descriptor_set: Vec<u8>,
    /// What serves it.
    pub backend: Backend,
}

/// What serves a planned service.
#[derive(Clone, Copy, Debug)]
pub enum Backend {
    /// A program of the sandbox, one for each city.
    Program(Program),
    /// The benchmark's own process, one for all cities.
    Address(SocketAddr),
}

impl Backend {
    /// Path of the identity that serves it, such as `hrss/card`.
    pub const fn system(&self) -> &'static str {
        match self {
            Self::Program(program) => program.system(),
            Self::Address(_) => "bench/echo",
        }
    }
}

impl Plan {
    /// The programs that each city runs beside its gateway, each once.
    pub fn programs(&self) -> Vec<Program> {
        let mut programs: Vec<Program> = Vec::new();
        for service in &self.services {
            if let Backend::Program(program) = service.backend
                && !programs.contains(&program)
            {
                programs.push(program);
            }
        }
        programs
    }
}

/// The cities of a folder.
#[derive(Debug)]
pub struct Sandbox {
    /// The folder.
    pub root: PathBuf,
    /// The cities.
    pub cities: Vec<SandboxCity>,
    /// Version of the directory.
    pub directory_version: u64,
    /// Whether the folder had held a sandbox before.
    pub kept: bool,
}

impl Sandbox {
    /// Makes what is missing in the folder, and brings ports, directory and CRLs up to date.
    ///
    /// # Errors
    ///
    /// A file that cannot be written, or a folder that holds something else.
    pub fn open(plan: &Plan) -> Result<Self> {
        let clock = Clock::system();
        fs::create_dir_all(&plan.root)
            .with_context(|| format!("cannot make {}", plan.root.display()))?;
        let marker = plan.root.join(".banqiao-sandbox");
        let kept = marker.exists();
        let foreign = !kept && fs::read_dir(&plan.root)?.next().is_some();
        if foreign {
            bail!(
                "{} holds other files: name an empty or new folder with --data",
                plan.root.display()
            );
        }
        let before = ports(&plan.root);
        let founders = &FOUNDERS[..plan.cities.min(FOUNDERS.len())];
        let ports = choose_ports(before.as_deref(), plan.base_port, founders.len())?;
        let mut cities = Vec::new();
        for (founder, ports) in founders.iter().zip(ports.chunks(usize::from(PORTS))) {
            cities.push(SandboxCity::make(&plan.root, founder, ports, plan, &clock)?);
        }
        let version = directory::bring_up_to_date(&plan.root, &cities, &clock)?;
        for city in &cities {
            city.write_configs(&plan.root, plan)?;
        }
        let list: Vec<String> = ports.iter().map(u16::to_string).collect();
        fs::write(plan.root.join("ports"), list.join("\n"))?;
        fs::write(marker, "")?;
        Ok(Self {
            root: plan.root.clone(),
            cities,
            directory_version: version,
            kept,
        })
    }

    /// The file that names the moment at which the services' records live, while there is one.
    pub fn records_clock(&self) -> PathBuf {
        self.root.join("records-clock")
    }

    /// Removes a sandbox's folder. A folder that is not a sandbox stays.
    ///
    /// # Errors
    ///
    /// It holds other files, or cannot be removed.
    pub fn remove(root: &Path) -> Result<()> {
        if !root.exists() {
            return Ok(());
        }
        if !root.join(".banqiao-sandbox").exists() && fs::read_dir(root)?.next().is_some() {
            bail!(
                "{} is not a folder that this program made: it stays",
                root.display()
            );
        }
        fs::remove_dir_all(root).with_context(|| format!("cannot remove {}", root.display()))
    }

    /// Path of the directory in force.
    pub fn directory_file(&self) -> PathBuf {
        self.root.join("directory.json")
    }

    /// Writes fresh CRLs of every city: they are good for a day.
    ///
    /// # Errors
    ///
    /// A CA that cannot be used.
    pub fn write_crls(&self) -> Result<()> {
        self.cities.iter().try_for_each(SandboxCity::renew_crl)
    }
}

fn ports(root: &Path) -> Option<Vec<u16>> {
    let text = fs::read_to_string(root.join("ports")).ok()?;
    text.lines().map(|line| line.parse().ok()).collect()
}

/// The ports of before if they are free, else a block from the base on, else one below those that the system gives to
/// connections: thousands of them begin on this address, and one that has taken a port keeps a server from it.
fn choose_ports(before: Option<&[u16]>, base: u16, cities: usize) -> Result<Vec<u16>> {
    let wanted = u16::try_from(cities * usize::from(PORTS)).context("too many cities")?;
    if let Some(before) = before
        && before.len() == usize::from(wanted)
        && reserve(before.iter().copied()).is_some()
    {
        return Ok(before.to_vec());
    }
    let block = |first: u16| reserve((0..wanted).map(|offset| first.saturating_add(offset)));
    if base > 0 {
        let tried = (0..20_u16).map(|block| base.saturating_add(block.saturating_mul(100)));
        if let Some(ports) = tried.into_iter().find_map(block) {
            return Ok(ports);
        }
    }
    let ports = server_ports();
    // Sandboxes that start at once begin at different blocks.
    let blocks = (ports.end.saturating_sub(ports.start) / wanted).max(1);
    let begin = u16::try_from(std::process::id() % u32::from(blocks)).unwrap_or_default();
    (0..blocks)
        .map(|turn| ports.start + (begin + turn) % blocks * wanted)
        .find_map(block)
        .with_context(|| {
            let Range { start, end } = ports;
            format!("no {wanted} ports in a row are free on 127.0.0.1 from {start} to {end}")
        })
}

/// Where ports of a sandbox are looked for when none is named: those that the system gives to no connection, unless it keeps hardly any.
fn server_ports() -> Range<u16> {
    let end = connection_ports();
    let few = end < LOWEST_PORT + 1_000;
    LOWEST_PORT..if few { u16::MAX } else { end }
}

/// The lowest port that the system gives to connections (`ip_local_port_range` of ip(7)).
fn connection_ports() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .unwrap_or(32_768)
}

/// Ports that are all free at this moment, held together so that none is given twice.
fn reserve(ports: impl Iterator<Item = u16>) -> Option<Vec<u16>> {
    let held: Option<Vec<TcpListener>> = ports
        .map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok())
        .collect();
    held?
        .iter()
        .map(|socket| Some(socket.local_addr().ok()?.port()))
        .collect()
}

/// Polls a condition until it holds.
///
/// # Errors
///
/// It did not within the limit; the text says what was waited for.
pub async fn until<F: Future<Output = bool>>(
    limit: Duration,
    what: &str,
    mut holds: impl FnMut() -> F,
) -> Result<()> {
    let end = tokio::time::Instant::now() + limit;
    while !holds().await {
        if tokio::time::Instant::now() > end {
            bail!("{what} did not happen within {} s", limit.as_secs());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_none_that_connections_are_given() {
        for base in [0, 17_020] {
            let ports = choose_ports(None, base, 5).unwrap();
            assert_eq!(ports.len(), 30);
            let fit = |port| server_ports().contains(port);
            assert!(ports.iter().all(fit), "{ports:?}");
        }
    }

    #[test]
    fn next_block_is_taken_where_a_port_is_in_use() {
        let free = choose_ports(None, 0, 1).unwrap();
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, free[2])).unwrap();
        let ports = choose_ports(Some(&free), free[0], 1).unwrap();
        assert!(!ports.contains(&free[2]), "{ports:?}");
        drop(taken);
        assert_eq!(choose_ports(Some(&free), 17_020, 1).unwrap(), free);
    }
}
