//! Synthetic beneficiaries: the pensioners among the synthetic insured persons.

use banqiao_directory::CityCode;
use banqiao_proto::card::v1::{Beneficiary, InsuranceScheme, PaymentState, TreatmentState};
use jiff::{ToSpan, civil::Date};

use crate::{entitlement::insured, synthetic::SyntheticError};

/// The pensioners among the first `count` synthetic holders of a city; each is due within twelve months of `from`. Of 64 one
/// is paused, since two months before.
///
/// # Errors
/// See [`SyntheticError`].
pub fn beneficiaries(
    city: CityCode,
    count: u32,
    seed: u64,
    from: Date,
) -> Result<impl Iterator<Item = Beneficiary>, SyntheticError> {
    let pensioners = insured(city, count, seed, from)?.filter(|period| {
        period.scheme() == InsuranceScheme::Pension
            && period.treatment_state() == TreatmentState::Drawing
    });
    Ok(pensioners.zip(0_i32..).map(move |(period, index)| {
        let paused = index % 64 == 63;
        let (state, not_paid_from) = if paused {
            let since = from.saturating_sub(2.months());
            (PaymentState::Paused, since.to_string())
        } else {
            (PaymentState::Paying, String::new())
        };
        Beneficiary {
            social_security_number: period.social_security_number,
            scheme: InsuranceScheme::Pension.into(),
            payment_state: state.into(),
            not_paid_from,
            due_on: from.saturating_add((index % 12).months()).to_string(),
        }
    }))
}
