//! The places of the other executables, and running one of them in place of this process's own
//! work.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, io};

/// An executable that this one needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Program {
    /// One rank; also generates, exports and probes, because it has libtorch.
    Worker,
    /// The coordinator of a run.
    Coordinator,
    /// kubectl's plugin, which has a client of Kubernetes.
    Island,
}

/// An executable cannot be found or run.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It is nowhere.
    #[error(
        "failed to find {name} at {}; build it with `make build`, or set {variable} to its path",
        looked.display()
    )]
    Missing {
        /// Its name.
        name: &'static str,
        /// The environment variable that names it.
        variable: &'static str,
        /// The place where it was looked for.
        looked: PathBuf,
    },
    /// It does not run.
    #[error("failed to run {}", path.display())]
    Run {
        /// The executable.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Program {
    fn name(self) -> &'static str {
        match self {
            Self::Worker => "heteroloco-worker",
            Self::Coordinator => "heteroloco-coordinator",
            Self::Island => "kubectl-island",
        }
    }

    fn variable(self) -> &'static str {
        match self {
            Self::Worker => "HETEROLOCO_WORKER",
            Self::Coordinator => "HETEROLOCO_COORDINATOR",
            Self::Island => "HETEROLOCO_KUBECTL_ISLAND",
        }
    }

    /// Its path: what its environment variable names, or its place beside this executable.
    ///
    /// # Errors
    /// When there is no file.
    pub fn find(self) -> Result<PathBuf, ProgramError> {
        let beside = env::current_exe().unwrap_or_default();
        self.find_in(env::var_os(self.variable()), &beside)
    }

    fn find_in(self, named: Option<OsString>, own: &Path) -> Result<PathBuf, ProgramError> {
        let named = named.filter(|value| !value.is_empty()).map(PathBuf::from);
        let looked = named.unwrap_or_else(|| own.with_file_name(self.name()));
        if looked.is_file() {
            return Ok(looked);
        }
        let (name, variable) = (self.name(), self.variable());
        Err(ProgramError::Missing { name, variable, looked })
    }
}

/// Runs a program with `args` on this process's own terminal; its exit code.
///
/// # Errors
/// When it cannot be found or run.
pub fn run(program: Program, args: &[OsString]) -> Result<u8, ProgramError> {
    let path = program.find()?;
    let status = Command::new(&path)
        .args(args)
        // The order in which the management library counts cards.
        .env("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
        .status()
        .map_err(|source| ProgramError::Run { path, source })?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_variable_wins_and_otherwise_it_is_looked_for_beside_this_executable() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("heteroloco");
        let (beside, named) = (folder.path().join("heteroloco-worker"), folder.path().join("w"));
        let missing = Program::Worker.find_in(None, &own).unwrap_err().to_string();
        assert!(missing.contains(&beside.display().to_string()), "{missing}");
        assert!(missing.contains("HETEROLOCO_WORKER"), "{missing}");
        std::fs::write(&beside, "").unwrap();
        assert_eq!(Program::Worker.find_in(None, &own).unwrap(), beside);
        assert!(Program::Worker.find_in(Some(named.clone().into()), &own).is_err());
        std::fs::write(&named, "").unwrap();
        assert_eq!(Program::Worker.find_in(Some(named.clone().into()), &own).unwrap(), named);
    }
}
