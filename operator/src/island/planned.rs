//! From what the planner answers to the plan that stands, and to what its ranks are told.

use std::collections::BTreeMap;

use api::island::{FoundDevice, PlanPhase, RankStatus};
use api::text::Quantity;
use k8s_openapi::jiff::Timestamp;
use plan::cluster::Node;
use plan::planner::IslandPlan;
use plan::shard::Grid;
use plan::spec::{DeviceSpec, IslandSpec, StageSpec};

use super::standing::Plan;
use crate::conditions::{shortened, whole_seconds};
use crate::record::Record;

/// Sentences that status has room for, and bytes of each.
const REASONS_MAX: usize = 32;
const REASON_BYTES_MAX: usize = 1024;
/// Bytes that a rank's layers may take.
const LAYERS_MAX: usize = 256;

/// What a new plan goes on from, and what it was made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Origin {
    /// The last epoch: nothing runs by the new plan yet.
    pub epoch: u64,
    /// Epochs that broke, one after another, before it.
    pub failures: u32,
    /// The generation of the island's spec.
    pub generation: i64,
    /// The generation of the run's spec.
    pub run_generation: i64,
    /// The island's place among the run's islands.
    pub index: u32,
}

/// The plan that stands from now on.
pub(crate) fn plan(plan: &IslandPlan, origin: Origin, now: Timestamp) -> Plan {
    let sharding = &plan.spec.sharding;
    let (data, stages) = (plan.spec.batches.len(), sharding.stages.len());
    let reasons = plan.reasons.iter().take(REASONS_MAX);
    // As status has it: whoever reads it there has the same rounds.
    let step_seconds = (plan.step_seconds() * 1e6).round() / 1e6;
    Plan {
        epoch: origin.epoch,
        generation: origin.generation,
        run_generation: origin.run_generation,
        phase: PlanPhase::Planned,
        since: whole_seconds(now),
        failures: origin.failures,
        index: origin.index,
        layout: format!("{data}×{stages}×{}", sharding.tensor),
        cards: plan.cards.len() as u32,
        memory: plan.cards.iter().map(|card| card.card_bytes).sum::<u64>().into(),
        inner_steps: None,
        step_seconds: Some(step_seconds).filter(|seconds| *seconds > 0.0),
        tokens_per_second: plan.spec.tokens_per_second as i64,
        ranks: ranks(plan),
        reasons: reasons.map(|text| shortened(text.clone(), REASON_BYTES_MAX)).collect(),
    }
}

/// The next epoch of a plan, which starts now, and what its ranks are told of the island.
pub(crate) fn next_epoch(
    plan: Plan,
    planned: &IslandSpec,
    record: &Record,
    emulate: bool,
    now: Timestamp,
) -> (Plan, IslandSpec) {
    let epoch = plan.epoch + 1;
    let inner_steps = record.inner_steps(plan.step_seconds);
    let plan =
        Plan { epoch, inner_steps: Some(inner_steps), ..plan.entered(PlanPhase::Starting, now) };
    let told = IslandSpec { epoch, index: plan.index, inner_steps, ..planned.clone() };
    (plan, in_pods(told, emulate))
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
fn in_pods(mut spec: IslandSpec, emulate: bool) -> IslandSpec {
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

#[cfg(test)]
mod tests {
    use plan::memory::Memory;
    use plan::planner::{CardPlan, StepTime, Usage};
    use plan::spec::{BatchSpec, RankSpec, Sharding};

    use super::super::examples::{self, H100, L4, at, card, rank, record, spec};
    use super::*;

    /// Of stages with so many layers each, cut by `tensor`, over these ranks.
    fn answer(layers: &[u32], tensor: u32, ranks: Vec<RankSpec>) -> IslandPlan {
        let devices: usize = ranks.iter().map(|rank| rank.devices.len()).sum();
        let replicas = devices / (layers.len() * tensor as usize);
        let stages = layers.iter().map(|layers| StageSpec { layers: *layers, recompute: false });
        let sharding = Sharding { tensor, stages: stages.collect(), compression: None };
        let batches = vec![BatchSpec { micro_batches: 1, micro_batch_size: 1 }; replicas];
        let card = CardPlan {
            node: None,
            card_bytes: 80 << 30,
            memory: Memory { terms: vec![] },
            compute_seconds: 0.0,
        };
        IslandPlan {
            spec: IslandSpec { sharding, batches, ..spec(ranks) },
            cards: vec![card; devices],
            step: StepTime { compute: 0.123_456_789, ..StepTime::default() },
            correction: 1.0,
            usage: Usage::default(),
            mfu: 0.5,
            reasons: (0..40).map(|at| format!("{at}{}", "ä".repeat(600))).collect(),
            runners_up: vec![],
        }
    }

    const ORIGIN: Origin =
        Origin { epoch: 4, failures: 2, generation: 7, run_generation: 9, index: 3 };

    #[test]
    fn a_new_plan_goes_on_from_the_last_epoch_and_fits_status() {
        let made = answer(&[2, 2], 1, vec![rank("a", &[0, 1])]);
        let plan = plan(&made, ORIGIN, at(50));
        assert_eq!((plan.epoch, plan.failures, plan.index), (4, 2, 3));
        assert_eq!((plan.generation, plan.run_generation), (7, 9));
        assert_eq!((plan.phase, plan.since, plan.inner_steps), (PlanPhase::Planned, at(50), None));
        assert_eq!(
            (plan.layout.as_str(), plan.cards, plan.memory.0.as_str()),
            ("1×2×1", 2, "160Gi")
        );
        assert_eq!(plan.reasons.len(), REASONS_MAX);
        assert!(plan.reasons.iter().all(|text| text.len() <= REASON_BYTES_MAX));
        assert_eq!(plan.step_seconds, Some(0.123_457));
        assert_eq!(Plan::read(&plan.written(), at(99)), plan, "nothing is lost in status");
    }

    #[test]
    fn a_rank_says_the_layers_of_all_its_positions() {
        let each = |cards: &[u32]| cards.iter().map(|card| rank("a", &[*card])).collect();
        type Case<'a> = (&'a [u32], u32, Vec<RankSpec>, &'a [&'a str]);
        let table: [Case<'_>; 6] = [
            (&[4], 1, each(&[0]), &["0-3"]),
            (&[3, 2], 1, each(&[0, 1]), &["0-2", "3-4"]),
            // One process has both stages.
            (&[3, 2], 1, vec![rank("a", &[0, 1])], &["0-2, 3-4"]),
            // Tensor-parallel peers share layers.
            (&[4, 1], 2, vec![rank("a", &[0, 1, 2]), rank("b", &[0])], &["0-3, 4-4", "4-4"]),
            (&[4, 0], 1, each(&[0, 1]), &["0-3", "none"]),
            // Two replicas.
            (&[4], 1, each(&[0, 1]), &["0-3", "0-3"]),
        ];
        for (stages, tensor, processes, expected) in table {
            let made = answer(stages, tensor, processes);
            let said: Vec<String> = ranks(&made).into_iter().map(|rank| rank.layers).collect();
            assert_eq!(said, expected, "{stages:?} by {tensor}");
        }
    }

    #[test]
    fn a_rank_says_the_memory_of_the_card_that_has_least_room() {
        let mut tight = card(1);
        tight.planned_bytes = tight.memory_bytes + 1;
        let mut both = rank("a", &[0]);
        both.devices.push(tight);
        let said = &ranks(&answer(&[4], 1, vec![both]))[0];
        assert_eq!((said.node.as_str(), said.product.as_str(), said.count), ("a", H100, 2));
        let most = Quantity::from((80 << 30) + 1);
        assert_eq!((&said.memory, said.headroom.0.as_str()), (&most, "0"));
    }

    #[test]
    fn idle_cards_are_counted_by_node_and_product() {
        let mut mixed = examples::inventory(vec![examples::node("a", H100, 2, false)], vec![]);
        mixed.node(kube::runtime::watcher::Event::Apply(examples::node("b", L4, 1, false)));
        let mut nodes: Vec<Node> = mixed.nodes().map(|(_, facts)| facts.machine.clone()).collect();
        let other = nodes[1].cards[0].clone();
        nodes[0].cards.push(other);
        let found = devices(&nodes);
        let short: Vec<_> =
            found.iter().map(|it| (it.node.as_str(), it.product.as_str(), it.count)).collect();
        assert_eq!(short, [("a", H100, 2), ("a", L4, 1), ("b", L4, 1)]);
        let card = nodes[0].cards[0].clone();
        let machine = Node { cards: vec![card], ..nodes[0].clone() };
        let many = vec![machine; plan::planner::CARDS_MAX + 1];
        assert_eq!(devices(&many).len(), plan::planner::CARDS_MAX, "no more than status takes");
    }

    #[test]
    fn the_next_epoch_counts_cards_in_its_pods_and_has_its_rounds() {
        let planned = spec(vec![rank("a", &[2, 5]), rank("b", &[7])]);
        let before = Plan { epoch: 6, index: 1, ..examples::plan(PlanPhase::Planned, 1) };
        let devices = |told: &IslandSpec| -> Vec<DeviceSpec> {
            told.ranks.iter().flat_map(|rank| &rank.devices).map(|card| card.device).collect()
        };
        let (plan, told) = next_epoch(before.clone(), &planned, &record(), false, at(200));
        assert_eq!((plan.epoch, plan.phase, plan.since), (7, PlanPhase::Starting, at(200)));
        assert_eq!((plan.failures, plan.inner_steps), (1, Some(120)), "60 s of 0.5 s each");
        assert_eq!((told.epoch, told.index, told.inner_steps), (7, 1, 120));
        assert_eq!(devices(&told), [0, 1, 0].map(|index| card(index).device));
        assert!(on_gpu(&told));
        let unknown = Plan { step_seconds: None, ..before };
        let (plan, told) = next_epoch(unknown, &planned, &record(), true, at(200));
        assert_eq!(plan.inner_steps, Some(1));
        assert_eq!(devices(&told), [DeviceSpec::Cpu { threads: 1, speed: 1.0 }; 3]);
        assert!(!on_gpu(&told));
    }
}
