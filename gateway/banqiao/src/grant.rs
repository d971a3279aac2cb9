//! `banqiao grant`: access to this city's services.

use std::{io, path::PathBuf};

use anyhow::Result;
use banqiao_directory::Clock;
use banqiao_proto::{
    ReasonTable,
    directory::v1::{
        AddGrantRequest, ExplainGrantRequest, Grant, ListGrantsRequest, Rate, RevokeGrantRequest,
        grant_service_client::GrantServiceClient,
    },
};
use clap::Subcommand;
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::{
    answer,
    config::Role,
    connect::AdminArgs,
    exit::{Exit, Stop},
    moment::{self, Moment, parse_duration},
    text::{clean, json as json_text, table::Table},
};

/// Largest answer in bytes: tens of thousands of grants.
const MAX_ANSWER_BYTES: usize = 64 << 20;

/// Add, list, revoke and explain grants.
#[derive(Debug, Subcommand)]
pub enum GrantCommand {
    /// Let a client call a service.
    Add(Box<Add>),
    /// Say what would happen to a call, and by which grant. Exit 0: permitted; 1: refused.
    Explain(Explain),
    /// List the grants in force, newest first.
    List(List),
    /// Revoke a grant for ever. Streams that rest on it end within 2 s.
    Revoke(Revoke),
}

/// Arguments of `grant add`.
#[derive(Debug, clap::Args)]
pub struct Add {
    /// SPIFFE ID of the client system, or a prefix that ends in /*.
    #[arg(long, value_name = "ID")]
    client: String,
    /// Full name of the service.
    #[arg(long, value_name = "NAME")]
    service: String,
    /// Method; may be repeated. Default: every method of the service.
    #[arg(long = "method", value_name = "NAME")]
    methods: Vec<String>,
    /// Purpose code of the directory; may be repeated.
    #[arg(long = "purpose", value_name = "CODE", required = true)]
    purposes: Vec<String>,
    /// Response field that the client may see, such as card.state or group:basic; may be repeated. Default: all.
    #[arg(long = "field", value_name = "PATH")]
    fields: Vec<String>,
    /// Rate, such as 100/1s or 100/1s/20 with a burst.
    #[arg(long, value_name = "CALLS/TIME[/BURST]", value_parser = parse_rate)]
    rate: Option<Rate>,
    /// First moment of validity.
    #[arg(long, value_name = "MOMENT", default_value = "now")]
    from: String,
    /// End of validity: a moment, or a duration from now such as 365d.
    #[arg(long, value_name = "MOMENT")]
    until: String,
    /// Law and article, or the agreement, on which access is granted.
    #[arg(long, value_name = "TEXT")]
    legal_basis: String,
    /// Number of the sharing request that was approved.
    #[arg(long, value_name = "NUMBER")]
    request_number: String,
    #[command(flatten)]
    admin: AdminArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Arguments of `grant list`.
#[derive(Debug, clap::Args)]
pub struct List {
    /// Only grants that cover this client.
    #[arg(long, value_name = "ID", default_value = "")]
    client: String,
    /// Only grants for this service.
    #[arg(long, value_name = "NAME", default_value = "")]
    service: String,
    /// Also expired and revoked ones.
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    admin: AdminArgs,
    /// Print JSON, one grant a line.
    #[arg(long)]
    json: bool,
    /// Ask with this role's socket.
    #[arg(long, value_name = "ROLE", default_value = "administrator")]
    role: Role,
}

/// Arguments of `grant revoke`.
#[derive(Debug, clap::Args)]
pub struct Revoke {
    /// The grant's id.
    id: String,
    /// Why. Providers may not end sharing without cause (政务数据共享条例 art. 27).
    #[arg(long, value_name = "TEXT")]
    reason: String,
    #[command(flatten)]
    admin: AdminArgs,
}

/// Arguments of `grant explain`.
#[derive(Debug, clap::Args)]
pub struct Explain {
    /// SPIFFE ID of the client.
    #[arg(long, value_name = "ID")]
    client: String,
    /// package.Service/Method.
    #[arg(long, value_name = "METHOD")]
    method: String,
    /// Purpose code.
    #[arg(long, value_name = "CODE")]
    purpose: String,
    /// The moment asked about. Default: now.
    #[arg(long, value_name = "MOMENT")]
    at: Option<String>,
    #[command(flatten)]
    admin: AdminArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// Ask with this role's socket.
    #[arg(long, value_name = "ROLE", default_value = "administrator")]
    role: Role,
}

impl GrantCommand {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// [`Stop`] where the gateway cannot be reached or refuses.
    pub async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        match self {
            Self::Add(command) => command.run(out).await,
            Self::Explain(command) => command.run(out).await,
            Self::List(command) => command.run(out).await,
            Self::Revoke(command) => command.run(out).await,
        }
    }
}

async fn grants(admin: &AdminArgs, role: Role) -> Result<GrantServiceClient<Channel>, Stop> {
    let channel = admin.connect(role).await?;
    Ok(GrantServiceClient::new(channel).max_decoding_message_size(MAX_ANSWER_BYTES))
}

impl Add {
    async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let clock = Clock::system();
        let moment = |text: &str| {
            Moment::parse(text).map_err(|error| Stop::usage(format!("{text}: {error}")))
        };
        let grant = Grant {
            client: self.client.clone(),
            service: self.service.clone(),
            methods: self.methods.clone(),
            purposes: self.purposes.clone(),
            disclosed_fields: self.fields.clone(),
            rate: self.rate,
            not_before: Some(moment::to_proto(moment(&self.from)?.after(&clock))),
            not_after: Some(moment::to_proto(moment(&self.until)?.after(&clock))),
            legal_basis: self.legal_basis.clone(),
            request_number: self.request_number.clone(),
            ..Grant::default()
        };
        let mut grants = grants(&self.admin, Role::Administrator).await?;
        let added = grants
            .add_grant(AddGrantRequest { grant: Some(grant) })
            .await;
        let grant = added
            .map_err(|status| answer::stop(&status))?
            .into_inner()
            .grant
            .unwrap_or_default();
        if self.json {
            json_text::write_line(out, &value(&grant))?;
            writeln!(out)?;
        } else {
            writeln!(out, "{}", clean(&grant.id))?;
        }
        Ok(Exit::Done)
    }
}

impl List {
    async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let request = ListGrantsRequest {
            client: self.client.clone(),
            service: self.service.clone(),
            include_ended: self.all,
        };
        let listed = grants(&self.admin, self.role)
            .await?
            .list_grants(request)
            .await;
        let grants = listed
            .map_err(|status| answer::stop(&status))?
            .into_inner()
            .grants;
        if self.json {
            for grant in &grants {
                json_text::write_line(out, &value(grant))?;
                writeln!(out)?;
            }
            return Ok(Exit::Done);
        }
        let mut table = Table::new(&[
            "ID", "CLIENT", "SERVICE", "METHODS", "PURPOSES", "FIELDS", "UNTIL", "STATE",
        ]);
        let now = Clock::system().now_us();
        for grant in &grants {
            table.row([
                grant.id.as_str(),
                &grant.client,
                &grant.service,
                &all_or(&grant.methods),
                &grant.purposes.join(" "),
                &all_or(&grant.disclosed_fields),
                &grant
                    .not_after
                    .as_ref()
                    .map(|at| moment::local(moment::from_proto(at)))
                    .unwrap_or_default(),
                state(grant, now),
            ]);
        }
        table.write(out)?;
        Ok(Exit::Done)
    }
}

impl Revoke {
    async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let request = RevokeGrantRequest {
            id: self.id.clone(),
            reason: self.reason.clone(),
        };
        let revoked = grants(&self.admin, Role::Administrator)
            .await?
            .revoke_grant(request)
            .await;
        let grant = revoked
            .map_err(|status| answer::stop(&status))?
            .into_inner()
            .grant
            .unwrap_or_default();
        let at = grant
            .revoked_at
            .as_ref()
            .map(|at| moment::local(moment::from_proto(at)));
        writeln!(
            out,
            "{} revoked {} by {}",
            clean(&grant.id),
            at.unwrap_or_default(),
            clean(&grant.revoked_by)
        )?;
        Ok(Exit::Done)
    }
}

impl Explain {
    async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let clock = Clock::system();
        let at = match &self.at {
            None => None,
            Some(text) => {
                let moment = Moment::parse(text)
                    .map_err(|error| Stop::usage(format!("--at {text}: {error}")))?;
                Some(moment::to_proto(moment.after(&clock)))
            }
        };
        let request = ExplainGrantRequest {
            client: self.client.clone(),
            method: self.method.clone(),
            purpose: self.purpose.clone(),
            at,
        };
        let explained = grants(&self.admin, self.role)
            .await?
            .explain_grant(request)
            .await;
        let answer = explained
            .map_err(|status| answer::stop(&status))?
            .into_inner();
        let reason = ReasonTable::name(answer.reason());
        if self.json {
            let considered: Vec<Value> = answer
                .considered
                .iter()
                .map(|one| json!({ "grant": one.grant_id, "finding": one.finding }))
                .collect();
            let object = json!({
                "permitted": answer.permitted,
                "grant": answer.grant_id,
                "reason": if answer.permitted { "" } else { reason },
                "disclosed_fields": answer.disclosed_fields,
                "considered": considered,
            });
            json_text::write_line(out, &object)?;
            writeln!(out)?;
        } else if answer.permitted {
            writeln!(out, "permitted by grant {}", clean(&answer.grant_id))?;
            writeln!(out, "fields: {}", clean(&all_or(&answer.disclosed_fields)))?;
        } else {
            writeln!(out, "refused: {reason}")?;
        }
        if !self.json {
            for one in &answer.considered {
                writeln!(out, "  {}: {}", clean(&one.grant_id), clean(&one.finding))?;
            }
        }
        Ok(if answer.permitted {
            Exit::Done
        } else {
            Exit::Failed
        })
    }
}

fn all_or(texts: &[String]) -> String {
    if texts.is_empty() {
        "all".to_owned()
    } else {
        texts.join(" ")
    }
}

fn state(grant: &Grant, now_us: i64) -> &'static str {
    let at = |moment: &Option<prost_types::Timestamp>| moment.as_ref().map(moment::from_proto);
    if grant.revoked_at.is_some() {
        "revoked"
    } else if at(&grant.not_after).is_some_and(|end| end <= now_us) {
        "expired"
    } else if at(&grant.not_before).is_some_and(|start| start > now_us) {
        "not yet"
    } else {
        "in force"
    }
}

fn value(grant: &Grant) -> Value {
    let at = |moment: &Option<prost_types::Timestamp>| {
        moment
            .as_ref()
            .map(|at| moment::utc(moment::from_proto(at)))
    };
    json!({
        "id": grant.id,
        "client": grant.client,
        "service": grant.service,
        "methods": grant.methods,
        "purposes": grant.purposes,
        "disclosed_fields": grant.disclosed_fields,
        "rate": grant.rate.as_ref().map(show_rate),
        "not_before": at(&grant.not_before),
        "not_after": at(&grant.not_after),
        "legal_basis": grant.legal_basis,
        "request_number": grant.request_number,
        "created_at": at(&grant.created_at),
        "created_by": grant.created_by,
        "revoked_at": at(&grant.revoked_at),
        "revoked_by": grant.revoked_by,
        "revoke_reason": grant.revoke_reason,
        "state": state(grant, Clock::system().now_us()),
    })
}

/// `100/1s` or `100/1s/20`.
fn parse_rate(text: &str) -> Result<Rate, String> {
    let wrong = || "write CALLS/TIME or CALLS/TIME/BURST, such as 100/1s/20".to_owned();
    let mut parts = text.split('/');
    let calls = parts
        .next()
        .and_then(|part| part.parse().ok())
        .ok_or_else(wrong)?;
    let per = parts
        .next()
        .and_then(|part| parse_duration(part).ok())
        .ok_or_else(wrong)?;
    let burst = match parts.next() {
        None => 0,
        Some(part) => part.parse().map_err(|_| wrong())?,
    };
    if parts.next().is_some() {
        return Err(wrong());
    }
    let per = prost_types::Duration::try_from(per).map_err(|_| wrong())?;
    Ok(Rate {
        calls,
        per: Some(per),
        burst,
    })
}

fn show_rate(rate: &Rate) -> String {
    let per = rate
        .per
        .and_then(|per| std::time::Duration::try_from(per).ok())
        .unwrap_or_default();
    let burst = if rate.burst == 0 {
        String::new()
    } else {
        format!("/{}", rate.burst)
    };
    format!("{}/{}{burst}", rate.calls, moment::format_duration(per))
}

/// Where an offline file of a command lies.
pub(crate) fn read_file(path: &PathBuf) -> Result<Vec<u8>, Stop> {
    std::fs::read(path)
        .map_err(|error| Stop::usage(format!("cannot read {}", path.display())).caused_by(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_calls_in_a_time_with_an_optional_burst() {
        for (text, shown) in [
            ("100/1s", "100/1s"),
            ("5/1min/2", "5/1m/2"),
            ("1/1h", "1/1h"),
        ] {
            assert_eq!(show_rate(&parse_rate(text).unwrap()), shown, "{text}");
        }
        for bad in ["", "5", "5/", "x/1s", "5/1s/x", "5/1s/2/3", "5/-1s"] {
            assert!(parse_rate(bad).is_err(), "{bad}");
        }
    }
}
