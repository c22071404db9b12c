//! What a rank has of its own: θ and the residual of its span, what it offers and serves, and what
//! it fetches. It speaks with ranks of other islands, never with those of its own: what is agreed
//! on with them is in `lockstep`, and [`Member`] brings the two together.
//!
//! [`Member`]: crate::Member

mod contribution;
mod step;

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rounds::types::{Contribution, Digest, MemberView, RunView};
use sparseloco::codec::FrameId;
use sparseloco::layout::Layout;
use sparseloco::outer::{OuterParams, local_start};
use tokio::runtime::Handle;
use tonic::codegen::Bytes;
use tracing::Span;

pub(crate) use self::contribution::Sealed;

use crate::MemberConfig;
use crate::decide::Directive;
use crate::fetch::Fetcher;
use crate::gather::{FETCH_EVERY, Gather, Means, Snapshot};
use crate::hold::{Holding, Reach, Told};
use crate::outer::{span_of, theta_piece_digest};
use crate::report::RoundReport;
use crate::server::Traffic;
use crate::store::{ROUNDS_KEPT, Store};

/// The island's offer of a round.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Offered {
    pub(crate) contribution: Contribution,
    /// The island leaves after it.
    pub(crate) leaving: bool,
}

/// A rank's side of the exchange.
pub(crate) struct Exchange {
    /// Holds the layout, the codec's parameters, the store and the traffic as well.
    pub(crate) fetcher: Arc<Fetcher>,
    layout_hash: Digest,
    outer: OuterParams,
    /// The longest that nothing comes of what a commit lacks here.
    stall: Duration,
    /// Error feedback of the span.
    pub(crate) residual: Vec<f32>,
    /// The round's, so far.
    pub(crate) report: RoundReport,
    /// What the island offered in this round.
    pub(crate) offer: Option<Offered>,
    /// This rank's pieces of it.
    sent: Vec<(u32, Bytes)>,
    /// The set that is being fetched.
    gather: Option<Gather>,
    /// What the leader told the coordinator of a set last.
    pub(crate) told: Option<Told>,
    /// Since when a commit is known that is not all here.
    holding_since: Option<Instant>,
    /// θ that is being fetched.
    snapshot: Option<Snapshot>,
}

impl Exchange {
    /// A rank that holds nothing yet.
    pub(crate) fn new(config: &MemberConfig, layout: Arc<Layout>) -> Exchange {
        let span = span_of(&layout, config.rank, config.world_size);
        let layout_hash = Digest(layout.hash(&config.codec));
        let store = Arc::new(Store::new(config.run.clone(), span));
        let traffic = Arc::new(Traffic::default());
        let me = (config.island.clone(), &config.timeouts);
        Exchange {
            fetcher: Arc::new(Fetcher::new(layout, config.codec, store, traffic, me)),
            layout_hash,
            outer: config.outer,
            stall: config.timeouts.stall,
            residual: Vec::new(),
            report: RoundReport::default(),
            offer: None,
            sent: Vec::new(),
            gather: None,
            told: None,
            holding_since: None,
            snapshot: None,
        }
    }

    pub(crate) fn store(&self) -> &Arc<Store> {
        &self.fetcher.store
    }

    pub(crate) fn layout(&self) -> &Arc<Layout> {
        &self.fetcher.layout
    }

    pub(crate) fn layout_hash(&self) -> Digest {
        self.layout_hash
    }

    /// The values of the rank's span in the canonical order of the whole model.
    pub(crate) fn span_values(&self) -> Range<usize> {
        self.layout().span(self.store().span())
    }

    /// The values of a piece within the rank's span.
    fn values_of(&self, piece: u32) -> Range<usize> {
        let start = self.span_values().start;
        let values = self.layout().piece(piece).values;
        values.start - start..values.end - start
    }

    /// What the frames of this island's contribution to a round belong to.
    fn frame_id(&self, round: u64) -> FrameId {
        FrameId::new(self.store().run(), &self.fetcher.island, round, self.layout_hash.0)
    }

    /// Holds θ at the start of `round`, and nothing of that round or later ones.
    pub(crate) fn begin(&mut self, round: u64, anchor: Vec<f32>, residual: Vec<f32>) {
        self.store().set_anchor(Some(round), anchor);
        self.store().forget_from(round);
        self.residual = residual;
        self.end_round();
    }

    /// Nothing has happened yet in the round that begins.
    pub(crate) fn end_round(&mut self) {
        self.offer = None;
        self.sent.clear();
        self.told = None;
        self.gather = None;
        self.snapshot = None;
        self.holding_since = None;
    }

    /// Cancels what is fetched when the view has moved to something else.
    pub(crate) fn drop_what_is_not_wanted(&mut self, directive: &Directive) {
        if !matches!(directive, Directive::Fetch { .. } | Directive::Apply { .. }) {
            self.gather = None;
        }
        if !matches!(directive, Directive::Sync { .. }) {
            self.snapshot.iter_mut().for_each(Snapshot::pause);
        }
    }

    /// Lets others have what a view shows as closed or committed.
    pub(crate) fn publish(&self, view: &RunView) {
        self.store().publish(view);
    }

    /// The point that this island trains from: θ less λ of its residual.
    pub(crate) fn local_start(&self) -> Vec<f32> {
        let mut mine = vec![0.0; self.residual.len()];
        self.store().with_anchor(|anchor| {
            local_start(&self.fetcher.params, &anchor.values, &self.residual, &mut mine);
        });
        mine
    }

    /// Digests of the pieces of θ that this rank holds, one after the other.
    pub(crate) fn theta_digests(&self) -> Vec<u8> {
        self.store().with_anchor(|anchor| {
            let digest = |piece| theta_piece_digest(&anchor.values[self.values_of(piece)]).0;
            self.store().span().flat_map(digest).collect()
        })
    }

    /// Fetches `set` for a moment, and then in the background; how far this rank is.
    pub(crate) fn fetch(
        &mut self,
        (runtime, span): (&Handle, &Span),
        (round, set): (u64, &[Contribution]),
        members: &[MemberView],
    ) -> Holding {
        let means = Means { runtime, fetcher: &self.fetcher, span };
        let running = self.gather.take().filter(|gather| gather.covers(round, set));
        let id = self.frame_id(round);
        let mut gather = running.unwrap_or_else(|| Gather::start(means, id, set, members));
        gather.tell(members);
        runtime.block_on(gather.wait(FETCH_EVERY));
        let holding = gather.holding(self.store(), set);
        self.gather = Some(gather);
        holding
    }

    /// Fetches what is missing of a committed `set`; whether it is worth waiting for. Members that
    /// committed it serve it, so that it is given up only when none gives anything for long, or
    /// none has it any more because the run has gone on.
    pub(crate) fn hold(
        &mut self,
        means: (&Handle, &Span),
        (round, set): (u64, &[Contribution]),
        members: &[MemberView],
        run_round: u64,
    ) -> Reach {
        let is_here =
            |c: &Contribution| self.store().missing(round, &c.island, c.digest).is_empty();
        if set.iter().all(is_here) {
            return Reach::Whole;
        }
        let waited = self.holding_since.get_or_insert_with(Instant::now).elapsed();
        if self.fetch(means, (round, set), members).have.len() == set.len() {
            return Reach::Whole;
        }
        let is_dropped = run_round >= round + ROUNDS_KEPT;
        let Some(gather) = &self.gather else { return Reach::Coming };
        gather.reach(self.store(), set, (self.stall, waited), is_dropped)
    }

    /// Fetches θ of `round` for a moment, and then in the background; true when it is here.
    pub(crate) fn fetch_theta(
        &mut self,
        (runtime, span): (&Handle, &Span),
        (round, hash): (u64, Digest),
        members: &[MemberView],
    ) -> bool {
        let running = self.snapshot.take().filter(|snapshot| snapshot.is_of(round, hash));
        let snapshot = self.snapshot.insert(running.unwrap_or_else(|| Snapshot::new(round, hash)));
        let means = Means { runtime, fetcher: &self.fetcher, span };
        snapshot.fetch(means, members, FETCH_EVERY)
    }

    /// Takes the θ that was fetched for its own, which nobody is served before its round is set;
    /// the residual belonged to another and is dropped.
    pub(crate) fn take_theta(&mut self) {
        let Some(snapshot) = self.snapshot.take() else { return };
        let values = snapshot.values();
        self.residual = vec![0.0; values.len()];
        self.store().set_anchor(None, values);
    }
}

#[cfg(test)]
mod tests;
