//! Text to token ids and back: plain bytes, or a Hugging Face `tokenizer.json`.

mod end;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde_json::{Value, json};
use tokenizers::pipeline::{EncodeOptions, Override, PipelineToken, PipelineTokenizer};

use self::end::{END_NAMES, Tokens};
use crate::content::without_mark;

/// Ids 0 to 255 are bytes; this one ends a document.
const BYTE_END: u32 = 256;
/// The text of the end token in the files that describe the byte tokenizer to others.
const BYTE_END_TEXT: &str = "<|endoftext|>";
/// A `tokenizer.json` above this size is refused.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// The choice of a tokenizer, as users write it: `byte`, or the path of a `tokenizer.json`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenizerChoice {
    /// One token for each byte, and one that ends a document.
    Byte,
    /// A Hugging Face `tokenizer.json`.
    File(PathBuf),
}

impl FromStr for TokenizerChoice {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "byte" { Self::Byte } else { Self::File(PathBuf::from(text)) })
    }
}

/// Why a tokenizer cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// The file cannot be read.
    #[error("failed to read tokenizer {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The file is larger than a tokenizer may be.
    #[error("failed to read tokenizer {path}: larger than {FILE_BYTES_MAX} bytes")]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a `tokenizer.json` that is understood.
    #[error("failed to parse tokenizer {path} as a Hugging Face tokenizer.json")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Nothing says which token ends a document.
    #[error(
        "failed to use tokenizer {path}: nothing says which token ends a document: no eos_token in \
         a tokenizer_config.json or special_tokens_map.json beside it, no eos_token_id in a \
         config.json that is one of its added tokens, and no special token called {}: name it with \
         --end-token (special tokens: {special})",
        END_NAMES.join(" or ")
    )]
    NoEnd {
        /// The file.
        path: PathBuf,
        /// Its special tokens.
        special: String,
    },
    /// The token that is said to end a document is none of the tokenizer's.
    #[error(
        "failed to use tokenizer {path}: {who} names {token:?} as the token that ends a document, \
         which it does not have: name one of its own with --end-token (special tokens: {special})"
    )]
    UnknownEnd {
        /// The file.
        path: PathBuf,
        /// The source that names it.
        who: String,
        /// The name, or the id.
        token: String,
        /// The special tokens that it has.
        special: String,
    },
    /// A file beside the tokenizer, which would say what ends a document, cannot be read.
    #[error(
        "failed to read {path} for the token that ends a document: mend it, or name the token with \
         --end-token"
    )]
    Beside {
        /// The file.
        path: PathBuf,
        /// The problem.
        source: std::io::Error,
    },
    /// The byte tokenizer has an end of its own.
    #[error(
        "failed to use --end-token {token:?}: the byte tokenizer ends documents with token 256"
    )]
    EndOfBytes {
        /// The name that was given.
        token: String,
    },
    /// A text cannot be encoded, for example for want of an unknown token.
    #[error("failed to encode a text of {bytes} bytes")]
    Encode {
        /// Length of the text.
        bytes: usize,
        /// The tokenizer's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Ids cannot be decoded.
    #[error("failed to decode {tokens} tokens")]
    Decode {
        /// Number of ids.
        tokens: usize,
        /// The tokenizer's error.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl TokenizerError {
    /// Says whether trying the same again is in vain.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Read { .. } => false,
            Self::Beside { source, .. } => source.kind() == std::io::ErrorKind::InvalidData,
            Self::TooLarge { .. }
            | Self::Parse { .. }
            | Self::NoEnd { .. }
            | Self::UnknownEnd { .. }
            | Self::EndOfBytes { .. }
            | Self::Encode { .. }
            | Self::Decode { .. } => true,
        }
    }
}

/// A tokenizer, ready for use.
#[derive(Debug)]
pub enum Tokenizer {
    /// One token for each byte; 256 ends a document.
    Byte,
    /// A Hugging Face tokenizer.
    HuggingFace(Box<HuggingFace>),
}

/// A Hugging Face `tokenizer.json`, parsed, with its bytes as they were but for a byte-order mark.
pub struct HuggingFace {
    pipeline: PipelineTokenizer,
    json: Vec<u8>,
    vocabulary: u32,
    end: u32,
    end_text: String,
}

/// Knowledge of the token that ends a document.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ending<'a> {
    /// The tokenizer's files say it.
    Found,
    /// Its name.
    Named(&'a str),
    /// Its id.
    At(u32),
}

impl TokenizerChoice {
    /// The value that [`Tokenizer::hash`] has for this choice.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn hash(&self) -> Result<[u8; 32], TokenizerError> {
        match self {
            Self::Byte => Ok(Tokenizer::Byte.hash()),
            Self::File(path) => Ok(blake3::hash(&read_bounded(path)?).into()),
        }
    }
}

impl Tokenizer {
    /// Loads what was chosen.
    ///
    /// # Errors
    /// The file cannot be read or understood, or nothing says which token ends a document.
    pub fn load(choice: &TokenizerChoice) -> Result<Self, TokenizerError> {
        Self::load_ending(choice, Ending::Found)
    }

    /// Loads what was chosen; the token called `end` ends a document, where it is given.
    ///
    /// # Errors
    /// Those of [`Tokenizer::load`], or there is no token of that name.
    pub fn load_ending_with(
        choice: &TokenizerChoice,
        end: Option<&str>,
    ) -> Result<Self, TokenizerError> {
        match (choice, end) {
            (TokenizerChoice::Byte, Some(end)) => {
                Err(TokenizerError::EndOfBytes { token: end.to_owned() })
            }
            (_, end) => Self::load_ending(choice, end.map_or(Ending::Found, Ending::Named)),
        }
    }

    pub(crate) fn load_ending(
        choice: &TokenizerChoice,
        ending: Ending<'_>,
    ) -> Result<Self, TokenizerError> {
        match choice {
            TokenizerChoice::Byte => Ok(Self::Byte),
            TokenizerChoice::File(path) => {
                let parsed = HuggingFace::parse(read_bounded(path)?, path, ending)?;
                Ok(Self::HuggingFace(Box::new(parsed)))
            }
        }
    }

    /// Every id is below this. A model's vocabulary may be larger, never smaller.
    #[must_use]
    pub fn vocab_size(&self) -> u32 {
        match self {
            Self::Byte => BYTE_END + 1,
            Self::HuggingFace(parsed) => parsed.vocabulary,
        }
    }

    /// The token that ends a document.
    #[must_use]
    pub fn end_token(&self) -> u32 {
        match self {
            Self::Byte => BYTE_END,
            Self::HuggingFace(parsed) => parsed.end,
        }
    }

    /// blake3 of the `tokenizer.json` without a byte-order mark, or of the byte tokenizer's name.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        match self {
            Self::Byte => blake3::hash(b"heteroloco byte tokenizer 1").into(),
            Self::HuggingFace(parsed) => blake3::hash(&parsed.json).into(),
        }
    }

    /// Appends the tokens of `text` to `out`, without an end token. Names of special tokens that
    /// stand in the text are text.
    ///
    /// # Errors
    /// The tokenizer has no token for something in the text.
    pub fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<(), TokenizerError> {
        match self {
            Self::Byte => {
                out.extend(text.bytes().map(u32::from));
                Ok(())
            }
            Self::HuggingFace(parsed) => parsed.encode(text, out),
        }
    }

    /// The text of `ids`, without special tokens. Bytes that are not UTF-8 become U+FFFD.
    ///
    /// # Errors
    /// The tokenizer refuses the ids.
    pub fn decode(&self, ids: &[u32]) -> Result<String, TokenizerError> {
        match self {
            Self::Byte => {
                let bytes: Vec<u8> = ids.iter().filter_map(|&id| u8::try_from(id).ok()).collect();
                Ok(String::from_utf8_lossy(&bytes).into_owned())
            }
            Self::HuggingFace(parsed) => parsed
                .pipeline
                .decode(ids, true)
                .map_err(|source| TokenizerError::Decode { tokens: ids.len(), source }),
        }
    }

    /// The files, by name, that Hugging Face transformers loads as this tokenizer
    /// (`PreTrainedTokenizerFast`).
    #[must_use]
    pub fn hugging_face_files(&self) -> Vec<(&'static str, Vec<u8>)> {
        let (json, end_text) = match self {
            Self::Byte => (pretty(&byte_tokenizer_json()), BYTE_END_TEXT),
            Self::HuggingFace(parsed) => (parsed.json.clone(), parsed.end_text.as_str()),
        };
        let config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": end_text,
            "clean_up_tokenization_spaces": false,
        });
        vec![("tokenizer.json", json), ("tokenizer_config.json", pretty(&config))]
    }
}

impl HuggingFace {
    fn parse(json: Vec<u8>, path: &Path, ending: Ending<'_>) -> Result<Self, TokenizerError> {
        let wrong = |source| TokenizerError::Parse { path: path.to_owned(), source };
        let text = std::str::from_utf8(&json).map_err(|error| wrong(error.into()))?;
        let canonical = tokenizers::canonicalize_str(text).map_err(|error| wrong(error.into()))?;
        let pipeline = tokenizers::from_json(&canonical).map_err(wrong)?;
        let value: Value = serde_json::from_str(&canonical).map_err(|error| wrong(error.into()))?;
        let tokens = Tokens::of(&value);
        let highest = tokens.ids.values().max().ok_or_else(|| wrong("it has no tokens".into()))?;
        let vocabulary =
            highest.checked_add(1).ok_or_else(|| wrong("a token id is too large".into()))?;
        let (end_text, end) = end::find(&tokens, ending, path)?;
        drop(tokens);
        Ok(Self { pipeline, json, vocabulary, end, end_text })
    }

    /// The file as it was.
    pub(crate) fn json(&self) -> &[u8] {
        &self.json
    }

    fn encode(&self, text: &str, out: &mut Vec<u32>) -> Result<(), TokenizerError> {
        let options = EncodeOptions {
            add_special_tokens: false,
            encode_special_tokens: true,
            padding: Override::Off,
            truncation: Override::Off,
        };
        let mut tokens = Vec::new();
        self.pipeline
            .encode_into(text, &options, &mut tokens)
            .map_err(|source| TokenizerError::Encode { bytes: text.len(), source })?;
        out.extend(tokens.into_iter().map(PipelineToken::id));
        Ok(())
    }
}

impl fmt::Debug for HuggingFace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HuggingFace")
            .field("vocabulary", &self.vocabulary)
            .field("end", &self.end_text)
            .finish_non_exhaustive()
    }
}

/// A tokenizer's file, without a byte-order mark.
fn read_bounded(path: &Path) -> Result<Vec<u8>, TokenizerError> {
    let unreadable = |source| TokenizerError::Read { path: path.to_owned(), source };
    let size = std::fs::metadata(path).map_err(unreadable)?.len();
    if size > FILE_BYTES_MAX {
        return Err(TokenizerError::TooLarge { path: path.to_owned() });
    }
    let json = std::fs::read(path).map_err(unreadable)?;
    Ok(without_mark(&json).to_vec())
}

/// The byte tokenizer in Hugging Face's words: byte-level BPE over 256 symbols without a merge,
/// with ids chosen so that each symbol's id is its byte.
fn byte_tokenizer_json() -> Value {
    let vocab: BTreeMap<String, u32> =
        (0..=255u8).map(|byte| (byte_symbol(byte).to_string(), u32::from(byte))).collect();
    let byte_level = json!({
        "type": "ByteLevel",
        "add_prefix_space": false,
        "trim_offsets": true,
        "use_regex": false,
    });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [{
            "id": BYTE_END, "content": BYTE_END_TEXT, "single_word": false, "lstrip": false,
            "rstrip": false, "normalized": false, "special": true,
        }],
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": null,
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": false, "vocab": vocab, "merges": [],
        },
    })
}

/// GPT-2's printable stand-in for a byte: itself where it is printable in Latin-1, otherwise the
/// next free character from U+0100 on.
fn byte_symbol(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|&other| !printable(other)).count();
    (0x100..).nth(before).and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn pretty(value: &Value) -> Vec<u8> {
    let mut text = format!("{value:#}").into_bytes();
    text.push(b'\n');
    text
}

#[cfg(test)]
mod tests;
