//! Requests, parsed field by field.

use aws_lc_rs::digest::{SHA256, digest};
use banqiao_directory::CityCode;
use banqiao_kit::{
    Broken, CallError, Rule, Violation, Violations, civil_date, document::DeclaredDocument,
    identifier::CitizenId,
};
use banqiao_proto::lab::v1::{
    ActOnReferralRequest, CreateReferralRequest, DeliverReferralRequest, ReferralAcceptance,
    ReferralContent, ReferralDiagnosis, ReferralDirection, ReferralDocument, ReferralDocumentKind,
    ReferralFeedback, ReferralLetter, ReferralUrgency, act_on_referral_request::Step as Asks,
};
use jiff::civil::Date;
use uuid::Uuid;

use super::{
    act::{Act, Asked, Message},
    documents::REFERRAL_DOCUMENTS,
    rule, us_of,
};
use crate::{
    institution::{Institution, Institutions},
    report::ReportKey,
};

/// Documents that a referral has at most.
pub(super) const MOST_DOCUMENTS: usize = 50;
/// Longest time for which a slot is held.
const LONGEST_HOLD_US: i64 = 30 * 24 * 3_600 * 1_000_000;
const SHORT: usize = 200;
const LONG: usize = 4_000;

/// Parses a draft.
///
/// # Errors
/// Every field that breaks a rule.
pub fn parse_create(
    request: &CreateReferralRequest,
    institutions: &Institutions,
    now_us: i64,
) -> Result<Asked, Vec<Violation>> {
    let mut faults = Violations::new();
    let request_id = faults.check("request_id", uuid(&request.request_id, &rule::REQUEST_ID));
    match &request.content {
        None => faults.add("content", &rule::STEP),
        Some(content) => {
            check_content(content, "content", institutions, now_us, &mut faults);
        }
    }
    let content = request.content.clone().unwrap_or_default();
    whole(faults, request_id, |request_id| Asked {
        request_id,
        referral: request_id,
        digest: digest_of(request),
        from: None,
        act: Act::Create(Box::new(content)),
    })
}

/// Parses a step of a hospital.
///
/// # Errors
/// Every field that breaks a rule.
pub fn parse_act(
    request: &ActOnReferralRequest,
    institutions: &Institutions,
    now_us: i64,
) -> Result<Asked, Vec<Violation>> {
    let mut faults = Violations::new();
    let request_id = faults.check("request_id", uuid(&request.request_id, &rule::REQUEST_ID));
    let referral = faults.check(
        "referral_id",
        uuid(&request.referral_id, &rule::REFERRAL_ID),
    );
    let act = match &request.step {
        None => {
            faults.add("step", &rule::STEP);
            None
        }
        Some(Asks::Revise(content)) => {
            check_content(content, "revise", institutions, now_us, &mut faults);
            Some(Act::Revise(Box::new(content.clone())))
        }
        Some(Asks::Send(_)) => Some(Act::Send),
        Some(Asks::Cancel(reason)) => {
            checked_reason("cancel.text", &reason.text, &mut faults).map(Act::Cancel)
        }
        Some(Asks::Accept(acceptance)) => {
            check_acceptance(acceptance, Some(now_us), &mut faults);
            Some(Act::Accept(acceptance.clone()))
        }
        Some(Asks::Reject(reason)) => {
            checked_reason("reject.text", &reason.text, &mut faults).map(Act::Reject)
        }
        Some(Asks::Arrive(_)) => Some(Act::Arrive),
        Some(Asks::BeginCare(_)) => Some(Act::BeginCare),
        Some(Asks::FeedBack(feedback)) => {
            check_feedback(feedback, now_us, &mut faults);
            Some(Act::FeedBack(ReferralFeedback {
                documents: Vec::new(),
                ..feedback.clone()
            }))
        }
        Some(Asks::Close(_)) => Some(Act::Close),
    };
    let named = request_id.zip(referral).zip(act);
    whole(faults, named, |((request_id, referral), act)| Asked {
        request_id,
        referral,
        digest: digest_of(request),
        from: None,
        act,
    })
}

/// Parses a message of another city's service.
///
/// # Errors
/// Every field that breaks a rule.
pub fn parse_delivery(
    request: &DeliverReferralRequest,
    institutions: &Institutions,
    now_us: i64,
) -> Result<Asked, Vec<Violation>> {
    let mut faults = Violations::new();
    let request_id = faults.check("request_id", uuid(&request.request_id, &rule::REQUEST_ID));
    let referral = faults.check(
        "referral_id",
        uuid(&request.referral_id, &rule::REFERRAL_ID),
    );
    let from: Result<CityCode, _> = request.from_city.parse().map_err(|_| Broken(&rule::CITY));
    let from = faults.check("from_city", from);
    let act = match &request.step {
        None => {
            faults.add("step", &rule::STEP);
            None
        }
        Some(Message::Letter(letter)) => {
            check_letter(letter, institutions, now_us, &mut faults);
            Some(Act::Letter(Box::new(letter.clone())))
        }
        Some(Message::Cancel(reason)) => {
            checked_reason("cancel.text", &reason.text, &mut faults).map(Act::Cancel)
        }
        Some(Message::Close(_)) => Some(Act::Close),
        Some(Message::Accept(acceptance)) => {
            // The other city's clock decides about its slots.
            check_acceptance(acceptance, None, &mut faults);
            Some(Act::Accept(acceptance.clone()))
        }
        Some(Message::Reject(reason)) => {
            checked_reason("reject.text", &reason.text, &mut faults).map(Act::Reject)
        }
        Some(Message::Expire(_)) => Some(Act::Expire),
        Some(Message::Arrive(_)) => Some(Act::Arrive),
        Some(Message::BeginCare(_)) => Some(Act::BeginCare),
        Some(Message::FeedBack(feedback)) => {
            check_feedback(feedback, now_us, &mut faults);
            check_documents(&feedback.documents, "feed_back.documents", &mut faults);
            Some(Act::FeedBack(feedback.clone()))
        }
    };
    let named = request_id.zip(referral).zip(act).zip(from);
    whole(faults, named, |(((request_id, referral), act), from)| {
        Asked {
            request_id,
            referral,
            digest: digest_of(request),
            from: Some(from),
            act,
        }
    })
}

fn whole<T>(
    faults: Violations,
    named: Option<T>,
    asked: impl FnOnce(T) -> Asked,
) -> Result<Asked, Vec<Violation>> {
    match named.filter(|_| faults.is_empty()) {
        Some(named) => Ok(asked(named)),
        None => Err(faults.into_vec()),
    }
}

/// Both institutions of a content.
pub(super) fn parties<'a>(
    content: &ReferralContent,
    institutions: &'a Institutions,
) -> Result<(&'a Institution, &'a Institution), Broken> {
    let from = institutions.find(&content.from_institution);
    let to = institutions.find(&content.to_institution);
    match (from, to) {
        (Ok(from), Ok(to)) if from.credit_code != to.credit_code => Ok((from, to)),
        _ => Err(Broken(&rule::INSTITUTIONS)),
    }
}

fn check_content(
    content: &ReferralContent,
    path: &str,
    institutions: &Institutions,
    now_us: i64,
    faults: &mut Violations,
) {
    let at = |name: &str| format!("{path}.{name}");
    let today = civil_date(now_us);
    faults.check(
        at("citizen_id"),
        CitizenId::parse(&content.citizen_id, today),
    );
    if !is_text(&content.name, 60) {
        faults.add(at("name"), &rule::NAME);
    }
    let direction = content.direction();
    let parties = faults.check(at("to_institution"), parties(content, institutions));
    let fits = match (direction, parties) {
        (ReferralDirection::Unspecified, _) => false,
        (_, None) => true,
        (ReferralDirection::Up, Some((from, to))) => to.level >= from.level,
        (ReferralDirection::Down, Some((from, to))) => to.level <= from.level,
    };
    if !fits {
        faults.add(at("direction"), &rule::DIRECTION);
    }
    check_texts(content, path, faults);
    check_diagnoses(&content.diagnoses, &at("diagnoses"), faults);
    if content.urgency() == ReferralUrgency::Unspecified {
        faults.add(at("urgency"), &rule::URGENCY);
    }
    let sound = |report: &banqiao_proto::lab::v1::ReferralReport| {
        ReportKey::parse(&report.institution, &report.report_number).is_ok()
    };
    if content.reports.len() > 50 || !content.reports.iter().all(sound) {
        faults.add(at("reports"), &rule::REPORTS);
    }
    let (consent, basis) = (&content.consent_reference, &content.statutory_basis);
    let reference = if consent.is_empty() { basis } else { consent };
    if consent.is_empty() == basis.is_empty() || !is_text(reference, SHORT) {
        faults.add(at("consent_reference"), &rule::BASIS);
    }
}

fn check_texts(content: &ReferralContent, path: &str, faults: &mut Violations) {
    let at = |name: &str| format!("{path}.{name}");
    let optional = |text: &str, most| text.is_empty() || is_text(text, most);
    for (name, sound) in [
        ("phone", optional(&content.phone, SHORT)),
        ("department", is_text(&content.department, SHORT)),
        ("reason", is_text(&content.reason, LONG)),
        (
            "insurance_filing",
            optional(&content.insurance_filing, SHORT),
        ),
    ] {
        if !sound {
            faults.add(at(name), &rule::TEXT);
        }
    }
    let medications = &content.medications;
    let sound = medications.len() <= 50
        && medications
            .iter()
            .all(|one| is_text(&one.name, SHORT) && is_text(&one.usage, SHORT));
    let down = content.direction() == ReferralDirection::Down;
    let plan = if down {
        is_text(&content.treatment_plan, LONG)
    } else {
        optional(&content.treatment_plan, LONG)
    };
    if !plan {
        faults.add(at("treatment_plan"), &rule::PLAN);
    }
    if !sound || down && medications.is_empty() {
        faults.add(at("medications"), &rule::PLAN);
    }
}

fn check_diagnoses(diagnoses: &[ReferralDiagnosis], path: &str, faults: &mut Violations) {
    if !(1..=20).contains(&diagnoses.len()) {
        faults.add(path.to_owned(), &rule::DIAGNOSES);
    }
    for (place, diagnosis) in diagnoses.iter().take(20).enumerate() {
        if !is_icd10(&diagnosis.icd10) {
            faults.add(format!("{path}[{place}].icd10"), &rule::ICD);
        }
        if !is_text(&diagnosis.text, SHORT) {
            faults.add(format!("{path}[{place}].text"), &rule::TEXT);
        }
    }
}

fn check_letter(
    letter: &ReferralLetter,
    institutions: &Institutions,
    now_us: i64,
    faults: &mut Violations,
) {
    match &letter.content {
        None => faults.add("letter.content", &rule::STEP),
        Some(content) => check_content(content, "letter.content", institutions, now_us, faults),
    }
    check_documents(&letter.documents, "letter.documents", faults);
}

fn check_documents(documents: &[ReferralDocument], path: &str, faults: &mut Violations) {
    if documents.len() > MOST_DOCUMENTS {
        faults.add(path.to_owned(), &rule::DOCUMENTS);
    }
    for (place, document) in documents.iter().take(MOST_DOCUMENTS).enumerate() {
        check_document(document, &format!("{path}[{place}]."), faults);
    }
}

/// What is declared of a document. `path` ends in a dot.
pub(super) fn check_document(
    document: &ReferralDocument,
    path: &str,
    faults: &mut Violations,
) -> Option<DeclaredDocument> {
    if document.kind() == ReferralDocumentKind::Unspecified {
        faults.add(format!("{path}kind"), &rule::DOCUMENT_KIND);
    }
    if !is_text(&document.title, SHORT) {
        faults.add(format!("{path}title"), &rule::TEXT);
    }
    let declared = (
        document.sha256.as_slice(),
        document.size,
        document.content_type.as_str(),
    );
    DeclaredDocument::parse(&REFERRAL_DOCUMENTS, declared, path, faults)
}

fn check_acceptance(acceptance: &ReferralAcceptance, now_us: Option<i64>, faults: &mut Violations) {
    for (field, text) in [
        ("accept.department", &acceptance.department),
        ("accept.slot", &acceptance.slot),
    ] {
        if !is_text(text, SHORT) {
            faults.add(field, &rule::TEXT);
        }
    }
    let until = acceptance.hold_until.as_ref().map(us_of);
    let sound = until.is_some_and(|until| {
        now_us.is_none_or(|now_us| until > now_us && until <= now_us + LONGEST_HOLD_US)
    });
    if !sound {
        faults.add("accept.hold_until", &rule::HOLD);
    }
}

fn check_feedback(feedback: &ReferralFeedback, now_us: i64, faults: &mut Violations) {
    let day: Option<Date> = feedback.discharged_on.parse().ok();
    let day = day.filter(|day| *day <= civil_date(now_us) && feedback.discharged_on.len() == 10);
    if day.is_none() {
        faults.add("feed_back.discharged_on", &rule::DAY);
    }
    check_diagnoses(&feedback.diagnoses, "feed_back.diagnoses", faults);
    if !is_text(&feedback.summary, LONG) {
        faults.add("feed_back.summary", &rule::TEXT);
    }
    if !feedback.advice.is_empty() && !is_text(&feedback.advice, LONG) {
        faults.add("feed_back.advice", &rule::TEXT);
    }
}

fn checked_reason(field: &'static str, text: &str, faults: &mut Violations) -> Option<String> {
    let sound = is_text(text, 500).then(|| text.to_owned());
    faults.check(field, sound.ok_or(Broken(&rule::REASON)))
}

fn is_text(text: &str, most: usize) -> bool {
    let written = |character: char| !character.is_control() || character == '\n';
    (1..=most).contains(&text.chars().count()) && text.chars().all(written)
}

/// Letter, two digits, and up to 8 of `0-9x` after a dot; a dagger or an asterisk may follow.
fn is_icd10(code: &str) -> bool {
    let code = code.strip_suffix(['+', '*']).unwrap_or(code);
    let (head, tail) = match code.split_once('.') {
        None => (code, None),
        Some((head, tail)) => (head, Some(tail)),
    };
    let head_fits = matches!(head.as_bytes(), [b'A'..=b'Z', b'0'..=b'9', b'0'..=b'9']);
    let tail_fits = tail.is_none_or(|tail| {
        (1..=8).contains(&tail.len())
            && tail
                .bytes()
                .all(|byte| byte.is_ascii_digit() || byte == b'x')
    });
    head_fits && tail_fits
}

/// A UUID in its one form.
pub(super) fn uuid(text: &str, rule: &'static Rule) -> Result<Uuid, Broken> {
    // Other forms of the same UUID would be other idempotency keys to whoever compares text.
    let id = Uuid::try_parse(text).ok();
    id.filter(|id| !id.is_nil() && text.len() == 36)
        .ok_or(Broken(rule))
}

/// The number of a referral that somebody wants to see.
pub(super) fn referral_id(text: &str) -> Result<Uuid, CallError> {
    let mut faults = Violations::new();
    let id = faults.check("referral_id", uuid(text, &rule::REFERRAL_ID));
    id.ok_or_else(|| CallError::CallerInvalid(faults.into_vec()))
}

fn digest_of(request: &impl prost::Message) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, &request.encode_to_vec()).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_diagnoses_have_the_form_of_the_clinical_edition() {
        for sound in [
            "I10",
            "I10.x00x002",
            "E11.900",
            "J18.900x001",
            "A17.0+",
            "G01*",
        ] {
            assert!(is_icd10(sound), "{sound}");
        }
        for faulty in ["", "i10", "I1", "I10.", "I10.9a", "高血压", "I10.123456789"] {
            assert!(!is_icd10(faulty), "{faulty}");
        }
    }
}
