//! The specification of ranks: the one file that `heteroloco-worker --spec` reads, the same for all
//! ranks of an island, and the environment of their processes. `heteroloco up` and the operator
//! write it; it leaves the worker nothing to choose.

use std::path::PathBuf;

use plan::spec::{IslandSpec, RunSpec};
use serde::{Deserialize, Serialize};

/// Variables that every rank's process needs in its environment: the allocator gives memory back at
/// once, which plans count on.
pub const ENVIRONMENT: [(&str, &str); 1] = [("MIMALLOC_PURGE_DELAY", "0")];

/// One epoch of one island of one run. Which of its ranks a process is, `--rank` says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct WorkerSpec {
    /// The specification that all islands of the run share.
    pub run: RunSpec,
    /// The plan that all ranks of the island share.
    pub island: IslandSpec,
    /// `http://host:port` of the coordinator.
    pub coordinator: String,
    /// `host:port` on which each rank serves other islands; port 0 takes a free one.
    pub listen: String,
    /// `host:port` on which each rank serves the island's others; port 0 takes a free one.
    pub collective_listen: String,
    /// `host:port` of `/metrics`; absent serves none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<String>,
    /// Folder for this island's checkpoints.
    pub checkpoint_dir: PathBuf,
}

#[cfg(test)]
mod tests {
    use plan::spec::{DeviceSpec, Precision};

    use super::*;

    const FILE: &str = r#"{
        "run": {
            "name": "mini", "seed": 18446744073709551615,
            "model": {
                "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
                "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32,
                "vocab_size": 320, "max_position_embeddings": 64, "rms_norm_eps": 1e-5,
                "rope_theta": 10000.0, "tie_word_embeddings": true, "initializer_range": 0.02
            },
            "data": "data", "sequenceLength": 64, "tokens": 1000, "referenceSteps": 30,
            "totalRounds": 3,
            "optimizer": {
                "learningRate": 0.0003, "minLearningRateRatio": 0.1, "warmupSteps": 10,
                "weightDecay": 0.1, "beta1": 0.9, "beta2": 0.95, "epsilon": 1e-8, "gradClip": 1.0
            },
            "schedule": {"warmupTokens": 640, "anchor": {"tokens": 700, "ratio": 0.1234567890123}},
            "sparse": {
                "topK": 64, "valueBits": 2, "errorDecay": 0.95, "outerLearningRate": 1.0,
                "rule": "counted", "retention": 0.5
            },
            "checkpointEveryRounds": 10, "evaluation": {"everyRounds": 5, "sequences": 8}
        },
        "island": {
            "name": "lab", "index": 1, "epoch": 2, "innerSteps": 7,
            "tokensPerSecond": 1234.5,
            "sharding": {"tensor": 1, "stages": [
                {"layers": 1, "recompute": true}, {"layers": 0, "recompute": false}
            ], "compression": {"rank": 8}},
            "batches": [{"microBatches": 2, "microBatchSize": 4}],
            "ranks": [
                {"devices": [{"product": "NVIDIA-GeForce-RTX-4090",
                 "memoryBytes": 25757220864, "plannedBytes": 1,
                 "device": {"kind": "cpu", "threads": 1, "speed": 0.1669530065689742}}]},
                {"devices": [{"product": "NVIDIA-H200", "memoryBytes": 2, "plannedBytes": 1,
                 "device": {"kind": "cuda", "index": 3, "precision": "bf16"}}]}
            ]
        },
        "coordinator": "http://127.0.0.1:1", "listen": "127.0.0.1:0",
        "collectiveListen": "127.0.0.1:0", "checkpointDir": "checkpoints/lab"
    }"#;

    #[test]
    fn a_spec_survives_its_file_unchanged() {
        let spec: WorkerSpec = serde_json::from_str(FILE).expect("a spec");
        let again = serde_json::to_string(&spec).expect("plain data");
        assert_eq!(serde_json::from_str::<WorkerSpec>(&again).expect("a spec"), spec);
        let cuda = DeviceSpec::Cuda { index: 3, precision: Precision::Bf16 };
        assert_eq!(spec.island.ranks[1].devices[0].device, cuda);
        assert_eq!(spec.run.seed, u64::MAX);
    }

    #[test]
    fn a_field_that_nothing_knows_is_refused() {
        let text = FILE.replace("\"listen\"", "\"lisetn\"");
        let error = serde_json::from_str::<WorkerSpec>(&text).expect_err("unknown field");
        assert!(error.to_string().contains("lisetn"), "{error}");
    }
}
