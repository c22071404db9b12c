//! Tests of how files become documents.

use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

type Read = Result<LeftOut, ReadError<Infallible>>;

fn texts(bytes: &[u8]) -> (Vec<String>, LeftOut) {
    of(Kind::Plain, bytes)
}

fn lines(bytes: &[u8]) -> (Vec<String>, LeftOut) {
    of(Kind::Records, bytes)
}

fn of(kind: Kind, bytes: &[u8]) -> (Vec<String>, LeftOut) {
    gather(|receive| read_documents(bytes, &Counter::default(), (kind, "text"), receive))
}

fn gather(read: impl FnOnce(Receive<'_, Infallible>) -> Read) -> (Vec<String>, LeftOut) {
    let mut documents = Vec::new();
    let left_out = read(&mut |document| {
        documents.push(document.to_owned());
        Ok(())
    });
    (documents, left_out.unwrap())
}

#[test]
fn a_short_text_is_one_document() {
    assert_eq!(texts("fn main() {}\n".as_bytes()).0, ["fn main() {}\n"]);
    assert_eq!(texts(&[b'a'; DOCUMENT_BYTES_MAX]).0.len(), 1);
}

#[test]
fn blank_texts_are_no_documents() {
    for text in ["", "\n", " \t\r\n "] {
        assert!(texts(text.as_bytes()).0.is_empty(), "{text:?}");
    }
}

#[test]
fn a_long_text_is_cut_after_line_ends() {
    let text = "0123456789abcdef\n".repeat(10_000);
    let (documents, _) = texts(text.as_bytes());
    assert!(documents.iter().all(|document| document.ends_with('\n')));
    assert!(documents.iter().all(|document| document.len() <= DOCUMENT_BYTES_MAX));
    assert_eq!(documents.len(), 3);
    assert_eq!(documents.concat(), text);
}

#[test]
fn a_text_without_line_ends_is_cut_between_characters() {
    let text = "€".repeat(50_000);
    let (documents, left_out) = texts(text.as_bytes());
    assert_eq!(documents.concat(), text);
    assert_eq!(left_out, LeftOut::default());
}

#[test]
fn what_is_not_utf8_is_left_out_and_counted() {
    let (documents, left_out) = texts(b"a\xffb\xc3\nc\xe2\x82");
    assert_eq!(documents, ["ab\nc"]);
    assert_eq!(left_out.invalid_utf8, 3);
}

#[test]
fn a_zero_byte_early_on_makes_a_file_binary() {
    let (documents, left_out) = texts(b"ELF\0text");
    assert!(documents.is_empty() && left_out.unread == Some(Unread::Binary));
    let late = [vec![b'a'; BINARY_PROBE_BYTES], vec![0]].concat();
    assert_eq!(texts(&late).1.unread, None);
}

#[test]
fn records_that_are_left_out_are_counted_by_reason_with_the_first() {
    let input = b"{\"text\": \"a\"}\nbad\n{\"body\": 1}\nworse\n{\"text\": \"b\"}\n";
    let (documents, left_out) = lines(input);
    assert_eq!(documents, ["a", "b"]);
    let first = |place: &str, detail: &str| First { place: place.into(), detail: detail.into() };
    let expected = [
        (Problem::NotJson, 2, first("line 2", "")),
        (Problem::NoField, 1, first("line 3", "no `text`, but `body`")),
    ];
    assert_eq!((left_out.records.as_slice(), left_out.malformed()), (&expected[..], 3));
    assert_eq!((left_out.seen, left_out.lost), (input.len() as u64, 4 + 12 + 6));
    let (_, left_out) = lines(b"[{\"text\": 1}]");
    assert_eq!(left_out.records[0].2, first("record 1", "`text` is not a string"));
}

#[test]
fn json_in_a_file_of_another_name_is_read_as_records_unless_it_is_asked_for() {
    let input = b"{\"text\": \"a\"}\n{\"text\": \"b\"}\n";
    for kind in [Kind::Plain, Kind::Unknown, Kind::Records] {
        assert_eq!(of(kind, input).0, ["a", "b"], "{kind:?}");
    }
    let raw = String::from_utf8(input.to_vec()).unwrap();
    for kind in [Kind::Asked, Kind::Code] {
        assert_eq!(of(kind, input).0, [raw.as_str()], "{kind:?}");
    }
}

#[test]
fn a_pointer_of_git_lfs_is_not_text() {
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 12345\n";
    for kind in [Kind::Plain, Kind::Code, Kind::Records] {
        let (documents, left_out) = of(kind, pointer);
        assert!(documents.is_empty(), "{documents:?}");
        assert_eq!(left_out.unread, Some(Unread::LfsPointer(12345)), "{kind:?}");
    }
}

#[test]
fn a_long_json_text_is_cut_like_a_file() {
    let text = "word ".repeat(DOCUMENT_BYTES_MAX / 2);
    let (documents, _) = lines(format!("{{\"text\": \"{text}\"}}").as_bytes());
    assert!(documents.iter().all(|document| document.len() <= DOCUMENT_BYTES_MAX));
    assert_eq!(documents.concat(), text);
    for rest in [DOCUMENT_BYTES_MAX - 5, DOCUMENT_BYTES_MAX, DOCUMENT_BYTES_MAX + 5] {
        let text = "word\n".repeat(2 * DOCUMENT_BYTES_MAX).split_off(9 * DOCUMENT_BYTES_MAX - rest);
        let json = serde_json::json!({ "text": text }).to_string();
        assert_eq!(lines(json.as_bytes()).0, texts(text.as_bytes()).0);
    }
}

#[test]
fn the_receiver_ends_the_reading() {
    let stop = read_text(&b"text"[..], &mut |_| Err("enough"));
    assert!(matches!(stop, Err(ReadError::Receiver("enough"))));
}

proptest! {
    #[test]
    fn cutting_loses_no_text(pattern in proptest::collection::vec(1u8.., 1..40)) {
        let bytes: Vec<u8> = pattern.iter().copied().cycle().take(3 * DOCUMENT_BYTES_MAX).collect();
        let solid = |text: &str| -> String { text.split_whitespace().collect() };
        let (documents, _) = texts(&bytes);
        prop_assert!(documents.iter().all(|document| document.len() <= DOCUMENT_BYTES_MAX));
        prop_assert_eq!(solid(&documents.concat()), solid(&clean(&bytes).0));
    }
}
