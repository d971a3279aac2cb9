//! Ratings and rectifications in answers. What offices get is made here, and nothing in it names a case or an applicant.

use banqiao_kit::civil_date;
use banqiao_proto::item::v1::{self as proto, RectificationAction};

use super::{Rectification, RectificationStep, StoredRating};
use crate::case::{limit, timestamp};

const DAY: i64 = 86_400_000_000;
/// China Standard Time in microseconds east of UTC.
const EAST: i64 = 8 * 3_600_000_000;

/// The beginning of a day in the cities: a time of day would lead to the case.
const fn day_of(at_us: i64) -> i64 {
    (at_us + EAST).div_euclid(DAY) * DAY - EAST
}

fn version(version: i64) -> u64 {
    u64::try_from(version).unwrap_or_default()
}

impl StoredRating {
    /// The rating as an office is shown it.
    pub fn shown(&self) -> proto::AnonymousRating {
        let task = self.rectification.as_ref();
        proto::AnonymousRating {
            id: self.id.to_string(),
            city: self.rated.city.to_string(),
            department: self.rated.department.clone(),
            item_id: self.rated.item.to_string(),
            mode: self.rated.mode.into(),
            stage: self.rated.stage.into(),
            satisfaction: self.satisfaction.into(),
            channel: self.channel.into(),
            comment: self.masked.clone(),
            day: civil_date(self.at_us).to_string(),
            rectification: task.map(|task| task.state).unwrap_or_default().into(),
        }
    }

    /// The rectification as an office is shown it.
    pub fn shown_rectification(&self) -> Option<proto::Rectification> {
        let task: &Rectification = self.rectification.as_ref()?;
        Some(proto::Rectification {
            rating: Some(self.shown()),
            version: version(task.version),
            limit: task.timer.as_ref().map(limit),
            warning: task.warning.into(),
            real_name: task.real_name,
            called_back: task.called_back,
        })
    }
}

impl RectificationStep {
    /// The step in an answer.
    pub fn shown(&self) -> proto::RectificationEvent {
        let at_us = match self.action {
            RectificationAction::Open => day_of(self.at_us),
            _ => self.at_us,
        };
        proto::RectificationEvent {
            id: self.id.to_string(),
            version: version(self.version),
            action: self.action.into(),
            from: self.from.into(),
            to: self.to.into(),
            role: self.role.into(),
            city: self.city.to_string(),
            text: self.text.clone(),
            exchange: self.exchange.clone(),
            at: Some(timestamp(at_us)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_begins_at_midnight_in_the_cities() {
        // 2026-03-02 12:00 and 00:00 in the cities.
        let (noon, midnight) = (1_772_424_000_000_000, 1_772_380_800_000_000);
        assert_eq!(day_of(noon), midnight);
        assert_eq!(day_of(midnight), midnight);
        assert_eq!(day_of(midnight - 1), midnight - DAY);
    }
}
