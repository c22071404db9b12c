//! The inventory of the inputs: which files are read, how, in which order, and which are passed
//! over and why.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::columns::Column;
use crate::content::{Content, Counter, is_packed};
use crate::error::PrepareError;
use crate::form::{Form, Kind, form};
use crate::passed::{Tally, Why};
use crate::records::{Problem, read_records, shape};

/// Standard input, as inputs name it.
pub(crate) const STANDARD_INPUT: &str = "-";
/// More files are refused.
const FILES_MAX: usize = 16 << 20;
/// A `.json` file's records that are looked at for the text's field.
const PROBED_RECORDS_MAX: u64 = 32;
/// A folder is about its source code where it has this many files of code for each file of records,
/// and no fewer bytes of code. Elsewhere what stands beside records is not the corpus.
const CODE_FOR_RECORDS: usize = 10;
/// Bytes that are unpacked of a file to tell how large its text is.
const ESTIMATED_BYTES: u64 = 1 << 20;

/// Says whether an input can be read only once: standard input, a pipe.
pub(crate) fn is_stream(input: &Path) -> bool {
    let other = |metadata: Metadata| !metadata.is_file() && !metadata.is_dir();
    input.as_os_str() == STANDARD_INPUT || fs::metadata(input).is_ok_and(other)
}

/// The user's wishes about the inputs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// The field of records that has the text.
    pub(crate) text_field: &'a str,
    /// Extensions that are text, in lower case without a dot.
    pub(crate) as_text: &'a [String],
}

/// One file to read.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) kind: Kind,
    /// As it is stored; 0 for a stream.
    pub(crate) bytes: u64,
    /// It can be read only once, from start to end.
    pub(crate) stream: bool,
    /// Position of its input.
    pub(crate) input: usize,
}

/// All that the inputs have.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    pub(crate) sources: Vec<Source>,
    /// Tallies by input.
    pub(crate) tallies: Vec<Tally>,
}

impl Inventory {
    /// Lists the files of the inputs: a file as it was given, a folder's in the order of their
    /// names, recursively.
    pub(crate) fn of(inputs: &[PathBuf], wanted: Wanted<'_>) -> Result<Self, PrepareError> {
        let mut found = Vec::new();
        let mut inventory = Self::default();
        for (input, path) in inputs.iter().enumerate() {
            let mut tally = Tally::default();
            found.extend(of_input(path, input, wanted, &mut tally)?);
            inventory.tallies.push(tally);
            if found.len() > FILES_MAX {
                return Err(PrepareError::TooManyFiles { most: FILES_MAX });
            }
        }
        inventory.choose(found);
        Ok(inventory)
    }

    /// Files to read.
    pub(crate) fn files(&self) -> u64 {
        self.sources.len() as u64
    }

    /// Bytes to read, as they are stored.
    pub(crate) fn bytes(&self) -> u64 {
        self.sources.iter().map(|source| source.bytes).sum()
    }

    fn choose(&mut self, found: Vec<Candidate>) {
        let linked: HashSet<_> =
            found.iter().filter(|file| file.link).map(|file| file.id).collect();
        let read = found.iter().filter(|file| !file.link && file.why.is_none());
        let mut read: HashSet<_> =
            if linked.is_empty() { HashSet::new() } else { read.map(|file| file.id).collect() };
        for file in found {
            let doubled = file.link && file.why.is_none() && !read.insert(file.id);
            // The target of a link is counted with the link, as in Hugging Face's cache, where
            // files are called by their hash.
            let counted_elsewhere = !file.link && linked.contains(&file.id);
            let tally = &mut self.tallies[file.source.input];
            match file.why {
                Some(_) if counted_elsewhere => {}
                None if doubled => tally.pass_over(Why::Doubled, 0),
                Some(why) => tally.pass_over(why, file.source.bytes),
                None => {
                    tally.take(file.source.bytes);
                    self.sources.push(file.source);
                }
            }
        }
    }
}

/// A file, and why it is not read, if it is not.
struct Candidate {
    source: Source,
    why: Option<Why>,
    id: (u64, u64),
    link: bool,
    form: Form,
}

fn of_input(
    path: &Path,
    input: usize,
    wanted: Wanted<'_>,
    tally: &mut Tally,
) -> Result<Vec<Candidate>, PrepareError> {
    if is_stream(path) {
        let form = form(path.file_name().unwrap_or_default(), wanted.as_text);
        let asked = wanted.as_text.iter().any(|name| path.as_os_str() == name.as_str());
        let kind = if asked { Kind::Asked } else { Kind::Unknown };
        let source = Source { path: path.to_owned(), kind, bytes: 0, stream: true, input };
        return Ok(vec![Candidate { source, why: None, id: (0, 0), link: false, form }]);
    }
    let unreadable = |source| PrepareError::Read { path: path.to_owned(), source };
    let metadata = fs::metadata(path).map_err(unreadable)?;
    if metadata.is_dir() {
        return folder(path, input, wanted, tally);
    }
    let mut file = candidate(path, &metadata, input, wanted);
    // A file that is named itself is read, whatever its name.
    file.why = None;
    file.source.kind = match file.form.kind {
        Some(Kind::Json) if !file.form.label.contains(".json") => Kind::Unknown,
        Some(Kind::Json) => Kind::Records,
        kind => kind.unwrap_or(Kind::Unknown),
    };
    Ok(vec![file])
}

fn folder(
    path: &Path,
    input: usize,
    wanted: Wanted<'_>,
    tally: &mut Tally,
) -> Result<Vec<Candidate>, PrepareError> {
    let mut files = Vec::new();
    let mut walk = WalkDir::new(path).sort_by_file_name().into_iter();
    while let Some(entry) = walk.next() {
        let entry = entry.map_err(PrepareError::Walk)?;
        if entry.depth() > 0 && hidden(entry.file_name()) {
            tally.pass_over(Why::Hidden, 0);
            if entry.file_type().is_dir() {
                walk.skip_current_dir();
            }
            continue;
        }
        let link = entry.depth() > 0 && entry.path_is_symlink();
        let metadata = if link {
            fs::metadata(entry.path())
        } else {
            entry.metadata().map_err(io::Error::from)
        };
        match metadata {
            Ok(metadata) if metadata.is_file() => {
                let mut file = candidate(entry.path(), &metadata, input, wanted);
                file.link = link;
                files.push(file);
            }
            // One within a folder may lead anywhere, also back into it.
            Ok(metadata) if metadata.is_dir() && link => tally.pass_over(Why::LinkToFolder, 0),
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => tally.pass_over(Why::Special, 0),
            Err(_) if link => tally.pass_over(Why::BrokenLink, 0),
            Err(source) => {
                return Err(PrepareError::Read { path: entry.path().to_owned(), source });
            }
        }
        if files.len() > FILES_MAX {
            return Err(PrepareError::TooManyFiles { most: FILES_MAX });
        }
    }
    for file in &mut files {
        if file.source.kind == Kind::Json {
            probe(file, wanted.text_field)?;
        }
    }
    leave_packed(&mut files);
    leave_companions(&mut files);
    Ok(files)
}

fn candidate(path: &Path, metadata: &Metadata, input: usize, wanted: Wanted<'_>) -> Candidate {
    let form = form(path.file_name().unwrap_or_default(), wanted.as_text);
    let why = form.kind.is_none().then(|| Why::Extension(form.label.clone()));
    let kind = form.kind.unwrap_or(Kind::Unknown);
    let (path, bytes) = (path.to_owned(), metadata.len());
    let source = Source { path, kind, bytes, stream: false, input };
    Candidate { source, why, id: (metadata.dev(), metadata.ino()), link: false, form }
}

/// Finds out whether a file of unknown form has records with the text's field.
fn probe(file: &mut Candidate, field: &str) -> Result<(), PrepareError> {
    let path = &file.source.path;
    let unreadable = |source| PrepareError::Read { path: path.clone(), source };
    match has_field(path, field) {
        Ok(true) => file.source.kind = Kind::Records,
        Ok(false) => file.why = Some(Why::NoField(file.form.label.clone())),
        Err(error) => return Err(unreadable(error)),
    }
    Ok(())
}

fn has_field(path: &Path, field: &str) -> io::Result<bool> {
    enum Stop {
        Known(bool),
        Failed(io::Error),
    }
    impl From<io::Error> for Stop {
        fn from(error: io::Error) -> Self {
            Self::Failed(error)
        }
    }
    let content = Content::of_file(File::open(path)?)?;
    let mut looked = 0;
    let done = read_records(content.reader, shape(&content.head), field, &mut |record| {
        looked += 1;
        let has = match record.text {
            Ok(_) | Err(Problem::NotText | Problem::HalfPair) => true,
            Err(_) => false,
        };
        if has || looked == PROBED_RECORDS_MAX { Err(Stop::Known(has)) } else { Ok(()) }
    });
    match done {
        Ok(()) => Ok(false),
        Err(Stop::Known(known)) => Ok(known),
        Err(Stop::Failed(error)) => Err(error),
    }
}

/// Passes over packed files that stand beside what they unpack to, as after `gunzip --keep`.
fn leave_packed(files: &mut [Candidate]) {
    let packed = |file: &Candidate| file.why.is_none() && file.form.packed;
    if !files.iter().any(packed) {
        return;
    }
    let read = files.iter().filter(|file| file.why.is_none());
    let read: HashSet<_> = read.map(|file| file.source.path.clone()).collect();
    for file in files.iter_mut().filter(|file| packed(file)) {
        if read.contains(&file.source.path.with_extension("")) {
            file.why = Some(Why::Unpacked(file.form.label.clone()));
        }
    }
}

/// Passes over what is about the data and is not the data: beside records, all text but `.txt`;
/// beside other data, what is called README, LICENSE and the like.
fn leave_companions(files: &mut [Candidate]) {
    let of = |kinds: &[Kind]| {
        let files = files.iter().filter(|file| file.why.is_none());
        let files = files.filter(|file| kinds.contains(&file.source.kind));
        files.fold((0, 0), |(count, bytes), file| (count + 1, bytes + file.source.bytes))
    };
    let (records, record_bytes) = of(&[Kind::Records, Kind::Parquet]);
    let (code, code_bytes) = of(&[Kind::Code]);
    let about_code = code >= CODE_FOR_RECORDS * records && code_bytes >= record_bytes;
    let records = records > 0 && !about_code;
    let other_data = files.iter().any(|file| file.form.other_data) && code < CODE_FOR_RECORDS;
    for file in files.iter_mut().filter(|file| file.why.is_none()) {
        let about = match file.source.kind {
            Kind::Code => records || (other_data && file.form.companion),
            Kind::Plain => (records || other_data) && file.form.companion,
            _ => false,
        };
        if about {
            file.why = Some(Why::BesideRecords(file.form.label.clone()));
        }
    }
}

/// How many bytes of text a file has, about: what it unpacks to.
pub(crate) fn estimate(source: &Source, field: &str) -> io::Result<u64> {
    if source.kind == Kind::Parquet {
        let column = Column::open(File::open(&source.path)?, field)?;
        return Ok(column.map_or(0, |column| column.bytes()));
    }
    let mut magic = Vec::new();
    File::open(&source.path)?.take(4).read_to_end(&mut magic)?;
    if !is_packed(&magic) {
        return Ok(source.bytes);
    }
    let counter = Counter::default();
    let content = Content::open(File::open(&source.path)?, &counter)?;
    let unpacked = io::copy(&mut content.reader.take(ESTIMATED_BYTES), &mut io::sink())?;
    if unpacked < ESTIMATED_BYTES {
        return Ok(unpacked);
    }
    let scaled = u128::from(source.bytes) * u128::from(unpacked) / u128::from(counter.get().max(1));
    Ok(u64::try_from(scaled).unwrap_or(u64::MAX))
}

fn hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().first() == Some(&b'.')
}

#[cfg(test)]
mod tests;
