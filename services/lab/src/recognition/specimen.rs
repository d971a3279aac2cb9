//! Whether a specimen is one of an item's.

use banqiao_proto::lab::v1::Concept;

/// Codes and words of specimens in use, and the catalogue's names for them. SNOMED CT from memory (M); HL7 v2 table 0487 (M).
const NAMES: [(&str, &str); 12] = [
    ("119364003", "血清"),
    ("119361006", "血浆"),
    ("258580003", "全血"),
    ("SER", "血清"),
    ("PLAS", "血浆"),
    ("WB", "全血"),
    ("serum", "血清"),
    ("plasma", "血浆"),
    ("whole blood", "全血"),
    ("静脉血清", "血清"),
    ("静脉血浆", "血浆"),
    ("静脉全血", "全血"),
];

/// Whether a specimen is one of `fit`, by its text, or by a code or display of its codings.
pub(super) fn fits(specimen: &Concept, fit: &[String]) -> bool {
    let codings = specimen.codings.iter();
    let words = codings.flat_map(|coding| [coding.code.as_str(), coding.display.as_str()]);
    let mut words = words.chain([specimen.text.as_str()]);
    words.any(|word| {
        let word = word.trim();
        let known = NAMES
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(word));
        let name = known.map_or(word, |(_, name)| *name);
        !name.is_empty() && fit.iter().any(|fit| fit == name)
    })
}

/// Whether it says anything.
pub(super) fn is_stated(specimen: Option<&Concept>) -> bool {
    specimen.is_some_and(|specimen| {
        let codings = specimen.codings.iter();
        let mut words = codings.flat_map(|coding| [&coding.code, &coding.display]);
        !specimen.text.trim().is_empty() || words.any(|word| !word.trim().is_empty())
    })
}
