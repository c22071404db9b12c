//! Meetings in virtual time.

use std::sync::Arc;

use rounds::request::Identity;
use tokio::task::{JoinHandle, yield_now};

use super::*;

fn rank(rank: u32, epoch: u64) -> Meet {
    Meet {
        who: Identity { run: "mini".into(), island: "a".into(), epoch },
        rank,
        world_size: 2,
        address: format!("host-{rank}-{epoch}:1"),
        plan_hash: Digest([1; 32]),
    }
}

async fn arrive(
    meetings: &Arc<Meetings>,
    meet: Meet,
) -> JoinHandle<Result<Vec<String>, MeetError>> {
    let meetings = Arc::clone(meetings);
    let waiting = tokio::spawn(async move { meetings.meet(meet, false).await });
    yield_now().await;
    waiting
}

#[tokio::test(start_paused = true)]
async fn ranks_get_all_addresses_by_rank_and_may_ask_again() {
    let meetings = Arc::default();
    let one = arrive(&meetings, rank(1, 1)).await;
    let zero = arrive(&meetings, rank(0, 1)).await;
    let expected = Ok(vec!["host-0-1:1".to_string(), "host-1-1:1".to_string()]);
    assert_eq!(one.await.unwrap(), expected);
    assert_eq!(zero.await.unwrap(), expected);
    assert_eq!(meetings.meet(rank(1, 1), false).await, expected);
}

#[tokio::test(start_paused = true)]
async fn a_single_rank_meets_itself() {
    let meetings = Meetings::default();
    let alone = Meet { world_size: 1, ..rank(0, 1) };
    assert_eq!(meetings.meet(alone, false).await, Ok(vec!["host-0-1:1".to_string()]));
}

#[tokio::test(start_paused = true)]
async fn waiting_has_an_end_and_asking_again_goes_on_where_it_was() {
    let meetings = Arc::default();
    let zero = arrive(&meetings, rank(0, 1)).await.await.unwrap();
    assert_eq!(zero, Err(MeetError::Missing { island: "a".into(), missing: 1 }));
    assert!(meetings.meet(rank(1, 1), false).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_newer_epoch_ends_the_older_ones_wait_and_the_older_one_cannot_return() {
    let meetings = Arc::default();
    let old = arrive(&meetings, rank(0, 1)).await;
    let new = arrive(&meetings, rank(0, 2)).await;
    let superseded = MeetError::Superseded { island: "a".into(), epoch: 1, newest: 2 };
    assert_eq!(old.await.unwrap(), Err(superseded.clone()));
    assert_eq!(meetings.meet(rank(1, 1), false).await, Err(superseded));
    assert!(meetings.meet(rank(1, 2), false).await.is_ok());
    assert!(new.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn ranks_that_differ_in_size_or_plan_or_have_the_same_number_are_refused() {
    let meetings = Arc::default();
    let _zero = arrive(&meetings, rank(0, 1)).await;
    let island = || "a".to_string();
    let size = Meet { world_size: 3, ..rank(1, 1) };
    let differs = MeetError::Differs { island: island(), what: "the number of ranks" };
    assert_eq!(meetings.meet(size, false).await, Err(differs));
    let plan = Meet { plan_hash: Digest([2; 32]), ..rank(1, 1) };
    let differs = MeetError::Differs { island: island(), what: "the plan" };
    assert_eq!(meetings.meet(plan, false).await, Err(differs));
    let twin = Meet { address: "elsewhere:1".into(), ..rank(0, 1) };
    let taken = MeetError::Taken { island: island(), epoch: 1, rank: 0 };
    assert_eq!(meetings.meet(twin, false).await, Err(taken));
}

#[tokio::test(start_paused = true)]
async fn a_meeting_that_everybody_left_can_be_held_anew_unless_the_island_is_a_member() {
    let meetings = Arc::default();
    drop(arrive(&meetings, rank(0, 1)).await.await);
    tokio::time::advance(IDLE_AFTER).await;
    let moved = Meet { address: "elsewhere:1".into(), ..rank(0, 1) };
    assert!(matches!(meetings.meet(moved.clone(), true).await, Err(MeetError::Taken { .. })));
    let moved = arrive(&meetings, moved).await;
    assert!(meetings.meet(rank(1, 1), false).await.is_ok());
    assert!(moved.await.unwrap().is_ok());
}
