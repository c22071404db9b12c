//! Joining what holds the model only together, nearest first, and what is left over.

use std::collections::BTreeMap;

use super::ask::{Asked, Mix};
use super::domain::{self, Level, Place};
use super::{Compared, Group, Machine, Predict, Why, Wishes};

/// Kinds of islands near each other that are compared with each other.
pub(super) const KINDS_COMPARED_MAX: usize = 32;

/// Groups on their way to islands.
pub(super) struct Joining<'a> {
    machines: &'a [Machine<'a>],
    wishes: &'a Wishes,
    pub(super) asked: Asked<'a>,
    /// Groups that can be islands.
    pub(super) standing: Vec<Group>,
    /// Groups that cannot.
    pub(super) weak: Vec<Group>,
}

/// Groups near each other: those that can be islands, and those that cannot.
type Near = (Vec<Group>, Vec<Group>);

impl<'a> Joining<'a> {
    /// A group for each machine.
    pub(super) fn new(
        machines: &'a [Machine<'a>],
        wishes: &'a Wishes,
        planner: &'a dyn Predict,
    ) -> Self {
        let asked = Asked::new(machines, planner);
        let mut joining = Self { machines, wishes, asked, standing: Vec::new(), weak: Vec::new() };
        for (member, machine) in machines.iter().enumerate() {
            let group = Group { members: vec![member], memory: machine.memory, ..Group::default() };
            let to = if joining.stands(&group) { &mut joining.standing } else { &mut joining.weak };
            to.push(group);
        }
        joining
    }

    /// Joins what has to be, and what is faster so.
    pub(super) fn join(&mut self) {
        for level in Level::NEAR {
            for (standing, weak) in self.near(level) {
                let (mut made, weak) = self.gather(weak, false);
                made.extend(standing);
                let made = self.faster(made);
                self.standing.extend(made);
                self.weak.extend(weak);
            }
        }
        for level in Level::NEAR {
            for (standing, weak) in self.near(level) {
                let (standing, weak) = self.lend(standing, weak);
                self.standing.extend(standing);
                self.weak.extend(weak);
            }
        }
        let weak = std::mem::take(&mut self.weak);
        let (made, weak) = self.gather(weak, true);
        self.standing.extend(made);
        self.weak = weak;
    }

    /// Takes the groups of each place of a level away; what is in none stays.
    fn near(&mut self, level: Level) -> Vec<Near> {
        let mut places: BTreeMap<Place<'a>, Near> = BTreeMap::new();
        let machines = self.machines;
        for stands in [true, false] {
            let groups = if stands { &mut self.standing } else { &mut self.weak };
            for group in std::mem::take(groups) {
                match level.place(machines, &group.members) {
                    Some(place) if stands => places.entry(place).or_default().0.push(group),
                    Some(place) => places.entry(place).or_default().1.push(group),
                    None => groups.push(group),
                }
            }
        }
        places.into_values().collect()
    }

    /// Says whether it can be an island.
    pub(super) fn stands(&mut self, group: &Group) -> bool {
        let enough = self.wishes.min_memory.is_none_or(|least| group.memory >= least);
        enough && self.allows(group.memory) && self.asked.holds(&group.members)
    }

    pub(super) fn allows(&self, memory: u64) -> bool {
        self.wishes.max_memory.is_none_or(|most| memory <= most)
    }

    /// Groups of the same mix, by their first member.
    pub(super) fn classes(&self, groups: Vec<Group>) -> Vec<Vec<Group>> {
        let mut by_mix: BTreeMap<Mix, Vec<Group>> = BTreeMap::new();
        for group in groups {
            by_mix.entry(self.asked.mix(&group.members)).or_default().push(group);
        }
        let mut classes: Vec<_> = by_mix.into_values().collect();
        classes.iter_mut().for_each(|class| class.sort_by(|a, b| a.members.cmp(&b.members)));
        classes.sort_by(|a, b| a[0].members.cmp(&b[0].members));
        classes
    }

    /// Joins groups that are no islands until they are; those that are left over are no islands.
    /// Groups that are alike go together where that is enough, so that islands mix as few unlike
    /// nodes as can be.
    fn gather(&mut self, weak: Vec<Group>, far: bool) -> Near {
        let (mut made, mut rest) = (Vec::new(), Vec::new());
        for class in self.classes(weak) {
            let (islands, left) = match self.least(&class) {
                Some(least) => self.spread(class, least),
                None => (Vec::new(), class),
            };
            made.extend(islands);
            rest.extend(left);
        }
        // The best linked first.
        let speed = |group: &Group| {
            let own = group.members.iter();
            let speeds = own.map(|it| domain::network(self.machines[*it].node).unwrap_or(0.0));
            speeds.fold(f64::INFINITY, f64::min)
        };
        rest.sort_by(|a, b| speed(b).total_cmp(&speed(a)).then_with(|| a.members.cmp(&b.members)));
        while let Some(least) = self.least(&rest) {
            let taken = self.room(&rest);
            let first = &taken[..least];
            made.push(joined(first.iter().map(|at| &rest[*at])));
            let mut at = 0..;
            rest.retain(|_| at.next().is_none_or(|at| !first.contains(&at)));
        }
        for island in &mut made {
            island.why.push(Why::Needed { far });
        }
        (made, rest)
    }

    /// The groups that fit into one island, one after another.
    fn room(&self, groups: &[Group]) -> Vec<usize> {
        let mut filled = 0_u64;
        let mut taken = Vec::new();
        for (at, group) in groups.iter().enumerate() {
            let next = filled.saturating_add(group.memory);
            if self.allows(next) {
                filled = next;
                taken.push(at);
            }
        }
        taken
    }

    /// Finds how many of the groups that fit into one island are one: twice as many until it
    /// stands, then halfway back as long as that does.
    fn least(&mut self, groups: &[Group]) -> Option<usize> {
        let taken = self.room(groups);
        let mut stands = |count: usize| {
            let island = joined(taken[..count].iter().map(|at| &groups[*at]));
            self.stands(&island)
        };
        let mut below = 0;
        let mut most = 1.min(taken.len());
        while most > below && !stands(most) {
            below = most;
            most = (2 * most).min(taken.len());
        }
        if most == below {
            return None;
        }
        while most - below > 1 {
            let halfway = below.midpoint(most);
            if stands(halfway) { most = halfway } else { below = halfway }
        }
        Some(most)
    }

    /// Gives what is left over to the islands near it that it makes faster by most.
    fn lend(&mut self, mut standing: Vec<Group>, weak: Vec<Group>) -> Near {
        let mut rest = Vec::new();
        for mut group in weak {
            let mut best: Option<(f64, usize, Compared)> = None;
            for at in self.unlike(&standing) {
                let Some(compared) = self.compare(&[&standing[at], &group]) else { continue };
                let gain = compared.together - compared.apart;
                let known = group.apart;
                group.apart = Some(closer(known, compared));
                if gain > 0.0 && best.is_none_or(|(most, ..)| gain > most) {
                    best = Some((gain, at, compared));
                }
            }
            let Some((_, at, compared)) = best else {
                rest.push(group);
                continue;
            };
            let mut island = joined([&standing[at], &group].into_iter());
            island.why.clone_from(&standing[at].why);
            island.why.push(Why::Faster(compared));
            standing[at] = island;
        }
        (standing, rest)
    }

    /// The first group of each mix; not all where there are many.
    pub(super) fn unlike(&self, groups: &[Group]) -> Vec<usize> {
        let mut first: BTreeMap<Mix, (usize, usize)> = BTreeMap::new();
        for (at, group) in groups.iter().enumerate() {
            first.entry(self.asked.mix(&group.members)).or_insert((at, 0)).1 += 1;
        }
        let mut first: Vec<(usize, usize)> = first.into_values().collect();
        first.sort_by_key(|(at, count)| (std::cmp::Reverse(*count), groups[*at].members[0]));
        first.into_iter().map(|(at, _)| at).take(KINDS_COMPARED_MAX).collect()
    }

    /// Tokens a second of groups as one island, and of those of the groups that are islands by
    /// themselves; `None` where they may not be joined, and where the planner was asked enough.
    pub(super) fn compare(&mut self, groups: &[&Group]) -> Option<Compared> {
        let island = joined(groups.iter().copied());
        if !self.stands(&island) {
            return None;
        }
        let mut apart = 0.0;
        for group in groups {
            if self.stands(group) {
                apart += self.asked.speed(&group.members)?;
            }
        }
        Some(Compared { together: self.asked.speed(&island.members)?, apart })
    }
}

/// Gives the comparison, of two, in which being together loses least.
pub(super) fn closer(known: Option<Compared>, next: Compared) -> Compared {
    let share = |compared: &Compared| compared.together / compared.apart;
    known.filter(|known| share(known) >= share(&next)).unwrap_or(next)
}

/// All as one, without a reason.
pub(super) fn joined<'g>(groups: impl Iterator<Item = &'g Group>) -> Group {
    let mut all = Group::default();
    for group in groups {
        all.members.extend(&group.members);
        all.memory = all.memory.saturating_add(group.memory);
    }
    all.members.sort_unstable();
    all
}
