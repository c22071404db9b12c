//! Tests of the memory model: figures by hand, and what grows with what.

mod laws;

use super::*;
use crate::model::preset;
use crate::part::Parts;
use crate::spec::{PipelineCompression, Sharding, StageSpec};

fn llama(name: &str) -> Llama {
    preset(name).expect("a preset").validate().expect("a sound preset")
}

fn sharding(tensor: u32, layers: &[u32]) -> Sharding {
    let stages = layers.iter().map(|layers| StageSpec { layers: *layers, recompute: false });
    Sharding { tensor, stages: stages.collect(), compression: None }
}

/// The first tensor-parallel device of a stage.
fn part(model: &Llama, sharding: &Sharding, stage: u32) -> Part {
    Parts::new(model, sharding.tensor).expect("a cut").part(sharding, stage, 0)
}

fn load(model: &Llama) -> Load<'_> {
    Load {
        model,
        part: part(model, &Sharding::whole(model.config().num_hidden_layers), 0),
        in_flight: 1,
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
    assert_eq!(gradients(&gpu), 4 * parameters + 6 * 128_256 * 4096, "the head is the largest");
    let demo = llama("llama-demo");
    let (wide, hidden) = (demo.config().intermediate_size, demo.config().hidden_size);
    let largest = 6 * 2 * u64::from(wide) * u64::from(hidden);
    assert_eq!(gradients(&load(&demo)), 4 * demo.parameters() + largest);
    let ahead = Load { in_flight: 3, ..gpu };
    assert_eq!(weights(&ahead), 6 * parameters, "micro-batches in flight share the bf16 copy");
    assert_eq!((outer_theta(&gpu), error_feedback(&gpu)), (parameters, parameters));
    assert_eq!(buffers(&gpu), 13 * parameters + (16 << 20));
    let cpu = Load { precision: Precision::F32, on_cpu: true, ranks: 1, ..gpu };
    assert_eq!(weights(&cpu), 4 * parameters);
    assert_eq!(buffers(&cpu), 4 * parameters + (16 << 20));
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
    assert_eq!(logits(&load(&model)), CARD_LOGITS * 14);
    let on_cpu = Load { on_cpu: true, precision: Precision::F32, ..load(&model) };
    assert_eq!(logits(&on_cpu), CPU_LOGITS * 12);
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

#[test]
fn tensor_parallel_devices_share_all_but_what_is_as_wide_as_the_model() {
    let model = llama("llama-8b");
    let whole = load(&model);
    let half = Load { part: part(&model, &sharding(2, &[32]), 0), ..whole };
    let norms = 65 * 4096;
    assert_eq!(half.part.parameters, (model.parameters() - norms) / 2 + norms);
    assert_eq!(gradients(&half), 4 * half.part.parameters + 6 * half.part.head_rows * 4096);
    // Per token and layer: 16 · 4096 + 2 · (2 · 4096 + (4 · 4096 + 3 · 1024 + 4 · 14336) / 2).
    let beside = 16 * 4096 + 2 * (2 * 14_336 + 2 * 4096);
    assert_eq!(activations(&half), 2 * 2048 * (32 * 158_720 + beside));
    assert_eq!(logits(&half), logits(&whole), "a chunk is as large, of more tokens");
    assert_eq!(outer_theta(&half), outer_theta(&whole));
    let own = 12 * half.part.parameters + (16 << 20);
    assert_eq!(buffers(&half), own + model.parameters());
}

#[test]
fn a_stage_holds_its_layers_for_every_micro_batch_in_flight_and_its_ends() {
    let model = llama("llama-8b");
    let cut = sharding(1, &[10, 12, 10]);
    let at = |stage, in_flight| Load { part: part(&model, &cut, stage), in_flight, ..load(&model) };
    let embedding = 128_256 * 4096;
    let layers = |count: u64| count * model.layer_parameters();
    let held = [0, 1, 2].map(|stage| at(stage, 1).part.parameters);
    assert_eq!(held, [embedding + layers(10), layers(12), layers(10) + 4096 + embedding]);
    let passing = 2 * (4 * 14_336 + 2 * 4096);
    assert_eq!(activations(&at(1, 2)), 4096 * (2 * (12 * 235_520 + 16 * 4096) + passing));
    assert_eq!([0, 1, 2].map(|stage| logits(&at(stage, 1)) > 0), [false, false, true]);
    let waiting = 4 * 5 * 2 * 2048 * 4096;
    let pipelines = [0, 1, 2].map(|stage| pipeline(&at(stage, 1)));
    assert_eq!(pipelines, [waiting, 2 * waiting, waiting]);
    assert_eq!(Memory::of(&at(1, 1)).of_kind(Kind::Pipeline), 2 * waiting);
    assert_eq!(pipeline(&load(&model)), 0);
}

#[test]
fn with_recompute_only_the_inputs_of_layers_wait_for_backward() {
    let model = llama("llama-8b");
    let mut cut = sharding(1, &[10, 22]);
    cut.stages[1].recompute = true;
    let at = Load { part: part(&model, &cut, 1), in_flight: 3, ..load(&model) };
    let in_flight = 22 * 4 * 4096 + 16 * 4096;
    let once = 235_520 + 2 * (4 * 14_336 + 2 * 4096);
    assert_eq!(activations(&at), 4096 * (3 * in_flight + once));
}

#[test]
fn compression_costs_every_stage_an_embedding_and_narrows_what_crosses() {
    let model = llama("llama-8b");
    let plain = sharding(2, &[20, 12]);
    let cut = Sharding { compression: Some(PipelineCompression { rank: 64 }), ..plain.clone() };
    let at = |cut: &Sharding| Load { part: part(&model, cut, 1), ..load(&model) };
    let load = at(&cut);
    assert_eq!(subspace(&load), 4 * 4096 * (128_256 + 64));
    assert_eq!(projections(&load), 4 * 12 * 4096 * (4096 + 14_336) / 2);
    assert_eq!(pipeline(&load) * 64, pipeline(&at(&plain)));
    let narrower = pipeline(&at(&plain)) - pipeline(&load);
    let more = Memory::of(&load).card() + narrower - Memory::of(&at(&plain)).card();
    assert_eq!(more, subspace(&load));
    assert_eq!((subspace(&at(&plain)), projections(&at(&plain))), (0, 0));
}
