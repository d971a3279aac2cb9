//! Client patterns.

use std::{fmt, str::FromStr, sync::Arc};

use banqiao_directory::{NameError, SpiffeId, TrustDomain};

/// The clients that a grant covers: one system, or every system below a path of one city.
///
/// A pattern never spans cities and never covers a city's gateway, which is no client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientPattern {
    /// One system.
    Exact(SpiffeId),
    /// Every system whose ID begins with `prefix`.
    Under {
        /// The city.
        domain: TrustDomain,
        /// The ID up to and with the slash before the `*`.
        prefix: Arc<str>,
    },
}

impl ClientPattern {
    /// Whether the pattern covers a client.
    pub fn covers(&self, client: &SpiffeId) -> bool {
        !client.is_gateway()
            && match self {
                Self::Exact(id) => id == client,
                Self::Under { prefix, .. } => client.as_str().starts_with(&**prefix),
            }
    }

    /// The city whose systems it covers.
    pub const fn trust_domain(&self) -> &TrustDomain {
        match self {
            Self::Exact(id) => id.trust_domain(),
            Self::Under { domain, .. } => domain,
        }
    }
}

impl FromStr for ClientPattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let Some(prefix) = text.strip_suffix('*') else {
            let id: SpiffeId = text.parse()?;
            if id.is_gateway() {
                return Err(NameError::SpiffeId("a gateway is no client"));
            }
            return Ok(Self::Exact(id));
        };
        // The prefix must be a whole ID once any one system stands below it: the ID's own rules then hold for it.
        if !prefix.ends_with('/') {
            return Err(NameError::SpiffeId("a pattern ends in /*"));
        }
        let below: SpiffeId = format!("{prefix}system").parse()?;
        Ok(Self::Under {
            domain: below.trust_domain().clone(),
            prefix: prefix.into(),
        })
    }
}

impl fmt::Display for ClientPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(id) => fmt::Display::fmt(id, f),
            Self::Under { prefix, .. } => write!(f, "{prefix}*"),
        }
    }
}

/// The prefixes under which patterns may cover a client, longest first: slices of the ID itself.
pub(crate) fn prefixes(client: &SpiffeId) -> impl Iterator<Item = &str> {
    let text = client.as_str();
    let root = text.len() - client.path().len();
    text.char_indices()
        .rev()
        .filter(move |(at, character)| *character == '/' && *at >= root)
        .map(move |(at, _)| &text[..=at])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_stay_within_their_city_and_path() {
        let id = |text: &str| text.parse::<SpiffeId>().unwrap();
        let pattern: ClientPattern = "spiffe://yantai.jiaodong/hrss/*".parse().unwrap();
        assert_eq!(pattern.to_string(), "spiffe://yantai.jiaodong/hrss/*");
        assert!(pattern.covers(&id("spiffe://yantai.jiaodong/hrss/pension")));
        assert!(pattern.covers(&id("spiffe://yantai.jiaodong/hrss/pension/east")));
        assert!(!pattern.covers(&id("spiffe://yantai.jiaodong/hrss2/pension")));
        assert!(!pattern.covers(&id("spiffe://yantai.jiaodong/hrss")));
        assert!(!pattern.covers(&id("spiffe://yantai.jiaodong.evil/hrss/pension")));
        let city: ClientPattern = "spiffe://yantai.jiaodong/*".parse().unwrap();
        assert!(city.covers(&id("spiffe://yantai.jiaodong/hrss/pension")));
        assert!(!city.covers(&id("spiffe://yantai.jiaodong/gateway")));
        for bad in [
            "*",
            "spiffe://*",
            "spiffe://*/hrss/pension",
            "spiffe://yantai.jiaodong*",
            "spiffe://yantai.jiaodong/hr*",
            "spiffe://yantai.jiaodong/*/pension",
            "spiffe://yantai.jiaodong//*",
            "spiffe://yantai.jiaodong/gateway",
            "",
        ] {
            assert!(bad.parse::<ClientPattern>().is_err(), "{bad}");
        }
    }

    #[test]
    fn prefixes_end_at_the_city() {
        let id: SpiffeId = "spiffe://yantai.jiaodong/hrss/pension/east"
            .parse()
            .unwrap();
        assert_eq!(
            prefixes(&id).collect::<Vec<_>>(),
            [
                "spiffe://yantai.jiaodong/hrss/pension/",
                "spiffe://yantai.jiaodong/hrss/",
                "spiffe://yantai.jiaodong/"
            ]
        );
    }
}
