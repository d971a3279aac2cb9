//! Why states change.

/// Why a state changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// 启用.
    Activated,
    /// 注销 after the holder's death.
    CancelledAfterDeath,
    /// 注销 on the holder's wish.
    CancelledByHolder,
    /// 注销 because the holder settles abroad.
    CancelledSettledAbroad,
    /// 电子社保卡签发.
    ElectronicIssued,
    /// The electronic card went over to the card that follows.
    ElectronicMoved,
    /// The issuer's record came in.
    Imported,
    /// 解挂.
    LossLifted,
    /// A loss was reported.
    LossReported,
    /// 密码重置.
    PinReset,
    /// A card for one that is about to expire.
    RenewalIssued,
    /// The card that follows was activated.
    Renewed,
    /// 补领 of a damaged card.
    ReplacedDamaged,
    /// 补领 of a lost card.
    ReplacedLost,
    /// A card for one that is lost or damaged.
    ReplacementIssued,
    /// The term of a temporary loss passed.
    TemporaryLossEnded,
    /// Six wrong PINs in a row.
    WrongPins,
}

impl Cause {
    /// Every cause.
    pub const ALL: [Self; 17] = [
        Self::Activated,
        Self::CancelledAfterDeath,
        Self::CancelledByHolder,
        Self::CancelledSettledAbroad,
        Self::ElectronicIssued,
        Self::ElectronicMoved,
        Self::Imported,
        Self::LossLifted,
        Self::LossReported,
        Self::PinReset,
        Self::RenewalIssued,
        Self::Renewed,
        Self::ReplacedDamaged,
        Self::ReplacedLost,
        Self::ReplacementIssued,
        Self::TemporaryLossEnded,
        Self::WrongPins,
    ];

    /// The cause as it stands in the history and in answers.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Activated => "activated",
            Self::CancelledAfterDeath => "cancelled-after-death",
            Self::CancelledByHolder => "cancelled-by-holder",
            Self::CancelledSettledAbroad => "cancelled-settled-abroad",
            Self::ElectronicIssued => "electronic-card-issued",
            Self::ElectronicMoved => "electronic-card-moved",
            Self::Imported => "imported",
            Self::LossLifted => "loss-lifted",
            Self::LossReported => "loss-reported",
            Self::PinReset => "pin-reset",
            Self::RenewalIssued => "renewal-issued",
            Self::Renewed => "renewed",
            Self::ReplacedDamaged => "replaced-damaged",
            Self::ReplacedLost => "replaced-lost",
            Self::ReplacementIssued => "replacement-issued",
            Self::TemporaryLossEnded => "temporary-loss-ended",
            Self::WrongPins => "wrong-pins",
        }
    }

    pub(super) fn of(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cause| cause.as_str() == text)
    }
}
