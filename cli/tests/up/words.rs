//! The lines of a run from its beginning to its end.

use std::fs;

use super::place::{MANIFESTS, Place, WORKER, stderr, stdout};

#[test]
fn a_run_is_told_from_its_cards_to_its_figures() {
    let place = Place::new(WORKER);
    let output = place.up(&[]);
    let (said, complained) = (stdout(&output), stderr(&output));
    assert_eq!(output.status.code(), Some(0), "{said}\n{complained}");
    assert!(said.starts_with("EMULATED CARDS: "), "{said}");
    for expected in [
        "b: started, epoch 1",
        "round 1/",
        "held-out loss 5.5000 at the start of round 0",
        "a: ended (the run is complete)",
        "  rounds        1, 500k tokens, in ",
        "identical after every round",
        "10.00 bits a kept value",
        "it takes about ",
        "warning: H is ",
        "warning: nothing is evaluated: the data has 0 held-out tokens, and one sequence of ",
    ] {
        assert!(said.contains(expected), "no {expected:?} in:\n{said}");
    }
    assert!(!said.contains("figure "), "{said}");
    let mut starts: Vec<_> = place.read("starts").lines().map(str::to_owned).collect();
    starts.sort_unstable();
    assert_eq!(starts, ["a-0 epoch 1 ", "b-0 epoch 1 ", "b-1 epoch 1 "]);
    assert!(place.read("runs/tiny/summary.json").contains("\"tokens\": 500000"));
    let again = place.up(&[]);
    assert_eq!(again.status.code(), Some(2));
    assert!(stderr(&again).contains("--resume"), "{}", stderr(&again));
}

#[test]
fn json_is_one_record_per_line_and_nothing_else() {
    let place = Place::new(WORKER);
    let output = place.up(&["--json"]);
    let records: Vec<serde_json::Value> =
        stdout(&output).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let begin = records.first().unwrap();
    assert_eq!((&begin["event"], &begin["tokens"]), (&"begin".into(), &1_000_000.into()));
    let [seconds, tokens] = ["expectedSeconds", "expectedTokens"].map(|key| begin[key].as_f64());
    assert!(seconds.unwrap() > 60.0 && tokens.unwrap() >= 1_000_000.0, "{begin}");
    assert!(records.iter().any(|record| record["event"] == "warning"));
    assert!(records.iter().all(|record| record["elapsed"].is_f64()));
    let end = records.last().unwrap();
    assert_eq!((&end["event"], &end["outcome"]["kind"]), (&"end".into(), &"finished".into()));
    assert_eq!(end["summary"]["rounds"], 1);
    let round = records.iter().find(|record| record["event"] == "round").unwrap();
    assert!(round["island"].is_string() && round["rank"] == 0 && round["epoch"] == 1, "{round}");
    let kept = place.read("runs/tiny/events.jsonl");
    assert_eq!(kept.lines().count(), records.len());
}

#[test]
fn a_run_that_this_machine_cannot_hold_is_refused_before_anything_is_written() {
    let place = Place::new(WORKER);
    let large = MANIFESTS.replace("llama-demo", "llama-8b");
    let large = large.replace("NVIDIA-H100-80GB-HBM3, count: 1", "NVIDIA-B200, count: 16");
    let large = large.replace("NVIDIA-GeForce-RTX-4090, count: 2", "NVIDIA-B200, count: 16");
    fs::write(place.path("run.yaml"), large).unwrap();
    let output = place.up(&[]);
    assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
    let complained = stderr(&output);
    for expected in ["ranks of this run on the CPU, and ", "set a smaller model, or fewer cards"] {
        assert!(complained.contains(expected), "{complained}");
    }
    assert!(!place.path("runs").exists());
}

#[test]
fn a_loss_that_rises_is_said_once_and_what_is_trained_beyond_the_tokens_asked_for_too() {
    let rises = r#"
if [ "$rank" = 0 ]; then
  echo '{"event": "evaluation", "round": 0, "heldoutLoss": 4.5}'
  echo '{"event": "evaluation", "round": 5, "heldoutLoss": 5.5}'
fi
"#;
    let place = Place::new(&format!("{rises}{}", WORKER.replace("5.5", "4.5")));
    let few = MANIFESTS.replace("tokens: 1000000", "tokens: 1");
    fs::write(place.path("run.yaml"), few).unwrap();
    let said = stdout(&place.up(&[]));
    let rise = "warning: held-out loss rises: 5.5000 at the start of round 5, 4.5000 at that of 0";
    assert_eq!(said.matches("held-out loss rises").count(), 1, "{said}");
    assert!(said.contains(&rise.replace("of 0", "of round 0")), "{said}");
    assert!(said.contains("warning: the run trains whole rounds: 1 round of "), "{said}");
    assert!(said.contains("warning: the warm-up of "), "{said}");
}
