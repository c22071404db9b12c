//! Which cards share layers, and where they stand in a grid of replicas and stages.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::cards::Chosen;

/// Cards of one kind, as many as the tensor-parallel size.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// The island's first card of this kind.
    pub kind: usize,
    /// Its cards.
    pub cards: Vec<usize>,
}

/// A grid of groups: for each replica the group of each stage.
pub(super) type Rows<'a> = Vec<Vec<&'a Group>>;

/// As many groups of so many cards of one kind as there are, fastest first by `speed`.
pub(super) fn groups(cards: &[Chosen], tensor: u32, speed: impl Fn(&Chosen) -> f64) -> Vec<Group> {
    let mut kinds: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (index, card) in cards.iter().enumerate() {
        let kind = cards.iter().position(|other| alike(other, card)).unwrap_or(index);
        kinds.entry(kind).or_default().push(index);
    }
    let of_kind = |(kind, members): (usize, Vec<usize>)| {
        let groups = members.chunks_exact(tensor as usize);
        groups.map(|cards| Group { kind, cards: cards.to_vec() }).collect::<Vec<_>>()
    };
    let mut groups: Vec<_> = kinds.into_iter().flat_map(of_kind).collect();
    groups.sort_by(|a, b| speed(&cards[b.kind]).total_cmp(&speed(&cards[a.kind])));
    groups
}

fn alike(a: &Chosen, b: &Chosen) -> bool {
    (&a.product, a.memory, a.on_cpu()) == (&b.product, b.memory, b.on_cpu())
}

/// The groups of the fastest kind, of the two fastest kinds, and so on.
pub(super) fn beginnings(groups: &[Group]) -> impl Iterator<Item = &[Group]> {
    let ends = (1..=groups.len())
        .filter(|end| groups.get(*end).is_none_or(|next| next.kind != groups[*end - 1].kind));
    ends.map(|end| &groups[..end])
}

/// Ways to stand the first groups in a grid: a replica of neighbours, or, where they are unlike, a
/// stage of neighbours. Those with the most memory come first, for an early stage has the most
/// micro-batches in flight. There are enough groups.
pub(super) fn arrangements<'a>(
    groups: &'a [Group],
    cards: &[Chosen],
    replicas: usize,
    stages: usize,
) -> Vec<Rows<'a>> {
    let mut used: Vec<&Group> = groups[..replicas * stages].iter().collect();
    used.sort_by_key(|group| Reverse(cards[group.kind].memory));
    let by_replica = used.chunks(stages).map(<[&Group]>::to_vec).collect();
    let alike = used.iter().all(|group| group.kind == used[0].kind);
    if alike || replicas == 1 || stages == 1 {
        return vec![by_replica];
    }
    let row = |replica| (0..stages).map(|stage| used[stage * replicas + replica]).collect();
    vec![by_replica, (0..replicas).map(row).collect()]
}

/// The kinds of card that a stage has, each once.
pub(super) fn kinds(rows: &Rows<'_>, stage: usize) -> Vec<usize> {
    let mut kinds: Vec<_> = rows.iter().map(|row| row[stage].kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    kinds
}
