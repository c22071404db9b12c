//! Tests of manifests as users write them, right and wrong.

mod advice;
mod bounds;
mod envelope;
mod files;
mod islands;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use plan::request::{Execution, InnerSteps, Parallelism, PipelineRequest, Tokenizer};
use plan::spec::{OptimizerSpec, PipelineCompression, Rule};
use proptest::prelude::*;

use super::*;

/// A run and an island that are right; tests change a line.
const RIGHT: &str = "\
apiVersion: heteroloco.dev/v1alpha1
kind: TrainingRun
metadata: {name: mini}
spec:
  model: {preset: llama-160m}
  data: {path: /data/corpus, tokenizer: byte}
  tokens: 2000000000
  optimizer: {learningRate: \"3e-4\", warmupSteps: 500, weightDecay: \"0.1\"}
  sparseLoCo: {innerSteps: auto, topK: 64, valueBits: 2, errorDecay: \"0.95\", overlap: 0}
  rounds: {quorum: 60%, grace: 30s, deadline: 25m}
  checkpoint: {path: /checkpoints, everyRounds: 10}
---
apiVersion: heteroloco.dev/v1alpha1
kind: ComputeIsland
metadata: {name: lab-a}
spec:
  runRef: {name: mini}
  devices:
    - product: NVIDIA-H100-80GB-HBM3
      count: 2
    - product: NVIDIA-GeForce-RTX-3090
      count: {min: 0, max: 8}
      memory: 24Gi
  minMemory: 200Gi
  nodeSelector: {matchLabels: {topology.kubernetes.io/zone: lab-a}}
  uplink: {up: 110M, down: 500M}
  idle: {policy: Harvest, cooldown: 10m}
  parallelism: {}
";

fn read(text: &str) -> Result<Manifests, Problems> {
    load(&[Source { name: "run.yaml", text }])
}

fn problems(text: &str) -> Vec<String> {
    read(text).expect_err("something wrong").0.iter().map(ToString::to_string).collect()
}

/// The same without the places in the text.
fn unplaced(text: &str) -> Vec<String> {
    let problems = read(text).expect_err("something wrong").0.into_iter();
    problems.map(|problem| Problem { mark: None, ..problem }.to_string()).collect()
}

#[test]
fn what_the_design_shows_is_read() {
    let manifests = read(RIGHT).expect("right");
    let run = &manifests.run;
    assert_eq!((run.name.as_str(), run.tokens, run.seed), ("mini", 2_000_000_000, 0));
    assert_eq!(run.model.config().hidden_size, 768);
    assert_eq!((run.sequences, run.sequence_length), (64, 2048));
    assert_eq!(run.tokenizer, Tokenizer::Byte);
    assert_eq!(run.inner_steps, InnerSteps::Auto);
    assert_eq!(run.rounds.quorum_percent, 60);
    assert_eq!(run.rounds.deadline, Duration::from_secs(1500));
    assert_eq!((run.sparse.rule, run.sparse.retention), (Rule::Counted, 0.5));
    assert_eq!(run.checkpoint.as_deref(), Some(Path::new("/checkpoints")));

    let island = &manifests.islands[0];
    assert_eq!((island.devices[0].min, island.devices[0].max), (2, 2));
    assert_eq!((island.devices[1].min, island.devices[1].max), (0, 8));
    assert_eq!(island.devices[1].memory, Some(24 << 30));
    assert_eq!(island.min_memory, 200 << 30);
    assert_eq!(
        manifests.notes,
        ["ComputeIsland lab-a: no effect on one machine: nodeSelector, idle"]
    );
}

#[test]
fn a_layout_and_what_its_stages_keep_and_send_are_read() {
    let island = |layout: &str| {
        let manifests = read(&RIGHT.replace("parallelism: {}", layout)).expect("right");
        let island = &manifests.islands[0];
        (island.parallelism, island.pipeline)
    };
    let (layout, pipeline) = island(
        "parallelism: {tensor: 2, pipeline: 3, data: 4}\n  \
         pipeline: {compression: {rank: 64}, recompute: true}",
    );
    assert_eq!((layout.tensor, layout.pipeline, layout.data), (Some(2), Some(3), Some(4)));
    let compression = Some(PipelineCompression { rank: 64 });
    let always = PipelineRequest { compression, ..PipelineRequest::default() };
    assert_eq!(pipeline, PipelineRequest { recompute: Some(true), ..always });
    let mode = |mode| island(&format!("pipeline: {{compression: {{rank: 64, mode: {mode}}}}}")).1;
    assert_eq!(mode("Always"), always);
    assert_eq!(mode("WhereSlow"), PipelineRequest { compress_where_slow: true, ..always });
    assert_eq!(island("pipeline: {}"), (Parallelism::default(), PipelineRequest::default()));
}

#[test]
fn a_model_may_stand_as_hugging_face_writes_it() {
    let config = "{config: {hidden_size: 128, intermediate_size: 256, num_hidden_layers: 2, \
                  num_attention_heads: 4, vocab_size: 320, rope_theta: \"500000\"}}";
    let manifests = read(&RIGHT.replace("{preset: llama-160m}", config)).expect("right");
    let model = manifests.run.model.config();
    assert_eq!((model.num_key_value_heads, model.head_dim), (4, Some(32)));
    assert_eq!((model.rope_theta, model.rms_norm_eps), (500_000.0, 1e-6));
}

#[test]
fn a_model_may_be_one_that_is_in_a_folder() {
    let text = RIGHT.replace("{preset: llama-160m}", "{from: models/small}");
    let sources = [Source { name: "run.yaml", text: &text }];
    let config = r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 96,
        "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 300,
        "max_position_embeddings": 128}"#;
    let read = |path: &Path| {
        assert_eq!(path, Path::new("models/small"));
        Ok(config.to_owned())
    };
    let run = load_with(&sources, &read).expect("right").run;
    assert_eq!(run.from.as_deref(), Some(Path::new("models/small")));
    assert_eq!((run.model.config().hidden_size, run.sequence_length), (64, 128));

    let refused = |read: ReadConfig<'_>| load_with(&sources, read).unwrap_err().to_string();
    let place = "run.yaml:5:11: TrainingRun mini: spec.model.from: ";
    let text = refused(&|_| Err("no such folder".into()));
    assert_eq!(text, format!("{place}no such folder"));
    let text = refused(&|_| Ok(config.replace("llama", "gpt2")));
    assert!(text.starts_with(&format!("{place}config.json has model_type \"gpt2\"")), "{text}");
    let text = refused(&|_| Ok(config.replace("\"vocab_size\": 300", "\"vocab_size\": 0")));
    assert!(text.starts_with(&format!("{place}vocab_size is 0")), "{text}");
}

#[test]
fn the_outer_settings_that_are_absent_follow_the_rule() {
    let outer = |rule: &str| {
        let sparse = read(&RIGHT.replace("overlap: 0", rule)).expect("right").run.sparse;
        (sparse.outer_learning_rate, sparse.retention)
    };
    assert_eq!(outer("rule: counted"), (1.5, 0.5));
    assert_eq!(outer("rule: paper"), (1.0, 0.0));
    assert_eq!(outer("outerLearningRate: \"0.7\", retention: \"0.1\""), (0.7, 0.1));
}

#[test]
fn the_optimizer_of_an_empty_spec_is_the_default() {
    let defaults = RIGHT.lines().filter(|line| !line.contains("optimizer:"));
    let run = read(&defaults.collect::<Vec<_>>().join("\n")).expect("right").run;
    assert_eq!(run.optimizer, OptimizerSpec::default());
}

#[test]
fn each_mistake_gets_its_sentence_with_file_document_and_field() {
    let run = "run.yaml: TrainingRun mini: spec.";
    let island = "run.yaml: ComputeIsland lab-a: spec.";
    let cases = [
        (
            "tokens: 2000000000",
            "token: 1",
            run,
            "token: unknown field: write `tokens` in its place",
        ),
        ("  tokens: 2000000000\n", "", run, "tokens: missing: Tokens after which the run is"),
        ("tokens: 2000000000", "tokens: 0", run, "tokens: 0 is below 1, the least"),
        ("tokens: 2000000000", "tokens: 1.5", run, "tokens: 1.5 has to be a whole number"),
        ("llama-160m", "llama-2b", run, "model.preset: \"llama-2b\" is not one of llama-demo,"),
        ("preset: llama-160m", "", run, "model: set one of preset, config and from"),
        ("\"3e-4\"", "3e-4", run, "optimizer.learningRate: 3e-4 has to be text: write `\"3e-4\"`"),
        ("\"3e-4\"", "fast", run, "optimizer.learningRate: \"fast\" is not a number: write one"),
        ("\"0.95\"", "\"1.5\"", run, "sparseLoCo.errorDecay: 1.5 has to be above 0 and at most 1"),
        ("\"0.95\"", "\"1e-60\"", run, "sparseLoCo.errorDecay: 1e-60 has to be above 0"),
        ("\"3e-4\"", "\"1e300\"", run, "optimizer.learningRate: 1e300 has to be above 0 and below"),
        ("overlap: 0", "overlap: 1", run, "sparseLoCo.overlap: 1 is not possible: this version"),
        ("overlap: 0", "chunk: 64", run, "sparseLoCo.chunk: 64 is not possible: this version has"),
        ("innerSteps: auto", "innerSteps: car", run, "sparseLoCo.innerSteps: it has to be auto or"),
        ("innerSteps: auto", "innerSteps: 0", run, "sparseLoCo.innerSteps: 0 is not between 1 and"),
        ("valueBits: 2", "valueBits: 3", run, "sparseLoCo.valueBits: 3 is above 2, the most"),
        ("60%", "0%", run, "rounds.quorum: \"0%\" is not a percentage: write one from 1% to 100%"),
        ("grace: 30s", "grace: 30", run, "rounds.grace: 30 has no unit: write `30s`"),
        ("grace: 30s", "grace: 1d", run, "rounds.grace: \"1d\" is not a length of time: write"),
        ("grace: 30s", "grace: 1h", run, "rounds.deadline: has to be above 0 and at least the"),
        ("24Gi", "24GB", island, "devices[1].memory: \"24GB\" is not a quantity: write `24G`"),
        ("{min: 0, max: 8}", "two", island, "devices[1].count: it has to be a number, or {min"),
        ("{min: 0, max: 8}", "{min: 9, max: 8}", island, "devices[1].count: min 9 is above max 8"),
        ("count: 2", "count: 0", island, "devices[0].count: 0 is not between 1 and 1024"),
        ("Harvest", "Greedy", island, "idle.policy: \"Greedy\" is not one of Dedicated, Harvest"),
        (
            "{name: mini}\n  dev",
            "{name: x}\n  dev",
            island,
            "runRef.name: there is no TrainingRun x,",
        ),
        (
            "parallelism: {}",
            "pipeline: {compression: {rank: 0}}",
            island,
            "pipeline.compression.rank: 0 is below 1, the least",
        ),
        (
            "parallelism: {}",
            "pipeline: {recompute: planned}",
            island,
            "pipeline.recompute: has to be true or false, not \"planned\"",
        ),
        ("  parallelism: {}", "  gpus: 2", island, "gpus: unknown field; the fields here are dev"),
    ];
    for (right, wrong, place, sentence) in cases {
        assert_mistake(right, wrong, &format!("{place}{sentence}"));
    }
}

/// That RIGHT with `wrong` in place of `right` has a problem that begins with `sentence`.
fn assert_mistake(right: &str, wrong: &str, sentence: &str) {
    assert!(RIGHT.contains(right), "{right}");
    let found = unplaced(&RIGHT.replacen(right, wrong, 1));
    assert!(found.iter().any(|line| line.starts_with(sentence)), "{sentence}\n got {found:#?}");
}

#[test]
fn all_mistakes_of_all_documents_are_reported_together() {
    let text = RIGHT.replace("60%", "2").replace("24Gi", "much").replace("Harvest", "Greedy");
    let found = problems(&text);
    assert_eq!(found.len(), 3, "{found:#?}");
    let ranges = problems(&RIGHT.replace("\"0.95\"", "\"7\"").replace("count: 2", "count: 0"));
    assert_eq!(ranges.len(), 2, "{ranges:#?}");
}

#[test]
fn kinds_names_and_numbers_of_documents_are_checked() {
    let again = RIGHT.split("---").nth(1).expect("an island");
    let cases = [
        (format!("{RIGHT}---{again}"), "metadata.name: lab-a stands in run.yaml already"),
        (format!("{RIGHT}---\n{RIGHT}"), "there is a TrainingRun already, mini"),
        (again.to_owned(), "no TrainingRun in these files: add one with -f"),
        (RIGHT.replace("kind: ComputeIsland", "kind: Pod"), "heteroloco.dev/v1alpha1 Pod is not"),
        (RIGHT.replace("v1alpha1", "v2"), "heteroloco.dev/v2 TrainingRun is not known here"),
        (RIGHT.replace("{name: lab-a}", "{name: Lab A}"), "\"Lab A\" is not a name"),
        (RIGHT.replace("metadata: {name: mini}", ""), "metadata.name: missing"),
        (format!("{RIGHT}---\na: ["), "document 3: this is not YAML"),
        ("just text".to_owned(), "no apiVersion and no kind is not known here"),
        (String::new(), "no ComputeIsland in these files"),
    ];
    for (text, sentence) in cases {
        let found = problems(&text);
        assert!(found.iter().any(|line| line.contains(sentence)), "{sentence}\n got {found:#?}");
    }
}

#[test]
fn empty_documents_and_a_status_are_passed_over() {
    let text = format!("---\n# nothing\n---\n{RIGHT}status: {{round: 3}}\n");
    assert_eq!(read(&text), read(RIGHT));
}

#[test]
fn a_run_and_its_islands_may_stand_in_several_files() {
    let (run, island) = RIGHT.split_once("---").expect("two documents");
    let sources = [Source { name: "a", text: island }, Source { name: "b", text: run }];
    assert_eq!(load(&sources), read(RIGHT));
}

#[test]
fn every_example_is_read_and_planned() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).expect("examples") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = std::fs::read_to_string(&path).expect("a text");
        let name = path.display().to_string();
        let manifests = load(&[Source { name: &name, text: &text }]).expect("a right example");
        let plan = plan::planner::plan_run(
            &manifests.run,
            &manifests.islands,
            &Execution::Emulated { cores: 1 },
        );
        assert!(plan.is_ok(), "{name}: {plan:?}");
        seen += 1;
    }
    assert!(seen > 0);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(
        from in 0..RIGHT.len(), length in 0_usize..60, put in "[ -~\n]{0,20}",
    ) {
        let to = (from + length).min(RIGHT.len());
        let text = format!("{}{put}{}", &RIGHT[..from], &RIGHT[to..]);
        if let Err(problems) = read(&text) {
            prop_assert!(!problems.0.is_empty());
            prop_assert!(problems.0.iter().all(|problem| !problem.message.is_empty()));
        }
    }
}
