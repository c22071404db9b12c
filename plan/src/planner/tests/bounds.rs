//! No layout is faster than what is said that none is: of its choice, and of its grid.

use super::*;
use crate::cluster::{Curve, Links, Node, NodeCard, Topology};
use crate::model::{Llama, LlamaConfig};
use crate::planner::island::Planner;
use crate::planner::search::arrange;
use crate::planner::search::bound::Bound;
use crate::planner::search::evaluate::Candidate;

/// Cards that are unlike in speed, memory and precision.
const PRODUCTS: [&str; 4] = [H100, RTX4090, "NVIDIA-L4", "Tesla-T4"];

#[derive(Clone, Debug)]
pub(super) struct Case {
    pub run: RunRequest,
    pub island: IslandRequest,
    pub execution: Execution,
}

/// A model small enough that every layout of it is looked at.
pub(super) fn small_model(layers: u32, hidden: u32, vocab_size: u32, tied: bool) -> Llama {
    let config = LlamaConfig {
        hidden_size: hidden,
        intermediate_size: 2 * hidden,
        num_hidden_layers: layers,
        num_attention_heads: hidden / 64,
        num_key_value_heads: hidden / 128,
        head_dim: Some(64),
        vocab_size,
        max_position_embeddings: 2048,
        tie_word_embeddings: tied,
        ..preset("llama-160m").expect("a preset")
    };
    config.validate().expect("a model")
}

prop_compose! {
    /// Up to five cards over up to three nodes, between which messages go at 0.1 to 10 GB/s, with
    /// too little memory, just enough or plenty.
    pub(super) fn any_case()(
        (layers, hidden, vocabulary) in
            (2_u32..6, prop::sample::select(vec![512_u32, 1024]), 1000_u32..60_000),
        tied in any::<bool>(),
        cards in prop::collection::vec((0..PRODUCTS.len(), 0_usize..3), 1..6),
        share in 0.3_f64..3.0,
        speeds in prop::array::uniform3(8.0_f64..10.0),
        sequences in prop::sample::select(vec![1_u32, 4, 6, 12, 16]),
        length in prop::sample::select(vec![256_u32, 1024]),
        objective in prop::sample::select(vec![
            Objective::Throughput, Objective::Throughput, Objective::PerWatt, Objective::PerCost,
        ]),
        correction in prop::sample::select(vec![1.0_f64, 0.5, 3.0]),
    ) -> Case {
        let model = small_model(layers, hidden, vocabulary, tied);
        let state = model.parameters() as f64 * 18.0 / cards.len() as f64;
        let memory = (1_u64 << 30) + (state * share) as u64;
        let node = |at: usize| Node {
            name: format!("node-{at}"),
            topology: Topology::default(),
            cards: cards
                .iter()
                .filter(|(_, node)| *node == at)
                .map(|(product, _)| NodeCard {
                    product: PRODUCTS[*product].into(),
                    memory: memory * (1 + *product as u64 % 2),
                    measured: None,
                })
                .collect(),
            links: Links {
                network: Some(Curve::linear(1e-4, 10_f64.powf(speeds[at]))),
                ..Links::default()
            },
        };
        let counts = |product: usize| cards.iter().filter(|(p, _)| *p == product).count() as u32;
        let devices: Vec<DeviceRequest> = (0..PRODUCTS.len())
            .filter(|product| counts(*product) > 0)
            .map(|product| DeviceRequest {
                cost_per_hour: Some(0.5 + product as f64),
                ..device(PRODUCTS[product], counts(product))
            })
            .collect();
        Case {
            run: RunRequest { model, sequence_length: length, ..run("llama-demo", sequences) },
            island: IslandRequest { objective, correction, ..island("case", &devices) },
            execution: Execution::Cluster { nodes: (0..3).map(node).collect() },
        }
    }
}

/// No score is below a bound but for rounding.
fn not_below(candidate: &Candidate, bound: f64, what: &str) -> Result<(), TestCaseError> {
    let Candidate { shape, batches, score, .. } = candidate;
    prop_assert!(
        *score >= bound * (1.0 - 1e-9),
        "{what} {bound} of {score}: {shape:?} {batches:?}"
    );
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn no_layout_beats_its_bounds(case in any_case(), rank in prop::option::of(16_u32..128)) {
        let Case { run, island, execution } = &case;
        let compression = rank.map(|rank| PipelineCompression { rank });
        let (chosen, hosts) =
            choose_cards(std::slice::from_ref(island), execution).expect("there are cards");
        let planner = Planner::new(run, 1);
        let mut estimator = planner.estimator(island, &chosen[0], &hosts).expect("a cut");
        let sizes = (1..=8_u32).filter(|size| run.sequences.is_multiple_of(*size));
        let sizes: Vec<u32> = sizes.collect();
        for cut in 0..estimator.cuts.len() {
            let groups = estimator.groups[cut].clone();
            let all: Vec<usize> = (0..groups.len()).collect();
            let layers = run.model.config().num_hidden_layers as usize;
            let grids = (1..=all.len().min(layers))
                .flat_map(|stages| (1..=all.len() / stages).map(move |r| [r, stages]));
            for [replicas, stages] in grids.collect::<Vec<_>>() {
                let ways = arrange::every(&all, &groups, [replicas, stages], usize::MAX);
                let ways = ways.expect("no limit");
                for size in if stages == 1 { vec![1] } else { sizes.clone() } {
                    if run.sequences / size < replicas as u32 {
                        continue;
                    }
                    let bound = Bound::new(&mut estimator, (cut, &all), compression, size);
                    let bound = bound.of(stages, replicas);
                    for places in &ways {
                        let shape = estimator.shape(cut, compression, places.clone());
                        let floor = match stages {
                            1 => estimator.flat_floor(&shape),
                            _ => estimator.floor(&shape, size),
                        };
                        let floor = floor * estimator.burden(&shape);
                        let Some(best) = estimator.best(&shape, size) else { continue };
                        let refined = match stages {
                            1 => best.clone(),
                            _ => estimator.refine(&best),
                        };
                        prop_assert!(refined.score <= best.score);
                        for candidate in [best, refined] {
                            not_below(&candidate, bound, "bound")?;
                            not_below(&candidate, floor, "floor")?;
                            let exact = estimator.exact(candidate);
                            not_below(&exact, bound, "bound")?;
                            not_below(&exact, floor, "floor")?;
                            prop_assert!(
                                estimator.fits(&exact.shape, &exact.stages, &exact.batches)
                            );
                            let taken = exact.batches.iter();
                            let taken = taken.map(|it| it.micro_batches * it.micro_batch_size);
                            prop_assert_eq!(taken.sum::<u32>(), run.sequences);
                        }
                    }
                }
            }
        }
    }
}
