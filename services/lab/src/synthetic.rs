//! Synthetic institutions, patients and reports: the same for the same numbers, and nobody's.
//!
//! Each identity number has the sequence 000, which is not issued to people, and a right check digit; each name begins with 测试
//! ("test"); each institution's code has a division of the network and an organisation part that begins with `MA0TE`.

use banqiao_directory::CityCode;
use banqiao_kit::identifier::{CreditCode, Network, citizen_check_digit};
use banqiao_proto::lab::v1::{
    Actor, Coding, Concept, Patient, Quantity, ReferenceInterval, Report, ReportStatus, Result,
    Sex, result::Value,
};
use jiff::{ToSpan, civil::Date};

use crate::{
    catalogue::{Catalogue, LOINC_SYSTEM, TestItem, WST886_SYSTEM},
    decimal::Decimal,
    institution::{INSTITUTION_COLUMNS, Institutions},
    report::timestamp,
    table::TableFaults,
};

/// The cities of the network, with their trust domains.
const CITIES: [(&str, &str, &str); 5] = [
    ("370200", "青岛", "qingdao.jiaodong"),
    ("370600", "烟台", "yantai.jiaodong"),
    ("370700", "潍坊", "weifang.jiaodong"),
    ("371000", "威海", "weihai.jiaodong"),
    ("371100", "日照", "rizhao.jiaodong"),
];
/// Institutions of each city: suffix, level, and its character in the organisation part.
const HOSPITALS: [(&str, &str, char); 2] =
    [("hospital-1", "THIRD", '1'), ("hospital-2", "SECOND", '2')];

/// First date of birth; each next patient of a county was born a day later.
const FIRST_BIRTH: Date = Date::constant(1950, 1, 1);
/// Birth dates per county: 1950-01-01 to 2009-12-31.
const BIRTH_DATES: u64 = 21_915;

const GIVEN: [char; 16] = [
    '安', '涵', '轩', '宁', '洋', '琪', '平', '华', '峰', '兰', '军', '梅', '鹏', '静', '然', '航',
];

/// Results of a report.
const RESULTS: u64 = 4;

/// A register of synthetic institutions as the text of its file.
pub fn institution_table() -> String {
    let mut text = String::from(
        "# Synthetic institutions (医疗机构): nobody's. One a line, fields by tab.\n\
         # systems: the SPIFFE ID under which the institution's systems stand.\n#version synthetic-1\n",
    );
    text.push_str(&INSTITUTION_COLUMNS.join("\t"));
    text.push('\n');
    for (city, name, domain) in CITIES {
        for (suffix, level, place) in HOSPITALS {
            let code = credit_code(city, place).unwrap_or_default();
            let number = if place == '1' { "一" } else { "二" };
            text.push_str(&format!(
                "{code}\t{name}测试第{number}医院\t{level}\t{city}\tspiffe://{domain}/{suffix}\n"
            ));
        }
    }
    text
}

/// The synthetic institutions.
///
/// # Errors
/// None, as a test shows.
pub fn institutions() -> std::result::Result<Institutions, TableFaults> {
    Institutions::parse("institutions.tsv".as_ref(), &institution_table())
}

/// A code of a public institution (事业单位) whose check characters are right: the first that the rules let through.
fn credit_code(city: &str, place: char) -> Option<String> {
    const SYMBOLS: &str = "0123456789ABCDEFGHJKLMNPQRTUWXY";
    SYMBOLS.chars().find_map(|organisation| {
        SYMBOLS.chars().find_map(|check| {
            let code = format!("12{city}MA0TE{place}00{organisation}{check}");
            CreditCode::parse(&code).ok().map(|code| code.to_string())
        })
    })
}

/// Time of collection of the first report of [`reports`]: 2026-01-01 08:00 in the cities.
const FIRST_COLLECTED_US: i64 = 1_767_225_600_000_000;

/// Why reports cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyntheticError {
    /// The city has no institution, or no counties.
    #[error("the city is none of the network's")]
    UnknownCity,
    /// The built-in files have a fault.
    #[error("a reference file has faults")]
    Table(#[from] TableFaults),
}

/// The first `count` reports of a city's first institution: one a minute, ten for each patient.
///
/// # Errors
/// The city is not of the network.
pub fn reports(
    city: CityCode,
    count: u64,
) -> std::result::Result<impl Iterator<Item = Report>, SyntheticError> {
    let (catalogue, institutions) = (Catalogue::built_in()?, institutions()?);
    let first = institutions
        .iter()
        .find(|institution| institution.city == city);
    let code = first.ok_or(SyntheticError::UnknownCity)?.credit_code;
    Ok((0..count).filter_map(move |index| {
        let at = FIRST_COLLECTED_US + i64::try_from(index % 400_000).ok()? * 60_000_000;
        report(&catalogue, code, patient(city, index / 10)?, index, at)
    }))
}

/// The patient `index` of a city; none when the city has no counties.
pub fn patient(city: CityCode, index: u64) -> Option<Patient> {
    let counties: Vec<_> = Network::counties(city).map(|county| county.code).collect();
    let number = u64::try_from(counties.len()).ok()?;
    let county = counties.get(usize::try_from(index.checked_rem(number)?).ok()?)?;
    // 7,919 is prime to the number of dates, so that neighbours in the list are years apart and nobody's date repeats.
    let days = (index / number * 7_919 + 1) % BIRTH_DATES;
    let born = FIRST_BIRTH
        .checked_add(i64::try_from(days).ok()?.days())
        .ok()?;
    let mut id = format!(
        "{county}{:04}{:02}{:02}000",
        born.year(),
        born.month(),
        born.day()
    );
    id.push(char::from(citizen_check_digit(id.as_bytes())?));
    let one_of = |at: u64| {
        usize::try_from(at % 16)
            .ok()
            .and_then(|at| GIVEN.get(at))
            .copied()
    };
    Some(Patient {
        citizen_id: id,
        name: format!("测试{}{}", one_of(index)?, one_of(index / 16)?),
        sex: if index.is_multiple_of(2) {
            Sex::Male
        } else {
            Sex::Female
        }
        .into(),
        birth_date: born.to_string(),
        reference: String::new(),
    })
}

/// The report `index` of an institution for a patient, collected at a time; none when the catalogue is empty.
pub fn report(
    catalogue: &Catalogue,
    institution: CreditCode,
    patient: Patient,
    index: u64,
    collected_at_us: i64,
) -> Option<Report> {
    let count = u64::try_from(catalogue.items().len()).ok()?;
    let results = (0..RESULTS).map(|place| {
        let at = index
            .wrapping_mul(RESULTS)
            .wrapping_add(place)
            .checked_rem(count)?;
        result(catalogue.items().get(usize::try_from(at).ok()?)?, index)
    });
    Some(Report {
        institution: institution.to_string(),
        report_number: format!("T{index:09}"),
        status: ReportStatus::Final.into(),
        categories: vec![concept(
            "http://terminology.hl7.org/CodeSystem/v2-0074",
            "LAB",
            "检验",
        )],
        code: Some(Concept {
            codings: Vec::new(),
            text: "检验报告".to_owned(),
        }),
        patient: Some(patient),
        collected_at: Some(timestamp(collected_at_us)),
        issued_at: Some(timestamp(collected_at_us + 3_600_000_000)),
        performer: Some(actor("检验科")),
        reviewer: Some(actor("测试审核")),
        results: results.collect::<Option<_>>()?,
        ..Report::default()
    })
}

/// A result of an item with everything that recognition asks for, in the item's own unit.
pub fn result(item: &TestItem, index: u64) -> Option<Result> {
    let interval = item.intervals.first();
    let low = interval.and_then(|interval| interval.low);
    let high = interval.and_then(|interval| interval.high);
    let middle = low.or(high).unwrap_or(Decimal::ONE);
    let value = middle.times(Decimal::of(i128::from(index % 40) + 90, 2))?;
    let mut code = concept(LOINC_SYSTEM, item.loinc.as_str(), &item.abbreviation);
    if item.code.is_wst886() {
        code.codings
            .insert(0, coding(WST886_SYSTEM, item.code.as_str(), &item.name));
    }
    code.text.clone_from(&item.name);
    let bound = |bound: Option<Decimal>| bound.map(|bound| quantity(item, &bound.to_string()));
    Some(Result {
        code: Some(code),
        value: Some(Value::Quantity(quantity(item, &value.to_string()))),
        intervals: vec![ReferenceInterval {
            low: bound(low),
            high: bound(high),
            text: item.interval_note.clone(),
            ..ReferenceInterval::default()
        }],
        specimen: Some(Concept {
            codings: Vec::new(),
            text: item.specimens.first()?.clone(),
        }),
        method: Some(Concept {
            codings: Vec::new(),
            text: "测试方法".to_owned(),
        }),
        device: Some(actor("测试分析仪")),
        performer: Some(actor("测试检验")),
        ..Result::default()
    })
}

fn quantity(item: &TestItem, value: &str) -> Quantity {
    Quantity {
        value: value.to_owned(),
        comparator: 0,
        unit: item.unit.clone(),
        ucum: item.ucum.clone(),
    }
}

fn coding(system: &str, code: &str, display: &str) -> Coding {
    Coding {
        system: system.to_owned(),
        code: code.to_owned(),
        display: display.to_owned(),
    }
}

fn concept(system: &str, code: &str, display: &str) -> Concept {
    Concept {
        codings: vec![coding(system, code, display)],
        text: String::new(),
    }
}

fn actor(name: &str) -> Actor {
    Actor {
        reference: String::new(),
        name: name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_institutions_are_sound_and_two_of_each_city() {
        let institutions = institutions().unwrap();
        for (city, ..) in CITIES {
            let of_city = institutions.iter().filter(|one| one.city.as_str() == city);
            assert_eq!(of_city.count(), 2, "{city}");
        }
        assert_eq!(institutions.version(), "synthetic-1");
    }

    #[test]
    fn patients_repeat_nobody() {
        let city = "370600".parse().unwrap();
        let ids: std::collections::BTreeSet<_> = (0..5_000)
            .map(|index| patient(city, index).unwrap().citizen_id)
            .collect();
        assert_eq!(ids.len(), 5_000);
        assert!(ids.iter().all(|id| id[14..17] == *"000"));
    }
}
