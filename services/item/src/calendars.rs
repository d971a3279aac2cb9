//! The working-day calendar of a running service: that of its settings, and what operators imported since.

use std::{path::Path, sync::Arc};

use banqiao_kit::calendar::{CalendarFaults, WorkCalendar};
use parking_lot::RwLock;

use crate::store::{Store, StoreError};

/// Stands in the faults of imported calendars.
const IMPORTED: &str = "imported calendar";

/// Why a calendar is not imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    /// The text.
    #[error(transparent)]
    CallerFaults(#[from] CalendarFaults),
    /// The store.
    #[error("the calendar cannot be stored")]
    Store(#[source] StoreError),
}

/// The calendar by which limits are counted. Cheap to clone; every clone sees what one of them loads.
#[derive(Clone, Debug)]
pub struct Calendars {
    store: Store,
    /// Id of the last import that was loaded, and the calendar.
    current: Arc<RwLock<(i64, WorkCalendar)>>,
}

impl Calendars {
    /// The calendar of the settings; imports are loaded by [`Self::refresh`].
    pub fn new(store: Store, settings: WorkCalendar) -> Self {
        Self {
            store,
            current: Arc::new(RwLock::new((0, settings))),
        }
    }

    /// The calendar of this moment.
    pub fn current(&self) -> WorkCalendar {
        self.current.read().1.clone()
    }

    /// Loads what was imported since, by any process, and says whether there was anything.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn refresh(&self) -> Result<bool, StoreError> {
        let known = self.current.read().0;
        let imports = self.store.calendars(known).await?;
        let Some((last, _)) = imports.last() else {
            return Ok(false);
        };
        let last = *last;
        let mut calendar = self.current();
        for (_, text) in &imports {
            let with = calendar.with_text(Path::new(IMPORTED), text);
            calendar = with.map_err(|_| StoreError::Corrupt("calendar"))?;
        }
        let mut current = self.current.write();
        if current.0 < last {
            *current = (last, calendar);
        }
        Ok(true)
    }

    /// Adds the years of a calendar file to the database. Running services load them with their next sweep.
    ///
    /// # Errors
    /// Every fault of the text, or the store.
    pub async fn import(&self, name: &Path, text: &str, now_us: i64) -> Result<(), ImportError> {
        self.current().with_text(name, text)?;
        let added = self.store.add_calendar(text, now_us).await;
        added.map_err(ImportError::Store)
    }
}
