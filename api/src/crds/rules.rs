//! The API server's own rules against values, by hand: what a rule refuses is refused in a file as
//! well, and what it takes is taken. The verdicts are those of the rule's text.

use serde_json::{Value, json};

use super::*;
use crate::load::{Source, load};

/// Every rule of a schema with the path of what it is about.
fn rules(schema: &Value, path: &str, found: &mut Vec<(String, String)>) {
    for own in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let text = own["rule"].as_str().expect("a rule is text");
        assert!(own["message"].as_str().is_some_and(|it| !it.is_empty()), "{path}: {text}");
        found.push((path.to_owned(), text.to_owned()));
    }
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        rules(below, &format!("{path}.{name}"), found);
    }
    if schema["items"].is_object() {
        rules(&schema["items"], &format!("{path}[]"), found);
    }
}

fn all() -> Vec<(String, String)> {
    let mut found = Vec::new();
    rules(&spec_schema::<TrainingRun>(), "run", &mut found);
    rules(&spec_schema::<ComputeIsland>(), "island", &mut found);
    rules(&spec_schema::<IslandPool>(), "pool", &mut found);
    found
}

fn run() -> Value {
    json!({
        "apiVersion": "heteroloco.dev/v1alpha1", "kind": "TrainingRun",
        "metadata": {"name": "mini"},
        "spec": {"model": {"preset": "llama-demo"}, "data": {"path": "data"}, "tokens": 1000},
    })
}

fn island() -> Value {
    json!({
        "apiVersion": "heteroloco.dev/v1alpha1", "kind": "ComputeIsland",
        "metadata": {"name": "lab"},
        "spec": {"runRef": {"name": "mini"}, "devices": [{"product": "NVIDIA-L4"}]},
    })
}

/// Whether a file with this value is taken.
fn taken(path: &str, value: &Value) -> bool {
    let (mut run, mut island) = (run(), island());
    let (document, below) = path.split_once('/').expect("a document and a pointer");
    let mut place = if document == "run" { &mut run["spec"] } else { &mut island["spec"] };
    for part in below.split('/').filter(|part| !part.is_empty()) {
        place = &mut place[part];
    }
    match (&mut *place, value) {
        // A group of fields is put over what is there.
        (Value::Object(there), Value::Object(put)) if below.is_empty() => {
            there.extend(put.clone());
        }
        _ => *place = value.clone(),
    }
    load(&[Source { name: "x", text: &format!("{run}\n{island}") }]).is_ok()
}

const MODELS: &str = "[has(self.preset), has(self.config), has(self.from)].exists_one(set, set)";
const STEPS: &str = "type(self) == int ? self >= 1 && self <= 100000 : self == 'auto'";
const VOLUME: &str = "has(self.claimName) != has(self.hostPath)";
const ONCE: &str = "self.all(device, self.exists_one(other, other.product == device.product))";
const COST: &str =
    "self.objective != 'PerCost' || self.devices.all(device, has(device.costPerHour))";
const VALUES: &str =
    "(self.operator in ['In', 'NotIn']) == (has(self.values) && size(self.values) > 0)";

/// A rule, where a value is put, the value, and whether the rule holds of it.
type Verdict = (&'static str, &'static str, Value, bool);

/// That files are held to each rule.
fn held(table: impl IntoIterator<Item = Verdict>) {
    let known = all();
    for (rule, path, value, holds) in table {
        assert!(known.iter().any(|(_, text)| text == rule), "no definition has {rule}");
        assert_eq!(taken(path, &value), holds, "{rule}: {path}: {value}");
    }
}

#[test]
fn what_the_api_server_refuses_of_a_run_by_a_rule_is_refused_in_a_file() {
    let config = json!({
        "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": 300,
    });
    held([
        (MODELS, "run/model", json!({"preset": "llama-demo"}), true),
        (MODELS, "run/model", json!({"config": config.clone()}), true),
        (MODELS, "run/model", json!({}), false),
        (MODELS, "run/model", json!({"preset": "llama-demo", "config": config}), false),
        (MODELS, "run/model", json!({"preset": "llama-demo", "from": "folder"}), false),
        ("self == 4096", "run/sparseLoCo/chunk", json!(4096), true),
        ("self == 4096", "run/sparseLoCo/chunk", json!(4095), false),
        ("self == 0", "run/sparseLoCo/overlap", json!(0), true),
        ("self == 0", "run/sparseLoCo/overlap", json!(1), false),
        (STEPS, "run/sparseLoCo/innerSteps", json!("auto"), true),
        (STEPS, "run/sparseLoCo/innerSteps", json!(1), true),
        (STEPS, "run/sparseLoCo/innerSteps", json!(100_000), true),
        (STEPS, "run/sparseLoCo/innerSteps", json!(0), false),
        (STEPS, "run/sparseLoCo/innerSteps", json!(100_001), false),
        (STEPS, "run/sparseLoCo/innerSteps", json!("30"), false),
        (STEPS, "run/sparseLoCo/innerSteps", json!("Auto"), false),
        (VOLUME, "run/data/volume", json!({"claimName": "corpus"}), true),
        (VOLUME, "run/data/volume", json!({"hostPath": "/data", "subPath": "a"}), true),
        (VOLUME, "run/data/volume", json!({}), false),
        (VOLUME, "run/data/volume", json!({"subPath": "a"}), false),
        (VOLUME, "run/data/volume", json!({"claimName": "corpus", "hostPath": "/data"}), false),
        (VOLUME, "run/checkpoint/volume", json!({"hostPath": "/data"}), true),
        (VOLUME, "run/checkpoint/volume", json!({}), false),
    ]);
}

#[test]
fn what_the_api_server_refuses_of_an_island_by_a_rule_is_refused_in_a_file() {
    let priced = |product: &str| json!({"product": product, "costPerHour": "1.5"});
    let free = |product: &str| json!({"product": product});
    let requirement = |operator: &str, values: Value| {
        let requirement = json!({"key": "a", "operator": operator, "values": values});
        json!([requirement])
    };
    let expressions = "island/nodeSelector/matchExpressions";
    held([
        (ONCE, "island/devices", json!([free("A"), free("B")]), true),
        (ONCE, "island/devices", json!([free("A"), free("A")]), false),
        (ONCE, "island/devices", json!([free("A"), free("B"), priced("A")]), false),
        (ONCE, "island/devices", json!([free("NVIDIA-*"), free("NVIDIA-L4")]), true),
        (
            COST,
            "island/",
            json!({"objective": "PerCost", "devices": [priced("A"), priced("B")]}),
            true,
        ),
        (
            COST,
            "island/",
            json!({"objective": "PerCost", "devices": [priced("A"), free("B")]}),
            false,
        ),
        (COST, "island/", json!({"objective": "PerWatt", "devices": [free("A")]}), true),
        (VALUES, expressions, requirement("In", json!(["a"])), true),
        (VALUES, expressions, requirement("NotIn", json!(["a", "b"])), true),
        (VALUES, expressions, requirement("In", json!([])), false),
        (VALUES, expressions, requirement("NotIn", Value::Null), false),
        (VALUES, expressions, requirement("Exists", Value::Null), true),
        (VALUES, expressions, requirement("Exists", json!([])), true),
        (VALUES, expressions, requirement("DoesNotExist", json!(["a"])), false),
    ]);
}

#[test]
fn every_rule_is_one_that_is_tested_or_keeps_what_is_there() {
    // A pool stands in no file that is read; its rule is tested beside its wishes.
    let of_pools = "quantity(self.minMemory).compareTo(quantity(self.maxMemory)) <= 0";
    let mut kept: Vec<String> = Vec::new();
    for (path, rule) in all() {
        if rule == "self == oldSelf" {
            kept.push(path);
        } else if !rule.contains(of_pools) {
            assert!(include_str!("rules.rs").contains(&rule), "{path}: {rule} is not tested");
        }
    }
    // What a run and its islands cannot change under way.
    let mut expected = [
        "run.batch",
        "run.coordinator.storage",
        "run.coordinator.storageClassName",
        "run.managedBy",
        "run.model",
        "run.seed",
        "run.sparseLoCo",
        "island.runRef",
        "pool.runRef",
    ];
    kept.sort();
    expected.sort_unstable();
    assert_eq!(kept, expected);
}

#[test]
fn a_field_that_a_rule_asks_for_is_there() {
    for (name, definition) in definitions() {
        let spec = &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"];
        let mut found = Vec::new();
        rules(&spec["spec"], "spec", &mut found);
        for (path, rule) in found {
            let mut schema = &spec["spec"];
            for part in path.split('.').skip(1) {
                let (field, items) = match part.strip_suffix("[]") {
                    Some(field) => (field, true),
                    None => (part, false),
                };
                schema = &schema["properties"][field];
                schema = if items { &schema["items"] } else { schema };
            }
            let named = rule.split("has(self.").skip(1).filter_map(|it| it.split(')').next());
            for field in named {
                assert!(!schema["properties"][field].is_null(), "{name}: {path}: {field}: {rule}");
            }
        }
    }
}
