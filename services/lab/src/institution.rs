//! 医疗机构: the institutions of the network, loaded from a file that is refused whole on a fault.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use banqiao_directory::{CityCode, SpiffeId, TrustDomain};
use banqiao_kit::{
    Broken, Rule,
    identifier::{CreditCode, DivisionCode, DivisionKind},
};
use banqiao_proto::lab::v1::{self as proto, InstitutionLevel};

use crate::table::{self, Table, TableFaults};

/// The columns of a file of institutions, in order.
pub const INSTITUTION_COLUMNS: [&str; 5] = ["credit_code", "name", "level", "city", "systems"];

/// Rule of an institution that the file must hold.
pub(crate) const INSTITUTION_UNKNOWN: Rule = Rule::design(
    "INSTITUTION_UNKNOWN",
    "the institution is in the register of this city's service",
    "laboratory service",
);

/// Level of a hospital, the lowest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// 一级.
    First,
    /// 二级.
    Second,
    /// 三级.
    Third,
}

impl Level {
    /// The level in an answer.
    pub const fn shown(self) -> InstitutionLevel {
        match self {
            Self::First => InstitutionLevel::First,
            Self::Second => InstitutionLevel::Second,
            Self::Third => InstitutionLevel::Third,
        }
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        match text {
            "FIRST" | "一级" => Ok(Self::First),
            "SECOND" | "二级" => Ok(Self::Second),
            "THIRD" | "三级" => Ok(Self::Third),
            _ => Err("must be FIRST, SECOND or THIRD, or its Chinese name"),
        }
    }
}

/// A medical institution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Institution {
    /// 统一社会信用代码.
    pub credit_code: CreditCode,
    /// Name.
    pub name: String,
    /// Level.
    pub level: Level,
    /// City.
    pub city: CityCode,
    /// SPIFFE ID under which its systems stand: they alone publish and decide in its name.
    systems: String,
}

impl Institution {
    /// Whether a system is one of the institution's.
    pub fn owns(&self, client: &SpiffeId) -> bool {
        client
            .as_str()
            .strip_prefix(&self.systems)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// The trust domain of its systems: its city's.
    pub fn systems_domain(&self) -> Option<TrustDomain> {
        let id: SpiffeId = self.systems.parse().ok()?;
        Some(id.trust_domain().clone())
    }

    /// The institution in an answer.
    pub fn shown(&self) -> proto::Institution {
        proto::Institution {
            credit_code: self.credit_code.to_string(),
            name: self.name.clone(),
            level: self.level.shown().into(),
            city: self.city.to_string(),
        }
    }
}

/// The institutions by their codes.
#[derive(Debug)]
pub struct Institutions {
    version: String,
    by_code: BTreeMap<CreditCode, Institution>,
}

impl Institutions {
    /// Reads a file.
    ///
    /// # Errors
    /// Every fault with file, line and key.
    pub fn read(path: &Path) -> Result<Self, TableFaults> {
        Self::parse(path, &table::read(path)?)
    }

    /// Parses the text of a file.
    ///
    /// # Errors
    /// Every fault with file, line and key.
    pub fn parse(file: &Path, text: &str) -> Result<Self, TableFaults> {
        let (mut codes, mut systems) = (BTreeSet::new(), BTreeSet::new());
        let (version, list) = Table::read(file, text, &INSTITUTION_COLUMNS, |line| {
            let institution = institution(line)?;
            line.unique("credit_code", institution.credit_code.as_str(), &mut codes);
            line.unique("systems", &institution.systems, &mut systems);
            Some(institution)
        })?;
        let by_code = list
            .into_iter()
            .map(|institution| (institution.credit_code, institution));
        Ok(Self {
            version,
            by_code: by_code.collect(),
        })
    }

    /// Version of the file.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Every institution, by code.
    pub fn iter(&self) -> impl Iterator<Item = &Institution> {
        self.by_code.values()
    }

    /// An institution by its code.
    pub fn of(&self, code: CreditCode) -> Option<&Institution> {
        self.by_code.get(&code)
    }

    /// The institution of a code as sent.
    ///
    /// # Errors
    /// The code breaks a rule, or is of no institution of the file.
    pub fn find(&self, text: &str) -> Result<&Institution, Broken> {
        self.of(CreditCode::parse(text)?)
            .ok_or(Broken(&INSTITUTION_UNKNOWN))
    }

    /// The institution whose system a client is.
    pub fn of_client(&self, client: &SpiffeId) -> Option<&Institution> {
        self.iter().find(|institution| institution.owns(client))
    }
}

fn institution(line: &mut Table<'_>) -> Option<Institution> {
    let credit_code = line.parsed("credit_code", CreditCode::parse);
    let name = line.required("name");
    let level = line.parsed("level", Level::parse);
    let city = line.parsed("city", parse_city);
    let systems = line.parsed("systems", |text| {
        text.parse::<SpiffeId>().map(|id| id.as_str().to_owned())
    });
    Some(Institution {
        credit_code: credit_code?,
        name: name?.to_owned(),
        level: level?,
        city: city?,
        systems: systems?,
    })
}

fn parse_city(text: &str) -> Result<CityCode, String> {
    let division = DivisionCode::parse(text).map_err(|broken| broken.to_string())?;
    match division.division().map(|division| division.kind) {
        Some(DivisionKind::City | DivisionKind::GuestCity) => {
            text.parse().map_err(|_| "is no city code".to_owned())
        }
        _ => Err("is no city of the network".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::synthetic;

    #[test]
    fn a_system_is_of_one_institution() {
        let institutions = synthetic::institutions().unwrap();
        let first = institutions.iter().next().unwrap();
        let client = |suffix: &str| {
            format!("{}{suffix}", first.systems)
                .parse::<SpiffeId>()
                .unwrap()
        };
        assert!(first.owns(&client("")) && first.owns(&client("/lis")));
        assert!(!first.owns(&client("x")));
        assert_eq!(
            institutions.of_client(&client("/lis")).unwrap().name,
            first.name
        );
    }

    #[test]
    fn every_fault_names_file_line_and_key() {
        let text = "#version 1\ncredit_code\tname\tlevel\tcity\tsystems\n\
                    1237020000000000\t甲医院\tTHIRD\t370200\tspiffe://qingdao.jiaodong/hospital/a\n\
                    91350100M000100Y43\t\tFOURTH\t370202\tnowhere\n\
                    91350100M000100Y43\t乙医院\t二级\t370200\tspiffe://qingdao.jiaodong/hospital/b\n\
                    91350100M000100Y43\t丙医院\t二级\t370200\tspiffe://qingdao.jiaodong/hospital/b\n\
                    one\ttwo\n";
        let faults = Institutions::parse(Path::new("i.tsv"), text).unwrap_err();
        let places: Vec<_> = faults
            .0
            .iter()
            .map(|fault| (fault.line, fault.key.as_str()))
            .collect();
        assert_eq!(
            places,
            [
                (3, "credit_code"),
                (4, "name"),
                (4, "level"),
                (4, "city"),
                (4, "systems"),
                (6, "credit_code"),
                (6, "systems"),
                (7, "")
            ]
        );
        assert!(
            faults
                .to_string()
                .starts_with("i.tsv:3: credit_code: a unified social credit code has 18")
        );
    }
}
