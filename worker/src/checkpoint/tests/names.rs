//! Which folders are checkpoints, which of them are removed, and of which run a checkpoint is.

use plan::spec::{EvaluationSpec, OptimizerSpec, Rule, RunSpec, ScheduleSpec, SparseSpec};

use super::*;

fn all() -> [u32; 2] {
    [0, layout().pieces()]
}

/// The run of which [`write`] writes checkpoints.
fn run() -> RunSpec {
    RunSpec {
        name: "run".into(),
        seed: 7,
        model: model(),
        from: None,
        data: "data".into(),
        sequence_length: 64,
        tokens: 1_000,
        reference_steps: 3,
        total_rounds: 3,
        optimizer: OptimizerSpec::default(),
        schedule: ScheduleSpec::default(),
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

#[test]
fn a_folder_is_a_rounds_only_by_the_name_that_it_was_given() {
    for round in [0, 7, 99_999_999, 123_456_789_012, u64::MAX] {
        assert_eq!(round_of(&folder_of(Path::new("any"), round)), Some(round));
    }
    let others = [
        "round-",
        "round-7",
        "round-+0000007",
        "round-0000000007",
        "round--0000007",
        "round-00000007.bak",
        "round-00000007 (copy)",
        "round-0000000x",
        "Round-00000007",
        "round_00000007",
        "round-18446744073709551616",
        "island-00000007",
        "00000007",
    ];
    for name in others {
        assert_eq!(round_of(&Path::new("any").join(name)), None, "{name}");
    }
}

#[test]
fn what_people_keep_beside_checkpoints_is_neither_read_nor_removed() {
    let root = tempdir().unwrap();
    let kept = ["round-1", "round-00000002.bak", "round-+0000001", "notes"];
    for name in kept {
        fs::create_dir(root.path().join(name)).unwrap();
        fs::write(root.path().join(name).join("results.txt"), name).unwrap();
    }
    for round in [5, 6, 7, 8, 9] {
        write(root.path(), round, &all());
    }
    for name in kept {
        let text = fs::read_to_string(root.path().join(name).join("results.txt")).unwrap();
        assert_eq!(text, name);
    }
    let found = folders(root.path()).unwrap();
    assert_eq!(found, [9, 8, 7].map(|round| folder_of(root.path(), round)));
}

#[test]
fn rounds_are_ordered_by_number_and_not_by_name() {
    let root = tempdir().unwrap();
    write(root.path(), 99_999_999, &all());
    write(root.path(), 100_000_000, &all());
    let newest = Checkpoint::open(root.path()).unwrap();
    assert_eq!(newest.manifest().round, 100_000_000);
    let found = Checkpoint::find(root.path(), Some(99_999_999)).unwrap().newest.unwrap();
    assert_eq!(found.folder(), folder_of(root.path(), 99_999_999));
}

#[test]
fn a_damaged_manifest_of_an_older_round_is_left_where_it_is() {
    let root = tempdir().unwrap();
    write(root.path(), 1, &all());
    fs::write(folder_of(root.path(), 1).join(MANIFEST), "half").unwrap();
    for round in [2, 3, 4, 5, 6] {
        write(root.path(), round, &all());
    }
    // Whose it is nobody can tell.
    assert!(folder_of(root.path(), 1).is_dir());
    assert!(!folder_of(root.path(), 2).exists());
}

#[test]
fn a_round_that_is_under_way_beyond_the_newest_is_left_to_whoever_writes_it() {
    let root = tempdir().unwrap();
    fs::create_dir_all(folder_of(root.path(), 8)).unwrap();
    fs::create_dir_all(folder_of(root.path(), 6)).unwrap();
    write(root.path(), 7, &all());
    assert!(folder_of(root.path(), 8).is_dir());
    assert!(!folder_of(root.path(), 6).exists(), "nobody completes it any more");
}

#[test]
fn a_checkpoint_that_is_written_again_is_the_new_one() {
    let root = tempdir().unwrap();
    write(root.path(), 4, &[0, 1, layout().pieces()]);
    let again = Manifest { tokens: 12, ..write(root.path(), 4, &all()) };
    commit(root.path(), &again).unwrap();
    let found = Checkpoint::open(root.path()).unwrap();
    assert_eq!(*found.manifest(), again);
    let read = found.read(Part::Theta, &layout(), 0..layout().pieces()).unwrap();
    assert_eq!(read, values(&layout(), 0));
}

#[test]
fn a_checkpoint_of_another_run_model_or_seed_is_refused_by_what_differs() {
    let root = tempdir().unwrap();
    write(root.path(), 4, &all());
    let found = Checkpoint::open(root.path()).unwrap();
    found.check(&run()).expect("its own");
    // What people may change between two starts.
    let changed = RunSpec { tokens: 9, total_rounds: 1, data: "elsewhere".into(), ..run() };
    found.check(&changed).expect("the same run");
    let wider = LlamaConfig { hidden_size: 128, ..model() };
    let tilted = LlamaConfig { rope_theta: 500_000.0, ..model() };
    let table = [
        (RunSpec { name: "other".into(), ..run() }, "another run (run, but the run says other)"),
        (RunSpec { seed: 8, ..run() }, "another seed (7, but the run says 8)"),
        (RunSpec { model: wider, ..run() }, "of another model (1 layers of 64, vocabulary 320"),
        (RunSpec { model: tilted, ..run() }, "of another model"),
    ];
    for (other, said) in table {
        let error = found.check(&other).unwrap_err();
        let text = error.to_string();
        assert!(text.contains(said) && text.contains("round-00000004"), "{said}: {text}");
        assert!(error.is_final(), "{said}");
    }
}

#[test]
fn a_manifest_for_a_run_says_what_it_is_read_by() {
    let layout = layout();
    let made = manifest(&run(), "lab", &layout, Vec::new());
    assert_eq!((made.format, &made.run[..], &made.island[..]), (FORMAT, "run", "lab"));
    assert_eq!((made.seed, made.model, made.layout), (7, model(), Some(order_of(&layout))));
}

#[test]
fn a_manifest_survives_its_file_and_older_ones_are_read_without_what_they_lack() {
    let root = tempdir().unwrap();
    let hash = Digest([9; 32]);
    let whole = Manifest {
        samples: u64::MAX,
        theta_hash: Some(hash),
        ..write(root.path(), 4, &[0, 2, layout().pieces()])
    };
    commit(root.path(), &whole).unwrap();
    assert_eq!(read_manifest(&folder_of(root.path(), 4)).unwrap(), whole);
    let path = folder_of(root.path(), 4).join(MANIFEST);
    let mut old: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    for key in ["samples", "thetaHash", "layout"] {
        assert!(old.as_object_mut().unwrap().remove(key).is_some(), "{key}");
    }
    fs::write(&path, old.to_string()).unwrap();
    let read = read_manifest(&folder_of(root.path(), 4)).unwrap();
    assert_eq!((read.samples, read.theta_hash, read.layout), (0, None, None));
    assert_eq!(read.parts, whole.parts);
}

#[test]
fn a_root_that_is_no_folder_is_an_error_and_not_the_beginning_of_a_run() {
    let root = tempdir().unwrap();
    let path = root.path().join("file");
    fs::write(&path, "in the way").unwrap();
    let error = Checkpoint::find(&path, None).unwrap_err();
    assert!(matches!(error, CheckpointError::Io { operation: "list", .. }), "{error}");
    assert!(!error.is_final(), "a folder of the network may be away");
    let error = Checkpoint::open(&root.path().join("missing")).unwrap_err();
    assert!(matches!(error, CheckpointError::None { .. }) && !error.is_final(), "{error}");
}
