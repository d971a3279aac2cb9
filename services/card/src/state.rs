//! The state machine of one function of a card. The social and the financial function each have their own.
//!
//! ```text
//!   SEALED ──activate──▶ NORMAL ◀──PIN reset── LOCKED
//!                        │ ▲  ▲ └──six wrong PINs──▶
//!        temporary loss ▼ │  └─────lifted──────┐
//!                   TEMP_LOST ──formal loss──▶ LOST        any ──cancel──▶ CANCELLED
//! ```
//!
//! EXPIRED is never stored: it is what every state but CANCELLED shows after the last day of validity.

use banqiao_kit::{Certainty, Rule, RuleTable, TransitionRow};
use banqiao_proto::card::v1::{CardState, ElectronicCardState, LossKind};
use jiff::civil::Date;

/// A state that is stored. The numbers are those of `banqiao.card.v1.CardState`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// 注销.
    Cancelled,
    /// 锁定.
    Locked,
    /// 正式挂失.
    Lost,
    /// 正常.
    Normal,
    /// 封存.
    Sealed,
    /// 临时挂失.
    TempLost,
}

impl State {
    /// Every state that is stored.
    pub const ALL: [Self; 6] = [
        Self::Cancelled,
        Self::Locked,
        Self::Lost,
        Self::Normal,
        Self::Sealed,
        Self::TempLost,
    ];

    /// The state as answers show it, expiry apart.
    pub const fn shown(self) -> CardState {
        match self {
            Self::Cancelled => CardState::Cancelled,
            Self::Locked => CardState::Locked,
            Self::Lost => CardState::Lost,
            Self::Normal => CardState::Normal,
            Self::Sealed => CardState::Sealed,
            Self::TempLost => CardState::TempLost,
        }
    }

    /// The stored state that is shown so; none for UNSPECIFIED and EXPIRED.
    pub fn of(shown: CardState) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.shown() == shown)
    }
}

/// What can happen to a function of a card. Names in 《》 are the service codes of the ministry's portal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// 《ACTIVATE 启用》.
    Activate,
    /// 《CANCEL 注销》, 《REPLACE 补领》.
    Cancel,
    /// The term of a temporary loss has passed.
    EndTemporaryLoss,
    /// 《UNLOSS 解挂》.
    LiftLoss,
    /// Six wrong PINs.
    LockPin,
    /// 《LOSS 正式挂失》.
    ReportLoss,
    /// 《TEMP_LOSS 临时挂失》.
    ReportTemporaryLoss,
    /// 《PIN_RESET》.
    ResetPin,
}

impl Event {
    /// The event as the table of rules writes it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Activate => "ACTIVATE 启用",
            Self::Cancel => "CANCEL 注销, REPLACE 补领, RENEW 换领",
            Self::EndTemporaryLoss => "the term of a temporary loss ends",
            Self::LiftLoss => "UNLOSS 解挂",
            Self::LockPin => "six wrong PINs in a row",
            Self::ReportLoss => "LOSS 正式挂失",
            Self::ReportTemporaryLoss => "TEMP_LOSS 临时挂失",
            Self::ResetPin => "PIN_RESET 密码重置",
        }
    }
}

/// A row of the table of transitions.
#[derive(Clone, Copy, Debug)]
pub struct Transition {
    /// State before.
    pub from: State,
    /// What happens.
    pub event: Event,
    /// State after.
    pub to: State,
    /// Where the transition comes from.
    pub source: &'static str,
    /// How certain it is.
    pub certainty: Certainty,
}

const fn row(
    from: State,
    event: Event,
    to: State,
    source: &'static str,
    certainty: Certainty,
) -> Transition {
    Transition {
        from,
        event,
        to,
        source,
        certainty,
    }
}

const NOTICE: &str = "省人社厅 2022-09-28";
const PORTAL: &str = "人社 portal service codes; project proposal of transitions";

/// Every transition. What does not stand here does not happen.
pub const TRANSITIONS: &[Transition] = &[
    row(
        State::Sealed,
        Event::Activate,
        State::Normal,
        NOTICE,
        Certainty::Quoted,
    ),
    row(
        State::Normal,
        Event::ReportTemporaryLoss,
        State::TempLost,
        NOTICE,
        Certainty::Quoted,
    ),
    // 临时挂失有时限, 到期自动恢复.
    row(
        State::TempLost,
        Event::EndTemporaryLoss,
        State::Normal,
        NOTICE,
        Certainty::Quoted,
    ),
    row(
        State::TempLost,
        Event::LiftLoss,
        State::Normal,
        PORTAL,
        Certainty::Design,
    ),
    row(
        State::Normal,
        Event::ReportLoss,
        State::Lost,
        PORTAL,
        Certainty::Design,
    ),
    row(
        State::TempLost,
        Event::ReportLoss,
        State::Lost,
        PORTAL,
        Certainty::Design,
    ),
    row(
        State::Lost,
        Event::LiftLoss,
        State::Normal,
        PORTAL,
        Certainty::Design,
    ),
    // 密码连续错误6次锁卡.
    row(
        State::Normal,
        Event::LockPin,
        State::Locked,
        NOTICE,
        Certainty::Quoted,
    ),
    row(
        State::Locked,
        Event::ResetPin,
        State::Normal,
        PORTAL,
        Certainty::Design,
    ),
    row(
        State::Sealed,
        Event::Cancel,
        State::Cancelled,
        PORTAL,
        Certainty::Design,
    ),
    row(
        State::Normal,
        Event::Cancel,
        State::Cancelled,
        PORTAL,
        Certainty::Design,
    ),
    row(
        State::TempLost,
        Event::Cancel,
        State::Cancelled,
        PORTAL,
        Certainty::Design,
    ),
    row(
        State::Lost,
        Event::Cancel,
        State::Cancelled,
        PORTAL,
        Certainty::Design,
    ),
    row(
        State::Locked,
        Event::Cancel,
        State::Cancelled,
        PORTAL,
        Certainty::Design,
    ),
];

const APART: Rule = Rule::quoted(
    "FUNCTIONS_APART",
    "社保功能 and 金融功能 each have their own state; what happens to one leaves the other as it is",
    NOTICE,
);
const EXPIRED: Rule = Rule::design(
    "EXPIRED_COMPUTED",
    "from the day after its last day every card that is not cancelled shows EXPIRED; nothing is written for it",
    "card service",
);
const ELECTRONIC_FOLLOWS: Rule = Rule::quoted(
    "ELECTRONIC_FOLLOWS",
    "an electronic card stands to its physical card one to one and follows its 社保功能: NORMAL, usable; TEMP_LOST, \
     usable with the holder's own authorisation; CANCELLED, not usable for personal business",
    NOTICE,
);
const ELECTRONIC_CAUTIOUS: Rule = Rule::design(
    "ELECTRONIC_CAUTIOUS",
    "where the notice says nothing: LOCKED, usable with the holder's own authorisation; SEALED, LOST and EXPIRED, not usable",
    "card service",
);

/// The rules of states, and the machine of each function.
pub(crate) fn rules() -> RuleTable {
    const SHOWN: &[&str] = &["VerifyCard"];
    RuleTable::new("States and transitions")
        .answer(&APART, &["ReportLoss", "ImportCards", "VerifyCard"])
        .answer(&EXPIRED, SHOWN)
        .answer(&ELECTRONIC_FOLLOWS, SHOWN)
        .answer(&ELECTRONIC_CAUTIOUS, SHOWN)
        .transitions(TRANSITIONS.iter().map(|row| TransitionRow {
            from: row.from.shown().as_str_name(),
            event: row.event.name(),
            to: row.to.shown().as_str_name(),
            source: row.source,
            certainty: row.certainty,
        }))
}

/// The state after an event; none when the table does not hold it.
pub fn next(from: State, event: Event) -> Option<State> {
    TRANSITIONS
        .iter()
        .find(|row| row.from == from && row.event == event)
        .map(|row| row.to)
}

/// Whether some sequence of events leads from one state to another.
pub fn reachable(from: State, to: State) -> bool {
    let mut reached = vec![from];
    let mut position = 0;
    while let Some(&state) = reached.get(position) {
        for row in TRANSITIONS.iter().filter(|row| row.from == state) {
            if !reached.contains(&row.to) {
                reached.push(row.to);
            }
        }
        position += 1;
    }
    reached.contains(&to)
}

/// A state with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// 注销.
    Cancelled,
    /// 锁定.
    Locked,
    /// 正式挂失.
    Lost {
        /// Reported through this service, so that an import of older data does not lift it.
        reported: bool,
    },
    /// 正常.
    Normal,
    /// 封存.
    Sealed,
    /// 临时挂失.
    TempLost {
        /// When it ends, in microseconds since 1970-01-01 UTC.
        until_us: i64,
        /// Reported through this service.
        reported: bool,
    },
}

/// What a loss report does to a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// It changes to this.
    Changes(Standing),
    /// The table has no such transition.
    Refused,
    /// It is blocked already, at least as strongly. A temporary loss that is in force keeps its end: reports in a row do not
    /// make it last for ever. What the issuer recorded and is now reported in the same kind counts as reported.
    Stands(Standing),
}

impl Standing {
    /// The state alone.
    pub const fn state(&self) -> State {
        match self {
            Self::Cancelled => State::Cancelled,
            Self::Locked => State::Locked,
            Self::Lost { .. } => State::Lost,
            Self::Normal => State::Normal,
            Self::Sealed => State::Sealed,
            Self::TempLost { .. } => State::TempLost,
        }
    }

    /// When a temporary loss ends.
    pub const fn until_us(&self) -> Option<i64> {
        match self {
            Self::TempLost { until_us, .. } => Some(*until_us),
            _ => None,
        }
    }

    /// Whether the loss was reported through this service.
    pub const fn is_reported(&self) -> bool {
        matches!(
            self,
            Self::Lost { reported: true } | Self::TempLost { reported: true, .. }
        )
    }

    /// A state as it begins: a temporary loss ends at `until_us`.
    pub const fn begin(state: State, until_us: i64, reported: bool) -> Self {
        match state {
            State::Cancelled => Self::Cancelled,
            State::Locked => Self::Locked,
            State::Lost => Self::Lost { reported },
            State::Normal => Self::Normal,
            State::Sealed => Self::Sealed,
            State::TempLost => Self::TempLost { until_us, reported },
        }
    }

    /// What stands at a time: a temporary loss whose end has come is over.
    pub fn settled(self, now_us: i64) -> Self {
        match self {
            Self::TempLost { until_us, .. } if until_us <= now_us => {
                next(State::TempLost, Event::EndTemporaryLoss)
                    .map_or(self, |state| Self::begin(state, 0, false))
            }
            standing => standing,
        }
    }

    /// What answers show on a day.
    pub fn shown(&self, expires_on: Date, today: Date) -> CardState {
        match self.state() {
            State::Cancelled => CardState::Cancelled,
            _ if today > expires_on => CardState::Expired,
            state => state.shown(),
        }
    }

    /// What a loss report does to a settled standing; a temporary loss would end at `until_us`. An expired card is
    /// refused by the caller, because expiry is no state.
    pub fn report(&self, kind: LossKind, until_us: i64) -> Report {
        let (event, blocks) = match kind {
            LossKind::Formal => (Event::ReportLoss, &[State::Lost][..]),
            LossKind::Temporary => (
                Event::ReportTemporaryLoss,
                &[State::TempLost, State::Lost][..],
            ),
            LossKind::Unspecified => return Report::Refused,
        };
        if blocks.contains(&self.state()) {
            return Report::Stands(match (kind, *self) {
                (LossKind::Formal, Self::Lost { .. }) => Self::Lost { reported: true },
                (LossKind::Temporary, Self::TempLost { until_us, .. }) => Self::TempLost {
                    until_us,
                    reported: true,
                },
                // A formal loss must not become one that stays because somebody reported a temporary one.
                (_, standing) => standing,
            });
        }
        match next(self.state(), event) {
            Some(state) => Report::Changes(Self::begin(state, until_us, true)),
            None => Report::Refused,
        }
    }
}

/// State of the electronic card, which follows the social function of the physical card (一一对应、状态联动).
///
/// NORMAL, TEMP_LOST and CANCELLED are quoted from the province's notice (Q); for the other states this project's proposal is the
/// cautious one (D): only a card whose chip is merely locked stays usable by its holder.
pub const fn electronic_state(linked: bool, social: CardState) -> ElectronicCardState {
    if !linked {
        return ElectronicCardState::Unspecified;
    }
    match social {
        CardState::Normal => ElectronicCardState::Usable,
        CardState::TempLost | CardState::Locked => ElectronicCardState::ByHolderOnly,
        CardState::Unspecified
        | CardState::Sealed
        | CardState::Lost
        | CardState::Cancelled
        | CardState::Expired => ElectronicCardState::Unusable,
    }
}

#[cfg(test)]
mod tests;
