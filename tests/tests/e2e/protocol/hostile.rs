//! A member that lies: garbled pieces, false manifests, values that would poison θ.

use std::sync::Arc;

use proto::v1::coordinator_client::CoordinatorClient;
use proto::v1::exchange_server::{Exchange, ExchangeServer};
use proto::v1::{
    Contribution, Identity, JoinRequest, ManifestRequest, ManifestResponse, OfferRequest, Piece,
    PullRequest, RankAddress, SnapshotRequest, ThetaManifestRequest, WatchRequest,
};
use rounds::config::RunConfig;
use sparseloco::codec::compress_piece;
use sparseloco::{FrameId, Layout, PieceAt, PieceInput};
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

use super::assert_identical;
use super::toy::{Cluster, codec, initial, layout};

/// How the hostile island lies.
#[derive(Clone, Copy, Debug)]
enum Lie {
    /// Its pieces are noise, under the digest that was offered.
    Noise,
    /// Its manifest is not what was offered.
    Manifest,
    /// It never sends a byte of a piece.
    Silence,
    /// Its pieces are good frames, which another island made.
    Foreign,
}

struct Liar {
    lie: Lie,
    layout: Arc<Layout>,
}

impl Lie {
    /// The bytes that are offered and served as a piece.
    fn piece(self, layout: &Layout, round: u64, index: u32) -> Vec<u8> {
        match self {
            Lie::Foreign => foreign(layout, round, index),
            Lie::Noise | Lie::Manifest | Lie::Silence => noise(index),
        }
    }

    /// The manifest that is offered.
    fn digests(self, layout: &Layout, round: u64) -> Vec<u8> {
        let digest = |index| *blake3::hash(&self.piece(layout, round, index)).as_bytes();
        (0..layout.pieces()).flat_map(digest).collect()
    }
}

/// A frame as the island `one` makes it.
fn foreign(layout: &Layout, round: u64, piece: u32) -> Vec<u8> {
    let zeros = vec![0.0; layout.piece(piece).values.len()];
    let (anchor, mut error, mut frame) = (vec![1.0; zeros.len()], zeros.clone(), Vec::new());
    let at = PieceAt { layout, params: &codec(), piece };
    let id = FrameId::new("toy", "one", round, layout.hash(&codec()));
    let input = PieceInput { anchor: &anchor, theta: &zeros };
    compress_piece(at, &id, input, &mut error, &mut frame).expect("finite values");
    frame
}

fn noise(index: u32) -> Vec<u8> {
    (0..10_000u32).map(|i| (i.wrapping_mul(2_654_435_761).rotate_left(index) >> 7) as u8).collect()
}

#[tonic::async_trait]
impl Exchange for Liar {
    async fn manifest(
        &self,
        request: Request<ManifestRequest>,
    ) -> Result<Response<ManifestResponse>, Status> {
        let mut digests = self.lie.digests(&self.layout, request.get_ref().round);
        if let Lie::Manifest = self.lie {
            digests[0] ^= 1;
        }
        Ok(Response::new(ManifestResponse { digests }))
    }

    async fn theta_manifest(
        &self,
        _: Request<ThetaManifestRequest>,
    ) -> Result<Response<ManifestResponse>, Status> {
        Err(Status::unimplemented("a liar has no θ"))
    }

    type PullStream = tokio_stream::wrappers::ReceiverStream<Result<Piece, Status>>;

    async fn pull(
        &self,
        request: Request<PullRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let PullRequest { round, first_piece, end_piece, .. } = request.into_inner();
        let (lie, layout) = (self.lie, Arc::clone(&self.layout));
        tokio::spawn(async move {
            if let Lie::Silence = lie {
                // The stream stays open until the peer gives up.
                return sender.closed().await;
            }
            for index in first_piece..end_piece {
                let data = lie.piece(&layout, round, index).into();
                let _ = sender.send(Ok(Piece { index, data })).await;
            }
        });
        Ok(Response::new(tokio_stream::wrappers::ReceiverStream::new(receiver)))
    }

    type SnapshotStream = tokio_stream::wrappers::ReceiverStream<Result<Piece, Status>>;

    async fn snapshot(
        &self,
        _: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(Status::unimplemented("a liar has no θ"))
    }
}

/// Joins as an island, offers in every round, and serves lies until the run is done.
async fn lie(
    coordinator: String,
    lie: Lie,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let layout = Arc::new(layout());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let service = ExchangeServer::new(Liar { lie, layout: Arc::clone(&layout) });
    tokio::spawn(
        tonic::transport::Server::builder()
            .add_service(service)
            .serve_with_incoming(TcpListenerStream::new(listener)),
    );
    let who = Identity { run: "toy".into(), island: "liar".into(), epoch: 1 };
    let mut client = CoordinatorClient::connect(format!("http://{coordinator}")).await?;
    let theta_hash = theta_hash(&layout);
    let rank = RankAddress { address, first_piece: 0, end_piece: layout.pieces() };
    client
        .join(JoinRequest {
            who: Some(who.clone()),
            ranks: vec![rank],
            layout_hash: layout.hash(&codec()).to_vec(),
            round: 0,
            theta_hash,
            ..JoinRequest::default()
        })
        .await?;
    let contribution = |round| Contribution {
        island: "liar".into(),
        epoch: 1,
        digest: blake3::hash(&lie.digests(&layout, round)).as_bytes().to_vec(),
        bytes: 10_000 * u64::from(layout.pieces()),
        tokens: 10,
        steps: 1,
        loss: 1.0,
    };
    let mut views = client.watch(WatchRequest { who: Some(who.clone()) }).await?.into_inner();
    while let Some(view) = views.message().await? {
        let offer = OfferRequest {
            who: Some(who.clone()),
            round: view.round,
            contribution: Some(contribution(view.round)),
            leaving: false,
        };
        // A refusal is what the test hopes for; the run goes on either way.
        let _ = client.offer(offer).await;
    }
    Ok(())
}

/// The hash that an honest member reports for the initial θ.
fn theta_hash(layout: &sparseloco::Layout) -> Vec<u8> {
    let canonical = initial(layout.values());
    let mut root = blake3::Hasher::new();
    for piece in 0..layout.pieces() {
        let values = &canonical[layout.piece(piece).values];
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        root.update(blake3::hash(&bytes).as_bytes());
    }
    root.finalize().as_bytes().to_vec()
}

#[test]
fn no_lie_of_a_member_stops_the_others_or_reaches_their_parameters() {
    for kind in [Lie::Noise, Lie::Manifest, Lie::Silence, Lie::Foreign] {
        let cluster = Cluster::with(RunConfig {
            name: "toy".into(),
            islands: 3,
            minimum: 3,
            quorum_percent: 50,
            grace_ms: 200,
            deadline_ms: 10_000,
            fetch_deadline_ms: 1_500,
            lease_ms: 2_000,
            go_back_after_ms: 10_000,
            go_back: false,
            tokens: 360,
            max_members: 16,
        });
        let liar_runtime = Arc::new(tokio::runtime::Runtime::new().expect("a runtime"));
        let liar = liar_runtime.spawn(lie(cluster.address.clone(), kind));
        let (one, two) = (cluster.island("one", 1), cluster.island("two", 2));
        let islands = [one.finish(), two.finish()];
        liar.abort();
        for island in &islands {
            assert_eq!(island.ended, "finished", "{kind:?}");
            assert!(!island.hashes.is_empty(), "{kind:?}");
            assert!(island.sets.values().all(|n| *n <= 2), "{kind:?}: no lie was committed");
            assert!(island.distance.is_finite(), "{kind:?}");
        }
        assert_identical(&islands);
    }
}
