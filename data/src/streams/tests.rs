//! Tests of what is read once, and of what is kept of it.

use tempfile::TempDir;

use super::*;
use crate::form::Kind;

struct Fixture {
    root: TempDir,
    streams: Streams,
}

fn fixture(keep: bool) -> Fixture {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("work");
    fs::create_dir(&folder).unwrap();
    Fixture { streams: Streams::new(&folder, keep), root }
}

impl Fixture {
    fn source(&self, input: usize, stream: bool, content: &str) -> Source {
        let path = self.root.path().join(format!("input-{input}"));
        fs::write(&path, content).unwrap();
        Source { path, kind: Kind::Unknown, bytes: 0, stream, input }
    }

    fn read(&self, source: &Source) -> String {
        let mut text = String::new();
        self.streams.open(source).unwrap().read_to_string(&mut text).unwrap();
        text
    }

    fn left(&self) -> usize {
        fs::read_dir(self.root.path().join("work")).unwrap().count()
    }
}

#[test]
fn a_stream_that_is_read_again_gives_what_it_gave() {
    let fixture = fixture(true);
    let long = "a line of it\n".repeat(20_000);
    let (one, other) = (fixture.source(0, true, &long), fixture.source(1, true, "other"));
    assert_eq!(fixture.read(&one), long);
    assert_eq!(fixture.read(&other), "other");
    // What a pipe has given is gone.
    fs::remove_file(&one.path).unwrap();
    fs::remove_file(&other.path).unwrap();
    for _ in 0..2 {
        assert_eq!(fixture.read(&other), "other");
        assert!(fixture.read(&one) == long);
    }
    assert_eq!(fixture.left(), 0, "what is kept has no name");
}

#[test]
fn of_a_stream_that_was_read_in_part_that_part_is_kept() {
    let fixture = fixture(true);
    let source = fixture.source(0, true, "one two three");
    let mut part = [0; 7];
    fixture.streams.open(&source).unwrap().read_exact(&mut part).unwrap();
    assert_eq!(&part, b"one two");
    assert_eq!(fixture.read(&source), "one two");
}

#[test]
fn a_file_is_opened_again_where_it_is() {
    let fixture = fixture(true);
    let source = fixture.source(0, false, "before");
    assert_eq!(fixture.read(&source), "before");
    fs::write(&source.path, "after").unwrap();
    assert_eq!(fixture.read(&source), "after");
    fs::remove_file(&source.path).unwrap();
    assert!(fixture.streams.open(&source).is_err());
}

#[test]
fn nothing_is_kept_where_nothing_is_read_again() {
    let fixture = fixture(false);
    let source = fixture.source(0, true, "text");
    assert_eq!(fixture.read(&source), "text");
    assert!(fixture.streams.kept.borrow().is_empty());
}

#[test]
fn room_is_given_back_once_it_is_known_that_nothing_is_read_again() {
    let fixture = fixture(true);
    let source = fixture.source(0, true, &"x".repeat(1000));
    let mut reader = fixture.streams.open(&source).unwrap();
    reader.read_exact(&mut [0; 400]).unwrap();
    let kept = || fixture.streams.kept.borrow()[&0].metadata().unwrap().len();
    assert_eq!(kept(), 400);
    fixture.streams.keep_no_more();
    let mut rest = Vec::new();
    reader.read_to_end(&mut rest).unwrap();
    assert_eq!((rest.len(), kept()), (600, 0));
}

#[test]
fn a_folder_that_is_full_or_gone_is_an_error_before_anything_is_read() {
    let fixture = fixture(true);
    let source = fixture.source(0, true, "text");
    fs::remove_dir(fixture.root.path().join("work")).unwrap();
    assert!(fixture.streams.open(&source).is_err());
}
