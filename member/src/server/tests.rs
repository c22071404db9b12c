//! What a rank serves to whom, over loopback.

use proto::v1::exchange_client::ExchangeClient;
use rounds::types::{Contribution, Phase, RunView};
use tonic::Code;
use tonic::transport::Channel;

use super::*;
use crate::store::piece_digest;
use crate::testing::{ROUND, digests, offered, two_pieces, view};

/// A rank that serves both pieces of a model, or only the second.
struct Served {
    store: Arc<Store>,
    traffic: Arc<Traffic>,
    client: ExchangeClient<Channel>,
    handle: ExchangeHandle,
}

async fn rank(span: Range<u32>) -> Served {
    let (layout, store) = (two_pieces(), Arc::new(Store::new("run".into(), span)));
    let traffic = Arc::new(Traffic::default());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let (shared, counted) = (Arc::clone(&store), Arc::clone(&traffic));
    let handle = serve(listener, shared, layout, counted, Keepalive::default()).expect("it serves");
    let url = format!("http://{}", handle.address);
    let client = ExchangeClient::connect(url).await.expect("it listens");
    Served { store, traffic, client, handle }
}

fn pieces() -> Vec<Bytes> {
    vec![Bytes::from_static(b"first"), Bytes::from_static(b"second")]
}

fn closed(contribution: Contribution) -> RunView {
    RunView { closed: vec![contribution], ..view(Phase::Fetching, ROUND, &[]) }
}

fn pull(run: &str, island: &str, range: Range<u32>) -> PullRequest {
    let Range { start: first_piece, end: end_piece } = range;
    PullRequest { run: run.into(), round: ROUND, island: island.into(), first_piece, end_piece }
}

fn snapshot(run: &str, round: u64, range: Range<u32>) -> SnapshotRequest {
    let Range { start: first_piece, end: end_piece } = range;
    SnapshotRequest { run: run.into(), round, first_piece, end_piece }
}

/// All that comes of a stream, and with what code it failed.
async fn drain(
    answer: Result<Response<tonic::Streaming<Piece>>, Status>,
) -> (Vec<(u32, Bytes)>, Option<Code>) {
    let mut stream = match answer {
        Ok(response) => response.into_inner(),
        Err(status) => return (vec![], Some(status.code())),
    };
    let mut came = Vec::new();
    loop {
        match stream.message().await {
            Ok(Some(Piece { index, data })) => came.push((index, data)),
            Ok(None) => return (came, None),
            Err(status) => return (came, Some(status.code())),
        }
    }
}

#[tokio::test]
async fn a_closed_rounds_contribution_is_served_whole_or_in_part() {
    let Served { store, traffic, mut client, handle: _handle } = rank(0..2).await;
    let pieces = pieces();
    store.insert(ROUND, "a", &digests(&pieces), (0..).zip(pieces.clone()));
    store.publish(&closed(offered("a", &pieces)));
    let request = ManifestRequest { run: "run".into(), round: ROUND, island: "a".into() };
    let manifest = client.manifest(request).await.expect("served").into_inner();
    let expected: Vec<u8> = pieces.iter().flat_map(|piece| piece_digest(piece).0).collect();
    assert_eq!(manifest.digests, expected);
    let before = traffic.sent.load(Ordering::Relaxed);
    assert!(before > 64, "the manifest is counted");
    let (came, failed) = drain(client.pull(pull("run", "a", 0..2)).await).await;
    assert_eq!((came.len(), failed), (2, None));
    assert!(came.iter().all(|(index, data)| pieces[*index as usize] == data));
    let sent = traffic.sent.load(Ordering::Relaxed) - before;
    assert!((11..100).contains(&sent), "{sent} bytes are more than the pieces and their frames");
    let (came, failed) = drain(client.pull(pull("run", "a", 1..2)).await).await;
    assert_eq!((came, failed), (vec![(1, pieces[1].clone())], None));
}

#[tokio::test]
async fn what_a_rank_does_not_have_or_may_not_give_is_refused_by_code() {
    let Served { store, mut client, handle: _handle, .. } = rank(1..2).await;
    let pieces = pieces();
    store.insert(ROUND, "open", &digests(&pieces), [(1, pieces[1].clone())]);
    store.insert(ROUND, "partly", &digests(&pieces), []);
    store.publish(&closed(offered("partly", &pieces)));
    let backwards = PullRequest { first_piece: 2, end_piece: 1, ..pull("run", "partly", 1..2) };
    let table = [
        (pull("another", "partly", 1..2), Code::FailedPrecondition, "another run"),
        (pull("run", "partly", 0..2), Code::OutOfRange, "begins before the span"),
        (pull("run", "partly", 1..3), Code::OutOfRange, "ends after the span"),
        (pull("run", "partly", 1..1), Code::OutOfRange, "nothing at all"),
        (backwards, Code::OutOfRange, "it ends before it begins"),
        (pull("run", "partly", 0..u32::MAX), Code::OutOfRange, "everything"),
        (pull("run", "open", 1..2), Code::FailedPrecondition, "the round is open"),
        (pull("run", "nobody", 1..2), Code::NotFound, "no such island"),
        (pull("run", "partly", 1..2), Code::NotFound, "the piece has not come yet"),
    ];
    for (request, expected, why) in table {
        let (came, failed) = drain(client.pull(request).await).await;
        assert_eq!((came, failed), (vec![], Some(expected)), "{why}");
    }
    let manifest = |run: &str, island: &str| ManifestRequest {
        run: run.into(),
        round: ROUND,
        island: island.into(),
    };
    let table = [
        (manifest("another", "partly"), Some(Code::FailedPrecondition)),
        (manifest("run", "open"), Some(Code::FailedPrecondition)),
        (manifest("run", "nobody"), Some(Code::NotFound)),
        (manifest("run", "partly"), None),
    ];
    for (request, expected) in table {
        let answer = client.manifest(request.clone()).await;
        assert_eq!(answer.err().map(|status| status.code()), expected, "{request:?}");
    }
}

#[tokio::test]
async fn a_stream_ends_with_the_first_piece_that_is_not_here() {
    let Served { store, mut client, handle: _handle, .. } = rank(0..2).await;
    let pieces = pieces();
    store.insert(ROUND, "a", &digests(&pieces), [(0, pieces[0].clone())]);
    store.publish(&closed(offered("a", &pieces)));
    let (came, failed) = drain(client.pull(pull("run", "a", 0..2)).await).await;
    assert_eq!((came, failed), (vec![(0, pieces[0].clone())], Some(Code::NotFound)));
}

#[tokio::test]
async fn theta_is_served_at_the_start_of_the_round_that_is_held() {
    let Served { store, mut client, handle: _handle, .. } = rank(1..2).await;
    let code = Some(Code::FailedPrecondition);
    let (_, failed) = drain(client.snapshot(snapshot("run", 3, 1..2)).await).await;
    assert_eq!(failed, code, "nothing is held yet");
    let values: Vec<f32> = (0..100).map(|at| at as f32 / 7.0).collect();
    store.set_anchor(Some(3), values.clone());
    let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
    let (came, failed) = drain(client.snapshot(snapshot("run", 3, 1..2)).await).await;
    assert_eq!((came, failed), (vec![(1, bytes.into())], None));
    let table = [
        (snapshot("run", 2, 1..2), Code::FailedPrecondition),
        (snapshot("run", 4, 1..2), Code::FailedPrecondition),
        (snapshot("another", 3, 1..2), Code::FailedPrecondition),
        (snapshot("run", 3, 0..1), Code::OutOfRange),
    ];
    for (request, expected) in table {
        let (came, failed) = drain(client.snapshot(request.clone()).await).await;
        assert_eq!((came, failed), (vec![], Some(expected)), "{request:?}");
    }
    store.with_anchor_mut(|anchor| anchor.round = None);
    let (_, failed) = drain(client.snapshot(snapshot("run", 3, 1..2)).await).await;
    assert_eq!(failed, code, "it is stepping to the next round");
}

#[tokio::test]
async fn the_digests_of_theta_are_served_once_they_are_known() {
    let Served { store, mut client, handle: _handle, .. } = rank(1..2).await;
    let request = |run: &str, round| ThetaManifestRequest { run: run.into(), round };
    store.set_anchor(Some(3), vec![0.0; 100]);
    let early = client.theta_manifest(request("run", 3)).await.expect_err("not known");
    assert_eq!(early.code(), Code::FailedPrecondition);
    store.set_theta_digests(3, vec![Digest([1; 32]), Digest([2; 32])]);
    let manifest = client.theta_manifest(request("run", 3)).await.expect("known").into_inner();
    assert_eq!(manifest.digests, [[1; 32], [2; 32]].concat());
    for (run, round) in [("run", 4), ("another", 3)] {
        let refused = client.theta_manifest(request(run, round)).await.expect_err("refused");
        assert_eq!(refused.code(), Code::FailedPrecondition, "{run}, {round}");
    }
}

#[tokio::test]
async fn a_server_ends_with_its_handle() {
    let Served { mut client, handle, .. } = rank(0..2).await;
    let address = handle.address;
    drop(handle);
    let request = || ManifestRequest { run: "run".into(), round: ROUND, island: "a".into() };
    let answered = client.manifest(request()).await.map(|_| ());
    assert!(answered.is_err(), "it has nothing");
    let ended = async {
        while tokio::net::TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(crate::testing::PATIENCE, ended).await.expect("nobody listens");
}
