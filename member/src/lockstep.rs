//! What the ranks of an island go through together, in one order: what the leader hears and all
//! learn, where the island stands by it, and the sums and flags of every step.
//!
//! What is here is the same on every rank, but for the session, which only the leader has. What a
//! rank holds and fetches of its own is in `exchange`.

mod leader;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use collective::{CommError, Group};
use rounds::request::Identity;
use rounds::types::{Digest, MemberView, RankAddress, RunView};
use tokio::runtime::{Handle, Runtime};

use crate::control::StepControl;
use crate::decide::{Directive, Standing, decide};
use crate::hand_in::Training;
use crate::session::Session;
use crate::stopping::{Stopping, stopping};
use crate::{MemberConfig, MemberError};

/// Tries to train a round before the island gives up.
const ROUND_TRIES: u32 = 3;

/// What the island knows of the run at the start of its round; a coordinator that lost its store
/// takes the run over from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) tokens: u64,
    pub(crate) samples: u64,
}

/// How often a round was forgone, and when last.
#[derive(Clone, Copy, Debug)]
struct Forgone {
    times: u32,
    last: Instant,
}

/// What holds an island's ranks together, and to the run.
pub(crate) struct Ties {
    pub(crate) group: Group,
    /// Only the leader has one.
    pub(crate) session: Option<Session>,
    /// Where other islands reach its ranks, by rank.
    pub(crate) ranks: Vec<RankAddress>,
    /// May be set from anywhere.
    pub(crate) stop: Arc<AtomicBool>,
    pub(crate) runtime: Runtime,
}

/// Where the island stands, as all of its ranks see it.
pub(crate) struct Lockstep {
    pub(crate) config: MemberConfig,
    pub(crate) layout_hash: Digest,
    pub(crate) group: Group,
    session: Option<Session>,
    pub(crate) ranks: Vec<RankAddress>,
    pub(crate) standing: Standing,
    pub(crate) known: Known,
    /// What people should know of how it came to that, for the coordinator to show.
    pub(crate) complaint: String,
    /// As last heard.
    view: Option<RunView>,
    /// Whether nothing is to be done until the view changes.
    pub(crate) idle: bool,
    forgone: Option<Forgone>,
    training: Training,
    stop: Arc<AtomicBool>,
    stop_since: Option<Instant>,
    // Last: what the session runs on.
    runtime: Runtime,
}

impl Lockstep {
    pub(crate) fn new(config: MemberConfig, layout_hash: Digest, ties: Ties) -> Lockstep {
        let Ties { group, session, ranks, stop, runtime } = ties;
        Lockstep {
            standing: Standing::at(config.island.clone(), config.epoch, 0),
            config,
            layout_hash,
            group,
            session,
            ranks,
            known: Known::default(),
            complaint: String::new(),
            view: None,
            idle: false,
            forgone: None,
            training: Training::new(),
            stop,
            stop_since: None,
            runtime,
        }
    }

    pub(crate) fn runtime(&self) -> &Handle {
        self.runtime.handle()
    }

    pub(crate) fn who(&self) -> Identity {
        self.config.who()
    }

    pub(crate) fn view(&self) -> Option<&RunView> {
        self.view.as_ref()
    }

    /// The run's round, as last heard.
    pub(crate) fn run_round(&self) -> u64 {
        self.view.as_ref().map_or(0, |view| view.round)
    }

    pub(crate) fn members(&self) -> &[MemberView] {
        self.view.as_ref().map_or(&[], |view| &view.members)
    }

    /// What the newest view says of the round in progress.
    pub(crate) fn known_of_view(&self) -> Known {
        let known = |view: &RunView| Known { tokens: view.tokens, samples: view.samples };
        self.view.as_ref().map_or_else(Known::default, known)
    }

    /// The W3C trace context of the round in progress; may be empty.
    pub(crate) fn traceparent(&self) -> &str {
        self.view.as_ref().map_or("", |view| &view.traceparent)
    }

    /// What every rank says, by rank; all ranks call it together.
    pub(crate) fn gather(
        &mut self,
        operation: &'static str,
        mine: &[u8],
    ) -> Result<Vec<Vec<u8>>, MemberError> {
        self.group.all_gather_bytes(mine).map_err(during(operation))
    }

    /// Whether all ranks say yes; all ranks call it together.
    pub(crate) fn all_agree(&mut self, mine: bool) -> Result<bool, MemberError> {
        let all = self.gather("agree", &[u8::from(mine)])?;
        Ok(all.iter().all(|answer| answer == &[1]))
    }

    /// Begins a round, in which nothing has happened yet.
    pub(crate) fn stand_at(&mut self, round: u64, known: Known) {
        let Standing { island, epoch, needs_snapshot, .. } = &self.standing;
        let at = Standing::at(island.clone(), *epoch, round);
        self.standing = Standing { needs_snapshot: *needs_snapshot, ..at };
        self.known = known;
        self.forgone = None;
    }

    /// What the island does next by the newest view.
    pub(crate) fn directive(&mut self) -> Directive {
        let Some(view) = &self.view else { return Directive::Join };
        self.standing.heed(view);
        decide(view, &self.standing)
    }

    /// Whether the island ends instead of following `directive`.
    pub(crate) fn stopping(&self, directive: &Directive) -> Stopping {
        let asked = self.stop_since.map(|since| since.elapsed());
        stopping(asked, self.config.timeouts.stop, directive, self.standing.offered)
    }

    /// Begins the inner steps of a round.
    pub(crate) fn train(&mut self) {
        self.standing.forgone = false;
        self.training = Training::new();
    }

    /// Takes note of how many steps are left after the one that is made next.
    pub(crate) fn pace(&mut self, steps_left: u32) {
        self.training.expect(steps_left);
    }

    /// Leaves the round to the others.
    ///
    /// # Errors
    /// When it was tried too often.
    pub(crate) fn forgo(&mut self, reason: &str) -> Result<(), MemberError> {
        let round = self.standing.round;
        let times = self.forgone.map_or(0, |forgone| forgone.times) + 1;
        if times >= ROUND_TRIES {
            return Err(MemberError::Forgone { round, times, reason: reason.to_string() });
        }
        tracing::warn!(round, times, reason, "This island forgoes its contribution.");
        self.forgone = Some(Forgone { times, last: Instant::now() });
        self.standing.forgone = true;
        Ok(())
    }

    /// Sums and flags over the island's ranks, and whether further steps of the round can count.
    pub(crate) fn step_control(&mut self, mine: StepControl) -> Result<StepControl, MemberError> {
        let closed = self.is_hand_in_due();
        let stop = mine.stop || self.stop.load(Ordering::Relaxed);
        let mine = StepControl { stop, closed: mine.closed || closed, ..mine };
        let all = self.gather("make a step", &mine.encode())?;
        let sum = StepControl::sum(&all).map_err(during("make a step"))?;
        self.heed_stop(sum.stop);
        Ok(sum)
    }

    fn is_hand_in_due(&mut self) -> bool {
        let round = self.standing.round;
        let Some(view) = self.session.as_ref().and_then(Session::latest) else { return false };
        let verdict = self.training.step(&view, round);
        if verdict.is_due() {
            tracing::info!(round, %verdict, "The island hands in the steps that it has made.");
        }
        verdict.is_due()
    }

    fn heed_stop(&mut self, stop: bool) {
        if stop {
            self.stop_since.get_or_insert_with(Instant::now);
        }
    }
}

pub(crate) fn during(operation: &'static str) -> impl Fn(CommError) -> MemberError {
    move |source| MemberError::Group { operation, source }
}

#[cfg(test)]
mod tests;
