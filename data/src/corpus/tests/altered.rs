//! A corpus of which anything was changed, cut off, made by another version, or never was one.

use serde_json::{Value, json};

use super::*;

fn index_of(out: &Path) -> Value {
    serde_json::from_slice(&fs::read(out.join(FILE_NAME)).unwrap()).unwrap()
}

/// Opens the corpus with another index, and puts its own back.
fn opened(out: &Path, index: &[u8]) -> Result<Corpus, CorpusError> {
    let own = fs::read(out.join(FILE_NAME)).unwrap();
    fs::write(out.join(FILE_NAME), index).unwrap();
    let corpus = Corpus::open(out);
    fs::write(out.join(FILE_NAME), own).unwrap();
    corpus
}

/// The index with one field changed.
fn changed(out: &Path, pointer: &str, value: Value) -> Vec<u8> {
    let mut index = index_of(out);
    *index.pointer_mut(pointer).unwrap_or_else(|| panic!("no {pointer}")) = value;
    serde_json::to_vec_pretty(&index).unwrap()
}

#[test]
fn an_index_that_was_cut_off_is_refused_and_may_be_under_way() {
    let (_folder, out) = corpus(100);
    let whole = fs::read(out.join(FILE_NAME)).unwrap();
    let json = whole.trim_ascii_end().len();
    for cut in 0..json {
        let error = opened(&out, &whole[..cut]).unwrap_err();
        assert!(matches!(error, CorpusError::Parse { .. }), "{cut}: {error:?}");
        assert!(!error.is_final(), "{cut}: it is being copied: {error:?}");
    }
    for cut in json..=whole.len() {
        opened(&out, &whole[..cut]).unwrap();
    }
}

#[test]
fn an_index_with_any_byte_changed_is_refused_or_another_corpus() {
    let (_folder, out) = corpus(1000);
    let whole = fs::read(out.join(FILE_NAME)).unwrap();
    let own = Corpus::open(&out).unwrap().hash();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        let Ok(corpus) = opened(&out, &bytes) else { continue };
        // Islands of which one has it do not come together, and it has no token that is none.
        assert_ne!(corpus.hash(), own, "byte {at}");
        let mut tokens = vec![0; usize::try_from(corpus.tokens(Split::Train)).unwrap()];
        if corpus.read(Split::Train, 0, &mut tokens).is_ok() {
            assert!(tokens.iter().all(|token| *token < corpus.vocab_size()), "byte {at}");
        }
    }
    assert_eq!(opened(&out, &whole).unwrap().hash(), own);
}

#[test]
fn an_index_that_contradicts_itself_is_refused_by_a_sentence_and_overflows_nothing() {
    let (_folder, out) = corpus(100);
    let add_up = "shards that do not add up to the tokens";
    let most = json!(u64::MAX);
    let table = [
        ("/train/tokens", json!(0), add_up),
        ("/train/tokens", json!(1), add_up),
        ("/train/tokens", most.clone(), add_up),
        ("/train/shards", json!([]), add_up),
        ("/train/shards/0/tokens", json!(99), add_up),
        ("/train/shards/0/tokens", most.clone(), add_up),
        ("/validation/tokens", most.clone(), add_up),
        ("/validation/shards", json!([]), add_up),
        ("/shardTokens", most.clone(), add_up),
        ("/shardTokens", json!(1), add_up),
        ("/tokenBytes", json!(0), "tokens of 0 bytes"),
        ("/tokenBytes", json!(8), "tokens of 8 bytes"),
        ("/tokenizer/endToken", json!(257), "an end token outside the vocabulary"),
        ("/tokenizer/vocabSize", json!(0), "an end token outside the vocabulary"),
    ];
    for (pointer, value, what) in table {
        let error = opened(&out, &changed(&out, pointer, value.clone())).unwrap_err();
        let expected = format!("failed to accept {}: {what}", out.join(FILE_NAME).display());
        assert_eq!(error.to_string(), expected, "{pointer}: {value}");
        assert!(error.is_final());
    }
    // A shard as large as numbers go is no file.
    let mut index = index_of(&out);
    index["shardTokens"] = most.clone();
    index["train"]["tokens"] = json!(u64::MAX - 1);
    index["train"]["shards"] = json!([{"tokens": u64::MAX - 1, "blake3": "00".repeat(32)}]);
    let tokens = index["validation"]["tokens"].clone();
    index["validation"]["shards"] = json!([{"tokens": tokens, "blake3": "00".repeat(32)}]);
    let error = opened(&out, &serde_json::to_vec(&index).unwrap()).unwrap_err();
    assert!(matches!(error, CorpusError::Size { expected: u64::MAX, .. }), "{error:?}");
}

#[test]
fn fields_of_other_types_and_other_versions_are_no_index() {
    let (_folder, out) = corpus(100);
    let wrong = [
        ("/tokenizer/kind", json!("sentencepiece")),
        ("/tokenizer/blake3", json!("00")),
        ("/tokenizer/blake3", json!("00".repeat(33))),
        ("/tokenizer/vocabSize", json!(-1)),
        ("/tokenizer/vocabSize", json!(4_294_967_296_u64)),
        ("/tokenBytes", json!(256)),
        ("/shardTokens", json!(1.5)),
        ("/train", json!(null)),
        ("/train/shards/0", json!({"tokens": 100})),
        ("/source/files", json!("many")),
    ];
    for (pointer, value) in wrong {
        let error = opened(&out, &changed(&out, pointer, value)).unwrap_err();
        assert!(matches!(error, CorpusError::Parse { .. }), "{pointer}: {error:?}");
        assert!(error.is_final(), "{pointer}: it is whole, and wrong");
    }
    for format in [0, 2, u32::MAX] {
        // Of another version nothing else is asked.
        let index = json!({ "format": format, "anything": "else" }).to_string();
        let error = opened(&out, index.as_bytes()).unwrap_err();
        assert!(matches!(error, CorpusError::Format { found, .. } if found == format));
        assert!(error.to_string().ends_with(&format!("format {format}, this program reads 1")));
    }
    for text in ["null", "[]", "{}", "1", "{\"format\": \"1\"}", "{\"format\": -1}"] {
        let error = opened(&out, text.as_bytes()).unwrap_err();
        assert!(matches!(error, CorpusError::Parse { .. }), "{text}: {error:?}");
    }
}

#[test]
fn an_index_beyond_the_bound_is_not_read_into_memory() {
    let (_folder, out) = corpus(100);
    let file = File::create(out.join(FILE_NAME)).unwrap();
    file.set_len(INDEX_BYTES_MAX + 1).unwrap();
    let error = Corpus::open(&out).unwrap_err();
    assert!(error.to_string().ends_with("it is larger than 67108864 bytes"), "{error}");
    assert!(error.is_final());
}

#[test]
fn what_is_no_file_in_the_place_of_one_cannot_be_read() {
    let (_folder, out) = corpus(100);
    let shard = out.join("train-00001.bin");
    let bytes = fs::read(&shard).unwrap();
    fs::write(&shard, [&bytes[..], b"x"].concat()).unwrap();
    let error = Corpus::open(&out).unwrap_err();
    let (expected, found) = (bytes.len() as u64, bytes.len() as u64 + 1);
    let said = format!("{}: {found} bytes instead of {expected}", shard.display());
    assert!(error.to_string().ends_with(&said), "{error}");
    assert!(!error.is_final(), "it may be under way");
    fs::remove_file(&shard).unwrap();
    fs::create_dir(&shard).unwrap();
    assert!(Corpus::open(&out).is_err());
    for nowhere in ["nowhere", "train-00000.bin"] {
        let error = Corpus::open(&out.join(nowhere)).unwrap_err();
        assert!(matches!(error, CorpusError::Read { .. }) && !error.is_final(), "{error:?}");
    }
}

#[test]
fn a_shard_that_changed_its_length_after_it_was_opened_is_told_apart() {
    let (_folder, out) = corpus(100);
    let corpus = Corpus::open(&out).unwrap();
    let shard = ShardId { split: Split::Train, number: 1 };
    assert_eq!(shard.to_string(), "train-00001.bin");
    let path = out.join("train-00001.bin");
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..bytes.len() - 2]).unwrap();
    let error = corpus.verify_shard(shard).unwrap_err();
    assert!(matches!(error, CorpusError::Size { found: 198, expected: 200, .. }), "{error:?}");
    let mut tokens = [0; 100];
    let error = corpus.read(Split::Train, 100, &mut tokens).unwrap_err();
    assert!(matches!(error, CorpusError::Read { .. }), "{error:?}");
    corpus.read(Split::Train, 100, &mut tokens[..99]).unwrap();
    fs::remove_file(&path).unwrap();
    let error = corpus.verify_shard(shard).unwrap_err();
    assert!(matches!(error, CorpusError::Read { .. }) && !error.is_final(), "{error:?}");
}

#[test]
fn a_shard_that_there_is_not_is_refused_whatever_its_number() {
    let (_folder, out) = corpus(100);
    let corpus = Corpus::open(&out).unwrap();
    let count = corpus.shards().filter(|shard| shard.split == Split::Train).count();
    for number in [count, count + 1, usize::MAX] {
        let error = corpus.verify_shard(ShardId { split: Split::Train, number }).unwrap_err();
        assert!(matches!(error, CorpusError::Range { .. }), "{number}: {error:?}");
    }
}

#[test]
fn a_tokenizer_that_is_gone_or_was_changed_is_told_apart() {
    let (_folder, out) = corpus(100);
    let index = changed(&out, "/tokenizer/kind", json!("huggingFace"));
    fs::write(out.join(FILE_NAME), index).unwrap();
    let corpus = Corpus::open(&out).unwrap();
    let error = corpus.tokenizer().unwrap_err();
    assert!(matches!(error, CorpusError::Tokenizer(TokenizerError::Read { .. })), "{error:?}");
    assert!(!error.is_final(), "it may be copied still");
    fs::write(out.join(TOKENIZER_NAME), "{}").unwrap();
    let error = corpus.tokenizer().unwrap_err();
    assert!(matches!(error, CorpusError::TokenizerMismatch { .. }) && error.is_final());
    // The end that the tokens were made with has to be a token of it.
    let json = &Tokenizer::Byte.hugging_face_files()[0].1;
    fs::write(out.join(TOKENIZER_NAME), json).unwrap();
    let blake3 = blake3::hash(json).to_hex().to_string();
    for (end, right) in [(256, true), (0, true), (255, true)] {
        let mut index = index_of(&out);
        index["tokenizer"]["blake3"] = json!(blake3);
        index["tokenizer"]["endToken"] = json!(end);
        fs::write(out.join(FILE_NAME), index.to_string()).unwrap();
        let tokenizer = Corpus::open(&out).unwrap().tokenizer();
        assert_eq!(tokenizer.map(|it| it.end_token()).ok(), right.then_some(end));
    }
    let mut index = index_of(&out);
    index["tokenizer"]["vocabSize"] = json!(400);
    index["tokenizer"]["endToken"] = json!(300);
    fs::write(out.join(FILE_NAME), index.to_string()).unwrap();
    let error = Corpus::open(&out).unwrap().tokenizer().unwrap_err();
    let said = error.to_string();
    assert_eq!(said, "failed to load the corpus's tokenizer");
    let error = std::error::Error::source(&error).unwrap().to_string();
    assert!(error.contains("the data names \"300\""), "{error}");
}

/// What cannot be read is tried again, and what comes to light then counts.
#[test]
fn patience_ends_with_what_was_found_last() {
    let away = || CorpusError::Read { path: PathBuf::new(), source: io::ErrorKind::Other.into() };
    let size = || CorpusError::Size { path: PathBuf::new(), expected: 2, found: 1 };
    let hash = || CorpusError::Hash { path: PathBuf::new() };
    type Tries = Vec<Result<u8, CorpusError>>;
    let table: [(Tries, &str, usize); 4] = [
        (vec![Ok(7)], "7", 0),
        (vec![Err(away()), Err(size()), Ok(7)], "7", 2),
        (vec![Err(size()), Err(hash()), Ok(7)], "failed to verify", 1),
        (
            (0..20).map(|at| if at == 8 { Err(size()) } else { Err(away()) }).collect(),
            "failed to accept shard",
            8,
        ),
    ];
    for (tries, expected, pauses) in table {
        let mut tries = tries.into_iter();
        let mut paused = 0;
        let done = patiently(|_, _| paused += 1, || tries.next().unwrap());
        let said = done.map_or_else(|error| error.to_string(), |value| value.to_string());
        assert!(said.starts_with(expected), "{said}");
        assert_eq!(paused, pauses, "{expected}");
    }
}
