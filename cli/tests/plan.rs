//! `heteroloco plan` as a process: files in, tables or objects out, exit codes.

// clippy.toml allows it in functions marked as tests, not in what they call.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::process::{Command, Output};

use serde_json::Value;

/// Exit code of a command whose input has to change before it can work.
const REFUSED: Option<i32> = Some(2);

const MANIFESTS: &str = "
apiVersion: heteroloco.dev/v1alpha1
kind: TrainingRun
metadata: {name: big}
spec:
  model: {preset: llama-8b}
  data: {path: data, tokenizer: byte}
  tokens: 1000000000
---
apiVersion: heteroloco.dev/v1alpha1
kind: ComputeIsland
metadata: {name: dc}
spec:
  runRef: {name: big}
  devices: [{product: NVIDIA-B200, count: 8}]
";

const RECORD: &str = r#"{
    "node": "dc-0-0",
    "devices": [{"product": "NVIDIA-B200", "index": 0, "memoryBytes": 150000000000,
        "freeBytes": 150000000000,
        "reached": {"f32Tflops": 50.0, "bf16Tflops": 900.0, "bandwidthGbps": 5000.0}}],
    "links": {}
}"#;

/// Two nodes with cards, and one whose cards cannot be used.
const NODES: &str = r#"
kind: List
items:
- kind: Node
  metadata:
    name: gpu-1
    labels: {zone: east, nvidia.com/gpu.count: "8", nvidia.com/gpu.memory: "183359",
      nvidia.com/gpu.product: NVIDIA-B200}
  status: {allocatable: {nvidia.com/gpu: "8"}}
- kind: Node
  metadata:
    name: gpu-2
    labels: {zone: west, nvidia.com/gpu.count: "8", nvidia.com/gpu.memory: "183359",
      nvidia.com/gpu.product: NVIDIA-B200}
  status: {allocatable: {nvidia.com/gpu: "8"}}
- kind: Node
  metadata:
    name: gpu-3
    labels: {nvidia.com/gpu.count: "8", nvidia.com/gpu.memory: "183359",
      nvidia.com/gpu.product: NVIDIA-B200}
  spec: {unschedulable: true}
  status: {allocatable: {nvidia.com/gpu: "8"}}
"#;

struct Place(tempfile::TempDir);

impl Place {
    fn new(manifests: &str) -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        place.write("run.yaml", manifests);
        place
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.0.path().join(name), text).unwrap();
    }

    fn plan(&self, more: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_heteroloco"));
        let command = command.args(["plan", "-f", "run.yaml"]).args(more);
        command.current_dir(self.0.path()).output().unwrap()
    }

    fn refused(&self, more: &[&str]) -> String {
        let output = self.plan(more);
        assert_eq!(output.status.code(), REFUSED, "{output:?}");
        String::from_utf8(output.stderr).unwrap()
    }
}

fn stdout(output: &Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn declared_cards_are_planned_whatever_the_machine_has() {
    let place = Place::new(MANIFESTS);
    let said = stdout(&place.plan(&[]));
    assert!(said.starts_with("ASSUMED NODES: "), "{said}");
    assert!(said.contains("NVIDIA-B200") && said.contains("MFU "), "{said}");
    assert!(!said.contains("CPU thread") && !said.contains("layouts"), "{said}");
    assert!(stdout(&place.plan(&["--explain"])).contains("  other layouts that fit"));
}

#[test]
fn an_object_is_written_as_json_or_yaml() {
    let place = Place::new(MANIFESTS);
    let json: Value = serde_json::from_str(&stdout(&place.plan(&["--json"]))).unwrap();
    let yaml = stdout(&place.plan(&["--output", "yaml"]));
    let yaml: Value = serde_yaml::from_str(&yaml).unwrap();
    assert_eq!(json["islands"][0]["name"], "dc");
    assert_eq!(json["islands"][0]["cards"][0]["memory"], yaml["islands"][0]["cards"][0]["memory"]);
}

#[test]
fn a_refusal_goes_to_people_and_to_tools() {
    let place = Place::new(&MANIFESTS.replace("NVIDIA-B200, count: 8", "NVIDIA-L4, count: 1"));
    let output = place.plan(&["--json"]);
    assert_eq!(output.status.code(), REFUSED, "{output:?}");
    let refused: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(refused["refusals"][0]["reason"], "ModelTooLarge");
    let remedy = refused["refusals"][0]["remedy"].as_str().unwrap();
    assert!(remedy.contains(" × NVIDIA-L4"), "{remedy}");
    assert!(String::from_utf8(output.stderr).unwrap().contains(remedy));
    assert_eq!(place.plan(&[]).stdout, b"");
}

#[test]
fn records_of_a_probe_change_the_plan() {
    let place = Place::new(MANIFESTS);
    place.write("dc.json", RECORD);
    let usual: Value = serde_json::from_str(&stdout(&place.plan(&["--json"]))).unwrap();
    let output = place.plan(&["--capability", "dc.json", "--json"]);
    let measured: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_ne!(usual["islands"], measured["islands"]);
    let note = measured["nodesNote"].as_str().unwrap();
    assert!(note.contains("what was measured on dc-0-0"), "{note}");
}

#[test]
fn given_nodes_are_used_as_islands_select_them() {
    let selecting = |zone: &str| {
        MANIFESTS.to_owned() + &format!("  nodeSelector: {{matchLabels: {{zone: {zone}}}}}\n")
    };
    let place = Place::new(&selecting("west"));
    place.write("nodes.yaml", NODES);
    place.write("gpu-2.json", &RECORD.replace("dc-0-0", "gpu-2"));
    let more = ["--nodes", "nodes.yaml", "--capability", "gpu-2.json", "--json"];
    let output = place.plan(&more);
    let plan: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(plan["nodes"], "given");
    let cards = plan["islands"][0]["cards"].as_array().unwrap();
    assert!(cards.iter().all(|card| card["node"] == "gpu-2"), "{cards:?}");
    let complained = String::from_utf8(output.stderr).unwrap();
    assert!(complained.contains("warning: node gpu-3: left out, cordoned"), "{complained}");

    let record = RECORD.replace('\n', "");
    let own = format!("name: gpu-2\n    annotations: {{heteroloco.dev/capability: '{record}'}}");
    place.write("nodes.yaml", &NODES.replace("name: gpu-2", &own));
    let plan = stdout(&place.plan(&["--nodes", "nodes.yaml", "--json"]));
    let plan: Value = serde_json::from_str(&plan).unwrap();
    let note = plan["nodesNote"].as_str().unwrap();
    assert!(note.contains("what was measured on gpu-2"), "{note}");

    place.write("run.yaml", &selecting("north"));
    let refused = place.refused(&["--nodes", "nodes.yaml"]);
    assert!(refused.contains("gpu-3: left out") && refused.contains("NotEnoughCards"), "{refused}");
    place.write("nodes.yaml", "kind: Pod");
    let refused = place.refused(&["--nodes", "nodes.yaml"]);
    assert!(refused.contains("failed to understand nodes.yaml: failed to read nodes"), "{refused}");
}

#[test]
fn files_that_are_no_records_and_records_of_others_are_refused_by_name() {
    let place = Place::new(MANIFESTS);
    assert!(place.refused(&["--capability", "none.json"]).contains("failed to read none.json"));
    place.write("text.json", "[]");
    assert!(
        place.refused(&["--capability", "text.json"]).contains("what `heteroloco probe` wrote")
    );
    place.write("other.json", &RECORD.replace("dc-0-0", "lab"));
    let refused = place.refused(&["--capability", "other.json"]);
    assert!(refused.contains("record of node lab: the nodes here are dc-0-0;"), "{refused}");
    place.write("card.json", &RECORD.replace("NVIDIA-B200", "NVIDIA-L4"));
    let refused = place.refused(&["--capability", "card.json"]);
    assert!(refused.contains("measured NVIDIA-L4 where the island has card 0"), "{refused}");
}
