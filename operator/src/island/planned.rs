//! From a plan to what status says of it.

use std::collections::BTreeMap;

use api::island::{FoundDevice, PlanPhase, PlanStatus, RankStatus};
use api::text::{Decimal, Quantity};
use k8s_openapi::jiff::Timestamp;
use plan::cluster::Node;
use plan::planner::IslandPlan;
use plan::shard::Grid;
use plan::spec::{DeviceSpec, IslandSpec, StageSpec};

use crate::conditions::{seconds, shortened};

/// Sentences that status has room for, and bytes of each.
const REASONS_MAX: usize = 32;
const REASON_BYTES_MAX: usize = 1024;
/// Bytes that a rank's layers may take.
const LAYERS_MAX: usize = 256;

/// What status says of a new plan; the epoch is the last one's: nothing runs by it yet.
pub(crate) fn status(
    plan: &IslandPlan,
    (epoch, failures): (i64, u32),
    (generation, run_generation): (i64, i64),
    index: u32,
    now: Timestamp,
) -> PlanStatus {
    let sharding = &plan.spec.sharding;
    let (data, stages) = (plan.spec.batches.len(), sharding.stages.len());
    let reasons = plan.reasons.iter().take(REASONS_MAX);
    PlanStatus {
        epoch,
        generation,
        run_generation,
        phase: PlanPhase::Planned,
        since: seconds(now),
        failures,
        index,
        layout: format!("{data}×{stages}×{}", sharding.tensor),
        cards: plan.cards.len() as u32,
        memory: plan.cards.iter().map(|card| card.card_bytes).sum::<u64>().into(),
        inner_steps: None,
        step_seconds: Decimal(format!("{:.6}", plan.step_seconds())),
        tokens_per_second: plan.spec.tokens_per_second as i64,
        ranks: ranks(plan),
        reasons: reasons.map(|text| shortened(text.clone(), REASON_BYTES_MAX)).collect(),
    }
}

/// A rank for each process: its devices take consecutive positions of the grid.
fn ranks(plan: &IslandPlan) -> Vec<RankStatus> {
    let grid = Grid::of(&plan.spec);
    let mut first = 0;
    let ranks = plan.spec.ranks.iter().map(|rank| {
        let count = rank.devices.len();
        let positions = first..first + count;
        first += count;
        let mut stages: Vec<u32> =
            positions.map(|position| grid.position(position as u32).stage).collect();
        stages.dedup();
        let headroom =
            rank.devices.iter().map(|card| card.memory_bytes.saturating_sub(card.planned_bytes));
        let memory = rank.devices.iter().map(|card| card.planned_bytes).max();
        RankStatus {
            node: rank.node.clone().unwrap_or_default(),
            product: rank.devices.first().map_or_else(String::new, |card| card.product.clone()),
            count: count as u32,
            layers: layers(&plan.spec.sharding.stages, &stages),
            memory: Quantity::from(memory.unwrap_or(0)),
            headroom: Quantity::from(headroom.min().unwrap_or(0)),
        }
    });
    ranks.collect()
}

fn layers(all: &[StageSpec], stages: &[u32]) -> String {
    let text = stages.iter().map(|stage| {
        let stage = *stage as usize;
        let before: u32 = all[..stage].iter().map(|stage| stage.layers).sum();
        match all[stage].layers {
            0 => "none".to_owned(),
            layers => format!("{before}-{}", before + layers - 1),
        }
    });
    shortened(text.collect::<Vec<_>>().join(", "), LAYERS_MAX)
}

/// Cards that were found idle, by node and product.
pub(crate) fn devices(nodes: &[Node]) -> Vec<FoundDevice> {
    let mut found = Vec::new();
    for node in nodes {
        let mut products: BTreeMap<&str, (u32, u64)> = BTreeMap::new();
        for card in &node.cards {
            let (count, memory) = products.entry(&card.product).or_default();
            (*count, *memory) = (*count + 1, card.memory);
        }
        found.extend(products.into_iter().map(|(product, (count, memory))| FoundDevice {
            node: node.name.clone(),
            product: product.to_owned(),
            count,
            memory: memory.into(),
        }));
    }
    found.truncate(plan::planner::CARDS_MAX);
    found
}

/// What the ranks of an epoch are told, where each is a pod: a pod sees the cards that it was given
/// counted from 0.
pub(crate) fn in_pods(mut spec: IslandSpec, emulate: bool) -> IslandSpec {
    for rank in &mut spec.ranks {
        for (at, card) in (0..).zip(&mut rank.devices) {
            match &mut card.device {
                DeviceSpec::Cuda { index, .. } if !emulate => *index = at,
                device => *device = DeviceSpec::Cpu { threads: 1, speed: 1.0 },
            }
        }
    }
    spec
}

/// Whether a rank needs a GPU.
pub(crate) fn on_gpu(spec: &IslandSpec) -> bool {
    let mut devices = spec.ranks.iter().flat_map(|rank| &rank.devices);
    devices.any(|card| matches!(card.device, DeviceSpec::Cuda { .. }))
}
