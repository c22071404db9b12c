//! Why an island's plan is as it is, in sentences, and what else came near.

use super::describe;
use crate::part::Place;
use crate::planner::cards::Chosen;
use crate::planner::cost::estimate::Estimator;
use crate::planner::cost::price::StepTime;
use crate::planner::search::Found;
use crate::planner::search::evaluate::Candidate;
use crate::request::IslandRequest;
use crate::spec::{BatchSpec, StageSpec};
use crate::words::gib;

/// Others that are shown.
const RUNNERS_UP_MAX: usize = 5;

/// A layout that fits, and was slower.
#[derive(Clone, Debug, PartialEq)]
pub struct RunnerUp {
    /// dp, pp and tp.
    pub shape: [u32; 3],
    /// Sequences of a micro-batch, of the first replica.
    pub micro_batch_size: u32,
    /// Stages that compute activations again.
    pub recomputed: u32,
    /// Cards that it uses.
    pub cards: u32,
    /// The time of its step by its parts.
    pub step: StepTime,
    /// Tokens a second less than the plan, percent of the plan's (of what the island's objective
    /// counts).
    pub loses_percent: f64,
    /// The reason that costs it most.
    pub reason: String,
}

/// The reasons for a layout.
pub(crate) fn reasons(
    estimator: &mut Estimator<'_>,
    island: &IslandRequest,
    cards: &[Chosen],
    found: &Found,
) -> Vec<String> {
    let Some(best) = &found.best else { return Vec::new() };
    let mut reasons = Vec::new();
    reasons.extend(chosen(estimator, island, best));
    reasons.extend(uneven(estimator, best));
    reasons.extend(recompute(island, best));
    reasons.extend(compression(estimator, island, best));
    reasons.extend(shares(best));
    reasons.extend(left_out(estimator, cards, found));
    reasons.extend(describe::slow(cards));
    if found.cut_short {
        let reason = "the search was ended after as many layouts as it may look at; there may be \
                      a faster one";
        reasons.push(reason.into());
    }
    reasons
}

/// Other layouts that fit, best first.
pub(crate) fn runners_up(estimator: &Estimator<'_>, found: &Found) -> Vec<RunnerUp> {
    let Some(best) = &found.best else { return Vec::new() };
    let others = found.others.iter().take(RUNNERS_UP_MAX);
    others.map(|other| runner_up(estimator, best, other)).collect()
}

fn shape(estimator: &Estimator<'_>, candidate: &Candidate) -> [u32; 3] {
    let tensor = estimator.cuts[candidate.shape.cut].tensor();
    let places = &candidate.shape.places;
    [places.replicas as u32, places.stages as u32, tensor]
}

fn runner_up(estimator: &Estimator<'_>, best: &Candidate, other: &Candidate) -> RunnerUp {
    let [data, stages, tensor] = shape(estimator, other);
    RunnerUp {
        shape: [data, stages, tensor],
        micro_batch_size: other.batches[0].micro_batch_size,
        recomputed: other.stages.iter().filter(|stage| stage.recompute).count() as u32,
        cards: data * stages * tensor,
        step: other.step,
        loses_percent: 100.0 * (1.0 - best.score / other.score),
        reason: loses_by(best, other),
    }
}

/// The part of the step that grew most.
fn loses_by(best: &Candidate, other: &Candidate) -> String {
    let again = |it: &Candidate| it.stages.iter().filter(|stage| stage.recompute).count();
    let parts = |step: &StepTime| {
        [
            ("compute", step.compute),
            ("tensor-parallel sums", step.tensor),
            ("pipeline bubble", step.bubble),
            ("gradient all-reduce", step.all_reduce),
            ("optimizer", step.optimizer),
        ]
    };
    let more = parts(&other.step).into_iter().zip(parts(&best.step));
    let more = more.map(|((name, theirs), (_, ours))| (name, theirs - ours));
    let most = more.max_by(|a, b| a.1.total_cmp(&b.1));
    let (name, seconds) = most.unwrap_or(("compute", 0.0));
    let cells = |it: &Candidate| it.shape.places.cells.len();
    match name {
        "compute" if again(other) > again(best) => {
            format!("{seconds:.3} s more compute: activations are computed again")
        }
        "compute" if cells(other) < cells(best) => {
            format!("{seconds:.3} s more compute: fewer groups of cards")
        }
        _ => format!("{seconds:.3} s more {name}"),
    }
}

/// How a replica is split, and why.
fn chosen(estimator: &Estimator<'_>, island: &IslandRequest, best: &Candidate) -> Option<String> {
    let [_, stages, tensor] = shape(estimator, best);
    let asked = &island.parallelism;
    let ways = format!("a replica is split pp {stages} × tp {tensor}");
    if asked.tensor.is_some() && asked.pipeline.is_some() {
        return (stages * tensor > 1).then(|| format!("{ways}, as asked"));
    }
    if stages * tensor == 1 {
        return None;
    }
    let alone = (asked.tensor.is_none() && asked.pipeline.is_none())
        .then(|| alone(estimator, best))
        .flatten();
    Some(match alone {
        Some((product, needs, has)) => format!(
            "{ways}: the model needs {} on a card of its own, {product} has {}; of the ways that \
             fit this is the fastest",
            gib(needs),
            gib(has)
        ),
        None => format!("{ways}, the fastest way that fits what is asked"),
    })
}

/// The largest card used, where it does not hold the model with one sequence.
fn alone(estimator: &Estimator<'_>, best: &Candidate) -> Option<(String, u64, u64)> {
    let groups = &estimator.groups[best.shape.cut];
    let kinds = best.shape.places.cells.iter().map(|group| groups[*group].kind);
    let facts = kinds.map(|kind| &estimator.kinds[kind]).max_by_key(|facts| facts.memory)?;
    let parts = estimator.cuts.iter().find(|parts| parts.tensor() == 1)?;
    let layers = estimator.planner.run.model.config().num_hidden_layers;
    let place = Place { stage: 0, stages: 1, compression: None };
    let recompute = estimator.recompute != Some(false);
    let part = parts.at(place, StageSpec { layers, recompute }, 0);
    let one = BatchSpec { micro_batches: 1, micro_batch_size: 1 };
    let needs = estimator.planner.needs(facts, part, 1, one);
    (needs > facts.memory).then(|| (facts.product.clone(), needs, facts.memory))
}

fn uneven(estimator: &Estimator<'_>, best: &Candidate) -> Option<String> {
    let layers = || best.stages.iter().map(|stage| stage.layers);
    let (least, most) = (layers().min()?, layers().max()?);
    let groups = &estimator.groups[best.shape.cut];
    let mut kinds = best.shape.places.cells.iter().map(|group| groups[*group].kind);
    let first = kinds.next()?;
    let alike = kinds.all(|kind| kind == first);
    let why = if alike { "memory and the head's time" } else { "the cards' speed and memory" };
    (most - least > 1).then(|| format!("stages hold {least} to {most} layers, by {why}"))
}

fn recompute(island: &IslandRequest, best: &Candidate) -> Option<String> {
    let stages = (0..).zip(&best.stages).filter(|(_, stage)| stage.recompute);
    let stages: Vec<u32> = stages.map(|(index, _)| index).collect();
    let why = match island.pipeline.recompute {
        Some(_) => "as asked",
        None => "where memory does not hold them",
    };
    let named = match stages[..] {
        [] => return None,
        _ if stages.len() == best.stages.len() => "all stages compute".into(),
        [one] => format!("stage {one} computes"),
        [first, .., last] => format!("{} stages of {first} to {last} compute", stages.len()),
    };
    Some(format!("{named} activations again in backward, {why}"))
}

fn compression(
    estimator: &Estimator<'_>,
    island: &IslandRequest,
    best: &Candidate,
) -> Option<String> {
    let rank = island.pipeline.compression?.rank;
    let hidden = estimator.planner.run.model.config().hidden_size;
    Some(match (best.shape.compression, best.shape.places.stages) {
        (Some(_), _) => format!("{rank} of {hidden} values of a token cross between stages"),
        (None, 1) => "pipeline.compression has no effect on a single stage".into(),
        (None, _) => "pipeline.compression is not used: the links do not ask for it".into(),
    })
}

fn shares(best: &Candidate) -> Option<String> {
    let taken = |at: usize| best.batches[at].micro_batches * best.batches[at].micro_batch_size;
    let unlike = (1..best.batches.len()).any(|at| taken(at) != taken(0));
    unlike.then(|| "faster replicas take more sequences, so that all end a step together".into())
}

/// Cards without a place, by product.
fn left_out(estimator: &Estimator<'_>, cards: &[Chosen], found: &Found) -> Vec<String> {
    let Some(best) = &found.best else { return Vec::new() };
    let mut used = vec![false; cards.len()];
    for group in &best.shape.places.cells {
        for card in &estimator.groups[best.shape.cut][*group].cards {
            used[*card] = true;
        }
    }
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for (card, _) in cards.iter().zip(&used).filter(|(_, used)| !**used) {
        match counts.iter_mut().find(|(product, _)| *product == card.facts.product) {
            Some((_, count)) => *count += 1,
            None => counts.push((&card.facts.product, 1)),
        }
    }
    let sentence = |(product, count): &(&str, usize)| {
        let better = if found.cut_short { "was found to be" } else { "is" };
        format!(
            "left out {count} × {product}: no way with more of them {better} better; an island of \
             their own may use them"
        )
    };
    counts.iter().map(sentence).collect()
}
