//! Command lines, the file that tells a rank what to do, and its last words.

use std::fs;

use serde_json::{Value, json};

use super::*;

/// A spec in which every address is of all of the machine.
fn spec() -> Value {
    let mut spec = crate::testing::spec();
    spec["listen"] = json!("0.0.0.0:7001");
    spec["collectiveListen"] = json!("0.0.0.0:7002");
    spec["metrics"] = json!("0.0.0.0:7003");
    spec
}

fn parse(line: &str) -> Result<Arguments, String> {
    let words = std::iter::once("heteroloco-worker").chain(line.split_whitespace());
    Arguments::try_parse_from(words).map_err(|error| error.to_string())
}

/// The spec as a rank with these words reads it, from a file with this content.
fn read(content: &[u8], words: &str) -> anyhow::Result<WorkerSpec> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spec.yaml");
    fs::write(&path, content).unwrap();
    let line = format!("--spec {} --rank 0 {words}", path.display());
    read_spec(&parse(&line).unwrap().rank)
}

#[test]
fn a_rank_needs_its_number_and_other_commands_do_not_go_with_it() {
    let rank =
        parse("--spec a.yaml --rank 3 --resume --host 10.0.0.7 --termination-log t").unwrap();
    assert!(rank.command.is_none() && rank.rank.resume);
    assert_eq!(rank.rank.rank, Some(3));
    assert_eq!(rank.rank.host, Some("10.0.0.7".parse().unwrap()));
    let table = [
        ("--spec a.yaml", "--rank"),
        ("--spec a.yaml --rank -1", "unexpected argument"),
        ("--spec a.yaml --rank 4294967296", "invalid value"),
        ("--spec a.yaml --rank 0 --host lab", "invalid value"),
        ("--spec a.yaml --rank 0 more", "cannot be used with"),
        ("--spec a.yaml --rank 0 probe", "cannot be used with"),
        ("generate", "--checkpoint"),
        ("eval", "--checkpoint"),
        ("export --checkpoint a", "--out"),
    ];
    for (line, said) in table {
        let refused = parse(line).unwrap_err();
        assert!(refused.contains(said), "{line}: {refused}");
    }
}

#[test]
fn without_a_file_a_rank_says_what_to_give() {
    let text = format!("{:#}", read_spec(&parse("--rank 0").unwrap().rank).unwrap_err());
    assert!(text.contains("give --spec FILE"), "{text}");
}

#[test]
fn the_file_is_yaml_of_which_json_is_a_part() {
    let json = spec();
    let read_json = read(json.to_string().as_bytes(), "").unwrap();
    let yaml = serde_yaml::to_string(&json).unwrap();
    assert_eq!(read(yaml.as_bytes(), "").unwrap(), read_json);
    assert_eq!(read_json.run.name, "tiny");
    assert_eq!(read_json.metrics.as_deref(), Some("0.0.0.0:7003"));
}

#[test]
fn an_address_of_this_machine_takes_the_place_of_every_host_and_of_no_port() {
    let content = spec().to_string();
    for (host, shown) in [("10.0.0.7", "10.0.0.7"), ("fd00::7", "[fd00::7]")] {
        let spec = read(content.as_bytes(), &format!("--host {host}")).unwrap();
        let found = [&spec.listen, &spec.collective_listen, spec.metrics.as_ref().unwrap()];
        for (listen, port) in found.into_iter().zip([7001, 7002, 7003]) {
            assert_eq!(*listen, format!("{shown}:{port}"));
        }
        assert_eq!(spec.coordinator, "http://127.0.0.1:1", "others are where they were");
    }
    let mut without = spec();
    without["metrics"] = Value::Null;
    without["listen"] = json!("no-port");
    without["collectiveListen"] = json!("[::1]:9");
    let spec = read(without.to_string().as_bytes(), "--host 10.0.0.7").unwrap();
    assert_eq!((&spec.listen[..], spec.metrics), ("10.0.0.7:0", None));
    assert_eq!(spec.collective_listen, "10.0.0.7:9");
}

#[test]
fn a_file_that_cannot_be_read_is_told_apart_from_one_that_makes_no_sense() {
    let is_io = |error: &anyhow::Error| error.chain().any(|cause| cause.is::<io::Error>());
    let missing = read_spec(&parse("--spec nowhere.yaml --rank 0").unwrap().rank).unwrap_err();
    assert!(is_io(&missing), "{missing:#}");
    assert!(format!("{missing:#}").contains("failed to open the spec nowhere.yaml"));
    let mut unknown = spec();
    unknown["lisetn"] = json!("a:1");
    let mut negative = spec();
    negative["island"]["innerSteps"] = json!(-1);
    let mut short = spec().to_string();
    short.truncate(short.len() / 2);
    let table = [
        (unknown.to_string(), "lisetn"),
        (negative.to_string(), "innerSteps"),
        (short, "failed to understand the spec"),
        (String::new(), "failed to understand the spec"),
        ("- a\n- b\n".into(), "failed to understand the spec"),
        ("\0".into(), "failed to understand the spec"),
    ];
    for (content, said) in table {
        let error = read(content.as_bytes(), "").unwrap_err();
        assert!(format!("{error:#}").contains(said), "{said}: {error:#}");
        assert!(!is_io(&error), "{said}: it would come again");
    }
}

#[test]
fn a_file_without_end_is_not_read_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hole");
    // More than any machine that runs this has memory.
    fs::File::create(&path).unwrap().set_len(1 << 42).unwrap();
    let line = format!("--spec {} --rank 0", path.display());
    let text = format!("{:#}", read_spec(&parse(&line).unwrap().rank).unwrap_err());
    assert!(text.contains("failed to understand the spec"), "{text}");
}

fn code(code: ExitCode) -> String {
    format!("{code:?}")
}

#[test]
fn last_words_are_in_the_file_that_was_named_and_the_code_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("termination");
    fs::write(&log, "what the platform put there, which is longer than the event may be").unwrap();
    let line = format!("--spec a --rank 0 --termination-log {}", log.display());
    let arguments = parse(&line).unwrap().rank;
    assert_eq!(code(fail(EXIT_LOST, "a \"reason\"", &arguments)), code(ExitCode::from(3)));
    let event: WorkerEvent = serde_json::from_slice(&fs::read(&log).unwrap()).unwrap();
    assert_eq!(event, WorkerEvent::Failed { error: "a \"reason\"".into() });
    last_words(&WorkerEvent::Finished { ending: Ending::Stopped }, &arguments);
    let event: WorkerEvent = serde_json::from_slice(&fs::read(&log).unwrap()).unwrap();
    assert_eq!(event, WorkerEvent::Finished { ending: Ending::Stopped });
}

#[test]
fn a_termination_log_that_cannot_be_written_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().to_path_buf(), folder.path().join("missing/log")] {
        let line = format!("--spec a --rank 0 --termination-log {}", path.display());
        let arguments = parse(&line).unwrap().rank;
        assert_eq!(code(fail(EXIT_CONFIG, "why", &arguments)), code(ExitCode::from(2)));
    }
}

#[test]
fn codes_that_a_process_cannot_have_are_a_failure_and_no_success() {
    for (given, expected) in [(0, 0), (5, 5), (255, 255), (256, 1), (-1, 1), (i32::MIN, 1)] {
        assert_eq!(code(exit(given)), code(ExitCode::from(expected)), "{given}");
    }
}

#[test]
fn a_rank_whose_file_is_away_fails_and_one_whose_file_is_wrong_is_not_started_again() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = folder.path().join("wrong.yaml");
    fs::write(&wrong, "a: b").unwrap();
    for (path, expected) in [(folder.path().join("missing"), EXIT_FAILED), (wrong, EXIT_CONFIG)] {
        let line = format!("--spec {} --rank 0", path.display());
        let ended = run_rank(&parse(&line).unwrap().rank);
        assert_eq!(code(ended), code(exit(expected)), "{}", path.display());
    }
}
