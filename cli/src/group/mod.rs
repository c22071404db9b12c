//! `heteroloco group`: which of a cluster's nodes make islands for a run.

#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeSet;

use api::RunAlone;
use plan::cluster::{Node, NodeCard};
use plan::gpu;
use plan::grouping::{self, Wishes};
use plan::nodes::Site;

use crate::args::GroupArgs;
use crate::manifests::{self, ManifestError};

/// Islands that are proposed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// A YAML document for each, with comments that say why.
    pub manifests: String,
    /// How many there are, a sentence.
    pub summary: String,
}

/// Proposes as asked. `tell` takes what should be said on the way, sentence by sentence, before
/// anything is refused.
///
/// # Errors
/// When a file cannot be read or says something wrong, when no cards make an island, or when a
/// proposal is too large for one.
pub fn make(args: &GroupArgs, mut tell: impl FnMut(&str)) -> Result<Proposed, ManifestError> {
    let RunAlone { run, islands, passed_over } = manifests::run(&args.files)?;
    let found = manifests::nodes(&args.nodes)?.without_tainted();
    let records = manifests::records(&args.capability)?;
    passed_over.iter().chain(&found.notes).for_each(|note| tell(note));
    if islands > 0 {
        tell(&format!(
            "islands are proposed anew, the {islands} in the files are passed over: leave them \
             out where the proposals are used"
        ));
    }
    let nodes = found.nodes.iter().map(|(node, _)| node.clone()).collect();
    let mut site = Site { nodes, ..Site::default() }.measured(&records)?;
    unknown(&mut site.nodes).iter().for_each(|note| tell(note));
    let wishes = Wishes {
        min_memory: args.min_memory,
        max_memory: args.max_memory,
        products: args.product.clone(),
        ..Wishes::default()
    };
    let grouping = grouping::for_run(&run, &site.nodes, &wishes);
    if grouping.proposals.is_empty() {
        return Err(ManifestError::NoIslands(text::refusal(&grouping)));
    }
    let island = |proposal| api::proposal::island(proposal, &run.name, &wishes, &found.hostnames());
    let islands = grouping.proposals.iter().map(island).collect::<Result<Vec<_>, _>>()?;
    Ok(Proposed {
        manifests: text::manifests(&grouping, &islands),
        summary: text::summary(&grouping),
    })
}

/// Takes away cards of which nothing is known, for no plan takes them; a sentence for each product.
fn unknown(nodes: &mut [Node]) -> Vec<String> {
    let known = |card: &NodeCard| {
        card.memory > 0 && (card.measured.is_some() || gpu::part(&card.product).is_some())
    };
    let mut products = BTreeSet::new();
    for node in nodes {
        let others = node.cards.iter().filter(|card| !known(card));
        products.extend(others.map(|card| card.product.clone()));
        node.cards.retain(known);
    }
    let sentence = |product| {
        format!(
            "left out {product}, whose speed or memory is not known: give the record of \
             `heteroloco probe` on its nodes by --capability"
        )
    };
    products.into_iter().map(sentence).collect()
}
