//! What plans look like as JSON: programs of other versions, and people, read and write it.

use super::*;

const ISLAND: &str = r#"{
    "name": "lab", "index": 1, "epoch": 3, "innerSteps": 30, "tokensPerSecond": 1234.5,
    "sharding": {
        "tensor": 2,
        "stages": [{"layers": 5, "recompute": true}, {"layers": 1, "recompute": false}],
        "compression": {"rank": 64}
    },
    "batches": [{"microBatches": 4, "microBatchSize": 2}],
    "ranks": [
        {"node": "a", "devices": [
            {"product": "Tesla-T4", "memoryBytes": 16106127360, "plannedBytes": 9000000000,
             "device": {"kind": "cuda", "index": 1, "precision": "f32"}}
        ]},
        {"devices": [
            {"product": "cpu", "memoryBytes": 4294967296, "plannedBytes": 1000000,
             "device": {"kind": "cpu", "threads": 2, "speed": 0.25}}
        ]}
    ]
}"#;

fn island(text: &str) -> Result<IslandSpec, String> {
    serde_json::from_str(text).map_err(|error| error.to_string())
}

#[test]
fn a_plan_is_read_as_it_was_written() {
    let read = island(ISLAND).expect("a plan");
    assert_eq!((read.name.as_str(), read.index, read.epoch, read.inner_steps), ("lab", 1, 3, 30));
    assert_eq!(read.sharding.compression, Some(PipelineCompression { rank: 64 }));
    assert_eq!(read.batches, [BatchSpec { micro_batches: 4, micro_batch_size: 2 }]);
    let devices: Vec<_> = read.ranks.iter().map(|rank| rank.devices[0].device).collect();
    let cuda = DeviceSpec::Cuda { index: 1, precision: Precision::F32 };
    assert_eq!(devices, [cuda, DeviceSpec::Cpu { threads: 2, speed: 0.25 }]);
    assert!(devices.iter().all(|device| device.precision() == Precision::F32));
    assert_eq!((read.ranks[0].node.as_deref(), read.ranks[1].node.as_deref()), (Some("a"), None));
    let text = serde_json::to_string(&read).expect("no map keys");
    assert_eq!(island(&text), Ok(read));
    // A rank of the only node says nothing of it.
    assert_eq!(text.matches("\"node\"").count(), 1, "{text}");
}

#[test]
fn a_plan_that_says_more_or_less_than_is_known_is_refused_by_name() {
    let table = [
        (r#""epoch": 3,"#, "", "missing field `epoch`"),
        (r#""epoch": 3,"#, r#""epoch": 3, "era": 1,"#, "unknown field `era`"),
        (r#""tensor": 2,"#, r#""tensor": -2,"#, "invalid value"),
        (r#""tensor": 2,"#, r#""tensor": 2, "sequence": 2,"#, "unknown field `sequence`"),
        (r#""layers": 1,"#, r#""layers": 4294967296,"#, "invalid value"),
        (r#""recompute": true"#, r#""recompute": "yes""#, "invalid type"),
        (r#"{"rank": 64}"#, r#"{"rank": 64, "basis": 1}"#, "unknown field `basis`"),
        (r#""microBatchSize": 2"#, r#""micro_batch_size": 2"#, "unknown field `micro_batch_size`"),
        (r#""kind": "cuda""#, r#""kind": "rocm""#, "unknown variant `rocm`"),
        (r#""precision": "f32""#, r#""precision": "f16""#, "unknown variant `f16`"),
        (r#""precision": "f32""#, r#""precision": "F32""#, "unknown variant `F32`"),
        (r#""kind": "cpu", "threads": 2,"#, r#""kind": "cpu","#, "missing field `threads`"),
        (r#""memoryBytes": 4294967296"#, r#""memoryBytes": 4.5"#, "invalid type"),
    ];
    for (right, wrong, expected) in table {
        let text = ISLAND.replacen(right, wrong, 1);
        assert_ne!(text, ISLAND, "{right} is in the plan");
        let error = island(&text).expect_err(wrong);
        assert!(error.contains(expected), "{wrong}: {error}");
    }
}

#[test]
fn a_run_keeps_every_figure_and_one_of_before_schedules_has_the_plain_one() {
    let run = tests::run();
    assert_eq!((run.seed, run.schedule.warmup_tokens), (u64::MAX, 640));
    assert_eq!(run.schedule.anchor, Some(Anchor { tokens: 700, ratio: 0.123_456_789_012_3 }));
    assert_eq!((run.sparse.rule, run.from.as_deref()), (Rule::Counted, None));
    let value = serde_json::to_value(&run).expect("no map keys");
    assert_eq!(serde_json::from_value::<RunSpec>(value.clone()).expect("a run"), run);
    assert!(value.get("from").is_none(), "what is absent is not written");
    let mut older = value.clone();
    older.as_object_mut().expect("an object").remove("schedule");
    let older: RunSpec = serde_json::from_value(older).expect("a run");
    assert_eq!(older.schedule, ScheduleSpec { warmup_tokens: 0, anchor: None });
    for (at, wrong) in [("sparse", "ruling"), ("optimizer", "momentum"), ("evaluation", "split")] {
        let mut more = value.clone();
        more[at][wrong] = 1.into();
        let error = serde_json::from_value::<RunSpec>(more).expect_err(wrong).to_string();
        assert!(error.contains(wrong), "{error}");
    }
    let mut ruled = value;
    ruled["sparse"]["rule"] = "paper".into();
    let ruled: RunSpec = serde_json::from_value(ruled).expect("a run");
    assert_eq!(ruled.sparse.rule, Rule::Paper);
}

#[test]
fn a_value_has_as_many_bytes_as_its_name_says() {
    for (precision, name, bits) in [(Precision::F32, "f32", 32), (Precision::Bf16, "bf16", 16)] {
        assert_eq!(serde_json::to_value(precision).expect("a name"), name);
        assert_eq!(8 * precision.bytes(), bits);
    }
}
