//! What people read and what tools read of one evaluation.

use serde_json::{Value, json};

use super::*;

fn share(value: f64, stderr: Option<f64>) -> Share {
    Share { value, stderr }
}

fn report() -> Report {
    let answers = AnswerScore {
        acc: share(0.5, Some(0.125)),
        acc_norm: share(0.75, Some(0.0625)),
        acc_bytes: share(1.0, None),
    };
    let texts = TextScore { word_perplexity: 12.0, byte_perplexity: 2.0, bits_per_byte: 1.0 };
    let document = |line, log_likelihoods: &[f64], gold| DocumentReport {
        line,
        log_likelihoods: log_likelihoods.to_vec(),
        gold,
    };
    Report {
        checkpoint: "runs/a".into(),
        held_out: Some(HeldOutReport {
            data: "texts".into(),
            tokens: 1024,
            loss: 0.75,
            perplexity: 2.0,
            bits_per_byte: Some(1.0),
        }),
        tasks: vec![
            TaskReport {
                file: "q.jsonl".into(),
                score: Score::Answers(answers),
                documents: vec![document(1, &[-1.0, -2.5], Some(1)), document(3, &[-1.0], Some(0))],
            },
            TaskReport {
                file: "t.jsonl".into(),
                score: Score::Texts(texts),
                documents: vec![document(1, &[-7.0], None)],
            },
        ],
    }
}

#[test]
fn people_read_a_line_for_each_metric_with_its_error_where_there_is_one() {
    let expected = "texts: 1024 held-out tokens\n  \
        loss            0.7500 nats/token\n  \
        perplexity      2.0000\n  \
        bits_per_byte   1.0000\n\
        q.jsonl: 2 questions\n  \
        acc             0.5000 ± 0.1250\n  \
        acc_norm        0.7500 ± 0.0625\n  \
        acc_bytes       1.0000\n\
        t.jsonl: 1 texts\n  \
        word_perplexity 12.0000\n  \
        byte_perplexity 2.0000\n  \
        bits_per_byte   1.0000\n";
    assert_eq!(report().to_string(), expected);
}

#[test]
fn tools_read_the_same_figures_and_those_of_each_document() {
    let value = serde_json::to_value(report()).unwrap();
    let expected = json!({
        "checkpoint": "runs/a",
        "heldOut": {
            "data": "texts", "tokens": 1024, "loss": 0.75, "perplexity": 2.0,
            "bitsPerByte": 1.0
        },
        "tasks": [
            {
                "file": "q.jsonl",
                "score": {
                    "acc": {"value": 0.5, "stderr": 0.125},
                    "acc_norm": {"value": 0.75, "stderr": 0.0625},
                    "acc_bytes": {"value": 1.0, "stderr": null}
                },
                "documents": [
                    {"line": 1, "logLikelihoods": [-1.0, -2.5], "gold": 1},
                    {"line": 3, "logLikelihoods": [-1.0], "gold": 0}
                ]
            },
            {
                "file": "t.jsonl",
                "score": {"word_perplexity": 12.0, "byte_perplexity": 2.0, "bits_per_byte": 1.0},
                "documents": [{"line": 1, "logLikelihoods": [-7.0]}]
            }
        ]
    });
    assert_eq!(value, expected);
}

#[test]
fn what_was_not_measured_is_not_there_and_what_is_no_number_is_null() {
    let mut report = report();
    report.held_out = None;
    report.tasks.truncate(1);
    report.tasks[0].documents[0].log_likelihoods[0] = f64::NAN;
    let value = serde_json::to_value(&report).unwrap();
    assert!(value.get("heldOut").is_none());
    assert_eq!(value["tasks"][0]["documents"][0]["logLikelihoods"][0], Value::Null);
    assert!(report.to_string().starts_with("q.jsonl: 2 questions\n"));
    report.tasks.clear();
    assert_eq!(report.to_string(), "");
}

#[test]
fn tokens_that_are_no_bytes_have_no_bits_per_byte() {
    let mut report = report();
    report.held_out.as_mut().unwrap().bits_per_byte = None;
    report.tasks.clear();
    assert!(!report.to_string().contains("bits_per_byte"));
    let value = serde_json::to_value(&report).unwrap();
    assert!(value["heldOut"].get("bitsPerByte").is_none(), "{value}");
}
