//! `heteroloco island`, which is another program.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Output};

fn island(program: &str, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_heteroloco"));
    command.arg("island").args(args).env("HETEROLOCO_KUBECTL_ISLAND", program);
    command.output().expect("a program that starts")
}

#[test]
fn the_plugin_gets_all_that_follows_and_its_exit_code_counts() {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("kubectl-island");
    fs::write(&program, "#!/bin/sh\necho \"$@\"\nexit 3\n").unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let output = island(program.to_str().unwrap(), &["top", "-A", "--help"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "top -A --help\n");
    assert_eq!(output.status.code(), Some(3));
}

#[test]
fn without_the_plugin_it_says_how_to_get_it() {
    let output = island("/nonexistent/kubectl-island", &["top"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("build it with `make build`"), "{said}");
    assert_eq!(output.status.code(), Some(1));
}
