//! Tests of what is found after a crash, by others meanwhile, and where something is in the way.

use std::os::unix::ffi::OsStrExt as _;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut names: Vec<_> = entries.map(|name| name.to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn whoever_reads_meanwhile_finds_one_whole_file_or_the_other() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("state");
    let (short, long) = (vec![b'a'; 10], vec![b'b'; 300_000]);
    write(&path, &short).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !done.load(Ordering::Relaxed) || reads == 0 {
                let found = fs::read(&path).unwrap();
                assert!(found == short || found == long, "{} bytes", found.len());
                reads += 1;
            }
        });
        for turn in 0..20 {
            write(&path, if turn % 2 == 0 { &long } else { &short }).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    assert_eq!(names(root.path()), ["state"]);
}

#[test]
fn what_a_crash_left_under_way_is_written_over_whole() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("state");
    fs::write(partial(&path), "left by a crash, and longer").unwrap();
    write(&path, b"new").unwrap();
    assert_eq!(
        (fs::read(&path).unwrap(), names(root.path())),
        (b"new".to_vec(), vec!["state".into()])
    );
    write(&path, b"").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"");
}

#[test]
fn what_cannot_be_written_leaves_what_was_there() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("state");
    write(&path, b"before").unwrap();
    fs::create_dir(partial(&path)).unwrap();
    let error = write(&path, b"after").unwrap_err();
    assert_eq!((error.operation, error.path.as_path()), ("write", path.as_path()));
    assert_eq!(fs::read(&path).unwrap(), b"before");
    let (gone, to) = (root.path().join("gone"), root.path().join("to"));
    let error = rename(&gone, &to).unwrap_err();
    assert_eq!((error.operation, error.path), ("rename to", to));
    let error = sync_folder(&gone).unwrap_err();
    assert_eq!(error.to_string(), format!("failed to make durable {}", gone.display()));
}

#[test]
fn the_name_under_way_is_beside_the_file_and_its_own() {
    let table = [
        ("a", "a.partial", "."),
        ("a/b.json", "a/b.json.partial", "a"),
        ("/a", "/a.partial", "/"),
        ("a/.b", "a/.b.partial", "a"),
        ("../a", "../a.partial", ".."),
    ];
    for (path, under_way, folder) in table {
        assert_eq!(partial(Path::new(path)), Path::new(under_way));
        assert_eq!(parent(Path::new(path)), Path::new(folder));
    }
    let odd = Path::new(std::ffi::OsStr::from_bytes(b"x/\xff"));
    assert_eq!(partial(odd).as_os_str().as_bytes(), b"x/\xff.partial");
    assert_eq!((parent(Path::new("/")), parent(Path::new(""))), (Path::new("/"), Path::new(".")));
}

#[test]
fn a_folder_is_made_with_all_that_it_is_in_and_may_be_there_already() {
    let root = tempfile::tempdir().unwrap();
    let deep = root.path().join("a/b/c");
    for _ in 0..2 {
        create_folder(&deep).unwrap();
        assert!(deep.is_dir());
    }
    create_folder(&root.path().join("a/b/../d")).unwrap();
    assert_eq!(names(&root.path().join("a")), ["b", "d"]);
    let file = root.path().join("file");
    fs::write(&file, "x").unwrap();
    assert!(create_folder(&file).is_err() && create_folder(&file.join("a/b")).is_err());
    assert_eq!(fs::read(&file).unwrap(), b"x");
}
