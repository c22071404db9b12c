//! One pass over the inputs: documents are gathered into batches, encoded on all cores, written in
//! order. What is written depends on the documents alone, not on the number of cores.

use std::path::{Path, PathBuf};
use std::thread;

use crate::Split;
use crate::documents::{LeftOut, ReadError, read_documents};
use crate::index::SourceIndex;
use crate::prepare::{PrepareError, Progress};
use crate::shards::ShardWriter;
use crate::sources::{Source, sources};
use crate::tokenizer::{Tokenizer, TokenizerError};

const BATCH_BYTES: usize = 4 << 20;
const MAX_THREADS: usize = 16;

/// By which documents are chosen, and for what. Each document draws two uniform 64-bit numbers: the
/// first and the second eight bytes of its blake3, little-endian. So equal documents share a fate,
/// and no text is both trained on and held out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// A first draw below this is held out.
    pub(crate) validation_below: u64,
    /// A second draw at or above this is left out.
    pub(crate) sample_below: Option<u64>,
    /// No more text than this is taken.
    pub(crate) max_bytes: u64,
}

/// What a pass needs to know.
pub(crate) struct Task<'a> {
    pub(crate) inputs: &'a [PathBuf],
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) rules: Rules,
    pub(crate) files_total: u64,
    pub(crate) bytes_total: u64,
}

/// What a pass found, beside what it wrote.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) source: SourceIndex,
    /// The first file with invalid UTF-8, and the first with a malformed line.
    pub(crate) first_invalid: Option<PathBuf>,
    pub(crate) first_malformed: Option<PathBuf>,
    /// The smallest first draw of a document that was taken.
    pub(crate) lowest_draw: Option<u64>,
}

/// Runs the pass. Documents go to `train` and `validation`, progress to `progress`.
pub(crate) fn run(
    task: &Task<'_>,
    train: &mut ShardWriter,
    validation: &mut ShardWriter,
    progress: &mut dyn FnMut(Progress),
) -> Result<Found, PrepareError> {
    let mut pass = Pass {
        task,
        train,
        validation,
        progress,
        batch: Batch::default(),
        found: Found::default(),
        bytes_done: 0,
        files_done: 0,
    };
    match pass.read_all() {
        Ok(()) | Err(Stop::Full) => {}
        Err(Stop::Failed(error)) => return Err(error),
    }
    pass.report(task.files_total, task.bytes_total);
    Ok(pass.found)
}

enum Stop {
    Full,
    Failed(PrepareError),
}

impl From<PrepareError> for Stop {
    fn from(error: PrepareError) -> Self {
        Self::Failed(error)
    }
}

struct Pass<'a> {
    task: &'a Task<'a>,
    train: &'a mut ShardWriter,
    validation: &'a mut ShardWriter,
    progress: &'a mut dyn FnMut(Progress),
    batch: Batch,
    found: Found,
    bytes_done: u64,
    files_done: u64,
}

impl Pass<'_> {
    fn read_all(&mut self) -> Result<(), Stop> {
        let task = self.task;
        for source in sources(task.inputs) {
            self.read_file(&source.map_err(PrepareError::Walk)?)?;
        }
        self.flush()
    }

    fn read_file(&mut self, source: &Source) -> Result<(), Stop> {
        let mut receive = |text: &str| -> Result<(), Stop> {
            self.batch.push(text);
            if self.batch.text.len() >= BATCH_BYTES { self.flush() } else { Ok(()) }
        };
        let left_out = match read_documents(source, &mut receive) {
            Ok(left_out) => left_out,
            Err(ReadError::Receiver(stop)) => return Err(stop),
            Err(ReadError::Io(error)) => {
                return Err(PrepareError::Read { path: source.path.clone(), source: error }.into());
            }
        };
        self.found.count(&source.path, left_out);
        self.files_done += 1;
        self.bytes_done += source.bytes;
        Ok(())
    }

    /// Encodes and writes the batch.
    fn flush(&mut self) -> Result<(), Stop> {
        let batch = std::mem::take(&mut self.batch);
        for encoded in batch.encode(self.task.tokenizer, self.task.rules) {
            let Some(document) = encoded.map_err(PrepareError::Tokenizer)? else { continue };
            let text_bytes = self.found.source.text_bytes + document.bytes;
            if text_bytes > self.task.rules.max_bytes {
                return Err(Stop::Full);
            }
            self.found.source.text_bytes = text_bytes;
            let lowest = self.found.lowest_draw.unwrap_or(u64::MAX);
            self.found.lowest_draw = Some(lowest.min(document.draw));
            let shards = match document.split {
                Split::Train => &mut *self.train,
                Split::Validation => &mut *self.validation,
            };
            shards.write_document(&document.tokens).map_err(PrepareError::Write)?;
        }
        self.report(self.files_done, self.bytes_done);
        Ok(())
    }

    fn report(&mut self, files_done: u64, bytes_done: u64) {
        (self.progress)(Progress {
            files_done,
            files_total: self.task.files_total,
            bytes_done,
            bytes_total: self.task.bytes_total,
            tokens: self.train.tokens() + self.validation.tokens(),
            documents: self.train.documents() + self.validation.documents(),
        });
    }
}

impl Found {
    fn count(&mut self, path: &Path, left_out: LeftOut) {
        let LeftOut { binary, malformed_lines, invalid_utf8 } = left_out;
        self.source.files += u64::from(!binary);
        self.source.binary_files += u64::from(binary);
        self.source.malformed_lines += malformed_lines;
        self.source.invalid_utf8 += invalid_utf8;
        if malformed_lines > 0 {
            self.first_malformed.get_or_insert_with(|| path.to_owned());
        }
        if invalid_utf8 > 0 {
            self.first_invalid.get_or_insert_with(|| path.to_owned());
        }
    }
}

/// Documents that are encoded together.
#[derive(Default)]
struct Batch {
    text: String,
    ends: Vec<usize>,
}

struct Encoded {
    bytes: u64,
    draw: u64,
    split: Split,
    tokens: Vec<u32>,
}

type Outcome = Result<Option<Encoded>, TokenizerError>;

impl Batch {
    fn push(&mut self, document: &str) {
        self.text.push_str(document);
        self.ends.push(self.text.len());
    }

    fn encode(&self, tokenizer: &Tokenizer, rules: Rules) -> Vec<Outcome> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let documents: Vec<&str> =
            starts.zip(&self.ends).map(|(start, &end)| &self.text[start..end]).collect();
        let threads = thread::available_parallelism().map_or(1, usize::from).min(MAX_THREADS);
        let share = documents.len().div_ceil(threads).max(1);
        let encode_all = |documents: &[&str]| -> Vec<Outcome> {
            documents.iter().map(|document| encode(document, tokenizer, rules)).collect()
        };
        let encode_all = &encode_all;
        thread::scope(|scope| {
            let workers: Vec<_> =
                documents.chunks(share).map(|part| scope.spawn(move || encode_all(part))).collect();
            let join = |worker: thread::ScopedJoinHandle<'_, Vec<Outcome>>| match worker.join() {
                Ok(outcomes) => outcomes,
                Err(panic) => std::panic::resume_unwind(panic),
            };
            workers.into_iter().flat_map(join).collect()
        })
    }
}

fn encode(document: &str, tokenizer: &Tokenizer, rules: Rules) -> Outcome {
    let hash = *blake3::hash(document.as_bytes()).as_bytes();
    let (draws, _) = hash.as_chunks::<8>();
    let (draw, sampled) = (u64::from_le_bytes(draws[0]), u64::from_le_bytes(draws[1]));
    if rules.sample_below.is_some_and(|below| sampled >= below) {
        return Ok(None);
    }
    let split = if draw < rules.validation_below { Split::Validation } else { Split::Train };
    let mut tokens = Vec::with_capacity(document.len() / 3);
    tokenizer.encode(document, &mut tokens)?;
    tokens.push(tokenizer.end_token());
    Ok(Some(Encoded { bytes: document.len() as u64, draw, split, tokens }))
}
