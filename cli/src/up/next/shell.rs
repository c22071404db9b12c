//! Commands to type are taken by a shell as they were meant.

use std::process::Command as Process;

use clap::Parser as _;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::args::{Cli, Command};

/// The words that a shell makes of a line.
fn words(line: &str) -> Vec<String> {
    let script = format!("for word in {line}; do printf '%s\\0' \"$word\"; done");
    let output = Process::new("sh").args(["-c", &script]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.split_terminator('\0').map(str::to_owned).collect()
}

fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(cases) }
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn every_path_is_one_word_and_the_same(paths in vec("[^\\x00]{1,20}", 1..4)) {
        let line = paths.iter().map(|path| quoted(Path::new(path))).collect::<Vec<_>>().join(" ");
        prop_assert_eq!(words(&line), paths);
    }
}

#[test]
fn what_a_shell_would_read_otherwise_is_quoted_and_what_it_would_not_is_not() {
    let table = [
        ("runs/mini-llama_2.yaml", "runs/mini-llama_2.yaml"),
        ("", "''"),
        ("a b", "'a b'"),
        ("~/runs", "'~/runs'"),
        ("$HOME", "'$HOME'"),
        ("*.yaml", "'*.yaml'"),
        ("it's", r"'it'\''s'"),
        ("größe.yaml", "größe.yaml"),
        ("a;b", "'a;b'"),
    ];
    for (word, expected) in table {
        assert_eq!(quoted(Path::new(word)), expected);
    }
}

/// The command with which a session goes on is the one that began it, with `--resume`.
#[test]
fn a_run_goes_on_with_all_that_it_was_begun_with() {
    let line = "heteroloco up -f a.yaml -f 'b c.yaml' --measured s.json t.json --data d \
                --run-dir r --json";
    let parse = |words: Vec<String>| match Cli::try_parse_from(words).unwrap().command {
        Command::Up(args) => args,
        other => panic!("{other:?}"),
    };
    let args = parse(words(line));
    let next = Next::new(&args, Path::new("r"), None);
    let text = next.text(&Outcome::Stopped, &Summary::default());
    let command = text.lines().nth(1).unwrap();
    let again = parse(words(command));
    assert!(again.resume && !again.adopt && !again.json);
    assert_eq!(
        (&again.files, &again.measured, &again.data, &again.run_dir),
        (&args.files, &args.measured, &args.data, &args.run_dir)
    );
}

#[test]
fn paths_outside_of_here_stay_whole_and_here_itself_is_not_nothing() {
    let next = |run_dir: &str| Next {
        program: "heteroloco".into(),
        resume: vec!["up".into()],
        run_dir: run_dir.into(),
        held_out: Some("/here".into()),
        here: "/here".into(),
    };
    let checkpoint = Some("/else/where/a/round-00000007".to_owned());
    let summary = Summary { checkpoint, ..Summary::default() };
    let text = next("/here/r").text(&Outcome::Finished, &summary);
    assert!(text.contains("generate --checkpoint /else/where/a --prompt"), "{text}");
    assert!(text.contains("eval --checkpoint /else/where/a --data /here\n"), "{text}");
    assert!(text.contains("--out r/huggingface\n"), "{text}");
    // Of a run that failed what there is can still be used, once.
    let failed = next("/here/r").text(&Outcome::Failed("lost".into()), &summary);
    assert!(failed.starts_with("to go on, once that is mended:\n  heteroloco up\n"), "{failed}");
    assert_eq!(failed.matches("heteroloco up").count(), 1, "{failed}");
    assert!(failed.contains("to continue a text:"), "{failed}");
}
