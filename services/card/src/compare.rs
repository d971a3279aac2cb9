//! Comparing of what a caller gave with the record, and the digest that proves what was compared.
//!
//! A caller must not learn which field failed, nor whether a number is anybody's: every comparison does the same work, against a record
//! that is nobody's when there is none, and all comparisons are made before their results are joined.

use std::sync::LazyLock;

use aws_lc_rs::{
    constant_time::verify_slices_are_equal,
    digest::{Context, SHA256, digest},
};
use banqiao_kit::{
    Broken,
    identifier::{CitizenId, DivisionCode},
};
use jiff::civil::Date;

use crate::{
    card::{Card, CardNumber, ChipCode, HolderName},
    request::CardKey,
    state::Standing,
    store::{Life, StoredCard},
};

/// Domain of the digest, with its version.
const DOMAIN: &[u8] = b"banqiao-card-record-v1\0";

/// Whether the card is there and everything that was given belongs to it.
pub(crate) fn matches(
    stored: Option<&StoredCard>,
    key: &CardKey,
    name: Option<&HolderName>,
) -> bool {
    let card = &stored.unwrap_or(&NOBODY).card;
    let holder = same(
        card.holder.as_str(),
        key.holder.as_ref().map(|holder| holder.as_str()),
    );
    let chip = same(card.chip.as_str(), key.chip.as_ref().map(ChipCode::as_str));
    let name = same(card.name.as_str(), name.map(HolderName::as_str));
    // Not `&&`, which would stop at the first difference.
    stored.is_some() & holder & chip & name
}

/// What was not given is compared with itself, so that it takes as long.
fn same(recorded: &str, given: Option<&str>) -> bool {
    let (recorded, given) = (recorded.as_bytes(), given.unwrap_or(recorded).as_bytes());
    let (recorded, given) = (digest(&SHA256, recorded), digest(&SHA256, given));
    verify_slices_are_equal(recorded.as_ref(), given.as_ref()).is_ok()
}

/// SHA-256 over the record as it stands at a time, as evidence of what was compared.
///
/// The record's own random salt is part of it: without the salt, which the city keeps, nobody can try names or numbers against the digest.
pub(crate) fn evidence(stored: &StoredCard, now_us: i64) -> [u8; 32] {
    let StoredCard { card, salt, .. } = stored;
    let mut context = Context::new(&SHA256);
    context.update(DOMAIN);
    context.update(salt);
    for text in [
        card.number.as_str(),
        card.holder.as_str(),
        card.name.as_str(),
        card.chip.as_str(),
        card.division.as_str(),
        &card.issued_on.to_string(),
        &card.expires_on.to_string(),
        &card.specification,
    ] {
        // Its length first, so that no text can pass for the end of another.
        context.update(&u64::try_from(text.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(text.as_bytes());
    }
    for standing in [card.social, card.financial] {
        let standing = standing.settled(now_us);
        let state = i32::from(standing.state().shown());
        context.update(&state.to_be_bytes());
        context.update(&standing.until_us().unwrap_or(i64::MIN).to_be_bytes());
    }
    context.update(&[u8::from(card.electronic)]);
    let mut bytes = [0; 32];
    bytes.copy_from_slice(context.finish().as_ref());
    bytes
}

/// A record that is nobody's, to do the same work with when no card was found.
pub(crate) static NOBODY: LazyLock<StoredCard> = LazyLock::new(|| {
    let nobody = || {
        let card = Card {
            number: CardNumber::parse("0")?,
            holder: CitizenId::parse("370202199001010007", Date::MAX)?,
            name: HolderName::parse("无")?,
            chip: ChipCode::parse("0000000000000000")?,
            division: DivisionCode::parse("370200")?,
            issued_on: Date::MIN,
            expires_on: Date::MAX,
            social: Standing::Cancelled,
            financial: Standing::Cancelled,
            electronic: false,
            specification: String::new(),
        };
        Ok::<_, Broken>(StoredCard {
            card,
            salt: [0; 32],
            version: 0,
            life: Life::default(),
        })
    };
    #[expect(
        clippy::expect_used,
        reason = "constants, and the first test reads them"
    )]
    nobody().expect("nobody's record keeps the rules")
});

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;
    use crate::request::Lookup;

    fn stored() -> StoredCard {
        let mut stored = NOBODY.clone();
        stored.card.number = CardNumber::parse("T02000001").unwrap();
        stored.card.expires_on = date(2030, 1, 1);
        stored.card.social = Standing::TempLost {
            until_us: 50,
            reported: true,
        };
        stored
    }

    fn key(holder: Option<&str>, chip: Option<&str>) -> CardKey {
        CardKey {
            lookup: Lookup::Number(CardNumber::parse("T02000001").unwrap()),
            holder: holder.map(|text| CitizenId::parse(text, Date::MAX).unwrap()),
            chip: chip.map(|text| ChipCode::parse(text).unwrap()),
        }
    }

    #[test]
    fn everything_given_must_belong_to_the_card() {
        let stored = stored();
        let name = HolderName::parse("无").unwrap();
        let other = HolderName::parse("有").unwrap();
        let (holder, chip) = ("370202199001010007", "0000000000000000");
        assert!(matches(Some(&stored), &key(None, None), None));
        assert!(matches(
            Some(&stored),
            &key(Some(holder), Some(chip)),
            Some(&name)
        ));
        assert!(!matches(
            Some(&stored),
            &key(Some("370602198506150002"), Some(chip)),
            Some(&name)
        ));
        assert!(!matches(
            Some(&stored),
            &key(Some(holder), Some("0000000000000001")),
            Some(&name)
        ));
        assert!(!matches(
            Some(&stored),
            &key(Some(holder), Some(chip)),
            Some(&other)
        ));
        assert!(!matches(None, &key(Some(holder), Some(chip)), Some(&name)));
        assert!(!matches(None, &key(None, None), None));
    }

    #[test]
    fn the_evidence_changes_with_every_field_and_with_nothing_else() {
        let first = stored();
        let digest = evidence(&first, 0);
        assert_eq!(evidence(&first, 49), digest);
        assert_ne!(evidence(&first, 50), digest, "the temporary loss has ended");
        let changed = |change: &dyn Fn(&mut StoredCard)| {
            let mut stored = first.clone();
            change(&mut stored);
            evidence(&stored, 0)
        };
        assert_eq!(changed(&|stored| stored.version = 9), digest);
        for change in [
            &(|stored: &mut StoredCard| stored.salt[31] = 1) as &dyn Fn(&mut StoredCard),
            &|stored| stored.card.name = HolderName::parse("有").unwrap(),
            &|stored| stored.card.expires_on = date(2030, 1, 2),
            &|stored| stored.card.financial = Standing::Lost { reported: false },
            &|stored| stored.card.electronic = true,
            &|stored| stored.card.specification = "3".into(),
        ] {
            assert_ne!(changed(change), digest);
        }
    }
}
