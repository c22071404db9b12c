//! The exchange service of a rank: serves manifests, pieces and snapshots out of its [`Store`].

use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use prost::Message;
use proto::Keepalive;
use proto::v1::exchange_server::{Exchange, ExchangeServer};
use proto::v1::{
    ManifestRequest, ManifestResponse, Piece, PullRequest, SnapshotRequest, ThetaManifestRequest,
};
use rounds::types::Digest;
use sparseloco::layout::Layout;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codegen::Bytes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tracing::{Instrument as _, Span};

use crate::store::{NotServed, Store};

/// Pieces on their way to one peer at a time.
const PIECES_IN_FLIGHT: usize = 4;
/// Requests that one connection may have open.
const STREAMS_PER_CONNECTION: u32 = 64;
/// gRPC's prefix of a message and HTTP/2's frame header, counted with what leaves.
const FRAMING_BYTES: u64 = 5 + 9;

/// Bytes that left for other islands and came from them.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// Sent, framing included.
    pub sent: AtomicU64,
    /// Received, framing included.
    pub received: AtomicU64,
}

impl Traffic {
    pub(crate) fn count_sent(&self, message: &impl Message) {
        self.sent.fetch_add(message.encoded_len() as u64 + FRAMING_BYTES, Ordering::Relaxed);
    }

    pub(crate) fn count_received(&self, message: &impl Message) {
        self.received.fetch_add(message.encoded_len() as u64 + FRAMING_BYTES, Ordering::Relaxed);
    }
}

/// A running exchange server; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct ExchangeHandle {
    /// Where it listens.
    pub address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

struct Service {
    store: Arc<Store>,
    layout: Arc<Layout>,
    traffic: Arc<Traffic>,
}

/// Serves `store` on `listener` until the handle is dropped.
pub(crate) fn serve(
    listener: TcpListener,
    store: Arc<Store>,
    layout: Arc<Layout>,
    traffic: Arc<Traffic>,
    keepalive: Keepalive,
) -> std::io::Result<ExchangeHandle> {
    let address = listener.local_addr()?;
    let (stop, stopped) = oneshot::channel::<()>();
    let service = ExchangeServer::new(Service { store, layout, traffic });
    let server = keepalive
        .server(Server::builder())
        .max_concurrent_streams(STREAMS_PER_CONNECTION)
        .add_service(service)
        .serve_with_incoming_shutdown(keepalive.incoming(TcpIncoming::from(listener)), async {
            // An error means that the handle is gone, which asks for the same.
            let _ = stopped.await;
        });
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::error!(%error, "The exchange server ended.");
        }
    });
    Ok(ExchangeHandle { address, _stop: stop })
}

impl Service {
    fn check_run(&self, run: &str) -> Result<(), Status> {
        if run == self.store.run() {
            return Ok(());
        }
        Err(Status::failed_precondition(format!("this rank serves run {:?}", self.store.run())))
    }

    fn check_range(&self, first: u32, end: u32) -> Result<Range<u32>, Status> {
        let span = self.store.span();
        if span.start <= first && first < end && end <= span.end {
            return Ok(first..end);
        }
        Err(Status::out_of_range(format!(
            "this rank holds pieces {}..{}, not {first}..{end}",
            span.start, span.end
        )))
    }

    fn answer(&self, digests: &[Digest]) -> Result<Response<ManifestResponse>, Status> {
        let digests = digests.iter().flat_map(|digest| digest.0).collect();
        let response = ManifestResponse { digests };
        self.traffic.count_sent(&response);
        Ok(Response::new(response))
    }

    /// Sends `range` piece by piece; `read` says why a piece is not there.
    fn stream(
        &self,
        range: Range<u32>,
        span: Span,
        read: impl Fn(&Store, &Layout, u32) -> Result<Bytes, Status> + Send + 'static,
    ) -> ReceiverStream<Result<Piece, Status>> {
        let (sender, receiver) = mpsc::channel(PIECES_IN_FLIGHT);
        let (store, layout) = (Arc::clone(&self.store), Arc::clone(&self.layout));
        let traffic = Arc::clone(&self.traffic);
        let serve = async move {
            for index in range {
                let piece = read(&store, &layout, index).map(|data| Piece { index, data });
                let failed = piece.is_err();
                if let Ok(piece) = &piece {
                    traffic.count_sent(piece);
                }
                // The receiver is gone when the peer is: nothing is left to do for it.
                if sender.send(piece).await.is_err() || failed {
                    return;
                }
            }
        };
        tokio::spawn(serve.instrument(span));
        ReceiverStream::new(receiver)
    }
}

/// "Not yet" is another answer than "not here": it is worth asking again soon.
fn not_served(reason: NotServed, what: &str) -> Status {
    let message = format!("failed to serve {what}: {reason}");
    match reason {
        NotServed::NotHere => Status::not_found(message),
        NotServed::NotYet => Status::failed_precondition(message),
    }
}

/// Canonical values of `index` within the anchor of a rank that holds `span`, little-endian.
fn snapshot_piece(store: &Store, layout: &Layout, round: u64, index: u32) -> Result<Bytes, Status> {
    store.with_anchor(|anchor| {
        if anchor.round != Some(round) {
            return Err(Status::failed_precondition(match anchor.round {
                Some(now) => format!("this rank holds round {now}, not {round}"),
                None => "this rank is stepping to the next round".to_string(),
            }));
        }
        let start = layout.span(store.span()).start;
        let values = layout.span(index..index + 1);
        let slice = &anchor.values[values.start - start..values.end - start];
        Ok(slice.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into())
    })
}

#[tonic::async_trait]
impl Exchange for Service {
    async fn manifest(
        &self,
        request: Request<ManifestRequest>,
    ) -> Result<Response<ManifestResponse>, Status> {
        let request = request.into_inner();
        self.check_run(&request.run)?;
        let ManifestRequest { island, round, .. } = &request;
        let digests = self.store.public_digests(*round, island);
        let what = || format!("the contribution of island {island:?} to round {round}");
        self.answer(&digests.map_err(|reason| not_served(reason, &what()))?)
    }

    async fn theta_manifest(
        &self,
        request: Request<ThetaManifestRequest>,
    ) -> Result<Response<ManifestResponse>, Status> {
        let ThetaManifestRequest { run, round } = request.into_inner();
        self.check_run(&run)?;
        let digests = self.store.theta_digests(round).ok_or_else(|| {
            Status::failed_precondition(format!("this rank does not hold θ of round {round}"))
        })?;
        self.answer(&digests)
    }

    type PullStream = ReceiverStream<Result<Piece, Status>>;

    async fn pull(
        &self,
        request: Request<PullRequest>,
    ) -> Result<Response<Self::PullStream>, Status> {
        let span = tracing::info_span!("pull");
        telemetry::set_parent_from(&span, request.metadata());
        let PullRequest { run, round, island, first_piece, end_piece } = request.into_inner();
        self.check_run(&run)?;
        let range = self.check_range(first_piece, end_piece)?;
        Ok(Response::new(self.stream(range, span, move |store, _, index| {
            let what = || format!("piece {index} of island {island:?} in round {round}");
            let piece = store.public_piece(round, &island, index);
            piece.map_err(|reason| not_served(reason, &what()))
        })))
    }

    type SnapshotStream = ReceiverStream<Result<Piece, Status>>;

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let span = tracing::info_span!("snapshot");
        telemetry::set_parent_from(&span, request.metadata());
        let SnapshotRequest { run, round, first_piece, end_piece } = request.into_inner();
        self.check_run(&run)?;
        let range = self.check_range(first_piece, end_piece)?;
        Ok(Response::new(self.stream(range, span, move |store, layout, index| {
            snapshot_piece(store, layout, round, index)
        })))
    }
}

#[cfg(test)]
mod tests;
