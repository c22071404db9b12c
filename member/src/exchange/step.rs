//! The outer step of a rank's span: a committed set becomes the next round's θ.

use std::sync::Arc;

use rounds::types::Commit;
use sparseloco::codec::PieceAt;
use sparseloco::outer::{PieceState, Weighted, apply_piece};
use tonic::codegen::Bytes;

use super::Exchange;
use crate::MemberError;

impl Exchange {
    /// Aggregates a commit in its order and steps; whether this island's contribution is in it. One
    /// that is not in it goes back into the error feedback, and counts in a later round.
    ///
    /// # Errors
    /// When the set is not what was verified. Readers are served nothing of θ from then on.
    pub(crate) fn step(&mut self, commit: &Commit) -> Result<bool, MemberError> {
        let round = commit.round;
        let own = self.own(commit);
        if own.is_none() {
            self.take_back(round)?;
        }
        let id = self.frame_id(round);
        let fetcher = Arc::clone(&self.fetcher);
        for piece in fetcher.store.span() {
            let range = self.values_of(piece);
            let at = PieceAt { layout: &fetcher.layout, params: &fetcher.params, piece };
            let residual = &mut self.residual[range.clone()];
            let pieces = commit.set.iter().map(|c| fetcher.store.piece(round, &c.island, piece));
            // What is not there is as good as a frame without a byte.
            let held: Vec<Bytes> = pieces.map(Option::unwrap_or_default).collect();
            let weighted = commit.set.iter().zip(&held);
            let weighted = weighted.map(|(c, bytes)| (c, id.for_island(&c.island), bytes));
            let set: Vec<Weighted<'_>> =
                weighted.map(|(c, id, bytes)| Weighted { weight: c.tokens, id, bytes }).collect();
            fetcher.store.with_anchor_mut(|anchor| {
                anchor.round = None;
                let state = PieceState { anchor: &mut anchor.values[range], residual };
                apply_piece(at, &self.outer, &set, own, state)
                    .map_err(|source| MemberError::Apply { round, source })
            })?;
        }
        fetcher.store.with_anchor_mut(|anchor| anchor.round = Some(round + 1));
        Ok(own.is_some())
    }
}
