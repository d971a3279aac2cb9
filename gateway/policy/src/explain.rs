//! The decision about a call, in words.

use std::{fmt, sync::Arc};

use banqiao_directory::{Method, SpiffeId};
use banqiao_proto::{directory::v1 as proto, exchange::v1::Reason};

use crate::{Decision, Grant, GrantSet, set::judge};

/// What one grant says to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It would permit the call as well, but another one takes precedence.
    AlsoPermits,
    /// It permits the call.
    Decides,
    /// It is past its validity.
    Expired,
    /// The method may not be shared at all.
    NotShared,
    /// It is not valid yet.
    NotYetValid,
    /// It is for other methods of the service.
    OtherMethods,
    /// It is for other purposes.
    OtherPurposes,
    /// The method's own rule does not allow the purpose.
    PurposeNotAllowedByMethod,
    /// It was revoked.
    Revoked,
}

impl Finding {
    /// The refusal that this finding alone leads to.
    pub(crate) const fn reason(self) -> Reason {
        match self {
            Self::AlsoPermits | Self::Decides => Reason::Unspecified,
            Self::Expired | Self::NotYetValid => Reason::GrantExpired,
            Self::OtherPurposes | Self::PurposeNotAllowedByMethod => Reason::PurposeNotAllowed,
            Self::NotShared | Self::OtherMethods | Self::Revoked => Reason::NotGranted,
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AlsoPermits => "would permit the call too, but another grant takes precedence",
            Self::Decides => "permits the call",
            Self::Expired => "is past its validity",
            Self::NotShared => "cannot permit the method: its provider does not share it",
            Self::NotYetValid => "is not valid yet",
            Self::OtherMethods => "does not name the method",
            Self::OtherPurposes => "does not name the purpose",
            Self::PurposeNotAllowedByMethod => {
                "does not matter: the method itself does not allow the purpose"
            }
            Self::Revoked => "was revoked",
        })
    }
}

/// One grant that was looked at.
#[derive(Clone, Debug, PartialEq)]
pub struct Consideration {
    /// The grant.
    pub grant: Arc<Grant>,
    /// What it says to the call.
    pub finding: Finding,
}

/// Why a call is permitted or refused.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The same as [`GrantSet::decide`] gives.
    pub decision: Decision,
    /// Every grant that covers the client for the service, in order of precedence.
    pub considered: Vec<Consideration>,
}

impl GrantSet {
    /// Says what [`GrantSet::decide`] decides, and what each grant of the client for the service has to do with it.
    pub fn explain(
        &self,
        client: &SpiffeId,
        method: &Method,
        purpose: &str,
        now_us: i64,
    ) -> Explanation {
        let decision = self.decide(client, method, purpose, now_us);
        let considered = self
            .candidates(client, &method.service)
            .map(|grant| {
                let finding = match (judge(grant, method, purpose, now_us), &decision) {
                    (Finding::Decides, Decision::Permit(by)) if by.uuid != grant.uuid => {
                        Finding::AlsoPermits
                    }
                    (finding, _) => finding,
                };
                Consideration {
                    grant: Arc::clone(grant),
                    finding,
                }
            })
            .collect();
        Explanation {
            decision,
            considered,
        }
    }
}

impl From<&Explanation> for proto::ExplainGrantResponse {
    fn from(explanation: &Explanation) -> Self {
        let (permitted, grant_id, reason, disclosed_fields) = match &explanation.decision {
            Decision::Permit(grant) => (
                true,
                grant.id().to_owned(),
                Reason::Unspecified,
                grant.proto().disclosed_fields.clone(),
            ),
            Decision::Refuse(reason) => (false, String::new(), *reason, Vec::new()),
        };
        Self {
            permitted,
            grant_id,
            reason: reason.into(),
            considered: explanation
                .considered
                .iter()
                .map(|considered| proto::Consideration {
                    grant_id: considered.grant.id().to_owned(),
                    finding: considered.finding.to_string(),
                })
                .collect(),
            disclosed_fields,
        }
    }
}
