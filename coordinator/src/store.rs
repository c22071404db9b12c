//! The store of the coordinator, which survives its crash: the run's state and its record, in one
//! redb file.
//!
//! State and new entries of the record are written in one transaction that is on the disk before
//! [`Store::save`] returns, so the two always agree.

use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::{io, process};

use redb::{Database, DatabaseError, Error, ReadableDatabase, ReadableTable, TableDefinition};
use rounds::record::{self, Broken, Entry};
use rounds::state::Saved;
use rustix::fs::FallocateFlags;

const META: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("meta");
const RECORD: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("record");
const FORMAT_KEY: &str = "format";
const STATE_KEY: &str = "state";
const FORMAT: &[u8] = b"heteroloco coordinator 1";
/// Bytes of the disk that a store holds beyond its size: thousands of rounds are saved in them when
/// the disk is full.
const RESERVED_BYTES: u64 = 4 << 20;

/// An open store; one process at a time has it.
#[derive(Debug)]
pub struct Store {
    path: PathBuf,
    database: Database,
}

/// Why a store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it open.
    #[error("failed to open the store {}: another coordinator has it open", path.display())]
    InUse {
        /// Its file.
        path: PathBuf,
    },
    /// The file is something else, or damaged beyond recovery.
    #[error(
        "failed to open the store {}: it is damaged or not a coordinator's; \
         move it and the run's checkpoints away to begin the run anew",
        path.display()
    )]
    Foreign {
        /// Its file.
        path: PathBuf,
        /// The error that was found.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The record does not verify.
    #[error("failed to trust the store {}: its record was changed", path.display())]
    Record {
        /// Its file.
        path: PathBuf,
        /// The entry at which it breaks.
        source: Broken,
    },
    /// State and record do not belong together.
    #[error("failed to trust the store {}: state and record do not fit", path.display())]
    Apart {
        /// Its file.
        path: PathBuf,
    },
    /// The file system fails.
    #[error("failed to make the folder of the store {}", path.display())]
    Folder {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Reading failed.
    #[error("failed to read the store {}", path.display())]
    Read {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: Box<Error>,
    },
    /// Writing failed.
    #[error("failed to write the store {}", path.display())]
    Write {
        /// Its file.
        path: PathBuf,
        /// Why.
        source: Box<Error>,
    },
}

impl StoreError {
    /// Says whether starting again with the same file is in vain.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Foreign { .. } | Self::Record { .. } | Self::Apart { .. })
    }

    /// Says whether the same may go another time, by the same process.
    pub(crate) fn may_pass(&self) -> bool {
        matches!(self, Self::Folder { .. } | Self::Read { .. } | Self::Write { .. })
    }

    /// The error for a store that could not be opened: opening one writes, too, and a disk that is
    /// full or fails says nothing against the file.
    fn of(path: &Path, error: Error) -> Self {
        let path = path.into();
        match error {
            Error::DatabaseAlreadyOpen => Self::InUse { path },
            Error::Io(source) if !is_of_content(&source) => {
                Self::Write { path, source: Box::new(Error::Io(source)) }
            }
            Error::PreviousIo => Self::Write { path, source: Box::new(error) },
            source => Self::Foreign { path, source: source.into() },
        }
    }
}

impl Store {
    /// Opens a store, or makes an empty one.
    ///
    /// # Errors
    /// The file is in use, is something else, or cannot be made.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        let folder_error = |source| StoreError::Folder { path: path.into(), source };
        let folder = durable::parent(path);
        durable::create_folder(folder).map_err(|error| folder_error(error.source))?;
        match fs::metadata(path).map(|file| file.len()) {
            Ok(1..) => {}
            // An earlier disk that was full has left an empty file.
            Ok(0) => {
                fs::remove_file(path).map_err(folder_error)?;
                Self::make(path)?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Self::make(path)?,
            Err(error) => return Err(folder_error(error)),
        }
        reserve(path);
        // The file itself is synced by redb, its name in the folder only here.
        durable::sync_folder(folder).map_err(|error| folder_error(error.source))?;
        Self::of(path, Database::open(path))
    }

    /// Makes an empty store beside its place and puts it there, unless another is there by then: a
    /// disk that is full in the middle must not leave a file that is no store.
    fn make(path: &Path) -> Result<(), StoreError> {
        let failed = |source| StoreError::Folder { path: path.into(), source };
        let new = path.with_added_extension(format!("new-{}", process::id()));
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        if let Err(error) = Self::of(&new, Database::create(&new)) {
            // It takes room where there is none.
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        match fs::hard_link(&new, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                // A file system without links, where nothing is safe from another that starts, too.
                fs::rename(&new, path)
            }
            _ => fs::remove_file(&new),
        }
        .map_err(failed)
    }

    fn of(path: &Path, opened: Result<Database, DatabaseError>) -> Result<Store, StoreError> {
        let database = opened.map_err(|error| StoreError::of(path, error.into()))?;
        let store = Store { path: path.into(), database };
        store.check_format()?;
        Ok(store)
    }

    /// Its file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The state that was saved last, if any; it fits the record, and the record verifies.
    ///
    /// # Errors
    /// State or record cannot be read or trusted.
    pub fn load(&self) -> Result<Option<Saved>, StoreError> {
        let text = self.meta(STATE_KEY)?;
        let parsed = text.map(|text| serde_json::from_slice::<Saved>(&text)).transpose();
        let Some(saved) = parsed.map_err(|error| self.foreign(error))? else { return Ok(None) };
        let path = self.path.clone();
        let last = record::verify(saved.run(), &self.record()?)
            .map_err(|source| StoreError::Record { path: path.clone(), source })?;
        if last != saved.record_hash() {
            return Err(StoreError::Apart { path });
        }
        Ok(Some(saved))
    }

    /// The whole record, oldest entry first.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn record(&self) -> Result<Vec<Entry>, StoreError> {
        let read = || -> Result<Vec<Vec<u8>>, Error> {
            let table = self.database.begin_read()?.open_table(RECORD)?;
            table.iter()?.map(|row| Ok(row?.1.value().to_vec())).collect()
        };
        let rows = read().map_err(|error| self.read_error(error))?;
        let entry = |row: Vec<u8>| serde_json::from_slice(&row).map_err(|e| self.foreign(e));
        rows.into_iter().map(entry).collect()
    }

    /// Saves a state and appends to the record, both or neither. On the disk when it returns.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn save(&self, saved: &Saved, entries: &[Entry]) -> Result<(), StoreError> {
        let state = serde_json::to_vec(saved).map_err(|error| self.foreign(error))?;
        let rows: Result<Vec<_>, _> =
            entries.iter().map(|entry| Ok((entry.index, serde_json::to_vec(entry)?))).collect();
        let rows = rows.map_err(|error: serde_json::Error| self.foreign(error))?;
        let write = || -> Result<(), Error> {
            let transaction = self.database.begin_write()?;
            transaction.open_table(META)?.insert(STATE_KEY, state.as_slice())?;
            {
                let mut record = transaction.open_table(RECORD)?;
                for (index, row) in &rows {
                    record.insert(index, row.as_slice())?;
                }
                // Nobody was told of entries that were written though writing them failed.
                record.retain_in(saved.record_length().., |_, _| false)?;
            }
            transaction.commit()?;
            Ok(())
        };
        write().map_err(|error| self.write_error(error))
    }

    /// Makes the tables of an empty store, and refuses one of another program.
    fn check_format(&self) -> Result<(), StoreError> {
        let make = || -> Result<Option<Vec<u8>>, Error> {
            let transaction = self.database.begin_write()?;
            let is_empty = transaction.list_tables()?.next().is_none();
            let found = {
                let mut meta = transaction.open_table(META)?;
                transaction.open_table(RECORD)?;
                if is_empty {
                    meta.insert(FORMAT_KEY, FORMAT)?;
                }
                meta.get(FORMAT_KEY)?.map(|value| value.value().to_vec())
            };
            if found.as_deref() == Some(FORMAT) {
                transaction.commit()?;
            } else {
                transaction.abort()?;
            }
            Ok(found)
        };
        let found = make().map_err(|error| StoreError::of(&self.path, error))?;
        if found.as_deref() == Some(FORMAT) {
            return Ok(());
        }
        Err(self.foreign("it has another format"))
    }

    fn meta(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let read = || -> Result<Option<Vec<u8>>, Error> {
            let table = self.database.begin_read()?.open_table(META)?;
            Ok(table.get(key)?.map(|value| value.value().to_vec()))
        };
        read().map_err(|error| self.read_error(error))
    }

    fn foreign(&self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
        StoreError::Foreign { path: self.path.clone(), source: source.into() }
    }

    fn read_error(&self, error: Error) -> StoreError {
        StoreError::Read { path: self.path.clone(), source: Box::new(error) }
    }

    fn write_error(&self, error: Error) -> StoreError {
        StoreError::Write { path: self.path.clone(), source: Box::new(error) }
    }
}

/// Sets room aside for what will be saved. Where the disk has none, or cannot do so, saving fails
/// when it is tried.
fn reserve(path: &Path) {
    let reserved = || -> io::Result<()> {
        let file = OpenOptions::new().write(true).open(path)?;
        let size = file.metadata()?.len() + RESERVED_BYTES;
        Ok(rustix::fs::fallocate(&file, FallocateFlags::KEEP_SIZE, 0, size)?)
    };
    if let Err(error) = reserved() {
        tracing::debug!(%error, path = %path.display(), "No room was set aside for the store.");
    }
}

fn is_of_content(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

#[cfg(test)]
mod tests;
