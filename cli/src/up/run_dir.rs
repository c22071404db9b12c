//! The folder of a run: who holds it, what is written where, and what a resumed run may change.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use contract::worker::WorkerSpec;
use plan::spec::RunSpec;
use serde::{Deserialize, Serialize};
use serde_json::Value;

const LOCK: &str = "lock";
const STATE: &str = "run.json";

/// Parts of a [`RunSpec`] that may differ when a run goes on; everything else makes another run.
/// Data is known by its hash, wherever it lies, and a run that goes on has θ in its checkpoint.
/// What the plan derives is no setting of the user's: the steps of a round follow from which
/// islands there are, and the schedule is the run's own.
const CHANGEABLE: &[&str] = &[
    "tokens",
    "totalRounds",
    "referenceSteps",
    "schedule",
    "checkpointEveryRounds",
    "evaluation",
    "data",
    "from",
];

/// Parts of a [`RunSpec`] that have another name in a manifest.
const IN_MANIFEST: &[(&str, &str)] = &[
    ("name", "metadata.name"),
    ("sequenceLength", "batch.sequenceLength"),
    ("sparse", "sparseLoCo"),
];

/// A run's folder, held by this process until dropped.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: File,
}

/// The facts that a later session needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Saved {
    /// The specification that all islands share.
    pub run: RunSpec,
    /// Hash of the data's index, so that other data under the same name is noticed.
    pub data_hash: String,
    /// The newest epoch that was started, by island.
    pub epochs: BTreeMap<String, u64>,
    /// The folder of the checkpoints: absolute, or in the run's folder. Absent in what older
    /// versions saved.
    #[serde(default)]
    pub checkpoints: Option<PathBuf>,
}

/// The run folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RunDirError {
    /// Reading or writing failed.
    #[error("failed to {operation} {}", path.display())]
    Io {
        /// The operation that failed.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it did not go.
        source: io::Error,
    },
    /// Another process holds it.
    #[error("failed to open the run folder {0}: another `heteroloco up` is running in it")]
    InUse(String),
    /// There is a run, and nobody asked to resume it.
    #[error(
        "failed to start in {0}: the folder is not empty; go on with that run by --resume, \
         or choose another folder by --run-dir"
    )]
    NotEmpty(String),
    /// There is nothing to resume.
    #[error("failed to resume in {0}: there is no run in that folder; start one without --resume")]
    NothingToResume(String),
    /// The saved state cannot be read.
    #[error(
        "failed to read {STATE} of the earlier run in {0}: it is damaged; put a copy of it back, \
         or start anew in another folder by --run-dir"
    )]
    BadState(String, #[source] serde_json::Error),
    /// The request describes another run.
    #[error(
        "failed to resume: these settings differ from the run's own and cannot change in it: {}",
        list(.0)
    )]
    Changed(Vec<Change>),
}

impl From<durable::Error> for RunDirError {
    fn from(error: durable::Error) -> Self {
        let durable::Error { operation, path, source } = error;
        Self::Io { operation, path, source }
    }
}

/// A setting that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The path of the setting, such as `model.hidden_size`.
    pub path: String,
    /// The old value.
    pub was: String,
    /// The new value.
    pub is: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (was {}, now {})", self.path, self.was, self.is)
    }
}

impl RunDir {
    /// Takes the folder for a new run, or for one that goes on.
    ///
    /// # Errors
    /// When it is in use, holds something (new run), holds no run (resumed one), cannot be written.
    pub fn open(path: &Path, resume: bool) -> Result<(Self, Option<Saved>), RunDirError> {
        let shown = path.display().to_string();
        if resume && !path.join(STATE).exists() {
            return Err(RunDirError::NothingToResume(shown));
        }
        fs::create_dir_all(path).map_err(io_error("create", path))?;
        let lock_path = path.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(io_error("open", &lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(RunDirError::InUse(shown)),
            Err(TryLockError::Error(source)) => return Err(io_error("lock", &lock_path)(source)),
        }
        let path = path.canonicalize().map_err(io_error("resolve", path))?;
        let dir = Self { path, _lock: lock };
        if resume {
            let saved = dir.load(&shown)?;
            return Ok((dir, Some(saved)));
        }
        let entries = fs::read_dir(&dir.path).map_err(io_error("list", &dir.path))?;
        // A start that came no further leaves these; such a folder counts as empty.
        let left = [LOCK.into(), durable::partial(Path::new(STATE)).into_os_string()];
        if entries.flatten().any(|entry| !left.contains(&entry.file_name())) {
            return Err(RunDirError::NotEmpty(shown));
        }
        Ok((dir, None))
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Folder of an island's checkpoints where the run names none.
    pub fn checkpoints(&self) -> PathBuf {
        self.path.join("checkpoints")
    }

    /// Records what a later session needs; done before a new epoch starts.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, saved: &Saved) -> Result<(), RunDirError> {
        self.write_json(STATE, saved).map(drop)
    }

    /// Takes back what was recorded: the run does not begin.
    pub fn forget(&self) {
        // The next start says what stays.
        let _ = fs::remove_file(self.path.join(STATE));
    }

    /// Writes what the ranks of an island are told; its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_spec(&self, spec: &WorkerSpec) -> Result<PathBuf, RunDirError> {
        self.write_json(&format!("specs/{}.json", spec.island.name), spec)
    }

    /// Writes `value` as JSON to the file `name` in the folder, all or nothing; its path.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_json(&self, name: &str, value: &impl Serialize) -> Result<PathBuf, RunDirError> {
        let path = self.path.join(name);
        let text = serde_json::to_string_pretty(value)
            .map_err(|error| io_error("encode", &path)(error.into()))?;
        durable::create_folder(durable::parent(&path))?;
        durable::write(&path, text.as_bytes())?;
        Ok(path)
    }

    /// The file that a process writes its log to.
    ///
    /// # Errors
    /// When the folder for it cannot be made.
    pub fn log(&self, process: &str) -> Result<PathBuf, RunDirError> {
        let folder = self.path.join("logs");
        fs::create_dir_all(&folder).map_err(io_error("create", &folder))?;
        Ok(folder.join(format!("{process}.log")))
    }

    /// All that happened, a [`super::event::Record`] per line.
    pub fn events(&self) -> PathBuf {
        self.path.join("events.jsonl")
    }

    fn load(&self, shown: &str) -> Result<Saved, RunDirError> {
        let path = self.path.join(STATE);
        let text = fs::read(&path).map_err(io_error("read", &path))?;
        serde_json::from_slice(&text).map_err(|e| RunDirError::BadState(shown.to_owned(), e))
    }
}

impl Saved {
    /// Checks that a session with `run` on `data_hash` can go on from here.
    ///
    /// # Errors
    /// The settings that differ and may not.
    pub fn check(&self, run: &RunSpec, data_hash: &str) -> Result<(), RunDirError> {
        let mut changes = Vec::new();
        let (was, is) = (without_changeable(&self.run), without_changeable(run));
        differences("", &was, &is, &mut changes);
        if self.data_hash != data_hash {
            let short = |hash: &str| hash.chars().take(12).collect();
            let (was, is) = (short(&self.data_hash), short(data_hash));
            changes.push(Change { path: "content of data".to_owned(), was, is });
        }
        if changes.is_empty() { Ok(()) } else { Err(RunDirError::Changed(changes)) }
    }
}

fn without_changeable(run: &RunSpec) -> Value {
    // A RunSpec has no map with keys that are not strings, so it always has a JSON form. By way of
    // its text, numbers have the digits that they were given.
    let text = serde_json::to_string(run).unwrap_or_default();
    let mut value: Value = serde_json::from_str(&text).unwrap_or_default();
    if let Some(map) = value.as_object_mut() {
        map.retain(|key, _| !CHANGEABLE.contains(&key.as_str()));
    }
    value
}

fn differences(path: &str, was: &Value, is: &Value, out: &mut Vec<Change>) {
    if let (Value::Object(a), Value::Object(b)) = (was, is) {
        let mut keys: Vec<_> = a.keys().chain(b.keys()).collect();
        keys.sort_unstable();
        keys.dedup();
        for key in keys {
            let path = if path.is_empty() { in_manifest(key) } else { format!("{path}.{key}") };
            let side = |map: &serde_json::Map<String, Value>| map.get(key).cloned();
            differences(&path, &side(a).unwrap_or_default(), &side(b).unwrap_or_default(), out);
        }
    } else if was != is {
        out.push(Change { path: path.to_owned(), was: was.to_string(), is: is.to_string() });
    }
}

fn in_manifest(key: &str) -> String {
    let named = IN_MANIFEST.iter().find(|(own, _)| *own == key);
    named.map_or(key, |(_, name)| name).to_owned()
}

fn list(changes: &[Change]) -> String {
    changes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn io_error(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RunDirError {
    let path = path.to_owned();
    move |source| RunDirError::Io { operation, path, source }
}

#[cfg(test)]
mod tests;
