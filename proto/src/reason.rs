//! The table of reasons, read from the options on the values of `banqiao.exchange.v1.Reason`.

use std::sync::LazyLock;

use prost::Message;
use prost_reflect::{DynamicMessage, Value};

use crate::exchange::v1::{Metadata, MetadataRule, Reason, ReasonRule};

/// Every reason with its rule, and every reserved metadata name with its own.
#[derive(Debug)]
pub struct ReasonTable {
    reasons: Vec<(Reason, ReasonRule)>,
    metadata: Vec<(Metadata, MetadataRule)>,
}

impl ReasonTable {
    /// The rule of a reason.
    ///
    /// [`Reason::Unspecified`] has an empty rule.
    pub fn rule(&self, reason: Reason) -> &ReasonRule {
        static NONE: LazyLock<ReasonRule> = LazyLock::new(ReasonRule::default);
        self.reasons
            .iter()
            .find(|(known, _)| *known == reason)
            .map_or(&NONE, |(_, rule)| rule)
    }

    /// Every reason but `UNSPECIFIED`, in number order.
    pub fn all(&self) -> &[(Reason, ReasonRule)] {
        &self.reasons
    }

    /// Every reserved metadata name, in number order.
    pub fn metadata(&self) -> &[(Metadata, MetadataRule)] {
        &self.metadata
    }

    /// The name that stands in `ErrorInfo.reason`: the enum value without its prefix.
    pub fn name(reason: Reason) -> &'static str {
        let name = reason.as_str_name();
        name.strip_prefix("REASON_").unwrap_or(name)
    }

    /// The reason with a name as [`ReasonTable::name`] gives it.
    pub fn by_name(name: &str) -> Option<Reason> {
        Reason::from_str_name(&format!("REASON_{name}"))
    }
}

/// The one table, parsed at first use.
pub fn reasons() -> &'static ReasonTable {
    static TABLE: LazyLock<ReasonTable> = LazyLock::new(|| ReasonTable {
        reasons: read("banqiao.exchange.v1.Reason", "banqiao.exchange.v1.reason")
            .into_iter()
            .filter_map(|(number, rule)| Some((Reason::try_from(number).ok()?, rule)))
            .collect(),
        metadata: read(
            "banqiao.exchange.v1.Metadata",
            "banqiao.exchange.v1.metadata",
        )
        .into_iter()
        .filter_map(|(number, rule)| Some((Metadata::try_from(number).ok()?, rule)))
        .collect(),
    });
    &TABLE
}

/// Reads the message option `option` of each value of the enum that carries it.
fn read<M: Message + Default>(name: &str, option: &str) -> Vec<(i32, M)> {
    let pool = crate::descriptors();
    let (Some(values), Some(extension)) = (
        pool.get_enum_by_name(name),
        pool.get_extension_by_name(option),
    ) else {
        return Vec::new();
    };
    values
        .values()
        .filter_map(|value| {
            let options: DynamicMessage = value.options();
            if !options.has_extension(&extension) {
                return None;
            }
            let Value::Message(rule) = options.get_extension(&extension).into_owned() else {
                return None;
            };
            Some((value.number(), rule.transcode_to().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_rule_that_says_what_to_do() {
        let table = reasons();
        for number in 1..=64 {
            let Ok(reason) = Reason::try_from(number) else {
                continue;
            };
            let rule = table.rule(reason);
            assert!(rule.layer != 0, "{reason:?} has no layer");
            assert!(!rule.remedy.is_empty(), "{reason:?} has no remedy");
            assert!(
                rule.at_consumer.is_some() || rule.at_provider.is_some(),
                "{reason:?}"
            );
            assert!(
                rule.alert.is_empty() != (rule.layer == 1),
                "{reason:?}: alert and layer disagree"
            );
            assert_eq!(
                ReasonTable::by_name(ReasonTable::name(reason)),
                Some(reason)
            );
        }
    }

    #[test]
    fn metadata_table_is_read() {
        let names: Vec<_> = reasons()
            .metadata()
            .iter()
            .map(|(_, rule)| rule.name.as_str())
            .collect();
        assert_eq!(
            names,
            [
                "banqiao-to",
                "banqiao-purpose",
                "banqiao-basis",
                "banqiao-operator",
                "banqiao-case",
                "banqiao-exchange-id",
                "banqiao-client",
                "banqiao-receipt-bin",
                "banqiao-private-bin",
                "banqiao-want-receipt",
                "banqiao-outcomes-bin"
            ]
        );
    }
}
