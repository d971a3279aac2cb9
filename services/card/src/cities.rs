//! Which city a calling system is of.

use std::collections::BTreeMap;

use banqiao_directory::{CityCode, SpiffeId, TrustDomain};

/// The trust domains of the network's cities, as the configuration names them.
#[derive(Clone, Debug)]
pub struct Cities {
    home: TrustDomain,
    own: CityCode,
    others: BTreeMap<String, CityCode>,
}

impl Cities {
    /// A city with the trust domain `home`, and others by trust domain.
    pub const fn new(home: TrustDomain, own: CityCode, others: BTreeMap<String, CityCode>) -> Self {
        Self { home, own, others }
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
        self.others.get(client.trust_domain().as_str()).copied()
    }
}
