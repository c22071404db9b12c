//! What of a manifest a run that goes on may change, by the keys that its owner wrote.

use plan::planner::plan_run;
use plan::request::Execution;

use super::super::*;
use super::saved;

const MANIFEST: &str = r#"
apiVersion: heteroloco.dev/v1alpha1
kind: TrainingRun
metadata: {name: mini}
spec:
  model: {preset: llama-demo}
  data: {path: data, tokenizer: byte}
  tokens: 1000000
  seed: 1
  batch: {sequences: 8, sequenceLength: 128}
  optimizer: {learningRate: "2e-3", minLearningRateRatio: "0.1", warmupSteps: 40,
    weightDecay: "0.1", beta1: "0.9", beta2: "0.95", epsilon: "1e-8", gradClip: "1.0"}
  sparseLoCo: {innerSteps: 20, topK: 64, valueBits: 2, errorDecay: "0.95",
    outerLearningRate: "1.5", rule: counted, retention: "0.5"}
  rounds: {quorum: 60%, grace: 30s, deadline: 5m}
  evaluation: {everyRounds: 4, sequences: 32}
  checkpoint: {everyRounds: 4}
---
apiVersion: heteroloco.dev/v1alpha1
kind: ComputeIsland
metadata: {name: dc}
spec:
  runRef: {name: mini}
  devices: [{product: NVIDIA-H100-80GB-HBM3}]
"#;

fn planned(text: &str) -> RunSpec {
    let manifests = api::load(&[api::Source { name: "run.yaml", text }]).unwrap();
    plan_run(&manifests.run, &manifests.islands, &Execution::Emulated { cores: 1 }).unwrap().run
}

/// What is said of a run that goes on with another manifest; nothing, where it may.
fn said(from: &str, to: &str) -> String {
    assert!(MANIFEST.contains(from), "{from}");
    let was = Saved { run: planned(MANIFEST), ..saved() };
    let is = planned(&MANIFEST.replace(from, to));
    assert_ne!(was.run, is, "{to} changes nothing");
    let checked = was.check(&is, &was.data_hash);
    checked.map_or_else(|error| error.to_string(), |()| String::new())
}

#[test]
fn what_makes_another_run_is_refused_by_its_key_and_by_what_was_written() {
    let table = [
        ("seed: 1", "seed: 2", "seed (was 1, now 2)"),
        ("sequenceLength: 128", "sequenceLength: 64", "batch.sequenceLength (was 128, now 64)"),
        (
            r#"learningRate: "2e-3""#,
            r#"learningRate: "1e-3""#,
            "optimizer.learningRate (was 0.002, now 0.001)",
        ),
        (
            r#"minLearningRateRatio: "0.1""#,
            r#"minLearningRateRatio: "0.2""#,
            "optimizer.minLearningRateRatio (was 0.1, now 0.2)",
        ),
        ("warmupSteps: 40", "warmupSteps: 41", "optimizer.warmupSteps (was 40, now 41)"),
        (
            r#"weightDecay: "0.1""#,
            r#"weightDecay: "0.05""#,
            "optimizer.weightDecay (was 0.1, now 0.05)",
        ),
        (r#"beta1: "0.9""#, r#"beta1: "0.8""#, "optimizer.beta1 (was 0.9, now 0.8)"),
        (r#"beta2: "0.95""#, r#"beta2: "0.99""#, "optimizer.beta2 (was 0.95, now 0.99)"),
        (r#"epsilon: "1e-8""#, r#"epsilon: "1e-7""#, "optimizer.epsilon (was 1e-8, now 1e-7)"),
        (r#"gradClip: "1.0""#, r#"gradClip: "0.5""#, "optimizer.gradClip (was 1.0, now 0.5)"),
        ("topK: 64", "topK: 32", "sparseLoCo.topK (was 64, now 32)"),
        ("valueBits: 2", "valueBits: 1", "sparseLoCo.valueBits (was 2, now 1)"),
        (
            r#"errorDecay: "0.95""#,
            r#"errorDecay: "0.9""#,
            "sparseLoCo.errorDecay (was 0.95, now 0.9)",
        ),
        (
            r#"outerLearningRate: "1.5""#,
            r#"outerLearningRate: "1.1""#,
            "sparseLoCo.outerLearningRate (was 1.5, now 1.1)",
        ),
        (r#"retention: "0.5""#, r#"retention: "0.3""#, "sparseLoCo.retention (was 0.5, now 0.3)"),
    ];
    for (from, to, expected) in table {
        let said = said(from, to);
        assert!(said.ends_with(&format!("cannot change in it: {expected}")), "{to}: {said}");
        let key = expected.split(" (").next().and_then(|path| path.rsplit('.').next()).unwrap();
        assert!(from.contains(key), "{key} is not what the manifest has: {from}");
    }
}

#[test]
fn how_long_and_on_what_a_run_trains_may_change() {
    let table = [
        ("tokens: 1000000", "tokens: 3000000"),
        ("innerSteps: 20", "innerSteps: 10"),
        ("{sequences: 8,", "{sequences: 4,"),
        ("everyRounds: 4, sequences: 32", "everyRounds: 1, sequences: 2"),
        ("checkpoint: {everyRounds: 4}", "checkpoint: {everyRounds: 9}"),
        ("path: data,", "path: moved,"),
    ];
    for (from, to) in table {
        assert_eq!(said(from, to), "", "{to}");
    }
}

#[test]
fn all_settings_that_differ_are_said_at_once() {
    let renamed = said("mini", "maxi");
    assert!(renamed.ends_with(r#"metadata.name (was "mini", now "maxi")"#), "{renamed}");
    let was = Saved { run: planned(MANIFEST), ..saved() };
    let is = planned(&MANIFEST.replace("seed: 1", "seed: 2").replace("topK: 64", "topK: 8"));
    let error = was.check(&is, &"0b".repeat(32)).unwrap_err();
    let RunDirError::Changed(changes) = &error else { panic!("{error}") };
    let paths: Vec<&str> = changes.iter().map(|change| &change.path[..]).collect();
    assert_eq!(paths, ["seed", "sparseLoCo.topK", "content of data"]);
    assert!(error.to_string().contains("seed (was 1, now 2), sparseLoCo.topK (was 64,"), "{error}");
}

#[test]
fn what_an_older_version_saved_is_read_and_what_a_newer_one_did_is_not_guessed() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join(STATE);
    let mut older = serde_json::to_value(saved()).unwrap();
    older.as_object_mut().unwrap().remove("checkpoints");
    older["run"].as_object_mut().unwrap().remove("schedule");
    fs::write(&state, older.to_string()).unwrap();
    let (dir, earlier) = RunDir::open(folder.path(), true).unwrap();
    let earlier = earlier.unwrap();
    assert_eq!((earlier.checkpoints.as_ref(), earlier.run.schedule.warmup_tokens), (None, 0));
    // A run that was begun before there was a schedule goes on.
    assert!(earlier.check(&saved().run, &saved().data_hash).is_ok());
    drop(dir);
    older["islands"] = 3.into();
    fs::write(&state, older.to_string()).unwrap();
    let error = RunDir::open(folder.path(), true).unwrap_err();
    let RunDirError::BadState(_, why) = &error else { panic!("{error}") };
    assert!(why.to_string().contains("unknown field `islands`"), "{why}");
}

#[test]
fn a_folder_that_was_moved_holds_the_same_run() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (folder.path().join("a"), folder.path().join("deep/b"));
    let (dir, _) = RunDir::open(&before, false).unwrap();
    dir.save(&saved()).unwrap();
    drop(dir);
    fs::create_dir(folder.path().join("deep")).unwrap();
    fs::rename(&before, &after).unwrap();
    let (dir, earlier) = RunDir::open(&after, true).unwrap();
    assert_eq!(earlier, Some(saved()));
    assert_eq!(dir.path(), after.canonicalize().unwrap());
    assert!(matches!(RunDir::open(&before, true), Err(RunDirError::NothingToResume(_))));
}

#[test]
fn a_run_that_does_not_begin_leaves_nothing_that_keeps_the_next_one_away() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, _) = RunDir::open(folder.path(), false).unwrap();
    dir.save(&saved()).unwrap();
    dir.forget();
    dir.forget();
    drop(dir);
    fs::write(durable::partial(&folder.path().join(STATE)), "{").unwrap();
    assert!(RunDir::open(folder.path(), false).is_ok());
    assert!(matches!(RunDir::open(folder.path(), true), Err(RunDirError::NothingToResume(_))));
}

#[test]
fn a_folder_that_cannot_be_made_is_named_with_what_was_tried() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = RunDir::open(&file.join("run"), false).unwrap_err();
    let expected = format!("failed to create {}", file.join("run").display());
    assert_eq!(error.to_string(), expected);
    let (dir, _) = RunDir::open(&folder.path().join("run"), false).unwrap();
    fs::write(dir.path().join("specs"), "").unwrap();
    assert!(matches!(dir.write_json("specs/a.json", &1), Err(RunDirError::Io { .. })));
    let written = dir.write_json("deep/er/a.json", &[1]).unwrap();
    assert_eq!(fs::read_to_string(&written).unwrap(), "[\n  1\n]");
    assert_eq!(dir.log("lab-0").unwrap(), dir.path().join("logs/lab-0.log"));
}
