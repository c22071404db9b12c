//! Properties of the islands of any cluster.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn any_node() -> impl Strategy<Value = Node> {
    let labels = [
        prop::sample::select(&["", "east", "west"][..]),
        prop::sample::select(&["", "r1", "r2"][..]),
        prop::sample::select(&["", "", "c1", "c2"][..]),
    ];
    let card = prop::sample::select(&[(H100, 80), (RTX3090, 24), ("NVIDIA-L4", 22)][..]);
    let cards = prop::collection::vec(card, 0..5);
    let gbps = prop::option::of(0.01..20.0_f64);
    (0..40_u32, labels, cards, gbps).prop_map(|(name, labels, cards, gbps)| {
        let node = node(&format!("n{name}"), labels, &cards);
        gbps.map_or(node.clone(), |gbps| linked(node, gbps))
    })
}

fn any_wishes() -> impl Strategy<Value = Wishes> {
    let memory = || prop::option::of((0..600_u64).prop_map(|gib| gib * GIB));
    let products = prop::sample::subsequence(vec![H100.to_owned(), "NVIDIA-G*".into()], 0..=2);
    let wishes = |(min_memory, max_memory, products)| Wishes {
        min_memory,
        max_memory,
        products,
        ..Wishes::default()
    };
    (memory(), memory(), products).prop_map(wishes)
}

/// It need not be so that more cards hold more, or are faster.
struct Odd {
    model: u64,
    odd: usize,
}

impl Predict for Odd {
    fn holds(&self, nodes: &[Node]) -> bool {
        let cards: usize = nodes.iter().map(|node| node.cards.len()).sum();
        sum(nodes) >= self.model * GIB && !cards.is_multiple_of(self.odd)
    }

    fn tokens_per_second(&self, nodes: &[Node]) -> Option<f64> {
        let gib = sum(nodes) / GIB;
        self.holds(nodes).then_some((gib * (1 + gib % self.odd as u64)) as f64)
    }
}

proptest! {
    #[test]
    fn every_card_is_in_one_proposal_that_holds_or_left_out_and_order_does_not_matter(
        (nodes, shuffled) in prop::collection::vec(any_node(), 0..30)
            .prop_flat_map(|nodes| (Just(nodes.clone()), Just(nodes).prop_shuffle())),
        wishes in any_wishes(),
        model in 1..500_u64,
        odd in 2..9_usize,
    ) {
        let planner = Odd { model, odd };
        let grouping = propose(&nodes, &wishes, &planner);
        for proposal in &grouping.proposals {
            let members = nodes.iter().filter(|node| proposal.nodes.contains(&node.name));
            let usable = |node: &Node| {
                let mut node = node.clone();
                node.cards.retain(|card| wishes.wants(&card.product));
                node
            };
            let members: Vec<Node> = members.map(usable).collect();
            prop_assert!(planner.holds(&members) && sum(&members) == proposal.memory);
            prop_assert!(wishes.min_memory.is_none_or(|least| proposal.memory >= least));
            prop_assert!(wishes.max_memory.is_none_or(|most| proposal.memory <= most));
        }
        let entries = grouping.proposals.iter().map(|p| (&p.nodes, p.memory, &p.products));
        let rest = grouping.left_out.iter().map(|l| (&l.nodes, l.memory, &l.products));
        let all: Vec<_> = entries.chain(rest).collect();
        let given: u64 = nodes.iter().flat_map(|n| &n.cards).map(|card| card.memory).sum();
        let cards: u32 = all.iter().flat_map(|(_, _, products)| *products).map(|(_, n)| n).sum();
        prop_assert_eq!(all.iter().map(|(_, memory, _)| memory).sum::<u64>(), given);
        prop_assert_eq!(cards as usize, nodes.iter().map(|node| node.cards.len()).sum::<usize>());
        let proposed = || grouping.proposals.iter().flat_map(|p| &p.nodes);
        let names: BTreeSet<_> = grouping.proposals.iter().map(|p| &p.name).collect();
        prop_assert_eq!(proposed().collect::<BTreeSet<_>>().len(), proposed().count());
        prop_assert_eq!(names.len(), grouping.proposals.len());
        prop_assert_eq!(propose(&shuffled, &wishes, &planner), grouping);
    }
}
