//! `banqiao audit reconcile`: what this ledger and those of other cities hold of their exchanges, compared now.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
};

use anyhow::Result;
use banqiao_directory::Clock;
use banqiao_proto::{
    ReasonTable,
    exchange::v1::Reason,
    ledger::v1::{
        Discrepancy, DiscrepancyClass, ExchangeRecord, ReconcileRequest, ReconcileSummary,
        Reconciled, RecordState, reconcile_response::Part,
    },
};
use serde_json::{Map, Value, json};
use tonic::Code;
use uuid::Uuid;

use super::auditor;
use crate::{
    answer,
    connect::AdminArgs,
    exit::{Exit, Stop},
    moment::{self, Moment},
    reasons::code_name,
    text::{bar::bar, clean, json::write_line, table::Table},
};

/// Arguments of `audit reconcile`.
#[derive(Debug, clap::Args)]
pub struct Reconcile {
    /// Code of the other city; may be repeated. `all`, and the default: every one that the directory lists.
    #[arg(long = "with", value_name = "CITY")]
    with: Vec<String>,
    /// First moment of the exchanges: 2h (ago), 2026-11-23, 2026-11-23T08:00, or RFC 3339. Default: a day before the end.
    #[arg(long, value_name = "MOMENT")]
    from: Option<String>,
    /// First moment that is too late. Exchanges in their grace ([reconcile] grace of the gateway) are not compared.
    #[arg(long, value_name = "MOMENT")]
    until: Option<String>,
    /// List honest differences and running calls too. They are always counted.
    #[arg(long)]
    all: bool,
    /// Print JSON: one object for each exchange, and one for each city.
    #[arg(long)]
    json: bool,
    /// Write every discrepancy into this file as JSON lines. It must not exist.
    #[arg(long, short = 'o', value_name = "FILE")]
    output: Option<PathBuf>,
    #[command(flatten)]
    admin: AdminArgs,
}

const HEADINGS: [&str; 5] = ["CITY", "EXCHANGE", "MADE", "WHAT", "DO"];

impl Reconcile {
    pub(super) async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let request = self.request()?;
        let mut report = self.output()?;
        let asked = auditor(&self.admin).await?.reconcile(request).await;
        let mut told = asked.map_err(|status| answer::stop(&status))?.into_inner();
        let bar = bar(0, "{bar:40} {percent}% compared with {msg}, {eta} left");
        let mut table = Table::new(&HEADINGS);
        let mut summaries = Vec::new();
        while let Some(message) = told
            .message()
            .await
            .map_err(|status| answer::stop(&status))?
        {
            match message.part {
                Some(Part::Progress(progress)) => {
                    bar.set_length(progress.span_ms);
                    bar.set_position(progress.done_ms);
                    bar.set_message(clean(&progress.city).into_owned());
                }
                Some(Part::Discrepancy(found)) => {
                    let class = found.discrepancy_class();
                    if !self.all && !banqiao_ledger::reconcile::is_discrepancy(class) {
                        continue;
                    }
                    if let Some(file) = &mut report {
                        write_line(file, &value(&found))?;
                        writeln!(file)?;
                    }
                    if self.json {
                        write_line(out, &value(&found))?;
                        writeln!(out)?;
                    } else {
                        table.row(cells(&found));
                    }
                }
                Some(Part::Summary(summary)) => summaries.push(summary),
                None => {}
            }
        }
        bar.finish_and_clear();
        if let Some(file) = report {
            file.into_inner()
                .map_err(io::IntoInnerError::into_error)?
                .sync_all()?;
        }
        if self.json {
            for summary in &summaries {
                write_line(out, &summary_value(summary))?;
                writeln!(out)?;
            }
        } else {
            if !table.is_empty() {
                table.write(out)?;
                writeln!(out)?;
            }
            for summary in &summaries {
                writeln!(out, "{}", clean(&words(summary)))?;
            }
        }
        Ok(exit(&summaries))
    }

    fn request(&self) -> Result<ReconcileRequest> {
        let clock = Clock::system();
        let moment = |name: &str, text: &Option<String>| {
            let Some(text) = text else { return Ok(0) };
            match Moment::parse(text) {
                Ok(moment) => Ok(moment.before(&clock)),
                Err(error) => Err(Stop::usage(format!("--{name} {text}")).caused_by(error)),
            }
        };
        let mut cities = self.with.clone();
        if cities.iter().any(|city| city == "all") {
            cities.clear();
        }
        Ok(ReconcileRequest {
            cities,
            from_us: moment("from", &self.from)?,
            until_us: moment("until", &self.until)?,
        })
    }

    /// Who asked whom when is not for every user of the machine.
    fn output(&self) -> Result<Option<io::BufWriter<fs::File>>> {
        let Some(path) = &self.output else {
            return Ok(None);
        };
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600).open(path);
        let file = file.map_err(|error| {
            Stop::usage(format!("cannot make {}", path.display())).caused_by(error)
        })?;
        Ok(Some(io::BufWriter::new(file)))
    }
}

/// A city that cannot be reached hides what there is to find; what was found with the others is told all the same.
fn exit(summaries: &[ReconcileSummary]) -> Exit {
    if summaries.iter().any(|summary| summary.unreachable) {
        Exit::Unavailable
    } else if summaries
        .iter()
        .any(|summary| !summary.problem.is_empty() || discrepancies(summary) > 0)
    {
        Exit::Failed
    } else {
        Exit::Done
    }
}

fn discrepancies(summary: &ReconcileSummary) -> u64 {
    let counts = summary.outcome.iter().flat_map(|outcome| &outcome.counts);
    counts
        .filter(|count| banqiao_ledger::reconcile::is_discrepancy(class(count.discrepancy_class)))
        .map(|count| count.count)
        .sum()
}

fn class(number: u32) -> DiscrepancyClass {
    i32::try_from(number)
        .ok()
        .and_then(|number| DiscrepancyClass::try_from(number).ok())
        .unwrap_or_default()
}

/// Name of a class for programs.
fn name(class: DiscrepancyClass) -> String {
    let name = class.as_str_name();
    let name = name.strip_prefix("DISCREPANCY_CLASS_").unwrap_or(name);
    name.to_ascii_lowercase()
}

/// Name of each class that was found, and how often.
pub(super) fn counts(reconciled: &Reconciled) -> Map<String, Value> {
    let counts = reconciled.counts.iter();
    counts
        .map(|count| (name(class(count.discrepancy_class)), json!(count.count)))
        .collect()
}

fn id(found: &Discrepancy) -> String {
    let record = found.here.as_ref().or(found.there.as_ref());
    record.map_or_else(String::new, |record| {
        let uuid = Uuid::from_slice(&record.exchange).unwrap_or_default();
        format!("{uuid}/{}", record.attempt)
    })
}

fn made_us(found: &Discrepancy) -> i64 {
    let record = found.here.as_ref().or(found.there.as_ref());
    record
        .and_then(|record| record.exchange.as_slice().try_into().ok())
        .map_or(0, |id| banqiao_ledger::reconcile::made_ms(id) * 1_000)
}

fn cells(found: &Discrepancy) -> [String; 5] {
    let (what, remedy) = plain(found);
    [
        found.city.clone(),
        id(found),
        moment::local(made_us(found)),
        what,
        remedy.to_owned(),
    ]
}

/// What was found, and what to do about it.
fn plain(found: &Discrepancy) -> (String, &'static str) {
    let show = "banqiao audit show --json; ask the other city for its entries";
    let told = |record: &Option<ExchangeRecord>| {
        record.as_ref().map_or_else(
            || "nothing".to_owned(),
            |record| {
                let state = match record.state() {
                    RecordState::Open => "running".to_owned(),
                    RecordState::Interrupted => "interrupted".to_owned(),
                    RecordState::Unreadable => "changed".to_owned(),
                    state => {
                        let code = Code::from(i32::try_from(record.status).unwrap_or(2));
                        let word = if state == RecordState::Refused {
                            "refused"
                        } else {
                            "ended"
                        };
                        format!("{word} {}", code_name(code))
                    }
                };
                match [record.reason(), record.peer_reason()]
                    .into_iter()
                    .find(|reason| *reason != Reason::Unspecified)
                {
                    Some(reason) => format!("{state} {}", ReasonTable::name(reason)),
                    None => state,
                }
            },
        )
    };
    let both = || format!("here {}, there {}", told(&found.here), told(&found.there));
    match found.discrepancy_class() {
        DiscrepancyClass::OnlyHere => (
            format!("only this ledger has it: {}", told(&found.here)),
            "the other city's ledger has lost it, or never had it: show it and ask the other city",
        ),
        DiscrepancyClass::OnlyThere => (
            format!("only the other ledger has it: {}", told(&found.there)),
            "banqiao audit verify --database; then ask the other city for its entries",
        ),
        DiscrepancyClass::DigestDiffers if found.field == "entry" => (
            format!("an entry is not as it was entered ({})", both()),
            "banqiao audit verify --database at the city whose record was changed",
        ),
        DiscrepancyClass::DigestDiffers => {
            (format!("the {} differs ({})", found.field, both()), show)
        }
        DiscrepancyClass::StatusDiffers => {
            (format!("the {} differs: {}", found.field, both()), show)
        }
        DiscrepancyClass::InterruptedHere => (
            "a gateway of this city died with it open".to_owned(),
            "ask the other city how it ended before it is repeated",
        ),
        DiscrepancyClass::InterruptedThere => (
            "a gateway of the other city died with it open".to_owned(),
            "ask the other city whether it was applied before it is repeated",
        ),
        DiscrepancyClass::Open => (
            format!("still running: {}", both()),
            "nothing: it is looked at again",
        ),
        DiscrepancyClass::HonestDifference => (
            format!("differs as it may: {}", both()),
            "nothing: a cancel, a deadline or a lost connection explains it",
        ),
        DiscrepancyClass::Unspecified => (both(), show),
    }
}

fn words(summary: &ReconcileSummary) -> String {
    let outcome = summary.outcome.clone().unwrap_or_default();
    let mut text = format!(
        "{}: {} exchanges compared, {} until {}",
        outcome.city,
        outcome.exchanges,
        moment::local(outcome.from_us),
        moment::local(outcome.until_us)
    );
    for (class, count) in counts(&outcome) {
        text.push_str(&format!(", {} {count}", class.replace('_', " ")));
    }
    if !summary.problem.is_empty() {
        text.push_str(&format!("; NOT finished: {}", summary.problem));
    }
    text
}

fn summary_value(summary: &ReconcileSummary) -> Value {
    let outcome = summary.outcome.clone().unwrap_or_default();
    json!({
        "city": outcome.city,
        "from": moment::utc(outcome.from_us),
        "until": moment::utc(outcome.until_us),
        "exchanges": outcome.exchanges,
        "counts": counts(&outcome),
        "report_digest": hex::encode(&outcome.report_digest),
        "problem": (!summary.problem.is_empty()).then_some(&summary.problem),
        "unreachable": summary.unreachable,
    })
}

fn value(found: &Discrepancy) -> Value {
    json!({
        "city": found.city,
        "exchange": id(found),
        "made": moment::utc(made_us(found)),
        "class": name(found.discrepancy_class()),
        "field": found.field,
        "here": found.here.as_ref().map(record),
        "there": found.there.as_ref().map(record),
    })
}

fn record(record: &ExchangeRecord) -> Value {
    let direction = |direction: &Option<banqiao_proto::ledger::v1::DirectionDigest>| {
        direction.as_ref().map(|it| {
            json!({ "root": hex::encode(&it.root), "count": it.count, "complete": it.complete })
        })
    };
    let reason =
        |reason: Reason| (reason != Reason::Unspecified).then(|| ReasonTable::name(reason));
    let state = record.state().as_str_name();
    json!({
        "state": state.strip_prefix("RECORD_STATE_").unwrap_or(state).to_ascii_lowercase(),
        "status": record.status,
        "reason": reason(record.reason()),
        "peer_reason": reason(record.peer_reason()),
        "request": direction(&record.request),
        "response": direction(&record.response),
        "opened_leaf": hex::encode(&record.opened_leaf),
        "ended_leaf": hex::encode(&record.ended_leaf),
        "ended_at": (record.ended_at_us > 0).then(|| moment::utc(record.ended_at_us)),
    })
}

#[cfg(test)]
mod tests {
    use banqiao_proto::ledger::v1::ReconciledCount;

    use super::*;

    fn summary(class: DiscrepancyClass, problem: &str, unreachable: bool) -> ReconcileSummary {
        let count = ReconciledCount {
            discrepancy_class: u32::try_from(i32::from(class)).unwrap(),
            count: 2,
        };
        ReconcileSummary {
            outcome: Some(Reconciled {
                city: "370600".into(),
                exchanges: 7,
                counts: vec![count],
                ..Reconciled::default()
            }),
            problem: problem.into(),
            unreachable,
        }
    }

    #[test]
    fn exit_says_whether_something_was_found_or_nobody_was_there() {
        let honest = || summary(DiscrepancyClass::HonestDifference, "", false);
        let lost = || summary(DiscrepancyClass::OnlyHere, "", false);
        let away = || summary(DiscrepancyClass::Open, "it cannot be reached", true);
        let broken = || summary(DiscrepancyClass::Open, "it sent no comparison", false);
        assert_eq!(exit(&[]), Exit::Done);
        assert_eq!(exit(&[honest()]), Exit::Done);
        assert_eq!(exit(&[honest(), lost()]), Exit::Failed);
        assert_eq!(exit(&[broken()]), Exit::Failed);
        assert_eq!(exit(&[lost(), away()]), Exit::Unavailable);
        let said = words(&lost());
        assert!(said.ends_with("only here 2"), "{said}");
        assert!(words(&away()).ends_with("NOT finished: it cannot be reached"));
    }

    #[test]
    fn every_class_says_what_it_is_and_what_to_do() {
        for number in 1..=8 {
            let found = Discrepancy {
                discrepancy_class: number,
                field: "request".into(),
                here: Some(ExchangeRecord {
                    exchange: vec![1; 16],
                    attempt: 3,
                    state: RecordState::Closed.into(),
                    status: 5,
                    ..ExchangeRecord::default()
                }),
                ..Discrepancy::default()
            };
            let [_, exchange, _, what, remedy] = cells(&found);
            assert!(exchange.ends_with("/3"));
            assert!(!what.is_empty() && !remedy.is_empty(), "{number}");
            assert!(
                value(&found)["class"]
                    .as_str()
                    .is_some_and(|it| it != "unspecified")
            );
        }
        assert_eq!(
            class(9),
            DiscrepancyClass::Unspecified,
            "all are in the list"
        );
    }
}
