//! Why a call does not go on, as a value that the layers return and [`crate::rescue`] turns into a status.

use std::{borrow::Cow, time::Duration};

use banqiao_proto::{
    ReasonTable,
    exchange::v1::{Reason, ReasonRule},
    reasons,
};

/// A refusal, or the end that a gateway puts to a call.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {detail}", ReasonTable::name(*.reason))]
pub(crate) struct Refusal {
    /// The reason, as recorded.
    pub(crate) reason: Reason,
    /// What happened, in words that may leave this city: no internals, nothing personal.
    pub(crate) detail: Cow<'static, str>,
    /// The metadata name or field at fault, and what is wrong with it.
    pub(crate) field: Option<(Cow<'static, str>, Cow<'static, str>)>,
    /// When trying again makes sense.
    pub(crate) retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason,
            detail: detail.into(),
            field: None,
            retry_after: None,
        }
    }

    pub(crate) fn field(
        mut self,
        name: impl Into<Cow<'static, str>>,
        description: impl Into<Cow<'static, str>>,
    ) -> Self {
        self.field = Some((name.into(), description.into()));
        self
    }

    pub(crate) const fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// What the caller sees: for some reasons another one, so that strangers learn nothing of what exists.
    pub(crate) fn shown(&self) -> Cow<'_, Self> {
        let shown_as = self.rule().shown_as();
        if shown_as == Reason::Unspecified {
            return Cow::Borrowed(self);
        }
        Cow::Owned(Self::new(shown_as, not_granted()))
    }

    pub(crate) fn rule(&self) -> &'static ReasonRule {
        reasons().rule(self.reason)
    }

    /// The gRPC status code.
    pub(crate) fn status(&self) -> u32 {
        self.rule().status
    }
}

/// The one text for what is not granted and what does not exist.
pub(crate) const fn not_granted() -> &'static str {
    "no grant covers this client and method"
}
