//! Tests of reading a corpus, whole and damaged.

mod altered;

use std::fs;
use std::num::NonZeroU64;
use std::sync::{Arc, LazyLock};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::{PrepareOptions, Ratio, prepare};

fn corpus(shard_tokens: u64) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let input = folder.path().join("in");
    fs::create_dir(&input).unwrap();
    for number in 0..40 {
        fs::write(input.join(format!("{number:02}.txt")), format!("text {number}")).unwrap();
    }
    let out = folder.path().join("out");
    let mut options = PrepareOptions::new(vec![input], TokenizerChoice::Byte, out.clone());
    options.validation = "20%".parse::<Ratio>().unwrap();
    options.shard_tokens = NonZeroU64::new(shard_tokens).unwrap();
    prepare(&options, &mut |_| {}).unwrap();
    (folder, out)
}

fn all(corpus: &Corpus, split: Split) -> Vec<u32> {
    let mut tokens = vec![0; usize::try_from(corpus.tokens(split)).unwrap()];
    corpus.read(split, 0, &mut tokens).unwrap();
    tokens
}

#[test]
fn every_document_is_in_one_split_and_ends_with_the_end_token() {
    let (_folder, out) = corpus(1000);
    let corpus = Corpus::open(&out).unwrap();
    corpus.verify().unwrap();
    let mut documents = Vec::new();
    for split in [Split::Train, Split::Validation] {
        let tokens = all(&corpus, split);
        assert_eq!(tokens.last(), Some(&corpus.end_token()));
        let found: Vec<_> = tokens.split_terminator_token(corpus.end_token());
        assert_eq!(found.len() as u64, corpus.documents(split));
        documents.extend(found);
    }
    documents.sort();
    let mut expected: Vec<String> = (0..40).map(|number| format!("text {number}")).collect();
    expected.sort();
    assert_eq!(documents, expected);
}

trait Documents {
    fn split_terminator_token(&self, end: u32) -> Vec<String>;
}

impl Documents for Vec<u32> {
    fn split_terminator_token(&self, end: u32) -> Vec<String> {
        let documents = self.split_inclusive(|&token| token == end);
        documents.map(|document| Tokenizer::Byte.decode(document).unwrap()).collect()
    }
}

/// The same tokens in one shard, and in shards of 1, 7 and 100 tokens.
static SHARDED: LazyLock<Vec<(TempDir, Corpus)>> = LazyLock::new(|| {
    let open = |shard_tokens| {
        let (folder, out) = corpus(shard_tokens);
        (folder, Corpus::open(&out).unwrap())
    };
    [100_000, 1, 7, 100].map(open).into()
});

proptest! {
    #[test]
    fn reading_across_shards_gives_the_same_tokens(
        sharding in 1usize..4, first in 0usize..400, length in 0usize..200,
    ) {
        let whole = all(&SHARDED[0].1, Split::Train);
        let mut tokens = vec![0; length];
        let read = SHARDED[sharding].1.read(Split::Train, first as u64, &mut tokens);
        match whole.get(first..first + length) {
            Some(expected) => {
                read.unwrap();
                prop_assert_eq!(&tokens[..], expected);
            }
            None => {
                let refused = matches!(read, Err(CorpusError::Range { .. }));
                prop_assert!(refused);
            }
        }
    }
}

#[test]
fn reading_beyond_the_end_is_refused() {
    let (_folder, out) = corpus(1000);
    let corpus = Corpus::open(&out).unwrap();
    for first in [corpus.tokens(Split::Train), u64::MAX] {
        let read = corpus.read(Split::Train, first, &mut [0]);
        assert!(matches!(read, Err(CorpusError::Range { .. })));
    }
    corpus.read(Split::Train, corpus.tokens(Split::Train), &mut []).unwrap();
}

fn flip_a_bit(shard: &Path) {
    let mut bytes = fs::read(shard).unwrap();
    bytes[7] ^= 1;
    fs::write(shard, bytes).unwrap();
}

#[test]
fn a_changed_shard_is_found_by_its_hash() {
    let (_folder, out) = corpus(100);
    for name in ["train-00001.bin", "validation-00000.bin"] {
        let shard = out.join(name);
        flip_a_bit(&shard);
        let corpus = Corpus::open(&out).unwrap();
        let bad: Vec<_> = corpus.shards().filter(|it| corpus.verify_shard(*it).is_err()).collect();
        assert_eq!(bad.iter().map(ShardId::to_string).collect::<Vec<_>>(), [name]);
        let error = corpus.verify().unwrap_err();
        assert!(matches!(&error, CorpusError::Hash { path } if *path == shard), "{error:?}");
        assert!(error.is_final());
        flip_a_bit(&shard);
        corpus.verify().unwrap();
    }
}

fn wait_for(check: &Check) -> Result<(), CorpusError> {
    while !check.result()? {
        std::thread::yield_now();
    }
    check.result().map(drop)
}

#[test]
fn a_check_beside_the_training_finds_the_shard_that_was_changed() {
    let (_folder, out) = corpus(100);
    let corpus = Arc::new(Corpus::open(&out).unwrap());
    let never = |error: &CorpusError, _| panic!("{error}");
    wait_for(&Check::start(Arc::clone(&corpus), never).unwrap()).unwrap();
    let shard = out.join("train-00002.bin");
    flip_a_bit(&shard);
    let error = wait_for(&Check::start(corpus, never).unwrap()).unwrap_err();
    assert!(matches!(&error, CorpusError::Hash { path } if *path == shard), "{error:?}");
}

#[test]
fn a_check_waits_for_a_shard_that_is_away() {
    let (folder, out) = corpus(100);
    let corpus = Arc::new(Corpus::open(&out).unwrap());
    let (shard, away) = (out.join("train-00001.bin"), folder.path().join("away"));
    fs::rename(&shard, &away).unwrap();
    let back = move |_: &CorpusError, _| fs::rename(&away, &shard).unwrap();
    wait_for(&Check::start(corpus, back).unwrap()).unwrap();
}

/// A network folder that goes away does this to the files that are open.
#[test]
fn a_shard_that_cannot_be_read_for_a_while_is_read_when_it_is_back() {
    let (_folder, out) = corpus(100);
    let corpus = Corpus::open(&out).unwrap();
    let tokens = all(&corpus, Split::Train);
    let (shard, bytes) = (out.join("train-00001.bin"), fs::read(out.join("train-00001.bin")));
    let bytes = bytes.unwrap();
    File::create(&shard).unwrap();
    fs::remove_file(&shard).unwrap();
    let mut pauses = 0;
    let mut again = vec![0; tokens.len()];
    let pause = |error: &CorpusError, _| {
        assert!(matches!(error, CorpusError::Read { path, .. } if *path == shard), "{error:?}");
        pauses += 1;
        if pauses == 2 {
            fs::write(&shard, &bytes).unwrap();
        }
    };
    patiently(pause, || corpus.read(Split::Train, 0, &mut again)).unwrap();
    assert_eq!((again, pauses), (tokens, 2));
    corpus.read(Split::Train, 100, &mut [0]).unwrap();
}

#[test]
fn a_corpus_that_is_away_is_opened_when_it_is_back() {
    let (folder, out) = corpus(100);
    let away = folder.path().join("away");
    fs::rename(&out, &away).unwrap();
    let pause = |_: &CorpusError, _| fs::rename(&away, &out).unwrap();
    patiently(pause, || Corpus::open(&out)).unwrap();
}

#[test]
fn a_shard_of_another_size_is_found_at_once() {
    let (_folder, out) = corpus(100);
    let shard = out.join("validation-00000.bin");
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, &bytes[..bytes.len() - 1]).unwrap();
    assert!(matches!(Corpus::open(&out), Err(CorpusError::Size { .. })));
    fs::remove_file(&shard).unwrap();
    assert!(matches!(Corpus::open(&out), Err(CorpusError::Read { .. })));
}

#[test]
fn what_is_no_token_is_not_handed_out() {
    let (_folder, out) = corpus(1000);
    let shard = out.join("train-00000.bin");
    let mut bytes = fs::read(&shard).unwrap();
    bytes[..2].copy_from_slice(&257u16.to_le_bytes());
    fs::write(&shard, bytes).unwrap();
    let corpus = Corpus::open(&out).unwrap();
    let read = corpus.read(Split::Train, 0, &mut [0; 4]);
    assert!(matches!(read, Err(CorpusError::UnknownToken { token: 257, .. })));
    corpus.read(Split::Train, 1, &mut [0; 4]).unwrap();
}

#[test]
fn an_index_that_cannot_be_right_is_refused() {
    let (_folder, out) = corpus(100);
    let index = fs::read_to_string(out.join(FILE_NAME)).unwrap();
    let table = [
        ("\"format\": 1", "\"format\": 2", "format 2"),
        ("\"format\": 1", "\"format\": 1, \"more\": 0", "parse"),
        ("\"tokenBytes\": 2", "\"tokenBytes\": 3", "tokens of 3 bytes"),
        ("\"shardTokens\": 100", "\"shardTokens\": 0", "no tokens"),
        ("\"shardTokens\": 100", "\"shardTokens\": 90", "add up"),
        ("\"vocabSize\": 257", "\"vocabSize\": 256", "end token"),
        ("\"blake3\": \"", "\"blake3\": \"zz", "parse"),
        ("{", "", "parse"),
    ];
    for (from, to, message) in table {
        assert!(index.contains(from), "{from}");
        fs::write(out.join(FILE_NAME), index.replacen(from, to, 1)).unwrap();
        let error = Corpus::open(&out).unwrap_err().to_string();
        assert!(error.contains(message), "{to}: {error}");
    }
    fs::remove_file(out.join(FILE_NAME)).unwrap();
    assert!(matches!(Corpus::open(&out), Err(CorpusError::Read { .. })));
}

#[test]
fn a_model_needs_the_whole_vocabulary() {
    let (_folder, out) = corpus(100);
    let corpus = Corpus::open(&out).unwrap();
    corpus.check_vocab(257).unwrap();
    corpus.check_vocab(512).unwrap();
    let error = corpus.check_vocab(256).unwrap_err();
    assert!(matches!(error, CorpusError::VocabTooSmall { model: 256, tokenizer: 257 }));
}

#[test]
fn a_tokenizer_that_did_not_make_the_tokens_is_refused() {
    let (_folder, out) = corpus(100);
    let corpus = Corpus::open(&out).unwrap();
    corpus.check_tokenizer(&TokenizerChoice::Byte).unwrap();
    let files = Tokenizer::Byte.hugging_face_files();
    fs::write(out.join("other.json"), &files[0].1).unwrap();
    let other = TokenizerChoice::File(out.join("other.json"));
    let error = corpus.check_tokenizer(&other).unwrap_err();
    assert!(matches!(error, CorpusError::TokenizerMismatch { .. }));
}
