//! Splitting what is too large, joining what is too small.

use std::collections::BTreeMap;

use super::domain::{self, Domain, Level, Place};
use super::{Group, Machine, Wishes};

/// Groups on their way to islands.
pub(super) struct Groups<'a, 'm> {
    machines: &'m [Machine<'a>],
    wishes: &'m Wishes,
    /// Whether machines hold the model together.
    holds: &'m dyn Fn(&[usize]) -> bool,
    /// What can be islands.
    pub(super) standing: Vec<Group<'a>>,
    /// What cannot.
    pub(super) weak: Vec<Group<'a>>,
}

impl<'a, 'm> Groups<'a, 'm> {
    /// A group for each fast domain, or several where it has too much memory for one.
    pub(super) fn new(
        machines: &'m [Machine<'a>],
        wishes: &'m Wishes,
        holds: &'m dyn Fn(&[usize]) -> bool,
    ) -> Self {
        let mut groups = Self { machines, wishes, holds, standing: Vec::new(), weak: Vec::new() };
        let mut domains: BTreeMap<Domain<'a>, Vec<usize>> = BTreeMap::new();
        for (index, machine) in machines.iter().enumerate() {
            domains.entry(Domain::of(machine.node)).or_default().push(index);
        }
        for (domain, members) in domains {
            for group in groups.parts(domain, members) {
                groups.put(group);
            }
        }
        groups
    }

    fn memory(&self, members: &[usize]) -> u64 {
        members.iter().fold(0, |sum, member| sum.saturating_add(self.machines[*member].memory))
    }

    fn stands(&self, group: &Group<'_>) -> bool {
        let enough = self.wishes.min_memory.is_none_or(|least| group.memory >= least);
        enough && self.allows(group.memory) && (self.holds)(&group.members)
    }

    fn allows(&self, memory: u64) -> bool {
        self.wishes.max_memory.is_none_or(|most| memory <= most)
    }

    fn put(&mut self, group: Group<'a>) {
        if self.stands(&group) { self.standing.push(group) } else { self.weak.push(group) }
    }

    /// Parts of a domain that is above `max_memory`: as few as can be, of about the same memory.
    /// Where one of those would not stand, as full as they can be: then only the last may not.
    fn parts(&self, domain: Domain<'a>, members: Vec<usize>) -> Vec<Group<'a>> {
        let group = |part: bool, members: Vec<usize>| Group {
            memory: self.memory(&members),
            members,
            domains: vec![domain],
            part,
            joined: None,
        };
        let total = self.memory(&members);
        let Some(most) = self.wishes.max_memory.filter(|most| total > *most) else {
            return vec![group(false, members)];
        };
        let groups = |target| {
            let parts = self.fill(&members, target).into_iter();
            parts.map(|members| group(true, members)).collect::<Vec<_>>()
        };
        let even = groups(total.div_ceil(total.div_ceil(most.max(1))));
        if even.iter().all(|part| self.stands(part)) { even } else { groups(most) }
    }

    /// Fills parts with nodes up to `target` bytes, and never above `max_memory`; a node that is
    /// above it alone is a part by itself.
    fn fill(&self, members: &[usize], target: u64) -> Vec<Vec<usize>> {
        let memory = |member: usize| self.machines[member].memory;
        let (fits, above): (Vec<usize>, Vec<usize>) =
            members.iter().partition(|member| self.allows(memory(**member)));
        let mut parts: Vec<_> = above.into_iter().map(|member| vec![member]).collect();
        let (mut part, mut filled) = (Vec::new(), 0_u64);
        for member in fits {
            let next = filled.saturating_add(memory(member));
            if !part.is_empty() && (filled >= target || !self.allows(next)) {
                parts.push(std::mem::take(&mut part));
                filled = 0;
            }
            part.push(member);
            filled = filled.saturating_add(memory(member));
        }
        parts.extend((!part.is_empty()).then_some(part));
        parts
    }

    /// Joins what cannot stand alone, nearest first.
    pub(super) fn merge(&mut self) {
        for level in Level::ALL {
            let mut places: BTreeMap<Place<'a>, Vec<Group<'a>>> = BTreeMap::new();
            for group in std::mem::take(&mut self.weak) {
                match level.place(self.machines, &group.members) {
                    Some(place) => places.entry(place).or_default().push(group),
                    None => self.weak.push(group),
                }
            }
            for (place, groups) in places {
                for rest in self.join(level, groups) {
                    let rest = self.join_an_island(level, place, rest);
                    self.weak.extend(rest);
                }
            }
        }
    }

    /// Joins groups, best linked first, until they stand; what is left does not.
    fn join(&mut self, level: Level, mut groups: Vec<Group<'a>>) -> Vec<Group<'a>> {
        groups.sort_by(|a, b| {
            let (first, second) = (self.network(a), self.network(b));
            second.total_cmp(&first).then_with(|| a.members.cmp(&b.members))
        });
        let mut open: Vec<Group<'a>> = Vec::new();
        for group in groups {
            let room = |other: &Group<'_>| self.allows(other.memory.saturating_add(group.memory));
            let Some(at) = open.iter().position(room) else {
                open.push(group);
                continue;
            };
            open[at] = joined(level, open[at].clone(), group);
            if self.stands(&open[at]) {
                self.standing.push(open.remove(at));
            }
        }
        open
    }

    /// Bytes a second of a large message between its nodes; 0 where that is not known of one.
    fn network(&self, group: &Group<'_>) -> f64 {
        let speeds = group
            .members
            .iter()
            .map(|member| domain::network(self.machines[*member].node).unwrap_or(0.0));
        speeds.fold(f64::INFINITY, f64::min)
    }

    /// Joins a group to the smallest island of the place; gives it back where there is none.
    fn join_an_island(
        &mut self,
        level: Level,
        place: Place<'a>,
        group: Group<'a>,
    ) -> Option<Group<'a>> {
        let may_take = |island: &&Group<'_>| {
            self.allows(island.memory.saturating_add(group.memory))
                && level.place(self.machines, &island.members) == Some(place)
        };
        let islands = self.standing.iter().filter(|_| level != Level::Anywhere).filter(may_take);
        let smallest = islands.min_by(|a, b| (a.memory, &a.members).cmp(&(b.memory, &b.members)));
        let Some(island) = smallest else { return Some(group) };
        let together = joined(level, island.clone(), group.clone());
        if !self.stands(&together) {
            return Some(group);
        }
        let members = island.members.clone();
        self.standing.retain(|island| island.members != members);
        self.standing.push(together);
        None
    }
}

fn joined<'a>(level: Level, mut group: Group<'a>, other: Group<'a>) -> Group<'a> {
    group.members.extend(other.members);
    group.members.sort_unstable();
    group.domains.extend(other.domains);
    group.domains.sort_unstable();
    group.domains.dedup();
    group.memory = group.memory.saturating_add(other.memory);
    group.part |= other.part;
    group.joined = Some(level);
    group
}
