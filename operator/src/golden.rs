//! Objects compared field by field with files of this crate that were read by people.

use std::fs;
use std::path::Path;

use serde::Serialize;
use serde_json::Value;

/// The environment variable that has files written anew in place of being compared.
const WRITE: &str = "HETEROLOCO_WRITE_GOLDEN";

/// Asserts that an object is what the file, a path in this crate, says.
pub(crate) fn check(object: &impl Serialize, file: &str) {
    let found = serde_json::to_value(object).expect("a plain object");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    if std::env::var_os(WRITE).is_some() {
        let text = serde_yaml::to_string(&found).expect("a plain object");
        fs::write(&path, text).expect("a folder of this crate");
        return;
    }
    let remedy = format!(
        "change operator/{file}, or write it anew and read what changed: \
         {WRITE}=1 cargo test -p operator --lib golden && git diff operator/{file}"
    );
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{error}: {remedy}"));
    let expected: Value = serde_yaml::from_str(&text).expect("YAML");
    let differences = differences("", &expected, &found);
    assert!(differences.is_empty(), "{remedy}\n{}", differences.join("\n"));
}

/// Each field that differs, with what the file has and what was made.
fn differences(path: &str, expected: &Value, found: &Value) -> Vec<String> {
    match (expected, found) {
        (Value::Object(expected), Value::Object(found)) => {
            let keys =
                expected.keys().chain(found.keys().filter(|key| !expected.contains_key(*key)));
            let of = |all: &serde_json::Map<String, Value>, key: &String| {
                all.get(key).cloned().unwrap_or(Value::Null)
            };
            let field = |key: &String| {
                differences(&format!("{path}.{key}"), &of(expected, key), &of(found, key))
            };
            keys.flat_map(field).collect()
        }
        (Value::Array(expected), Value::Array(found)) if expected.len() == found.len() => {
            let items = expected.iter().zip(found).enumerate();
            items.flat_map(|(at, (a, b))| differences(&format!("{path}[{at}]"), a, b)).collect()
        }
        _ if expected == found => vec![],
        _ => vec![format!("{path}: the file has {expected}, made was {found}")],
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_field_that_differs_is_named() {
        let (a, b) = (
            json!({"spec": {"x": 1, "list": [1, 2], "gone": true}, "same": [1]}),
            json!({"spec": {"x": "1", "list": [1, 3], "new": []}, "same": [1]}),
        );
        let mut found = differences("", &a, &b);
        found.sort();
        let expected = [
            ".spec.gone: the file has true, made was null",
            ".spec.list[1]: the file has 2, made was 3",
            ".spec.new: the file has null, made was []",
            ".spec.x: the file has 1, made was \"1\"",
        ];
        assert_eq!(found, expected);
        assert!(differences("", &a, &a).is_empty());
    }
}
