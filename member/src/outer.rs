//! A rank's share of the outer state: the round, and θ and the residual of its span.

use std::ops::Range;

use rounds::types::Digest;
use sparseloco::layout::Layout;

/// What a rank carries from round to round.
#[derive(Clone, Debug, PartialEq)]
pub struct OuterState {
    /// The round.
    pub round: u64,
    /// Tokens of the run at its start, as far as is known.
    pub tokens: u64,
    /// Samples of the run's order of text that were handed out by then.
    pub samples: u64,
    /// θ of the rank's span at the start of the round, in canonical order.
    pub anchor: Vec<f32>,
    /// Error feedback of the rank's span, in canonical order.
    pub residual: Vec<f32>,
}

impl OuterState {
    /// The state of a run's first round, or of one whose residual is lost.
    pub fn fresh(round: u64, anchor: Vec<f32>) -> OuterState {
        OuterState { round, tokens: 0, samples: 0, residual: vec![0.0; anchor.len()], anchor }
    }
}

/// The pieces that `rank` of `world_size` owns: equal runs, the same on every rank.
pub fn span_of(layout: &Layout, rank: u32, world_size: u32) -> Range<u32> {
    let cut = |rank: u32| {
        let cut = u64::from(layout.pieces()) * u64::from(rank) / u64::from(world_size);
        u32::try_from(cut).unwrap_or(u32::MAX)
    };
    cut(rank)..cut(rank + 1)
}

/// blake3 of a piece of θ, little-endian.
pub(crate) fn theta_piece_digest(values: &[f32]) -> Digest {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = [0u8; 4096];
    for part in values.chunks(buffer.len() / 4) {
        for (bytes, value) in buffer.chunks_exact_mut(4).zip(part) {
            bytes.copy_from_slice(&value.to_le_bytes());
        }
        hasher.update(&buffer[..part.len() * 4]);
    }
    Digest(*hasher.finalize().as_bytes())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use sparseloco::layout::TensorShape;

    use super::*;

    #[test]
    fn spans_cover_every_piece_once() {
        let tensors = [TensorShape { name: "w".into(), shape: vec![2048, 1024] }];
        let layout = Layout::new(&tensors).expect("a valid shape");
        for world_size in 1..12 {
            let mut next = 0;
            for rank in 0..world_size {
                let span = span_of(&layout, rank, world_size);
                assert_eq!(span.start, next);
                next = span.end;
            }
            assert_eq!(next, layout.pieces());
        }
    }

    #[test]
    fn ranks_beyond_the_pieces_have_none_and_no_span_differs_by_more_than_one() {
        let tensors = [TensorShape { name: "w".into(), shape: vec![2048, 640] }];
        let layout = Layout::new(&tensors).expect("a valid shape");
        assert_eq!(layout.pieces(), 5);
        for (world_size, smallest, largest) in [(2, 2, 3), (5, 1, 1), (7, 0, 1), (4096, 0, 1)] {
            let lengths = (0..world_size).map(|rank| span_of(&layout, rank, world_size).len());
            let lengths: Vec<usize> = lengths.collect();
            assert_eq!(lengths.iter().sum::<usize>(), 5);
            let range = (lengths.iter().min().copied(), lengths.iter().max().copied());
            assert_eq!(range, (Some(smallest), Some(largest)), "{world_size} ranks");
        }
    }

    #[test]
    fn a_state_without_a_history_has_a_residual_of_zeros() {
        let state = OuterState::fresh(3, vec![1.0, 2.0]);
        assert_eq!((state.round, state.tokens, state.samples), (3, 0, 0));
        assert_eq!((state.anchor, state.residual), (vec![1.0, 2.0], vec![0.0; 2]));
    }

    #[test]
    fn the_digest_is_of_all_values() {
        let mut values = vec![1.0f32; 5000];
        let before = theta_piece_digest(&values);
        values[4999] = 2.0;
        assert_ne!(before, theta_piece_digest(&values));
    }

    #[test]
    fn the_digest_of_theta_is_that_of_the_wire_formats_vectors() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sparseloco/vectors");
        let mut manifest = Vec::new();
        for piece in 0..2 {
            let bytes = std::fs::read(folder.join(format!("pieces-{piece}.input"))).unwrap();
            let values: Vec<f32> =
                bytes.as_chunks().0.iter().map(|value| f32::from_le_bytes(*value)).collect();
            manifest.extend(theta_piece_digest(&values).0);
        }
        let digests = std::fs::read_to_string(folder.join("digests.txt")).unwrap();
        let expected = format!("theta {}", blake3::hash(&manifest));
        assert!(digests.lines().any(|line| line == expected), "{expected} is not in {digests}");
    }
}
