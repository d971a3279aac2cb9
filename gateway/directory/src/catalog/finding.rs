//! What a provider should correct before it publishes (政务数据共享条例 art. 13 to 15).

use std::fmt;

use banqiao_proto::exchange::v1::{MethodRule, ServiceRule, SharingAttribute, UpdateFrequency};

use super::{MAX_MESSAGE_BYTES, rule::Stated};

/// One thing that a published service, method or field lacks. A finding does not stop calls.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Full name of the service, or `package.Service/Method`.
    pub subject: String,
    /// Law and article, or the file, that asks for it.
    pub rule: &'static str,
    /// What is missing or wrong, and what to do.
    pub text: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} ({})", self.subject, self.text, self.rule)
    }
}

const OPTIONS: &str = "banqiao/exchange/v1/options.proto";
const CATALOGUE: &str = "政务数据共享条例 art. 13";
const ATTRIBUTE: &str = "政务数据共享条例 art. 14";
const TERMS: &str = "政务数据共享条例 art. 15";

/// Whether our option is there at all.
pub(super) fn option<R>(stated: &Stated<R>, subject: &str, findings: &mut Vec<Finding>) {
    let text = match stated {
        Stated::Rule(_) => return,
        Stated::Nothing => "states no banqiao option: it is carried with the defaults",
        Stated::Undeclared => {
            "carries a banqiao option, but the set lacks the file that declares it: \
             build the set with its imports"
        }
    };
    findings.push(Finding {
        subject: subject.to_owned(),
        rule: OPTIONS,
        text,
    });
}

/// The catalogue fields of a service that states a rule.
pub(super) fn service(rule: &ServiceRule, subject: &str, findings: &mut Vec<Finding>) {
    let mut push = |text| {
        findings.push(Finding {
            subject: subject.to_owned(),
            rule: CATALOGUE,
            text,
        });
    };
    if rule.title.trim().is_empty() {
        push("has no title (目录名称)");
    }
    if rule.provider.trim().is_empty() {
        push("names no provider (提供单位)");
    }
    if matches!(
        UpdateFrequency::try_from(rule.update_frequency),
        Ok(UpdateFrequency::Unspecified) | Err(_)
    ) {
        push("states no update frequency (更新频率)");
    }
}

/// The catalogue fields, the sharing attribute and the limits of a method.
pub(super) fn method(rule: &MethodRule, subject: &str, findings: &mut Vec<Finding>) {
    let mut push = |rule, text| {
        findings.push(Finding {
            subject: subject.to_owned(),
            rule,
            text,
        });
    };
    if *rule == MethodRule::default() {
        return;
    }
    if rule.title.trim().is_empty() {
        push(CATALOGUE, "has no title (数据项)");
    }
    if rule.resource_code.trim().is_empty() {
        push(CATALOGUE, "has no resource code");
    }
    if rule.interface_class == 0 {
        push(CATALOGUE, "states no interface class (共享方式)");
    }
    if rule.sensitivity == 0 {
        push(
            CATALOGUE,
            "states no sensitivity (分类分级): it is treated as personal",
        );
    }
    let terms_missing = rule.sharing_terms.trim().is_empty();
    match SharingAttribute::try_from(rule.sharing) {
        Ok(SharingAttribute::Unconditional) => {}
        Ok(SharingAttribute::Conditional) if terms_missing => {
            push(
                TERMS,
                "is shared conditionally without sharing terms: state scope, purpose and condition",
            );
        }
        Ok(SharingAttribute::NotShared) if terms_missing => {
            push(
                TERMS,
                "is not shared, without a citation: name the law and article in the sharing terms",
            );
        }
        Ok(SharingAttribute::Conditional | SharingAttribute::NotShared) => {}
        Ok(SharingAttribute::Unspecified) | Err(_) => {
            push(
                ATTRIBUTE,
                "states no sharing attribute: it is treated as conditional",
            );
        }
    }
    let deadline = rule.max_deadline.map(std::time::Duration::try_from);
    if matches!(deadline, Some(Err(_) | Ok(std::time::Duration::ZERO))) {
        push(
            OPTIONS,
            "states a deadline that is not positive: the default holds",
        );
    }
    if rule.max_request_bytes.max(rule.max_response_bytes) > MAX_MESSAGE_BYTES {
        push(
            OPTIONS,
            "states a message limit above 64 MiB: it is cut to 64 MiB",
        );
    }
}
