//! Reads the documents of all files, one after another, and puts them together.

use std::collections::BTreeMap;

use plan::request::RunRequest;
use plan::words;
use serde_json::Value;

use super::envelope::{self, Kind};
use super::resource::{self, Manifest};
use super::{Manifests, Problem, Problems, Resources, RunAlone, Source};
use crate::convert::ReadConfig;
use crate::island::ComputeIsland;
use crate::run::TrainingRun;
use crate::schema::FieldProblem;
use crate::yaml::{Spot, Text};

/// Problems whose line is looked up: each has its text read again.
const MARKED_MAX: usize = 64;
/// Documents that a note names.
const NAMED_MAX: usize = 4;
/// Lists in lists.
const NESTED_MAX: usize = 8;

/// The place of a document.
#[derive(Clone, Debug)]
struct Place {
    /// Index of the source.
    source: usize,
    /// Absent where the document could not be read.
    spot: Option<Spot>,
    /// Its path in a list: `items[0].`.
    prefix: String,
    /// Its kind and name, or its number.
    document: String,
}

/// The state of reading: everything read so far.
pub(super) struct Reader<'a> {
    sources: &'a [Source<'a>],
    texts: Vec<Text<'a>>,
    runs: Vec<(Place, TrainingRun)>,
    islands: Vec<(Place, ComputeIsland)>,
    /// Documents of the two kinds that could not be read: they count, but are not looked at again.
    broken_runs: usize,
    broken_islands: usize,
    /// Whether something was not read, or may be one of the two kinds: nothing is missed then.
    unclear: bool,
    /// The documents that were passed over, by source.
    foreign: BTreeMap<usize, Vec<String>>,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    /// Reads everything.
    pub(super) fn of(sources: &'a [Source<'a>]) -> Self {
        let mut reader = Self {
            sources,
            texts: sources.iter().map(|source| Text::new(source.text)).collect(),
            runs: Vec::new(),
            islands: Vec::new(),
            broken_runs: 0,
            broken_islands: 0,
            unclear: false,
            foreign: BTreeMap::new(),
            problems: Vec::new(),
        };
        for source in 0..sources.len() {
            reader.read(source);
        }
        reader
    }

    fn read(&mut self, source: usize) {
        let (documents, broken) = self.texts[source].documents();
        for (number, (spot, value)) in documents.into_iter().enumerate() {
            let document = format!("document {}", number + 1);
            self.document(
                Place { source, spot: Some(spot), prefix: String::new(), document },
                value,
            );
        }
        if let Some(broken) = broken {
            self.unclear = true;
            self.problems.push(Problem {
                file: self.sources[source].name.to_owned(),
                mark: broken.mark,
                document: format!("document {}", broken.document),
                path: String::new(),
                message: format!("this is not YAML: {}", broken.message),
            });
        }
    }

    fn problem(&mut self, place: &Place, field: FieldProblem) {
        let spot = place.spot.filter(|_| self.problems.len() < MARKED_MAX);
        let path = format!("{}{}", place.prefix, field.path);
        let mark = spot.and_then(|spot| self.texts[place.source].mark(spot, &path));
        self.problems.push(Problem {
            file: self.sources[place.source].name.to_owned(),
            mark,
            document: place.document.clone(),
            path: field.path,
            message: field.message,
        });
    }

    /// Something is missing, in no file.
    fn missing(&mut self, message: String) {
        let (file, document, path) = Default::default();
        self.problems.push(Problem { file, mark: None, document, path, message });
    }

    fn document(&mut self, mut place: Place, value: Value) {
        if let Some(name) = envelope::named(&value) {
            place.document = name;
        }
        match envelope::kind(&value) {
            Kind::Run => match self.resource(&place, value) {
                Some(run) => self.runs.push((place, run)),
                None => self.broken_runs += 1,
            },
            Kind::Island => match self.resource(&place, value) {
                Some(island) => self.islands.push((place, island)),
                None => self.broken_islands += 1,
            },
            Kind::List => self.list(&place, value),
            Kind::Foreign(kind) => {
                let named = envelope::named(&value).unwrap_or(kind);
                self.foreign.entry(place.source).or_default().push(named);
            }
            Kind::Unclear(message) => {
                self.unclear = true;
                self.problem(&place, FieldProblem::new("", message));
            }
        }
    }

    fn list(&mut self, place: &Place, mut value: Value) {
        let items = match value["items"].take() {
            Value::Null => return,
            Value::Array(items) if place.prefix.matches("items").count() < NESTED_MAX => items,
            _ => {
                self.unclear = true;
                let message = "has to be a list of resources";
                return self.problem(place, FieldProblem::new("items", message));
            }
        };
        for (i, item) in items.into_iter().enumerate() {
            let prefix = format!("{}items[{i}].", place.prefix);
            let document = format!("{}, item {}", place.document, i + 1);
            self.document(Place { prefix, document, ..place.clone() }, item);
        }
    }

    fn resource<K: Manifest>(&mut self, place: &Place, value: Value) -> Option<K> {
        let text = &self.texts[place.source];
        let written = |path: &str| text.written(place.spot?, &format!("{}{path}", place.prefix));
        match resource::read(value, &written) {
            Ok(resource) => Some(resource),
            Err(found) => {
                found.into_iter().for_each(|field| self.problem(place, field));
                None
            }
        }
    }

    /// Exactly one run, and at least one island of it.
    pub(super) fn manifests(mut self, read: ReadConfig<'_>) -> Result<Manifests, Problems> {
        self.check_names();
        self.check_runs();
        self.check_references();
        let passed_over = self.passed_over();
        let (mut notes, mut islands) = (Vec::new(), Vec::new());
        let (mut selectors, mut tolerations) = (Vec::new(), Vec::new());
        for (place, island) in std::mem::take(&mut self.islands) {
            notes.extend(unused(&island, &place));
            islands.extend(self.converted(&place, island.request()));
            selectors.push(island.spec.node_selector);
            tolerations.push(island.spec.tolerations);
        }
        let run = self.run(read);
        match run {
            Some(run) if self.problems.is_empty() => {
                Ok(Manifests { run, islands, selectors, tolerations, notes, passed_over })
            }
            _ => Err(Problems(self.problems)),
        }
    }

    /// Exactly one run.
    pub(super) fn run_alone(mut self, read: ReadConfig<'_>) -> Result<RunAlone, Problems> {
        self.check_runs();
        let run = self.run(read);
        match run {
            Some(run) if self.problems.is_empty() => {
                let passed_over = self.passed_over();
                Ok(RunAlone { run, islands: self.islands.len(), passed_over })
            }
            _ => Err(Problems(self.problems)),
        }
    }

    /// Whatever there is.
    pub(super) fn resources(self) -> Resources {
        Resources {
            runs: self.runs.into_iter().map(|(_, run)| run).collect(),
            islands: self.islands.into_iter().map(|(_, island)| island).collect(),
            broken: !self.problems.is_empty(),
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
            fields.into_iter().for_each(|field| self.problem(place, field));
        })
        .ok()
    }

    fn check_names(&mut self) {
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        let mut twice = Vec::new();
        for (place, island) in &self.islands {
            let name = island.metadata.name.clone().unwrap_or_default();
            match seen.get(&name) {
                Some(first) => twice.push((place.clone(), name, self.sources[*first].name)),
                None => {
                    seen.insert(name, place.source);
                }
            }
        }
        for (place, name, file) in twice {
            let message = format!("{name} stands in {file} already: islands need unlike names");
            self.problem(&place, FieldProblem::new("metadata.name", message));
        }
    }

    fn check_runs(&mut self) {
        let names = self.run_names();
        let others: Vec<Place> = self.runs.iter().skip(1).map(|(place, _)| place.clone()).collect();
        for place in others {
            let message =
                format!("there is a TrainingRun already, {}: give one at a time", names[0]);
            self.problem(&place, FieldProblem::new("", message));
        }
        if self.runs.is_empty() && self.broken_runs == 0 {
            self.miss("TrainingRun");
        }
    }

    fn run_names(&self) -> Vec<String> {
        self.runs.iter().filter_map(|(_, run)| run.metadata.name.clone()).collect()
    }

    fn check_references(&mut self) {
        let names = self.run_names();
        if self.islands.is_empty() && self.broken_islands == 0 {
            self.miss("ComputeIsland");
        }
        if self.broken_runs > 0 || names.is_empty() || self.unclear {
            return;
        }
        let islands = self.islands.iter();
        let lost = islands.filter(|(_, island)| !names.contains(&island.spec.run_ref.name));
        let lost: Vec<(Place, String)> =
            lost.map(|(place, island)| (place.clone(), island.spec.run_ref.name.clone())).collect();
        for (place, wanted) in lost {
            let message = format!("there is no TrainingRun {wanted}, but {}", names.join(", "));
            self.problem(&place, FieldProblem::new("spec.runRef.name", message));
        }
    }

    /// No document of a kind: not where it may stand in what could not be read.
    fn miss(&mut self, kind: &str) {
        if self.unclear {
            return;
        }
        let message = format!("no {kind} in these files: add one with -f");
        let others = self.passed_over();
        self.missing(match others.is_empty() {
            true => message,
            false => format!("{message} ({})", others.join("; ")),
        });
    }

    /// The documents in the files that are none of ours, a sentence for each file.
    fn passed_over(&self) -> Vec<String> {
        let sentence = |(source, named): (&usize, &Vec<String>)| {
            let file = self.sources[*source].name;
            format!("{file}: passed over: {}", words::named(named, NAMED_MAX))
        };
        self.foreign.iter().map(sentence).collect()
    }
}

/// A note on the fields that have no effect on one machine.
fn unused(island: &ComputeIsland, place: &Place) -> Option<String> {
    let spec = &island.spec;
    let fields = [("nodeSelector", spec.node_selector.is_some()), ("idle", spec.idle.is_some())];
    let set: Vec<_> = fields.into_iter().filter(|(_, set)| *set).map(|(name, _)| name).collect();
    (!set.is_empty())
        .then(|| format!("{}: no effect on one machine: {}", place.document, set.join(", ")))
}
