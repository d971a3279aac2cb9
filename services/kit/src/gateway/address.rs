//! Where a city's gateway listens.

use std::{fmt, str::FromStr};

use http::{Uri, uri::Authority};

/// The port of a gateway's client listener in the samples of `deploy`.
const DEFAULT_PORT: u16 = 8443;

/// Host and port of a gateway's client listener: `gateway.qingdao:8443`, `127.0.0.1:8443`, `[::1]:8443`; without a port, 8443.
#[derive(Clone, PartialEq, Eq)]
pub struct GatewayAddress {
    host: String,
    port: u16,
    uri: Uri,
}

/// The text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no address of a gateway: write HOST:PORT")]
pub struct AddressFault;

impl GatewayAddress {
    /// Name or address of the host.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Port.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The address as a URI. Its scheme is http because tonic knows TLS by its own feature only; to it, what the connector makes is plain.
    pub(super) fn uri(&self) -> Uri {
        self.uri.clone()
    }
}

impl FromStr for GatewayAddress {
    type Err = AddressFault;

    fn from_str(text: &str) -> Result<Self, AddressFault> {
        let authority: Authority = text.parse().map_err(|_| AddressFault)?;
        let host = authority.host();
        // A port that is no number is passed over by `Authority`, as if there were none.
        let port = match text.get(host.len()..).unwrap_or_default() {
            "" => DEFAULT_PORT,
            rest => {
                let port = rest.strip_prefix(':').ok_or(AddressFault)?;
                port.parse().map_err(|_| AddressFault)?
            }
        };
        if host.is_empty() || text.contains('@') {
            return Err(AddressFault);
        }
        let plain = host.trim_start_matches('[').trim_end_matches(']');
        let uri = format!("http://{host}:{port}").parse();
        Ok(Self {
            host: plain.to_owned(),
            port,
            uri: uri.map_err(|_| AddressFault)?,
        })
    }
}

impl fmt::Display for GatewayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Debug for GatewayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_with_an_optional_port() {
        for (text, shown) in [
            ("gateway.qingdao", "gateway.qingdao:8443"),
            ("127.0.0.1:1", "127.0.0.1:1"),
            ("[::1]:5", "[::1]:5"),
            ("[::1]", "[::1]:8443"),
        ] {
            let address: GatewayAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
        }
        for bad in [
            "", "a b", "http://x", "x/y", "user@x", "x:99999", "x:", ":1",
        ] {
            assert_eq!(bad.parse::<GatewayAddress>(), Err(AddressFault), "{bad}");
        }
    }
}
