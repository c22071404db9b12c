//! How an island comes to hold what it lacks: a closed set, a committed one, θ. Each rank fetches
//! in the background; at every consult the ranks tell each other how far they are, and decide from
//! that together, so that they stay in lockstep.

use std::time::Instant;

use rounds::request::Fetched;
use rounds::types::{Commit, Contribution, Digest};

use super::Member;
use crate::hold::{Holding, Reach, Told, digests_of};
use crate::session::Session;
use crate::{MemberError, Theta};

impl Member {
    /// Fetches a closed set for a moment, and then in the background; reports what the whole island
    /// holds.
    pub(super) fn fetch(&mut self, set: &[Contribution]) -> Result<(), MemberError> {
        let started = Instant::now();
        let span = self.span_of_round("fetch");
        let round = self.round();
        let means = (self.lockstep.runtime(), &span);
        let mine = self.exchange.fetch(means, (round, set), self.lockstep.members());
        let mine = serde_json::to_vec(&mine).map_err(MemberError::Leader)?;
        let all = self.lockstep.gather("compare fetches", &mine)?;
        let ranks = all.iter().map(|bytes| serde_json::from_slice(bytes));
        let ranks = ranks.collect::<Result<Vec<Holding>, _>>().map_err(MemberError::Leader)?;
        let holding = Holding::of_island(ranks);
        let complete = holding.is_all_of(set);
        self.lockstep.standing.fetched = complete.then(|| digests_of(set));
        self.tell(set, holding)?;
        self.exchange.report.exchange_seconds += started.elapsed().as_secs_f64();
        Ok(())
    }

    /// The leader reports what is news to the coordinator.
    fn tell(&mut self, set: &[Contribution], holding: Holding) -> Result<(), MemberError> {
        let told = self.exchange.told.as_ref().and_then(|told| told.of(set));
        if !holding.news(told).is_told() {
            return Ok(());
        }
        let Holding { have, pieces, rejected } = holding.clone();
        let (who, round) = (self.lockstep.who(), self.round());
        let fetched = Fetched { who, round, have, pieces, rejected };
        let tell = async |session: &Session| session.fetched(fetched).await;
        self.lockstep.ask(tell).transpose()?;
        self.exchange.told = Some(Told::now(set, holding));
        Ok(())
    }

    /// Sees to it that every rank holds its span of every contribution of a commit.
    pub(super) fn hold_commit(&mut self, commit: &Commit) -> Result<Reach, MemberError> {
        let span = self.span_of_round("fetch");
        let (means, set) = ((self.lockstep.runtime(), &span), &commit.set);
        let (members, run_round) = (self.lockstep.members(), self.lockstep.run_round());
        let round = self.lockstep.standing.round;
        let mine = self.exchange.hold(means, (round, set), members, run_round);
        Ok(Reach::of_island(&self.lockstep.gather("compare fetches", &mine.encode())?))
    }

    /// Takes θ of `round` from other members, in the background; true when it is here.
    pub(super) fn sync(
        &mut self,
        round: u64,
        hash: Digest,
        theta: &mut dyn Theta,
    ) -> Result<bool, MemberError> {
        let span = self.span_of_round("sync");
        let means = (self.lockstep.runtime(), &span);
        let whole = self.exchange.fetch_theta(means, (round, hash), self.lockstep.members());
        if !self.lockstep.all_agree(whole)? {
            return Ok(false);
        }
        self.exchange.take_theta();
        // Until it is known for the run's, what is here is of no round.
        self.lockstep.standing.needs_snapshot = true;
        let mine = self.theta_hash(round)?;
        if hash != mine {
            tracing::warn!(round, "The θ that was fetched is not the run's; fetching again.");
            return Ok(false);
        }
        self.exchange.store().with_anchor_mut(|anchor| anchor.round = Some(round));
        let known = self.lockstep.known_of_view();
        self.stand_at(round, known);
        self.lockstep.standing.needs_snapshot = false;
        self.load_local_start(theta)?;
        let ready = async |session: &Session| session.ready(round, mine).await;
        if let Some(Err(error)) = self.lockstep.ask(ready) {
            // The run moved on meanwhile: the next view says where to.
            tracing::info!(%error, round, "Readiness was not accepted.");
        }
        Ok(true)
    }
}
