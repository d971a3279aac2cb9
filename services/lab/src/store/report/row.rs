//! Rows of both stores.

use banqiao_kit::identifier::CreditCode;
use banqiao_proto::lab::v1::{Report, ReportStatus};
use prost::Message;

use super::{ReportHead, StoredChange, StoredReport};
use crate::{
    catalogue::ItemCode,
    report::{ReportKey, ReportNumber, stored_patient},
    store::StoreError,
};

#[derive(sqlx::FromRow)]
pub(super) struct KeyRow {
    institution: String,
    report_number: String,
}

impl TryFrom<KeyRow> for ReportKey {
    type Error = StoreError;

    fn try_from(row: KeyRow) -> Result<Self, StoreError> {
        Ok(Self {
            institution: CreditCode::parse(&row.institution)
                .map_err(|_| StoreError::Corrupt("institution"))?,
            number: ReportNumber::parse(&row.report_number)
                .map_err(|_| StoreError::Corrupt("report number"))?,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct HeadRow {
    #[sqlx(flatten)]
    key: KeyRow,
    version: i32,
    status: i16,
    patient: String,
    issued_at: i64,
    digest: Vec<u8>,
}

impl TryFrom<HeadRow> for ReportHead {
    type Error = StoreError;

    fn try_from(row: HeadRow) -> Result<Self, StoreError> {
        Ok(Self {
            key: row.key.try_into()?,
            version: row.version,
            status: status(row.status)?,
            patient: stored_patient(&row.patient).ok_or(StoreError::Corrupt("patient"))?,
            issued_at_us: row.issued_at,
            digest: row
                .digest
                .try_into()
                .map_err(|_| StoreError::Corrupt("digest"))?,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct BodyRow {
    version: i32,
    body: Vec<u8>,
}

impl TryFrom<BodyRow> for StoredReport {
    type Error = StoreError;

    fn try_from(row: BodyRow) -> Result<Self, StoreError> {
        Ok(Self {
            version: row.version.unsigned_abs(),
            report: Report::decode(row.body.as_slice()).map_err(|_| StoreError::Corrupt("body"))?,
        })
    }
}

#[derive(sqlx::FromRow)]
pub(super) struct ChangeRow {
    #[sqlx(flatten)]
    key: KeyRow,
    seq: i64,
    version: i32,
    status: i16,
    read_version: i32,
    superseded_at: i64,
}

impl TryFrom<ChangeRow> for StoredChange {
    type Error = StoreError;

    fn try_from(row: ChangeRow) -> Result<Self, StoreError> {
        Ok(Self {
            seq: row.seq,
            key: row.key.try_into()?,
            version: row.version,
            status: status(row.status)?,
            read_version: row.read_version,
            superseded_at_us: row.superseded_at,
        })
    }
}

fn status(number: i16) -> Result<ReportStatus, StoreError> {
    match ReportStatus::try_from(i32::from(number)) {
        Ok(ReportStatus::Unspecified) | Err(_) => Err(StoreError::Corrupt("status")),
        Ok(status) => Ok(status),
    }
}

/// The numbers of the enum are below 8.
pub(super) const fn status_number(status: ReportStatus) -> i16 {
    status as i16
}

/// Items as they are stored: `;code;code;`.
pub(super) fn item_column(items: &[ItemCode]) -> String {
    let mut column = String::from(";");
    for item in items {
        column.push_str(item.as_str());
        column.push(';');
    }
    column
}

/// Patterns of `LIKE`: codes hold none of its wildcards.
pub(super) fn item_patterns(items: &[ItemCode]) -> Vec<String> {
    items
        .iter()
        .map(|item| format!("%;{};%", item.as_str()))
        .collect()
}
