//! The file: names, manifest, and the zip around them.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Cursor, Read as _, Write as _},
};

use banqiao_ledger::digest::sha256;
use serde::{Deserialize, Serialize};
use zip::{CompressionMethod, ZipArchive, ZipWriter, result::ZipError, write::SimpleFileOptions};

/// What the manifest says that the file is.
pub const FORMAT: &str = "banqiao-evidence/1";
/// Name of the manifest.
const MANIFEST: &str = "manifest.json";
/// Largest file, and largest content: an exchange of a long stream has a few thousand entries.
const MAX_BYTES: u64 = 256 << 20;
/// Most members.
const MAX_FILES: usize = 100_000;

/// The names of what is in the file.
pub mod names {
    /// The signed directory.
    pub const DIRECTORY: &str = "directory.json";

    /// An entry of a city's ledger.
    pub fn entry(city: &str, index: u64) -> String {
        format!("{city}/{index:020}.entry")
    }

    /// The proof of an entry.
    pub fn proof(city: &str, index: u64) -> String {
        format!("{city}/{index:020}.tlog-proof")
    }

    /// The opening of an entry's private part.
    pub fn private(city: &str, index: u64) -> String {
        format!("{city}/{index:020}.private")
    }

    /// A receipt, by its SHA-256.
    pub fn receipt(hash: &[u8]) -> String {
        format!("receipts/{}.receipt", hex::encode(hash))
    }

    /// The link of a receipt's checkpoint to a cosigned one.
    pub fn link(hash: &[u8]) -> String {
        format!("receipts/{}.link", hex::encode(hash))
    }

    /// A certificate, by the SHA-256 of its public key.
    pub fn certificate(key: &[u8]) -> String {
        format!("certificates/{}.der", hex::encode(key))
    }

    /// The CRL of a city.
    pub fn crl(trust_domain: &str) -> String {
        format!("crls/{trust_domain}.crl")
    }
}

/// Why bytes are no evidence file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// A member is not what the manifest says, is missing, or is not in the manifest.
    #[error("{0} is not what the manifest lists")]
    Listed(String),
    /// The manifest is missing or cannot be read.
    #[error("there is no manifest that can be read")]
    Manifest,
    /// Made by a program that writes another format.
    #[error("the file is of format {0:?}; this program reads {FORMAT}")]
    Other(String),
    /// Too much.
    #[error("the file is larger than evidence of one exchange can be")]
    TooLarge,
    /// Not a zip file.
    #[error("not a zip file that can be read")]
    Zip(#[from] ZipError),
    /// Not a zip file, or it breaks off.
    #[error("the file cannot be read")]
    Read(#[from] std::io::Error),
}

/// Who made the file, and of what. Nothing of it is proven.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Made {
    /// UUID of the exchange.
    pub exchange: String,
    /// Code of the city whose gateway made the file.
    pub by: String,
    /// When, RFC 3339.
    pub at: String,
    /// What could not be put in, in plain words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub lacking: Vec<String>,
}

/// The manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// Who made it, and of what.
    #[serde(flatten)]
    pub made: Made,
    /// SHA-256 of every other member, in hexadecimal.
    pub files: BTreeMap<String, String>,
}

/// An evidence file, opened: its members are what the manifest lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bundle {
    /// Who made it, and of what.
    pub made: Made,
    files: BTreeMap<String, Vec<u8>>,
}

impl Bundle {
    /// A file of these members.
    pub const fn new(made: Made, files: BTreeMap<String, Vec<u8>>) -> Self {
        Self { made, files }
    }

    /// A member.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.files.get(name).map(Vec::as_slice)
    }

    /// Every member, by name.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.files
            .iter()
            .map(|(name, bytes)| (name.as_str(), bytes.as_slice()))
    }

    /// The manifest.
    pub fn manifest(&self) -> Manifest {
        Manifest {
            format: FORMAT.to_owned(),
            made: self.made.clone(),
            files: self
                .files
                .iter()
                .map(|(name, bytes)| (name.clone(), hex::encode(sha256(bytes))))
                .collect(),
        }
    }

    /// The bytes of the file: a zip without compression, members in order and without times, so that the same content is the
    /// same bytes.
    ///
    /// # Errors
    ///
    /// [`BundleError::TooLarge`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, BundleError> {
        let manifest =
            serde_json::to_vec_pretty(&self.manifest()).map_err(|_| BundleError::Manifest)?;
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .last_modified_time(zip::DateTime::default())
            .unix_permissions(0o644);
        let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
        let members = [(MANIFEST, manifest.as_slice())]
            .into_iter()
            .chain(self.files());
        for (name, bytes) in members {
            writer.start_file(name, options)?;
            writer.write_all(bytes)?;
        }
        Ok(writer.finish()?.into_inner())
    }

    /// Opens a file.
    ///
    /// # Errors
    ///
    /// See [`BundleError`]: also where any byte of a member is not what it was.
    pub fn parse(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() as u64 > MAX_BYTES {
            return Err(BundleError::TooLarge);
        }
        let mut archive = ZipArchive::new(Cursor::new(bytes))?;
        if archive.len() > MAX_FILES {
            return Err(BundleError::TooLarge);
        }
        let mut files = BTreeMap::new();
        let mut room = MAX_BYTES;
        for at in 0..archive.len() {
            let mut member = archive.by_index(at)?;
            let name = member.name()?.into_owned();
            let mut content = Vec::new();
            let read = member.by_ref().take(room + 1).read_to_end(&mut content)? as u64;
            room = room.checked_sub(read).ok_or(BundleError::TooLarge)?;
            if files.insert(name.clone(), content).is_some() {
                return Err(BundleError::Listed(name));
            }
        }
        let manifest = files.remove(MANIFEST).ok_or(BundleError::Manifest)?;
        let manifest: Manifest =
            serde_json::from_slice(&manifest).map_err(|_| BundleError::Manifest)?;
        if manifest.format != FORMAT {
            return Err(BundleError::Other(manifest.format));
        }
        let bundle = Self {
            made: manifest.made,
            files,
        };
        let names: BTreeSet<&String> = manifest.files.keys().chain(bundle.files.keys()).collect();
        for name in names {
            let hash = bundle.get(name).map(|bytes| hex::encode(sha256(bytes)));
            if hash.as_ref() != manifest.files.get(name) {
                return Err(BundleError::Listed(name.clone()));
            }
        }
        Ok(bundle)
    }
}
