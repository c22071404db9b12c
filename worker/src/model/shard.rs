//! What one device does: its shard of the model, its optimiser state, and the pipeline schedule
//! over the micro-batches of an inner step.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::thread::ThreadId;

use plan::model::Llama;
use plan::pipeline::{Work, one_forward_one_backward};
use plan::shard::{Position, Sharded, Slice};
use plan::spec::{DeviceSpec, OptimizerSpec};
use tch::{Device, Kind, Tensor};

use super::peers::Peers;
use super::stage::{Flight, Stage, StageSetup};
use super::subspace::Subspace;
use super::{Batch, Compute, ModelError};
use crate::devices::Values;
use crate::interrupt::Interrupt;
use crate::optimizer::Optimizer;
use crate::pace::Pace;
use crate::parallel::{Links, Reducer, Team};
use crate::parameters::{FlatBuffer, Layout, Leaf, Leaves};
use crate::sums::{Sums, finite, zero};

/// Token ids of a device's micro-batches: each `batch` sequences of `length` inputs and a target
/// for each, `batch * (length + 1)` tokens.
#[derive(Clone, Debug)]
pub struct MicroBatches {
    /// One entry each.
    pub tokens: Vec<Vec<u32>>,
    /// Sequences of each.
    pub batch: usize,
    /// Inputs of a sequence.
    pub length: usize,
}

/// Which shard a device has, and what it is trained with.
#[derive(Clone, Debug)]
pub struct ShardSetup<'a> {
    /// The model and how it is cut.
    pub sharded: Arc<Sharded>,
    /// Where the device stands.
    pub position: Position,
    /// The device.
    pub device: &'a DeviceSpec,
    /// The optimiser's settings.
    pub optimizer: &'a OptimizerSpec,
    /// Seed of the run.
    pub seed: u64,
    /// When a step is left.
    pub interrupt: &'a Interrupt,
}

/// One device's shard of the model.
#[derive(Debug)]
pub struct Shard {
    model: Llama,
    sharded: Arc<Sharded>,
    position: Position,
    layout: Layout,
    /// Parts of the flat buffer of which no other device's copy counts.
    counted: Vec<Range<usize>>,
    pub(super) compute: Compute,
    pub(super) stage: Stage,
    pub(crate) theta: FlatBuffer,
    pub(crate) gradient: FlatBuffer,
    pub(crate) optimizer: Optimizer,
    links: Links,
    tied: Option<Team>,
    compression: Option<Compression>,
    pace: Pace,
    /// libtorch's number of threads is a property of the calling thread: the one that has it.
    prepared: Option<ThreadId>,
}

/// A compressed island's boundaries.
#[derive(Debug)]
struct Compression {
    subspace: Subspace,
    /// Where θ's whole embedding arrives when a round begins.
    table: FlatBuffer,
    /// Output and down projections.
    writing: Vec<Leaf>,
    embedding: Option<(Leaf, i64)>,
}

impl Shard {
    /// A shard of zeros; its values come from the round.
    ///
    /// # Errors
    /// A device that is not there or has no room.
    pub fn new(
        model: &Llama,
        setup: ShardSetup<'_>,
        mut links: Links,
    ) -> Result<Shard, ModelError> {
        let ShardSetup { sharded, position, device, optimizer, seed, interrupt } = setup;
        let compute = Compute::new(device)?;
        let slices = sharded.slices(position.stage, position.tensor);
        let layout = Layout::new(slices.iter().map(|slice| sharded.local(slice)).collect());
        let theta = FlatBuffer::zeros(layout.numel(), compute.device)?;
        let gradient = FlatBuffer::zeros(layout.numel(), compute.device)?;
        let leaves = Leaves { layout: &layout, theta: theta.tensor(), gradient: gradient.tensor() };
        let peers = Peers::new(links.tensor.take());
        let stage = stage_setup(&sharded, position, &slices, (peers, interrupt.clone()));
        let stage = Stage::new(model, &leaves, compute, stage)?;
        let compression = Compression::new(model, (&sharded, position), &leaves, seed)?;
        let counts = |slice: &Slice| sharded.counts(slice, position.stage, position.tensor);
        let counted = merged(
            slices
                .iter()
                .zip(layout.ranges())
                .filter_map(|(slice, (_, range))| counts(slice).then_some(range)),
        );
        let threads = compute.threads as usize;
        Ok(Shard {
            model: model.clone(),
            optimizer: Optimizer::new(optimizer.clone(), &layout, compute.device, threads)?,
            tied: links.tied.take(),
            pace: Pace::new(device, interrupt.clone()),
            prepared: None,
            sharded,
            position,
            layout,
            counted,
            compute,
            stage,
            theta,
            gradient,
            links,
            compression,
        })
    }

    /// The model.
    pub fn model(&self) -> &Llama {
        &self.model
    }

    /// Where the device stands.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Where what it holds lies in the flat buffers.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// A flat buffer of the shard.
    pub(crate) fn buffer(&mut self, values: Values) -> &mut FlatBuffer {
        self.buffers(values).0
    }

    /// A flat buffer of the shard; with θ, where boundaries are compressed, that of the whole
    /// embedding, [vocabulary, width].
    pub(crate) fn buffers(&mut self, values: Values) -> (&mut FlatBuffer, Option<&mut FlatBuffer>) {
        match values {
            Values::Theta => {
                let table = self.compression.as_mut().map(|compression| &mut compression.table);
                (&mut self.theta, table)
            }
            Values::Moment1 => (&mut self.optimizer.first, None),
            Values::Moment2 => (&mut self.optimizer.second, None),
        }
    }

    /// Forward and backward of all micro-batches, in the order of the pipeline schedule. Adds
    /// `scale` times the gradient of the summed loss to the flat gradient and sums it over
    /// replicas; with `scale` = 1 / (tokens of the island's step) that is the gradient of the mean
    /// loss. Returns the loss in nats, summed over the micro-batches and unscaled, where the last
    /// stage is here, and 0 elsewhere and on all but one of the peers that share it: a single f64
    /// on the device, for which nobody has waited.
    ///
    /// # Errors
    /// Tokens that make no such batch, libtorch refused, a peer is gone, the rank is to stop; the
    /// gradient is then undefined.
    pub fn accumulate(&mut self, work: &MicroBatches, scale: f64) -> Result<Tensor, ModelError> {
        let count = work.tokens.len() as u32;
        let shape = self.boundary_shape(work);
        for side in [&self.links.before, &self.links.after].into_iter().flatten() {
            side.into.expect(count, shape)?;
        }
        let (stage, stages) = (self.position.stage, self.sharded.stages());
        let mut flights = VecDeque::new();
        let mut losses = Vec::new();
        for step in one_forward_one_backward(stage, stages, count) {
            match step {
                Work::Forward(index) => {
                    let batch =
                        self.batch(&work.tokens[index as usize], work.batch, work.length)?;
                    let flight = self.forward(&batch)?;
                    flights.push_back((batch, flight));
                }
                Work::Backward(index) => {
                    let Some((batch, flight)) = flights.pop_front() else { break };
                    losses.extend(self.backward(&batch, flight, (scale, index + 1 == count))?);
                }
            }
        }
        self.sum_over_replicas()?;
        self.total(&losses)
    }

    fn forward(&mut self, batch: &Batch) -> Result<Flight, ModelError> {
        let input = self.input(batch)?;
        self.pace.begin();
        let flight = self.stage.forward(input, batch)?;
        if self.links.after.is_some() {
            let output = flight.output()?;
            self.send_output(output, batch)?;
        }
        self.pace.end();
        Ok(flight)
    }

    /// What the stage's first layer sees: [tokens, width].
    fn input(&mut self, batch: &Batch) -> Result<Tensor, ModelError> {
        let Some(before) = &self.links.before else { return self.stage.embed(batch) };
        let arrived = before.into.receive(self.compute.device)?;
        match &self.compression {
            Some(compression) => compression.subspace.restore(&arrived, batch),
            None => Ok(arrived),
        }
    }

    fn send_output(&mut self, output: Tensor, batch: &Batch) -> Result<(), ModelError> {
        let Some(after) = &mut self.links.after else { return Ok(()) };
        let output = match &self.compression {
            Some(compression) => compression.subspace.compress(&output, batch)?,
            None => output,
        };
        Ok(after.out.send(output)?)
    }

    /// The sum of losses, on the device. Of the peers that share the head, the first one tells.
    fn total(&self, losses: &[Tensor]) -> Result<Tensor, ModelError> {
        if losses.is_empty() || self.position.tensor > 0 {
            return zero(self.compute.device);
        }
        Ok(Tensor::f_stack(losses, 0)?.f_sum(Kind::Double)?)
    }

    /// Backward of one micro-batch; the loss, where the head is here.
    fn backward(
        &mut self,
        batch: &Batch,
        flight: Flight,
        (scale, last): (f64, bool),
    ) -> Result<Option<Tensor>, ModelError> {
        let (loss, gradient) = match &self.links.after {
            None => {
                self.pace.begin();
                let (loss, gradient) = self.stage.loss_and_gradient(&flight, batch, scale)?;
                (Some(loss), gradient)
            }
            Some(after) => {
                let arrived = after.into.receive(self.compute.device)?;
                self.pace.begin();
                match &self.compression {
                    Some(compression) => (None, compression.subspace.restore_gradient(&arrived)?),
                    None => (None, arrived),
                }
            }
        };
        let (gradients, reducer) = (self.gradient.tensor(), &mut self.links.data);
        let layers = &self.layout;
        let first = self.sharded.layers(self.position.stage).start;
        let done = |layer: usize| match reducer {
            Some(reducer) if last => {
                Ok(reducer.ready(gradients, layers.layer(first + layer as u32))?)
            }
            _ => Ok(()),
        };
        let gradient = self.stage.backward(flight, batch, gradient, done)?;
        match (&mut self.links.before, &self.compression) {
            (None, _) => self.stage.embed_backward(batch, &gradient)?,
            (Some(before), None) => before.out.send(gradient)?,
            (Some(before), Some(compression)) => {
                before.out.send(compression.subspace.compress_gradient(&gradient)?)?;
            }
        }
        self.pace.end();
        Ok(loss)
    }

    /// What backward did not give to the reducer, layer by layer: embedding, last norm and head.
    fn sum_over_replicas(&mut self) -> Result<(), ModelError> {
        if let Some(tied) = &self.tied {
            let range = self.layout.tensor(0);
            let gradient = self.gradient.tensor();
            let mut shared = gradient.f_narrow(0, range.start as i64, range.len() as i64)?;
            tied.sum(&mut shared)?;
        }
        let Some(reducer) = &mut self.links.data else { return Ok(()) };
        for range in self.layout.outside_layers() {
            reducer.ready(self.gradient.tensor(), range)?;
        }
        Ok(reducer.finish(self.gradient.tensor())?)
    }

    /// [`Shard::accumulate`] by a shard that is the whole model, in one graph over all layers.
    ///
    /// # Errors
    /// As for [`Shard::accumulate`].
    pub(super) fn accumulate_in_one_graph(
        &mut self,
        work: &MicroBatches,
        scale: f64,
    ) -> Result<Tensor, ModelError> {
        let mut losses = Vec::new();
        for tokens in &work.tokens {
            let batch = self.batch(tokens, work.batch, work.length)?;
            let input = self.stage.embed(&batch)?;
            let (loss, gradient) = self.stage.in_one_graph(&input, &batch, scale)?;
            self.stage.embed_backward(&batch, &gradient)?;
            losses.push(loss);
        }
        self.total(&losses)
    }

    /// The loss in nats, summed over the micro-batches, without gradients; where as in
    /// [`Shard::accumulate`].
    ///
    /// # Errors
    /// As for [`Shard::accumulate`].
    pub fn loss(&mut self, work: &MicroBatches) -> Result<f64, ModelError> {
        let shape = self.boundary_shape(work);
        if let Some(before) = &self.links.before {
            before.into.expect(work.tokens.len() as u32, shape)?;
        }
        let mut losses = Vec::new();
        for tokens in &work.tokens {
            let batch = self.batch(tokens, work.batch, work.length)?;
            let input = self.input(&batch)?;
            let output = self.stage.run(input, &batch)?;
            if self.links.after.is_some() {
                let output = output.sum()?;
                self.send_output(output, &batch)?;
            } else {
                losses.push(self.stage.loss(&output, &batch)?);
            }
        }
        Ok(self.total(&losses)?.f_double_value(&[])?)
    }

    /// Logits [positions, vocabulary] after the last `positions` tokens of one sequence, by a shard
    /// that is the whole model.
    ///
    /// # Errors
    /// No tokens, too many, or libtorch refused.
    pub fn logits(&mut self, tokens: &[u32], positions: usize) -> Result<Vec<f32>, ModelError> {
        let inputs = self.ids(tokens, 1, tokens.len())?;
        let targets = inputs.shallow_clone();
        let batch = Batch { inputs, targets, batch: 1, length: tokens.len() as i64 };
        let output = self.stage.run(self.stage.embed(&batch)?, &batch)?;
        let logits = self.stage.logits(&output, positions.min(tokens.len()))?;
        Ok(tch_ext::host_slice(&mut logits.f_to_device(Device::Cpu)?)?.to_vec())
    }

    /// What the step is judged by, as far as this device knows: `loss`, and Σ g² over the gradients
    /// of the first replica that only this device's copy counts for.
    ///
    /// # Errors
    /// libtorch refused.
    pub fn sums(&mut self, loss: &Tensor) -> Result<Sums, ModelError> {
        self.prepare();
        let squares = match self.position.data {
            0 => self.optimizer.squares(&mut self.gradient, &self.counted)?,
            _ => zero(self.compute.device)?,
        };
        Sums::on_device(loss, &squares)
    }

    /// Clips the gradient by its norm, makes one AdamW step, and zeroes the gradient. Where `sums`,
    /// those over the whole island, are not finite, only the last.
    ///
    /// # Errors
    /// libtorch refused.
    pub fn optimizer_step(&mut self, learning_rate: f64, sums: &Sums) -> Result<(), ModelError> {
        self.prepare();
        self.pace.begin();
        self.optimizer.step(&mut self.theta, &mut self.gradient, learning_rate, sums)?;
        // The stages of a pipeline have agreed on the host: to look is not to wait.
        if let Some(Compression { subspace, writing, embedding, .. }) = &self.compression
            && finite(sums.read()?)
        {
            let embedding = embedding.as_ref().map(|(leaf, row)| (leaf, *row));
            subspace.constrain(embedding, writing.iter())?;
        }
        self.stage.renew()?;
        self.pace.end();
        Ok(())
    }

    /// Takes new values of θ into use.
    ///
    /// # Errors
    /// libtorch refused.
    pub fn begin_round(&mut self) -> Result<(), ModelError> {
        if let Some(Compression { subspace, writing, .. }) = &mut self.compression {
            subspace.begin(writing.iter())?;
        }
        self.stage.renew()
    }

    /// Prepares θ to be taken as the round's result.
    ///
    /// # Errors
    /// libtorch refused.
    pub fn end_round(&mut self) -> Result<(), ModelError> {
        match &mut self.compression {
            Some(Compression { subspace, writing, .. }) => subspace.end(writing.iter()),
            None => Ok(()),
        }
    }

    /// Ends the work with other devices: those that wait for this one learn that it has failed.
    pub(crate) fn abandon(&mut self) {
        // First what does not wait: a team may be in the middle of a sum.
        self.links.before = None;
        self.links.after = None;
        self.stage.abandon();
        self.tied.iter().for_each(Team::abandon);
        self.links.data.iter().for_each(Reducer::abandon);
    }

    /// Bytes sent to neighbouring stages since this was last asked.
    pub fn take_boundary_bytes(&mut self) -> u64 {
        let sides = [&mut self.links.before, &mut self.links.after];
        sides.into_iter().flatten().map(|side| side.out.take_bytes()).sum()
    }

    fn boundary_shape(&self, work: &MicroBatches) -> [i64; 2] {
        let width = match &self.compression {
            Some(compression) => compression.subspace.rank(),
            None => self.model.config().hidden_size.into(),
        };
        [(work.batch * work.length) as i64, width]
    }

    fn batch(&mut self, tokens: &[u32], batch: usize, seq: usize) -> Result<Batch, ModelError> {
        let length = seq + 1;
        if batch == 0 || seq == 0 || tokens.len() != batch * length {
            return Err(ModelError::Shape { found: tokens.len(), batch, length });
        }
        let part = |skip: usize| -> Vec<u32> {
            tokens.chunks(length).flat_map(|row| &row[skip..skip + seq]).copied().collect()
        };
        let (inputs, targets) = (self.ids(&part(0), batch, seq)?, self.ids(&part(1), batch, seq)?);
        Ok(Batch { inputs, targets, batch: batch as i64, length: seq as i64 })
    }

    fn ids(&mut self, tokens: &[u32], batch: usize, length: usize) -> Result<Tensor, ModelError> {
        self.prepare();
        let config = self.model.config();
        let longest = config.max_position_embeddings as usize;
        if tokens.is_empty() {
            return Err(ModelError::Shape { found: 0, batch, length });
        }
        if length > longest {
            return Err(ModelError::TooLong { length, longest });
        }
        let vocabulary = config.vocab_size;
        if let Some(&token) = tokens.iter().find(|token| **token >= vocabulary) {
            return Err(ModelError::Token { token, vocabulary });
        }
        let ids: Vec<i64> = tokens.iter().map(|token| i64::from(*token)).collect();
        match self.compute.device {
            Device::Cuda(index) => Ok(tch_ext::on_card(&ids, index as u32)?),
            device => Ok(Tensor::f_from_slice(&ids)?.f_to_device(device)?),
        }
    }

    fn prepare(&mut self) {
        let current = std::thread::current().id();
        if self.compute.device == Device::Cpu && self.prepared != Some(current) {
            tch::set_num_threads(self.compute.threads as i32);
            self.prepared = Some(current);
        }
    }
}

impl Compression {
    fn new(
        model: &Llama,
        (sharded, position): (&Sharded, Position),
        leaves: &Leaves<'_>,
        seed: u64,
    ) -> Result<Option<Compression>, ModelError> {
        let Some(compression) = sharded.sharding().compression else { return Ok(None) };
        let config = model.config();
        let device = leaves.theta.device();
        let size = [i64::from(config.vocab_size), i64::from(config.hidden_size)];
        let table = FlatBuffer::zeros((size[0] * size[1]) as usize, device)?;
        let subspace = Subspace::new(seed, compression.rank, table.tensor().f_view(size)?)?;
        let named = |name: String| leaves.stacked(&[name]);
        let mut writing = Vec::new();
        for layer in sharded.layers(position.stage) {
            for name in ["self_attn.o_proj", "mlp.down_proj"] {
                writing.push(named(format!("model.layers.{layer}.{name}.weight"))?);
            }
        }
        let slices = sharded.slices(position.stage, position.tensor);
        let embedding = slices.iter().find(|slice| slice.tensor == 0).map(|slice| {
            let leaf = named("model.embed_tokens.weight".to_owned())?;
            Ok::<_, ModelError>((leaf, slice.rows.start as i64))
        });
        Ok(Some(Compression { subspace, table, writing, embedding: embedding.transpose()? }))
    }
}

fn stage_setup(
    sharded: &Sharded,
    position: Position,
    slices: &[Slice],
    (peers, interrupt): (Peers, Interrupt),
) -> StageSetup {
    let Position { stage, .. } = position;
    let rows = |tensor: usize| {
        let slice = slices.iter().find(|slice| slice.tensor == tensor);
        slice.map(|slice| slice.rows.start as i64..slice.rows.end as i64)
    };
    let last = stage + 1 == sharded.stages();
    let head = if sharded.tied() { 0 } else { sharded.tensors().len() - 1 };
    StageSetup {
        layers: sharded.layers(stage),
        recompute: sharded.sharding().stages[stage as usize].recompute,
        embedding: if stage == 0 { rows(0) } else { None },
        head: if last { rows(head) } else { None },
        peers,
        interrupt,
    }
}

/// Ranges in order, neighbours joined.
fn merged(ranges: impl Iterator<Item = Range<usize>>) -> Vec<Range<usize>> {
    let mut merged: Vec<Range<usize>> = Vec::new();
    for range in ranges {
        match merged.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => merged.push(range),
        }
    }
    merged
}
