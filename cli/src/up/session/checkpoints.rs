//! The folder of a run's checkpoints, and whether a session may begin with what is there: a new run
//! must not meet another's, one that goes on must find its own, and either must be able to write
//! there.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use plan::planner::RunPlan;

use super::whole::{self, Kept, MANIFEST};
use crate::up::run_dir::{RunDir, Saved};

/// Written and removed again, to see whether that is possible.
const PROBE: &str = ".heteroloco-probe";

/// A session may not begin with the folder of its checkpoints.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointsError {
    /// A new run would mix its checkpoints with another's.
    #[error(
        "failed to start: {} is a checkpoint of an earlier run; name another folder in \
         spec.checkpoint.path, go on with that run by --resume, or move its checkpoints away",
        found.display()
    )]
    Occupied {
        /// The newest one that was found.
        found: PathBuf,
    },
    /// Training would be lost.
    #[error(
        "failed to use {} for checkpoints; name another folder in spec.checkpoint.path, or make \
         this one writable", folder.display()
    )]
    Unusable {
        /// An island's folder.
        folder: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder is not the one that the run began with.
    #[error(
        "failed to resume: checkpoint.path was {} and is now {}; set it to what it was (a relative \
         path is taken from the current folder)", was.display(), is.display()
    )]
    Elsewhere {
        /// The old folder.
        was: PathBuf,
        /// The new folder.
        is: PathBuf,
    },
}

impl CheckpointsError {
    /// Says whether what the user asked for has to change before it can work; a full disk may have
    /// room again.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::Occupied { .. } | Self::Elsewhere { .. } => true,
            Self::Unusable { source, .. } => {
                !matches!(source.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
            }
        }
    }
}

/// The folder of a run's checkpoints, with one folder for each island.
#[derive(Debug)]
pub(super) struct Checkpoints {
    /// Absolute.
    folder: PathBuf,
    /// The run's folder.
    run_dir: PathBuf,
    islands: Vec<String>,
}

impl Checkpoints {
    /// The checkpoints in the folder that the plan names, or in the run's own.
    pub(super) fn new(dir: &RunDir, plan: &RunPlan) -> Self {
        let folder = plan.checkpoint.clone().unwrap_or_else(|| dir.checkpoints());
        Self {
            folder: std::path::absolute(&folder).unwrap_or(folder),
            run_dir: dir.path().to_owned(),
            islands: plan.islands.iter().map(|island| island.spec.name.clone()).collect(),
        }
    }

    /// An island's folder.
    pub(super) fn of(&self, island: &str) -> PathBuf {
        self.folder.join(island)
    }

    /// The folder as a later session compares it: relative where it lies in the run's folder, so
    /// that this one can be moved.
    pub(super) fn saved(&self) -> PathBuf {
        self.folder.strip_prefix(&self.run_dir).unwrap_or(&self.folder).to_owned()
    }

    /// Before a new run starts anything.
    ///
    /// # Errors
    /// When there are checkpoints already, or none can be written.
    pub(super) fn begin(&self) -> Result<(), CheckpointsError> {
        if let Some(found) = self.newest()? {
            return Err(CheckpointsError::Occupied { found });
        }
        self.probe().inspect_err(|_| self.tidy_up())
    }

    /// Before a run goes on.
    ///
    /// # Errors
    /// When the checkpoints are not where they were, or none can be written.
    pub(super) fn go_on(&self, earlier: &Saved) -> Result<(), CheckpointsError> {
        if let Some(was) = &earlier.checkpoints {
            let was = self.run_dir.join(was);
            if !is_same(&was, &self.folder) {
                return Err(CheckpointsError::Elsewhere { was, is: self.folder.clone() });
            }
        }
        self.probe()
    }

    /// All checkpoints of the run `run` that its islands have.
    ///
    /// # Errors
    /// When a folder cannot be read.
    pub(super) fn all(&self, run: &str) -> Result<Vec<Kept>, CheckpointsError> {
        let mut found = Vec::new();
        for island in &self.islands {
            let folder = self.of(island);
            let all = whole::all(&folder, run);
            found.extend(all.map_err(|source| CheckpointsError::Unusable { folder, source })?);
        }
        Ok(found)
    }

    /// The newest complete checkpoint of the first island that has one.
    fn newest(&self) -> Result<Option<PathBuf>, CheckpointsError> {
        for island in &self.islands {
            let folder = self.of(island);
            let found =
                newest(&folder).map_err(|source| CheckpointsError::Unusable { folder, source })?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn probe(&self) -> Result<(), CheckpointsError> {
        self.islands.iter().try_for_each(|island| {
            let folder = self.of(island);
            probe(&folder).map_err(|source| CheckpointsError::Unusable { folder, source })
        })
    }

    /// A refused start leaves nothing in the run's folder, or the next one would be refused for it.
    fn tidy_up(&self) {
        if self.folder.starts_with(&self.run_dir) {
            for folder in self.islands.iter().map(|island| self.of(island)) {
                // A folder that is not empty stays.
                let _ = fs::remove_dir(folder);
            }
            let _ = fs::remove_dir(&self.folder);
        }
    }
}

/// Also by another way, such as a link that was put where the folder had been.
fn is_same(a: &Path, b: &Path) -> bool {
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

fn newest(folder: &Path) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let rounds = entries.flatten().filter_map(|entry| {
        let round: u64 = entry.file_name().to_str()?.strip_prefix("round-")?.parse().ok()?;
        Some((round, entry.path()))
    });
    let complete = rounds.filter(|(_, path)| path.join(MANIFEST).is_file());
    Ok(complete.max().map(|(_, path)| path))
}

fn probe(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let path = folder.join(PROBE);
    durable::write(&path, b"probe").map_err(|error| error.source)?;
    fs::remove_file(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoints(root: &Path, folder: &str) -> Checkpoints {
        Checkpoints {
            folder: root.join(folder),
            run_dir: root.join("run"),
            islands: vec!["a".to_owned(), "b".to_owned()],
        }
    }

    fn saved(checkpoints: Option<PathBuf>) -> Saved {
        let text = include_str!("../../../../examples/quickstart.yaml");
        let manifests = api::load(&[api::Source { name: "quickstart", text }]).unwrap();
        let local = plan::request::Execution::Emulated { cores: 1 };
        let plan = plan::planner::plan_run(&manifests.run, &manifests.islands, &local).unwrap();
        Saved { run: plan.run, data_hash: String::new(), epochs: [].into(), checkpoints }
    }

    fn complete(folder: &Path, round: u64) -> PathBuf {
        let path = folder.join(format!("round-{round:08}"));
        fs::create_dir_all(&path).unwrap();
        fs::write(path.join(MANIFEST), "{}").unwrap();
        path
    }

    #[test]
    fn a_new_run_makes_its_folders_and_never_meets_the_checkpoints_of_another() {
        let root = tempfile::tempdir().unwrap();
        let own = checkpoints(root.path(), "kept");
        fs::create_dir_all(own.of("b").join("round-00000007")).unwrap();
        own.begin().unwrap();
        assert_eq!(fs::read_dir(own.of("a")).unwrap().count(), 0, "the probe is gone");
        complete(&own.of("b"), 3);
        let newest = complete(&own.of("b"), 12);
        let error = own.begin().unwrap_err();
        assert!(matches!(&error, CheckpointsError::Occupied { found } if *found == newest));
        complete(&root.path().join("kept/c"), 4);
        fs::remove_dir_all(own.of("b")).unwrap();
        own.begin().unwrap();
    }

    #[test]
    fn a_folder_that_takes_no_checkpoints_is_refused_at_the_start() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("run/checkpoints")).unwrap();
        fs::write(root.path().join("file"), "").unwrap();
        fs::write(root.path().join("run/checkpoints/b"), "").unwrap();
        for folder in ["file", "run/checkpoints", "/proc/none"] {
            let error = checkpoints(root.path(), folder).begin().unwrap_err();
            assert!(matches!(error, CheckpointsError::Unusable { .. }), "{error}");
        }
        assert!(!root.path().join("run/checkpoints/a").exists(), "nothing is left behind");
    }

    #[test]
    fn a_run_that_goes_on_finds_its_checkpoints_where_they_were() {
        let root = tempfile::tempdir().unwrap();
        let own = checkpoints(root.path(), "run/kept");
        assert_eq!(own.saved(), Path::new("kept"));
        own.go_on(&saved(Some(own.saved()))).unwrap();
        complete(&own.of("b"), 2);
        own.go_on(&saved(Some(own.saved()))).unwrap();
        own.go_on(&saved(None)).unwrap();

        let other = checkpoints(root.path(), "other");
        let error = other.go_on(&saved(Some(own.saved()))).unwrap_err().to_string();
        let (was, is) = (own.folder.display(), other.folder.display());
        assert!(error.contains(&format!("was {was} and is now {is};")), "{error}");
        std::os::unix::fs::symlink(&own.folder, &other.folder).unwrap();
        other.go_on(&saved(Some(own.saved()))).unwrap();
    }
}
