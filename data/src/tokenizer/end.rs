//! The token that ends a document: what the user says; what the files beside a `tokenizer.json`
//! say; a special token of a known name. A word that the vocabulary learnt is never taken for it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use serde_json::Value;

use super::{Ending, TokenizerError};
use crate::content::without_mark;

/// The names that tokenizers give to the token that ends a document, best first.
pub(super) const END_NAMES: [&str; 7] = [
    "</s>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<eos>",
    "<|end▁of▁sentence|>",
    "<|im_end|>",
    "[EOS]",
];
/// The name of a tokenizer's file that has others beside it.
const TOKENIZER_FILE: &str = "tokenizer.json";
/// A larger file beside a tokenizer is refused.
const BESIDE_BYTES_MAX: u64 = 64 << 20;
/// Most special tokens that are named in a refusal.
const NAMED_MAX: usize = 8;

/// The tokens of a `tokenizer.json`.
pub(super) struct Tokens<'a> {
    /// Every token's id.
    pub(super) ids: BTreeMap<&'a str, u32>,
    /// Tokens that were added to the vocabulary, their ids, and whether they are special.
    added: Vec<(&'a str, u32, bool)>,
}

impl<'a> Tokens<'a> {
    /// The tokens of a canonical `tokenizer.json`; ids that do not fit u32 count as the largest.
    pub(super) fn of(tokenizer: &'a Value) -> Self {
        let id = |value: &Value| value.as_u64().map(|id| u32::try_from(id).unwrap_or(u32::MAX));
        let mut ids = BTreeMap::new();
        match &tokenizer["model"]["vocab"] {
            Value::Object(vocab) => {
                ids.extend(vocab.iter().filter_map(|(token, at)| Some((token.as_str(), id(at)?))));
            }
            Value::Array(vocab) => {
                let tokens = (0..).zip(vocab);
                ids.extend(tokens.filter_map(|(at, token)| Some((token[0].as_str()?, at))));
            }
            _ => {}
        }
        let added = tokenizer["added_tokens"].as_array().into_iter().flatten();
        let added = added.filter_map(|token| {
            let special = token["special"].as_bool().unwrap_or(false);
            Some((token["content"].as_str()?, id(&token["id"])?, special))
        });
        let added: Vec<_> = added.collect();
        ids.extend(added.iter().map(|(token, id, _)| (*token, *id)));
        Self { ids, added }
    }

    /// The name of an id.
    fn name(&self, id: u32) -> Option<&'a str> {
        let added = self.added.iter().find(|(_, other, _)| *other == id);
        let learnt = || self.ids.iter().find(|(_, other)| **other == id).map(|(name, _)| *name);
        added.map(|(name, ..)| *name).or_else(learnt)
    }

    fn special(&self) -> impl Iterator<Item = (&'a str, u32)> {
        let special = self.added.iter().filter(|(.., special)| *special);
        special.map(|(name, id, _)| (*name, *id))
    }

    /// The first special tokens, for a refusal.
    fn named(&self) -> String {
        let names = self.special().take(NAMED_MAX).map(|(name, _)| name);
        let names: Vec<_> = names.collect();
        if names.is_empty() { "none".to_owned() } else { names.join(" ") }
    }
}

/// The end that a file beside the tokenizer names.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Name(String),
    Ids(Vec<u32>),
}

type Reading = fn(&Value) -> Option<Said>;

/// The token that ends a document, by name and id.
pub(super) fn find(
    tokens: &Tokens<'_>,
    ending: Ending<'_>,
    path: &Path,
) -> Result<(String, u32), TokenizerError> {
    let unknown = |who: &str, token: &str| TokenizerError::UnknownEnd {
        path: path.to_owned(),
        who: who.to_owned(),
        token: token.to_owned(),
        special: tokens.named(),
    };
    match ending {
        Ending::Named(name) => {
            let id = tokens.ids.get(name).ok_or_else(|| unknown("--end-token", name))?;
            return Ok((name.to_owned(), *id));
        }
        Ending::At(id) => {
            let name = tokens.name(id).ok_or_else(|| unknown("the data", &id.to_string()))?;
            return Ok((name.to_owned(), id));
        }
        Ending::Found => {}
    }
    for (file, said) in beside(path)? {
        match said {
            Said::Name(name) => {
                let id = tokens.ids.get(name.as_str()).ok_or_else(|| unknown(file, &name))?;
                return Ok((name, *id));
            }
            // A config.json may have ids by default that are some word of this vocabulary.
            Said::Ids(ids) => {
                let added = |id: &u32| tokens.added.iter().find(|(_, other, _)| other == id);
                if let Some((name, id, _)) = ids.iter().find_map(added) {
                    return Ok(((*name).to_owned(), *id));
                }
            }
        }
    }
    let known = END_NAMES.iter().find_map(|name| tokens.special().find(|(other, _)| other == name));
    known
        .map(|(name, id)| (name.to_owned(), id))
        .ok_or_else(|| TokenizerError::NoEnd { path: path.to_owned(), special: tokens.named() })
}

/// The ends that the files beside a `tokenizer.json` name, the first that counts first.
fn beside(path: &Path) -> Result<Vec<(&'static str, Said)>, TokenizerError> {
    if path.file_name().is_none_or(|name| name != TOKENIZER_FILE) {
        return Ok(Vec::new());
    }
    let table: [(&str, Reading); 3] = [
        ("tokenizer_config.json", said_name),
        ("special_tokens_map.json", said_name),
        ("config.json", said_ids),
    ];
    let mut said = Vec::new();
    for (file, read) in table {
        let other = path.with_file_name(file);
        match value(&other) {
            Ok(value) => said.extend(value.as_ref().and_then(read).map(|what| (file, what))),
            Err(source) => return Err(TokenizerError::Beside { path: other, source }),
        }
    }
    Ok(said)
}

/// A file's JSON; `None` where there is no such file.
fn value(path: &Path) -> io::Result<Option<Value>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut json = Vec::new();
    let read = file.take(BESIDE_BYTES_MAX + 1).read_to_end(&mut json)? as u64;
    if read > BESIDE_BYTES_MAX {
        let what = format!("larger than {BESIDE_BYTES_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    let value = serde_json::from_slice(without_mark(&json));
    value.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// `"eos_token": "</s>"`, or an object with its `content`.
fn said_name(config: &Value) -> Option<Said> {
    let token = &config["eos_token"];
    let name = token.as_str().or_else(|| token["content"].as_str())?;
    Some(Said::Name(name.to_owned()))
}

/// `"eos_token_id": 2`, or a list; of a model of text and images, within `text_config`.
fn said_ids(config: &Value) -> Option<Said> {
    let ids = |value: &Value| -> Vec<u32> {
        let one = std::slice::from_ref(value);
        let all = value.as_array().map_or(one, Vec::as_slice).iter();
        all.filter_map(|id| u32::try_from(id.as_u64()?).ok()).collect()
    };
    let places = [&config["eos_token_id"], &config["text_config"]["eos_token_id"]];
    let found = places.into_iter().map(ids).find(|ids| !ids.is_empty());
    found.map(Said::Ids)
}

#[cfg(test)]
mod tests;
