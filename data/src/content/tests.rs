//! Tests of how stored bytes become text.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zst(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

fn utf16(text: &str, bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(bytes).collect()
}

fn read(stored: &[u8]) -> io::Result<Vec<u8>> {
    let mut content = Content::open(stored, &Counter::default())?;
    let mut all = Vec::new();
    content.reader.read_to_end(&mut all)?;
    assert!(all.starts_with(&content.head) && content.head.len() == all.len().min(HEAD_BYTES));
    Ok(all)
}

#[test]
fn text_is_the_same_whatever_it_is_packed_and_marked_with() {
    let text = "line of text with é and 😀\n".repeat(10_000);
    let bytes = text.as_bytes();
    let marked = [b"\xef\xbb\xbf", bytes].concat();
    let (head, tail) = bytes.split_at(1000);
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4][..], &zst(bytes)].concat();
    let table = [
        bytes.to_vec(),
        marked.clone(),
        gzip(bytes),
        gzip(&marked),
        [gzip(head), gzip(tail)].concat(),
        zst(bytes),
        [zst(head), zst(tail)].concat(),
        skippable,
        utf16(&text, u16::to_le_bytes),
        utf16(&text, u16::to_be_bytes),
        gzip(&utf16(&text, u16::to_le_bytes)),
    ];
    for (at, stored) in table.iter().enumerate() {
        assert!(read(stored).unwrap() == bytes, "number {at}");
    }
    for short in [&b""[..], b"a", b"ab", b"\xef\xbb\xbf"] {
        assert_eq!(read(short).unwrap(), without_mark(short));
    }
}

#[test]
fn a_pair_of_surrogates_at_any_place_is_one_character_and_a_half_is_not_utf8() {
    for before in HEAD_BYTES / 2 - 3..HEAD_BYTES / 2 + 3 {
        let text = format!("{}😀", "a".repeat(before));
        assert_eq!(read(&utf16(&text, u16::to_le_bytes)).unwrap(), text.into_bytes());
    }
    let half = [&utf16("a", u16::to_le_bytes)[..], &[0x00, 0xd8], &[b'b', 0], &[7]].concat();
    assert_eq!(read(&half).unwrap(), b"a\xffb\xff");
}

#[test]
fn packed_files_that_are_cut_off_or_broken_are_errors() {
    let text = "some text\n".repeat(1000);
    for whole in [gzip(text.as_bytes()), zst(text.as_bytes())] {
        for cut in [5, whole.len() / 2, whole.len() - 1] {
            assert!(read(&whole[..cut]).is_err(), "{cut} of {}", whole.len());
        }
    }
}

#[test]
fn what_expands_without_end_is_refused() {
    let counter = Counter::default();
    counter.set(1000);
    let mut bomb = Expanded::new(io::repeat(b'a'), &counter);
    let error = io::copy(&mut bomb, &mut io::sink()).unwrap_err();
    assert!(error.to_string().contains("unpack it"), "{error}");
    assert!(bomb.bytes <= EXPANDED_BYTES_FREE + (1 << 20), "{}", bomb.bytes);
}
