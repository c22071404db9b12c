//! The program itself: its one line of output, its exit codes, its sentences.

#![allow(clippy::unwrap_used)] // helpers of tests, outside `#[test]` functions

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

fn spec(folder: &Path, listen: &str) -> PathBuf {
    let path = folder.join("coordinator.yaml");
    let store = folder.join("store");
    let text = format!(
        "listen: {listen}\nstore: {}\nmetrics: 127.0.0.1:0\nrun: {{name: mini, islands: 1, \
         minimum: 1, quorumPercent: 100, graceMs: 0, deadlineMs: 1000, tokens: 1}}\n",
        store.display()
    );
    fs::write(&path, text).unwrap();
    path
}

fn program(spec: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heteroloco-coordinator"));
    command.arg("--spec").arg(spec).env_remove("OTEL_EXPORTER_OTLP_ENDPOINT");
    command
}

fn sentence(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn it_tells_the_ports_it_took_and_ends_well_when_told_to() {
    let folder = tempfile::tempdir().unwrap();
    let spec = spec(folder.path(), "127.0.0.1:0");
    let mut child = program(&spec).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(told["event"], "listening");
    let address = told["address"].as_str().unwrap();
    std::net::TcpStream::connect(address).unwrap();
    std::net::TcpStream::connect(told["metrics"].as_str().unwrap()).unwrap();

    let twin = program(&spec).output().unwrap();
    assert_eq!(twin.status.code(), Some(1));
    assert!(sentence(&twin).contains("another coordinator has it open"), "{}", sentence(&twin));

    let killed = Command::new("kill").arg(child.id().to_string()).status().unwrap();
    assert!(killed.success());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_bad_specification_ends_with_code_2_and_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = spec(folder.path(), "127.0.0.1:0");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("quorumPercent: 100", "quorumPercent: 0")).unwrap();
    let output = program(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        sentence(&output),
        "heteroloco-coordinator: failed to accept the specification: failed to accept the run's \
         rules: `quorumPercent` has to be 1 to 100\n"
    );
    let missing = program(&folder.path().join("none.yaml")).output().unwrap();
    assert_eq!(missing.status.code(), Some(2));
}

#[test]
fn a_store_of_another_kind_ends_with_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = spec(folder.path(), "127.0.0.1:0");
    fs::write(folder.path().join("store"), "something else entirely").unwrap();
    let output = program(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", sentence(&output));
    assert!(sentence(&output).contains("damaged or not a coordinator's"), "{}", sentence(&output));
}

#[test]
fn a_port_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = program(&spec(folder.path(), &address)).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let expected = format!("failed to listen on {address}: another program has the port");
    assert!(sentence(&output).contains(&expected), "{}", sentence(&output));
}

/// The program where no file may grow beyond so many KiB: as on a full disk, writing fails.
fn on_a_full_disk(spec: &Path, kib: u32) -> Output {
    let mut shell = Command::new("bash");
    // Without the trap the signal of the limit would end the program before it sees the error.
    let script = format!("trap '' XFSZ; ulimit -f {kib}; exec \"$@\"");
    let wrapped = program(spec);
    shell.args(["-c", &script, "bash"]).arg(wrapped.get_program()).args(wrapped.get_args());
    shell.env_remove("OTEL_EXPORTER_OTLP_ENDPOINT").output().unwrap()
}

#[test]
fn a_full_disk_is_told_and_may_have_room_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = spec(folder.path(), "127.0.0.1:0");
    for kib in [0, 4, 64] {
        let output = on_a_full_disk(&path, kib);
        assert_eq!(output.status.code(), Some(1), "{}", sentence(&output));
        let expected = format!("failed to write the store {}", folder.path().display());
        assert!(sentence(&output).contains(&expected), "{}", sentence(&output));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no half a store");
    }
    let mut child = program(&path).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    child.kill().unwrap();
    child.wait().unwrap();

    // It was killed, so that opening it again means to write.
    let output = on_a_full_disk(&path, 4);
    assert_eq!(output.status.code(), Some(1), "{}", sentence(&output));
    assert!(sentence(&output).contains("failed to write the store"), "{}", sentence(&output));
}

#[test]
fn an_empty_store_takes_the_run_up_where_it_is_told_and_one_that_knows_the_run_does_not() {
    let folder = tempfile::tempdir().unwrap();
    let path = spec(folder.path(), "127.0.0.1:0");
    let plain = fs::read_to_string(&path).unwrap();
    let standing = || {
        let output = program(&path).arg("--standing").output().unwrap();
        assert!(output.status.success(), "{}", sentence(&output));
        serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap()
    };
    assert_eq!(standing()["store"], "missing");
    assert!(!folder.path().join("store").exists());
    for round in [4, 9] {
        let adopt = format!("adopt: {{round: {round}, tokens: 700, samples: 7}}");
        fs::write(&path, format!("{plain}{adopt}\n")).unwrap();
        let mut child =
            program(&path).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let expected = serde_json::json!({"store": "whole", "run": "mini", "round": 4,
            "highest": 4, "tokens": 700, "checkpoint": null});
        assert_eq!(standing(), expected);
    }
    fs::write(folder.path().join("store"), "something else entirely").unwrap();
    let damaged = standing();
    assert_eq!(damaged["store"], "damaged");
    assert!(damaged["reason"].as_str().unwrap().contains("it is damaged"), "{damaged}");
}

/// The program, once it serves; what it is told on its standard input is nothing.
fn serving(spec: &Path, stdin: Stdio) -> std::process::Child {
    let mut command = program(spec);
    command.env("HETEROLOCO_PARENT", "stdin").stdin(stdin);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
    child
}

#[test]
fn it_ends_well_with_whoever_started_it_and_when_it_is_interrupted() {
    let folder = tempfile::tempdir().unwrap();
    let path = spec(folder.path(), "127.0.0.1:0");
    let mut child = serving(&path, Stdio::piped());
    drop(child.stdin.take());
    assert!(child.wait().unwrap().success(), "its parent is gone");
    let mut child = serving(&path, Stdio::piped());
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_store_of_another_run_ends_with_code_2_and_names_both() {
    let folder = tempfile::tempdir().unwrap();
    let path = spec(folder.path(), "127.0.0.1:0");
    let mut child = serving(&path, Stdio::piped());
    drop(child.stdin.take());
    child.wait().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("name: mini", "name: maxi")).unwrap();
    let output = program(&path).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", sentence(&output));
    let expected = "failed to resume the run \"maxi\": the saved state is the run \"mini\"'s";
    assert!(sentence(&output).contains(expected), "{}", sentence(&output));
}

#[test]
fn what_may_be_otherwise_another_time_ends_with_code_1_and_what_may_not_with_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = spec(folder.path(), "127.0.0.1:0");
    let good = fs::read_to_string(&path).unwrap();
    let store = folder.path().join("store").display().to_string();
    let table = [
        ("listen: 127.0.0.1:0", "listen: nowhere", 1, "failed to listen on nowhere"),
        ("listen: 127.0.0.1:0", "listen: 203.0.113.9:1", 1, "failed to listen on 203.0.113.9:1"),
        (&store[..], "/proc/none/store", 1, "failed to make the folder of the store"),
        ("islands: 1", "islands: many", 2, "failed to understand the specification: "),
        ("tokens: 1", "tokens: 1, tokenz: 2", 2, "unknown field `tokenz`"),
    ];
    for (from, to, code, expected) in table {
        assert!(good.contains(from), "{from}");
        fs::write(&path, good.replace(from, to)).unwrap();
        let output = program(&path).output().unwrap();
        let said = sentence(&output);
        assert_eq!(output.status.code(), Some(code), "{to}: {said}");
        assert!(said.contains(expected) && said.lines().count() == 1, "{to}: {said}");
        assert!(output.stdout.is_empty(), "it does not serve");
    }
}

/// A run does not depend on whether it can be watched.
#[test]
fn metrics_that_cannot_be_served_keep_no_run_from_being_coordinated() {
    let folder = tempfile::tempdir().unwrap();
    let path = spec(folder.path(), "127.0.0.1:0");
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = format!("metrics: {}", taken.local_addr().unwrap());
    let text = fs::read_to_string(&path).unwrap().replace("metrics: 127.0.0.1:0", &metrics);
    fs::write(&path, text).unwrap();
    let mut child = program(&path).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let told: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert!(told["address"].is_string() && told["metrics"].is_null(), "{told}");
    child.kill().unwrap();
    child.wait().unwrap();
}
