//! `banqiao status`, `reload`, `drain`, `publish` and `catalog`: a gateway's operation over its admin listener.

use std::{io, path::PathBuf};

use anyhow::Result;
use banqiao_directory::ServiceSet;
use banqiao_proto::directory::v1::{
    DrainRequest, GetStatusRequest, GetStatusResponse, ListServicesRequest,
    PublishDirectoryRequest, RegisterDescriptorSetRequest, ReloadRequest,
    admin_service_client::AdminServiceClient,
};
use clap::Subcommand;
use prost_types::Timestamp;
use protox::file::{
    ChainFileResolver, DescriptorSetFileResolver, GoogleFileResolver, IncludeFileResolver,
};
use serde_json::json;
use tonic::transport::Channel;

use crate::{
    answer,
    config::Role,
    connect::AdminArgs,
    exit::{Exit, Stop},
    grant::read_file,
    moment,
    text::{clean, json as json_text, table::Table},
};

async fn connect(admin: &AdminArgs, role: Role) -> Result<AdminServiceClient<Channel>, Stop> {
    Ok(AdminServiceClient::new(admin.connect(role).await?))
}

/// Show the state of a gateway. Exit 0: nothing to warn about; 1: there is.
#[derive(Debug, clap::Args)]
pub struct StatusCommand {
    #[command(flatten)]
    admin: AdminArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Ask with this role's socket.
    #[arg(long, value_name = "ROLE", default_value = "operator")]
    role: Role,
}

impl StatusCommand {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// [`Stop`] where the gateway cannot be reached or refuses.
    pub async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let asked = connect(&self.admin, self.role)
            .await?
            .get_status(GetStatusRequest {})
            .await;
        let status = asked.map_err(|status| answer::stop(&status))?.into_inner();
        if self.json {
            write_json(out, &status)?;
        } else {
            write_text(out, &status)?;
        }
        Ok(if status.warnings.is_empty() {
            Exit::Done
        } else {
            Exit::Failed
        })
    }
}

fn local(at: Option<&Timestamp>) -> String {
    at.map(|at| moment::local(moment::from_proto(at)))
        .unwrap_or_default()
}

fn write_text(out: &mut dyn io::Write, status: &GetStatusResponse) -> Result<()> {
    let yes = |yes: bool, if_not: &'static str| if yes { "yes" } else { if_not };
    let mut facts = Table::new(&["", ""]);
    facts.row(["city", status.city.as_str()]);
    facts.row(["replica", &status.replica]);
    facts.row(["program", &status.program_version]);
    facts.row(["started", &local(status.started_at.as_ref())]);
    facts.row([
        "directory",
        &format!(
            "version {}, taken over {}, expires {}",
            status.directory_version,
            local(status.directory_fetched_at.as_ref()),
            local(status.directory_expires_at.as_ref())
        ),
    ]);
    facts.row([
        "certificate expires",
        &local(status.certificate_expires_at.as_ref()),
    ]);
    facts.row([
        "ledger",
        &format!(
            "{} entries, {} of them archived, can be written: {}",
            status.ledger_size,
            status.ledger_archived,
            yes(status.ledger_writable, "NO")
        ),
    ]);
    facts.row([
        "witnessed",
        &format!(
            "{} entries, {}",
            status.witnessed_size,
            local(status.witnessed_at.as_ref())
        ),
    ]);
    facts.row(["grants in force", &status.grants.to_string()]);
    facts.row(["calls in flight", &status.calls_in_flight.to_string()]);
    facts.row(["draining", yes(status.draining, "no")]);
    facts.write(out)?;
    writeln!(out)?;
    let mut crls = Table::new(&["CRL OF", "NUMBER", "NEXT DUE", "REVOKED"]);
    for crl in &status.crls {
        let revoked = crl.revoked.to_string();
        crls.row([
            crl.trust_domain.as_str(),
            &crl.number,
            &local(crl.next_update.as_ref()),
            &revoked,
        ]);
    }
    crls.write(out)?;
    writeln!(out)?;
    let mut witnesses = Table::new(&["WITNESS", "COSIGNED", "AT", "PROBLEM"]);
    for witness in &status.witnesses {
        let size = witness.cosigned_size.to_string();
        witnesses.row([
            witness.city.as_str(),
            &size,
            &local(witness.cosigned_at.as_ref()),
            &clean(&witness.problem),
        ]);
    }
    witnesses.write(out)?;
    writeln!(out)?;
    let mut ledgers = Table::new(&["RECEIPTS OF", "LINKED AT SIZE", "WAITING SINCE", "PROBLEM"]);
    for ledger in &status.peer_ledgers {
        let forked = "ALARM: two histories";
        ledgers.row([
            ledger.city.as_str(),
            &ledger.linked_size.to_string(),
            &local(ledger.waiting_since.as_ref()),
            &if ledger.forked {
                forked.into()
            } else {
                clean(&ledger.problem)
            },
        ]);
    }
    ledgers.write(out)?;
    writeln!(out)?;
    let mut compared = Table::new(&[
        "COMPARED WITH",
        "UNTIL",
        "AT",
        "DISCREPANCIES",
        "RUNNING",
        "PROBLEM",
    ]);
    for with in &status.reconciliations {
        compared.row([
            with.city.as_str(),
            &local(with.compared_until.as_ref()),
            &local(with.compared_at.as_ref()),
            &with.discrepancies.to_string(),
            &with.running.to_string(),
            &clean(&with.problem),
        ]);
    }
    compared.write(out)?;
    writeln!(out)?;
    let mut ends = Table::new(&["PEER OR SERVICE", "ADDRESS", "STATE"]);
    for peer in &status.peers {
        let state = format!(
            "{}, {} connections",
            yes(peer.reachable, "NOT REACHABLE"),
            peer.connections
        );
        ends.row([peer.city.as_str(), "", &state.replace("yes", "reachable")]);
    }
    for endpoint in &status.endpoints {
        let state = if endpoint.healthy {
            "healthy"
        } else {
            "EJECTED"
        };
        ends.row([endpoint.service.as_str(), &endpoint.address, state]);
    }
    ends.write(out)?;
    for warning in &status.warnings {
        writeln!(out, "\nwarning: {}", clean(warning))?;
    }
    Ok(())
}

fn write_json(out: &mut dyn io::Write, status: &GetStatusResponse) -> Result<()> {
    let utc = |at: &Option<Timestamp>| at.as_ref().map(|at| moment::utc(moment::from_proto(at)));
    let crls: Vec<_> = status
        .crls
        .iter()
        .map(|crl| json!({ "trust_domain": crl.trust_domain, "number": crl.number, "next_update": utc(&crl.next_update), "revoked": crl.revoked }))
        .collect();
    let peers: Vec<_> = status
        .peers
        .iter()
        .map(|peer| json!({ "city": peer.city, "connections": peer.connections, "reachable": peer.reachable }))
        .collect();
    let endpoints: Vec<_> = status
        .endpoints
        .iter()
        .map(
            |end| json!({ "service": end.service, "address": end.address, "healthy": end.healthy }),
        )
        .collect();
    let reconciliations: Vec<_> = status
        .reconciliations
        .iter()
        .map(|with| json!({ "city": with.city, "compared_until": utc(&with.compared_until), "compared_at": utc(&with.compared_at), "discrepancies": with.discrepancies, "running": with.running, "problem": with.problem }))
        .collect();
    let witnesses: Vec<_> = status
        .witnesses
        .iter()
        .map(|witness| json!({ "city": witness.city, "cosigned_size": witness.cosigned_size, "cosigned_at": utc(&witness.cosigned_at), "problem": witness.problem }))
        .collect();
    let object = json!({
        "city": status.city,
        "replica": status.replica,
        "program_version": status.program_version,
        "started_at": utc(&status.started_at),
        "directory_version": status.directory_version,
        "directory_fetched_at": utc(&status.directory_fetched_at),
        "directory_expires_at": utc(&status.directory_expires_at),
        "certificate_expires_at": utc(&status.certificate_expires_at),
        "crls": crls,
        "peers": peers,
        "endpoints": endpoints,
        "ledger_size": status.ledger_size,
        "ledger_archived": status.ledger_archived,
        "ledger_writable": status.ledger_writable,
        "reconciliations": reconciliations,
        "witnessed_size": status.witnessed_size,
        "witnessed_at": utc(&status.witnessed_at),
        "witnesses": witnesses,
        "peer_ledgers": status.peer_ledgers.iter().map(|ledger| json!({
            "city": ledger.city,
            "linked_size": ledger.linked_size,
            "waiting_since": utc(&ledger.waiting_since),
            "problem": ledger.problem,
            "forked": ledger.forked,
            "forked_at": utc(&ledger.forked_at),
            "contradicting_checkpoints": ledger.contradicting_checkpoints,
        })).collect::<Vec<_>>(),
        "calls_in_flight": status.calls_in_flight,
        "grants": status.grants,
        "draining": status.draining,
        "warnings": status.warnings,
    });
    json_text::write_line(out, &object)?;
    writeln!(out)?;
    Ok(())
}

/// Read certificates, bundles, CRLs and the directory again at once.
#[derive(Debug, clap::Args)]
pub struct ReloadCommand {
    #[command(flatten)]
    admin: AdminArgs,
}

impl ReloadCommand {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// [`Stop`] where the gateway cannot be reached or refuses.
    pub async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let asked = connect(&self.admin, Role::Operator)
            .await?
            .reload(ReloadRequest {})
            .await;
        let changes = asked
            .map_err(|status| answer::stop(&status))?
            .into_inner()
            .changes;
        if changes.is_empty() {
            writeln!(out, "nothing has changed")?;
        }
        for change in changes {
            writeln!(out, "{}", clean(&change))?;
        }
        Ok(Exit::Done)
    }
}

/// Take no more calls and let the open ones finish.
#[derive(Debug, clap::Args)]
pub struct DrainCommand {
    #[command(flatten)]
    admin: AdminArgs,
}

impl DrainCommand {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// [`Stop`] where the gateway cannot be reached or refuses.
    pub async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let asked = connect(&self.admin, Role::Operator)
            .await?
            .drain(DrainRequest {})
            .await;
        let calls = asked
            .map_err(|status| answer::stop(&status))?
            .into_inner()
            .calls_in_flight;
        writeln!(out, "draining; {calls} calls are open")?;
        Ok(Exit::Done)
    }
}

/// Offer a signed directory to a gateway.
#[derive(Debug, clap::Args)]
pub struct PublishCommand {
    /// The signed directory, as `banqiao directory sign` writes it.
    file: PathBuf,
    #[command(flatten)]
    admin: AdminArgs,
}

impl PublishCommand {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// [`Stop`] where the gateway cannot be reached or refuses.
    pub async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let request = PublishDirectoryRequest {
            envelope: read_file(&self.file)?,
        };
        let asked = connect(&self.admin, Role::Administrator)
            .await?
            .publish_directory(request)
            .await;
        let version = asked
            .map_err(|status| answer::stop(&status))?
            .into_inner()
            .version;
        writeln!(out, "directory {version} is in force")?;
        Ok(Exit::Done)
    }
}

/// The services that a gateway carries.
#[derive(Debug, Subcommand)]
pub enum CatalogCommand {
    /// List the services with their methods and addresses.
    List(CatalogList),
    /// Register the descriptors of services, so that the gateway can carry them.
    Register(CatalogRegister),
}

/// Arguments of `catalog list`.
#[derive(Debug, clap::Args)]
pub struct CatalogList {
    #[command(flatten)]
    admin: AdminArgs,
    /// Print JSON, one service a line.
    #[arg(long)]
    json: bool,
    /// Ask with this role's socket.
    #[arg(long, value_name = "ROLE", default_value = "administrator")]
    role: Role,
}

/// Arguments of `catalog register`.
#[derive(Debug, clap::Args)]
pub struct CatalogRegister {
    /// A descriptor set with its imports (`buf build -o`, `protoc --include_imports -o`), or .proto files.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Folder in which .proto imports are looked for; may be repeated. Default: the first file's folder.
    #[arg(long = "include", short = 'I', value_name = "FOLDER")]
    includes: Vec<PathBuf>,
    /// Service of the set to register; may be repeated. Default: all of them.
    #[arg(long = "service", value_name = "NAME")]
    services: Vec<String>,
    /// Address that serves them, host:port; may be repeated. Default: those that are configured.
    #[arg(long = "endpoint", value_name = "ADDRESS", requires = "identity")]
    endpoints: Vec<String>,
    /// SPIFFE ID that every address must prove.
    #[arg(long, value_name = "ID", default_value = "", requires = "endpoints")]
    identity: String,
    #[command(flatten)]
    admin: AdminArgs,
}

impl CatalogCommand {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// [`Stop`] where the gateway cannot be reached or refuses.
    pub async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        match self {
            Self::List(command) => command.run(out).await,
            Self::Register(command) => command.run(out).await,
        }
    }
}

impl CatalogList {
    async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let asked = connect(&self.admin, self.role)
            .await?
            .list_services(ListServicesRequest {})
            .await;
        let services = asked
            .map_err(|status| answer::stop(&status))?
            .into_inner()
            .services;
        if self.json {
            for service in services {
                let object = json!({
                    "service": service.service,
                    "descriptor_digest": hex::encode(&service.descriptor_digest),
                    "endpoints": service.endpoints,
                    "methods": service.methods,
                });
                json_text::write_line(out, &object)?;
                writeln!(out)?;
            }
            return Ok(Exit::Done);
        }
        let mut table = Table::new(&["SERVICE", "METHODS", "ADDRESSES", "DESCRIPTORS"]);
        for service in services {
            let digest = hex::encode(service.descriptor_digest.get(..8).unwrap_or_default());
            table.row([
                service.service.as_str(),
                &service.methods.join(" "),
                &service.endpoints.join(" "),
                &digest,
            ]);
        }
        table.write(out)?;
        Ok(Exit::Done)
    }
}

impl CatalogRegister {
    async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let request = RegisterDescriptorSetRequest {
            descriptor_set: self.descriptor_set()?,
            services: self.services.clone(),
            endpoints: self.endpoints.clone(),
            identity: self.identity.clone(),
        };
        // A set that cannot be read at all is refused by the gateway, in the same words as ever.
        let findings = ServiceSet::decode(&request.descriptor_set)
            .and_then(|set| {
                if self.services.is_empty() {
                    Ok(set)
                } else {
                    set.restrict(&self.services)
                }
            })
            .map_or_else(|_| Vec::new(), |set| set.findings());
        let mut admin = connect(&self.admin, Role::Administrator).await?;
        let asked = admin.register_descriptor_set(request).await;
        let answer = asked.map_err(|status| answer::stop(&status))?.into_inner();
        writeln!(out, "{}", hex::encode(&answer.digest))?;
        for service in answer.services {
            writeln!(out, "{}", clean(&service))?;
        }
        for finding in findings {
            writeln!(out, "to correct: {}", clean(&finding.to_string()))?;
        }
        Ok(Exit::Done)
    }

    fn descriptor_set(&self) -> Result<Vec<u8>, Stop> {
        let is_proto = |path: &PathBuf| path.extension().is_some_and(|kind| kind == "proto");
        if !self.files.iter().any(is_proto) {
            let [file] = &*self.files else {
                return Err(Stop::usage("name one descriptor set, or .proto files"));
            };
            return read_file(file);
        }
        let mut includes = self.includes.clone();
        if includes.is_empty() {
            let first = self.files.first().and_then(|file| file.parent());
            includes.push(first.map_or_else(PathBuf::new, PathBuf::from));
        }
        let wrong = |error: protox::Error| {
            Stop::usage("the .proto files cannot be compiled")
                .caused_by(anyhow::anyhow!("{error:?}"))
        };
        let mut resolver = ChainFileResolver::new();
        for include in &includes {
            resolver.add(IncludeFileResolver::new(include.clone()));
        }
        // Banqiao's own options can be imported without a copy of them.
        let own = DescriptorSetFileResolver::decode(banqiao_proto::FILE_DESCRIPTOR_SET);
        resolver.add(
            own.map_err(|error| {
                Stop::usage("the built-in protos cannot be read").caused_by(error)
            })?,
        );
        resolver.add(GoogleFileResolver::new());
        let mut compiler = protox::Compiler::with_file_resolver(resolver);
        compiler.include_imports(true).include_source_info(true);
        for file in &self.files {
            let name = includes
                .iter()
                .find_map(|include| file.strip_prefix(include).ok())
                .unwrap_or(file);
            compiler.open_file(name).map_err(wrong)?;
        }
        Ok(compiler.encode_file_descriptor_set())
    }
}
