//! The connection to the coordinator, and the tasks that keep lease and view over it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use proto::v1::coordinator_client::CoordinatorClient;
use proto::v1::{HeartbeatRequest, Identity, WatchRequest};
use rounds::types::RunView;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::transport::{Channel, Endpoint};

use super::error::is_transient;
use super::{BACKOFF_MAX, BACKOFF_MIN, CALL_TIMEOUT};

/// Shortest wait for the answer to a heartbeat.
const BEAT_WAIT_MIN: Duration = Duration::from_millis(500);
const VIEW_BYTES_MAX: usize = 16 << 20;

/// The connection to the coordinator, which is dialled anew when it does not answer.
#[derive(Clone)]
pub(super) struct Line {
    endpoint: Endpoint,
    channel: watch::Sender<Channel>,
}

impl Line {
    /// Nothing is sent yet.
    pub(super) fn to(endpoint: Endpoint) -> Line {
        let channel = watch::Sender::new(endpoint.connect_lazy());
        Line { endpoint, channel }
    }

    pub(super) fn client(&self) -> CoordinatorClient<Channel> {
        let channel = self.channel.borrow().clone();
        CoordinatorClient::new(channel).max_decoding_message_size(VIEW_BYTES_MAX)
    }

    /// Changes with every connection that is given up.
    pub(super) fn redialled(&self) -> watch::Receiver<Channel> {
        self.channel.subscribe()
    }

    /// Gives the connection up: it may be dead without a word of it.
    pub(super) fn redial(&self) {
        tracing::debug!("The coordinator does not answer; connecting to it anew.");
        self.channel.send_replace(self.endpoint.connect_lazy());
    }
}

pub(super) fn touch(contact: &Mutex<Instant>) {
    *contact.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
}

/// Renews the lease until the task is dropped; an answer "unknown" shows in the view as well.
pub(super) async fn heartbeats(
    line: Line,
    who: Identity,
    every: Duration,
    contact: Arc<Mutex<Instant>>,
) {
    let mut ticks = tokio::time::interval(every.max(BACKOFF_MIN));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // The lease outlives a beat that is lost with its connection.
    let wait = (every / 2).max(BEAT_WAIT_MIN).min(CALL_TIMEOUT);
    loop {
        ticks.tick().await;
        let request = HeartbeatRequest { who: Some(who.clone()) };
        match tokio::time::timeout(wait, line.client().heartbeat(request)).await {
            Ok(Ok(_)) => touch(&contact),
            Ok(Err(status)) => {
                if !is_transient(status.code()) {
                    // It is there, whatever it thinks of the island: the next call hears of that.
                    touch(&contact);
                }
                tracing::debug!(reason = status.message(), "A heartbeat failed.");
            }
            Err(_) => {
                line.redial();
                ticks.reset_immediately();
            }
        }
    }
}

/// Keeps the newest view in `sender`, through any number of lost connections.
pub(super) async fn watch_views(line: Line, who: Identity, sender: watch::Sender<Option<RunView>>) {
    let mut backoff = BACKOFF_MIN;
    let mut redialled = line.redialled();
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
