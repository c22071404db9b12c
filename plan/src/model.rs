//! LLaMA-style models as Hugging Face's `LlamaConfig` describes them: presets, tensors, arithmetic.

use serde::{Deserialize, Serialize};

/// Hugging Face's `LlamaConfig` keys that define the network.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LlamaConfig {
    /// Width of the residual stream.
    pub hidden_size: u32,
    /// Width of the gated feed-forward layer.
    pub intermediate_size: u32,
    /// Decoder layers.
    pub num_hidden_layers: u32,
    /// Query heads.
    pub num_attention_heads: u32,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: u32,
    /// Width of one head; `hidden_size / num_attention_heads` where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub head_dim: Option<u32>,
    /// Tokens in the vocabulary.
    pub vocab_size: u32,
    /// Longest sequence, which is also the training sequence length.
    pub max_position_embeddings: u32,
    /// Added to the variance in RMSNorm.
    pub rms_norm_eps: f64,
    /// Base of the rotary embedding.
    pub rope_theta: f64,
    /// Whether the output head is the embedding matrix.
    pub tie_word_embeddings: bool,
    /// Standard deviation of the initial weights.
    pub initializer_range: f64,
}

/// One parameter: its Hugging Face name and shape (row-major; vectors have one dimension).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// For example `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// One or two dimensions.
    pub shape: Vec<u64>,
}

/// A [`LlamaConfig`] that makes sense: made by [`LlamaConfig::validate`] only.
#[derive(Clone, Debug, PartialEq)]
pub struct Llama(LlamaConfig);

impl Llama {
    /// The configuration, `head_dim` filled in.
    pub fn config(&self) -> &LlamaConfig {
        &self.0
    }
}
