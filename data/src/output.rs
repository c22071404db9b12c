//! The folder that a corpus is written into: hidden until it is complete.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::corpus::{Corpus, CorpusError};
use crate::index::FILE_NAME;

const LOCK_NAME: &str = "lock";

/// The content of the place where the corpus shall go.
#[derive(Debug)]
pub(crate) enum Existing {
    /// Nothing, or an empty folder.
    Nothing,
    /// A corpus.
    Corpus(Box<Corpus>),
    /// A corpus that cannot be opened.
    Damaged(CorpusError),
    /// Something else.
    Other,
}

/// Looks at what stands where the corpus shall go.
pub(crate) fn existing(out: &Path) -> io::Result<Existing> {
    let mut entries = match fs::read_dir(out) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Existing::Nothing),
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Existing::Other),
        Err(error) => return Err(error),
    };
    if entries.next().is_none() {
        return Ok(Existing::Nothing);
    }
    if !out.join(FILE_NAME).exists() {
        return Ok(Existing::Other);
    }
    Ok(match Corpus::open(out) {
        Ok(corpus) => Existing::Corpus(Box::new(corpus)),
        Err(error) => Existing::Damaged(error),
    })
}

/// A hidden folder beside the output. It is removed unless it is published; what an interrupted
/// preparation left is cleared by the next one.
#[derive(Debug)]
pub(crate) struct WorkFolder {
    path: PathBuf,
    published: bool,
    // Held while the folder is in use.
    _lock: File,
}

impl WorkFolder {
    /// Creates the folder for `out`; `None` while another process prepares the same output.
    pub(crate) fn create(out: &Path) -> io::Result<Option<Self>> {
        let Some(name) = out.file_name() else {
            let what = "an output folder needs a name";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(".partial");
        let path = out.with_file_name(hidden);
        fs::create_dir_all(&path)?;
        let lock = File::create(path.join(LOCK_NAME))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let folder = Self { path, published: false, _lock: lock };
        folder.clear()?;
        Ok(Some(folder))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Removes what was written.
    pub(crate) fn clear(&self) -> io::Result<()> {
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_name() != LOCK_NAME {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Writes a file durably.
    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        use io::Write as _;
        let mut file = File::create_new(self.path.join(name))?;
        file.write_all(bytes)?;
        file.sync_all()
    }

    /// Gives the folder its name, durably. The files in it are durable already.
    pub(crate) fn publish(mut self, out: &Path) -> io::Result<()> {
        fs::remove_file(self.path.join(LOCK_NAME))?;
        durable::sync_folder(&self.path).map_err(|error| error.source)?;
        let renamed = durable::rename(&self.path, out);
        // Once it has its name, there is nothing to remove.
        self.published = renamed.is_ok() || !self.path.exists();
        renamed.map_err(|error| error.source)
    }
}

impl Drop for WorkFolder {
    fn drop(&mut self) {
        if !self.published {
            // Nothing depends on it: the next preparation clears what is left.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests;
