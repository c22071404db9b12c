//! A member's line to the coordinator: calls that are repeated until answered, and the newest view.
//!
//! All calls are idempotent, so a call that may have been lost is made again, with backoff, until
//! `patience` is over: a coordinator that restarts in the middle of a round is only waited for.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::Keepalive;
use proto::v1::coordinator_client::CoordinatorClient;
use proto::v1::{
    AppliedRequest, FetchedRequest, HeartbeatRequest, Identity, JoinRequest, KeptRequest,
    LeaveRequest, MeetRequest, OfferRequest, ReadyRequest, WatchRequest,
};
use rounds::request::{Fetched, Join};
use rounds::types::{Contribution, Digest, RunView};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Shortest wait for the answer to a heartbeat.
const BEAT_WAIT_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
const VIEW_BYTES_MAX: usize = 16 << 20;
/// Beats in the time of one lease.
const BEATS_PER_LEASE: u64 = 3;

/// Why a call to the coordinator failed for good.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// The endpoint is not a URL.
    #[error("failed to use the coordinator's endpoint {endpoint:?}")]
    Endpoint {
        /// As configured.
        endpoint: String,
        /// Why.
        source: tonic::transport::Error,
    },
    /// The coordinator answered no.
    #[error("failed to {call}: the coordinator refused: {}", status.message())]
    Refused {
        /// What was asked.
        call: &'static str,
        /// The answer.
        status: Box<Status>,
    },
    /// No answer for too long.
    #[error("failed to {call}: no answer from the coordinator for {seconds} s: {last}")]
    Gone {
        /// What was asked.
        call: &'static str,
        /// How long it was tried.
        seconds: u64,
        /// The last failure.
        last: String,
    },
    /// The coordinator does not speak this protocol.
    #[error("failed to {call}: the coordinator's answer is malformed")]
    Malformed {
        /// What was asked.
        call: &'static str,
        /// What is wrong.
        source: proto::ProtoError,
    },
}

impl SessionError {
    /// Whether starting the island again at a newer epoch is in vain.
    pub fn is_final(&self) -> bool {
        match self {
            SessionError::Endpoint { .. } => true,
            SessionError::Refused { status, .. } => is_final(status.code()),
            SessionError::Gone { .. } | SessionError::Malformed { .. } => false,
        }
    }
}

/// Whether a refusal is one of what the island is, and not of where it or the run stands. The
/// table of codes is in the coordinator's `status.rs`; the others come from what stands between.
fn is_final(code: Code) -> bool {
    match code {
        Code::InvalidArgument | Code::FailedPrecondition => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

/// The connection to the coordinator, which is dialled anew when it does not answer.
#[derive(Clone)]
struct Line {
    endpoint: Endpoint,
    channel: watch::Sender<Channel>,
}

impl Line {
    fn client(&self) -> CoordinatorClient<Channel> {
        let channel = self.channel.borrow().clone();
        CoordinatorClient::new(channel).max_decoding_message_size(VIEW_BYTES_MAX)
    }

    /// Gives the connection up: it may be dead without a word of it.
    fn redial(&self) {
        tracing::debug!("The coordinator does not answer; connecting to it anew.");
        self.channel.send_replace(self.endpoint.connect_lazy());
    }
}

/// Connection to the coordinator on behalf of one island.
pub(crate) struct Session {
    line: Line,
    who: Identity,
    patience: Duration,
    traceparent: Option<String>,
    contact: Arc<Mutex<Instant>>,
    views: watch::Receiver<Option<RunView>>,
    view_sender: watch::Sender<Option<RunView>>,
    tasks: JoinSet<()>,
}

/// Whether asking the same again may help.
fn is_transient(code: Code) -> bool {
    matches!(
        code,
        Code::Unavailable
            | Code::DeadlineExceeded
            | Code::Cancelled
            | Code::Unknown
            | Code::ResourceExhausted
            | Code::Internal
    )
}

/// A lease that ended is no error: the island joins again.
fn unless_unknown<T>(answer: Result<T, SessionError>) -> Result<Option<T>, SessionError> {
    match answer {
        Err(SessionError::Refused { status, .. }) if status.code() == Code::NotFound => Ok(None),
        answer => answer.map(Some),
    }
}

impl Session {
    /// Prepares the connection; nothing is sent yet.
    pub(crate) fn new(
        endpoint: &str,
        who: Identity,
        (patience, keepalive): (Duration, Keepalive),
    ) -> Result<Session, SessionError> {
        let endpoint = Endpoint::from_shared(endpoint.to_string())
            .map_err(|source| SessionError::Endpoint { endpoint: endpoint.into(), source })?;
        let endpoint = keepalive.client(endpoint);
        let channel = watch::Sender::new(endpoint.connect_lazy());
        let line = Line { endpoint, channel };
        let (view_sender, views) = watch::channel(None);
        let contact = Arc::new(Mutex::new(Instant::now()));
        let (traceparent, tasks) = (None, JoinSet::new());
        Ok(Session { line, who, patience, traceparent, contact, views, view_sender, tasks })
    }

    /// Makes a call until it is answered, refused, or the session's patience is over.
    async fn persist<M: Clone, T, F: Future<Output = Result<tonic::Response<T>, Status>>>(
        &self,
        call: &'static str,
        message: M,
        attempt: impl Fn(CoordinatorClient<Channel>, tonic::Request<M>) -> F,
    ) -> Result<T, SessionError> {
        let deadline = Instant::now() + self.patience;
        let mut backoff = BACKOFF_MIN;
        loop {
            let attempt = attempt(self.line.client(), self.request(message.clone()));
            let last = match tokio::time::timeout(CALL_TIMEOUT, attempt).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) if is_transient(status.code()) => status.message().to_string(),
                Ok(Err(status)) => {
                    return Err(SessionError::Refused { call, status: Box::new(status) });
                }
                Err(_) => {
                    self.line.redial();
                    format!("no answer within {} s", CALL_TIMEOUT.as_secs())
                }
            };
            if Instant::now() + backoff > deadline {
                let seconds = self.patience.as_secs();
                return Err(SessionError::Gone { call, seconds, last });
            }
            tracing::debug!(call, last, "The coordinator did not answer; trying again.");
            tokio::time::sleep(backoff).await;
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// The W3C trace context that further calls carry.
    pub(crate) fn set_traceparent(&mut self, traceparent: &str) {
        self.traceparent = Some(traceparent.to_string()).filter(|text| !text.is_empty());
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(value) = self.traceparent.as_ref().and_then(|text| text.parse().ok()) {
            request.metadata_mut().insert("traceparent", value);
        }
        request
    }

    /// Waits until all ranks of the island's epoch are there; their addresses by rank.
    pub(crate) async fn meet(
        &self,
        rank: u32,
        world_size: u32,
        address: &str,
        plan_hash: Digest,
    ) -> Result<Vec<String>, SessionError> {
        let message = MeetRequest {
            who: Some(self.who.clone()),
            rank,
            world_size,
            address: address.to_string(),
            plan_hash: plan_hash.0.to_vec(),
        };
        let response =
            self.persist("meet the island's ranks", message, |mut client, request| async move {
                client.meet(request).await
            });
        Ok(response.await?.addresses)
    }

    /// Joins the run, and from then on keeps the lease and the view.
    pub(crate) async fn join(&mut self, join: Join) -> Result<(), SessionError> {
        let message = JoinRequest::from(join);
        let response = self.persist("join the run", message, |mut client, request| async move {
            client.join(request).await
        });
        let lease = Duration::from_millis(response.await?.lease_ms);
        if self.tasks.is_empty() {
            let beat = lease / u32::try_from(BEATS_PER_LEASE).unwrap_or(1);
            touch(&self.contact);
            let contact = Arc::clone(&self.contact);
            self.tasks.spawn(heartbeats(self.line.clone(), self.who.clone(), beat, contact));
            let sender = self.view_sender.clone();
            self.tasks.spawn(watch_views(self.line.clone(), self.who.clone(), sender));
        }
        Ok(())
    }

    /// The newest view, once there is one that `wanted` accepts, or after `at_most` whatever is
    /// newest. Fails when the coordinator has been silent for longer than the session's patience.
    pub(crate) async fn view(
        &mut self,
        at_most: Duration,
        wanted: impl FnMut(&Option<RunView>) -> bool,
    ) -> Result<Option<RunView>, SessionError> {
        // On timeout the newest view is as good an answer; the sender lives in `self`.
        let _ = tokio::time::timeout(at_most, self.views.wait_for(wanted)).await;
        let silent = self.contact.lock().unwrap_or_else(PoisonError::into_inner).elapsed();
        if !self.tasks.is_empty() && silent > self.patience {
            let (call, last) = ("follow the run", "heartbeats are not answered".to_string());
            return Err(SessionError::Gone { call, seconds: silent.as_secs(), last });
        }
        Ok(self.views.borrow_and_update().clone())
    }

    /// The newest view now.
    pub(crate) fn latest(&self) -> Option<RunView> {
        self.views.borrow().clone()
    }

    /// Offers a contribution; false when the round is closed, nothing when the coordinator does not
    /// know the island (any more): the next view shows that, too, and leads to another join.
    pub(crate) async fn offer(
        &self,
        round: u64,
        contribution: Contribution,
        leaving: bool,
    ) -> Result<Option<bool>, SessionError> {
        let message = OfferRequest {
            who: Some(self.who.clone()),
            round,
            contribution: Some(contribution.into()),
            leaving,
        };
        let response =
            self.persist("offer a contribution", message, |mut client, request| async move {
                client.offer(request).await
            });
        Ok(unless_unknown(response.await)?.map(|response| response.accepted))
    }

    /// Reports how far the island is with a closed set; to an ignorant coordinator in vain.
    pub(crate) async fn fetched(&self, fetched: Fetched) -> Result<(), SessionError> {
        let message = FetchedRequest::from(fetched);
        let response =
            self.persist("report what was fetched", message, |mut client, request| async move {
                client.fetched(request).await
            });
        unless_unknown(response.await).map(|_| ())
    }

    /// Reports θ after `round`; false when it differs from the others', nothing when the
    /// coordinator does not know the island.
    pub(crate) async fn applied(
        &self,
        round: u64,
        hash: Digest,
    ) -> Result<Option<bool>, SessionError> {
        let message =
            AppliedRequest { who: Some(self.who.clone()), round, theta_hash: hash.0.to_vec() };
        let response =
            self.persist("report the applied round", message, |mut client, request| async move {
                client.applied(request).await
            });
        Ok(unless_unknown(response.await)?.map(|response| response.agrees))
    }

    /// Says that the island holds θ of `round`.
    pub(crate) async fn ready(&self, round: u64, hash: Digest) -> Result<(), SessionError> {
        let theta_hash = hash.0.to_vec();
        let message = ReadyRequest { who: Some(self.who.clone()), round, theta_hash };
        let response =
            self.persist("report readiness", message, |mut client, request| async move {
                client.ready(request).await
            });
        unless_unknown(response.await).map(|_| ())
    }

    /// Tells of a checkpoint; tried once, because only people want to know.
    pub(crate) async fn kept(&mut self, round: u64) {
        let request = self.request(KeptRequest { who: Some(self.who.clone()), round });
        let told = tokio::time::timeout(CALL_TIMEOUT, self.line.client().kept(request)).await;
        if !matches!(told, Ok(Ok(_))) {
            tracing::warn!(round, "The coordinator does not know of the checkpoint.");
        }
    }

    /// Leaves the run; tried once, because the lease ends anyway.
    pub(crate) async fn leave(&mut self, reason: &str) {
        let message = LeaveRequest { who: Some(self.who.clone()), reason: reason.to_string() };
        let request = self.request(message);
        let mut client = self.line.client();
        if let Ok(Err(status)) = tokio::time::timeout(CALL_TIMEOUT, client.leave(request)).await {
            tracing::warn!(reason = status.message(), "The coordinator did not take the leave.");
        }
        self.tasks.shutdown().await;
    }
}

fn touch(contact: &Mutex<Instant>) {
    *contact.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
}

/// Renews the lease until the task is dropped; an answer "unknown" shows in the view as well.
async fn heartbeats(line: Line, who: Identity, every: Duration, contact: Arc<Mutex<Instant>>) {
    let mut ticks = tokio::time::interval(every.max(BACKOFF_MIN));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The lease outlives a beat that is lost with its connection.
    let wait = (every / 2).max(BEAT_WAIT_MIN).min(CALL_TIMEOUT);
    loop {
        ticks.tick().await;
        let request = HeartbeatRequest { who: Some(who.clone()) };
        match tokio::time::timeout(wait, line.client().heartbeat(request)).await {
            Ok(Ok(_)) => touch(&contact),
            Ok(Err(status)) => tracing::debug!(reason = status.message(), "A heartbeat failed."),
            Err(_) => {
                line.redial();
                ticks.reset_immediately();
            }
        }
    }
}

/// Keeps the newest view in `sender`, through any number of lost connections.
async fn watch_views(line: Line, who: Identity, sender: watch::Sender<Option<RunView>>) {
    let mut backoff = BACKOFF_MIN;
    let mut redialled = line.channel.subscribe();
    loop {
        redialled.mark_unchanged();
        let received = receive_views(line.client(), who.clone(), &sender);
        tokio::select! {
            any = received => if any { backoff = BACKOFF_MIN },
            // A stream on a connection that was given up may stay silent for ever.
            _ = redialled.changed() => continue,
        }
        tokio::time::sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
}

/// Follows one stream of views to its end; whether any came.
async fn receive_views(
    mut client: CoordinatorClient<Channel>,
    who: Identity,
    sender: &watch::Sender<Option<RunView>>,
) -> bool {
    let Ok(response) = client.watch(WatchRequest { who: Some(who) }).await else { return false };
    let (mut stream, mut any) = (response.into_inner(), false);
    while let Ok(Some(view)) = stream.message().await {
        match RunView::try_from(view) {
            Ok(view) => {
                any = true;
                sender.send_replace(Some(view));
            }
            Err(error) => tracing::warn!(%error, "A view was malformed."),
        }
    }
    any
}

#[cfg(test)]
mod tests;
