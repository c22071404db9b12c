//! Random small islands, and large mixed ones.

use plan::cluster::{Curve, Links, Node, NodeCard, Topology};
use plan::model::LlamaConfig;
use plan::request::{Execution, IslandRequest, RunRequest};

use super::requests;

/// Products that random islands have.
const PRODUCTS: [&str; 8] = [
    "NVIDIA-H100-80GB-HBM3",
    "NVIDIA-A100-SXM4-40GB",
    "NVIDIA-GeForce-RTX-4090",
    "NVIDIA-GeForce-RTX-3090",
    "NVIDIA-GeForce-RTX-3080",
    "NVIDIA-L4",
    "NVIDIA-RTX-A6000",
    "Tesla-T4",
];

/// A request that both planners are given.
pub(crate) struct Case {
    pub(crate) run: RunRequest,
    pub(crate) island: IslandRequest,
    pub(crate) execution: Execution,
}

/// SplitMix64 (Steele et al. 2014): the same numbers everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn of<T: Copy>(&mut self, values: &[T]) -> T {
        values[self.below(values.len() as u64) as usize]
    }

    /// Between 0 and 1.
    fn share(&mut self) -> f64 {
        self.below(1 << 20) as f64 / f64::from(1 << 20)
    }
}

/// 2 to 8 cards of 1 to 3 kinds over nodes with a network of 0.1 to 10 GB/s, a model of 2 to 12
/// layers, and memory from too little to plenty.
pub(crate) fn case(seed: u64) -> Case {
    let mut random = Random(seed);
    let model = loop {
        let hidden = random.of(&[512, 1024, 2048, 4096]);
        let config = LlamaConfig {
            hidden_size: hidden,
            intermediate_size: hidden * random.of(&[2, 3, 4]),
            num_hidden_layers: 2 + random.below(11) as u32,
            num_attention_heads: hidden / 64,
            num_key_value_heads: hidden / 64 / random.of(&[1, 2, 4]),
            head_dim: Some(64),
            vocab_size: random.of(&[4096, 32_768, 131_072]),
            max_position_embeddings: 2048,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            tie_word_embeddings: random.below(2) == 0,
            initializer_range: 0.02,
        };
        if let Ok(model) = config.validate() {
            break model;
        }
    };
    let (cards, kinds) = (2 + random.below(7), 1 + random.below(3));
    let state = model.parameters() * 18;
    // The context, and a share of the states from a fraction to all of them.
    let mut memory = || {
        let share = (0.7 + 2.0 * random.share()) / cards as f64;
        ((2_u64 << 30) as f64 + share * state as f64) as u64
    };
    let memories: Vec<u64> = (0..kinds).map(|_| memory()).collect();
    let products: Vec<&str> = (0..kinds).map(|_| random.of(&PRODUCTS)).collect();
    let mut left = cards;
    let mut nodes = Vec::new();
    while left > 0 {
        let here = 1 + random.below(left.min(4));
        let own: Vec<usize> = (0..here).map(|_| random.below(kinds) as usize).collect();
        let bandwidth = 1e8 * 100_f64.powf(random.share());
        nodes.push(Node {
            name: format!("node-{}", nodes.len()),
            topology: Topology::default(),
            cards: own
                .into_iter()
                .map(|kind| NodeCard {
                    product: products[kind].into(),
                    memory: memories[kind],
                    measured: None,
                })
                .collect(),
            links: Links { network: Some(Curve::linear(2e-4, bandwidth)), ..Links::default() },
        });
        left -= here;
    }
    let sequences = random.of(&[4, 6, 8, 12, 16, 24]);
    let run = requests::of(model, sequences, random.of(&[512, 1024, 2048]));
    let island = requests::island("case", &requests::devices_of(&nodes));
    Case { run, island, execution: Execution::Cluster { nodes } }
}

/// Nodes of eight cards of five kinds in turn.
pub(crate) fn mixed_nodes(cards: usize) -> Vec<Node> {
    let kinds = [
        "NVIDIA-H100-80GB-HBM3",
        "NVIDIA-A100-SXM4-80GB",
        "NVIDIA-L40S",
        "NVIDIA-GeForce-RTX-4090",
        "NVIDIA-GeForce-RTX-3090",
    ];
    let node = |index: usize| {
        let here = (cards - 8 * index).min(8);
        requests::node(&format!("node-{index:03}"), &vec![kinds[index % kinds.len()]; here])
    };
    (0..cards.div_ceil(8)).map(node).collect()
}
