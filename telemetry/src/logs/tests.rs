//! Tests of what a process says under which variables: each in a process of its own, as a process
//! has one subscriber.

use std::process::Command;

use super::*;

/// Where it is set, this is the process that speaks.
const SPEAKS: &str = "HETEROLOCO_TEST_SPEAKS";

#[test]
fn speaks() {
    if env::var_os(SPEAKS).is_none() {
        return;
    }
    let service = Service { name: "test".into(), attributes: vec![("island", "lab".into())] };
    match init(&service) {
        Err(error) => eprintln!("refused: {error}"),
        Ok(guard) => {
            tracing::debug!("Said at debug.");
            tracing::info!(round = 7, "Said at info.");
            tracing::warn!("Said at warn.");
            let again = init(&service).expect_err("once is all");
            eprintln!("again: {again}");
            drop(guard);
        }
    }
}

/// The lines of a process with these variables.
fn said(variables: &[(&str, &str)]) -> Vec<String> {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "logs::tests::speaks", "--nocapture"]).env(SPEAKS, "1");
    for name in [LOG_FILTER, LOG_FORMAT, ENDPOINT] {
        command.env_remove(name);
    }
    let output = command.envs(variables.iter().copied()).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stderr).unwrap();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_process_says_what_its_filter_lets_through() {
    type Case<'a> = (&'a [(&'a str, &'a str)], [bool; 3]);
    let table: [Case<'_>; 5] = [
        (&[], [false, true, true]),
        (&[(LOG_FILTER, "")], [false, true, true]),
        (&[(LOG_FILTER, "debug")], [true, true, true]),
        (&[(LOG_FILTER, "warn"), (LOG_FORMAT, "text")], [false, false, true]),
        (&[(LOG_FILTER, "off"), (LOG_FORMAT, "")], [false, false, false]),
    ];
    for (variables, expected) in table {
        let lines = said(variables);
        let has = |what: &str| lines.iter().any(|line| line.contains(what));
        let found = ["Said at debug.", "Said at info.", "Said at warn."].map(has);
        assert_eq!(found, expected, "{variables:?}: {lines:?}");
        assert!(has("again: failed to set up logs: they are set up already"), "{lines:?}");
        assert!(!has("\u{1b}["), "no colours where no terminal is: {lines:?}");
    }
}

#[test]
fn lines_of_json_have_the_fields_beside_the_message() {
    let lines = said(&[(LOG_FORMAT, "json")]);
    let own: Vec<_> = lines.iter().filter(|line| line.contains("Said at info.")).collect();
    let [line] = own[..] else { panic!("one line: {lines:?}") };
    assert!(line.starts_with('{') && line.ends_with('}'), "{line}");
    for part in ["\"level\":\"INFO\"", "\"message\":\"Said at info.\"", "\"round\":7"] {
        assert!(line.contains(part), "{part} in {line}");
    }
}

#[test]
fn a_variable_that_is_not_understood_is_refused_before_anything_is_said() {
    let cases = [
        ((LOG_FORMAT, "xml"), "HETEROLOCO_LOG is \"xml\"; it may be text or json"),
        ((LOG_FORMAT, "JSON"), "HETEROLOCO_LOG is \"JSON\"; it may be text or json"),
        ((LOG_FILTER, "telemetry=loudly"), "RUST_LOG is no filter"),
    ];
    for (variable, why) in cases {
        let lines = said(&[variable]);
        let refusal = format!("refused: failed to set up logs: {why}");
        assert!(lines.contains(&refusal), "{refusal}: {lines:?}");
        assert!(!lines.iter().any(|line| line.contains("Said at")), "{lines:?}");
    }
    let is_final = InitError::Format { found: String::new() }.is_final();
    assert!(is_final && !InitError::Runtime(std::io::Error::other("no")).is_final());
}
