//! Where a trained model lies: people name the folder that they have, be it a run's, a
//! checkpoint's or an exported one.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::checkpoint::{Checkpoint, CheckpointError, Found};

/// Written by `heteroloco up` into a run's folder.
const RUN: &str = "run.json";
/// The islands' checkpoints in it, unless it says otherwise.
const CHECKPOINTS: &str = "checkpoints";
const CONFIG: &str = "config.json";
/// In a folder of checkpoints, folders of islands are looked into, and no more than so many.
const ISLANDS_MAX: usize = 4096;

/// What was found in a folder.
#[derive(Debug)]
pub(super) enum Place {
    /// A checkpoint.
    Checkpoint(Box<Checkpoint>),
    /// A folder in Hugging Face's form.
    HuggingFace(PathBuf),
}

/// No trained model is where one was looked for.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlaceError {
    /// There is none.
    #[error(
        "failed to find a trained model in {}: name the folder of a run, of a checkpoint, or of a \
         model in Hugging Face's form", .0.display()
    )]
    None(PathBuf),
    /// What is there cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
}

/// What a run's folder says of it.
#[derive(Deserialize)]
struct Run {
    run: RunPart,
    checkpoints: Option<PathBuf>,
}

#[derive(Deserialize)]
struct RunPart {
    data: PathBuf,
}

fn run_of(path: &Path) -> Option<Run> {
    serde_json::from_slice(&fs::read(path.join(RUN)).ok()?).ok()
}

/// The data that the run in `path` trains on, where that is a run's folder.
pub(crate) fn data_of_run(path: &Path) -> Option<PathBuf> {
    Some(run_of(path)?.run.data)
}

/// Looks for a trained model in `path`. Of several islands' checkpoints the newest whole one is
/// taken: replicas are identical.
///
/// # Errors
/// There is none, or none that is whole.
pub(super) fn find(path: &Path) -> Result<Place, PlaceError> {
    let mut error = match Checkpoint::open(path) {
        Ok(checkpoint) => return Ok(Place::Checkpoint(Box::new(checkpoint))),
        Err(CheckpointError::None { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let root = run_of(path).and_then(|run| run.checkpoints);
    let root = path.join(root.unwrap_or_else(|| CHECKPOINTS.into()));
    let mut newest: Option<Checkpoint> = None;
    for island in folders(&root).into_iter().chain(folders(path)) {
        match Checkpoint::find(&island, None) {
            Ok(Found { newest: Some(found), damaged }) => {
                for error in damaged {
                    tracing::warn!(%error, "A checkpoint is damaged.");
                }
                let older = |held: &Checkpoint| held.manifest().round < found.manifest().round;
                if newest.as_ref().is_none_or(older) {
                    newest = Some(found);
                }
            }
            Ok(Found { newest: None, .. }) => {}
            Err(found) => error = Some(found),
        }
    }
    match (newest, error) {
        (Some(checkpoint), _) => Ok(Place::Checkpoint(Box::new(checkpoint))),
        (None, Some(error)) => Err(error.into()),
        (None, None) if path.join(CONFIG).is_file() => Ok(Place::HuggingFace(path.into())),
        (None, None) => Err(PlaceError::None(path.into())),
    }
}

/// Folders in `path`, in the order of their names; none where it cannot be read.
fn folders(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().take(ISLANDS_MAX);
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut folders: Vec<PathBuf> = paths.filter(|path| path.is_dir()).collect();
    folders.sort();
    folders
}
