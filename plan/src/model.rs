//! LLaMA-style models as Hugging Face's `LlamaConfig` describes them: tensors and arithmetic.

use serde::{Deserialize, Serialize};

mod presets;
#[cfg(test)]
mod tests;

pub use presets::{PRESETS, preset};

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
    /// Longest sequence.
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

/// A problem of a [`LlamaConfig`].
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ModelError {
    /// A size of nothing, or beyond anything that exists (and beyond safe arithmetic).
    #[error("{key} is {value}; it has to lie between 1 and {max}")]
    OutOfRange {
        /// The key.
        key: &'static str,
        /// Its value.
        value: u32,
        /// The largest accepted.
        max: u32,
    },
    /// A number that has to be positive and finite.
    #[error("{key} is {value}; it has to be a finite number above 0")]
    NotPositive {
        /// The key.
        key: &'static str,
        /// Its value.
        value: f64,
    },
    /// The heads do not share the width.
    #[error(
        "hidden_size {hidden_size} is not a multiple of num_attention_heads {heads}; \
         change one of them or set head_dim"
    )]
    HeadsDoNotDivide {
        /// Width.
        hidden_size: u32,
        /// Query heads.
        heads: u32,
    },
    /// Query heads do not share the key and value heads evenly.
    #[error(
        "num_attention_heads {heads} is not a multiple of num_key_value_heads {key_value_heads}"
    )]
    KeyValueHeadsDoNotDivide {
        /// Query heads.
        heads: u32,
        /// Key and value heads.
        key_value_heads: u32,
    },
    /// More parameters than any model has, so that sizes in bytes would overflow.
    #[error(
        "the model has about {parameters} parameters, at most {max} are possible; make it smaller"
    )]
    TooLarge {
        /// About how many.
        parameters: u128,
        /// The most.
        max: u128,
    },
    /// The rotary embedding turns pairs of values.
    #[error("head_dim {0} is odd; the rotary embedding needs an even one")]
    OddHead(u32),
}

/// One parameter: its Hugging Face name and shape (row-major; vectors have one dimension).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorSpec {
    /// For example `model.layers.0.self_attn.q_proj.weight`.
    pub name: String,
    /// One or two dimensions.
    pub shape: Vec<u64>,
}

impl TensorSpec {
    /// Values in the tensor.
    pub fn numel(&self) -> u64 {
        self.shape.iter().product()
    }
}

/// A [`LlamaConfig`] that makes sense: made by [`LlamaConfig::validate`] only.
#[derive(Clone, Debug, PartialEq)]
pub struct Llama {
    config: LlamaConfig,
    head_dim: u64,
}

/// Bounds far above any model, low enough that no product of sizes overflows.
const WIDTH_MAX: u32 = 1 << 20;
const LAYERS_MAX: u32 = 1 << 12;
const VOCABULARY_MAX: u32 = 1 << 24;
const POSITIONS_MAX: u32 = 1 << 24;
const HEAD_MAX: u32 = 1 << 12;
const PARAMETERS_MAX: u128 = 1 << 50;

impl LlamaConfig {
    /// Checks the configuration.
    ///
    /// # Errors
    /// The first key that makes no sense.
    pub fn validate(&self) -> Result<Llama, ModelError> {
        self.check_sizes()?;
        for (key, value) in [
            ("rms_norm_eps", self.rms_norm_eps),
            ("rope_theta", self.rope_theta),
            ("initializer_range", self.initializer_range),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(ModelError::NotPositive { key, value });
            }
        }
        let (hidden_size, heads) = (self.hidden_size, self.num_attention_heads);
        let head_dim = match self.head_dim {
            Some(width) => width,
            None if hidden_size.is_multiple_of(heads) => hidden_size / heads,
            None => return Err(ModelError::HeadsDoNotDivide { hidden_size, heads }),
        };
        // One that follows from the others is filled in, and has to be accepted where that is read.
        if head_dim > HEAD_MAX {
            let (key, value, max) = ("head_dim", head_dim, HEAD_MAX);
            return Err(ModelError::OutOfRange { key, value, max });
        }
        if !head_dim.is_multiple_of(2) {
            return Err(ModelError::OddHead(head_dim));
        }
        let key_value_heads = self.num_key_value_heads;
        if !heads.is_multiple_of(key_value_heads) {
            return Err(ModelError::KeyValueHeadsDoNotDivide { heads, key_value_heads });
        }
        let config = Self { head_dim: Some(head_dim), ..self.clone() };
        let llama = Llama { config, head_dim: head_dim.into() };
        llama.check_parameters()?;
        Ok(llama)
    }

    fn check_sizes(&self) -> Result<(), ModelError> {
        for (key, value, max) in [
            ("hidden_size", self.hidden_size, WIDTH_MAX),
            ("intermediate_size", self.intermediate_size, WIDTH_MAX),
            ("num_hidden_layers", self.num_hidden_layers, LAYERS_MAX),
            ("num_attention_heads", self.num_attention_heads, WIDTH_MAX),
            ("num_key_value_heads", self.num_key_value_heads, WIDTH_MAX),
            ("head_dim", self.head_dim.unwrap_or(1), HEAD_MAX),
            ("vocab_size", self.vocab_size, VOCABULARY_MAX),
            ("max_position_embeddings", self.max_position_embeddings, POSITIONS_MAX),
        ] {
            if value == 0 || value > max {
                return Err(ModelError::OutOfRange { key, value, max });
            }
        }
        Ok(())
    }
}

impl Llama {
    /// Checks that arithmetic with its parameters is safe.
    fn check_parameters(&self) -> Result<(), ModelError> {
        let config = &self.config;
        let [hidden, wide, layers, vocabulary] = [
            config.hidden_size,
            config.intermediate_size,
            config.num_hidden_layers,
            config.vocab_size,
        ]
        .map(u128::from);
        let attention = u128::from(self.query_width()) + u128::from(self.key_value_width());
        let parameters = hidden * (layers * (2 * attention + 3 * wide) + 2 * vocabulary);
        if parameters > PARAMETERS_MAX {
            return Err(ModelError::TooLarge { parameters, max: PARAMETERS_MAX });
        }
        Ok(())
    }

    /// The configuration, `head_dim` filled in.
    pub fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// Width of all query heads.
    pub fn query_width(&self) -> u64 {
        u64::from(self.config.num_attention_heads) * self.head_dim
    }

    /// Width of all key heads, which is that of all value heads.
    pub fn key_value_width(&self) -> u64 {
        u64::from(self.config.num_key_value_heads) * self.head_dim
    }

    /// Every parameter with Hugging Face's name, in Hugging Face's order. A tied output head is the
    /// embedding and does not appear. This order is that of the flat buffers and of the layout.
    pub fn tensors(&self) -> Vec<TensorSpec> {
        let hidden = u64::from(self.config.hidden_size);
        let vocabulary = u64::from(self.config.vocab_size);
        let tensor = |name: &str, shape: &[u64]| TensorSpec {
            name: format!("{name}.weight"),
            shape: shape.to_vec(),
        };
        let mut tensors = vec![tensor("model.embed_tokens", &[vocabulary, hidden])];
        for layer in 0..self.config.num_hidden_layers {
            let prefix = format!("model.layers.{layer}");
            tensors.extend(
                self.layer().iter().map(|(name, shape)| tensor(&format!("{prefix}.{name}"), shape)),
            );
        }
        tensors.push(tensor("model.norm", &[hidden]));
        if !self.config.tie_word_embeddings {
            tensors.push(tensor("lm_head", &[vocabulary, hidden]));
        }
        tensors
    }

    /// The tensors of one layer; matrices are `[out, in]`.
    fn layer(&self) -> [(&'static str, Vec<u64>); 9] {
        let hidden = u64::from(self.config.hidden_size);
        let wide = u64::from(self.config.intermediate_size);
        let (query, key_value) = (self.query_width(), self.key_value_width());
        [
            ("self_attn.q_proj", vec![query, hidden]),
            ("self_attn.k_proj", vec![key_value, hidden]),
            ("self_attn.v_proj", vec![key_value, hidden]),
            ("self_attn.o_proj", vec![hidden, query]),
            ("mlp.gate_proj", vec![wide, hidden]),
            ("mlp.up_proj", vec![wide, hidden]),
            ("mlp.down_proj", vec![hidden, wide]),
            ("input_layernorm", vec![hidden]),
            ("post_attention_layernorm", vec![hidden]),
        ]
    }

    /// Parameters of one layer.
    pub fn layer_parameters(&self) -> u64 {
        self.layer().iter().map(|(_, shape)| shape.iter().product::<u64>()).sum()
    }

    /// All parameters.
    pub fn parameters(&self) -> u64 {
        let embedding = u64::from(self.config.vocab_size) * u64::from(self.config.hidden_size);
        let ends = if self.config.tie_word_embeddings { 1 } else { 2 };
        ends * embedding
            + u64::from(self.config.num_hidden_layers) * self.layer_parameters()
            + u64::from(self.config.hidden_size)
    }

    /// FLOPs of forward and backward per token: 6 N + 12 L · (width of the query heads) · s, with N
    /// the parameters that multiply (the embedding look-up does not, the output head does, tied or
    /// not) and s the sequence length. PaLM (Chowdhery et al. 2022), appendix B; Kaplan et al.
    /// 2020, section 2.1. As there, the causal mask's saving of half the attention is not counted.
    pub fn flops_per_token(&self, sequence_length: u32) -> f64 {
        let layers = f64::from(self.config.num_hidden_layers);
        let head = self.head_flops_per_token(self.config.vocab_size.into());
        layers * self.layer_flops_per_token(sequence_length) + head
    }

    /// One layer's part of [`Llama::flops_per_token`].
    pub fn layer_flops_per_token(&self, sequence_length: u32) -> f64 {
        let attention = self.query_width() * u64::from(sequence_length);
        6.0 * self.layer_parameters() as f64 + 12.0 * attention as f64
    }

    /// The part in [`Llama::flops_per_token`] of so many rows of the output head.
    pub fn head_flops_per_token(&self, rows: u64) -> f64 {
        6.0 * (rows * u64::from(self.config.hidden_size)) as f64
    }
}
