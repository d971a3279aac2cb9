//! Campaigns, investigations and histories: what the paying bureau looks at, page by page.

use banqiao_kit::{Broken, CallError, Rule, RuleTable, Violations, civil_date};
use banqiao_proto::card::v1::{
    CampaignCount, CampaignPerson, CampaignStatus, EligibilityEntry, ListCampaignRequest,
    ListCampaignResponse, ListEligibilityHistoryRequest, ListEligibilityHistoryResponse,
    ListInvestigationsRequest, ListInvestigationsResponse, SummariseCampaignRequest,
    SummariseCampaignResponse,
};

use super::{
    Eligibility,
    record::{Event, Evidence},
    request::{parse_checked_scheme, parse_key},
    store::Campaign,
};
use crate::{card::parse_date, cards::timestamp};

const MONTH: Rule = Rule::design("MONTH", "a month is written YYYY-MM", "ISO 8601");
const STATUS: Rule = Rule::design(
    "CAMPAIGN_STATUS",
    "the status is one of those of CampaignStatus",
    "card service",
);
const PAGE_SIZE: Rule = Rule::design(
    "PAGE_SIZE",
    "a page has 1 to 1000 entries; 0 stands for 100",
    "card service",
);
const PAGE_TOKEN: Rule = Rule::design(
    "PAGE_TOKEN",
    "a page begins where the answer before said, or at the first entry",
    "card service",
);

const DEFAULT_PAGE: i64 = 100;
const LARGEST_PAGE: u32 = 1_000;

fn page_size(size: u32) -> Result<i64, Broken> {
    match size {
        0 => Ok(DEFAULT_PAGE),
        1..=LARGEST_PAGE => Ok(i64::from(size)),
        _ => Err(Broken(&PAGE_SIZE)),
    }
}

/// A number that an answer before gave; `first` where there is none.
fn page_token(token: &str, first: i64) -> Result<i64, Broken> {
    if token.is_empty() {
        return Ok(first);
    }
    let number = token.parse().ok();
    number
        .filter(|number: &i64| *number >= 0 && number.to_string() == token)
        .ok_or(Broken(&PAGE_TOKEN))
}

fn parse_month(text: &str) -> Result<String, Broken> {
    let exists = text.len() == 7 && parse_date(&format!("{text}-01")).is_ok();
    exists.then(|| text.to_owned()).ok_or(Broken(&MONTH))
}

fn parse_campaign(month: &str, scheme: i32, faults: &mut Violations) -> Option<Campaign> {
    let month = faults.check("month", parse_month(month));
    let scheme = faults.check("scheme", parse_checked_scheme(scheme));
    Some(Campaign {
        month: month?,
        scheme: scheme?,
    })
}

/// The token of the next page: none when this one is not full.
fn next_token(found: usize, limit: i64, last: Option<String>) -> String {
    let full = i64::try_from(found).is_ok_and(|found| found == limit);
    last.filter(|_| full).unwrap_or_default()
}

impl Eligibility {
    /// Counts of a month.
    ///
    /// # Errors
    /// A field breaks a rule, or the store fails.
    pub async fn summarise(
        &self,
        request: &SummariseCampaignRequest,
    ) -> Result<SummariseCampaignResponse, CallError> {
        let mut faults = Violations::new();
        let campaign = parse_campaign(&request.month, request.scheme, &mut faults);
        let Some(campaign) = campaign else {
            return Err(CallError::CallerInvalid(faults.into_vec()));
        };
        let counts = self.store.counts(&campaign).await?;
        let count = |(status, verifying_city, people): (i32, String, i64)| CampaignCount {
            status,
            verifying_city,
            people: u64::try_from(people).unwrap_or_default(),
        };
        let counts: Vec<_> = counts.into_iter().map(count).collect();
        Ok(SummariseCampaignResponse {
            due: counts.iter().map(|count| count.people).sum(),
            counts,
        })
    }

    /// A page of the people of a month.
    ///
    /// # Errors
    /// A field breaks a rule, or the store fails.
    pub async fn list_campaign(
        &self,
        request: &ListCampaignRequest,
    ) -> Result<ListCampaignResponse, CallError> {
        let mut faults = Violations::new();
        let campaign = parse_campaign(&request.month, request.scheme, &mut faults);
        let status = CampaignStatus::try_from(request.status).map_err(|_| Broken(&STATUS));
        let status = faults.check("status", status);
        let limit = faults.check("page_size", page_size(request.page_size));
        let after = faults.check("page_token", page_token(&request.page_token, 0));
        let (Some(campaign), Some(status), Some(limit), Some(after)) =
            (campaign, status, limit, after)
        else {
            return Err(CallError::CallerInvalid(faults.into_vec()));
        };
        let rows = self.store.campaign(&campaign, status, after, limit).await?;
        let last = rows.last().map(|row| row.id.to_string());
        let next_page_token = next_token(rows.len(), limit, last);
        let people = rows.into_iter().map(|row| CampaignPerson {
            social_security_number: row.holder,
            due_on: row.due_on,
            status: row.status,
            verified_on: row.verified_on.unwrap_or_default(),
            verifying_city: row.city,
        });
        Ok(ListCampaignResponse {
            people: people.collect(),
            next_page_token,
        })
    }

    /// A page of investigations.
    ///
    /// # Errors
    /// A field breaks a rule, or the store fails.
    pub async fn investigations(
        &self,
        request: &ListInvestigationsRequest,
    ) -> Result<ListInvestigationsResponse, CallError> {
        let mut faults = Violations::new();
        let limit = faults.check("page_size", page_size(request.page_size));
        let before = faults.check("page_token", page_token(&request.page_token, i64::MAX));
        let (Some(limit), Some(before)) = (limit, before) else {
            return Err(CallError::CallerInvalid(faults.into_vec()));
        };
        let investigations = self
            .store
            .investigations(before, request.concluded, limit)
            .await?;
        let last = investigations
            .last()
            .map(|investigation| investigation.investigation.clone());
        Ok(ListInvestigationsResponse {
            next_page_token: next_token(investigations.len(), limit, last),
            investigations,
        })
    }

    /// What is recorded about a person, oldest first, at most 100 entries.
    ///
    /// # Errors
    /// A field breaks a rule, or the store fails.
    pub async fn history(
        &self,
        request: &ListEligibilityHistoryRequest,
    ) -> Result<ListEligibilityHistoryResponse, CallError> {
        let mut faults = Violations::new();
        let today = civil_date(self.clock.now_us());
        let number = &request.social_security_number;
        let key = parse_key(number, request.scheme, today, &mut faults);
        let after = faults.check("cursor", page_token(&request.cursor, 0));
        let (Some(key), Some(after)) = (key, after) else {
            return Err(CallError::CallerInvalid(faults.into_vec()));
        };
        let entries = self.store.history(&key, after, DEFAULT_PAGE).await?;
        Ok(ListEligibilityHistoryResponse {
            entries: entries.into_iter().map(entry).collect(),
        })
    }
}

fn entry(event: Event) -> EligibilityEntry {
    let mut entry = EligibilityEntry {
        cursor: event.seq.to_string(),
        kind: event.kind.into(),
        verdict: event.verdict().map(|verdict| verdict.shown()),
        paying_city: event.paying_city.to_string(),
        investigation: event
            .investigation
            .map(|id| id.to_string())
            .unwrap_or_default(),
        outcome: event.outcome.into(),
        arrears_from: event
            .arrears_from
            .map(|day| day.to_string())
            .unwrap_or_default(),
        recorded_at: Some(timestamp(event.recorded_at_us)),
        actor: event.actor,
        reason: event.reason,
        client: event.client,
        exchange: event.exchange,
        ..EligibilityEntry::default()
    };
    match event.evidence {
        Evidence::Life(life) => entry.set_life_evidence(life),
        Evidence::Loss(loss) => entry.set_loss_evidence(loss),
        Evidence::Unreached => {}
    }
    entry
}

pub(super) fn rules(table: RuleTable) -> RuleTable {
    table
        .field(&MONTH, &["SummariseCampaign", "ListCampaign"])
        .field(&STATUS, &["ListCampaign"])
        .field(&PAGE_SIZE, &["ListCampaign", "ListInvestigations"])
        .field(
            &PAGE_TOKEN,
            &[
                "ListCampaign",
                "ListInvestigations",
                "ListEligibilityHistory",
            ],
        )
}
