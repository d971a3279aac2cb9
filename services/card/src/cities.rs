//! Which city a calling system is of.

use std::collections::BTreeMap;

use banqiao_directory::{CityCode, SpiffeId, TrustDomain};

/// The trust domains of the network's cities, as the configuration names them.
#[derive(Clone, Debug)]
pub struct Cities {
    home: TrustDomain,
    own: CityCode,
    domains: BTreeMap<CityCode, TrustDomain>,
}

impl Cities {
    /// The city `own` with the trust domain `home`, and the others' trust domains by their codes.
    pub const fn new(
        home: TrustDomain,
        own: CityCode,
        domains: BTreeMap<CityCode, TrustDomain>,
    ) -> Self {
        Self { home, own, domains }
    }

    /// This city.
    pub const fn own(&self) -> CityCode {
        self.own
    }

    /// Whether a system is of this city.
    pub fn is_own(&self, client: &SpiffeId) -> bool {
        *client.trust_domain() == self.home
    }

    /// The city of a system; none when the configuration does not name its trust domain.
    pub fn city_of(&self, client: &SpiffeId) -> Option<CityCode> {
        if self.is_own(client) {
            return Some(self.own);
        }
        let domain = client.trust_domain();
        let mut others = self.domains.iter();
        others
            .find(|(_, other)| *other == domain)
            .map(|(code, _)| *code)
    }
}
