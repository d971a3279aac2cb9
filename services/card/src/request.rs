//! Requests, parsed field by field.

use aws_lc_rs::digest::{SHA256, digest};
use banqiao_directory::CityCode;
use banqiao_kit::{
    Broken, FollowFrom, Rule, RuleTable, Violation, Violations,
    identifier::{CitizenId, DivisionCode, DivisionKind},
};
use banqiao_proto::card::v1::{
    self as proto, CardFunction, LossKind, ReportLossRequest, ServiceCode, VerifyCardRequest,
};
use jiff::civil::Date;
use uuid::Uuid;

use crate::card::{CardNumber, ChipCode, HolderName};

const KEY: Rule = Rule::design(
    "KEY",
    "a card is named by its number, or by its holder's number with the card identification code",
    "card service",
);
const SERVICE_CODE: Rule = Rule::design(
    "SERVICE_CODE",
    "the service code is none of those that this service knows",
    "人社 portal service codes",
);
const REQUEST_ID: Rule = Rule::design(
    "REQUEST_ID",
    "a request id is a UUID in its hyphenated form and not nil",
    "RFC 9562",
);
const LOSS_KIND: Rule = Rule::quoted(
    "LOSS_KIND",
    "a loss is reported as temporary or as formal",
    "省人社厅 2022-09-28",
);
const FUNCTION: Rule = Rule::quoted(
    "FUNCTION",
    "社保功能 and 金融功能 are reported separately: name one of them",
    "省人社厅 2022-09-28",
);
const REPORTED_IN: Rule = Rule::design(
    "REPORTED_IN",
    "whoever asks names the city where it is asked: one of the network or a guest, by its code",
    "鲁政发〔2020〕2号",
);
pub(crate) const CURSOR: Rule = Rule::design(
    "CURSOR",
    "a cursor is empty, 0, or one that this service gave and has not moved past its last change",
    "card service",
);

/// Request ids are one namespace per client: the id of another is neither seen nor blocked.
pub(crate) const REQUEST_ID_REUSED: Rule = Rule::design(
    "REQUEST_ID_REUSED",
    "this request id of yours stands for another request: choose a new one",
    "card service",
);

pub(crate) fn rules() -> RuleTable {
    const CHANGES: &[&str] = &["ReportLoss", "applications"];
    RuleTable::new("Requests")
        .field(
            &KEY,
            &[
                "VerifyCard",
                "ReportLoss",
                "applications",
                "ReadCardHistory",
            ],
        )
        .field(&SERVICE_CODE, &["VerifyCard"])
        .fields([&REQUEST_ID, &REQUEST_ID_REUSED, &REPORTED_IN], CHANGES)
        .field(&LOSS_KIND, &["ReportLoss"])
        .field(&FUNCTION, &["ReportLoss", "ActivateCard", "LiftLoss"])
        .field(&CURSOR, &["WatchCardStates", "ReadCardHistory"])
}

/// How a card is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// By the chip; the holder's number must be given with it.
    Chip(ChipCode),
    /// By the number on the card.
    Number(CardNumber),
}

/// A card as the caller names it: how to find it, and all that must be true of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CardKey {
    /// How to find it.
    pub lookup: Lookup,
    /// 社会保障号码 as given.
    pub holder: Option<CitizenId>,
    /// 卡识别码 as given.
    pub chip: Option<ChipCode>,
}

impl CardKey {
    /// Parses a key whose field has this path.
    pub(crate) fn parse(
        path: &'static str,
        key: Option<&proto::CardKey>,
        today: Date,
        faults: &mut Violations,
    ) -> Option<Self> {
        let Some(key) = key else {
            faults.add(path, &KEY);
            return None;
        };
        let field = |name: &str| format!("{path}.{name}");
        let number = given(&key.card_number, CardNumber::parse);
        let number = faults.check(field("card_number"), number)?;
        let holder = given(&key.social_security_number, |text| {
            CitizenId::parse(text, today)
        });
        let holder = faults.check(field("social_security_number"), holder)?;
        let chip = given(&key.card_identification_code, ChipCode::parse);
        let chip = faults.check(field("card_identification_code"), chip)?;
        let lookup = match (number, holder, &chip) {
            (Some(number), ..) => Lookup::Number(number),
            (None, Some(_), Some(chip)) => Lookup::Chip(chip.clone()),
            _ => {
                faults.add(path, &KEY);
                return None;
            }
        };
        Some(Self {
            lookup,
            holder,
            chip,
        })
    }
}

/// A field that may be empty.
fn given<T>(text: &str, parse: impl Fn(&str) -> Result<T, Broken>) -> Result<Option<T>, Broken> {
    if text.is_empty() {
        Ok(None)
    } else {
        parse(text).map(Some)
    }
}

/// A parsed [`VerifyCardRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verify {
    /// The card.
    pub key: CardKey,
    /// Name to compare.
    pub name: Option<HolderName>,
}

impl Verify {
    /// Parses a request on a day.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn parse(request: &VerifyCardRequest, today: Date) -> Result<Self, Vec<Violation>> {
        let mut faults = Violations::new();
        let key = CardKey::parse("key", request.key.as_ref(), today, &mut faults);
        let name = faults.check("name", given(&request.name, HolderName::parse));
        if ServiceCode::try_from(request.service_code).is_err() {
            faults.add("service_code", &SERVICE_CODE);
        }
        match (key, name) {
            (Some(key), Some(name)) if faults.is_empty() => Ok(Self { key, name }),
            _ => Err(faults.into_vec()),
        }
    }
}

/// One of the two functions of a card. The numbers are those of `banqiao.card.v1.CardFunction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    /// 金融功能.
    Financial,
    /// 社保功能.
    Social,
}

impl Function {
    /// The function in an answer.
    pub const fn shown(self) -> CardFunction {
        match self {
            Self::Financial => CardFunction::Financial,
            Self::Social => CardFunction::Social,
        }
    }

    /// The function of a stored or sent number; the unspecified one is the social function.
    pub fn of(number: i32) -> Option<Self> {
        match CardFunction::try_from(number).ok()? {
            CardFunction::Unspecified | CardFunction::Social => Some(Self::Social),
            CardFunction::Financial => Some(Self::Financial),
            // No function of a card: it follows the social one.
            CardFunction::Electronic => None,
        }
    }
}

/// A parsed [`ReportLossRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LossReport {
    /// The idempotency key, within the reporting client.
    pub request_id: Uuid,
    /// The card.
    pub key: CardKey,
    /// Holder's name.
    pub name: HolderName,
    /// Temporary or formal, never unspecified.
    pub kind: LossKind,
    /// Function to block.
    pub function: Function,
    /// City where it is reported.
    pub reported_in: CityCode,
}

impl LossReport {
    /// Parses a request on a day.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn parse(request: &ReportLossRequest, today: Date) -> Result<Self, Vec<Violation>> {
        let mut faults = Violations::new();
        let request_id = faults.check("request_id", parse_request_id(&request.request_id));
        let key = CardKey::parse("key", request.key.as_ref(), today, &mut faults);
        let name = faults.check("name", HolderName::parse(&request.name));
        let kind = match LossKind::try_from(request.kind) {
            Ok(LossKind::Unspecified) | Err(_) => Err(Broken(&LOSS_KIND)),
            Ok(kind) => Ok(kind),
        };
        let kind = faults.check("kind", kind);
        let function = faults.check("function", parse_function(request.function));
        let reported_in = faults.check("reported_in", parse_city(&request.reported_in));
        let report = (|| {
            Some(Self {
                request_id: request_id?,
                key: key?,
                name: name?,
                kind: kind?,
                function: function?,
                reported_in: reported_in?,
            })
        })();
        match report {
            Some(report) if faults.is_empty() => Ok(report),
            _ => Err(faults.into_vec()),
        }
    }
}

pub(crate) fn parse_function(number: i32) -> Result<Function, Broken> {
    Function::of(number).ok_or(Broken(&FUNCTION))
}

/// What names a card, as text for digests: number, holder, chip; empty where it was not given.
pub(crate) fn key_parts(key: &CardKey) -> [&str; 3] {
    let number = match &key.lookup {
        Lookup::Number(number) => number.as_str(),
        Lookup::Chip(_) => "",
    };
    let holder = key.holder.as_ref().map_or("", |holder| holder.as_str());
    let chip = key.chip.as_ref().map_or("", |chip| chip.as_str());
    [number, holder, chip]
}

/// SHA-256 over parts, each after its length.
pub(crate) fn digest_parts(parts: &[&[u8]]) -> [u8; 32] {
    let mut text = Vec::new();
    for part in parts {
        text.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        text.extend_from_slice(part);
    }
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, &text).as_ref());
    bytes
}

pub(crate) fn parse_request_id(text: &str) -> Result<Uuid, Broken> {
    // Other forms of the same UUID would be other idempotency keys to whoever compares text.
    let id = Uuid::try_parse(text)
        .ok()
        .filter(|id| !id.is_nil() && text.len() == 36);
    id.ok_or(Broken(&REQUEST_ID))
}

pub(crate) fn parse_city(text: &str) -> Result<CityCode, Broken> {
    let kind = DivisionCode::parse(text)?
        .division()
        .map(|division| division.kind);
    match kind {
        Some(DivisionKind::City | DivisionKind::GuestCity) => {
            text.parse().map_err(|_| Broken(&REPORTED_IN))
        }
        _ => Err(Broken(&REPORTED_IN)),
    }
}

/// Where a watch begins: after a cursor that this service gave, or with the changes that come.
///
/// # Errors
/// It was not given by this service.
pub fn parse_cursor(cursor: &str) -> Result<FollowFrom, Vec<Violation>> {
    if cursor.is_empty() {
        return Ok(FollowFrom::Now);
    }
    let canonical = cursor.bytes().all(|byte| byte.is_ascii_digit())
        && (cursor == "0" || !cursor.starts_with('0'));
    match cursor.parse() {
        Ok(after) if canonical => Ok(FollowFrom::After(after)),
        _ => Err(vec![Violation {
            field: "cursor".into(),
            rule: &CURSOR,
        }]),
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    const TODAY: Date = date(2026, 11, 23);

    fn key(number: &str, holder: &str, chip: &str) -> Option<proto::CardKey> {
        Some(proto::CardKey {
            card_number: number.into(),
            social_security_number: holder.into(),
            card_identification_code: chip.into(),
        })
    }

    fn codes(faults: Vec<Violation>) -> Vec<(String, &'static str)> {
        faults
            .into_iter()
            .map(|fault| (fault.field.into_owned(), fault.rule.code))
            .collect()
    }

    #[test]
    fn a_card_is_named_in_two_ways() {
        let verify = |key| {
            Verify::parse(
                &VerifyCardRequest {
                    key,
                    ..VerifyCardRequest::default()
                },
                TODAY,
            )
            .map_err(codes)
        };
        let (holder, chip) = ("370202199001010007", "370200d156000005");
        let by_number = verify(key("T02000001", "", "")).unwrap().key;
        assert!(matches!(by_number.lookup, Lookup::Number(_)));
        let by_chip = verify(key("", holder, chip)).unwrap().key;
        assert_eq!(
            by_chip.lookup,
            Lookup::Chip(ChipCode::parse("370200D156000005").unwrap())
        );
        let all = verify(key("T02000001", holder, chip)).unwrap().key;
        assert!(
            matches!(all.lookup, Lookup::Number(_)) && all.holder.is_some() && all.chip.is_some()
        );
        for incomplete in [
            None,
            key("", "", ""),
            key("", holder, ""),
            key("", "", chip),
        ] {
            assert_eq!(verify(incomplete), Err(vec![("key".to_owned(), "KEY")]));
        }
        assert_eq!(
            verify(key("", "370202199001010008", chip)),
            Err(vec![(
                "key.social_security_number".to_owned(),
                "CITIZEN_ID_CHECK_DIGIT"
            )])
        );
    }

    #[test]
    fn a_report_names_every_fault_at_once() {
        let empty = ReportLossRequest {
            function: 7,
            ..ReportLossRequest::default()
        };
        assert_eq!(
            codes(LossReport::parse(&empty, TODAY).unwrap_err()),
            [
                ("request_id".to_owned(), "REQUEST_ID"),
                ("key".to_owned(), "KEY"),
                ("name".to_owned(), "HOLDER_NAME"),
                ("kind".to_owned(), "LOSS_KIND"),
                ("function".to_owned(), "FUNCTION"),
                ("reported_in".to_owned(), "DIVISION_FORM"),
            ]
        );
    }

    #[test]
    fn a_report_comes_from_a_city_or_a_guest() {
        let parse = |city: &str| {
            let request = ReportLossRequest {
                request_id: "01937f5e-8f5a-7c3e-9a44-1f2b3c4d5e6f".into(),
                key: key("T02000001", "", ""),
                name: "测试子安".into(),
                kind: LossKind::Formal.into(),
                function: 0,
                reported_in: city.into(),
            };
            LossReport::parse(&request, TODAY).map_err(codes)
        };
        assert_eq!(parse("371000").unwrap().function, Function::Social);
        assert!(parse("370500").is_ok());
        for bad in ["370202", "110000", "370671"] {
            assert_eq!(
                parse(bad),
                Err(vec![("reported_in".to_owned(), "REPORTED_IN")]),
                "{bad}"
            );
        }
    }

    #[test]
    fn cursors_are_canonical_numbers() {
        assert_eq!(parse_cursor("").unwrap(), FollowFrom::Now);
        assert_eq!(parse_cursor("0").unwrap(), FollowFrom::After(0));
        assert_eq!(parse_cursor("12").unwrap(), FollowFrom::After(12));
        for bad in ["-1", "+1", "01", "1 ", "a", "9223372036854775808"] {
            assert_eq!(
                codes(parse_cursor(bad).unwrap_err()),
                [("cursor".to_owned(), "CURSOR")]
            );
        }
    }
}
