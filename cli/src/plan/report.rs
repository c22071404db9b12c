//! A plan for tools: what `--output json` and `--output yaml` write. Names say the unit; a field
//! that is not known is absent. `docs/plan.md` lists them, and they stay as they are.

use plan::memory::{Kind, Place, Term};
use plan::outer::{self, IslandRound, OuterPlan};
use plan::planner::{self, IslandPlan, RunPlan, StepTime};
use plan::shard::Grid;
use serde::Serialize;

use super::View;
use super::column::{Seat, first_layer, precision, seats};

/// A plan.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report<'a> {
    run: &'a str,
    /// `assumed`, `given`, `emulated` or `local`.
    nodes: &'static str,
    /// The sentence on them.
    #[serde(skip_serializing_if = "Option::is_none")]
    nodes_note: Option<String>,
    parameters: u64,
    tokens: u64,
    usage: Usage,
    rounds: Rounds<'a>,
    islands: Vec<Island<'a>>,
}

impl<'a> Report<'a> {
    pub(super) fn of(view: &'a View) -> Self {
        let View { plan, basis } = view;
        let islands = plan.islands.iter().zip(&plan.outer.islands);
        Self {
            run: &plan.run.name,
            nodes: basis.name(),
            nodes_note: basis.line(),
            parameters: plan.dense_bytes / 4,
            tokens: plan.run.tokens,
            usage: Usage::of(plan.usage()),
            rounds: Rounds::of(plan),
            islands: islands
                .map(|(island, round)| Island::of(island, round, plan.emulated))
                .collect(),
        }
    }
}

/// How much of the cards is used.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Usage {
    cards_used: u32,
    cards_given: u32,
    /// Share of the used cards in the peak TFLOP/s of all.
    speed_percent: f64,
}

impl Usage {
    fn of(usage: planner::Usage) -> Self {
        let speed_percent = 100.0 * usage.speed();
        Self { cards_used: usage.used, cards_given: usage.given, speed_percent }
    }
}

/// The rounds of the run.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rounds<'a> {
    count: u64,
    tokens: u64,
    seconds: f64,
    exchange_seconds: f64,
    tokens_per_second: f64,
    utilisation_percent: f64,
    contribution_bytes: u64,
    dense_bytes: u64,
    quorum_percent: u8,
    grace_seconds: f64,
    deadline_seconds: f64,
    /// Islands without which the run would be faster, the worst first, each without those before.
    slowing: Vec<Slowing<'a>>,
    reasons: &'a [String],
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Slowing<'a> {
    island: &'a str,
    tokens_per_second_with: f64,
    tokens_per_second_without: f64,
}

impl<'a> Rounds<'a> {
    fn of(plan: &'a RunPlan) -> Self {
        let outer: &OuterPlan = &plan.outer;
        let slowing = |it: &'a outer::Slowing| Slowing {
            island: &it.island,
            tokens_per_second_with: it.with,
            tokens_per_second_without: it.without,
        };
        Self {
            count: plan.run.total_rounds,
            tokens: outer.round_tokens,
            seconds: outer.round_seconds,
            exchange_seconds: outer.exchange_seconds,
            tokens_per_second: outer.tokens_per_second(),
            utilisation_percent: 100.0 * outer.utilisation,
            contribution_bytes: plan.contribution_bytes,
            dense_bytes: plan.dense_bytes,
            quorum_percent: plan.rounds.quorum_percent,
            grace_seconds: plan.rounds.grace.as_secs_f64(),
            deadline_seconds: plan.rounds.deadline.as_secs_f64(),
            slowing: outer.slowing.iter().map(slowing).collect(),
            reasons: &outer.reasons,
        }
    }
}

/// The plan of one island.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Island<'a> {
    name: &'a str,
    /// Replicas, stages, and cards that share each layer.
    data: u32,
    pipeline: u32,
    tensor: u32,
    /// H.
    inner_steps: u32,
    tokens_per_second: f64,
    usage: Usage,
    /// Absent where cards are emulated.
    #[serde(skip_serializing_if = "Option::is_none")]
    mfu_percent: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    compression_rank: Option<u32>,
    step: Step,
    round: Round,
    cards: Vec<Card<'a>>,
    reasons: &'a [String],
    /// Other layouts that fit, the best first.
    runners_up: Vec<RunnerUp<'a>>,
}

impl<'a> Island<'a> {
    fn of(island: &'a IslandPlan, round: &IslandRound, emulated: bool) -> Self {
        let Grid { data, stages, tensor } = Grid::of(&island.spec);
        Self {
            name: &island.spec.name,
            data,
            pipeline: stages,
            tensor,
            inner_steps: island.spec.inner_steps,
            tokens_per_second: island.spec.tokens_per_second,
            usage: Usage::of(island.usage),
            mfu_percent: (!emulated).then_some(100.0 * island.mfu),
            compression_rank: island.spec.sharding.compression.map(|it| it.rank),
            step: Step::of(&island.step),
            round: Round::of(round),
            cards: seats(island).map(|seat| Card::of(island, &seat)).collect(),
            reasons: &island.reasons,
            runners_up: island.runners_up.iter().map(RunnerUp::of).collect(),
        }
    }
}

/// The time of an inner step by its parts.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    seconds: f64,
    compute_seconds: f64,
    tensor_seconds: f64,
    bubble_seconds: f64,
    all_reduce_seconds: f64,
    optimizer_seconds: f64,
}

impl Step {
    fn of(step: &StepTime) -> Self {
        Self {
            seconds: step.total(),
            compute_seconds: step.compute,
            tensor_seconds: step.tensor,
            bubble_seconds: step.bubble,
            all_reduce_seconds: step.all_reduce,
            optimizer_seconds: step.optimizer,
        }
    }
}

/// A round as one island sees it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Round {
    /// Its steps and its exchange; in the rest of the run's round it waits.
    seconds: f64,
    compute_seconds: f64,
    upload_bytes: u64,
    /// Absent where the uplink is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    upload_seconds: Option<f64>,
    download_bytes: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    download_seconds: Option<f64>,
    utilisation_percent: f64,
}

impl Round {
    fn of(round: &IslandRound) -> Self {
        Self {
            seconds: round.round_seconds,
            compute_seconds: round.compute_seconds,
            upload_bytes: round.upload.bytes,
            upload_seconds: round.upload.seconds,
            download_bytes: round.download.bytes,
            download_seconds: round.download.seconds,
            utilisation_percent: 100.0 * round.utilisation,
        }
    }
}

/// A card at its place.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Card<'a> {
    /// Its place in the island's order, and its process.
    position: u32,
    rank: u32,
    /// Absent on a single machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    node: Option<&'a str>,
    product: &'a str,
    precision: &'static str,
    stage: u32,
    first_layer: u32,
    layers: u32,
    recompute: bool,
    tensor_index: u32,
    data_index: u32,
    micro_batches: u32,
    micro_batch_sequences: u32,
    compute_seconds: f64,
    card_bytes: u64,
    needed_bytes: u64,
    headroom_bytes: u64,
    memory: Vec<Bytes>,
}

impl<'a> Card<'a> {
    fn of(island: &IslandPlan, seat: &Seat<'a>) -> Self {
        let stage = island.spec.sharding.stages[seat.at.stage as usize];
        let needed_bytes = seat.plan.memory.card();
        Self {
            position: seat.position,
            rank: seat.rank,
            node: seat.plan.node.as_deref(),
            product: &seat.card.product,
            precision: precision(seat.card),
            stage: seat.at.stage,
            first_layer: first_layer(island, seat.at.stage),
            layers: stage.layers,
            recompute: stage.recompute,
            tensor_index: seat.at.tensor,
            data_index: seat.at.data,
            micro_batches: seat.batch.micro_batches,
            micro_batch_sequences: seat.batch.micro_batch_size,
            compute_seconds: seat.plan.compute_seconds,
            card_bytes: seat.plan.card_bytes,
            needed_bytes,
            headroom_bytes: seat.plan.card_bytes.saturating_sub(needed_bytes),
            memory: seat.plan.memory.terms.iter().map(Bytes::of).collect(),
        }
    }
}

/// Bytes of one kind.
#[derive(Debug, Serialize)]
struct Bytes {
    kind: &'static str,
    /// `card`, or `host`, which is not counted in the card's needs.
    place: &'static str,
    bytes: u64,
}

impl Bytes {
    fn of(term: &Term) -> Self {
        let place = match term.place {
            Place::Card => "card",
            Place::Host => "host",
        };
        Self { kind: kind(term.kind), place, bytes: term.bytes }
    }
}

fn kind(kind: Kind) -> &'static str {
    match kind {
        Kind::Weights => "weights",
        Kind::Gradients => "gradients",
        Kind::Moments => "moments",
        Kind::Activations => "activations",
        Kind::Logits => "logits",
        Kind::Subspace => "subspace",
        Kind::OuterTheta => "outerTheta",
        Kind::ErrorFeedback => "errorFeedback",
        Kind::Pipeline => "pipeline",
        Kind::Projections => "projections",
        Kind::Buffers => "buffers",
        Kind::Context => "context",
    }
}

/// Another layout that fits.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RunnerUp<'a> {
    data: u32,
    pipeline: u32,
    tensor: u32,
    cards: u32,
    micro_batch_sequences: u32,
    recomputed_stages: u32,
    step: Step,
    loses_percent: f64,
    reason: &'a str,
}

impl<'a> RunnerUp<'a> {
    fn of(other: &'a planner::RunnerUp) -> Self {
        let [data, pipeline, tensor] = other.shape;
        Self {
            data,
            pipeline,
            tensor,
            cards: other.cards,
            micro_batch_sequences: other.micro_batch_size,
            recomputed_stages: other.recomputed,
            step: Step::of(&other.step),
            loses_percent: other.loses_percent,
            reason: &other.reason,
        }
    }
}

/// Why there is no plan.
#[derive(Debug, Serialize)]
pub(super) struct Refused<'a> {
    refusals: Vec<Refusal<'a>>,
}

#[derive(Debug, Serialize)]
struct Refusal<'a> {
    /// Absent where the whole run is refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    island: Option<&'a str>,
    reason: String,
    message: &'a str,
    remedy: &'a str,
}

impl<'a> Refused<'a> {
    pub(super) fn of(refusals: &'a planner::Refusals) -> Self {
        let refusal = |refusal: &'a planner::Refusal| Refusal {
            island: refusal.island.as_deref(),
            reason: refusal.reason.to_string(),
            message: &refusal.message,
            remedy: &refusal.remedy,
        };
        Self { refusals: refusals.0.iter().map(refusal).collect() }
    }
}
