//! Tests of preparing data: what is taken, what is refused, what is left behind.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};

use tempfile::TempDir;

use super::*;
use crate::Corpus;

struct Fixture {
    folder: TempDir,
    options: PrepareOptions,
}

impl Fixture {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let input = folder.path().join("in");
        fs::create_dir(&input).unwrap();
        for (name, bytes) in files {
            fs::write(input.join(name), bytes).unwrap();
        }
        let options = PrepareOptions {
            inputs: vec![input],
            tokenizer: TokenizerChoice::Byte,
            out: folder.path().join("out"),
            validation: "10%".parse().unwrap(),
            max_bytes: None,
            shard_tokens: NonZeroU64::new(300).unwrap(),
        };
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
    let table: [&[(&str, &[u8])]; 4] = [
        &[],
        &[("empty.txt", b"")],
        &[("picture.txt", b"\0\0\0\0")],
        &[("bad.jsonl", b"no json\n{}\n")],
    ];
    for files in table {
        let fixture = Fixture::new(files);
        let error = fixture.prepare().unwrap_err();
        assert!(matches!(error, PrepareError::NoText { .. }), "{error:?}");
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
        ("a.txt", b"good text"),
        ("b.txt", b"bad \xff text \xfe"),
        ("c.jsonl", b"{\"text\": \"fine\"}\nbroken\n"),
        ("d.rs", b"\0binary"),
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
    assert!(said.contains("b.txt") && said.contains("c.jsonl"), "{said}");
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
const WIDE: &str = r#"{"version": "1.0", "added_tokens": [], "normalizer": null,
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
