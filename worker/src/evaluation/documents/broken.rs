//! Files as people and other programs leave them: marks, line ends, encodings, and lines that are
//! almost documents.

use super::*;

const PLAIN: &str = r#"{"query": "q", "choices": ["a", "b"], "gold": 1}"#;

fn read(content: &[u8], limit: Option<usize>) -> Result<Documents, TaskError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tasks.jsonl");
    std::fs::write(&path, content).unwrap();
    read_documents(&path, limit)
}

fn lines(documents: Documents) -> Vec<usize> {
    match documents {
        Documents::Questions(all) => all.iter().map(|question| question.line).collect(),
        Documents::Texts(all) => all.iter().map(|text| text.line).collect(),
    }
}

fn said(content: &[u8]) -> String {
    crate::error::chain(&read(content, None).unwrap_err())
}

#[test]
fn lines_are_counted_as_an_editor_counts_them() {
    let table: [(String, &[usize]); 7] = [
        (format!("{PLAIN}\r\n{PLAIN}\r\n"), &[1, 2]),
        (format!("\r\n \t\r\n{PLAIN}\r\n"), &[3]),
        (format!("{PLAIN}\n\n\n{PLAIN}\n\n"), &[1, 4]),
        (PLAIN.into(), &[1]),
        (format!("\u{feff}{PLAIN}"), &[1]),
        (format!("\u{feff}\n{PLAIN}"), &[2]),
        (format!("  {PLAIN}  \n\t{PLAIN}"), &[1, 2]),
    ];
    for (content, expected) in table {
        assert_eq!(lines(read(content.as_bytes(), None).unwrap()), expected, "{content:?}");
    }
}

#[test]
fn a_mark_counts_at_the_beginning_alone() {
    let later = format!("{PLAIN}\n\u{feff}{PLAIN}");
    let text = said(later.as_bytes());
    assert!(text.contains("line 2 of") && text.contains("not a JSON object"), "{text}");
    let twice = format!("\u{feff}\u{feff}{PLAIN}");
    assert!(said(twice.as_bytes()).contains("line 1 of"));
    assert!(said("\u{feff}".as_bytes()).contains("there is no document in it"));
    assert!(said(b"").contains("there is no document in it"));
}

#[test]
fn what_is_no_json_object_in_utf_8_is_refused_with_its_line() {
    let table: [&[u8]; 9] = [
        b"{\"text\": \"\xff\"}",
        b"{\"text\": \"a\"} {\"text\": \"b\"}",
        b"{\"text\": \"a\"},",
        b"[{\"text\": \"a\"}]",
        b"\"text\"",
        b"null",
        b"{'text': 'a'}",
        b"\x00",
        // UTF-16, as some editors save.
        b"\xff\xfe{\x00}\x00",
    ];
    for content in table {
        let text = said(content);
        assert!(text.contains("line 1 of"), "{content:?}: {text}");
        assert!(text.contains("it is not a JSON object"), "{content:?}: {text}");
    }
}

#[test]
fn a_text_that_is_none_is_told_and_its_key_beside_choices_is_no_text() {
    for (content, part) in [
        (r#"{"text": 7}"#, "none of the known shapes"),
        (r#"{"text": null}"#, "none of the known shapes"),
        (r#"{"text": ""}"#, "is empty"),
        (r#"{"Text": "a"}"#, "none of the known shapes"),
        ("{}", "none of the known shapes"),
    ] {
        assert!(said(content.as_bytes()).contains(part), "{content}: {}", said(content.as_bytes()));
    }
    let both = r#"{"text": "t", "query": "q", "choices": ["a"], "gold": 0}"#;
    let Documents::Questions(found) = read(both.as_bytes(), None).unwrap() else {
        panic!("a text")
    };
    assert_eq!(found[0].context, "q");
    let Documents::Texts(found) = read(br#"{"text": " \u00e9\n "}"#, None).unwrap() else {
        panic!("questions")
    };
    assert_eq!(found[0].text, " é\n ", "white space is part of a text");
}

#[test]
fn choices_without_a_character_or_a_right_one_are_told() {
    let with = |choices: &str, gold: &str| {
        said(format!(r#"{{"query": "q", "choices": {choices}, "gold": {gold}}}"#).as_bytes())
    };
    let table = [
        (r#"["a", ""]"#, "0", "a text or choice in it is empty"),
        (r#"[""]"#, "0", "a text or choice in it is empty"),
        ("[]", "0", "choice 0 is the right one, counted from 0, but there are 0"),
        (r#"["a", "b"]"#, "2", "choice 2 is the right one, counted from 0, but there are 2"),
        (r#"["a", "b"]"#, "\"2\"", "choice 2 is the right one, counted from 0, but there are 2"),
        (r#"["a", "b"]"#, "-1", "a position has to be a whole number"),
        (r#"["a", "b"]"#, "0.5", "a position has to be a whole number"),
        (r#"["a", "b"]"#, "true", "a position has to be a whole number"),
        (r#"["a", "b"]"#, "null", "a position has to be a whole number"),
        (r#"["a", "b"]"#, "\"a\"", "\"a\" is no position of a choice"),
        (r#"["a", "b"]"#, "\"\"", "\"\" is no position of a choice"),
        (r#"["a", "b"]"#, "99999999999999999999", "a position has to be a whole number"),
        (r#"["a", 7]"#, "0", "it does not have the fields of its shape"),
        (r#""ab""#, "0", "it does not have the fields of its shape"),
    ];
    for (choices, gold, part) in table {
        let text = with(choices, gold);
        assert!(text.contains(part), "{choices} {gold}: {text}");
    }
}

#[test]
fn questions_and_texts_are_not_scored_together_whichever_comes_first() {
    for content in [
        format!("{PLAIN}\n{{\"text\": \"x\"}}"),
        format!("{{\"text\": \"x\"}}\n{{\"text\": \"y\"}}\n{PLAIN}"),
    ] {
        let text = said(content.as_bytes());
        let last = content.lines().count();
        assert!(text.contains(&format!("line {last} of")), "{text}");
        assert!(text.contains("put them into two"), "{text}");
        assert!(read(content.as_bytes(), Some(last - 1)).is_ok(), "it is not looked at");
    }
}

#[test]
fn a_limit_counts_documents_and_not_lines() {
    let content = format!("\n{PLAIN}\n\n{PLAIN}\n{PLAIN}\nnonsense");
    for (limit, expected) in [(1, &[2][..]), (2, &[2, 4]), (3, &[2, 4, 5])] {
        assert_eq!(lines(read(content.as_bytes(), Some(limit)).unwrap()), expected);
    }
    assert!(read(content.as_bytes(), Some(4)).is_err());
}

#[test]
fn what_is_no_file_or_too_large_a_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let error = read_documents(folder.path(), None).unwrap_err();
    assert!(matches!(error, TaskError::Read { .. }), "{error}");
    // A file with a hole takes no room on the disk.
    let path = folder.path().join("large.jsonl");
    std::fs::File::create(&path).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
    let error = read_documents(&path, None).unwrap_err();
    assert!(error.to_string().ends_with("it has more than 1073741824 bytes; split it"), "{error}");
}
