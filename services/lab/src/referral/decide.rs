//! Decisions about a referral: pure functions from what stands and what is asked to what stands next.

use std::borrow::Cow;

use banqiao_directory::CityCode;
use banqiao_proto::lab::v1::{
    Referral, ReferralContent, ReferralFeedback, ReferralLetter, ReferralMark, ReferralReason,
    ReferralStatus as Status, ReferralUrgency,
};

use super::{
    act::{Act, Asked, Message, ReferralError},
    request::{MOST_DOCUMENTS, parties},
    rule,
    state::{Party, Step, row_of},
    us_of,
};
use crate::{institution::Institutions, report::timestamp};

const HOUR_US: i64 = 3_600 * 1_000_000;

/// What decisions rest on beside the record.
pub(super) struct Ground<'a> {
    pub(super) city: CityCode,
    pub(super) now_us: i64,
    pub(super) institutions: &'a Institutions,
}

/// What is decided.
#[derive(Debug)]
pub(super) struct Decided {
    /// The referral afterwards.
    pub(super) record: Referral,
    /// What happened; none where a message changes nothing.
    pub(super) event: Option<Cow<'static, str>>,
    /// What the other city is told.
    pub(super) message: Option<Message>,
}

/// Decides about a request. `stored` is the referral as it stands, if there is one.
pub(super) fn decide(
    ground: &Ground<'_>,
    stored: Option<&Referral>,
    asked: &Asked,
) -> Result<Decided, ReferralError> {
    match &asked.act {
        Act::Create(content) => begin(ground, stored, asked, content, Status::Draft),
        Act::Letter(letter) => receive_letter(ground, stored, asked, letter),
        _ => {
            let record = stored.cloned().ok_or(ReferralError::CallerUnknown)?;
            go_on(ground, record, asked)
        }
    }
}

/// When the receiving city's service ends a referral by itself; none where nothing runs out, or the other city decides about it.
pub(super) fn due_us(record: &Referral, city: CityCode) -> Option<i64> {
    if record.to_city != city.as_str() {
        return None;
    }
    match record.status() {
        Status::Sent => record.answer_by.as_ref().map(us_of),
        Status::Accepted => {
            let acceptance = record.acceptance.as_ref()?;
            acceptance.hold_until.as_ref().map(us_of)
        }
        _ => None,
    }
}

fn begin(
    ground: &Ground<'_>,
    stored: Option<&Referral>,
    asked: &Asked,
    content: &ReferralContent,
    status: Status,
) -> Result<Decided, ReferralError> {
    let step = asked.act.step().unwrap_or(Step::Create);
    if let Some(stored) = stored {
        let status = Some(stored.status());
        return Err(ReferralError::CallerTransition { status, step });
    }
    let parties = parties(content, ground.institutions);
    let (from, to) = parties.map_err(|broken| ReferralError::CallerField("content", broken.0))?;
    let record = Referral {
        referral_id: asked.referral.to_string(),
        content: Some(content.clone()),
        from_city: from.city.to_string(),
        to_city: to.city.to_string(),
        status: status.into(),
        ..Referral::default()
    };
    Ok(Decided {
        record,
        event: Some(step.code().into()),
        message: None,
    })
}

fn receive_letter(
    ground: &Ground<'_>,
    stored: Option<&Referral>,
    asked: &Asked,
    letter: &ReferralLetter,
) -> Result<Decided, ReferralError> {
    let content = letter.content.as_ref();
    let content = content.ok_or(ReferralError::CallerField("letter.content", &rule::STEP))?;
    let mut decided = begin(ground, stored, asked, content, Status::Sent)?;
    let record = &mut decided.record;
    let between = (record.from_city.as_str(), record.to_city.as_str());
    let from = asked.from.as_ref().map(CityCode::as_str);
    if from != Some(between.0) || between.1 != ground.city.as_str() || between.0 == between.1 {
        return Err(ReferralError::CallerField("from_city", &rule::CITY));
    }
    let own = |document: &banqiao_proto::lab::v1::ReferralDocument| {
        document.institution == content.from_institution
    };
    if !letter.documents.iter().all(own) {
        return Err(ReferralError::CallerField(
            "letter.documents",
            &rule::DOCUMENTS,
        ));
    }
    record.documents.clone_from(&letter.documents);
    record.sent_at = letter.sent_at;
    record.answer_by = Some(timestamp(ground.now_us + answer_limit(content)));
    Ok(decided)
}

fn answer_limit(content: &ReferralContent) -> i64 {
    match content.urgency() {
        ReferralUrgency::Emergency => 2 * HOUR_US,
        ReferralUrgency::Urgent => 24 * HOUR_US,
        ReferralUrgency::Routine | ReferralUrgency::Unspecified => 7 * 24 * HOUR_US,
    }
}

fn go_on(
    ground: &Ground<'_>,
    mut record: Referral,
    asked: &Asked,
) -> Result<Decided, ReferralError> {
    let status = record.status();
    let Some(step) = asked.act.step() else {
        return attach(record, asked);
    };
    let refused = ReferralError::CallerTransition {
        status: Some(status),
        step,
    };
    let across = record.from_city != record.to_city;
    let row = row_of(Some(status), step);
    if let Act::Cancel(reason) = &asked.act {
        let decides = !across || record.to_city == ground.city.as_str();
        match row {
            // Too late is an answer, and no fault: the referring city reads it from the status.
            None if asked.from.is_some() => {
                return Ok(Decided {
                    record,
                    event: None,
                    message: None,
                });
            }
            Some(_) if !decides && status != Status::Draft => {
                return ask_cancellation(record, reason, refused);
            }
            _ => {}
        }
    }
    let row = row.ok_or(refused)?;
    let message = apply(ground, &mut record, asked)?;
    record.status = row.to.into();
    let told = across && asked.from.is_none() && status != Status::Draft || step == Step::Send;
    Ok(Decided {
        record,
        event: Some(step.code().into()),
        message: message.filter(|_| told && across),
    })
}

fn ask_cancellation(
    mut record: Referral,
    reason: &str,
    refused: ReferralError,
) -> Result<Decided, ReferralError> {
    if record.cancellation_asked {
        return Err(refused);
    }
    record.cancellation_asked = true;
    reason.clone_into(&mut record.reason);
    Ok(Decided {
        record,
        event: Some("cancellation-asked".into()),
        message: Some(Message::Cancel(written(reason))),
    })
}

/// Writes what a step brings, and gives what the other city is told of it.
fn apply(
    ground: &Ground<'_>,
    record: &mut Referral,
    asked: &Asked,
) -> Result<Option<Message>, ReferralError> {
    let mark = ReferralMark {};
    Ok(match &asked.act {
        Act::Accept(acceptance) => {
            record.acceptance = Some(acceptance.clone());
            Some(Message::Accept(acceptance.clone()))
        }
        Act::Arrive => Some(Message::Arrive(mark)),
        Act::BeginCare => Some(Message::BeginCare(mark)),
        Act::Cancel(reason) => {
            reason.clone_into(&mut record.reason);
            record.cancellation_asked = false;
            None
        }
        Act::Close => Some(Message::Close(mark)),
        Act::Expire => Some(Message::Expire(mark)),
        Act::FeedBack(feedback) => Some(Message::FeedBack(feed_back(record, asked, feedback)?)),
        Act::Reject(reason) => {
            reason.clone_into(&mut record.reason);
            Some(Message::Reject(written(reason)))
        }
        Act::Revise(content) => {
            let mut revised = begin(ground, None, asked, content, Status::Draft)?.record;
            revised.documents = std::mem::take(&mut record.documents);
            let from = |record: &Referral| {
                let content = record.content.as_ref();
                content.map(|content| content.from_institution.clone())
            };
            if from(&revised) != from(record) {
                return Err(ReferralError::CallerField(
                    "revise.from_institution",
                    &rule::INSTITUTIONS,
                ));
            }
            *record = revised;
            None
        }
        Act::Send => {
            let content = record.content.clone().unwrap_or_default();
            record.sent_at = Some(timestamp(ground.now_us));
            record.answer_by = Some(timestamp(ground.now_us + answer_limit(&content)));
            record.reason.clear();
            Some(Message::Letter(ReferralLetter {
                content: Some(content),
                documents: record.documents.clone(),
                sent_at: record.sent_at,
            }))
        }
        Act::Attach(_) | Act::Create(_) | Act::Letter(_) => None,
    })
}

fn feed_back(
    record: &mut Referral,
    asked: &Asked,
    feedback: &ReferralFeedback,
) -> Result<ReferralFeedback, ReferralError> {
    let content = record.content.as_ref();
    let receiving = content.map_or("", |content| content.to_institution.as_str());
    let mut feedback = feedback.clone();
    if asked.from.is_none() {
        let documents = record.documents.iter();
        let own = documents.filter(|document| document.institution == receiving);
        feedback.documents = own.cloned().collect();
    } else if feedback
        .documents
        .iter()
        .any(|document| document.institution != receiving)
    {
        let field = "feed_back.documents";
        return Err(ReferralError::CallerField(field, &rule::DOCUMENTS));
    } else {
        record.documents.extend(feedback.documents.iter().cloned());
    }
    record.feedback = Some(feedback.clone());
    Ok(feedback)
}

fn attach(mut record: Referral, asked: &Asked) -> Result<Decided, ReferralError> {
    let Act::Attach(document) = &asked.act else {
        return Err(ReferralError::CallerUnknown);
    };
    let content = record.content.clone().unwrap_or_default();
    let party = if document.institution == content.from_institution {
        Party::Referring
    } else {
        Party::Receiving
    };
    let open = match party {
        Party::Referring => record.status() == Status::Draft,
        Party::Receiving => matches!(record.status(), Status::Arrived | Status::InCare),
    };
    if !open {
        return Err(ReferralError::CallerAttachment(
            "this hospital attaches no document in this status",
        ));
    }
    let mut there = record.documents.iter();
    if there.any(|one| one.sha256 == document.sha256 && one.institution == document.institution) {
        return Ok(Decided {
            record,
            event: None,
            message: None,
        });
    }
    let own = record.documents.iter();
    if own
        .filter(|one| one.institution == document.institution)
        .count()
        >= MOST_DOCUMENTS
    {
        return Err(ReferralError::CallerAttachment(
            "50 documents of this hospital are attached",
        ));
    }
    record.documents.push(document.clone());
    Ok(Decided {
        record,
        event: Some("document-attached".into()),
        message: None,
    })
}

/// The other city's service answered a message, with its status or by saying that it will never take it.
pub(super) fn carried(
    mut record: Referral,
    kind: &str,
    outcome: &Result<Status, String>,
) -> Decided {
    let taken = if outcome.is_ok() {
        "delivered"
    } else {
        "returned"
    };
    let mut event: Cow<'static, str> = format!("{kind}-{taken}").into();
    match (kind, outcome) {
        ("letter", Err(why)) if record.status() == Status::Sent => {
            record.status = Status::Draft.into();
            record.reason = why.chars().take(500).collect();
            (record.sent_at, record.answer_by) = (None, None);
            event = Step::Return.code().into();
        }
        ("cancel", outcome) => {
            record.cancellation_asked = false;
            let row = row_of(Some(record.status()), Step::Cancel);
            let stands = outcome
                .as_ref()
                .map_or(true, |status| *status == Status::Cancelled);
            match row.filter(|_| stands) {
                Some(row) => {
                    record.status = row.to.into();
                    event = Step::Cancel.code().into();
                }
                None => {
                    record.reason.clear();
                    event = "cancellation-late".into();
                }
            }
        }
        _ => {}
    }
    Decided {
        record,
        event: Some(event),
        message: None,
    }
}

/// How a message is called in the outbox and in histories.
pub(super) const fn kind_of(message: &Message) -> &'static str {
    match message {
        Message::Accept(_) => "acceptance",
        Message::Arrive(_) => "arrival",
        Message::BeginCare(_) => "care",
        Message::Cancel(_) => "cancel",
        Message::Close(_) => "closure",
        Message::Expire(_) => "expiry",
        Message::FeedBack(_) => "feedback",
        Message::Letter(_) => "letter",
        Message::Reject(_) => "rejection",
    }
}

fn written(reason: &str) -> ReferralReason {
    ReferralReason {
        text: reason.to_owned(),
    }
}
