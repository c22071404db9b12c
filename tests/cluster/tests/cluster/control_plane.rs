//! A control plane works, has room beside others, survives an outage, and leaves nothing behind.

use crate::look::{processes_of, until_exists, until_gone};
use test_cluster::{ClusterError, ControlPlane, Options};

async fn start() -> ControlPlane {
    ControlPlane::start(Options::default()).await.unwrap()
}

async fn read(plane: &ControlPlane, name: &str) -> Result<String, ClusterError> {
    plane.kubectl(&["get", "configmap", name, "--output=jsonpath={.data.key}"]).await
}

#[tokio::test]
async fn what_is_applied_is_read_again_even_after_the_api_server_was_away() {
    let mut plane = start().await;
    let manifest = r#"{"apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "kept"}, "data": {"key": "value"}}"#;
    plane.kubectl_with(&["apply", "-f", "-"], manifest.as_bytes()).await.unwrap();
    assert_eq!(read(&plane, "kept").await.unwrap(), "value");

    plane.stop_api_server();
    let error = read(&plane, "kept").await.unwrap_err().to_string();
    assert!(error.contains("refused"), "{error}");

    plane.start_api_server().await.unwrap();
    assert_eq!(read(&plane, "kept").await.unwrap(), "value");
    let log = std::fs::read_to_string(plane.audit_log()).unwrap();
    assert!(log.contains("/api/v1/namespaces/default/configmaps/kept"));
    let releases = plane.helm(&["list", "--output=json"]).await.unwrap();
    assert_eq!(releases.trim(), "[]");
}

#[tokio::test]
async fn two_control_planes_run_beside_each_other_and_do_not_share_objects() {
    let (one, other) = tokio::join!(start(), start());
    one.kubectl(&["create", "configmap", "mine", "--from-literal=key=value"]).await.unwrap();
    assert_eq!(read(&one, "mine").await.unwrap(), "value");
    let error = read(&other, "mine").await.unwrap_err().to_string();
    assert!(error.contains("not found"), "{error}");
}

#[tokio::test]
async fn a_dropped_control_plane_leaves_no_process_and_no_file() {
    let plane = start().await;
    let dir = plane.dir().to_owned();
    // Its four programs, and the one that removes the folder where nobody else does.
    assert_eq!(processes_of(&dir).len(), 5, "{:?}", processes_of(&dir));
    drop(plane);
    assert_eq!(processes_of(&dir), Vec::<String>::new());
    assert!(!dir.exists());
}

#[tokio::test]
async fn a_killed_owner_takes_its_control_plane_along() {
    let dir = tempfile::tempdir().unwrap();
    let program = env!("CARGO_BIN_EXE_test-cluster");
    let mut command = tokio::process::Command::new(program);
    command.args(["serve", "--nodes", "0", "--dir"]).arg(dir.path()).kill_on_drop(true);
    let mut owner = command.spawn().unwrap();
    until_exists(&dir.path().join("ready")).await;
    assert!(!processes_of(dir.path()).is_empty());
    owner.kill().await.unwrap();
    until_gone(dir.path()).await;
}
