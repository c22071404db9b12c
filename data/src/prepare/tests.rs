//! Tests of preparing data: what is taken, what is refused, what is left behind.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tempfile::TempDir;

use super::*;
use crate::{Corpus, CorpusError};

/// Names and contents.
type Files<'a> = &'a [(&'a str, &'a [u8])];

struct Fixture {
    folder: TempDir,
    options: PrepareOptions,
}

impl Fixture {
    fn new(files: Files<'_>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in");
        fs::create_dir(&input).unwrap();
        for (name, bytes) in files {
            fs::write(input.join(name), bytes).unwrap();
        }
        let out = folder.path().join("out");
        let mut options = PrepareOptions::new(vec![input], TokenizerChoice::Byte, out);
        options.validation = "10%".parse().unwrap();
        options.shard_tokens = NonZeroU64::new(300).unwrap();
        Self { folder, options }
    }

    /// So many documents of some 100 bytes.
    fn with_documents(count: usize) -> Self {
        let lines: Vec<String> = (0..count)
            .map(|number| format!("{{\"text\": \"{number} {}\"}}\n", "word ".repeat(20)))
            .collect();
        Self::new(&[("documents.jsonl", lines.concat().as_bytes())])
    }

    fn prepare(&self) -> Result<PrepareSummary, PrepareError> {
        prepare(&self.options, &mut |_| {})
    }

    fn files(&self) -> BTreeMap<String, Vec<u8>> {
        let entries = fs::read_dir(&self.options.out).unwrap().map(|entry| entry.unwrap());
        entries
            .map(|entry| {
                (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
            })
            .collect()
    }

    fn beside(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap().map(|entry| entry.unwrap());
        let mut names: Vec<_> =
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn the_same_inputs_give_the_same_bytes_wherever_they_stand() {
    let (one, other) = (Fixture::with_documents(100), Fixture::with_documents(100));
    let summary = one.prepare().unwrap();
    assert_eq!(summary, other.prepare().unwrap());
    assert_eq!(one.files(), other.files());
    assert_eq!(summary.hash, Corpus::open(&one.options.out).unwrap().hash());
    assert_eq!(one.beside(), ["in", "out"]);
}

#[test]
fn the_summary_counts_what_is_in_the_folder() {
    let fixture = Fixture::with_documents(200);
    let summary = fixture.prepare().unwrap();
    let corpus = Corpus::open(&fixture.options.out).unwrap();
    corpus.verify().unwrap();
    assert_eq!(summary.train_tokens, corpus.tokens(Split::Train));
    assert_eq!(summary.validation_tokens, corpus.tokens(Split::Validation));
    assert_eq!(summary.train_documents + summary.validation_documents, 200);
    assert!((8..40).contains(&summary.validation_documents), "{summary:?}");
    assert_eq!(summary.text_bytes + 200, summary.train_tokens + summary.validation_tokens);
    assert_eq!(summary.shards as usize, fixture.files().len() - 1);
    assert_eq!(summary.warnings, Vec::<String>::new());
}

#[test]
fn equal_documents_share_a_split() {
    let text = "the same text ".repeat(5);
    let other = "x".repeat(40);
    let names: Vec<String> = (0..20).map(|number| format!("{number}.txt")).collect();
    let files: Vec<(&str, &[u8])> = names
        .iter()
        .enumerate()
        .map(|(at, name)| (name.as_str(), if at == 0 { other.as_bytes() } else { text.as_bytes() }))
        .collect();
    let summary = Fixture::new(&files).prepare().unwrap();
    assert!([1, 19].contains(&summary.validation_documents), "{summary:?}");
}

#[test]
fn few_documents_hold_out_one() {
    for count in [2, 3, 5] {
        let mut fixture = Fixture::with_documents(count);
        fixture.options.validation = "0.0001%".parse().unwrap();
        let summary = fixture.prepare().unwrap();
        let split = (summary.train_documents, summary.validation_documents);
        assert_eq!(split, (count as u64 - 1, 1));
        Corpus::open(&fixture.options.out).unwrap().verify().unwrap();
    }
}

#[test]
fn one_document_cannot_be_divided_but_trained_on() {
    let mut fixture = Fixture::with_documents(1);
    let error = fixture.prepare().unwrap_err();
    assert!(matches!(error, PrepareError::CannotDivide { documents: 1 }), "{error:?}");
    assert_eq!(fixture.beside(), ["in"]);
    fixture.options.validation = Ratio::ZERO;
    let summary = fixture.prepare().unwrap();
    assert_eq!((summary.train_documents, summary.validation_documents), (1, 0));
}

#[test]
fn empty_data_is_refused_and_leaves_nothing() {
    let table: [(Files<'_>, &str); 6] = [
        (&[], "no text found in 0 files: give text"),
        (&[("empty.txt", b"")], "1 files: give text"),
        (&[("picture.txt", b"\0\0\0\0")], "(passed over: 1 .txt, binary (4 bytes))"),
        (&[("bad.jsonl", b"\nno json\n{}\n")], "not JSON, or end early: the first is line 2 of"),
        (&[("a.jsonl", b"{\"body\": \"a\"}")], "no `text`, but `body`"),
        (&[("a.jsonl", b"{\"body\": \"a\"}")], "--text-field names it"),
    ];
    for (files, said) in table {
        let fixture = Fixture::new(files);
        let error = fixture.prepare().unwrap_err();
        assert!(matches!(error, PrepareError::NoText { .. }), "{error:?}");
        assert!(error.to_string().contains(said), "{error}");
        assert_eq!(fixture.beside(), ["in"]);
    }
}

#[test]
fn a_missing_input_is_named() {
    let mut fixture = Fixture::with_documents(2);
    let missing = fixture.folder.path().join("missing");
    fixture.options.inputs.push(missing.clone());
    let error = fixture.prepare().unwrap_err();
    assert!(matches!(&error, PrepareError::Read { path, .. } if *path == missing), "{error:?}");
}

#[test]
fn what_was_left_out_is_counted_and_said() {
    let summary = Fixture::new(&[
        ("a.txt", b"good text that is longer than what is left out"),
        ("b.txt", b"bad \xff text \xfe"),
        ("c.jsonl", b"{\"text\": \"fine\"}\nbroken\n"),
        ("d.txt", b"\0binary"),
        ("e.png", b"no text file at all"),
    ])
    .prepare()
    .unwrap();
    let SourceIndex { files, binary_files, malformed_lines, invalid_utf8, .. } = SourceIndex {
        files: summary.files,
        text_bytes: summary.text_bytes,
        binary_files: summary.binary_files,
        malformed_lines: summary.malformed_lines,
        invalid_utf8: summary.invalid_utf8,
    };
    assert_eq!((files, binary_files, malformed_lines, invalid_utf8), (3, 1, 1, 2));
    let said = summary.warnings.join("\n");
    assert!(said.contains("2 sequences that are not UTF-8 were left out, first in"), "{said}");
    assert!(said.contains("b.txt") && said.contains("line 2 of"), "{said}");
    assert!(said.contains("passed over: 1 .png (19 bytes), 1 .txt, binary (7 bytes)"), "{said}");
}

#[test]
fn an_input_of_which_most_is_not_read_is_refused_unless_it_is_asked_for() {
    let text = b"a text of some length\n{\"text\": \"x\"}\n";
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0a\nsize 12345\n";
    let table: [(Files<'_>, &str); 5] = [
        (&[("a.txt", text), ("b.csv", &[b'a'; 50])], "1 .csv (50 bytes)"),
        (&[("a.txt", text), ("b.rs", &[0; 50])], "1 .rs, binary (50 bytes)"),
        (&[("a.jsonl", text)], "the first is line 1 of"),
        (
            &[("a.txt", text), ("b.parquet", pointer)],
            "pointers of Git LFS (fetch them: git lfs pull)",
        ),
        (
            &[("a.txt", text), ("b.dat", &[b'a'; 30]), ("c.xyz", &[b'a'; 20])],
            "1 .dat (30 bytes), 1 .xyz",
        ),
    ];
    for (files, said) in table {
        let mut fixture = Fixture::new(files);
        fixture.options.validation = Ratio::ZERO;
        let error = fixture.prepare().unwrap_err();
        assert!(matches!(error, PrepareError::MostPassedOver { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.contains(said) && text.contains("--allow-passed-over"), "{text}");
        assert_eq!(fixture.beside(), ["in"]);
        fixture.options.allow_passed_over = true;
        let summary = fixture.prepare().unwrap();
        assert_eq!(summary.train_documents, 1);
        assert!(summary.warnings.join("\n").contains(said), "{summary:?}");
    }
    let mut fixture = Fixture::new(&[("a.txt", text), ("b.CSV", &[b'a'; 50])]);
    fixture.options.as_text = vec![".csv".to_owned()];
    let summary = fixture.prepare().unwrap();
    assert_eq!((summary.files, summary.warnings), (2, Vec::new()));
}

#[test]
fn raw_json_is_trained_on_where_it_is_asked_for_alone() {
    let json = b"{\n \"name\": \"x\"\n}\n";
    let mut fixture = Fixture::new(&[("a.json", json), ("b.txt", b"a text of another file")]);
    fixture.options.validation = Ratio::ZERO;
    assert_eq!(fixture.prepare().unwrap().text_bytes, 22);
    fixture.options.out = fixture.folder.path().join("raw");
    fixture.options.as_text = vec!["json".to_owned()];
    assert_eq!(fixture.prepare().unwrap().text_bytes, 22 + json.len() as u64);
}

#[test]
fn a_pipe_is_read_once_and_gives_what_its_text_gives_as_a_file() {
    let lines: Vec<_> =
        (0..20).map(|number| format!("{{\"text\": \"number {number}\"}}\n")).collect();
    let lines = lines.concat();
    for validation in ["0", "0.0001%", "50%"] {
        let mut file = Fixture::new(&[("documents.jsonl", lines.as_bytes())]);
        file.options.validation = validation.parse().unwrap();
        let mut pipe = Fixture::new(&[]);
        pipe.options.validation = file.options.validation;
        let (reader, mut writer) = io::pipe().unwrap();
        io::Write::write_all(&mut writer, lines.as_bytes()).unwrap();
        drop(writer);
        let descriptor = std::os::fd::AsRawFd::as_raw_fd(&reader);
        pipe.options.inputs = vec![PathBuf::from(format!("/proc/self/fd/{descriptor}"))];
        assert_eq!(pipe.prepare().unwrap(), file.prepare().unwrap());
        assert_eq!(pipe.files(), file.files());
        assert_eq!(pipe.beside(), ["in", "out"]);
    }
    let mut twice = Fixture::new(&[]);
    twice.options.inputs = vec![PathBuf::from("-"), PathBuf::from("-")];
    assert!(matches!(twice.prepare(), Err(PrepareError::StreamTwice { .. })));
}

#[test]
fn a_bound_on_bytes_counts_what_a_packed_file_unpacks_to() {
    let mut fixture = Fixture::with_documents(2000);
    let plain = fs::read(fixture.options.inputs[0].join("documents.jsonl")).unwrap();
    fs::remove_file(fixture.options.inputs[0].join("documents.jsonl")).unwrap();
    let packed = zstd::encode_all(&plain[..], 19).unwrap();
    fs::write(fixture.options.inputs[0].join("documents.jsonl.zst"), packed).unwrap();
    fixture.options.max_bytes = Some(40_000);
    let summary = fixture.prepare().unwrap();
    assert!((30_000..=40_000).contains(&summary.text_bytes), "{summary:?}");
}

#[test]
fn an_end_that_was_named_is_the_end_of_the_corpus_and_of_its_tokenizer() {
    let mut fixture = Fixture::with_documents(10);
    let path = fixture.folder.path().join("tokenizer.json");
    fs::write(&path, WIDE.replace("true", "false")).unwrap();
    fixture.options.tokenizer = TokenizerChoice::File(path);
    let error = fixture.prepare().unwrap_err();
    assert!(matches!(error, PrepareError::Tokenizer(_)), "{error:?}");
    fixture.options.end_token = Some("word".to_owned());
    fixture.prepare().unwrap();
    let corpus = Corpus::open(&fixture.options.out).unwrap();
    let tokenizer = corpus.tokenizer().unwrap();
    assert_eq!((corpus.end_token(), tokenizer.end_token()), (69_999, 69_999));
    let config = String::from_utf8(tokenizer.hugging_face_files()[1].1.clone()).unwrap();
    assert!(config.contains("\"eos_token\": \"word\""), "{config}");
}

#[test]
fn a_bound_on_bytes_takes_evenly_from_all_inputs() {
    let mut fixture = Fixture::with_documents(2000);
    fixture.options.max_bytes = Some(40_000);
    let summary = fixture.prepare().unwrap();
    assert!((30_000..=40_000).contains(&summary.text_bytes), "{summary:?}");
    let corpus = Corpus::open(&fixture.options.out).unwrap();
    let mut tokens = vec![0; usize::try_from(summary.train_tokens).unwrap()];
    corpus.read(Split::Train, 0, &mut tokens).unwrap();
    let text = corpus.tokenizer().unwrap().decode(&tokens).unwrap();
    let late = (1000..2000).filter(|number| text.contains(&format!("{number} word"))).count();
    assert!(late > 100, "{late} documents of the second half");
}

#[test]
fn progress_ends_with_everything_done() {
    let fixture = Fixture::with_documents(50);
    let mut reports = Vec::new();
    let summary = prepare(&fixture.options, &mut |progress| reports.push(progress)).unwrap();
    let last = reports.last().unwrap();
    assert_eq!((last.files_done, last.bytes_done), (last.files_total, last.bytes_total));
    assert_eq!(last.documents, 50);
    assert_eq!(last.tokens, summary.train_tokens + summary.validation_tokens);
}

#[test]
fn an_interrupted_preparation_leaves_nothing_that_looks_complete() {
    let fixture = Fixture::with_documents(50);
    let interrupted = catch_unwind(AssertUnwindSafe(|| {
        prepare(&fixture.options, &mut |_| panic!("interrupted on purpose"))
    }));
    assert!(interrupted.is_err());
    assert_eq!(fixture.beside(), ["in"]);
}

#[test]
fn what_a_killed_preparation_left_is_cleared_by_the_next() {
    let fixture = Fixture::with_documents(50);
    let left = fixture.folder.path().join(".out.partial");
    fs::create_dir(&left).unwrap();
    for name in ["lock", "train-00000.bin", "train-00077.bin", FILE_NAME] {
        fs::write(left.join(name), "half").unwrap();
    }
    fixture.prepare().unwrap();
    assert_eq!(fixture.beside(), ["in", "out"]);
    Corpus::open(&fixture.options.out).unwrap().verify().unwrap();
    assert!(!fixture.files().contains_key("train-00077.bin"));
}

#[test]
fn two_preparations_of_one_output_do_not_mix() {
    let fixture = Fixture::with_documents(5);
    let first = WorkFolder::create(&fixture.options.out).unwrap().unwrap();
    assert!(matches!(fixture.prepare(), Err(PrepareError::Busy { .. })));
    assert!(first.path().exists());
    drop(first);
    fixture.prepare().unwrap();
}

#[test]
fn the_same_corpus_is_kept_and_another_is_not_overwritten() {
    let mut fixture = Fixture::with_documents(50);
    assert!(!fixture.prepare().unwrap().reused);
    let before = fixture.files();
    assert!(fixture.prepare().unwrap().reused);
    fixture.options.validation = "50%".parse().unwrap();
    let error = fixture.prepare().unwrap_err();
    assert!(matches!(error, PrepareError::OtherCorpus { .. }), "{error:?}");
    assert_eq!(fixture.files(), before);
    assert_eq!(fixture.beside(), ["in", "out"]);
}

#[test]
fn what_is_no_corpus_is_not_overwritten() {
    let fixture = Fixture::with_documents(5);
    fs::create_dir(&fixture.options.out).unwrap();
    fs::write(fixture.options.out.join("thesis.tex"), "important").unwrap();
    assert!(matches!(fixture.prepare(), Err(PrepareError::Occupied { .. })));
    fs::write(fixture.options.out.join(FILE_NAME), "{}").unwrap();
    assert!(matches!(fixture.prepare(), Err(PrepareError::DamagedCorpus { .. })));
    assert!(fixture.options.out.join("thesis.tex").exists());
}

#[test]
fn an_empty_folder_may_become_the_corpus() {
    let fixture = Fixture::with_documents(5);
    fs::create_dir(&fixture.options.out).unwrap();
    fixture.prepare().unwrap();
    Corpus::open(&fixture.options.out).unwrap();
}

/// A tokenizer of two words whose ids need more than 16 bits.
const WIDE: &str = r#"{"version": "1.0", "added_tokens": [{"id": 70000, "content": "</s>",
    "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}],
    "normalizer": null,
    "pre_tokenizer": {"type": "WhitespaceSplit"}, "post_processor": null, "decoder": null,
    "model": {"type": "WordLevel", "vocab": {"<unk>": 0, "word": 69999, "</s>": 70000},
    "unk_token": "<unk>"}}"#;

#[test]
fn a_large_vocabulary_takes_four_bytes_a_token_and_its_tokenizer_comes_along() {
    let mut fixture = Fixture::with_documents(10);
    let path = fixture.folder.path().join("wide.json");
    fs::write(&path, WIDE).unwrap();
    fixture.options.tokenizer = TokenizerChoice::File(path);
    let summary = fixture.prepare().unwrap();
    let corpus = Corpus::open(&fixture.options.out).unwrap();
    let mut tokens = vec![0; usize::try_from(summary.train_tokens).unwrap()];
    corpus.read(Split::Train, 0, &mut tokens).unwrap();
    assert_eq!(tokens[..2], [0, 69_999]);
    assert_eq!(tokens.last(), Some(&70_000));
    assert_eq!(corpus.tokenizer().unwrap().vocab_size(), 70_001);
    let copy = fixture.options.out.join(TOKENIZER_NAME);
    fs::write(copy, WIDE.replace("69999", "69998")).unwrap();
    assert!(matches!(corpus.tokenizer(), Err(CorpusError::TokenizerMismatch { .. })));
}
