//! Limits in working days, and what the insured sees of them.

use banqiao_kit::{
    calendar::{CalendarNotLoaded, WorkCalendar},
    civil_date,
};
use banqiao_proto::card::v1::{LimitWarning, TransferProgress, TransferRecord, TransferSide};
use jiff::civil::Date;

use super::{
    state::{has_limit, step, turn},
    store::StoredTransfer,
};
use crate::cards::timestamp;

/// Working days of each step: 国办发〔2009〕66号 (Q); the same between 城乡居民 and 职工 (Q).
pub(super) const STEP_WORKDAYS: u32 = 15;

/// Last day of a limit that began at a time, and the working days from today to it; negative when it has passed.
fn counted(
    calendar: &WorkCalendar,
    from_us: i64,
    today: Date,
) -> Result<(Date, i64), CalendarNotLoaded> {
    let last_day = calendar.add_workdays(civil_date(from_us), STEP_WORKDAYS)?;
    Ok((last_day, calendar.workdays_between(today, last_day)?))
}

/// Where a transfer stands.
pub(super) fn progress(
    stored: &StoredTransfer,
    calendar: &WorkCalendar,
    yellow_workdays: u16,
    now_us: i64,
) -> TransferProgress {
    let record = &stored.record;
    let (state, letter) = (record.state(), record.letter.clone().unwrap_or_default());
    let today = civil_date(now_us);
    let holding_city = match turn(state) {
        TransferSide::NewCity => letter.to_city.clone(),
        TransferSide::OldCity => record.from_city.clone(),
        TransferSide::Unspecified => String::new(),
    };
    let mut progress = TransferProgress {
        transfer_id: stored.id.to_string(),
        side: record.side,
        state: record.state,
        step: step(state),
        holding_city,
        from_city: record.from_city.clone(),
        to_city: letter.to_city,
        reason: record.reason.clone(),
        funds_required: letter.funds_required,
        difference_fen: difference(record),
        changed_at: Some(timestamp(record.changed_at_us)),
        ..TransferProgress::default()
    };
    if has_limit(state) && record.limit_from_us > 0 {
        match counted(calendar, record.limit_from_us, today) {
            Ok((last_day, left)) => {
                progress.last_day = last_day.to_string();
                progress.working_days_left = i32::try_from(left).unwrap_or(i32::MIN);
                let warning = if today > last_day {
                    LimitWarning::Red
                } else if left <= i64::from(yellow_workdays) {
                    LimitWarning::Yellow
                } else {
                    LimitWarning::Unspecified
                };
                progress.warning = warning.into();
            }
            Err(CalendarNotLoaded { year }) => {
                progress.warning = LimitWarning::CalendarNotLoaded.into();
                progress.missing_year = year.into();
            }
        }
    }
    progress
}

/// Credited funds less the table's total, while both are here.
pub(super) fn difference(record: &TransferRecord) -> i64 {
    match (&record.funds, &record.table) {
        (Some(funds), Some(table)) => funds.amount_fen - table.total_fen,
        _ => 0,
    }
}
