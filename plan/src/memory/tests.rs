//! Tests of the memory model: figures by hand, and what grows with what.

use super::*;
use crate::model::preset;

fn llama(name: &str) -> Llama {
    preset(name).expect("a preset").validate().expect("a sound preset")
}

fn load(model: &Llama) -> Load<'_> {
    Load {
        model,
        sequence_length: 2048,
        micro_batch_size: 2,
        precision: Precision::Bf16,
        on_cpu: false,
        ranks: 4,
        contributions: 0,
        card_bytes: 80 << 30,
    }
}

#[test]
fn states_are_counted_by_the_parameter() {
    let model = llama("llama-8b");
    let parameters = model.parameters();
    let gpu = load(&model);
    assert_eq!(weights(&gpu), 6 * parameters);
    assert_eq!(moments(&gpu), 8 * parameters);
    assert_eq!(gradients(&gpu), 4 * parameters + 6 * 2 * 14_336 * 4096);
    assert_eq!((outer_theta(&gpu), error_feedback(&gpu)), (parameters, parameters));
    assert_eq!(buffers(&gpu), 21 * parameters);
    let cpu = Load { precision: Precision::F32, on_cpu: true, ranks: 1, ..gpu };
    assert_eq!(weights(&cpu), 4 * parameters);
    assert_eq!(buffers(&cpu), 8 * parameters);
}

#[test]
fn activations_of_llama_8b_are_those_counted_by_hand() {
    // Per token and layer: 16 · 4096 + 2 · (2 · 4096 + 4 · 4096 + 3 · 1024 + 4 · 14336) = 235,520.
    let model = llama("llama-8b");
    let beside = 16 * 4096 + 2 * (4 * 14_336 + 2 * 4096);
    assert_eq!(activations(&load(&model)), 2 * 2048 * (32 * 235_520 + beside));
}

#[test]
fn logits_never_exist_as_a_whole() {
    let model = llama("llama-8b");
    assert_eq!(logits(&load(&model)), (1 << 20) * 14);
    let demo = llama("llama-demo");
    let small = Load { sequence_length: 256, micro_batch_size: 1, ..load(&demo) };
    assert_eq!(logits(&small), 256 * 320 * 14);
}

#[test]
fn the_outer_state_lies_with_the_host_beside_a_card_and_in_the_process_without() {
    let model = llama("llama-160m");
    let gpu = Memory::of(&load(&model));
    let outer = [Kind::OuterTheta, Kind::ErrorFeedback, Kind::Buffers];
    assert_eq!(gpu.host(), outer.iter().map(|kind| gpu.of_kind(*kind)).sum::<u64>());
    let cpu = Memory::of(&Load { on_cpu: true, ..load(&model) });
    assert_eq!(cpu.host(), 0);
    assert_eq!(cpu.card(), cpu.terms.iter().map(|term| term.bytes).sum::<u64>());
}

#[test]
fn memory_grows_with_the_micro_batch_by_the_same_amount_each_time() {
    let model = llama("llama-1b");
    let at = |micro_batch_size| Memory::of(&Load { micro_batch_size, ..load(&model) });
    let activations: Vec<_> = (0..4).map(|b| at(b).of_kind(Kind::Activations)).collect();
    assert_eq!(activations[0], 0);
    assert!(activations.windows(2).all(|pair| pair[1] - pair[0] == activations[1]));
}
