//! Tests of how records are found and what is made of them.

use proptest::prelude::*;

use super::*;

/// Texts and problems, with their numbers.
fn read(bytes: &[u8]) -> Vec<(u64, Result<String, Problem>)> {
    let mut found = Vec::new();
    read_records::<io::Error>(bytes, shape(bytes), "text", &mut |record| {
        found.push((record.number, record.text.as_deref().map(str::to_owned).map_err(|p| *p)));
        Ok(())
    })
    .unwrap();
    found
}

fn results(bytes: &[u8]) -> Vec<Result<String, Problem>> {
    read(bytes).into_iter().map(|(_, result)| result).collect()
}

#[test]
fn a_record_is_kept_when_its_text_is_whole() {
    let ok = |text: &str| Ok(text.to_owned());
    let table = [
        (r#"{"text": "plain"}"#, ok("plain")),
        (r#"{"id": 1, "text": "escaped \u00e9\n", "meta": {"text": 2}}"#, ok("escaped é\n")),
        (r#"{"text": ""}"#, ok("")),
        (r#"{"score": NaN, "text": "a"}"#, ok("a")),
        (r#"{"text": "NaN \"Infinity", "x": [-Infinity, Infinity, 1e999]}"#, ok("NaN \"Infinity")),
        (r#"{"a": 1, "a": 2, "text": "a"}"#, ok("a")),
        (r#"{"text": "first", "text": "last"}"#, ok("last")),
        (r#"{"other": "\ud800", "\udc00": 1, "text": "a"}"#, ok("a")),
        (r#"{"text": "\ud83d\ude00"}"#, ok("😀")),
        ("{\"text\": \"tab\there\", \"x\": \"\u{1}\"}", ok("tab\there")),
        (r#"{"text": "a"},"#, ok("a")),
        (r#"{"te\u0078t": "a"}"#, ok("a")),
        (r#"{"x": {"y": [{"z": "}"}]}, "text": "a"}"#, ok("a")),
        (r#"{"text": "\ud800 half"}"#, Err(Problem::HalfPair)),
        (r#"{"content": "other field"}"#, Err(Problem::NoField)),
        ("{}", Err(Problem::NoField)),
        (r#"{"text": 3}"#, Err(Problem::NotText)),
        (r#"{"text": null}"#, Err(Problem::NotText)),
        (r#"{"text": NaN}"#, Err(Problem::NotText)),
        (r#"{"text": ["a"]}"#, Err(Problem::NotText)),
        (r#"{"text": "cut"#, Err(Problem::NotJson)),
        (r#"{"text": "a"} more"#, Err(Problem::NotJson)),
        ("plain words", Err(Problem::NotJson)),
        ("{'text': 'python'}", Err(Problem::NotJson)),
        (r#""text""#, Err(Problem::NotObject)),
        ("12", Err(Problem::NotObject)),
    ];
    for (input, expected) in table {
        assert_eq!(results(input.as_bytes()), [expected], "{input}");
    }
}

#[test]
fn records_are_found_in_lines_arrays_and_rows_of_values() {
    let texts = |input: &str| -> Vec<String> {
        results(input.as_bytes()).into_iter().map(|result| result.unwrap()).collect()
    };
    let table = [
        "{\"text\": \"a\"}\n\n{\"text\": \"b\"}",
        "{\"text\": \"a\"}\r\n{\"text\": \"b\"}\r\n",
        "{\"text\": \"a\"}{\"text\": \"b\"}\n",
        "{\"text\": \"a\"},\n{\"text\": \"b\"},\n",
        "[{\"text\": \"a\"}, {\"text\": \"b\"}]",
        "\n[\n  {\n    \"text\": \"a\"\n  },\n  {\n    \"text\": \"b\"\n  }\n]\n",
        "{\n  \"text\": \"a\"\n}\n{\n  \"text\": \"b\"\n}\n",
        "{\"meta\": [\n1, 2], \"text\": \"a\"}\n{\"text\": \"b\"}",
        "[{\"text\": \"a\"}]\n[{\"text\": \"b\"}]",
        "[\n{\"text\": \"a\"}\n,{\"text\": \"b\"}\n]",
    ];
    for input in table {
        assert_eq!(texts(input), ["a", "b"], "{input}");
    }
    for blank in ["", "\n \n", "[]", "[\n]"] {
        assert!(results(blank.as_bytes()).is_empty(), "{blank}");
    }
}

#[test]
fn what_is_no_record_is_reported_with_its_number_and_the_rest_is_read() {
    let bad = Problem::NotJson;
    let a = || Ok("a".to_owned());
    let lines = read(b"{\"text\": \"a\"}\n\nbroken\n{\"text\": \"a\"}");
    assert_eq!(lines, [(1, a()), (3, Err(bad)), (4, a())]);
    let values = read(b"[{\"text\": \"a\"}, 7, \"x,]\", {\"text\": \"a\"}, nonsense]");
    let none = Problem::NotObject;
    assert_eq!(values, [(1, a()), (2, Err(none)), (3, Err(none)), (4, a()), (5, Err(bad))]);
    // Cut off within a record, and between two.
    assert_eq!(read(b"[{\"text\": \"a\"}, {\"text\": "), [(1, a()), (2, Err(bad))]);
    assert_eq!(read(b"[{\"text\": \"a\"},"), [(1, a()), (2, Err(bad))]);
}

#[test]
fn a_record_beyond_the_bound_is_left_out_and_the_next_is_read() {
    let long = "a".repeat(RECORD_BYTES_MAX);
    let next = Ok("next".to_owned());
    for (begin, between, end) in [("", "\n", ""), ("[", ",", "]")] {
        let input = format!("{begin}{{\"text\": \"{long}\"}}{between}{{\"text\": \"next\"}}{end}");
        assert_eq!(results(input.as_bytes()), [Err(Problem::TooLong), next.clone()]);
    }
}

#[test]
fn bytes_that_are_not_utf8_are_left_out_and_counted() {
    let mut found = Vec::new();
    read_records::<io::Error>(
        &b"{\"text\": \"a\xffb\"}"[..],
        Shape::Lines,
        "text",
        &mut |record| {
            found.push((record.text.as_deref().unwrap().to_owned(), record.invalid_utf8));
            Ok(())
        },
    )
    .unwrap();
    assert_eq!(found, [("ab".to_owned(), 1)]);
}

#[test]
fn the_fields_of_a_record_are_named_and_bounded() {
    let names: Vec<_> = (0..20).map(|number| format!("\"f{number}\": NaN")).collect();
    let found = fields(&format!("{{{}}}", names.join(",")));
    assert_eq!((found.len(), found[0].as_str()), (FIELDS_NAMED_MAX, "f0"));
}

proptest! {
    #[test]
    fn any_text_comes_back_from_any_shape(
        texts in proptest::collection::vec(any::<String>(), 1..6),
    ) {
        let record = |text: &String| serde_json::json!({ "n": { "t": text }, "text": text });
        let records: Vec<_> = texts.iter().map(record).collect();
        let lines: Vec<_> = records.iter().map(ToString::to_string).collect();
        let pretty: Vec<_> = records.iter().map(|record| format!("{record:#}")).collect();
        let whole = serde_json::Value::Array(records);
        let (array, tall) = (whole.to_string(), format!("{whole:#}"));
        for input in [lines.join("\n"), lines.concat(), pretty.join("\n"), array, tall] {
            let found: Vec<_> = results(input.as_bytes()).into_iter().map(Result::unwrap).collect();
            prop_assert_eq!(&found, &texts, "{}", input);
        }
    }

    #[test]
    fn nothing_breaks_the_reading(bytes in proptest::collection::vec(
        proptest::sample::select(&b"{}[]\",:\\ \n\xffuaNtex1-"[..]), 0..60,
    )) {
        read(&bytes);
    }
}

/// What is found when the file is read in pieces of so many bytes.
fn in_pieces(bytes: &[u8], size: usize) -> Vec<(u64, u64, Result<String, Problem>)> {
    let mut found = Vec::new();
    let reader = io::BufReader::with_capacity(size, bytes);
    read_records::<io::Error>(reader, shape(bytes), "text", &mut |record| {
        let text = record.text.as_deref().map(str::to_owned).map_err(|problem| *problem);
        found.push((record.number, record.bytes, text));
        Ok(())
    })
    .unwrap();
    found
}

proptest! {
    /// A record may be cut anywhere between two reads: within a string, an escape, a character.
    #[test]
    fn records_are_the_same_in_whatever_pieces_they_come(
        texts in proptest::collection::vec("[ -~\u{e9}\u{1f600}\n\\\\\"{}\\[\\],]{0,20}", 1..5),
        broken in proptest::sample::select(&["", "nonsense", "7", "{\"text\": \"cut"][..]),
        array: bool, size in 1_usize..9,
    ) {
        let records: Vec<_> =
            texts.iter().map(|text| serde_json::json!({ "text": text }).to_string()).collect();
        let input = match array {
            true => format!("[{},{broken}]", records.join(",")),
            false => format!("{}\n{broken}", records.join("\n")),
        };
        let whole = in_pieces(input.as_bytes(), 1 << 16);
        prop_assert_eq!(&in_pieces(input.as_bytes(), size), &whole, "{}", input);
        let found: Vec<_> =
            whole.iter().take(texts.len()).map(|(.., text)| text.clone().unwrap()).collect();
        prop_assert_eq!(found, texts);
    }

    #[test]
    fn a_field_is_found_whatever_stands_beside_it(
        before in proptest::collection::btree_map("[a-s]{1,5}", ".{0,10}", 0..4),
        text in ".{0,20}", odd in proptest::sample::select(&["NaN", "-Infinity", "[NaN]"][..]),
    ) {
        let mut fields: Vec<_> = before
            .iter()
            .map(|(name, value)| format!("\"{name}\": {}", serde_json::json!(value)))
            .collect();
        fields.push(format!("\"zz\": {odd}"));
        fields.push(format!("\"text\": {}", serde_json::json!(text)));
        let input = format!("{{{}}}", fields.join(", "));
        prop_assert_eq!(results(input.as_bytes()), [Ok(text)], "{}", input);
        let mut expected: Vec<_> = before.keys().cloned().collect();
        expected.extend(["zz".to_owned(), "text".to_owned()]);
        prop_assert_eq!(super::fields(&input), expected);
    }
}

#[test]
fn records_on_one_line_have_its_number_and_the_lines_after_it_their_own() {
    let two = "{\"text\": \"a\"} {\"text\": \"b\"}";
    let found = read(format!("{two}\n{{\"text\": 1}}\n\n  {two},\n").as_bytes());
    let expected = [
        (1, Ok("a".to_owned())),
        (1, Ok("b".to_owned())),
        (2, Err(Problem::NotText)),
        (4, Ok("a".to_owned())),
        (4, Ok("b".to_owned())),
    ];
    // Within a line, records are told apart by the line alone.
    assert_eq!(found, expected);
}

#[test]
fn the_shape_is_told_by_the_first_line_that_has_something() {
    let table = [
        ("{\"text\": 1}\n", Shape::Lines),
        ("{\"text\": {\n", Shape::Values),
        ("{\n", Shape::Values),
        ("\n\n {\"a\": [\r\n1]}", Shape::Values),
        ("{\"a\": 1,\n", Shape::Values),
        ("[", Shape::Values),
        ("[]\n[]", Shape::Values),
        ("\"[\"", Shape::Lines),
        ("text\n[", Shape::Lines),
        ("", Shape::Lines),
    ];
    for (head, expected) in table {
        assert_eq!(shape(head.as_bytes()), expected, "{head:?}");
    }
}
