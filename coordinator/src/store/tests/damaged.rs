//! Stores that a disk, a copy or another version has changed: never another state than was saved,
//! never an empty one, and no panic.

use std::panic;

use contract::coordinator::Standing;
use serde_json::json;

use super::*;
use crate::standing::standing;

/// A store of three committed rounds, closed; its file.
fn written(path: &Path) -> Saved {
    let mut saved = serde_json::to_value(state("mini").saved()).unwrap();
    let mut entries = Vec::new();
    let mut last = genesis("mini");
    for index in 0..3 {
        let entry = Entry::new(index, last, Deed::Commit { round: index, set: Vec::new() });
        last = entry.hash;
        entries.push(entry);
    }
    saved["recordLength"] = 3.into();
    saved["recordHash"] = serde_json::to_value(last).unwrap();
    let saved: Saved = serde_json::from_value(saved).unwrap();
    let store = Store::open(path).unwrap();
    store.save(&saved, &entries).unwrap();
    assert_eq!(store.load().unwrap().as_ref(), Some(&saved));
    saved
}

/// What a store of these bytes says.
fn loaded(path: &Path, bytes: &[u8]) -> Result<Option<Saved>, StoreError> {
    fs::write(path, bytes).unwrap();
    Store::open(path).and_then(|store| store.load())
}

/// Checks what is read of a store that was changed at `at`.
fn check(path: &Path, bytes: &[u8], saved: &Saved, at: usize) -> bool {
    let read = panic::catch_unwind(|| loaded(path, bytes));
    match read.unwrap_or_else(|_| panic!("a panic over byte {at}")) {
        Ok(read) => {
            assert_eq!(read.as_ref(), Some(saved), "byte {at}");
            true
        }
        Err(error) => {
            assert!(!matches!(error, StoreError::InUse { .. }), "byte {at}: {error}");
            false
        }
    }
}

#[test]
fn a_byte_that_changes_anywhere_shows_or_does_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let saved = written(&path);
    let bytes = fs::read(&path).unwrap();
    let used: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let (mut fine, mut shown) = (0, 0);
    for at in used.iter().copied().step_by((used.len() / 64).max(1)) {
        let mut changed = bytes.clone();
        changed[at] ^= 0x5a;
        match check(&path, &changed, &saved, at) {
            true => fine += 1,
            false => shown += 1,
        }
    }
    assert!(shown > 0, "{fine} changes of {} used bytes went unseen", used.len());
}

#[test]
fn a_store_that_is_cut_anywhere_is_refused_or_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let saved = written(&path);
    let bytes = fs::read(&path).unwrap();
    for cut in (1..12).map(|part| bytes.len() * part / 12).chain([1, 64, 511, 4095]) {
        check(&path, &bytes[..cut], &saved, cut);
    }
}

/// Writes into the tables of a store as nobody should.
fn change(path: &Path, change: impl FnOnce(&redb::WriteTransaction)) {
    let database = Database::open(path).unwrap();
    let transaction = database.begin_write().unwrap();
    change(&transaction);
    transaction.commit().unwrap();
}

fn meta(path: &Path, key: &str, value: &[u8]) {
    change(path, |transaction| {
        transaction.open_table(META).unwrap().insert(key, value).unwrap();
    });
}

fn opened(path: &Path) -> Result<Option<Saved>, StoreError> {
    Store::open(path).and_then(|store| store.load())
}

#[test]
fn a_store_of_another_version_is_refused_for_good_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    written(&path);
    meta(&path, FORMAT_KEY, b"heteroloco coordinator 2");
    for _ in 0..2 {
        let error = opened(&path).unwrap_err();
        let StoreError::Foreign { source, .. } = &error else { panic!("{error}") };
        assert_eq!(source.to_string(), "it has another format");
        assert!(error.is_final() && !error.may_pass());
    }
    let Standing::Damaged { reason } = standing(&path).unwrap() else { panic!("damaged") };
    assert!(reason.contains("is damaged or not a coordinator's"), "{reason}");
}

#[test]
fn a_state_that_is_no_state_and_a_record_with_a_gap_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (at, text) in
        [&b"{"[..], b"", b"[]", b"\xff", b"{\"run\": \"mini\"}"].into_iter().enumerate()
    {
        let path = folder.path().join(format!("state-{at}"));
        written(&path);
        meta(&path, STATE_KEY, text);
        let error = opened(&path).unwrap_err();
        assert!(matches!(error, StoreError::Foreign { .. }) && error.is_final(), "{error}");
    }
    let gap = folder.path().join("gap");
    written(&gap);
    change(&gap, |transaction| {
        transaction.open_table(RECORD).unwrap().remove(1).unwrap();
    });
    let error = opened(&gap).unwrap_err();
    assert!(matches!(error, StoreError::Record { source: Broken { index: 1 }, .. }), "{error}");
    let entry = folder.path().join("entry");
    written(&entry);
    change(&entry, |transaction| {
        transaction.open_table(RECORD).unwrap().insert(2, &b"{}"[..]).unwrap();
    });
    let error = opened(&entry).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    // Of a record that ends too early every entry is right; the state knows how many there were.
    let short = folder.path().join("short");
    written(&short);
    change(&short, |transaction| {
        transaction.open_table(RECORD).unwrap().remove(2).unwrap();
    });
    let error = opened(&short).unwrap_err();
    assert!(matches!(error, StoreError::Apart { .. }) && error.is_final(), "{error}");
}

/// Fields that came later have a meaning for states that lack them; those of another version that
/// this one does not know are passed over.
#[test]
fn a_state_of_an_older_or_a_newer_version_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let saved = written(&path);
    let mut older = serde_json::to_value(&saved).unwrap();
    let fields = older.as_object_mut().unwrap();
    for later in ["given", "closing", "voters", "text", "allotted", "rejected", "held", "kept"] {
        assert!(fields.remove(later).is_some(), "{later}");
    }
    fields.insert("ofALaterVersion".into(), json!({"a": 1}));
    meta(&path, STATE_KEY, older.to_string().as_bytes());
    assert_eq!(opened(&path).unwrap(), Some(saved));
}

#[test]
fn what_is_asked_of_a_store_makes_none_and_changes_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    assert_eq!(standing(&path).unwrap(), Standing::Missing);
    assert!(!path.exists());
    fs::write(&path, "").unwrap();
    assert_eq!(standing(&path).unwrap(), Standing::Missing);
    assert_eq!(fs::metadata(&path).unwrap().len(), 0, "a full disk has left it");
    drop(Store::open(&path).unwrap());
    assert_eq!(standing(&path).unwrap(), Standing::Missing, "nothing was saved in it");
    written(&path);
    let whole =
        Standing::Whole { run: "mini".into(), round: 0, highest: 0, tokens: 0, checkpoint: None };
    assert_eq!(standing(&path).unwrap(), whole);
    // Who asks while a coordinator runs learns that, and not that the store is damaged.
    let _running = Store::open(&path).unwrap();
    assert!(matches!(standing(&path), Err(StoreError::InUse { .. })));
}

#[test]
fn what_a_start_that_was_killed_has_left_does_not_keep_the_next_one_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let left = path.with_added_extension(format!("new-{}", process::id()));
    fs::write(&left, "half a store").unwrap();
    drop(Store::open(&path).unwrap());
    assert!(!left.exists() && path.exists());
}
