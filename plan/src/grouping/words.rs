//! Why machines go together, or go nowhere, in sentences.

use super::domain::{Domain, Level};
use super::{Group, Wishes};
use crate::words::gib;

/// Domains that a sentence lists.
const LISTED: usize = 3;

/// Why a group is an island.
pub(super) fn proposed(group: &Group<'_>) -> String {
    let (what, nodes) = (listed(group), count(group));
    let reason = match group.joined {
        None => near(&group.domains[0]),
        Some(level) => {
            let place = match level {
                Level::Rack => "their rack",
                Level::Zone => "their zone",
                Level::Anywhere => "no nearer place: links between them may be slow",
            };
            return format!(
                "{nodes} of {what}, which do not all hold the model with enough memory by \
                 themselves, joined in {place}"
            );
        }
    };
    let part = if group.part { ", a part of it because of maxMemory" } else { "" };
    format!("{nodes} of {what}{part}: {reason}")
}

fn near(domain: &Domain<'_>) -> &'static str {
    match domain {
        Domain::Clique(_) => "NVLink joins them",
        Domain::Rack(..) => "a rack has fast links",
        Domain::Zone(_) => "a zone is the nearest that is known of them",
        Domain::Network => "they have no labels, but their network was measured to be fast",
        Domain::Node(_) => "no label or measurement says what is near it",
    }
}

/// Why a group is none, and what to change.
pub(super) fn left_out(group: &Group<'_>, wishes: &Wishes) -> String {
    let (what, has) = (listed(group), gib(group.memory));
    let above = wishes.max_memory.filter(|most| group.memory > *most);
    let below = wishes.min_memory.filter(|least| group.memory < *least);
    match (above, below) {
        (Some(most), _) => format!(
            "{what} has {has} in one node, above maxMemory of {}: raise maxMemory",
            gib(most)
        ),
        (None, Some(least)) => format!(
            "{what} has {has}, minMemory is {}, and nothing is left that it could join: add cards \
             or change minMemory or maxMemory",
            gib(least)
        ),
        (None, None) => format!(
            "{what} does not hold the model with {has}, and nothing is left that it could join: \
             add cards, raise maxMemory where it is set, or choose a smaller model"
        ),
    }
}

/// Why cards are not looked at.
pub(super) fn unasked(products: &[String]) -> String {
    if products.is_empty() {
        return "these are parts of cards, which are used only where products name them: name the \
                whole cards, too"
            .into();
    }
    let products: Vec<_> = products.iter().map(String::as_str).collect();
    format!("these are not the products asked for, {}: add them to be used", list(&products))
}

/// Why a node is not looked at.
pub(super) fn named_twice(name: &str) -> String {
    format!("several nodes are named {name}: give each a name of its own")
}

fn count(group: &Group<'_>) -> String {
    match group.members.len() {
        1 => "the node".into(),
        nodes => format!("{nodes} nodes"),
    }
}

fn listed(group: &Group<'_>) -> String {
    let names: Vec<String> = group.domains.iter().map(called).collect();
    list(&names.iter().map(String::as_str).collect::<Vec<_>>())
}

fn list(names: &[&str]) -> String {
    match names.len().checked_sub(LISTED) {
        Some(more @ 1..) => format!("{} and {more} more", names[..LISTED].join(", ")),
        _ => names.join(", "),
    }
}

fn called(domain: &Domain<'_>) -> String {
    match domain {
        Domain::Clique(clique) => format!("clique {clique}"),
        Domain::Rack(Some(zone), rack) => format!("rack {rack} of zone {zone}"),
        Domain::Rack(None, rack) => format!("rack {rack}"),
        Domain::Zone(zone) => format!("zone {zone}"),
        Domain::Network => "a fast network".into(),
        Domain::Node(node) => format!("node {node}"),
    }
}
