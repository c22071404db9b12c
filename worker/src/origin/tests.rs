//! A part of θ is that part of the whole θ, wherever it is cut.

use plan::model::{Llama, LlamaConfig};

use super::*;
use crate::hugging_face::write_parameters;
use crate::parameters;

mod refusals;

fn model() -> Llama {
    let config = LlamaConfig {
        hidden_size: 96,
        intermediate_size: 200,
        num_hidden_layers: 2,
        num_attention_heads: 3,
        num_key_value_heads: 1,
        head_dim: Some(22),
        vocab_size: 4_100,
        max_position_embeddings: 16,
        rms_norm_eps: 1e-5,
        rope_theta: 500.0,
        tie_word_embeddings: false,
        initializer_range: 0.2,
    };
    config.validate().unwrap()
}

/// θ of a seed in the order of the flat buffer.
fn flat(layout: &parameters::Layout) -> Vec<f32> {
    let mut theta = vec![0.0; layout.numel()];
    init::fill_all(5, layout, 0.2, &mut theta);
    theta
}

/// All ways to cut pieces into three spans.
fn cuts(pieces: u32) -> impl Iterator<Item = [u32; 4]> {
    (0..=pieces).flat_map(move |a| (a..=pieces).step_by(3).map(move |b| [0, a, b, pieces]))
}

#[test]
fn every_division_of_a_seeds_theta_gives_the_whole() {
    let flat_layout = parameters::Layout::new(model().tensors());
    let layout = flat_layout.canonical().unwrap();
    let pieces = layout.pieces();
    let mut expected = vec![0.0; layout.values()];
    layout.gather(0..pieces, &flat(&flat_layout), &mut expected);
    let origin = Origin::Seed { seed: 5, range: 0.2 };
    assert!(pieces > 3);
    for cut in cuts(pieces) {
        let part = |span: &[u32]| {
            span_values(&origin, &layout, flat_layout.tensors(), span[0]..span[1]).unwrap()
        };
        let found: Vec<f32> = cut.windows(2).flat_map(part).collect();
        assert!(found == expected, "{cut:?}");
    }
}

#[test]
fn a_folders_theta_is_that_of_the_model_it_was_exported_from() {
    let model = model();
    let flat_layout = parameters::Layout::new(model.tensors());
    let layout = flat_layout.canonical().unwrap();
    let folder = tempfile::tempdir().unwrap();
    write_parameters(folder.path(), &flat_layout, &flat(&flat_layout), 500_000).unwrap();
    let tensors = flat_layout.tensors();
    let exported = Origin::Folder(Folder::open(folder.path(), &model).unwrap());
    let seeded = Origin::Seed { seed: 5, range: 0.2 };
    for span in [0..layout.pieces(), 2..5, 1..1] {
        let [found, expected] = [&exported, &seeded]
            .map(|origin| span_values(origin, &layout, tensors, span.clone()).unwrap());
        assert!(found == expected, "{span:?}");
    }
}

#[test]
fn a_vector_of_several_pieces_and_long_rows_are_cut_in_order() {
    let tensor = |name: &str, shape: &[u64]| TensorSpec { name: name.into(), shape: shape.into() };
    // 70 runs and 70 × 2 blocks: pieces begin within both.
    let tensors = [tensor("v", &[70 * 4096 - 5]), tensor("m", &[100, 70 * 64 - 3])];
    let flat_layout = parameters::Layout::new(tensors.to_vec());
    let layout = flat_layout.canonical().unwrap();
    let mut expected = vec![0.0; layout.values()];
    layout.gather(0..layout.pieces(), &flat(&flat_layout), &mut expected);
    let origin = Origin::Seed { seed: 5, range: 0.2 };
    for piece in 0..layout.pieces() {
        let found = span_values(&origin, &layout, &tensors, piece..piece + 1).unwrap();
        assert!(found == expected[layout.span(piece..piece + 1)], "{piece}");
    }
}
