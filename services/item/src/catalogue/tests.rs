use std::{collections::BTreeSet, fs};

use banqiao_kit::Certainty;
use banqiao_proto::item::v1::{HandlingMode, ItemType};
use jiff::civil::date;
use tempfile::TempDir;

use super::*;

const TODAY: Date = date(2026, 11, 23);

fn shipped() -> Catalogue {
    Catalogue::load(&[]).unwrap()
}

fn with(text: &str) -> Result<Catalogue, Vec<String>> {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("own.toml");
    fs::write(&file, text).unwrap();
    let prefix = format!("{}/", folder.path().display());
    Catalogue::load(&[file]).map_err(|CatalogueFaults(faults)| {
        let shown = faults.iter().map(ToString::to_string);
        shown.map(|fault| fault.replace(&prefix, "")).collect()
    })
}

/// A sound item of a city; changes are appended to it.
fn own(id: &str, more: &str) -> String {
    format!(
        "label = \"本市目录\"\n[[item]]\nid = \"{id}\"\nname = \"甲\"\nname_en = \"A\"\ndomain = \"tax\"\n\
         lead_department = \"税务\"\nitem_type = \"PUBLIC_SERVICE\"\nservice_objects = [\"PERSON\"]\n\
         project_type = \"PROMISED\"\nmode = \"FULLY_ONLINE\"\nmode_certainty = \"D\"\npromise = 3\n\
         materials = [\"identity-card\"]\nresult = {{ type = \"NONE\" }}\nsource = \"本市\"\ncertainty = \"Q\"\n\
         version = 1\neffective_from = \"2026-01-01\"\n{more}"
    )
}

#[test]
fn eighty_two_items_are_shipped_and_called_a_demonstration() {
    let catalogue = shipped();
    assert_eq!(catalogue.label(), "示例目录, 非官方82项");
    let items: Vec<_> = catalogue.items(TODAY).collect();
    assert_eq!(items.len(), 82);
    assert_eq!(items[0].name, "户口迁移");
    assert_eq!(items[1].name, "普通护照异地申领");
    let quoted = items
        .iter()
        .filter(|item| item.certainty == Certainty::Quoted);
    assert_eq!(quoted.count(), 58);
    for mode in [
        HandlingMode::FullyOnline,
        HandlingMode::ProxyCollection,
        HandlingMode::JointHandling,
    ] {
        assert!(items.iter().any(|item| item.mode == mode), "{mode:?}");
    }
    for item in items {
        assert!(
            !item.source.is_empty() && !item.name_en.is_empty(),
            "{}",
            item.id
        );
        assert!(item.promise.workdays.is_some(), "{}", item.id);
        let waivers: BTreeSet<_> = item.materials.iter().flat_map(|m| &m.waived_by).collect();
        let calls: BTreeSet<_> = item.calls.iter().map(|call| &call.id).collect();
        assert_eq!(waivers, calls, "{}", item.id);
    }
}

#[test]
fn limits_of_licences_keep_the_law_and_promises_keep_the_limits() {
    for item in shipped().items(TODAY) {
        let Some(legal) = &item.legal else { continue };
        if item.item_type == ItemType::Licence {
            assert!(legal.workdays <= 20, "行政许可法 art. 42: {}", item.id);
        }
        let promised = item.promise.by_city.values().chain(&item.promise.workdays);
        assert!(
            promised.into_iter().all(|days| *days <= legal.workdays),
            "{}",
            item.id
        );
    }
}

#[test]
fn shipped_data_calls_name_methods_that_exist() {
    let pool = banqiao_proto::descriptors();
    for item in shipped().items(TODAY) {
        for call in &item.calls {
            let (service, method) = call.method.split_once('/').unwrap();
            let service = pool.get_service_by_name(service).unwrap();
            assert!(
                service.methods().any(|one| one.name() == method),
                "{}",
                call.method
            );
        }
    }
}

#[test]
fn a_call_that_looks_for_cases_names_items_and_what_they_give() {
    let call = |more: &str| {
        own("CITY-1", "")
            + "[[call]]\nid = \"own\"\nname = \"核验\"\nasked = \"FORMER\"\npurpose = \"case-handling\"\n\
               method = \"banqiao.item.v1.CaseService/SearchCases\"\n"
            + more
    };
    let place = |fault: &String| fault.split(": ").nth(1).unwrap().to_owned();
    for (more, keys) in [
        ("items = [\"JD008\"]\nresult = \"CERTIFICATE\"\n", &[][..]),
        ("", &["call[0].items", "call[0].result"]),
        (
            "items = [\"JD008\"]\nresult = \"LICENCE\"\n",
            &["call[0].result"],
        ),
        (
            "items = [\"JD001\"]\nresult = \"NONE\"\n",
            &["call[0].result"],
        ),
        (
            "items = [\"NONE-1\"]\nresult = \"LICENCE\"\n",
            &["call[0].items"],
        ),
        (
            "items = [\"a b\"]\nresult = \"LICENCE\"\n",
            &["call[0].items"],
        ),
    ] {
        let faults = with(&call(more)).err().unwrap_or_default();
        let places: Vec<_> = faults.iter().map(place).collect();
        assert_eq!(places, keys, "{more}: {faults:?}");
    }
    let other = call("items = [\"JD008\"]\nresult = \"CERTIFICATE\"\n");
    let card = other.replace(
        "banqiao.item.v1.CaseService/SearchCases",
        "banqiao.card.v1.CardService/VerifyCard",
    );
    let faults = with(&card).unwrap_err();
    assert_eq!(
        faults.iter().map(place).collect::<Vec<_>>(),
        ["call[0].items", "call[0].result"]
    );
    let unknown = other.replace("SearchCases", "GuessCases");
    let faults = with(&unknown).unwrap_err();
    assert!(
        faults[0].contains("call[0].method: must be one of"),
        "{faults:?}"
    );
}

#[test]
fn a_city_adds_items_and_replaces_them() {
    let added = with(&own("CITY-1", "")).unwrap();
    assert_eq!(added.items(TODAY).count(), 83);
    assert_eq!(added.label(), "本市目录");
    let replaced = with(&own("JD001", "effective_to = \"2026-06-30\"\n")).unwrap();
    let id = ItemId::parse("JD001").unwrap();
    assert_eq!(replaced.item(&id, date(2026, 6, 30)).unwrap().name, "甲");
    assert!(replaced.item(&id, date(2026, 7, 1)).is_none());
    assert_eq!(replaced.version(&id, 1).unwrap().lead_department, "税务");
}

#[test]
fn a_task_code_of_a_real_portal_is_taken_and_others_are_named() {
    // 普通护照签发 in the portal of another province.
    let real = "511A0116400001-511602000000-000-11511300008778693M-1-00";
    let with_code = |code: &str| {
        with(&own(
            "CITY-1",
            &format!("task_codes = {{ \"370200\" = \"{code}\" }}\n"),
        ))
    };
    let catalogue = with_code(real).unwrap();
    let id = ItemId::parse("CITY-1").unwrap();
    let codes = &catalogue.item(&id, TODAY).unwrap().task_codes;
    assert_eq!(codes[&"370200".parse().unwrap()], real);
    for bad in [
        real.to_lowercase(),
        real.replace('-', "_"),
        "7".repeat(65),
        String::new(),
    ] {
        let faults = with_code(&bad).unwrap_err();
        assert!(
            faults[0].contains("item[0].task_codes: a code has"),
            "{faults:?}"
        );
    }
}

#[test]
fn a_city_promises_less_time_than_others() {
    let item = shipped();
    let passport = item.item(&ItemId::parse("JD002").unwrap(), TODAY).unwrap();
    assert_eq!(passport.promise.of("370200".parse().unwrap()), Some(7));
    assert_eq!(passport.promise.of("371100".parse().unwrap()), Some(10));
    assert_eq!(passport.legal.as_ref().unwrap().workdays, 15);
}

#[test]
fn every_fault_comes_with_file_line_and_key() {
    let text = own(
        "city 1",
        "legal = { workdays = 2, citation = \"x\", certainty = \"Q\" }\ncolour = 1\n",
    )
    .replace("\"FULLY_ONLINE\"", "\"ONLINE\"")
    .replace("[\"identity-card\"]", "[\"identity-card\", \"ticket\"]")
    .replace(
        "effective_from = \"2026-01-01\"",
        "effective_from = \"2026-1-1\"",
    );
    let faults = with(&text).unwrap_err();
    let places: Vec<_> = faults
        .iter()
        .map(|fault| fault.splitn(3, ": ").take(2).collect::<Vec<_>>().join(": "))
        .collect();
    assert_eq!(
        places,
        [
            "own.toml:3: item[0].id",
            "own.toml:11: item[0].mode",
            "own.toml:13: item[0].promise",
            "own.toml:14: item[0].materials",
            "own.toml:19: item[0].effective_from",
            "own.toml:21: item[0].colour",
        ],
        "{faults:#?}"
    );
}

#[test]
fn files_that_are_missing_or_no_toml_are_named() {
    let folder = TempDir::new().unwrap();
    let files = [
        folder.path().join("none.toml"),
        folder.path().join("bad.toml"),
    ];
    fs::write(&files[1], "label = \"x\"\n[[item]\nid = 1\n").unwrap();
    let CatalogueFaults(faults) = Catalogue::load(&files).unwrap_err();
    assert!(
        faults[0]
            .to_string()
            .contains("none.toml:1: cannot be read"),
        "{faults:?}"
    );
    assert!(
        faults
            .iter()
            .any(|fault| fault.line == 2 && fault.file == files[1]),
        "{faults:?}"
    );
}

#[test]
fn tasks_belong_to_joint_handling_and_versions_do_not_meet() {
    let faults = with(&own("CITY-1", "").replace("FULLY_ONLINE", "JOINT_HANDLING")).unwrap_err();
    assert!(faults[0].contains("item[0].tasks"), "{faults:?}");
    let twice = own("CITY-1", "") + own("CITY-1", "").trim_start_matches("label = \"本市目录\"\n");
    let faults = with(&twice).unwrap_err();
    assert!(
        faults[0].contains("item[1].version: is given twice"),
        "{faults:?}"
    );
    let meeting = twice.replacen("version = 1", "version = 2", 1);
    let faults = with(&meeting).unwrap_err();
    assert!(
        faults[0].contains("item[1].effective_from: another version"),
        "{faults:?}"
    );
}
