//! Synthetic insured persons: the holders of the synthetic cards, the same for the same seed.

use banqiao_directory::CityCode;
use banqiao_proto::card::v1::{InsurancePeriod, InsuranceScheme, InsuredStatus, TreatmentState};
use jiff::civil::Date;

use crate::synthetic::{SyntheticError, holders};

/// Who was born before this year draws a pension in the synthetic city.
const PENSIONERS_BORN_BEFORE: &str = "1966";

/// Periods of the first `count` synthetic holders of a city, two for each: a pension scheme and a medical one. The records are of
/// the day `as_of`.
///
/// Of a hundred holders one has interrupted payments and one is suspended from online settlement.
///
/// # Errors
/// See [`SyntheticError`].
pub fn insured(
    city: CityCode,
    count: u32,
    seed: u64,
    as_of: Date,
) -> Result<impl Iterator<Item = InsurancePeriod>, SyntheticError> {
    let periods = holders(city, count, seed)?.zip(0_u32..);
    Ok(periods.flat_map(move |(holder, index)| {
        let retired = holder
            .social_security_number
            .get(6..10)
            .is_some_and(|year| year < PENSIONERS_BORN_BEFORE);
        let (pension, treatment) = if retired {
            (InsuredStatus::Ended, TreatmentState::Drawing)
        } else if index % 100 == 57 {
            (InsuredStatus::Interrupted, TreatmentState::None)
        } else {
            (InsuredStatus::Normal, TreatmentState::None)
        };
        let drawn = if retired {
            TreatmentState::Drawing
        } else {
            TreatmentState::None
        };
        let period = InsurancePeriod {
            social_security_number: holder.social_security_number,
            scheme: InsuranceScheme::Pension.into(),
            insured_division: holder.issuing_division,
            begins_on: "2012-07-01".to_owned(),
            insured_status: pension.into(),
            treatment_state: treatment.into(),
            recorded_as_of: as_of.to_string(),
            ..InsurancePeriod::default()
        };
        let suspended = index % 100 == 73;
        let day = |day: &str| {
            if suspended {
                day.to_owned()
            } else {
                String::new()
            }
        };
        let medical = InsurancePeriod {
            scheme: InsuranceScheme::Medical.into(),
            insured_status: InsuredStatus::Normal.into(),
            treatment_state: drawn.into(),
            settlement_suspended_from: day("2026-10-01"),
            settlement_suspended_until: day("2027-03-31"),
            ..period.clone()
        };
        [period, medical]
    }))
}
