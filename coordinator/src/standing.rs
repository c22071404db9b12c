//! The standing of a store's run, for whoever has to decide whether the run can go on from it.

use std::path::Path;
use std::{fs, io};

use contract::coordinator::Standing;

use crate::store::{Store, StoreError};

/// Looks at the store in the file `path`, and makes none.
///
/// # Errors
/// It is in use, or cannot be read at the moment.
pub fn standing(path: &Path) -> Result<Standing, StoreError> {
    match fs::metadata(path).map(|file| file.len()) {
        Ok(0) => return Ok(Standing::Missing),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Standing::Missing),
        // Whatever else is wrong is said by opening it.
        Ok(_) | Err(_) => {}
    }
    match Store::open(path).and_then(|store| store.load()) {
        Ok(None) => Ok(Standing::Missing),
        Ok(Some(saved)) => Ok(Standing::Whole {
            run: saved.run().to_owned(),
            round: saved.round(),
            highest: saved.highest(),
            tokens: saved.tokens(),
            checkpoint: saved.checkpoint().map(|kept| kept.round),
        }),
        Err(error) if error.is_final() => Ok(Standing::Damaged { reason: error.to_string() }),
        Err(error) => Err(error),
    }
}
