//! Tests of checking values against small schemas, which say one thing each.

use serde_json::json;

use super::*;

/// What is said of a value, with the path of each.
fn said(schema: &Value, value: &Value) -> Vec<String> {
    check(schema, value, &|_| None).iter().map(ToString::to_string).collect()
}

#[test]
fn a_value_of_another_type_is_told_what_it_has_to_be() {
    let of = |kind: &str| json!({ "type": kind });
    let table = [
        (of("string"), json!(["a"]), "spec: has to be text, not a list"),
        (of("string"), json!({}), "spec: has to be text, not a group of fields"),
        (of("string"), json!(7), "spec: has to be text: write `\"7\"`"),
        (of("string"), json!(null), "spec: has to be text, not empty: write `\"\"`"),
        (of("integer"), json!(1.5), "spec: 1.5 has to be a whole number"),
        (of("integer"), json!("12"), "spec: has to be a whole number, not \"12\": write `12`"),
        (of("integer"), json!({}), "spec: has to be a whole number, not a group of fields"),
        (of("boolean"), json!("yes"), "spec: has to be true or false, not \"yes\": write `true`"),
        (of("boolean"), json!(0), "spec: has to be true or false, not 0: write `false`"),
        (of("boolean"), json!("maybe"), "spec: has to be true or false, not \"maybe\""),
        (of("array"), json!({}), "spec: has to be a list, not a group of fields: put - before it,"),
        (of("array"), json!("a"), "spec: has to be a list, not \"a\": put it in [ ]"),
        (of("object"), json!("a"), "spec: has to be a group of fields, not \"a\""),
        (of("object"), json!([1]), "spec: has to be a group of fields, not a list"),
    ];
    for (schema, value, sentence) in table {
        let found = said(&schema, &value);
        assert!(found.len() == 1 && found[0].starts_with(sentence), "{value}: {found:?}");
    }
    for (kind, value) in [
        ("string", json!("")),
        ("integer", json!(u64::MAX)),
        ("integer", json!(i64::MIN)),
        ("boolean", json!(false)),
        ("array", json!([])),
        ("object", json!({})),
    ] {
        assert_eq!(said(&of(kind), &value), [""; 0], "{value}");
    }
}

#[test]
fn bounds_are_part_of_what_they_bound() {
    let table = [
        (json!({"type": "integer", "minimum": 1, "maximum": 3}), json!(1), json!(3)),
        (json!({"type": "string", "minLength": 1, "maxLength": 3}), json!("a"), json!("abc")),
        (json!({"type": "array", "minItems": 1, "maxItems": 2}), json!([1]), json!([1, 2])),
        (
            json!({
                "type": "object", "maxProperties": 2, "minProperties": 1,
                "additionalProperties": {"type": "integer"},
            }),
            json!({"a": 1}),
            json!({"a": 1, "b": 2}),
        ),
    ];
    let beyond = [
        (json!(0), "0 is below 1, the least", json!(4), "4 is above 3, the most"),
        (
            json!(""),
            "has 0 characters, at least 1 needed",
            json!("abcd"),
            "has 4 characters, at most 3",
        ),
        (json!([]), "has 0 items, at least 1 needed", json!([1, 2, 3]), "has 3 items, at most 2"),
        (
            json!({}),
            "has 0 fields, at least 1 needed",
            json!({"a": 1, "b": 2, "c": 3}),
            "has 3 fields, at most 2",
        ),
    ];
    for ((schema, low, high), (below, less, above, more)) in table.into_iter().zip(beyond) {
        assert_eq!((said(&schema, &low), said(&schema, &high)), (vec![], vec![]), "{schema}");
        assert_eq!(said(&schema, &below), [format!("spec: {less}")]);
        assert_eq!(said(&schema, &above), [format!("spec: {more}")]);
    }
    let long = json!({"type": "integer", "format": "int64"});
    assert_eq!(said(&long, &json!(i64::MAX)), [""; 0]);
    let most = "spec: 9223372036854775808 is above 9223372036854775807, the most";
    assert_eq!(said(&long, &json!(1_u64 << 63)), [most]);
}

#[test]
fn a_word_that_is_none_of_a_choice_is_told_the_nearest() {
    let schema = json!({"type": "string", "enum": ["Dedicated", "Harvest"]});
    assert_eq!(said(&schema, &json!("Harvest")), [""; 0]);
    let choice = "is not one of Dedicated, Harvest";
    assert_eq!(
        said(&schema, &json!("harvest")),
        [format!("spec: \"harvest\" {choice}: write `Harvest`")]
    );
    assert_eq!(said(&schema, &json!("Greedy")), [format!("spec: \"Greedy\" {choice}")]);
    assert_eq!(said(&schema, &json!("")), [format!("spec: \"\" {choice}")]);
}

#[test]
fn what_lacks_and_what_is_too_much_is_told_at_every_depth_at_once() {
    let item = json!({
        "type": "object", "required": ["name"],
        "properties": {
            "name": {"type": "string", "description": "Its name.\nMore of it."},
            "size": {"type": "integer", "minimum": 1},
        },
    });
    let schema = json!({
        "type": "object", "required": ["items"],
        "properties": {"items": {"type": "array", "description": "All.", "items": item}},
    });
    assert_eq!(said(&schema, &json!({})), ["spec.items: missing: All."]);
    let found = said(&schema, &json!({"items": [{"size": 0}, {"name": "b"}, 7], "other": 1}));
    let begins = [
        "spec.items[0].size: 0 is below 1, the least",
        "spec.items[0].name: missing: Its name.",
        "spec.items[2]: has to be a group of fields, not 7; the fields here are name, size",
        "spec.other: unknown field",
    ];
    assert_eq!(found.len(), begins.len(), "{found:#?}");
    for begin in begins {
        assert!(found.iter().any(|line| line.starts_with(begin)), "{begin}\n got {found:#?}");
    }
}

#[test]
fn empty_fields_are_passed_over_where_they_are_known_and_nowhere_else() {
    let schema = json!({
        "type": "object",
        "properties": {
            "a": {"type": "integer"},
            "list": {"type": "array", "items": {
                "type": "object", "properties": {"b": {"type": "integer"}},
            }},
        },
    });
    let mut value = json!({"a": null, "list": [{"b": null}, null], "other": null});
    prune(&schema, &mut value);
    // What is not known is told, and what is no field stays.
    assert_eq!(value, json!({"list": [{}, null], "other": null}));
}
