//! Why data was not prepared.

use std::io;
use std::path::PathBuf;

use crate::corpus::CorpusError;
use crate::tokenizer::TokenizerError;

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
        /// The system's error.
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
        "failed to prepare data: no text found in {files} files{}: give text, or .jsonl, .json or \
         .parquet files with the field `{text_field}` (--text-field names another), or folders of \
         them; --as-text EXT reads files of an extension as text, and a file that is an input \
         itself is read whatever its name",
        in_brackets(left_out)
    )]
    NoText {
        /// Files looked at.
        files: u64,
        /// The field that was looked for.
        text_field: String,
        /// Inputs that were passed over or left out, a sentence each.
        left_out: Vec<String>,
    },
    /// Most of an input would not be read.
    #[error(
        "failed to prepare data: of the {all} bytes of {path}, {lost} would not be read{}; \
         --text-field NAME says which field of records has the text, --as-text EXT reads files of \
         an extension as text, a file that is an input itself is read whatever its name, and \
         --allow-passed-over goes on without what is not read",
        in_brackets(left_out)
    )]
    MostPassedOver {
        /// The input.
        path: PathBuf,
        /// Bytes that are not read.
        lost: u64,
        /// Bytes of all its files.
        all: u64,
        /// Inputs that were passed over or left out, a sentence each.
        left_out: Vec<String>,
    },
    /// The inputs have more files than are read.
    #[error("failed to list the inputs: more than {most} files; join them, or prepare fewer")]
    TooManyFiles {
        /// Files that are read.
        most: usize,
    },
    /// An input that can be read only once is given twice.
    #[error("failed to read input {path}: it is given twice, and can be read only once")]
    StreamTwice {
        /// The input.
        path: PathBuf,
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
        /// The problem with it.
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

/// ` (one; other)`, or nothing.
fn in_brackets(sentences: &[String]) -> String {
    if sentences.is_empty() { String::new() } else { format!(" ({})", sentences.join("; ")) }
}
