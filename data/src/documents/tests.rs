//! Tests of how files become documents.

use std::convert::Infallible;

use proptest::prelude::*;

use super::*;

type Read = Result<LeftOut, ReadError<Infallible>>;

fn texts(bytes: &[u8]) -> (Vec<String>, LeftOut) {
    gather(|receive| read_text(bytes, receive))
}

fn lines(bytes: &[u8]) -> (Vec<String>, LeftOut) {
    gather(|receive| read_lines(bytes, receive))
}

type Receive<'a> = &'a mut dyn FnMut(&str) -> Result<(), Infallible>;

fn gather(read: impl FnOnce(Receive<'_>) -> Read) -> (Vec<String>, LeftOut) {
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
    assert_eq!(texts(&[b'a'; DOCUMENT_BYTES]).0.len(), 1);
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
    assert!(documents.iter().all(|document| document.len() <= DOCUMENT_BYTES));
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
    assert!(documents.is_empty() && left_out.binary);
    let late = [vec![b'a'; BINARY_PROBE_BYTES], vec![0]].concat();
    assert!(!texts(&late).1.binary);
}

#[test]
fn json_lines_give_the_field_text() {
    let table = [
        (r#"{"text": "plain"}"#, vec!["plain"], 0),
        (r#"{"id": 1, "text": "escaped \u00e9\n", "meta": {"text": 2}}"#, vec!["escaped é\n"], 0),
        ("\n\r\n", vec![], 0),
        (r#"{"text": ""}"#, vec![], 0),
        (r#"{"content": "other field"}"#, vec![], 1),
        (r#"{"text": 3}"#, vec![], 1),
        (r#"{"text": "cut"#, vec![], 1),
        (r#"{"text": "\ud800 lone surrogate"}"#, vec![], 1),
        ("plain words", vec![], 1),
        ("{\"text\": \"a\"}\nbad\n{\"text\": \"b\"}", vec!["a", "b"], 1),
    ];
    for (input, documents, malformed) in table {
        let (found, left_out) = lines(input.as_bytes());
        assert_eq!(
            (found, left_out.malformed_lines),
            (documents.into_iter().map(str::to_owned).collect(), malformed),
            "{input}"
        );
    }
}

#[test]
fn bytes_that_are_not_utf8_are_left_out_of_json_lines() {
    let (documents, left_out) = lines(b"{\"text\": \"a\xffb\"}\n");
    assert_eq!((documents, left_out.invalid_utf8), (vec!["ab".to_owned()], 1));
}

#[test]
fn a_line_beyond_the_bound_is_malformed_and_the_next_is_read() {
    let most = usize::try_from(MAX_LINE_BYTES).unwrap();
    let mut input = format!("{{\"text\": \"{}\"}}\n", "a".repeat(most)).into_bytes();
    input.extend_from_slice(b"{\"text\": \"next\"}\n");
    let (documents, left_out) = lines(&input);
    assert_eq!((documents, left_out.malformed_lines), (vec!["next".to_owned()], 1));
}

#[test]
fn a_long_json_text_is_cut_like_a_file() {
    let text = "word ".repeat(DOCUMENT_BYTES / 2);
    let (documents, _) = lines(format!("{{\"text\": \"{text}\"}}").as_bytes());
    assert!(documents.iter().all(|document| document.len() <= DOCUMENT_BYTES));
    assert_eq!(documents.concat(), text);
}

#[test]
fn the_receiver_ends_the_reading() {
    let stop = read_text(&b"text"[..], &mut |_| Err("enough"));
    assert!(matches!(stop, Err(ReadError::Receiver("enough"))));
}

proptest! {
    #[test]
    fn cutting_loses_no_text(pattern in proptest::collection::vec(1u8.., 1..40)) {
        let bytes: Vec<u8> = pattern.iter().copied().cycle().take(3 * DOCUMENT_BYTES).collect();
        let solid = |text: &str| -> String { text.split_whitespace().collect() };
        let (documents, _) = texts(&bytes);
        prop_assert!(documents.iter().all(|document| document.len() <= DOCUMENT_BYTES));
        prop_assert_eq!(solid(&documents.concat()), solid(&clean(&bytes).0));
    }
}
