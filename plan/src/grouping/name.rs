//! Names of islands, made from the names of where they are.

use std::collections::{BTreeSet, HashMap};

use super::domain::Domain;

/// Characters of a name before a number is put behind it, so that 63 are never exceeded.
const CHARACTERS: usize = 52;

/// The name that an island in this place would have if no other had it.
pub(super) fn of(domain: &Domain<'_>) -> String {
    label(&match domain {
        Domain::Node(name) | Domain::Clique(name) | Domain::Zone(name) => (*name).to_owned(),
        Domain::Rack(zone, rack) => in_zone(*zone, rack),
        Domain::Network(first, nodes) | Domain::Anywhere(first, nodes) => {
            format!("{first}-and-{}", nodes - 1)
        }
    })
}

fn in_zone(zone: Option<&str>, rack: &str) -> String {
    zone.map_or_else(|| rack.to_owned(), |zone| format!("{zone}-{rack}"))
}

/// Text as a DNS-1123 label: small letters and digits with single hyphens between them.
fn label(text: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { ' ' };
    let words: String = text.chars().map(plain).collect();
    let mut label = words.split_whitespace().collect::<Vec<_>>().join("-");
    label.truncate(CHARACTERS);
    let label = label.trim_end_matches('-');
    if label.is_empty() { "island".into() } else { label.into() }
}

/// The names in their order, those that come again with a number: the first that is free.
pub(super) fn unique(names: impl Iterator<Item = String>) -> Vec<String> {
    let (mut taken, mut next) = (BTreeSet::new(), HashMap::<String, u32>::new());
    let free = |name: String| {
        let number = next.entry(name.clone()).or_insert(1);
        let mut unique = name.clone();
        while !taken.insert(unique.clone()) {
            *number += 1;
            unique = format!("{name}-{number}");
        }
        unique
    };
    names.map(free).collect()
}
