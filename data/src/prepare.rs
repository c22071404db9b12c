//! Turns files into a corpus folder.

use std::io;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use crate::Split;
use crate::error::PrepareError;
use crate::index::{
    FILE_NAME, FORMAT, Index, SourceIndex, SplitIndex, TOKENIZER_NAME, TokenizerIndex,
    TokenizerKind, to_bytes,
};
use crate::inventory::{Inventory, Wanted, estimate, is_stream};
use crate::output::{Existing, WorkFolder, existing};
use crate::pass::{self, Found, Rules, Task};
use crate::passed::{PassedOver, Tally};
use crate::ratio::Ratio;
use crate::shards::{ShardWriter, Width};
use crate::streams::Streams;
use crate::tokenizer::{Tokenizer, TokenizerChoice};

/// Tokens of a shard unless told otherwise: 512 MiB at two bytes each.
pub const DEFAULT_SHARD_TOKENS: NonZeroU64 = NonZeroU64::new(256 << 20).expect("not zero");

/// The options of a preparation.
#[derive(Clone, Debug)]
pub struct PrepareOptions {
    /// Files and folders, read in this order; `-` is standard input.
    pub inputs: Vec<PathBuf>,
    /// Makes the tokens.
    pub tokenizer: TokenizerChoice,
    /// The folder to create.
    pub out: PathBuf,
    /// Share of the documents that is held out.
    pub validation: Ratio,
    /// At most so many bytes of text are taken, evenly from all the inputs; the first ones where
    /// an input is a stream.
    pub max_bytes: Option<u64>,
    /// Tokens of a shard.
    pub shard_tokens: NonZeroU64,
    /// The field of JSON objects, and the column of Parquet files, that has the text.
    pub text_field: String,
    /// Extensions, such as `csv`, of files that are read as text whatever they are; `-` is standard
    /// input.
    pub as_text: Vec<String>,
    /// Goes on where most bytes of an input are not read.
    pub allow_passed_over: bool,
    /// The token that ends a document, where the tokenizer's own files do not say, or are wrong.
    pub end_token: Option<String>,
}

impl PrepareOptions {
    /// Options with nothing held out, and all else as the command has it by default.
    #[must_use]
    pub fn new(inputs: Vec<PathBuf>, tokenizer: TokenizerChoice, out: PathBuf) -> Self {
        Self {
            inputs,
            tokenizer,
            out,
            validation: Ratio::ZERO,
            max_bytes: None,
            shard_tokens: DEFAULT_SHARD_TOKENS,
            text_field: "text".to_owned(),
            as_text: Vec::new(),
            allow_passed_over: false,
            end_token: None,
        }
    }
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

/// The figures of a preparation.
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
    /// Records left out: lines of `.jsonl` files, objects of `.json` files, rows of Parquet files.
    pub malformed_lines: u64,
    /// Byte sequences left out for not being UTF-8.
    pub invalid_utf8: u64,
    /// Warnings for the user, a sentence each.
    pub warnings: Vec<String>,
    /// Identifies the corpus, as `Corpus::hash` does.
    pub hash: [u8; 32],
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
    let end = options.end_token.as_deref();
    let tokenizer = Tokenizer::load_ending_with(&options.tokenizer, end);
    let tokenizer = tokenizer.map_err(PrepareError::Tokenizer)?;
    let inventory = take_stock(options)?;
    let work = WorkFolder::create(&options.out).map_err(PrepareError::Write)?;
    let work = work.ok_or_else(|| PrepareError::Busy { path: options.out.clone() })?;
    let streams = Streams::new(work.path(), !options.validation.is_zero());
    let job = Job {
        options,
        tokenizer: &tokenizer,
        work: &work,
        inventory: &inventory,
        streams: &streams,
    };
    let written = job.run(progress)?;
    drop(streams);
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

/// Lists what is to be read, and refuses what is mostly passed over by its names.
fn take_stock(options: &PrepareOptions) -> Result<Inventory, PrepareError> {
    let mut streams: Vec<_> = options.inputs.iter().filter(|path| is_stream(path)).collect();
    streams.sort_unstable();
    if let Some(pair) = streams.windows(2).find(|pair| pair[0] == pair[1]) {
        return Err(PrepareError::StreamTwice { path: pair[0].clone() });
    }
    let as_text: Vec<String> = options.as_text.iter().map(|name| plain_extension(name)).collect();
    let wanted = Wanted { text_field: &options.text_field, as_text: &as_text };
    let inventory = Inventory::of(&options.inputs, wanted)?;
    refuse_mostly_lost(options, &inventory.tallies, |passed| {
        vec![format!("passed over: {passed}")]
    })?;
    Ok(inventory)
}

/// `.CSV` as names of files are compared.
fn plain_extension(written: &str) -> String {
    written.trim_start_matches(['*', '.']).to_lowercase()
}

/// Refuses an input of which most bytes are not read, unless the user wants it so.
fn refuse_mostly_lost(
    options: &PrepareOptions,
    tallies: &[Tally],
    say: impl Fn(&PassedOver) -> Vec<String>,
) -> Result<(), PrepareError> {
    if options.allow_passed_over {
        return Ok(());
    }
    let inputs = options.inputs.iter().zip(tallies);
    for (path, tally) in inputs {
        if let Some((lost, all)) = tally.mostly_lost() {
            let (path, left_out) = (path.clone(), say(tally.passed()));
            return Err(PrepareError::MostPassedOver { path, lost, all, left_out });
        }
    }
    Ok(())
}

struct Job<'a> {
    options: &'a PrepareOptions,
    tokenizer: &'a Tokenizer,
    work: &'a WorkFolder,
    inventory: &'a Inventory,
    streams: &'a Streams,
}

struct Written {
    train: SplitIndex,
    validation: SplitIndex,
    found: Found,
}

impl Job<'_> {
    /// Writes the shards. Where the draw holds nothing out of few documents, the one with the
    /// lowest draw is held out instead.
    fn run(&self, progress: &mut dyn FnMut(Progress)) -> Result<Written, PrepareError> {
        let threshold = self.options.validation.threshold();
        let mut written = self.pass(threshold, progress)?;
        let documents = written.train.documents + written.validation.documents;
        let Some(lowest) = written.found.lowest_draw else {
            return Err(self.no_text(&written.found));
        };
        refuse_mostly_lost(self.options, &written.found.tallies, |_| written.found.sentences())?;
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
        let Self { options, tokenizer, work, inventory, streams } = *self;
        let width = Width::of(tokenizer.vocab_size());
        let writer =
            |split| ShardWriter::new(work.path(), split, width, options.shard_tokens.get());
        let (mut train, mut validation) = (writer(Split::Train), writer(Split::Validation));
        let max_bytes = options.max_bytes.unwrap_or(u64::MAX);
        let sample_below = options.max_bytes.and_then(|most| self.sample_below(most));
        let rules = Rules { validation_below, sample_below, max_bytes };
        let text_field = &options.text_field;
        let task = Task { inventory, streams, text_field, tokenizer, rules };
        let found = pass::run(&task, &mut train, &mut validation, progress)?;
        let train = train.finish().map_err(PrepareError::Write)?;
        let validation = validation.finish().map_err(PrepareError::Write)?;
        Ok(Written { train, validation, found })
    }

    /// Below which draw documents are taken so that `most` bytes come evenly from all the inputs;
    /// `None` where all are, and where it is not known how many there are.
    fn sample_below(&self, most: u64) -> Option<u64> {
        let sources = &self.inventory.sources;
        if sources.iter().any(|source| source.stream) {
            return None;
        }
        let field = &self.options.text_field;
        // A file that cannot be read is refused when its turn comes.
        let bytes = sources.iter().map(|file| estimate(file, field).unwrap_or(file.bytes));
        sample_threshold(most, bytes.fold(0, u64::saturating_add))
    }

    fn no_text(&self, found: &Found) -> PrepareError {
        let text_field = self.options.text_field.clone();
        let files = self.inventory.files() + found.passed().files();
        PrepareError::NoText { files, text_field, left_out: found.sentences() }
    }
}

/// The share of the documents to draw so that `max` bytes come evenly from all `total` of them.
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
        warnings: found.sentences(),
        hash,
    }
}

#[cfg(test)]
mod tests;
