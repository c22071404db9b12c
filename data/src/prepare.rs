//! Turns files into a corpus folder.

use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use crate::Split;
use crate::corpus::CorpusError;
use crate::index::{
    FILE_NAME, FORMAT, Index, SourceIndex, SplitIndex, TOKENIZER_NAME, TokenizerIndex,
    TokenizerKind, to_bytes,
};
use crate::output::{Existing, WorkFolder, existing};
use crate::pass::{self, Found, Rules, Task};
use crate::ratio::Ratio;
use crate::shards::{ShardWriter, Width};
use crate::sources::{check_input, sources};
use crate::tokenizer::{Tokenizer, TokenizerChoice, TokenizerError};

/// Tokens of a shard unless told otherwise: 512 MiB at two bytes each.
pub const DEFAULT_SHARD_TOKENS: NonZeroU64 = NonZeroU64::new(256 << 20).expect("not zero");

/// What to prepare.
#[derive(Clone, Debug)]
pub struct PrepareOptions {
    /// Files and folders, read in this order.
    pub inputs: Vec<PathBuf>,
    /// Makes the tokens.
    pub tokenizer: TokenizerChoice,
    /// The folder to create.
    pub out: PathBuf,
    /// Share of the documents that is held out.
    pub validation: Ratio,
    /// At most so many bytes of text are taken, evenly from all the inputs.
    pub max_bytes: Option<u64>,
    /// Tokens of a shard.
    pub shard_tokens: NonZeroU64,
}

/// How far the preparation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Files read.
    pub files_done: u64,
    /// Files to read.
    pub files_total: u64,
    /// Bytes of files read.
    pub bytes_done: u64,
    /// Bytes of files to read.
    pub bytes_total: u64,
    /// Tokens written.
    pub tokens: u64,
    /// Documents written.
    pub documents: u64,
}

/// What was prepared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrepareSummary {
    /// The same corpus was there already and was left as it is.
    pub reused: bool,
    /// Files read, binary ones not counted.
    pub files: u64,
    /// Bytes of text that became tokens.
    pub text_bytes: u64,
    /// Documents to train on.
    pub train_documents: u64,
    /// Tokens to train on, end tokens included.
    pub train_tokens: u64,
    /// Documents held out.
    pub validation_documents: u64,
    /// Tokens held out, end tokens included.
    pub validation_tokens: u64,
    /// Shards written.
    pub shards: u64,
    /// Files skipped for being binary.
    pub binary_files: u64,
    /// Lines of `.jsonl` files skipped.
    pub malformed_lines: u64,
    /// Byte sequences left out for not being UTF-8.
    pub invalid_utf8: u64,
    /// What the user should know, a sentence each.
    pub warnings: Vec<String>,
    /// Identifies the corpus, as `Corpus::hash` does.
    pub hash: [u8; 32],
}

/// Why nothing was prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// The tokenizer cannot be loaded, or cannot encode a document.
    #[error("failed to prepare data: the tokenizer cannot be used")]
    Tokenizer(#[source] TokenizerError),
    /// An input or a file of it cannot be read.
    #[error("failed to read input {path}")]
    Read {
        /// The input.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder cannot be listed.
    #[error("failed to list the inputs")]
    Walk(#[source] walkdir::Error),
    /// The output cannot be written.
    #[error("failed to write the corpus")]
    Write(#[source] io::Error),
    /// There is nothing to read.
    #[error(
        "failed to prepare data: no text found in {files} files: give text files, .jsonl files \
         with the field `text`, or folders of them"
    )]
    NoText {
        /// Files looked at.
        files: u64,
    },
    /// All there is would be held out, or a single document cannot be divided.
    #[error(
        "failed to divide {documents} documents into training and validation: give more data, or \
         change the share that is held out"
    )]
    CannotDivide {
        /// Documents found.
        documents: u64,
    },
    /// Another corpus stands there.
    #[error(
        "failed to create {path}: another corpus stands there, and these inputs and options give a \
         different one: remove it or choose another folder"
    )]
    OtherCorpus {
        /// The output folder.
        path: PathBuf,
    },
    /// A damaged corpus stands there.
    #[error("failed to create {path}: a damaged corpus stands there: remove it")]
    DamagedCorpus {
        /// The output folder.
        path: PathBuf,
        /// What is wrong with it.
        source: CorpusError,
    },
    /// Something else stands there.
    #[error("failed to create {path}: it exists and is not a corpus")]
    Occupied {
        /// The output folder.
        path: PathBuf,
    },
    /// Another process prepares the same output.
    #[error("failed to create {path}: another process is preparing it")]
    Busy {
        /// The output folder.
        path: PathBuf,
    },
}

/// Prepares a corpus. The same inputs and options give the same bytes, on any machine. The folder
/// appears complete or not at all; one that is there already with the same content is kept.
///
/// # Errors
/// See [`PrepareError`]; the output is then as it was.
pub fn prepare(
    options: &PrepareOptions,
    progress: &mut dyn FnMut(Progress),
) -> Result<PrepareSummary, PrepareError> {
    let present = refuse_foreign(&options.out)?;
    let tokenizer = Tokenizer::load(&options.tokenizer).map_err(PrepareError::Tokenizer)?;
    let (files_total, bytes_total) = measure(&options.inputs)?;
    let work = WorkFolder::create(&options.out).map_err(PrepareError::Write)?;
    let work = work.ok_or_else(|| PrepareError::Busy { path: options.out.clone() })?;
    let mut job = Job { options, tokenizer: &tokenizer, work: &work, files_total, bytes_total };
    let written = job.run(progress)?;
    let index = index(options, &tokenizer, &written);
    let bytes = to_bytes(&index);
    let hash = blake3::hash(&bytes).into();
    let reused = present.is_some();
    match present {
        Some(present) if present == hash => {}
        Some(_) => return Err(PrepareError::OtherCorpus { path: options.out.clone() }),
        None => publish(work, &options.out, &tokenizer, &bytes).map_err(PrepareError::Write)?,
    }
    Ok(summary(reused, hash, &index, &written.found))
}

/// Hash of the corpus that stands at `out`, if any; anything else but an empty folder is refused.
fn refuse_foreign(out: &Path) -> Result<Option<[u8; 32]>, PrepareError> {
    let path = out.to_owned();
    match existing(out) {
        Ok(Existing::Nothing) => Ok(None),
        Ok(Existing::Corpus(corpus)) => Ok(Some(corpus.hash())),
        Ok(Existing::Damaged(source)) => Err(PrepareError::DamagedCorpus { path, source }),
        Ok(Existing::Other) => Err(PrepareError::Occupied { path }),
        Err(error) => Err(PrepareError::Write(error)),
    }
}

/// Files and bytes to read.
fn measure(inputs: &[PathBuf]) -> Result<(u64, u64), PrepareError> {
    for input in inputs {
        check_input(input).map_err(|source| PrepareError::Read { path: input.clone(), source })?;
    }
    sources(inputs).try_fold((0, 0u64), |(files, bytes), source| {
        let source = source.map_err(PrepareError::Walk)?;
        Ok((files + 1, bytes.saturating_add(source.bytes)))
    })
}

struct Job<'a> {
    options: &'a PrepareOptions,
    tokenizer: &'a Tokenizer,
    work: &'a WorkFolder,
    files_total: u64,
    bytes_total: u64,
}

struct Written {
    train: SplitIndex,
    validation: SplitIndex,
    found: Found,
}

impl Job<'_> {
    /// Writes the shards. Where the draw holds nothing out of few documents, the one with the
    /// lowest draw is held out instead.
    fn run(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<Written, PrepareError> {
        let threshold = self.options.validation.threshold();
        let mut written = self.pass(threshold, progress)?;
        let documents = written.train.documents + written.validation.documents;
        let Some(lowest) = written.found.lowest_draw else {
            return Err(PrepareError::NoText { files: self.files_total });
        };
        if !self.options.validation.is_zero() && written.validation.documents == 0 {
            self.work.clear().map_err(PrepareError::Write)?;
            written = self.pass(lowest.saturating_add(1), progress)?;
        }
        if written.train.documents == 0 {
            return Err(PrepareError::CannotDivide { documents });
        }
        Ok(written)
    }

    fn pass(
        &self,
        validation_below: u64,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Written, PrepareError> {
        let Self { options, tokenizer, work, files_total, bytes_total } = *self;
        let width = Width::of(tokenizer.vocab_size());
        let writer =
            |split| ShardWriter::new(work.path(), split, width, options.shard_tokens.get());
        let (mut train, mut validation) = (writer(Split::Train), writer(Split::Validation));
        let max_bytes = options.max_bytes.unwrap_or(u64::MAX);
        let sample_below = sample_threshold(max_bytes, bytes_total);
        let rules = Rules { validation_below, sample_below, max_bytes };
        let task = Task { inputs: &options.inputs, tokenizer, rules, files_total, bytes_total };
        let found = pass::run(&task, &mut train, &mut validation, progress)?;
        let train = train.finish().map_err(PrepareError::Write)?;
        let validation = validation.finish().map_err(PrepareError::Write)?;
        Ok(Written { train, validation, found })
    }
}

/// Which share of the documents to draw so that `max` bytes come evenly from all `total` of them.
fn sample_threshold(max: u64, total: u64) -> Option<u64> {
    let scaled = (u128::from(max) << 64).checked_div(u128::from(total))?;
    u64::try_from(scaled).ok()
}

fn index(options: &PrepareOptions, tokenizer: &Tokenizer, written: &Written) -> Index {
    Index {
        format: FORMAT,
        tokenizer: TokenizerIndex {
            kind: match tokenizer {
                Tokenizer::Byte => TokenizerKind::Byte,
                Tokenizer::HuggingFace(_) => TokenizerKind::HuggingFace,
            },
            vocab_size: tokenizer.vocab_size(),
            end_token: tokenizer.end_token(),
            blake3: tokenizer.hash(),
        },
        token_bytes: Width::of(tokenizer.vocab_size()).bytes(),
        shard_tokens: options.shard_tokens.get(),
        train: written.train.clone(),
        validation: written.validation.clone(),
        source: written.found.source.clone(),
    }
}

fn publish(work: WorkFolder, out: &Path, tokenizer: &Tokenizer, index: &[u8]) -> io::Result<()> {
    if let Tokenizer::HuggingFace(parsed) = tokenizer {
        work.write(TOKENIZER_NAME, parsed.json())?;
    }
    work.write(FILE_NAME, index)?;
    work.publish(out)
}

fn summary(reused: bool, hash: [u8; 32], index: &Index, found: &Found) -> PrepareSummary {
    let SourceIndex { files, text_bytes, binary_files, malformed_lines, invalid_utf8 } =
        index.source;
    let warning = |count: u64, first: &Option<PathBuf>, what: &str| {
        let first = first.as_ref().map(|path| format!(", first in {}", path.display()));
        (count > 0).then(|| format!("{count} {what} left out{}", first.unwrap_or_default()))
    };
    let warnings = [
        warning(invalid_utf8, &found.first_invalid, "sequences that are not UTF-8 were"),
        warning(malformed_lines, &found.first_malformed, "malformed .jsonl lines were"),
        warning(binary_files, &None, "binary files were"),
    ];
    PrepareSummary {
        reused,
        files,
        text_bytes,
        train_documents: index.train.documents,
        train_tokens: index.train.tokens,
        validation_documents: index.validation.documents,
        validation_tokens: index.validation.tokens,
        shards: (index.train.shards.len() + index.validation.shards.len()) as u64,
        binary_files,
        malformed_lines,
        invalid_utf8,
        warnings: warnings.into_iter().flatten().collect(),
        hash,
    }
}

#[cfg(test)]
mod tests;
