//! Proposed islands as manifests, the way that users would write them.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use plan::gpu;
use plan::grouping::{Proposal, Wishes};
use plan::planner::CARDS_MAX;

use crate::island::{
    ComputeIsland, ComputeIslandSpec, Count, CountRange, Device, IdlePolicy, RunRef,
};
use crate::nodes::HOSTNAME;
use crate::pool::IslandTemplate;
use crate::selector::{NodeOperator, NodeRequirement, NodeSelector};

/// Products that an island may list.
const PRODUCTS_MAX: usize = 32;

/// A proposal that is no island.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposalError {
    /// More cards than an island is planned for.
    #[error(
        "failed to write island {island}: {cards} cards are more than {CARDS_MAX}: lower \
         minMemory, so that fewer go together"
    )]
    Cards {
        /// The proposal.
        island: String,
        /// How many it has.
        cards: u64,
    },
    /// More products than an island may list.
    #[error(
        "failed to write island {island}: {products} products are more than {PRODUCTS_MAX}: name \
         those to be used"
    )]
    Products {
        /// The proposal.
        island: String,
        /// How many it has.
        products: usize,
    },
}

/// The island that is proposed, for the run of that name. It asks for exactly the cards proposed,
/// fastest first, on exactly the nodes proposed. `hostnames` has the nodes' labels [`HOSTNAME`] by
/// their names; one that is not in it goes by its name.
///
/// # Errors
/// When no island may have as many cards or products.
pub fn island(
    proposal: &Proposal,
    run: &str,
    wishes: &Wishes,
    hostnames: &BTreeMap<&str, &str>,
) -> Result<ComputeIsland, ProposalError> {
    of_template(proposal, run, wishes, hostnames, &IslandTemplate::default())
}

/// The same, with what a pool's islands say: those that harvest take what there is of these cards.
///
/// # Errors
/// When no island may have as many cards or products.
pub fn of_template(
    proposal: &Proposal,
    run: &str,
    wishes: &Wishes,
    hostnames: &BTreeMap<&str, &str>,
    template: &IslandTemplate,
) -> Result<ComputeIsland, ProposalError> {
    let spec = ComputeIslandSpec {
        run_ref: RunRef { name: run.to_owned() },
        objective: template.objective,
        devices: devices(proposal, template)?,
        min_memory: wishes.min_memory.map(Into::into),
        node_selector: Some(selector(&proposal.nodes, hostnames)),
        uplink: None,
        idle: template.idle.clone(),
        parallelism: None,
        pipeline: template.pipeline.clone(),
        suspend: false,
        start_deadline: None,
        tolerations: template.tolerations.clone(),
    };
    Ok(ComputeIsland::new(&proposal.name, spec))
}

fn devices(proposal: &Proposal, template: &IslandTemplate) -> Result<Vec<Device>, ProposalError> {
    let harvests = template.idle.as_ref().is_some_and(|idle| idle.policy == IdlePolicy::Harvest);
    let Proposal { name, products, .. } = proposal;
    let cards: u64 = products.iter().map(|(_, count)| u64::from(*count)).sum();
    if cards > CARDS_MAX as u64 {
        return Err(ProposalError::Cards { island: name.clone(), cards });
    }
    if products.len() > PRODUCTS_MAX {
        let products = products.len();
        return Err(ProposalError::Products { island: name.clone(), products });
    }
    let device = |(product, count): &(String, u32)| Device {
        product: product.clone(),
        count: match harvests {
            true => Count::Between(CountRange { min: 0, max: *count }),
            false => Count::Exactly(*count),
        },
        memory: None,
        tflops: None,
        cost_per_hour: None,
    };
    let mut devices: Vec<_> = products.iter().map(device).collect();
    let speed = |device: &Device| gpu::tflops(&device.product);
    devices.sort_by(|a, b| speed(b).total_cmp(&speed(a)));
    Ok(devices)
}

fn selector(nodes: &[String], hostnames: &BTreeMap<&str, &str>) -> NodeSelector {
    let hostname = |node: &String| (*hostnames.get(node.as_str()).unwrap_or(&node.as_str())).into();
    let requirement = NodeRequirement {
        key: HOSTNAME.into(),
        operator: NodeOperator::In,
        values: nodes.iter().map(hostname).collect(),
    };
    NodeSelector { match_labels: BTreeMap::new(), match_expressions: vec![requirement] }
}

impl ComputeIsland {
    /// The manifest, one YAML document without the dashes in front.
    pub fn to_yaml(&self) -> String {
        serde_yaml::to_string(self).expect("an island is plain data")
    }
}
