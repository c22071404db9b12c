//! The custom resource definitions, generated from the types.

use kube::CustomResourceExt;
use serde_json::{Value, json};

use crate::island::ComputeIsland;
use crate::pool::IslandPool;
use crate::run::TrainingRun;

/// Each definition with the name of its file in `crds/`.
pub fn definitions() -> [(&'static str, Value); 3] {
    [
        ("computeislands.yaml", definition(ComputeIsland::crd())),
        ("islandpools.yaml", definition(IslandPool::crd())),
        ("trainingruns.yaml", definition(TrainingRun::crd())),
    ]
}

/// The schema of a kind's `spec`, as the API server checks it.
pub(crate) fn spec_schema<Kind: CustomResourceExt>() -> Value {
    let mut definition = definition(Kind::crd());
    let path = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
    definition.pointer_mut(path).map(Value::take).expect("every definition has a spec")
}

/// A CEL rule that the API server checks, with what it says when the rule does not hold.
pub(crate) fn rule(rule: &str, message: &str) -> Value {
    json!([{ "rule": rule, "message": message }])
}

/// The rule that a field keeps its value.
pub(crate) fn immutable(message: &str) -> Value {
    rule("self == oldSelf", message)
}

fn definition(crd: impl serde::Serialize) -> Value {
    let mut value = serde_json::to_value(crd).expect("a definition is plain data");
    if let Some(schema) = value.pointer_mut("/spec/versions/0/schema/openAPIV3Schema") {
        tidy(schema);
    }
    value
}

/// Takes out what Rust's types leave behind and Kubernetes has no use for: formats of unsigned
/// integers (their bounds say it), `null` for what may be absent, and bounds written as floats.
fn tidy(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            fields.remove("nullable");
            if fields.get("format").is_some_and(|f| f.as_str().is_some_and(is_unsigned)) {
                fields.remove("format");
            }
            for bound in ["minimum", "maximum"] {
                if let Some(whole) = fields.get(bound).and_then(Value::as_f64) {
                    fields.insert(bound.into(), json!(whole as i64));
                }
            }
            fields.values_mut().for_each(tidy);
        }
        Value::Array(items) => items.iter_mut().for_each(tidy),
        _ => {}
    }
}

fn is_unsigned(format: &str) -> bool {
    format.starts_with("uint")
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// The keywords of OpenAPI that Kubernetes knows in a structural schema, as far as they are
    /// used here.
    const KEYWORDS: [&str; 19] = [
        "additionalProperties",
        "default",
        "description",
        "enum",
        "format",
        "items",
        "maxItems",
        "maxLength",
        "maxProperties",
        "maximum",
        "minItems",
        "minLength",
        "minimum",
        "pattern",
        "properties",
        "required",
        "title",
        "type",
        "x-kubernetes-validations",
    ];
    const EXTENSIONS: [&str; 4] = [
        "x-kubernetes-int-or-string",
        "x-kubernetes-list-map-keys",
        "x-kubernetes-list-type",
        "x-kubernetes-preserve-unknown-fields",
    ];

    fn schemas() -> Vec<Value> {
        definitions()
            .map(|(_, crd)| crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone())
            .to_vec()
    }

    fn each_node(path: &str, node: &Value, visit: &mut dyn FnMut(&str, &Value)) {
        visit(path, node);
        for (name, child) in node["properties"].as_object().into_iter().flatten() {
            each_node(&format!("{path}.{name}"), child, visit);
        }
        for (key, mark) in [("items", "[]"), ("additionalProperties", "{}")] {
            if node.get(key).is_some_and(Value::is_object) {
                each_node(&format!("{path}{mark}"), &node[key], visit);
            }
        }
    }

    #[test]
    fn schemas_are_structural() {
        for schema in schemas() {
            each_node("", &schema, &mut |path, node| {
                let fields = node.as_object().expect(path);
                for key in fields.keys().map(String::as_str) {
                    let known = KEYWORDS.contains(&key) || EXTENSIONS.contains(&key);
                    assert!(known, "{path}: keyword {key}");
                }
                let open = ["x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields"];
                let typed = fields.contains_key("type") != open.iter().any(|x| node[x] == true);
                assert!(typed, "{path}: a type, or one of {open:?}");
                assert!(node["type"] != "number", "{path}: a float");
                assert_ne!(node["additionalProperties"], false, "{path}");
            });
        }
    }

    #[test]
    fn every_field_says_what_it_is_and_has_a_bound() {
        for schema in schemas() {
            each_node("", &schema, &mut |path, node| {
                if path.ends_with("{}") {
                    return;
                }
                assert!(node["description"].is_string(), "{path} has no description");
                let has = |keys: &[&str]| keys.iter().any(|key| node.get(*key).is_some());
                let bounded = match node["type"].as_str() {
                    Some("string") => has(&["maxLength", "enum", "format"]),
                    Some("array") => has(&["maxItems"]),
                    Some("integer") => has(&["maximum", "format"]),
                    _ => true,
                };
                assert!(bounded, "{path} has no bound");
            });
        }
    }

    #[test]
    fn the_committed_definitions_are_those_of_the_types() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds");
        for (name, crd) in definitions() {
            let text = std::fs::read_to_string(folder.join(name)).expect("a committed file");
            let committed: Value = serde_yaml::from_str(&text).expect("YAML");
            assert_eq!(committed, crd, "crds/{name} is stale: run make gen");
        }
    }
}

#[cfg(test)]
mod rules;
