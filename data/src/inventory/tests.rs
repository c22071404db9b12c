//! Tests of which files are read.

use std::os::unix::fs::symlink;

use super::*;

const WANTED: Wanted<'_> = Wanted { text_field: "text", as_text: &[] };
const RECORDS: &str = "{\"text\": \"some text\"}\n";

/// The files of a folder that are read, and the sentence on the rest.
fn stock(root: &Path, wanted: Wanted<'_>) -> (Vec<String>, String) {
    let inventory = Inventory::of(&[root.to_owned()], wanted).unwrap();
    let name = |source: &Source| source.path.strip_prefix(root).unwrap().display().to_string();
    let names = inventory.sources.iter().map(name).collect();
    (names, inventory.tallies[0].passed().to_string())
}

/// Names and contents.
type Files<'a> = &'a [(&'a str, &'a str)];

fn folder(files: Files<'_>) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    folder
}

#[test]
fn a_folder_gives_its_files_in_the_order_of_names_and_the_rest_is_counted() {
    let names = ["b/z.rs", "b/a.TXT", "c.bin", "d.BIN", "c", ".hidden.rs", ".git/x.rs"];
    let folder = folder(&names.map(|name| (name, "text")));
    let (read, passed) = stock(folder.path(), WANTED);
    assert_eq!(read, ["b/a.TXT", "b/z.rs"]);
    assert_eq!(passed, "2 .bin (8 bytes), 1 without extension (4 bytes), 2 hidden");
}

#[test]
fn what_stands_beside_records_is_not_the_corpus() {
    let card = "# About this data\n".repeat(100);
    let tree: Vec<_> = (0..20).map(|at| (format!("src/{at}.rs"), "fn main() {}\n")).collect();
    let tree: Vec<_> = tree.iter().map(|(name, text)| (name.as_str(), *text)).collect();
    let data = ("data/a.jsonl", RECORDS);
    let readme = ("README.md", card.as_str());
    let settings = ("settings.json", "{\n  \"version\": 1\n}\n");
    let table: [(Files<'_>, &[&str], &str); 6] = [
        (&[data, readme, ("load.py", "x")], &["data/a.jsonl"], ".md beside records"),
        (&[data, ("a.txt", "x"), ("LICENSE.txt", "x")], &["a.txt", "data/a.jsonl"], ".txt beside"),
        (&[("a.json", RECORDS), readme], &["a.json"], ".md beside records"),
        (&[settings, readme], &["README.md"], "1 .json without the text's field (19 bytes)"),
        (&[("a.csv", "x"), readme, ("b.txt", "x")], &["b.txt"], ".md beside records"),
        (&[readme, ("b.txt", "x")], &["README.md", "b.txt"], ""),
    ];
    for (files, expected, said) in table {
        let folder = folder(files);
        let (read, passed) = stock(folder.path(), WANTED);
        assert_eq!(read, expected, "{files:?}");
        assert!(passed.contains(said), "{passed}");
    }
    let folder = folder(&[&tree[..], &[data, readme]].concat());
    assert_eq!(stock(folder.path(), WANTED).0.len(), 22);
    let as_text = ["md".to_owned()];
    let asked = Wanted { as_text: &as_text, ..WANTED };
    let folder = self::folder(&[data, readme, ("load.py", "x")]);
    assert_eq!(stock(folder.path(), asked).0, ["README.md", "data/a.jsonl"]);
}

#[test]
fn json_is_read_where_its_objects_have_the_field() {
    let folder = folder(&[
        ("array.json", "[{\"id\": 1}, {\"id\": 2, \"text\": \"a\"}]"),
        ("object.json", "{\n \"text\": \"a\"\n}"),
        ("other.json", "[{\"content\": \"a\"}]"),
        ("package.json", "{\n \"name\": \"x\"\n}"),
        ("strings.json", "[\"a\", \"b\"]"),
        ("broken.json", "{\"text"),
        ("empty.json", ""),
    ]);
    assert_eq!(stock(folder.path(), WANTED).0, ["array.json", "object.json"]);
    let content = Wanted { text_field: "content", ..WANTED };
    assert_eq!(stock(folder.path(), content).0, ["other.json"]);
}

#[test]
fn a_packed_file_beside_what_it_unpacks_to_is_not_read_again() {
    let folder = folder(&[("a.jsonl", RECORDS), ("a.jsonl.gz", RECORDS), ("b.jsonl.gz", RECORDS)]);
    let (read, passed) = stock(folder.path(), WANTED);
    assert_eq!(read, ["a.jsonl", "b.jsonl.gz"]);
    assert_eq!(passed, "1 .jsonl.gz beside the same unpacked (22 bytes)");
}

#[test]
fn a_cache_of_links_is_read_by_the_names_of_the_links_and_each_file_once() {
    let folder = folder(&[
        ("blobs/0a1b", RECORDS),
        ("blobs/2c3d", "# About\n"),
        ("refs/main", "abc"),
        ("snapshots/abc/.keep", ""),
        ("snapshots/def/.keep", ""),
    ]);
    let root = folder.path();
    for revision in ["abc", "def"] {
        let link = |blob: &str, name: &str| {
            let blob = Path::new("../../blobs").join(blob);
            symlink(blob, root.join("snapshots").join(revision).join(name)).unwrap();
        };
        link("0a1b", "train.jsonl");
        link("2c3d", "README.md");
        link("gone", "more.jsonl");
    }
    symlink("../blobs", root.join("snapshots/again")).unwrap();
    let (read, passed) = stock(root, WANTED);
    assert_eq!(read, ["snapshots/abc/train.jsonl"]);
    let said = [
        "2 .md beside records (16 bytes)",
        "1 without extension (3 bytes)",
        "2 hidden",
        "1 links to folders (give those as inputs)",
        "2 links to nothing",
        "1 links to files that are read anyway",
    ];
    assert_eq!(passed, said.join(", "));
    assert_eq!(stock(&root.join("snapshots/abc"), WANTED).0, ["train.jsonl"]);
}

#[test]
fn a_link_beside_the_file_that_it_names_is_read_once() {
    let folder = folder(&[("b.txt", "text")]);
    symlink("b.txt", folder.path().join("a.txt")).unwrap();
    assert_eq!(stock(folder.path(), WANTED).0, ["b.txt"]);
}

#[test]
fn a_given_file_is_read_whatever_its_name_and_a_given_link_is_followed() {
    let folder = folder(&[(".corpus", "text"), ("a.json", "{}"), ("README.md", "text")]);
    symlink(folder.path().join(".corpus"), folder.path().join("link")).unwrap();
    let table = [
        (".corpus", Kind::Unknown),
        ("link", Kind::Unknown),
        ("a.json", Kind::Records),
        ("README.md", Kind::Code),
    ];
    for (name, kind) in table {
        let inventory = Inventory::of(&[folder.path().join(name)], WANTED).unwrap();
        let kinds: Vec<_> = inventory.sources.iter().map(|source| source.kind).collect();
        assert_eq!(kinds, [kind], "{name}");
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// How large the text of a file of this name and content is thought to be.
fn estimated(name: &str, content: &[u8]) -> u64 {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    let inventory = Inventory::of(&[path], WANTED).unwrap();
    estimate(&inventory.sources[0], "text").unwrap()
}

#[test]
fn a_file_is_as_large_as_what_it_unpacks_to() {
    let small = "some text\n".repeat(500);
    assert_eq!(estimated("a.txt", small.as_bytes()), 5000);
    assert_eq!(estimated("a.txt.gz", &gzip(small.as_bytes())), 5000);
    assert_eq!(estimated("a.txt", b""), 0);
    assert_eq!(estimated("a.bin", &gzip(b"")), 0, "packed is what begins so");
    // Beyond what is unpacked to know it, it is about right.
    let words: Vec<String> = (0..1_000_000_u64)
        .map(|at| format!("{:x} ", at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40))
        .collect();
    let large = words.concat();
    let found = estimated("a.txt.gz", &gzip(large.as_bytes())) as f64 / large.len() as f64;
    assert!((0.8..1.25).contains(&found), "{found}");
    let source = Source {
        path: "/nowhere/a.txt".into(),
        kind: Kind::Plain,
        bytes: 7,
        stream: false,
        input: 0,
    };
    assert!(estimate(&source, "text").is_err());
}

#[test]
fn several_inputs_are_counted_apart_and_read_in_their_order() {
    let folder = folder(&[("z/a.txt", "12345"), ("z/b.bin", "123"), ("a.log", "1234567")]);
    let root = folder.path();
    let inputs = [root.join("z"), root.join("a.log"), root.join("z/b.bin")];
    let inventory = Inventory::of(&inputs, WANTED).unwrap();
    let read: Vec<_> = inventory.sources.iter().map(|source| source.input).collect();
    assert_eq!((read, inventory.files(), inventory.bytes()), (vec![0, 1, 2], 3, 15));
    let passed: Vec<_> = inventory.tallies.iter().map(|it| it.passed().to_string()).collect();
    assert_eq!(passed, ["1 .bin (3 bytes)", "", ""]);
    let missing = Inventory::of(&[root.join("nowhere")], WANTED).unwrap_err();
    assert!(missing.to_string().ends_with("nowhere"), "{missing}");
    assert!(Inventory::of(&[], WANTED).unwrap().sources.is_empty());
}

#[test]
fn a_field_is_looked_for_in_the_first_records_alone() {
    let other = "{\"id\": 1}\n";
    let at = |before: u64| {
        let records = other.repeat(usize::try_from(before).unwrap()) + RECORDS;
        let folder = folder(&[("a.json", records.as_str())]);
        !stock(folder.path(), WANTED).0.is_empty()
    };
    assert!(at(0) && at(PROBED_RECORDS_MAX - 1));
    assert!(!at(PROBED_RECORDS_MAX));
    // What has the field with something else in it has it: that is said where it is read.
    for has in ["{\"text\": null}", "{\"text\": \"\\ud800\"}", "[{\"text\": 7}]"] {
        let folder = folder(&[("a.json", has)]);
        assert_eq!(stock(folder.path(), WANTED).0, ["a.json"], "{has}");
    }
}

#[test]
fn a_folder_that_leads_into_itself_and_what_is_no_file_are_passed_over() {
    let folder = folder(&[("a/b.txt", "text"), ("a/.cache/c.txt", "hidden")]);
    symlink("..", folder.path().join("a/up")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(folder.path().join("a/socket")).unwrap();
    let (read, passed) = stock(folder.path(), WANTED);
    drop(socket);
    assert_eq!(read, ["a/b.txt"]);
    let said = "1 hidden, 1 links to folders (give those as inputs), 1 pipes, sockets or devices";
    assert_eq!(passed, said);
}
