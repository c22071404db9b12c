//! `heteroloco plan`: what each island would do, on which cards, and why.

mod cards;
mod column;
mod explain;
mod grid;
mod report;
mod table;
#[cfg(test)]
mod tests;
pub mod words;

use anyhow::Context as _;
use plan::planner::{Refusals, RunPlan};

use self::cards::Request;
use crate::args::{Output, PlanArgs};
use crate::manifests::{self, ManifestError, Planned};
use crate::outlook;

/// A plan, and the cards that it is for.
#[derive(Clone, Debug)]
pub struct View {
    /// The plan.
    pub plan: RunPlan,
    /// The source of its cards.
    pub basis: Basis,
}

/// The source of a plan's cards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Basis {
    /// They are declared; how they stand in nodes is assumed.
    Assumed {
        /// Nodes that were measured.
        measured: Vec<String>,
    },
    /// They are the cards of a cluster's nodes.
    Given {
        /// How many nodes.
        nodes: usize,
        /// Nodes that were measured.
        measured: Vec<String>,
    },
    /// They are the cards of a cluster that nobody holds now.
    Cluster {
        /// How many nodes have cards.
        nodes: usize,
        /// The cards of these nodes.
        cards: usize,
        /// Those that nobody holds.
        idle: usize,
    },
    /// CPU processes stand for them; why.
    Emulated(String),
    /// This machine's own.
    Local,
}

impl Basis {
    /// Its name for tools.
    fn name(&self) -> &'static str {
        match self {
            Self::Assumed { .. } => "assumed",
            Self::Given { .. } => "given",
            Self::Cluster { .. } => "cluster",
            Self::Emulated(_) => "emulated",
            Self::Local => "local",
        }
    }

    /// The line before a plan's tables, where there is something to say.
    fn line(&self) -> Option<String> {
        match self {
            Self::Local => None,
            Self::Emulated(why) => Some(why.clone()),
            Self::Assumed { measured } => Some(format!(
                "ASSUMED NODES: of up to 8 cards, {}; --nodes gives real ones",
                links(measured)
            )),
            Self::Given { nodes, measured } => {
                Some(format!("NODES: {nodes} given, {}", links(measured)))
            }
            Self::Cluster { nodes, cards, idle } => {
                Some(format!("CLUSTER: {idle} of {cards} cards idle on {nodes} nodes; {LINKS}"))
            }
        }
    }
}

/// How fast messages go between nodes where nothing was measured.
const LINKS: &str = "10 Gb/s between them";

/// How fast messages go between nodes, and where that comes from.
fn links(measured: &[String]) -> String {
    match measured {
        [] => format!("{LINKS}, nothing measured (--capability)"),
        _ => format!("{LINKS} but for what was measured on {}", words::listed(measured)),
    }
}

/// Plans as asked. `tell` takes what should be said on the way, sentence by sentence, before
/// anything is refused.
///
/// # Errors
/// When a file cannot be read or says something wrong, or when the planner refuses.
pub fn make(args: &PlanArgs, mut tell: impl FnMut(&str)) -> Result<View, ManifestError> {
    if args.emulate {
        let Planned { plan, emulated, notes } = manifests::load(&args.files, &args.measured, None)?;
        notes.iter().chain(&outlook::notes(&plan)).for_each(|note| tell(note));
        manifests::check_origin(&plan.run)?;
        return Ok(View { plan, basis: emulated.map_or(Basis::Local, Basis::Emulated) });
    }
    let request = Request::read(args)?;
    request.notes.iter().for_each(|note| tell(note));
    let (basis, plan) = (request.basis.clone(), request.plan()?);
    outlook::notes(&plan).iter().for_each(|note| tell(note));
    manifests::check_origin(&plan.run)?;
    Ok(View { plan, basis })
}

/// The text of a plan; `explained` adds the layouts that came near to a table.
///
/// # Errors
/// When it cannot be written as asked, which only a defect brings about.
pub fn print(view: &View, output: Output, explained: bool) -> anyhow::Result<String> {
    match output {
        Output::Table => Ok(table::render(view, explained)),
        output => encode(&report::Report::of(view), output),
    }
}

/// The text of a refusal beside the message for people: nothing, but to tools.
///
/// # Errors
/// When it cannot be written as asked, which only a defect brings about.
pub fn print_refusals(refusals: &Refusals, output: Output) -> anyhow::Result<String> {
    match output {
        Output::Table => Ok(String::new()),
        output => encode(&report::Refused::of(refusals), output),
    }
}

fn encode(report: &impl serde::Serialize, output: Output) -> anyhow::Result<String> {
    match output {
        Output::Yaml => serde_yaml::to_string(report).context("failed to write the plan as YAML"),
        Output::Json | Output::Table => {
            let text = serde_json::to_string_pretty(report);
            Ok(text.context("failed to write the plan as JSON")? + "\n")
        }
    }
}
