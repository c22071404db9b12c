//! Proposals in words, and as YAML with the words in comments.

use std::fmt::Write as _;

use api::island::ComputeIsland;
use plan::grouping::{Grouping, LeftOut};
use plan::words::{gib, named};

/// Nodes that a sentence lists.
const LISTED_MAX: usize = 8;

/// The islands, each below its reason; first of all what is left out.
pub(super) fn manifests(grouping: &Grouping, islands: &[ComputeIsland]) -> String {
    let mut text = String::new();
    comment(&mut text, &format!("{}.", summary(grouping)));
    for rest in &grouping.left_out {
        comment(&mut text, &left_out(rest));
    }
    for (proposal, island) in grouping.proposals.iter().zip(islands) {
        text.push_str("---\n");
        comment(&mut text, &proposal.reason.to_string());
        comment(&mut text, &cards(&proposal.products, proposal.memory));
        text.push_str(&island.to_yaml());
    }
    text
}

/// How much is in islands, and how much is not.
pub(super) fn summary(grouping: &Grouping) -> String {
    let proposals = &grouping.proposals;
    let islands = match proposals.len() {
        1 => "1 island".into(),
        islands => format!("{islands} islands"),
    };
    let memory = proposals.iter().fold(0_u64, |sum, it| sum.saturating_add(it.memory));
    let used = count(proposals.iter().flat_map(|it| &it.products));
    let left = count(grouping.left_out.iter().flat_map(|it| &it.products));
    let memory = gib(memory);
    format!("proposed {islands} with {used} cards of {memory} together, {left} cards left out")
}

/// Why there is no island.
pub(super) fn refusal(grouping: &Grouping) -> Vec<String> {
    if grouping.left_out.is_empty() {
        return vec!["no node has a card that can be used: see the warnings".into()];
    }
    grouping.left_out.iter().map(left_out).collect()
}

fn left_out(rest: &LeftOut) -> String {
    let nodes = named(&rest.nodes, LISTED_MAX);
    let cards = cards(&rest.products, rest.memory);
    format!("left out {cards}, on {nodes}: {}", rest.reason)
}

fn cards(products: &[(String, u32)], memory: u64) -> String {
    let products = products.iter().map(|(product, count)| format!("{count} × {product}"));
    format!("{} ({})", products.collect::<Vec<_>>().join(", "), gib(memory))
}

fn count<'a>(products: impl Iterator<Item = &'a (String, u32)>) -> u64 {
    products.map(|(_, count)| u64::from(*count)).sum()
}

/// One line, whatever characters a name or a label has: the next would be YAML.
pub(super) fn comment(text: &mut String, sentence: &str) {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}');
    let line: String = sentence.chars().map(|c| if breaks(c) { ' ' } else { c }).collect();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "# {line}");
}
