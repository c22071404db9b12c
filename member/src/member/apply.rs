//! How a committed round becomes the next one's θ, on every rank.

use std::sync::atomic::Ordering;
use std::time::Instant;

use rounds::types::{Commit, Digest};

use super::Member;
use crate::hold::Reach;
use crate::lockstep::Known;
use crate::session::Session;
use crate::store::root_digest;
use crate::{MemberError, RoundReport, Theta};

impl Member {
    /// Applies a commit; `None` when it is not here yet, or only a snapshot helps any more.
    pub(super) fn apply(
        &mut self,
        commit: &Commit,
        theta: &mut dyn Theta,
    ) -> Result<Option<RoundReport>, MemberError> {
        let started = Instant::now();
        let round = commit.round;
        match self.hold_commit(commit)? {
            Reach::Whole => {}
            Reach::Coming => {
                self.exchange.report.exchange_seconds += started.elapsed().as_secs_f64();
                return Ok(None);
            }
            why @ (Reach::Silent | Reach::Invalid | Reach::Dropped) => {
                tracing::warn!(round, ?why, "A commit is out of reach; taking a snapshot.");
                self.lockstep.standing.needs_snapshot = true;
                return Ok(None);
            }
        }
        let contributed = self.exchange.step(commit)?;
        self.stand_at(round + 1, Known { tokens: commit.tokens, samples: commit.samples });
        let hash = self.theta_hash(round + 1)?;
        self.load_local_start(theta)?;
        let applied = async |session: &Session| session.applied(round, hash).await;
        if let Some(agrees) = self.lockstep.ask(applied).transpose()? {
            // A coordinator that forgot the island learns of its θ when it joins again.
            let agrees = agrees.unwrap_or(true);
            if !agrees {
                tracing::warn!(round, "This island's θ differs from the others'.");
            }
            self.lockstep.standing.needs_snapshot = !agrees;
        }
        self.exchange.report.exchange_seconds += started.elapsed().as_secs_f64();
        self.report(commit, hash, contributed).map(Some)
    }

    fn report(
        &mut self,
        commit: &Commit,
        hash: Digest,
        contributed: bool,
    ) -> Result<RoundReport, MemberError> {
        let traffic = &self.exchange.fetcher.traffic;
        let sent = traffic.sent.swap(0, Ordering::Relaxed);
        let received = traffic.received.swap(0, Ordering::Relaxed);
        let mine = [sent.to_le_bytes(), received.to_le_bytes()].concat();
        let all = self.lockstep.gather("sum traffic", &mine)?;
        let report = std::mem::take(&mut self.exchange.report);
        let mut report = RoundReport { contributed, ..report };
        report.close(commit, hash, &all);
        Ok(report)
    }

    /// blake3 over the digests of all pieces of θ at the start of `round`; the same on every rank,
    /// whatever the spans. The digests are kept for others. All ranks call it together.
    ///
    /// # Errors
    /// When a rank of the island is lost.
    pub fn theta_hash(&mut self, round: u64) -> Result<Digest, MemberError> {
        let mine = self.exchange.theta_digests();
        let all = self.lockstep.gather("hash parameters", &mine)?;
        let digests = all.iter().flat_map(|bytes| bytes.as_chunks::<32>().0);
        let digests: Vec<Digest> = digests.map(|bytes| Digest(*bytes)).collect();
        let hash = root_digest(&digests);
        self.exchange.store().set_theta_digests(round, digests);
        Ok(hash)
    }

    /// Puts θ itself into the replica, for evaluation; undo it with [`Member::load_local_start`].
    ///
    /// # Errors
    /// When a rank of the island is lost, or the parameters are out of reach.
    pub fn load_theta(&mut self, theta: &mut dyn Theta) -> Result<(), MemberError> {
        let mine = self.anchor();
        Ok(theta.spread(self.group(), &mine)?)
    }

    /// Puts the point that this island trains from into the replica: θ less λ of its residual.
    ///
    /// # Errors
    /// When a rank of the island is lost, or the parameters are out of reach.
    pub fn load_local_start(&mut self, theta: &mut dyn Theta) -> Result<(), MemberError> {
        let mine = self.exchange.local_start();
        Ok(theta.spread(self.group(), &mine)?)
    }
}
