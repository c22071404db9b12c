//! What holds of the bytes of any device, which the search for a layout relies on.

use proptest::prelude::*;

use super::*;
use crate::model::{LlamaConfig, PRESETS};
use crate::part::Place as At;

/// A load without its part, and what the part is made from.
#[derive(Clone, Debug)]
struct Case {
    model: Llama,
    parts: Parts,
    at: At,
    recompute: bool,
    in_flight: u32,
    sequence_length: u32,
    micro_batch_size: u32,
    on_cpu: bool,
    precision: Precision,
    ranks: u32,
    contributions: u64,
}

prop_compose! {
    fn any_case()(
        name in prop::sample::select(&PRESETS[..]),
        tensor in prop::sample::select(vec![1_u32, 2, 4]),
        (stages, stage) in (1_u32..6).prop_flat_map(|stages| (Just(stages), 0..stages)),
        rank in prop::option::of(1_u32..192),
        recompute in any::<bool>(),
        in_flight in 1_u32..6,
        sequence_length in 1_u32..4096,
        micro_batch_size in 1_u32..9,
        (on_cpu, half) in any::<(bool, bool)>(),
        ranks in 1_u32..9,
        contributions in 0_u64..1 << 34,
    ) -> Case {
        let model = llama(name);
        let parts = Parts::new(&model, tensor).or_else(|_| Parts::new(&model, 1)).expect("a cut");
        let compression = rank.map(|rank| PipelineCompression { rank });
        Case {
            model,
            parts,
            at: At { stage, stages, compression },
            recompute,
            in_flight,
            sequence_length,
            micro_batch_size,
            on_cpu,
            precision: if half && !on_cpu { Precision::Bf16 } else { Precision::F32 },
            ranks,
            contributions,
        }
    }
}

impl Case {
    /// With so many layers, on one of the tensor-parallel devices.
    fn load(&self, layers: u32, tensor: u32) -> Load<'_> {
        let own = StageSpec { layers, recompute: self.recompute };
        Load {
            model: &self.model,
            part: self.parts.at(self.at, own, tensor),
            in_flight: self.in_flight,
            sequence_length: self.sequence_length,
            micro_batch_size: self.micro_batch_size,
            precision: self.precision,
            on_cpu: self.on_cpu,
            ranks: self.ranks,
            contributions: self.contributions,
            card_bytes: 24 << 30,
        }
    }
}

proptest! {
    #[test]
    fn what_a_stage_needs_grows_by_the_same_with_every_layer(
        case in any_case(),
        layers in 3_u32..99,
    ) {
        let needs = |layers| Memory::apart(&case.load(layers, case.parts.heaviest()));
        let (first, each) = (needs(1), needs(2) - needs(1));
        prop_assert!(each > 0);
        prop_assert_eq!(needs(layers), first + u64::from(layers - 1) * each);
    }

    #[test]
    fn nothing_that_is_used_twice_makes_a_device_need_more(
        case in any_case(),
        layers in 1_u32..40,
    ) {
        let load = case.load(layers, 0);
        let (card, apart) = (Memory::of(&load).card(), Memory::apart(&load));
        prop_assert!(card <= apart);
        if !case.on_cpu || case.recompute || case.at.compression.is_some() {
            prop_assert_eq!(card, apart, "nothing is used twice");
        }
        // An exchange has the place of activations for two thirds of its buffers at most.
        prop_assert!(apart - card <= 2 * buffers(&load) / 3);
    }

    #[test]
    fn more_work_never_needs_less_and_more_ranks_never_more(
        case in any_case(),
        layers in 1_u32..40,
    ) {
        let card = |case: &Case| Memory::of(&case.load(layers, 0)).card();
        let host = |case: &Case| Memory::of(&case.load(layers, 0)).host();
        let larger = [
            Case { in_flight: case.in_flight + 1, ..case.clone() },
            Case { micro_batch_size: case.micro_batch_size + 1, ..case.clone() },
            Case { sequence_length: case.sequence_length + 1, ..case.clone() },
            Case { contributions: case.contributions + (1 << 20), ..case.clone() },
        ];
        for larger in larger {
            prop_assert!(card(&larger) >= card(&case) && host(&larger) >= host(&case));
        }
        let more = Case { ranks: case.ranks + 1, ..case.clone() };
        prop_assert!(card(&more) <= card(&case) && host(&more) <= host(&case));
        let deeper = |layers| Memory::of(&case.load(layers, 0)).card();
        prop_assert!(deeper(layers + 1) > deeper(layers));
    }

    #[test]
    fn no_device_of_a_stage_needs_more_than_the_heaviest(
        case in any_case(),
        layers in 1_u32..40,
    ) {
        let needs = |tensor| Memory::of(&case.load(layers, tensor)).card();
        let heaviest = needs(case.parts.heaviest());
        prop_assert!((0..case.parts.tensor()).all(|tensor| needs(tensor) <= heaviest));
    }

    /// What the search takes as the most room that a stage has anywhere.
    #[test]
    fn layers_by_themselves_need_no_more_than_in_any_stage(
        case in any_case(),
        layers in 1_u32..40,
    ) {
        let own = StageSpec { layers, recompute: case.recompute };
        let bare = Load { part: case.parts.layers_only(own), in_flight: 1, ..case.load(layers, 0) };
        for tensor in 0..case.parts.tensor() {
            prop_assert!(Memory::apart(&bare) <= Memory::apart(&case.load(layers, tensor)));
        }
    }

    #[test]
    fn a_table_has_every_kind_that_there_is_once_and_nothing_besides(case in any_case()) {
        let load = case.load(3, 0);
        let memory = Memory::of(&load);
        let kinds: Vec<Kind> = memory.terms.iter().map(|term| term.kind).collect();
        let distinct: std::collections::HashSet<_> = kinds.iter().collect();
        prop_assert_eq!(distinct.len(), kinds.len());
        let names: std::collections::HashSet<_> = kinds.iter().map(|kind| kind.name()).collect();
        prop_assert_eq!(names.len(), kinds.len());
        let compressed = case.at.compression.is_some();
        prop_assert_eq!(kinds.contains(&Kind::Subspace), compressed);
        prop_assert_eq!(kinds.contains(&Kind::Projections), compressed);
        prop_assert_eq!(kinds.contains(&Kind::Pipeline), case.at.stages > 1);
        let all: u64 = kinds.iter().map(|kind| memory.of_kind(*kind)).sum();
        prop_assert_eq!(memory.card() + memory.host(), all);
        prop_assert!(!case.on_cpu || memory.host() == 0, "a process has all of it");
    }

    /// A layer of one micro-batch is there in any case, with its input besides where it is computed
    /// again: recompute is of use from the second on.
    #[test]
    fn recompute_keeps_less_wherever_more_than_one_layer_waits(
        case in any_case(),
        layers in 1_u32..9,
    ) {
        let kept = |recompute| activations(&Case { recompute, ..case.clone() }.load(layers, 0));
        prop_assert_eq!(kept(true) < kept(false), case.in_flight * layers > 1);
    }
}

#[test]
fn a_process_on_the_cpu_is_counted_by_hand() {
    // 2,496,960 parameters; 4 sequences of 256 tokens at a time; 3 ranks; 6,000,001 encoded bytes.
    let model = llama("llama-demo");
    let load = Load {
        sequence_length: 256,
        micro_batch_size: 4,
        precision: Precision::F32,
        on_cpu: true,
        ranks: 3,
        contributions: 6_000_001,
        card_bytes: 4 << 30,
        ..load(&model)
    };
    let share = 2_496_960_u64.div_ceil(3) * 4;
    assert_eq!((outer_theta(&load), error_feedback(&load)), (share, share));
    assert_eq!(buffers(&load), share + (16 << 20) + 2 * 2_000_001);
    assert_eq!(context(&load), 192 << 20);
    // Per token and layer: 16 · 192 + 4 · (2 · 192 + 4 · 192 + 3 · 96 + 4 · 512) = 17,024.
    let layers = 1024 * (6 * 17_024 + 16 * 192 + 4 * (4 * 512 + 2 * 192));
    assert_eq!(activations(&load), layers);
    assert_eq!(logits(&load), 1024 * 320 * 12);
    // Less than the 256 MiB that the allocator keeps: nothing is used twice.
    let memory = Memory::of(&load);
    assert_eq!(memory.of_kind(Kind::Buffers), buffers(&load));
    // Much more: two thirds of an exchange go where activations were.
    let large = Load { micro_batch_size: 64, ..load };
    assert!(activations(&large) > 1 << 30);
    let left = buffers(&large) - buffers(&large) / 3 * 2;
    assert_eq!(Memory::of(&large).of_kind(Kind::Buffers), left);
}

#[test]
fn a_card_loses_its_context_and_a_twentieth() {
    let model = llama("llama-160m");
    let of = |card_bytes| context(&Load { card_bytes, ..load(&model) });
    assert_eq!(of(0), 640 << 20);
    assert_eq!(of(20 << 30) - of(0), 1 << 30);
}

/// Everything as large as it is accepted; overflow would panic here, and wrap in a release.
#[test]
fn the_largest_figures_that_are_accepted_do_not_overflow() {
    let wide = LlamaConfig {
        hidden_size: 1 << 20,
        intermediate_size: 1 << 20,
        num_hidden_layers: 1,
        num_attention_heads: 1 << 10,
        num_key_value_heads: 1 << 10,
        head_dim: None,
        vocab_size: 1 << 24,
        max_position_embeddings: 1 << 24,
        ..preset("llama-8b").expect("a preset")
    };
    let deep = LlamaConfig {
        hidden_size: 1,
        intermediate_size: 1 << 20,
        num_hidden_layers: 1 << 12,
        num_attention_heads: 1 << 20,
        num_key_value_heads: 1 << 20,
        head_dim: Some(1 << 12),
        ..wide.clone()
    };
    for config in [wide, deep] {
        let model = config.validate().expect("just accepted");
        for (on_cpu, recompute) in [(false, false), (true, false), (true, true)] {
            let at =
                At { stage: 0, stages: 256, compression: Some(PipelineCompression { rank: 1 }) };
            let own = StageSpec { layers: model.config().num_hidden_layers, recompute };
            let load = Load {
                part: Parts::new(&model, 1).expect("a cut").at(at, own, 0),
                in_flight: 256,
                sequence_length: 1 << 24,
                micro_batch_size: 64,
                precision: Precision::F32,
                on_cpu,
                ranks: 1,
                contributions: 1 << 60,
                ..load(&model)
            };
            let memory = Memory::of(&load);
            assert!(memory.card() > 1 << 40 && Memory::apart(&load) >= memory.card());
        }
    }
}
