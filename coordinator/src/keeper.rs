//! A store on a disk that may be full or fail for a while: a store that could not be written is
//! opened again before the next attempt, because a database takes nothing after an error.

use std::path::PathBuf;

use rounds::record::Entry;
use rounds::state::Saved;

use crate::engine::EngineError;
use crate::store::{Store, StoreError};

/// A store that may be closed since it could not be written.
pub(crate) struct Keeper {
    path: PathBuf,
    store: Option<Store>,
}

impl Keeper {
    pub(crate) fn new(store: Store) -> Self {
        Self { path: store.path().to_owned(), store: Some(store) }
    }

    #[cfg(test)]
    pub(crate) fn closed(path: PathBuf) -> Self {
        Self { path, store: None }
    }

    /// Saves as [`Store::save`] does. What it returns inside may go another time.
    ///
    /// # Errors
    /// The store is damaged or another coordinator's by now: no other time helps.
    pub(crate) async fn save(
        &mut self,
        saved: &Saved,
        entries: &[Entry],
    ) -> Result<Result<(), StoreError>, EngineError> {
        let (path, store) = (self.path.clone(), self.store.take());
        let (saved, entries) = (saved.clone(), entries.to_vec());
        let save = move || {
            let store = store.map_or_else(|| Store::open(&path), Ok)?;
            store.save(&saved, &entries)?;
            Ok::<_, StoreError>(store)
        };
        match tokio::task::spawn_blocking(save).await? {
            Ok(store) => {
                self.store = Some(store);
                Ok(Ok(()))
            }
            Err(error) if error.may_pass() => Ok(Err(error)),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests;
