//! What holds of every cut of every model.

use proptest::prelude::*;

use super::*;
use crate::part::Parts;

prop_compose! {
    /// Models whose heads and widths some numbers of devices can share, and others cannot.
    fn any_model()(
        key_value in 1_u32..7,
        group in 1_u32..4,
        head in prop::sample::select(vec![2_u32, 32, 64, 96, 128]),
        wide in prop::sample::select(vec![1_u32, 64, 100, 192, 256, 384, 512, 768]),
        hidden in prop::sample::select(vec![1_u32, 64, 96, 130]),
        layers in 1_u32..7,
        vocab_size in 1_u32..700,
        tied in any::<bool>(),
    ) -> Llama {
        let config = LlamaConfig {
            hidden_size: hidden,
            intermediate_size: wide,
            num_hidden_layers: layers,
            num_attention_heads: key_value * group,
            num_key_value_heads: key_value,
            head_dim: Some(head),
            vocab_size,
            ..model(tied).config().clone()
        };
        config.validate().expect("a model")
    }
}

/// Layers divided into stages: a set bit of the mask begins one.
fn divided(layers: u32, mask: u32) -> Vec<u32> {
    let mut stages = vec![1];
    for layer in 1..layers {
        match stages.last_mut() {
            Some(last) if mask >> layer & 1 == 0 => *last += 1,
            _ => stages.push(1),
        }
    }
    stages
}

/// The stage that has a layer, by counting.
fn stage_of(stages: &[u32], layer: u32) -> u32 {
    let mut first = 0;
    let has = |layers: &u32| {
        first += layers;
        layer < first
    };
    stages.iter().position(has).expect("a layer of the model") as u32
}

/// The stages that hold a tensor, by its name.
fn stages_of(stages: &[u32], name: &str, tied: bool) -> Vec<u32> {
    let last = stages.len() as u32 - 1;
    if let Some(rest) = name.strip_prefix("model.layers.") {
        let layer = rest.split('.').next().and_then(|layer| layer.parse().ok());
        return vec![stage_of(stages, layer.expect("a number"))];
    }
    match name {
        "model.embed_tokens.weight" if tied && last > 0 => vec![0, last],
        "model.embed_tokens.weight" => vec![0],
        "model.norm.weight" | "lm_head.weight" => vec![last],
        other => panic!("{other} is no tensor of a model"),
    }
}

/// Whether ranges follow each other from 0 to `end`, each with something in it, and the places in
/// between are on chunks.
fn tiles(ranges: &[Range<u64>], end: u64) -> bool {
    let inner = ranges.iter().map(|range| range.end).take(ranges.len() - 1);
    ranges[0].start == 0
        && ranges.last().is_some_and(|last| last.end == end)
        && ranges.windows(2).all(|pair| pair[0].end == pair[1].start)
        && ranges.iter().all(|range| range.start < range.end)
        && inner.into_iter().all(|cut| cut % 64 == 0)
}

proptest! {
    #[test]
    fn a_stage_holds_the_tensors_of_its_layers_and_ends_and_no_others(
        model in any_model(),
        mask in any::<u32>(),
    ) {
        let tied = model.config().tie_word_embeddings;
        let layers = divided(model.config().num_hidden_layers, mask);
        let cut = Sharded::new(&model, &sharding(1, &layers)).expect("a sharding");
        let mut first = 0;
        for (stage, count) in (0..).zip(&layers) {
            prop_assert_eq!(cut.layers(stage), first..first + count);
            first += count;
            let held: Vec<String> =
                cut.slices(stage, 0).iter().map(|slice| cut.local(slice).name).collect();
            let names = model.tensors().into_iter().map(|tensor| tensor.name);
            let own = names.filter(|name| stages_of(&layers, name, tied).contains(&stage));
            // In the model's order, which is that of flat buffers.
            prop_assert_eq!(held, own.collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_devices_of_a_stage_share_a_tensor_on_chunks_without_gap_or_overlap(
        model in any_model(),
        tensor in 1_u32..5,
        mask in any::<u32>(),
    ) {
        let layers = divided(model.config().num_hidden_layers, mask);
        let Ok(cut) = Sharded::new(&model, &sharding(tensor, &layers)) else { return Ok(()) };
        for stage in 0..cut.stages() {
            let all: Vec<Vec<Slice>> = (0..tensor).map(|part| cut.slices(stage, part)).collect();
            for at in 0..all[0].len() {
                let parts: Vec<&Slice> = all.iter().map(|slices| &slices[at]).collect();
                let whole = cut.whole(parts[0].tensor);
                prop_assert!(parts.iter().all(|part| part.tensor == whole.tensor));
                let rows: Vec<_> = parts.iter().map(|part| part.rows.clone()).collect();
                let columns: Vec<_> = parts.iter().map(|part| part.columns.clone()).collect();
                let uncut =
                    |ranges: &[Range<u64>], all: &Range<u64>| ranges.iter().all(|it| it == all);
                let by_rows = tiles(&rows, whole.rows.end) && uncut(&columns, &whole.columns);
                let by_columns = tiles(&columns, whole.columns.end) && uncut(&rows, &whole.rows);
                let same = uncut(&rows, &whole.rows) && uncut(&columns, &whole.columns);
                let name = cut.local(parts[0]).name;
                // As Megatron-LM has it: what reads the residual stream is cut by rows, what writes
                // to it by columns, norms are everybody's.
                let as_it_should = if name.contains("norm") {
                    same
                } else if name.contains("o_proj") || name.contains("down_proj") {
                    by_columns
                } else {
                    by_rows
                };
                prop_assert!(as_it_should, "{name} on {tensor}: {parts:?}");
            }
        }
    }

    #[test]
    fn of_all_that_hold_a_value_the_first_stage_and_device_counts(
        model in any_model(),
        tensor in 1_u32..5,
        mask in any::<u32>(),
        [which, row, column] in prop::array::uniform3(any::<prop::sample::Index>()),
    ) {
        let layers = divided(model.config().num_hidden_layers, mask);
        let Ok(cut) = Sharded::new(&model, &sharding(tensor, &layers)) else { return Ok(()) };
        let which = which.index(cut.tensors().len());
        let whole = cut.whole(which);
        let row = row.index(whole.rows.end as usize) as u64;
        let column = column.index(whole.columns.end as usize) as u64;
        let mut holders = Vec::new();
        for (stage, part) in (0..cut.stages()).flat_map(|s| (0..tensor).map(move |t| (s, t))) {
            for slice in cut.slices(stage, part) {
                let inside = slice.rows.contains(&row) && slice.columns.contains(&column);
                if slice.tensor == which && inside {
                    holders.push((stage, part, cut.counts(&slice, stage, part)));
                }
            }
        }
        let (stage, part, _) = holders[0];
        prop_assert_eq!(cut.holder(which, row, column), (stage, part));
        let counting: Vec<bool> = holders.iter().map(|(.., counts)| *counts).collect();
        prop_assert_eq!(counting.iter().filter(|counts| **counts).count(), 1, "{:?}", holders);
        prop_assert!(counting[0], "{holders:?}");
    }

    #[test]
    fn a_size_is_accepted_where_every_part_is_whole_chunks_and_only_there(
        model in any_model(),
        tensor in 1_u32..9,
    ) {
        let config = model.config();
        let (query, key_value) = (config.num_attention_heads, config.num_key_value_heads);
        let head = config.head_dim.expect("filled in");
        let chunks = |width: u32| {
            width.is_multiple_of(tensor) && (width / tensor).is_multiple_of(64)
        };
        let heads = |count: u32| count.is_multiple_of(tensor) && chunks(count * head);
        let rows = config.vocab_size.div_ceil(64) >= tensor;
        let fits = heads(query) && heads(key_value) && chunks(config.intermediate_size) && rows;
        let cut = Sharded::new(&model, &sharding(tensor, &[config.num_hidden_layers]));
        prop_assert_eq!(cut.is_ok(), fits || tensor == 1, "{:?}", cut.err());
        prop_assert_eq!(Parts::new(&model, tensor).is_ok(), fits || tensor == 1);
    }

    #[test]
    fn what_a_refusal_names_is_what_does_not_divide(model in any_model(), tensor in 2_u32..9) {
        let config = model.config();
        let Err(error) = Parts::new(&model, tensor) else { return Ok(()) };
        let value_of = |key: &str| match key {
            "num_attention_heads" => config.num_attention_heads,
            "num_key_value_heads" => config.num_key_value_heads,
            "intermediate_size" => config.intermediate_size,
            other => panic!("{other} is not shared"),
        };
        match error {
            ShardError::DoesNotDivide { key, value, tensor: asked } => {
                prop_assert_eq!((u64::from(value_of(key)), asked), (value, tensor));
                prop_assert!(!value.is_multiple_of(tensor.into()));
            }
            ShardError::InsideChunk { part, tensor: asked, .. } => {
                prop_assert!(asked == tensor && !part.is_multiple_of(64));
            }
            ShardError::Vocabulary { vocabulary, tensor: asked } => {
                prop_assert_eq!((vocabulary, asked), (config.vocab_size, tensor));
                prop_assert!(vocabulary <= 64 * (tensor - 1));
            }
            other => return Err(TestCaseError::fail(format!("{other} of a whole model"))),
        }
    }

    #[test]
    fn the_figures_of_a_part_are_those_of_its_slices_and_the_heaviest_has_most(
        model in any_model(),
        tensor in 1_u32..5,
        mask in any::<u32>(),
    ) {
        let Ok(parts) = Parts::new(&model, tensor) else { return Ok(()) };
        let layers = divided(model.config().num_hidden_layers, mask);
        let sharding = sharding(tensor, &layers);
        let cut = Sharded::new(&model, &sharding).expect("as its parts");
        for stage in 0..cut.stages() {
            let held = |part: u32| {
                let slices = cut.slices(stage, part);
                slices.iter().map(|slice| cut.local(slice).numel()).sum::<u64>()
            };
            let figures: Vec<_> =
                (0..tensor).map(|part| parts.part(&sharding, stage, part)).collect();
            for (part, figures) in (0..).zip(&figures) {
                prop_assert_eq!(figures.parameters, held(part));
                prop_assert_eq!(figures.layers, layers[stage as usize]);
                let ends = u32::from(stage > 0) + u32::from(stage + 1 < cut.stages());
                prop_assert_eq!(figures.boundaries(), ends);
            }
            let rows: u64 = figures.iter().map(|part| part.head_rows).sum();
            let last = stage + 1 == cut.stages();
            let vocabulary = u64::from(model.config().vocab_size);
            prop_assert_eq!(rows, if last { vocabulary } else { 0 });
            let most = figures.iter().map(|part| part.parameters).max();
            let heaviest = parts.part(&sharding, stage, parts.heaviest()).parameters;
            prop_assert_eq!(Some(heaviest), most);
        }
    }

    #[test]
    fn positions_are_numbered_once_and_peers_are_neighbours(
        [data, stages, tensor] in prop::array::uniform3(1_u32..6),
    ) {
        let grid = Grid { data, stages, tensor };
        let mut next = 0;
        for (data, stage) in (0..data).flat_map(|d| (0..stages).map(move |s| (d, s))) {
            for tensor in 0..tensor {
                let at = Position { data, stage, tensor };
                prop_assert_eq!((grid.index(at), grid.position(next)), (next, at));
                next += 1;
            }
        }
        prop_assert_eq!(next, grid.size());
    }
}

#[test]
fn a_vocabulary_of_fewer_chunks_than_devices_is_refused() {
    let with = |vocab_size| {
        let config = LlamaConfig { vocab_size, ..model(true).config().clone() };
        Sharded::new(&config.validate().expect("a model"), &sharding(2, &[4]))
    };
    let message = with(64).expect_err("one chunk").to_string();
    assert!(message.starts_with("vocab_size 64 has too few rows for tensor-parallel size 2"));
    // One row more is a second chunk, which the second device has.
    let cut = with(65).expect("two chunks");
    let rows = [0, 1].map(|part| cut.slices(0, part)[0].rows.clone());
    assert_eq!(rows, [0..64, 64..65]);
}

#[test]
fn a_sharding_of_no_stage_or_of_more_layers_than_there_are_is_refused_without_overflow() {
    let refused = |layers: &[u32]| Sharded::new(&model(true), &sharding(1, layers)).err();
    let layers = |stages| Some(ShardError::Layers { stages, layers: 4 });
    assert_eq!(refused(&[]), layers(0));
    assert_eq!(refused(&[u32::MAX, u32::MAX]), layers(2 * u64::from(u32::MAX)));
    assert_eq!(refused(&[0, 4]), Some(ShardError::EmptyStage { stage: 0 }));
    // What lacks a layer is said of the first stage, whatever else is wrong.
    assert_eq!(refused(&[1, 0, 0, u32::MAX]), Some(ShardError::EmptyStage { stage: 1 }));
}
