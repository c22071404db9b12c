//! Manifests from files: several documents, one run, its islands, every problem at once.

use std::collections::BTreeMap;
use std::fmt;

use kube::CustomResourceExt;
use plan::request::{IslandRequest, RunRequest};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::convert::ReadConfig;
use crate::crds::spec_schema;
use crate::island::ComputeIsland;
use crate::run::TrainingRun;
use crate::schema::{FieldProblem, check};
use crate::selector::NodeSelector;

/// The group and version of both kinds.
const API_VERSION: &str = "heteroloco.dev/v1alpha1";

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
    /// Which nodes each of the islands may use, in the same order; all where absent. Whoever knows
    /// the nodes writes the names of those selected into [`IslandRequest::nodes`].
    pub selectors: Vec<Option<NodeSelector>>,
    /// What stands in the files but has no effect on one machine, a sentence each.
    pub notes: Vec<String>,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The document in it: `ComputeIsland lab`, `document 2`; may be empty.
    pub document: String,
    /// The field, `spec.devices[0].count`; may be empty.
    pub path: String,
    /// What is wrong and what to change.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for place in [&self.file, &self.document, &self.path] {
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
    let mut reader = Reader::default();
    for source in sources {
        reader.read(source);
    }
    reader.finish(read)
}

/// A run, whatever islands it has.
#[derive(Clone, Debug, PartialEq)]
pub struct RunAlone {
    /// The `TrainingRun`.
    pub run: RunRequest,
    /// `ComputeIsland`s that stand in the files and were passed over.
    pub islands: usize,
}

/// Reads exactly one run; islands need not be there. `read` is asked where its model is from a
/// folder.
///
/// # Errors
/// Every problem of the run, and every document that is neither a run nor an island by its fields.
pub fn load_run(sources: &[Source<'_>], read: ReadConfig<'_>) -> Result<RunAlone, Problems> {
    let mut reader = Reader::default();
    for source in sources {
        reader.read(source);
    }
    reader.check_runs();
    let run = reader.run(read);
    match run {
        Some(run) if reader.problems.is_empty() => {
            Ok(RunAlone { run, islands: reader.islands.len() })
        }
        _ => Err(Problems(reader.problems)),
    }
}

/// Where a document stands.
#[derive(Clone, Debug)]
struct Place {
    file: String,
    document: String,
}

impl Place {
    /// For what is missing.
    const NOWHERE: Place = Place { file: String::new(), document: String::new() };

    fn problem(&self, field: FieldProblem) -> Problem {
        Problem {
            file: self.file.clone(),
            document: self.document.clone(),
            path: field.path,
            message: field.message,
        }
    }
}

/// What was read so far.
#[derive(Default)]
struct Reader {
    runs: Vec<(Place, TrainingRun)>,
    islands: Vec<(Place, ComputeIsland)>,
    /// Documents of the two kinds that could not be read: they count, but are not looked at again.
    broken_runs: usize,
    broken_islands: usize,
    problems: Vec<Problem>,
}

impl Reader {
    fn read(&mut self, source: &Source<'_>) {
        for (i, document) in serde_yaml::Deserializer::from_str(source.text).enumerate() {
            let mut place =
                Place { file: source.name.to_owned(), document: format!("document {}", i + 1) };
            let parsed = serde_yaml::Value::deserialize(document)
                .map_err(|error| error.to_string())
                .and_then(|yaml| serde_json::to_value(yaml).map_err(|error| error.to_string()));
            match parsed {
                Ok(Value::Null) => {}
                Ok(value) => {
                    if let Some(name) = named(&value) {
                        place.document = name;
                    }
                    self.document(place, &value);
                }
                Err(error) => {
                    self.problem(&place, "", format!("this is not YAML: {error}"));
                    return;
                }
            }
        }
    }

    fn problem(&mut self, place: &Place, path: &str, message: impl Into<String>) {
        self.problems.push(place.problem(FieldProblem::new(path, message)));
    }

    fn document(&mut self, place: Place, value: &Value) {
        let version = value["apiVersion"].as_str();
        match (version, value["kind"].as_str()) {
            (Some(API_VERSION), Some("TrainingRun")) => match self.resource(&place, value) {
                Some(run) => self.runs.push((place, run)),
                None => self.broken_runs += 1,
            },
            (Some(API_VERSION), Some("ComputeIsland")) => match self.resource(&place, value) {
                Some(island) => self.islands.push((place, island)),
                None => self.broken_islands += 1,
            },
            (version, kind) => {
                let message = format!(
                    "{} {} is not known here: write apiVersion: {API_VERSION} and kind: \
                     TrainingRun or ComputeIsland",
                    version.unwrap_or("no apiVersion"),
                    kind.unwrap_or("and no kind"),
                );
                self.problem(&place, "", message);
            }
        }
    }

    /// The document as a resource, once its envelope and its spec follow the schema.
    fn resource<Kind>(&mut self, place: &Place, value: &Value) -> Option<Kind>
    where
        Kind: CustomResourceExt + DeserializeOwned,
    {
        let mut found = Vec::new();
        check_envelope(value, &mut found);
        match value.get("spec") {
            Some(spec) => check(&spec_schema::<Kind>(), spec, "spec", &mut found),
            None => found.push(FieldProblem::new("spec", "missing: what is wanted")),
        }
        if found.is_empty() {
            match serde_path_to_error::deserialize(value) {
                Ok(resource) => return Some(resource),
                Err(error) => found
                    .push(FieldProblem::new(error.path().to_string(), error.inner().to_string())),
            }
        }
        self.problems.extend(found.into_iter().map(|field| place.problem(field)));
        None
    }

    fn finish(mut self, read: ReadConfig<'_>) -> Result<Manifests, Problems> {
        self.check_names();
        self.check_runs();
        self.check_references();
        let (mut notes, mut islands, mut selectors) = (Vec::new(), Vec::new(), Vec::new());
        for (place, island) in std::mem::take(&mut self.islands) {
            notes.extend(unused(&island, &place));
            islands.extend(self.converted(&place, island.request()));
            selectors.push(island.spec.node_selector);
        }
        let run = self.run(read);
        match run {
            Some(run) if self.problems.is_empty() => {
                Ok(Manifests { run, islands, selectors, notes })
            }
            _ => Err(Problems(self.problems)),
        }
    }

    /// The run as the planner needs it; the last one where there are several, which is a problem.
    fn run(&mut self, read: ReadConfig<'_>) -> Option<RunRequest> {
        let mut run = None;
        for (place, resource) in std::mem::take(&mut self.runs) {
            run = self.converted(&place, resource.request(read));
        }
        run
    }

    fn converted<T>(&mut self, place: &Place, made: Result<T, Vec<FieldProblem>>) -> Option<T> {
        made.map_err(|fields| {
            self.problems.extend(fields.into_iter().map(|field| place.problem(field)));
        })
        .ok()
    }

    fn check_names(&mut self) {
        let mut seen: BTreeMap<String, Place> = BTreeMap::new();
        let mut twice = Vec::new();
        for (place, island) in &self.islands {
            let name = island.metadata.name.clone().unwrap_or_default();
            match seen.get(&name) {
                Some(first) => twice.push((place.clone(), name, first.file.clone())),
                None => {
                    seen.insert(name, place.clone());
                }
            }
        }
        for (place, name, file) in twice {
            let message = format!("{name} stands in {file} already: islands need unlike names");
            self.problem(&place, "metadata.name", message);
        }
    }

    fn check_runs(&mut self) {
        let names = self.run_names();
        if names.len() > 1 {
            for (place, _) in self.runs.clone().into_iter().skip(1) {
                let message =
                    format!("there is a TrainingRun already, {}: give one at a time", names[0]);
                self.problem(&place, "", message);
            }
        }
        if self.runs.is_empty() && self.broken_runs == 0 {
            self.problem(&Place::NOWHERE, "", "no TrainingRun in these files: add one with -f");
        }
    }

    fn run_names(&self) -> Vec<String> {
        self.runs.iter().filter_map(|(_, run)| run.metadata.name.clone()).collect()
    }

    fn check_references(&mut self) {
        let names = self.run_names();
        if self.islands.is_empty() && self.broken_islands == 0 {
            self.problem(&Place::NOWHERE, "", "no ComputeIsland in these files: add one with -f");
        }
        if self.broken_runs > 0 || names.is_empty() {
            return;
        }
        for (place, island) in self.islands.clone() {
            let wanted = &island.spec.run_ref.name;
            if !names.contains(wanted) {
                let message = format!("there is no TrainingRun {wanted}, but {}", names.join(", "));
                self.problem(&place, "spec.runRef.name", message);
            }
        }
    }
}

/// `KIND NAME`, where the document has both.
fn named(value: &Value) -> Option<String> {
    Some(format!("{} {}", value["kind"].as_str()?, value["metadata"]["name"].as_str()?))
}

/// The parts around the spec. `status` is the operator's and is passed over, as it is by kubectl.
fn check_envelope(value: &Value, found: &mut Vec<FieldProblem>) {
    const KNOWN: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
    for name in value.as_object().into_iter().flat_map(|fields| fields.keys()) {
        if !KNOWN.contains(&name.as_str()) {
            let message = "unknown field; the fields here are apiVersion, kind, metadata, spec";
            found.push(FieldProblem::new(name, message));
        }
    }
    match value["metadata"]["name"].as_str() {
        None => found.push(FieldProblem::new("metadata.name", "missing: name the resource")),
        Some(name) if !is_label(name) => found.push(FieldProblem::new(
            "metadata.name",
            format!(
                "{name:?} is not a name: write at most 63 small letters, digits and hyphens, \
                 beginning and ending with a letter or digit"
            ),
        )),
        Some(_) => {}
    }
}

/// Whether Kubernetes takes the text as a DNS label; it also becomes a folder's name.
fn is_label(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=63).contains(&name.len())
        && name.chars().all(|c| plain(c) || c == '-')
        && name.starts_with(plain)
        && name.ends_with(plain)
}

/// What has no effect on one machine.
fn unused(island: &ComputeIsland, place: &Place) -> Option<String> {
    let spec = &island.spec;
    let fields = [("nodeSelector", spec.node_selector.is_some()), ("idle", spec.idle.is_some())];
    let set: Vec<_> = fields.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect();
    (!set.is_empty())
        .then(|| format!("{}: no effect on one machine: {}", place.document, set.join(", ")))
}

#[cfg(test)]
mod tests;
