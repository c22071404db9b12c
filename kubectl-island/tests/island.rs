//! The plugin of kubectl, as a program that finds no cluster.

use std::fs;
use std::process::{Command, Output};

/// Runs the plugin, which finds no cluster by itself.
fn run(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kubectl-island"));
    command.args(args).env("KUBECONFIG", "/nonexistent/kubeconfig");
    command.env_remove("KUBERNETES_SERVICE_HOST").output().expect("a program that starts")
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("text")
}

#[test]
fn it_is_kubectl_s_plugin_by_its_help() {
    let help = run(&["--help"]);
    let text = String::from_utf8(help.stdout).unwrap();
    assert!(text.contains("Usage: kubectl island "), "{text}");
    assert!(text.contains("drain"), "{text}");
    assert_eq!(run(&["up", "-f", "x"]).status.code(), Some(2));
}

#[test]
fn without_a_cluster_it_says_where_one_is_looked_for() {
    let output = run(&["top"]);
    assert_eq!(output.status.code(), Some(2));
    let said = said(&output);
    assert!(said.contains("set --kubeconfig or KUBECONFIG"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}

#[test]
fn a_cluster_that_does_not_answer_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    let config = "
apiVersion: v1
kind: Config
current-context: here
contexts: [{name: here, context: {cluster: here, user: me}}]
clusters: [{name: here, cluster: {server: 'http://127.0.0.1:1'}}]
users: [{name: me, user: {}}]
";
    fs::write(&path, config).unwrap();
    let kubeconfig = path.to_str().unwrap();
    let args = |context| ["explain", "x", "--kubeconfig", kubeconfig, "--context", context];
    let output = run(&args("here"));
    assert_eq!(output.status.code(), Some(1));
    let text = said(&output);
    assert!(text.contains("http://127.0.0.1:1 does not answer"), "{text}");
    let output = run(&args("there"));
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("there"));
}
