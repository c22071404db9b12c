//! Checkpoints of one island: θ, AdamW's moments and the error feedback at the start of a round.
//!
//! A checkpoint is a folder `round-00000012` with one safetensors file for each rank and, written
//! last, `manifest.json`. A folder without a manifest is no checkpoint. Values lie in the canonical
//! order of `sparseloco::layout` and files hold consecutive pieces of it, so a checkpoint can be
//! read under any other sharding. Tokenizer and `config.json` lie beside them as Hugging Face names
//! them.

mod shard;
#[cfg(test)]
pub(crate) mod tests;

use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use plan::model::LlamaConfig;
use rounds::types::Digest;
use serde::{Deserialize, Serialize};
use sparseloco::layout::Layout;

pub use shard::{Part, PartEntry, write_part};

/// Version of the folder's form.
pub const FORMAT: u32 = 1;
/// Checkpoints kept; older ones are removed once a newer one is complete. Of several one may be
/// damaged, and one from before a round that the run went back to is left.
const KEPT: usize = 3;
const MANIFEST: &str = "manifest.json";
const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// Why a checkpoint was not written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// The file system refused.
    #[error("failed to {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no complete checkpoint.
    #[error(
        "failed to find a checkpoint in {}: no folder round-… there has a {MANIFEST}",
        path.display()
    )]
    None {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The manifest cannot be read.
    #[error("failed to read {}: it is not a checkpoint's manifest", path.display())]
    Manifest {
        /// The file.
        path: PathBuf,
        /// Why.
        source: serde_json::Error,
    },
    /// A file is not what the manifest says.
    #[error("failed to use the checkpoint file {}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There are checkpoints, and none of them is whole.
    #[error(
        "failed to find a whole checkpoint in {}: all that are there are damaged; put a copy of \
         one back, or move them away to have the island begin without", path.display()
    )]
    AllDamaged {
        /// Where it was looked for.
        path: PathBuf,
        /// What is wrong with the newest.
        source: Box<CheckpointError>,
    },
    /// It belongs to another run or model.
    #[error(
        "failed to resume from {}: it is of another {what} ({there}, but the run says {here}); use \
         another checkpoint folder or the run's own manifest", path.display()
    )]
    Other {
        /// The checkpoint.
        path: PathBuf,
        /// What differs.
        what: &'static str,
        /// The checkpoint's.
        there: String,
        /// The run's.
        here: String,
    },
}

impl CheckpointError {
    /// Whether trying the same again is in vain. A folder of the network may show a file late.
    pub fn is_final(&self) -> bool {
        match self {
            CheckpointError::Io { .. } | CheckpointError::None { .. } => false,
            CheckpointError::Manifest { .. }
            | CheckpointError::Damaged { .. }
            | CheckpointError::AllDamaged { .. }
            | CheckpointError::Other { .. } => true,
        }
    }

    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| CheckpointError::Io { operation, path, source }
    }
}

impl CheckpointError {
    /// Whether a checkpoint is not what was written, however often it is read.
    fn is_damage(&self) -> bool {
        match self {
            CheckpointError::Io { source, .. } => {
                matches!(source.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof)
            }
            CheckpointError::Manifest { .. } | CheckpointError::Damaged { .. } => true,
            CheckpointError::None { .. }
            | CheckpointError::AllDamaged { .. }
            | CheckpointError::Other { .. } => false,
        }
    }
}

impl From<durable::Error> for CheckpointError {
    fn from(error: durable::Error) -> Self {
        let durable::Error { operation, path, source } = error;
        CheckpointError::Io { operation, path, source }
    }
}

/// What a checkpoint says of itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct Manifest {
    /// Version of the folder's form.
    pub format: u32,
    /// Name of the run.
    pub run: String,
    /// Name of the island.
    pub island: String,
    /// Seed of the run.
    pub seed: u64,
    /// The round that it resumes at: θ is its start.
    pub round: u64,
    /// Tokens of the run up to it.
    pub tokens: u64,
    /// Samples of the run's order of text that were handed out up to it; 0 where it is not known.
    #[serde(default)]
    pub samples: u64,
    /// The hash of θ that the islands agree on; older checkpoints have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub theta_hash: Option<Digest>,
    /// AdamW's step count.
    pub optimizer_steps: u64,
    /// The model.
    pub model: LlamaConfig,
    /// [`Layout::order_hash`] of the values, hexadecimal; checkpoints of the first version have
    /// none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// Files by rank, covering all pieces once.
    pub parts: Vec<PartEntry>,
}

/// What was found where checkpoints lie.
#[derive(Debug)]
pub struct Found {
    /// The newest whole one.
    pub newest: Option<Checkpoint>,
    /// What is wrong with newer ones.
    pub damaged: Vec<CheckpointError>,
}

/// A complete checkpoint on disk.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    folder: PathBuf,
    manifest: Manifest,
}

/// The folder of a round's checkpoint.
pub fn folder_of(root: &Path, round: u64) -> PathBuf {
    root.join(format!("round-{round:08}"))
}

/// The round that a folder is named after, exactly as [`folder_of`] names it: what people keep
/// under other names is not looked at, and never removed.
fn round_of(folder: &Path) -> Option<u64> {
    let round = folder.file_name()?.to_str()?.strip_prefix("round-")?.parse().ok()?;
    (folder_of(Path::new(""), round).as_os_str() == folder.file_name()?).then_some(round)
}

/// Complete checkpoints below `root`, newest first. A missing root holds none.
fn complete(root: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    Ok(folders(root)?.into_iter().filter(|folder| folder.join(MANIFEST).is_file()).collect())
}

/// Folders of rounds below `root`, newest first.
fn folders(root: &Path) -> Result<Vec<PathBuf>, CheckpointError> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(CheckpointError::io("list", root)(error)),
    };
    let mut folders: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| round_of(path).is_some())
        .collect();
    folders.sort_by_key(|path| std::cmp::Reverse(round_of(path)));
    Ok(folders)
}

/// Makes a checkpoint complete: its manifest. Then removes, of the same run, what is older than
/// the kept ones, and later rounds, which the run went back from; and folders that were never
/// completed.
pub fn commit(root: &Path, manifest: &Manifest) -> Result<PathBuf, CheckpointError> {
    let folder = folder_of(root, manifest.round);
    let path = folder.join(MANIFEST);
    let bytes = serde_json::to_vec_pretty(manifest)
        .map_err(|source| CheckpointError::Manifest { path: path.clone(), source })?;
    durable::write(&path, &bytes)?;
    // The checkpoint is whole: what is left of others does not unmake it.
    for old in superseded(root, manifest).unwrap_or_default() {
        if let Err(error) = fs::remove_dir_all(&old) {
            tracing::warn!(%error, path = %old.display(), "An old checkpoint was not removed.");
        }
    }
    Ok(folder)
}

fn superseded(root: &Path, newest: &Manifest) -> Result<Vec<PathBuf>, CheckpointError> {
    let later = |folder: &PathBuf| round_of(folder) > Some(newest.round);
    let own = |folder: &PathBuf| read_manifest(folder).is_ok_and(|other| other.run == newest.run);
    let (complete, torn): (Vec<_>, Vec<_>) =
        folders(root)?.into_iter().partition(|folder| folder.join(MANIFEST).is_file());
    let (abandoned, past): (Vec<_>, Vec<_>) = complete.into_iter().filter(own).partition(later);
    let torn = torn.into_iter().filter(|folder| round_of(folder) < Some(newest.round));
    Ok(abandoned.into_iter().chain(past.into_iter().skip(KEPT)).chain(torn).collect())
}

impl Checkpoint {
    /// Opens `path`: one checkpoint, or a folder of them, of which the newest whole one is taken.
    /// Damaged ones are passed over with a warning while an older one is whole.
    pub fn open(path: &Path) -> Result<Checkpoint, CheckpointError> {
        if path.join(MANIFEST).is_file() {
            return Checkpoint::open_exactly(path);
        }
        let Found { newest, damaged } = Checkpoint::find(path, None)?;
        for error in &damaged {
            tracing::warn!(%error, "A checkpoint is damaged.");
        }
        newest.ok_or_else(|| CheckpointError::None { path: path.into() })
    }

    /// Looks for the newest whole checkpoint below `root`, of `at_most` that round where one is
    /// given. Damaged ones are passed over.
    ///
    /// # Errors
    /// All that are there are damaged; or the file system refuses, and what cannot be read now may
    /// be whole.
    pub fn find(root: &Path, at_most: Option<u64>) -> Result<Found, CheckpointError> {
        let mut damaged = Vec::new();
        for folder in complete(root)? {
            if at_most.is_some_and(|most| round_of(&folder) > Some(most)) {
                continue;
            }
            match Checkpoint::open_exactly(&folder) {
                Ok(newest) => return Ok(Found { newest: Some(newest), damaged }),
                Err(error) if error.is_damage() => damaged.push(error),
                Err(error) => return Err(error),
            }
        }
        match damaged.into_iter().next() {
            Some(source) => {
                Err(CheckpointError::AllDamaged { path: root.into(), source: Box::new(source) })
            }
            None => Ok(Found { newest: None, damaged: Vec::new() }),
        }
    }

    fn open_exactly(folder: &Path) -> Result<Checkpoint, CheckpointError> {
        let manifest = read_manifest(folder)?;
        for part in &manifest.parts {
            shard::verify(folder, part)?;
        }
        Ok(Checkpoint { folder: folder.into(), manifest })
    }

    /// What it says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Refuses a checkpoint of another run, model or seed.
    pub fn check(&self, run: &plan::spec::RunSpec) -> Result<(), CheckpointError> {
        let other = |what, there: String, here: String| {
            Err(CheckpointError::Other { path: self.folder.clone(), what, there, here })
        };
        let manifest = &self.manifest;
        if manifest.run != run.name {
            return other("run", manifest.run.clone(), run.name.clone());
        }
        if manifest.model != run.model {
            return other("model", brief(&manifest.model), brief(&run.model));
        }
        if manifest.seed != run.seed {
            return other("seed", manifest.seed.to_string(), run.seed.to_string());
        }
        Ok(())
    }

    /// Values of one kind for the pieces `wanted`, in canonical order.
    ///
    /// # Errors
    /// They were written in the order of another layout, or their files cannot be read.
    pub fn read(
        &self,
        part: Part,
        layout: &Layout,
        wanted: Range<u32>,
    ) -> Result<Vec<f32>, CheckpointError> {
        let here = order_of(layout);
        if let Some(there) = self.manifest.layout.clone().filter(|there| *there != here) {
            let path = self.folder.clone();
            return Err(CheckpointError::Other { path, what: "layout", there, here });
        }
        shard::read(&self.folder, &self.manifest.parts, part, (layout, wanted))
    }
}

fn read_manifest(folder: &Path) -> Result<Manifest, CheckpointError> {
    let path = folder.join(MANIFEST);
    let size = fs::metadata(&path).map_err(CheckpointError::io("read", &path))?.len();
    if size > MANIFEST_BYTES_MAX {
        let reason = format!("it has {size} bytes, more than any manifest");
        return Err(CheckpointError::Damaged { path, reason });
    }
    let bytes = fs::read(&path).map_err(CheckpointError::io("read", &path))?;
    let manifest: Manifest = serde_json::from_slice(&bytes)
        .map_err(|source| CheckpointError::Manifest { path: path.clone(), source })?;
    if manifest.format != FORMAT {
        let reason = format!("its format is {}, this version reads {FORMAT}", manifest.format);
        return Err(CheckpointError::Damaged { path, reason });
    }
    Ok(manifest)
}

/// A model in a few words, for a message.
fn brief(model: &LlamaConfig) -> String {
    format!(
        "{} layers of {}, vocabulary {}",
        model.num_hidden_layers, model.hidden_size, model.vocab_size
    )
}

/// The order of a layout's values, as a manifest names it.
fn order_of(layout: &Layout) -> String {
    blake3::Hash::from(layout.order_hash()).to_hex().to_string()
}

/// The manifest of a checkpoint to be.
pub fn manifest(
    run: &plan::spec::RunSpec,
    island: &str,
    layout: &Layout,
    parts: Vec<PartEntry>,
) -> Manifest {
    Manifest {
        format: FORMAT,
        run: run.name.clone(),
        island: island.to_string(),
        seed: run.seed,
        round: 0,
        tokens: 0,
        samples: 0,
        theta_hash: None,
        optimizer_steps: 0,
        model: run.model.clone(),
        layout: Some(order_of(layout)),
        parts,
    }
}
