//! Tests of texts as values, and of where in them each field stands.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn documents(text: &str) -> Vec<Value> {
    let (found, broken) = Text::new(text).documents();
    assert_eq!(broken, None, "{text}");
    found.into_iter().map(|(_, value)| value).collect()
}

fn one(text: &str) -> Value {
    let mut all = documents(text);
    assert_eq!(all.len(), 1, "{text}");
    all.remove(0)
}

fn broken(text: &str) -> Broken {
    Text::new(text).documents().1.unwrap_or_else(|| panic!("it was read: {text}"))
}

/// Line and column.
fn place(mark: Option<Mark>) -> (usize, usize) {
    mark.map_or((0, 0), |mark| (mark.line, mark.column))
}

#[test]
fn values_are_those_that_kubectl_makes_of_a_text() {
    let table = [
        ("a: 18446744073709551615", json!({"a": u64::MAX})),
        ("a: -9223372036854775808", json!({"a": i64::MIN})),
        ("a: 0x1F", json!({"a": 31})),
        ("a: 1.50", json!({"a": 1.5})),
        ("a: \"1.50\"", json!({"a": "1.50"})),
        ("a: '007'", json!({"a": "007"})),
        ("a: ~\nb: null\nc:", json!({"a": null, "b": null, "c": null})),
        ("a: |\n  one\n  two\n", json!({"a": "one\ntwo\n"})),
        ("a: >-\n  one\n  two\n", json!({"a": "one two"})),
        ("a: one # no text", json!({"a": "one"})),
        ("a: one#text", json!({"a": "one#text"})),
        ("1: x\ntrue: y", json!({"1": "x", "true": "y"})),
        ("? a\n: 1", json!({"a": 1})),
        ("- 1\n- [2, {b: 3}]", json!([1, [2, {"b": 3}]])),
        ("{}", json!({})),
    ];
    for (text, value) in table {
        assert_eq!(one(text), value, "{text}");
    }
}

#[test]
fn what_an_alias_brings_gives_way_to_what_stands_there_and_to_what_came_before() {
    let table = [
        ("{<<: *a, z: 3}", json!({"x": 1, "y": 1, "z": 3})),
        ("{<<: *b, z: 3}", json!({"y": 2, "z": 3})),
        ("{z: 3, <<: *b}", json!({"y": 2, "z": 3})),
        ("{<<: [*a, *b]}", json!({"x": 1, "y": 1, "z": 2})),
        ("{<<: [*b, *a]}", json!({"x": 1, "y": 2, "z": 2})),
        ("{<<: *a, <<: *b}", json!({"x": 1, "y": 1, "z": 2})),
        ("{<<: {<<: *a, y: 9}, x: 8}", json!({"x": 8, "y": 9})),
        ("{<<: []}", json!({})),
        ("{d: {<<: *a}}", json!({"d": {"x": 1, "y": 1}})),
        // A group is brought whole: what is in it is not put together.
        ("{<<: {g: *a}, g: *b}", json!({"g": {"y": 2, "z": 2}})),
        ("{e: *a}", json!({"e": {"x": 1, "y": 1}})),
    ];
    for (text, value) in table {
        let text = format!("a: &a {{x: 1, y: 1}}\nb: &b {{y: 2, z: 2}}\nc: {text}\n");
        assert_eq!(one(&text)["c"], value, "{text}");
    }
    for wrong in ["5", "[5]", "null", "text", "[[]]", "true"] {
        let text = format!("a: {{<<: {wrong}}}");
        let said = broken(&text).message;
        assert!(said.contains("write <<: *ANCHOR, of a group of fields"), "{wrong}: {said}");
    }
}

#[test]
fn what_would_be_lost_is_refused_where_it_stands() {
    let again = "leave one out: a stands there again";
    let table = [
        ("a: 1\nb: 2\na: 3", (3, 1), again),
        ("x: {a: 1, b: 2, a: 3}", (1, 17), again),
        ("x:\n  - a: 1\n    a: 1\n", (3, 5), again),
        ("a: 1\n'a': 1", (2, 1), again),
        ("\u{feff}a: 1\na: 2", (2, 1), again),
        ("\u{e9}: 1\r\na: 1\r\n\"\u{1f600}\": {a: 1, a: 2}", (3, 13), again),
        ("a: .nan", (1, 4), "write another value: there is no infinity or NaN"),
        ("a: -.inf", (1, 4), "write another value: there is no infinity or NaN"),
        ("a: !big 1", (1, 4), "leave the tag out: !big means nothing"),
    ];
    for (text, at, what) in table {
        let broken = broken(text);
        assert!(broken.message.contains(what), "{text}: {broken:?}");
        assert_eq!(place(broken.mark), at, "{text}: {broken:?}");
    }
}

#[test]
fn a_field_that_stands_twice_in_json_is_refused_as_well() {
    for text in [
        "{\"a\": 1, \"a\": 2}",
        "{\"b\": {\"a\": 1, \"a\": 2}}",
        "{\n\t\"a\": 1,\n\t\"a\": 2\n}",
        // With an escape that YAML has not.
        "{\"x\": \"\\ud83d\\ude00\", \"a\": 1, \"a\": 2}",
        "{\"z\": 1}\n{\"x\": \"\\ud83d\\ude00\", \"a\": 1, \"a\": 2}",
    ] {
        let broken = broken(text);
        assert!(broken.message.contains("leave one out: a stands there again"), "{broken:?}");
        let line = text.matches('\n').count().min(2) + 1;
        let (found, column) = place(broken.mark);
        assert!(found >= 1 && found <= line && column > 1, "{text}: {broken:?}");
    }
    // A key may stand again in another object, and an escape that is written is no key.
    let right = "{\"x\": \"\\ud83d\\ude00\", \"a\": {\"a\": 1}, \"b\": [{\"a\": 1}, {\"a\": 2}]}";
    assert_eq!(one(right)["b"][1]["a"], json!(2));
}

#[test]
fn what_stands_before_a_broken_document_is_read() {
    let text = "a: 1\n---\n---\nb: 2\n---\nc: [\n---\nd: 4\n";
    let (found, broken) = Text::new(text).documents();
    let values: Vec<_> = found.into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, [json!({"a": 1}), json!({"b": 2})]);
    let broken = broken.expect("the fourth is");
    assert_eq!(broken.document, 4, "{broken:?}");
    assert!((6..=7).contains(&place(broken.mark).0), "{broken:?}");
}

#[test]
fn sentences_say_what_to_change_where_a_text_is_often_wrong() {
    let table = [
        ("a:\n\tb: 1", (2, 1), "the line begins with a tab: write spaces in its place"),
        ("a: 1\n  \tb: 1", (2, 3), "the line begins with a tab"),
        ("a: 1\nb:\u{a0}{", (2, 3), "U+00A0 is no space for YAML: write an ordinary one"),
        ("a: 1\n<<<<<<< HEAD\nb: 1\n", (2, 1), "a merge is not finished: choose one"),
        ("a: 1\nb=2\nc: 3", (2, 1), "write `b: 2`"),
        ("a: {{ .Values.a }}", (1, 4), "a template has to be rendered first: helm template"),
        ("a: @b", (1, 4), "what begins with @ has to stand in quotes"),
        ("a: `b`", (1, 4), "what begins with ` has to stand in quotes"),
    ];
    for (text, at, what) in table {
        let broken = broken(text);
        assert!(broken.message.contains(what), "{text:?}: {broken:?}");
        assert_eq!(place(broken.mark).0, at.0, "{text:?}: {broken:?}");
    }
}

const FIELDS: &str = "\
first: 1
spec:
  list:
    - name: \u{e9}
      b: no
      inner: {deep: [x, {y: 1}]}
    - plain
  labels:
    a.b/c: z
    a: {b: w}
merged: &m {from: here}
there:
  <<: *m
  own: 2
";

#[test]
fn a_path_leads_to_where_its_field_or_item_begins() {
    let table = [
        ("first", "first"),
        ("spec", "spec"),
        ("spec.list", "list"),
        ("spec.list[0].name", "name"),
        ("spec.list[0].inner.deep", "deep"),
        ("spec.list[0].inner.deep[0]", "x, {y"),
        ("spec.list[0].inner.deep[1].y", "y: 1"),
        ("spec.list[1]", "plain"),
        ("spec.labels.a.b/c", "a.b/c"),
        ("spec.labels.a.b", "b: w"),
        ("there.own", "own"),
        // What is not there is missing from what is.
        ("spec.list[0].inner.other", "inner"),
        ("spec.none.below", "spec"),
        ("there.from", "from"),
    ];
    for (path, begins) in table {
        let text = Text::new(FIELDS);
        let spot = text.documents().0[0].0;
        let mark = text.mark(spot, path).unwrap_or_else(|| panic!("no place: {path}"));
        let line = FIELDS.lines().nth(mark.line - 1).expect("a line");
        let here: String = line.chars().skip(mark.column - 1).collect();
        assert!(here.starts_with(begins), "{path}: {mark} {here:?}");
    }
}

#[test]
fn places_count_from_the_start_of_the_file_whatever_stands_before() {
    let spots = |text: &str, path: &str| -> Vec<(usize, usize)> {
        let text = Text::new(text);
        let (found, _) = text.documents();
        found.iter().map(|(spot, _)| place(text.mark(*spot, path))).collect()
    };
    assert_eq!(spots("a: 1\n---\n# b\nc: 1\na: 2\n", "a"), [(1, 1), (5, 1)]);
    assert_eq!(spots("\u{feff}a: 1\n---\n\u{feff}a: 2\n", "a"), [(1, 1), (3, 1)]);
    assert_eq!(spots("a: 1\r\n---\r\n  a: 2\r\n", "a"), [(1, 1), (3, 3)]);
    assert_eq!(spots("{\"a\": 1} {\"a\": 2}\n {\"a\": 3}", "a"), [(1, 2), (1, 11), (2, 3)]);
    assert_eq!(spots("{\"\u{e9}\": 0, \"a\": 1}{\"a\": 2}", "a"), [(1, 10), (1, 18)]);
}

#[test]
fn a_scalar_is_found_as_it_was_written() {
    let text = "a: 1.50\nb: '1.50'\nc: 0x1F\nd: [~, 1e3]\ne: &x 7\nf: {<<: {g: 010}}\nh: true\n";
    let text = Text::new(text);
    let spot = text.documents().0[0].0;
    let table = [
        ("a", Some("1.50")),
        ("b", Some("1.50")),
        ("c", Some("0x1F")),
        ("d[1]", Some("1e3")),
        ("e", Some("7")),
        ("f.g", Some("010")),
        ("h", Some("true")),
        ("none", None),
        ("d", None),
        ("d[7]", None),
    ];
    for (path, written) in table {
        assert_eq!(text.written(spot, path).as_deref(), written, "{path}");
    }
}

#[test]
fn json_values_are_told_from_yaml_that_begins_like_them() {
    let table = [
        ("{\"a\": 1}\n{\"b\": 2}", 2),
        ("{\"a\": 1}{\"b\": 2}  \n", 2),
        ("{\"a\": 1}\n---\n{\"b\": 2}", 2),
        ("{a: 1}\n---\n{b: 2}", 2),
        ("{\"a\": 1}", 1),
        ("\n\n{\"a\": 1}\n", 1),
        ("{\"a\": 1}\n---\nb: 2\n---\n", 2),
        ("", 0),
        ("---\n...\n---\n", 0),
        ("# nothing\n", 0),
    ];
    for (text, count) in table {
        assert_eq!(documents(text).len(), count, "{text:?}");
    }
    assert_eq!(broken("{\"a\": 1}\n{\"b\": ").document, 2);
}

fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // Line ends of YAML that are none of JSON, and control characters, are left out.
        "[ -~\u{a1}-\u{2027}\u{2030}-\u{d7ff}\u{1f600}]{0,12}".prop_map(Value::from),
        "(yes|null|~|0x1F|1e3|- a|a: b|#|'|<<|\\*a|\\.inf)".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 20, 4, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..4).prop_map(Value::from),
            btree_map("[a-zA-Z./ -]{0,8}", inner, 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

proptest! {
    /// YAML and JSON of one value are the same to us.
    #[test]
    fn a_value_comes_back_from_yaml_and_from_json(value in values()) {
        let value = json!({"value": value});
        for text in [
            value.to_string(),
            serde_json::to_string_pretty(&value).expect("JSON"),
            serde_yaml::to_string(&value).expect("YAML"),
        ] {
            prop_assert_eq!(one(&text), value.clone(), "{}", text);
        }
        let both = format!("{value}\n{value}");
        prop_assert_eq!(documents(&both), [value.clone(), value]);
    }

    #[test]
    fn every_field_of_a_text_is_found_at_its_name(value in values()) {
        let value = json!({"value": value});
        for (text, quoted) in [
            (serde_yaml::to_string(&value).expect("YAML"), false), (value.to_string(), true),
        ] {
            let read = Text::new(&text);
            let spot = read.documents().0[0].0;
            let mut paths = Vec::new();
            fields(&value, "", &mut paths);
            for (path, name) in paths {
                let mark = read.mark(spot, &path);
                let mark = mark.unwrap_or_else(|| panic!("no place of {path} in {text}"));
                let line = text.lines().nth(mark.line - 1).expect("a line");
                let here: String = line.chars().skip(mark.column - 1).collect();
                let begins = if quoted { format!("\"{name}\"") } else { name };
                let here = if quoted { &here[..] } else { here.trim_start_matches(['\'', '"']) };
                prop_assert!(here.starts_with(&begins), "{path}: {mark} of {text}");
            }
        }
    }
}

/// The paths of fields with plain names, which are not ambiguous.
fn fields(value: &Value, path: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::Object(all) => {
            let plain = |name: &str| !name.is_empty() && name.chars().all(char::is_alphabetic);
            if all.keys().any(|name| !plain(name)) {
                return;
            }
            for (name, below) in all {
                let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                found.push((path.clone(), name.clone()));
                fields(below, &path, found);
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter().enumerate() {
                fields(item, &format!("{path}[{at}]"), found);
            }
        }
        _ => {}
    }
}
