//! How many islands groups make that are all alike.

use super::join::{Joining, closer, joined};
use super::{Compared, Group, Why};

/// Sizes in a row that were no better, after which no further one is tried.
const MISSES_MAX: usize = 2;

/// Islands of like groups.
struct Split {
    /// Groups of each.
    sizes: Vec<usize>,
    /// Tokens a second of all of these islands and of the groups that are left, where that was
    /// asked.
    speed: Option<f64>,
}

impl Joining<'_> {
    /// Makes islands of like groups, `least` of which are one at least: of `least` each, or of more
    /// where all together then make more tokens a second. The rest comes back as it is.
    pub(super) fn spread(&mut self, class: Vec<Group>, least: usize) -> (Vec<Group>, Vec<Group>) {
        if class.len() == least {
            // There is nothing to choose.
            let whole = Split { sizes: vec![least], speed: None };
            return self.islands(class, &whole, (least, None));
        }
        let most = (1..=class.len()).rev().find(|count| {
            let memory = class[0].memory.saturating_mul(*count as u64);
            self.allows(memory)
        });
        let most = most.unwrap_or(0).max(least);
        let mut best = self.split(&class, least, most);
        let (mut size, mut misses, mut closest) = (least, 0, None);
        while misses < MISSES_MAX && best.speed.is_some() {
            size += (size / 4).max(1);
            if size > most {
                break;
            }
            let next = self.split(&class, size, most);
            let compared = self.grown(&class, least, size);
            let slower = compared.filter(|compared| compared.together <= compared.apart);
            closest = slower.map(|compared| closer(closest, compared)).or(closest);
            if next.speed > best.speed {
                (best, misses) = (next, 0);
            } else {
                misses += 1;
            }
        }
        self.islands(class, &best, (least, closest))
    }

    /// The islands of a split. Of groups that were islands before they say why it is so.
    fn islands(
        &mut self,
        mut class: Vec<Group>,
        split: &Split,
        (least, closest): (usize, Option<Compared>),
    ) -> (Vec<Group>, Vec<Group>) {
        let mut islands = Vec::new();
        for size in &split.sizes {
            let own: Vec<Group> = class.drain(..*size).collect();
            let mut island = joined(own.iter());
            if least == 1 {
                island.why.clone_from(&own[0].why);
            }
            if least == 1 && *size > 1 {
                let compared = self.compare(&own.iter().collect::<Vec<_>>());
                island.why.extend(compared.map(Why::Faster));
            } else if least == 1 {
                island.apart = closest.map(|next| closer(own[0].apart, next)).or(own[0].apart);
            }
            islands.push(island);
        }
        (islands, class)
    }

    /// Tokens a second of an island of `size` groups beside those of the islands of `least` groups
    /// that they would make.
    fn grown(&mut self, class: &[Group], least: usize, size: usize) -> Option<Compared> {
        let together = self.of_size(class, size)?;
        let apart = self.of_size(class, least)? * (size / least) as f64;
        Some(Compared { together, apart })
    }

    /// As many islands of a size as there can be. Groups that are left over go to them, too, where
    /// that makes more tokens a second than those make by themselves; and where the planner was
    /// asked enough, for cards of an island are better than cards of none.
    fn split(&mut self, class: &[Group], size: usize, most: usize) -> Split {
        let count = class.len() / size;
        let even = (class.len() / count).min(most);
        let alone = if size > 1 { self.of_size(class, 1).unwrap_or(0.0) } else { 0.0 };
        let apart = self.of_size(class, size).map(|speed| speed + (even - size) as f64 * alone);
        let larger = self.of_size(class, even).zip(apart).is_none_or(|(all, apart)| all > apart);
        let larger = larger && self.is_one(class, even);
        let floor = if larger { even } else { size };
        let mut extra = class.len() - count * floor;
        let mut sizes = vec![floor; count];
        let less = self.of_size(class, floor);
        let mut speed = less.map(|speed| speed * count as f64);
        if extra > 0 && floor < most && self.is_one(class, floor + 1) {
            let more = self.of_size(class, floor + 1);
            let gain = more.zip(less).map(|(more, less)| more - less);
            if gain.is_none_or(|gain| gain > alone) {
                let larger = extra.min(count);
                sizes[..larger].fill(floor + 1);
                extra -= larger;
                speed = speed.zip(gain).map(|(speed, gain)| speed + larger as f64 * gain);
            }
        }
        let rest = extra as f64 * alone;
        Split { sizes, speed: speed.map(|speed| speed + rest) }
    }

    /// Says whether the first so many are an island.
    fn is_one(&mut self, class: &[Group], size: usize) -> bool {
        let island = joined(class[..size].iter());
        self.stands(&island)
    }

    /// Tokens a second of an island of the first so many; `None` where it is none.
    fn of_size(&mut self, class: &[Group], size: usize) -> Option<f64> {
        let island = joined(class[..size].iter());
        if self.stands(&island) { self.asked.speed(&island.members) } else { None }
    }
}
