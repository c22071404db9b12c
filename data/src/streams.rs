//! Opens files, and streams, which can be read only once: standard input and pipes. What was read
//! of a stream is kept on disk until it is sure that it is not read again.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek as _, Write as _};
use std::path::{Path, PathBuf};

use crate::inventory::{STANDARD_INPUT, Source};

/// Opens the sources of a preparation.
pub(crate) struct Streams {
    folder: PathBuf,
    keep: Cell<bool>,
    /// Copies of the streams that were read, by the position of their inputs.
    kept: RefCell<BTreeMap<usize, File>>,
}

impl Streams {
    /// Streams that are kept in `folder` if they may be read again.
    pub(crate) fn new(folder: &Path, keep: bool) -> Self {
        let (folder, kept) = (folder.to_owned(), RefCell::default());
        Self { folder, keep: Cell::new(keep), kept }
    }

    /// No source is opened again.
    pub(crate) fn keep_no_more(&self) {
        self.keep.set(false);
    }

    /// Opens a source; a stream that was read before, from its start.
    pub(crate) fn open(&self, source: &Source) -> io::Result<Box<dyn Read + '_>> {
        if !source.stream {
            return Ok(Box::new(File::open(&source.path)?));
        }
        if let Some(kept) = self.kept.borrow().get(&source.input) {
            let mut again = kept.try_clone()?;
            again.rewind()?;
            return Ok(Box::new(again));
        }
        let stream: Box<dyn Read> = if source.path.as_os_str() == STANDARD_INPUT {
            Box::new(io::stdin().lock())
        } else {
            Box::new(File::open(&source.path)?)
        };
        if !self.keep.get() {
            return Ok(stream);
        }
        let copy = self.nameless()?;
        self.kept.borrow_mut().insert(source.input, copy.try_clone()?);
        Ok(Box::new(Kept { stream, copy: Some(copy), keep: &self.keep }))
    }

    /// A file that is gone when it is closed.
    fn nameless(&self) -> io::Result<File> {
        let path = self.folder.join("stream");
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        fs::remove_file(path)?;
        Ok(file)
    }
}

/// A stream with a copy of what was read of it.
struct Kept<'a> {
    stream: Box<dyn Read>,
    copy: Option<File>,
    keep: &'a Cell<bool>,
}

impl Read for Kept<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.stream.read(buffer)?;
        match self.copy.take() {
            Some(mut copy) if self.keep.get() => {
                copy.write_all(&buffer[..got])?;
                self.copy = Some(copy);
            }
            Some(copy) => copy.set_len(0)?,
            None => {}
        }
        Ok(got)
    }
}

#[cfg(test)]
mod tests;
