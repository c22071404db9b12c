//! Texts that are longer than may be read, and texts that end where none should.

use super::*;

/// The text of a file with these bytes, of which so many may be read.
fn read_of(bytes: &[u8], most: usize) -> Result<String, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.yaml");
    fs::write(&path, bytes).unwrap();
    read(&path, most).map_err(|error| match error {
        ManifestError::Read { source, .. } => source.to_string(),
        other => other.to_string(),
    })
}

fn utf16(text: &str) -> Vec<u8> {
    [0xff, 0xfe].into_iter().chain(text.encode_utf16().flat_map(u16::to_le_bytes)).collect()
}

/// Who reads a text says that it is too long: it has to be there as one that is, at whatever byte
/// reading it stopped, or a part of it would be taken for the whole.
#[test]
fn a_text_that_is_too_long_is_still_too_long_when_it_was_read() {
    for text in ["x", "ä", "語", "🦀", "aä語🦀"] {
        for shift in 0..4 {
            let long = format!("{}{}", "-".repeat(shift), text.repeat(400));
            let forms = [("UTF-8", long.clone().into_bytes()), ("UTF-16", utf16(&long))];
            for (form, bytes) in forms {
                let read =
                    read_of(&bytes, 100).unwrap_or_else(|why| panic!("{form} {text}: {why}"));
                assert!(read.len() > 100, "{form} {text}: {} bytes", read.len());
                assert!(long.starts_with(&read), "{form}: {read}");
            }
        }
    }
}

#[test]
fn a_text_as_long_as_may_be_is_whole_in_every_form() {
    for text in ["x".repeat(100), "ä".repeat(50), "🦀".repeat(25)] {
        assert_eq!(text.len(), 100);
        assert_eq!(read_of(text.as_bytes(), 100).as_deref(), Ok(&text[..]));
        assert_eq!(read_of(&utf16(&text), 100).as_deref(), Ok(&text[..]));
    }
}

#[test]
fn a_short_text_that_ends_inside_a_character_is_broken() {
    assert!(read_of(b"name: \xc3", 100).unwrap_err().starts_with("line 1, column 7: "));
    let whole = utf16("name: mini");
    let half = read_of(&whole[..whole.len() - 1], 100).unwrap_err();
    assert!(half.starts_with("it is broken UTF-16"), "{half}");
    let pair = utf16("🦀");
    let half = read_of(&pair[..4], 100).unwrap_err();
    assert!(half.starts_with("it is broken UTF-16"), "{half}");
}

#[test]
fn a_file_that_is_not_there_and_a_folder_in_a_files_place_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none.yaml");
    let error = manifests(std::slice::from_ref(&path)).unwrap_err().to_string();
    assert_eq!(error, format!("failed to read {}", path.display()));
    let error = read(folder.path(), 100).unwrap_err().to_string();
    assert_eq!(error, format!("failed to read {}", folder.path().display()));
}

#[test]
fn an_empty_file_is_an_empty_text_and_several_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let paths = ["b.yaml", "a.yaml"].map(|name| folder.path().join(name));
    fs::write(&paths[0], "").unwrap();
    fs::write(&paths[1], "kind: X").unwrap();
    let texts = manifests(&paths).unwrap();
    let expected =
        [(paths[0].display().to_string(), ""), (paths[1].display().to_string(), "kind: X")];
    // In the order in which they were named.
    assert_eq!(texts, expected.map(|(name, text)| (name, text.to_owned())));
}
