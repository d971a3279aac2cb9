//! The information table: periods and amounts, and that they add up.

use banqiao_kit::{CallError, Refusal, Violations};
use banqiao_proto::card::v1::{ContributionPeriod, InformationTable, PensionScheme};
use jiff::civil::Date;

use super::rule;

/// Largest amount in fen: far beyond any account, and so small that sums of all periods fit.
pub(super) const MOST_FEN: i64 = 1_000_000_000_000_000;
/// Most periods: fifty years of months.
const MOST_PERIODS: usize = 600;

/// A month, counted from year 0.
pub(super) fn month(text: &str, today: Date) -> Option<i32> {
    let (year, number) = text.split_once('-')?;
    let digits = year.len() == 4 && number.len() == 2 && text.bytes().all(|b| b != b'+');
    let (year, number): (i32, i32) = (year.parse().ok()?, number.parse().ok()?);
    let month = year * 12 + number - 1;
    let now = i32::from(today.year()) * 12 + i32::from(today.month()) - 1;
    (digits && (1..=12).contains(&number) && year >= 1949 && month <= now).then_some(month)
}

/// Checks the form of a table's fields.
pub(super) fn check_form(
    prefix: &str,
    table: &InformationTable,
    today: Date,
    faults: &mut Violations,
) {
    check_periods(prefix, &table.periods, today, faults);
    for (field, amount) in [
        ("account_principal_fen", table.account_principal_fen),
        ("account_interest_fen", table.account_interest_fen),
        ("wages_total_fen", table.wages_total_fen),
        ("pooled_fen", table.pooled_fen),
        ("total_fen", table.total_fen),
    ] {
        if !(0..=MOST_FEN).contains(&amount) {
            faults.add(format!("{prefix}.{field}"), &rule::AMOUNT);
        }
    }
}

fn check_periods(
    prefix: &str,
    periods: &[ContributionPeriod],
    today: Date,
    faults: &mut Violations,
) {
    if periods.is_empty() || periods.len() > MOST_PERIODS {
        faults.add(format!("{prefix}.periods"), &rule::PERIODS);
        return;
    }
    let mut last = i32::MIN;
    for (position, period) in periods.iter().enumerate() {
        let field = format!("{prefix}.periods[{position}]");
        let from = month(&period.from_month, today);
        let to = month(&period.to_month, today);
        let (Some(from), Some(to)) = (from, to) else {
            faults.add(field, &rule::MONTH);
            continue;
        };
        let spanned = to
            .checked_sub(from)
            .and_then(|span| u32::try_from(span + 1).ok());
        let counted = spanned.is_some_and(|span| (1..=span).contains(&period.months));
        if from <= last || !counted {
            faults.add(field, &rule::PERIODS);
        } else if !(0..=MOST_FEN).contains(&period.wages_fen) {
            faults.add(format!("{field}.wages_fen"), &rule::AMOUNT);
        }
        last = last.max(to);
    }
}

/// Checks that a table of sound form adds up. `scheme` is that of the old city.
///
/// # Errors
/// The first contradiction, with its difference.
pub(super) fn check_sums(table: &InformationTable, scheme: PensionScheme) -> Result<(), CallError> {
    let months: u64 = table
        .periods
        .iter()
        .map(|period| u64::from(period.months))
        .sum();
    let wages: i64 = table.periods.iter().map(|period| period.wages_fen).sum();
    let parts = table.account_principal_fen + table.account_interest_fen + table.pooled_fen;
    let months_total = u64::from(table.months_total);
    let fault: Option<(&'static Refusal, &str, i128, &str)> = if months != months_total {
        let difference = i128::from(months) - i128::from(months_total);
        Some((&rule::MONTHS_TOTAL, "months_total", difference, "months"))
    } else if wages != table.wages_total_fen {
        let difference = i128::from(wages) - i128::from(table.wages_total_fen);
        Some((&rule::WAGES_TOTAL, "wages_total_fen", difference, "fen"))
    } else if let Some(difference) = pooled_difference(table, scheme) {
        Some((&rule::POOLED, "pooled_fen", difference, "fen"))
    } else if parts != table.total_fen {
        let difference = i128::from(parts) - i128::from(table.total_fen);
        Some((&rule::TOTAL, "total_fen", difference, "fen"))
    } else {
        None
    };
    match fault {
        None => Ok(()),
        Some((refusal, field, difference, unit)) => Err(refusal.because(format!(
            "{field} differs from its parts by {difference} {unit}"
        ))),
    }
}

/// What the pooled part should be, less what it is; none where it is right.
fn pooled_difference(table: &InformationTable, scheme: PensionScheme) -> Option<i128> {
    let right = match scheme {
        PensionScheme::Resident => 0,
        _ => pooled_part(table.wages_total_fen),
    };
    let difference = i128::from(right) - i128::from(table.pooled_fen);
    (difference != 0).then_some(difference)
}

/// 12 % of wages in fen, rounded to the nearest fen, half a fen upwards.
pub(super) const fn pooled_part(wages_fen: i64) -> i64 {
    // Wages are below 10^15 fen.
    (wages_fen * 12 + 50) / 100
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    fn table(wages: &[i64], principal: i64, interest: i64) -> InformationTable {
        let periods: Vec<_> = wages
            .iter()
            .zip(2001..)
            .map(|(wages_fen, year)| ContributionPeriod {
                from_month: format!("{year}-01"),
                to_month: format!("{year}-12"),
                months: 12,
                wages_fen: *wages_fen,
            })
            .collect();
        let wages_total_fen: i64 = wages.iter().sum();
        let pooled_fen = pooled_part(wages_total_fen);
        InformationTable {
            months_total: periods.iter().map(|period| period.months).sum(),
            periods,
            account_principal_fen: principal,
            account_interest_fen: interest,
            wages_total_fen,
            pooled_fen,
            total_fen: principal + interest + pooled_fen,
            revision: 0,
        }
    }

    fn said(table: &InformationTable, scheme: PensionScheme) -> String {
        check_sums(table, scheme).unwrap_err().to_string()
    }

    proptest! {
        #[test]
        fn a_table_that_adds_up_passes_and_any_moved_fen_is_found(
            wages in proptest::collection::vec(0..1_000_000_000_i64, 1..20),
            principal in 0..1_000_000_000_i64,
            interest in 0..1_000_000_000_i64,
            moved in (1..1_000_000_i64, any::<bool>(), 0..5_usize),
        ) {
            let sound = table(&wages, principal, interest);
            prop_assert!(check_sums(&sound, PensionScheme::Employee).is_ok());
            let by = if moved.1 { moved.0 } else { -moved.0 };
            let mut wrong = sound;
            *match moved.2 {
                0 => &mut wrong.account_principal_fen,
                1 => &mut wrong.account_interest_fen,
                2 => &mut wrong.pooled_fen,
                3 => &mut wrong.total_fen,
                _ => &mut wrong.wages_total_fen,
            } += by;
            let told = said(&wrong, PensionScheme::Employee);
            prop_assert!(told.contains(&moved.0.to_string()), "{}", told);
        }
    }

    #[test]
    fn the_pooled_part_is_twelve_percent_and_none_from_residents() {
        assert_eq!(
            (pooled_part(104), pooled_part(105), pooled_part(0)),
            (12, 13, 0)
        );
        let mut resident = table(&[100_000], 5, 5);
        let told = said(&resident, PensionScheme::Resident);
        assert!(
            told.contains("pooled_fen differs from its parts by -12000 fen"),
            "{told}"
        );
        resident.pooled_fen = 0;
        resident.total_fen = 10;
        assert!(check_sums(&resident, PensionScheme::Resident).is_ok());
    }

    #[test]
    fn periods_follow_each_other_and_months_fit() {
        let today = date(2026, 11, 28);
        let faults = |table: &InformationTable| {
            let mut faults = Violations::new();
            check_form("t", table, today, &mut faults);
            let faults = faults.into_vec().into_iter();
            faults
                .map(|fault| (fault.field.into_owned(), fault.rule.code))
                .collect::<Vec<_>>()
        };
        let sound = table(&[1, 2], 3, 4);
        assert_eq!(faults(&sound), []);
        let mut overlapping = sound.clone();
        overlapping.periods[1].from_month = "2001-12".into();
        let mut future = sound.clone();
        future.periods[1].to_month = "2026-12".into();
        let mut many = sound.clone();
        many.periods[0].months = 13;
        let mut negative = sound;
        negative.account_interest_fen = -1;
        for (table, field, code) in [
            (overlapping, "t.periods[1]", "CONTRIBUTION_PERIODS"),
            (future, "t.periods[1]", "TRANSFER_MONTH"),
            (many, "t.periods[0]", "CONTRIBUTION_PERIODS"),
            (negative, "t.account_interest_fen", "TRANSFER_AMOUNT"),
        ] {
            assert_eq!(faults(&table), [(field.to_owned(), code)]);
        }
        assert_eq!(month("2026-11", today), Some(2026 * 12 + 10));
        for bad in [
            "2026-12", "2026-13", "2026-1", "26-01", "+026-01", "2026-+1", "2026",
        ] {
            assert_eq!(month(bad, today), None, "{bad}");
        }
    }
}
