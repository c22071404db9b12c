//! Calls that a run refuses, over the wire: the code says what a member is to do.

use super::*;

fn named(run: &str, island: &str, epoch: u64) -> Option<v1::Identity> {
    Some(v1::Identity { run: run.into(), island: island.into(), epoch })
}

fn contribution(epoch: u64, digest: u8) -> Option<v1::Contribution> {
    let contribution = Contribution {
        island: "a".into(),
        epoch,
        digest: Digest([digest; 32]),
        bytes: 10,
        tokens: 100,
        steps: 3,
        loss: 0.1,
    };
    Some(contribution.into())
}

#[tokio::test]
async fn a_second_offer_of_something_else_is_refused_and_the_first_one_stands() {
    let server = Server::start(2).await;
    server.join(join("a")).await.unwrap();
    server.join(join("b")).await.unwrap();
    assert!(server.offer("a").await);
    let before = server.view().await;
    let contribution = contribution(1, 8);
    let request = v1::OfferRequest { who: who("a"), round: 0, contribution, leaving: false };
    let status = server.client.clone().offer(request).await.unwrap_err();
    assert_eq!(status.code(), Code::Aborted, "{status}");
    assert_eq!(server.view().await, before);
}

/// Before the run begins nobody knows whose beginning counts.
#[tokio::test]
async fn an_island_of_another_seed_is_refused_once_the_run_has_begun() {
    let server = Server::start(2).await;
    server.join(join("a")).await.unwrap();
    server.join(join("b")).await.unwrap();
    let other = v1::JoinRequest { theta_hash: vec![3; 32], ..join("c") };
    let status = server.join(other).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(status.message().contains("seed and version have to be the same"), "{status}");
    server.join(join("c")).await.unwrap();
}

#[tokio::test]
async fn a_run_with_all_its_members_has_room_for_no_more_until_one_leaves() {
    let server = Server::start(1).await;
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for island in names {
        server.join(join(island)).await.unwrap();
    }
    let status = server.join(join("i")).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    assert!(status.message().contains("all the members it takes (8)"), "{status}");
    let leave = v1::LeaveRequest { who: who("h"), reason: "drained".into() };
    server.client.clone().leave(leave).await.unwrap();
    server.join(join("i")).await.unwrap();
    let view = server.view().await;
    assert_eq!(view.members.len(), 8);
    assert!(view.members.iter().all(|member| member.island != "h"));
}

#[tokio::test]
async fn what_cannot_be_right_is_refused_before_anything_is_decided() {
    let server = Server::start(1).await;
    let gap = |ranks: &[(u32, u32)]| {
        let rank = |(first_piece, end_piece): &(u32, u32)| v1::RankAddress {
            address: format!("h{first_piece}:1"),
            first_piece: *first_piece,
            end_piece: *end_piece,
        };
        v1::JoinRequest { ranks: ranks.iter().map(rank).collect(), ..join("a") }
    };
    let table = [
        (v1::JoinRequest { who: None, ..join("a") }, Code::InvalidArgument),
        (v1::JoinRequest { who: named("mini", "", 1), ..join("a") }, Code::InvalidArgument),
        (v1::JoinRequest { theta_hash: Vec::new(), ..join("a") }, Code::InvalidArgument),
        (v1::JoinRequest { ranks: Vec::new(), ..join("a") }, Code::InvalidArgument),
        (gap(&[(0, 2), (3, 5)]), Code::FailedPrecondition),
        (gap(&[(0, 3), (2, 5)]), Code::FailedPrecondition),
        (gap(&[(1, 5)]), Code::FailedPrecondition),
    ];
    for (request, code) in table {
        let status = server.join(request.clone()).await.unwrap_err();
        assert_eq!(status.code(), code, "{status}: {request:?}");
        assert!(!status.message().is_empty());
    }
    assert_eq!(server.view().await.members.len(), 0);
}

/// A rank that was replaced must not meet those of the newer epoch, and one of another run nobody.
#[tokio::test]
async fn ranks_of_an_older_epoch_and_of_another_run_meet_nobody() {
    let server = Server::start(1).await;
    let newer = v1::JoinRequest { who: named("mini", "a", 3), ..join("a") };
    server.join(newer).await.unwrap();
    let meet = |who| v1::MeetRequest {
        who,
        rank: 0,
        world_size: 1,
        address: "h:1".into(),
        plan_hash: vec![0; 32],
    };
    let mut client = server.client.clone();
    let status = client.meet(meet(named("mini", "a", 2))).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{status}");
    assert!(status.message().contains("epoch 3 has its place"), "{status}");
    let status = client.meet(meet(named("other", "a", 3))).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let status = client.watch(v1::WatchRequest { who: named("other", "a", 3) }).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    assert!(client.meet(meet(named("mini", "a", 3))).await.is_ok());
}

/// What an island keeps is known to whoever looks, after a restart as before.
#[tokio::test]
async fn the_newest_checkpoint_that_was_told_of_survives_a_restart() {
    let server = Server::start(2).await;
    server.commit().await;
    assert!(server.applied("a", 9).await);
    let kept = |island: &str, round| v1::KeptRequest { who: who(island), round };
    server.client.clone().kept(kept("a", 1)).await.unwrap();
    let server = server.restart().await;
    let checkpoint = server.view().await.checkpoint.unwrap();
    assert_eq!((checkpoint.round, &checkpoint.island[..]), (1, "a"));
}
