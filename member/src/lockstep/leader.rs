//! What the leader alone does with the coordinator, and how the other ranks learn of it.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rounds::request::Join;
use rounds::types::{Digest, RunView};
use serde::{Deserialize, Serialize};

use super::Lockstep;
use crate::MemberError;
use crate::decide::Standing;
use crate::session::Session;

/// The longest that a leader keeps its ranks waiting before it lets them know that it lives.
const CONSULT_EVERY: Duration = Duration::from_secs(1);

/// What the leader lets its ranks know.
#[derive(Serialize, Deserialize)]
struct Word {
    /// The newest view, where it is not the one that they have.
    view: Option<RunView>,
    needs_snapshot: bool,
    forgone: bool,
}

impl Lockstep {
    /// Has the leader speak with the coordinator; nothing on other ranks.
    pub(crate) fn ask<T>(&self, call: impl AsyncFnOnce(&Session) -> T) -> Option<T> {
        let session = self.session.as_ref()?;
        Some(self.runtime.block_on(call(session)))
    }

    /// Leaves the run.
    pub(crate) fn leave(&mut self, reason: &str) {
        if let Some(session) = &mut self.session {
            self.runtime.block_on(session.leave(reason));
        }
    }

    /// The leader hears, all ranks learn. Returns how long was waited for news, and whether there
    /// are any.
    pub(crate) fn consult(&mut self) -> Result<(Duration, bool), MemberError> {
        let mut message = vec![u8::from(self.stop.load(Ordering::Relaxed))];
        let started = Instant::now();
        if let Some(word) = self.hear()? {
            serde_json::to_writer(&mut message, &word).map_err(MemberError::Leader)?;
        }
        let all = self.gather("consult the leader", &message)?;
        let waited = if self.idle { started.elapsed() } else { Duration::ZERO };
        let word = all.first().and_then(|bytes| bytes.get(1..)).unwrap_or_default();
        let word: Word = serde_json::from_slice(word).map_err(MemberError::Leader)?;
        self.standing.needs_snapshot = word.needs_snapshot;
        self.standing.forgone = word.forgone;
        self.heed_stop(all.iter().any(|bytes| bytes.first().is_some_and(|flag| *flag != 0)));
        let Some(view) = word.view else { return Ok((waited, false)) };
        if let Some(session) = &mut self.session {
            session.set_traceparent(&view.traceparent);
        }
        self.view = Some(view);
        Ok((waited, true))
    }

    /// What the leader has to say; nothing on other ranks.
    fn hear(&mut self) -> Result<Option<Word>, MemberError> {
        let Some(session) = &mut self.session else { return Ok(None) };
        let seen = self.view.as_ref().map(|view| view.version);
        let at_most = if self.idle { CONSULT_EVERY } else { Duration::ZERO };
        let news = |view: &Option<RunView>| view.as_ref().map(|v| v.version) != seen;
        let view = self.runtime.block_on(session.view(at_most, news))?;
        let Standing { needs_snapshot, forgone, .. } = self.standing;
        let patience = self.config.timeouts.forgone;
        let waited = self.forgone.is_some_and(|forgone| forgone.last.elapsed() > patience);
        let view = view.filter(|view| Some(view.version) != seen);
        Ok(Some(Word { view, needs_snapshot, forgone: forgone && !waited }))
    }

    /// The leader joins with θ of this hash, and waits for a view that shows the island.
    pub(crate) fn join(&mut self, theta_hash: Digest) -> Result<(), MemberError> {
        // Whoever joins anew has said nothing of what it holds.
        self.standing.fetched = None;
        let who = self.who();
        let Some(session) = &mut self.session else { return Ok(()) };
        let join = Join {
            who,
            ranks: self.ranks.clone(),
            layout_hash: self.layout_hash,
            round: self.standing.round,
            theta_hash,
            tokens_per_second_milli: (self.config.tokens_per_second * 1e3) as u64,
            inner_steps: self.config.inner_steps,
            round_samples: self.config.round_samples,
            tokens: self.known.tokens,
            samples: self.known.samples,
            complaint: self.complaint.clone(),
        };
        let Standing { island, epoch, .. } = &self.standing;
        let shown = |view: &Option<RunView>| {
            view.as_ref().is_some_and(|view| view.member(island, *epoch).is_some())
        };
        self.runtime.block_on(async {
            session.join(join).await?;
            session.view(self.config.timeouts.transfer, shown).await
        })?;
        Ok(())
    }
}
