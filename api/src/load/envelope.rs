//! The envelope of a resource's spec, and the documents of a file that are none of ours.

use serde_json::{Map, Value};

use super::API_VERSION;
use crate::advice;
use crate::schema::{FieldProblem, Written, name};

/// Characters of a name.
pub(crate) const NAME_MAX: usize = 63;
const GROUP: &str = "heteroloco.dev";
/// The kinds that are read, and the one that is for clusters alone.
const KINDS: [&str; 3] = ["TrainingRun", "ComputeIsland", "IslandPool"];

/// The kind of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Run,
    Island,
    /// Documents in a document.
    List,
    /// Something that others read: its kind.
    Foreign(String),
    /// Nothing that anyone reads: what to change.
    Unclear(String),
}

/// The kind of a document, by its `apiVersion` and `kind`.
pub(super) fn kind(value: &Value) -> Kind {
    let version = value["apiVersion"].as_str();
    let kind = value["kind"].as_str();
    let ours = version.is_some_and(|it| it == GROUP || it.starts_with(&format!("{GROUP}/")));
    match (version, kind) {
        (Some(API_VERSION), Some("TrainingRun")) => Kind::Run,
        (Some(API_VERSION), Some("ComputeIsland")) => Kind::Island,
        (Some(API_VERSION), Some("IslandPool")) => Kind::Foreign("IslandPool".into()),
        (Some(_), Some(kind)) if kind.ends_with("List") && value.get("items").is_some() => {
            Kind::List
        }
        (Some(_), Some(kind)) if !ours && !KINDS.contains(&kind) => Kind::Foreign(kind.into()),
        (version, kind) => Kind::Unclear(unclear(version, kind)),
    }
}

fn unclear(version: Option<&str>, kind: Option<&str>) -> String {
    let known = kind.and_then(|kind| advice::nearest(kind, KINDS.into_iter()));
    let remedy = match (version, known) {
        (Some(API_VERSION), Some(meant)) => advice::write(&format!("kind: {meant}")),
        (_, Some(meant)) if Some(meant) == kind => {
            advice::write(&format!("apiVersion: {API_VERSION}"))
        }
        _ => format!(
            "write apiVersion: {API_VERSION} and kind: TrainingRun or ComputeIsland, or leave the \
             document out"
        ),
    };
    let version = version.unwrap_or("no apiVersion");
    format!("{version} {} is not known here: {remedy}", kind.unwrap_or("and no kind"))
}

/// `KIND NAME`, where the document has both.
pub(super) fn named(value: &Value) -> Option<String> {
    let name = match &value["metadata"]["name"] {
        Value::String(name) => name.clone(),
        Value::Number(name) => name.to_string(),
        _ => return None,
    };
    Some(format!("{} {name}", value["kind"].as_str()?))
}

/// The parts around the spec. `status` is the operator's and is passed over, as it is by kubectl.
pub(super) fn check(value: &Value, spec: &Value, written: Written<'_>) -> Vec<FieldProblem> {
    const KNOWN: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
    let mut found = Vec::new();
    let none = Map::new();
    let fields = value.as_object().unwrap_or(&none);
    for name in fields.keys().filter(|name| !KNOWN.contains(&name.as_str())) {
        let free = KNOWN.into_iter().filter(|known| !fields.contains_key(*known));
        let odd = name.chars().find(|c| c.is_whitespace() && *c != ' ');
        let message = match advice::nearest(name, free) {
            _ if odd.is_some() => {
                let code = odd.map_or(0, u32::from);
                format!("U+{code:04X} in its name is no space for YAML: write an ordinary one")
            }
            _ if spec["properties"].get(name).is_some() => {
                "unknown field here; it belongs to spec: indent it".into()
            }
            Some(meant) => format!("unknown field: {} in its place", advice::write(meant)),
            None => "unknown field; the fields here are apiVersion, kind, metadata, spec".into(),
        };
        found.push(FieldProblem::new(name, message));
    }
    match &value["metadata"] {
        Value::Null if found.iter().any(|it| it.message.contains("`metadata`")) => {}
        Value::Null => found.push(FieldProblem::new("metadata.name", NAMELESS)),
        Value::Object(metadata) => check_metadata(metadata, written, &mut found),
        other => {
            let why = format!("has to be a group of fields, not {}", self::name(other));
            let named = other.as_str().and_then(advice::name);
            let meant = named.map(|name| format!("{{name: {}}}", advice::scalar(&name)));
            let message = match meant {
                Some(meant) => format!("{why}: {}", advice::write(&meant)),
                None => why,
            };
            found.push(FieldProblem::new("metadata", message));
        }
    }
    found
}

const NAMELESS: &str = "missing: name the resource";

fn check_metadata(
    metadata: &Map<String, Value>,
    written: Written<'_>,
    found: &mut Vec<FieldProblem>,
) {
    const KNOWN: [&str; 15] = [
        "annotations",
        "creationTimestamp",
        "deletionGracePeriodSeconds",
        "deletionTimestamp",
        "finalizers",
        "generateName",
        "generation",
        "labels",
        "managedFields",
        "name",
        "namespace",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
        "uid",
    ];
    for name in metadata.keys().filter(|name| !KNOWN.contains(&name.as_str())) {
        let free = KNOWN.into_iter().filter(|known| !metadata.contains_key(*known));
        let message = match advice::nearest(name, free) {
            Some(meant) => format!("unknown field: {} in its place", advice::write(meant)),
            None => "unknown field; the fields here are name, namespace, labels and annotations"
                .to_owned(),
        };
        found.push(FieldProblem::new(format!("metadata.{name}"), message));
    }
    match metadata.get("name") {
        None if found.iter().any(|it| it.message.contains("`name`")) => {}
        None | Some(Value::Null) => found.push(FieldProblem::new("metadata.name", NAMELESS)),
        Some(name) => found.extend(check_name(name, "metadata.name", written)),
    }
    if let Some(namespace) = metadata.get("namespace").filter(|it| !it.is_null()) {
        found.extend(check_name(namespace, "metadata.namespace", written));
    }
    for group in ["labels", "annotations"] {
        match metadata.get(group) {
            None | Some(Value::Null) => {}
            Some(Value::Object(texts)) => {
                for (key, value) in texts {
                    found.extend(check_text(value, &format!("metadata.{group}.{key}"), written));
                }
            }
            Some(other) => {
                let message = format!("has to be a group of fields, not {}", self::name(other));
                found.push(FieldProblem::new(format!("metadata.{group}"), message));
            }
        }
    }
}

fn check_text(value: &Value, path: &str, written: Written<'_>) -> Option<FieldProblem> {
    let why = format!("has to be text, not {}", name(value));
    let text = match value {
        Value::String(_) => return None,
        Value::Null => String::new(),
        Value::Bool(_) | Value::Number(_) => written(path).unwrap_or_else(|| value.to_string()),
        _ => return Some(FieldProblem::new(path, why)),
    };
    let message = format!("{why}: {}", advice::write(&advice::scalar(&text)));
    Some(FieldProblem { meant: Some(text.into()), ..FieldProblem::new(path, message) })
}

fn check_name(value: &Value, path: &str, written: Written<'_>) -> Option<FieldProblem> {
    let text = match value {
        Value::String(text) if is_label(text) => return None,
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => written(path).unwrap_or_else(|| value.to_string()),
        other => {
            let message = format!("has to be text, not {}", name(other));
            return Some(FieldProblem::new(path, message));
        }
    };
    let why = match value {
        Value::String(_) => format!(
            "{text:?} is not a name: at most {NAME_MAX} small letters, digits and hyphens are one, \
             beginning and ending with a letter or digit"
        ),
        _ => format!("has to be text, not {text}"),
    };
    let meant = advice::name(&text);
    let message = match &meant {
        Some(meant) => format!("{why}: {}", advice::write(&advice::scalar(meant))),
        None => why,
    };
    Some(FieldProblem { meant: meant.map(Value::from), ..FieldProblem::new(path, message) })
}

/// Says whether Kubernetes takes the text as a DNS label; it also becomes a folder's name.
fn is_label(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=NAME_MAX).contains(&name.len())
        && name.chars().all(|c| plain(c) || c == '-')
        && name.starts_with(plain)
        && name.ends_with(plain)
}
