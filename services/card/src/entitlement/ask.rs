//! Asking the insured city, once, through the own city's gateway. Whatever goes wrong there is UNKNOWN with its reason.

use banqiao_directory::CityCode;
use banqiao_kit::{Caller, Destination, Gateway, OutgoingCall, Rule, RuleTable};
use banqiao_proto::card::v1::{
    CheckEntitlementRequest, CheckEntitlementResponse,
    entitlement_service_client::EntitlementServiceClient,
};
use tonic::{Code, Status};

use super::Judgement;

const UNREACHABLE: Rule = Rule::design(
    "INSURED_CITY_UNREACHABLE",
    "the insured city did not answer; without its answer nothing is known",
    "card service; 社会保险法 art. 58",
)
.remedy("ask again later, or use the procedure for cases that cannot be verified online");
const REFUSED: Rule = Rule::design(
    "INSURED_CITY_REFUSED",
    "the insured city or a gateway refused the question; without its answer nothing is known",
    "card service",
)
.remedy("look the exchange up in the own gateway's log; the insured city's grant decides");
const NOT_ASKED: Rule = Rule::design(
    "INSURED_CITY_NOT_ASKED",
    "the person is said to be insured in another city, and this service has no way out to ask there",
    "card service, setting [gateway]",
)
.remedy("ask the city in insured_city");

/// The way to other cities; none where the configuration names no gateway.
#[derive(Clone, Debug)]
pub struct OtherCities(Option<Gateway>);

impl OtherCities {
    /// By a gateway of the own city.
    pub const fn new(gateway: Option<Gateway>) -> Self {
        Self(gateway)
    }

    /// What the insured city answers, asked with the caller's purpose and legal basis; or why it is not known.
    pub(super) async fn ask(
        &self,
        city: CityCode,
        request: &CheckEntitlementRequest,
        caller: &Caller,
    ) -> Result<CheckEntitlementResponse, Judgement> {
        let unknown = |rule| Judgement::unknown(rule, Some(city));
        let Some(gateway) = &self.0 else {
            return Err(unknown(&NOT_ASKED));
        };
        let to = Destination::City(city);
        let mut call = OutgoingCall::new(to, caller.purpose.clone(), caller.basis.clone());
        if let Some(case) = caller.case.clone() {
            call = call.case(case);
        }
        if let Some(operator) = caller.operator.clone() {
            call = call.operator(operator);
        }
        let mut client = EntitlementServiceClient::new(gateway.channel(&call));
        let asked = CheckEntitlementRequest {
            insured_city: String::new(),
            ..request.clone()
        };
        match client.check_entitlement(asked).await {
            // Another city's answer under this city's name would be a forgery of the way.
            Ok(answer) if answer.get_ref().source_city == city.as_str() => Ok(answer.into_inner()),
            Ok(_) => Err(unknown(&REFUSED)),
            Err(status) => Err(unknown(reason(&status))),
        }
    }
}

fn reason(status: &Status) -> &'static Rule {
    tracing::debug!(code = ?status.code(), "the insured city gave no answer");
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Unknown | Code::Internal => &UNREACHABLE,
        _ => &REFUSED,
    }
}

pub(super) fn rules(table: RuleTable) -> RuleTable {
    [&UNREACHABLE, &REFUSED, &NOT_ASKED]
        .into_iter()
        .fold(table, |table, rule| {
            table.answer(rule, &["CheckEntitlement"])
        })
}
