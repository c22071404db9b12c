//! Names that people's files have, and names that nobody means.

use std::os::unix::ffi::OsStrExt as _;

use proptest::prelude::*;

use super::*;

fn of(name: &str) -> Form {
    form(OsStr::new(name), &[])
}

#[test]
fn a_packed_file_is_known_by_both_of_its_extensions() {
    let table = [
        ("a.jsonl.GZ", Some(Kind::Records), ".jsonl.gz", true),
        ("a.txt.zst", Some(Kind::Plain), ".txt.zst", true),
        ("a.csv.gz", None, ".csv.gz", true),
        ("a.gz", Some(Kind::Json), ".gz", true),
        // Packed twice over, which is not unpacked.
        ("a.jsonl.gz.zst", None, ".gz.zst", true),
        ("a.gz.txt", Some(Kind::Plain), ".txt", false),
        // Nothing stands before the dot.
        (".gz", None, "", false),
        ("gz", None, "", false),
        ("a..gz", Some(Kind::Json), ".gz", true),
        ("a.txt.", None, "", false),
    ];
    for (name, kind, label, packed) in table {
        let form = of(name);
        assert_eq!((form.kind, form.label.as_str(), form.packed), (kind, label, packed), "{name}");
    }
}

#[test]
fn what_is_asked_for_as_text_counts_before_what_a_name_says() {
    let asked = ["jsonl".to_owned(), "parquet".to_owned(), "csv".to_owned()];
    for name in ["a.jsonl", "a.JSONL", "a.jsonl.gz", "a.parquet", "a.csv"] {
        assert_eq!(form(OsStr::new(name), &asked).kind, Some(Kind::Asked), "{name}");
    }
    // Data of other programs stays what it is, so that what stands beside it is known.
    assert!(form(OsStr::new("a.csv"), &asked).other_data);
    assert_eq!(form(OsStr::new("a.txt"), &asked).kind, Some(Kind::Plain));
}

#[test]
fn an_extension_is_short_and_plain() {
    let table = [
        ("a.abcdefghijkl", ".abcdefghijkl"),
        ("a.abcdefghijklm", ""),
        ("v1.2", ".2"),
        ("a.tar_gz", ".tar_gz"),
        ("a.b c", ""),
        ("notes.\u{e9}", ""),
        ("a.b-c", ""),
    ];
    for (name, label) in table {
        assert_eq!(of(name).label, label, "{name}");
    }
    let bytes = form(OsStr::from_bytes(b"\xff\xfe.txt"), &[]);
    assert_eq!(bytes.kind, Some(Kind::Plain), "a name need not be UTF-8");
}

#[test]
fn a_beginning_is_json_only_where_a_key_and_a_colon_stand_in_it() {
    let table: [(&[u8], bool); 12] = [
        (b"{\"a\":", true),
        (b"{ \"a\" \n :1", true),
        (b"[[{\"a\":", true),
        (b"{\"\":", true),
        (b"{\"a\\\\\":1", true),
        (b"{\"a\\\":1", false),
        (b"{\"a", false),
        (b"{\"a\"", false),
        (b"{1: 2}", false),
        (b"{'a': 1}", false),
        (b"[1, 2]", false),
        (b"\xff{\"a\":1", false),
    ];
    for (head, expected) in table {
        assert_eq!(begins_as_json(head), expected, "{:?}", String::from_utf8_lossy(head));
    }
}

proptest! {
    #[test]
    fn any_name_says_something_and_a_known_kind_has_an_extension(name in ".{0,30}") {
        let form = of(&name);
        prop_assert!(form.kind.is_none() || form.label.starts_with('.'));
        prop_assert_eq!(form.packed, [".gz", ".gzip", ".zst", ".zstd"].iter()
            .any(|end| form.label.ends_with(end)));
        prop_assert!(form.label.len() <= 2 * (EXTENSION_BYTES_MAX + 1));
    }

    #[test]
    fn any_beginning_is_looked_at(head in proptest::collection::vec(
        proptest::sample::select(&b"{}[]\":\\a \n\xff"[..]), 0..20,
    )) {
        if begins_as_json(&head) {
            let text = String::from_utf8_lossy(&head).into_owned();
            let opens = text.trim_start().starts_with(['{', '[']);
            prop_assert!(opens && text.contains(':'));
        }
    }
}
