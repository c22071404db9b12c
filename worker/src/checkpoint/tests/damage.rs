//! Checkpoints whose files or manifest are not what was written: each is refused or passed over,
//! and none is ever read as if it were whole.

use serde_json::{Value, json};

use super::*;

/// Writes a checkpoint of three ranks, one piece each.
fn three(root: &Path, round: u64) -> Manifest {
    write(root, round, &[0, 1, 2, 3])
}

fn file(root: &Path, round: u64, rank: u32) -> PathBuf {
    folder_of(root, round).join(format!("rank-{rank:05}.safetensors"))
}

/// Changes the manifest of a round as JSON.
fn edit(root: &Path, round: u64, change: impl FnOnce(&mut Value)) {
    let path = folder_of(root, round).join(MANIFEST);
    let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(&path, manifest.to_string()).unwrap();
}

/// Replaces a rank's file, and has the manifest say that this is what was written.
fn replace(root: &Path, round: u64, rank: u32, bytes: &[u8]) {
    fs::write(file(root, round, rank), bytes).unwrap();
    edit(root, round, |manifest| {
        let part = &mut manifest["parts"][rank as usize];
        part["bytes"] = json!(bytes.len());
        part["blake3"] = json!(blake3::hash(bytes).to_hex().as_str());
    });
}

fn opened(root: &Path, round: u64) -> Result<Checkpoint, CheckpointError> {
    Checkpoint::open(&folder_of(root, round))
}

fn theta(root: &Path, round: u64) -> Result<Vec<f32>, CheckpointError> {
    opened(root, round)?.read(Part::Theta, &layout(), 0..layout().pieces())
}

#[test]
fn a_bit_that_flips_anywhere_in_a_file_is_found() {
    let root = tempdir().unwrap();
    three(root.path(), 4);
    let path = file(root.path(), 4, 1);
    let whole = fs::read(&path).unwrap();
    // The header's length, the header, each kind of values, and the last byte.
    let quarter = whole.len() / 4;
    let places = [0, 7, 8, 40, quarter, 2 * quarter, 3 * quarter, whole.len() - 1];
    for place in places {
        let mut bytes = whole.clone();
        bytes[place] ^= 0x10;
        fs::write(&path, &bytes).unwrap();
        let error = opened(root.path(), 4).unwrap_err();
        assert!(matches!(error, CheckpointError::Damaged { .. }), "byte {place}: {error}");
        assert!(error.to_string().contains("rank-00001"), "byte {place}: {error}");
    }
    fs::write(&path, &whole).unwrap();
    assert_eq!(theta(root.path(), 4).unwrap(), values(&layout(), 0));
}

#[test]
fn half_a_checkpoint_is_passed_over_whatever_half_is_there() {
    type Break = fn(&Path);
    let breaks: [(&str, Break); 6] = [
        ("no manifest", |folder| fs::remove_file(folder.join(MANIFEST)).unwrap()),
        ("an empty manifest", |folder| fs::write(folder.join(MANIFEST), b"").unwrap()),
        ("half a manifest", |folder| {
            let bytes = fs::read(folder.join(MANIFEST)).unwrap();
            fs::write(folder.join(MANIFEST), &bytes[..bytes.len() / 2]).unwrap();
        }),
        ("a rank's file is gone", |folder| {
            fs::remove_file(folder.join("rank-00002.safetensors")).unwrap();
        }),
        ("a rank's file is empty", |folder| {
            fs::write(folder.join("rank-00000.safetensors"), b"").unwrap();
        }),
        ("two ranks' files are swapped", |folder| {
            let [a, b] =
                ["rank-00000.safetensors", "rank-00001.safetensors"].map(|name| folder.join(name));
            let (first, second) = (fs::read(&a).unwrap(), fs::read(&b).unwrap());
            assert_eq!(first.len(), second.len(), "only the contents tell them apart");
            fs::write(a, second).unwrap();
            fs::write(b, first).unwrap();
        }),
    ];
    for (what, damage) in breaks {
        let root = tempdir().unwrap();
        three(root.path(), 3);
        three(root.path(), 4);
        damage(&folder_of(root.path(), 4));
        let Found { newest, damaged } = Checkpoint::find(root.path(), None).unwrap();
        assert_eq!(newest.map(|found| found.manifest().round), Some(3), "{what}");
        let told = usize::from(what != "no manifest");
        assert_eq!(damaged.len(), told, "{what}: only what was once complete is told of");
        assert!(damaged.iter().all(|error| error.to_string().contains("round-00000004")), "{what}");
    }
}

#[test]
fn a_manifest_of_another_form_is_refused_with_what_is_wrong() {
    type Change = fn(&mut Value);
    let table: [(Change, &str); 6] = [
        (|m| m["format"] = json!(2), "its format is 2, this version reads 1"),
        (|m| m["parts"][0]["file"] = json!("/etc/passwd"), "a file outside its folder"),
        (|m| m["parts"][0]["file"] = json!(".."), "a file outside its folder"),
        (|m| m["parts"][0]["file"] = json!(""), "a file outside its folder"),
        (|m| m["parts"][0]["file"] = json!("rank-00000.safetensors/"), "a file outside its folder"),
        (|m| m["later"] = json!(1), "unknown field `later`"),
    ];
    for (change, said) in table {
        let root = tempdir().unwrap();
        three(root.path(), 4);
        edit(root.path(), 4, change);
        let error = opened(root.path(), 4).unwrap_err();
        let text = crate::error::chain(&error);
        assert!(text.contains(said) && error.is_final(), "{said}: {text}");
    }
}

#[test]
fn a_manifest_that_is_larger_than_any_is_not_read_into_memory() {
    let root = tempdir().unwrap();
    three(root.path(), 4);
    // A file with a hole: it takes no room on the disk.
    let path = folder_of(root.path(), 4).join(MANIFEST);
    fs::File::create(&path).unwrap().set_len(MANIFEST_BYTES_MAX + 1).unwrap();
    let error = opened(root.path(), 4).unwrap_err();
    assert!(error.to_string().contains("more than any manifest"), "{error}");
}

#[test]
fn files_that_leave_out_pieces_or_have_them_twice_give_no_values() {
    type Change = fn(&mut Value);
    let table: [(&str, Change); 5] = [
        ("the last rank's file is not listed", |m| {
            m["parts"].as_array_mut().unwrap().pop();
        }),
        ("the first rank's file is not listed", |m| {
            m["parts"].as_array_mut().unwrap().remove(0);
        }),
        ("a piece is held twice and another one by nobody", |m| {
            m["parts"][1]["firstPiece"] = json!(0);
            m["parts"][1]["endPiece"] = json!(1);
        }),
        ("a file is listed twice", |m| {
            let first = m["parts"][0].clone();
            m["parts"].as_array_mut().unwrap().push(first);
        }),
        ("a file ends beyond the model", |m| m["parts"][2]["endPiece"] = json!(9)),
    ];
    for (what, change) in table {
        let root = tempdir().unwrap();
        three(root.path(), 4);
        edit(root.path(), 4, change);
        let error = theta(root.path(), 4).expect_err(what);
        assert!(matches!(error, CheckpointError::Damaged { .. }), "{what}: {error}");
    }
}

#[test]
fn the_order_in_which_the_manifest_lists_the_files_does_not_matter() {
    let root = tempdir().unwrap();
    three(root.path(), 4);
    edit(root.path(), 4, |manifest| manifest["parts"].as_array_mut().unwrap().reverse());
    assert_eq!(theta(root.path(), 4).unwrap(), values(&layout(), 0));
}

/// A file as safetensors has it: the header's length, the header, bytes.
fn encoded(header: &Value, bytes: usize) -> Vec<u8> {
    let text = header.to_string().into_bytes();
    [&(text.len() as u64).to_le_bytes()[..], &text, &vec![0; bytes]].concat()
}

#[test]
fn a_file_of_another_form_is_refused_though_the_manifest_lists_it_as_it_is() {
    // One piece has 64 chunks of 4096 values.
    let (count, bytes) = (64 * 4096, 4 * 64 * 4096);
    let tensor = |name: &str, dtype: &str, shape: Value, end: u64| {
        let info = json!({"dtype": dtype, "shape": shape, "data_offsets": [0, end]});
        json!({ name: info })
    };
    let far = u64::MAX - 3;
    let beyond = json!({"theta": {
        "dtype": "F32", "shape": [count], "data_offsets": [far - bytes as u64, far]
    }});
    let table = [
        ("nothing", Vec::new()),
        ("half a length", vec![1, 0, 0]),
        ("a header longer than the file", 4096u64.to_le_bytes().to_vec()),
        ("a header longer than any", u64::MAX.to_le_bytes().to_vec()),
        ("no JSON", [&8u64.to_le_bytes()[..], b"notjson!"].concat()),
        ("no θ", encoded(&tensor("error", "F32", json!([count]), bytes as u64), bytes)),
        ("integers", encoded(&tensor("theta", "I32", json!([count]), bytes as u64), bytes)),
        ("a matrix", encoded(&tensor("theta", "F32", json!([64, 4096]), bytes as u64), bytes)),
        ("too few values", encoded(&tensor("theta", "F32", json!([64]), 256), 256)),
        ("offsets beyond all files", encoded(&beyond, bytes)),
        ("less than its header says", {
            encoded(&tensor("theta", "F32", json!([count]), bytes as u64), bytes - 4)
        }),
    ];
    for (what, bytes) in table {
        let root = tempdir().unwrap();
        three(root.path(), 4);
        replace(root.path(), 4, 0, &bytes);
        assert!(opened(root.path(), 4).is_ok(), "{what}: it is what the manifest says");
        let error = theta(root.path(), 4).expect_err(what);
        assert!(error.to_string().contains("rank-00000"), "{what}: {error}");
        // What lies in other files can be had.
        let others = opened(root.path(), 4).unwrap().read(Part::Theta, &layout(), 1..3).unwrap();
        assert_eq!(others, values(&layout(), 0)[layout().span(1..3)], "{what}");
    }
}

#[test]
fn values_come_back_with_all_their_bits() {
    let root = tempdir().unwrap();
    let strange = [f32::NAN, -0.0, f32::NEG_INFINITY, f32::MIN_POSITIVE / 4.0, 1.0 + f32::EPSILON];
    let length = layout().values();
    let written: Vec<f32> = strange.iter().copied().cycle().take(length).collect();
    let of = |_: Part| Ok::<_, CheckpointError>(written.clone());
    let part = write_part(root.path(), (4, 0), (0..3, length), of).unwrap();
    let other = three(&root.path().join("other"), 4);
    commit(root.path(), &Manifest { parts: vec![part], ..other }).unwrap();
    let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
    for kind in [Part::Theta, Part::Residual, Part::Moment1, Part::Moment2] {
        let read = opened(root.path(), 4).unwrap().read(kind, &layout(), 0..3).unwrap();
        assert!(bits(&read) == bits(&written), "{kind:?}");
    }
}

#[test]
fn a_rank_whose_values_cannot_be_had_completes_no_file() {
    let root = tempdir().unwrap();
    let of = |part: Part| match part {
        Part::Moment1 => Err(CheckpointError::None { path: "moments".into() }),
        _ => Ok(vec![0.0; 8]),
    };
    let error = write_part(root.path(), (4, 0), (0..1, 8), of).unwrap_err();
    assert!(matches!(error, CheckpointError::None { .. }), "{error}");
    assert!(!file(root.path(), 4, 0).exists(), "nothing has the name of a whole file");
}
