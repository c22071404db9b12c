//! What tests of several modules begin with.

use proptest::test_runner::Config;
use serde_json::{Value, json};

/// So many random cases, of which nothing is written to the tree.
pub(crate) fn cases(cases: u32) -> Config {
    Config { cases, failure_persistence: None, ..Config::default() }
}

/// What the ranks of an island of two replicas, one on each of two ranks, are told.
pub(crate) fn spec() -> Value {
    let card = json!({
        "product": "cpu", "device": {"kind": "cpu", "threads": 1, "speed": 1.0},
        "memoryBytes": 1 << 30, "plannedBytes": 1 << 20
    });
    json!({
        "run": {
            "name": "tiny", "seed": 5,
            "model": {
                "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
                "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8,
                "vocab_size": 300, "max_position_embeddings": 32, "rms_norm_eps": 1e-5,
                "rope_theta": 10000.0, "tie_word_embeddings": true, "initializer_range": 0.02
            },
            "data": "texts", "sequenceLength": 16, "tokens": 1000, "referenceSteps": 3,
            "totalRounds": 3,
            "optimizer": {
                "learningRate": 0.0003, "minLearningRateRatio": 0.1, "warmupSteps": 10,
                "weightDecay": 0.1, "beta1": 0.9, "beta2": 0.95, "epsilon": 1e-8, "gradClip": 1.0
            },
            "sparse": {
                "topK": 64, "valueBits": 2, "errorDecay": 0.95, "outerLearningRate": 0.5,
                "rule": "counted", "retention": 0.5
            },
            "checkpointEveryRounds": 10, "evaluation": {"everyRounds": 5, "sequences": 8}
        },
        "island": {
            "name": "lab", "index": 0, "epoch": 7, "innerSteps": 3, "tokensPerSecond": 123.5,
            "sharding": {"tensor": 1, "stages": [{"layers": 1, "recompute": false}]},
            "batches": [
                {"microBatches": 2, "microBatchSize": 3}, {"microBatches": 1, "microBatchSize": 4}
            ],
            "ranks": [{"devices": [card]}, {"devices": [card]}]
        },
        "coordinator": "http://127.0.0.1:1", "listen": "127.0.0.1:0",
        "collectiveListen": "127.0.0.1:0", "checkpointDir": "checkpoints"
    })
}
