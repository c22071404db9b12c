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

#[test]
fn what_follows_the_last_member_of_a_packed_file_is_never_taken_for_text() {
    let text = "some text\n".repeat(100);
    for pack in [gzip as fn(&[u8]) -> Vec<u8>, zst] {
        let whole = pack(text.as_bytes());
        for after in [&b"garbage"[..], b"\x1f", b"\x28\xb5\x2f", b"more text in plain\n"] {
            let stored = [&whole[..], after].concat();
            match read(&stored) {
                Ok(found) => assert_eq!(found, text.as_bytes(), "{after:?}"),
                Err(error) => assert!(!error.to_string().is_empty()),
            }
        }
    }
}

#[test]
fn members_of_any_sizes_are_one_text_and_none_is_lost() {
    let line = |number: usize| format!("line {number}\n");
    let text: String = (0..200).map(line).collect();
    for pack in [gzip as fn(&[u8]) -> Vec<u8>, zst] {
        let members: Vec<u8> = (0..200).flat_map(|number| pack(line(number).as_bytes())).collect();
        assert!(read(&members).unwrap() == text.as_bytes());
        let blank = [pack(b""), pack(text.as_bytes()), pack(b""), pack(b"")].concat();
        assert!(read(&blank).unwrap() == text.as_bytes());
        assert_eq!(read(&pack(b"")).unwrap(), b"");
    }
}

#[test]
fn a_packed_file_that_is_cut_anywhere_is_an_error_or_a_whole_member() {
    let (first, second) = ("first member\n".repeat(20), "second member\n".repeat(20));
    for pack in [gzip as fn(&[u8]) -> Vec<u8>, zst] {
        let (a, b) = (pack(first.as_bytes()), pack(second.as_bytes()));
        let both = [&a[..], &b].concat();
        for cut in 4..both.len() {
            let found = read(&both[..cut]);
            if cut == a.len() {
                assert_eq!(found.unwrap(), first.as_bytes());
            } else {
                assert!(found.is_err(), "cut to {cut} of {} and {}", a.len(), b.len());
            }
        }
    }
}

#[test]
fn a_packed_file_with_a_bit_changed_is_refused_or_the_same() {
    let text = "text that is checked\n".repeat(30);
    let whole = gzip(text.as_bytes());
    // Behind the first ten bytes, of which some are a date and a system.
    for at in 10..whole.len() {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        if let Ok(found) = read(&changed) {
            assert_eq!(found, text.as_bytes(), "byte {at}");
        }
    }
}

#[test]
fn the_counter_has_the_bytes_as_they_are_stored() {
    let text = "text\n".repeat(50_000);
    for stored in [text.clone().into_bytes(), gzip(text.as_bytes()), zst(text.as_bytes())] {
        let counter = Counter::default();
        let mut content = Content::open(&stored[..], &counter).unwrap();
        let mut all = Vec::new();
        content.reader.read_to_end(&mut all).unwrap();
        assert_eq!(counter.get(), stored.len() as u64);
        assert_eq!(all.len(), text.len());
    }
}

#[test]
fn what_begins_like_something_packed_is_not_read_as_text() {
    // Magic numbers without anything behind them.
    for head in [&b"\x1f\x8b"[..], b"\x1f\x8b\x08\x00", b"\x28\xb5\x2f\xfd", b"\x28\xb5\x2f\xfdx"] {
        assert!(is_packed(head) && read(head).is_err(), "{head:?}");
    }
    for head in [&b""[..], b"\x1f", b"\x28\xb5\x2f", b"PAR1", b"(\xb5/text"] {
        assert!(!is_packed(head), "{head:?}");
    }
}

#[test]
fn utf16_of_any_length_and_order_is_the_text_that_it_was() {
    for text in ["", "a", "\u{feff}inner mark", "\u{0}", "\u{ffff}\u{10ffff}", "z\u{301}"] {
        for bytes in [u16::to_le_bytes as fn(u16) -> [u8; 2], u16::to_be_bytes] {
            let found = String::from_utf8(read(&utf16(text, bytes)).unwrap()).unwrap();
            // The mark of the file alone is left out.
            assert_eq!(found, text, "{text:?}");
        }
    }
    let (cleaned, invalid) = clean(b"\xffa\xc3\xc3\xa9\xf0\x9f");
    assert_eq!((cleaned.as_ref(), invalid), ("a\u{e9}", 3));
}
