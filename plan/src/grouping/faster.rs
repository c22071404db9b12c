//! Joining islands that make more tokens a second together.

use std::collections::BTreeMap;

use super::ask::Mix;
use super::join::{Joining, closer, joined};
use super::{Compared, Group, Why};

impl Joining<'_> {
    /// Joins islands near each other, those that are alike first, as long as two of them make more
    /// tokens a second as one.
    pub(super) fn faster(&mut self, standing: Vec<Group>) -> Vec<Group> {
        let mut islands = Vec::new();
        for class in self.classes(standing) {
            let (made, rest) = self.spread(class, 1);
            islands.extend(made);
            islands.extend(rest);
        }
        // Each time there is one island less.
        while let Some((first, second, compared)) = self.best_pair(&mut islands) {
            let mut island = joined([&islands[first], &islands[second]].into_iter());
            island.why.push(Why::Faster(compared));
            islands[first] = island;
            islands.remove(second);
        }
        islands
    }

    /// The two unlike islands that gain most by being one, and where they are. Where none gain
    /// anything, all are told what that would lose.
    fn best_pair(&mut self, islands: &mut [Group]) -> Option<(usize, usize, Compared)> {
        let unlike = self.unlike(islands);
        let mut best: Option<(f64, usize, usize, Compared)> = None;
        let mut lost: Vec<([usize; 2], Compared)> = Vec::new();
        for (at, one) in unlike.iter().enumerate() {
            for other in &unlike[at + 1..] {
                let pair = [&islands[*one], &islands[*other]];
                let Some(compared) = self.compare(&pair) else { continue };
                let gain = compared.together - compared.apart;
                if gain <= 0.0 {
                    lost.push(([*one, *other], compared));
                } else if best.is_none_or(|(most, ..)| gain > most) {
                    best = Some((gain, *one.min(other), *one.max(other), compared));
                }
            }
        }
        if best.is_none() {
            self.tell(islands, &lost);
        }
        best.map(|(_, first, second, compared)| (first, second, compared))
    }

    /// Tells islands, and all that are like them, what joining two of them would lose.
    fn tell(&self, islands: &mut [Group], lost: &[([usize; 2], Compared)]) {
        let mut closest: BTreeMap<Mix, Compared> = BTreeMap::new();
        for (pair, compared) in lost {
            for at in pair {
                let mix = self.asked.mix(&islands[*at].members);
                let known = closest.get(&mix).copied();
                closest.insert(mix, closer(known, *compared));
            }
        }
        for island in islands {
            let own = closest.get(&self.asked.mix(&island.members));
            if let Some(compared) = own {
                island.apart = Some(closer(island.apart, *compared));
            }
        }
    }
}
