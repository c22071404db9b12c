//! Tests that what is written of a proposal is read back as it was meant.

use std::collections::BTreeSet;

use plan::cluster::{Links, Node, NodeCard, Topology};
use plan::grouping::{Predict, Reason, propose};
use plan::request::IslandRequest;

use super::*;
use crate::load::{Manifests, Source, load};

const RUN: &str = "\
apiVersion: heteroloco.dev/v1alpha1
kind: TrainingRun
metadata: {name: mini}
spec:
  model: {preset: llama-demo}
  data: {path: data, tokenizer: byte}
  tokens: 1000000
";

fn proposal(nodes: &[&str], products: &[(&str, u32)]) -> Proposal {
    Proposal {
        name: "east-r1".into(),
        nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
        products: products.iter().map(|(product, count)| ((*product).into(), *count)).collect(),
        memory: 0,
        reason: Reason::default(),
    }
}

/// A planner for which one island is as good as two.
struct Any;

impl Predict for Any {
    fn holds(&self, _: &[Node]) -> bool {
        true
    }

    fn tokens_per_second(&self, nodes: &[Node]) -> Option<f64> {
        Some(nodes.len() as f64)
    }
}

fn wish(min_memory: Option<u64>) -> Wishes {
    Wishes { min_memory, ..Wishes::default() }
}

fn read(island: &ComputeIsland) -> Manifests {
    let text = format!("{RUN}---\n{}", island.to_yaml());
    load(&[Source { name: "proposed.yaml", text: &text }]).expect(&text)
}

#[test]
fn a_proposal_is_written_as_users_would_write_it() {
    let products = [("NVIDIA-GeForce-RTX-3090", 2), ("NVIDIA-H100-80GB-HBM3", 8), ("Other", 1)];
    let hostnames = BTreeMap::from([("a.example", "a"), ("elsewhere", "c")]);
    let proposal = proposal(&["a.example", "b"], &products);
    let written = island(&proposal, "mini", &wish(Some(200 << 30)), &hostnames).expect("an island");
    let expected = "\
apiVersion: heteroloco.dev/v1alpha1
kind: ComputeIsland
metadata:
  name: east-r1
spec:
  runRef:
    name: mini
  objective: Throughput
  devices:
  - product: NVIDIA-H100-80GB-HBM3
    count: 8
  - product: NVIDIA-GeForce-RTX-3090
    count: 2
  - product: Other
    count: 1
  minMemory: 200Gi
  nodeSelector:
    matchExpressions:
    - key: kubernetes.io/hostname
      operator: In
      values:
      - a
      - b
";
    assert_eq!(written.to_yaml(), expected);
    let manifests = read(&written);
    let request = &manifests.islands[0];
    assert_eq!((request.name.as_str(), request.min_memory), ("east-r1", 200 << 30));
    let counts: Vec<_> = request.devices.iter().map(|it| (it.min, it.max)).collect();
    assert_eq!(counts, [(8, 8), (2, 2), (1, 1)]);
}

#[test]
fn minimum_memory_stands_where_it_was_wished_for() {
    let proposal = proposal(&["a"], &[("NVIDIA-L4", 1)]);
    let written = island(&proposal, "mini", &wish(None), &BTreeMap::new()).expect("an island");
    assert_eq!((&written.spec.min_memory, read(&written).islands[0].min_memory), (&None, 0));
}

#[test]
fn what_no_island_may_have_is_refused_with_what_to_change() {
    let written = |products: &[(&str, u32)]| {
        island(&proposal(&["a"], products), "mini", &wish(None), &BTreeMap::new())
    };
    assert!(written(&[("NVIDIA-L4", 1000), ("NVIDIA-A10", 24)]).is_ok());
    let refused = written(&[("NVIDIA-L4", 1000), ("NVIDIA-A10", 25)]).expect_err("too many");
    let sentence = "failed to write island east-r1: 1025 cards are more than 1024: lower \
                    minMemory, so that fewer go together";
    assert_eq!(refused.to_string(), sentence);
    let names: Vec<_> = (0..33).map(|product| format!("P{product}")).collect();
    let products: Vec<_> = names.iter().map(|product| (product.as_str(), 1)).collect();
    assert!(written(&products[..32]).is_ok());
    let refused = written(&products).expect_err("too many");
    assert_eq!(refused, ProposalError::Products { island: "east-r1".into(), products: 33 });
}

#[test]
fn islands_read_back_may_use_the_nodes_that_were_proposed_and_no_others() {
    let node = |name: &str, zone: &str| Node {
        name: format!("{name}.example"),
        topology: Topology { zone: Some(zone.into()), ..Topology::default() },
        cards: vec![NodeCard { product: "NVIDIA-L4".into(), memory: 24 << 30, measured: None }; 4],
        links: Links::default(),
    };
    let nodes = [("a", "east"), ("b", "east"), ("c", "west"), ("d", "west"), ("e", "north")];
    let nodes = nodes.map(|(name, zone)| node(name, zone));
    let labels =
        |node: &Node| BTreeMap::from([(HOSTNAME.to_owned(), node.name.replace(".example", ""))]);
    let names = ["a", "b", "c", "d", "e"].map(|name| (format!("{name}.example"), name));
    let hostnames = names.iter().map(|(name, host)| (name.as_str(), *host)).collect();
    let wishes = wish(Some(180 << 30));
    let grouping = propose(&nodes, &wishes, &Any);
    assert_eq!(grouping.proposals.len(), 2);
    for proposal in grouping.proposals {
        let written = island(&proposal, "mini", &wishes, &hostnames).expect("an island");
        let Manifests { islands, selectors, .. } = read(&written);
        let selector = selectors[0].as_ref().expect("a selector");
        let selected: Vec<_> = nodes
            .iter()
            .filter(|node| selector.selects(&labels(node)))
            .map(|node| node.name.clone())
            .collect();
        assert_eq!(selected, proposal.nodes);
        let IslandRequest { devices, nodes, .. } = &islands[0];
        let counts: Vec<_> = devices.iter().map(|it| (it.product.clone(), it.max)).collect();
        assert_eq!((counts, nodes), (proposal.products, &None::<BTreeSet<String>>));
    }
}
