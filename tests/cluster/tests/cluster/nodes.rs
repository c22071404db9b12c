//! Nodes run pods that ask for GPUs, and pods reach each other, services and the API server.

use std::fs;

use serde_json::{Value, json};
use test_cluster::{
    Cluster, ClusterError, ControlPlane, Image, Kwok, Node, NodeOptions, Options, Recipe,
    build_image,
};

use crate::look::{cgroups, processes_of};

/// The base with a file more.
async fn image() -> Image {
    let context = tempfile::tempdir().unwrap();
    let dockerfile = context.path().join("Dockerfile");
    let text = "FROM docker.io/library/debian:bookworm-slim\nCOPY greeting /greeting\n";
    fs::write(&dockerfile, text).unwrap();
    fs::write(context.path().join("greeting"), "hello from an image\n").unwrap();
    let recipe = Recipe::new(&dockerfile, context.path());
    build_image(recipe, "localhost/test-cluster:test").await.unwrap()
}

/// Asks a pod of the other node, its service, and the API server as pods know it.
const CLIENT: &str = "\
    until exec 3<>/dev/tcp/ADDRESS/8000; do :; done; cat <&3; \
    until exec 3<>/dev/tcp/$SERVER_SERVICE_HOST/80; do :; done; cat <&3; \
    echo | openssl s_client -connect $KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT \
        -CAfile /var/run/secrets/kubernetes.io/serviceaccount/ca.crt -verify_return_error \
        -verify_ip $KUBERNETES_SERVICE_HOST 2> /dev/null \\
        | sed -n 's/.*Verification: /API server: /p'";

/// A pod that asks for a GPU and runs a line of bash.
fn pod(name: &str, product: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {
            "restartPolicy": "Never",
            "nodeSelector": {"nvidia.com/gpu.product": product},
            "containers": [{
                "name": "main", "image": "localhost/test-cluster:test",
                "imagePullPolicy": "Never", "command": ["bash", "-c", script],
                "resources": {"limits": {"nvidia.com/gpu": 1}},
            }],
        },
    })
}

async fn create(plane: &ControlPlane, object: &Value) {
    plane.kubectl_with(&["create", "-f", "-"], object.to_string().as_bytes()).await.unwrap();
}

/// Waits until the pod has succeeded and returns its log.
async fn finish(plane: &ControlPlane, name: &str) -> String {
    let phase = "--for=jsonpath={.status.phase}=Succeeded";
    let done = plane.kubectl(&["wait", "pod", name, phase, "--timeout=180s"]).await;
    let log = plane.kubectl(&["logs", name]).await;
    let seen = plane.kubectl(&["describe", "pod", name]).await;
    done.unwrap_or_else(|error| panic!("{error}\n{log:?}\n{}", seen.unwrap_or_default()));
    log.unwrap()
}

#[tokio::test]
async fn pods_that_ask_for_gpus_run_on_each_node_and_reach_what_pods_have_to_reach() {
    let mut cluster = Cluster::start(None, test_cluster::gpu_nodes(2)).await.unwrap();
    let image = self::image().await;
    assert_eq!(image, self::image().await, "the same files are the same image");
    for node in &cluster.nodes {
        node.load_image(&image).await.unwrap();
    }
    let plane = &cluster.plane;
    let (h100, rtx) = ("NVIDIA-H100-80GB-HBM3", "NVIDIA-GeForce-RTX-4090");

    create(plane, &pod("greets", h100, "cat /greeting")).await;
    assert_eq!(finish(plane, "greets").await, "hello from an image\n");

    let serve = "exec perl -MIO::Socket::INET -e '\
        $s = IO::Socket::INET->new(LocalPort => 8000, Listen => 5, ReuseAddr => 1) or die $!; \
        while ($c = $s->accept) { print $c \"served\\n\"; close $c }'";
    create(plane, &pod("server", h100, serve)).await;
    plane.kubectl(&["expose", "pod", "server", "--port=80", "--target-port=8000"]).await.unwrap();
    plane.kubectl(&["wait", "pod", "server", "--for=condition=Ready"]).await.unwrap();
    let address = ["get", "pod", "server", "--output=jsonpath={.status.podIP}"];
    let address = plane.kubectl(&address).await.unwrap();
    create(plane, &pod("client", rtx, &CLIENT.replace("ADDRESS", &address))).await;
    assert_eq!(finish(plane, "client").await, "served\nserved\nAPI server: OK\n");

    cluster.nodes[0].stop_kubelet();
    cluster.nodes[0].start_kubelet().await.unwrap();
    let gpus = "--output=jsonpath={.items[*].status.allocatable.nvidia\\.com/gpu}";
    assert_eq!(cluster.plane.kubectl(&["get", "nodes", gpus]).await.unwrap(), "2 4");

    let dir = cluster.plane.dir().to_owned();
    let address = cluster.nodes[0].address().to_string().replace('.', "-");
    assert!(!cgroups(&address).is_empty());
    drop(cluster);
    assert_eq!(processes_of(&dir), Vec::<String>::new());
    assert_eq!(cgroups(&address), Vec::<std::path::PathBuf>::new());
    assert!(!dir.exists());
}

#[tokio::test]
async fn fake_nodes_take_pods_and_need_no_root() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let mut kwok = Kwok::start(&plane).await.unwrap();
    let gpus = test_cluster::Gpus::h100(8);
    let nodes: Vec<_> =
        (0..100).map(|n| NodeOptions::new(format!("fake-{n}"), Some(gpus.clone()))).collect();
    kwok.add_nodes(&plane, &nodes).await.unwrap();

    create(&plane, &pod("claims", &gpus.product, "never run")).await;
    plane.kubectl(&["wait", "pod", "claims", "--for=condition=Ready"]).await.unwrap();
    plane.kubectl(&["delete", "pod", "claims", "--timeout=60s"]).await.unwrap();
}

#[tokio::test]
async fn a_node_is_refused_where_its_pods_could_not_reach_the_api_server() {
    let plane = ControlPlane::start(Options::default()).await.unwrap();
    let refused = Node::start(&plane, NodeOptions::new("lost", None)).await;
    assert!(matches!(refused, Err(ClusterError::NoNetwork { .. })), "{refused:?}");
}
