//! The one task that owns a run: it takes events in turn, lets time pass, saves, and only then
//! answers and shows the new view.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use rounds::check::Unsound;
use rounds::config::Config;
use rounds::record::{Deed, Entry};
use rounds::refusal::Refusal;
use rounds::state::{Millis, OtherRun, State};
use rounds::step::{Event, Verdict};
use rounds::turn::{Shown, Turn};
use rounds::types::RunView;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep_until};

use crate::store::{Store, StoreError};

/// Calls that wait for their turn; more wait at the sender.
const CALLS_QUEUED: usize = 256;
/// How long the task sleeps when time alone changes nothing.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);

/// Why a run cannot be, or is no longer, coordinated.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The store holds another run.
    #[error("failed to resume from the store")]
    OtherRun(#[from] OtherRun),
    /// The store cannot be read or written.
    #[error("failed to keep the run's state")]
    Store(#[from] StoreError),
    /// The run's state contradicts itself; what is saved is the last that did not.
    #[error("failed to go on")]
    Unsound(#[from] Unsound),
    /// The task that writes ended without a result.
    #[error("failed to wait for the store")]
    Lost(#[from] tokio::task::JoinError),
}

/// The engine is gone: the coordinator is stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to reach the run: the coordinator is stopping")]
pub(crate) struct Stopped;

struct Call {
    event: Event,
    reply: oneshot::Sender<Result<Verdict, Refusal>>,
}

/// A line to the engine.
#[derive(Clone)]
pub(crate) struct Handle {
    calls: mpsc::Sender<Call>,
    views: watch::Receiver<Arc<RunView>>,
}

/// Owner of a run's state.
pub(crate) struct Engine {
    state: State,
    store: Arc<Store>,
    started: Instant,
    calls: mpsc::Receiver<Call>,
    views: watch::Sender<Arc<RunView>>,
}

impl Handle {
    /// Makes a call; its effect is on the disk when the answer comes.
    pub(crate) async fn call(&self, event: Event) -> Result<Result<Verdict, Refusal>, Stopped> {
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call { event, reply }).await.map_err(|_| Stopped)?;
        answer.await.map_err(|_| Stopped)
    }

    /// The newest view, and each newer one.
    pub(crate) fn views(&self) -> watch::Receiver<Arc<RunView>> {
        self.views.clone()
    }

    /// Completes when the engine is gone.
    pub(crate) async fn stopped(&self) {
        self.calls.closed().await;
    }
}

impl Engine {
    /// Resumes the run of the store, or begins one.
    pub(crate) fn new(config: Config, store: Store) -> Result<(Engine, Handle), EngineError> {
        let now = Millis(0);
        let state = match store.load()? {
            Some(saved) => State::resume(config, saved, now)?,
            None => State::new(config, now),
        };
        store.save(state.saved(), &[])?;
        let (sender, calls) = mpsc::channel(CALLS_QUEUED);
        let (views, receiver) = watch::channel(Arc::new(state.view()));
        let (store, started) = (Arc::new(store), Instant::now());
        let handle = Handle { calls: sender, views: receiver };
        Ok((Engine { state, store, started, calls, views }, handle))
    }

    /// Coordinates until `shutdown` completes.
    pub(crate) async fn run(
        mut self,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), EngineError> {
        let mut shutdown = pin!(shutdown);
        loop {
            let wakeup = match self.state.next_wakeup() {
                Some(at) => self.started + Duration::from_millis(at.0),
                None => Instant::now() + LONGEST_SLEEP,
            };
            tokio::select! {
                () = &mut shutdown => return Ok(()),
                call = self.calls.recv() => {
                    let Some(Call { event, reply }) = call else { return Ok(()) };
                    let answer = self.take(event).await?;
                    // A caller that has gone will ask again.
                    let _ = reply.send(answer);
                }
                () = sleep_until(wakeup) => {
                    // A tick is never refused.
                    let _ = self.take(Event::Tick).await?;
                }
            }
        }
    }

    async fn take(&mut self, event: Event) -> Result<Result<Verdict, Refusal>, EngineError> {
        let turn = Turn::take(&self.state, event, self.now())?;
        if let Some((saved, entries)) = turn.to_save() {
            let (store, saved, entries) =
                (Arc::clone(&self.store), saved.clone(), entries.to_vec());
            tokio::task::spawn_blocking(move || store.save(&saved, &entries)).await??;
        }
        let Shown { state, reply, view, entries } = turn.saved();
        if let Some(view) = view {
            if view.reason != self.views.borrow().reason {
                tracing::info!(round = view.round, phase = ?view.phase, "{}", view.reason);
            }
            entries.iter().for_each(log_entry);
            self.views.send_replace(Arc::new(view));
        }
        self.state = state;
        Ok(reply)
    }

    fn now(&self) -> Millis {
        let elapsed = self.started.elapsed().as_millis();
        Millis(u64::try_from(elapsed).unwrap_or(u64::MAX))
    }
}

fn log_entry(entry: &Entry) {
    match &entry.deed {
        Deed::Commit { round, set } => {
            let tokens: u64 = set.iter().map(|contribution| contribution.tokens).sum();
            let islands = set.len();
            tracing::info!(round, islands, tokens, record = %entry.hash, "committed a round");
        }
        Deed::Rewind { from, to, reason } => {
            tracing::warn!(from, to, record = %entry.hash, "went back: {reason}");
        }
        Deed::Adopt { round, tokens, reason, .. } => {
            tracing::warn!(round, tokens, record = %entry.hash, "took the run over: {reason}");
        }
    }
}

#[cfg(test)]
mod tests;
