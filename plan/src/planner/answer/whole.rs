//! Islands that have all cards of some nodes: what grouping asks before there are any.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::cluster::Node;
use crate::gpu;
use crate::planner::cards::{CARDS_MAX, Chosen, Host, Pool};
use crate::planner::island::Planner;
use crate::request::{
    DeviceRequest, Execution, IslandRequest, Objective, Parallelism, PipelineRequest, RunRequest,
};

/// Says whether an island that has all cards of these nodes could hold the model, in whatever
/// layout. Of more than [`CARDS_MAX`] cards the largest have to.
pub fn holds(run: &RunRequest, nodes: &[Node], pipeline: PipelineRequest) -> bool {
    ask(run, whole(nodes, Objective::default(), pipeline), nodes, Planner::holds) == Some(true)
}

/// Tokens a second of the plan that such an island would have, exchanges with others not counted;
/// `None` where it would have none.
pub fn tokens_per_second(
    run: &RunRequest,
    nodes: &[Node],
    (objective, pipeline): (Objective, PipelineRequest),
) -> Option<f64> {
    ask(run, whole(nodes, objective, pipeline), nodes, Planner::tokens_per_second)?
}

/// The answer of a planner about an island on these nodes; nothing where they do not have its
/// cards.
fn ask<'a, T>(
    run: &'a RunRequest,
    island: IslandRequest,
    nodes: &[Node],
    question: impl FnOnce(&Planner<'a>, &IslandRequest, &[Chosen], &[Host]) -> T,
) -> Option<T> {
    let execution = Execution::Cluster { nodes: nodes.to_vec() };
    let mut pool = Pool::new(&execution);
    let cards = pool.choose(&island).ok()?;
    Some(question(&Planner::new(run, 1), &island, &cards, &pool.into_hosts()))
}

/// An island of all cards of these nodes.
fn whole(nodes: &[Node], objective: Objective, pipeline: PipelineRequest) -> IslandRequest {
    // By what a card has at most of a product: measured ones may differ a little.
    let mut products: BTreeMap<&str, (u64, usize)> = BTreeMap::new();
    for card in nodes.iter().flat_map(|node| &node.cards) {
        let (memory, count) = products.entry(&card.product).or_default();
        (*memory, *count) = ((*memory).max(card.memory), *count + 1);
    }
    let mut products: Vec<_> = products.into_iter().collect();
    products.sort_by_key(|(_, (memory, _))| Reverse(*memory));
    let mut room = CARDS_MAX;
    let device = |(product, (_, count)): (&str, (u64, usize))| {
        let count = count.min(room);
        room -= count;
        DeviceRequest {
            product: product.to_owned(),
            min: count as u32,
            max: count as u32,
            memory: None,
            tflops: None,
            cost_per_hour: None,
        }
    };
    let mut devices: Vec<_> = products.into_iter().map(device).collect();
    // As a proposal lists them.
    let speed = |device: &DeviceRequest| gpu::tflops(&device.product);
    devices.sort_by(|a, b| speed(b).total_cmp(&speed(a)));
    IslandRequest {
        name: String::new(),
        devices,
        min_memory: 0,
        parallelism: Parallelism::default(),
        pipeline,
        objective,
        uplink: None,
        nodes: None,
        correction: 1.0,
    }
}
