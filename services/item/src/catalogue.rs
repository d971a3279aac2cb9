//! 事项目录: the items as data.
//!
//! The binary ships the files of `services/item/catalogue`, a demonstration list and not the official 82 items. A city
//! names files of its own under `catalogue` in the service's settings: an item, a material or a data call of a later
//! file replaces every version of the same id that an earlier file gave. Nothing is compiled for an item.

mod item;
mod parse;
mod source;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use banqiao_kit::{RuleTable, Section};
use jiff::civil::Date;

pub use item::{Call, Item, ItemId, LegalLimit, Material, Promise, Task};
pub(crate) use item::{FIND_REPORTS, SEARCH_CASES, VERIFY_CARD};
use parse::{Parts, check_parts, read_item, read_parts};
pub use source::{CatalogueFault, CatalogueFaults};
use source::{Entry, Source};

/// The shipped files. Materials and data calls may stand in any of them.
const SHIPPED: [(&str, &str); 6] = [
    ("calls.toml", include_str!("../catalogue/calls.toml")),
    (
        "materials.toml",
        include_str!("../catalogue/materials.toml"),
    ),
    (
        "public-security.toml",
        include_str!("../catalogue/public-security.toml"),
    ),
    (
        "human-resources.toml",
        include_str!("../catalogue/human-resources.toml"),
    ),
    (
        "medical-insurance.toml",
        include_str!("../catalogue/medical-insurance.toml"),
    ),
    (
        "other-domains.toml",
        include_str!("../catalogue/other-domains.toml"),
    ),
];

/// Key of the settings under which files of a city are named.
const KEY: &str = "catalogue";

pub(crate) fn rules() -> RuleTable {
    item::rules()
}

/// A file's name and text.
type Text<'a> = (&'a Path, &'a str);

/// Items, each in every version that is known.
#[derive(Clone, Debug)]
pub struct Catalogue {
    label: String,
    items: BTreeMap<ItemId, Vec<Arc<Item>>>,
}

impl Catalogue {
    /// The shipped items and those of a city's files, in their order.
    ///
    /// # Errors
    /// Every fault of every file.
    pub fn load(files: &[PathBuf]) -> Result<Self, CatalogueFaults> {
        let mut texts = Vec::new();
        let mut faults = Vec::new();
        for file in files {
            match std::fs::read_to_string(file) {
                Ok(text) => texts.push((file.as_path(), text)),
                Err(error) => faults.push(CatalogueFault {
                    file: file.clone(),
                    line: 1,
                    key: String::new(),
                    message: format!("cannot be read: {error}"),
                }),
            }
        }
        let shipped = SHIPPED.iter().map(|(name, text)| (Path::new(*name), *text));
        let own = texts.iter().map(|(file, text)| (*file, text.as_str()));
        let read = Self::parse(&shipped.chain(own).collect::<Vec<_>>());
        match read {
            Ok(catalogue) if faults.is_empty() => Ok(catalogue),
            Ok(_) => Err(CatalogueFaults(faults)),
            Err(CatalogueFaults(others)) => {
                faults.extend(others);
                Err(CatalogueFaults(faults))
            }
        }
    }

    /// Reads `catalogue`, a list of files, from the top of a service's settings.
    pub fn read(top: &mut Section<'_>) -> Option<Self> {
        let mut files = Vec::new();
        match top.value(KEY) {
            None => {}
            Some(toml::Value::Array(array)) if array.iter().all(toml::Value::is_str) => {
                let names = array.iter().filter_map(toml::Value::as_str);
                files.extend(names.map(|name| top.folder().join(name)));
            }
            Some(_) => {
                top.fault(KEY, "must be a list of files");
                return None;
            }
        }
        match Self::load(&files) {
            Ok(catalogue) => Some(catalogue),
            Err(CatalogueFaults(faults)) => {
                for fault in faults {
                    top.fault(KEY, fault.to_string());
                }
                None
            }
        }
    }

    fn parse(texts: &[Text<'_>]) -> Result<Self, CatalogueFaults> {
        let mut parts = Parts::default();
        let mut catalogue = Self {
            label: String::new(),
            items: BTreeMap::new(),
        };
        // Twice over the files: items name materials and data calls of any of them.
        for (file, text) in texts {
            let source = Source::new(file, text);
            read_parts(&mut Entry::top(&source, &source.table()), &mut parts);
        }
        let mut faults = Vec::new();
        for (file, text) in texts {
            let source = Source::new(file, text);
            let table = source.table();
            let mut top = Entry::top(&source, &table);
            check_parts(&mut top, &parts);
            catalogue.take(&mut top, &parts);
            if let Some(label) = top.text("label") {
                label.clone_into(&mut catalogue.label);
            }
            drop(top);
            drop(table);
            faults.extend(source.into_faults());
        }
        if faults.is_empty() {
            Ok(catalogue)
        } else {
            Err(CatalogueFaults(faults))
        }
    }

    /// What the list is and what it is not.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// An item as it is in force on a day.
    pub fn item(&self, id: &ItemId, on: Date) -> Option<&Arc<Item>> {
        self.items.get(id)?.iter().find(|item| item.is_in_force(on))
    }

    /// A version of an item, in force or not.
    pub fn version(&self, id: &ItemId, version: u32) -> Option<&Arc<Item>> {
        self.items
            .get(id)?
            .iter()
            .find(|item| item.version == version)
    }

    /// The items in force on a day, in the order of their ids.
    pub fn items(&self, on: Date) -> impl Iterator<Item = &Arc<Item>> {
        let versions = self.items.values();
        versions.filter_map(move |versions| versions.iter().find(|item| item.is_in_force(on)))
    }

    /// Adds the items of a file.
    fn take(&mut self, top: &mut Entry<'_>, parts: &Parts) {
        let mut own: BTreeMap<ItemId, Vec<Arc<Item>>> = BTreeMap::new();
        for mut entry in top.entries("item") {
            let Some(item) = read_item(&mut entry, parts) else {
                continue;
            };
            let versions = own.entry(item.id.clone()).or_default();
            let meets = |other: &Item| {
                other
                    .effective_to
                    .is_none_or(|to| item.effective_from <= to)
                    && item
                        .effective_to
                        .is_none_or(|to| other.effective_from <= to)
            };
            if versions.iter().any(|other| other.version == item.version) {
                entry.fault("version", "is given twice for this item");
            } else if versions.iter().any(|other| meets(other)) {
                entry.fault(
                    "effective_from",
                    "another version of this item is in force then",
                );
            }
            versions.push(Arc::new(item));
        }
        self.items.extend(own);
    }
}
