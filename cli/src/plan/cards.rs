//! What declared cards are planned on: nodes that were given, or else assumed ones, with what was
//! measured on them.

use std::collections::BTreeSet;
use std::path::Path;

use api::Manifests;
use api::nodes::FoundNodes;
use api::selector::NodeSelector;
use plan::cluster::Capability;
use plan::nodes::Site;
use plan::planner::{RunPlan, plan_run};
use plan::request::{Execution, RunRequest};

use super::Basis;
use crate::args::PlanArgs;
use crate::manifests::{self, ManifestError};

/// Everything that a plan is made from.
pub(super) struct Request {
    run: RunRequest,
    site: Site,
    pub basis: Basis,
    /// Nodes that were left out, and why, a sentence each.
    pub notes: Vec<String>,
}

impl Request {
    /// Reads the files.
    ///
    /// # Errors
    /// When a file cannot be read or says something wrong.
    pub(super) fn read(args: &PlanArgs) -> Result<Request, ManifestError> {
        let manifests = manifests::manifests(&args.files)?;
        let found = args.nodes.as_deref().map(nodes).transpose()?;
        let records = args.capability.iter().map(|path| record(path));
        let records = records.collect::<Result<Vec<_>, _>>()?;
        let measured = records.iter().map(|record| record.node.clone()).collect();
        let Manifests { run, islands, selectors, .. } = manifests;
        let (site, basis, notes) = match found {
            None => (Site::assumed(islands), Basis::Assumed { measured }, Vec::new()),
            Some(found) => {
                let basis = Basis::Given { nodes: found.nodes.len(), measured };
                let mut site = Site { nodes: Vec::new(), islands };
                for (island, selector) in site.islands.iter_mut().zip(&selectors) {
                    island.nodes = selector.as_ref().map(|selector| selected(&found, selector));
                }
                site.nodes = found.nodes.into_iter().map(|(node, _)| node).collect();
                (site, basis, found.notes)
            }
        };
        Ok(Request { run, site: site.measured(&records)?, basis, notes })
    }

    /// Plans it.
    ///
    /// # Errors
    /// When the planner refuses.
    pub(super) fn plan(self) -> Result<RunPlan, ManifestError> {
        let Site { nodes, islands } = self.site;
        let execution = Execution::Cluster { nodes };
        plan_run(&self.run, &islands, &execution).map_err(ManifestError::Refused)
    }
}

fn selected(found: &FoundNodes, selector: &NodeSelector) -> BTreeSet<String> {
    let selected = found.nodes.iter().filter(|(_, labels)| selector.selects(labels));
    selected.map(|(node, _)| node.name.clone()).collect()
}

fn nodes(path: &Path) -> Result<FoundNodes, ManifestError> {
    let (_, text) = manifests::read(path)?;
    api::nodes::nodes(&text)
        .map_err(|source| ManifestError::Nodes { path: path.to_owned(), source })
}

fn record(path: &Path) -> Result<Capability, ManifestError> {
    let text = manifests::read_json(path)
        .map_err(|source| ManifestError::Read { path: path.to_owned(), source })?;
    serde_json::from_str(&text)
        .map_err(|source| ManifestError::Record { path: path.to_owned(), source })
}
