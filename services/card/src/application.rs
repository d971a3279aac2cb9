//! Applications for a change of a card, parsed field by field.

use banqiao_directory::CityCode;
use banqiao_kit::{Broken, Rule, RuleTable, Violation, Violations};
use banqiao_proto::card::v1::{
    self as proto, ActivateCardRequest, CancelCardRequest, CancellationReason,
    IdentityVerification, IssueElectronicCardRequest, LiftLossRequest, RenewCardRequest,
    ReplaceCardRequest, ReplacementReason, ReportPinAttemptRequest, ResetPinRequest,
};
use jiff::civil::Date;
use uuid::Uuid;

use crate::{
    card::HolderName,
    request::{CardKey, Function, parse_city, parse_function, parse_request_id},
    verification::Verification,
};

const MISSING: Rule = Rule::design(
    "APPLICATION_MISSING",
    "every service of a card is applied for: request id, card, name, city",
    "card service",
);
const REPLACEMENT_REASON: Rule = Rule::design(
    "REPLACEMENT_REASON",
    "a card is replaced because it is lost or damaged: name one of them",
    "人社 portal service codes",
);
const CANCELLATION_REASON: Rule = Rule::design(
    "CANCELLATION_REASON",
    "a card is cancelled on its holder's wish, after the holder's death, or when the holder settles abroad: name one of them",
    "人社 portal service codes",
);

pub(crate) fn rules() -> RuleTable {
    RuleTable::new("Applications")
        .field(&MISSING, APPLICATIONS)
        .field(&REPLACEMENT_REASON, &["ReplaceCard"])
        .field(&CANCELLATION_REASON, &["CancelCard"])
}

/// The methods that take an application.
pub(crate) const APPLICATIONS: &[&str] = &[
    "ActivateCard",
    "LiftLoss",
    "ReplaceCard",
    "RenewCard",
    "CancelCard",
    "ReportPinAttempt",
    "ResetPin",
    "IssueElectronicCard",
];

/// What is applied for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// 启用.
    Activate(Function),
    /// 注销.
    Cancel(CancellationReason),
    /// 电子社保卡签发.
    IssueElectronic,
    /// 解挂.
    LiftLoss(Function),
    /// What came of a PIN: whether it was right.
    PinAttempt(bool),
    /// 换领.
    Renew,
    /// 补领.
    Replace(ReplacementReason),
    /// 密码重置.
    ResetPin,
}

impl Service {
    /// Everything that tells one service from another, as text for digests.
    pub(crate) fn text(self) -> String {
        format!("{self:?}")
    }
}

/// A parsed application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    /// The idempotency key, within the applying client.
    pub request_id: Uuid,
    /// The card.
    pub key: CardKey,
    /// Holder's name.
    pub name: HolderName,
    /// City where it is applied for.
    pub applied_in: CityCode,
    /// What for.
    pub service: Service,
    /// Identity verification; none where the service needs none.
    pub verification: Option<Verification>,
}

/// A request that is an application.
pub trait Applies {
    /// The application that it carries.
    fn application(&self) -> Option<&proto::Application>;

    /// The verification that it carries; none when it needs none.
    fn verification(&self) -> Option<Option<&IdentityVerification>>;

    /// What is applied for.
    ///
    /// # Errors
    /// The field that does not say it.
    fn service(&self) -> Result<Service, Violation>;
}

macro_rules! applies {
    ($request:ty, |$own:ident| $service:expr) => {
        impl Applies for $request {
            fn application(&self) -> Option<&proto::Application> {
                self.application.as_ref()
            }

            fn verification(&self) -> Option<Option<&IdentityVerification>> {
                Some(self.verification.as_ref())
            }

            fn service(&self) -> Result<Service, Violation> {
                let $own = self;
                $service
            }
        }
    };
}

applies!(ActivateCardRequest, |own| function(own.function)
    .map(Service::Activate));
applies!(LiftLossRequest, |own| function(own.function)
    .map(Service::LiftLoss));
applies!(RenewCardRequest, |_own| Ok(Service::Renew));
applies!(ResetPinRequest, |_own| Ok(Service::ResetPin));
applies!(IssueElectronicCardRequest, |_own| Ok(
    Service::IssueElectronic
));
applies!(ReplaceCardRequest, |own| match own.reason() {
    ReplacementReason::Unspecified => Err(violation("reason", &REPLACEMENT_REASON)),
    reason => Ok(Service::Replace(reason)),
});
applies!(CancelCardRequest, |own| match own.reason() {
    CancellationReason::Unspecified => Err(violation("reason", &CANCELLATION_REASON)),
    reason => Ok(Service::Cancel(reason)),
});

impl Applies for ReportPinAttemptRequest {
    fn application(&self) -> Option<&proto::Application> {
        self.application.as_ref()
    }

    fn verification(&self) -> Option<Option<&IdentityVerification>> {
        None
    }

    fn service(&self) -> Result<Service, Violation> {
        Ok(Service::PinAttempt(self.correct))
    }
}

fn function(number: i32) -> Result<Function, Violation> {
    parse_function(number).map_err(|Broken(rule)| violation("function", rule))
}

const fn violation(field: &'static str, rule: &'static Rule) -> Violation {
    Violation {
        field: std::borrow::Cow::Borrowed(field),
        rule,
    }
}

impl Application {
    /// Parses a request on a day.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn parse(request: &impl Applies, today: Date) -> Result<Self, Vec<Violation>> {
        let mut faults = Violations::new();
        let given = faults.check("application", request.application().ok_or(Broken(&MISSING)));
        let whole = given.and_then(|given| {
            let request_id = parse_request_id(&given.request_id);
            let request_id = faults.check("application.request_id", request_id);
            let key = CardKey::parse("application.key", given.key.as_ref(), today, &mut faults);
            let name = faults.check("application.name", HolderName::parse(&given.name));
            let applied_in = parse_city(&given.applied_in);
            let applied_in = faults.check("application.applied_in", applied_in);
            Some((request_id?, key?, name?, applied_in?))
        });
        let verification = match request.verification() {
            None => Some(None),
            Some(stated) => Verification::parse(stated, &mut faults).map(Some),
        };
        let service = match request.service() {
            Ok(service) => Some(service),
            Err(fault) => {
                faults.add(fault.field, fault.rule);
                None
            }
        };
        match (whole, verification, service) {
            (Some((request_id, key, name, applied_in)), Some(verification), Some(service))
                if faults.is_empty() =>
            {
                Ok(Self {
                    request_id,
                    key,
                    name,
                    applied_in,
                    service,
                    verification,
                })
            }
            _ => Err(faults.into_vec()),
        }
    }
}
