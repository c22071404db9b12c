//! How the island comes to offer what it trained, or nothing.

use std::time::Instant;

use rounds::types::Contribution;

use super::Member;
use crate::exchange::{Offered, Sealed};
use crate::session::Session;
use crate::store::root_digest;
use crate::{MemberError, StepControl, Theta};

/// Why a round was forgone by [`Member::offer`].
const NOT_FINITE: &str = "the update is not finite: no contribution";

impl Member {
    /// Compresses the round's update and offers it. `trained` holds the island's sums over `steps`
    /// inner steps. Where the round closed meanwhile, the update stays in the error feedback. An
    /// update that is not finite is none: see [`Member::forgo`].
    ///
    /// # Errors
    /// When a rank of the island or the coordinator is lost, the parameters are out of reach, or
    /// the round was forgone too often.
    pub fn offer(
        &mut self,
        theta: &mut dyn Theta,
        trained: StepControl,
        steps: u32,
    ) -> Result<(), MemberError> {
        let started = Instant::now();
        let round = self.round();
        let mut after = vec![0.0; self.span_values().len()];
        theta.collect(self.group(), &mut after)?;
        let finite = self.exchange.is_finite(&after);
        if !self.lockstep.all_agree(finite)? {
            return self.forgo(theta, NOT_FINITE);
        }
        let sealed = self.exchange.compress(round, &after)?;
        let all = self.lockstep.gather("gather digests", &sealed.encode())?;
        let sum = Sealed::sum(&all);
        self.exchange.keep(round, sealed, &sum);
        // Others ask every rank as soon as they hear of the offer.
        self.lockstep.all_agree(true)?;
        let contribution = Contribution {
            island: self.lockstep.config.island.clone(),
            epoch: self.lockstep.config.epoch,
            digest: root_digest(&sum.digests),
            bytes: sum.bytes,
            tokens: trained.tokens,
            steps,
            loss: (trained.loss_sum / trained.tokens.max(1) as f64) as f32,
        };
        self.exchange.offer = Some(Offered { contribution, leaving: trained.stop });
        self.make_offer()?;
        self.lockstep.standing.offered = true;
        self.exchange.report.exchange_seconds += started.elapsed().as_secs_f64();
        Ok(())
    }

    /// Why the round has no contribution of this island after [`Member::offer`]; empty where it
    /// has one.
    pub fn forgone_for(&self) -> &'static str {
        if self.lockstep.standing.forgone { NOT_FINITE } else { "" }
    }

    /// Ends the round without a contribution, for example because its steps were not finite; all
    /// ranks call it together. The replica is put back to where the round began, and the error
    /// feedback stays as it is.
    ///
    /// [`Member::next`] then waits for the others' commit and applies it. Where no other island
    /// takes part, or none offers for long, it has the round trained again.
    ///
    /// # Errors
    /// When the round was tried too often.
    pub fn forgo(&mut self, theta: &mut dyn Theta, reason: &str) -> Result<(), MemberError> {
        self.lockstep.forgo(reason)?;
        self.load_local_start(theta)
    }

    /// The leader commits to the round's contribution; saying it twice does no harm.
    pub(super) fn make_offer(&mut self) -> Result<(), MemberError> {
        let Some(Offered { contribution, leaving }) = self.exchange.offer.clone() else {
            return Ok(());
        };
        let round = self.round();
        let offer = async |session: &Session| session.offer(round, contribution, leaving).await;
        if self.lockstep.ask(offer).transpose()?.flatten() == Some(false) {
            tracing::info!(round, "This island's offer came too late: it counts in the next.");
        }
        Ok(())
    }
}
