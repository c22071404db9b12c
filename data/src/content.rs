//! A file's bytes as text sees them: unpacked, without a byte-order mark, in UTF-8. Everything
//! streams; what a file is packed with is seen by its first bytes, whatever its name.

use std::borrow::Cow;
use std::cell::Cell;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::rc::Rc;

use flate2::read::MultiGzDecoder;

/// How much of a file is looked at before it is read.
pub(crate) const HEAD_BYTES: usize = 64 << 10;
/// The size to which a packed file may expand, whatever its own size is.
const EXPANDED_BYTES_FREE: u64 = 1 << 30;
/// Beyond that, it may expand to so many times its size.
const EXPANSION_MAX: u64 = 1024;
/// zstd's longest window, 2 GiB: `zstd --long=31` makes such files.
const ZSTD_WINDOW_LOG_MAX: u32 = 31;
const UTF8_MARK: &[u8] = b"\xef\xbb\xbf";

/// A file's content, opened.
pub(crate) struct Content<'a> {
    /// The first [`HEAD_BYTES`], or all there is.
    pub(crate) head: Vec<u8>,
    /// All of it, from the start.
    pub(crate) reader: Box<dyn BufRead + 'a>,
}

/// Bytes read of a file as it is stored.
pub(crate) type Counter = Rc<Cell<u64>>;

impl<'a> Content<'a> {
    /// Opens what `stored` has; `counter` grows with what is read of it.
    pub(crate) fn open(stored: impl Read + 'a, counter: &Counter) -> io::Result<Self> {
        let stored = Counted { inner: stored, bytes: Rc::clone(counter) };
        let (magic, stored) = peek(stored, 4)?;
        let unpacked: Box<dyn Read + 'a> = match packing(&magic) {
            Packing::None => Box::new(stored),
            Packing::Gzip => Box::new(Expanded::new(MultiGzDecoder::new(stored), counter)),
            Packing::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::new(stored)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(Expanded::new(decoder, counter))
            }
        };
        let (mark, unpacked) = peek(unpacked, UTF8_MARK.len())?;
        let text: Box<dyn Read + 'a> = match mark[..] {
            [0xef, 0xbb, 0xbf] => {
                let mut unpacked = unpacked;
                unpacked.read_exact(&mut [0; UTF8_MARK.len()])?;
                Box::new(unpacked)
            }
            [0xff, 0xfe, ..] => Box::new(Utf16::new(unpacked, u16::from_le_bytes)),
            [0xfe, 0xff, ..] => Box::new(Utf16::new(unpacked, u16::from_be_bytes)),
            _ => Box::new(unpacked),
        };
        let (head, text) = peek(text, HEAD_BYTES)?;
        Ok(Self { head, reader: Box::new(BufReader::with_capacity(HEAD_BYTES, text)) })
    }

    /// Opens a file, which may not change meanwhile.
    pub(crate) fn of_file(file: File) -> io::Result<Content<'static>> {
        Content::open(file, &Counter::default())
    }
}

/// UTF-8 without a byte-order mark at its beginning.
#[must_use]
pub fn without_mark(text: &[u8]) -> &[u8] {
    text.strip_prefix(UTF8_MARK).unwrap_or(text)
}

/// The text without what is not UTF-8, and how many sequences were left out.
pub(crate) fn clean(bytes: &[u8]) -> (Cow<'_, str>, u64) {
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

/// The first `most` bytes, and a reader that still has them.
fn peek<R: Read>(mut reader: R, most: usize) -> io::Result<(Vec<u8>, impl Read)> {
    let mut head = Vec::with_capacity(most);
    reader.by_ref().take(most as u64).read_to_end(&mut head)?;
    let again = Cursor::new(head.clone()).chain(reader);
    Ok((head, again))
}

/// Says whether a file with this beginning is unpacked when it is opened.
pub(crate) fn is_packed(head: &[u8]) -> bool {
    !matches!(packing(&head[..head.len().min(4)]), Packing::None)
}

enum Packing {
    None,
    Gzip,
    Zstd,
}

/// None of these beginnings is UTF-8 text.
fn packing(magic: &[u8]) -> Packing {
    match magic {
        [0x1f, 0x8b, ..] => Packing::Gzip,
        // A frame, or one to skip, with which files from several threads begin.
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Packing::Zstd,
        _ => Packing::None,
    }
}

struct Counted<R> {
    inner: R,
    bytes: Counter,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.bytes.set(self.bytes.get() + got as u64);
        Ok(got)
    }
}

/// Refuses to expand without end.
struct Expanded<R> {
    inner: R,
    stored: Counter,
    bytes: u64,
}

impl<R> Expanded<R> {
    fn new(inner: R, stored: &Counter) -> Self {
        Self { inner, stored: Rc::clone(stored), bytes: 0 }
    }
}

impl<R: Read> Read for Expanded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.inner.read(buffer)?;
        self.bytes += got as u64;
        if self.bytes > EXPANDED_BYTES_FREE && self.bytes / EXPANSION_MAX > self.stored.get() {
            return Err(io::Error::other(format!(
                "it expands to more than {EXPANSION_MAX} times its size, as text does not; if it \
                 is right, unpack it and give it unpacked"
            )));
        }
        Ok(got)
    }
}

/// UTF-16 as UTF-8. Half a pair of surrogates becomes a byte that is not UTF-8, and is counted as
/// any other.
struct Utf16<R> {
    inner: R,
    unit: fn([u8; 2]) -> u16,
    units: Vec<u16>,
    odd: Option<u8>,
    ready: Cursor<Vec<u8>>,
    begun: bool,
}

impl<R: Read> Utf16<R> {
    fn new(inner: R, unit: fn([u8; 2]) -> u16) -> Self {
        let (units, ready) = (Vec::new(), Cursor::default());
        Self { inner, unit, units, odd: None, ready, begun: false }
    }

    /// Decodes some more; nothing is ready afterwards at the end alone.
    fn more(&mut self) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(HEAD_BYTES);
        bytes.extend(self.odd.take());
        let room = HEAD_BYTES - bytes.len();
        let end = self.inner.by_ref().take(room as u64).read_to_end(&mut bytes)? < room;
        let (pairs, odd) = bytes.as_chunks::<2>();
        self.units.extend(pairs.iter().map(|&pair| (self.unit)(pair)));
        self.odd = odd.first().copied();
        // The first half of a pair waits for the second.
        let waits = !end && self.units.last().is_some_and(|unit| (0xd800..0xdc00).contains(unit));
        let kept = if waits { self.units.pop() } else { None };
        let mut text = Vec::with_capacity(self.units.len() * 2);
        for decoded in char::decode_utf16(self.units.drain(..)) {
            match decoded {
                Ok('\u{feff}') if !self.begun => {}
                Ok(character) => {
                    text.extend(character.encode_utf8(&mut [0; 4]).as_bytes());
                }
                Err(_) => text.push(0xff),
            }
            self.begun = true;
        }
        if end && self.odd.take().is_some() {
            text.push(0xff);
        }
        self.units.extend(kept);
        self.ready = Cursor::new(text);
        Ok(())
    }
}

impl<R: Read> Read for Utf16<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.ready.read(buffer)?;
        if got > 0 || buffer.is_empty() {
            return Ok(got);
        }
        self.more()?;
        self.ready.read(buffer)
    }
}

#[cfg(test)]
mod tests;
