//! Which troubles of a store pass, and which end its coordinator.

use std::fs;

use rounds::state::{Millis, State};

use super::*;

fn state() -> State {
    let config = rounds::config::RunConfig {
        name: "mini".into(),
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

#[tokio::test]
async fn a_store_that_cannot_be_opened_for_a_while_is_opened_again_when_it_can() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("place");
    fs::write(&place, "").unwrap();
    let mut keeper = Keeper::closed(place.join("store"));
    let state = state();
    for _ in 0..2 {
        let error = keeper.save(state.saved(), &[]).await.unwrap().unwrap_err();
        assert!(matches!(error, StoreError::Folder { .. }), "{error}");
    }
    fs::remove_file(&place).unwrap();
    keeper.save(state.saved(), &[]).await.unwrap().unwrap();
    // It stays open: nobody else gets it in between.
    let error = Store::open(&place.join("store")).unwrap_err();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    drop(keeper);
    let store = Store::open(&place.join("store")).unwrap();
    assert_eq!(store.load().unwrap().as_ref(), Some(state.saved()));
}

/// A coordinator that lost its store to another one must not go on beside it.
#[tokio::test]
async fn a_store_that_is_anothers_by_now_or_no_store_any_more_ends_the_coordinator() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("taken");
    let _other = Store::open(&taken).unwrap();
    let error = Keeper::closed(taken).save(state().saved(), &[]).await.unwrap_err();
    assert!(matches!(error, EngineError::Store(StoreError::InUse { .. })), "{error}");
    let damaged = folder.path().join("damaged");
    fs::write(&damaged, "no store").unwrap();
    let error = Keeper::closed(damaged).save(state().saved(), &[]).await.unwrap_err();
    assert!(matches!(error, EngineError::Store(StoreError::Foreign { .. })), "{error}");
}
