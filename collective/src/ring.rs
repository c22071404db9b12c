//! All-reduce around a ring: reduce-scatter and all-gather in one.
//!
//! The buffer is cut into blocks, each block into one piece per rank. Every rank starts one piece
//! of each block, and each piece goes around the ring twice: first it collects the sum, then it
//! brings the sum to everybody. With 3 ranks, one block, pieces 0 1 2 (hop h: rank r sends piece
//! `(r - 1 - h) mod 3`; `1:ab` is piece 1 as the sum of the values of ranks a and b):
//!
//! ```text
//!  hop        rank 0 sends   rank 1 sends   rank 2 sends
//!   0            2:0            0:1            1:2         collect
//!   1            1:20           2:01           0:12
//!   2            0:120          1:201          2:012       bring; rank r completed piece r
//!   3            2:012          0:120          1:201
//! ```
//!
//! Cost per rank and n values in a world of w: 2(w-1) hops, 2(w-1)/w * n values sent, as many
//! received (the least possible), (w-1)/w * n additions. Several blocks are under way at once, so
//! that all links are busy. The order of additions depends on the piece alone, never on timing,
//! and each sum is computed once and copied: the result is the same on all ranks, bit for bit.

use std::ops::Range;

use bytes::Bytes;

use crate::CommError;
use crate::links::{Call, Links, Piece, QUEUE_MESSAGES_MAX, Receiving};
use crate::numeric;
use crate::pool::Pool;
use crate::wire::CHUNK_BYTES;

/// Blocks that a rank has started and not finished. Not more than a link's queue holds: then
/// there is always a link with room, and the ring cannot stand still.
const BLOCKS_UNDER_WAY_MAX: usize = 3;
const _: () = assert!(BLOCKS_UNDER_WAY_MAX <= QUEUE_MESSAGES_MAX);

const CHUNK_VALUES: usize = CHUNK_BYTES / size_of::<f32>();

/// How a buffer is cut into equal pieces of consecutive blocks. All ranks compute the same.
#[derive(Clone, Copy)]
struct Layout {
    /// Values.
    length: usize,
    /// Ranks.
    world: usize,
}

impl Layout {
    fn blocks(self) -> usize {
        self.length.div_ceil(self.world * CHUNK_VALUES)
    }

    fn piece(self, block: usize, piece: usize) -> Range<usize> {
        let Layout { length, world } = self;
        let start = block * world * CHUNK_VALUES;
        let length = (length - start).min(world * CHUNK_VALUES);
        start + length * piece / world..start + length * (piece + 1) / world
    }
}

/// The piece that `rank` sends at hop `hop`; what it receives at a hop it sends at the next.
fn piece_sent(rank: usize, world: usize, hop: usize) -> usize {
    (rank + 2 * world - 1 - hop) % world
}

/// Sums `values` over all ranks.
pub(crate) async fn all_reduce(
    links: &mut Links,
    call: Call,
    values: &mut [f32],
) -> Result<(), CommError> {
    let (rank, world) = (links.rank as usize, links.world_size());
    if world == 1 {
        return Ok(());
    }
    let layout = Layout { length: values.len(), world };
    let pool = links.pool.clone();
    let total = (values.len() * 4) as u64;
    let (from, to) = ((rank + world - 1) % world, (rank + 1) % world);
    let (mut from, mut to) = links.between(from as u32, to as u32, call)?;
    let hops = 2 * (world - 1);
    let mut arriving = vec![0; layout.blocks()];
    let (mut started, mut finished) = (0, 0);
    while finished < arriving.len() {
        while started < arriving.len().min(finished + BLOCKS_UNDER_WAY_MAX) {
            let range = layout.piece(started, piece_sent(rank, world, 0));
            let payload = copy(&pool, &values[range.clone()]);
            to.send(total, piece(started, &range, payload)).await?;
            started += 1;
        }
        let (_, arrived) = from.recv().await?;
        let (block, hop) = place(&from, &arrived, &arriving, hops)?;
        let range = layout.piece(block, piece_sent(rank, world, hop + 1));
        check_piece(&from, &arrived, &range)?;
        arriving[block] += 1;
        let own = &mut values[range.clone()];
        if arriving[block] < hops {
            let payload = take_and_pass_on(&pool, own, arrived.payload, hop, world);
            to.send(total, piece(block, &range, payload)).await?;
        } else {
            take(own, &arrived.payload, hop, world);
            finished += 1;
        }
    }
    Ok(())
}

/// The block of an arrived piece, and the hop at which it came.
fn place(
    from: &Receiving<'_>,
    arrived: &Piece,
    arriving: &[usize],
    end: usize,
) -> Result<(usize, usize), CommError> {
    let block = usize::try_from(arrived.block).unwrap_or(usize::MAX);
    match arriving.get(block) {
        Some(hop) if *hop < end => Ok((block, *hop)),
        _ => Err(from.protocol(format!("a piece of block {block}, which is not awaited"))),
    }
}

fn check_piece(
    from: &Receiving<'_>,
    arrived: &Piece,
    range: &Range<usize>,
) -> Result<(), CommError> {
    let found = (arrived.offset, arrived.payload.len());
    let expected = ((range.start * 4) as u64, range.len() * 4);
    if found == expected {
        return Ok(());
    }
    Err(from.protocol(format!("(offset, bytes) = {found:?} instead of {expected:?}")))
}

/// Takes what arrived at `hop` into `own`, and returns what goes on to the next rank. A sum that
/// is not complete leaves `own` alone: it will be replaced.
fn take_and_pass_on(
    pool: &Pool,
    own: &mut [f32],
    arrived: Bytes,
    hop: usize,
    world: usize,
) -> Bytes {
    if hop >= world - 1 {
        numeric::load(own, &arrived);
        return arrived;
    }
    let sum = pool.payload(arrived.len(), |out| numeric::add(out, &arrived, own));
    if hop == world - 2 {
        numeric::load(own, &sum);
    }
    sum
}

/// Takes what arrived at the last hop into `own`.
fn take(own: &mut [f32], arrived: &[u8], hop: usize, world: usize) {
    if hop >= world - 1 { numeric::load(own, arrived) } else { numeric::add_assign(own, arrived) }
}

fn copy(pool: &Pool, values: &[f32]) -> Bytes {
    pool.payload(values.len() * 4, |out| numeric::store(out, values))
}

fn piece(block: usize, range: &Range<usize>, payload: Bytes) -> Piece {
    Piece { block: block as u64, offset: (range.start * 4) as u64, payload }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pieces(layout: Layout, world: usize) -> Vec<Range<usize>> {
        let blocks = 0..layout.blocks();
        let all = blocks.flat_map(|block| (0..world).map(move |piece| (block, piece)));
        all.map(|(block, piece)| layout.piece(block, piece)).collect()
    }

    proptest! {
        #[test]
        fn even_pieces_tile_the_buffer_in_order(length in 0..5_000_000_usize, world in 1..9_usize) {
            let mut end = 0;
            for piece in pieces(Layout { length, world }, world) {
                prop_assert_eq!(piece.start, end);
                prop_assert!(piece.len() <= CHUNK_VALUES);
                end = piece.end;
            }
            prop_assert_eq!(end, length);
        }

        #[test]
        fn a_piece_visits_all_ranks_and_is_complete_at_the_rank_of_its_number(world in 2..9_usize) {
            for piece in 0..world {
                let holders: Vec<_> = (0..world)
                    .map(|hop| (0..world).find(|rank| piece_sent(*rank, world, hop) == piece))
                    .collect();
                let expected: Vec<_> = (1..=world).map(|hop| Some((piece + hop) % world)).collect();
                prop_assert_eq!(holders, expected);
            }
        }
    }
}
