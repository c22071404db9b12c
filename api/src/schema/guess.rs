//! Guesses at what a field or a value was meant to be, by the schema.

use serde_json::{Map, Value};

use super::follows;
use crate::advice;

/// Places that a sentence names.
const PLACES_MAX: usize = 3;

/// A value on one line, as it is written in YAML.
pub(super) fn yaml(value: &Value) -> String {
    match value {
        Value::String(text) => advice::scalar(text),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| format!("{name}: {}", yaml(value)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
        Value::Array(items) => {
            format!("[{}]", items.iter().map(yaml).collect::<Vec<_>>().join(", "))
        }
        scalar => scalar.to_string(),
    }
}

/// The fields that a schema knows.
pub(super) fn names(schema: &Value) -> Option<String> {
    let known = schema["properties"].as_object()?;
    Some(known.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
}

/// The group that a value was put in the place of: of the only field that takes it, or of several
/// the only one that has a choice of words, or of all that are needed.
pub(super) fn wrapped(schema: &Value, value: &Value) -> Option<Value> {
    let scalar = value.is_string() || value.is_number() || value.is_boolean();
    let known = schema["properties"].as_object().filter(|_| scalar)?;
    let group = |name: &String| Value::Object(Map::from_iter([(name.clone(), value.clone())]));
    let takes: Vec<&String> = known.keys().filter(|name| follows(schema, &group(name))).collect();
    let words: Vec<&String> =
        takes.iter().copied().filter(|name| known[*name].get("enum").is_some()).collect();
    match (&takes[..], &words[..]) {
        ([one], _) | (_, [one]) => Some(group(one)),
        _ => {
            let needed = schema["required"].as_array().into_iter().flatten();
            let all = needed.filter_map(Value::as_str).map(|name| (name.to_owned(), value.clone()));
            let all = Value::Object(Map::from_iter(all));
            let some = all.as_object().is_some_and(|all| !all.is_empty());
            (some && takes.is_empty() && follows(schema, &all)).then_some(all)
        }
    }
}

/// The field that one which is not known was probably meant to be: none that is there already.
pub(super) fn meant<'a>(
    known: &'a Map<String, Value>,
    there: &Map<String, Value>,
    (name, value): (&str, &Value),
) -> Option<&'a str> {
    let alike = |schema: &Value| match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some(_) => !value.is_object() && !value.is_array(),
        None => true,
    };
    let free = known.iter().filter(|(name, schema)| !there.contains_key(*name) && alike(schema));
    advice::nearest(name, free.map(|(name, _)| name.as_str()))
}

/// The message about a field that is not known: `known` are those that are, `there` those that
/// stand beside it.
pub(super) fn unknown(
    root: &Value,
    known: &Map<String, Value>,
    there: &Map<String, Value>,
    (name, value): (&str, &Value),
) -> String {
    if let Some(odd) = name.chars().find(|c| c.is_whitespace() && *c != ' ') {
        let code = u32::from(odd);
        return format!("U+{code:04X} in its name is no space for YAML: write an ordinary one");
    }
    if let Some(meant) = meant(known, there, (name, value)) {
        return format!("unknown field: {} in its place", advice::write(meant));
    }
    let scalar = value.is_string() || value.is_number() || value.is_boolean();
    if known.contains_key("matchLabels") && scalar && !there.contains_key("matchLabels") {
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let label = format!("{{{}: {}}}", advice::scalar(name), advice::scalar(&text));
        let label = advice::write(&format!("matchLabels: {label}"));
        return format!("unknown field; a label that nodes have to carry stands lower: {label}");
    }
    let mut places = Vec::new();
    find(root, name, "spec", &mut places);
    if !places.is_empty() && places.len() <= PLACES_MAX {
        return format!("unknown field here; it belongs to {}", places.join(" or "));
    }
    match known.is_empty() {
        true => "unknown field: leave it out".into(),
        false => {
            let known: Vec<&str> = known.keys().map(String::as_str).collect();
            format!("unknown field; the fields here are {}", known.join(", "))
        }
    }
}

/// Collects the places below `path` at which there is a field of a name.
fn find(schema: &Value, name: &str, path: &str, places: &mut Vec<String>) {
    let known = schema["properties"].as_object();
    if known.is_some_and(|known| known.contains_key(name)) {
        places.push(path.to_owned());
    }
    for (below, schema) in known.into_iter().flatten() {
        find(schema, name, &format!("{path}.{below}"), places);
    }
    if schema["items"].is_object() {
        find(&schema["items"], name, &format!("{path}[…]"), places);
    }
}
