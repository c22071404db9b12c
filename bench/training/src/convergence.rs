//! Training of the same model on the same tokens under different outer optimisers, in one process.
//!
//! Islands take turns on one replica: θ, AdamW's moments and the residual of each are swapped in
//! and out. What they exchange goes through the real codec and the real outer step.

mod outer;

use anyhow::Context;
use data::{Corpus, HeldOut, Sampler, SamplerOptions, Split};
use plan::model::LlamaConfig;
use plan::schedule::Schedule;
use plan::spec::{DeviceSpec, OptimizerSpec};
use worker::model::Replica;
use worker::parameters::Layout;

pub use outer::{Arm, Outer};

/// Settings that all arms of a comparison share.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Islands, of equal speed.
    pub islands: u32,
    /// H.
    pub inner_steps: u32,
    /// Outer steps.
    pub rounds: u64,
    /// Sequences of an island's inner step.
    pub sequences: u32,
    /// Tokens of a sequence.
    pub sequence_length: u32,
    /// Held-out sequences.
    pub heldout_sequences: u32,
    /// Held-out loss after every so many rounds, and at the end.
    pub evaluate_every: u64,
}

/// One run: which arm, at which inner learning rate, from which seed.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The outer optimiser.
    pub arm: Arm,
    /// Peak inner learning rate.
    pub learning_rate: f64,
    /// Seed of initialisation and data order.
    pub seed: u64,
}

/// A model small enough for hundreds of rounds on one core: 0.13 M parameters over bytes.
pub fn model() -> LlamaConfig {
    LlamaConfig {
        hidden_size: 64,
        intermediate_size: 192,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 4,
        head_dim: None,
        vocab_size: 320,
        max_position_embeddings: 128,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        tie_word_embeddings: true,
        initializer_range: 0.02,
    }
}

fn optimizer(learning_rate: f64) -> OptimizerSpec {
    OptimizerSpec { learning_rate, warmup_steps: 50, ..OptimizerSpec::default() }
}

/// The state that an island keeps while another one computes.
#[derive(Clone)]
struct Inner {
    first: Vec<f32>,
    second: Vec<f32>,
    steps: u64,
}

struct Bench<'a> {
    setting: &'a Setting,
    corpus: &'a Corpus,
    sampler: Sampler,
    replica: Replica,
    schedule: Schedule,
    islands: Vec<Inner>,
}

/// Runs one trial; the held-out loss after 0, `evaluate_every`, … rounds.
pub fn train(setting: &Setting, corpus: &Corpus, trial: &Trial) -> anyhow::Result<Vec<(u64, f64)>> {
    let (mut bench, mut outer) = begin(&model(), setting, corpus, trial)?;
    let mut losses = vec![(0, bench.heldout()?)];
    for round in 0..setting.rounds {
        match trial.arm {
            Arm::DataParallel => bench.data_parallel_round(round)?,
            _ => drop(bench.local_round(round, &mut outer)?),
        }
        let done = round + 1;
        if done % setting.evaluate_every == 0 || done == setting.rounds {
            if !matches!(trial.arm, Arm::DataParallel) {
                outer.theta_into(bench.replica.theta()?);
                bench.replica.store_theta()?;
            }
            losses.push((done, bench.heldout()?));
        }
    }
    Ok(losses)
}

/// Every island's Δ of the last round of a run of `model`, flat, and where its tensors lie.
pub fn pseudo_gradients(
    model: &LlamaConfig,
    setting: &Setting,
    corpus: &Corpus,
    trial: &Trial,
) -> anyhow::Result<(Layout, Vec<Vec<f32>>)> {
    let (mut bench, mut outer) = begin(model, setting, corpus, trial)?;
    let mut deltas = Vec::new();
    for round in 0..setting.rounds {
        deltas = bench.local_round(round, &mut outer)?;
    }
    Ok((bench.replica.layout().clone(), deltas))
}

fn begin<'a>(
    model: &LlamaConfig,
    setting: &'a Setting,
    corpus: &'a Corpus,
    trial: &Trial,
) -> anyhow::Result<(Bench<'a>, Outer)> {
    let mut bench = Bench::new(model, setting, corpus, trial)?;
    let layout = bench.replica.layout().canonical()?;
    let mut outer = Outer::new(&trial.arm, layout, setting.islands as usize)?;
    outer.begin(bench.replica.theta()?);
    Ok((bench, outer))
}

impl<'a> Bench<'a> {
    fn new(
        model: &LlamaConfig,
        setting: &'a Setting,
        corpus: &'a Corpus,
        trial: &Trial,
    ) -> anyhow::Result<Bench<'a>> {
        let optimizer = optimizer(trial.learning_rate);
        let device = DeviceSpec::Cpu { threads: 1, speed: 1.0 };
        let mut replica = Replica::new(model, trial.seed, &device, &optimizer)?;
        let values = replica.theta()?.len();
        let sampler = Sampler::new(SamplerOptions {
            tokens: corpus.tokens(Split::Train),
            seed: trial.seed,
            sequence_length: setting.sequence_length,
        })?;
        let inner = Inner { first: vec![0.0; values], second: vec![0.0; values], steps: 0 };
        let islands = vec![inner; setting.islands as usize];
        let steps = setting.rounds * u64::from(setting.inner_steps);
        let schedule = Schedule::new(&optimizer, optimizer.warmup_steps as f64, steps as f64);
        Ok(Bench { setting, corpus, sampler, replica, schedule, islands })
    }

    fn rate(&self, round: u64, step: u32) -> f64 {
        let per_round = f64::from(self.setting.inner_steps);
        self.schedule.rate(round as f64 * per_round + f64::from(step))
    }

    /// Gradients of one island's batch of one step, added to what is there.
    fn accumulate(
        &mut self,
        island: usize,
        round: u64,
        step: u32,
        shares: f64,
    ) -> anyhow::Result<()> {
        let (length, batch) =
            (self.setting.sequence_length as usize, self.setting.sequences as usize);
        // Every island has its own part of a round.
        let part = round * u64::from(self.setting.islands) + island as u64;
        let steps = part * u64::from(self.setting.inner_steps) + u64::from(step);
        let first = steps * u64::from(self.setting.sequences);
        let mut tokens = vec![0u32; batch * (length + 1)];
        for (row, sample) in tokens.chunks_exact_mut(length + 1).zip(first..) {
            self.corpus.read(Split::Train, self.sampler.sequence(sample), row)?;
        }
        let scale = 1.0 / (batch as f64 * length as f64 * shares);
        self.replica.forward_backward(&tokens, batch, length, scale)?;
        Ok(())
    }

    /// H steps on the mean gradient of all islands: what an all-reduce at every step gives.
    fn data_parallel_round(&mut self, round: u64) -> anyhow::Result<()> {
        for step in 0..self.setting.inner_steps {
            for island in 0..self.islands.len() {
                self.accumulate(island, round, step, self.islands.len() as f64)?;
            }
            self.replica.optimizer_step(self.rate(round, step))?;
        }
        Ok(())
    }

    /// H local steps of every island from its own start, then the outer step. Returns every
    /// island's Δ.
    fn local_round(&mut self, round: u64, outer: &mut Outer) -> anyhow::Result<Vec<Vec<f32>>> {
        let mut deltas = Vec::new();
        for island in 0..self.islands.len() {
            outer.start_into(island, self.replica.theta()?);
            let mut delta = self.replica.theta()?.to_vec();
            self.replica.store_theta()?;
            self.load_moments(island)?;
            for step in 0..self.setting.inner_steps {
                self.accumulate(island, round, step, 1.0)?;
                self.replica.optimizer_step(self.rate(round, step))?;
            }
            self.keep_moments(island)?;
            let theta = self.replica.theta()?;
            delta.iter_mut().zip(&*theta).for_each(|(delta, theta)| *delta -= theta);
            deltas.push(delta);
            outer.collect(island, theta)?;
        }
        let tokens = u64::from(self.setting.inner_steps * self.setting.sequences)
            * u64::from(self.setting.sequence_length);
        outer.step(tokens)?;
        Ok(deltas)
    }

    fn load_moments(&mut self, island: usize) -> anyhow::Result<()> {
        let inner = &self.islands[island];
        let (first, second) = self.replica.moments()?;
        first.copy_from_slice(&inner.first);
        second.copy_from_slice(&inner.second);
        self.replica.store_moments()?;
        self.replica.set_optimizer_steps(inner.steps)?;
        Ok(())
    }

    fn keep_moments(&mut self, island: usize) -> anyhow::Result<()> {
        let steps = self.replica.optimizer_steps()?;
        let (first, second) = self.replica.moments()?;
        let inner = &mut self.islands[island];
        inner.first.copy_from_slice(first);
        inner.second.copy_from_slice(second);
        inner.steps = steps;
        Ok(())
    }

    fn heldout(&mut self) -> anyhow::Result<f64> {
        let length = self.setting.sequence_length;
        let tokens = self.corpus.tokens(Split::Validation);
        let held_out = HeldOut::new(tokens, length, self.setting.heldout_sequences)
            .context("failed to find held-out data; prepare it with --validation 1%")?;
        let mut row = vec![0u32; length as usize + 1];
        let (mut sum, mut count) = (0.0, 0.0);
        for first in held_out.sequences() {
            self.corpus.read(Split::Validation, first, &mut row)?;
            sum += self.replica.loss(&row, 1, length as usize)?;
            count += f64::from(length);
        }
        Ok(sum / count)
    }
}
