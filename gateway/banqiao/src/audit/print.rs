//! Entries for people, for programs and for spreadsheets.

use std::io;

use anyhow::Result;
use banqiao_ledger::{Decoded, decode};
use banqiao_proto::{
    ReasonTable,
    exchange::v1::Reason,
    ledger::v1::{
        Direction, Entry, Epoch, IndexedEntry, KeyChange, Kind, PrivatePart, Reconciled, Side,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tonic::Code;
use uuid::Uuid;

use crate::{
    moment, outcomes,
    reasons::code_name,
    text::{cell, clean, json as json_text, table::Table},
};

/// How entries are written.
#[derive(Clone, Copy, Debug)]
pub(super) enum Form {
    Csv,
    Json,
    /// A line as each entry comes.
    Rows,
    /// Aligned, at the end.
    Table,
    /// Every field, a paragraph for each entry.
    Whole,
}

const HEADINGS: [&str; 10] = [
    "INDEX", "TIME", "KIND", "SIDE", "CLIENT", "PROVIDER", "METHOD", "PURPOSE", "RESULT",
    "EXCHANGE",
];

/// Writes entries.
pub(super) struct Printer {
    form: Form,
    table: Table,
    begun: bool,
}

impl Printer {
    pub(super) const fn new(form: Form) -> Self {
        Self {
            form,
            table: Table::new(&HEADINGS),
            begun: false,
        }
    }

    pub(super) fn entry(&mut self, out: &mut dyn io::Write, indexed: &IndexedEntry) -> Result<()> {
        let entry = match decode(&indexed.entry) {
            Ok(Decoded::Entry(entry)) => *entry,
            // Of a newer version: shown as what can be said of it.
            _ => Entry::default(),
        };
        let cells = cells(indexed.index, &entry);
        match self.form {
            Form::Csv => {
                if !std::mem::replace(&mut self.begun, true) {
                    writeln!(out, "{}", HEADINGS.map(str::to_ascii_lowercase).join(","))?;
                }
                let mut line = csv::WriterBuilder::new()
                    .has_headers(false)
                    .from_writer(Vec::new());
                line.write_record(cells.iter().map(|text| cell(text).into_owned()))?;
                out.write_all(&line.into_inner().unwrap_or_default())?;
            }
            Form::Json => {
                json_text::write_line(out, &value(indexed, &entry))?;
                writeln!(out)?;
            }
            Form::Rows => {
                let cells: Vec<_> = cells.iter().map(|text| clean(text)).collect();
                writeln!(out, "{}", cells.join("  "))?;
            }
            Form::Table => self.table.row(cells),
            Form::Whole => {
                if std::mem::replace(&mut self.begun, true) {
                    writeln!(out)?;
                }
                json_text::write_pretty(out, &value(indexed, &entry))?;
                writeln!(out)?;
            }
        }
        Ok(())
    }

    pub(super) fn finish(self, out: &mut dyn io::Write) -> Result<()> {
        if matches!(self.form, Form::Table) {
            self.table.write(out)?;
        }
        Ok(())
    }
}

/// An entry as one JSON value.
pub(super) fn described(index: u64, bytes: &[u8]) -> Value {
    let indexed = IndexedEntry {
        index,
        entry: bytes.to_vec().into(),
        private_part: None,
    };
    let entry = match decode(bytes) {
        Ok(Decoded::Entry(entry)) => *entry,
        _ => Entry::default(),
    };
    value(&indexed, &entry)
}

fn cells(index: u64, entry: &Entry) -> [String; 10] {
    let client = entry.client.clone().unwrap_or_default();
    let provider = entry.provider.clone().unwrap_or_default();
    let named = |party: &banqiao_proto::ledger::v1::Party| {
        if party.spiffe_id.is_empty() {
            party.city.clone()
        } else {
            party.spiffe_id.clone()
        }
    };
    let (method, actor) = match (entry.kind(), &entry.admin, &entry.read) {
        (Kind::Admin, Some(admin), _) => (
            format!("{} {}", admin.action, admin.target),
            admin.actor.clone(),
        ),
        (Kind::Read, _, Some(read)) => (read.query.clone(), read.actor.clone()),
        (Kind::Reconciled, ..) => reconciled(entry),
        (Kind::Summary, ..) => (summary(entry), String::new()),
        (Kind::Erase, ..) => super::erase::cells(entry),
        (Kind::Epoch, ..) => (epoch(entry), String::new()),
        (Kind::Key, ..) => (key(entry), String::new()),
        _ => (entry.method.clone(), named(&client)),
    };
    let provider = match &entry.outcomes {
        Some(_) => "all cities".to_owned(),
        None => named(&provider),
    };
    [
        index.to_string(),
        moment::local(entry.time_us),
        kind(entry),
        side(entry),
        actor,
        provider,
        method,
        entry.purpose.clone(),
        result(entry),
        exchange(entry),
    ]
}

fn kind(entry: &Entry) -> String {
    let name = entry.kind().as_str_name();
    name.strip_prefix("KIND_").unwrap_or(name).to_owned()
}

fn side(entry: &Entry) -> String {
    match entry.side() {
        Side::Unspecified => String::new(),
        side => {
            let name = side.as_str_name();
            name.strip_prefix("SIDE_")
                .unwrap_or(name)
                .to_ascii_lowercase()
        }
    }
}

fn result(entry: &Entry) -> String {
    let ended = ended(entry);
    let Some(outcomes) = &entry.outcomes else {
        return ended;
    };
    let cities: Vec<_> = outcomes.cities.iter().map(outcomes::words).collect();
    format!("{ended}: {}", cities.join(", "))
}

fn ended(entry: &Entry) -> String {
    let Some(result) = &entry.result else {
        return String::new();
    };
    if result.interrupted {
        return "INTERRUPTED".to_owned();
    }
    let reason = [result.reason(), result.peer_reason()]
        .into_iter()
        .find(|reason| *reason != Reason::Unspecified);
    match reason {
        Some(reason) => ReasonTable::name(reason).to_owned(),
        None => code_name(Code::from(i32::try_from(result.status).unwrap_or(2))).to_owned(),
    }
}

fn exchange(entry: &Entry) -> String {
    match Uuid::from_slice(&entry.exchange) {
        Ok(id) => format!("{id}/{}", entry.attempt),
        Err(_) => String::new(),
    }
}

fn reconciled(entry: &Entry) -> (String, String) {
    let Some(reconciled) = &entry.reconciled else {
        return Default::default();
    };
    let counts = super::reconcile::counts(reconciled);
    let found: Vec<_> = counts
        .iter()
        .map(|(class, count)| format!("{class} {count}"))
        .collect();
    let text = format!(
        "compared with {}: {} exchanges {}",
        reconciled.city,
        reconciled.exchanges,
        found.join(", ")
    );
    (text.trim_end().to_owned(), reconciled.actor.clone())
}

fn summary(entry: &Entry) -> String {
    let Some(summary) = &entry.summary else {
        return String::new();
    };
    let counts = summary
        .counts
        .iter()
        .map(|count| format!("{}×{}", count.count, ReasonTable::name(count.reason())));
    let counts: Vec<String> = counts.collect();
    let gap = if summary.gap { "gap: " } else { "" };
    format!("{gap}{}", counts.join(" "))
}

/// What an epoch takes the place of.
fn epoch(entry: &Entry) -> String {
    let epoch = entry.epoch.as_ref();
    let told = |epoch: &Epoch| format!("follows {}, {} lost", epoch.predecessor, epoch.lost);
    epoch.map(told).unwrap_or_default()
}

/// The key that signs from here on.
fn key(entry: &Entry) -> String {
    let change = entry.key.as_ref();
    change
        .map(|change| change.new_key.clone())
        .unwrap_or_default()
}

fn reason(reason: Reason) -> Option<&'static str> {
    (reason != Reason::Unspecified).then(|| ReasonTable::name(reason))
}

fn value(indexed: &IndexedEntry, entry: &Entry) -> Value {
    let party = |party: &Option<banqiao_proto::ledger::v1::Party>| {
        party.as_ref().map(|party| {
            json!({
                "id": party.spiffe_id,
                "city": party.city,
                "agency": party.agency,
                "key_sha256": hex::encode(&party.key_sha256),
            })
        })
    };
    let decision = entry.decision.as_ref();
    let result = entry.result.as_ref();
    let replica = entry.replica.as_ref();
    let mut object = json!({
        "index": indexed.index,
        "leaf": hex::encode(banqiao_ledger::digest::leaf_hash(&indexed.entry)),
        "uid": Uuid::from_slice(&entry.uid).ok(),
        "time": moment::utc(entry.time_us),
        "kind": kind(entry),
        "side": side(entry),
        "exchange": Uuid::from_slice(&entry.exchange).ok(),
        "attempt": entry.attempt,
        "client": party(&entry.client),
        "provider": party(&entry.provider),
        "method": entry.method,
        "purpose": entry.purpose,
        "basis": entry.basis,
        "descriptor_digest": hex::encode(&entry.descriptor_digest),
        "grant": decision.map(|decision| decision.grant_id.clone()),
        "refused": decision.and_then(|decision| reason(decision.reason())),
        "grant_set_digest": decision.map(|decision| hex::encode(&decision.grant_set_digest)),
        "directory_version": decision.map(|decision| decision.directory_version),
        "request": entry.request.as_ref().map(direction),
        "response": entry.response.as_ref().map(direction),
        "status": result.map(|result| code_name(Code::from(i32::try_from(result.status).unwrap_or(2)))),
        "reason": result.and_then(|result| reason(result.reason())),
        "peer_reason": result.and_then(|result| reason(result.peer_reason())),
        "duration_us": result.map(|result| result.duration_us),
        "interrupted": result.map(|result| result.interrupted),
        "closed_by": result.map(|result| result.closed_by.clone()),
        "replica": replica.map(|replica| replica.id.clone()),
        "boot": replica.and_then(|replica| Uuid::from_slice(&replica.boot).ok()),
        "counter": replica.map(|replica| replica.counter),
        "admin": entry.admin.as_ref().map(|admin| json!({
            "action": admin.action,
            "actor": admin.actor,
            "target": admin.target,
            "before": hex::encode(&admin.before),
            "after": hex::encode(&admin.after),
        })),
        "read": entry.read.as_ref().map(|read| json!({
            "actor": read.actor, "query": read.query, "shown": read.shown,
        })),
        "summary": entry.summary.as_ref().map(|summary| json!({
            "from": moment::utc(summary.from_us),
            "until": moment::utc(summary.until_us),
            "gap": summary.gap,
            "counts": summary.counts.iter().map(|count| json!({
                "reason": ReasonTable::name(count.reason()), "client": count.client, "count": count.count,
            })).collect::<Vec<_>>(),
        })),
        "private": indexed.private_part.as_ref().map(private),
        // As hashed, so that an export can be verified against the leaf.
        "entry": STANDARD.encode(&indexed.entry),
    });
    // What is not of this kind of entry is left out.
    if let Value::Object(fields) = &mut object {
        if let Some(outcome) = &entry.reconciled {
            fields.insert("reconciled".to_owned(), reconciliation(outcome));
        }
        if let Some(outcomes) = &entry.outcomes {
            fields.insert("provider".to_owned(), json!("all cities"));
            fields.insert("outcomes".to_owned(), outcomes::value(outcomes));
        }
        if let Some(erase) = &entry.erase {
            fields.insert("erase".to_owned(), super::erase::value(erase));
        }
        fields.insert(
            "epoch".to_owned(),
            json!(entry.epoch.as_ref().map(epoch_value)),
        );
        fields.insert("key".to_owned(), json!(entry.key.as_ref().map(key_value)));
        fields.retain(|_, value| !value.is_null() && *value != Value::String(String::new()));
    }
    object
}

fn reconciliation(outcome: &Reconciled) -> Value {
    json!({
        "city": outcome.city,
        "from": moment::utc(outcome.from_us),
        "until": moment::utc(outcome.until_us),
        "actor": outcome.actor,
        "exchanges": outcome.exchanges,
        "counts": super::reconcile::counts(outcome),
        "report_digest": hex::encode(&outcome.report_digest),
    })
}

fn epoch_value(epoch: &Epoch) -> Value {
    json!({
        "epoch": epoch.epoch,
        "predecessor": epoch.predecessor,
        "checkpoint": epoch.checkpoint,
        "receipts": epoch.receipts.iter().map(hex::encode).collect::<Vec<_>>(),
        "lost": epoch.lost,
    })
}

fn key_value(change: &KeyChange) -> Value {
    json!({
        "old": change.old_key,
        "new": change.new_key,
        "overlap_until": moment::utc(change.overlap_until_us),
    })
}

fn direction(direction: &Direction) -> Value {
    json!({
        "root": hex::encode(&direction.root),
        "count": direction.count,
        "bytes": direction.bytes,
        "complete": direction.complete,
    })
}

fn private(private: &PrivatePart) -> Value {
    json!({
        "subjects": private.subjects.iter().map(|subject| json!({
            "kind": subject.kind, "value": subject.value,
        })).collect::<Vec<_>>(),
        "operator": private.operator,
        "case": private.case_number,
        "client_address": private.client_address,
        "error": private.error_text,
    })
}

#[cfg(test)]
mod tests {
    use banqiao_proto::ledger::v1::{
        AdminChange, Party, Read, Result as EntryResult, Subject, Summary, SummaryCount,
    };
    use bytes::Bytes;

    use super::*;

    /// An entry as the ledger would store it.
    fn stored(index: u64, mut entry: Entry) -> IndexedEntry {
        entry.version = banqiao_ledger::VERSION;
        entry.suite = 1;
        entry.uid = vec![7; 16];
        entry.time_us = 1_700_000_000_123_456;
        let entry = Bytes::from(banqiao_ledger::encode(&mut entry).unwrap());
        IndexedEntry {
            index,
            entry,
            private_part: None,
        }
    }

    fn hostile() -> Entry {
        Entry {
            kind: Kind::Close.into(),
            exchange: vec![1; 16],
            attempt: 2,
            side: Side::Provider.into(),
            client: Some(Party {
                spiffe_id: "spiffe://yantai.jiaodong/hrss/hall".into(),
                city: "370600".into(),
                ..Party::default()
            }),
            provider: Some(Party {
                city: "370200".into(),
                ..Party::default()
            }),
            method: "/a\r\n=1+1,\"x\"/\u{1b}[2J\u{202e}".into(),
            purpose: "=HYPERLINK(\"x\")".into(),
            result: Some(EntryResult {
                status: 8,
                reason: Reason::RateExceeded.into(),
                ..EntryResult::default()
            }),
            ..Entry::default()
        }
    }

    fn printed(form: Form, entries: &[IndexedEntry]) -> String {
        let mut out = Vec::new();
        let mut printer = Printer::new(form);
        for entry in entries {
            printer.entry(&mut out, entry).unwrap();
        }
        printer.finish(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_from_outside_changes_no_record_count_and_runs_nowhere() {
        let entries = [stored(1, hostile()), stored(2, hostile())];
        for (form, lines) in [
            (Form::Csv, 3),
            (Form::Json, 2),
            (Form::Rows, 2),
            (Form::Table, 3),
        ] {
            let text = printed(form, &entries);
            assert_eq!(text.lines().count(), lines, "{text}");
            assert!(!text.contains(['\u{1b}', '\u{202e}', '\r']), "{text:?}");
        }
        let sheet = printed(Form::Csv, &entries);
        let mut reader = csv::Reader::from_reader(sheet.as_bytes());
        let records: Vec<_> = reader.records().map(Result::unwrap).collect();
        assert_eq!(records.len(), 2);
        assert_eq!(&records[0][6], "/a\\r\\n=1+1,\"x\"/\\u{1b}[2J\\u{202e}");
        assert_eq!(&records[0][7], "'=HYPERLINK(\"x\")");
        assert_eq!(&records[0][8], "RATE_EXCEEDED");
        let line = printed(Form::Json, &entries);
        let value: Value = serde_json::from_str(line.lines().next().unwrap()).unwrap();
        assert_eq!(value["method"], hostile().method);
        assert_eq!(value["reason"], "RATE_EXCEEDED");
        assert_eq!(value["entry"], STANDARD.encode(&entries[0].entry));
    }

    #[test]
    fn entries_of_other_kinds_say_what_they_are() {
        let admin = AdminChange {
            action: "grant.add".into(),
            actor: "socket:administrator".into(),
            target: "g-1".into(),
            ..AdminChange::default()
        };
        let read = Read {
            actor: "socket:auditor".into(),
            query: "search subject".into(),
            shown: 2,
        };
        let count = SummaryCount {
            reason: Reason::CertificateExpired.into(),
            count: 9,
            ..SummaryCount::default()
        };
        let summary = Summary {
            counts: vec![count],
            gap: true,
            ..Summary::default()
        };
        let of = |kind: Kind| Entry {
            kind: kind.into(),
            ..Entry::default()
        };
        let table = printed(
            Form::Table,
            &[
                stored(
                    1,
                    Entry {
                        admin: Some(admin),
                        ..of(Kind::Admin)
                    },
                ),
                stored(
                    2,
                    Entry {
                        read: Some(read),
                        ..of(Kind::Read)
                    },
                ),
                stored(
                    3,
                    Entry {
                        summary: Some(summary),
                        ..of(Kind::Summary)
                    },
                ),
            ],
        );
        for part in [
            "socket:administrator",
            "grant.add g-1",
            "search subject",
            "gap: 9×CERTIFICATE_EXPIRED",
        ] {
            assert!(table.contains(part), "{part} is not in {table}");
        }
    }

    #[test]
    fn private_parts_stand_in_json_only() {
        let mut entry = stored(1, hostile());
        entry.private_part = Some(PrivatePart {
            subjects: vec![Subject {
                kind: 1,
                value: "37020219900101000X".into(),
            }],
            ..PrivatePart::default()
        });
        assert!(printed(Form::Json, std::slice::from_ref(&entry)).contains("37020219900101000X"));
        for form in [Form::Csv, Form::Rows, Form::Table] {
            let text = printed(form, std::slice::from_ref(&entry));
            assert!(!text.contains("37020219900101000X"), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_one_line_too() {
        let broken = IndexedEntry {
            index: 9,
            entry: Bytes::from_static(b"\xff"),
            private_part: None,
        };
        let table = printed(Form::Table, std::slice::from_ref(&broken));
        assert_eq!(table.lines().count(), 2, "{table}");
        assert!(printed(Form::Json, &[broken]).contains("\"entry\":\"/w==\""));
    }
}
