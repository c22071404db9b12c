//! Summaries that are not what they are taken for.

use std::fs;

use super::*;

fn written(folder: &tempfile::TempDir, name: &str, text: &str) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, text).unwrap();
    path
}

/// A summary as a run writes it, of islands by their corrections.
fn summary(emulated: bool, islands: &[(&str, f64)]) -> String {
    let island = |(name, correction): &(&str, f64)| {
        let calibration = serde_json::json!({
            "island": name, "plannedSeconds": 1.0, "measuredSeconds": correction, "steps": 3,
            "correction": correction,
        });
        let island = serde_json::json!({
            "cards": "", "contributions": 0, "bytesSent": 0, "computeSeconds": 0.0,
            "exchangeSeconds": 0.0, "waitingSeconds": 0.0, "restarts": 0, "checkpoint": null,
            "calibration": calibration,
        });
        ((*name).to_owned(), island)
    };
    let islands: serde_json::Map<String, serde_json::Value> = islands.iter().map(island).collect();
    // The model of this run diverged: its loss is no number, and its steps took what they took.
    serde_json::json!({
        "run": "r", "emulated": emulated, "rounds": 1, "tokens": 1, "parameters": 1,
        "heldoutFirst": [0, 5.5], "heldoutLast": [1, null], "heldoutLowest": [0, 5.5],
        "replicasIdentical": true, "differingRounds": [], "wallSeconds": 1.0, "checkpoint": null,
        "wire": {"bytesPerRound": 0.0, "contributionBytes": 0.0, "bitsPerValue": null,
            "ratioToF32": null},
        "islands": islands,
    })
    .to_string()
}

#[test]
fn the_steps_of_a_run_that_diverged_correct_the_next_plan() {
    let folder = tempfile::tempdir().unwrap();
    let path = written(&folder, "s.json", &summary(false, &[("dc", 2.0)]));
    let measured = Measured::read(&[path]).unwrap();
    assert_eq!(measured.files[0].corrections, [("dc".to_owned(), 2.0)]);
    assert_eq!(measured.emulated().count(), 0);
}

#[test]
fn an_island_whose_correction_is_unsound_is_passed_over_and_the_others_count() {
    let folder = tempfile::tempdir().unwrap();
    // 64 times is the most that an estimate may be wrong by.
    let islands = [("a", 64.0), ("b", 64.1), ("c", 1.0 / 64.0), ("d", 0.0), ("e", -3.0)];
    let path = written(&folder, "s.json", &summary(true, &islands));
    let measured = Measured::read(std::slice::from_ref(&path)).unwrap();
    let names: Vec<&str> =
        measured.files[0].corrections.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "c"]);
    let [note] = &measured.correct(&mut [])[..] else { panic!("one note") };
    assert!(note.ends_with("so their corrections have no effect: a, c"), "{note}");
    let [note] = &measured.emulated().collect::<Vec<_>>()[..] else { panic!("one note") };
    let expected = format!("{} was measured on emulated cards", path.display());
    assert!(note.starts_with(&expected), "{note}");
}

#[test]
fn what_is_no_summary_is_refused_with_its_name_and_what_to_give() {
    let folder = tempfile::tempdir().unwrap();
    let cut = summary(false, &[("dc", 2.0)]);
    for (name, text) in
        [("cut.json", &cut[..cut.len() / 2]), ("list.json", "[]"), ("none.json", "")]
    {
        let error = Measured::read(&[written(&folder, name, text)]).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains("give the summary.json of"), "{error}");
    }
    let none = Measured::read(&[written(&folder, "few.json", &summary(false, &[]))]).unwrap_err();
    assert!(none.to_string().contains("at least two steps on each island"), "{none}");
    let missing = Measured::read(&[folder.path().join("missing.json")]).unwrap_err();
    assert!(missing.to_string().starts_with("failed to read "), "{missing}");
    assert!(Measured::read(&[]).unwrap().files.is_empty());
}
