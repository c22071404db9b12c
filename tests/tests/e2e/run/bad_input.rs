//! What a user may get wrong before anything runs: each gets a sentence, and nothing is left
//! behind.

use std::fs;

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
fn a_plan_says_which_card_does_what() {
    let place = Place::new();
    place.manifests(1_000, &two_islands());
    let output = place.heteroloco(&["plan", "-f", "run.yaml"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.starts_with("EMULATED CARDS"), "{said}");
    for expected in ["island a: dp 1", "island b: dp 2", "NVIDIA-GeForce-RTX-4090", "headroom"] {
        assert!(said.contains(expected), "no {expected:?} in: {said}");
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
