//! `banqiao audit subject`: who read a person's data, when, why and by which grant, here and in other cities.

use std::{collections::BTreeMap, io, path::PathBuf};

use anyhow::Result;
use banqiao_directory::Clock;
use banqiao_proto::{
    ReasonTable,
    ledger::v1::{
        AccessState, ListAccessesRequest, ReportSubjectRequest, Side, SubjectAccess, SubjectNumber,
        SubjectReportEnd, list_accesses_response, report_subject_response, subject_number::Number,
        subject_service_client::SubjectServiceClient,
    },
};
use clap::ValueEnum;
use serde_json::{Value, json};
use tonic::{
    Code, Request,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};

use super::{auditor, filter::read_number};
use crate::{
    answer,
    call::percent_encoded,
    connect::{self, AdminArgs},
    exit::{Exit, Stop},
    moment::{self, Moment},
    reasons::code_name,
    text::{clean, json::write_line, table::Table},
};

/// The purpose for which other cities are asked.
const PURPOSE: &str = "audit";

/// Arguments of `audit subject`.
#[derive(Debug, clap::Args)]
#[command(after_help = HELP)]
pub struct SubjectCommand {
    /// `-`, and the default: ask for the number at a prompt, or read it from standard input. It never stands on the
    /// command line, where every process of the machine can read it.
    #[arg(value_name = "-", value_parser = dash)]
    number: Option<()>,
    /// Read the number from a file.
    #[arg(long, value_name = "FILE", conflicts_with = "number")]
    file: Option<PathBuf>,
    /// Kind of the number.
    #[arg(long, value_name = "KIND", default_value = "citizen")]
    kind: NumberKind,
    /// First moment: 2h (ago), 2026-11-23, 2026-11-23T08:00, or RFC 3339.
    #[arg(long, value_name = "MOMENT")]
    from: Option<String>,
    /// First moment that is too late.
    #[arg(long, value_name = "MOMENT")]
    until: Option<String>,
    /// Ask other cities too: all of the directory, or the codes that are given.
    #[arg(long, value_name = "all|CODE,…", value_delimiter = ',', requires_all = ["via_gateway", "basis"])]
    cities: Vec<String>,
    /// Your city's gateway, through which other cities are asked, with the certificate of a system that they have
    /// granted banqiao.ledger.v1.SubjectService.
    #[arg(long, value_name = "HOST:PORT", env = "BANQIAO_GATEWAY")]
    via_gateway: Option<String>,
    /// Legal basis that other cities are asked on: statutory:CITATION, consent:REFERENCE or emergency.
    #[arg(long)]
    basis: Option<String>,
    /// On whose behalf other cities are asked: an official's staff number.
    #[arg(long)]
    operator: Option<String>,
    /// Print JSON: one object for each record, and one for each city.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

const HELP: &str = "\
Own city: the admin listener, as the auditor. Other cities: a carried call for the purpose audit, one to each, which
both ledgers hold; each city answers from its own ledger. A city that does not answer is named, and the exit code is 1.

Example:
  banqiao audit subject --file number.txt --cities all --via-gateway gateway.qingdao:8443 \\
    --basis 'statutory:个人信息保护法 art. 45' --cert audit.crt --key audit.key --ca ca.crt

Exit codes: 0 every city that was asked has answered to the end; 1 one has not; 64 the command line is wrong; 69 the own
gateway cannot be reached; 77 the role auditor is lacking.";

/// Kind of a number.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum NumberKind {
    /// 公民身份号码 (GB 11643).
    Citizen,
    /// 统一社会信用代码 (GB 32100).
    Organisation,
    /// A card number.
    Card,
}

fn dash(text: &str) -> Result<(), &'static str> {
    if text == "-" {
        Ok(())
    } else {
        Err("the number must not stand on the command line: write - and type it, or --file FILE")
    }
}

const HEADINGS: [&str; 9] = [
    "TIME", "CLIENT", "METHOD", "PURPOSE", "BASIS", "GRANT", "OUTCOME", "LEDGERS", "EXCHANGE",
];

/// What one city answered, or why it has not.
#[derive(Debug)]
struct Told {
    city: String,
    accesses: Vec<SubjectAccess>,
    outcome: Result<SubjectReportEnd, String>,
}

impl SubjectCommand {
    pub(super) async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let (from_us, until_us) = self.span()?;
        let number = read_number(self.file.as_deref())?;
        let number = SubjectNumber {
            number: Some(match self.kind {
                NumberKind::Citizen => Number::Citizen(number),
                NumberKind::Organisation => Number::Organisation(number),
                NumberKind::Card => Number::Card(number),
            }),
        };
        let own = self
            .own(ReportSubjectRequest {
                subject: Some(number.clone()),
                from_us,
                until_us,
            })
            .await?;
        let others = match &own.outcome {
            Ok(end) => end.other_cities.clone(),
            Err(_) => Vec::new(),
        };
        let mut told = vec![own];
        let asked = self.asked(&others)?;
        if let (Some(gateway), false) = (&self.via_gateway, asked.is_empty()) {
            let files = self.admin.tls().files()?;
            let channel = connect::gateway(gateway, &files).await?;
            let request = ListAccessesRequest {
                subject: Some(number),
                from_us,
                until_us,
            };
            for city in &asked {
                told.push(self.other(&channel, city, request.clone()).await?);
            }
        }
        let silent: Vec<&String> = others.iter().filter(|city| !asked.contains(city)).collect();
        if self.json {
            for told in &told {
                for access in &told.accesses {
                    line(out, &value(&told.city, access))?;
                }
            }
            for told in &told {
                line(out, &city_value(told))?;
            }
            for city in silent {
                line(out, &json!({ "city": city, "asked": false }))?;
            }
        } else {
            print(out, &told)?;
            for city in silent {
                let city = clean(city);
                writeln!(
                    out,
                    "{city}: NOT asked; --cities {city} --via-gateway asks it"
                )?;
            }
        }
        let whole = told.iter().all(|told| told.outcome.is_ok());
        Ok(if whole { Exit::Done } else { Exit::Failed })
    }

    fn span(&self) -> Result<(i64, i64), Stop> {
        let clock = Clock::system();
        let moment = |flag: &str, text: &Option<String>| match text {
            None => Ok(0),
            Some(text) => Moment::parse(text)
                .map(|moment| moment.before(&clock))
                .map_err(|error| Stop::usage(format!("{flag} {text}: {error}"))),
        };
        Ok((
            moment("--from", &self.from)?,
            moment("--until", &self.until)?,
        ))
    }

    /// The other cities that are to be asked.
    fn asked(&self, others: &[String]) -> Result<Vec<String>, Stop> {
        if self.cities.iter().any(|city| city == "all") {
            return Ok(others.to_vec());
        }
        for city in &self.cities {
            if !others.contains(city) {
                return Err(Stop::usage(format!(
                    "--cities {city}: the directory lists no such other city; it has {}",
                    others.join(", ")
                )));
            }
        }
        Ok(self.cities.clone())
    }

    /// Asks the own city's gateway as the auditor.
    async fn own(&self, request: ReportSubjectRequest) -> Result<Told> {
        let asked = auditor(&self.admin).await?.report_subject(request).await;
        let mut parts = asked.map_err(|status| answer::stop(&status))?.into_inner();
        let mut accesses = Vec::new();
        while let Some(message) = parts
            .message()
            .await
            .map_err(|status| answer::stop(&status))?
        {
            match message.part {
                Some(report_subject_response::Part::Access(access)) => accesses.push(access),
                Some(report_subject_response::Part::End(end)) => {
                    return Ok(Told {
                        city: end.city.clone(),
                        accesses,
                        outcome: Ok(end),
                    });
                }
                None => {}
            }
        }
        let message = "the gateway broke its list off: it says nothing";
        Err(Stop::new(Exit::Failed, message).into())
    }

    /// Asks another city by a carried call. That it cannot be asked is an answer too.
    async fn other(
        &self,
        channel: &Channel,
        city: &str,
        request: ListAccessesRequest,
    ) -> Result<Told> {
        let mut request = Request::new(request);
        let wanted = [
            ("banqiao-to", Some(city)),
            ("banqiao-purpose", Some(PURPOSE)),
            ("banqiao-basis", self.basis.as_deref()),
            ("banqiao-operator", self.operator.as_deref()),
        ];
        for (name, value) in wanted {
            let Some(value) = value else { continue };
            let value: MetadataValue<Ascii> = percent_encoded(value)
                .parse()
                .map_err(|_| Stop::usage(format!("{name} cannot be sent: {value:?}")))?;
            request.metadata_mut().insert(name, value);
        }
        let mut accesses = Vec::new();
        let outcome = async {
            let mut client = SubjectServiceClient::new(channel.clone());
            let mut parts = client.list_accesses(request).await?.into_inner();
            let mut end = None;
            // Read to the status: it decides whether the list is whole.
            while let Some(message) = parts.message().await? {
                match message.part {
                    Some(list_accesses_response::Part::Access(access)) => accesses.push(access),
                    Some(list_accesses_response::Part::End(it)) => end = Some(it),
                    None => {}
                }
            }
            end.ok_or_else(|| tonic::Status::data_loss("the list has no end"))
        };
        let outcome = outcome.await.map_err(|status| answer::describe(&status));
        Ok(Told {
            city: city.to_owned(),
            accesses,
            outcome,
        })
    }
}

/// One line for each attempt of an exchange, whichever ledgers hold it, newest first.
fn print(out: &mut dyn io::Write, told: &[Told]) -> Result<()> {
    let mut calls: BTreeMap<(&str, u32), Vec<(&str, &SubjectAccess)>> = BTreeMap::new();
    for told in told {
        for access in &told.accesses {
            let call = calls.entry((&access.exchange_id, access.attempt));
            call.or_default().push((&told.city, access));
        }
    }
    let mut calls: Vec<_> = calls.into_values().collect();
    for records in &mut calls {
        // The provider's record says by which grant.
        records.sort_by_key(|(_, access)| access.side() == Side::Consumer);
    }
    calls.sort_by_key(|records| {
        std::cmp::Reverse(records.first().map_or(0, |(_, access)| access.time_us))
    });
    let mut table = Table::new(&HEADINGS);
    for records in &calls {
        let Some((_, access)) = records.first() else {
            continue;
        };
        let ledgers: Vec<&str> = records.iter().map(|(city, _)| *city).collect();
        table.row([
            moment::local(access.time_us),
            format!("{} ({})", access.client, access.agency),
            access.method.clone(),
            access.purpose.clone(),
            access.basis.clone(),
            access.grant_id.clone(),
            outcome(access),
            ledgers.join(" "),
            format!("{}/{}", access.exchange_id, access.attempt),
        ]);
    }
    table.write(out)?;
    for told in told {
        let city = clean(&told.city);
        match &told.outcome {
            Ok(end) => writeln!(out, "{city}: {} accesses", end.accesses)?,
            Err(problem) => writeln!(
                out,
                "{city}: NOT ANSWERED to the end: {}",
                problem.replace('\n', "; ")
            )?,
        }
        let closed = told.outcome.iter().flat_map(|end| &end.closed_months);
        for month in closed {
            writeln!(
                out,
                "{city}: nothing of {} can be found: its key is destroyed",
                clean(month)
            )?;
        }
    }
    Ok(())
}

fn outcome(access: &SubjectAccess) -> String {
    let reason = || match access.reason {
        0 => String::new(),
        _ => format!(" {}", ReasonTable::name(access.reason())),
    };
    match access.state() {
        AccessState::Open => "running, or its end is not entered".to_owned(),
        AccessState::Interrupted => "interrupted".to_owned(),
        AccessState::Refused => format!("refused{}", reason()),
        AccessState::Ended | AccessState::Unspecified => {
            let code = i32::try_from(access.status).map_or(Code::Unknown, Code::from);
            format!("{}{}", code_name(code), reason())
        }
    }
}

fn value(city: &str, access: &SubjectAccess) -> Value {
    let lower = |name: &str, prefix: &str| {
        name.strip_prefix(prefix)
            .unwrap_or(name)
            .to_ascii_lowercase()
    };
    json!({
        "ledger": city,
        "exchange": access.exchange_id,
        "attempt": access.attempt,
        "side": lower(access.side().as_str_name(), "SIDE_"),
        "time": moment::utc(access.time_us),
        "client": access.client,
        "client_city": access.client_city,
        "agency": access.agency,
        "provider_city": access.provider_city,
        "method": access.method,
        "purpose": access.purpose,
        "basis": access.basis,
        "grant": access.grant_id,
        "state": lower(access.state().as_str_name(), "ACCESS_STATE_"),
        "status": access.status,
        "reason": (access.reason != 0).then(|| ReasonTable::name(access.reason())),
    })
}

fn city_value(told: &Told) -> Value {
    match &told.outcome {
        Ok(end) => json!({
            "city": told.city, "asked": true, "whole": true,
            "accesses": end.accesses, "closed_months": end.closed_months,
        }),
        Err(problem) => json!({
            "city": told.city, "asked": true, "whole": false, "problem": problem,
        }),
    }
}

fn line(out: &mut dyn io::Write, value: &Value) -> Result<()> {
    write_line(out, value)?;
    writeln!(out)?;
    Ok(())
}
