//! What tests of the exchange share: a layout and a contribution, ranks that misbehave, and a line
//! that goes dead without a word.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use proto::v1::exchange_server::{Exchange, ExchangeServer};
use proto::v1::{
    ManifestRequest, ManifestResponse, Piece, PullRequest, SnapshotRequest, ThetaManifestRequest,
};
use rounds::types::{Contribution, Digest, MemberState, MemberView, RankAddress};
use sparseloco::codec::{FrameId, PieceAt, PieceInput, compress_piece};
use sparseloco::layout::{Layout, TensorShape};
use sparseloco::{CodecParams, ValueBits};
use tokio::io::copy;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::codegen::Bytes;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::Timeouts;
use crate::fetch::Fetcher;
use crate::server::Traffic;
use crate::store::{Store, piece_digest, root_digest};

/// The longest silence that fetchers of tests bear.
pub(crate) const SILENCE: Duration = Duration::from_millis(400);
pub(crate) const ROUND: u64 = 3;

pub(crate) fn params() -> CodecParams {
    CodecParams::new(64, ValueBits::Two, 0.95, 0.0).expect("valid parameters")
}

/// 16 pieces.
pub(crate) fn layout() -> Arc<Layout> {
    let shape = TensorShape { name: "w".into(), shape: vec![2048, 2048] };
    Arc::new(Layout::new(&[shape]).expect("a valid shape"))
}

pub(crate) fn id(layout: &Layout) -> FrameId {
    FrameId::new("run", "owner", ROUND, layout.hash(&params()))
}

/// A fetcher of a lone rank of island `me`, which holds nothing yet.
pub(crate) fn fetcher(layout: &Arc<Layout>) -> Arc<Fetcher> {
    let store = Arc::new(Store::new("run".into(), 0..layout.pieces()));
    let timeouts = Timeouts { transfer: SILENCE, ..Timeouts::default() };
    let traffic = Arc::new(Traffic::default());
    let me = ("me".to_string(), &timeouts);
    Arc::new(Fetcher::new(Arc::clone(layout), params(), store, traffic, me))
}

/// The frames of a contribution.
pub(crate) fn frames(layout: &Layout) -> Vec<Bytes> {
    let frame = |piece| {
        let values = layout.piece(piece).values.len();
        let theta: Vec<f32> = (0..values).map(|i| ((i % 31) as f32 - 15.0) / 31.0).collect();
        let (anchor, mut error, mut out) = (vec![0.0; values], vec![0.0; values], Vec::new());
        let at = PieceAt { layout, params: &params(), piece };
        let input = PieceInput { anchor: &anchor, theta: &theta };
        compress_piece(at, &id(layout), input, &mut error, &mut out).expect("finite");
        Bytes::from(out)
    };
    (0..layout.pieces()).map(frame).collect()
}

/// The pieces of θ.
pub(crate) fn theta(layout: &Layout) -> Vec<Bytes> {
    let piece = |piece: u32| {
        let values = layout.piece(piece).values;
        values.flat_map(|at| (at as f32).to_le_bytes()).collect::<Vec<u8>>().into()
    };
    (0..layout.pieces()).map(piece).collect()
}

pub(crate) fn digests(pieces: &[Bytes]) -> Arc<[Digest]> {
    pieces.iter().map(|piece| piece_digest(piece)).collect()
}

pub(crate) fn offered(island: &str, pieces: &[Bytes]) -> Contribution {
    Contribution {
        island: island.into(),
        epoch: 1,
        digest: root_digest(&digests(pieces)),
        bytes: 1,
        tokens: 1,
        steps: 1,
        loss: 1.0,
    }
}

pub(crate) fn member(island: &str, address: &str) -> MemberView {
    let rank = RankAddress { address: address.into(), first_piece: 0, end_piece: 1 << 16 };
    MemberView {
        island: island.into(),
        epoch: 1,
        state: MemberState::Active,
        ranks: vec![rank],
        round: ROUND,
        offered: true,
        tokens: 0,
        samples: vec![],
        rejected: 0,
        complaint: String::new(),
    }
}

/// How a rank serves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    Honest,
    /// A pause before every piece.
    Slow(Duration),
    /// It gives so many pieces of a stream, and then nothing.
    HangsAfter(u32),
    /// Its manifest is another's.
    FalseManifest,
    /// This piece of it is another's.
    FalsePiece(u32),
    /// It has nothing.
    Empty,
}

/// A rank of another island.
#[derive(Clone)]
pub(crate) struct Rank {
    pieces: Arc<Vec<Bytes>>,
    manner: Manner,
    /// Pieces that it gave.
    pub(crate) given: Arc<AtomicU32>,
}

impl Rank {
    /// Starts to serve; its address.
    pub(crate) async fn serve(pieces: &[Bytes], manner: Manner) -> (Rank, String) {
        let (pieces, given) = (Arc::new(pieces.to_vec()), Arc::default());
        let rank = Rank { pieces, manner, given };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let server = Server::builder().add_service(ExchangeServer::new(rank.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (rank, address)
    }

    pub(crate) fn given(&self) -> u32 {
        self.given.load(SeqCst)
    }

    fn manifest(&self) -> Result<Response<ManifestResponse>, Status> {
        let mut digests: Vec<u8> = digests(&self.pieces).iter().flat_map(|d| d.0).collect();
        match self.manner {
            Manner::Empty => return Err(Status::not_found("nothing is here")),
            Manner::FalseManifest => digests[0] ^= 1,
            _ => {}
        }
        Ok(Response::new(ManifestResponse { digests }))
    }

    fn stream(&self, range: std::ops::Range<u32>) -> ReceiverStream<Result<Piece, Status>> {
        let (sender, receiver) = mpsc::channel(1);
        let rank = self.clone();
        tokio::spawn(async move {
            for (nth, index) in (0..).zip(range) {
                let mut data = rank.pieces[index as usize].clone();
                match rank.manner {
                    Manner::Empty => {
                        // The peer may have gone already.
                        let _ = sender.send(Err(Status::not_found("nothing is here"))).await;
                        return;
                    }
                    Manner::Slow(pause) => tokio::time::sleep(pause).await,
                    Manner::HangsAfter(count) if nth >= count => return sender.closed().await,
                    Manner::FalsePiece(at) if at == index => data = Bytes::from_static(b"no"),
                    _ => {}
                }
                if sender.send(Ok(Piece { index, data })).await.is_err() {
                    return;
                }
                rank.given.fetch_add(1, SeqCst);
            }
        });
        ReceiverStream::new(receiver)
    }
}

type Pieces = ReceiverStream<Result<Piece, Status>>;

#[tonic::async_trait]
impl Exchange for Rank {
    async fn manifest(
        &self,
        _: Request<ManifestRequest>,
    ) -> Result<Response<ManifestResponse>, Status> {
        Rank::manifest(self)
    }

    async fn theta_manifest(
        &self,
        _: Request<ThetaManifestRequest>,
    ) -> Result<Response<ManifestResponse>, Status> {
        Rank::manifest(self)
    }

    type PullStream = Pieces;

    async fn pull(&self, request: Request<PullRequest>) -> Result<Response<Pieces>, Status> {
        let PullRequest { first_piece, end_piece, .. } = request.into_inner();
        Ok(Response::new(self.stream(first_piece..end_piece)))
    }

    type SnapshotStream = Pieces;

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<Pieces>, Status> {
        let SnapshotRequest { first_piece, end_piece, .. } = request.into_inner();
        Ok(Response::new(self.stream(first_piece..end_piece)))
    }
}

/// A line to a server that can go dead as if a NAT had forgotten it: what is connected stays so,
/// and nothing more comes through. New connections are good.
pub(crate) struct Line {
    pub(crate) address: String,
    cut: watch::Sender<u64>,
    connections: Arc<AtomicU64>,
}

impl Line {
    pub(crate) async fn to(server: String) -> Line {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let (cut, connections) = (watch::Sender::new(0), Arc::<AtomicU64>::default());
        let (cuts, count) = (cut.clone(), Arc::clone(&connections));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, SeqCst);
                let server = TcpStream::connect(&server).await.expect("it listens");
                tokio::spawn(carry(client, server, cuts.subscribe()));
            }
        });
        Line { address, cut, connections }
    }

    /// Has all connections that are there go dead.
    pub(crate) fn cut(&self) {
        self.cut.send_modify(|cuts| *cuts += 1);
    }

    /// Connections that were ever made.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(SeqCst)
    }
}

async fn carry(mut client: TcpStream, mut server: TcpStream, mut cut: watch::Receiver<u64>) {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    tokio::select! {
        _ = copy(&mut from_client, &mut to_server) => {}
        _ = copy(&mut from_server, &mut to_client) => {}
        // The sockets stay open for as long as the test runs.
        _ = cut.changed() => std::future::pending().await,
    }
}
