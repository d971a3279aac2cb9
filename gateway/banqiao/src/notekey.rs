//! Keys that sign notes: a city's ledger key and its witness key, as files of mode 0600 (C2SP signed-note).

use std::{
    fmt,
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
    str::FromStr,
    sync::Arc,
};

use banqiao_directory::{SigningKey, TrustDomain};
use banqiao_tlog::{cosignature::WitnessSigner, note::Signer};
use zeroize::Zeroizing;

use crate::exit::Stop;

/// Most bytes of a key file; one has about 120.
const MAX_FILE: u64 = 4_096;

/// What a key is for: each has its own (LEDGER.md §3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NoteKeyUse {
    /// Signs the checkpoints of a log with this origin.
    Ledger(String),
    /// Cosigns the checkpoints of other cities' logs under this name.
    Witness(String),
}

impl NoteKeyUse {
    /// The key of a city's ledger in an epoch.
    pub fn ledger(domain: &TrustDomain, epoch: u64) -> Self {
        Self::Ledger(format!("{domain}/ledger/{epoch}"))
    }

    /// The key of a city's witness.
    pub fn witness(domain: &TrustDomain) -> Self {
        Self::Witness(format!("{domain}/witness"))
    }

    /// The public half of a key for this use, as the directory lists it.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, is open to others, or is no Ed25519 private key in PKCS#8 PEM.
    pub fn verifier(&self, path: &Path) -> anyhow::Result<String> {
        Ok(match self {
            Self::Ledger(origin) => ledger_signer(path, origin)?.verifier().to_string(),
            Self::Witness(name) => witness_signer(path, name)?.verifier().to_string(),
        })
    }
}

impl fmt::Display for NoteKeyUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Ledger(name) | Self::Witness(name)) = self;
        f.write_str(name)
    }
}

impl FromStr for NoteKeyUse {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let problem = "is <trust domain>/ledger/<epoch>, such as qingdao.jiaodong/ledger/1, or <trust domain>/witness";
        let (domain, rest) = text.split_once('/').ok_or(problem)?;
        let domain: TrustDomain = domain.parse().map_err(|_| problem)?;
        match rest.split_once('/') {
            None if rest == "witness" => Ok(Self::witness(&domain)),
            Some(("ledger", epoch)) if !epoch.starts_with('0') => epoch
                .parse()
                .map(|epoch| Self::ledger(&domain, epoch))
                .map_err(|_| problem),
            _ => Err(problem),
        }
    }
}

/// Makes a key in a new file of mode 0600. `false`: the file is there already, and stays as it is.
///
/// # Errors
///
/// When the file cannot be made.
pub fn make(path: &Path) -> anyhow::Result<bool> {
    let create = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let mut file = match create {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) => return Err(fault(path, "cannot be created").caused_by(error).into()),
    };
    let key = SigningKey::generate()?;
    file.write_all(key.to_pem()?.as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(|error| fault(path, "cannot be written").caused_by(error))?;
    Ok(true)
}

/// Reads the key of a ledger.
///
/// # Errors
///
/// When the file cannot be read, is open to others, or is no Ed25519 private key in PKCS#8 PEM.
pub fn ledger_signer(path: &Path, origin: &str) -> anyhow::Result<Arc<Signer>> {
    let der = read(path)?;
    Signer::from_pkcs8(origin, &der)
        .map(Arc::new)
        .map_err(|error| fault(path, "is no ledger key").caused_by(error).into())
}

/// Reads the key of a witness.
///
/// # Errors
///
/// As [`ledger_signer`].
pub fn witness_signer(path: &Path, name: &str) -> anyhow::Result<Arc<WitnessSigner>> {
    let der = read(path)?;
    WitnessSigner::from_pkcs8(name, &der)
        .map(Arc::new)
        .map_err(|error| fault(path, "is no witness key").caused_by(error).into())
}

fn read(path: &Path) -> anyhow::Result<Zeroizing<Vec<u8>>> {
    let open = || -> io::Result<(u32, Zeroizing<String>)> {
        let mut file = File::open(path)?;
        let mode = file.metadata()?.permissions().mode();
        let mut text = Zeroizing::new(String::new());
        io::Read::by_ref(&mut file)
            .take(MAX_FILE)
            .read_to_string(&mut text)?;
        Ok((mode, text))
    };
    let (mode, text) = open().map_err(|error| fault(path, "cannot be read").caused_by(error))?;
    if mode & 0o077 != 0 {
        return Err(fault(path, "may be read by others: set its mode to 0600").into());
    }
    pem::parse(text.as_bytes())
        .ok()
        .filter(|block| block.tag() == "PRIVATE KEY")
        .map(|block| Zeroizing::new(block.into_contents()))
        .ok_or_else(|| fault(path, "is no private key in PKCS#8 PEM").into())
}

fn fault(path: &Path, problem: &str) -> Stop {
    Stop::usage(format!("{} {problem}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn keys_are_made_once_and_read_by_their_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.key");
        let ledger: NoteKeyUse = "qingdao.jiaodong/ledger/1".parse().unwrap();
        let witness: NoteKeyUse = "qingdao.jiaodong/witness".parse().unwrap();
        assert!(ledger.verifier(&path).is_err());
        assert!(make(&path).unwrap());
        let public = ledger.verifier(&path).unwrap();
        assert!(!make(&path).unwrap(), "it is never replaced");
        assert_eq!(ledger.verifier(&path).unwrap(), public);
        // As the directory reads them.
        for verifier in [public, witness.verifier(&path).unwrap()] {
            let key: banqiao_directory::NoteKey = verifier.parse().unwrap();
            assert_eq!(key.as_str(), verifier);
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let told = ledger.verifier(&path).unwrap_err().to_string();
        assert!(told.contains("0600"), "{told}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(
            &path,
            "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
        )
        .unwrap();
        assert!(ledger.verifier(&path).is_err());
    }

    #[test]
    fn names_say_what_a_key_is_for() {
        for bad in [
            "",
            "qingdao.jiaodong",
            "qingdao.jiaodong/ledger",
            "qingdao.jiaodong/ledger/0",
            "qingdao.jiaodong/ledger/01",
            "qingdao.jiaodong/ledger/x",
            "qingdao.jiaodong/witness/1",
            "Qingdao/witness",
        ] {
            assert!(bad.parse::<NoteKeyUse>().is_err(), "{bad}");
        }
        let key: NoteKeyUse = "qingdao.jiaodong/ledger/12".parse().unwrap();
        assert_eq!(key.to_string(), "qingdao.jiaodong/ledger/12");
    }
}
