//! A member's line to the coordinator: calls that are repeated until answered, and the newest view.
//!
//! All calls are idempotent, so a call that may have been lost is made again, with backoff, until
//! `patience` is over: a coordinator that restarts in the middle of a round is only waited for.

mod error;
mod line;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::Keepalive;
use proto::v1::coordinator_client::CoordinatorClient;
use proto::v1::{
    AppliedRequest, FetchedRequest, Identity, JoinRequest, KeptRequest, LeaveRequest, MeetRequest,
    OfferRequest, ReadyRequest,
};
use rounds::request::{Fetched, Join};
use rounds::types::{Contribution, Digest, RunView};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

pub use self::error::SessionError;

use self::error::{Retry, retry, unless_unknown};
use self::line::{Line, heartbeats, touch, watch_views};

const CALL_TIMEOUT: Duration = Duration::from_secs(10);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Beats in the time of one lease.
const BEATS_PER_LEASE: u32 = 3;

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
    /// That the tasks keep.
    lease: Option<Duration>,
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
        let line = Line::to(endpoint);
        let (view_sender, views) = watch::channel(None);
        let contact = Arc::new(Mutex::new(Instant::now()));
        Ok(Session {
            line,
            who,
            patience,
            traceparent: None,
            contact,
            views,
            view_sender,
            tasks: JoinSet::new(),
            lease: None,
        })
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
            let failed = match tokio::time::timeout(CALL_TIMEOUT, attempt).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => Some(Box::new(status)),
                Err(_) => {
                    self.line.redial();
                    None
                }
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let code = failed.as_ref().map(|status| status.code());
            let unanswered = || format!("no answer within {} s", CALL_TIMEOUT.as_secs());
            let last = failed.as_ref().map_or_else(unanswered, |s| s.message().to_string());
            match (retry(code, backoff, left), failed) {
                (Retry::Refused, Some(status)) => {
                    return Err(SessionError::Refused { call, status });
                }
                (Retry::After(wait), _) => {
                    tracing::debug!(call, last, "The coordinator did not answer; trying again.");
                    tokio::time::sleep(wait).await;
                }
                (Retry::Gone | Retry::Refused, _) => {
                    let seconds = self.patience.as_secs();
                    return Err(SessionError::Gone { call, seconds, last });
                }
            }
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
        if self.lease != Some(lease) {
            // A coordinator may come back with another lease, which the old beat would not keep.
            self.tasks.shutdown().await;
            self.keep(lease);
        }
        Ok(())
    }

    /// Keeps the lease and the view from now on.
    fn keep(&mut self, lease: Duration) {
        self.lease = Some(lease);
        let beat = lease / BEATS_PER_LEASE;
        touch(&self.contact);
        let contact = Arc::clone(&self.contact);
        self.tasks.spawn(heartbeats(self.line.clone(), self.who.clone(), beat, contact));
        let sender = self.view_sender.clone();
        self.tasks.spawn(watch_views(self.line.clone(), self.who.clone(), sender));
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
        if self.lease.is_some() && silent > self.patience {
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
    pub(crate) async fn kept(&self, round: u64) {
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
        self.lease = None;
        self.tasks.shutdown().await;
    }
}

#[cfg(test)]
mod tests;
