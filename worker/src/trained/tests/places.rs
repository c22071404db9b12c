//! Folders that are almost what people meant.

use super::*;

#[test]
fn the_newest_of_all_islands_is_taken_and_of_equal_ones_the_first_by_name() {
    let run = tempfile::tempdir().unwrap();
    let island = |name: &str| run.path().join("checkpoints").join(name);
    for (name, round) in [("zeta", 4), ("alpha", 4), ("beta", 3)] {
        write(&island(name), round, &[0, 3]);
    }
    let Ok(Place::Checkpoint(found)) = find(run.path()) else { panic!("{}", found(run.path())) };
    assert!(found.folder().starts_with(island("alpha")), "{}", found.folder().display());
    write(&island("zeta"), 5, &[0, 3]);
    assert_eq!(super::found(run.path()), "round 5");
}

#[test]
fn an_island_falls_back_to_its_older_checkpoint_and_another_one_may_then_be_newer() {
    let run = tempfile::tempdir().unwrap();
    let [a, b] = ["a", "b"].map(|island| run.path().join("checkpoints").join(island));
    for round in [4, 6] {
        write(&a, round, &[0, 3]);
    }
    write(&b, 5, &[0, 3]);
    fs::write(a.join("round-00000006/rank-00000.safetensors"), "cut off").unwrap();
    assert_eq!(found(run.path()), "round 5");
    assert_eq!(found(&a), "round 4");
}

#[test]
fn a_checkpoint_that_was_named_itself_is_not_replaced_by_another_one() {
    let root = tempfile::tempdir().unwrap();
    for round in [3, 4] {
        write(root.path(), round, &[0, 3]);
    }
    let named = root.path().join("round-00000004");
    fs::write(named.join("rank-00000.safetensors"), "cut off").unwrap();
    assert!(found(&named).contains("bytes instead of"), "{}", found(&named));
    assert_eq!(found(root.path()), "round 3");
}

#[test]
fn a_damaged_checkpoint_is_not_silently_replaced_by_an_exported_model() {
    let run = tempfile::tempdir().unwrap();
    write(&run.path().join("checkpoints/a"), 2, &[0, 3]);
    fs::write(run.path().join("checkpoints/a/round-00000002/manifest.json"), "half").unwrap();
    fs::write(run.path().join("config.json"), "{}").unwrap();
    assert!(found(run.path()).contains("damaged"), "{}", found(run.path()));
}

#[test]
fn a_run_s_own_description_counts_only_where_it_can_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path();
    write(&run.join("elsewhere/a"), 7, &[0, 3]);
    write(&run.join("checkpoints/a"), 2, &[0, 3]);
    let table = [
        // A relative folder is one of the run's.
        (r#"{"run": {"data": "texts"}, "checkpoints": "elsewhere"}"#, "round 7", Some("texts")),
        (r#"{"run": {"data": "texts"}, "checkpoints": null}"#, "round 2", Some("texts")),
        (r#"{"run": {"data": "/t"}, "later": {"a": 1}}"#, "round 2", Some("/t")),
        (r#"{"run": {"name": "no data"}, "checkpoints": "elsewhere"}"#, "round 2", None),
        ("half", "round 2", None),
        ("", "round 2", None),
    ];
    for (said, expected, data) in table {
        fs::write(run.join("run.json"), said).unwrap();
        assert_eq!(found(run), expected, "{said}");
        assert_eq!(data_of_run(run).as_deref(), data.map(Path::new), "{said}");
    }
}

#[test]
fn what_is_no_folder_of_a_model_is_told_what_to_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "text").unwrap();
    fs::create_dir(folder.path().join("config.json")).unwrap();
    for path in [folder.path().to_path_buf(), folder.path().join("missing")] {
        let said = found(&path);
        assert!(said.contains("name the folder of a run"), "{said}");
    }
    // A file is no place in which to look.
    assert!(found(&file).contains("failed to list"), "{}", found(&file));
}
