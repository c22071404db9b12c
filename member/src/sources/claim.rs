//! Which pieces one source is giving, of those that it holds.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use rounds::types::RankAddress;

/// The overlap of a rank's pieces with the wanted ones.
pub(super) fn overlap(rank: &RankAddress, wanted: &Range<u32>) -> Option<Range<u32>> {
    let range = rank.first_piece.max(wanted.start)..rank.end_piece.min(wanted.end);
    (range.start < range.end).then_some(range)
}

/// Runs of consecutive indices.
pub(super) fn runs(indices: impl IntoIterator<Item = u32>) -> Vec<Range<u32>> {
    let mut runs: Vec<Range<u32>> = Vec::new();
    for index in indices {
        match runs.last_mut() {
            Some(run) if run.end == index => run.end += 1,
            _ => runs.push(index..index + 1),
        }
    }
    runs
}

/// The pieces that one source is giving. Another source may take its end over.
#[derive(Debug)]
pub(super) struct Claim {
    first: u32,
    next: AtomicU32,
    end: AtomicU32,
}

impl Claim {
    pub(super) fn of(range: Range<u32>) -> Arc<Claim> {
        let (next, end) = (AtomicU32::new(range.start), AtomicU32::new(range.end));
        Arc::new(Claim { first: range.start, next, end })
    }

    pub(super) fn left(&self) -> Range<u32> {
        self.next.load(Relaxed)..self.end.load(Relaxed)
    }

    pub(super) fn has_moved(&self) -> bool {
        self.next.load(Relaxed) > self.first
    }

    /// The piece `index` has come.
    pub(super) fn took(&self, index: u32) {
        self.next.store(index + 1, Relaxed);
    }

    /// The latter half of what is left, which is another's from now on.
    pub(super) fn split(&self) -> Range<u32> {
        let left = self.left();
        let middle = left.start + (left.end - left.start).div_ceil(2);
        self.end.store(middle, Relaxed);
        middle..left.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn missing_pieces_are_asked_for_in_runs() {
        assert_eq!(runs([1, 2, 3, 7, 9, 10]), vec![1..4, 7..8, 9..11]);
        assert!(runs([]).is_empty());
    }

    #[test]
    fn a_rank_is_asked_only_for_what_it_holds() {
        let rank = RankAddress { address: "a:1".into(), first_piece: 4, end_piece: 8 };
        assert_eq!(overlap(&rank, &(0..6)), Some(4..6));
        assert_eq!(overlap(&rank, &(5..7)), Some(5..7));
        assert_eq!(overlap(&rank, &(8..9)), None);
        let odd = RankAddress { first_piece: 8, end_piece: 4, ..rank };
        assert_eq!(overlap(&odd, &(0..9)), None, "ends before it begins");
    }

    #[test]
    fn the_end_of_what_one_source_gives_goes_to_another() {
        let claim = Claim::of(4..10);
        assert!(!claim.has_moved());
        claim.took(4);
        assert!(claim.has_moved());
        assert_eq!(claim.split(), 8..10);
        assert_eq!(claim.left(), 5..8);
        assert_eq!(claim.split(), 7..8);
        assert_eq!(claim.split(), 6..7);
        assert_eq!(claim.left(), 5..6, "the piece that is on its way stays");
    }
}
