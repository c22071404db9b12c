//! AdamW (Loshchilov and Hutter 2019) over flat buffers, with the gradient clipped by its global
//! norm. On the CPU one pass over memory in several threads, elsewhere libtorch's fused kernel,
//! which takes from the device what the step is judged by, so that the host need not wait.

use std::ops::Range;

use plan::spec::OptimizerSpec;
use tch::{Device, Kind, Tensor};
use tch_ext::{AdamW, AdamWScalars, AdamWTensors};

use crate::model::ModelError;
use crate::parameters::{FlatBuffer, Layout};
use crate::sums::{Sums, finite, zero};

/// State and settings of the optimiser of one rank.
#[derive(Debug)]
pub struct Optimizer {
    spec: OptimizerSpec,
    runs: Vec<(bool, Range<usize>)>,
    threads: usize,
    /// First moments.
    pub first: FlatBuffer,
    /// Second moments.
    pub second: FlatBuffer,
    /// Steps made, a single f64 on the device; the corrections of the moments' bias depend on it.
    steps: Tensor,
}

impl Optimizer {
    /// No step made yet, and `threads` threads for the passes on the CPU.
    ///
    /// # Errors
    /// The device has no room for the moments.
    pub fn new(
        spec: OptimizerSpec,
        layout: &Layout,
        device: Device,
        threads: usize,
    ) -> Result<Self, ModelError> {
        Ok(Self {
            spec,
            runs: layout.runs(),
            threads: threads.max(1),
            first: FlatBuffer::zeros(layout.numel(), device)?,
            second: FlatBuffer::zeros(layout.numel(), device)?,
            steps: zero(device)?,
        })
    }

    /// Steps made. Waits for the device.
    ///
    /// # Errors
    /// What the device has failed at.
    pub fn steps(&self) -> Result<u64, ModelError> {
        Ok(self.steps.f_double_value(&[])? as u64)
    }

    /// Sets the steps made, when the moments come from elsewhere.
    ///
    /// # Errors
    /// libtorch refused.
    pub fn set_steps(&mut self, steps: u64) -> Result<(), ModelError> {
        Ok(self.steps.f_fill_(steps as f64).map(drop)?)
    }

    /// Σ g² over parts of the gradient: a single f64 on the device.
    ///
    /// # Errors
    /// libtorch refused.
    pub fn squares(
        &self,
        gradient: &mut FlatBuffer,
        parts: &[Range<usize>],
    ) -> Result<Tensor, ModelError> {
        if gradient.tensor().device() != Device::Cpu {
            return squares_on_card(gradient.tensor(), parts);
        }
        let values = gradient.host()?;
        let sums = parts.iter().map(|part| square_sum(&values[part.clone()], self.threads));
        Ok(Tensor::from(sums.sum::<f64>()))
    }

    /// Clips the gradient by its norm over the whole model, makes one step, zeroes the gradient.
    /// Where `sums`, those of the whole island, are not finite no step is made: the gradient is
    /// dropped.
    ///
    /// # Errors
    /// libtorch refused.
    pub fn step(
        &mut self,
        theta: &mut FlatBuffer,
        gradient: &mut FlatBuffer,
        learning_rate: f64,
        sums: &Sums,
    ) -> Result<(), ModelError> {
        if theta.tensor().device() == Device::Cpu {
            self.step_on_cpu(theta, gradient, learning_rate, sums)
        } else {
            self.step_fused(theta, gradient, learning_rate, sums)
        }
    }

    fn settings(&self, learning_rate: f64, matrix: bool) -> AdamW {
        let weight_decay = if matrix { self.spec.weight_decay } else { 0.0 };
        let OptimizerSpec { beta1, beta2, epsilon, .. } = self.spec;
        AdamW { learning_rate, beta1, beta2, weight_decay, epsilon }
    }

    fn step_on_cpu(
        &mut self,
        theta: &mut FlatBuffer,
        gradient: &mut FlatBuffer,
        learning_rate: f64,
        sums: &Sums,
    ) -> Result<(), ModelError> {
        let values = sums.read()?;
        if !finite(values) {
            let _ = gradient.tensor().shallow_clone().f_zero_()?;
            return Ok(());
        }
        let steps = self.steps()? + 1;
        self.set_steps(steps)?;
        let clip = clip_factor(values[1].sqrt(), self.spec.grad_clip);
        let runs = self.runs.clone();
        for (matrix, run) in runs {
            let pass = Pass::new(&self.settings(learning_rate, matrix), steps, clip);
            let slices = Slices {
                theta: &mut theta.host()?[run.clone()],
                gradient: &mut gradient.host()?[run.clone()],
                first: &mut self.first.host()?[run.clone()],
                second: &mut self.second.host()?[run],
            };
            pass.run(slices, self.threads);
        }
        Ok(())
    }

    fn step_fused(
        &mut self,
        theta: &mut FlatBuffer,
        gradient: &mut FlatBuffer,
        learning_rate: f64,
        sums: &Sums,
    ) -> Result<(), ModelError> {
        let _no_grad = tch::no_grad_guard();
        let sums = sums.on(theta.tensor().device())?;
        let made = sums.f_isfinite()?.f_all()?;
        let _ = self.steps.f_add_(&made)?;
        let norm = sums.f_select(0, 1)?.f_sqrt()?;
        let scalars = AdamWScalars {
            step: &self.steps.f_to_kind(Kind::Float)?,
            divisor: &clip_divisor(&norm, self.spec.grad_clip)?,
            skip: &made.f_logical_not()?.f_to_kind(Kind::Float)?,
        };
        for (matrix, run) in &self.runs {
            let part = |buffer: &FlatBuffer| {
                buffer.tensor().f_narrow(0, run.start as i64, run.len() as i64)
            };
            let tensors = AdamWTensors {
                theta: &mut part(theta)?,
                gradient: &mut part(gradient)?,
                first: &mut part(&self.first)?,
                second: &mut part(&self.second)?,
            };
            tch_ext::fused_adamw(tensors, &scalars, &self.settings(learning_rate, *matrix))?;
        }
        let _ = gradient.tensor().shallow_clone().f_zero_()?;
        Ok(())
    }
}

/// What the gradient is multiplied by so that its norm is at most `max`, as PyTorch's
/// `clip_grad_norm_` does it.
fn clip_factor(norm: f64, max: f64) -> f64 {
    (max / (norm + 1e-6)).min(1.0)
}

/// 1 / [`clip_factor`] of a norm on a device, in f32.
fn clip_divisor(norm: &Tensor, max: f64) -> Result<Tensor, ModelError> {
    let over = norm.f_add_scalar(1e-6)?.f_div_scalar(max)?;
    Ok(over.f_clamp_min(1.0)?.f_to_kind(Kind::Float)?)
}

/// Σ v² in f64 over norms of blocks in f32: a reduction in f64 would first make a copy in f64.
fn squares_on_card(values: &Tensor, parts: &[Range<usize>]) -> Result<Tensor, ModelError> {
    let mut norms = Vec::new();
    for part in parts {
        let part = values.f_narrow(0, part.start as i64, part.len() as i64)?;
        for block in part.f_split(CARD_BLOCK, 0)? {
            norms.push(block.f_linalg_norm(2.0, [0i64].as_slice(), false, Kind::Float)?);
        }
    }
    if norms.is_empty() {
        return zero(values.device());
    }
    let norms = Tensor::f_stack(&norms, 0)?.f_to_kind(Kind::Double)?;
    Ok(norms.f_square()?.f_sum(Kind::Double)?)
}

/// Values of a gradient whose norm is taken at a time on a card.
const CARD_BLOCK: i64 = 1 << 22;
/// Values that one thread takes at a time: small enough to share well, large enough for the start
/// of a thread not to count.
const THREAD_MIN: usize = 1 << 18;

/// Σ v², in f64 over blocks: a single f32 sum is off in the fourth digit at 10 M values. The blocks
/// do not depend on the number of threads, nor does the result.
fn square_sum(values: &[f32], threads: usize) -> f64 {
    let mut sums = vec![0.0; values.len().div_ceil(BLOCK)];
    let share = share(sums.len() * BLOCK, threads) / BLOCK;
    std::thread::scope(|scope| {
        let mut parts = sums.chunks_mut(share).zip(values.chunks(share * BLOCK));
        let mine = parts.next();
        for (sums, values) in parts {
            scope.spawn(move || square_sums(values, sums));
        }
        if let Some((sums, values)) = mine {
            square_sums(values, sums);
        }
    });
    sums.iter().sum()
}

const BLOCK: usize = 1 << 12;

fn square_sums(values: &[f32], sums: &mut [f64]) {
    for (block, sum) in values.chunks(BLOCK).zip(sums) {
        let mut lanes = [0.0f32; 16];
        let mut chunks = block.chunks_exact(16);
        for chunk in &mut chunks {
            for (lane, value) in lanes.iter_mut().zip(chunk) {
                *lane += value * value;
            }
        }
        let rest: f32 = chunks.remainder().iter().map(|value| value * value).sum();
        *sum = lanes.iter().map(|lane| f64::from(*lane)).sum::<f64>() + f64::from(rest);
    }
}

/// How many values each of `threads` takes of `numel`: a multiple of the block.
fn share(numel: usize, threads: usize) -> usize {
    numel.div_ceil(threads).max(THREAD_MIN).next_multiple_of(BLOCK)
}

/// The same part of all buffers.
struct Slices<'a> {
    theta: &'a mut [f32],
    gradient: &'a mut [f32],
    first: &'a mut [f32],
    second: &'a mut [f32],
}

/// One step's constants:
/// m ← β₁m + (1 − β₁)g; v ← β₂v + (1 − β₂)g²; θ ← (1 − ηλ)θ − η/c₁ · m / (√v/√c₂ + ε), cᵢ = 1 −
/// βᵢᵗ.
#[derive(Clone, Copy)]
struct Pass {
    clip: f32,
    keep: f32,
    beta1: f32,
    gain1: f32,
    beta2: f32,
    gain2: f32,
    rate: f32,
    root: f32,
    epsilon: f32,
}

impl Pass {
    fn new(settings: &AdamW, step: u64, clip: f64) -> Self {
        let correction = |beta: f64| 1.0 - libm::pow(beta, step as f64);
        Self {
            clip: clip as f32,
            keep: (1.0 - settings.learning_rate * settings.weight_decay) as f32,
            beta1: settings.beta1 as f32,
            gain1: (1.0 - settings.beta1) as f32,
            beta2: settings.beta2 as f32,
            gain2: (1.0 - settings.beta2) as f32,
            rate: (settings.learning_rate / correction(settings.beta1)) as f32,
            root: (1.0 / correction(settings.beta2).sqrt()) as f32,
            epsilon: settings.epsilon as f32,
        }
    }

    fn run(self, slices: Slices<'_>, threads: usize) {
        let share = share(slices.theta.len(), threads);
        let theta = slices.theta.chunks_mut(share);
        let gradient = slices.gradient.chunks_mut(share);
        let first = slices.first.chunks_mut(share);
        let second = slices.second.chunks_mut(share);
        let parts = theta.zip(gradient).zip(first).zip(second);
        std::thread::scope(|scope| {
            let mut parts = parts.map(|(((theta, gradient), first), second)| Slices {
                theta,
                gradient,
                first,
                second,
            });
            let mine = parts.next();
            for part in parts {
                scope.spawn(move || self.part(part));
            }
            if let Some(part) = mine {
                self.part(part);
            }
        });
    }

    fn part(self, slices: Slices<'_>) {
        let state = slices.first.iter_mut().zip(slices.second);
        for ((theta, gradient), (first, second)) in
            slices.theta.iter_mut().zip(slices.gradient).zip(state)
        {
            let slope = *gradient * self.clip;
            *gradient = 0.0;
            *first = self.beta1 * *first + self.gain1 * slope;
            *second = self.beta2 * *second + self.gain2 * slope * slope;
            let step = self.rate * *first / (second.sqrt() * self.root + self.epsilon);
            *theta = self.keep * *theta - step;
        }
    }
}

#[cfg(test)]
mod tests;
