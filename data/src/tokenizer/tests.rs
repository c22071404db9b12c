//! Tests of the tokenizers, and of what the byte tokenizer looks like to others.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;

fn encode(tokenizer: &Tokenizer, text: &str) -> Vec<u32> {
    let mut tokens = Vec::new();
    tokenizer.encode(text, &mut tokens).unwrap();
    tokens
}

fn load(json: &str) -> Result<Tokenizer, TokenizerError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.json");
    std::fs::write(&path, json).unwrap();
    Tokenizer::load(&TokenizerChoice::File(path))
}

/// The byte tokenizer as transformers would load it.
static EXPORTED: LazyLock<Tokenizer> = LazyLock::new(|| {
    let files = Tokenizer::Byte.hugging_face_files();
    load(std::str::from_utf8(&files[0].1).unwrap()).unwrap()
});

#[test]
fn bytes_are_their_own_tokens() {
    let tokenizer = Tokenizer::Byte;
    assert_eq!(encode(&tokenizer, "aé"), [97, 195, 169]);
    assert_eq!(tokenizer.decode(&[97, 195, 169, 256, 300]).unwrap(), "aé");
    assert_eq!((tokenizer.vocab_size(), tokenizer.end_token()), (257, 256));
}

#[test]
fn tokens_that_cut_a_character_decode_to_the_replacement() {
    assert_eq!(Tokenizer::Byte.decode(&[195]).unwrap(), "\u{fffd}");
}

#[test]
fn the_exported_byte_tokenizer_has_the_same_vocabulary_and_end() {
    let tokenizer = &EXPORTED;
    assert_eq!((tokenizer.vocab_size(), tokenizer.end_token()), (257, 256));
    let files = Tokenizer::Byte.hugging_face_files();
    let names: Vec<_> = files.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["tokenizer.json", "tokenizer_config.json"]);
    let config: Value = serde_json::from_slice(&files[1].1).unwrap();
    assert_eq!(config["eos_token"], BYTE_END_TEXT);
}

#[test]
fn every_byte_has_its_own_symbol() {
    let symbols: std::collections::BTreeSet<char> = (0..=255).map(byte_symbol).collect();
    assert_eq!(symbols.len(), 256);
    // GPT-2's table.
    assert_eq!([0, 32, 127, 173].map(byte_symbol), ['Ā', 'Ġ', 'ġ', 'Ń']);
}

proptest! {
    #[test]
    fn the_exported_byte_tokenizer_encodes_every_text_as_its_bytes(text in any::<String>()) {
        let tokens = encode(&EXPORTED, &text);
        prop_assert_eq!(&tokens, &encode(&Tokenizer::Byte, &text));
        prop_assert_eq!(EXPORTED.decode(&tokens).unwrap(), text);
    }
}

#[test]
fn the_name_of_a_special_token_in_a_text_is_text() {
    let text = "a<|endoftext|>b";
    assert_eq!(encode(&EXPORTED, text), encode(&Tokenizer::Byte, text));
}

/// A tokenizer of these words, of which `</s>` with the id `end` is special.
fn word_level(vocab: &str, end: u32) -> String {
    format!(
        r#"{{"version": "1.0", "added_tokens": [{{"id": {end}, "content": "</s>",
        "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
        "special": true}}], "normalizer": null,
        "pre_tokenizer": {{"type": "WhitespaceSplit"}}, "post_processor": null, "decoder": null,
        "model": {{"type": "WordLevel", "vocab": {vocab}, "unk_token": "<unk>"}}}}"#
    )
}

#[test]
fn a_tokenizer_file_is_loaded_with_its_vocabulary_and_end() {
    let tokenizer = load(&word_level(r#"{"<unk>": 0, "a": 1, "b": 2, "</s>": 3}"#, 3)).unwrap();
    assert_eq!((tokenizer.vocab_size(), tokenizer.end_token()), (4, 3));
    assert_eq!(encode(&tokenizer, "b a z"), [2, 1, 0]);
    assert_eq!(
        tokenizer.hugging_face_files()[0].1,
        word_level(r#"{"<unk>": 0, "a": 1, "b": 2, "</s>": 3}"#, 3).into_bytes()
    );
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_tokenizer() {
    let json = word_level(r#"{"<unk>": 0, "</s>": 1}"#, 1);
    let (plain, marked) = (load(&json).unwrap(), load(&format!("\u{feff}{json}")).unwrap());
    assert_eq!(plain.hash(), marked.hash());
    assert_eq!(plain.hugging_face_files(), marked.hugging_face_files());
}

#[test]
fn what_is_no_tokenizer_is_refused() {
    for text in
        ["", "{}", "[1]", "not JSON", r#"{"model": {"type": "Unheard"}}"#, "{\"a\": \"\\u00"]
    {
        let error = load(text).unwrap_err();
        assert!(matches!(error, TokenizerError::Parse { .. }), "{text}: {error:?}");
    }
    let missing = TokenizerChoice::File("/nowhere/tokenizer.json".into());
    assert!(matches!(Tokenizer::load(&missing), Err(TokenizerError::Read { .. })));
}

#[test]
fn tokenizers_are_told_apart_by_their_hash() {
    let one = load(&word_level(r#"{"<unk>": 0, "</s>": 1}"#, 1)).unwrap();
    let other = load(&word_level(r#"{"<unk>": 1, "</s>": 0}"#, 0)).unwrap();
    assert_ne!(one.hash(), other.hash());
    assert_ne!(one.hash(), Tokenizer::Byte.hash());
}

#[test]
fn a_choice_is_the_word_byte_or_a_path() {
    assert_eq!("byte".parse(), Ok(TokenizerChoice::Byte));
    assert_eq!("./byte".parse(), Ok(TokenizerChoice::File("./byte".into())));
}

#[test]
fn a_vocabulary_reaches_to_its_highest_id_wherever_that_stands() {
    // Gaps are tokens that nothing makes; an added token may have the highest id, or a low one.
    let table = [
        (r#"{"<unk>": 0, "a": 9}"#, 3, 10, 3),
        (r#"{"<unk>": 0, "a": 1}"#, 500, 501, 500),
        (r#"{"<unk>": 0, "a": 70000}"#, 1, 70_001, 1),
    ];
    for (vocab, end, size, expected) in table {
        let tokenizer = load(&word_level(vocab, end)).unwrap();
        assert_eq!((tokenizer.vocab_size(), tokenizer.end_token()), (size, expected), "{vocab}");
    }
}

#[test]
fn what_cannot_be_read_as_a_file_is_refused_with_its_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| TokenizerChoice::File(folder.path().join(name));
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    std::fs::write(folder.path().join("latin.json"), b"{\"a\": \"\xe9\"}").unwrap();
    let file = std::fs::File::create(folder.path().join("large.json")).unwrap();
    file.set_len(FILE_BYTES_MAX + 1).unwrap();
    let error = |name| Tokenizer::load(&path(name)).unwrap_err();
    let cases = [("folder", false), ("nowhere", false), ("latin.json", true), ("large.json", true)];
    for (name, is_final) in cases {
        let error = error(name);
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(error.is_final(), is_final, "{error}");
    }
    assert!(matches!(error("large.json"), TokenizerError::TooLarge { .. }));
    assert!(matches!(path("large.json").hash(), Err(TokenizerError::TooLarge { .. })));
}

#[test]
fn a_choice_and_what_is_loaded_of_it_have_the_same_hash() {
    let folder = tempfile::tempdir().unwrap();
    let json = word_level(r#"{"<unk>": 0, "</s>": 1}"#, 1);
    for content in [json.clone(), format!("\u{feff}{json}")] {
        let path = folder.path().join("tokenizer.json");
        std::fs::write(&path, content).unwrap();
        let choice = TokenizerChoice::File(path);
        let hash = choice.hash().unwrap();
        assert_eq!(Tokenizer::load(&choice).unwrap().hash(), hash);
        assert_eq!(<[u8; 32]>::from(blake3::hash(json.as_bytes())), hash);
    }
    assert_eq!(TokenizerChoice::Byte.hash().unwrap(), Tokenizer::Byte.hash());
}

#[test]
fn a_text_that_a_tokenizer_has_no_token_for_is_an_error_and_not_less_text() {
    // The word for what is not known is not in the vocabulary.
    let json = word_level(r#"{"a": 0, "</s>": 1}"#, 1);
    let Ok(tokenizer) = load(&json) else { return };
    let mut tokens = vec![9];
    let encoded = tokenizer.encode("a b", &mut tokens);
    assert!(matches!(encoded, Err(TokenizerError::Encode { bytes: 3, .. })), "{encoded:?}");
    assert!(encoded.unwrap_err().is_final());
    tokenizer.encode("a a", &mut tokens).unwrap();
    assert_eq!(tokens, [9, 0, 0], "what was there stays");
}

proptest! {
    #[test]
    fn bytes_that_are_no_text_decode_to_something(
        ids in proptest::collection::vec(0_u32..300, 0..40),
    ) {
        let text = Tokenizer::Byte.decode(&ids).unwrap();
        let bytes: Vec<u8> = ids.iter().filter_map(|id| u8::try_from(*id).ok()).collect();
        prop_assert_eq!(text, String::from_utf8_lossy(&bytes).into_owned());
    }
}
