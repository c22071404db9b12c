//! The receiving side: the generated service, which sorts streams by the rank they come from.

use std::error::Error as _;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use proto::Keepalive;
use proto::v1::collective_server::{Collective, CollectiveServer};
use proto::v1::{Frame, Hello, StreamEnd};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Code, Request, Response, Status, Streaming};

use super::FRAME_BYTES_MAX;
use crate::CommError;
use crate::group::GroupConfig;
use crate::links::Arrival;
use crate::wire::{MESSAGE_BYTES_MAX, Message};

/// In a refusal: the epoch of the one who refuses, a space, and that of the refused.
pub(crate) const EPOCHS_HEADER: &str = "heteroloco-epochs";

/// Takes streams on the current runtime, for as long as it runs. `inboxes` by rank.
pub(crate) fn serve(
    listener: TcpListener,
    config: GroupConfig,
    inboxes: Vec<Option<mpsc::Sender<Arrival>>>,
    window_bytes: u32,
) {
    let timeout = config.timeout;
    let service = Inboxes { config, inboxes: Mutex::new(inboxes), timeout };
    let service = CollectiveServer::new(service).max_decoding_message_size(MESSAGE_BYTES_MAX);
    // Nothing moves between calls, so that only the systems can ask each other for a sign of life.
    let incoming = Keepalive::default().incoming(TcpIncoming::from(listener));
    let server = Server::builder()
        .initial_stream_window_size(window_bytes)
        .initial_connection_window_size(window_bytes)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_concurrent_streams(1)
        .add_service(service)
        .serve_with_incoming(incoming);
    tokio::spawn(async move {
        if let Err(error) = server.await {
            tracing::warn!(%error, "The group's server ended.");
        }
    });
}

struct Inboxes {
    config: GroupConfig,
    /// Inboxes by rank; each is taken by the first stream of its rank.
    inboxes: Mutex<Vec<Option<mpsc::Sender<Arrival>>>>,
    timeout: Duration,
}

#[tonic::async_trait]
impl Collective for Inboxes {
    async fn stream(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<StreamEnd>, Status> {
        let mut frames = request.into_inner();
        let first = timeout(self.timeout, frames.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("no hello"))??;
        let Some(Frame { hello: Some(hello), .. }) = first else {
            return Err(Status::invalid_argument("a stream begins with a hello"));
        };
        self.check(&hello)?;
        let inbox = self.claim(hello.from_rank)?;
        loop {
            let arrival = match frames.message().await {
                Ok(Some(frame)) => Ok(Message::decode(frame)),
                Ok(None) => return Ok(Response::new(StreamEnd {})),
                Err(status) => Err(broken(hello.from_rank, &status)),
            };
            let last = arrival.is_err();
            let taken = inbox.send(arrival).await;
            if last || taken.is_err() {
                return Err(Status::cancelled("the rank has left the group"));
            }
        }
    }
}

impl Inboxes {
    fn check(&self, hello: &Hello) -> Result<(), Status> {
        let Hello { run, island, epoch, from_rank: _, to_rank, world_size } = hello;
        let ours = &self.config;
        if (run, island) != (&ours.run, &ours.island) {
            return Err(Status::invalid_argument("another run or island"));
        }
        if *epoch != ours.epoch {
            let mut status = Status::failed_precondition("another epoch");
            let epochs = format!("{} {epoch}", ours.epoch);
            let epochs = epochs.parse().expect("digits and a space are a header's value");
            status.metadata_mut().insert(EPOCHS_HEADER, epochs);
            return Err(status);
        }
        if (*world_size, *to_rank) != (ours.world_size, ours.rank) {
            return Err(Status::invalid_argument("another world, or meant for another rank"));
        }
        Ok(())
    }

    fn claim(&self, from: u32) -> Result<mpsc::Sender<Arrival>, Status> {
        let mut inboxes = self.inboxes.lock().unwrap_or_else(PoisonError::into_inner);
        let inbox = inboxes.get_mut(from as usize).and_then(Option::take);
        inbox.ok_or_else(|| Status::already_exists(format!("rank {from} is not awaited")))
    }
}

/// Why a stream broke: what arrived was no frame, or nothing more arrived.
fn broken(rank: u32, status: &Status) -> CommError {
    let garbled = matches!(status.code(), Code::Internal | Code::OutOfRange);
    if garbled && status.source().is_none() {
        return CommError::Protocol { rank, detail: status.message().to_owned() };
    }
    CommError::PeerLost { rank }
}
