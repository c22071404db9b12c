//! The plan of every rank of a layout: its specification, its needs and its speed.

use super::usage::Usage;
use crate::part::Place;
use crate::planner::cards::{Chosen, Host};
use crate::planner::cost::estimate::{Estimator, ends};
use crate::planner::cost::fabric::Spot;
use crate::planner::search::arrange::Group;
use crate::planner::search::evaluate::Candidate;
use crate::planner::{CardPlan, IslandPlan};
use crate::shard::{ShardError, Sharded};
use crate::spec::{CardSpec, DeviceSpec, IslandSpec, Precision, RankSpec, Sharding};

/// The parts that an island is described from.
pub(crate) struct Layout<'a> {
    pub name: &'a str,
    pub cards: &'a [Chosen],
    pub hosts: &'a [Host],
    pub best: &'a Candidate,
}

/// Describes an island; H and its place among the others are left for when all are known.
///
/// # Errors
/// When the layout does not divide the model.
pub(crate) fn island(
    estimator: &mut Estimator<'_>,
    layout: &Layout<'_>,
) -> Result<IslandPlan, ShardError> {
    let run = estimator.planner.run;
    let best = layout.best;
    let sharding = sharding(estimator, best);
    Sharded::new(&run.model, &sharding)?;
    let step_seconds = best.step.total();
    let step_tokens = f64::from(run.sequences) * f64::from(run.sequence_length);
    let tokens_per_second = step_tokens / step_seconds;
    let devices = devices(estimator, layout, &sharding);
    let peak = |card: &Chosen| card.facts.peak_tflops;
    let usage = Usage {
        used: devices.len() as u32,
        given: layout.cards.len() as u32,
        used_tflops: devices.iter().map(|device| peak(&layout.cards[device.card])).sum(),
        given_tflops: layout.cards.iter().map(peak).sum(),
    };
    let cards = devices.iter().map(|device| device.plan.clone()).collect();
    let spec = IslandSpec {
        name: layout.name.to_owned(),
        index: 0,
        epoch: 1,
        inner_steps: 0,
        tokens_per_second,
        sharding,
        batches: best.batches.clone(),
        ranks: ranks(layout, &best.shape.placed.spots, devices),
    };
    Ok(IslandPlan {
        spec,
        cards,
        step: best.step,
        correction: estimator.correction,
        mfu: tokens_per_second * run.model.flops_per_token(run.sequence_length)
            / (usage.used_tflops * 1e12),
        usage,
        reasons: Vec::new(),
        runners_up: Vec::new(),
    })
}

pub(crate) fn sharding(estimator: &Estimator<'_>, best: &Candidate) -> Sharding {
    Sharding {
        tensor: estimator.cuts[best.shape.cut].tensor(),
        stages: best.stages.clone(),
        compression: best.shape.compression,
    }
}

/// A card at its place.
struct Device {
    /// Index into the island's cards.
    card: usize,
    /// Its group's cell.
    cell: usize,
    spec: CardSpec,
    plan: CardPlan,
}

fn devices(estimator: &mut Estimator<'_>, layout: &Layout<'_>, sharding: &Sharding) -> Vec<Device> {
    let Candidate { shape, batches, .. } = layout.best;
    let ranks = (shape.places.cells.len() * sharding.tensor as usize) as u32;
    let mut devices = Vec::new();
    for (cell, group) in shape.places.cells.iter().enumerate() {
        let (replica, stage) = (cell / shape.places.stages, cell % shape.places.stages);
        let own = sharding.stages[stage];
        let batch = batches[replica];
        let pace = estimator.pace(shape.cut, *group, batch.micro_batch_size);
        let work = pace.stage(own, ends(stage, shape.places.stages));
        let Group { cards, .. } = estimator.groups[shape.cut][*group].clone();
        for (tensor, card) in (0..).zip(cards) {
            let facts = &layout.cards[card].facts;
            let place = Place {
                stage: stage as u32,
                stages: shape.places.stages as u32,
                compression: shape.compression,
            };
            let part = estimator.cuts[shape.cut].at(place, own, tensor);
            let memory = estimator.planner.memory(facts, part, ranks, batch);
            let compute = (work.forward + work.backward - work.tensor)
                * f64::from(batch.micro_batches)
                + facts.speed.optimizer(part.parameters) * estimator.correction;
            devices.push(Device {
                card,
                cell,
                spec: CardSpec {
                    product: facts.product.clone(),
                    device: device(&layout.cards[card]),
                    memory_bytes: facts.memory,
                    planned_bytes: memory.card(),
                },
                plan: CardPlan {
                    node: layout.hosts[layout.cards[card].node].name.clone(),
                    card_bytes: facts.memory,
                    memory,
                    compute_seconds: compute,
                },
            });
        }
    }
    devices
}

fn device(card: &Chosen) -> DeviceSpec {
    match (card.cuda_index, card.facts.cpu_threads) {
        (Some(index), _) => DeviceSpec::Cuda { index, precision: card.facts.precision },
        (None, threads) => {
            DeviceSpec::Cpu { threads: threads.unwrap_or(1), speed: card.facts.share }
        }
    }
}

/// A process for neighbours on a node, but for cards that have one each.
fn ranks(layout: &Layout<'_>, spots: &[Spot], devices: Vec<Device>) -> Vec<RankSpec> {
    let mut ranks: Vec<(u32, RankSpec)> = Vec::new();
    for device in devices {
        let spot = spots[device.cell];
        let alone = layout.cards[device.card].facts.alone;
        match ranks.last_mut() {
            Some((process, rank)) if *process == spot.process && !alone => {
                rank.devices.push(device.spec);
            }
            _ => {
                let node = layout.hosts[spot.node].name.clone();
                ranks.push((spot.process, RankSpec { node, devices: vec![device.spec] }));
            }
        }
    }
    ranks.into_iter().map(|(_, rank)| rank).collect()
}

/// Cards that have no bf16 compute in f32, which users should know.
pub(crate) fn slow(cards: &[Chosen]) -> Option<String> {
    let slow = |card: &&Chosen| card.facts.precision == Precision::F32 && card.cuda_index.is_some();
    let card = cards.iter().find(slow)?;
    Some(format!("{} has no bf16: it computes in f32, slowly", card.facts.product))
}
