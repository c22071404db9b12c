//! The cards that declared ones are planned on: nodes that were given, or else assumed ones, with
//! what was measured on them.

use api::Manifests;
use api::nodes::FoundNodes;
use plan::nodes::Site;
use plan::planner::{RunPlan, plan_run};
use plan::request::{Execution, RunRequest};

use super::Basis;
use crate::args::PlanArgs;
use crate::manifests::{self, ManifestError};
use crate::measured::Measured;

/// Everything that a plan is made from.
pub(super) struct Request {
    run: RunRequest,
    site: Site,
    pub basis: Basis,
    /// Nodes that were left out, and corrections that may not be what was meant, a sentence each.
    pub notes: Vec<String>,
}

impl Request {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file cannot be read or says something wrong.
    pub(super) fn read(args: &PlanArgs) -> Result<Request, ManifestError> {
        let summaries = Measured::read(&args.measured)?;
        let manifests = manifests::manifests(&args.files)?;
        let found = args.nodes.as_deref().map(manifests::nodes).transpose()?;
        let records = manifests::records(&args.capability)?;
        let mut measured: Vec<String> = records.iter().map(|record| record.node.clone()).collect();
        let Manifests { run, mut islands, selectors, tolerations, passed_over: mut notes, .. } =
            manifests;
        notes.extend(summaries.correct(&mut islands));
        notes.extend(summaries.emulated());
        let (site, basis) = match found {
            None => {
                let mut site = Site::assumed(islands);
                notes.append(&mut site.notes);
                (site, Basis::Assumed { measured })
            }
            Some(found) => {
                measured.extend(annotated(&found));
                measured.sort_unstable();
                measured.dedup();
                let basis = Basis::Given { nodes: found.nodes.len(), measured };
                let mut site = Site { islands, ..Site::default() };
                let wanted = selectors.iter().zip(&tolerations);
                for (island, (selector, tolerations)) in site.islands.iter_mut().zip(wanted) {
                    let (names, kept) =
                        found.selected(&island.name, selector.as_ref(), tolerations);
                    island.nodes = (selector.is_some() || !kept.is_empty()).then_some(names);
                    notes.extend(kept);
                }
                notes.extend(found.notes);
                site.nodes = found.nodes.into_iter().map(|(node, _)| node).collect();
                (site, basis)
            }
        };
        Ok(Request { run, site: site.measured(&records)?, basis, notes })
    }

    /// Plans it.
    ///
    /// # Errors
    /// When the planner refuses.
    pub(super) fn plan(self) -> Result<RunPlan, ManifestError> {
        let Site { nodes, islands, .. } = self.site;
        let execution = Execution::Cluster { nodes };
        plan_run(&self.run, &islands, &execution).map_err(ManifestError::Refused)
    }
}

/// Names of the nodes that came with measurements.
fn annotated(found: &FoundNodes) -> impl Iterator<Item = String> {
    let nodes = found.nodes.iter().map(|(node, _)| node);
    let measured = nodes.filter(|node| node.cards.iter().any(|card| card.measured.is_some()));
    measured.map(|node| node.name.clone())
}
