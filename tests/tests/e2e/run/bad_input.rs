//! Mistakes of users that are found before anything runs: each gets a sentence, and nothing is left
//! behind.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::Value;

use super::place::{Island, Place, two_islands};

/// The exit code of something that has to change before it can work.
const REFUSED: i32 = 2;

#[test]
fn manifests_that_cannot_work_are_refused_with_what_to_change() {
    let place = Place::new();
    let table = [
        ("innerSteps: 3", "inerSteps: 3", "inerSteps"),
        ("hidden_size: 32", "hidden_size: 33", "hidden_size"),
        ("name: b", "name: a", "islands need unlike names"),
        ("vocab_size: 257", "vocab_size: 100", "raise vocab_size"),
        ("NVIDIA-H100-80GB-HBM3", "NVIDIA-H1000", "NVIDIA-H1000"),
        ("path: data", "path: nowhere", "heteroloco data prepare"),
    ];
    for (from, to, expected) in table {
        place.manifests(1_000, &two_islands());
        place.edit(from, to);
        let (records, code, complaints) = place.up(&[]).end();
        assert_eq!(code, REFUSED, "{to}: {complaints}");
        assert!(records.is_empty(), "{to}: {records:?}");
        assert!(complaints.contains(expected), "{to}: no {expected:?} in: {complaints}");
        assert!(!place.path("runs").exists(), "{to} left a run folder");
    }
}

#[test]
fn an_island_that_cannot_hold_the_model_is_refused_with_a_remedy() {
    let place = Place::new();
    place.manifests(1_000, &[Island::new("desk", "NVIDIA-GeForce-RTX-3090", 2)]);
    let text = fs::read_to_string(place.path("run.yaml")).unwrap();
    let (before, rest) = text.split_once("  model:").unwrap();
    let (_, after) = rest.split_once("  data:").unwrap();
    let large = format!("{before}  model: {{preset: llama-8b}}\n  data:{after}");
    fs::write(place.path("run.yaml"), large).unwrap();
    for command in [&["plan", "-f", "run.yaml"][..], &["up", "-f", "run.yaml"]] {
        let output = place.heteroloco(command);
        let complaints = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(REFUSED), "{complaints}");
        assert!(complaints.contains("island desk") && complaints.contains("ModelTooLarge"));
    }
}

#[test]
fn a_rank_without_room_for_its_plan_says_so_with_its_figures_and_its_island_is_given_up() {
    let place = Place::new();
    place.manifests(1_000, &[Island::new("dc", "NVIDIA-H100-80GB-HBM3", 1)]);
    place.edit("hidden_size: 32", "hidden_size: 1024");
    place.edit("intermediate_size: 64", "intermediate_size: 20480");
    place.edit("num_hidden_layers: 1", "num_hidden_layers: 3");
    // The machine holds it; but parameters, gradient and moments are 0.8 GB each, and libtorch's
    // libraries take half of the addresses that the rank may have.
    let worker = place.path("worker");
    let real = e2e::program("heteroloco-worker");
    let limited = format!("#!/bin/sh\nulimit -v 2800000\nexec {} \"$@\"\n", real.display());
    fs::write(&worker, limited).unwrap();
    fs::set_permissions(&worker, fs::Permissions::from_mode(0o755)).unwrap();
    let running = place.up_with(&[], &[("HETEROLOCO_WORKER", worker.to_str().unwrap())]);
    let (records, code, complaints) = running.end();
    assert_eq!(code, 1, "{complaints}");
    let of = |event: &str| -> Vec<&Value> {
        records.iter().filter(|record| record["event"] == event).collect()
    };
    let [end] = of("rankExited")[..] else { panic!("{records:?}") };
    let exit = end["exit"].as_str().unwrap();
    assert!(exit.starts_with("ended with code 4: failed to find room on device 0"), "{exit}");
    assert!(!exit.contains("frame #"), "{exit}");
    for expected in ["(NVIDIA-H100-80GB-HBM3): the plan expects", "pipeline.recompute", "alloc"] {
        assert!(exit.contains(expected), "no {expected:?} in: {exit}");
    }
    let [given_up] = of("islandGivenUp")[..] else { panic!("{records:?}") };
    assert!(given_up["reason"].as_str().unwrap().contains(exit), "{given_up}");
    assert!(complaints.contains("failed to find room on device 0"), "{complaints}");
}

#[test]
fn a_plan_says_which_card_does_what() {
    let place = Place::new();
    place.manifests(1_000, &two_islands());
    let plan = |more: &[&str]| {
        let output = place.heteroloco(&[&["plan", "-f", "run.yaml"], more].concat());
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{said}");
        said
    };
    let (declared, emulated) = (plan(&[]), plan(&["--emulate"]));
    for (said, first, island) in [
        (&declared, "ASSUMED NODES", "island b: dp "),
        (&emulated, "EMULATED CARDS", "island b: dp 2"),
    ] {
        assert!(said.starts_with(first), "{said}");
        for expected in ["island a: dp 1", island, "NVIDIA-GeForce-RTX-4090", "headroom"] {
            assert!(said.contains(expected), "no {expected:?} in: {said}");
        }
    }
}

#[test]
fn data_without_text_and_data_of_another_tokenizer_are_refused() {
    let place = Place::new();
    fs::create_dir(place.path("empty")).unwrap();
    let prepare = |out: &str, input: &str| {
        place.heteroloco(&[
            "data",
            "prepare",
            "--tokenizer",
            "byte",
            "--validation",
            "0%",
            "--out",
            out,
            "--input",
            input,
        ])
    };
    let output = prepare("none", "empty");
    assert_eq!(output.status.code(), Some(1));
    let complaints = String::from_utf8(output.stderr).unwrap();
    assert!(complaints.contains("no text found"), "{complaints}");
    assert!(!place.path("none").exists());

    fs::write(place.path("word.txt"), "hi").unwrap();
    assert!(prepare("word", "word.txt").status.success());
    place.manifests(1_000, &two_islands());
    let (_, code, complaints) = place.up(&["--data", "word"]).end();
    assert_eq!(code, REFUSED, "{complaints}");
    assert!(complaints.contains("prepare more text"), "{complaints}");

    let tokenizer = place.path("tokenizer.json");
    fs::write(&tokenizer, TOKENIZER).unwrap();
    place.edit("tokenizer: byte", "tokenizer: tokenizer.json");
    let (_, code, complaints) = place.up(&[]).end();
    assert_eq!(code, REFUSED, "{complaints}");
    assert!(complaints.contains("was prepared with another one"), "{complaints}");
}

/// The smallest tokenizer that Hugging Face's library would load.
const TOKENIZER: &str = r#"{"version": "1.0", "truncation": null, "padding": null,
"added_tokens": [{"id": 1, "content": "</s>", "single_word": false, "lstrip": false,
"rstrip": false, "normalized": false, "special": true}], "normalizer": null,
"pre_tokenizer": {"type": "Whitespace"}, "post_processor": null, "decoder": null,
"model": {"type": "WordLevel", "vocab": {"a": 0, "</s>": 1}, "unk_token": "a"}}"#;

#[test]
fn files_that_cannot_be_evaluated_are_refused_by_their_line() {
    let place = Place::new();
    let plain = r#"{"query": "q", "choices": ["a", "b"], "gold": 0}"#;
    let table = [
        (format!("{plain}\n{{"), "line 2 of tasks.jsonl: it is not a JSON object"),
        ("{\"prompt\": 1}".to_owned(), "line 1 of tasks.jsonl: it has none of the known shapes"),
        (plain.replace(": 0", ": 2"), "choice 2 is the right one, counted from 0, but there are 2"),
        (String::new(), "there is no document in it"),
    ];
    let refused = |tasks: &str| {
        let args = ["eval", "--checkpoint", "nowhere", "--tasks", tasks];
        let output = place.heteroloco(&args);
        assert_eq!(output.status.code(), Some(REFUSED), "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    };
    for (content, expected) in table {
        fs::write(place.path("tasks.jsonl"), content).unwrap();
        let complaints = refused("tasks.jsonl");
        assert!(complaints.contains(expected), "no {expected:?} in: {complaints}");
    }
    assert!(refused("missing.jsonl").contains("failed to read missing.jsonl"));
    fs::write(place.path("tasks.jsonl"), plain).unwrap();
    assert!(refused("tasks.jsonl").contains("failed to find a trained model in nowhere"));
}
