//! From manifest files to a plan on this machine's cards, or on emulated ones.

mod files;

use std::io::Read as _;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::{fs, io, thread};

use api::RunAlone;
use api::nodes::{FoundNodes, NodesError};
use api::proposal::ProposalError;
use api::{Manifests, Problems, Source};
use plan::cluster::Capability;
use plan::nodes::RecordError;
use plan::planner::{Reason, Refusals, RunPlan, plan_run};
use plan::request::{Execution, LocalCard};
use plan::spec::RunSpec;
use pretrained::{Folder, ImportError};

use crate::measured::Measured;

pub use files::manifests as texts;

/// CPU threads of a rank of the product `cpu`: ranks are processes, and many share few cores.
const THREADS: u32 = 1;

/// The name of texts that are of no file, so that they have no lines.
pub const CLUSTER: &str = "the cluster";

/// A larger `config.json` or record of a node is refused.
const JSON_BYTES_MAX: u64 = 1 << 20;

/// A plan and what should be said about how it came to be.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The plan.
    pub plan: RunPlan,
    /// Why the cards are emulated; absent where they are real.
    pub emulated: Option<String>,
    /// Fields without effect on one machine, a sentence each.
    pub notes: Vec<String>,
}

/// Nothing can be planned from these files.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    /// A file cannot be read.
    #[error("failed to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why it cannot be read.
        source: io::Error,
    },
    /// The files say something that makes no sense.
    #[error("failed to understand the manifests:\n{0}")]
    Problems(Problems),
    /// A folder has no manifests.
    #[error(
        "failed to find manifests in {}: no file there ends in .yaml, .yml or .json", .0.display()
    )]
    NoFiles(PathBuf),
    /// A file is no list of nodes.
    #[error("failed to understand {}", path.display())]
    Nodes {
        /// The file.
        path: PathBuf,
        /// The problem with it.
        source: NodesError,
    },
    /// A file is no record of a node.
    #[error("failed to understand {}: give what `heteroloco probe` wrote", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// The problem with it.
        source: serde_json::Error,
    },
    /// A record speaks of something else.
    #[error(transparent)]
    Unlike(#[from] RecordError),
    /// A file is no summary of a run.
    #[error("failed to understand {}: give the summary.json of a run's folder", path.display())]
    Summary {
        /// The file.
        path: PathBuf,
        /// The problem with it.
        source: serde_json::Error,
    },
    /// A summary has nothing that corrects a plan.
    #[error(
        "failed to take corrections from {}: it has none that can be used; give the summary.json \
         of a run that made at least two steps on each island", path.display()
    )]
    NoCalibration {
        /// The file.
        path: PathBuf,
    },
    /// The parameters that the run starts from are not the model's.
    #[error("failed to start from {}", path.display())]
    Origin {
        /// Their folder.
        path: PathBuf,
        /// The problem with them.
        source: ImportError,
    },
    /// No cards make an island; the sentences say why.
    #[error("failed to propose islands: no cards make one:\n{}", .0.join("\n"))]
    NoIslands(Vec<String>),
    /// A proposal is too large for an island.
    #[error(transparent)]
    Proposal(#[from] ProposalError),
    /// The islands cannot do what the run asks for.
    #[error("failed to plan the run:\n{0}")]
    Refused(Refusals),
}

/// Reads and plans, with estimates corrected by the summaries of earlier runs; `data` replaces the
/// run's own data folder.
///
/// # Errors
/// When a file cannot be read or says something wrong, or when the planner refuses.
pub fn load(
    files: &[PathBuf],
    measured: &[PathBuf],
    data: Option<&Path>,
) -> Result<Planned, ManifestError> {
    let measured = Measured::read(measured)?;
    let mut manifests = manifests(files)?;
    manifests.notes.append(&mut manifests.passed_over);
    manifests.notes.extend(measured.correct(&mut manifests.islands));
    if let Some(data) = data {
        manifests.run.data = data.to_owned();
    }
    let mut planned = plan_on(&manifests, crate::devices::detect())?;
    if planned.emulated.is_none() {
        planned.notes.extend(measured.emulated());
    }
    Ok(planned)
}

/// Reads manifests, and what the run starts from.
///
/// # Errors
/// When a file cannot be read or says something wrong.
pub(crate) fn manifests(files: &[PathBuf]) -> Result<Manifests, ManifestError> {
    let texts = files::manifests(files)?;
    let loaded = api::load_with(&sources(&texts), &read_config);
    let mut manifests = loaded.map_err(ManifestError::Problems)?;
    manifests.run.from = manifests.run.from.map(absolute);
    Ok(manifests)
}

/// Looks at the names and shapes of the parameters that a run starts from, before anything is
/// started.
///
/// # Errors
/// When they are not the model's.
pub(crate) fn check_origin(run: &RunSpec) -> Result<(), ManifestError> {
    let (Some(path), Ok(model)) = (&run.from, run.model.validate()) else { return Ok(()) };
    let opened = Folder::open(path, &model);
    opened.map(drop).map_err(|source| ManifestError::Origin { path: path.clone(), source })
}

/// Understands manifests as the operator does, each a name for messages and its text: no folder of
/// a model is read in a cluster.
///
/// # Errors
/// When they say something wrong.
pub fn of_cluster(texts: &[(String, String)]) -> Result<Manifests, ManifestError> {
    let unread = |folder: &Path| {
        Err(format!("{} is not read in a cluster: give preset or config", folder.display()))
    };
    api::load_with(&sources(texts), &unread).map_err(|mut problems| {
        let of_cluster = problems.0.iter_mut().filter(|problem| problem.file == CLUSTER);
        of_cluster.for_each(|problem| problem.mark = None);
        ManifestError::Problems(problems)
    })
}

/// Reads a run; islands need not be there.
///
/// # Errors
/// When a file cannot be read or says something wrong.
pub(crate) fn run(files: &[PathBuf]) -> Result<RunAlone, ManifestError> {
    let texts = files::manifests(files)?;
    api::load_run(&sources(&texts), &read_config).map_err(ManifestError::Problems)
}

/// A name for messages and a text, as sources of manifests.
pub fn sources(texts: &[(String, String)]) -> Vec<Source<'_>> {
    texts.iter().map(|(name, text)| Source { name, text }).collect()
}

/// Reads a cluster's nodes.
///
/// # Errors
/// When the file cannot be read or is no list of nodes.
pub(crate) fn nodes(path: &Path) -> Result<FoundNodes, ManifestError> {
    let text = files::read(path, api::nodes::TEXT_MAX)?;
    api::nodes::nodes(&text)
        .map_err(|source| ManifestError::Nodes { path: path.to_owned(), source })
}

/// Reads what was measured on nodes.
///
/// # Errors
/// When a file cannot be read or is no record.
pub(crate) fn records(paths: &[PathBuf]) -> Result<Vec<Capability>, ManifestError> {
    let record = |path: &PathBuf| {
        let text =
            read_json(path).map_err(|source| ManifestError::Read { path: path.clone(), source })?;
        serde_json::from_str(&text)
            .map_err(|source| ManifestError::Record { path: path.clone(), source })
    };
    paths.iter().map(record).collect()
}

/// Plans on the machine's cards where they suffice, on emulated ones where they do not.
fn plan_on(manifests: &Manifests, cards: Vec<LocalCard>) -> Result<Planned, ManifestError> {
    let found = shown(&cards);
    let local = Execution::Local { cards, threads: THREADS };
    let (plan, emulated) = match plan_run(&manifests.run, &manifests.islands, &local) {
        Ok(plan) => (plan, None),
        Err(refusals) if lacks_cards(&refusals) => {
            let cores = thread::available_parallelism().map_or(1, NonZero::get);
            let cores = u32::try_from(cores).unwrap_or(u32::MAX);
            let execution = Execution::Emulated { cores };
            let plan = plan_run(&manifests.run, &manifests.islands, &execution);
            (plan.map_err(ManifestError::Refused)?, Some(emulation(&found)))
        }
        Err(refusals) => return Err(ManifestError::Refused(refusals)),
    };
    Ok(Planned { plan, emulated, notes: manifests.notes.clone() })
}

/// Says whether more cards would help: where something else is wrong too, emulation says it again.
fn lacks_cards(refusals: &Refusals) -> bool {
    refusals.0.iter().any(|refusal| refusal.reason == Reason::NotEnoughCards)
}

fn emulation(found: &str) -> String {
    format!(
        "EMULATED CARDS: {found}, so every declared card is a CPU process of its relative speed; \
         memory and speed are the catalogue's, not measured"
    )
}

fn shown(cards: &[LocalCard]) -> String {
    if cards.is_empty() {
        return "this machine has no NVIDIA GPU".to_owned();
    }
    let names: Vec<&str> = cards.iter().map(|card| card.product.as_str()).collect();
    format!("this machine has only {}", names.join(", "))
}

/// The ranks may have another current folder.
fn absolute(path: PathBuf) -> PathBuf {
    path.canonicalize().or_else(|_| std::path::absolute(&path)).unwrap_or(path)
}

fn read_config(folder: &Path) -> Result<String, String> {
    let path = folder.join("config.json");
    let failed = |error: io::Error| {
        format!(
            "failed to read {}: {error}; name the folder of a model in Hugging Face's form",
            path.display()
        )
    };
    read_json(&path).map_err(failed)
}

/// The beginning of a file that is too large is no JSON.
pub(crate) fn read_json(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(JSON_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_taken_from_a_folder_that_the_ranks_find_too() {
        let folder = tempfile::tempdir().unwrap();
        let model = folder.path().join("model");
        let manifest = folder.path().join("run.yaml");
        let text = include_str!("../../examples/quickstart.yaml")
            .replace("preset: llama-demo", &format!("from: {}/../model", model.display()));
        fs::write(&manifest, text).unwrap();
        let files = [manifest];
        let refused = load(&files, &[], None).unwrap_err().to_string();
        assert!(refused.contains("spec.model.from: failed to read"), "{refused}");
        fs::create_dir(&model).unwrap();
        let config = r#"{"model_type": "llama", "hidden_size": 64, "intermediate_size": 96,
            "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 300,
            "max_position_embeddings": 256}"#;
        fs::write(model.join("config.json"), config).unwrap();
        let run = load(&files, &[], None).unwrap().plan.run;
        assert_eq!(run.from, Some(model.canonicalize().unwrap()));
        assert_eq!(run.model.vocab_size, 300);
    }
}
