//! The cgroup below which a node keeps its pods.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use crate::ClusterError;

const ROOT: &str = "/sys/fs/cgroup";
/// Controllers that kubelet looks for in a hierarchy of version 2.
const CONTROLLERS: &str = "+cpuset +cpu +memory +pids";

/// A cgroup with everything below it, in every hierarchy; dropping it removes it.
#[derive(Debug)]
pub(crate) struct Cgroup {
    name: String,
}

impl Cgroup {
    /// Makes it, or takes the one that a killed process left.
    pub(crate) fn new(name: String) -> Result<Self, ClusterError> {
        let failed = || ClusterError::io(format!("make the cgroup {name}"));
        if Path::new(ROOT).join("cgroup.controllers").exists() {
            let enabled = fs::write(Path::new(ROOT).join("cgroup.subtree_control"), CONTROLLERS);
            enabled.map_err(failed())?;
        }
        for hierarchy in hierarchies().map_err(failed())? {
            make(&hierarchy, &name).map_err(failed())?;
        }
        Ok(Self { name })
    }

    /// Its path below the hierarchies' roots, as kubelet names it.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.name)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for hierarchy in hierarchies().unwrap_or_default() {
            let below = WalkDir::new(hierarchy.join(&self.name)).contents_first(true);
            let folders = below.into_iter().flatten().filter(|entry| entry.file_type().is_dir());
            for folder in folders {
                // One that is still in use stays, and is taken over by the next of the name.
                let _ = fs::remove_dir(folder.path());
            }
        }
    }
}

/// Version 2 has one root; of version 1 every controller has its own.
fn hierarchies() -> io::Result<Vec<PathBuf>> {
    if Path::new(ROOT).join("cgroup.controllers").exists() {
        return Ok(vec![ROOT.into()]);
    }
    let entries = fs::read_dir(ROOT)?.collect::<io::Result<Vec<_>>>()?;
    let folders = entries.into_iter().map(|entry| entry.path());
    Ok(folders.filter(|path| path.is_dir()).collect())
}

fn make(hierarchy: &Path, name: &str) -> io::Result<()> {
    let folder = hierarchy.join(name);
    match fs::create_dir(&folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Version 1 gives a new cpuset no processors, and nothing may run in it.
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let parent = hierarchy.join(file);
        if parent.exists() {
            fs::write(folder.join(file), fs::read(parent)?)?;
        }
    }
    Ok(())
}
