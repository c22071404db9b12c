//! One pass over the inputs: documents are gathered into batches, encoded on all cores, written in
//! order. What is written depends on the documents alone, not on the number of cores.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::thread;

use crate::Split;
use crate::columns::MAGIC;
use crate::content::Counter;
use crate::documents::{First, LeftOut, ReadError, Unread, read_documents, read_parquet};
use crate::error::PrepareError;
use crate::form::{Kind, form};
use crate::index::SourceIndex;
use crate::inventory::{Inventory, Source};
use crate::passed::{PassedOver, Tally, Why};
use crate::prepare::Progress;
use crate::records::Problem;
use crate::shards::ShardWriter;
use crate::streams::Streams;
use crate::tokenizer::{Tokenizer, TokenizerError};

const BATCH_BYTES: usize = 4 << 20;
const THREADS_MAX: usize = 16;

/// The draw by which documents are chosen, and for what. Each document draws two uniform 64-bit
/// numbers: the first and the second eight bytes of its blake3, little-endian. So equal documents
/// share a fate, and no text is both trained on and held out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules {
    /// A first draw below this is held out.
    pub(crate) validation_below: u64,
    /// A second draw at or above this is left out.
    pub(crate) sample_below: Option<u64>,
    /// No more text than this is taken.
    pub(crate) max_bytes: u64,
}

/// The task of a pass.
pub(crate) struct Task<'a> {
    pub(crate) inventory: &'a Inventory,
    pub(crate) streams: &'a Streams,
    pub(crate) text_field: &'a str,
    pub(crate) tokenizer: &'a Tokenizer,
    pub(crate) rules: Rules,
}

/// The findings of a pass, beside what it wrote.
#[derive(Clone, Debug, Default)]
pub(crate) struct Found {
    pub(crate) source: SourceIndex,
    /// Tallies by input; with what was seen in the files, beside what their names said.
    pub(crate) tallies: Vec<Tally>,
    /// The first file with invalid UTF-8.
    pub(crate) first_invalid: Option<PathBuf>,
    /// Records left out by why: how many, and the first with its file.
    pub(crate) records: BTreeMap<Problem, (u64, PathBuf, First)>,
    /// The first Parquet file without the text's column, and what it has.
    pub(crate) first_without: Option<(PathBuf, String)>,
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
        found: Found { tallies: task.inventory.tallies.clone(), ..Found::default() },
        bytes_done: 0,
        files_done: 0,
        counter: Counter::default(),
    };
    match pass.read_all() {
        Ok(()) | Err(Stop::Full) => {}
        Err(Stop::Failed(error)) => return Err(error),
    }
    pass.report(task.inventory.files(), task.inventory.bytes());
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
    /// Bytes read of the file that is being read.
    counter: Counter,
}

impl Pass<'_> {
    fn read_all(&mut self) -> Result<(), Stop> {
        let task = self.task;
        for source in &task.inventory.sources {
            self.read_file(source)?;
        }
        self.flush()
    }

    fn read_file(&mut self, source: &Source) -> Result<(), Stop> {
        let failed = |source_error| {
            Stop::from(PrepareError::Read { path: source.path.clone(), source: source_error })
        };
        let (task, counter) = (self.task, Counter::default());
        self.counter = Counter::clone(&counter);
        let mut receive = |text: &str| -> Result<(), Stop> {
            self.batch.push(text);
            if self.batch.text.len() >= BATCH_BYTES { self.flush() } else { Ok(()) }
        };
        let read = if is_parquet(source).map_err(failed)? {
            let file = File::open(&source.path).map_err(failed)?;
            read_parquet(file, task.text_field, &mut receive)
        } else {
            let stored = task.streams.open(source).map_err(failed)?;
            let how = (source.kind, task.text_field);
            read_documents(stored, &counter, how, &mut receive)
        };
        match read {
            Ok(left_out) => self.found.count(source, counter.get(), left_out),
            Err(ReadError::Receiver(stop)) => return Err(stop),
            Err(ReadError::Io(error)) => return Err(failed(error)),
        }
        self.counter = Counter::default();
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
        if self.validation.documents() > 0 {
            // The split is as it shall be: there is no second pass.
            self.task.streams.keep_no_more();
        }
        self.report(self.files_done, self.bytes_done + self.counter.get());
        Ok(())
    }

    fn report(&mut self, files_done: u64, bytes_done: u64) {
        (self.progress)(Progress {
            files_done,
            files_total: self.task.inventory.files(),
            bytes_done,
            bytes_total: self.task.inventory.bytes(),
            tokens: self.train.tokens() + self.validation.tokens(),
            documents: self.train.documents() + self.validation.documents(),
        });
    }
}

/// Says whether a file is Parquet by its name, or by its beginning where its name says nothing.
fn is_parquet(source: &Source) -> io::Result<bool> {
    match source.kind {
        Kind::Parquet => Ok(true),
        Kind::Unknown if !source.stream => {
            let mut magic = Vec::new();
            File::open(&source.path)?.take(MAGIC.len() as u64).read_to_end(&mut magic)?;
            Ok(magic == MAGIC)
        }
        _ => Ok(false),
    }
}

impl Found {
    fn count(&mut self, source: &Source, stored: u64, left_out: LeftOut) {
        let tally = &mut self.tallies[source.input];
        // A stream's bytes are known now.
        let bytes = if source.stream { stored } else { source.bytes };
        if source.stream {
            tally.take(bytes);
        }
        let path = || source.path.clone();
        self.source.files += u64::from(left_out.unread.is_none());
        self.source.malformed_lines += left_out.malformed();
        self.source.invalid_utf8 += left_out.invalid_utf8;
        if left_out.invalid_utf8 > 0 {
            self.first_invalid.get_or_insert_with(path);
        }
        tally.lose(bytes, left_out.lost, left_out.seen);
        for (problem, count, first) in left_out.records {
            let entry = self.records.entry(problem).or_insert_with(|| (0, path(), first));
            entry.0 += count;
        }
        let label = || form(source.path.file_name().unwrap_or_default(), &[]).label;
        let (why, stands_for) = match left_out.unread {
            None => return,
            Some(Unread::Binary) => {
                self.source.binary_files += 1;
                (Why::Binary(label()), bytes)
            }
            Some(Unread::LfsPointer(size)) => (Why::LfsPointer, size),
            Some(Unread::NoColumn(what)) => {
                self.first_without.get_or_insert_with(|| (path(), what));
                (Why::NoColumn(label()), bytes)
            }
        };
        tally.pass_over_after_all(why, bytes, stands_for);
    }

    /// The files of all inputs that were passed over.
    pub(crate) fn passed(&self) -> PassedOver {
        let mut all = PassedOver::default();
        for tally in &self.tallies {
            all.extend(tally.passed());
        }
        all
    }

    /// Sentences on what was left out.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        let passed = self.passed();
        if !passed.is_empty() {
            sentences.push(format!("passed over: {passed}"));
        }
        if let Some((path, what)) = &self.first_without {
            sentences.push(format!("{}: {what}; --text-field names the column", path.display()));
        }
        if let Some(path) = &self.first_invalid {
            let count = self.source.invalid_utf8;
            sentences.push(format!(
                "{count} sequences that are not UTF-8 were left out, first in {}",
                path.display()
            ));
        }
        for (problem, (count, path, First { place, detail })) in &self.records {
            let detail = if detail.is_empty() { String::new() } else { format!(" ({detail})") };
            let hint = if *problem == Problem::NoField { "; --text-field names it" } else { "" };
            sentences.push(format!(
                "{count} records were left out because they {problem}{hint}: the first is {place} \
                 of {}{detail}",
                path.display()
            ));
        }
        sentences
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
        let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
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
