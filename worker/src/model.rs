//! The model on a device, whole or a shard of it: parameters, gradients, optimiser state and the
//! computations of an inner step. LLaMA as Hugging Face's `LlamaForCausalLM` computes it.

mod head;
mod ops;
mod peers;
mod shard;
mod stage;
mod subspace;
mod weight;

use std::sync::Arc;

use plan::model::{Llama, LlamaConfig};
use plan::shard::{Position, ShardError, Sharded};
use plan::spec::{DeviceSpec, OptimizerSpec, Precision, Sharding};
use tch::{Device, Kind, TchError, Tensor};

use crate::init;
use crate::interrupt::Interrupt;
use crate::optimizer::Optimizer;
use crate::parallel::{Links, PeerError};
use crate::parameters::Layout;
use crate::sums::zero;

pub use shard::{MicroBatches, Shard, ShardSetup};

/// Why a replica could not be made, or could not compute.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// The configuration makes no sense.
    #[error("failed to accept the model's configuration")]
    Config(#[source] plan::model::ModelError),
    /// There is no such device.
    #[error(
        "failed to use CUDA device {index}: libtorch sees {count} CUDA devices \
         (a GPU host needs a libtorch with CUDA first in LD_LIBRARY_PATH)"
    )]
    Device {
        /// The index asked for.
        index: u32,
        /// How many there are.
        count: i64,
    },
    /// The plan says bf16, the card cannot.
    #[error(
        "failed to compute in bf16 on CUDA device {index}: it is older than Ampere; \
         name the card's own product in the island, so that it is planned in f32"
    )]
    NoBf16 {
        /// The index asked for.
        index: u32,
    },
    /// It cannot be cut so.
    #[error("failed to shard the model")]
    Shard(#[from] ShardError),
    /// The rank is to stop, and left what it was computing.
    #[error("failed to end the step: the rank was asked to stop")]
    Interrupted,
    /// A device that works on the same step.
    #[error("failed to make a step together")]
    Peers(#[from] PeerError),
    /// A part of the model that is on another stage.
    #[error("failed to compute the {0}: another pipeline stage has it")]
    Stage(&'static str),
    /// Tensors that the network needs side by side are not.
    #[error("failed to find tensors side by side in the layout: {0}")]
    Layout(String),
    /// Tokens that do not make the shape they should.
    #[error("failed to read a batch: {found} tokens are not {batch} sequences of {length}")]
    Shape {
        /// Tokens given.
        found: usize,
        /// Sequences.
        batch: usize,
        /// Tokens of a sequence.
        length: usize,
    },
    /// A sequence that the rotary table does not reach.
    #[error("failed to run a sequence of {length} tokens: the model's longest has {longest}")]
    TooLong {
        /// Its tokens.
        length: usize,
        /// max_position_embeddings.
        longest: usize,
    },
    /// A token that the model does not have.
    #[error("failed to embed token {token}: the vocabulary has {vocabulary}")]
    Token {
        /// The token.
        token: u32,
        /// vocab_size.
        vocabulary: u32,
    },
    /// libtorch refused.
    #[error("failed to compute with libtorch")]
    Torch(#[from] TchError),
    /// The shim refused.
    #[error("failed to compute with libtorch's C++ interface")]
    Shim(#[from] tch_ext::ShimError),
    /// A buffer that is no slice.
    #[error("failed to read a flat buffer")]
    Host(#[from] tch_ext::HostError),
}

/// Where a rank computes, and in which precision the large products are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Compute {
    pub(crate) device: Device,
    /// Float, or BFloat16 with f32 parameters, norms, residuals and softmax.
    pub(crate) kind: Kind,
    pub(crate) threads: u32,
}

impl Compute {
    fn new(spec: &DeviceSpec) -> Result<Self, ModelError> {
        match *spec {
            DeviceSpec::Cpu { threads, .. } => {
                Ok(Self { device: Device::Cpu, kind: Kind::Float, threads: threads.max(1) })
            }
            DeviceSpec::Cuda { index, precision } => Self::cuda(index, precision),
        }
    }

    fn cuda(index: u32, precision: Precision) -> Result<Self, ModelError> {
        let count = tch::Cuda::device_count();
        if i64::from(index) >= count {
            return Err(ModelError::Device { index, count });
        }
        let kind = match precision {
            Precision::F32 => Kind::Float,
            Precision::Bf16 if tch_ext::cuda_has_bf16(index)? => Kind::BFloat16,
            Precision::Bf16 => return Err(ModelError::NoBf16 { index }),
        };
        Ok(Self { device: Device::Cuda(index as usize), kind, threads: 1 })
    }
}

/// A batch on the device.
struct Batch {
    /// `batch * length` token ids.
    inputs: Tensor,
    /// The token that follows each.
    targets: Tensor,
    batch: i64,
    length: i64,
}

/// The whole model on one device, as a shard that is all of it: for what comes after training, and
/// for measurements.
#[derive(Debug)]
pub struct Replica(Shard);

impl Replica {
    /// A replica with initial parameters, which `seed` alone decides: they have the same bits on
    /// every device.
    ///
    /// # Errors
    /// A configuration that makes no sense, a device that is not there or has no room.
    pub fn new(
        config: &LlamaConfig,
        seed: u64,
        device: &DeviceSpec,
        optimizer: &OptimizerSpec,
    ) -> Result<Self, ModelError> {
        let model = config.validate().map_err(ModelError::Config)?;
        let sharding = Sharding::whole(config.num_hidden_layers);
        let sharded = Arc::new(Sharded::new(&model, &sharding)?);
        let position = Position { data: 0, stage: 0, tensor: 0 };
        let interrupt = &Interrupt::default();
        let setup = ShardSetup { sharded, position, device, optimizer, seed, interrupt };
        let mut shard = Shard::new(&model, setup, Links::default())?;
        let layout = shard.layout().clone();
        init::fill_all(seed, &layout, model.config().initializer_range, shard.theta.host()?);
        shard.theta.store()?;
        shard.begin_round()?;
        Ok(Self(shard))
    }

    /// Where the parameters lie in the flat buffers: in Hugging Face's order.
    pub fn layout(&self) -> &Layout {
        self.0.layout()
    }

    /// The model.
    pub fn model(&self) -> &Llama {
        self.0.model()
    }

    /// Forward and backward of `batch` sequences of `seq` inputs, given as `batch * (seq + 1)`
    /// tokens. Adds `scale` times the gradient of the summed loss to the flat gradient. Returns the
    /// loss in nats, summed over the tokens and unscaled.
    ///
    /// # Errors
    /// Tokens that make no such batch, or libtorch refused; the flat gradient is then undefined.
    pub fn forward_backward(
        &mut self,
        tokens: &[u32],
        batch: usize,
        seq: usize,
        scale: f64,
    ) -> Result<f64, ModelError> {
        let loss = self.0.accumulate(&MicroBatches::one(tokens, batch, seq), scale)?;
        Ok(loss.f_double_value(&[])?)
    }

    /// [`Replica::forward_backward`] in one graph over all layers, as no training does it: for
    /// measurements of what a graph for each layer costs.
    ///
    /// # Errors
    /// As for [`Replica::forward_backward`].
    pub fn forward_backward_in_one_graph(
        &mut self,
        tokens: &[u32],
        batch: usize,
        seq: usize,
        scale: f64,
    ) -> Result<f64, ModelError> {
        let work = MicroBatches::one(tokens, batch, seq);
        Ok(self.0.accumulate_in_one_graph(&work, scale)?.f_double_value(&[])?)
    }

    /// The loss in nats, summed over `batch * seq` tokens, without gradients.
    ///
    /// # Errors
    /// Tokens that make no such batch, or libtorch refused.
    pub fn loss(&mut self, tokens: &[u32], batch: usize, seq: usize) -> Result<f64, ModelError> {
        self.0.loss(&MicroBatches::one(tokens, batch, seq))
    }

    /// The logits that follow the last `positions` tokens of one sequence, row by row.
    ///
    /// # Errors
    /// No tokens, too many, or libtorch refused.
    pub fn logits(&mut self, tokens: &[u32], positions: usize) -> Result<Vec<f32>, ModelError> {
        self.0.logits(tokens, positions)
    }

    /// The flat gradient. What is written to it counts after [`Replica::store_gradients`].
    ///
    /// # Errors
    /// The copy from the device failed.
    pub fn gradients(&mut self) -> Result<&mut [f32], ModelError> {
        self.0.gradient.host()
    }

    /// Brings the gradient back to the device, if it had to be copied from there.
    ///
    /// # Errors
    /// The copy failed.
    pub fn store_gradients(&mut self) -> Result<(), ModelError> {
        self.0.gradient.store()
    }

    /// Clips the gradient, makes one AdamW step, zeroes the gradient. Returns the gradient's global
    /// norm before clipping. Where that is not finite, no step was made and the gradient is zero.
    ///
    /// # Errors
    /// libtorch refused.
    pub fn optimizer_step(&mut self, learning_rate: f64) -> Result<f64, ModelError> {
        let sums = self.0.sums(&zero(self.0.compute.device)?)?;
        self.0.optimizer_step(learning_rate, &sums)?;
        let [_, squares] = sums.read()?;
        Ok(squares.sqrt())
    }

    /// The flat parameters. What is written to them counts after [`Replica::store_theta`].
    ///
    /// # Errors
    /// The copy from the device failed.
    pub fn theta(&mut self) -> Result<&mut [f32], ModelError> {
        self.0.theta.host()
    }

    /// Brings the parameters back to the device, if they had to be copied from there.
    ///
    /// # Errors
    /// The copy failed.
    pub fn store_theta(&mut self) -> Result<(), ModelError> {
        self.0.theta.store()?;
        self.0.begin_round()
    }

    /// The flat first and second moments. What is written to them counts after
    /// [`Replica::store_moments`].
    ///
    /// # Errors
    /// The copy from the device failed.
    pub fn moments(&mut self) -> Result<(&mut [f32], &mut [f32]), ModelError> {
        let Optimizer { first, second, .. } = &mut self.0.optimizer;
        Ok((first.host()?, second.host()?))
    }

    /// Brings the moments back to the device, if they had to be copied from there.
    ///
    /// # Errors
    /// The copy failed.
    pub fn store_moments(&mut self) -> Result<(), ModelError> {
        self.0.optimizer.first.store()?;
        self.0.optimizer.second.store()
    }

    /// Optimiser steps made.
    ///
    /// # Errors
    /// The device has failed.
    pub fn optimizer_steps(&self) -> Result<u64, ModelError> {
        self.0.optimizer.steps()
    }

    /// Sets the optimiser steps made, when its state comes from a checkpoint.
    ///
    /// # Errors
    /// libtorch refused.
    pub fn set_optimizer_steps(&mut self, steps: u64) -> Result<(), ModelError> {
        self.0.optimizer.set_steps(steps)
    }
}

impl MicroBatches {
    /// A single micro-batch.
    fn one(tokens: &[u32], batch: usize, length: usize) -> MicroBatches {
        MicroBatches { tokens: vec![tokens.to_vec()], batch, length }
    }
}

#[cfg(test)]
mod tests;
