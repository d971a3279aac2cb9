//! What an auditor looks for.

use std::fmt;

use banqiao_directory::CityCode;
use banqiao_proto::{
    ReasonTable,
    exchange::v1::Reason,
    ledger::v1::{Entry, EntryFilter, Kind, Outcome},
};
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{
    facet::{self, Facet, ValueRange},
    private::TokenKind,
};

/// Longest text of a filter in bytes.
const MAX_TEXT_BYTES: usize = 2_048;

/// A filter that cannot be searched by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct QueryError {
    /// The field of the filter.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: &'static str,
}

/// A parsed filter: everything that is set must hold.
#[derive(Clone, Default)]
pub struct Query {
    from_us: Option<i64>,
    until_us: Option<i64>,
    city: Option<CityCode>,
    client: Option<Pattern>,
    service: Option<String>,
    method: Option<String>,
    purpose: Option<String>,
    private: Vec<(TokenKind, Zeroizing<String>)>,
    exchange: Option<Uuid>,
    kinds: Vec<Kind>,
    outcome: Option<Outcome>,
    reason: Option<Reason>,
}

#[derive(Clone, Debug)]
enum Pattern {
    Exact(String),
    Prefix(String),
}

impl Pattern {
    fn matches(&self, text: &str) -> bool {
        match self {
            Self::Exact(exact) => text == exact,
            Self::Prefix(prefix) => text.starts_with(prefix.as_str()),
        }
    }
}

/// A facet, and the values of it of which an entry must have one.
pub(crate) type FacetFilter = (Facet, Vec<ValueRange>);

impl Query {
    /// Parses a filter.
    ///
    /// # Errors
    ///
    /// The first field that cannot be searched by.
    pub fn parse(filter: &EntryFilter) -> Result<Self, QueryError> {
        let enumeration = |field| QueryError {
            field,
            problem: "unknown value",
        };
        let mut query = Self {
            from_us: (filter.from_us != 0).then_some(filter.from_us),
            until_us: (filter.until_us != 0).then_some(filter.until_us),
            service: text("service", &filter.service)?,
            method: text("method", &filter.method)?,
            purpose: text("purpose", &filter.purpose)?,
            ..Self::default()
        };
        if query
            .from_us
            .zip(query.until_us)
            .is_some_and(|(from, until)| from >= until)
        {
            return Err(QueryError {
                field: "until_us",
                problem: "not after from_us",
            });
        }
        if let Some(city) = text("city", &filter.city)? {
            let problem = "not a city code of six digits that end in 00";
            query.city = Some(city.parse().map_err(|_| QueryError {
                field: "city",
                problem,
            })?);
        }
        query.client =
            text("client", &filter.client)?.map(|client| match client.strip_suffix('*') {
                Some(prefix) => Pattern::Prefix(prefix.to_owned()),
                None => Pattern::Exact(client),
            });
        for (kind, field, value) in [
            (TokenKind::Operator, "operator", &filter.operator),
            (TokenKind::Case, "case_number", &filter.case_number),
            (TokenKind::Subject, "subject", &filter.subject),
        ] {
            if let Some(value) = text(field, value)? {
                query.private.push((kind, Zeroizing::new(value)));
            }
        }
        if let Some(exchange) = text("exchange_id", &filter.exchange_id)? {
            // In metadata the exchange id stands with its attempt: `<uuid>/<attempt>`.
            let id = exchange
                .split_once('/')
                .map_or(exchange.as_str(), |(id, _)| id);
            let problem = "not a UUID";
            query.exchange = Some(id.parse().map_err(|_| QueryError {
                field: "exchange_id",
                problem,
            })?);
        }
        for kind in &filter.kinds {
            match Kind::try_from(*kind) {
                Ok(Kind::Unspecified) | Err(_) => return Err(enumeration("kinds")),
                Ok(kind) => query.kinds.push(kind),
            }
        }
        let outcome = Outcome::try_from(filter.outcome).map_err(|_| enumeration("outcome"))?;
        query.outcome = (outcome != Outcome::Unspecified).then_some(outcome);
        let reason = Reason::try_from(filter.reason).map_err(|_| enumeration("reason"))?;
        query.reason = (reason != Reason::Unspecified).then_some(reason);
        Ok(query)
    }

    /// Whether an entry has everything that is asked for, apart from what only its private part holds.
    pub fn matches(&self, entry: &Entry) -> bool {
        let parties = || [&entry.client, &entry.provider].into_iter().flatten();
        let (service, method) = facet::method_parts(&entry.method);
        self.from_us.is_none_or(|from| entry.time_us >= from)
            && self.until_us.is_none_or(|until| entry.time_us < until)
            && self
                .city
                .is_none_or(|city| parties().any(|party| party.city == city.as_str()))
            && self
                .client
                .as_ref()
                .is_none_or(|pattern| matches_client(pattern, entry))
            && self.service.as_ref().is_none_or(|wanted| service == wanted)
            && self
                .method
                .as_ref()
                .is_none_or(|wanted| entry.method == *wanted || method == wanted)
            && self
                .purpose
                .as_ref()
                .is_none_or(|wanted| entry.purpose == *wanted)
            && self
                .exchange
                .is_none_or(|wanted| entry.exchange == wanted.as_bytes())
            && (self.kinds.is_empty() || self.kinds.contains(&entry.kind()))
            && self
                .outcome
                .is_none_or(|wanted| facet::outcome(entry) == Some(wanted))
            && self
                .reason
                .is_none_or(|wanted| facet::reasons_of(entry).any(|it| it == i32::from(wanted)))
    }

    /// Whether private parts have to be searched, by their tokens.
    pub fn is_private(&self) -> bool {
        !self.private.is_empty()
    }

    /// The query as a READ entry holds it: names of the private filters, names and values of the others.
    pub fn describe(&self) -> String {
        let mut words: Vec<String> = Vec::new();
        let mut word = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                words.push(format!("{name}={value}"));
            }
        };
        word("from_us", self.from_us.map(|time| time.to_string()));
        word("until_us", self.until_us.map(|time| time.to_string()));
        word("city", self.city.map(|city| city.to_string()));
        word(
            "client",
            self.client.as_ref().map(|pattern| match pattern {
                Pattern::Exact(exact) => exact.clone(),
                Pattern::Prefix(prefix) => format!("{prefix}*"),
            }),
        );
        word("service", self.service.clone());
        word("method", self.method.clone());
        word("purpose", self.purpose.clone());
        word("exchange_id", self.exchange.map(|id| id.to_string()));
        for kind in &self.kinds {
            word("kind", Some(kind.as_str_name().to_owned()));
        }
        word(
            "outcome",
            self.outcome.map(|outcome| outcome.as_str_name().to_owned()),
        );
        word(
            "reason",
            self.reason
                .map(|reason| ReasonTable::name(reason).to_owned()),
        );
        for (kind, _) in &self.private {
            words.push(
                match kind {
                    TokenKind::Case => "case_number",
                    TokenKind::Operator => "operator",
                    TokenKind::Subject => "subject",
                }
                .to_owned(),
            );
        }
        words.join(" ")
    }

    pub(crate) const fn begin_us(&self) -> Option<i64> {
        self.from_us
    }

    pub(crate) const fn end_us(&self) -> Option<i64> {
        self.until_us
    }

    pub(crate) const fn exchange(&self) -> Option<Uuid> {
        self.exchange
    }

    /// What must stand in the private part of every match, that first that few entries have.
    pub(crate) fn private(&self) -> impl Iterator<Item = (TokenKind, &str)> {
        self.private
            .iter()
            .rev()
            .map(|(kind, value)| (*kind, value.as_str()))
    }

    /// What every match has, those first that few entries have.
    pub(crate) fn facets(&self) -> Vec<FacetFilter> {
        let mut filters = Vec::new();
        let mut has = |facet, value: Box<[u8]>| filters.push((facet, vec![value.clone()..=value]));
        if let Some(Pattern::Exact(exact)) = &self.client {
            has(Facet::Client, facet::text_value(exact));
        }
        if let Some(reason) = self.reason {
            has(Facet::Reason, facet::number_value(reason.into()));
        }
        if let Some(method) = &self.method {
            // `/package.Service/Method` is stored as two facets; a path of another form as one.
            let (service, name) = facet::method_parts(method);
            has(Facet::Method, facet::text_value(name));
            if !service.is_empty() {
                has(Facet::Service, facet::text_value(service));
            }
        }
        if let Some(service) = &self.service {
            has(Facet::Service, facet::text_value(service));
        }
        if let Some(purpose) = &self.purpose {
            has(Facet::Purpose, facet::text_value(purpose));
        }
        if let Some(outcome) = self.outcome {
            has(Facet::Outcome, facet::number_value(outcome.into()));
        }
        if let Some(city) = &self.city {
            has(Facet::City, facet::text_value(city.as_str()));
        }
        if let Some(Pattern::Prefix(prefix)) = &self.client {
            filters.push((Facet::Client, vec![facet::prefix_range(prefix)]));
        }
        if !self.kinds.is_empty() {
            let kinds = self.kinds.iter().map(|kind| {
                let number = facet::number_value((*kind).into());
                number.clone()..=number
            });
            filters.push((Facet::Kind, kinds.collect()));
        }
        filters
    }
}

/// Never shows the values of the private filters.
impl fmt::Debug for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Query({})", self.describe())
    }
}

fn matches_client(pattern: &Pattern, entry: &Entry) -> bool {
    let client = entry.client.iter().map(|client| client.spiffe_id.as_str());
    let counted = entry.summary.iter().flat_map(|summary| &summary.counts);
    client
        .chain(counted.map(|count| count.client.as_str()))
        .any(|id| pattern.matches(id))
}

fn text(field: &'static str, value: &str) -> Result<Option<String>, QueryError> {
    if value.len() > MAX_TEXT_BYTES {
        return Err(QueryError {
            field,
            problem: "longer than 2,048 bytes",
        });
    }
    Ok((!value.is_empty()).then(|| value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faulty_filters_name_their_field() {
        let field = |filter: EntryFilter| Query::parse(&filter).unwrap_err().field;
        let none = EntryFilter::default;
        assert_eq!(
            field(EntryFilter {
                city: "qingdao".into(),
                ..none()
            }),
            "city"
        );
        assert_eq!(
            field(EntryFilter {
                exchange_id: "1".into(),
                ..none()
            }),
            "exchange_id"
        );
        assert_eq!(
            field(EntryFilter {
                kinds: vec![99],
                ..none()
            }),
            "kinds"
        );
        assert_eq!(
            field(EntryFilter {
                outcome: 99,
                ..none()
            }),
            "outcome"
        );
        assert_eq!(
            field(EntryFilter {
                reason: 999,
                ..none()
            }),
            "reason"
        );
        assert_eq!(
            field(EntryFilter {
                from_us: 2,
                until_us: 2,
                ..none()
            }),
            "until_us"
        );
        assert_eq!(
            field(EntryFilter {
                subject: "1".repeat(3_000),
                ..none()
            }),
            "subject"
        );
    }

    #[test]
    fn description_and_debug_never_hold_private_values() {
        let query = Query::parse(&EntryFilter {
            subject: "370202199001010001".into(),
            operator: "operator-17".into(),
            case_number: "case-1".into(),
            city: "370200".into(),
            client: "spiffe://yantai.jiaodong/*".into(),
            ..EntryFilter::default()
        })
        .unwrap();
        assert_eq!(
            query.describe(),
            "city=370200 client=spiffe://yantai.jiaodong/* operator case_number subject"
        );
        assert_eq!(format!("{query:?}"), format!("Query({})", query.describe()));
    }
}
