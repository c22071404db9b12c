//! Manifests from files: several documents, one run, its islands, every problem at once.

mod envelope;
mod reader;
mod resource;

use std::fmt;

use plan::request::{IslandRequest, RunRequest};

use self::reader::Reader;
use crate::convert::ReadConfig;
use crate::island::{ComputeIsland, Toleration};
use crate::run::TrainingRun;
use crate::selector::NodeSelector;
use crate::yaml::Mark;

pub(crate) use envelope::NAME_MAX;

/// The group and version of all kinds.
const API_VERSION: &str = "heteroloco.dev/v1alpha1";

/// One file of manifests.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// Name for messages.
    pub name: &'a str,
    /// YAML, one or several documents, or JSON, one value after another.
    pub text: &'a str,
}

/// One run and its islands.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifests {
    /// The `TrainingRun`.
    pub run: RunRequest,
    /// Its `ComputeIsland`s, in the order in which they stand.
    pub islands: Vec<IslandRequest>,
    /// The nodes that each of the islands may use, in the same order; all where absent. Whoever
    /// knows the nodes writes the names of those selected into [`IslandRequest::nodes`].
    pub selectors: Vec<Option<NodeSelector>>,
    /// The taints of nodes that each of them tolerates, in the same order.
    pub tolerations: Vec<Vec<Toleration>>,
    /// Notes on what stands in the files but has no effect on one machine, a sentence each.
    pub notes: Vec<String>,
    /// Documents of other kinds, a sentence for each file.
    pub passed_over: Vec<String>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The place in it, as far as that is known.
    pub mark: Option<Mark>,
    /// The document in it: `ComputeIsland lab`, `document 2`; may be empty.
    pub document: String,
    /// The field, `spec.devices[0].count`; may be empty.
    pub path: String,
    /// The message: what is wrong and what to change.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.mark {
            Some(mark) if !self.file.is_empty() => write!(f, "{}:{mark}: ", self.file)?,
            None if !self.file.is_empty() => write!(f, "{}: ", self.file)?,
            _ => {}
        }
        for place in [&self.document, &self.path] {
            if !place.is_empty() {
                write!(f, "{place}: ")?;
            }
        }
        f.write_str(&self.message)
    }
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

/// Reads all documents of all files: exactly one run, and at least one island of it. The model has
/// to stand in them; for one that is in a folder there is [`load_with`].
///
/// # Errors
/// Every problem of every document, not just the first.
pub fn load(sources: &[Source<'_>]) -> Result<Manifests, Problems> {
    load_with(sources, &|_| Err("a folder cannot be read here".into()))
}

/// Like [`load`]; `read` is asked where a run's model is from a folder.
///
/// # Errors
/// Every problem of every document, not just the first.
pub fn load_with(sources: &[Source<'_>], read: ReadConfig<'_>) -> Result<Manifests, Problems> {
    Reader::of(sources).manifests(read)
}

/// A run, whatever islands it has.
#[derive(Clone, Debug, PartialEq)]
pub struct RunAlone {
    /// The `TrainingRun`.
    pub run: RunRequest,
    /// `ComputeIsland`s that stand in the files and were passed over.
    pub islands: usize,
    /// Documents of other kinds, a sentence for each file.
    pub passed_over: Vec<String>,
}

/// Reads exactly one run; islands need not be there. `read` is asked where its model is from a
/// folder.
///
/// # Errors
/// Every problem of the run, and every document that is neither a run nor an island by its fields.
pub fn load_run(sources: &[Source<'_>], read: ReadConfig<'_>) -> Result<RunAlone, Problems> {
    Reader::of(sources).run_alone(read)
}

/// The resources of files, whatever there is of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// The runs.
    pub runs: Vec<TrainingRun>,
    /// The islands.
    pub islands: Vec<ComputeIsland>,
    /// Whether something else stands there that cannot be read: [`load`] says what.
    pub broken: bool,
}

/// Reads those parts of the files that can be read.
pub fn resources(sources: &[Source<'_>]) -> Resources {
    Reader::of(sources).resources()
}

#[cfg(test)]
mod tests;
