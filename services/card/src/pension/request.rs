//! Requests, parsed field by field.

use aws_lc_rs::digest::{SHA256, digest};
use banqiao_directory::CityCode;
use banqiao_kit::{
    Broken, CallError, Rule, Violation, Violations,
    identifier::{CitizenId, DivisionCode, DivisionKind},
};
use banqiao_proto::card::v1::{
    AdvanceTransferRequest, ApplyTransferRequest, ConfirmFundsRequest, ContactLetter,
    DeliverDocumentRequest, FundsConfirmation, ParticipationCertificate, PensionScheme,
    advance_transfer_request::Decision,
};
use jiff::civil::Date;
use prost::Message;
use uuid::Uuid;

use super::{
    act::{Act, Asked, Document},
    amounts::{MOST_FEN, check_form, month},
    rule,
};
use crate::card::HolderName;

/// A parsed application.
#[derive(Clone, Debug, PartialEq)]
pub struct Application {
    /// The old city.
    pub from_city: CityCode,
    /// Whether the insured participates away from home for the first time.
    pub first_away_from_home: bool,
    /// What the letter will say, but for `funds_required`.
    pub letter: ContactLetter,
}

/// Parses an application to `city` on a day.
///
/// # Errors
/// Every field that breaks a rule.
pub fn parse_application(
    request: &ApplyTransferRequest,
    city: CityCode,
    today: Date,
) -> Result<Asked, Vec<Violation>> {
    let mut faults = Violations::new();
    let request_id = faults.check("request_id", uuid(&request.request_id, &rule::REQUEST_ID));
    let holder = holder(&request.social_security_number, today, &mut faults);
    let name = faults.check("name", HolderName::parse(&request.name));
    let from_city = other_city(&request.from_city, city);
    let from_city = faults.check("from_city", from_city);
    let schemes = schemes(request.from_scheme, request.to_scheme);
    let schemes = faults.check("to_scheme", schemes);
    check_certificate(
        "certificate",
        request.certificate.as_ref(),
        today,
        &mut faults,
    );
    let parsed = (|| {
        let (request_id, (from_scheme, to_scheme)) = (request_id?, schemes?);
        let letter = ContactLetter {
            name: name?.as_str().to_owned(),
            to_city: city.to_string(),
            from_scheme: from_scheme.into(),
            to_scheme: to_scheme.into(),
            certificate: request.certificate.clone(),
            funds_required: true,
        };
        let application = Application {
            from_city: from_city?,
            first_away_from_home: request.first_away_from_home,
            letter,
        };
        Some(Asked {
            request_id,
            transfer: request_id,
            holder: holder?,
            digest: digest_of(request),
            act: Act::Apply(application),
        })
    })();
    whole(parsed, faults)
}

/// Parses a decision of the own bureau.
///
/// # Errors
/// Every field that breaks a rule. Whether a table adds up depends on the scheme of the transfer, and is seen later.
pub fn parse_advance(
    request: &AdvanceTransferRequest,
    today: Date,
) -> Result<Asked, Vec<Violation>> {
    let mut faults = Violations::new();
    let named = named(
        (&request.request_id, &request.transfer_id),
        &request.social_security_number,
        today,
        &mut faults,
    );
    let mut reason = |field: &'static str, text: &str| faults.check(field, reason(text));
    let act = match &request.decision {
        None => {
            faults.add("decision", &rule::DECISION);
            None
        }
        Some(Decision::IssueLetter(_)) => Some(Act::IssueLetter),
        Some(Decision::Complete(_)) => Some(Act::Complete),
        Some(Decision::Refuse(text)) => reason("refuse.text", &text.text).map(Act::Refuse),
        Some(Decision::Decline(text)) => reason("decline.text", &text.text).map(Act::Decline),
        Some(Decision::Dispute(text)) => reason("dispute.text", &text.text).map(Act::Dispute),
        Some(Decision::Withdraw(text)) => reason("withdraw.text", &text.text).map(Act::Withdraw),
        Some(Decision::TransferOut(table)) => {
            check_form("transfer_out", table, today, &mut faults);
            Some(Act::TransferOut(table.clone()))
        }
    };
    whole(asked(named, act, digest_of(request)), faults)
}

/// Parses a confirmation of funds.
///
/// # Errors
/// Every field that breaks a rule.
pub fn parse_funds(request: &ConfirmFundsRequest, today: Date) -> Result<Asked, Vec<Violation>> {
    let mut faults = Violations::new();
    let named = named(
        (&request.request_id, &request.transfer_id),
        &request.social_security_number,
        today,
        &mut faults,
    );
    let confirmation = request.confirmation.clone().unwrap_or_default();
    check_funds(&confirmation, today, &mut faults);
    let act = Some(Act::ConfirmFunds(confirmation));
    whole(asked(named, act, digest_of(request)), faults)
}

fn check_funds(confirmation: &FundsConfirmation, today: Date, faults: &mut Violations) {
    let amount = confirmation.amount_fen;
    if amount <= 0 {
        faults.add("confirmation.amount_fen", &rule::FUNDS_AMOUNT);
    } else if amount > MOST_FEN {
        faults.add("confirmation.amount_fen", &rule::AMOUNT);
    }
    let day: Option<Date> = confirmation.credited_on.parse().ok();
    let canonical = |day: &Date| day.to_string() == confirmation.credited_on && *day <= today;
    if !day.as_ref().is_some_and(canonical) {
        faults.add("confirmation.credited_on", &rule::DAY);
    }
    let reference = reference(&confirmation.bank_reference);
    faults.check("confirmation.bank_reference", reference);
}

/// Parses a document for `city`.
///
/// # Errors
/// Every field that breaks a rule.
pub fn parse_delivery(
    request: &DeliverDocumentRequest,
    city: CityCode,
    today: Date,
) -> Result<Asked, Vec<Violation>> {
    let mut faults = Violations::new();
    let named = named(
        (&request.request_id, &request.transfer_id),
        &request.social_security_number,
        today,
        &mut faults,
    );
    let from_city = other_city(&request.from_city, city);
    let from_city = faults.check("from_city", from_city);
    match &request.document {
        None => faults.add("document", &rule::DECISION),
        Some(Document::ContactLetter(letter)) => check_letter(letter, today, &mut faults),
        Some(Document::InformationTable(table)) => {
            check_form("information_table", table, today, &mut faults);
        }
        Some(
            Document::DeclineNotice(text)
            | Document::CorrectionRequest(text)
            | Document::Withdrawal(text),
        ) => {
            faults.check("document.text", reason(&text.text));
        }
        Some(Document::CompletionNotice(_)) => {}
    }
    let act = (|| Some(Act::Receive(from_city?, request.document.clone()?)))();
    whole(asked(named, act, digest_of(request)), faults)
}

fn check_letter(letter: &ContactLetter, today: Date, faults: &mut Violations) {
    faults.check("contact_letter.name", HolderName::parse(&letter.name));
    let to_city = letter.to_city.parse::<CityCode>();
    faults.check(
        "contact_letter.to_city",
        to_city.map_err(|_| Broken(&rule::FROM_CITY)),
    );
    let schemes = schemes(letter.from_scheme, letter.to_scheme);
    faults.check("contact_letter.to_scheme", schemes);
    let certificate = letter.certificate.as_ref();
    check_certificate("contact_letter.certificate", certificate, today, faults);
}

fn check_certificate(
    field: &'static str,
    certificate: Option<&ParticipationCertificate>,
    today: Date,
    faults: &mut Violations,
) {
    let Some(certificate) = certificate else {
        faults.add(field, &rule::CERTIFICATE);
        return;
    };
    let number = reference(&certificate.number);
    faults.check(format!("{field}.number"), number);
    if month(&certificate.first_month, today).is_none() {
        faults.add(format!("{field}.first_month"), &rule::MONTH);
    }
    if !(0..=MOST_FEN).contains(&certificate.account_fen) {
        faults.add(format!("{field}.account_fen"), &rule::AMOUNT);
    }
}

/// Request id, transfer and person.
fn named(
    (request_id, transfer): (&str, &str),
    number: &str,
    today: Date,
    faults: &mut Violations,
) -> Option<(Uuid, Uuid, CitizenId)> {
    let request_id = faults.check("request_id", uuid(request_id, &rule::REQUEST_ID));
    let transfer = faults.check("transfer_id", uuid(transfer, &rule::TRANSFER_ID));
    let holder = holder(number, today, faults);
    Some((request_id?, transfer?, holder?))
}

fn asked(
    named: Option<(Uuid, Uuid, CitizenId)>,
    act: Option<Act>,
    digest: [u8; 32],
) -> Option<Asked> {
    let (request_id, transfer, holder) = named?;
    Some(Asked {
        request_id,
        transfer,
        holder,
        digest,
        act: act?,
    })
}

fn whole<T>(parsed: Option<T>, faults: Violations) -> Result<T, Vec<Violation>> {
    match parsed {
        Some(parsed) if faults.is_empty() => Ok(parsed),
        _ => Err(faults.into_vec()),
    }
}

pub(super) fn holder(number: &str, today: Date, faults: &mut Violations) -> Option<CitizenId> {
    let parsed = CitizenId::parse(number, today);
    faults.check("social_security_number", parsed)
}

/// A UUID in its hyphenated form: another form of the same one would be another key to whoever compares text.
pub(super) fn uuid(text: &str, rule: &'static Rule) -> Result<Uuid, Broken> {
    let id = Uuid::try_parse(text).ok();
    let id = id.filter(|id| !id.is_nil() && id.to_string() == text);
    id.ok_or(Broken(rule))
}

fn reason(text: &str) -> Result<String, Broken> {
    let sound = (1..=500).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    sound.then(|| text.to_owned()).ok_or(Broken(&rule::REASON))
}

fn reference(text: &str) -> Result<(), Broken> {
    let sound = (1..=64).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    sound.then_some(()).ok_or(Broken(&rule::REFERENCE))
}

fn other_city(text: &str, own: CityCode) -> Result<CityCode, Broken> {
    let broken = Broken(&rule::FROM_CITY);
    let division = DivisionCode::parse(text).map_err(|_| Broken(&rule::FROM_CITY))?;
    let kind = division.division().map(|division| division.kind);
    let city: CityCode = text.parse().map_err(|_| Broken(&rule::FROM_CITY))?;
    match kind {
        Some(DivisionKind::City | DivisionKind::GuestCity) if city != own => Ok(city),
        _ => Err(broken),
    }
}

/// The schemes of the old and the new city.
pub(super) fn schemes(from: i32, to: i32) -> Result<(PensionScheme, PensionScheme), Broken> {
    let known = |number| PensionScheme::try_from(number).map_err(|_| Broken(&rule::SCHEMES));
    match (known(from)?, known(to)?) {
        pair @ ((PensionScheme::Employee, PensionScheme::Employee | PensionScheme::Resident)
        | (PensionScheme::Resident, PensionScheme::Employee)) => Ok(pair),
        _ => Err(Broken(&rule::SCHEMES)),
    }
}

fn digest_of(request: &impl Message) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, &request.encode_to_vec()).as_ref());
    bytes
}

/// The fault of a cursor that this service did not give.
fn unknown_cursor() -> CallError {
    CallError::CallerInvalid(vec![Violation {
        field: "cursor".into(),
        rule: &rule::CURSOR,
    }])
}

/// Parses a cursor; an empty one is before the first event.
pub(super) fn parse_cursor(text: &str) -> Result<i64, CallError> {
    let canonical = text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() < 2 || !text.starts_with('0'));
    match text {
        "" => Ok(0),
        text if canonical => text.parse().map_err(|_| unknown_cursor()),
        _ => Err(unknown_cursor()),
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    const TODAY: Date = date(2026, 11, 28);

    fn codes(faults: Vec<Violation>) -> Vec<(String, &'static str)> {
        let faults = faults.into_iter();
        faults
            .map(|fault| (fault.field.into_owned(), fault.rule.code))
            .collect()
    }

    #[test]
    fn every_fault_of_an_application_is_named_at_once() {
        let qingdao = "370200".parse().unwrap();
        let request = ApplyTransferRequest {
            from_city: "370200".into(),
            from_scheme: 2,
            to_scheme: 2,
            ..ApplyTransferRequest::default()
        };
        assert_eq!(
            codes(parse_application(&request, qingdao, TODAY).unwrap_err()),
            [
                ("request_id".to_owned(), "TRANSFER_REQUEST_ID"),
                ("social_security_number".to_owned(), "CITIZEN_ID_LENGTH"),
                ("name".to_owned(), "HOLDER_NAME"),
                ("from_city".to_owned(), "TRANSFER_CITY"),
                ("to_scheme".to_owned(), "TRANSFER_SCHEMES"),
                ("certificate".to_owned(), "PARTICIPATION_CERTIFICATE"),
            ]
        );
    }

    #[test]
    fn a_decision_needs_its_reason_and_funds_their_day() {
        let empty = AdvanceTransferRequest::default();
        let faults = codes(parse_advance(&empty, TODAY).unwrap_err());
        assert_eq!(
            faults.last(),
            Some(&("decision".to_owned(), "TRANSFER_DECISION"))
        );
        let refuse = AdvanceTransferRequest {
            decision: Some(Decision::Refuse(Default::default())),
            ..empty
        };
        let faults = codes(parse_advance(&refuse, TODAY).unwrap_err());
        assert_eq!(
            faults.last(),
            Some(&("refuse.text".to_owned(), "WRITTEN_REASON"))
        );
        let funds = ConfirmFundsRequest {
            confirmation: Some(FundsConfirmation {
                amount_fen: 0,
                credited_on: "2026-11-29".into(),
                bank_reference: String::new(),
            }),
            ..ConfirmFundsRequest::default()
        };
        let faults = codes(parse_funds(&funds, TODAY).unwrap_err());
        let last: Vec<_> = faults[3..].iter().map(|(_, code)| *code).collect();
        assert_eq!(
            last,
            ["CREDITED_AMOUNT", "TRANSFER_DAY", "TRANSFER_REFERENCE"]
        );
    }

    #[test]
    fn cursors_are_canonical() {
        for (text, cursor) in [("", 0), ("0", 0), ("12", 12)] {
            assert_eq!(parse_cursor(text).unwrap(), cursor);
        }
        for bad in ["-1", "01", "a", "9223372036854775808"] {
            assert!(parse_cursor(bad).is_err(), "{bad}");
        }
    }
}
