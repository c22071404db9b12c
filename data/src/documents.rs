//! One file as documents: text in pieces of bounded size, whatever stands in the file.

use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use serde::Deserialize;

use crate::sources::{Kind, Source};

/// A longer text is cut into several documents, each after the last line end that fits.
pub(crate) const DOCUMENT_BYTES: usize = 64 << 10;
/// A longer line of a `.jsonl` file counts as malformed.
const MAX_LINE_BYTES: u64 = 16 << 20;
/// A zero byte this early makes a file binary.
const BINARY_PROBE_BYTES: usize = 8 << 10;

/// What was left out of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    pub(crate) binary: bool,
    pub(crate) malformed_lines: u64,
    pub(crate) invalid_utf8: u64,
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

/// Hands the documents of a file to `receive`, in order, none of them blank.
pub(crate) fn read_documents<E>(
    source: &Source,
    receive: &mut dyn FnMut(&str) -> Result<(), E>,
) -> Result<LeftOut, ReadError<E>> {
    let file = File::open(&source.path)?;
    match source.kind {
        Kind::Text => read_text(file, receive),
        Kind::JsonLines => read_lines(BufReader::with_capacity(DOCUMENT_BYTES, file), receive),
    }
}

fn read_text<E>(
    mut file: impl Read,
    receive: &mut dyn FnMut(&str) -> Result<(), E>,
) -> Result<LeftOut, ReadError<E>> {
    let mut left_out = LeftOut::default();
    let mut buffer = Vec::with_capacity(DOCUMENT_BYTES);
    let mut first = true;
    loop {
        let room = DOCUMENT_BYTES - buffer.len();
        let got = file.by_ref().take(room as u64).read_to_end(&mut buffer)?;
        if first && buffer[..buffer.len().min(BINARY_PROBE_BYTES)].contains(&0) {
            return Ok(LeftOut { binary: true, ..left_out });
        }
        first = false;
        let end = got < room;
        let cut = if end { buffer.len() } else { cut_before(&buffer, buffer.len()) };
        left_out.invalid_utf8 += hand_over(&buffer[..cut], receive)?;
        buffer.drain(..cut);
        if end {
            return Ok(left_out);
        }
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    text: Cow<'a, str>,
}

fn read_lines<E>(
    mut file: impl BufRead,
    receive: &mut dyn FnMut(&str) -> Result<(), E>,
) -> Result<LeftOut, ReadError<E>> {
    let mut left_out = LeftOut::default();
    let mut line = Vec::new();
    loop {
        line.clear();
        let got = file.by_ref().take(MAX_LINE_BYTES).read_until(b'\n', &mut line)?;
        if got == 0 {
            return Ok(left_out);
        }
        if got as u64 == MAX_LINE_BYTES && line.last() != Some(&b'\n') {
            file.skip_until(b'\n')?;
            left_out.malformed_lines += 1;
            continue;
        }
        let (text, invalid) = clean(&line);
        left_out.invalid_utf8 += invalid;
        if text.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<Line<'_>>(&text) {
            Ok(line) => left_out.invalid_utf8 += hand_over_pieces(&line.text, receive)?,
            Err(_) => left_out.malformed_lines += 1,
        }
    }
}

fn hand_over_pieces<E>(
    text: &str,
    receive: &mut dyn FnMut(&str) -> Result<(), E>,
) -> Result<u64, ReadError<E>> {
    let mut rest = text.as_bytes();
    let mut invalid = 0;
    while !rest.is_empty() {
        let fits = rest.len() <= DOCUMENT_BYTES;
        let cut = if fits { rest.len() } else { cut_before(rest, DOCUMENT_BYTES) };
        invalid += hand_over(&rest[..cut], receive)?;
        rest = &rest[cut..];
    }
    Ok(invalid)
}

fn hand_over<E>(
    bytes: &[u8],
    receive: &mut dyn FnMut(&str) -> Result<(), E>,
) -> Result<u64, ReadError<E>> {
    let (text, invalid) = clean(bytes);
    if !text.trim().is_empty() {
        receive(&text).map_err(ReadError::Receiver)?;
    }
    Ok(invalid)
}

/// The text without what is not UTF-8, and how many sequences were left out.
fn clean(bytes: &[u8]) -> (Cow<'_, str>, u64) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        return (Cow::Borrowed(text), 0);
    }
    let mut text = String::with_capacity(bytes.len());
    let mut invalid = 0;
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        invalid += u64::from(!chunk.invalid().is_empty());
    }
    (Cow::Owned(text), invalid)
}

/// Where to cut so that at most `most` bytes stand before: after a line end, otherwise between two
/// characters. Never 0.
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
