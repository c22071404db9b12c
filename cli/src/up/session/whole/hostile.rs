//! Manifests of checkpoints that say what cannot be, or what is none of theirs.

use super::tests::write;
use super::*;

/// Rounds that count after the manifest of round 2 was changed so.
fn counts(change: impl FnOnce(&mut serde_json::Value)) -> Vec<u64> {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("a");
    let path = write(&root, 2, 200).join(MANIFEST);
    // What a manifest must not reach, with the same content and size.
    fs::copy(root.join("round-00000002/rank-00000.safetensors"), root.join("beside")).unwrap();
    let mut manifest = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    change(&mut manifest);
    fs::write(&path, manifest.to_string()).unwrap();
    all(&root, "r").unwrap().iter().map(|kept| kept.round).collect()
}

#[test]
fn files_elsewhere_are_no_part_of_a_checkpoint() {
    assert_eq!(counts(|_| {}), [2]);
    for file in ["../beside", "./rank-00000.safetensors", "", ".", "..", "rank-00000.safetensors/"]
    {
        assert_eq!(counts(|it| it["parts"][0]["file"] = file.into()), [0; 0], "{file:?}");
    }
}

#[test]
fn what_a_manifest_lacks_or_says_wrongly_makes_it_none() {
    for field in ["run", "round", "tokens", "parts"] {
        let without = |it: &mut serde_json::Value| drop(it.as_object_mut().unwrap().remove(field));
        assert_eq!(counts(without), [0; 0], "{field}");
    }
    assert_eq!(counts(|it| it["parts"][0]["bytes"] = 3.into()), [0; 0]);
    assert_eq!(counts(|it| it["round"] = (-1).into()), [0; 0]);
    // A later version may say more, an older one said nothing of samples.
    assert_eq!(counts(|it| it["samples"] = 7.into()), [2]);
    assert_eq!(counts(|it| it["ofALaterVersion"] = 7.into()), [2]);
}

#[test]
fn a_hash_that_is_not_the_contents_is_seen_when_all_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = write(folder.path(), 2, 200);
    let kept = || all(folder.path(), "r").unwrap().remove(0);
    assert!(kept().is_whole());
    let part = path.join("rank-00000.safetensors");
    let mut bytes = fs::read(&part).unwrap();
    for at in 0..bytes.len() {
        bytes[at] ^= 1;
        fs::write(&part, &bytes).unwrap();
        assert!(!kept().is_whole(), "byte {at}");
        bytes[at] ^= 1;
    }
    fs::write(&part, &bytes).unwrap();
    assert!(kept().is_whole());
}

#[test]
fn folders_that_are_no_rounds_and_files_among_them_are_passed_over() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["round-x", "round-", "round--2", "rounds-2", "round-00000002.partial"] {
        fs::rename(write(folder.path(), 2, 200), folder.path().join(name)).unwrap();
    }
    fs::write(folder.path().join("round-00000003"), "a file").unwrap();
    assert!(all(folder.path(), "r").unwrap().is_empty());
    write(folder.path(), 2, 200);
    assert_eq!(all(folder.path(), "r").unwrap().len(), 1);
    assert!(all(&folder.path().join("round-00000003"), "r").is_err(), "no folder at all");
}
