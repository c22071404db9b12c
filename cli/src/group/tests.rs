//! Tests that proposals are read again as they are printed, and what is refused.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use clap::Parser as _;
use tempfile::TempDir;

use super::*;
use crate::args::{Cli, Command};

const RUN: &str = "
apiVersion: heteroloco.dev/v1alpha1
kind: TrainingRun
metadata: {name: covenant}
spec:
  model: {preset: covenant-72b}
  data: {path: data, tokenizer: byte}
  tokens: 1000000000000
  batch: {sequences: 192}
";

/// A node of 8 cards.
fn node(name: &str, labels: &str, product: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Node
metadata:
  name: {name}
  labels:
    kubernetes.io/hostname: {name}-host
    nvidia.com/gpu.count: '8'
    nvidia.com/gpu.memory: '81559'
    nvidia.com/gpu.product: {product}
    {labels}
status: {{allocatable: {{nvidia.com/gpu: '8'}}}}
"
    )
}

const H100: &str = "NVIDIA-H100-80GB-HBM3";
const EAST: &str = "topology.kubernetes.io/zone: east";
const WEST: &str = "topology.kubernetes.io/zone: west";

fn cluster() -> String {
    let zones = [("e", EAST), ("w", WEST)];
    let nodes = zones.map(|(zone, label)| {
        [1, 2, 3].map(|at| node(&format!("{zone}{at}"), label, H100)).concat()
    });
    nodes.concat() + &node("odd", EAST, "NVIDIA-Unheard-Of")
}

fn write(folder: &TempDir, name: &str, text: &str) {
    fs::write(folder.path().join(name), text).unwrap();
}

/// `line` with its files in the folder, and what it told.
fn grouped(folder: &TempDir, line: &str) -> (Result<Proposed, ManifestError>, Vec<String>) {
    let Command::Group(mut args) = parsed(line) else { panic!("not group") };
    args.files.iter_mut().for_each(|path| *path = folder.path().join(&*path));
    args.nodes = folder.path().join(&args.nodes);
    let mut told = Vec::new();
    let made = make(&args, |note| told.push(note.to_owned()));
    (made, told)
}

fn parsed(line: &str) -> Command {
    Cli::try_parse_from(line.split_whitespace()).unwrap().command
}

/// Nodes of each island of the plan that is made with the proposals.
fn planned(folder: &Path) -> Vec<BTreeSet<String>> {
    let Command::Plan(mut args) = parsed("heteroloco plan -f run.yaml -f islands.yaml") else {
        panic!("not plan")
    };
    args.files.iter_mut().for_each(|path| *path = folder.join(&*path));
    args.nodes = Some(folder.join("nodes.yaml"));
    let view = crate::plan::make(&args, |_| {}).unwrap();
    let nodes = |island: &plan::planner::IslandPlan| {
        island.cards.iter().filter_map(|card| card.node.clone()).collect()
    };
    view.plan.islands.iter().map(nodes).collect()
}

#[test]
fn what_is_proposed_can_be_planned() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "run.yaml", RUN);
    write(&folder, "nodes.yaml", &cluster());
    let line = "heteroloco group -f run.yaml --nodes nodes.yaml --min-memory 1Ti";
    let (made, told) = grouped(&folder, line);
    let made = made.unwrap();
    let summary = "proposed 2 islands with 48 cards of 3823.1 GiB together, 0 cards left out";
    assert_eq!(made.summary, summary);
    assert!(told[0].starts_with("left out NVIDIA-Unheard-Of,"), "{told:?}");
    let reason = "# 3 nodes of zone west: joined because the model does not fit in fewer with \
                  enough memory\n";
    assert!(made.manifests.contains(reason), "{}", made.manifests);
    write(&folder, "islands.yaml", &made.manifests);
    let expected = [["e1", "e2", "e3"], ["w1", "w2", "w3"]].map(|nodes| nodes.map(str::to_owned));
    assert_eq!(planned(folder.path()), expected.map(BTreeSet::from));
}

#[test]
fn islands_in_the_files_are_passed_over_with_a_note() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "nodes.yaml", &cluster());
    let island = "---
apiVersion: heteroloco.dev/v1alpha1
kind: ComputeIsland
metadata: {name: dc}
spec: {runRef: {name: covenant}, devices: [{product: NVIDIA-B200, count: 8}]}
";
    write(&folder, "run.yaml", &format!("{RUN}{island}"));
    let (made, told) = grouped(&folder, "heteroloco group -f run.yaml --nodes nodes.yaml");
    assert!(!made.unwrap().manifests.contains("B200"));
    assert!(told.iter().any(|note| note.contains("the 1 in the files")), "{told:?}");
}

#[test]
fn what_is_left_out_stands_in_comments_of_one_line() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "run.yaml", RUN);
    let small = node("small", EAST, "NVIDIA-L4");
    write(&folder, "nodes.yaml", &(cluster() + &small));
    let line = "heteroloco group -f run.yaml --nodes nodes.yaml --product NVIDIA-H*";
    let text = grouped(&folder, line).0.unwrap().manifests;
    let left = text.lines().find(|line| line.starts_with("# left out 8 × NVIDIA-L4 ("));
    assert!(left.is_some_and(|line| line.contains("on small: ")), "{text}");
    let mut commented = String::new();
    text::comment(&mut commented, "a\nb: 1\u{2028}\u{85}c");
    assert_eq!(commented, "# a b: 1  c\n");
}

#[test]
fn nothing_to_propose_is_refused_with_what_to_change() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "run.yaml", RUN);
    write(&folder, "nodes.yaml", &node("alone", EAST, "NVIDIA-Unheard-Of"));
    let refused = |line: &str| grouped(&folder, line).0.unwrap_err().to_string();
    let line = "heteroloco group -f run.yaml --nodes nodes.yaml";
    assert!(refused(line).contains("no node has a card that can be used: see the warnings"));
    write(&folder, "nodes.yaml", &node("alone", EAST, H100));
    let least = refused(&format!("{line} --min-memory 1Ti"));
    assert!(least.contains("on alone: ") && least.contains("minMemory of 1024.0 GiB"), "{least}");
    write(&folder, "nodes.yaml", &node("alone", EAST, "NVIDIA-L4"));
    write(&folder, "run.yaml", "");
    assert!(refused(line).contains("no TrainingRun in these files"));
}

#[test]
fn a_place_with_more_cards_than_an_island_may_have_is_to_be_split() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "run.yaml", RUN);
    let nodes = (0..129).map(|at| node(&format!("n{at}"), EAST, H100));
    write(&folder, "nodes.yaml", &nodes.collect::<String>());
    let line = "heteroloco group -f run.yaml --nodes nodes.yaml --min-memory 80Ti";
    let refused = grouped(&folder, line).0.unwrap_err().to_string();
    assert!(refused.contains("1032 cards are more than 1024: lower minMemory"), "{refused}");
    let (made, _) = grouped(&folder, "heteroloco group -f run.yaml --nodes nodes.yaml");
    assert!(made.unwrap().summary.starts_with("proposed 43 islands with 1032 cards"));
}

#[test]
fn parts_of_cards_are_grouped_where_they_are_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    write(&folder, "run.yaml", RUN);
    let slice = format!("{H100}-MIG-7g.80gb");
    let nodes = [1, 2, 3].map(|at| node(&format!("e{at}"), EAST, &slice)).concat();
    write(&folder, "nodes.yaml", &nodes);
    let line = "heteroloco group -f run.yaml --nodes nodes.yaml --min-memory 1Ti";
    let refused = grouped(&folder, line).0.unwrap_err().to_string();
    assert!(refused.contains("used only where products name them"), "{refused}");
    let made = grouped(&folder, &format!("{line} --product {slice}")).0.unwrap();
    write(&folder, "islands.yaml", &made.manifests);
    let expected = ["e1", "e2", "e3"].map(str::to_owned);
    assert_eq!(planned(folder.path()), [BTreeSet::from(expected)]);
}
