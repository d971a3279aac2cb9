//! What a city can have mapped of its own tables: cards here, insured persons and payments beside their modules.

use banqiao_kit::mapping::{FieldKind, FieldShape, MappingShape, RelationShape, StatementShape};

use crate::{eligibility, entitlement, state::State};

/// The states by the names of the mapping's code tables.
pub(super) const STATES: [(State, &str); 6] = [
    (State::Sealed, "SEALED"),
    (State::Normal, "NORMAL"),
    (State::TempLost, "TEMP_LOST"),
    (State::Lost, "LOST"),
    (State::Locked, "LOCKED"),
    (State::Cancelled, "CANCELLED"),
];

pub(super) const STATE: FieldKind = FieldKind::Code(&[
    "SEALED",
    "NORMAL",
    "TEMP_LOST",
    "LOST",
    "LOCKED",
    "CANCELLED",
]);
const YES_OR_NO: FieldKind = FieldKind::Code(&["true", "false"]);

pub(super) const RELATION: &str = "card";

/// A statement for one card, and the one for many, which imports use where it is named.
pub(super) type Pair = (&'static str, &'static str);
pub(super) const INSERT: Pair = ("insert_card", "insert_cards");
pub(super) const SET_STATE: Pair = ("set_card_state", "set_card_states");
pub(super) const UPDATE: Pair = ("update_card", "update_cards");

/// What a city can have mapped: any of the relations.
pub static CARD_MAPPING: MappingShape = MappingShape {
    relations: &[CARD, entitlement::INSURANCE, eligibility::PAYMENT],
    statements: &[
        statement(INSERT.0, NEW_CARD, false, false),
        statement(INSERT.1, NEW_CARD, true, false),
        statement(SET_STATE.0, STATES_OF_ONE_CARD, false, true),
        statement(SET_STATE.1, STATES_OF_ONE_CARD, true, false),
        statement(UPDATE.0, STATES_OF_ONE_CARD, false, false),
        statement(UPDATE.1, STATES_OF_ONE_CARD, true, false),
        entitlement::INSERT_PERIODS,
        entitlement::UPDATE_PERIODS,
        eligibility::INSERT_PAYMENTS,
        eligibility::SET_DUE_DAYS,
        eligibility::UPDATE_PAYMENTS,
    ],
};

const CARD: RelationShape = RelationShape {
    name: RELATION,
    fields: &[
        field("card_number", FieldKind::Key),
        field("card_identification_code", FieldKind::Key),
        field("social_security_number", FieldKind::Text),
        field("name", FieldKind::Text),
        field("issuing_division", FieldKind::Text),
        field("issued_on", FieldKind::Date),
        field("expires_on", FieldKind::Date),
        field("social_state", STATE),
        field("financial_state", STATE),
        field("electronic", YES_OR_NO),
        field("specification_version", FieldKind::Text),
    ],
    required: false,
};

const NEW_CARD: &[&str] = &[
    "card_number",
    "card_identification_code",
    "social_security_number",
    "name",
    "issued_on",
    "expires_on",
    "social_state",
    "financial_state",
];

const STATES_OF_ONE_CARD: &[&str] = &[
    "card_number",
    "social_state",
    "financial_state",
    "old_social_state",
    "old_financial_state",
];

const fn statement(
    name: &'static str,
    must_use: &'static [&'static str],
    many: bool,
    required: bool,
) -> StatementShape {
    StatementShape {
        name,
        relation: RELATION,
        further: &[],
        must_use,
        many,
        required,
    }
}

/// A field that must be mapped.
pub(crate) const fn field(name: &'static str, kind: FieldKind) -> FieldShape {
    FieldShape {
        name,
        kind,
        optional: false,
    }
}

/// A field that may be left out, or be NULL in a row.
pub(crate) const fn optional_field(name: &'static str, kind: FieldKind) -> FieldShape {
    FieldShape {
        name,
        kind,
        optional: true,
    }
}
