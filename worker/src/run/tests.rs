//! What a rank makes of its spec before it meets anybody.

use serde_json::{Value, json};

use super::*;
use crate::testing::spec;

fn read(spec: Value) -> WorkerSpec {
    serde_json::from_value(spec).unwrap()
}

/// The spec with one value changed.
fn with(path: &str, value: Value) -> WorkerSpec {
    let mut spec = spec();
    *spec.pointer_mut(path).unwrap() = value;
    read(spec)
}

#[test]
fn a_rank_says_to_the_run_what_its_plan_says() {
    let config = member_config(&read(spec()), 1).unwrap();
    assert_eq!((&config.run[..], &config.island[..], config.epoch), ("tiny", "lab", 7));
    assert_eq!((config.rank, config.world_size, config.inner_steps), (1, 2, 3));
    // Three steps of 2 × 3 and 1 × 4 sequences.
    assert_eq!((config.round_samples, config.tokens_per_second), (30, 123.5));
    assert_eq!(config.outer, OuterParams { rule: outer::Rule::Counted, alpha: 0.5 });
    let codec = CodecParams::new(64, ValueBits::Two, 0.95, 0.5).unwrap();
    assert_eq!(config.codec, codec);
    let paper = member_config(&with("/run/sparse/rule", json!("paper")), 0).unwrap();
    assert_eq!(paper.outer.rule, outer::Rule::Paper);
    let one = member_config(&with("/run/sparse/valueBits", json!(1)), 0).unwrap();
    assert_eq!(one.codec, CodecParams::new(64, ValueBits::One, 0.95, 0.5).unwrap());
}

#[test]
fn ranks_of_one_plan_have_one_hash_and_those_of_another_have_another() {
    let own = member_config(&read(spec()), 0).unwrap().plan_hash;
    assert_eq!(member_config(&read(spec()), 1).unwrap().plan_hash, own);
    // What only this rank is told is no part of the plan.
    for path in ["/listen", "/collectiveListen", "/coordinator", "/checkpointDir"] {
        let told = with(path, json!("127.0.0.2:9"));
        assert_eq!(member_config(&told, 0).unwrap().plan_hash, own, "{path}");
    }
    for (path, value) in [
        ("/run/seed", json!(6)),
        ("/run/optimizer/learningRate", json!(0.0004)),
        ("/run/optimizer/weightDecay", json!(0.2)),
        ("/run/sequenceLength", json!(8)),
        ("/run/sparse/topK", json!(65)),
        ("/island/epoch", json!(8)),
        ("/island/innerSteps", json!(4)),
        ("/island/batches/1/microBatchSize", json!(5)),
        ("/island/sharding/stages/0/recompute", json!(true)),
        ("/island/ranks/1/devices/0/device/threads", json!(2)),
    ] {
        let other = member_config(&with(path, value), 0).unwrap().plan_hash;
        assert_ne!(other, own, "{path}");
    }
}

#[test]
fn quantisers_and_codecs_that_do_not_exist_are_refused() {
    for bits in [0, 3, 8, 255] {
        let error = member_config(&with("/run/sparse/valueBits", json!(bits)), 0).unwrap_err();
        assert!(matches!(error, RunError::ValueBits { bits: told } if told == bits), "{error}");
        assert!(error.to_string().ends_with("does not exist; use 1 or 2"), "{error}");
    }
    for (path, value) in [
        ("/run/sparse/topK", json!(0)),
        ("/run/sparse/topK", json!(1 << 20)),
        ("/run/sparse/errorDecay", json!(1.5)),
        ("/run/sparse/retention", json!(-0.5)),
    ] {
        let error = member_config(&with(path, value.clone()), 0).unwrap_err();
        assert!(matches!(error, RunError::Codec(_)), "{path} {value}: {error}");
    }
}

#[test]
fn samples_of_a_round_are_counted_without_running_over() {
    let samples = |steps: u32, count: u32, size: u32| {
        let mut island = read(spec()).island;
        island.inner_steps = steps;
        island.batches = vec![BatchSpec { micro_batches: count, micro_batch_size: size }];
        round_samples(&island)
    };
    assert_eq!(samples(0, 1, 1), 0);
    assert_eq!(samples(3, 2, 4), 24);
    assert_eq!(samples(1, 1 << 20, 1 << 12), 1 << 32, "more than 32 bits hold");
}

#[test]
fn a_rank_that_the_plan_does_not_have_and_a_sequence_that_the_model_does_not_see_are_refused() {
    let spec = read(spec());
    for rank in [0, 1] {
        assert_eq!(rank_spec(&spec, rank).unwrap().devices.len(), 1);
    }
    for rank in [2, u32::MAX] {
        let error = rank_spec(&spec, rank).unwrap_err();
        assert!(matches!(error, RunError::NoSuchRank { ranks: 2, .. }), "{error}");
    }
    let longer = with("/run/sequenceLength", json!(33));
    let error = open_text(&longer, 0).unwrap_err();
    let RunError::SequenceTooLong { sequence: 33, positions: 32 } = error else {
        panic!("{error}")
    };
}
