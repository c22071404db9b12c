//! The sending side: a connection and a stream to one peer.
//!
//! It stands on HTTP/2 directly, because a codec of the generated client would have to copy every
//! payload; what goes over the wire is what that client would send.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use proto::Keepalive;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout_at};
use tonic::{Code, Status};

use super::body::Messages;
use super::flow::{Counted, Flow, Scan};
use super::server::EPOCHS_HEADER;
use crate::CommError;
use crate::links::Arrival;
use crate::wire::Operation;

const PATH: &str = "/heteroloco.v1.Collective/Stream";

/// Waits between attempts to reach a peer that does not listen yet.
const RETRY_WAIT_MIN: Duration = Duration::from_millis(5);
const RETRY_WAIT_MAX: Duration = Duration::from_millis(500);

/// Whom to call.
pub(crate) struct Dial {
    pub(crate) peer: u32,
    pub(crate) address: String,
    pub(crate) timeout: Duration,
}

/// The carrier of messages to one peer, seen from its user.
pub(crate) struct Carrier {
    flow: Arc<Flow>,
    outcome: oneshot::Receiver<Result<(), CommError>>,
    ended: Option<Result<(), CommError>>,
    peer: u32,
}

impl Carrier {
    /// Counts a message put into the queue.
    pub(crate) fn queued(&self) {
        self.flow.queue();
    }

    /// Waits until all queued messages are written; false when they never will be.
    pub(crate) async fn flushed(&self) -> bool {
        self.flow.flushed().await
    }

    /// Waits for the end of the stream: `Ok` when the peer has taken note of all, else why not.
    pub(crate) async fn ended(&mut self) -> Result<(), CommError> {
        if let Some(ended) = &self.ended {
            return ended.clone();
        }
        let lost = CommError::PeerLost { rank: self.peer };
        let ended = (&mut self.outcome).await.unwrap_or(Err(lost));
        self.ended = Some(ended.clone());
        ended
    }
}

/// Starts to carry the messages of `queue`, after `hello`, to a peer.
pub(crate) fn carry(dial: Dial, hello: Bytes, queue: mpsc::Receiver<Arrival>) -> Carrier {
    let flow = Arc::new(Flow::default());
    let body = Messages::new(hello, queue, Arc::clone(&flow));
    let (sender, outcome) = oneshot::channel();
    let carrier = Carrier { flow: Arc::clone(&flow), outcome, ended: None, peer: dial.peer };
    tokio::spawn(async move {
        let result = stream(&dial, body, Arc::clone(&flow)).await;
        flow.end();
        // Nobody waits when the group was closed first.
        let _ = sender.send(result);
    });
    carrier
}

async fn stream(dial: &Dial, body: Messages, flow: Arc<Flow>) -> Result<(), CommError> {
    let lost = |_| CommError::PeerLost { rank: dial.peer };
    let stream = reach(dial).await?;
    let io = TokioIo::new(Counted { stream, flow, scan: Scan::new() });
    let (mut client, connection) =
        http2::Builder::new(TokioExecutor::new()).handshake(io).await.map_err(lost)?;
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{}{PATH}", dial.address))
        .header(http::header::CONTENT_TYPE, "application/grpc")
        .header(http::header::TE, "trailers")
        .body(body)
        .map_err(|error| CommError::Config { detail: error.to_string() })?;
    let response = client.send_request(request).await.map_err(lost)?;
    let result = outcome(dial.peer, response).await;
    drop(client);
    connection.abort();
    result
}

/// Connects, again and again while nobody listens there.
async fn reach(dial: &Dial) -> Result<TcpStream, CommError> {
    let deadline = Instant::now() + dial.timeout;
    let mut wait = RETRY_WAIT_MIN;
    let attempts = async {
        loop {
            match TcpStream::connect(&dial.address).await.and_then(settle) {
                Ok(stream) => return stream,
                Err(error) => tracing::debug!(%error, address = dial.address, "Not reachable yet."),
            }
            sleep(wait).await;
            wait = (wait * 2).min(RETRY_WAIT_MAX);
        }
    };
    let timed_out = |_| CommError::Timeout { operation: Operation::Connect, rank: dial.peer };
    timeout_at(deadline, attempts).await.map_err(timed_out)
}

fn settle(stream: TcpStream) -> std::io::Result<TcpStream> {
    Keepalive::default().socket(&stream)?;
    Ok(stream)
}

/// The peer's verdict at the end of the stream.
async fn outcome(peer: u32, response: http::Response<Incoming>) -> Result<(), CommError> {
    let (head, body) = response.into_parts();
    let status = match Status::from_header_map(&head.headers) {
        Some(status) => Some(status),
        None => {
            let rest = body.collect().await.map_err(|_| CommError::PeerLost { rank: peer })?;
            rest.trailers().and_then(Status::from_header_map)
        }
    };
    let Some(status) = status else {
        return Err(CommError::Protocol { rank: peer, detail: "not a gRPC server".to_owned() });
    };
    match status.code() {
        Code::Ok => Ok(()),
        Code::FailedPrecondition => Err(epoch_mismatch(peer, &status)),
        Code::InvalidArgument | Code::AlreadyExists => {
            let detail = format!("it refused the stream: {}", status.message());
            Err(CommError::Protocol { rank: peer, detail })
        }
        _ => Err(CommError::PeerLost { rank: peer }),
    }
}

fn epoch_mismatch(peer: u32, status: &Status) -> CommError {
    let epochs = status.metadata().get(EPOCHS_HEADER).and_then(|value| value.to_str().ok());
    let epochs = epochs.and_then(|value| {
        let (theirs, ours) = value.split_once(' ')?;
        Some((theirs.parse().ok()?, ours.parse().ok()?))
    });
    match epochs {
        Some((theirs, ours)) => CommError::EpochMismatch { rank: peer, ours, theirs },
        None => {
            let detail = format!("it refused the stream: {}", status.message());
            CommError::Protocol { rank: peer, detail }
        }
    }
}
