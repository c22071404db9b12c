//! The figures that Prometheus reads. Every label has a closed set of values.

use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry as Inner, Unit};
use rounds::types::{MemberState, Phase, RunView};

type Number = Gauge<f64, AtomicU64>;

/// The metrics of a process, each with the labels that tell it apart.
#[derive(Debug)]
pub struct Registry {
    inner: Inner,
}

impl Registry {
    /// Metrics whose names begin with `heteroloco_` and carry these labels, for example `run` and
    /// `island`.
    #[must_use]
    pub fn new(labels: Vec<(&'static str, String)>) -> Self {
        let labels = labels.into_iter().map(|(name, value)| (name.into(), value.into()));
        Self { inner: Inner::with_prefix_and_labels("heteroloco", labels) }
    }

    /// The metrics as text in the `OpenMetrics` format.
    #[must_use]
    pub fn encode(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.inner)
            .expect("writing into a string does not fail");
        text
    }
}

/// Whom bytes went to or came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// Another rank of the same island.
    Rank,
    /// A neighbouring pipeline stage of the same island.
    Stage,
    /// A rank of another island.
    Island,
    /// The coordinator.
    Coordinator,
}

/// The direction of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Out of this process.
    Sent,
    /// Into this process.
    Received,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Traffic {
    direction: Direction,
    peer: Peer,
}

/// The metrics of a rank.
#[derive(Clone, Debug)]
pub struct WorkerMetrics {
    /// Tokens trained on.
    pub tokens: Counter,
    /// Training loss of the last inner step, nats per token.
    pub loss: Number,
    /// Held-out loss as last measured, nats per token.
    pub heldout_loss: Number,
    /// The round in progress.
    pub round: Gauge,
    /// Inner steps that were skipped because loss or gradient was not finite.
    pub skipped_steps: Counter,
    step_seconds: Histogram,
    bytes: Family<Traffic, Counter>,
}

impl WorkerMetrics {
    /// Adds the metrics to the registry.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            tokens: Counter::default(),
            loss: Gauge::default(),
            heldout_loss: Gauge::default(),
            round: Gauge::default(),
            skipped_steps: Counter::default(),
            step_seconds: Histogram::new(exponential_buckets(0.01, 2.0, 16)),
            bytes: Family::default(),
        };
        let registry = &mut registry.inner;
        registry.register("tokens", "Tokens trained on", metrics.tokens.clone());
        registry.register("loss", "Training loss, nats per token", metrics.loss.clone());
        let help = "Held-out loss, nats per token";
        registry.register("heldout_loss", help, metrics.heldout_loss.clone());
        registry.register("round", "Round in progress", metrics.round.clone());
        let help = "Inner steps skipped because loss or gradient was not finite";
        registry.register("skipped_steps", help, metrics.skipped_steps.clone());
        let steps = metrics.step_seconds.clone();
        registry.register_with_unit("step", "Time of an inner step", Unit::Seconds, steps);
        let help = "Bytes on the network";
        registry.register_with_unit("network", help, Unit::Bytes, metrics.bytes.clone());
        metrics
    }

    /// Counts an inner step that took so long.
    pub fn step(&self, time: std::time::Duration) {
        self.step_seconds.observe(time.as_secs_f64());
    }

    /// Counts bytes that went over the network.
    pub fn bytes(&self, direction: Direction, peer: Peer, bytes: u64) {
        self.bytes.get_or_create(&Traffic { direction, peer }).inc_by(bytes);
    }
}

/// The metrics of the coordinator: always the newest view.
#[derive(Clone, Debug)]
pub struct CoordinatorMetrics {
    round: Gauge,
    tokens: Gauge,
    contributions: Gauge,
    members: Family<StateLabel, Gauge>,
    phase: Family<PhaseLabel, Gauge>,
}

impl CoordinatorMetrics {
    /// Adds the metrics to the registry.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            round: Gauge::default(),
            tokens: Gauge::default(),
            contributions: Gauge::default(),
            members: Family::default(),
            phase: Family::default(),
        };
        let registry = &mut registry.inner;
        registry.register("round", "Round in progress", metrics.round.clone());
        let help = "Tokens of all committed rounds";
        registry.register("committed_tokens", help, metrics.tokens.clone());
        let help = "Islands in the round committed last";
        registry.register("contributions", help, metrics.contributions.clone());
        registry.register("members", "Islands by state", metrics.members.clone());
        let help = "1 for the phase that the run is in, 0 for the others";
        registry.register("phase", help, metrics.phase.clone());
        metrics
    }

    /// Shows a view.
    pub fn observe(&self, view: &RunView) {
        let signed = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        self.round.set(signed(view.round));
        self.tokens.set(signed(view.tokens));
        let last = view.commits.last().map_or(0, |commit| commit.set.len());
        self.contributions.set(signed(last as u64));
        for state in [MemberState::Syncing, MemberState::Ready, MemberState::Active] {
            let members = view.members.iter().filter(|member| member.state == state).count();
            let state = StateLabel { state: Name(state_name(state)) };
            self.members.get_or_create(&state).set(signed(members as u64));
        }
        for phase in [Phase::Waiting, Phase::Training, Phase::Fetching, Phase::Done] {
            let label = PhaseLabel { phase: Name(phase_name(phase)) };
            self.phase.get_or_create(&label).set(i64::from(view.phase == phase));
        }
    }
}

/// The metrics of the operator.
#[derive(Clone, Debug)]
pub struct OperatorMetrics {
    reconciles: Family<Reconciled, Counter>,
    durations: Family<ControllerLabel, Histogram, fn() -> Histogram>,
    errors: Family<Erred, Counter>,
    islands: Family<StateLabel, Gauge>,
    leader: Gauge,
}

impl OperatorMetrics {
    /// Adds the metrics to the registry.
    #[must_use]
    pub fn new(registry: &mut Registry) -> Self {
        let metrics = Self {
            reconciles: Family::default(),
            durations: Family::new_with_constructor(|| {
                Histogram::new(exponential_buckets(0.001, 2.0, 16))
            }),
            errors: Family::default(),
            islands: Family::default(),
            leader: Gauge::default(),
        };
        let registry = &mut registry.inner;
        registry.register("reconciles", "Reconciles by outcome", metrics.reconciles.clone());
        registry.register_with_unit(
            "reconcile_duration",
            "Time of a reconcile",
            Unit::Seconds,
            metrics.durations.clone(),
        );
        registry.register("reconcile_errors", "Errors by class", metrics.errors.clone());
        registry.register("islands", "Islands by state", metrics.islands.clone());
        registry.register("leader", "1 while this replica works", metrics.leader.clone());
        metrics
    }

    /// A reconcile ended: after how long, and with which class of error where it failed.
    pub fn reconciled(
        &self,
        controller: &'static str,
        time: std::time::Duration,
        error: Option<&'static str>,
    ) {
        let controller = Name(controller);
        let outcome = Name(if error.is_some() { "error" } else { "success" });
        self.reconciles.get_or_create(&Reconciled { controller, outcome }).inc();
        let durations = self.durations.get_or_create(&ControllerLabel { controller });
        durations.observe(time.as_secs_f64());
        if let Some(class) = error {
            self.errors.get_or_create(&Erred { controller, class: Name(class) }).inc();
        }
    }

    /// How many islands are in each state.
    pub fn islands(&self, states: impl Iterator<Item = (&'static str, usize)>) {
        for (state, count) in states {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.islands.get_or_create(&StateLabel { state: Name(state) }).set(count);
        }
    }

    /// Sets whether this replica works.
    pub fn leads(&self, leads: bool) {
        self.leader.set(i64::from(leads));
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reconciled {
    controller: Name,
    outcome: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ControllerLabel {
    controller: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Erred {
    controller: Name,
    class: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: Name,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: Name,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Name(&'static str);

impl EncodeLabelValue for Name {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(self.0)
    }
}

impl EncodeLabelValue for Peer {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(match self {
            Self::Rank => "rank",
            Self::Stage => "stage",
            Self::Island => "island",
            Self::Coordinator => "coordinator",
        })
    }
}

impl EncodeLabelValue for Direction {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> std::fmt::Result {
        encoder.write_str(match self {
            Self::Sent => "sent",
            Self::Received => "received",
        })
    }
}

fn state_name(state: MemberState) -> &'static str {
    match state {
        MemberState::Syncing => "syncing",
        MemberState::Ready => "ready",
        MemberState::Active => "active",
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Waiting => "waiting",
        Phase::Training => "training",
        Phase::Fetching => "fetching",
        Phase::Done => "done",
    }
}

#[cfg(test)]
mod tests;
