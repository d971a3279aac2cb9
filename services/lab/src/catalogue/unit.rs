//! Units as laboratories print them, and their UCUM codes.

use banqiao_proto::lab::v1::Quantity;

/// Printed units whose UCUM code does not follow from their letters (The Unified Code for Units of Measure).
const PRINTED: [(&str, &str); 18] = [
    ("mEq/L", "meq/L"),
    ("IU/mL", "[IU]/mL"),
    ("IU/ml", "[IU]/mL"),
    ("IU/L", "[IU]/L"),
    ("mIU/L", "m[IU]/L"),
    ("mIU/mL", "m[IU]/mL"),
    ("uIU/mL", "u[IU]/mL"),
    ("uIU/ml", "u[IU]/mL"),
    ("mg/L FEU", "mg{FEU}/L"),
    ("ug/mL FEU", "ug{FEU}/mL"),
    ("ng/mL FEU", "ng{FEU}/mL"),
    ("mg/L DDU", "mg{DDU}/L"),
    ("ug/mL DDU", "ug{DDU}/mL"),
    ("ng/mL DDU", "ng{DDU}/mL"),
    ("% (NGSP)", "%"),
    ("mg/dL BUN", "mg{BUN}/dL"),
    ("mm/1h", "mm/h"),
    ("秒", "s"),
];

/// The UCUM code of a quantity: that of the sender, or the one of its printed unit; none when there is no unit.
pub fn ucum_of(quantity: &Quantity) -> Option<String> {
    if !quantity.ucum.is_empty() {
        return Some(quantity.ucum.clone());
    }
    let printed = quantity.unit.trim();
    if printed.is_empty() {
        return None;
    }
    // U+03BC and U+00B5 are both in use for micro; powers of ten are printed with ×, ^ and superscripts.
    let plain: String = printed
        .chars()
        .filter(|c| *c != '×')
        .map(|c| match c {
            'μ' | 'µ' => 'u',
            '^' => '*',
            other => other,
        })
        .collect();
    let plain = plain.replace("10¹²", "10*12").replace("10⁹", "10*9");
    let known = PRINTED.iter().find(|(unit, _)| *unit == plain);
    Some(known.map_or(plain, |(_, ucum)| (*ucum).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn printed_units_have_their_codes() {
        for (unit, ucum) in [
            ("×10^9/L", "10*9/L"),
            ("10⁹/L", "10*9/L"),
            ("μmol/L", "umol/L"),
            ("µmol/L", "umol/L"),
            ("μIU/mL", "u[IU]/mL"),
            ("mIU/L", "m[IU]/L"),
            ("mg/L FEU", "mg{FEU}/L"),
            ("mEq/L", "meq/L"),
            (" g/L ", "g/L"),
        ] {
            let quantity = Quantity {
                unit: unit.to_owned(),
                ..Quantity::default()
            };
            assert_eq!(ucum_of(&quantity).as_deref(), Some(ucum), "{unit}");
        }
        assert_eq!(ucum_of(&Quantity::default()), None);
    }

    #[test]
    fn the_senders_code_wins() {
        let quantity = Quantity {
            unit: "mg/dL".to_owned(),
            ucum: "mg{BUN}/dL".to_owned(),
            ..Quantity::default()
        };
        assert_eq!(ucum_of(&quantity).as_deref(), Some("mg{BUN}/dL"));
    }
}
