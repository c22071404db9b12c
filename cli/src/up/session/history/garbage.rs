//! The file of events as crashes, full disks, editors and other versions leave it.

use std::fs;

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// A run of one island, a line each.
const LINES: [&str; 6] = [
    r#"{"at": 1, "event": "begin", "run": "r", "resumed": false, "emulated": null, "tokens": 9,
        "rounds": 3, "parameters": 100, "islands": []}"#,
    r#"{"at": 2, "event": "islandStarted", "island": "a", "epoch": 1}"#,
    r#"{"at": 3, "island": "a", "rank": 0, "epoch": 1, "event": "evaluation", "round": 0,
        "heldoutLoss": null}"#,
    r#"{"at": 4, "island": "a", "rank": 0, "epoch": 1, "event": "round", "round": 0, "tokens": 3,
        "islands": 1, "loss": 2.5, "thetaHash": "ab", "contributionBytes": 8,
        "contributionValues": 4, "bytesSent": 0, "bytesReceived": 0, "computeSeconds": 1,
        "exchangeSeconds": 1, "waitingSeconds": 0}"#,
    r#"{"at": 5, "island": "a", "rank": 0, "epoch": 1, "event": "checkpoint", "round": 1,
        "path": "c"}"#,
    r#"{"at": 6, "island": "a", "rank": 0, "epoch": 1, "event": "finished", "ending": "stopped"}"#,
];

fn lines() -> Vec<Vec<u8>> {
    LINES.iter().map(|line| line.replace("\n        ", " ").into_bytes()).collect()
}

/// What is known after reading such a file, as far as it is shown.
fn known(bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("events.jsonl");
    fs::write(&path, bytes).unwrap();
    let (state, _) = open(&path).unwrap();
    let RunState { islands, rounds, heldout, tokens, wall, .. } = state;
    format!("{islands:?} {rounds:?} {heldout:?} {tokens} {wall}")
}

fn whole() -> Vec<u8> {
    lines().join(&b'\n')
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(cases(64))]

    #[test]
    fn lines_that_are_no_records_change_nothing(
        garbage in vec((any::<usize>(), vec(any::<u8>(), 0..60)), 0..8),
    ) {
        let mut all = lines();
        for (at, mut bytes) in garbage {
            bytes.retain(|byte| *byte != b'\n');
            all.insert(at % (all.len() + 1), bytes);
        }
        prop_assert_eq!(known(&all.join(&b'\n')), known(&whole()));
    }

    /// Whatever was written before the cut counts, and nothing of the line that was cut.
    #[test]
    fn a_file_that_is_cut_anywhere_tells_what_its_whole_lines_tell(
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = whole();
        let cut = cut.index(bytes.len());
        let before = bytes[..cut].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        // A line is whole as soon as its last brace is there.
        let end = if bytes[..cut].ends_with(b"}") { cut } else { before };
        prop_assert_eq!(known(&bytes[..cut]), known(&bytes[..end]));
    }
}

#[test]
fn a_file_with_ends_of_lines_of_another_system_is_the_same() {
    assert_eq!(known(&lines().join(&b"\r\n"[..])), known(&whole()));
}

#[test]
fn events_that_this_version_does_not_know_are_passed_over() {
    let newer = br#"{"at": 3.5, "island": "a", "rank": 0, "epoch": 1, "event": "dream"}"#;
    let mut all = lines();
    all.insert(3, newer.to_vec());
    assert_eq!(known(&all.join(&b'\n')), known(&whole()));
}

#[test]
fn a_file_that_is_not_there_is_a_run_without_a_past_and_a_folder_in_its_place_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (state, _) = open(&folder.path().join("events.jsonl")).unwrap();
    assert_eq!(state.committed(), 0);
    assert!(open(folder.path()).is_err(), "nothing would be known of the run");
}
