//! Between the shards that devices train and the canonical spans that rounds work on.
//!
//! Contributions, error feedback, θ and checkpoints are laid out by tensor and chunk, and each rank
//! keeps a run of pieces of that order. Chunks never cross a shard, so values move chunk by chunk
//! between whoever trains them and whoever keeps them, whatever the island's sharding: in turn
//! `shift`, rank r sends to r + shift and receives from r − shift. Both sides walk the same chunks
//! in the same order, so nothing says which values come.

use std::ops::Range;
use std::sync::Arc;

use collective::{CommError, Group};
use member::span_of;
use plan::shard::{Position, Sharded, Slice};
use sparseloco::layout::{Block, Layout};

use crate::parallel::Place;

/// Pieces of a span that are under way at a time: 8 MiB of each rank.
const WINDOW: u32 = 8;

/// The way of an island's values between its ranks.
#[derive(Debug)]
pub struct Reshard {
    layout: Arc<Layout>,
    sharded: Arc<Sharded>,
    place: Place,
    /// What a device has, by stage and tensor-parallel position.
    parts: Vec<Part>,
}

/// Where a device has the slices of the model's tensors, by tensor.
#[derive(Debug)]
struct Part(Vec<Option<(Slice, usize)>>);

/// Flat buffers of one device, on the host.
#[derive(Debug)]
pub struct DeviceValues<'a> {
    /// Its shard.
    pub flat: &'a mut [f32],
    /// The whole embedding, [vocabulary, width], where it keeps that.
    pub table: Option<&'a mut [f32]>,
}

impl Part {
    fn new(sharded: &Sharded, stage: u32, tensor: u32) -> Part {
        let mut places = vec![None; sharded.tensors().len()];
        let mut offset = 0;
        for slice in sharded.slices(stage, tensor) {
            let values = sharded.local(&slice).numel() as usize;
            let index = slice.tensor;
            places[index] = Some((slice, offset));
            offset += values;
        }
        Part(places)
    }

    /// First value of a block in the device's buffer, and the distance of its rows.
    fn find(&self, block: &Block) -> Option<(usize, usize)> {
        let (slice, offset) = self.0[block.tensor].as_ref()?;
        let (row, column) = (block.row as u64, block.column as u64);
        if !slice.rows.contains(&row) || !slice.columns.contains(&column) {
            return None;
        }
        let width = (slice.columns.end - slice.columns.start) as usize;
        let (down, right) = (row - slice.rows.start, column - slice.columns.start);
        Some((offset + down as usize * width + right as usize, width))
    }
}

impl Reshard {
    /// The way between the ranks of `place`.
    pub fn new(layout: Arc<Layout>, sharded: Arc<Sharded>, place: Place) -> Reshard {
        let stages = 0..sharded.stages();
        let parts = stages.flat_map(|stage| {
            let sharded = &sharded;
            let ways = 0..sharded.sharding().tensor;
            ways.map(move |tensor| Part::new(sharded, stage, tensor))
        });
        let parts = parts.collect();
        Reshard { layout, sharded, place, parts }
    }

    /// Fills `span`, this rank's, from the devices' buffers. All ranks call it together.
    ///
    /// # Errors
    /// A rank that is gone.
    pub fn collect(
        &self,
        group: &mut Group,
        devices: &[&[f32]],
        span: &mut [f32],
    ) -> Result<(), CommError> {
        let own: Vec<Position> = self.place.own().collect();
        let me = group.rank();
        let start = self.start(group, me);
        for window in 0..self.windows(group) {
            for (to, from) in turns(group) {
                let mut send = Vec::new();
                for block in self.blocks(group, to, window) {
                    let source = self.source(to, &block);
                    let Some(device) = own.iter().position(|at| *at == source) else { continue };
                    pack(&block, self.part(source).find(&block), devices[device], &mut send);
                }
                let coming: Vec<Block> = self
                    .blocks(group, me, window)
                    .filter(|block| self.place.owner(self.source(me, block)) == from)
                    .collect();
                let received = exchange(group, (to, send), (from, &coming))?;
                let mut rest = &received[..];
                for block in &coming {
                    let (here, after) = rest.split_at(values(block));
                    let first = block.canonical - start;
                    span[first..first + here.len()].copy_from_slice(here);
                    rest = after;
                }
            }
        }
        Ok(())
    }

    /// Fills the devices' buffers from the ranks' spans, and their tables, which all devices of the
    /// island have or none. All ranks call it together.
    ///
    /// # Errors
    /// A rank that is gone.
    pub fn spread(
        &self,
        group: &mut Group,
        span: &[f32],
        devices: &mut [DeviceValues<'_>],
    ) -> Result<(), CommError> {
        let me = group.rank();
        let start = self.start(group, me);
        let tables = devices.iter().any(|device| device.table.is_some());
        for window in 0..self.windows(group) {
            for (to, from) in turns(group) {
                let mut send = Vec::new();
                let going = self.blocks(group, me, window);
                for block in going.filter(|block| self.wants(to, block, tables)) {
                    let first = block.canonical - start;
                    send.extend_from_slice(&span[first..first + values(&block)]);
                }
                let coming: Vec<Block> = self
                    .blocks(group, from, window)
                    .filter(|block| self.wants(me, block, tables))
                    .collect();
                let received = exchange(group, (to, send), (from, &coming))?;
                let mut rest = &received[..];
                for block in &coming {
                    let (here, after) = rest.split_at(values(block));
                    self.unpack(block, here, devices);
                    rest = after;
                }
            }
        }
        Ok(())
    }

    /// Puts a block wherever this rank has it.
    fn unpack(&self, block: &Block, from: &[f32], devices: &mut [DeviceValues<'_>]) {
        for (at, device) in self.place.own().zip(devices) {
            write(block, self.part(at).find(block), from, device.flat);
            if block.tensor == 0
                && let Some(table) = &mut device.table
            {
                let width = self.sharded.whole(0).columns.end as usize;
                write(block, Some((block.row * width + block.column, width)), from, table);
            }
        }
    }

    /// Whether a rank has a block, for training or besides.
    fn wants(&self, rank: u32, block: &Block, tables: bool) -> bool {
        (tables && block.tensor == 0)
            || self.place.of(rank).any(|at| self.part(at).find(block).is_some())
    }

    /// Who gives a block to the rank that keeps it: of several replicas, the rank's own.
    fn source(&self, rank: u32, block: &Block) -> Position {
        let data = self.place.of(rank).next().map_or(0, |at| at.data);
        let (row, column) = (block.row as u64, block.column as u64);
        let (stage, tensor) = self.sharded.holder(block.tensor, row, column);
        Position { data, stage, tensor }
    }

    fn part(&self, at: Position) -> &Part {
        &self.parts[(at.stage * self.place.grid.tensor + at.tensor) as usize]
    }

    fn span(&self, group: &Group, rank: u32) -> Range<u32> {
        span_of(&self.layout, rank, group.world_size())
    }

    fn start(&self, group: &Group, rank: u32) -> usize {
        self.layout.span(self.span(group, rank)).start
    }

    fn windows(&self, group: &Group) -> u32 {
        let pieces = (0..group.world_size()).map(|rank| self.span(group, rank).len() as u32);
        pieces.max().unwrap_or(0).div_ceil(WINDOW)
    }

    /// The blocks of one window of a rank's span.
    fn blocks(&self, group: &Group, rank: u32, window: u32) -> impl Iterator<Item = Block> + '_ {
        let span = self.span(group, rank);
        let first = (span.start + window * WINDOW).min(span.end);
        self.layout.blocks(first..(first + WINDOW).min(span.end))
    }
}

/// Whom a rank sends to and receives from, turn by turn.
fn turns(group: &Group) -> impl Iterator<Item = (u32, u32)> + use<> {
    let (me, world) = (group.rank(), group.world_size());
    (0..world).map(move |shift| ((me + shift) % world, (me + world - shift) % world))
}

/// Sends to one rank and receives the blocks that come from another; what a rank has for itself
/// stays.
fn exchange(
    group: &mut Group,
    (to, send): (u32, Vec<f32>),
    (from, coming): (u32, &[Block]),
) -> Result<Vec<f32>, CommError> {
    if to == group.rank() {
        return Ok(send);
    }
    let mut received = vec![0.0; coming.iter().map(values).sum()];
    group.exchange(to, &send, from, &mut received)?;
    Ok(received)
}

fn values(block: &Block) -> usize {
    block.rows * block.columns
}

fn pack(block: &Block, place: Option<(usize, usize)>, from: &[f32], to: &mut Vec<f32>) {
    let Some((first, width)) = place else { return };
    for row in 0..block.rows {
        let start = first + row * width;
        to.extend_from_slice(&from[start..start + block.columns]);
    }
}

fn write(block: &Block, place: Option<(usize, usize)>, from: &[f32], to: &mut [f32]) {
    let Some((first, width)) = place else { return };
    for (row, values) in from.chunks_exact(block.columns).enumerate() {
        let start = first + row * width;
        to[start..start + values.len()].copy_from_slice(values);
    }
}

#[cfg(test)]
mod tests;
