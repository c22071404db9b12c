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

use crate::keeper::Keeper;
use crate::store::{Store, StoreError};

/// Calls that wait for their turn; more wait at the sender.
const CALLS_QUEUED_MAX: usize = 256;
/// How long the task waits after it could not save before time alone has it try again.
const SAVE_AGAIN_AFTER: Duration = Duration::from_secs(1);
/// How long the task sleeps when time alone changes nothing.
const SLEEP_MAX: Duration = Duration::from_secs(3600);

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

/// The engine is gone, or could not save what it was told: then it was not told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed to reach the run: the coordinator is stopping, or cannot write its store")]
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
    store: Keeper,
    /// Saving failed; time alone has it tried again from then on.
    save_again: Option<Instant>,
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
        let (sender, calls) = mpsc::channel(CALLS_QUEUED_MAX);
        let (views, receiver) = watch::channel(Arc::new(state.view()));
        let (store, started) = (Keeper::new(store), Instant::now());
        let handle = Handle { calls: sender, views: receiver };
        Ok((Engine { state, store, save_again: None, started, calls, views }, handle))
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
                None => Instant::now() + SLEEP_MAX,
            };
            let wakeup = self.save_again.map_or(wakeup, |at| wakeup.max(at));
            tokio::select! {
                () = &mut shutdown => return Ok(()),
                call = self.calls.recv() => {
                    let Some(Call { event, reply }) = call else { return Ok(()) };
                    // A caller that has gone, or got no answer, will ask again.
                    if let Some(answer) = self.take(event).await? {
                        let _ = reply.send(answer);
                    }
                }
                () = sleep_until(wakeup) => {
                    // A tick is never refused.
                    let _ = self.take(Event::Tick).await?;
                }
            }
        }
    }

    /// Takes an event and gives its answer; nothing where the disk takes no more: then nothing
    /// happened.
    async fn take(
        &mut self,
        event: Event,
    ) -> Result<Option<Result<Verdict, Refusal>>, EngineError> {
        let turn = Turn::take(&self.state, event, self.now())?;
        if let Some((saved, entries)) = turn.to_save() {
            if let Err(error) = self.store.save(saved, entries).await? {
                if self.save_again.is_none() {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, "The run waits until its store can be written.");
                }
                self.save_again = Some(Instant::now() + SAVE_AGAIN_AFTER);
                return Ok(None);
            }
            if self.save_again.take().is_some() {
                tracing::info!("The store is written again: the run goes on.");
            }
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
        Ok(Some(reply))
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
            tracing::info!(round, islands, tokens, record = %entry.hash, "A round was committed.");
        }
        Deed::Rewind { from, to, reason } => {
            tracing::warn!(from, to, reason, record = %entry.hash, "The run went back.");
        }
        Deed::Adopt { round, tokens, reason, .. } => {
            tracing::warn!(round, tokens, reason, record = %entry.hash, "The run was taken over.");
        }
    }
}

#[cfg(test)]
mod tests;
