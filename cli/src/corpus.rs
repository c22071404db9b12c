//! The data of a run: prepared by `heteroloco data prepare`, checked by `heteroloco up`.

use std::path::PathBuf;

use data::{Corpus, CorpusError, Split, TokenizerChoice, TokenizerError};
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
    /// What to say of a run whose rounds take more text than there is.
    pub fn note(&self, round_tokens: u64, sequence_length: u32) -> Option<String> {
        let sequences = round_tokens / u64::from(sequence_length).max(1);
        let windows = self.windows;
        (sequences > windows).then(|| {
            format!(
                "a round takes {sequences} sequences and the data has {windows}: text repeats \
                 within a round; prepare more text, or train for fewer steps (innerSteps)"
            )
        })
    }
}

/// Whether a run can train on its data.
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
    Ok(Checked { folder, hash, windows })
}
