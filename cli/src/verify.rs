//! `heteroloco data verify`: whether data is as it was prepared, shard by shard.

use std::fmt::Write as _;
use std::path::Path;

use data::{Corpus, CorpusError};

use crate::show;

/// Data is not as it was prepared: every shard that is not, with why.
#[derive(Debug, thiserror::Error)]
#[error("{}", list(.0))]
pub struct Damaged(Vec<CorpusError>);

/// Reads all of the data in `folder`; what was checked, in a sentence.
///
/// # Errors
/// What is missing, cannot be read or was changed.
pub fn run(folder: &Path) -> Result<String, Damaged> {
    let corpus = Corpus::open(folder).map_err(|error| Damaged(vec![error]))?;
    let tokenizer = corpus.tokenizer().map(drop);
    let shards: Vec<_> = corpus.shards().collect();
    let all = shards.iter().map(|shard| corpus.verify_shard(*shard));
    let bad: Vec<_> = all.chain([tokenizer]).filter_map(Result::err).collect();
    if !bad.is_empty() {
        return Err(Damaged(bad));
    }
    Ok(format!(
        "{}: {} shards, {}, and the tokenizer are as they were prepared",
        folder.display(),
        shards.len(),
        show::bytes(corpus.bytes() as f64),
    ))
}

/// A line for each, with its cause.
fn list(all: &[CorpusError]) -> String {
    let mut text = String::new();
    for (at, error) in all.iter().enumerate() {
        let begin = if at == 0 { "" } else { "\nerror: " };
        // Writing to a String cannot fail.
        let _ = write!(text, "{begin}{error}");
        let mut next = std::error::Error::source(error);
        while let Some(cause) = next {
            let _ = write!(text, ": {cause}");
            next = cause.source();
        }
    }
    text
}
