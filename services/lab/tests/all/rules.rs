//! The table of rules: it is the code's own, it is whole, and the page is what the program prints.

use std::{collections::BTreeSet, fs, path::Path};

use banqiao_lab::rulebook;
use prost_types::FileDescriptorSet;
use tonic::codegen::Bytes;

fn methods() -> BTreeSet<String> {
    let bytes = Bytes::from_static(banqiao_proto::FILE_DESCRIPTOR_SET);
    let set: FileDescriptorSet = prost::Message::decode(bytes).unwrap();
    let own = |file: &prost_types::FileDescriptorProto| file.package() == "banqiao.lab.v1";
    let files = set.file.into_iter().filter(own);
    files
        .flat_map(|file| file.service)
        .flat_map(|service| service.method)
        .map(|method| method.name().to_owned())
        .collect()
}

#[test]
fn the_page_of_rules_is_what_the_program_prints() {
    let page = include_str!("../../RULES.md");
    assert!(
        page == rulebook().markdown(),
        "run `cargo run -p banqiao-lab -- rules > services/lab/RULES.md`"
    );
}

#[test]
fn every_rule_names_source_and_places_and_every_refusal_a_remedy() {
    let (book, methods) = (rulebook(), methods());
    for row in book.rules() {
        let rule = row.rule;
        assert!(!rule.text.is_empty() && !rule.source.is_empty(), "{rule}");
        assert!(!row.places.is_empty(), "{rule}");
        for place in row.places {
            let known = methods.contains(*place)
                || *place == "every method"
                || place.starts_with("banqiao-lab ");
            assert!(known, "{place} of {rule}");
        }
        if matches!(row.effect, banqiao_kit::Effect::Refuses(_)) {
            assert!(!rule.remedy.is_empty(), "{rule}");
        }
    }
    // ListInstitutions takes nothing that could be wrong.
    for method in methods
        .into_iter()
        .filter(|method| method != "ListInstitutions")
    {
        let named = book
            .rules()
            .any(|row| row.places.contains(&method.as_str()));
        assert!(named, "no rule says where {method} refuses");
    }
}

#[test]
fn no_code_stands_twice() {
    let book = rulebook();
    let mut codes = BTreeSet::new();
    for row in book.rules() {
        assert!(codes.insert(row.rule.code), "{}", row.rule.code);
    }
}

/// The rules of a file: the text literal after each constructor.
fn codes_of(path: &Path, codes: &mut BTreeSet<String>) {
    if path.is_dir() {
        for entry in fs::read_dir(path).unwrap() {
            codes_of(&entry.unwrap().path(), codes);
        }
        return;
    }
    let text = fs::read_to_string(path).unwrap();
    for constructor in ["Rule::design(", "Rule::memory(", "Rule::quoted("] {
        for rest in text.split(constructor).skip(1) {
            let code = rest.trim_start().strip_prefix('"');
            let code = code.and_then(|rest| rest.split('"').next());
            codes.insert(code.unwrap_or(rest).to_owned());
        }
    }
}

#[test]
fn every_rule_in_the_source_stands_in_the_table() {
    let mut codes = BTreeSet::new();
    let source = Path::new(&std::env::var("CARGO_MANIFEST_DIR").unwrap()).join("src");
    codes_of(&source, &mut codes);
    assert!(codes.len() > 20, "{codes:?}");
    let book = rulebook();
    let listed: BTreeSet<_> = book.rules().map(|row| row.rule.code).collect();
    let missing: Vec<_> = codes
        .iter()
        .filter(|code| !listed.contains(code.as_str()))
        .collect();
    assert!(missing.is_empty(), "add to a module's rules(): {missing:?}");
}
