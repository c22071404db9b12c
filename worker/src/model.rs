//! One rank's model on one device: parameters, gradients, optimiser state and the computations of
//! an inner step. LLaMA as Hugging Face's `LlamaForCausalLM` computes it.

mod head;
mod network;
mod ops;

use std::thread::ThreadId;

use plan::model::{Llama, LlamaConfig};
use plan::spec::{DeviceSpec, OptimizerSpec, Precision};
use tch::{Device, Kind, TchError, Tensor};

use crate::init;
use crate::optimizer::Optimizer;
use crate::parameters::{FlatBuffer, Layout, Leaves};
use network::Network;

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

/// One rank's model on one device.
#[derive(Debug)]
pub struct Replica {
    model: Llama,
    layout: Layout,
    compute: Compute,
    network: Network,
    theta: FlatBuffer,
    gradient: FlatBuffer,
    optimizer: Optimizer,
    /// libtorch's number of threads is a property of the calling thread: the one that has it.
    prepared: Option<ThreadId>,
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
        let compute = Compute::new(device)?;
        Self::with_compute(model, seed, compute, optimizer)
    }

    fn with_compute(
        model: Llama,
        seed: u64,
        compute: Compute,
        optimizer: &OptimizerSpec,
    ) -> Result<Self, ModelError> {
        let layout = Layout::new(model.tensors());
        let mut theta = FlatBuffer::zeros(layout.numel(), compute.device)?;
        let gradient = FlatBuffer::zeros(layout.numel(), compute.device)?;
        init::fill_all(seed, &layout, model.config().initializer_range, theta.host()?);
        theta.store()?;
        let leaves = Leaves { layout: &layout, theta: theta.tensor(), gradient: gradient.tensor() };
        let network = Network::new(&model, &leaves, compute)?;
        let threads = compute.threads as usize;
        let optimizer = Optimizer::new(optimizer.clone(), &layout, compute.device, threads)?;
        Ok(Self { model, layout, compute, network, theta, gradient, optimizer, prepared: None })
    }

    /// Where the parameters lie in the flat buffers: in Hugging Face's order.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// The model.
    pub fn model(&self) -> &Llama {
        &self.model
    }

    /// Forward and backward of `batch` sequences of `seq` inputs, given as `batch * (seq + 1)`
    /// tokens. Adds `scale` times the gradient of the summed loss to the flat gradient; with
    /// `scale` = 1 / (tokens of the step over all ranks) the sum over micro-batches and ranks is
    /// the gradient of the mean loss. Returns the loss in nats, summed over the tokens and
    /// unscaled.
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
        let data = self.batch(tokens, batch, seq)?;
        self.network.forward_backward(&data, scale)
    }

    /// The loss in nats, summed over `batch * seq` tokens, without gradients.
    ///
    /// # Errors
    /// Tokens that make no such batch, or libtorch refused.
    pub fn loss(&mut self, tokens: &[u32], batch: usize, seq: usize) -> Result<f64, ModelError> {
        let data = self.batch(tokens, batch, seq)?;
        let _no_grad = tch::no_grad_guard();
        self.network.loss(&data)
    }

    /// The logits that follow the last `positions` tokens of one sequence, row by row.
    ///
    /// # Errors
    /// No tokens, too many, or libtorch refused.
    pub fn logits(&mut self, tokens: &[u32], positions: usize) -> Result<Vec<f32>, ModelError> {
        self.prepare();
        let inputs = self.ids(tokens, 1, tokens.len())?;
        let positions = positions.min(tokens.len());
        let _no_grad = tch::no_grad_guard();
        let mut logits = self.network.logits(&inputs, positions)?.f_to_device(Device::Cpu)?;
        Ok(tch_ext::host_slice(&mut logits)?.to_vec())
    }

    /// The flat gradient. What is written to it counts after [`Replica::store_gradients`].
    ///
    /// # Errors
    /// The copy from the device failed.
    pub fn gradients(&mut self) -> Result<&mut [f32], ModelError> {
        self.gradient.host()
    }

    /// Brings the gradient back to the device, if it had to be copied from there.
    ///
    /// # Errors
    /// The copy failed.
    pub fn store_gradients(&mut self) -> Result<(), ModelError> {
        self.gradient.store()
    }

    /// Clips the gradient, makes one AdamW step, zeroes the gradient. Returns the gradient's global
    /// norm before clipping. Where that is not finite, no step was made and the gradient is zero.
    ///
    /// # Errors
    /// libtorch refused.
    pub fn optimizer_step(&mut self, learning_rate: f64) -> Result<f64, ModelError> {
        self.optimizer.step(&mut self.theta, &mut self.gradient, learning_rate)
    }

    /// The flat parameters. What is written to them counts after [`Replica::store_theta`].
    ///
    /// # Errors
    /// The copy from the device failed.
    pub fn theta(&mut self) -> Result<&mut [f32], ModelError> {
        self.theta.host()
    }

    /// Brings the parameters back to the device, if they had to be copied from there.
    ///
    /// # Errors
    /// The copy failed.
    pub fn store_theta(&mut self) -> Result<(), ModelError> {
        self.theta.store()
    }

    /// The flat first and second moments. What is written to them counts after
    /// [`Replica::store_moments`].
    ///
    /// # Errors
    /// The copy from the device failed.
    pub fn moments(&mut self) -> Result<(&mut [f32], &mut [f32]), ModelError> {
        Ok((self.optimizer.first.host()?, self.optimizer.second.host()?))
    }

    /// Brings the moments back to the device, if they had to be copied from there.
    ///
    /// # Errors
    /// The copy failed.
    pub fn store_moments(&mut self) -> Result<(), ModelError> {
        self.optimizer.first.store()?;
        self.optimizer.second.store()
    }

    /// Optimiser steps made.
    pub fn optimizer_steps(&self) -> u64 {
        self.optimizer.steps
    }

    /// Sets the optimiser steps made, when its state comes from a checkpoint.
    pub fn set_optimizer_steps(&mut self, steps: u64) {
        self.optimizer.steps = steps;
    }

    /// What libtorch's allocator holds for tensors on this rank's card; none on the CPU, where the
    /// process's memory is what counts.
    ///
    /// # Errors
    /// libtorch refused.
    pub fn device_memory(&self) -> Result<Option<tch_ext::DeviceMemory>, ModelError> {
        match self.compute.device {
            Device::Cuda(index) => Ok(Some(tch_ext::cuda_memory(index as u32)?)),
            _ => Ok(None),
        }
    }

    fn batch(&mut self, tokens: &[u32], batch: usize, seq: usize) -> Result<Batch, ModelError> {
        self.prepare();
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

    fn ids(&self, tokens: &[u32], batch: usize, length: usize) -> Result<Tensor, ModelError> {
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
        Ok(Tensor::f_from_slice(&ids)?.f_to_device(self.compute.device)?)
    }

    fn prepare(&mut self) {
        let current = std::thread::current().id();
        if self.compute.device == Device::Cpu && self.prepared != Some(current) {
            tch::set_num_threads(self.compute.threads as i32);
            self.prepared = Some(current);
        }
    }
}

#[cfg(test)]
mod tests;
