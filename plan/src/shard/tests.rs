//! Cuts, their copies, and what is refused.

mod properties;

use super::*;
use crate::model::LlamaConfig;
use crate::spec::{PipelineCompression, StageSpec};

fn model(tied: bool) -> Llama {
    let config = LlamaConfig {
        hidden_size: 256,
        intermediate_size: 512,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: None,
        vocab_size: 300,
        max_position_embeddings: 64,
        rms_norm_eps: 1e-5,
        rope_theta: 1e4,
        tie_word_embeddings: tied,
        initializer_range: 0.02,
    };
    config.validate().expect("a model")
}

fn sharding(tensor: u32, layers: &[u32]) -> Sharding {
    let stages = layers.iter().map(|layers| StageSpec { layers: *layers, recompute: false });
    Sharding { tensor, stages: stages.collect(), compression: None }
}

#[test]
fn every_value_is_held_and_exactly_one_copy_of_it_counts() {
    for tied in [true, false] {
        for (tensor, layers) in [(1, &[4][..]), (2, &[4]), (1, &[1, 3]), (2, &[2, 1, 1])] {
            let cut = Sharded::new(&model(tied), &sharding(tensor, layers)).expect("a sharding");
            let mut counted = vec![0; cut.tensors().len()];
            for stage in 0..cut.stages() {
                for part in 0..tensor {
                    let slices = cut.slices(stage, part);
                    for slice in slices.iter().filter(|s| cut.counts(s, stage, part)) {
                        counted[slice.tensor] += cut.local(slice).numel();
                    }
                }
            }
            let whole: Vec<u64> = cut.tensors().iter().map(TensorSpec::numel).collect();
            assert_eq!(counted, whole, "{tied} {tensor} {layers:?}");
        }
    }
}

#[test]
fn megatrons_cuts_are_made_on_chunks() {
    let cut = Sharded::new(&model(true), &sharding(2, &[3, 1])).expect("a sharding");
    let shape = |stage, part, name: &str| {
        let slices = cut.slices(stage, part);
        let found = slices.iter().map(|slice| (cut.local(slice), slice));
        let mut found = found.filter(|(local, _)| local.name.ends_with(name));
        found.next().map(|(local, slice)| (local.shape, slice.rows.clone(), slice.columns.clone()))
    };
    let (rows, columns) = (128..256, 128..256);
    assert_eq!(shape(0, 1, "q_proj.weight"), Some((vec![128, 256], rows.clone(), 0..256)));
    assert_eq!(shape(0, 1, "v_proj.weight"), Some((vec![64, 256], 64..128, 0..256)));
    assert_eq!(shape(0, 1, "o_proj.weight"), Some((vec![256, 128], 0..256, columns)));
    assert_eq!(shape(1, 0, "down_proj.weight"), Some((vec![256, 256], 0..256, 0..256)));
    assert_eq!(shape(1, 1, "input_layernorm.weight"), Some((vec![256], 0..1, 0..256)));
    // 300 rows are five chunks of rows, the last one short.
    assert_eq!(shape(0, 0, "embed_tokens.weight"), Some((vec![128, 256], 0..128, 0..256)));
    assert_eq!(shape(1, 1, "embed_tokens.weight"), Some((vec![172, 256], 128..300, 0..256)));
    assert_eq!(shape(0, 0, "model.norm.weight"), None);
    assert_eq!(cut.layers(1), 3..4);
}

#[test]
fn a_grid_numbers_tensor_parallel_peers_first() {
    let grid = Grid { data: 2, stages: 3, tensor: 2 };
    assert_eq!(grid.position(7), Position { data: 1, stage: 0, tensor: 1 });
    assert!((0..grid.size()).all(|index| grid.index(grid.position(index)) == index));
}

#[test]
fn what_does_not_divide_is_refused_with_what_to_change() {
    let refused = |sharding: &Sharding| {
        Sharded::new(&model(true), sharding).expect_err("no sharding").to_string()
    };
    for (tensor, layers, sentence) in [
        (0, &[4][..], "at least 1"),
        (1, &[3], "hold 3 layers, the model has 4"),
        (1, &[4, 0], "stage 1 has no layer"),
        (3, &[4], "num_attention_heads is 4, which tensor-parallel size 3 does not divide"),
        (4, &[4], "num_key_value_heads is 2"),
    ] {
        let message = refused(&sharding(tensor, layers));
        assert!(message.contains(sentence), "{message}");
    }
    for rank in [0, 257] {
        let compression = Some(PipelineCompression { rank });
        let message = refused(&Sharding { compression, ..sharding(1, &[4]) });
        assert!(message.contains("between 1 and 256"), "{message}");
    }
    let mut narrow = model(true).config().clone();
    narrow.hidden_size = 128;
    narrow.head_dim = None;
    let error = Sharded::new(&narrow.validate().expect("a model"), &sharding(2, &[4]));
    let message = error.expect_err("heads of 32").to_string();
    assert!(message.contains("32 wide, which is not a multiple of 64"), "{message}");
}
