//! From the tables of a file to items. What the tables name of one another is joined when all files are read.

use std::collections::BTreeMap;

use banqiao_directory::CityCode;
use banqiao_kit::{
    Certainty,
    identifier::{DivisionCode, DivisionKind},
};
use banqiao_proto::item::v1::{
    DataCallCity, HandlingMode, ItemType, ProjectType, ResultType, ServiceObject,
};

use super::{
    item::{Call, Item, ItemId, LegalLimit, METHODS, Material, Promise, SEARCH_CASES, Task},
    source::{Entry, whole},
};

/// Longest limit in working days: a year has about 250.
const MAX_DAYS: i64 = 250;
/// 下级行政机关审查: 20 working days (行政许可法 art. 43) (Q).
const MAX_TASK_DAYS: i64 = 20;
/// Largest material: the service's own limit.
const MAX_MIB: i64 = 100;

const CERTAINTIES: &[(&str, Certainty)] = &[
    ("Q", Certainty::Quoted),
    ("M", Certainty::Memory),
    ("D", Certainty::Design),
];
const MODES: &[(&str, HandlingMode)] = &[
    ("FULLY_ONLINE", HandlingMode::FullyOnline),
    ("PROXY_COLLECTION", HandlingMode::ProxyCollection),
    ("JOINT_HANDLING", HandlingMode::JointHandling),
];
const ITEM_TYPES: &[(&str, ItemType)] = &[
    ("LICENCE", ItemType::Licence),
    ("BENEFIT", ItemType::Benefit),
    ("CONFIRMATION", ItemType::Confirmation),
    ("REWARD", ItemType::Reward),
    ("RULING", ItemType::Ruling),
    ("OTHER_POWER", ItemType::OtherPower),
    ("PUBLIC_SERVICE", ItemType::PublicService),
];
const OBJECTS: &[(&str, ServiceObject)] = &[
    ("PERSON", ServiceObject::Person),
    ("ENTERPRISE", ServiceObject::Enterprise),
    ("INSTITUTION", ServiceObject::Institution),
    ("ASSOCIATION", ServiceObject::Association),
    ("AGENCY", ServiceObject::Agency),
    ("OTHER", ServiceObject::Other),
];
const PROJECT_TYPES: &[(&str, ProjectType)] = &[
    ("IMMEDIATE", ProjectType::Immediate),
    ("PROMISED", ProjectType::Promised),
];
const RESULTS: &[(&str, ResultType)] = &[
    ("NONE", ResultType::None),
    ("LICENCE", ResultType::Licence),
    ("CERTIFICATE", ResultType::Certificate),
];
const ASKED: &[(&str, DataCallCity)] = &[
    ("DECIDING", DataCallCity::Deciding),
    ("FORMER", DataCallCity::Former),
    ("ISSUING", DataCallCity::Issuing),
];
/// Items that one call looks for: each is a call to the other city.
const MAX_ITEMS: usize = 8;

/// What files hold, before it is joined.
#[derive(Debug, Default)]
pub(super) struct Parts {
    pub(super) calls: BTreeMap<String, Call>,
    pub(super) materials: BTreeMap<String, Material>,
    /// What the items give.
    pub(super) results: BTreeMap<ItemId, ResultType>,
}

/// Reads the data calls and materials of a file into `parts`; those of a later file replace those of an earlier one.
pub(super) fn read_parts(top: &mut Entry<'_>, parts: &mut Parts) {
    for mut entry in top.entries("item") {
        let id = entry.parsed("id", parse_id);
        if let Some((id, (result, _))) = id.zip(read_result(&mut entry)) {
            parts.results.insert(id, result);
        }
    }
    for mut entry in top.entries("call") {
        if let Some(call) = read_call(&mut entry) {
            parts.calls.insert(call.id.clone(), call);
        }
    }
    for mut entry in top.entries("material") {
        if let Some(material) = read_material(&mut entry) {
            parts.materials.insert(material.id.clone(), material);
        }
    }
}

/// Reads the data calls and materials of a file again when the items of all files are known, for their faults.
pub(super) fn check_parts(top: &mut Entry<'_>, parts: &Parts) {
    for mut entry in top.entries("call") {
        let Some(call) = read_call(&mut entry) else {
            continue;
        };
        for item in &call.items {
            match parts.results.get(item) {
                Some(result) if Some(*result) == call.result => {}
                Some(_) => entry.fault("result", format!("\"{item}\" does not give it")),
                None => entry.fault("items", format!("\"{item}\" is no item of the catalogue")),
            }
        }
    }
    for mut entry in top.entries("material") {
        read_material(&mut entry);
    }
}

fn name_of(text: &str) -> Result<String, String> {
    let sound = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    if text.len() <= 40 && text.bytes().all(sound) {
        Ok(text.to_owned())
    } else {
        Err("must have 1 to 40 of a-z, 0-9 and -".to_owned())
    }
}

fn read_call(entry: &mut Entry<'_>) -> Option<Call> {
    let id = entry.parsed("id", name_of);
    let name = entry.text("name");
    let method = entry.parsed("method", |text| match METHODS.contains(&text) {
        true => Ok(text.to_owned()),
        false => Err(format!("must be one of {}", METHODS.join(", "))),
    });
    let asked = entry.choice("asked", ASKED);
    let purpose = entry.parsed("purpose", name_of);
    let items = entry.texts("items");
    let items: Result<Vec<_>, _> = items.into_iter().map(parse_id).collect();
    let items = items.map_err(|fault| entry.fault("items", fault)).ok();
    let result = entry.optional_choice("result", RESULTS);
    let looks = method.as_deref() == Some(SEARCH_CASES);
    let named = items.as_ref().map_or(1, Vec::len);
    if looks != (1..=MAX_ITEMS).contains(&named) {
        entry.fault(
            "items",
            format!("must name 1 to {MAX_ITEMS} items exactly for {SEARCH_CASES}"),
        );
    }
    if looks != result.is_some() || result == Some(ResultType::None) {
        entry.fault(
            "result",
            format!("must be LICENCE or CERTIFICATE exactly for {SEARCH_CASES}"),
        );
    }
    Some(Call {
        id: id?,
        name: name?.to_owned(),
        method: method?,
        asked: asked?,
        purpose: purpose?,
        items: items?,
        result,
    })
}

fn read_material(entry: &mut Entry<'_>) -> Option<Material> {
    let id = entry.parsed("id", name_of);
    let (name, name_en) = (entry.text("name"), entry.text("name_en"));
    let waived_by = owned(&entry.texts("waived_by"));
    let content_types = owned(&entry.texts("content_types"));
    if content_types.is_empty() {
        entry.fault("content_types", "must allow at least one content type");
    }
    for content_type in content_types.iter().filter(|one| !one.contains('/')) {
        entry.fault(
            "content_types",
            format!("\"{content_type}\" is no content type"),
        );
    }
    let mib = entry.number("max_mib", 1..=MAX_MIB);
    Some(Material {
        id: id?,
        name: name?.to_owned(),
        name_en: name_en?.to_owned(),
        required: true,
        waived_by,
        content_types,
        max_bytes: u64::try_from(mib?).ok()? * 1024 * 1024,
    })
}

/// Reads an item, and joins it with the materials and data calls that it names.
pub(super) fn read_item(entry: &mut Entry<'_>, parts: &Parts) -> Option<Item> {
    let id = entry.parsed("id", parse_id);
    let parent = entry.optional_text("parent").map(parse_id).transpose();
    let parent = parent.map_err(|fault| entry.fault("parent", fault)).ok();
    let (name, name_en) = (entry.text("name"), entry.text("name_en"));
    let (domain, lead) = (entry.text("domain"), entry.text("lead_department"));
    let mut departments = owned(&entry.texts("departments"));
    let task_codes = read_task_codes(entry);
    let item_type = entry.choice("item_type", ITEM_TYPES);
    let service_objects = entry.choices("service_objects", OBJECTS);
    if service_objects.is_empty() {
        entry.fault("service_objects", "must name at least one");
    }
    let project_type = entry.choice("project_type", PROJECT_TYPES);
    let mode = entry.choice("mode", MODES);
    let mode_certainty = entry.choice("mode_certainty", CERTAINTIES);
    let legal = read_legal(entry);
    let promise = read_promise(entry, legal.as_ref());
    let (materials, calls) = read_materials(entry, parts);
    let (fee_fen, fee_basis) = read_fee(entry);
    let legal_basis = entry.optional_text("legal_basis").unwrap_or_default();
    let result = read_result(entry);
    let tasks = read_tasks(entry, mode);
    let source = entry.text("source");
    let certainty = entry.choice("certainty", CERTAINTIES);
    let version = entry.number("version", 1..=i64::from(u32::MAX));
    let from = entry.date("effective_from");
    let to = entry.optional_date("effective_to");
    if from.zip(to).is_some_and(|(from, to)| to < from) {
        entry.fault("effective_to", "lies before effective_from");
    }
    let lead = lead?.to_owned();
    let (result, result_name) = result?;
    if departments.first() != Some(&lead) {
        departments.retain(|department| *department != lead);
        departments.insert(0, lead.clone());
    }
    Some(Item {
        id: id?,
        name: name?.to_owned(),
        name_en: name_en?.to_owned(),
        parent: parent?,
        domain: domain?.to_owned(),
        lead_department: lead,
        departments,
        task_codes,
        item_type: item_type?,
        service_objects,
        project_type: project_type?,
        mode: mode?,
        mode_certainty: mode_certainty?,
        legal,
        promise,
        materials,
        calls,
        fee_fen,
        fee_basis,
        legal_basis: legal_basis.to_owned(),
        result,
        result_name,
        tasks,
        source: source?.to_owned(),
        certainty: certainty?,
        version: u32::try_from(version?).ok()?,
        effective_from: from?,
        effective_to: to,
    })
}

fn parse_id(text: &str) -> Result<ItemId, String> {
    ItemId::parse(text).map_err(|broken| broken.to_string())
}

fn owned(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn city(text: &str) -> Option<CityCode> {
    let division = DivisionCode::parse(text).ok()?.division()?;
    let is_city = matches!(division.kind, DivisionKind::City | DivisionKind::GuestCity);
    is_city.then(|| text.parse().ok()).flatten()
}

fn read_task_codes(entry: &mut Entry<'_>) -> BTreeMap<CityCode, String> {
    let mut codes = BTreeMap::new();
    for (key, value) in entry.members("task_codes") {
        let sound = |byte: u8| matches!(byte, b'A'..=b'Z' | b'0'..=b'9' | b'-');
        let code = value
            .as_str()
            .filter(|code| (1..=64).contains(&code.len()) && code.bytes().all(sound));
        match (city(key), code) {
            (Some(city), Some(code)) => {
                codes.insert(city, code.to_owned());
            }
            (None, _) => entry.fault("task_codes", format!("\"{key}\" is no city of the network")),
            (_, None) => entry.fault("task_codes", "a code has 1 to 64 of A-Z, 0-9 and -"),
        }
    }
    codes
}

fn read_legal(entry: &mut Entry<'_>) -> Option<LegalLimit> {
    let mut legal = entry.entry("legal")?;
    let workdays = legal.number("workdays", 1..=MAX_DAYS);
    let citation = legal.text("citation");
    let certainty = legal.choice("certainty", CERTAINTIES);
    Some(LegalLimit {
        workdays: u32::try_from(workdays?).ok()?,
        citation: citation?.to_owned(),
        certainty: certainty?,
    })
}

fn read_promise(entry: &mut Entry<'_>, legal: Option<&LegalLimit>) -> Promise {
    let most = legal.map_or(MAX_DAYS, |legal| i64::from(legal.workdays));
    let fits = |days: i64| {
        u32::try_from(days)
            .ok()
            .filter(|days| (1..=most).contains(&i64::from(*days)))
    };
    let workdays = entry.optional_number("promise", 1..=MAX_DAYS);
    let mut by_city = BTreeMap::new();
    for (key, value) in entry.members("promise_by_city") {
        match (city(key), whole(value).and_then(fits)) {
            (Some(city), Some(days)) => {
                by_city.insert(city, days);
            }
            (None, _) => {
                entry.fault(
                    "promise_by_city",
                    format!("\"{key}\" is no city of the network"),
                );
            }
            (_, None) => entry.fault("promise_by_city", too_long(most)),
        }
    }
    if workdays.is_some_and(|days| fits(days).is_none()) {
        entry.fault("promise", too_long(most));
    }
    Promise {
        workdays: workdays.and_then(fits),
        by_city,
    }
}

/// 承诺时限 ≤ 法定时限.
fn too_long(most: i64) -> String {
    format!("must be a whole number of working days from 1 to {most}: not more than the law allows")
}

fn read_materials(entry: &mut Entry<'_>, parts: &Parts) -> (Vec<Material>, Vec<Call>) {
    let (mut materials, mut calls): (Vec<Material>, Vec<Call>) = (Vec::new(), Vec::new());
    for (key, required) in [("materials", true), ("optional_materials", false)] {
        for id in entry.texts(key) {
            let Some(material) = parts.materials.get(id) else {
                entry.fault(key, format!("\"{id}\" is no material of the catalogue"));
                continue;
            };
            if materials.iter().any(|known| known.id == id) {
                entry.fault(key, format!("\"{id}\" is named twice"));
            }
            for call in &material.waived_by {
                match parts.calls.get(call) {
                    Some(call) if calls.iter().all(|known| known.id != call.id) => {
                        calls.push(call.clone());
                    }
                    Some(_) => {}
                    None => entry.fault(
                        key,
                        format!("\"{id}\" is waived by \"{call}\", which is no data call of the catalogue"),
                    ),
                }
            }
            materials.push(Material {
                required,
                ..material.clone()
            });
        }
    }
    (materials, calls)
}

fn read_fee(entry: &mut Entry<'_>) -> (i64, String) {
    let Some(mut fee) = entry.entry("fee") else {
        return (0, String::new());
    };
    let fen = fee.number("fen", 0..=100_000_000);
    let basis = fee.text("basis");
    (
        fen.unwrap_or_default(),
        basis.unwrap_or_default().to_owned(),
    )
}

fn read_result(entry: &mut Entry<'_>) -> Option<(ResultType, String)> {
    let Some(mut result) = entry.entry("result") else {
        entry.fault("result", "is required");
        return None;
    };
    let kind = result.choice("type", RESULTS)?;
    let name = result.optional_text("name").unwrap_or_default();
    if (kind == ResultType::None) != name.is_empty() {
        result.fault("name", "must be given exactly where there is a result");
    }
    Some((kind, name.to_owned()))
}

fn read_tasks(entry: &mut Entry<'_>, mode: Option<HandlingMode>) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    for mut task in entry.entries("tasks") {
        let id = task.parsed("id", name_of);
        let (name, department) = (task.text("name"), task.text("department"));
        let days = task.number("workdays", 1..=MAX_TASK_DAYS);
        let days = days.and_then(|days| u32::try_from(days).ok());
        if let (Some(id), Some(name), Some(department), Some(workdays)) =
            (id, name, department, days)
        {
            if tasks.iter().any(|known| known.id == id) {
                task.fault("id", "is given twice");
            }
            let (name, department) = (name.to_owned(), department.to_owned());
            tasks.push(Task {
                id,
                name,
                department,
                workdays,
            });
        }
    }
    let joint = mode == Some(HandlingMode::JointHandling);
    if mode.is_some() && joint == tasks.is_empty() {
        entry.fault("tasks", "must be given exactly for JOINT_HANDLING");
    }
    tasks
}
