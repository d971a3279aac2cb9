//! The keys of each month, in files beside the database and never in it.
//!
//! One secret per month and city, from which the key of the private parts and the keys of the search tokens are
//! derived: destroying the one file ends both (LEDGER.md §4). Replicas share the folder. A file is complete from
//! the moment it can be seen, and the first replica to make a month's file wins.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use aws_lc_rs::{
    aead::{AES_256_GCM, RandomizedNonceKey},
    hkdf, hmac, rand,
};
use banqiao_directory::CityCode;
use jiff::{
    Timestamp,
    civil::{Date, Time},
    tz::Offset,
};
use parking_lot::RwLock;
use zeroize::Zeroizing;

use crate::private::TokenKind;

/// First line of a key file.
const HEADER: &str = "banqiao-month-key 1";
/// A key file is about 120 bytes; a larger one is none.
const MAX_FILE_BYTES: u64 = 1_024;

/// A calendar month in UTC: the epoch of keys and of retention.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Month(i32);

impl Month {
    /// The month of a time in microseconds since 1970-01-01 UTC.
    ///
    /// Times outside the years that a calendar knows fall into its first or last month.
    pub fn of(time_us: i64) -> Self {
        let time = Timestamp::from_microsecond(time_us).unwrap_or(if time_us < 0 {
            Timestamp::MIN
        } else {
            Timestamp::MAX
        });
        let date = Offset::UTC.to_datetime(time).date();
        Self::new(date.year(), date.month())
    }

    fn new(year: i16, month: i8) -> Self {
        Self(i32::from(year) * 12 + i32::from(month) - 1)
    }

    /// Its first moment, and the first that is no longer in it.
    pub(crate) fn bounds_us(self) -> (i64, i64) {
        let begin = |number: i32| {
            let year = i16::try_from(number.div_euclid(12)).ok();
            let month = i8::try_from(number.rem_euclid(12) + 1).ok();
            let date = year
                .zip(month)
                .and_then(|(year, month)| Date::new(year, month, 1).ok());
            let midnight = date.map(|date| date.to_datetime(Time::midnight()));
            let time = midnight.and_then(|midnight| Offset::UTC.to_timestamp(midnight).ok());
            time.map_or(i64::MAX, Timestamp::as_microsecond)
        };
        (begin(self.0), begin(self.0.saturating_add(1)))
    }

    /// The following month.
    #[cfg(test)]
    pub(crate) const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The number that is stored: months since year 0.
    pub(crate) const fn number(self) -> i32 {
        self.0
    }

    /// The month with a stored number.
    pub(crate) const fn from_number(number: i32) -> Self {
        Self(number)
    }
}

impl fmt::Display for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04}-{:02}",
            self.0.div_euclid(12),
            self.0.rem_euclid(12) + 1
        )
    }
}

impl fmt::Debug for Month {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Month {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (year, month) = text.split_once('-').ok_or(())?;
        let (year, month): (i16, i8) = (
            year.parse().map_err(|_| ())?,
            month.parse().map_err(|_| ())?,
        );
        let parsed = Self::new(year, month);
        if (1..=12).contains(&month) && parsed.to_string() == text {
            Ok(parsed)
        } else {
            Err(())
        }
    }
}

/// Why the keys of a month cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// The system's random generator or key derivation failed.
    #[error("the keys of {month} could not be made")]
    Derivation {
        /// The month.
        month: Month,
    },
    /// The folder could not be read or made.
    #[error("the folder of keys {} cannot be used", .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Reading or writing failed.
    #[error("the key file {} cannot be used", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The content is not a key of this city and month.
    #[error("{} is not a key file of this city and month", .path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
    },
    /// Others than the owner may read it.
    #[error("the key file {} has mode {mode:03o}; only its owner may have access (600)", .path.display())]
    Mode {
        /// The file.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
    },
}

/// The keys of one month.
pub(crate) struct MonthKeys {
    month: Month,
    id: [u8; 8],
    sealing: RandomizedNonceKey,
    tokens: [hmac::Key; 3],
}

impl MonthKeys {
    fn derive(city: CityCode, month: Month, secret: &[u8; 32]) -> Result<Self, KeyringError> {
        let prk = hkdf::Salt::new(hkdf::HKDF_SHA256, b"banqiao-month-key-v1").extract(secret);
        let expand = |label: &str| -> Result<Zeroizing<[u8; 32]>, KeyringError> {
            let month_text = month.to_string();
            let info = [
                label.as_bytes(),
                b"\0",
                city.as_str().as_bytes(),
                b"\0",
                month_text.as_bytes(),
            ];
            let mut key = Zeroizing::new([0; 32]);
            prk.expand(&info, hkdf::HKDF_SHA256)
                .and_then(|okm| okm.fill(key.as_mut()))
                .map_err(|_| KeyringError::Derivation { month })?;
            Ok(key)
        };
        let token = |label: &str| Ok(hmac::Key::new(hmac::HMAC_SHA256, expand(label)?.as_ref()));
        let mut id = [0; 8];
        id.copy_from_slice(&expand("id")?[..8]);
        Ok(Self {
            month,
            id,
            sealing: RandomizedNonceKey::new(&AES_256_GCM, expand("private")?.as_ref())
                .map_err(|_| KeyringError::Derivation { month })?,
            tokens: [
                token("token-subject")?,
                token("token-operator")?,
                token("token-case")?,
            ],
        })
    }

    /// The month.
    pub(crate) const fn month(&self) -> Month {
        self.month
    }

    /// A name of the secret that says nothing about it: replicas that hold different secrets for one month are
    /// told apart by it.
    pub(crate) const fn id(&self) -> [u8; 8] {
        self.id
    }

    /// The key of the private parts.
    pub(crate) const fn sealing(&self) -> &RandomizedNonceKey {
        &self.sealing
    }

    /// The key of the search tokens of one kind.
    pub(crate) const fn token(&self, kind: TokenKind) -> &hmac::Key {
        match kind {
            TokenKind::Subject => &self.tokens[0],
            TokenKind::Operator => &self.tokens[1],
            TokenKind::Case => &self.tokens[2],
        }
    }
}

impl fmt::Debug for MonthKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MonthKeys({}, {})", self.month, hex::encode(self.id))
    }
}

/// The keys of every month, read from a folder.
#[derive(Debug)]
pub(crate) struct Keyring {
    folder: PathBuf,
    city: CityCode,
    months: RwLock<BTreeMap<Month, Arc<MonthKeys>>>,
}

impl Keyring {
    /// Opens the folder, which is made (mode 0700) when it is missing, and reads every key of the city in it.
    ///
    /// # Errors
    ///
    /// When the folder or a file cannot be read, is open to others, or is malformed.
    pub(crate) fn open(folder: PathBuf, city: CityCode) -> Result<Self, KeyringError> {
        let at_folder = |source| KeyringError::Folder {
            path: folder.clone(),
            source,
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(at_folder)?;
        let mut months = BTreeMap::new();
        for item in fs::read_dir(&folder).map_err(at_folder)? {
            let name = item.map_err(at_folder)?.file_name();
            let month = name
                .to_str()
                .and_then(|name| name.strip_prefix(city.as_str()))
                .and_then(|name| name.strip_prefix('-')?.strip_suffix(".key")?.parse().ok());
            if let Some(month) = month {
                let keys = read(&folder.join(&name), city, month)?;
                months.insert(month, Arc::new(keys));
            }
        }
        Ok(Self {
            folder,
            city,
            months: RwLock::new(months),
        })
    }

    /// The keys of a month, if there are any. A file that another replica has made since is found.
    pub(crate) fn held(&self, month: Month) -> Result<Option<Arc<MonthKeys>>, KeyringError> {
        if let Some(keys) = self.months.read().get(&month) {
            return Ok(Some(Arc::clone(keys)));
        }
        match read(&self.path(month), self.city, month) {
            Ok(keys) => Ok(Some(self.remember(keys))),
            Err(KeyringError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// The keys of a month, made when nobody has made them yet.
    ///
    /// Once a month this writes and syncs a small file.
    pub(crate) fn month(&self, month: Month) -> Result<Arc<MonthKeys>, KeyringError> {
        if let Some(keys) = self.held(month)? {
            return Ok(keys);
        }
        create(&self.folder, &self.path(month), self.city, month)?;
        // Whoever's file it is now, it is the one that counts.
        Ok(self.remember(read(&self.path(month), self.city, month)?))
    }

    /// Destroys the keys of a month: overwrites its file and removes it. `false`: there is none.
    ///
    /// Copies that others made of the file (backups, file systems that keep old blocks) are theirs to destroy.
    pub(crate) fn destroy(&self, month: Month) -> Result<bool, KeyringError> {
        // Under another name first: a file that is half overwritten must not look like a key when a process starts.
        let doomed = self
            .folder
            .join(format!(".{}-{month}.destroyed", self.city));
        let destroyed = match fs::rename(self.path(month), &doomed) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => self.wipe(&doomed),
        };
        // Behind the file: whoever had found it until then is forgotten too.
        self.months.write().remove(&month);
        match destroyed {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(KeyringError::Io {
                path: doomed,
                source,
            }),
        }
    }

    fn wipe(&self, path: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).open(path)?;
        let length = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        file.write_all(&vec![b'0'; length])?;
        file.sync_all()?;
        fs::remove_file(path)?;
        File::open(&self.folder)?.sync_all()
    }

    fn remember(&self, keys: MonthKeys) -> Arc<MonthKeys> {
        Arc::clone(
            self.months
                .write()
                .entry(keys.month)
                .or_insert_with(|| Arc::new(keys)),
        )
    }

    fn path(&self, month: Month) -> PathBuf {
        self.folder.join(format!("{}-{month}.key", self.city))
    }
}

/// Reads a key file that is closed to others and belongs to this city and month.
fn read(path: &Path, city: CityCode, month: Month) -> Result<MonthKeys, KeyringError> {
    let at = |source| KeyringError::Io {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(at)?;
    let mode = file.metadata().map_err(at)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(KeyringError::Mode {
            path: path.to_owned(),
            mode,
        });
    }
    let malformed = || KeyringError::Malformed {
        path: path.to_owned(),
    };
    let mut text = Zeroizing::new(String::new());
    file.take(MAX_FILE_BYTES)
        .read_to_string(&mut text)
        .map_err(at)?;
    let secret = text
        .strip_prefix(&*preamble(city, month))
        .and_then(|rest| rest.strip_suffix('\n'))
        .ok_or_else(malformed)?;
    let mut bytes = Zeroizing::new([0; 32]);
    hex::decode_to_slice(secret, bytes.as_mut()).map_err(|_| malformed())?;
    MonthKeys::derive(city, month, &bytes)
}

fn preamble(city: CityCode, month: Month) -> String {
    format!("{HEADER}\ncity {city}\nmonth {month}\nkey ")
}

/// Makes a key file, unless one is there. It is written under another name and linked into place, so that no
/// replica ever reads half of it, and no file is ever replaced.
fn create(folder: &Path, path: &Path, city: CityCode, month: Month) -> Result<(), KeyringError> {
    let at = |source| KeyringError::Io {
        path: path.to_owned(),
        source,
    };
    let random =
        |bytes: &mut [u8]| rand::fill(bytes).map_err(|_| KeyringError::Derivation { month });
    let mut secret = Zeroizing::new([0; 32]);
    random(secret.as_mut())?;
    let mut name = [0; 8];
    random(&mut name)?;
    let unfinished = folder.join(format!(".{}.unfinished", hex::encode(name)));
    let text = Zeroizing::new(format!(
        "{}{}\n",
        preamble(city, month),
        *Zeroizing::new(hex::encode(*secret))
    ));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&unfinished)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| match fs::hard_link(&unfinished, path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            linked => linked,
        })
        .and_then(|()| File::open(folder)?.sync_all());
    let removed = fs::remove_file(&unfinished);
    written.and(removed).map_err(at)
}

#[cfg(test)]
mod tests;
