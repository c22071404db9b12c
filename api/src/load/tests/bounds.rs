//! The bounds of every field that has some: what lies just within is taken, what lies just beyond
//! is refused where it stands. The figures are written down here once more.

use serde_json::{Value, json};

use super::*;

/// RIGHT with a value in one of its documents: 0 is the run, 1 the island.
fn with(document: usize, path: &str, value: Value) -> Result<Manifests, Problems> {
    let documents = RIGHT.split("---\n").map(|text| serde_yaml::from_str(text).expect(text));
    let mut documents: Vec<Value> = documents.collect();
    let mut place = &mut documents[document]["spec"];
    for part in path.split('.') {
        place = match part.parse::<usize>() {
            Ok(at) => &mut place[at],
            Err(_) => &mut place[part],
        };
    }
    *place = value;
    read(&format!("{}\n{}", documents[0], documents[1]))
}

/// What is said of the field at a path; items are numbers in it.
fn said(document: usize, path: &str, value: Value) -> Vec<String> {
    let shown = path.split('.').fold("spec".to_owned(), |path, part| match part.parse::<usize>() {
        Ok(at) => format!("{path}[{at}]"),
        Err(_) => format!("{path}.{part}"),
    });
    let problems = with(document, path, value).err().map(|problems| problems.0);
    let own = problems.into_iter().flatten().filter(|problem| problem.path == shown);
    own.map(|problem| problem.message).collect()
}

const RUN: usize = 0;
const ISLAND: usize = 1;

#[test]
fn whole_numbers_are_taken_within_their_bounds_and_refused_beyond() {
    let table = [
        (RUN, "tokens", 1, i64::MAX),
        (RUN, "seed", 0, i64::MAX),
        (RUN, "batch.sequences", 1, 65_536),
        // As long as the model's positions.
        (RUN, "batch.sequenceLength", 1, 2048),
        (RUN, "optimizer.warmupSteps", 0, 100_000_000),
        (RUN, "sparseLoCo.innerSteps", 1, 100_000),
        (RUN, "sparseLoCo.chunk", 4096, 4096),
        (RUN, "sparseLoCo.topK", 1, 4096),
        (RUN, "sparseLoCo.valueBits", 1, 2),
        (RUN, "sparseLoCo.overlap", 0, 0),
        (RUN, "evaluation.everyRounds", 1, 1_000_000),
        (RUN, "evaluation.sequences", 1, 1_000_000),
        (RUN, "checkpoint.everyRounds", 1, 1_000_000),
        (ISLAND, "devices.0.count", 1, 1024),
        (ISLAND, "parallelism.tensor", 1, 64),
        (ISLAND, "parallelism.pipeline", 1, 256),
        (ISLAND, "parallelism.data", 1, 1024),
        (ISLAND, "pipeline.compression.rank", 1, 1_048_576),
    ];
    for (document, path, low, high) in table {
        for right in [low, high] {
            assert_eq!(said(document, path, json!(right)), [""; 0], "{path}: {right}");
        }
        let beyond = [i128::from(low) - 1, i128::from(high) + 1, -(1 << 63), (1 << 64) - 1];
        for wrong in beyond {
            let number: Value = serde_json::from_str(&wrong.to_string()).expect("a number");
            let found = said(document, path, number);
            assert_eq!(found.len(), 1, "{path}: {wrong}: {found:?}");
            assert!(found[0].contains(&wrong.to_string()), "{path}: {found:?}");
        }
        for odd in [json!("many"), json!([1]), json!(0.5), json!(true)] {
            assert_eq!(said(document, path, odd.clone()).len(), 1, "{path}: {odd}");
        }
    }
}

#[test]
fn the_sizes_of_a_model_have_bounds_of_their_own() {
    let wide = 1_048_576;
    let table = [
        ("hidden_size", wide),
        ("intermediate_size", wide),
        ("num_hidden_layers", 4096),
        ("num_attention_heads", wide),
        ("num_key_value_heads", wide),
        ("head_dim", 4096),
        ("vocab_size", 16_777_216),
        ("max_position_embeddings", 16_777_216),
    ];
    let config = json!({
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": 300, "max_position_embeddings": 2048,
    });
    with(RUN, "model", json!({ "config": config.clone() })).expect("a right model");
    for (name, high) in table {
        for wrong in [json!(0), json!(-1), json!(high + 1), json!("64k"), json!(null)] {
            let mut config = config.clone();
            config[name] = wrong.clone();
            let Err(problems) = with(RUN, "model", json!({ "config": config })) else {
                // What may be absent is as good as absent where it is empty.
                let absent = ["num_key_value_heads", "head_dim", "max_position_embeddings"];
                assert!(wrong.is_null() && absent.contains(&name), "{name}: {wrong}");
                continue;
            };
            let path = format!("spec.model.config.{name}");
            assert!(problems.0.iter().any(|it| it.path == path), "{name}: {wrong}: {problems}");
        }
    }
    for name in ["rms_norm_eps", "rope_theta", "initializer_range"] {
        for (text, right) in [("1e-5", true), ("0", false), ("-1", false), ("1e39", false)] {
            let mut config = config.clone();
            config[name] = json!(text);
            let taken = with(RUN, "model", json!({ "config": config })).is_ok();
            assert_eq!(taken, right, "{name}: {text}");
        }
    }
}

#[test]
fn decimals_are_taken_within_their_bounds_and_refused_beyond() {
    // The last of what is refused rounds to a bound in f32, which is computed with.
    let positive = (&["1e-45", "0.5", "1e38"][..], &["0", "-1", "1e39", "1e-46"][..]);
    let share = (&["0", "-0", "1", "0.5"][..], &["-0.1", "1.0001", "2"][..]);
    let table = [
        (RUN, "optimizer.learningRate", positive),
        (RUN, "optimizer.epsilon", positive),
        (RUN, "optimizer.gradClip", positive),
        (RUN, "optimizer.minLearningRateRatio", share),
        (RUN, "optimizer.weightDecay", (&["0", "1e38"], &["-1e-9", "1e39"])),
        (RUN, "optimizer.beta1", (&["0", "0.999"], &["1", "-0.1", "0.99999999999"])),
        (RUN, "optimizer.beta2", (&["0", "0.9999"], &["1", "1.5", "0.99999999999"])),
        (RUN, "sparseLoCo.errorDecay", (&["1", "1e-30"], &["0", "-1", "1.1", "1e-60"])),
        (RUN, "sparseLoCo.outerLearningRate", positive),
        (RUN, "sparseLoCo.retention", share),
        (ISLAND, "devices.0.tflops", (&["0.001", "100000"], &["0", "-1", "100001", "1e-60"])),
        (ISLAND, "devices.0.costPerHour", positive),
    ];
    for (document, path, (right, wrong)) in table {
        for text in right {
            assert_eq!(said(document, path, json!(text)), [""; 0], "{path}: {text}");
        }
        for text in wrong {
            let found = said(document, path, json!(text));
            assert_eq!(found.len(), 1, "{path}: {text}: {found:?}");
            assert!(found[0].starts_with(&format!("{text} has to be ")), "{path}: {found:?}");
        }
        for odd in ["", "NaN", "inf", "one", "1,5", " 1"] {
            assert_eq!(said(document, path, json!(odd)).len(), 1, "{path}: {odd:?}");
        }
    }
}

#[test]
fn texts_of_a_unit_are_taken_within_their_bounds_and_refused_beyond() {
    let duration = (&["1ms", "1h30m", "10m"][..], &["1d", "10", "-1s", "", "1.5h"][..]);
    let memory = (&["1Mi", "24Gi", "1.5Ti"][..], &["24GB", "1023", "-1Gi", "8192Pi", ""][..]);
    let link = (&["1k", "110M", "400G"][..], &["999", "0", "1Mbit", "-1M"][..]);
    let table = [
        (RUN, "rounds.grace", duration),
        (RUN, "rounds.deadline", (&["30s", "25m", "8784000h"], &["29s", "0s", "1w", "8784001h"])),
        (RUN, "rounds.quorum", (&["1%", "100%"], &["0%", "101%", "+60%", "60", "0.6", "60.5%"])),
        (RUN, "coordinator.storage", memory),
        (ISLAND, "minMemory", memory),
        (ISLAND, "devices.0.memory", (&["1Mi"], &["0", "0Gi", "24", "24gb"])),
        (ISLAND, "uplink.up", link),
        (ISLAND, "uplink.down", link),
        (ISLAND, "idle.cooldown", duration),
        (ISLAND, "startDeadline", duration),
    ];
    for (document, path, (right, wrong)) in table {
        for text in right {
            assert_eq!(said(document, path, json!(text)), [""; 0], "{path}: {text}");
        }
        for text in wrong {
            let found = said(document, path, json!(text));
            assert_eq!(found.len(), 1, "{path}: {text:?}: {found:?}");
        }
        // Longer than any is meant to be.
        let long = format!("{}1s", "0".repeat(40));
        assert_eq!(said(document, path, json!(long)).len(), 1, "{path}");
    }
}

#[test]
fn lists_and_texts_have_as_much_as_they_may_and_no_more() {
    let devices = |count: usize| -> Value {
        (0..count).map(|at| json!({"product": format!("NVIDIA-{at}"), "memory": "24Gi"})).collect()
    };
    let tolerations = |count| json!(vec![json!({"operator": "Exists"}); count]);
    let requirements = |count| json!(vec![json!({"key": "a", "operator": "Exists"}); count]);
    let values = |count: usize| json!(vec!["a"; count]);
    let text = |length| json!("x".repeat(length));
    type Of<'a> = &'a dyn Fn(usize) -> Value;
    let requirement = json!([{"key": "a", "operator": "In", "values": ["a"]}]);
    with(ISLAND, "nodeSelector.matchExpressions", requirement.clone()).expect("a requirement");
    let table: [(usize, &str, usize, usize, Of<'_>); 10] = [
        (ISLAND, "devices", 1, 32, &devices),
        (ISLAND, "tolerations", 0, 32, &tolerations),
        (ISLAND, "nodeSelector.matchExpressions", 0, 32, &requirements),
        (ISLAND, "devices.0.product", 1, 63, &text),
        (ISLAND, "runRef.name", 1, 63, &text),
        (RUN, "data.path", 1, 4096, &text),
        (RUN, "data.tokenizer", 1, 4096, &text),
        (RUN, "checkpoint.path", 1, 4096, &text),
        (RUN, "managedBy", 1, 253, &text),
        (RUN, "coordinator.storageClassName", 0, 253, &text),
    ];
    for (document, path, least, most, of) in table {
        for size in [least, most] {
            // A run of that name is not there.
            let found = said(document, path, of(size));
            let found: Vec<_> = found.iter().filter(|it| !it.contains("no TrainingRun")).collect();
            assert!(found.is_empty(), "{path}: {size}: {found:?}");
        }
        let found = said(document, path, of(most + 1));
        assert_eq!(found.len(), 1, "{path}: {found:?}");
        let bound = format!("has {} ", most + 1);
        assert!(found[0].starts_with(&bound) && found[0].contains("at most"), "{found:?}");
        if least > 0 {
            let found = said(document, path, of(0));
            assert!(found.len() == 1 && found[0].contains("at least 1 needed"), "{found:?}");
        }
    }
    for (count, right) in [(1024, true), (1025, false)] {
        let requirement = json!([{"key": "a", "operator": "NotIn", "values": values(count)}]);
        let taken = with(ISLAND, "nodeSelector.matchExpressions", requirement).is_ok();
        assert_eq!(taken, right, "{count}");
    }
}

#[test]
fn a_letter_counts_as_one_whatever_its_bytes() {
    assert_eq!(said(RUN, "managedBy", json!("\u{e9}".repeat(253))), [""; 0]);
    assert_eq!(said(RUN, "managedBy", json!("\u{e9}".repeat(254))).len(), 1);
}

#[test]
fn a_count_lies_between_its_own_bounds() {
    let table = [
        (json!({"min": 0, "max": 1}), None),
        (json!({"min": 1024, "max": 1024}), None),
        (json!({"max": 3}), None),
        (json!({"min": null, "max": 3}), None),
        (json!({"min": 0, "max": 0}), Some("0 is not between 1 and 1024")),
        (json!({"min": 0, "max": 1025}), Some("1025 is not between 1 and 1024")),
        (json!({"min": 3, "max": 2}), Some("min 3 is above max 2: write `{min: 2, max: 3}`")),
        (json!({"min": 4_294_967_295_u64, "max": 2}), Some("min 4294967295 is above max 2")),
        (json!(-1), Some("it has to be a number, or {min: …, max: …}, not -1")),
        (json!(4_294_967_296_u64), Some("it has to be a number, or {min: …, max: …}, not 42949")),
        (json!([1, 2, 3]), Some("it has to be a number, or {min: …, max: …}, not a list")),
        (json!("8-2"), Some("it has to be a number, or {min: …, max: …}, not \"8-2\"")),
    ];
    for (value, wrong) in table {
        let found = said(ISLAND, "devices.0.count", value.clone());
        match wrong {
            None => assert_eq!(found, [""; 0], "{value}"),
            Some(wrong) => {
                assert!(found.len() == 1 && found[0].starts_with(wrong), "{value}: {found:?}");
            }
        }
    }
    for (bound, wrong) in [("min", json!("x")), ("max", json!(-1)), ("max", json!([]))] {
        let mut count = json!({"min": 0, "max": 4});
        count[bound] = wrong;
        let problems = with(ISLAND, "devices.0.count", count).expect_err(bound).0;
        assert_eq!(problems[0].path, format!("spec.devices[0].count.{bound}"));
    }
}
