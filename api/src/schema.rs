//! Checks a value against a kind's schema, as the API server would, but reports everything at once.

use std::fmt;

use serde_json::{Map, Value};

use crate::text;

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// The field, such as `spec.devices[0].count`.
    pub path: String,
    /// What is wrong and what to change.
    pub message: String,
}

impl FieldProblem {
    /// A problem of the field at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Reports every place where `value` does not follow `schema`.
///
/// CEL rules are left out: whoever makes a plan's input of the values checks those.
pub(crate) fn check(schema: &Value, value: &Value, path: &str, found: &mut Vec<FieldProblem>) {
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        return;
    }
    if let Some(message) = wrong_type(schema, value).or_else(|| wrong_value(schema, value)) {
        found.push(FieldProblem::new(path, message));
        return;
    }
    match value {
        Value::Object(fields) => check_object(schema, fields, path, found),
        Value::Array(items) => {
            for (i, item) in items.iter().enumerate() {
                check(&schema["items"], item, &format!("{path}[{i}]"), found);
            }
        }
        _ => {}
    }
}

fn check_object(
    schema: &Value,
    fields: &Map<String, Value>,
    path: &str,
    found: &mut Vec<FieldProblem>,
) {
    let none = Map::new();
    let known = schema["properties"].as_object().unwrap_or(&none);
    let names = || known.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
    for (name, value) in fields {
        let path = format!("{path}.{name}");
        match known.get(name).or_else(|| schema.get("additionalProperties")) {
            Some(schema) => check(schema, value, &path, found),
            None => found.push(FieldProblem::new(
                path,
                format!("unknown field; the fields here are {}", names()),
            )),
        }
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            let what = known.get(name).and_then(|field| field["description"].as_str());
            let what = what.unwrap_or_default().lines().next().unwrap_or_default();
            found.push(FieldProblem::new(format!("{path}.{name}"), format!("missing: {what}")));
        }
    }
}

fn wrong_type(schema: &Value, value: &Value) -> Option<String> {
    if schema["x-kubernetes-int-or-string"] == true {
        let fits = value.is_i64() || value.is_u64() || value.is_string();
        return (!fits).then(|| format!("{value} is neither a whole number nor a word"));
    }
    let wanted = schema["type"].as_str()?;
    let fits = match wanted {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        _ => true,
    };
    (!fits).then(|| match (wanted, value) {
        ("string", Value::Number(_) | Value::Bool(_)) => {
            format!("has to be text: write \"{value}\" in quotes")
        }
        ("string", _) => format!("has to be text, not {}", name(value)),
        ("integer", Value::Number(_)) => format!("{value} has to be a whole number"),
        ("integer", _) => format!("has to be a whole number, not {}", name(value)),
        ("boolean", _) => format!("has to be true or false, not {}", name(value)),
        ("array", _) => format!("has to be a list, not {}", name(value)),
        _ => format!("has to be a group of fields, not {}", name(value)),
    })
}

fn name(value: &Value) -> String {
    match value {
        Value::Null => "empty".into(),
        Value::Object(_) => "a group of fields".into(),
        Value::Array(_) => "a list".into(),
        scalar => scalar.to_string(),
    }
}

fn wrong_value(schema: &Value, value: &Value) -> Option<String> {
    if let Some(allowed) = schema["enum"].as_array()
        && !allowed.contains(value)
    {
        let words: Vec<_> = allowed.iter().filter_map(Value::as_str).collect();
        return Some(format!("{} is not one of {}", name(value), words.join(", ")));
    }
    match value {
        Value::Number(number) => outside(schema, number.as_f64()?, value),
        Value::String(text) => {
            let pattern = schema["pattern"].as_str().unwrap_or_default();
            wrong_size(schema, "Length", text.chars().count(), "characters")
                .or_else(|| text::check(pattern, text).map(|error| error.to_string()))
        }
        Value::Array(items) => wrong_size(schema, "Items", items.len(), "items"),
        Value::Object(fields) => wrong_size(schema, "Properties", fields.len(), "fields"),
        _ => None,
    }
}

fn outside(schema: &Value, number: f64, value: &Value) -> Option<String> {
    let (low, high) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
    match (low, high) {
        (Some(low), _) if number < low => Some(format!("{value} is below {low}, the least")),
        (_, Some(high)) if number > high => Some(format!("{value} is above {high}, the most")),
        _ => None,
    }
}

fn wrong_size(schema: &Value, what: &str, size: usize, unit: &str) -> Option<String> {
    let bound = |end: &str| schema[format!("{end}{what}")].as_u64();
    let size = size as u64;
    match (bound("min"), bound("max")) {
        (Some(low), _) if size < low => Some(format!("has {size} {unit}, at least {low} needed")),
        (_, Some(high)) if size > high => Some(format!("has {size} {unit}, at most {high}")),
        _ => None,
    }
}
