//! What the island sends in a round: compressed by every rank, summed up over all.

use std::sync::Arc;

use rounds::types::{Commit, Contribution, Digest};
use sparseloco::codec::{PieceAt, PieceInput, compress_piece, restore_piece};
use sparseloco::outer::ApplyError;
use tonic::codegen::Bytes;

use super::Exchange;
use crate::MemberError;
use crate::store::piece_digest;

/// What is sent is less than this; see `sparseloco`'s codec.
const SENT_MAX: f32 = 7.9e28;

/// A rank's part of a contribution.
#[derive(Debug)]
pub(crate) struct Sealed {
    pieces: Vec<(u32, Bytes)>,
    values: u64,
}

/// A contribution as all ranks know it.
#[derive(Debug, PartialEq)]
pub(crate) struct Sum {
    /// Of all pieces, by piece.
    pub(crate) digests: Arc<[Digest]>,
    /// Encoded.
    pub(crate) bytes: u64,
    pub(crate) values: u64,
}

impl Sealed {
    /// What the other ranks are told of it: bytes, values, digests.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let bytes: usize = self.pieces.iter().map(|(_, data)| data.len()).sum();
        let mut message = [(bytes as u64).to_le_bytes(), self.values.to_le_bytes()].concat();
        message.extend(self.pieces.iter().flat_map(|(_, data)| piece_digest(data).0));
        message
    }

    /// Adds up what the ranks told, by rank.
    pub(crate) fn sum(all: &[Vec<u8>]) -> Sum {
        let (mut digests, mut bytes, mut values) = (Vec::new(), 0, 0);
        for message in all {
            let (words, rest) = message.as_chunks::<8>();
            debug_assert!(rest.is_empty());
            bytes += words.first().map_or(0, |word| u64::from_le_bytes(*word));
            values += words.get(1).map_or(0, |word| u64::from_le_bytes(*word));
            let listed = message.get(16..).unwrap_or_default().as_chunks::<32>().0;
            digests.extend(listed.iter().map(|bytes| Digest(*bytes)));
        }
        Sum { digests: digests.into(), bytes, values }
    }
}

impl Exchange {
    /// Whether the span's update, with what is left of earlier ones, can be encoded. `after` is
    /// what was trained.
    pub(crate) fn is_finite(&self, after: &[f32]) -> bool {
        self.store().with_anchor(|anchor| is_finite(&anchor.values, after, &self.residual))
    }

    /// Encodes the rank's span; the error feedback keeps what is not sent.
    pub(crate) fn compress(&mut self, round: u64, after: &[f32]) -> Result<Sealed, MemberError> {
        let id = self.frame_id(round);
        let fetcher = Arc::clone(&self.fetcher);
        let mut sealed = Sealed { pieces: Vec::new(), values: 0 };
        for piece in fetcher.store.span() {
            let own = self.values_of(piece);
            let mut out = Vec::new();
            let stats = fetcher.store.with_anchor(|anchor| {
                let at = PieceAt { layout: &fetcher.layout, params: &fetcher.params, piece };
                let input =
                    PieceInput { anchor: &anchor.values[own.clone()], theta: &after[own.clone()] };
                compress_piece(at, &id, input, &mut self.residual[own.clone()], &mut out)
            });
            let stats = stats.map_err(|source| MemberError::Compress { round, source })?;
            sealed.values += stats.values as u64;
            sealed.pieces.push((piece, Bytes::from(out)));
        }
        Ok(sealed)
    }

    /// Keeps what the island made of a round, for others and for the case that it is not committed.
    pub(crate) fn keep(&mut self, round: u64, sealed: Sealed, sum: &Sum) {
        let pieces = sealed.pieces.iter().cloned();
        self.store().insert(round, &self.fetcher.island, &sum.digests, pieces);
        self.sent = sealed.pieces;
        self.report.contribution_bytes = sum.bytes;
        self.report.contribution_values = sum.values;
    }

    /// Where in a commit this island's contribution is: the one that it made itself, not one that
    /// an earlier epoch of it offered.
    pub(super) fn own(&self, commit: &Commit) -> Option<usize> {
        let mine = &self.offer.as_ref()?.contribution;
        let is_mine = |c: &Contribution| (&c.island, c.digest) == (&mine.island, mine.digest);
        commit.set.iter().position(is_mine)
    }

    /// What was compressed in `round` was sent in vain: it goes back into the error feedback.
    pub(super) fn take_back(&mut self, round: u64) -> Result<(), MemberError> {
        let id = self.frame_id(round);
        for (piece, bytes) in std::mem::take(&mut self.sent) {
            let own = self.values_of(piece);
            let fetcher = &self.fetcher;
            let at = PieceAt { layout: &fetcher.layout, params: &fetcher.params, piece };
            restore_piece(at, &id, &bytes, &mut self.residual[own]).map_err(|source| {
                let source = ApplyError::Frame { index: 0, source };
                MemberError::Apply { round, source }
            })?;
        }
        Ok(())
    }
}

/// Whether a round's update, with what is left of earlier ones, can be encoded.
fn is_finite(anchor: &[f32], after: &[f32], residual: &[f32]) -> bool {
    let updates = anchor.iter().zip(after).zip(residual);
    updates.into_iter().all(|((anchor, after), residual)| {
        (anchor - after).abs() + residual.abs() < SENT_MAX && after.is_finite()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_update_with_a_value_that_is_not_finite_or_too_large_is_none() {
        let table = [
            ([0.5, -2.0], [0.25, 0.0], true),
            ([f32::NAN, 0.0], [0.0, 0.0], false),
            ([f32::INFINITY, 0.0], [0.0, 0.0], false),
            ([0.0, 1e30], [0.0, 0.0], false),
            ([0.0, 0.0], [0.0, f32::NAN], false),
        ];
        for (after, residual, expected) in table {
            assert_eq!(
                is_finite(&[1.0, 1.0], &after, &residual),
                expected,
                "{after:?} {residual:?}"
            );
        }
    }

    #[test]
    fn the_digests_of_a_contribution_are_in_the_order_of_its_pieces() {
        let sealed = |pieces: &[(u32, &'static [u8])], values| Sealed {
            pieces: pieces.iter().map(|(at, data)| (*at, Bytes::from_static(data))).collect(),
            values,
        };
        let ranks = [sealed(&[(0, b"one"), (1, b"two")], 5), sealed(&[(2, b"three")], 7)];
        let sum = Sealed::sum(&ranks.map(|rank| rank.encode()));
        let digests = [&b"one"[..], b"two", b"three"].map(piece_digest);
        assert_eq!(sum, Sum { digests: digests.into(), bytes: 11, values: 12 });
    }
}
