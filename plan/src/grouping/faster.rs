//! Joining islands that make more tokens a second together.

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

    /// The two unlike islands that gain most by being one, and where they are. Those that gain
    /// nothing are told by how much they would lose.
    fn best_pair(&mut self, islands: &mut [Group]) -> Option<(usize, usize, Compared)> {
        let unlike = self.unlike(islands);
        let mut best: Option<(f64, usize, usize, Compared)> = None;
        for (at, one) in unlike.iter().enumerate() {
            for other in &unlike[at + 1..] {
                let pair = [&islands[*one], &islands[*other]];
                let Some(compared) = self.compare(&pair) else { continue };
                let gain = compared.together - compared.apart;
                if gain > 0.0 && best.is_none_or(|(most, ..)| gain > most) {
                    best = Some((gain, *one.min(other), *one.max(other), compared));
                }
                if gain <= 0.0 {
                    self.tell(islands, [*one, *other], compared);
                }
            }
        }
        best.map(|(_, first, second, compared)| (first, second, compared))
    }

    /// Tells all islands like these what joining two of them would lose.
    fn tell(&self, islands: &mut [Group], pair: [usize; 2], compared: Compared) {
        let mixes = pair.map(|at| self.asked.mix(&islands[at].members));
        for island in islands {
            if mixes.contains(&self.asked.mix(&island.members)) {
                island.apart = closer(island.apart, compared);
            }
        }
    }
}
