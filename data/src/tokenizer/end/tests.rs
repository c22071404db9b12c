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

#[test]
fn an_end_that_is_said_in_an_odd_way_is_passed_over_for_the_next() {
    let table: [(&[(&str, &str)], u32); 9] = [
        (&[("tokenizer_config.json", r#"{"eos_token": 7}"#)], 11),
        (&[("tokenizer_config.json", r#"{"eos_token": ["<x>"]}"#)], 11),
        (&[("tokenizer_config.json", r#"{"eos_token": {"id": 10}}"#)], 11),
        (&[("tokenizer_config.json", "[]")], 11),
        (&[("config.json", r#"{"eos_token_id": "10"}"#)], 11),
        (&[("config.json", r#"{"eos_token_id": -1}"#)], 11),
        (&[("config.json", r#"{"eos_token_id": []}"#)], 11),
        (&[("config.json", r#"{"eos_token_id": 4294967306}"#)], 11),
        (&[("config.json", r#"{"eos_token_id": [], "text_config": {"eos_token_id": [10]}}"#)], 10),
    ];
    for (beside, expected) in table {
        assert_eq!(end(&["<x>", "<eos>"], beside, None).unwrap(), expected, "{beside:?}");
    }
}

#[test]
fn the_best_known_name_is_taken_whatever_the_order_of_the_tokens() {
    let mut names = END_NAMES;
    for _ in 0..names.len() {
        names.rotate_left(1);
        let found = end(&names, &[], None).unwrap();
        let at = names.iter().position(|name| *name == END_NAMES[0]).unwrap();
        assert_eq!(found as usize, 10 + at, "{names:?}");
    }
    for (at, name) in END_NAMES.iter().enumerate() {
        assert_eq!(end(&["<x>", name], &[], None).unwrap(), 11, "{at}: {name}");
    }
}

#[test]
fn a_refusal_names_some_special_tokens_and_not_all() {
    let many: Vec<String> = (0..20).map(|at| format!("<s{at}>")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let text = end(&many, &[], None).unwrap_err().to_string();
    assert!(text.ends_with("(special tokens: <s0> <s1> <s2> <s3> <s4> <s5> <s6> <s7>)"), "{text}");
    let text = end(&[], &[], Some("<z>")).unwrap_err().to_string();
    assert!(text.ends_with("(special tokens: none)"), "{text}");
}

#[test]
fn files_beside_a_tokenizer_of_another_name_are_anothers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.json");
    fs::write(&path, tokenizer(&["<x>", "<eos>"])).unwrap();
    fs::write(folder.path().join("tokenizer_config.json"), r#"{"eos_token": "<x>"}"#).unwrap();
    let found = Tokenizer::load(&TokenizerChoice::File(path)).unwrap();
    assert_eq!(found.end_token(), 11);
}

#[test]
fn a_file_beside_a_tokenizer_that_cannot_be_read_now_may_be_read_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(TOKENIZER_FILE);
    fs::write(&path, tokenizer(&["<eos>"])).unwrap();
    fs::create_dir(folder.path().join("config.json")).unwrap();
    let error = Tokenizer::load(&TokenizerChoice::File(path.clone())).unwrap_err();
    assert!(matches!(error, TokenizerError::Beside { .. }) && !error.is_final(), "{error:?}");
    fs::remove_dir(folder.path().join("config.json")).unwrap();
    let file = File::create(folder.path().join("config.json")).unwrap();
    file.set_len(BESIDE_BYTES_MAX + 1).unwrap();
    let error = Tokenizer::load(&TokenizerChoice::File(path)).unwrap_err();
    assert!(matches!(error, TokenizerError::Beside { .. }) && error.is_final(), "{error:?}");
}
