//! Certificates and CRLs as they were when calls rested on them: evidence of a call needs them later.

use std::collections::HashSet;

use banqiao_ledger::{
    Credential, CredentialKind,
    digest::{Hash, sha256},
};
use banqiao_telemetry::Chain;
use parking_lot::Mutex;

use crate::worker::Shared;

/// What is known to be kept is forgotten beyond this; keeping it again changes nothing.
const REMEMBERED: usize = 16_384;

/// What is known to be kept, by the hash of its bytes.
#[derive(Debug, Default)]
pub(crate) struct Kept(Mutex<HashSet<Hash>>);

impl Kept {
    fn is_new(&self, bytes: &[u8]) -> bool {
        let mut kept = self.0.lock();
        if kept.len() >= REMEMBERED {
            kept.clear();
        }
        kept.insert(sha256(bytes))
    }

    fn forget(&self, bytes: &[u8]) {
        self.0.lock().remove(&sha256(bytes));
    }
}

/// Keeps the certificate of a system that connects.
pub(crate) async fn keep_certificate(shared: &Shared, key_sha256: [u8; 32], der: &[u8]) {
    keep(shared, CredentialKind::Certificate, key_sha256, der).await;
}

/// Keeps every CRL that is held.
pub(crate) async fn keep_crls(shared: &Shared) {
    for crl in shared.identity.crls() {
        let name = sha256(crl.trust_domain.as_str().as_bytes());
        keep(shared, CredentialKind::Crl, name, &crl.der).await;
    }
}

async fn keep(shared: &Shared, kind: CredentialKind, name: [u8; 32], der: &[u8]) {
    if !shared.credentials.is_new(der) {
        return;
    }
    let kept = Credential {
        kind,
        name,
        time_us: shared.clock.now_us(),
        bytes: der.to_vec(),
    };
    if let Err(error) = shared.ledger.keep_credential(kept).await {
        // The next connection, or the next look at the CRLs, tries again.
        shared.credentials.forget(der);
        tracing::warn!(error = %Chain(&error), ?kind, "a credential was not kept for evidence");
    }
}
