//! A checkpoint's model, for what comes after training.

use std::num::NonZero;
use std::path::Path;

use anyhow::Context;
use data::{Tokenizer, TokenizerChoice};
use plan::model::LlamaConfig;
use plan::spec::{DeviceSpec, OptimizerSpec};

use crate::checkpoint::{Checkpoint, Part};
use crate::model::Replica;
use crate::parameters::Layout;

/// Parameters and tokenizer of a checkpoint.
#[derive(Debug)]
pub struct Trained {
    /// The model.
    pub config: LlamaConfig,
    /// Where its tensors lie in `theta`.
    pub layout: Layout,
    /// The flat parameters.
    pub theta: Vec<f32>,
    /// What it was trained with.
    pub tokenizer: Tokenizer,
}

impl Trained {
    /// Reads the checkpoint in `path`, or the newest of those in it.
    ///
    /// # Errors
    /// There is none, or it is damaged.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let checkpoint = Checkpoint::open(path)?;
        let config = checkpoint.manifest().model.clone();
        let model = config.validate().context("failed to accept the checkpoint's model")?;
        let layout = Layout::new(model.tensors());
        let pieces = layout.canonical().context("failed to lay out the checkpoint's model")?;
        let all = 0..pieces.pieces();
        let mut theta = vec![0.0; layout.numel()];
        let canonical = checkpoint.read(Part::Theta, &pieces, all.clone())?;
        pieces.scatter(all, &canonical, &mut theta);
        let file = checkpoint.folder().join("tokenizer.json");
        let tokenizer = Tokenizer::load(&TokenizerChoice::File(file))
            .context("failed to read the checkpoint's tokenizer")?;
        Ok(Self { config, layout, theta, tokenizer })
    }

    /// The model, ready to compute on this machine's CPU.
    ///
    /// # Errors
    /// There is no room for it.
    pub fn replica(&self) -> anyhow::Result<Replica> {
        let threads = std::thread::available_parallelism().map_or(1, NonZero::get) as u32;
        let device = DeviceSpec::Cpu { threads, speed: 1.0 };
        let make = || {
            // Nothing is trained: the optimiser's settings do not matter.
            let mut replica = Replica::new(&self.config, 0, &device, &OptimizerSpec::default())?;
            replica.theta()?.copy_from_slice(&self.theta);
            replica.store_theta()?;
            Ok::<_, crate::model::ModelError>(replica)
        };
        make().context("failed to set up the checkpoint's model")
    }
}
