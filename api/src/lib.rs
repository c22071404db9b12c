//! What users write: `ComputeIsland` and `TrainingRun`, and the way from their YAML to a plan's input.

use std::fmt;

use plan::request::{IslandRequest, RunRequest};

/// One file of manifests.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Name for messages.
    pub name: &'a str,
    /// YAML, one or several documents.
    pub text: &'a str,
}

/// One run and its islands.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifests {
    /// The `TrainingRun`.
    pub run: RunRequest,
    /// Its `ComputeIsland`s, in the order in which they stand.
    pub islands: Vec<IslandRequest>,
    /// What stands in the files but has no effect on one machine, a sentence each.
    pub notes: Vec<String>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The document in it: `ComputeIsland lab`, `document 2`.
    pub document: String,
    /// The field, `spec.devices[0].count`; may be empty.
    pub path: String,
    /// What is wrong and what to change.
    pub message: String,
}

/// Everything that is wrong, a line each.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            write!(f, "{}{problem}", if i == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: ", self.file, self.document)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)
    }
}

/// Reads all documents of all files: exactly one run, and at least one island of it.
///
/// # Errors
/// Every problem of every document, not just the first.
pub fn load(sources: &[Source<'_>]) -> Result<Manifests, Problems> {
    let _ = sources;
    Err(Problems(Vec::new()))
}
