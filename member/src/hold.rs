//! How an island comes to hold what it lacks: a closed set, a committed one, θ. Each rank fetches
//! in the background; at every consult the ranks tell each other how far they are, and decide from
//! that together, so that they stay in lockstep.

use std::time::Instant;

use rounds::request::Fetched;
use rounds::types::{Commit, Contribution, Digest};
use tracing::Span;

use crate::gather::{FETCH_EVERY, Gather, Holding, Means, Snapshot};
use crate::member::{Member, during};
use crate::store::ROUNDS_KEPT;
use crate::{MemberError, Theta};

/// What the leader told the coordinator last of a closed set.
pub(crate) struct Told {
    set: Vec<Digest>,
    holding: Holding,
    at: Instant,
}

/// Whether the island holds a committed set.
pub(crate) enum Hold {
    /// All of it.
    Whole,
    /// More of it is on its way.
    Partly,
    /// It is out of reach.
    Lost,
}

impl Member {
    /// Fetches a closed set for a moment, and then in the background; reports what the whole island
    /// holds. True when that is all of it.
    pub(crate) fn fetch(&mut self, set: &[Contribution]) -> Result<bool, MemberError> {
        let started = Instant::now();
        let mine = self.gather(set);
        let mine = serde_json::to_vec(&mine).map_err(MemberError::Leader)?;
        let all = self.group.all_gather_bytes(&mine).map_err(during("compare fetches"))?;
        let ranks = all.iter().map(|bytes| serde_json::from_slice(bytes));
        let ranks = ranks.collect::<Result<Vec<Holding>, _>>().map_err(MemberError::Leader)?;
        let holding = Holding::of_island(ranks);
        let complete = set.iter().all(|c| holding.have.contains(&c.island));
        self.standing.fetched = complete.then(|| set.iter().map(|c| c.digest).collect());
        self.tell(set, holding)?;
        self.report.exchange_seconds += started.elapsed().as_secs_f64();
        Ok(complete)
    }

    /// The leader reports what is news to the coordinator.
    fn tell(&mut self, set: &[Contribution], holding: Holding) -> Result<(), MemberError> {
        let Some(session) = &self.session else { return Ok(()) };
        let set: Vec<Digest> = set.iter().map(|c| c.digest).collect();
        let told = self.told.as_ref().filter(|told| told.set == set);
        if !holding.is_news(told.map(|told| (&told.holding, told.at.elapsed()))) {
            return Ok(());
        }
        let Holding { have, pieces, rejected } = holding.clone();
        let (who, round) = (self.who(), self.standing.round);
        let fetched = Fetched { who, round, have, pieces, rejected };
        self.runtime.block_on(session.fetched(fetched))?;
        self.told = Some(Told { set, holding, at: Instant::now() });
        Ok(())
    }

    /// Fetches `set` for a moment, and then in the background; how far this rank is.
    fn gather(&mut self, set: &[Contribution]) -> Holding {
        let round = self.standing.round;
        let (id, span, members) =
            (self.frame_id(&self.config.island), self.span_of_round("fetch"), self.members());
        let (runtime, fetcher) = (self.runtime.handle(), &self.fetcher);
        let means = Means { runtime, fetcher, span: &span };
        let running = self.gather.take().filter(|gather| gather.covers(round, set));
        let mut gather = running.unwrap_or_else(|| Gather::start(means, id, set, &members));
        gather.tell(&members);
        runtime.block_on(gather.wait(FETCH_EVERY));
        let holding = gather.holding(&self.store, set);
        self.gather = Some(gather);
        holding
    }

    /// Sees to it that every rank holds its span of every contribution of a commit. Members that
    /// committed it serve it, so that it is given up only when none gives anything for long, or
    /// none has it any more because the run has gone on.
    pub(crate) fn hold_commit(&mut self, commit: &Commit) -> Result<Hold, MemberError> {
        let (round, set) = (self.standing.round, &commit.set);
        let is_here = |c: &Contribution| self.store.missing(round, &c.island, c.digest).is_empty();
        let (mut whole, mut stalled) = (set.iter().all(is_here), false);
        if !whole {
            let waited = self.holding_since.get_or_insert_with(Instant::now).elapsed();
            whole = self.gather(set).have.len() == set.len();
            let stall = self.config.timeouts.stall;
            let gather = self.gather.as_ref();
            let is_dropped = self.run_round() >= round + ROUNDS_KEPT;
            let is_stalled =
                |g: &Gather| g.is_stalled(&self.store, set, (stall, waited), is_dropped);
            stalled = gather.is_some_and(is_stalled);
        }
        let mine = [u8::from(whole), u8::from(stalled)];
        let all = self.group.all_gather_bytes(&mine).map_err(during("compare fetches"))?;
        let flag = |at: usize| all.iter().map(move |bytes| bytes.get(at) == Some(&1));
        if flag(0).all(|whole| whole) {
            return Ok(Hold::Whole);
        }
        if flag(1).any(|stalled| stalled) {
            return Ok(Hold::Lost);
        }
        Ok(Hold::Partly)
    }

    /// Takes θ of `round` from other members, in the background; true when it is here.
    pub(crate) fn sync(
        &mut self,
        round: u64,
        hash: Digest,
        theta: &mut dyn Theta,
    ) -> Result<bool, MemberError> {
        let (span, members) = (self.span_of_round("sync"), self.members());
        let means = Means { runtime: self.runtime.handle(), fetcher: &self.fetcher, span: &span };
        let running = self.snapshot.take().filter(|snapshot| snapshot.is_of(round, hash));
        let mut snapshot = running.unwrap_or_else(|| Snapshot::new(round, hash));
        let whole = snapshot.fetch(means, &members, FETCH_EVERY);
        if !self.all_agree(whole)? {
            self.snapshot = Some(snapshot);
            return Ok(false);
        }
        let values = snapshot.values();
        self.error = vec![0.0; values.len()];
        self.store.set_anchor(None, values);
        let mine = self.theta_hash(round)?;
        if hash != mine {
            tracing::warn!(round, "The θ that was fetched is not the run's; fetching again.");
            return Ok(false);
        }
        self.store.with_anchor_mut(|anchor| anchor.round = Some(round));
        self.stand_at(round);
        self.known = self.known_of_view();
        self.standing.needs_snapshot = false;
        self.load_local_start(theta)?;
        if let Some(session) = &self.session
            && let Err(error) = self.runtime.block_on(session.ready(round, mine))
        {
            // The run moved on meanwhile: the next view says where to.
            tracing::info!(%error, round, "Readiness was not accepted.");
        }
        Ok(true)
    }

    /// A span of what is done in the round, under the round's trace.
    fn span_of_round(&self, step: &str) -> Span {
        let span = tracing::info_span!("exchange", otel.name = step, round = self.standing.round);
        telemetry::set_parent(&span, self.traceparent());
        span
    }

    pub(crate) fn all_agree(&mut self, mine: bool) -> Result<bool, MemberError> {
        let all = self.group.all_gather_bytes(&[u8::from(mine)]).map_err(during("agree"))?;
        Ok(all.iter().all(|answer| answer == &[1]))
    }
}
