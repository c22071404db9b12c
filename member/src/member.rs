//! A rank in lockstep with its island: consult the leader, decide, act.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use collective::{CommError, Endpoint, Group, GroupConfig};
use rounds::request::{Identity, Join};
use rounds::types::{Contribution, Digest, MemberState, RankAddress, RunView, SampleRange};
use serde::{Deserialize, Serialize};
use sparseloco::codec::FrameId;
use sparseloco::layout::Layout;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tonic::codegen::Bytes;

use crate::control::StepControl;
use crate::decide::{Directive, Standing, decide, leads_run};
use crate::fetch::Fetcher;
use crate::gather::{Gather, Snapshot};
use crate::hand_in::Training;
use crate::hold::Told;
use crate::outer::span_of;
use crate::server::{ExchangeHandle, Traffic, serve};
use crate::session::Session;
use crate::store::Store;
use crate::theta::Theta;
use crate::{MemberConfig, MemberError, OuterState, RoundReport, Timeouts};

/// The longest that a leader keeps its ranks waiting before it lets them know that it lives.
const CONSULT_EVERY: Duration = Duration::from_secs(1);
const NETWORK_THREADS: usize = 2;

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

/// What the leader lets its ranks know.
#[derive(Serialize, Deserialize)]
struct Word {
    /// The newest view, where it is not the one that they have.
    view: Option<RunView>,
    needs_snapshot: bool,
    forgone: bool,
}

/// What the island knows of the run at the start of its round; a coordinator that lost its store
/// takes the run over from it.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    pub(crate) tokens: u64,
    pub(crate) samples: u64,
}

/// One rank's side of the run.
pub struct Member {
    pub(crate) config: MemberConfig,
    pub(crate) layout: Arc<Layout>,
    pub(crate) layout_hash: Digest,
    pub(crate) group: Group,
    pub(crate) store: Arc<Store>,
    pub(crate) fetcher: Arc<Fetcher>,
    pub(crate) traffic: Arc<Traffic>,
    /// Only the leader has one.
    pub(crate) session: Option<Session>,
    pub(crate) standing: Standing,
    pub(crate) known: Known,
    /// What people should know of how it came to that, for the coordinator to show.
    complaint: String,
    pub(crate) error: Vec<f32>,
    pub(crate) report: RoundReport,
    /// The leader's offer of this round, and whether the island leaves after it.
    pub(crate) offer: Option<(Contribution, bool)>,
    /// This rank's pieces of it.
    pub(crate) sent: Vec<(u32, Bytes)>,
    /// The set that is being fetched.
    pub(crate) gather: Option<Gather>,
    /// What the leader said of it last.
    pub(crate) told: Option<Told>,
    /// Since when a commit is known that is not all here.
    pub(crate) holding_since: Option<Instant>,
    /// θ that is being fetched.
    pub(crate) snapshot: Option<Snapshot>,
    /// How often this round was forgone, and when last.
    pub(crate) forgone: Option<(u32, Instant)>,
    ranks: Vec<RankAddress>,
    stop: Arc<AtomicBool>,
    stop_since: Option<Instant>,
    view: Option<RunView>,
    training: Training,
    idle: bool,
    _exchange: ExchangeHandle,
    // Last: what the fields above run on.
    pub(crate) runtime: Runtime,
}

impl Member {
    /// Starts to serve, meets the island's other ranks, and forms their group.
    ///
    /// `stop` may be set at any time from anywhere, for example by a signal.
    pub fn connect(
        config: MemberConfig,
        layout: Arc<Layout>,
        stop: Arc<AtomicBool>,
    ) -> Result<Member, MemberError> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(NETWORK_THREADS)
            .thread_name("network")
            .enable_all()
            .build()
            .map_err(MemberError::Runtime)?;
        let span = span_of(&layout, config.rank, config.world_size);
        let store = Arc::new(Store::new(config.run.clone(), span));
        let traffic = Arc::new(Traffic::default());
        let exchange = listen(&runtime, &config, &store, &layout, &traffic)?;
        let session = session(&runtime, &config)?;
        let mut group = meet(&runtime, &config, &session)?;
        let ranks = addresses(&mut group, &layout, &exchange)?;
        let fetcher = Arc::new(Fetcher::new(
            Arc::clone(&layout),
            config.codec,
            Arc::clone(&store),
            Arc::clone(&traffic),
            (config.island.clone(), &config.timeouts),
        ));
        let standing = Standing::at(config.island.clone(), config.epoch, 0);
        Ok(Member {
            layout_hash: Digest(layout.hash(&config.codec)),
            session: (config.rank == 0).then_some(session),
            error: Vec::new(),
            report: RoundReport::default(),
            offer: None,
            sent: Vec::new(),
            gather: None,
            told: None,
            holding_since: None,
            snapshot: None,
            forgone: None,
            training: Training::new(),
            stop_since: None,
            view: None,
            idle: false,
            _exchange: exchange,
            config,
            layout,
            group,
            store,
            fetcher,
            traffic,
            standing,
            known: Known::default(),
            complaint: String::new(),
            ranks,
            stop,
            runtime,
        })
    }

    /// What people should know of the state that the island begins with, such as a damaged
    /// checkpoint that was passed over; empty where there is nothing. Shown by the coordinator from
    /// the next time on that the island joins.
    pub fn complain(&mut self, complaint: String) {
        self.complaint = complaint;
    }

    /// The group of the island's ranks, for gradients.
    pub fn group(&mut self) -> &mut Group {
        &mut self.group
    }

    /// The pieces of the canonical order that this rank owns.
    pub fn span(&self) -> Range<u32> {
        self.store.span()
    }

    /// The values of those pieces in the canonical order of the whole model.
    pub fn span_values(&self) -> Range<usize> {
        self.layout.span(self.span())
    }

    /// Where other islands reach this rank.
    pub fn address(&self) -> &str {
        &self.ranks[self.config.rank as usize].address
    }

    /// The round that θ is the start of.
    pub fn round(&self) -> u64 {
        self.standing.round
    }

    /// Samples of the run's order of text that were handed out until θ's round began.
    pub fn run_samples(&self) -> u64 {
        self.known.samples
    }

    /// The samples of the round in progress that are this island's to train on, in this order.
    pub fn samples(&self) -> Vec<SampleRange> {
        let Standing { island, epoch, .. } = &self.standing;
        let me = self.view.as_ref().and_then(|view| view.member(island, *epoch));
        me.map(|member| member.samples.clone()).unwrap_or_default()
    }

    /// Samples that the round in progress takes of all islands that take part in it, as last heard:
    /// what it is expected to give.
    pub fn expected_samples(&self) -> u64 {
        let members = self.view.iter().flat_map(|view| &view.members);
        let active = members.filter(|member| member.state == MemberState::Active);
        let samples = active.flat_map(|member| &member.samples).map(SampleRange::count);
        samples.fold(0, u64::saturating_add)
    }

    /// Tokens of the run until θ's round began.
    pub fn tokens_before(&self) -> u64 {
        self.known.tokens
    }

    /// Whether this island is the one that does what one of all is to do for the run, as last
    /// heard; all of its ranks hear the same.
    pub fn leads_run(&self) -> bool {
        self.view.as_ref().is_some_and(|view| leads_run(view, &self.standing.island))
    }

    /// Tokens of all committed rounds, as last heard.
    pub fn run_tokens(&self) -> u64 {
        self.view.as_ref().map_or(0, |view| view.tokens)
    }

    /// The W3C trace context of the round in progress, as last heard; may be empty.
    pub fn traceparent(&self) -> &str {
        self.view.as_ref().map_or("", |view| &view.traceparent)
    }

    /// Error feedback of the rank's span, for checkpoints.
    pub fn error(&self) -> &[f32] {
        &self.error
    }

    /// Copies θ of the rank's span, for checkpoints.
    pub fn anchor(&self) -> Vec<f32> {
        self.store.with_anchor(|anchor| anchor.values.clone())
    }

    /// Sets the point to go on from, and puts the start of its round into the replica. One that
    /// takes part already says so to the coordinator; all ranks call it together.
    ///
    /// # Panics
    /// When the state does not have the values of the rank's span.
    pub fn begin(&mut self, theta: &mut dyn Theta, state: OuterState) -> Result<(), MemberError> {
        let values = self.span_values().len();
        assert_eq!(state.anchor.len(), values, "the anchor covers the rank's span");
        assert_eq!(state.error.len(), values, "the residual covers the rank's span");
        self.store.set_anchor(Some(state.round), state.anchor);
        self.store.forget_from(state.round);
        self.stand_at(state.round);
        self.standing.needs_snapshot = false;
        self.known = Known { tokens: state.tokens, samples: state.samples };
        self.error = state.error;
        self.load_local_start(theta)?;
        if self.view.is_some() { self.join() } else { Ok(()) }
    }

    /// Follows the run until the train loop has something to do.
    pub fn next(&mut self, theta: &mut dyn Theta) -> Result<Turn, MemberError> {
        loop {
            self.consult()?;
            let directive = match &self.view {
                Some(view) => {
                    self.standing.heed(view);
                    decide(view, &self.standing)
                }
                None => Directive::Join,
            };
            let out_of_time =
                self.stop_since.is_some_and(|t| t.elapsed() > self.config.timeouts.stop);
            if out_of_time || (self.stop_since.is_some() && self.may_stop(&directive)) {
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
        tracing::debug!(?directive, round = self.standing.round, "Decided.");
        self.idle = false;
        self.drop_what_is_not_wanted(&directive);
        match directive {
            Directive::Join => self.join()?,
            Directive::Train { round } => {
                self.standing.forgone = false;
                self.training = Training::new();
                return Ok(Some(Turn::Train { round }));
            }
            Directive::OfferAgain => {
                self.make_offer()?;
                self.idle = true;
            }
            Directive::Fetch { set } => {
                self.fetch(&set)?;
            }
            Directive::Apply { commit } => {
                return Ok(self.apply(&commit, theta)?.map(Turn::Applied));
            }
            Directive::Sync { round, hash } => {
                let synced = self.sync(round, hash, theta)?;
                return Ok(synced.then_some(Turn::Synced { round }));
            }
            Directive::Wait { .. } => self.idle = true,
            Directive::Finish => return Ok(Some(Turn::Finished)),
            Directive::Miss => return Ok(Some(Turn::Missed)),
            Directive::Rewind { round } => {
                self.store.forget_from(round);
                return Ok(Some(Turn::Rewound { round }));
            }
        }
        Ok(None)
    }

    /// Cancels what is fetched when the view has moved to something else.
    fn drop_what_is_not_wanted(&mut self, directive: &Directive) {
        if !matches!(directive, Directive::Fetch { .. } | Directive::Apply { .. }) {
            self.gather = None;
        }
        if !matches!(directive, Directive::Sync { .. }) {
            self.snapshot.iter_mut().for_each(Snapshot::pause);
        }
    }

    /// Whether an island that is to stop gains nothing by following `directive`.
    fn may_stop(&self, directive: &Directive) -> bool {
        match directive {
            Directive::Fetch { .. } | Directive::Apply { .. } | Directive::OfferAgain => false,
            Directive::Wait { .. } => !self.standing.offered,
            _ => true,
        }
    }

    /// Tells how many steps of the round are left after the one that is made next: the work is
    /// handed in early where they would be in vain.
    pub fn pace(&mut self, steps_left: u32) {
        self.training.expect(steps_left);
    }

    /// Sums and flags over the island's ranks, and whether further steps of the round can count.
    pub fn step_control(&mut self, mine: StepControl) -> Result<StepControl, MemberError> {
        let closed = self.is_hand_in_due();
        let stop = mine.stop || self.stop.load(Ordering::Relaxed);
        let mine = StepControl { stop, closed: mine.closed || closed, ..mine };
        let all = self.group.all_gather_bytes(&mine.encode()).map_err(during("make a step"))?;
        let sum = StepControl::sum(&all).map_err(during("make a step"))?;
        if sum.stop && self.stop_since.is_none() {
            self.stop_since = Some(Instant::now());
        }
        Ok(sum)
    }

    fn is_hand_in_due(&mut self) -> bool {
        let round = self.standing.round;
        let Some(view) = self.session.as_ref().and_then(Session::latest) else { return false };
        let verdict = self.training.step(&view, round);
        if verdict.is_due() {
            tracing::info!(round, ?verdict, "The island hands in the steps that it has made.");
        }
        verdict.is_due()
    }

    /// Has the leader tell the coordinator that the island keeps a whole checkpoint of `round`.
    pub fn kept(&mut self, round: u64) {
        if let Some(session) = &mut self.session {
            self.runtime.block_on(session.kept(round));
        }
    }

    /// Leaves the run.
    pub fn leave(&mut self, reason: &str) {
        if let Some(session) = &mut self.session {
            self.runtime.block_on(session.leave(reason));
        }
    }

    /// The leader hears, all ranks learn.
    fn consult(&mut self) -> Result<(), MemberError> {
        let mut message = vec![u8::from(self.stop.load(Ordering::Relaxed))];
        let started = Instant::now();
        if let Some(session) = &mut self.session {
            let seen = self.view.as_ref().map(|view| view.version);
            let at_most = if self.idle { CONSULT_EVERY } else { Duration::ZERO };
            let news = |view: &Option<RunView>| view.as_ref().map(|v| v.version) != seen;
            let view = self.runtime.block_on(session.view(at_most, news))?;
            let Standing { needs_snapshot, forgone, .. } = self.standing;
            let patience = self.config.timeouts.forgone;
            let waited = self.forgone.is_some_and(|(_, since)| since.elapsed() > patience);
            let view = view.filter(|view| Some(view.version) != seen);
            let word = Word { view, needs_snapshot, forgone: forgone && !waited };
            serde_json::to_writer(&mut message, &word).map_err(MemberError::Leader)?;
        }
        let all = self.group.all_gather_bytes(&message).map_err(during("consult the leader"))?;
        if self.idle {
            self.report.waiting_seconds += started.elapsed().as_secs_f64();
        }
        let word = all.first().and_then(|bytes| bytes.get(1..)).unwrap_or_default();
        let word: Word = serde_json::from_slice(word).map_err(MemberError::Leader)?;
        self.standing.needs_snapshot = word.needs_snapshot;
        self.standing.forgone = word.forgone;
        if let Some(view) = word.view {
            self.store.publish(&view);
            if let Some(session) = &mut self.session {
                session.set_traceparent(&view.traceparent);
            }
            self.view = Some(view);
        }
        let stop = all.iter().any(|bytes| bytes.first().is_some_and(|flag| *flag != 0));
        if stop && self.stop_since.is_none() {
            self.stop_since = Some(Instant::now());
        }
        Ok(())
    }

    /// The leader joins and waits for a view that shows it.
    fn join(&mut self) -> Result<(), MemberError> {
        // Whoever joins anew has said nothing of what it holds.
        (self.told, self.standing.fetched) = (None, None);
        let theta_hash = self.theta_hash(self.standing.round)?;
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

    pub(crate) fn who(&self) -> Identity {
        who(&self.config)
    }

    /// The run's round, as last heard.
    pub(crate) fn run_round(&self) -> u64 {
        self.view.as_ref().map_or(0, |view| view.round)
    }

    /// What the frames of an island's contribution to this round belong to.
    pub(crate) fn frame_id(&self, island: &str) -> FrameId {
        FrameId::new(&self.config.run, island, self.standing.round, self.layout_hash.0)
    }

    /// What the newest view says of the round in progress.
    pub(crate) fn known_of_view(&self) -> Known {
        self.view.as_ref().map_or_else(Known::default, |view| Known {
            tokens: view.tokens,
            samples: view.samples,
        })
    }

    pub(crate) fn members(&self) -> Vec<rounds::types::MemberView> {
        self.view.as_ref().map(|view| view.members.clone()).unwrap_or_default()
    }
}

pub(crate) fn during(operation: &'static str) -> impl Fn(CommError) -> MemberError {
    move |source| MemberError::Group { operation, source }
}

fn listen(
    runtime: &Runtime,
    config: &MemberConfig,
    store: &Arc<Store>,
    layout: &Arc<Layout>,
    traffic: &Arc<Traffic>,
) -> Result<ExchangeHandle, MemberError> {
    let bind = async {
        let listener = TcpListener::bind(&config.listen).await?;
        let keepalive = config.timeouts.keepalive;
        serve(listener, Arc::clone(store), Arc::clone(layout), Arc::clone(traffic), keepalive)
    };
    let address = config.listen.clone();
    runtime.block_on(bind).map_err(|source| MemberError::Listen { address, source })
}

fn who(config: &MemberConfig) -> Identity {
    Identity { run: config.run.clone(), island: config.island.clone(), epoch: config.epoch }
}

fn session(runtime: &Runtime, config: &MemberConfig) -> Result<Session, MemberError> {
    // A channel is bound to the runtime that it is made in.
    let _guard = runtime.enter();
    let Timeouts { coordinator, keepalive, .. } = config.timeouts;
    Ok(Session::new(&config.coordinator, who(config).into(), (coordinator, keepalive))?)
}

fn meet(runtime: &Runtime, config: &MemberConfig, session: &Session) -> Result<Group, MemberError> {
    let endpoint = Endpoint::bind(&config.collective_listen).map_err(during("listen"))?;
    let address = endpoint.address().to_string();
    let met = session.meet(config.rank, config.world_size, &address, config.plan_hash);
    let addresses = runtime.block_on(met)?;
    let group = GroupConfig {
        run: config.run.clone(),
        island: config.island.clone(),
        epoch: config.epoch,
        rank: config.rank,
        world_size: config.world_size,
        timeout: config.timeouts.group,
    };
    endpoint.connect(group, &addresses).map_err(during("form the group"))
}

/// Exchange addresses and spans of all ranks.
fn addresses(
    group: &mut Group,
    layout: &Layout,
    exchange: &ExchangeHandle,
) -> Result<Vec<RankAddress>, MemberError> {
    let mine = exchange.address.to_string();
    let all = group.all_gather_bytes(mine.as_bytes()).map_err(during("exchange addresses"))?;
    let ranks = all.iter().zip(0..).map(|(address, rank)| {
        let span = span_of(layout, rank, group.world_size());
        let address = String::from_utf8_lossy(address).into_owned();
        RankAddress { address, first_piece: span.start, end_piece: span.end }
    });
    Ok(ranks.collect())
}
