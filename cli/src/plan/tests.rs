//! Tests of what is printed of plans: its words, its width, its fields.

use std::collections::BTreeSet;

use clap::Parser as _;
use plan::cluster::Links;
use plan::nodes::Site;
use plan::planner::plan_run;
use plan::request::Execution;
use plan::shard::Grid;
use serde_json::Value;

use super::*;

const QUICKSTART: &str = include_str!("../../../examples/quickstart.yaml");
const SMALL_CARDS: &str = include_str!("../../../examples/small-cards.yaml");
const B200: &str = "
apiVersion: heteroloco.dev/v1alpha1
kind: TrainingRun
metadata: {name: covenant}
spec:
  model: {preset: covenant-72b}
  data: {path: data, tokenizer: byte}
  tokens: 1000000000000
  batch: {sequences: 192}
---
apiVersion: heteroloco.dev/v1alpha1
kind: ComputeIsland
metadata: {name: dc}
spec:
  runRef: {name: covenant}
  uplink: {up: 110M, down: 500M}
  devices: [{product: NVIDIA-B200, count: 8}]
---
apiVersion: heteroloco.dev/v1alpha1
kind: ComputeIsland
metadata: {name: attic}
spec:
  runRef: {name: covenant}
  devices: [{product: NVIDIA-H100*, count: 17}, {product: NVIDIA-A100-SXM4-80GB, count: 7}]
";

fn manifests(text: &str) -> api::Manifests {
    api::load(&[api::Source { name: "example", text }]).expect("right")
}

fn emulated(text: &str) -> View {
    let manifests = manifests(text);
    let execution = Execution::Emulated { cores: 1 };
    let plan = plan_run(&manifests.run, &manifests.islands, &execution).expect("it fits");
    View { plan, basis: Basis::Emulated("EMULATED".into()) }
}

fn assumed(text: &str) -> View {
    let manifests = manifests(text);
    let Site { nodes, islands, .. } = Site::assumed(manifests.islands);
    let plan = plan_run(&manifests.run, &islands, &Execution::Cluster { nodes }).expect("it fits");
    View { plan, basis: Basis::Assumed { measured: Vec::new() } }
}

fn json(view: &View) -> Value {
    let text = encode(&report::Report::of(view), Output::Json).expect("plain data");
    serde_json::from_str(&text).expect("JSON")
}

fn check(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is missing in\n{text}");
    }
    assert!(text.lines().all(|line| line == line.trim_end()), "{text}");
    let tables = text.lines().filter(|line| !line.contains("why: "));
    assert!(tables.map(|line| line.chars().count()).all(|width| width <= grid::WIDTH), "{text}");
}

/// The cells of a row, over all blocks; those of many words as one word each.
fn row(table: &str, label: &str) -> Vec<String> {
    let lines = table.lines().filter_map(|line| line.strip_prefix(&format!("  {label:<18}")));
    let cells = lines.flat_map(|line| line.split("  ").map(str::trim));
    cells.filter(|cell| !cell.is_empty()).map(str::to_owned).collect()
}

#[test]
fn a_plan_names_every_card_its_work_and_its_bytes() {
    let figure = |line: &str| match line.trim_start() {
        line if line.starts_with("tokens: ") => "  tokens: 1800000\n".to_owned(),
        line if line.starts_with("innerSteps: ") => "    innerSteps: 20\n".to_owned(),
        _ => format!("{line}\n"),
    };
    let example: String = QUICKSTART.lines().map(figure).collect();
    let text = table::render(&emulated(&example), false);
    let parts = [
        "EMULATED\nrun mini-llama: 2,496,960 parameters, 1,800,000 tokens\nrounds: ",
        "  island  H   steps ",
        "\n  dc      20  ",
        "97.5 kB in ?",
        "island dc: dp 1, H 20,",
        "island lab: dp 2, H ",
        "  time of a step  compute  tensor  bubble  all-reduce  optimizer  step\n",
        "  100.0%\n",
        "  ranks               0–1\n",
        "  card                NVIDIA-GeForce-RTX-3090\n",
        "f32 at 17% of a CPU thread",
        "  error feedback      4.8 MiB\n",
        " of 24.0 GiB\n",
        "why: H is 20 on dc, the fastest island, as asked",
    ];
    check(&text, &parts);
    for part in ["stage", "node", "MFU", "positions", "other layouts"] {
        assert!(!text.contains(part), "no word of what is not there, as {part}: {text}");
    }
}

#[test]
fn cards_too_small_for_the_model_are_planned_as_two_stages_of_two() {
    let view = emulated(SMALL_CARDS);
    let shapes: Vec<_> = view.plan.islands.iter().map(|it| Grid::of(&it.spec)).collect();
    let whole = Grid { data: 1, stages: 1, tensor: 1 };
    assert_eq!(shapes, [whole, Grid { stages: 2, tensor: 2, ..whole }]);
    let parts = [
        "island dc: dp 1, H 20,",
        "island desk: dp 1 × pp 2 × tp 2, H ",
        "  why: a replica is split pp 2 × tp 2: the model needs ",
        "; of the ways that fit this is the fastest\n",
    ];
    check(&table::render(&view, false), &parts);
    let table = column::table(&view.plan.islands[1]);
    let rows = ["ranks", "stage", "layers", "tp", "dp"].map(|label| row(&table, label));
    let cells = [["0–1", "2–3"], ["0", "1"], ["0–1", "2–3"], ["0–1", "0–1"], ["0", "0"]];
    assert_eq!(rows, cells);
}

#[test]
fn a_machine_without_cards_plans_the_declared_ones_at_their_own_speed() {
    let view = assumed(B200);
    let text = table::render(&view, true);
    let parts = [
        "ASSUMED NODES: of up to 8 cards, 10 Gb/s between them, nothing measured (--capability); ",
        "run covenant: 72,747,327,488 parameters",
        "NVIDIA-B200",
        ", bf16",
        "(host)",
        "dc-0-0",
        "1.4 GB in 103.3 s",
        "  other layouts that fit, the best first:\n    layout ",
        "\n      loses ",
    ];
    check(&text, &parts);
    assert!(text.lines().next().is_some_and(|line| line.chars().count() <= 120), "{text}");
    let table = column::table(&view.plan.islands[0]);
    let stages = view.plan.islands[0].spec.sharding.stages.len();
    for label in ["card", "node", "positions", "layers", "weights", "headroom"] {
        assert_eq!(row(&table, label).len(), stages, "{label} in\n{table}");
    }
    for island in &view.plan.islands {
        assert!(island.mfu > 0.1 && island.mfu < 0.6, "{}", island.mfu);
        assert!(!island.runners_up.is_empty());
    }
}

#[test]
fn cards_on_several_nodes_share_a_column() {
    let text = QUICKSTART.replace("sequences: 8 ", "sequences: 34 ");
    let over_all = "count: 17\n  parallelism: {data: 17, pipeline: 1, tensor: 1}";
    let view = assumed(&text.replacen("count: 2", over_all, 1));
    let table = column::table(&view.plan.islands[1]);
    let rows = ["ranks", "positions", "node"].map(|label| row(&table, label).concat());
    assert_eq!(rows, ["0–2", "0–16", "lab-0-[0–2]"], "{table}");
}

#[test]
fn tools_read_the_figures_of_the_plan() {
    let view = assumed(B200);
    let (plan, report) = (&view.plan, json(&view));
    assert_eq!((&report["run"], &report["nodes"]), (&"covenant".into(), &"assumed".into()));
    assert!(near(&report["rounds"]["seconds"], plan.outer.round_seconds));
    assert_eq!(report["rounds"]["contributionBytes"], plan.contribution_bytes);
    let [dc, attic] = report["islands"].as_array().expect("a list").as_slice() else {
        panic!("{report}")
    };
    assert!(near(&dc["mfuPercent"], 100.0 * plan.islands[0].mfu));
    let upload = plan.outer.islands[0].upload.seconds.expect("known");
    assert!(near(&dc["round"]["uploadSeconds"], upload));
    assert_eq!(attic["round"].get("uploadSeconds"), None);
    let step = dc["step"].as_object().expect("an object");
    let parts = step.iter().filter(|(name, _)| *name != "seconds");
    let sum: f64 = parts.filter_map(|(_, part)| part.as_f64()).sum();
    assert!(near(&sum.into(), plan.islands[0].step_seconds()), "{step:?}");
    let cards = dc["cards"].as_array().expect("a list");
    assert_eq!(cards.len(), plan.islands[0].cards.len());
    for card in cards {
        let number = |name: &str| card[name].as_u64().expect("a number");
        assert_eq!(number("neededBytes") + number("headroomBytes"), number("cardBytes"));
        let memory = card["memory"].as_array().expect("a list");
        let held = memory.iter().filter(|term| term["place"] == "card");
        let held: u64 = held.filter_map(|term| term["bytes"].as_u64()).sum();
        assert_eq!(held, number("neededBytes"));
        assert_eq!(card["node"], "dc-0-0");
    }
    let other = &plan.islands[0].runners_up[0];
    assert!(near(&dc["runnersUp"][0]["losesPercent"], other.loses_percent));
    let yaml = encode(&report::Report::of(&view), Output::Yaml).expect("plain data");
    let yaml: Value = serde_yaml::from_str(&yaml).expect("YAML");
    assert_eq!(yaml["islands"][0]["cards"][0]["memory"], cards[0]["memory"]);
}

/// JSON's reader may be off by the last bit.
fn near(value: &Value, expected: f64) -> bool {
    value.as_f64().is_some_and(|value| (value / expected - 1.0).abs() < 1e-9)
}

/// A small model on many cards, of which a few are as fast as all.
const MANY: &str = "
apiVersion: heteroloco.dev/v1alpha1
kind: TrainingRun
metadata: {name: many}
spec:
  model: {preset: llama-160m}
  data: {path: data, tokenizer: byte}
  tokens: 1000000000
  batch: {sequences: 64}
---
apiVersion: heteroloco.dev/v1alpha1
kind: ComputeIsland
metadata: {name: lab}
spec:
  runRef: {name: many}
  devices: [{product: NVIDIA-GeForce-RTX-4090, count: 24}]
---
apiVersion: heteroloco.dev/v1alpha1
kind: ComputeIsland
metadata: {name: desk}
spec:
  runRef: {name: many}
  devices: [{product: NVIDIA-GeForce-RTX-3090, count: 1}]
";

#[test]
fn a_plan_says_how_many_of_its_cards_it_uses_and_what_share_of_their_speed() {
    let view = assumed(MANY);
    // 165.2 and 71 TFLOP/s.
    let share = 100.0 * (8.0 * 165.2 + 71.0) / (24.0 * 165.2 + 71.0);
    let text = table::render(&view, false);
    let all = format!("\ncards: 9 of 25 used, {share:.1}% of the speed of all\n");
    check(&text, &[&all, "\n  cards: 8 of 24 used, 33.3% of the speed of all\n"]);
    assert_eq!(text.matches("cards: ").count(), 2, "an island that uses all does not say so");
    let report = json(&view);
    let usage = |value: &Value| (value["cardsUsed"].clone(), value["cardsGiven"].clone());
    assert_eq!(usage(&report["usage"]), (9.into(), 25.into()));
    assert!(near(&report["usage"]["speedPercent"], share));
    assert_eq!(usage(&report["islands"][0]["usage"]), (8.into(), 24.into()));
    assert_eq!(report["islands"][1]["usage"]["speedPercent"], 100.0);
}

#[test]
fn an_emulated_plan_claims_no_share_of_a_cards_peak() {
    let report = json(&emulated(QUICKSTART));
    assert_eq!((&report["nodes"], &report["nodesNote"]), (&"emulated".into(), &"EMULATED".into()));
    assert_eq!(report["islands"][0].get("mfuPercent"), None);
    assert_eq!(report["islands"][0]["cards"][0].get("node"), None);
}

/// Every field's name, wherever it is.
fn names(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            found.insert(name.clone());
            names(value, found);
        }),
        Value::Array(values) => values.iter().for_each(|value| names(value, found)),
        _ => {}
    }
}

#[test]
fn every_field_is_documented() {
    let mut view = assumed(B200);
    view.plan.outer.slowing =
        vec![plan::outer::Slowing { island: "attic".into(), with: 1.0, without: 2.0 }];
    let refusals = refused(&B200.replace("count: 8", "count: 1"));
    let refused = encode(&report::Refused::of(&refusals), Output::Json).expect("plain data");
    let mut found = BTreeSet::new();
    names(&json(&view), &mut found);
    names(&serde_json::from_str(&refused).expect("JSON"), &mut found);
    assert!(found.len() > 60, "{found:?}");
    let documented = include_str!("../../../docs/plan.md");
    let missing: Vec<_> =
        found.iter().filter(|name| !documented.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "not in docs/plan.md: {missing:?}");
}

fn refused(text: &str) -> Refusals {
    let manifests = manifests(text);
    let Site { nodes, islands, .. } = Site::assumed(manifests.islands);
    plan_run(&manifests.run, &islands, &Execution::Cluster { nodes }).expect_err("too small")
}

#[test]
fn a_refusal_is_told_to_tools_by_its_parts() {
    let refusals = refused(&B200.replace("count: 8", "count: 1"));
    let text = encode(&report::Refused::of(&refusals), Output::Yaml).expect("plain data");
    let report: Value = serde_yaml::from_str(&text).expect("YAML");
    let [refusal] = report["refusals"].as_array().expect("a list").as_slice() else {
        panic!("{report}")
    };
    assert_eq!((&refusal["island"], &refusal["reason"]), (&"dc".into(), &"ModelTooLarge".into()));
    let remedy = refusal["remedy"].as_str().expect("a sentence");
    assert!(remedy.contains(" × NVIDIA-B200"), "the smallest change that would do: {remedy}");
}

#[test]
fn measurements_change_what_is_planned_and_are_named() {
    let manifests = manifests(B200);
    let record = plan::cluster::Capability {
        node: "dc-0-0".into(),
        devices: (0..8).map(device).collect(),
        links: Links::default(),
        all_reduce: None,
        uplink: None,
    };
    let site = Site::assumed(manifests.islands).measured(&[record]).expect("its cards");
    let execution = Execution::Cluster { nodes: site.nodes };
    let plan = plan_run(&manifests.run, &site.islands, &execution).expect("it fits");
    let usual = assumed(B200).plan;
    assert!(plan.islands[0].step_seconds() > 1.5 * usual.islands[0].step_seconds());
    let basis = Basis::Assumed { measured: vec!["dc-0-0".into()] };
    let text = table::render(&View { plan, basis }, false);
    check(&text, &["10 Gb/s between them but for what was measured on dc-0-0; --nodes"]);
}

#[test]
fn what_a_family_is_taken_to_be_is_told_where_no_nodes_are_given() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("run.yaml");
    std::fs::write(&file, QUICKSTART.replace("NVIDIA-H100-80GB-HBM3", "NVIDIA-H100*"))
        .expect("room");
    let line = ["heteroloco".as_ref(), "plan".as_ref(), "-f".as_ref(), file.as_os_str()];
    let command = crate::args::Cli::try_parse_from(line).expect("a command").command;
    let crate::args::Command::Plan(args) = command else { panic!("not plan") };
    let mut told = Vec::new();
    make(&args, |note| told.push(note.to_owned())).expect("it fits");
    let note = "NVIDIA-H100* is taken to be NVIDIA-H100-80GB-HBM3, the fastest card of that name";
    assert!(told.iter().any(|told| told.ends_with(note)), "{told:?}");
}

/// A card at a fourth of its datasheet's speed.
fn device(index: u32) -> plan::cluster::DeviceCapability {
    let known = plan::gpu::lookup("NVIDIA-B200").expect("known");
    plan::cluster::DeviceCapability {
        product: known.product.into(),
        index: Some(index),
        memory_bytes: known.memory(),
        free_bytes: known.memory(),
        reached: plan::cluster::Reached {
            f32_tflops: 20.0,
            bf16_tflops: Some(known.bf16_tflops / 4.0),
            bandwidth_gbps: known.bandwidth_gbps / 4.0,
        },
    }
}
