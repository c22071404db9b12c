//! Tests of what the store keeps, and of what it refuses to open.

mod damaged;

use rounds::config::RunConfig;
use rounds::record::{Deed, genesis};
use rounds::state::{Millis, State};
use tempfile::TempDir;

use super::*;

fn state(run: &str) -> State {
    let config = RunConfig {
        name: run.into(),
        islands: 1,
        minimum: 1,
        quorum_percent: 100,
        grace_ms: 0,
        deadline_ms: 1000,
        fetch_deadline_ms: 1000,
        lease_ms: 1000,
        go_back_after_ms: 10_000,
        go_back: false,
        tokens: 1,
        max_members: 4,
    };
    State::new(config.validate().unwrap(), Millis(0))
}

fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/coordinator");
    (folder, path)
}

#[test]
fn what_was_saved_is_there_after_reopening() {
    let (_folder, path) = folder();
    let state = state("mini");
    let store = Store::open(&path).unwrap();
    assert_eq!(store.load().unwrap(), None);
    store.save(state.saved(), &[]).unwrap();
    drop(store);
    let store = Store::open(&path).unwrap();
    assert_eq!(store.load().unwrap().as_ref(), Some(state.saved()));
}

#[test]
fn a_second_coordinator_cannot_open_the_same_store() {
    let (_folder, path) = folder();
    let _store = Store::open(&path).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(!error.is_final());
}

#[test]
fn an_empty_file_is_no_store_yet_and_nothing_is_left_beside_a_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("coordinator");
    fs::write(&path, "").unwrap();
    drop(Store::open(&path).unwrap());
    let names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|it| it.unwrap().path()).collect();
    assert_eq!(names, [path]);
}

#[test]
fn a_file_of_another_kind_is_refused_and_left_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("notes.txt");
    let text = "not a database ".repeat(1000);
    fs::write(&path, &text).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
    assert!(error.is_final());
    assert_eq!(fs::read_to_string(&path).unwrap(), text);
}

#[test]
fn a_database_of_another_program_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other.redb");
    let table: TableDefinition<'_, &str, u64> = TableDefinition::new("visits");
    let database = Database::create(&path).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(table).unwrap().insert("home", 1).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
}

#[test]
fn a_truncated_store_is_refused() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    store.save(state("mini").saved(), &[]).unwrap();
    drop(store);
    fs::File::options().write(true).open(&path).unwrap().set_len(4096).unwrap();
    let error = Store::open(&path).and_then(|store| store.load()).unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. } | StoreError::Read { .. }), "{error}");
}

#[test]
fn a_record_that_was_changed_or_does_not_fit_the_state_is_refused() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let mut saved = serde_json::to_value(state("mini").saved()).unwrap();
    saved["recordLength"] = 1.into();
    let saved: Saved = serde_json::from_value(saved).unwrap();
    let mut entry = Entry::new(0, genesis("mini"), Deed::Commit { round: 0, set: Vec::new() });
    store.save(&saved, std::slice::from_ref(&entry)).unwrap();
    assert!(matches!(store.load(), Err(StoreError::Apart { .. })));
    entry.deed = Deed::Commit { round: 1, set: Vec::new() };
    store.save(&saved, &[entry]).unwrap();
    let error = store.load().unwrap_err();
    assert!(matches!(error, StoreError::Record { source: Broken { index: 0 }, .. }), "{error}");
}

#[test]
fn an_entry_that_was_written_though_nobody_was_told_is_taken_back_by_the_next_save() {
    let (_folder, path) = folder();
    let store = Store::open(&path).unwrap();
    let state = state("mini");
    let entry = Entry::new(0, genesis("mini"), Deed::Commit { round: 0, set: Vec::new() });
    // As if the disk had failed after it was written: the state goes on from before.
    store.save(state.saved(), &[entry]).unwrap();
    store.save(state.saved(), &[]).unwrap();
    assert_eq!(store.load().unwrap().as_ref(), Some(state.saved()));
    assert!(store.record().unwrap().is_empty());
}
