//! The data of a run: prepared by `heteroloco data prepare`, checked by `heteroloco up`.

use std::path::PathBuf;

use data::{Corpus, CorpusError, HeldOut, Split, TokenizerChoice, TokenizerError};
use plan::request;
use plan::spec::RunSpec;

/// A data folder that fits a run.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The folder, absolute and without links.
    pub folder: PathBuf,
    /// Hash of its index, hexadecimal.
    pub hash: String,
    /// Sequences after which the run's text comes again.
    pub windows: u64,
    /// Tokens that are held out.
    pub held_out: u64,
}

/// A data folder does not fit a run.
#[derive(Debug, thiserror::Error)]
pub enum CorpusRefused {
    /// It is not a folder made by `heteroloco data prepare`, or tokenised otherwise.
    #[error("failed to use the data in {}", folder.display())]
    Corpus {
        /// The folder.
        folder: PathBuf,
        /// Why not.
        source: CorpusError,
    },
    /// The tokenizer that the run names cannot be read.
    #[error("failed to read the run's tokenizer")]
    Tokenizer(#[source] TokenizerError),
    /// It has too little text to train on.
    #[error(
        "failed to use the data in {}: it has {tokens} training tokens, and one sequence of the \
         run takes {needed}; prepare more text with `heteroloco data prepare`",
        folder.display()
    )]
    TooShort {
        /// The folder.
        folder: PathBuf,
        /// Training tokens that it has.
        tokens: u64,
        /// Tokens of a sequence and its target.
        needed: u64,
    },
}

impl Checked {
    /// Warnings about a run whose rounds take so many tokens, a sentence each.
    pub fn notes(&self, run: &RunSpec, round_tokens: u64) -> Vec<String> {
        let notes = [self.repeats(run, round_tokens), self.few_held_out(run)];
        notes.into_iter().flatten().collect()
    }

    /// Says whether anything can be evaluated.
    pub fn is_evaluated(&self, run: &RunSpec) -> bool {
        self.evaluated(run) > 0
    }

    /// A round takes more text than there is.
    fn repeats(&self, run: &RunSpec, round_tokens: u64) -> Option<String> {
        let sequences = round_tokens / u64::from(run.sequence_length).max(1);
        let windows = self.windows;
        (sequences > windows).then(|| {
            format!(
                "a round takes {sequences} sequences and the data has {windows}: text repeats \
                 within a round; prepare more text, or train for fewer steps (innerSteps)"
            )
        })
    }

    /// Less is held out than the run is to be evaluated on.
    fn few_held_out(&self, run: &RunSpec) -> Option<String> {
        let (tokens, length) = (self.held_out, run.sequence_length);
        let (asked, evaluated) = (run.evaluation.sequences as usize, self.evaluated(run));
        let more = "prepare the data with more text or a larger --validation";
        match evaluated {
            0 => Some(format!(
                "nothing is evaluated: the data has {tokens} held-out tokens, and one sequence of \
                 the run takes {}; {more}, or set a smaller batch.sequenceLength",
                u64::from(length) + 1
            )),
            some if some < asked => Some(format!(
                "held-out loss is measured on {some} sequences in place of {asked}: the data has \
                 {tokens} held-out tokens; {more}"
            )),
            _ => None,
        }
    }

    /// Sequences that a run is evaluated on.
    fn evaluated(&self, run: &RunSpec) -> usize {
        let held_out = HeldOut::new(self.held_out, run.sequence_length, run.evaluation.sequences);
        held_out.map_or(0, |held_out| held_out.sequences().len())
    }
}

/// Checks that a run can train on its data.
///
/// # Errors
/// When it cannot; the sentence says what to change.
pub fn check(run: &RunSpec, tokenizer: &request::Tokenizer) -> Result<Checked, CorpusRefused> {
    let folder = run.data.canonicalize().or_else(|_| std::path::absolute(&run.data));
    let folder = folder.unwrap_or_else(|_| run.data.clone());
    let refused = |source| CorpusRefused::Corpus { folder: folder.clone(), source };
    let choice = match tokenizer {
        request::Tokenizer::Byte => TokenizerChoice::Byte,
        request::Tokenizer::File(path) => TokenizerChoice::File(path.clone()),
    };
    let corpus = Corpus::open(&folder).map_err(refused)?;
    corpus.check_tokenizer(&choice).map_err(|error| match error {
        CorpusError::Tokenizer(source) => CorpusRefused::Tokenizer(source),
        other => refused(other),
    })?;
    corpus.check_vocab(run.model.vocab_size).map_err(refused)?;
    let (tokens, needed) = (corpus.tokens(Split::Train), u64::from(run.sequence_length) + 1);
    if tokens < needed {
        return Err(CorpusRefused::TooShort { folder, tokens, needed });
    }
    let hash = corpus.hash().iter().map(|byte| format!("{byte:02x}")).collect();
    let windows = (tokens - 1) / u64::from(run.sequence_length).max(1);
    Ok(Checked { folder, hash, windows, held_out: corpus.tokens(Split::Validation) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_too_short_for_what_the_run_does_with_it_is_said() {
        let files = [concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/quickstart.yaml").into()];
        let run = crate::manifests::load(&files, &[], None).unwrap().plan.run;
        assert_eq!((run.sequence_length, run.evaluation.sequences), (256, 32));
        let notes = |windows: u64, held_out: u64| {
            let checked =
                Checked { folder: PathBuf::new(), hash: String::new(), windows, held_out };
            assert_eq!(checked.is_evaluated(&run), held_out > 256, "{held_out}");
            checked.notes(&run, 25_600)
        };
        assert_eq!(notes(100, 32 * 256 + 1), [""; 0]);
        let [note] = &notes(99, 1 << 20)[..] else { panic!("one note") };
        assert!(note.starts_with("a round takes 100 sequences and the data has 99:"), "{note}");
        let [note] = &notes(100, 256)[..] else { panic!("one note") };
        let expected = "nothing is evaluated: the data has 256 held-out tokens, and one sequence \
                        of the run takes 257; ";
        assert!(note.starts_with(expected), "{note}");
        let [note] = &notes(100, 513)[..] else { panic!("one note") };
        assert!(note.contains("is measured on 2 sequences in place of 32"), "{note}");
    }
}
