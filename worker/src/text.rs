//! The run's text as a rank reads it: checked, in the run's order, and read again where it was away
//! for a moment.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use contract::worker::WorkerSpec;
use data::{Check, Corpus, CorpusError, Sampler, SamplerOptions, Split, Tokenizer, patiently};

use crate::error::RunError;

/// Data of up to so many bytes is checked before anything is trained on it, more beside training.
const CHECKED_FIRST: u64 = 256 << 20;

/// A corpus and the order in which the run trains on it.
#[derive(Debug)]
pub struct Text {
    corpus: Arc<Corpus>,
    sampler: Sampler,
    check: Option<Check>,
}

/// Which text, and for which run.
#[derive(Clone, Copy, Debug)]
pub struct TextOptions<'a> {
    /// Folder of the corpus.
    pub folder: &'a Path,
    /// Tokens that the model knows.
    pub vocab_size: u32,
    /// Seed of the run.
    pub seed: u64,
    /// Tokens of a sequence.
    pub sequence_length: u32,
    /// Whether the shards are compared with the index: once on a node suffices.
    pub checks: bool,
    /// Of so many bytes at most before this returns.
    pub checked_first: u64,
}

impl<'a> TextOptions<'a> {
    /// What a rank reads.
    pub fn of(spec: &'a WorkerSpec, rank: u32) -> TextOptions<'a> {
        let ranks = spec.island.ranks.iter().take(rank as usize + 1);
        let nodes: Vec<_> = ranks.map(|rank| &rank.node).collect();
        let is_first = nodes.split_last().is_none_or(|(mine, before)| !before.contains(mine));
        TextOptions {
            folder: &spec.run.data,
            vocab_size: spec.run.model.vocab_size,
            seed: spec.run.seed,
            sequence_length: spec.run.sequence_length,
            checks: is_first,
            checked_first: CHECKED_FIRST,
        }
    }
}

impl Text {
    /// Opens a corpus, and checks its shards or begins to.
    ///
    /// # Errors
    /// It cannot be read, was changed, or does not fit the run.
    pub fn open(options: &TextOptions<'_>) -> Result<Text, RunError> {
        let corpus = patiently(wait, || Corpus::open(options.folder))?;
        corpus.check_vocab(options.vocab_size)?;
        let sampler = Sampler::new(SamplerOptions {
            tokens: corpus.tokens(Split::Train),
            seed: options.seed,
            sequence_length: options.sequence_length,
        })?;
        let corpus = Arc::new(corpus);
        let at_once = corpus.bytes() <= options.checked_first;
        let check = if options.checks && at_once {
            let verify = |shard| patiently(wait, || corpus.verify_shard(shard));
            corpus.shards().try_for_each(verify)?;
            None
        } else if options.checks {
            Some(Check::start(Arc::clone(&corpus), wait)?)
        } else {
            None
        };
        Ok(Text { corpus, sampler, check })
    }

    /// What the check beside the training has found so far.
    ///
    /// # Errors
    /// A shard was changed or cannot be read.
    pub fn look(&self) -> Result<(), CorpusError> {
        self.check.as_ref().map_or(Ok(()), |check| check.result().map(drop))
    }

    /// Samples after which text comes again.
    pub fn windows(&self) -> u64 {
        self.sampler.windows()
    }

    /// Reads the sample at a position of the run's order.
    ///
    /// # Errors
    /// It cannot be read for ten seconds, or holds what is no token.
    pub fn sample(&self, position: u64, out: &mut [u32]) -> Result<(), CorpusError> {
        self.read(Split::Train, self.sampler.sequence(position), out)
    }

    /// Reads tokens from `first` on.
    ///
    /// # Errors
    /// There are not so many; otherwise as [`Text::sample`].
    pub fn read(&self, split: Split, first: u64, out: &mut [u32]) -> Result<(), CorpusError> {
        patiently(wait, || self.corpus.read(split, first, out))
    }

    /// Number of tokens.
    pub fn tokens(&self, split: Split) -> u64 {
        self.corpus.tokens(split)
    }

    /// The tokenizer that made the tokens.
    ///
    /// # Errors
    /// It cannot be read for ten seconds, or is another one.
    pub fn tokenizer(&self) -> Result<Tokenizer, CorpusError> {
        patiently(wait, || self.corpus.tokenizer())
    }
}

fn wait(error: &CorpusError, pause: Duration) {
    tracing::warn!(error = %crate::error::chain(error), ?pause, "Data is read again.");
    std::thread::sleep(pause);
}

#[cfg(test)]
mod nodes;

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::num::NonZeroU64;
    use std::path::PathBuf;

    use data::{PrepareOptions, TokenizerChoice, prepare};
    use tempfile::TempDir;

    use super::*;

    pub(crate) fn corpus() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let input = folder.path().join("in.txt");
        fs::write(&input, "abcdefghijklmnopqrstuvwxyz".repeat(20)).expect("written");
        let out = folder.path().join("out");
        let mut options = PrepareOptions::new(vec![input], TokenizerChoice::Byte, out);
        options.shard_tokens = NonZeroU64::new(200).expect("not zero");
        prepare(&options, &mut |_| {}).expect("prepared");
        (folder, options.out)
    }

    pub(crate) fn options(folder: &Path) -> TextOptions<'_> {
        let (seed, sequence_length) = (7, 16);
        let (checks, checked_first) = (true, CHECKED_FIRST);
        TextOptions { folder, vocab_size: 257, seed, sequence_length, checks, checked_first }
    }

    fn damage(shard: &Path) {
        let mut bytes = fs::read(shard).expect("a shard");
        bytes[20] ^= 1;
        fs::write(shard, bytes).expect("written");
    }

    #[test]
    fn small_data_that_was_changed_is_refused_before_training() {
        let (_folder, out) = corpus();
        Text::open(&options(&out)).expect("whole data");
        damage(&out.join("train-00001.bin"));
        let error = Text::open(&options(&out)).expect_err("damaged data");
        let text = crate::error::chain(&error);
        assert!(text.contains("train-00001.bin") && text.contains("changed"), "{text}");
        let unchecked = TextOptions { checks: false, ..options(&out) };
        assert!(Text::open(&unchecked).expect("another rank checks").look().is_ok());
    }

    #[test]
    fn a_shard_of_large_data_that_was_changed_ends_the_training() {
        let (_folder, out) = corpus();
        damage(&out.join("train-00002.bin"));
        let large = TextOptions { checked_first: 0, ..options(&out) };
        let text = Text::open(&large).expect("not checked yet");
        let error = loop {
            match text.look() {
                Ok(()) => std::thread::yield_now(),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, CorpusError::Hash { .. }), "{error:?}");
        assert!(error.is_final());
    }

    #[test]
    fn samples_follow_the_order_of_the_run() {
        let (_folder, out) = corpus();
        let text = Text::open(&options(&out)).expect("whole data");
        assert_eq!(text.windows(), (text.tokens(Split::Train) - 1) / 16);
        let (mut sample, mut expected) = ([0; 17], [0; 17]);
        text.sample(3, &mut sample).expect("a sample");
        let first = text.sampler.sequence(3);
        text.read(Split::Train, first, &mut expected).expect("tokens");
        assert_eq!(sample, expected);
    }
}
