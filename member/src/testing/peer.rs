//! A rank of another island, which serves as a test has it serve.

use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::v1::exchange_server::{Exchange, ExchangeServer};
use proto::v1::{
    ManifestRequest, ManifestResponse, Piece, PullRequest, SnapshotRequest, ThetaManifestRequest,
};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::codegen::Bytes;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use super::digests;

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
    /// Its manifest lacks a digest.
    ShortManifest,
    /// It gives so many pieces of a stream, and ends it.
    EndsAfter(u32),
    /// It begins a stream one piece too late.
    Skips,
    /// Its pieces are longer than any message may be.
    Huge,
}

/// A rank of another island.
#[derive(Clone)]
pub(crate) struct Rank {
    pieces: Arc<Vec<Bytes>>,
    manner: Arc<Mutex<Manner>>,
    /// Streams that were asked for.
    asked: Arc<AtomicU32>,
    /// Pieces that it gave.
    given: Arc<AtomicU32>,
}

impl Rank {
    /// Starts to serve; its address.
    pub(crate) async fn serve(pieces: &[Bytes], manner: Manner) -> (Rank, String) {
        let rank = Rank {
            pieces: Arc::new(pieces.to_vec()),
            manner: Arc::new(Mutex::new(manner)),
            asked: Arc::default(),
            given: Arc::default(),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address").to_string();
        let server = Server::builder().add_service(ExchangeServer::new(rank.clone()));
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        (rank, address)
    }

    pub(crate) fn given(&self) -> u32 {
        self.given.load(SeqCst)
    }

    /// How often it was asked for pieces.
    pub(crate) fn asked(&self) -> u32 {
        self.asked.load(SeqCst)
    }

    /// From now on it serves so.
    pub(crate) fn becomes(&self, manner: Manner) {
        *self.manner.lock().expect("no panic") = manner;
    }

    fn manner(&self) -> Manner {
        *self.manner.lock().expect("no panic")
    }

    fn manifest(&self) -> Result<Response<ManifestResponse>, Status> {
        let mut digests: Vec<u8> = digests(&self.pieces).iter().flat_map(|d| d.0).collect();
        match self.manner() {
            Manner::ShortManifest => digests.truncate(digests.len() - 32),
            Manner::Empty => return Err(Status::not_found("nothing is here")),
            Manner::FalseManifest => digests[0] ^= 1,
            _ => {}
        }
        Ok(Response::new(ManifestResponse { digests }))
    }

    fn stream(&self, range: std::ops::Range<u32>) -> ReceiverStream<Result<Piece, Status>> {
        let (sender, receiver) = mpsc::channel(1);
        let rank = self.clone();
        self.asked.fetch_add(1, SeqCst);
        tokio::spawn(async move {
            for (nth, mut index) in (0..).zip(range) {
                let mut data = rank.pieces[index as usize].clone();
                match rank.manner() {
                    Manner::Empty => {
                        // The peer may have gone already.
                        let _ = sender.send(Err(Status::not_found("nothing is here"))).await;
                        return;
                    }
                    Manner::Slow(pause) => tokio::time::sleep(pause).await,
                    Manner::EndsAfter(count) if nth >= count => return,
                    Manner::Skips => index += 1,
                    Manner::Huge => data = vec![0; 2 << 20].into(),
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
