//! `eval`, `generate` and `export` as they are called, on a model that was trained.

use clap::Parser;
use serde_json::Value;

use super::models::{checkpoint, config, theta};
use crate::evaluation::{EvalArguments, eval_command};
use crate::hugging_face::{ExportArguments, export_command};
use crate::sample::{GenerateArguments, generate_command};
use crate::trained::Trained;

use super::*;

#[derive(Debug, Parser)]
enum Line {
    Eval(EvalArguments),
    Generate(GenerateArguments),
    Export(ExportArguments),
}

/// What a command line comes to; the error as people see it.
fn run(words: &[&str]) -> Result<(), String> {
    let line = Line::try_parse_from([&["worker"], words].concat());
    let result = match line.map_err(|error| error.to_string())? {
        Line::Eval(arguments) => eval_command(&arguments),
        Line::Generate(arguments) => generate_command(&arguments),
        Line::Export(arguments) => export_command(&arguments),
    };
    result.map_err(|error| format!("{error:#}"))
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn an_export_is_made_once_and_reads_back_as_the_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    checkpoint(root.path(), true);
    let out = root.path().join("out");
    let line = ["export", "--checkpoint", text(root.path()), "--out", text(&out)];
    run(&line).unwrap();
    assert_eq!(Trained::open(&out).unwrap().theta, theta(true).1);
    let again = run(&line).unwrap_err();
    assert!(again.contains("the folder is not empty"), "{again}");
    // A file for each tensor: no limit is below what one has.
    let many = root.path().join("many");
    let limit = ["--shard-megabytes-max", "0"];
    run(&[&line[..4], &[text(&many)], &limit[..]].concat()).unwrap();
    assert_eq!(Trained::open(&many).unwrap().theta, theta(true).1);
    let files = fs::read_dir(&many).unwrap().filter(|entry| {
        let name = entry.as_ref().unwrap().file_name();
        Path::new(&name).extension().is_some_and(|ending| ending == "safetensors")
    });
    assert_eq!(files.count(), theta(true).0.tensors().len());
    let nowhere = root.path().join("nowhere");
    let refused = run(&["export", "--checkpoint", text(&nowhere), "--out", "x"]).unwrap_err();
    assert!(refused.contains("failed to find a trained model in"), "{refused}");
}

const TEXT: &str = "a text that is longer than the model sees";

#[test]
fn figures_of_questions_and_texts_are_written_with_the_likelihood_of_each() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    checkpoint(&path("run"), false);
    let questions = [
        r#"{"query": "ab", "choices": ["c", "dd"], "gold": 0}"#,
        "",
        r#"{"query": "ab", "choices": ["c", "dd"], "gold": 1}"#,
    ];
    fs::write(path("questions.jsonl"), questions.join("\n")).unwrap();
    fs::write(path("texts.jsonl"), format!(r#"{{"text": "{TEXT}"}}"#)).unwrap();
    run(&[
        "eval",
        "--checkpoint",
        text(&path("run")),
        "--tasks",
        text(&path("questions.jsonl")),
        "--tasks",
        text(&path("texts.jsonl")),
        "--json",
        text(&path("figures.json")),
    ])
    .unwrap();
    let figures: Value = serde_json::from_slice(&fs::read(path("figures.json")).unwrap()).unwrap();
    let [first, second] = &figures["tasks"].as_array().unwrap()[..] else { panic!("{figures}") };
    // Of two questions that differ in the answer alone, exactly one is right.
    for metric in ["acc", "acc_norm", "acc_bytes"] {
        assert_eq!(first["score"][metric]["value"], 0.5, "{figures}");
        assert_eq!(first["score"][metric]["stderr"], 0.5, "{figures}");
    }
    let documents = first["documents"].as_array().unwrap();
    assert_eq!((&documents[0]["line"], &documents[1]["line"]), (&1.into(), &3.into()));
    assert_eq!(documents[0]["logLikelihoods"], documents[1]["logLikelihoods"]);
    let mut replica = Trained::open(&path("run")).unwrap().replica().unwrap();
    let ids: Vec<u32> = "ab dd".bytes().map(u32::from).collect();
    let expected = replica.loss(&ids[..2], 1, 1).unwrap() - replica.loss(&ids, 1, 4).unwrap();
    let found = documents[0]["logLikelihoods"][1].as_f64().unwrap();
    assert!((found - expected).abs() < 1e-4, "{found} {expected}");
    let [of_text] = &second["documents"].as_array().unwrap()[..] else { panic!("{figures}") };
    let nats = -of_text["logLikelihoods"][0].as_f64().unwrap();
    let bits = second["score"]["bits_per_byte"].as_f64().unwrap();
    assert!((bits - nats / TEXT.len() as f64 / 2f64.ln()).abs() < 1e-9, "{figures}");
    assert!(of_text.get("gold").is_none() && figures.get("heldOut").is_none(), "{figures}");
}

#[test]
fn an_evaluation_of_nothing_or_of_broken_files_is_refused_before_a_model_is_read() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    fs::write(path("broken.jsonl"), "{\"text\": \"a\"}\n{\"text\"").unwrap();
    // There is no model at all: only what is looked at first is told.
    let nowhere = path("nowhere");
    let base = ["eval", "--checkpoint", text(&nowhere)];
    let nothing = run(&base).unwrap_err();
    assert!(nothing.contains("give --tasks FILE or --data DIR"), "{nothing}");
    let broken = path("broken.jsonl");
    let said = run(&[&base[..], &["--tasks", text(&broken)]].concat()).unwrap_err();
    assert!(said.contains("failed to understand line 2 of"), "{said}");
    let said = run(&[&base[..], &["--tasks", text(&broken), "--limit", "1"]].concat()).unwrap_err();
    assert!(said.contains("failed to find a trained model in"), "{said}");
    for zero in ["--limit", "--sequence-length"] {
        let said = run(&[&base[..], &[zero, "0"]].concat()).unwrap_err();
        assert!(said.contains("0 is not in 1.."), "{zero}: {said}");
    }
}

#[test]
fn a_question_that_the_model_cannot_see_is_named_by_file_and_line() {
    let root = tempfile::tempdir().unwrap();
    checkpoint(root.path(), true);
    let tasks = root.path().join("long.jsonl");
    let long = "x".repeat(config(true).max_position_embeddings as usize);
    let fits = r#"{"query": "a", "choices": ["b"], "gold": 0}"#;
    fs::write(&tasks, format!("{fits}\n{}", fits.replace("\"b\"", &format!("\"{long}\""))))
        .unwrap();
    let base = ["eval", "--checkpoint", text(root.path()), "--tasks", text(&tasks)];
    let said = run(&base).unwrap_err();
    assert!(said.contains("line 2 of") && said.contains("the model sees 16"), "{said}");
    run(&[&base[..], &["--limit", "1"]].concat()).unwrap();
}

#[test]
fn a_temperature_that_is_none_is_refused_before_a_model_is_read() {
    for wrong in ["-0.1", "NaN", "inf", "-inf"] {
        let temperature = format!("--temperature={wrong}");
        let line = ["generate", "--checkpoint", "nowhere", "--prompt", "a", &temperature];
        let said = run(&line).unwrap_err();
        assert!(said.contains("write a number of 0 or more"), "{wrong}: {said}");
    }
    let line = ["generate", "--checkpoint", "nowhere", "--prompt", "--x", "--temperature", "0"];
    let said = run(&line).unwrap_err();
    assert!(said.contains("failed to find a trained model in nowhere"), "{said}");
}

#[test]
fn text_is_written_from_a_prompt_of_any_length_the_empty_one_too() {
    let root = tempfile::tempdir().unwrap();
    checkpoint(root.path(), true);
    for prompt in ["", "é", &"long ".repeat(20)] {
        let base = ["generate", "--checkpoint", text(root.path()), "--prompt", prompt];
        run(&[&base[..], &["--tokens", "3"]].concat()).unwrap();
        run(&[&base[..], &["--tokens", "0"]].concat()).unwrap();
    }
}
