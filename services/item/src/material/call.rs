//! Data calls: what a service of this or another city says about an applicant.

use std::fmt;

use banqiao_directory::CityCode;
use banqiao_kit::{
    Answer, Asserted, Basis, CallRefusal, Destination, Gateway, GatewayChannel, OutgoingCall,
    Purpose,
};
use banqiao_proto::{
    card::v1::{CardKey, ServiceCode, VerifyCardRequest, card_service_client::CardServiceClient},
    item::v1::{SearchCasesRequest, case_service_client::CaseServiceClient},
    lab::v1::{FindReportsRequest, report_service_client::ReportServiceClient},
};

use crate::{
    case::{ApplicantId, Case},
    catalogue::{Call, FIND_REPORTS, SEARCH_CASES, VERIFY_CARD},
    coordination::ThroughGateway,
};

/// What may be had by sharing is not asked of the applicant.
const BASIS: &str = "国务院令第716号第七条";

/// What the applicant shows, by which a data call finds the record.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct CallHints {
    /// The city of the applicant's former home.
    pub former_city: Option<CityCode>,
    /// 卡识别码 of the applicant's social security card.
    pub card_identification_code: String,
    /// The city that issued that card.
    pub card_city: Option<CityCode>,
}

impl fmt::Debug for CallHints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallHints")
            .field("former_city", &self.former_city)
            .field("card_city", &self.card_city)
            .finish_non_exhaustive()
    }
}

/// What a data call says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verification {
    /// It is so.
    Confirmed,
    /// It is not, or nothing is known.
    NotConfirmed,
    /// The call cannot be made with what the applicant showed, and why.
    NotPossible(&'static str),
}

/// The services that are asked.
#[tonic::async_trait]
pub trait DataCalls: fmt::Debug + Send + Sync {
    /// Asks a city whether what a material of a case would prove is so.
    ///
    /// # Errors
    /// The refusal.
    async fn verify(
        &self,
        call: &Call,
        city: CityCode,
        case: &Case,
        hints: &CallHints,
    ) -> Result<Answer<Verification>, CallRefusal>;
}

const fn not_possible(why: &'static str) -> Answer<Verification> {
    Answer {
        message: Verification::NotPossible(why),
        exchange: None,
    }
}

fn confirmed(holds: bool) -> Verification {
    if holds {
        Verification::Confirmed
    } else {
        Verification::NotConfirmed
    }
}

#[tonic::async_trait]
impl DataCalls for ThroughGateway {
    async fn verify(
        &self,
        call: &Call,
        city: CityCode,
        case: &Case,
        hints: &CallHints,
    ) -> Result<Answer<Verification>, CallRefusal> {
        let Some(channel) = channel(self.gateway(), call, city, case) else {
            return Ok(not_possible(
                "the catalogue's purpose is none of the network",
            ));
        };
        match call.method.as_str() {
            VERIFY_CARD => verify_card(channel, case, hints).await,
            SEARCH_CASES => search_cases(channel, call, case).await,
            FIND_REPORTS => find_reports(channel, case).await,
            _ => Ok(not_possible(
                "this service does not know how to make the call",
            )),
        }
    }
}

fn channel(gateway: &Gateway, call: &Call, city: CityCode, case: &Case) -> Option<GatewayChannel> {
    let basis = Basis::Statutory(BASIS.to_owned());
    let purpose = Purpose::parse(&call.purpose)?;
    let mut outgoing = OutgoingCall::new(Destination::City(city), purpose, basis);
    if let Some(number) = Asserted::parse(case.number.as_str()) {
        outgoing = outgoing.case(number);
    }
    Some(gateway.channel(&outgoing))
}

async fn verify_card(
    channel: GatewayChannel,
    case: &Case,
    hints: &CallHints,
) -> Result<Answer<Verification>, CallRefusal> {
    let ApplicantId::Citizen(citizen) = &case.applicant.id else {
        return Ok(not_possible("an organisation has no social security card"));
    };
    if hints.card_identification_code.is_empty() {
        return Ok(not_possible("the applicant showed no social security card"));
    }
    let request = VerifyCardRequest {
        key: Some(CardKey {
            social_security_number: citizen.as_str().to_owned(),
            card_identification_code: hints.card_identification_code.clone(),
            ..CardKey::default()
        }),
        name: case.applicant.shown().name,
        service_code: ServiceCode::QueryState.into(),
    };
    let answer = CardServiceClient::new(channel).verify_card(request).await;
    let Answer { message, exchange } = Answer::of(answer)?;
    Ok(Answer {
        message: confirmed(message.r#match),
        exchange,
    })
}

/// Looks for a granted case of the items that the call names, item by item: no more of the applicant's cases is asked for than is needed.
async fn search_cases(
    channel: GatewayChannel,
    call: &Call,
    case: &Case,
) -> Result<Answer<Verification>, CallRefusal> {
    let mut client = CaseServiceClient::new(channel);
    let mut last = not_possible("the catalogue names no item whose cases would confirm it");
    for item in &call.items {
        let request = SearchCasesRequest {
            applicant: Some(case.applicant.shown()),
            item_id: item.to_string(),
            page_size: 200,
            ..SearchCasesRequest::default()
        };
        let answer = Answer::of(client.search_cases(request).await)?;
        let mut found = answer.message.cases.iter();
        let confirms = found.any(|found| call.is_confirmed_by(found));
        last = Answer {
            message: confirmed(confirms),
            exchange: answer.exchange,
        };
        if confirms {
            break;
        }
    }
    Ok(last)
}

/// Looks whether a hospital of the city has issued a report about the applicant.
async fn find_reports(
    channel: GatewayChannel,
    case: &Case,
) -> Result<Answer<Verification>, CallRefusal> {
    let ApplicantId::Citizen(citizen) = &case.applicant.id else {
        return Ok(not_possible("an organisation is nobody's patient"));
    };
    let request = FindReportsRequest {
        patient_id: citizen.as_str().to_owned(),
        limit: 1,
        ..FindReportsRequest::default()
    };
    let found = ReportServiceClient::new(channel)
        .find_reports(request)
        .await;
    let Answer {
        message: mut reports,
        exchange,
    } = Answer::of(found)?;
    let mut any = false;
    // To its end: an answer that breaks off proves nothing.
    while let Some(_report) = reports
        .message()
        .await
        .map_err(|status| CallRefusal::of(&status))?
    {
        any = true;
    }
    Ok(Answer {
        message: confirmed(any),
        exchange,
    })
}
