//! A trained model, for what comes after training.

mod place;
#[cfg(test)]
mod tests;

use std::fs;
use std::num::NonZero;
use std::path::Path;

use anyhow::Context;
use data::{Tokenizer, TokenizerChoice};
use plan::model::{Llama, LlamaConfig};
use plan::spec::{DeviceSpec, OptimizerSpec};
use pretrained::Folder;
use sparseloco::Layout as Canonical;

use self::place::{Place, find};
use crate::checkpoint::Part;
use crate::model::Replica;
use crate::origin::{Origin, span_values};
use crate::parameters::Layout;

pub(crate) use self::place::data_of_run;

/// Parameters and tokenizer of a model.
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
    /// Reads the model in `path`: a checkpoint, a folder of them or of a run, of which the newest
    /// is taken, or a folder in Hugging Face's form.
    ///
    /// # Errors
    /// There is none, it is damaged, or it is not computed here.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        match find(path)? {
            Place::Checkpoint(checkpoint) => {
                let config = checkpoint.manifest().model.clone();
                let read = |_: &Llama, pieces: &Canonical| {
                    Ok(checkpoint.read(Part::Theta, pieces, 0..pieces.pieces())?)
                };
                Trained::read(config, checkpoint.folder(), read)
            }
            Place::HuggingFace(folder) => {
                let text = fs::read_to_string(folder.join("config.json"))
                    .with_context(|| format!("failed to read the model in {}", folder.display()))?;
                let config = pretrained::config(&text)
                    .with_context(|| format!("failed to take the model in {}", folder.display()))?;
                let read = |model: &Llama, pieces: &Canonical| {
                    let origin = Origin::Folder(Folder::open(&folder, model)?);
                    let tensors = model.tensors();
                    Ok(span_values(&origin, pieces, &tensors, 0..pieces.pieces())?)
                };
                Trained::read(config, &folder, read)
            }
        }
    }

    /// The model of `config`, its canonical values from `read`, its tokenizer from `folder`.
    fn read(
        config: LlamaConfig,
        folder: &Path,
        read: impl FnOnce(&Llama, &Canonical) -> anyhow::Result<Vec<f32>>,
    ) -> anyhow::Result<Self> {
        let model = config.validate().context("failed to accept the model")?;
        let layout = Layout::new(model.tensors());
        let pieces = layout.canonical().context("failed to lay out the model")?;
        let canonical = read(&model, &pieces)?;
        let mut theta = vec![0.0; layout.numel()];
        pieces.scatter(0..pieces.pieces(), &canonical, &mut theta);
        let file = folder.join("tokenizer.json");
        let tokenizer = Tokenizer::load(&TokenizerChoice::File(file))
            .context("failed to read the model's tokenizer")?;
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
        make().context("failed to set up the model")
    }
}
