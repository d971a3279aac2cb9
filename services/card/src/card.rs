//! The record of a card, parsed field by field.

use std::fmt;

use banqiao_directory::CityCode;
use banqiao_kit::{
    Broken, Rule, RuleTable, Violation, Violations,
    identifier::{CitizenId, DivisionCode},
};
use banqiao_proto::card::v1::{CardRecord, CardState};
use jiff::civil::Date;
use unicode_normalization::UnicodeNormalization;

use crate::state::{Standing, State};

const CARD_NUMBER: Rule = Rule::design(
    "CARD_NUMBER",
    "a card number has 1 to 32 letters and digits; its inner structure is not checked",
    "LD/T 32-2015, not verified",
);
const CHIP_CODE: Rule = Rule::design(
    "CARD_IDENTIFICATION_CODE",
    "a card identification code has 16 to 32 hexadecimal digits",
    "LD/T 32-2015, not verified",
);
const NAME: Rule = Rule::design(
    "HOLDER_NAME",
    "a name has 1 to 60 characters and no control characters",
    "GB/T 39046-2020 an..200",
);
const DATE: Rule = Rule::design(
    "DATE",
    "a date is written YYYY-MM-DD and exists",
    "ISO 8601",
);
const ISSUED_IN_FUTURE: Rule = Rule::design(
    "ISSUED_IN_FUTURE",
    "a card is not issued in the future",
    "card service",
);
const EXPIRES_BEFORE_ISSUE: Rule = Rule::design(
    "EXPIRES_BEFORE_ISSUE",
    "a card does not expire before it is issued",
    "card service",
);
const OTHER_CITY: Rule = Rule::design(
    "OTHER_CITY",
    "a city's service holds the cards that this city issued",
    "card service",
);
const STATE_MISSING: Rule = Rule::design(
    "STATE_MISSING",
    "a state from SEALED to CANCELLED is required",
    "card service",
);
const STATE_COMPUTED: Rule = Rule::design(
    "STATE_COMPUTED",
    "EXPIRED follows from the expiry date: give the state that the card has apart from it",
    "card service",
);
const SPECIFICATION: Rule = Rule::design(
    "SPECIFICATION_VERSION",
    "a specification version has at most 16 printable ASCII characters",
    "card service",
);
const RECORD_MISSING: Rule =
    Rule::design("RECORD_MISSING", "a line carries a card", "card service");

pub(crate) fn rules() -> RuleTable {
    const NAMED: &[&str] = &["VerifyCard", "ReportLoss", "applications", "ImportCards"];
    const IMPORT: &[&str] = &["ImportCards", "banqiao-card import"];
    RuleTable::new("The record of a card")
        .fields([&CARD_NUMBER, &CHIP_CODE, &NAME], NAMED)
        .fields(
            [
                &DATE,
                &ISSUED_IN_FUTURE,
                &EXPIRES_BEFORE_ISSUE,
                &OTHER_CITY,
                &STATE_MISSING,
                &STATE_COMPUTED,
                &SPECIFICATION,
                &RECORD_MISSING,
            ],
            IMPORT,
        )
}

/// Longest name in characters: the longest names of several parts stay far below.
const MAX_NAME: usize = 60;

/// 社会保障卡卡号 (AAZ500). `Debug` redacts: it stands for its holder.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CardNumber(String);

impl CardNumber {
    /// Parses a number.
    ///
    /// # Errors
    /// It has another form.
    pub fn parse(text: &str) -> Result<Self, Broken> {
        let sound =
            (1..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        if sound {
            Ok(Self(text.to_owned()))
        } else {
            Err(Broken(&CARD_NUMBER))
        }
    }

    /// The number. It belongs into records and answers, never into a log.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for CardNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CardNumber(redacted)")
    }
}

/// 卡识别码 (AAZ501), upper-case: the physical chip. `Debug` redacts: with it a card can be asked for.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChipCode(String);

impl ChipCode {
    /// Parses a code in either case.
    ///
    /// # Errors
    /// It has another form.
    pub fn parse(text: &str) -> Result<Self, Broken> {
        let sound = (16..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
        if sound {
            Ok(Self(text.to_ascii_uppercase()))
        } else {
            Err(Broken(&CHIP_CODE))
        }
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ChipCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChipCode(redacted)")
    }
}

/// 姓名 (AAC003) in the form in which names are compared: NFC, no outer space, one kind of interpunct. `Debug` redacts.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct HolderName(String);

impl HolderName {
    /// Parses a name.
    ///
    /// # Errors
    /// It is empty, too long, or holds control characters.
    pub fn parse(text: &str) -> Result<Self, Broken> {
        // Four bytes make at most one character, so this bounds the work before it begins.
        if text.len() > MAX_NAME * 8 {
            return Err(Broken(&NAME));
        }
        let name: String = text.trim().nfc().map(interpunct).collect();
        let sound = (1..=MAX_NAME).contains(&name.chars().count())
            && !name.chars().any(|c| c.is_control() || c == '\u{FFFD}');
        if sound {
            Ok(Self(name))
        } else {
            Err(Broken(&NAME))
        }
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for HolderName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HolderName(redacted)")
    }
}

/// Names of several parts are written with different dots by different input methods; GB/T 15834 has U+00B7.
const fn interpunct(c: char) -> char {
    match c {
        '\u{2022}' | '\u{2027}' | '\u{22C5}' | '\u{2E31}' | '\u{30FB}' | '\u{FF65}'
        | '\u{FF0E}' => '\u{B7}',
        other => other,
    }
}

/// A card as its city's database holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Card {
    /// 卡号.
    pub number: CardNumber,
    /// 社会保障号码.
    pub holder: CitizenId,
    /// 姓名.
    pub name: HolderName,
    /// 卡识别码.
    pub chip: ChipCode,
    /// 发卡地区行政区划.
    pub division: DivisionCode,
    /// 发卡日期.
    pub issued_on: Date,
    /// 卡有效期: last day.
    pub expires_on: Date,
    /// 社保功能.
    pub social: Standing,
    /// 金融功能.
    pub financial: Standing,
    /// Whether an electronic card is linked.
    pub electronic: bool,
    /// 规范版本.
    pub specification: String,
}

/// A line of an import that keeps every rule. What it makes of a state depends on the card that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportedCard {
    /// The card; its standings are those of a new card.
    pub card: Card,
    /// 社保功能 as given.
    pub social: State,
    /// 金融功能 as given.
    pub financial: State,
}

/// What an import needs to know to judge a line.
#[derive(Clone, Copy, Debug)]
pub struct ImportTerms {
    /// The issuing city.
    pub city: CityCode,
    /// The date there.
    pub today: Date,
    /// When a temporary loss of the social function ends that is imported now.
    pub social_until_us: i64,
    /// The same of the financial function.
    pub financial_until_us: i64,
}

impl ImportedCard {
    /// Parses a line.
    ///
    /// # Errors
    /// Every field that breaks a rule, with the rule.
    pub fn parse(record: Option<&CardRecord>, terms: &ImportTerms) -> Result<Self, Vec<Violation>> {
        let mut faults = Violations::new();
        let Some(record) = record else {
            faults.add("card", &RECORD_MISSING);
            return Err(faults.into_vec());
        };
        let number = faults.check("card_number", CardNumber::parse(&record.card_number));
        let holder = CitizenId::parse(&record.social_security_number, terms.today);
        let holder = faults.check("social_security_number", holder);
        let name = faults.check("name", HolderName::parse(&record.name));
        let chip = ChipCode::parse(&record.card_identification_code);
        let chip = faults.check("card_identification_code", chip);
        let division = faults.check("issuing_division", own_division(record, terms.city));
        let issued_on = faults.check("issued_on", parse_date(&record.issued_on));
        if issued_on.is_some_and(|issued_on| issued_on > terms.today) {
            faults.add("issued_on", &ISSUED_IN_FUTURE);
        }
        let expires_on = faults.check("expires_on", parse_date(&record.expires_on));
        if expires_on
            .zip(issued_on)
            .is_some_and(|(expires_on, issued_on)| expires_on < issued_on)
        {
            faults.add("expires_on", &EXPIRES_BEFORE_ISSUE);
        }
        let social = faults.check("social_state", parse_state(record.social_state));
        let financial = faults.check("financial_state", parse_state(record.financial_state));
        let specification = parse_specification(&record.specification_version);
        let specification = faults.check("specification_version", specification);
        let imported = (|| {
            let (social, financial) = (social?, financial?);
            let card = Card {
                number: number?,
                holder: holder?,
                name: name?,
                chip: chip?,
                division: division?,
                issued_on: issued_on?,
                expires_on: expires_on?,
                social: Standing::begin(social, terms.social_until_us, false),
                financial: Standing::begin(financial, terms.financial_until_us, false),
                electronic: record.electronic,
                specification: specification?,
            };
            Some(Self {
                card,
                social,
                financial,
            })
        })();
        match imported {
            Some(imported) if faults.is_empty() => Ok(imported),
            _ => Err(faults.into_vec()),
        }
    }
}

fn own_division(record: &CardRecord, city: CityCode) -> Result<DivisionCode, Broken> {
    let division = DivisionCode::parse_known(&record.issuing_division)?;
    if division.city() == Some(city) {
        Ok(division)
    } else {
        Err(Broken(&OTHER_CITY))
    }
}

/// Parses `YYYY-MM-DD` and nothing else: jiff alone would accept more forms.
pub(crate) fn parse_date(text: &str) -> Result<Date, Broken> {
    let bytes = text.as_bytes();
    let form = bytes.len() == 10
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            4 | 7 => *byte == b'-',
            _ => byte.is_ascii_digit(),
        });
    if !form {
        return Err(Broken(&DATE));
    }
    text.parse().map_err(|_| Broken(&DATE))
}

fn parse_state(number: i32) -> Result<State, Broken> {
    match CardState::try_from(number) {
        Ok(CardState::Expired) => Err(Broken(&STATE_COMPUTED)),
        Ok(shown) => State::of(shown).ok_or(Broken(&STATE_MISSING)),
        Err(_) => Err(Broken(&STATE_MISSING)),
    }
}

pub(crate) fn parse_specification(text: &str) -> Result<String, Broken> {
    let sound = text.len() <= 16 && text.bytes().all(|byte| (0x20..0x7f).contains(&byte));
    if sound {
        Ok(text.to_owned())
    } else {
        Err(Broken(&SPECIFICATION))
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    fn terms() -> ImportTerms {
        ImportTerms {
            city: "370200".parse().unwrap(),
            today: date(2026, 11, 23),
            social_until_us: 10,
            financial_until_us: 5,
        }
    }

    fn record() -> CardRecord {
        CardRecord {
            card_number: "T02000001".into(),
            social_security_number: "370202199001010007".into(),
            name: " 测试·子安 ".into(),
            card_identification_code: "370200d1560000055eabc0123456789f".into(),
            issuing_division: "370202".into(),
            issued_on: "2020-01-02".into(),
            expires_on: "2030-01-01".into(),
            social_state: CardState::Normal.into(),
            financial_state: CardState::TempLost.into(),
            electronic: true,
            specification_version: "3.00".into(),
        }
    }

    fn faults(change: impl Fn(&mut CardRecord)) -> Vec<(String, &'static str)> {
        let mut record = record();
        change(&mut record);
        let faults = ImportedCard::parse(Some(&record), &terms()).unwrap_err();
        faults
            .into_iter()
            .map(|fault| (fault.field.into_owned(), fault.rule.code))
            .collect()
    }

    #[test]
    fn a_sound_line_is_normalised() {
        let ImportedCard {
            card,
            social,
            financial,
        } = ImportedCard::parse(Some(&record()), &terms()).unwrap();
        assert_eq!(card.name.as_str(), "测试·子安");
        assert_eq!(card.chip.as_str(), "370200D1560000055EABC0123456789F");
        assert_eq!((social, financial), (State::Normal, State::TempLost));
        assert_eq!(
            card.financial,
            Standing::TempLost {
                until_us: 5,
                reported: false
            }
        );
        let debug = format!("{card:?}");
        for secret in ["370202199001010007", "测试", "T02000001", "370200D156"] {
            assert!(!debug.contains(secret), "{debug}");
        }
    }

    #[test]
    fn each_field_names_its_rule() {
        for (change, field, rule) in [
            (
                &(|r: &mut CardRecord| r.card_number = "a-1".into()) as &dyn Fn(&mut CardRecord),
                "card_number",
                "CARD_NUMBER",
            ),
            (
                &|r| r.card_number = "1".repeat(33),
                "card_number",
                "CARD_NUMBER",
            ),
            (
                &|r| r.social_security_number = "370202199001010008".into(),
                "social_security_number",
                "CITIZEN_ID_CHECK_DIGIT",
            ),
            (&|r| r.name = "\u{3000}".into(), "name", "HOLDER_NAME"),
            (&|r| r.name = "a\nb".into(), "name", "HOLDER_NAME"),
            (
                &|r| r.card_identification_code = "1234".into(),
                "card_identification_code",
                "CARD_IDENTIFICATION_CODE",
            ),
            (
                &|r| r.issuing_division = "370602".into(),
                "issuing_division",
                "OTHER_CITY",
            ),
            (
                &|r| r.issuing_division = "370299".into(),
                "issuing_division",
                "DIVISION_UNKNOWN",
            ),
            (&|r| r.issued_on = "20200102".into(), "issued_on", "DATE"),
            (
                &|r| r.issued_on = "2026-11-24".into(),
                "issued_on",
                "ISSUED_IN_FUTURE",
            ),
            (
                &|r| r.expires_on = "2020-01-01".into(),
                "expires_on",
                "EXPIRES_BEFORE_ISSUE",
            ),
            (
                &|r| r.expires_on = "2030-02-30".into(),
                "expires_on",
                "DATE",
            ),
            (&|r| r.social_state = 0, "social_state", "STATE_MISSING"),
            (&|r| r.social_state = 99, "social_state", "STATE_MISSING"),
            (
                &|r| r.financial_state = CardState::Expired.into(),
                "financial_state",
                "STATE_COMPUTED",
            ),
            (
                &|r| r.specification_version = "三".into(),
                "specification_version",
                "SPECIFICATION_VERSION",
            ),
        ] {
            assert_eq!(faults(change), [(field.to_owned(), rule)]);
        }
        assert_eq!(faults(|r| *r = CardRecord::default()).len(), 9);
        let missing = ImportedCard::parse(None, &terms()).unwrap_err();
        assert_eq!(missing[0].rule.code, "RECORD_MISSING");
    }

    #[test]
    fn names_written_differently_are_one_name() {
        let name = |text| HolderName::parse(text).unwrap();
        assert_eq!(name("测试•子安"), name("测试·子安"));
        assert_eq!(name("测试・子安 "), name("测试·子安"));
        assert_eq!(name("e\u{301}"), name("\u{e9}"));
        assert_ne!(name("测试子安"), name("测试·子安"));
    }

    proptest! {
        #[test]
        fn any_record_is_judged_without_a_panic(text in prop::collection::vec("\\PC{0,40}", 8), state in any::<i32>()) {
            let [number, holder, name, chip, division, issued, expires, specification] =
                <[String; 8]>::try_from(text).unwrap();
            let record = CardRecord {
                card_number: number, social_security_number: holder, name, card_identification_code: chip,
                issuing_division: division, issued_on: issued, expires_on: expires, social_state: state,
                financial_state: state, electronic: false, specification_version: specification,
            };
            let _ = ImportedCard::parse(Some(&record), &terms());
        }
    }
}
