//! Checks a value against a kind's schema, as the API server would, but reports everything at once.

mod guess;

use std::fmt;

use serde_json::{Map, Value};

use crate::advice;
use crate::island::Count;
use crate::run::InnerSteps;
use crate::text;

/// A problem of one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldProblem {
    /// The field, such as `spec.devices[0].count`.
    pub path: String,
    /// The message: what is wrong and what to change.
    pub message: String,
    /// The value that the message says to write.
    pub(crate) meant: Option<Value>,
}

impl FieldProblem {
    /// A problem of the field at `path`.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into(), meant: None }
    }
}

impl fmt::Display for FieldProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// How the scalar at a path was written, where that is known.
pub(crate) type Written<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Every place where `spec` does not follow the schema of a kind's `spec`.
///
/// CEL rules are left out: whoever makes a plan's input of the values checks those.
pub(crate) fn check(schema: &Value, spec: &Value, written: Written<'_>) -> Vec<FieldProblem> {
    let mut checker = Checker { root: schema, written, found: Vec::new() };
    checker.check(schema, spec, "spec");
    checker.found
}

/// Takes out fields that are empty: the API server passes them over too.
pub(crate) fn prune(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(fields) => {
            let Some(known) = schema["properties"].as_object() else { return };
            fields.retain(|name, value| !(value.is_null() && known.contains_key(name)));
            for (name, value) in fields {
                prune(&schema["properties"][name], value);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| prune(&schema["items"], item)),
        _ => {}
    }
}

struct Checker<'a> {
    /// The schema of the whole.
    root: &'a Value,
    written: Written<'a>,
    found: Vec<FieldProblem>,
}

/// Says whether a value follows a schema.
fn follows(schema: &Value, value: &Value) -> bool {
    let mut checker = Checker { root: schema, written: &|_| None, found: Vec::new() };
    checker.check(schema, value, "");
    checker.found.is_empty()
}

impl Checker<'_> {
    fn put(&mut self, path: &str, message: impl Into<String>) {
        self.found.push(FieldProblem::new(path, message));
    }

    /// A problem that goes away by writing something else; `why` comes before that.
    fn put_meant(&mut self, path: &str, why: &str, meant: Value) {
        let message = format!("{why}: {}", advice::write(&guess::yaml(&meant)));
        let path = path.to_owned();
        self.found.push(FieldProblem { path, message, meant: Some(meant) });
    }

    fn check(&mut self, schema: &Value, value: &Value, path: &str) {
        // The two fields of which Kubernetes' schemas cannot say what they are.
        if schema["x-kubernetes-preserve-unknown-fields"] == true {
            return self.open(Count::of(value).map(drop), path);
        }
        if schema["x-kubernetes-int-or-string"] == true {
            return self.open(InnerSteps::of(value).map(drop), path);
        }
        let before = self.found.len();
        self.check_type(schema, value, path);
        if self.found.len() == before {
            self.check_value(schema, value, path);
        }
        if self.found.len() > before {
            return;
        }
        match value {
            Value::Object(fields) => self.check_object(schema, fields, path),
            Value::Array(items) => {
                for (i, item) in items.iter().enumerate() {
                    self.check(&schema["items"], item, &format!("{path}[{i}]"));
                }
            }
            _ => {}
        }
    }

    fn open(&mut self, read: Result<(), FieldProblem>, path: &str) {
        let Err(problem) = read else { return };
        self.found.push(FieldProblem { path: format!("{path}{}", problem.path), ..problem });
    }

    fn check_object(&mut self, schema: &Value, fields: &Map<String, Value>, path: &str) {
        let none = Map::new();
        let known = schema["properties"].as_object().unwrap_or(&none);
        let mut renamed = Vec::new();
        for (name, value) in fields {
            let below = format!("{path}.{name}");
            match known.get(name).or_else(|| schema.get("additionalProperties")) {
                Some(schema) => self.check(schema, value, &below),
                None => {
                    let message = guess::unknown(self.root, known, fields, (name, value));
                    self.put(&below, message);
                    if let Some(meant) = guess::meant(known, fields, (name, value)) {
                        renamed.push(meant);
                        self.check(&known[meant], value, &below);
                    }
                }
            }
        }
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) && !renamed.contains(&name) {
                let what = known.get(name).and_then(|field| field["description"].as_str());
                let what = what.unwrap_or_default().lines().next().unwrap_or_default();
                self.put(&format!("{path}.{name}"), format!("missing: {what}"));
            }
        }
    }

    fn check_type(&mut self, schema: &Value, value: &Value, path: &str) {
        let Some(wanted) = schema["type"].as_str() else { return };
        let fits = match wanted {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "boolean" => value.is_boolean(),
            "integer" => value.is_i64() || value.is_u64(),
            _ => true,
        };
        if fits {
            return;
        }
        match wanted {
            "string" => self.no_text(schema, value, path),
            "integer" => self.no_number(schema, value, path),
            "boolean" => {
                let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                let why = format!("has to be true or false, not {}", name(value));
                match advice::boolean(&text).filter(|_| !value.is_object()) {
                    Some(meant) => self.put_meant(path, &why, meant.into()),
                    None => self.put(path, why),
                }
            }
            "array" => {
                let why = format!("has to be a list, not {}", name(value));
                match follows(schema, &Value::Array(vec![value.clone()])) {
                    true if value.is_object() => {
                        self.put(
                            path,
                            format!("{why}: put - before it, or it and its {{ }} in [ ]"),
                        );
                    }
                    true => self.put(path, format!("{why}: put it in [ ]")),
                    false => self.put(path, why),
                }
            }
            _ => self.no_fields(schema, value, path),
        }
    }

    fn no_text(&mut self, schema: &Value, value: &Value, path: &str) {
        if !matches!(value, Value::Number(_) | Value::Bool(_)) {
            let why = format!("has to be text, not {}", name(value));
            return match value.is_null() && follows(schema, &Value::String(String::new())) {
                true => self.put_meant(path, &why, "".into()),
                false => self.put(path, why),
            };
        }
        let written = (self.written)(path).unwrap_or_else(|| value.to_string());
        let pattern = schema["pattern"].as_str().unwrap_or_default();
        let of_link = [".up", ".down"].iter().any(|end| path.ends_with(end));
        let (message, meant) = match text::check_number(pattern, &written, of_link) {
            Some((message, meant)) => (message, meant.map(Value::from)),
            None => {
                let text = Value::from(written.as_str());
                if !follows(schema, &text) {
                    return self.check_value(schema, &text, path);
                }
                (format!("has to be text: {}", advice::write(&text.to_string())), Some(text))
            }
        };
        self.found.push(FieldProblem { path: path.to_owned(), message, meant });
    }

    fn no_number(&mut self, schema: &Value, value: &Value, path: &str) {
        let written = match value {
            Value::String(text) => text.clone(),
            Value::Number(_) => (self.written)(path).unwrap_or_else(|| value.to_string()),
            _ => String::new(),
        };
        let why = match value {
            Value::Number(_) => format!("{written} has to be a whole number"),
            _ => format!("has to be a whole number, not {}", name(value)),
        };
        let meant = advice::whole(&written).map(Value::from);
        match meant.filter(|meant| follows(schema, meant)) {
            Some(meant) => self.put_meant(path, &why, meant),
            None => match value.as_f64().and_then(|number| outside(schema, number, &written)) {
                Some(outside) => self.put(path, outside),
                None => self.put(path, why),
            },
        }
    }

    fn no_fields(&mut self, schema: &Value, value: &Value, path: &str) {
        let why = format!("has to be a group of fields, not {}", name(value));
        match guess::wrapped(schema, value) {
            Some(meant) => self.put_meant(path, &why, meant),
            None => match guess::names(schema) {
                Some(names) => self.put(path, format!("{why}; the fields here are {names}")),
                None => self.put(path, why),
            },
        }
    }

    fn check_value(&mut self, schema: &Value, value: &Value, path: &str) {
        if let Some(allowed) = schema["enum"].as_array()
            && !allowed.contains(value)
        {
            let words: Vec<_> = allowed.iter().filter_map(Value::as_str).collect();
            let why = format!("{} is not one of {}", name(value), words.join(", "));
            let nearest = value.as_str().and_then(|it| advice::nearest(it, words.into_iter()));
            return match nearest {
                Some(meant) => self.put_meant(path, &why, meant.into()),
                None => self.put(path, why),
            };
        }
        let wrong = match value {
            Value::Number(number) => {
                number.as_f64().and_then(|it| outside(schema, it, &value.to_string()))
            }
            Value::String(text) => {
                let pattern = schema["pattern"].as_str().unwrap_or_default();
                wrong_size(schema, "Length", text.chars().count(), "characters")
                    .or_else(|| text::check(pattern, text).map(|error| error.to_string()))
            }
            Value::Array(items) => wrong_size(schema, "Items", items.len(), "items"),
            Value::Object(fields) => wrong_size(schema, "Properties", fields.len(), "fields"),
            _ => None,
        };
        if let Some(wrong) = wrong {
            self.put(path, wrong);
        }
    }
}

/// A value in a sentence.
pub(crate) fn name(value: &Value) -> String {
    match value {
        Value::Null => "empty".into(),
        Value::Object(_) => "a group of fields".into(),
        Value::Array(_) => "a list".into(),
        scalar => scalar.to_string(),
    }
}

fn outside(schema: &Value, number: f64, written: &str) -> Option<String> {
    let (low, high) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
    // The largest whole number and the one after it are the same as floats.
    let is_too_much = || match written.parse::<i128>() {
        Ok(whole) => whole > i128::from(i64::MAX),
        Err(_) => number >= i64::MAX as f64,
    };
    if schema["format"] == "int64" && high.is_none() && is_too_much() {
        return Some(format!("{written} is above {}, the most", i64::MAX));
    }
    match (low, high) {
        (Some(low), _) if number < low => Some(format!("{written} is below {low}, the least")),
        (_, Some(high)) if number > high => Some(format!("{written} is above {high}, the most")),
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

#[cfg(test)]
mod tests;
