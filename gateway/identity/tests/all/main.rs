//! Identities, handshakes and a city's CA, with real certificates over real connections.

#[cfg(test)]
mod handshake;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod pki;
#[cfg(test)]
mod profile;
#[cfg(test)]
mod reload;
#[cfg(test)]
mod revocation;
#[cfg(test)]
mod scene;
