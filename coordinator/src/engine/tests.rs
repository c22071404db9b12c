//! The engine in virtual time: nothing but the clock ends a lease or a phase.

use rounds::config::RunConfig;
use rounds::request::{Identity, Join, Offer};
use rounds::types::{Contribution, Digest, Phase, RankAddress};
use tempfile::TempDir;
use tokio::task::JoinHandle;

use super::*;

fn config() -> Config {
    let config = RunConfig {
        name: "mini".into(),
        islands: 2,
        minimum: 1,
        quorum_percent: 50,
        grace_ms: 1_000,
        deadline_ms: 100_000,
        fetch_deadline_ms: 2_000,
        lease_ms: 10_000,
        go_back_after_ms: 10_000,
        go_back: false,
        tokens: 1_000_000,
        max_members: 4,
    };
    config.validate().unwrap()
}

fn who(island: &str) -> Identity {
    Identity { run: "mini".into(), island: island.into(), epoch: 1 }
}

fn join(island: &str) -> Event {
    let address = format!("{island}:1");
    Event::Join(Join {
        who: who(island),
        ranks: vec![RankAddress { address, first_piece: 0, end_piece: 1 }],
        layout_hash: Digest([1; 32]),
        round: 0,
        theta_hash: Digest([2; 32]),
        tokens_per_second_milli: 0,
        inner_steps: 0,
        round_samples: 10,
        tokens: 0,
        samples: 0,
        complaint: String::new(),
    })
}

fn offer(island: &str) -> Event {
    let contribution = Contribution {
        island: island.into(),
        epoch: 1,
        digest: Digest([3; 32]),
        bytes: 1,
        tokens: 5,
        steps: 1,
        loss: 1.0,
    };
    Event::Offer(Offer { who: who(island), round: 0, contribution, leaving: false })
}

fn start(folder: &TempDir) -> (Handle, JoinHandle<Result<(), EngineError>>) {
    let store = Store::open(&folder.path().join("store")).unwrap();
    let (engine, handle) = Engine::new(config(), store).unwrap();
    (handle, tokio::spawn(engine.run(std::future::pending())))
}

async fn until(handle: &Handle, wanted: impl Fn(&RunView) -> bool) -> Arc<RunView> {
    let mut views = handle.views();
    Arc::clone(&*views.wait_for(|view| wanted(view)).await.unwrap())
}

#[tokio::test(start_paused = true)]
async fn time_alone_moves_a_round_from_waiting_to_its_commit() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, _engine) = start(&folder);
    let began = Instant::now();
    handle.call(join("a")).await.unwrap().unwrap();
    until(&handle, |view| view.phase == Phase::Training).await;
    assert_eq!(began.elapsed().as_secs(), 1, "the minimum has to wait for the grace");
    handle.call(join("b")).await.unwrap().unwrap();
    handle.call(offer("a")).await.unwrap().unwrap();
    until(&handle, |view| view.phase == Phase::Fetching).await;
    assert_eq!(began.elapsed().as_secs(), 2, "half is a quorum, and a grace later it closes");
    let view = until(&handle, |view| view.round == 1).await;
    assert_eq!(began.elapsed().as_secs(), 4, "nobody fetches before the deadline");
    assert_eq!(view.commits[0].set.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_silent_member_loses_its_lease_and_one_with_a_heartbeat_keeps_it() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, _engine) = start(&folder);
    handle.call(join("a")).await.unwrap().unwrap();
    handle.call(join("b")).await.unwrap().unwrap();
    tokio::time::advance(Duration::from_secs(6)).await;
    assert!(handle.call(Event::Heartbeat(who("a"))).await.unwrap().unwrap().yes);
    let view = until(&handle, |view| view.members.len() < 2).await;
    assert_eq!(view.members[0].island, "a");
    assert!(!handle.call(Event::Heartbeat(who("b"))).await.unwrap().unwrap().yes);
}

#[tokio::test(start_paused = true)]
async fn an_engine_that_ends_answers_nobody_and_its_successor_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let (handle, engine) = start(&folder);
    handle.call(join("a")).await.unwrap().unwrap();
    handle.call(join("b")).await.unwrap().unwrap();
    handle.call(offer("a")).await.unwrap().unwrap();
    let view = Arc::clone(&handle.views().borrow());
    engine.abort();
    assert!(engine.await.unwrap_err().is_cancelled());
    handle.stopped().await;
    assert_eq!(handle.call(offer("b")).await, Err(Stopped));

    let (handle, _engine) = start(&folder);
    assert_eq!(*handle.views().borrow(), view);
    handle.call(offer("b")).await.unwrap().unwrap();
    assert_eq!(handle.views().borrow().phase, Phase::Fetching);
}

#[tokio::test(start_paused = true)]
async fn a_store_of_another_run_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("other");
    let store = Store::open(&path).unwrap();
    Engine::new(config(), store).unwrap();
    let other = RunConfig { name: "other".into(), ..(*config()).clone() }.validate().unwrap();
    let error = Engine::new(other, Store::open(&path).unwrap()).err().unwrap();
    assert!(matches!(error, EngineError::OtherRun(_)), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_call_that_cannot_be_saved_is_not_answered_and_changes_nothing_until_there_is_room() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store")).unwrap();
    let (mut engine, handle) = Engine::new(config(), store).unwrap();
    // A file where the folder should be is as good as a disk without room.
    let full = folder.path().join("full");
    std::fs::write(&full, "").unwrap();
    engine.store = Keeper::closed(full.join("store"));
    let engine = tokio::spawn(engine.run(std::future::pending()));
    for _ in 0..3 {
        assert_eq!(handle.call(join("a")).await, Err(Stopped));
    }
    assert!(handle.views().borrow().members.is_empty());
    std::fs::remove_file(&full).unwrap();
    handle.call(join("a")).await.unwrap().unwrap();
    let began = Instant::now();
    until(&handle, |view| view.phase == Phase::Training).await;
    assert_eq!(began.elapsed().as_secs(), 1);

    engine.abort();
    let _ = engine.await;
    let store = Store::open(&full.join("store")).unwrap();
    assert_eq!(store.load().unwrap().unwrap().round(), 0);
}

#[tokio::test(start_paused = true)]
async fn time_that_cannot_be_saved_is_tried_again_each_second_and_not_more_often() {
    let folder = tempfile::tempdir().unwrap();
    let (mut engine, handle) =
        Engine::new(config(), Store::open(&folder.path().join("store")).unwrap()).unwrap();
    assert!(engine.take(join("a")).await.unwrap().is_some());
    let full = folder.path().join("full");
    std::fs::write(&full, "").unwrap();
    engine.store = Keeper::closed(full.join("store"));
    tokio::time::advance(Duration::from_secs(2)).await;
    assert!(engine.take(Event::Tick).await.unwrap().is_none());
    let before = Instant::now();
    let engine = tokio::spawn(engine.run(std::future::pending()));
    tokio::time::sleep(Duration::from_millis(4_500)).await;
    std::fs::remove_file(&full).unwrap();
    until(&handle, |view| view.phase == Phase::Training).await;
    assert_eq!(before.elapsed().as_secs(), 5);
    engine.abort();
}
