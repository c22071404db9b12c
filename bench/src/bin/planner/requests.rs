//! Runs and islands as the benchmark asks for them.

use std::time::Duration;

use plan::cluster::{Curve, Links, Node, NodeCard, Topology};
use plan::gpu;
use plan::model::{Llama, preset};
use plan::request::{
    DeviceRequest, Execution, InnerSteps, IslandRequest, Objective, Parallelism, PipelineRequest,
    RoundRules, RunRequest, Tokenizer,
};
use plan::spec::{EvaluationSpec, OptimizerSpec, Rule, SparseSpec};

/// Cards of a node.
const NODE_CARDS: u32 = 8;

/// A run of a preset.
pub(crate) fn run(name: &str, sequences: u32) -> anyhow::Result<RunRequest> {
    let config = preset(name).ok_or_else(|| anyhow::anyhow!("{name} is not a preset"))?;
    let model = config.validate()?;
    let length = model.config().max_position_embeddings.min(2048);
    Ok(of(model, sequences, length))
}

/// A run of a model.
pub(crate) fn of(model: Llama, sequences: u32, sequence_length: u32) -> RunRequest {
    RunRequest {
        name: "run".into(),
        seed: 1,
        model,
        from: None,
        data: "data".into(),
        tokenizer: Tokenizer::Byte,
        sequences,
        sequence_length,
        tokens: 1_000_000_000,
        optimizer: OptimizerSpec::default(),
        inner_steps: InnerSteps::Auto,
        sparse: SparseSpec {
            top_k: 64,
            value_bits: 2,
            error_decay: 0.95,
            outer_learning_rate: 1.0,
            rule: Rule::Counted,
            retention: 0.5,
        },
        evaluation: EvaluationSpec { every_rounds: 10, sequences: 8 },
        rounds: RoundRules {
            quorum_percent: 60,
            grace: Duration::from_secs(30),
            deadline: Duration::from_secs(7200),
            go_back: false,
        },
        checkpoint: None,
        checkpoint_every_rounds: 10,
    }
}

/// An island that leaves everything to the planner.
pub(crate) fn island(name: &str, devices: &[DeviceRequest]) -> IslandRequest {
    IslandRequest {
        name: name.into(),
        devices: devices.to_vec(),
        min_memory: 0,
        parallelism: Parallelism::default(),
        pipeline: PipelineRequest::default(),
        objective: Objective::default(),
        uplink: None,
        nodes: None,
        correction: 1.0,
    }
}

/// All cards of one product.
pub(crate) fn device(product: &str, count: u32) -> DeviceRequest {
    DeviceRequest {
        product: product.into(),
        min: 1,
        max: count,
        memory: None,
        tflops: None,
        cost_per_hour: None,
    }
}

/// The products of nodes, each with all its cards.
pub(crate) fn devices_of(nodes: &[Node]) -> Vec<DeviceRequest> {
    let mut devices: Vec<DeviceRequest> = Vec::new();
    for card in nodes.iter().flat_map(|node| &node.cards) {
        match devices.iter_mut().find(|device| device.product == card.product) {
            Some(device) => device.max += 1,
            None => devices.push(device(&card.product, 1)),
        }
    }
    devices
}

/// An island and where its cards are.
pub(crate) struct Pool {
    pub(crate) island: IslandRequest,
    pub(crate) execution: Execution,
}

/// Cards in nodes of one product and at most eight each, with so many bytes a second between them.
pub(crate) fn pool(cards: &[(&str, u32)], network: f64) -> Pool {
    let mut nodes = Vec::new();
    for (product, count) in cards {
        let mut left = *count;
        while left > 0 {
            let here = left.min(NODE_CARDS);
            nodes.push(node(&format!("node-{}", nodes.len()), &vec![*product; here as usize]));
            left -= here;
        }
    }
    for node in &mut nodes {
        node.links.network = Some(Curve::linear(2e-4, network));
    }
    let island = island("pool", &devices_of(&nodes));
    Pool { island, execution: Execution::Cluster { nodes } }
}

/// A node of these cards, with links that nobody measured.
pub(crate) fn node(name: &str, products: &[&str]) -> Node {
    let card = |product: &&str| NodeCard {
        product: (*product).into(),
        memory: gpu::lookup(product).map_or(0, gpu::Card::memory),
        measured: None,
    };
    Node {
        name: name.into(),
        topology: Topology::default(),
        cards: products.iter().map(card).collect(),
        links: Links::default(),
    }
}
