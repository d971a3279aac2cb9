use super::*;

fn city() -> CityCode {
    "370200".parse().unwrap()
}

#[test]
fn months_are_those_of_the_calendar() {
    for (time_us, text) in [
        (0, "1970-01"),
        (-1, "1969-12"),
        (1_764_547_199_999_999, "2025-11"),
        (1_764_547_200_000_000, "2025-12"),
        (1_767_225_600_000_000, "2026-01"),
    ] {
        let month = Month::of(time_us);
        assert_eq!(month.to_string(), text);
        assert_eq!(text.parse(), Ok(month));
        assert_eq!(Month::from_number(month.number()), month);
        let (begin, end) = month.bounds_us();
        assert!((begin..end).contains(&time_us));
        assert_eq!((Month::of(begin), Month::of(end - 1)), (month, month));
        assert_eq!(Month::of(end), month.next());
    }
    assert_eq!(
        "2025-12".parse::<Month>().unwrap().next().to_string(),
        "2026-01"
    );
    for bad in [
        "2025-13", "2025-00", "2025-1", "25-01", "2025", "+025-01", "",
    ] {
        assert!(bad.parse::<Month>().is_err(), "{bad}");
    }
    Month::of(i64::MAX);
    Month::of(i64::MIN);
}

#[test]
fn replicas_that_share_a_folder_have_the_same_keys() {
    let folder = tempfile::tempdir().unwrap();
    let rings: Vec<Keyring> = (0..8)
        .map(|_| Keyring::open(folder.path().join("keys"), city()).unwrap())
        .collect();
    let month = Month::of(0);
    let ids: Vec<[u8; 8]> = std::thread::scope(|scope| {
        let threads: Vec<_> = rings
            .iter()
            .map(|ring| scope.spawn(|| ring.month(month).unwrap().id()))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().unwrap())
            .collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    assert_eq!(fs::read_dir(folder.path().join("keys")).unwrap().count(), 1);
    let again = Keyring::open(folder.path().join("keys"), city()).unwrap();
    assert_eq!(again.month(month).unwrap().id(), ids[0]);
}

#[test]
fn each_month_and_city_has_its_own_key() {
    let folder = tempfile::tempdir().unwrap();
    let ring = Keyring::open(folder.path().to_owned(), city()).unwrap();
    let other = Keyring::open(folder.path().to_owned(), "370600".parse().unwrap()).unwrap();
    let month = Month::of(0);
    assert!(ring.held(month).unwrap().is_none());
    let id = ring.month(month).unwrap().id();
    assert_ne!(id, ring.month(month.next()).unwrap().id());
    assert_ne!(id, other.month(month).unwrap().id());
}

#[test]
fn files_open_to_others_and_foreign_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let month = Month::of(0);
    Keyring::open(folder.path().to_owned(), city())
        .unwrap()
        .month(month)
        .unwrap();
    let path = folder.path().join("370200-1970-01.key");
    assert_eq!(
        fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    let error = Keyring::open(folder.path().to_owned(), city()).unwrap_err();
    assert!(
        matches!(error, KeyringError::Mode { mode: 0o640, .. }),
        "{error}"
    );
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    fs::rename(&path, folder.path().join("370200-1970-02.key")).unwrap();
    let error = Keyring::open(folder.path().to_owned(), city()).unwrap_err();
    assert!(matches!(error, KeyringError::Malformed { .. }), "{error}");
}
