//! Tests of what may stand where a corpus goes, and of the folder that it is written into.

use super::*;

#[test]
fn what_stands_there_is_told_apart() {
    let root = tempfile::tempdir().unwrap();
    let path = |name: &str| root.path().join(name);
    fs::create_dir(path("empty")).unwrap();
    fs::write(path("file"), "x").unwrap();
    for (name, file, content) in [
        ("other", "notes.txt", "x"),
        ("damaged", FILE_NAME, "{"),
        ("foreign", FILE_NAME, "{\"version\": 3}"),
        ("newer", FILE_NAME, "{\"format\": 2}"),
    ] {
        fs::create_dir(path(name)).unwrap();
        fs::write(path(name).join(file), content).unwrap();
    }
    for name in ["nowhere", "nowhere/below", "empty"] {
        assert!(matches!(existing(&path(name)).unwrap(), Existing::Nothing), "{name}");
    }
    for name in ["file", "other"] {
        assert!(matches!(existing(&path(name)).unwrap(), Existing::Other), "{name}");
    }
    for name in ["damaged", "foreign", "newer"] {
        assert!(matches!(existing(&path(name)).unwrap(), Existing::Damaged(_)), "{name}");
    }
}

#[test]
fn a_work_folder_is_hidden_is_one_processs_and_goes_away_unless_it_is_published() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("corpus");
    let work = WorkFolder::create(&out).unwrap().unwrap();
    let path = work.path().to_owned();
    assert_eq!(path, root.path().join(".corpus.partial"));
    assert!(WorkFolder::create(&out).unwrap().is_none(), "another is at it");
    let beside = WorkFolder::create(&root.path().join("corpus2")).unwrap().unwrap();
    work.write("a", b"one").unwrap();
    assert!(work.write("a", b"two").is_err(), "nothing is written over");
    work.clear().unwrap();
    assert!(!path.join("a").exists() && path.join(LOCK_NAME).exists());
    work.write("a", b"two").unwrap();
    drop(beside);
    drop(work);
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 0);
    // What a killed process left is cleared, and its lock is free.
    fs::create_dir(&path).unwrap();
    fs::write(path.join(LOCK_NAME), "").unwrap();
    fs::write(path.join("train-00000.bin"), "half").unwrap();
    let work = WorkFolder::create(&out).unwrap().unwrap();
    work.write("index.json", b"{}").unwrap();
    work.publish(&out).unwrap();
    let names: Vec<_> =
        fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["index.json"]);
    assert!(!path.exists());
}

#[test]
fn what_is_in_the_way_keeps_a_folder_from_being_published_and_stays() {
    let root = tempfile::tempdir().unwrap();
    let out = root.path().join("corpus");
    let work = WorkFolder::create(&out).unwrap().unwrap();
    work.write("index.json", b"{}").unwrap();
    fs::create_dir(&out).unwrap();
    fs::write(out.join("other"), "x").unwrap();
    assert!(work.publish(&out).is_err());
    assert_eq!(fs::read(out.join("other")).unwrap(), b"x");
    assert!(!root.path().join(".corpus.partial").exists());
}

#[test]
fn an_output_without_a_name_is_refused() {
    for nameless in ["/", "..", "a/.."] {
        let error = WorkFolder::create(Path::new(nameless)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{nameless}");
    }
}
