//! What a gateway keeps on disk beside its ledger, so that it starts and goes on while others are out of reach: the
//! directory, every city's CRL, and the catalogues of the other cities. All of it is signed or public.

use std::{
    collections::HashMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use banqiao_directory::CityCode;
use banqiao_proto::directory::v1::{CatalogEntry, GetCatalogResponse};
use prost::Message;

use crate::{carried::Carried, peers, worker::Shared};

/// The kept directory.
pub(crate) fn directory_path(state: &Path) -> PathBuf {
    state.join("directory.json")
}

pub(crate) fn save_directory(state: &Path, json: &[u8]) -> io::Result<()> {
    write(&directory_path(state), json)
}

/// Keeps every CRL that is held. What cannot be kept is fetched again after a restart.
pub(crate) fn save_crls(shared: &Shared) {
    let folder = crl_folder(&shared.names.state);
    for crl in shared.identity.crls() {
        let path = folder.join(format!(
            "{}.crl",
            hex::encode(banqiao_ledger::digest::sha256(crl.issuer.as_bytes()))
        ));
        if fs::read(&path).is_ok_and(|held| *held == *crl.der) {
            continue;
        }
        if let Err(error) = write(&path, &crl.der) {
            tracing::warn!(path = %path.display(), %error, "a CRL could not be kept");
        }
    }
}

/// Keeps a checkpoint that the ledger contradicts, for `banqiao recover`.
pub(crate) fn save_proof(state: &Path, note: &str) -> io::Result<()> {
    write(&state.join("contradicted-checkpoint.note"), note.as_bytes())
}

pub(crate) fn crl_folder(state: &Path) -> PathBuf {
    state.join("crls")
}

pub(crate) fn save_catalog(
    shared: &Shared,
    city: CityCode,
    entries: &[CatalogEntry],
    sets: &HashMap<[u8; 32], Vec<u8>>,
) {
    let folder = shared.names.state.join("catalog").join(city.as_str());
    let kept = sets
        .iter()
        .try_for_each(|(digest, bytes)| write(&folder.join(set_name(digest)), bytes))
        .and_then(|()| {
            let list = GetCatalogResponse {
                entries: entries.to_vec(),
            };
            write(&folder.join("entries.binpb"), &list.encode_to_vec())
        });
    if let Err(error) = kept {
        tracing::warn!(folder = %folder.display(), %error, "a catalogue could not be kept");
    }
}

/// The kept catalogue of a city, if there is a whole one. What `remote` holds already is not decoded again.
pub(crate) fn load_catalog(
    state: &Path,
    city: CityCode,
    remote: &HashMap<CityCode, Arc<Carried>>,
) -> Option<Carried> {
    let folder = state.join("catalog").join(city.as_str());
    let list = GetCatalogResponse::decode(&*fs::read(folder.join("entries.binpb")).ok()?).ok()?;
    let mut sets = HashMap::new();
    for entry in &list.entries {
        let digest: [u8; 32] = entry.descriptor_digest.as_slice().try_into().ok()?;
        let bytes = fs::read(folder.join(set_name(&digest))).ok()?;
        if banqiao_ledger::digest::sha256(&bytes) != digest {
            return None;
        }
        sets.insert(digest, bytes);
    }
    peers::assemble(&list.entries, &sets, remote)
}

fn set_name(digest: &[u8; 32]) -> String {
    format!("{}.binpb", hex::encode(digest))
}

/// Replaces a file as a whole: a crash leaves the old one or the new one.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    let temporary = path.with_extension("new");
    let mut file = fs::File::create(&temporary)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    fs::File::open(folder)?.sync_all()
}
