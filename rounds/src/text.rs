//! The samples of the run's text that each member trains on: every position of one endless order is
//! handed out once, whoever comes and goes, and what was not trained on is handed out again.
//!
//! The text at a position is the members' affair (`data::Sampler`): the order goes through the
//! whole text before any of it comes again, so as long as every position is trained on once,
//! nothing is seen twice while something is unseen.

use serde::{Deserialize, Serialize};

use crate::types::SampleRange;

#[cfg(test)]
mod laws;

/// Ranges that one member gets for a round.
pub const RANGES_MAX: usize = 16;
/// Ranges that wait to be handed out again; of more, the smallest are dropped.
pub(crate) const RETURNED_MAX: usize = 1024;

/// How far the order was handed out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Text {
    /// The first position that nobody was given yet.
    pub(crate) next: u64,
    /// Ranges that were given out before and not trained on, in order, without overlaps.
    pub(crate) returned: Vec<SampleRange>,
}

impl Text {
    /// An order of which the first `next` positions are gone.
    pub(crate) fn from(next: u64) -> Text {
        Text { next, returned: Vec::new() }
    }

    /// `count` positions: what came back first, then new ones.
    pub(crate) fn hand_out(&mut self, count: u64) -> Vec<SampleRange> {
        let (mut out, mut left) = (Vec::new(), count);
        while left > 0 && !self.returned.is_empty() && out.len() + 1 < RANGES_MAX {
            let SampleRange { first, end } = self.returned[0];
            let taken = SampleRange { first, end: end.min(first.saturating_add(left)) };
            left -= taken.count();
            if taken.end < end {
                self.returned[0].first = taken.end;
            } else {
                self.returned.remove(0);
            }
            out.push(taken);
        }
        if left > 0 {
            let end = self.next.saturating_add(left);
            out.push(SampleRange { first: self.next, end });
            self.next = end;
        }
        let given = out.iter().fold(0, |sum, range| range.count().saturating_add(sum));
        debug_assert!(given == count || self.next == u64::MAX, "{given} positions of {count}");
        debug_assert!(out.len() <= RANGES_MAX && self.is_in_order());
        out
    }

    /// Takes back what was handed out and not trained on.
    pub(crate) fn give_back(&mut self, ranges: impl IntoIterator<Item = SampleRange>) {
        self.returned.extend(ranges.into_iter().filter(|range| range.count() > 0));
        self.returned.sort_unstable_by_key(|range| range.first);
        self.returned.dedup_by(|next, range| {
            let joins = next.first <= range.end;
            if joins {
                range.end = range.end.max(next.end);
            }
            joins
        });
        while self.returned.len() > RETURNED_MAX {
            let smallest = (0..self.returned.len()).min_by_key(|at| self.returned[*at].count());
            self.returned.remove(smallest.unwrap_or(0));
        }
        debug_assert!(self.is_in_order(), "{self:?}");
    }

    /// Whether what came back is in order, without overlaps, and was handed out before: else a
    /// position would be trained on twice.
    fn is_in_order(&self) -> bool {
        let apart = self.returned.windows(2).all(|pair| pair[0].end < pair[1].first);
        let some = self.returned.iter().all(|range| range.first < range.end);
        apart && some && self.returned.last().is_none_or(|last| last.end <= self.next)
    }
}

/// The rest of `ranges` after their first `used` positions.
pub(crate) fn rest(ranges: &[SampleRange], mut used: u64) -> Vec<SampleRange> {
    let mut left = Vec::new();
    for range in ranges {
        let skipped = used.min(range.count());
        used -= skipped;
        left.push(SampleRange { first: range.first + skipped, end: range.end });
    }
    left.retain(|range| range.count() > 0);
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u64, end: u64) -> SampleRange {
        SampleRange { first, end }
    }

    #[test]
    fn what_came_back_is_handed_out_before_anything_new() {
        let mut text = Text::default();
        assert_eq!(text.hand_out(10), [range(0, 10)]);
        text.give_back([range(7, 9), range(2, 4)]);
        assert_eq!(text.hand_out(3), [range(2, 4), range(7, 8)]);
        assert_eq!(text.hand_out(3), [range(8, 9), range(10, 12)]);
        assert_eq!(text, Text::from(12));
    }

    #[test]
    fn neighbours_that_came_back_become_one_range() {
        let mut text = Text::from(100);
        text.give_back([range(5, 8), range(0, 5), range(50, 60), range(8, 8)]);
        assert_eq!(text.returned, [range(0, 8), range(50, 60)]);
    }

    #[test]
    fn a_member_gets_a_bounded_number_of_ranges_and_all_that_it_asked_for() {
        let mut text = Text::from(1000);
        text.give_back((0..40).map(|at| range(at * 2, at * 2 + 1)));
        let out = text.hand_out(30);
        assert_eq!(out.len(), RANGES_MAX);
        assert_eq!(out.iter().map(SampleRange::count).sum::<u64>(), 30);
        assert_eq!(out.last(), Some(&range(1000, 1015)));
    }

    #[test]
    fn too_many_ranges_cost_the_smallest() {
        let mut text = Text::from(100_000);
        let wide = RETURNED_MAX as u64;
        text.give_back((0..wide).map(|at| range(at * 10, at * 10 + 5)));
        text.give_back([range(50_000, 50_001)]);
        assert_eq!(text.returned.len(), RETURNED_MAX);
        assert!(text.returned.iter().all(|range| range.count() == 5));
    }

    #[test]
    fn the_rest_begins_where_the_used_part_ends() {
        let ranges = [range(0, 3), range(10, 14)];
        assert_eq!(rest(&ranges, 0), ranges);
        assert_eq!(rest(&ranges, 3), [range(10, 14)]);
        assert_eq!(rest(&ranges, 5), [range(12, 14)]);
        assert_eq!(rest(&ranges, 99), []);
    }
}
