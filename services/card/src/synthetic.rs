//! Synthetic card holders: the same for the same seed, and nobody's.
//!
//! Each number has the sequence 000, which is not issued to people, and a right check digit; each name begins with 测试 ("test"); each
//! card has the specification version `SYNTHETIC`.

use aws_lc_rs::digest::{Context, SHA256};
use banqiao_directory::CityCode;
use banqiao_kit::identifier::{Network, citizen_check_digit};
use banqiao_proto::card::v1::{CardRecord, CardState};
use jiff::{ToSpan, civil::Date};

/// Specification version that marks a synthetic card.
pub const SYNTHETIC: &str = "SYNTHETIC";

/// The first holders of each city have cards that are in order until 2035, so that scripts can rely on them.
pub const IN_ORDER: u32 = 100;

/// First date of birth; each next holder of a county was born a day later.
const FIRST_BIRTH: Date = Date::constant(1950, 1, 1);
/// Birth dates per county: 1950-01-01 to 2009-12-31.
const BIRTH_DATES: u32 = 21_915;

const FIRST: [char; 16] = [
    '子', '文', '海', '明', '雪', '嘉', '思', '晓', '春', '国', '建', '玉', '志', '雅', '梦', '一',
];
const SECOND: [char; 16] = [
    '安', '涵', '轩', '宁', '洋', '琪', '平', '华', '峰', '兰', '军', '梅', '鹏', '静', '然', '航',
];

/// Why holders cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SyntheticError {
    /// The table of divisions knows no county of the city.
    #[error("the city has no counties in the table of divisions")]
    UnknownCity,
    /// More holders than numbers with sequence 000.
    #[error("the city has {0} synthetic holders at most")]
    TooMany(u32),
}

/// The first `count` synthetic holders of a city.
///
/// # Errors
/// The city is not of the network, or has fewer numbers than `count`.
pub fn holders(
    city: CityCode,
    count: u32,
    seed: u64,
) -> Result<impl Iterator<Item = CardRecord>, SyntheticError> {
    let counties: Vec<_> = Network::counties(city).map(|county| county.code).collect();
    let number = u32::try_from(counties.len()).unwrap_or(u32::MAX);
    if number == 0 {
        return Err(SyntheticError::UnknownCity);
    }
    let most = number.saturating_mul(BIRTH_DATES).min(999_999);
    if count > most {
        return Err(SyntheticError::TooMany(most));
    }
    Ok((0..count).filter_map(move |index| {
        let county = counties.get(usize::try_from(index % number).ok()?)?;
        of_county(city, county, index, index / number, seed)
    }))
}

/// One synthetic holder of a city; none when the city is not of the network or has fewer.
pub fn holder(city: CityCode, index: u32, seed: u64) -> Option<CardRecord> {
    let number = u32::try_from(Network::counties(city).count()).ok()?;
    let place = usize::try_from(index.checked_rem(number)?).ok()?;
    let county = Network::counties(city).nth(place)?;
    let row = index / number;
    if row >= BIRTH_DATES || index >= 999_999 {
        return None;
    }
    of_county(city, county.code, index, row, seed)
}

/// The holder `index` of a city, the `row`-th of a county. None never happens within the limits above.
fn of_county(city: CityCode, county: &str, index: u32, row: u32, seed: u64) -> Option<CardRecord> {
    let mut draw = Draw::new(seed, city, index);
    // 7,919 is prime to the number of dates, so that neighbours in the list are years apart and nobody's date repeats.
    let dates = u64::from(BIRTH_DATES);
    let days = i64::try_from((u64::from(row) * 7_919 + seed % dates) % dates).ok()?;
    let born = FIRST_BIRTH.checked_add(days.days()).ok()?;
    let mut number = format!(
        "{county}{:04}{:02}{:02}000",
        born.year(),
        born.month(),
        born.day()
    );
    number.push(char::from(citizen_check_digit(number.as_bytes())?));
    let name = format!("测试{}{}", draw.one_of(&FIRST), draw.one_of(&SECOND));
    let (issued_on, social, financial, electronic) = if index < IN_ORDER {
        (
            Date::new(2025, 1, 1).ok()?,
            CardState::Normal,
            CardState::Normal,
            true,
        )
    } else {
        let issued_on = Date::new(2014, 1, 1)
            .ok()?
            .checked_add(i64::from(draw.below(4_300)).days())
            .ok()?;
        (issued_on, draw.state(), draw.state(), draw.below(10) < 7)
    };
    let expires_on = issued_on.checked_add(10.years()).ok()?;
    Some(CardRecord {
        card_number: format!("T{}{index:06}", &city.as_str()[2..4]),
        social_security_number: number,
        name,
        card_identification_code: format!("{}{}", city.as_str(), draw.hex()),
        issuing_division: county.to_owned(),
        issued_on: issued_on.to_string(),
        expires_on: expires_on.to_string(),
        social_state: social.into(),
        financial_state: financial.into(),
        electronic,
        specification_version: SYNTHETIC.to_owned(),
    })
}

/// Numbers that follow from seed, city and holder alone.
struct Draw {
    bytes: Vec<u8>,
    at: usize,
}

impl Draw {
    fn new(seed: u64, city: CityCode, index: u32) -> Self {
        let mut context = Context::new(&SHA256);
        context.update(b"banqiao-synthetic-v1\0");
        context.update(&seed.to_be_bytes());
        context.update(city.as_str().as_bytes());
        context.update(&index.to_be_bytes());
        Self {
            bytes: context.finish().as_ref().to_vec(),
            at: 0,
        }
    }

    fn below(&mut self, limit: u16) -> u16 {
        let byte = |at: usize| u16::from(self.bytes.get(at).copied().unwrap_or_default());
        let number = byte(self.at) << 8 | byte(self.at + 1);
        self.at += 2;
        number % limit
    }

    fn one_of(&mut self, characters: &[char; 16]) -> char {
        characters[usize::from(self.below(16))]
    }

    /// Of a hundred functions 90 are in order.
    fn state(&mut self) -> CardState {
        match self.below(100) {
            0..=1 => CardState::Sealed,
            2..=3 => CardState::Lost,
            4..=5 => CardState::Locked,
            6..=9 => CardState::Cancelled,
            _ => CardState::Normal,
        }
    }

    /// 26 hexadecimal digits.
    fn hex(&self) -> String {
        let end = self.bytes.len();
        hex::encode_upper(&self.bytes[end.saturating_sub(13)..end])
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use banqiao_kit::identifier::CitizenId;
    use jiff::civil::date;

    use super::*;
    use crate::card::{ImportTerms, ImportedCard};

    #[test]
    fn two_thousand_holders_of_each_city_are_distinct_sound_and_marked() {
        for city in ["370200", "370600", "370700", "371000", "371100"] {
            let city: CityCode = city.parse().unwrap();
            let terms = ImportTerms {
                city,
                today: date(2026, 11, 23),
                social_until_us: 0,
                financial_until_us: 0,
            };
            let (mut people, mut numbers, mut chips) =
                (HashSet::new(), HashSet::new(), HashSet::new());
            for (index, card) in holders(city, 2_000, 7).unwrap().enumerate() {
                let parsed = ImportedCard::parse(Some(&card), &terms).unwrap();
                let holder = CitizenId::parse(&card.social_security_number, terms.today).unwrap();
                assert!(holder.is_synthetic() && card.name.starts_with("测试"));
                assert_eq!(parsed.card.specification, SYNTHETIC);
                if index < usize::try_from(IN_ORDER).unwrap() {
                    assert_eq!(card.social_state(), CardState::Normal);
                    assert!(parsed.card.expires_on > date(2034, 12, 31) && card.electronic);
                }
                assert!(people.insert(card.social_security_number));
                assert!(numbers.insert(card.card_number));
                assert!(chips.insert(card.card_identification_code));
            }
            assert_eq!(people.len(), 2_000);
        }
    }

    #[test]
    fn the_seed_decides() {
        let city: CityCode = "371100".parse().unwrap();
        let some = |seed| holders(city, 50, seed).unwrap().collect::<Vec<_>>();
        assert_eq!(some(1), some(1));
        assert_ne!(some(1), some(2));
        let more: Vec<_> = holders(city, 80, 1).unwrap().take(50).collect();
        assert_eq!(some(1), more);
        let single: Vec<_> = (0..50).filter_map(|index| holder(city, index, 1)).collect();
        assert_eq!(some(1), single);
    }

    #[test]
    fn limits_are_told() {
        let weihai: CityCode = "371000".parse().unwrap();
        assert_eq!(
            holders(weihai, 87_661, 0).err(),
            Some(SyntheticError::TooMany(87_660))
        );
        assert_eq!(holder(weihai, 87_660, 0), None);
        let jinan: CityCode = "370100".parse().unwrap();
        assert_eq!(
            holders(jinan, 1, 0).err(),
            Some(SyntheticError::UnknownCity)
        );
        let all: HashSet<_> = holders(weihai, 87_660, 3)
            .unwrap()
            .map(|card| card.social_security_number)
            .collect();
        assert_eq!(all.len(), 87_660);
    }
}
