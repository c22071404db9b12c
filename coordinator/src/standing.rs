//! What a store says of its run, for whoever has to decide whether the run can go on from it.

use std::path::Path;
use std::{fs, io};

use serde::Serialize;

use crate::store::{Store, StoreError};

/// One line of JSON on standard output.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "store")]
pub enum Standing {
    /// There is none, or nothing in it.
    Missing,
    /// It is not to be used.
    Damaged {
        /// Why.
        reason: String,
    },
    /// It can be gone on from.
    Whole {
        /// Name of the run.
        run: String,
        /// The round in progress.
        round: u64,
        /// The highest round ever in progress: beyond `round` where the run went back.
        highest: u64,
        /// Tokens of all rounds before.
        tokens: u64,
        /// The newest checkpoint that an island told of: the round that it resumes at.
        checkpoint: Option<u64>,
    },
}

impl Standing {
    /// Looks at the store in the file `path`, and makes none.
    ///
    /// # Errors
    /// It is in use, or cannot be read at the moment.
    pub fn of(path: &Path) -> Result<Standing, StoreError> {
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
                checkpoint: saved.checkpoint().map(|checkpoint| checkpoint.round),
            }),
            Err(error) if error.is_final() => Ok(Standing::Damaged { reason: error.to_string() }),
            Err(error) => Err(error),
        }
    }
}
