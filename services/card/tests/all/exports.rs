//! Exports, and files on their way back.

use std::path::Path;

use banqiao_card::{
    CARD_COLUMNS, COLUMNS, CardNumber, ExportFilter, Exported, LineOutcome, RefusedLines, card_of,
    row_of,
};
use banqiao_kit::{SheetRow, SheetWriter, identifier::DivisionCode, read_sheet};
use banqiao_proto::card::v1::{CardRecord, CardState, LossKind};
use jiff::civil::date;
use tempfile::TempDir;

use crate::scene::{Scene, loss, report};

fn rows(path: &Path) -> Vec<SheetRow> {
    let mut rows = Vec::new();
    read_sheet(path, &CARD_COLUMNS, |row| {
        rows.push(row);
        true
    })
    .unwrap();
    rows
}

fn cards(path: &Path) -> Vec<CardRecord> {
    rows(path).iter().map(|row| card_of(row).unwrap()).collect()
}

async fn export(scene: &Scene, path: &Path, filter: &ExportFilter) -> Vec<CardRecord> {
    let mut writer = SheetWriter::create(path, &COLUMNS, true).unwrap();
    let mut seen = (0, 0);
    let exported = scene
        .cards
        .export(filter, &mut writer, |looked_at, written| {
            seen = (looked_at, written);
        })
        .await
        .unwrap();
    writer.finish().unwrap();
    assert_eq!(exported.written, seen.1);
    assert!(seen.1 <= seen.0);
    let cards = cards(path);
    let written = u64::try_from(cards.len()).unwrap();
    assert_eq!(
        exported,
        Exported {
            written,
            unreadable: 0
        }
    );
    cards
}

pub(crate) async fn an_export_is_imported_as_it_stands(scene: Scene) {
    let records = scene.holders(1_100).await;
    report(&scene.cards, &loss(&records[0], LossKind::Formal))
        .await
        .unwrap();
    let folder = TempDir::new().unwrap();
    for name in ["cards.csv", "cards.xlsx"] {
        let path = folder.path().join(name);
        let exported = export(&scene, &path, &ExportFilter::default()).await;
        assert_eq!(exported.len(), 1_100);
        let numbers: Vec<_> = exported.iter().map(|card| &card.card_number).collect();
        assert!(numbers.is_sorted());
        let outcomes = scene.import(&exported).await;
        let as_before = |outcome: &LineOutcome| *outcome == LineOutcome::Unchanged;
        assert!(outcomes.iter().all(as_before));
    }
}

pub(crate) async fn an_export_takes_the_cards_that_are_asked_for(scene: Scene) {
    let mut records = scene.holders(60).await;
    records[2].expires_on = "2030-01-01".into();
    records[4].expires_on = "2030-01-02".into();
    records[5].set_social_state(CardState::Locked);
    let changed = [&records[2], &records[4], &records[5]].map(Clone::clone);
    let outcomes = scene.import(&changed).await;
    let is_updated = |outcome: &LineOutcome| *outcome == LineOutcome::Updated;
    assert!(outcomes.iter().all(is_updated), "{outcomes:?}");
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("cards.csv");
    let all = export(&scene, &path, &ExportFilter::default()).await;
    let day = date(2030, 1, 2);
    let filter = ExportFilter {
        expires_before: Some(day),
        ..ExportFilter::default()
    };
    let ending = export(&scene, &path, &filter).await;
    assert_eq!(ending, records[2..3]);

    let filter = ExportFilter {
        numbers: [&records[3], &records[1]]
            .map(|card| CardNumber::parse(&card.card_number).unwrap())
            .to_vec(),
        ..ExportFilter::default()
    };
    assert_eq!(export(&scene, &path, &filter).await.len(), 2);

    let filter = ExportFilter {
        states: vec![CardState::Locked, CardState::Lost],
        ..ExportFilter::default()
    };
    assert_eq!(export(&scene, &path, &filter).await, records[5..6]);
    let filter = ExportFilter {
        expires_before: Some(day),
        ..filter
    };
    assert_eq!(export(&scene, &path, &filter).await, []);

    let division = &all[0].issuing_division;
    for (code, count) in [
        (division.as_str(), None),
        ("370200", Some(60)),
        ("371000", Some(0)),
    ] {
        let filter = ExportFilter {
            division: Some(DivisionCode::parse(code).unwrap()),
            ..ExportFilter::default()
        };
        let found = export(&scene, &path, &filter).await;
        let of_it = all.iter().filter(|card| card.issuing_division == *division);
        assert_eq!(
            found.len(),
            count.unwrap_or_else(|| of_it.count()),
            "{code}"
        );
    }
}

pub(crate) async fn refused_lines_are_corrected_and_imported(scene: Scene) {
    let folder = TempDir::new().unwrap();
    let fresh = scene.holders(3).await;
    let mut faulty = fresh.clone();
    faulty[0].name = "=HYPERLINK(1)".into();
    faulty[0].issuing_division = "+370202".into();
    faulty[1].issued_on = "yesterday".into();
    faulty[1].expires_on = "tomorrow".into();
    for end in ["csv", "xlsx"] {
        let path = folder.path().join("cards").with_extension(end);
        let mut writer = SheetWriter::create(&path, &COLUMNS, false).unwrap();
        for card in &faulty {
            writer.write(&row_of(card)).unwrap();
        }
        writer.finish().unwrap();
        let path_refused = folder.path().join("refused").with_extension(end);
        let mut refused = RefusedLines::create(&path_refused, &CARD_COLUMNS).unwrap();
        let outcomes = scene.import(&cards(&path)).await;
        for (row, outcome) in rows(&path).iter().zip(&outcomes) {
            if let LineOutcome::Refused(faults) = outcome {
                refused.add(row, faults).unwrap();
            }
        }
        refused.finish().unwrap();
        // The lines come back as they were, without what was said about them.
        let mut again = cards(&path_refused);
        assert_eq!(again, faulty[..2]);
        again[0].name.clone_from(&fresh[0].name);
        again[0]
            .issuing_division
            .clone_from(&fresh[0].issuing_division);
        again[1] = fresh[1].clone();
        let outcomes = scene.import(&again).await;
        assert_eq!(outcomes, [LineOutcome::Unchanged, LineOutcome::Unchanged]);
    }
}
