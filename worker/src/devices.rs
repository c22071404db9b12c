//! The devices of one rank: a shard of the model on each, driven together.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::thread;

use collective::Group;
use member::{Theta, ThetaError};
use plan::model::Llama;
use plan::shard::{Grid, Position, Sharded};
use plan::spec::{DeviceSpec, IslandSpec, OptimizerSpec, RankSpec};
use sparseloco::layout::Layout;

use crate::error::RunError;
use crate::interrupt::Interrupt;
use crate::model::{MicroBatches, ModelError, Shard, ShardSetup};
use crate::parallel::{self, PeerError, Place};
use crate::parameters::FlatBuffer;
use crate::reshard::{DeviceValues, Reshard};
use crate::sums::Sums;

/// What the devices of an island share.
#[derive(Clone, Debug)]
pub struct DevicesSetup<'a> {
    /// The model.
    pub model: &'a Llama,
    /// Its chunks.
    pub layout: Arc<Layout>,
    /// The island's plan.
    pub island: &'a IslandSpec,
    /// The optimiser's settings.
    pub optimizer: &'a OptimizerSpec,
    /// Seed of the run.
    pub seed: u64,
    /// `host:port` where the island's other ranks reach this one; connections take free ports.
    pub listen: &'a str,
    /// When a step is left.
    pub interrupt: &'a Interrupt,
}

/// Whether the island's plan can be executed on the model, before anybody is met.
///
/// # Errors
/// What does not fit.
pub fn check(model: &Llama, island: &IslandSpec) -> Result<(), RunError> {
    Sharded::new(model, &island.sharding).map_err(RunError::Sharding)?;
    let contradiction = |what| Err(RunError::Contradiction(what));
    if island.batches.iter().any(|batch| batch.micro_batches == 0 || batch.micro_batch_size == 0) {
        return contradiction("a replica has no sequences");
    }
    if island.sharding.compression.is_some() && island.sharding.stages.len() < 2 {
        return contradiction("a pipeline of one stage has nothing to compress");
    }
    let card = |device: &DeviceSpec| match device {
        DeviceSpec::Cuda { index, .. } => Some(*index),
        DeviceSpec::Cpu { .. } => None,
    };
    for rank in &island.ranks {
        let cards: Vec<u32> = rank.devices.iter().filter_map(|own| card(&own.device)).collect();
        if (1..cards.len()).any(|at| cards[..at].contains(&cards[at])) {
            return contradiction("a rank has one CUDA device at two positions");
        }
    }
    owners(island).map(drop)
}

/// One rank's devices.
#[derive(Debug)]
pub struct Devices {
    shards: Vec<Shard>,
    reshard: Reshard,
}

/// What a flat buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// Parameters.
    Theta,
    /// AdamW's first moment.
    Moment1,
    /// AdamW's second moment.
    Moment2,
}

impl Devices {
    /// Connects this rank's devices with those of the group's other ranks, which all call it
    /// together. The shards are zeros until values are spread.
    ///
    /// # Errors
    /// A plan that does not fit the model or its own ranks, a device without room, a rank that is
    /// gone.
    pub fn connect(group: &mut Group, setup: &DevicesSetup<'_>) -> Result<Devices, RunError> {
        let island = setup.island;
        let sharded = Sharded::new(setup.model, &island.sharding).map_err(RunError::Sharding)?;
        let sharded = Arc::new(sharded);
        let place = place(group.rank(), island, setup.listen)?;
        let links = parallel::build(group, &place, sharded.tied()).map_err(ModelError::Peers)?;
        let own = &island.ranks[group.rank() as usize].devices;
        let shards = place.own().zip(own).zip(links).map(|((position, card), links)| {
            let shard = ShardSetup {
                sharded: Arc::clone(&sharded),
                position,
                device: &card.device,
                optimizer: setup.optimizer,
                seed: setup.seed,
                interrupt: setup.interrupt,
            };
            Shard::new(setup.model, shard, links)
        });
        let shards = shards.collect::<Result<Vec<_>, _>>()?;
        let reshard = Reshard::new(Arc::clone(&setup.layout), sharded, place);
        Ok(Devices { shards, reshard })
    }

    /// The positions of the devices.
    pub fn positions(&self) -> Vec<Position> {
        self.shards.iter().map(Shard::position).collect()
    }

    /// [`Shard::accumulate`] and [`Shard::sums`] on every device. `work` has an entry for each of
    /// the island's replicas. What the step is judged by, as far as these devices know: a single
    /// one keeps it, several have brought it to the host.
    ///
    /// # Errors
    /// As for [`Shard::accumulate`].
    pub fn accumulate(&mut self, work: &[MicroBatches], scale: f64) -> Result<Sums, ModelError> {
        let all = self.each(|shard| {
            let work = &work[shard.position().data as usize];
            let loss = shard.accumulate(work, scale)?;
            shard.sums(&loss)
        });
        let all = self.left(all)?;
        match <[Sums; 1]>::try_from(all) {
            Ok([own]) => Ok(own),
            Err(all) => add_up(&all),
        }
    }

    /// [`Shard::loss`] on every device, with `work` as for [`Devices::accumulate`]. The sum of the
    /// losses.
    ///
    /// # Errors
    /// As for [`Shard::loss`].
    pub fn loss(&mut self, work: &[MicroBatches]) -> Result<f64, ModelError> {
        let losses = self.each(|shard| shard.loss(&work[shard.position().data as usize]));
        Ok(self.left(losses)?.iter().sum())
    }

    /// Where the devices left what they were at, nobody waits for them any longer.
    fn left<T>(&mut self, result: Result<T, ModelError>) -> Result<T, ModelError> {
        if result.is_err() {
            self.shards.iter_mut().for_each(Shard::abandon);
        }
        result
    }

    /// [`Shard::optimizer_step`] on every device, by the sums over the island's ranks.
    ///
    /// # Errors
    /// libtorch refused.
    pub fn optimizer_step(&mut self, learning_rate: f64, sums: &Sums) -> Result<(), ModelError> {
        if let [shard] = &mut self.shards[..] {
            return shard.optimizer_step(learning_rate, sums);
        }
        let [loss, squares] = sums.read()?;
        self.each(|shard| shard.optimizer_step(learning_rate, &Sums::of(loss, squares)?)).map(drop)
    }

    /// Optimiser steps made. Waits for the device.
    ///
    /// # Errors
    /// The device has failed.
    pub fn optimizer_steps(&self) -> Result<u64, ModelError> {
        self.shards.first().map_or(Ok(0), |shard| shard.optimizer.steps())
    }

    /// Bytes sent between this rank's stages and their neighbours since this was last asked.
    pub fn take_boundary_bytes(&mut self) -> u64 {
        self.shards.iter_mut().map(Shard::take_boundary_bytes).sum()
    }

    /// Takes moments from the ranks' spans, after so many steps; all ranks call it together.
    ///
    /// # Errors
    /// A copy failed, or a rank is gone.
    pub fn spread_moments(
        &mut self,
        group: &mut Group,
        span: [&[f32]; 2],
        steps: u64,
    ) -> Result<(), RunError> {
        for (values, span) in [Values::Moment1, Values::Moment2].into_iter().zip(span) {
            self.spread_values(values, group, span)?;
        }
        let mut shards = self.shards.iter_mut();
        Ok(shards.try_for_each(|shard| shard.optimizer.set_steps(steps))?)
    }

    /// The span's values of one kind; all ranks call it together.
    ///
    /// # Errors
    /// A copy failed, or a rank is gone.
    pub fn collect_values(
        &mut self,
        values: Values,
        group: &mut Group,
        span: &mut [f32],
    ) -> Result<(), RunError> {
        let buffers = self.shards.iter_mut().map(|shard| shard.buffer(values).host());
        let buffers = buffers.collect::<Result<Vec<_>, _>>()?;
        let buffers: Vec<&[f32]> = buffers.iter().map(|buffer| &**buffer).collect();
        self.reshard.collect(group, &buffers, span).map_err(RunError::Group)
    }

    fn spread_values(
        &mut self,
        values: Values,
        group: &mut Group,
        span: &[f32],
    ) -> Result<(), RunError> {
        let mut buffers = Vec::new();
        for shard in &mut self.shards {
            let (flat, table) = shard.buffers(values);
            let table = table.map(FlatBuffer::host).transpose()?;
            buffers.push(DeviceValues { flat: flat.host()?, table });
        }
        self.reshard.spread(group, span, &mut buffers).map_err(RunError::Group)?;
        for shard in &mut self.shards {
            let (flat, table) = shard.buffers(values);
            flat.store()?;
            table.map_or(Ok(()), FlatBuffer::store)?;
        }
        Ok(())
    }

    /// Runs something on all devices at once, a thread for each.
    fn each<T: Send>(
        &mut self,
        run: impl Fn(&mut Shard) -> Result<T, ModelError> + Sync,
    ) -> Result<Vec<T>, ModelError> {
        if let [shard] = &mut self.shards[..] {
            return Ok(vec![run(shard)?]);
        }
        let run = &run;
        let results: Vec<_> = thread::scope(|scope| {
            let shards = self.shards.iter_mut();
            let threads: Vec<_> =
                shards.map(|shard| scope.spawn(move || watched(shard, run))).collect();
            threads.into_iter().map(|thread| thread.join()).collect()
        });
        let results = results.into_iter();
        let whole = results.map(|result| result.unwrap_or_else(|panic| resume_unwind(panic)));
        first_cause(whole.collect())
    }
}

/// Runs something on a device; where it fails, no other waits for the device any longer.
fn watched<T>(
    shard: &mut Shard,
    run: impl FnOnce(&mut Shard) -> Result<T, ModelError>,
) -> Result<T, ModelError> {
    let result = catch_unwind(AssertUnwindSafe(|| run(shard)));
    if !matches!(result, Ok(Ok(_))) {
        shard.abandon();
    }
    result.unwrap_or_else(|panic| resume_unwind(panic))
}

/// Sums over devices, in their order, on the host.
fn add_up(all: &[Sums]) -> Result<Sums, ModelError> {
    let (mut loss, mut squares) = (0.0, 0.0);
    for sums in all {
        let [of_loss, of_squares] = sums.read()?;
        loss += of_loss;
        squares += of_squares;
    }
    Sums::of(loss, squares)
}

/// All results, or the first of the errors that are the least a consequence of others.
fn first_cause<T>(results: Vec<Result<T, ModelError>>) -> Result<Vec<T>, ModelError> {
    let (mut all, mut failed): (Vec<T>, Vec<ModelError>) = (Vec::new(), Vec::new());
    for result in results {
        match result {
            Ok(value) => all.push(value),
            Err(error) => failed.push(error),
        }
    }
    match failed.into_iter().min_by_key(distance) {
        Some(error) => Err(error),
        None => Ok(all),
    }
}

/// How far an error may be from its cause: a device's own, another rank's, that of another device
/// here.
fn distance(error: &ModelError) -> u32 {
    match error {
        ModelError::Peers(PeerError::Late { .. } | PeerError::Gone { .. }) => 2,
        ModelError::Peers(PeerError::Group(_)) => 1,
        _ => 0,
    }
}

/// The rank of each of the island's devices.
fn owners(island: &IslandSpec) -> Result<Vec<u32>, RunError> {
    let positions = Grid::of(island).size();
    let devices = (0..).zip(&island.ranks);
    let owners: Vec<u32> = devices
        .flat_map(|(rank, spec): (u32, &RankSpec)| spec.devices.iter().map(move |_| rank))
        .collect();
    let idle = island.ranks.iter().any(|rank| rank.devices.is_empty());
    if owners.is_empty() || idle || owners.len() != positions as usize {
        return Err(RunError::Positions { devices: owners.len(), positions });
    }
    Ok(owners)
}

fn place(rank: u32, island: &IslandSpec, listen: &str) -> Result<Place, RunError> {
    let (grid, owners) = (Grid::of(island), owners(island)?);
    // Every connection has a port of its own.
    let host = listen.rsplit_once(':').map_or(listen, |(host, _)| host);
    Ok(Place { grid, owners, rank, listen: format!("{host}:0") })
}

impl Theta for Devices {
    fn collect(&mut self, group: &mut Group, span: &mut [f32]) -> Result<(), ThetaError> {
        self.each(|shard| shard.end_round()).map_err(theta_error)?;
        self.collect_values(Values::Theta, group, span).map_err(theta_error)
    }

    fn spread(&mut self, group: &mut Group, span: &[f32]) -> Result<(), ThetaError> {
        self.spread_values(Values::Theta, group, span).map_err(theta_error)?;
        self.each(|shard| shard.begin_round()).map(drop).map_err(theta_error)
    }
}

fn theta_error(error: impl Into<RunError>) -> ThetaError {
    match error.into() {
        RunError::Group(error) => ThetaError::Group(error),
        error => ThetaError::Other(Box::new(error)),
    }
}

#[cfg(test)]
mod tests;
