//! Reads a corpus folder.
//!
//! Tokens are read at positions of files that stay open; the system's page cache keeps what is hot.
//! That costs one copy more than mapping the files would, and needs no `unsafe`.

mod check;
mod patience;

use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use serde::Deserialize;

use crate::index::{
    FILE_NAME, FORMAT, INDEX_BYTES_MAX, Index, SplitIndex, TOKENIZER_NAME, TokenizerKind,
    shard_name,
};
use crate::tokenizer::{Ending, Tokenizer, TokenizerChoice, TokenizerError};

pub use check::Check;
pub use patience::patiently;

/// Training or validation tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// The tokens that islands train on.
    Train,
    /// The tokens that are held out.
    Validation,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Train => "train",
            Self::Validation => "validation",
        })
    }
}

/// Why a corpus cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A file cannot be opened or read.
    #[error("failed to read {path}: is the folder the output of `heteroloco data prepare`?")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The index is not JSON of the expected form.
    #[error("failed to parse {path}")]
    Parse {
        /// The file.
        path: PathBuf,
        /// The parser's error.
        source: serde_json::Error,
    },
    /// The index contradicts itself.
    #[error("failed to accept {path}: {what}")]
    Inconsistent {
        /// The file.
        path: PathBuf,
        /// The problem.
        what: String,
    },
    /// The folder has another format.
    #[error("failed to open {path}: it has format {found}, this program reads {FORMAT}")]
    Format {
        /// The file.
        path: PathBuf,
        /// The format that it names.
        found: u32,
    },
    /// A shard is shorter or longer than the index says.
    #[error("failed to accept shard {path}: {found} bytes instead of {expected}")]
    Size {
        /// The file.
        path: PathBuf,
        /// By the index.
        expected: u64,
        /// On disk.
        found: u64,
    },
    /// A shard's content is not what was written.
    #[error(
        "failed to verify shard {path}: it was changed since it was prepared (its blake3 is not \
         the one in the index); copy it from another machine, or prepare the data again"
    )]
    Hash {
        /// The file.
        path: PathBuf,
    },
    /// The tokenizer is not the one that made the tokens.
    #[error("failed to match the tokenizer: {path} was prepared with another one")]
    TokenizerMismatch {
        /// The folder.
        path: PathBuf,
    },
    /// The tokenizer's copy cannot be loaded.
    #[error("failed to load the corpus's tokenizer")]
    Tokenizer(#[from] TokenizerError),
    /// The model has fewer tokens than the tokenizer.
    #[error(
        "failed to match model and data: the model's vocabulary of {model} is smaller than the \
         tokenizer's of {tokenizer}: set vocab_size to at least {tokenizer}"
    )]
    VocabTooSmall {
        /// `vocab_size` of the model.
        model: u32,
        /// That of the tokenizer.
        tokenizer: u32,
    },
    /// Tokens beyond the end were asked for.
    #[error("failed to read {split} tokens {first}..{end}: there are {tokens}")]
    Range {
        /// The split that was read.
        split: Split,
        /// First one asked for.
        first: u64,
        /// One past the last.
        end: u64,
        /// How many there are.
        tokens: u64,
    },
    /// A shard holds a token that the tokenizer does not have.
    #[error(
        "failed to read {split} tokens from {first} on: token {token} is not in the vocabulary; \
         `heteroloco data verify` finds the shard that was changed"
    )]
    UnknownToken {
        /// The split that was read.
        split: Split,
        /// First one asked for.
        first: u64,
        /// The token.
        token: u32,
    },
}

impl CorpusError {
    /// Says whether reading the same folder again is in vain. What cannot be read may be there
    /// again later, and what is too short may be under way.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::Read { .. } | Self::Size { .. } => false,
            Self::Parse { source, .. } => !source.is_io() && !source.is_eof(),
            Self::Tokenizer(error) => error.is_final(),
            Self::Inconsistent { .. }
            | Self::Format { .. }
            | Self::Hash { .. }
            | Self::TokenizerMismatch { .. }
            | Self::VocabTooSmall { .. }
            | Self::Range { .. }
            | Self::UnknownToken { .. } => true,
        }
    }
}

/// An open corpus. It may be read from several threads.
#[derive(Debug)]
pub struct Corpus {
    folder: PathBuf,
    index: Index,
    hash: [u8; 32],
    train: Vec<Shard>,
    validation: Vec<Shard>,
}

/// One of a corpus's shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShardId {
    /// The split whose tokens it has.
    pub split: Split,
    /// Its number among those of the split.
    pub number: usize,
}

impl fmt::Display for ShardId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&shard_name(self.split, self.number))
    }
}

/// A shard's file, which is opened again where reading it fails: one that was away, on the network
/// for example, is not the one that was open before.
#[derive(Debug)]
struct Shard(RwLock<File>);

impl Shard {
    fn read(&self, path: &Path, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let first = {
            let file = self.0.read().unwrap_or_else(PoisonError::into_inner);
            file.read_exact_at(bytes, offset)
        };
        first.or_else(|_| {
            let file = File::open(path)?;
            file.read_exact_at(bytes, offset)?;
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = file;
            Ok(())
        })
    }
}

impl Corpus {
    /// Opens the folder and checks that every shard has its size.
    ///
    /// # Errors
    /// Files are missing or not of the size, form or format expected.
    pub fn open(folder: &Path) -> Result<Self, CorpusError> {
        let path = folder.join(FILE_NAME);
        let bytes = read_index(&path)?;
        let index = parse_index(&bytes, &path)?;
        let train = open_shards(folder, &index, Split::Train)?;
        let validation = open_shards(folder, &index, Split::Validation)?;
        let hash = blake3::hash(&bytes).into();
        Ok(Self { folder: folder.to_owned(), index, hash, train, validation })
    }

    /// Identifies the tokens: blake3 of the index, which has the blake3 of every shard.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Every token is below this.
    #[must_use]
    pub fn vocab_size(&self) -> u32 {
        self.index.tokenizer.vocab_size
    }

    /// The token that ends a document.
    #[must_use]
    pub fn end_token(&self) -> u32 {
        self.index.tokenizer.end_token
    }

    /// Number of tokens.
    #[must_use]
    pub fn tokens(&self, split: Split) -> u64 {
        self.split(split).0.tokens
    }

    /// Number of documents.
    #[must_use]
    pub fn documents(&self, split: Split) -> u64 {
        self.split(split).0.documents
    }

    /// Loads the tokenizer that made the tokens.
    ///
    /// # Errors
    /// The copy in the folder cannot be loaded, or is not what made the tokens.
    pub fn tokenizer(&self) -> Result<Tokenizer, CorpusError> {
        let choice = match self.index.tokenizer.kind {
            TokenizerKind::Byte => TokenizerChoice::Byte,
            TokenizerKind::HuggingFace => TokenizerChoice::File(self.folder.join(TOKENIZER_NAME)),
        };
        self.check_tokenizer(&choice)?;
        let ending = Ending::At(self.index.tokenizer.end_token);
        Ok(Tokenizer::load_ending(&choice, ending)?)
    }

    /// Checks that a tokenizer is the one that made the tokens.
    ///
    /// # Errors
    /// It is another one, or cannot be read.
    pub fn check_tokenizer(&self, tokenizer: &TokenizerChoice) -> Result<(), CorpusError> {
        if tokenizer.hash()? == self.index.tokenizer.blake3 {
            return Ok(());
        }
        Err(CorpusError::TokenizerMismatch { path: self.folder.clone() })
    }

    /// Checks that a model of `model` tokens has all of the corpus's.
    ///
    /// # Errors
    /// It has fewer.
    pub fn check_vocab(&self, model: u32) -> Result<(), CorpusError> {
        let tokenizer = self.vocab_size();
        if model >= tokenizer {
            return Ok(());
        }
        Err(CorpusError::VocabTooSmall { model, tokenizer })
    }

    /// Fills `out` with the tokens from `first` on.
    ///
    /// # Errors
    /// There are not so many tokens, a shard cannot be read, or holds what is no token.
    pub fn read(&self, split: Split, first: u64, out: &mut [u32]) -> Result<(), CorpusError> {
        let (index, files) = self.split(split);
        let tokens = index.tokens;
        let end = first.saturating_add(out.len() as u64);
        if end > tokens {
            return Err(CorpusError::Range { split, first, end, tokens });
        }
        let (mut at, mut rest) = (first, &mut *out);
        while !rest.is_empty() {
            let (number, within) = (at / self.index.shard_tokens, at % self.index.shard_tokens);
            let room = self.index.shard_tokens - within;
            let now = usize::try_from(room).map_or(rest.len(), |room| room.min(rest.len()));
            let (piece, later) = rest.split_at_mut(now);
            let number = usize::try_from(number).expect("a shard of a list in memory");
            self.read_shard(split, &files[number], (number, within), piece)?;
            at += now as u64;
            rest = later;
        }
        match out.iter().find(|&&token| token >= self.vocab_size()) {
            Some(&token) => Err(CorpusError::UnknownToken { split, first, token }),
            None => Ok(()),
        }
    }

    /// All shards, those that are trained on first.
    pub fn shards(&self) -> impl Iterator<Item = ShardId> {
        let of = |split| {
            let count = self.split(split).1.len();
            (0..count).map(move |number| ShardId { split, number })
        };
        of(Split::Train).chain(of(Split::Validation))
    }

    /// Bytes of all shards.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        let tokens = self.tokens(Split::Train).saturating_add(self.tokens(Split::Validation));
        tokens.saturating_mul(u64::from(self.index.token_bytes))
    }

    /// Reads a whole shard and compares it with its blake3 in the index.
    ///
    /// # Errors
    /// There is no such shard, it cannot be read, or it has been changed.
    pub fn verify_shard(&self, shard: ShardId) -> Result<(), CorpusError> {
        let ShardId { split, number } = shard;
        let index = self.split(split).0;
        let Some(told) = index.shards.get(number) else {
            let first = (number as u64).saturating_mul(self.index.shard_tokens);
            let tokens = index.tokens;
            return Err(CorpusError::Range { split, first, end: first, tokens });
        };
        let path = self.folder.join(shard_name(split, number));
        let mut hasher = blake3::Hasher::new();
        let read = File::open(&path).and_then(|file| hasher.update_reader(file).map(|_| ()));
        read.map_err(|source| CorpusError::Read { path: path.clone(), source })?;
        let expected = told.tokens.saturating_mul(u64::from(self.index.token_bytes));
        let found = hasher.count();
        if found != expected {
            return Err(CorpusError::Size { path, expected, found });
        }
        if hasher.finalize() != told.blake3 {
            return Err(CorpusError::Hash { path });
        }
        Ok(())
    }

    /// Reads everything and compares it with the blake3 of each shard.
    ///
    /// # Errors
    /// A shard cannot be read or has been changed; the first one is named.
    pub fn verify(&self) -> Result<(), CorpusError> {
        self.shards().try_for_each(|shard| self.verify_shard(shard))
    }

    fn split(&self, split: Split) -> (&SplitIndex, &[Shard]) {
        match split {
            Split::Train => (&self.index.train, &self.train),
            Split::Validation => (&self.index.validation, &self.validation),
        }
    }

    fn read_shard(
        &self,
        split: Split,
        shard: &Shard,
        (number, within): (usize, u64),
        out: &mut [u32],
    ) -> Result<(), CorpusError> {
        let width = self.index.token_bytes;
        let mut bytes = vec![0; out.len() * usize::from(width)];
        let path = self.folder.join(shard_name(split, number));
        shard
            .read(&path, &mut bytes, within * u64::from(width))
            .map_err(|source| CorpusError::Read { path, source })?;
        if width == 2 {
            for (token, bytes) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
                *token = u32::from(u16::from_le_bytes(*bytes));
            }
        } else {
            for (token, bytes) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
                *token = u32::from_le_bytes(*bytes);
            }
        }
        Ok(())
    }
}

fn read_index(path: &Path) -> Result<Vec<u8>, CorpusError> {
    let unreadable = |source| CorpusError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mut bytes = Vec::new();
    file.take(INDEX_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > INDEX_BYTES_MAX {
        let what = format!("it is larger than {INDEX_BYTES_MAX} bytes");
        return Err(CorpusError::Inconsistent { path: path.to_owned(), what });
    }
    Ok(bytes)
}

fn parse_index(bytes: &[u8], path: &Path) -> Result<Index, CorpusError> {
    #[derive(Deserialize)]
    struct Versioned {
        format: u32,
    }
    let wrong = |source| CorpusError::Parse { path: path.to_owned(), source };
    let Versioned { format: found } = serde_json::from_slice(bytes).map_err(wrong)?;
    if found != FORMAT {
        return Err(CorpusError::Format { path: path.to_owned(), found });
    }
    let index: Index = serde_json::from_slice(bytes).map_err(wrong)?;
    match contradiction(&index) {
        Some(what) => Err(CorpusError::Inconsistent { path: path.to_owned(), what }),
        None => Ok(index),
    }
}

/// The contradiction in an index, if it has one.
fn contradiction(index: &Index) -> Option<String> {
    if !matches!(index.token_bytes, 2 | 4) {
        return Some(format!("tokens of {} bytes", index.token_bytes));
    }
    if index.shard_tokens == 0 {
        return Some("shards of no tokens".to_owned());
    }
    if index.tokenizer.end_token >= index.tokenizer.vocab_size {
        return Some("an end token outside the vocabulary".to_owned());
    }
    [&index.train, &index.validation].into_iter().find_map(|split| {
        let full = split.tokens / index.shard_tokens;
        let last = split.tokens % index.shard_tokens;
        let expected = full + u64::from(last > 0);
        let whole = |number| if number < full { index.shard_tokens } else { last };
        let right = split.shards.len() as u64 == expected
            && (0..).zip(&split.shards).all(|(number, shard)| shard.tokens == whole(number));
        (!right).then(|| "shards that do not add up to the tokens".to_owned())
    })
}

fn open_shards(folder: &Path, index: &Index, split: Split) -> Result<Vec<Shard>, CorpusError> {
    let shards = match split {
        Split::Train => &index.train.shards,
        Split::Validation => &index.validation.shards,
    };
    let open = |(number, shard): (usize, &crate::index::ShardIndex)| {
        let path = folder.join(shard_name(split, number));
        let opened = File::open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        match opened {
            Err(source) => Err(CorpusError::Read { path, source }),
            Ok((found, file)) => {
                let expected = shard.tokens.saturating_mul(u64::from(index.token_bytes));
                let size = CorpusError::Size { path, expected, found };
                if found == expected { Ok(Shard(RwLock::new(file))) } else { Err(size) }
            }
        }
    };
    shards.iter().enumerate().map(open).collect()
}

#[cfg(test)]
mod tests;
