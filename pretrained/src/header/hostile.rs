//! Files that say of themselves what cannot be.

use std::io::Write as _;

use super::*;

/// What is read of a file with this header, `room` bytes behind it, and what its length says.
fn read_of(length: u64, header: &[u8], room: usize) -> Result<BTreeMap<String, Entry>, String> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&length.to_le_bytes()).unwrap();
    file.write_all(header).unwrap();
    file.write_all(&vec![0; room]).unwrap();
    read(&file, Path::new("model.safetensors")).map_err(|error| match error {
        ImportError::Damaged { reason, .. } => reason,
        other => panic!("{other}"),
    })
}

fn read_text(header: &str, room: usize) -> Result<BTreeMap<String, Entry>, String> {
    read_of(header.len() as u64, header.as_bytes(), room)
}

fn tensor(start: u64, end: u64) -> String {
    format!(r#"{{"w": {{"dtype": "F32", "shape": [2], "data_offsets": [{start}, {end}]}}}}"#)
}

#[test]
fn a_tensor_lies_within_its_file() {
    let header = tensor(0, 8);
    let entries = read_text(&header, 8).unwrap();
    let first = 8 + header.len() as u64;
    assert_eq!(entries["w"].bytes, first..first + 8);
    for (start, end) in [(0, 9), (8, 9), (5, 4), (u64::MAX, u64::MAX), (0, u64::MAX), (u64::MAX, 0)]
    {
        let reason = read_text(&tensor(start, end), 8).unwrap_err();
        let said = format!("w lies at {start}..{end} of 8 bytes: the file is cut");
        assert_eq!(reason, said);
    }
    assert!(read_text(&tensor(8, 8), 8).unwrap()["w"].bytes.is_empty());
}

#[test]
fn a_header_fits_its_file_and_is_not_read_beyond_the_bound() {
    for length in [3, 100, HEADER_BYTES_MAX + 1, u64::MAX - 7, u64::MAX] {
        let reason = read_of(length, b"{}", 0).unwrap_err();
        assert_eq!(reason, format!("a header of {length} bytes does not fit its 10 bytes"));
    }
    for size in 0..8 {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![0; size]).unwrap();
        let error = read(&file, Path::new("x")).unwrap_err().to_string();
        assert!(error.contains(&format!("it has {size} bytes, too few")), "{error}");
    }
}

#[test]
fn what_is_no_list_of_tensors_is_damaged() {
    for header in [
        "",
        "[]",
        "null",
        "{",
        "{\"w\": 7}",
        "{\"w\": {}}",
        "{\"w\": null}",
        r#"{"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}"#,
        r#"{"w": {"dtype": "F32", "shape": [1.5], "data_offsets": [0, 4]}}"#,
        r#"{"w": {"dtype": 7, "shape": [1], "data_offsets": [0, 4]}}"#,
        r#"{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}"#,
        r#"{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, -4]}}"#,
        r#"{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 99999999999999999999]}}"#,
    ] {
        assert!(read_text(header, 8).is_err(), "{header}");
    }
    // What is about the whole is no tensor, and blanks fill a header up.
    let metadata = r#"{"__metadata__": {"format": "pt"}}      "#;
    assert!(read_text(metadata, 0).unwrap().is_empty());
}
