//! The `[pension]` table.

use std::collections::BTreeMap;

use banqiao_directory::{CityCode, TrustDomain};
use banqiao_kit::Section;
use banqiao_proto::card::v1::PensionScheme;
use toml::Value;

/// Age of men from which a first participation away from home gives a temporary account (国办发〔2009〕66号, M).
const AGE_MALE: u8 = 50;
/// The same for women (M).
const AGE_FEMALE: u8 = 40;
/// Working days before a limit from which it is a yellow one: a week of work, this project's proposal (D).
const YELLOW_WORKDAYS: u16 = 5;

/// Between two cities, in one direction, no funds move with a relation: both are inside one pooled scheme.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FundsRule {
    /// The old city.
    pub from: CityCode,
    /// The new city.
    pub to: CityCode,
    /// Scheme in both.
    pub scheme: PensionScheme,
}

/// How a city transfers pension relations.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PensionSettings {
    /// `age_male`.
    pub age_male: u8,
    /// `age_female`.
    pub age_female: u8,
    /// `yellow_workdays`.
    pub yellow_workdays: u16,
    /// The configuration's `[cities]`: the trust domains of the cities to and from which relations move. Documents of a city are taken from its own systems only.
    pub cities: BTreeMap<CityCode, TrustDomain>,
    /// `funds_not_required`: a list of `{ from, to, scheme }`.
    pub funds_not_required: Vec<FundsRule>,
}

impl Default for PensionSettings {
    fn default() -> Self {
        Self {
            age_male: AGE_MALE,
            age_female: AGE_FEMALE,
            yellow_workdays: YELLOW_WORKDAYS,
            cities: BTreeMap::new(),
            funds_not_required: Vec::new(),
        }
    }
}

impl PensionSettings {
    /// Reads the `[pension]` table. The cities stand in a table of their own.
    pub fn read(section: &mut Section<'_>) -> Self {
        let age_male = section.number("age_male", AGE_MALE, 30..=70);
        let age_female = section.number("age_female", AGE_FEMALE, 30..=70);
        let yellow_workdays = section.number("yellow_workdays", YELLOW_WORKDAYS, 1..=15);
        let mut funds_not_required = Vec::new();
        match section.value("funds_not_required") {
            None => {}
            Some(Value::Array(rules)) => {
                for (position, rule) in rules.iter().enumerate() {
                    match funds_rule(rule) {
                        Some(rule) => funds_not_required.push(rule),
                        None => section.fault(
                            &format!("funds_not_required[{position}]"),
                            "must be { from = \"370600\", to = \"370200\", scheme = \"employee\" | \"resident\" }",
                        ),
                    }
                }
            }
            Some(_) => section.fault("funds_not_required", "must be a list of tables"),
        }
        Self {
            age_male,
            age_female,
            yellow_workdays,
            cities: BTreeMap::new(),
            funds_not_required,
        }
    }

    /// Whether funds move with a relation.
    pub fn funds_required(
        &self,
        from: CityCode,
        to: CityCode,
        (old, new): (PensionScheme, PensionScheme),
    ) -> bool {
        let mut rules = self.funds_not_required.iter();
        old != new || !rules.any(|rule| rule.from == from && rule.to == to && rule.scheme == old)
    }
}

fn funds_rule(value: &Value) -> Option<FundsRule> {
    let table = value.as_table()?;
    let text = |key| table.get(key).and_then(Value::as_str);
    let scheme = match text("scheme")? {
        "employee" => PensionScheme::Employee,
        "resident" => PensionScheme::Resident,
        _ => return None,
    };
    (table.len() == 3).then_some(())?;
    Some(FundsRule {
        from: text("from")?.parse().ok()?,
        to: text("to")?.parse().ok()?,
        scheme,
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use banqiao_kit::SettingsFile;

    use super::*;

    fn read(text: &str) -> Result<PensionSettings, Vec<String>> {
        let file = SettingsFile::parse(text, Path::new("")).unwrap();
        file.finish(|top| Some(PensionSettings::read(&mut top.section("pension"))))
            .map_err(|faults| faults.0.into_iter().map(|fault| fault.key).collect())
    }

    #[test]
    fn funds_are_required_unless_a_rule_of_this_direction_and_scheme_says_otherwise() {
        let settings = read(
            "[pension]\nage_female = 45\n\
             funds_not_required = [{ from = '370600', to = '370200', scheme = 'employee' }]\n",
        );
        let settings = settings.unwrap();
        assert_eq!((settings.age_male, settings.age_female), (50, 45));
        let (yantai, qingdao) = ("370600".parse().unwrap(), "370200".parse().unwrap());
        let (employee, resident) = (PensionScheme::Employee, PensionScheme::Resident);
        assert!(!settings.funds_required(yantai, qingdao, (employee, employee)));
        assert!(settings.funds_required(qingdao, yantai, (employee, employee)));
        assert!(settings.funds_required(yantai, qingdao, (resident, employee)));
    }

    #[test]
    fn every_fault_comes_with_its_key() {
        let faults = read(
            "[pension]\nage_male = 5\ncolour = 1\n\
             funds_not_required = [{ from = '1', to = '370200', scheme = 'employee' }, 3]\n",
        );
        assert_eq!(
            faults.unwrap_err(),
            [
                "pension.age_male",
                "pension.funds_not_required[0]",
                "pension.funds_not_required[1]",
                "pension.colour"
            ]
        );
    }
}
