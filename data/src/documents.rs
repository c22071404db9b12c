//! One file as documents: text in pieces of bounded size, whatever stands in the file.

use std::fs::File;
use std::io::{self, BufRead, Read};

use crate::columns::{self, Column};
use crate::content::{Content, Counter, clean, is_packed};
use crate::form::{Kind, begins_as_json};
use crate::records::{self, Problem, Record, Shape, read_records, shape};

/// A longer text is cut into several documents, each after the last line end that fits.
pub(crate) const DOCUMENT_BYTES_MAX: usize = 64 << 10;
/// A zero byte this early makes a file binary.
const BINARY_PROBE_BYTES: usize = 8 << 10;
/// The first bytes of a pointer of Git LFS.
const LFS_POINTER: &[u8] = b"version https://git-lfs.github.com/spec/v1\n";

/// Why none of a file is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// It has zero bytes.
    Binary,
    /// It is a pointer of Git LFS to so many bytes.
    LfsPointer(u64),
    /// It is Parquet without the text's column.
    NoColumn(String),
}

/// The first record that was left out for a reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct First {
    /// `line 3`, counted from 1.
    pub(crate) place: String,
    /// More about it; may be empty.
    pub(crate) detail: String,
}

/// Records and texts that were left out of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) unread: Option<Unread>,
    pub(crate) invalid_utf8: u64,
    /// Records by why they were left out: how many, and the first.
    pub(crate) records: Vec<(Problem, u64, First)>,
    /// Bytes of all records, or rows.
    pub(crate) seen: u64,
    /// The bytes of those left out.
    pub(crate) lost: u64,
}

impl LeftOut {
    /// Records left out.
    pub(crate) fn malformed(&self) -> u64 {
        self.records.iter().map(|(_, count, _)| count).sum()
    }

    fn lose(&mut self, problem: Problem, first: impl FnOnce() -> First) {
        match self.records.iter_mut().find(|(known, ..)| *known == problem) {
            Some((_, count, _)) => *count += 1,
            None => self.records.push((problem, 1, first())),
        }
    }

    fn count(&mut self, record: &Record<'_>, shape: Shape, field: &str) {
        self.seen += record.bytes;
        self.invalid_utf8 += record.invalid_utf8;
        let Err(problem) = record.text else { return };
        self.lost += record.bytes;
        let unit = match shape {
            Shape::Lines => "line",
            Shape::Values => "record",
        };
        self.lose(problem, || First {
            place: format!("{unit} {}", record.number),
            detail: detail(record, problem, field),
        });
    }
}

/// The sentence on a record that was left out.
fn detail(record: &Record<'_>, problem: Problem, field: &str) -> String {
    let fields = || {
        let names = records::fields(record.raw).into_iter().map(|name| format!("`{name}`"));
        names.collect::<Vec<_>>().join(", ")
    };
    match problem {
        Problem::NoField => format!("no `{field}`, but {}", fields()),
        Problem::NotText => format!("`{field}` is not a string"),
        _ => String::new(),
    }
}

/// Why reading ended before the end of the file.
#[derive(Debug)]
pub(crate) enum ReadError<E> {
    /// The file cannot be read.
    Io(io::Error),
    /// The receiver of the documents ended it.
    Receiver(E),
}

impl<E> From<io::Error> for ReadError<E> {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Takes a document; an error ends the reading.
pub(crate) type Receive<'a, E> = &'a mut dyn FnMut(&str) -> Result<(), E>;

/// Hands the documents of a Parquet file to `receive`, in order, none of them blank.
pub(crate) fn read_parquet<E>(
    file: File,
    field: &str,
    receive: Receive<'_, E>,
) -> Result<LeftOut, ReadError<E>> {
    let mut left_out = LeftOut::default();
    let head = head_of(&file)?;
    if let Some(bytes) = lfs_pointer(&head) {
        left_out.unread = Some(Unread::LfsPointer(bytes));
        return Ok(left_out);
    }
    if is_packed(&head) {
        let what = "Parquet that is packed once more cannot be read: unpack it";
        return Err(io::Error::other(what).into());
    }
    let column = match Column::open(file, field)? {
        Ok(column) => column,
        Err(columns::NoColumn(what)) => {
            left_out.unread = Some(Unread::NoColumn(what));
            return Ok(left_out);
        }
    };
    let mut number = 0;
    column.read::<ReadError<E>>(&mut |text| {
        number += 1;
        left_out.seen += 1;
        match text {
            Some(text) => left_out.invalid_utf8 += hand_over_pieces(text, receive)?,
            None => {
                left_out.lost += 1;
                left_out.lose(Problem::NotText, || First {
                    place: format!("row {number}"),
                    detail: "null".to_owned(),
                });
            }
        }
        Ok(())
    })?;
    Ok(left_out)
}

/// Hands the documents of any other file to `receive`, in order, none of them blank. `counter`
/// grows with what is read of it.
pub(crate) fn read_documents<E>(
    stored: impl Read,
    counter: &Counter,
    (kind, field): (Kind, &str),
    receive: Receive<'_, E>,
) -> Result<LeftOut, ReadError<E>> {
    let Content { head, reader } = Content::open(stored, counter)?;
    let unread = |why| Ok(LeftOut { unread: Some(why), ..LeftOut::default() });
    if let Some(bytes) = lfs_pointer(&head) {
        return unread(Unread::LfsPointer(bytes));
    }
    if head.starts_with(columns::MAGIC) {
        return Err(io::Error::other(
            "it is Parquet, of which the end is read first: give it as a file, unpacked, whose \
             name ends with .parquet",
        )
        .into());
    }
    match kind {
        Kind::Records | Kind::Json => read_json(reader, &head, field, receive),
        Kind::Plain | Kind::Unknown if begins_as_json(&head) => {
            read_json(reader, &head, field, receive)
        }
        _ if head[..head.len().min(BINARY_PROBE_BYTES)].contains(&0) => unread(Unread::Binary),
        _ => read_text(reader, receive),
    }
}

fn head_of(mut file: &File) -> io::Result<Vec<u8>> {
    use io::Seek as _;
    let mut head = Vec::new();
    file.by_ref().take(256).read_to_end(&mut head)?;
    file.rewind()?;
    Ok(head)
}

/// The bytes that a pointer of Git LFS stands for.
fn lfs_pointer(head: &[u8]) -> Option<u64> {
    let lines = std::str::from_utf8(head.strip_prefix(LFS_POINTER)?).ok()?.lines();
    let size = lines.filter_map(|line| line.strip_prefix("size ")).next()?;
    size.parse().ok()
}

fn read_text<E>(mut file: impl Read, receive: Receive<'_, E>) -> Result<LeftOut, ReadError<E>> {
    let mut left_out = LeftOut::default();
    let mut buffer = Vec::with_capacity(DOCUMENT_BYTES_MAX);
    loop {
        let room = DOCUMENT_BYTES_MAX - buffer.len();
        let got = file.by_ref().take(room as u64).read_to_end(&mut buffer)?;
        let end = got < room;
        let cut = if end { buffer.len() } else { cut_before(&buffer, buffer.len()) };
        left_out.invalid_utf8 += hand_over(&buffer[..cut], receive)?;
        buffer.drain(..cut);
        if end {
            return Ok(left_out);
        }
    }
}

fn read_json<E>(
    reader: impl BufRead,
    head: &[u8],
    field: &str,
    receive: Receive<'_, E>,
) -> Result<LeftOut, ReadError<E>> {
    let mut left_out = LeftOut::default();
    let shape = shape(head);
    read_records::<ReadError<E>>(reader, shape, field, &mut |record| {
        left_out.count(record, shape, field);
        if let Ok(text) = &record.text {
            left_out.invalid_utf8 += hand_over_pieces(text.as_bytes(), receive)?;
        }
        Ok(())
    })?;
    Ok(left_out)
}

fn hand_over_pieces<E>(text: &[u8], receive: Receive<'_, E>) -> Result<u64, ReadError<E>> {
    let mut rest = text;
    let mut invalid = 0;
    while !rest.is_empty() {
        // The cut is the same as in a file, where it is not known whether more follows.
        let fits = rest.len() < DOCUMENT_BYTES_MAX;
        let cut = if fits { rest.len() } else { cut_before(rest, DOCUMENT_BYTES_MAX) };
        invalid += hand_over(&rest[..cut], receive)?;
        rest = &rest[cut..];
    }
    Ok(invalid)
}

fn hand_over<E>(bytes: &[u8], receive: Receive<'_, E>) -> Result<u64, ReadError<E>> {
    let (text, invalid) = clean(bytes);
    if !text.trim().is_empty() {
        receive(&text).map_err(ReadError::Receiver)?;
    }
    Ok(invalid)
}

/// The place to cut at so that at most `most` bytes stand before: after a line end, otherwise
/// between two characters. Never 0.
fn cut_before(bytes: &[u8], most: usize) -> usize {
    let piece = &bytes[..most];
    if let Some(line_end) = piece.iter().rposition(|&byte| byte == b'\n') {
        return line_end + 1;
    }
    let starts_character = |&byte: &u8| byte & 0b1100_0000 != 0b1000_0000;
    let last = piece.iter().rposition(starts_character).unwrap_or(0);
    let incomplete = std::str::from_utf8(&piece[last..]).is_err_and(|e| e.error_len().is_none());
    if incomplete && last > 0 { last } else { most }
}

#[cfg(test)]
mod tests;
