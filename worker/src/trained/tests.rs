//! Folders as people name them.

use std::fs;
use std::path::Path;

use serde_json::json;

use super::place::{Place, data_of_run, find};
use crate::checkpoint::tests::write;

mod commands;
mod models;
mod places;

/// What is found in `path`: the round of a checkpoint, or the other kind.
fn found(path: &Path) -> String {
    match find(path) {
        Ok(Place::Checkpoint(checkpoint)) => format!("round {}", checkpoint.manifest().round),
        Ok(Place::HuggingFace(_)) => "model".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_run_its_checkpoints_one_of_them_and_a_model_s_folder_are_all_taken() {
    let run = tempfile::tempdir().unwrap();
    let run = run.path();
    assert!(found(run).contains("name the folder of a run"), "{}", found(run));
    for (island, round) in [("a", 2), ("b", 4), ("c", 3)] {
        write(&run.join("checkpoints").join(island), round, &[0, 3]);
    }
    let b = run.join("checkpoints/b");
    for path in [run, &run.join("checkpoints"), &b, &b.join("round-00000004")] {
        assert_eq!(found(path), "round 4", "{}", path.display());
    }
    assert_eq!(found(&run.join("checkpoints/c")), "round 3");
    fs::write(run.join("config.json"), "{}").unwrap();
    assert_eq!(found(run), "round 4", "what was trained here counts");
    let exported = run.join("exported");
    fs::create_dir(&exported).unwrap();
    fs::write(exported.join("config.json"), "{}").unwrap();
    assert_eq!(found(&exported), "model");
}

#[test]
fn a_run_says_where_its_checkpoints_and_its_data_are() {
    let folder = tempfile::tempdir().unwrap();
    let (run, elsewhere) = (folder.path().join("run"), folder.path().join("elsewhere"));
    fs::create_dir(&run).unwrap();
    write(&elsewhere.join("a"), 7, &[0, 3]);
    let said = json!({"run": {"name": "r", "data": "texts"}, "checkpoints": elsewhere});
    fs::write(run.join("run.json"), said.to_string()).unwrap();
    assert_eq!(found(&run), "round 7");
    assert_eq!(data_of_run(&run).as_deref(), Some(Path::new("texts")));
    assert_eq!(data_of_run(&elsewhere), None);
}

#[test]
fn a_damaged_island_is_passed_over_while_another_is_whole() {
    let run = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|island| run.path().join("checkpoints").join(island));
    write(&a, 2, &[0, 3]);
    write(&b, 5, &[0, 3]);
    fs::write(b.join("round-00000005/manifest.json"), "half").unwrap();
    assert_eq!(found(run.path()), "round 2");
    fs::write(a.join("round-00000002/manifest.json"), "half").unwrap();
    assert!(found(run.path()).contains("damaged"), "{}", found(run.path()));
}
