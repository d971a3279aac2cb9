//! Rounds and results as tables, for the command line: one line for each challenge sample.

use std::collections::BTreeMap;

use banqiao_kit::SheetColumn;
use banqiao_proto::lab::v1::{
    ChallengeSample, MarkScope, QualityRound, RoundItem, SubmitResultsRequest,
};
use jiff::Timestamp;

use crate::report::timestamp;

const fn column(name: &'static str, also: &'static [&'static str]) -> SheetColumn {
    SheetColumn { name, also }
}

/// The columns of a table of rounds.
pub const ROUND_SHEET: [SheetColumn; 10] = [
    column("round_id", &["质评编号"]),
    column("organiser", &["组织机构"]),
    column("scheme", &["质评计划"]),
    column("scope", &["互认范围"]),
    column("scope_code", &["范围代码"]),
    column("opens_at", &["开始时间"]),
    column("closes_at", &["截止时间"]),
    column("item_code", &["项目代码"]),
    column("sample", &["样本编号"]),
    column("target", &["靶值"]),
];

/// The columns of a table of results.
pub const RESULT_SHEET: [SheetColumn; 6] = [
    column("round_id", &["质评编号"]),
    column("institution", &["机构代码"]),
    column("item_code", &["项目代码"]),
    column("sample", &["样本编号"]),
    column("value", &["结果"]),
    column("ucum", &["单位"]),
];

/// A line of a table of rounds: a round with the one sample of the line.
#[derive(Clone, Debug, PartialEq)]
pub struct RoundLine {
    /// Its number in the file.
    pub line: u64,
    /// The round.
    pub round: QualityRound,
}

fn at(values: &[String], place: usize) -> String {
    values.get(place).cloned().unwrap_or_default()
}

/// Reads a line of a table of rounds. What has no form of its own is left empty, so that the rules of the round name it.
pub fn round_line(line: u64, values: &[String]) -> RoundLine {
    let time = |place| {
        let at: Option<Timestamp> = at(values, place).parse().ok();
        at.map(|at| timestamp(at.as_microsecond()))
    };
    let scope = match at(values, 3).as_str() {
        "NATIONAL" | "全国" => MarkScope::National,
        "PROVINCE" | "省" => MarkScope::Province,
        "REGION" | "胶东" => MarkScope::Region,
        "CITY" | "市" => MarkScope::City,
        _ => MarkScope::Unspecified,
    };
    let sample = ChallengeSample {
        sample: at(values, 8),
        target: at(values, 9),
    };
    RoundLine {
        line,
        round: QualityRound {
            round_id: at(values, 0),
            organiser: at(values, 1),
            scheme: at(values, 2),
            scope: scope.into(),
            scope_code: at(values, 4),
            opens_at: time(5),
            closes_at: time(6),
            items: vec![RoundItem {
                item_code: at(values, 7),
                samples: vec![sample],
            }],
        },
    }
}

/// The rounds of a table, in the order of their first lines: lines of one number make one round, with the line at which it begins. Lines
/// that disagree about the round itself make rounds of one number, of which the second one is refused.
pub fn rounds_of(lines: impl IntoIterator<Item = RoundLine>) -> Vec<RoundLine> {
    let mut rounds: Vec<RoundLine> = Vec::new();
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for mut next in lines {
        let items = std::mem::take(&mut next.round.items);
        let place = places.get(&next.round.round_id).copied();
        let open = place
            .and_then(|place| rounds.get_mut(place))
            .filter(|open| {
                let QualityRound { items, .. } = &open.round;
                let alike = QualityRound {
                    items: items.clone(),
                    ..next.round.clone()
                };
                alike == open.round
            });
        match open {
            Some(open) => items
                .into_iter()
                .for_each(|item| add(&mut open.round, item)),
            None => {
                places.insert(next.round.round_id.clone(), rounds.len());
                next.round.items = items;
                rounds.push(next);
            }
        }
    }
    rounds
}

fn add(round: &mut QualityRound, item: RoundItem) {
    match round
        .items
        .iter_mut()
        .find(|known| known.item_code == item.item_code)
    {
        Some(known) => known.samples.extend(item.samples),
        None => round.items.push(item),
    }
}

/// Reads a line of a table of results.
pub fn result_line(line: u64, values: &[String]) -> SubmitResultsRequest {
    SubmitResultsRequest {
        line,
        round_id: at(values, 0),
        institution: at(values, 1),
        item_code: at(values, 2),
        sample: at(values, 3),
        value: at(values, 4),
        ucum: at(values, 5),
    }
}
