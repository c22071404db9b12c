//! Tests of which token ends a document.

use std::fs;

use super::super::{Tokenizer, TokenizerChoice};
use super::*;

/// A tokenizer of words, `</s>` among them, and special tokens of these names with ids from 10 on.
fn tokenizer(special: &[&str]) -> String {
    let added: Vec<_> = (10..)
        .zip(special)
        .map(|(id, name)| {
            serde_json::json!({
                "id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true,
            })
        })
        .collect();
    serde_json::json!({
        "version": "1.0", "added_tokens": added, "normalizer": null, "post_processor": null,
        "pre_tokenizer": {"type": "WhitespaceSplit"}, "decoder": null,
        "model": {"type": "WordLevel", "unk_token": "<unk>",
                  "vocab": {"<unk>": 0, "a": 1, "</s>": 2, "<|im_start|>": 3}},
    })
    .to_string()
}

/// The end of a tokenizer with other files beside it.
fn end(
    special: &[&str],
    beside: &[(&str, &str)],
    named: Option<&str>,
) -> Result<u32, TokenizerError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(TOKENIZER_FILE);
    fs::write(&path, tokenizer(special)).unwrap();
    for (name, content) in beside {
        fs::write(folder.path().join(name), content).unwrap();
    }
    Tokenizer::load_ending_with(&TokenizerChoice::File(path), named).map(|it| it.end_token())
}

#[test]
fn the_end_is_what_the_files_say_in_their_order() {
    let special = ["<x>", "<y>", "<eos>"];
    let config = |text: &'static str| ("tokenizer_config.json", text);
    let map = |text: &'static str| ("special_tokens_map.json", text);
    let model = |text: &'static str| ("config.json", text);
    let table: [(&[(&str, &str)], u32); 13] = [
        (&[], 12),
        (&[config(r#"{"eos_token": "<x>"}"#)], 10),
        (&[config("\u{feff}{\"eos_token\": \"<x>\"}")], 10),
        (&[config(r#"{"eos_token": {"content": "<y>", "lstrip": false}}"#)], 11),
        (&[config(r#"{"eos_token": null}"#), map(r#"{"eos_token": "<y>"}"#)], 11),
        (&[config(r#"{"eos_token": "<x>"}"#), map(r#"{"eos_token": "<y>"}"#)], 10),
        (&[map(r#"{"eos_token": {"content": "<x>"}}"#), model(r#"{"eos_token_id": 11}"#)], 10),
        (&[model(r#"{"eos_token_id": 11}"#)], 11),
        (&[model(r#"{"eos_token_id": [1, 11, 10]}"#)], 11),
        (&[model(r#"{"text_config": {"eos_token_id": 10}}"#)], 10),
        // The id that LlamaConfig has by default is a word here.
        (&[model(r#"{"eos_token_id": 2}"#)], 12),
        (&[model(r#"{"eos_token_id": null}"#)], 12),
        (&[config("{}"), map("{}"), model("{}")], 12),
    ];
    for (beside, expected) in table {
        assert_eq!(end(&special, beside, None).unwrap(), expected, "{beside:?}");
    }
}

#[test]
fn a_word_that_the_vocabulary_learnt_is_no_end_unless_the_user_says_so() {
    let error = end(&["<x>"], &[], None).unwrap_err();
    assert!(matches!(error, TokenizerError::NoEnd { .. }), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("--end-token") && text.ends_with("(special tokens: <x>)"), "{text}");
    assert_eq!(end(&["<x>"], &[], Some("</s>")).unwrap(), 2);
    assert_eq!(end(&["</s>"], &[], None).unwrap(), 10);
}

#[test]
fn what_the_user_names_counts_before_all_files_and_must_be_a_token() {
    let beside = [("tokenizer_config.json", "not JSON")];
    assert_eq!(end(&["<x>", "<y>"], &beside, Some("<y>")).unwrap(), 11);
    let error = end(&["<x>"], &[], Some("<z>")).unwrap_err();
    assert!(matches!(error, TokenizerError::UnknownEnd { .. }), "{error:?}");
    let byte = Tokenizer::load_ending_with(&TokenizerChoice::Byte, Some("<x>"));
    assert!(matches!(byte, Err(TokenizerError::EndOfBytes { .. })));
}

#[test]
fn files_that_contradict_the_tokenizer_or_cannot_be_read_are_refused() {
    let missing = [("special_tokens_map.json", r#"{"eos_token": "<gone>"}"#)];
    let error = end(&["<eos>"], &missing, None).unwrap_err().to_string();
    assert!(error.contains("special_tokens_map.json names \"<gone>\""), "{error}");
    assert!(error.contains("--end-token"), "{error}");
    let broken = [("tokenizer_config.json", "{")];
    let error = end(&["<eos>"], &broken, None).unwrap_err();
    assert!(matches!(error, TokenizerError::Beside { .. }) && error.is_final(), "{error:?}");
}
