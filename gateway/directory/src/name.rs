//! Names of cities and systems.

use std::{fmt, str::FromStr, sync::Arc};

use crate::personal::holds_identity_number;

/// Why a name is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NameError {
    /// Not six digits that end in `00`.
    #[error("a city code has six digits and ends in 00 (GB/T 2260), such as 370200")]
    CityCode,
    /// Names a person: names are stored and logged in plain.
    #[error("a name must not hold a citizen's identity number")]
    IdentityNumber,
    /// Not a SPIFFE ID of this network's form.
    #[error("a SPIFFE ID has the form spiffe://<trust domain>/<agency>/<system>: {0}")]
    SpiffeId(&'static str),
    /// Not a trust domain.
    #[error("a trust domain has 1 to 255 characters of a-z, 0-9, '.', '-' and '_': {0}")]
    TrustDomain(&'static str),
}

/// Code of a prefecture-level city: six digits that end in `00` (GB/T 2260), such as `370200` for Qingdao.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CityCode([u8; 6]);

impl CityCode {
    /// The six digits.
    pub fn as_str(&self) -> &str {
        // Only digits are ever stored.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for CityCode {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let digits: [u8; 6] = text
            .as_bytes()
            .try_into()
            .map_err(|_| NameError::CityCode)?;
        let sound = digits.iter().all(u8::is_ascii_digit)
            && digits.ends_with(b"00")
            && (b'1'..=b'9').contains(&digits[0]);
        if sound {
            Ok(Self(digits))
        } else {
            Err(NameError::CityCode)
        }
    }
}

impl fmt::Display for CityCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CityCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Trust domain of a city, such as `qingdao.jiaodong` (SPIFFE ID specification §2.1).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The domain as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The SPIFFE ID of this city's gateway.
    pub fn gateway(&self) -> SpiffeId {
        SpiffeId {
            text: format!("spiffe://{}/gateway", self.0).into(),
            domain: self.clone(),
        }
    }
}

impl FromStr for TrustDomain {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.is_empty() || text.len() > 255 {
            return Err(NameError::TrustDomain("length"));
        }
        let sound = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_');
        if !text.bytes().all(sound) {
            return Err(NameError::TrustDomain("character"));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SPIFFE ID of a system or gateway: `spiffe://<trust domain>/<path>`, at most 2,048 bytes, one to eight path
/// segments, no empty, `.` or `..` segment, no percent-encoding, query or fragment (SPIFFE ID specification §2).
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    text: Arc<str>,
    domain: TrustDomain,
}

impl SpiffeId {
    /// The whole ID.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The city's trust domain.
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// The path, with its leading slash.
    pub fn path(&self) -> &str {
        &self.text["spiffe://".len() + self.domain.0.len()..]
    }

    /// The first segment of the path: the agency, or `gateway`.
    pub fn agency(&self) -> &str {
        self.path()[1..].split('/').next().unwrap_or_default()
    }

    /// Whether this is a city's gateway.
    pub fn is_gateway(&self) -> bool {
        self.path() == "/gateway"
    }
}

impl FromStr for SpiffeId {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        if text.len() > 2_048 {
            return Err(NameError::SpiffeId("too long"));
        }
        let rest = text
            .strip_prefix("spiffe://")
            .ok_or(NameError::SpiffeId("scheme"))?;
        let (domain, path) = rest.split_once('/').ok_or(NameError::SpiffeId("no path"))?;
        let domain = domain.parse()?;
        let mut segments = 0;
        for segment in path.split('/') {
            segments += 1;
            let sound =
                |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
            if segment.is_empty()
                || segment == "."
                || segment == ".."
                || !segment.bytes().all(sound)
            {
                return Err(NameError::SpiffeId("path segment"));
            }
        }
        if segments > 8 {
            return Err(NameError::SpiffeId("more than eight path segments"));
        }
        if holds_identity_number(path) {
            return Err(NameError::IdentityNumber);
        }
        Ok(Self {
            text: text.into(),
            domain,
        })
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spiffe_ids_are_parsed_strictly() {
        let id: SpiffeId = "spiffe://qingdao.jiaodong/hrss/card".parse().unwrap();
        assert_eq!(id.trust_domain().as_str(), "qingdao.jiaodong");
        assert_eq!(id.path(), "/hrss/card");
        assert_eq!(id.agency(), "hrss");
        assert!(!id.is_gateway());
        assert!(id.trust_domain().gateway().is_gateway());
        for bad in [
            "spiffe://qingdao.jiaodong",
            "spiffe://qingdao.jiaodong/",
            "spiffe://qingdao.jiaodong/a//b",
            "spiffe://qingdao.jiaodong/a/../b",
            "spiffe://qingdao.jiaodong/a%2fb",
            "spiffe://qingdao.jiaodong/a?b",
            "spiffe://Qingdao.jiaodong/a",
            "spiffe://user@qingdao.jiaodong/a",
            "SPIFFE://qingdao.jiaodong/a",
            "https://qingdao.jiaodong/a",
            "spiffe://qingdao.jiaodong/a/11010519491231002X",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn city_codes_are_cities() {
        assert_eq!("370200".parse::<CityCode>().unwrap().as_str(), "370200");
        for bad in ["370202", "37020", "3702000", "37020a", "070200", ""] {
            assert!(bad.parse::<CityCode>().is_err(), "{bad}");
        }
    }
}
