//! A model as a folder that Hugging Face transformers loads: `config.json`, the parameters as
//! safetensors in shards, the tokenizer. [`Folder`] reads the parameters of one.

mod command;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use data::Tokenizer;
use plan::model::LlamaConfig;
use safetensors::tensor::{Dtype, SafeTensorError, TensorView, serialize};
use serde_json::{Value, json};

use crate::checkpoint::CheckpointError;
use crate::parameters::Layout;

pub use command::{ExportArguments, export_command};
pub use pretrained::{Folder, ImportError};

/// Why a folder was not written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The folder cannot be made or read.
    #[error("failed to prepare the folder {}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is something in it: shards of two models must not mix.
    #[error("failed to export to {}: the folder is not empty; name another one", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A file could not be written.
    #[error("failed to write a file of the exported model")]
    Write(#[from] CheckpointError),
    /// Parameters that do not have the model's number.
    #[error("failed to export {found} parameters: the model has {expected}")]
    Parameters {
        /// Values given.
        found: usize,
        /// Values of the model.
        expected: usize,
    },
    /// The safetensors form refused.
    #[error("failed to encode parameters as safetensors")]
    Encode(#[from] SafeTensorError),
}

impl From<durable::Error> for ExportError {
    fn from(error: durable::Error) -> Self {
        ExportError::Write(error.into())
    }
}

impl ExportError {
    /// Whether trying the same again is in vain.
    pub fn is_final(&self) -> bool {
        match self {
            ExportError::Folder { .. } => false,
            ExportError::Write(error) => error.is_final(),
            ExportError::NotEmpty { .. }
            | ExportError::Parameters { .. }
            | ExportError::Encode(_) => true,
        }
    }
}

/// Makes `folder`, which must not hold anything yet.
///
/// # Errors
/// It holds something, or cannot be made.
pub fn create_empty(folder: &Path) -> Result<(), ExportError> {
    let failed = |source| ExportError::Folder { path: folder.into(), source };
    fs::create_dir_all(folder).map_err(failed)?;
    match fs::read_dir(folder).map_err(failed)?.next() {
        Some(_) => Err(ExportError::NotEmpty { path: folder.into() }),
        None => Ok(()),
    }
}

/// Writes what describes the parameters, each file atomically: `config.json` and the tokenizer's.
///
/// # Errors
/// A file could not be written.
pub fn write_companions(
    folder: &Path,
    config: &LlamaConfig,
    tokenizer: &Tokenizer,
) -> Result<(), ExportError> {
    let config = pretty(&config_json(config, tokenizer.end_token()));
    durable::write(&folder.join("config.json"), &config)?;
    for (name, bytes) in tokenizer.hugging_face_files() {
        durable::write(&folder.join(name), &bytes)?;
    }
    Ok(())
}

/// Writes the flat parameters `theta` as one `model.safetensors`, or as shards of at most
/// `shard_bytes_max` bytes of values (one tensor at least) with their index. Every file is written
/// atomically, and the index last.
///
/// # Errors
/// `theta` is not of this layout, or a file could not be written.
pub fn write_parameters(
    folder: &Path,
    layout: &Layout,
    theta: &[f32],
    shard_bytes_max: u64,
) -> Result<(), ExportError> {
    let (found, expected) = (theta.len(), layout.numel());
    if found != expected {
        return Err(ExportError::Parameters { found, expected });
    }
    let shards = shards(layout, shard_bytes_max);
    if let [_] = shards[..] {
        return write_shard(&folder.join("model.safetensors"), layout, theta, 0..expected);
    }
    let mut places = BTreeMap::new();
    for (index, shard) in shards.iter().enumerate() {
        let name = format!("model-{:05}-of-{:05}.safetensors", index + 1, shards.len());
        write_shard(&folder.join(&name), layout, theta, shard.clone())?;
        for (tensor, _) in layout.ranges().filter(|(_, range)| shard.contains(&range.start)) {
            places.insert(tensor.name.clone(), name.clone());
        }
    }
    let metadata = json!({"total_size": expected * size_of::<f32>()});
    let index = pretty(&json!({"metadata": metadata, "weight_map": places}));
    Ok(durable::write(&folder.join("model.safetensors.index.json"), &index)?)
}

/// The ranges of the flat buffer that make one shard each; none of them cuts a tensor.
fn shards(layout: &Layout, bytes_max: u64) -> Vec<Range<usize>> {
    let mut shards: Vec<Range<usize>> = Vec::new();
    for (_, range) in layout.ranges() {
        match shards.last_mut() {
            Some(last) if ((range.end - last.start) * size_of::<f32>()) as u64 <= bytes_max => {
                last.end = range.end;
            }
            _ => shards.push(range),
        }
    }
    shards
}

fn write_shard(
    path: &Path,
    layout: &Layout,
    theta: &[f32],
    shard: Range<usize>,
) -> Result<(), ExportError> {
    let start = shard.start;
    let bytes: Vec<u8> = theta[shard.clone()].iter().flat_map(|v| v.to_le_bytes()).collect();
    let size = size_of::<f32>();
    let views = layout
        .ranges()
        .filter(|(_, range)| shard.contains(&range.start))
        .map(|(tensor, range)| {
            let shape = tensor.shape.iter().map(|length| *length as usize).collect();
            let data = &bytes[(range.start - start) * size..(range.end - start) * size];
            Ok((tensor.name.as_str(), TensorView::new(Dtype::F32, shape, data)?))
        })
        .collect::<Result<Vec<_>, SafeTensorError>>()?;
    // transformers refuses a file that does not say which framework wrote it.
    let metadata = HashMap::from([("format".to_string(), "pt".to_string())]);
    Ok(durable::write(path, &serialize(views, Some(metadata))?)?)
}

/// `config.json`, with every key on which the computation depends.
fn config_json(config: &LlamaConfig, end_token: u32) -> Value {
    let head_dim = config.head_dim.unwrap_or(config.hidden_size / config.num_attention_heads);
    json!({
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "torch_dtype": "float32",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.max_position_embeddings,
        "rms_norm_eps": config.rms_norm_eps,
        // transformers 4 reads the first, transformers 5 the second.
        "rope_theta": config.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": config.rope_theta},
        "tie_word_embeddings": config.tie_word_embeddings,
        "initializer_range": config.initializer_range,
        "attention_bias": false,
        "mlp_bias": false,
        "attention_dropout": 0.0,
        "bos_token_id": null,
        "eos_token_id": end_token,
        "pad_token_id": null,
    })
}

fn pretty(value: &Value) -> Vec<u8> {
    format!("{value:#}\n").into_bytes()
}
