//! Lines to ranks, as they are kept and forgotten.

use std::time::Duration;

use proto::v1::ManifestRequest;

use super::*;
use crate::testing::{Line, Manner, Rank, member};

const MESSAGE_BYTES: usize = 1 << 20;

fn peers() -> Peers {
    Peers::new(Keepalive::default(), MESSAGE_BYTES)
}

/// Asks the rank at `address` for something.
async fn ask(peers: &Peers, address: &str) -> Result<(), Status> {
    let request = ManifestRequest { run: "run".into(), round: 0, island: "owner".into() };
    let mut client = peers.client(address).expect("an address");
    client.manifest(request).await.map(|_| ())
}

#[tokio::test]
async fn a_line_is_dialled_once_and_anew_after_it_was_hung_up() {
    let (_rank, address) = Rank::serve(&[], Manner::Honest).await;
    let (line, peers) = (Line::to(address).await, peers());
    for _ in 0..3 {
        ask(&peers, &line.address).await.expect("served");
    }
    assert_eq!(line.connections(), 1);
    peers.hang_up(&line.address);
    ask(&peers, &line.address).await.expect("served");
    assert_eq!(line.connections(), 2);
}

#[tokio::test]
async fn lines_to_ranks_that_are_no_members_any_more_are_forgotten() {
    let (_rank, address) = Rank::serve(&[], Manner::Honest).await;
    let (stays, goes, peers) = (Line::to(address.clone()).await, Line::to(address).await, peers());
    for line in [&stays, &goes] {
        ask(&peers, &line.address).await.expect("served");
    }
    peers.retain(&[member("a", &stays.address), member("b", "another:1")]);
    for line in [&stays, &goes] {
        ask(&peers, &line.address).await.expect("served");
    }
    assert_eq!((stays.connections(), goes.connections()), (1, 2));
}

#[tokio::test]
async fn what_is_no_address_is_an_error_and_nobody_is_dialled() {
    for address in ["", "a b:1", "host:port:1/\u{0}"] {
        let error = peers().client(address).err();
        assert!(matches!(error, Some(FetchError::Address { .. })), "{address:?}: {error:?}");
    }
}

#[tokio::test]
async fn nobody_at_an_address_is_a_failure_of_the_line() {
    // A port that was free a moment ago.
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address").to_string();
    drop(listener);
    let failed = tokio::time::timeout(Duration::from_secs(30), ask(&peers(), &address)).await;
    let status = failed.expect("it does not hang").expect_err("nobody is there");
    assert!(FetchError::peer(&address, status).is_of_the_line());
}
