//! Checkpoints survive another sharding, and whatever happens to their files.

use std::fs;
use std::path::Path;

use plan::model::LlamaConfig;
use sparseloco::layout::{Layout, TensorShape};
use tempfile::tempdir;

use super::*;

mod damage;
mod names;

fn layout() -> Layout {
    // Three pieces, the last of them not full.
    let shape = vec![2560, 256];
    Layout::new(&[TensorShape { name: "w".into(), shape }]).expect("a valid shape")
}

fn model() -> LlamaConfig {
    serde_json::from_str(
        r#"{"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1,
            "num_attention_heads": 1, "num_key_value_heads": 1, "vocab_size": 320,
            "max_position_embeddings": 64, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "tie_word_embeddings": true, "initializer_range": 0.02}"#,
    )
    .expect("a valid model")
}

fn values(layout: &Layout, part: u32) -> Vec<f32> {
    (0..layout.values()).map(|index| (index as f32) + part as f32 * 0.5).collect()
}

/// Writes a checkpoint of `round` cut over ranks at the given pieces.
pub(crate) fn write(root: &Path, round: u64, cuts: &[u32]) -> Manifest {
    let layout = layout();
    let kinds: Vec<Vec<f32>> = (0..4).map(|part| values(&layout, part)).collect();
    let parts = cuts.windows(2).zip(0..).map(|(cut, rank)| {
        let span = cut[0]..cut[1];
        let range = layout.span(span.clone());
        let of = |part| Ok::<_, CheckpointError>(kinds[part as usize][range.clone()].to_vec());
        write_part(root, (round, rank), (span, range.len()), of).expect("a part")
    });
    let manifest = Manifest {
        format: FORMAT,
        run: "run".into(),
        island: "a".into(),
        seed: 7,
        round,
        tokens: 100 * round,
        samples: 0,
        theta_hash: None,
        optimizer_steps: round,
        model: model(),
        layout: Some(order_of(&layout)),
        parts: parts.collect(),
    };
    commit(root, &manifest).expect("a manifest");
    manifest
}

#[test]
fn a_checkpoint_is_read_under_any_other_sharding() {
    let root = tempdir().expect("a folder");
    let layout = layout();
    let last = layout.pieces();
    assert!(last >= 3);
    write(root.path(), 4, &[0, 1, last]);
    let found = Checkpoint::open(root.path()).expect("a checkpoint");
    for wanted in [0..last, 0..1, 1..last, 1..2] {
        for (part, kind) in
            [(Part::Theta, 0), (Part::Residual, 1), (Part::Moment1, 2), (Part::Moment2, 3)]
        {
            let read = found.read(part, &layout, wanted.clone()).expect("values");
            assert_eq!(read, values(&layout, kind)[layout.span(wanted.clone())]);
        }
    }
}

#[test]
fn a_ranks_file_is_one_that_safetensors_reads() {
    let root = tempdir().expect("a folder");
    let manifest = write(root.path(), 4, &[0, 2, layout().pieces()]);
    for part in &manifest.parts {
        let bytes = fs::read(folder_of(root.path(), 4).join(&part.file)).expect("its bytes");
        let tensors = safetensors::SafeTensors::deserialize(&bytes).expect("a file");
        let own = layout().span(part.first_piece..part.end_piece);
        let moment = tensors.tensor("moment1").expect("it is there");
        let expected: Vec<u8> =
            values(&layout(), 2)[own].iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!((tensors.len(), moment.data()), (4, &expected[..]));
    }
}

#[test]
fn a_part_that_cannot_be_written_still_asks_for_all_values() {
    let root = tempdir().expect("a folder");
    fs::write(folder_of(root.path(), 4), b"in the way").expect("a file");
    let mut asked = 0;
    let written = write_part(root.path(), (4, 0), (0..1, 8), |_| {
        asked += 1;
        Ok::<_, CheckpointError>(vec![0.0; 8])
    });
    assert!(matches!(written, Err(CheckpointError::Io { .. })), "{written:?}");
    assert_eq!(asked, 4);
}

#[test]
fn only_the_newest_checkpoints_are_kept_and_the_newest_is_taken() {
    let root = tempdir().expect("a folder");
    for round in [1, 2, 3, 10] {
        write(root.path(), round, &[0, layout().pieces()]);
    }
    assert_eq!(Checkpoint::open(root.path()).expect("one").manifest().round, 10);
    assert_eq!(complete(root.path()).expect("a list").len(), KEPT);
}

#[test]
fn a_checkpoint_is_never_pruned_by_the_later_ones_of_an_abandoned_or_another_run() {
    let root = tempdir().expect("a folder");
    let all = [0, layout().pieces()];
    let other = Manifest { run: "another".into(), ..write(root.path(), 30, &all) };
    commit(root.path(), &other).expect("a manifest");
    for round in [18, 20] {
        write(root.path(), round, &all);
    }
    fs::create_dir(folder_of(root.path(), 2)).expect("half a checkpoint");
    write(root.path(), 3, &all);
    let left: Vec<_> = folders(root.path()).expect("a list");
    assert_eq!(left, [folder_of(root.path(), 30), folder_of(root.path(), 3)]);
}

#[test]
fn a_folder_without_a_manifest_is_no_checkpoint() {
    let root = tempdir().expect("a folder");
    let found = |path: &Path| Checkpoint::find(path, None).expect("no error").newest;
    assert!(found(root.path()).is_none());
    assert!(found(&root.path().join("missing")).is_none());
    write(root.path(), 3, &[0, layout().pieces()]);
    fs::create_dir(folder_of(root.path(), 5)).expect("half a checkpoint");
    assert_eq!(Checkpoint::open(root.path()).expect("one").manifest().round, 3);
}

#[test]
fn a_truncated_or_changed_file_is_refused_and_the_older_checkpoint_taken() {
    let root = tempdir().expect("a folder");
    write(root.path(), 3, &[0, layout().pieces()]);
    let newer = write(root.path(), 4, &[0, layout().pieces()]);
    let file = folder_of(root.path(), 4).join(&newer.parts[0].file);
    let mut bytes = fs::read(&file).expect("its bytes");
    let half = bytes.len() / 2;
    bytes[half] ^= 1;
    fs::write(&file, &bytes).expect("changed");
    let error = Checkpoint::open(&folder_of(root.path(), 4)).expect_err("changed");
    assert!(error.to_string().contains("its contents are not those"), "{error}");
    fs::write(&file, &bytes[..half]).expect("truncated");
    let error = Checkpoint::open(&folder_of(root.path(), 4)).expect_err("truncated");
    assert!(error.to_string().contains("instead of"), "{error}");
    assert_eq!(Checkpoint::open(root.path()).expect("the older").manifest().round, 3);
}

#[test]
fn of_the_kept_checkpoints_the_newest_that_the_run_has_reached_is_taken() {
    let root = tempdir().expect("a folder");
    for round in [4, 7, 9] {
        write(root.path(), round, &[0, layout().pieces()]);
    }
    let taken = |at_most| {
        let found = Checkpoint::find(root.path(), at_most).expect("no error");
        (found.newest.map(|newest| newest.manifest().round), found.damaged.len())
    };
    let table = [(None, Some(9)), (Some(9), Some(9)), (Some(8), Some(7)), (Some(3), None)];
    for (at_most, round) in table {
        assert_eq!(taken(at_most), (round, 0), "{at_most:?}");
    }
    // Of those that are not looked at, nothing is told.
    for (round, left) in [(9, (Some(7), 1)), (7, (Some(4), 2))] {
        fs::remove_file(folder_of(root.path(), round).join("rank-00000.safetensors"))
            .expect("gone");
        assert_eq!(taken(None), left);
    }
    assert_eq!(taken(Some(8)), (Some(4), 1));
}

#[test]
fn a_checkpoint_that_cannot_be_read_is_not_passed_over_for_an_older_one() {
    let root = tempdir().expect("a folder");
    for round in [3, 4] {
        write(root.path(), round, &[0, layout().pieces()]);
    }
    // A folder in the place of the file is opened, but not read.
    let file = folder_of(root.path(), 4).join("rank-00000.safetensors");
    let bytes = fs::read(&file).expect("its bytes").len() as u64;
    fs::remove_file(&file).expect("gone");
    fs::create_dir(&file).expect("a folder");
    let size = fs::metadata(&file).expect("a folder").len();
    let manifest = folder_of(root.path(), 4).join(MANIFEST);
    let text = fs::read_to_string(&manifest).expect("its text");
    fs::write(&manifest, text.replace(&bytes.to_string(), &size.to_string())).expect("changed");
    let error = Checkpoint::find(root.path(), None).expect_err("unread");
    assert!(matches!(error, CheckpointError::Io { .. }) && !error.is_final(), "{error}");
}

#[test]
fn a_damaged_only_checkpoint_is_an_error_and_not_a_fresh_start() {
    let root = tempdir().expect("a folder");
    write(root.path(), 3, &[0, layout().pieces()]);
    fs::write(folder_of(root.path(), 3).join(MANIFEST), b"{}").expect("damaged");
    let error = Checkpoint::open(root.path()).expect_err("damaged");
    assert!(matches!(error, CheckpointError::AllDamaged { .. }), "{error}");
    let said = crate::error::chain(&error);
    assert!(said.contains("not a checkpoint's manifest") && error.is_final(), "{said}");
}

#[test]
fn a_manifest_cannot_name_files_outside_its_folder() {
    let root = tempdir().expect("a folder");
    let mut manifest = write(root.path(), 3, &[0, layout().pieces()]);
    manifest.parts[0].file = "../round-00000003/rank-00000.safetensors".into();
    commit(root.path(), &manifest).expect("a manifest");
    let error = Checkpoint::open(root.path()).expect_err("outside");
    let said = crate::error::chain(&error);
    assert!(said.contains("outside its folder"), "{said}");
}

#[test]
fn values_in_the_order_of_another_layout_are_refused_and_older_manifests_are_read() {
    let layout = layout();
    let all = 0..layout.pieces();
    let other = |name: &str, shape: &[u64]| {
        let shape = vec![TensorShape { name: name.into(), shape: shape.to_vec() }];
        Some(order_of(&Layout::new(&shape).expect("a valid shape")))
    };
    let table = [
        (None, true),
        (other("w", &[2560, 256]), true),
        (other("v", &[2560, 256]), false),
        (other("w", &[256, 2560]), false),
        (other("w", &[2560, 255]), false),
    ];
    for (there, is_read) in table {
        let root = tempdir().expect("a folder");
        let manifest = Manifest { layout: there, ..write(root.path(), 3, &[0, all.end]) };
        commit(root.path(), &manifest).expect("a manifest");
        let text = fs::read_to_string(folder_of(root.path(), 3).join(MANIFEST)).expect("its text");
        assert_eq!(text.contains("layout"), manifest.layout.is_some(), "{text}");
        let found = Checkpoint::open(root.path()).expect("a checkpoint");
        match found.read(Part::Theta, &layout, all.clone()) {
            Ok(read) => assert!(is_read && read == values(&layout, 0), "{manifest:?}"),
            Err(error) => {
                let said = error.to_string();
                assert!(!is_read && said.contains("of another layout"), "{manifest:?}: {said}");
            }
        }
    }
}
