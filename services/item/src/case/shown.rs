//! Cases and their histories in answers.

use banqiao_proto::item::v1 as proto;
use prost_types::Timestamp;

use super::{
    Case, CaseTask, CorrectionPoint, Document, Due, Event, Extension, SpecialInterval, Timer,
};

/// Microseconds since 1970-01-01 UTC as protobuf has them.
pub(crate) fn timestamp(time_us: i64) -> Timestamp {
    let nanos = time_us.rem_euclid(1_000_000) * 1_000;
    Timestamp {
        seconds: time_us.div_euclid(1_000_000),
        // Below 10^9.
        nanos: i32::try_from(nanos).unwrap_or_default(),
    }
}

fn version(version: i64) -> u64 {
    u64::try_from(version).unwrap_or_default()
}

impl Case {
    /// The case in an answer.
    pub fn shown(&self) -> proto::Case {
        let times = &self.times;
        proto::Case {
            number: self.number.to_string(),
            item_id: self.item.to_string(),
            item_version: self.item_version,
            item_name: self.item_name.clone(),
            mode: self.mode.into(),
            division: self.division.to_string(),
            deciding_city: self.deciding_city.to_string(),
            receiving_city: self.receiving_city.to_string(),
            department: self.department.clone(),
            applicant: Some(self.applicant.shown()),
            channel: self.channel.into(),
            state: self.state.into(),
            decision: self.decision.into(),
            version: version(self.version),
            submitted_at: times.submitted.map(timestamp),
            received_at: times.received.map(timestamp),
            accepted_at: times.accepted.map(timestamp),
            decided_at: times.decided.map(timestamp),
            concluded_at: times.concluded.map(timestamp),
            delivered_at: times.delivered.map(timestamp),
            deemed_accepted: self.deemed_accepted,
            limits: self.timers.iter().map(limit).collect(),
            warning: self.warning.into(),
            extension: self.extension.as_ref().map(extension),
            special: self.special.iter().map(special).collect(),
            corrections: self.corrections.iter().map(correction).collect(),
            correction_notices: self.notices,
            tasks: self.tasks.iter().map(task).collect(),
            parent: self.parent.as_ref().map(|parent| proto::ParentCase {
                number: parent.number.to_string(),
                task: parent.task.clone(),
            }),
            result: self.result.as_ref().map(|result| proto::CaseResult {
                name: result.name.clone(),
                number: result.number.clone(),
                valid_until: result.valid_until.clone(),
            }),
            delivery: self.delivery.as_ref().map(|delivery| proto::Delivery {
                courier: delivery.courier,
                tracking_number: delivery.tracking.clone(),
            }),
        }
    }

    /// The case in a list.
    pub fn summary(&self) -> proto::CaseSummary {
        proto::CaseSummary {
            number: self.number.to_string(),
            item_id: self.item.to_string(),
            state: self.state.into(),
            decision: self.decision.into(),
            department: self.department.clone(),
            receiving_city: self.receiving_city.to_string(),
            due: self.due_us().map(timestamp),
            warning: self.warning.into(),
            version: version(self.version),
        }
    }
}

pub(crate) fn limit(timer: &Timer) -> proto::CaseLimit {
    let missing = match timer.due {
        Due::Missing { year } => year,
        Due::At { .. } | Due::Stopped => 0,
    };
    proto::CaseLimit {
        kind: timer.kind.into(),
        workdays: timer.workdays,
        due: timer.due.at().map(timestamp),
        missing_year: missing.into(),
    }
}

fn extension(extension: &Extension) -> proto::ExtensionTerms {
    proto::ExtensionTerms {
        workdays: extension.workdays,
        approver: extension.approver.clone(),
    }
}

fn special(interval: &SpecialInterval) -> proto::SpecialInterval {
    proto::SpecialInterval {
        procedure: interval.procedure.into(),
        workdays: interval.workdays,
        began_at: Some(timestamp(interval.began_at)),
        ended_at: interval.ended_at.map(timestamp),
    }
}

fn correction(point: &CorrectionPoint) -> proto::CorrectionPoint {
    proto::CorrectionPoint {
        material_id: point.material.clone(),
        text: point.text.clone(),
    }
}

fn task(task: &CaseTask) -> proto::CaseTask {
    proto::CaseTask {
        task: task.task.clone(),
        city: task.city.to_string(),
        number: task
            .number
            .map_or_else(String::new, |number| number.to_string()),
        state: task.state.into(),
        decision: task.decision.into(),
        exchange: task.exchange.clone(),
        compensated: task.compensated,
    }
}

fn document(document: &Document) -> proto::Document {
    proto::Document {
        number: document.number.clone(),
        seal_digest: hex::decode(&document.seal_digest).unwrap_or_default(),
    }
}

impl Event {
    /// The entry in an answer.
    pub fn shown(&self) -> proto::CaseEvent {
        proto::CaseEvent {
            number: self.number.to_string(),
            version: version(self.version),
            action: self.action.into(),
            from: self.from.into(),
            to: self.to.into(),
            role: self.role.into(),
            city: self.city.to_string(),
            client: self.client.clone(),
            operator: self.detail.operator.clone(),
            exchange: self.exchange.clone(),
            reason: self.detail.reason.clone(),
            remedy: self.detail.remedy.clone(),
            document: self.detail.document.as_ref().map(document),
            limit: self.detail.limit.into(),
            task: self.detail.task.clone(),
            at: Some(timestamp(self.at_us)),
        }
    }
}
