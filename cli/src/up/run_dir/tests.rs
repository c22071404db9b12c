//! Folders in every state that `up` may find them in.

mod settings;

use plan::model::LlamaConfig;
use plan::spec::{EvaluationSpec, OptimizerSpec, Rule, ScheduleSpec, SparseSpec};

use super::*;

fn run() -> RunSpec {
    RunSpec {
        name: "r".into(),
        seed: 1,
        model: LlamaConfig {
            hidden_size: 64,
            intermediate_size: 128,
            num_hidden_layers: 1,
            num_attention_heads: 4,
            num_key_value_heads: 4,
            head_dim: None,
            vocab_size: 257,
            max_position_embeddings: 64,
            rms_norm_eps: 1e-5,
            rope_theta: 1e4,
            tie_word_embeddings: true,
            initializer_range: 0.02,
        },
        from: None,
        data: "/data".into(),
        sequence_length: 64,
        tokens: 1_000,
        reference_steps: 5,
        total_rounds: 10,
        optimizer: OptimizerSpec {
            learning_rate: 1e-3,
            min_learning_rate_ratio: 0.1,
            warmup_steps: 1,
            weight_decay: 0.1,
            beta1: 0.9,
            beta2: 0.95,
            epsilon: 1e-8,
            grad_clip: 1.0,
        },
        schedule: ScheduleSpec { warmup_tokens: 20, anchor: None },
        sparse: SparseSpec {
            top_k: 64,
            value_bits: 2,
            error_decay: 0.95,
            outer_learning_rate: 1.0,
            rule: Rule::Counted,
            retention: 0.5,
        },
        checkpoint_every_rounds: 10,
        evaluation: EvaluationSpec { every_rounds: 5, sequences: 8 },
    }
}

fn saved() -> Saved {
    Saved {
        run: run(),
        data_hash: "0a".repeat(32),
        epochs: [("a".to_owned(), 3)].into(),
        checkpoints: Some("checkpoints".into()),
    }
}

#[test]
fn a_run_goes_on_with_what_was_saved() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("deep/run");
    let (dir, earlier) = RunDir::open(&path, false).unwrap();
    assert_eq!(earlier, None);
    dir.save(&saved()).unwrap();
    drop(dir);
    let (_dir, earlier) = RunDir::open(&path, true).unwrap();
    assert_eq!(earlier, Some(saved()));
}

#[test]
fn a_folder_that_holds_something_is_not_taken_for_a_new_run() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, _) = RunDir::open(folder.path(), false).unwrap();
    drop(dir);
    // A start that failed left only its lock behind.
    RunDir::open(folder.path(), false).unwrap();
    fs::write(folder.path().join("precious"), "").unwrap();
    let error = RunDir::open(folder.path(), false).unwrap_err();
    assert!(matches!(error, RunDirError::NotEmpty(_)), "{error}");
}

#[test]
fn two_sessions_never_share_a_folder() {
    let folder = tempfile::tempdir().unwrap();
    let (dir, _) = RunDir::open(folder.path(), false).unwrap();
    dir.save(&saved()).unwrap();
    let error = RunDir::open(folder.path(), true).unwrap_err();
    assert!(matches!(error, RunDirError::InUse(_)), "{error}");
}

#[test]
fn nothing_to_resume_and_a_damaged_state_are_said() {
    let folder = tempfile::tempdir().unwrap();
    let error = RunDir::open(&folder.path().join("none"), true).unwrap_err();
    assert!(matches!(error, RunDirError::NothingToResume(_)), "{error}");
    assert!(!folder.path().join("none").exists(), "a refusal leaves no folder behind");
    for damaged in [&b""[..], b"{\"run\":", b"\"\xce"] {
        fs::write(folder.path().join("run.json"), damaged).unwrap();
        let error = RunDir::open(folder.path(), true).unwrap_err();
        assert!(matches!(error, RunDirError::BadState(..)), "{error}");
    }
}

#[test]
fn a_resumed_run_may_change_how_often_it_checks_but_not_what_it_is() {
    type Change = fn(&mut RunSpec);
    let table: [(&str, Change); 15] = [
        ("", |_| {}),
        ("", |run| run.checkpoint_every_rounds = 1),
        ("", |run| run.evaluation.sequences = 99),
        ("", |run| (run.tokens, run.total_rounds) = (2_000, 20)),
        ("", |run| run.schedule.warmup_tokens = 30),
        ("optimizer.warmupSteps (was 1, now 2)", |run| run.optimizer.warmup_steps = 2),
        ("batch.sequenceLength (was 64, now 32)", |run| run.sequence_length = 32),
        ("seed (was 1, now 2)", |run| run.seed = 2),
        ("model.hidden_size (was 64, now 128)", |run| run.model.hidden_size = 128),
        ("model.head_dim (was null, now 16)", |run| run.model.head_dim = Some(16)),
        ("", |run| run.data = "/moved".into()),
        ("", |run| run.from = Some("/models/moved".into())),
        ("metadata.name (was \"r\", now \"s\")", |run| run.name = "s".into()),
        ("", |run| (run.reference_steps, run.total_rounds) = (6, 9)),
        ("sparseLoCo.topK (was 64, now 32)", |run| run.sparse.top_k = 32),
    ];
    for (expected, change) in table {
        let mut run = run();
        change(&mut run);
        match saved().check(&run, &saved().data_hash) {
            Ok(()) => assert_eq!(expected, ""),
            Err(error) => {
                assert!(!expected.is_empty() && error.to_string().ends_with(expected), "{error}");
            }
        }
    }
}

#[test]
fn other_data_under_the_same_name_is_noticed() {
    let error = saved().check(&run(), &"0b".repeat(32)).unwrap_err().to_string();
    assert!(error.ends_with("content of data (was 0a0a0a0a0a0a, now 0b0b0b0b0b0b)"), "{error}");
}
