//! A rank in lockstep with its island: consult the leader, decide, act.

mod apply;
mod connect;
mod hold;
mod offer;

use std::ops::Range;

use collective::Group;
use rounds::types::{MemberState, SampleRange};
use tracing::Span;

use crate::control::StepControl;
use crate::decide::{Directive, Standing, leads_run};
use crate::exchange::Exchange;
use crate::lockstep::{Known, Lockstep};
use crate::server::ExchangeHandle;
use crate::theta::Theta;
use crate::{MemberError, OuterState, RoundReport};

/// What the train loop has to do next.
#[derive(Debug)]
pub enum Turn {
    /// Make the inner steps of a round, then call [`Member::offer`].
    Train {
        /// The round.
        round: u64,
    },
    /// A committed round was applied; θ is that of the next round.
    Applied(RoundReport),
    /// θ was taken from other members; the residual was dropped.
    Synced {
        /// The round whose start θ now is.
        round: u64,
    },
    /// The run went back to a round before this island's: call [`Member::begin`] with what the
    /// island kept of that round or of one before it, of round 0 where it kept nothing.
    Rewound {
        /// The run's round.
        round: u64,
    },
    /// The run has its tokens.
    Finished,
    /// The run ended while the island was away, and nobody is left to take its θ from.
    Missed,
    /// The island was asked to stop and has nothing more to give.
    Stopped,
}

/// One rank's side of the run: what it has of its own, in lockstep with the other ranks.
pub struct Member {
    /// Ends before what it runs on, which is last in `lockstep`.
    _server: ExchangeHandle,
    exchange: Exchange,
    lockstep: Lockstep,
}

impl Member {
    /// What people should know of the state that the island begins with, such as a damaged
    /// checkpoint that was passed over; empty where there is nothing. Shown by the coordinator from
    /// the next time on that the island joins.
    pub fn complain(&mut self, complaint: String) {
        self.lockstep.complaint = complaint;
    }

    /// The group of the island's ranks, for gradients.
    pub fn group(&mut self) -> &mut Group {
        &mut self.lockstep.group
    }

    /// The pieces of the canonical order that this rank owns.
    pub fn span(&self) -> Range<u32> {
        self.exchange.store().span()
    }

    /// The values of those pieces in the canonical order of the whole model.
    pub fn span_values(&self) -> Range<usize> {
        self.exchange.span_values()
    }

    /// Where other islands reach this rank.
    pub fn address(&self) -> &str {
        let Lockstep { ranks, config, .. } = &self.lockstep;
        &ranks[config.rank as usize].address
    }

    /// The round that θ is the start of.
    pub fn round(&self) -> u64 {
        self.lockstep.standing.round
    }

    /// Samples of the run's order of text that were handed out until θ's round began.
    pub fn run_samples(&self) -> u64 {
        self.lockstep.known.samples
    }

    /// The samples of the round in progress that are this island's to train on, in this order.
    pub fn samples(&self) -> Vec<SampleRange> {
        let Standing { island, epoch, .. } = &self.lockstep.standing;
        let me = self.lockstep.view().and_then(|view| view.member(island, *epoch));
        me.map(|member| member.samples.clone()).unwrap_or_default()
    }

    /// Samples that the round in progress takes of all islands that take part in it, as last heard:
    /// what it is expected to give.
    pub fn expected_samples(&self) -> u64 {
        let members = self.lockstep.members().iter();
        let active = members.filter(|member| member.state == MemberState::Active);
        let samples = active.flat_map(|member| &member.samples).map(SampleRange::count);
        samples.fold(0, u64::saturating_add)
    }

    /// Tokens of the run until θ's round began.
    pub fn tokens_before(&self) -> u64 {
        self.lockstep.known.tokens
    }

    /// Whether this island is the one that does what one of all is to do for the run, as last
    /// heard; all of its ranks hear the same.
    pub fn leads_run(&self) -> bool {
        self.lockstep.view().is_some_and(|view| leads_run(view, &self.lockstep.standing.island))
    }

    /// Tokens of all committed rounds, as last heard.
    pub fn run_tokens(&self) -> u64 {
        self.lockstep.known_of_view().tokens
    }

    /// The W3C trace context of the round in progress, as last heard; may be empty.
    pub fn traceparent(&self) -> &str {
        self.lockstep.traceparent()
    }

    /// Error feedback of the rank's span, for checkpoints.
    pub fn residual(&self) -> &[f32] {
        &self.exchange.residual
    }

    /// Copies θ of the rank's span, for checkpoints.
    pub fn anchor(&self) -> Vec<f32> {
        self.exchange.store().with_anchor(|anchor| anchor.values.clone())
    }

    /// Sets the point to go on from, and puts the start of its round into the replica. One that
    /// takes part already says so to the coordinator; all ranks call it together.
    ///
    /// # Errors
    /// When a rank of the island or the coordinator is lost, or the parameters are out of reach.
    ///
    /// # Panics
    /// When the state does not have the values of the rank's span.
    pub fn begin(&mut self, theta: &mut dyn Theta, state: OuterState) -> Result<(), MemberError> {
        let values = self.span_values().len();
        assert_eq!(state.anchor.len(), values, "the anchor covers the rank's span");
        assert_eq!(state.residual.len(), values, "the residual covers the rank's span");
        let OuterState { round, tokens, samples, anchor, residual } = state;
        self.exchange.begin(round, anchor, residual);
        self.lockstep.stand_at(round, Known { tokens, samples });
        self.lockstep.standing.needs_snapshot = false;
        self.load_local_start(theta)?;
        if self.lockstep.view().is_some() { self.join() } else { Ok(()) }
    }

    /// Follows the run until the train loop has something to do.
    ///
    /// # Errors
    /// When the island cannot go on: see [`MemberError`].
    pub fn next(&mut self, theta: &mut dyn Theta) -> Result<Turn, MemberError> {
        loop {
            self.consult()?;
            let directive = self.lockstep.directive();
            let stopping = self.lockstep.stopping(&directive);
            let round = self.round();
            tracing::debug!(?directive, ?stopping, round, "Decided.");
            if stopping.is_due() {
                return Ok(Turn::Stopped);
            }
            if let Some(turn) = self.act(directive, theta)? {
                return Ok(turn);
            }
        }
    }

    fn act(
        &mut self,
        directive: Directive,
        theta: &mut dyn Theta,
    ) -> Result<Option<Turn>, MemberError> {
        let waits = matches!(directive, Directive::Wait { .. } | Directive::OfferAgain);
        self.lockstep.idle = waits;
        self.exchange.drop_what_is_not_wanted(&directive);
        match directive {
            Directive::Join => self.join()?,
            Directive::Train { round } => {
                self.lockstep.train();
                return Ok(Some(Turn::Train { round }));
            }
            Directive::OfferAgain => self.make_offer()?,
            Directive::Fetch { set } => self.fetch(&set)?,
            Directive::Apply { commit } => {
                return Ok(self.apply(&commit, theta)?.map(Turn::Applied));
            }
            Directive::Sync { round, hash } => {
                let synced = self.sync(round, hash, theta)?;
                return Ok(synced.then_some(Turn::Synced { round }));
            }
            Directive::Wait { .. } => {}
            Directive::Finish => return Ok(Some(Turn::Finished)),
            Directive::Miss => return Ok(Some(Turn::Missed)),
            Directive::Rewind { round } => {
                self.exchange.store().forget_from(round);
                return Ok(Some(Turn::Rewound { round }));
            }
        }
        Ok(None)
    }

    /// Tells how many steps of the round are left after the one that is made next: the work is
    /// handed in early where they would be in vain.
    pub fn pace(&mut self, steps_left: u32) {
        self.lockstep.pace(steps_left);
    }

    /// Sums and flags over the island's ranks, and whether further steps of the round can count.
    ///
    /// # Errors
    /// When a rank of the island is lost.
    pub fn step_control(&mut self, mine: StepControl) -> Result<StepControl, MemberError> {
        self.lockstep.step_control(mine)
    }

    /// Has the leader tell the coordinator that the island keeps a whole checkpoint of `round`.
    pub fn kept(&mut self, round: u64) {
        self.lockstep.ask(async |session| session.kept(round).await);
    }

    /// Leaves the run.
    pub fn leave(&mut self, reason: &str) {
        self.lockstep.leave(reason);
    }

    fn consult(&mut self) -> Result<(), MemberError> {
        let (waited, news) = self.lockstep.consult()?;
        self.exchange.report.waiting_seconds += waited.as_secs_f64();
        if let Some(view) = self.lockstep.view().filter(|_| news) {
            self.exchange.publish(view);
        }
        Ok(())
    }

    fn join(&mut self) -> Result<(), MemberError> {
        // Whoever joins anew has said nothing of what it holds.
        self.exchange.told = None;
        let hash = self.theta_hash(self.round())?;
        self.lockstep.join(hash)
    }

    /// Begins a round, in which nothing has happened yet.
    fn stand_at(&mut self, round: u64, known: Known) {
        self.lockstep.stand_at(round, known);
        self.exchange.end_round();
    }

    /// A span of what is done in the round, under the round's trace.
    fn span_of_round(&self, step: &str) -> Span {
        let span = tracing::info_span!("exchange", otel.name = step, round = self.round());
        telemetry::set_parent(&span, self.traceparent());
        span
    }
}

#[cfg(test)]
mod tests;
