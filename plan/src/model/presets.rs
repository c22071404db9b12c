//! Models by name.

use super::LlamaConfig;

/// Every preset, smallest first.
pub const PRESETS: [&str; 6] =
    ["llama-demo", "llama-160m", "llama-512m", "llama-1b", "llama-8b", "covenant-72b"];

/// The configuration of a preset.
pub fn preset(name: &str) -> Option<LlamaConfig> {
    match name {
        "llama-demo" => Some(llama_demo()),
        "llama-160m" => Some(llama_160m()),
        "llama-512m" => Some(llama_512m()),
        "llama-1b" => Some(llama_1b()),
        "llama-8b" => Some(llama_8b()),
        "covenant-72b" => Some(covenant_72b()),
        _ => None,
    }
}

/// The settings that most LLaMA models share; every preset sets the sizes.
fn base() -> LlamaConfig {
    LlamaConfig {
        hidden_size: 0,
        intermediate_size: 0,
        num_hidden_layers: 0,
        num_attention_heads: 0,
        num_key_value_heads: 0,
        head_dim: None,
        vocab_size: 0,
        max_position_embeddings: 2048,
        rms_norm_eps: 1e-5,
        rope_theta: 10_000.0,
        tie_word_embeddings: false,
        initializer_range: 0.02,
    }
}

/// 2.5 M parameters over bytes: learns visibly on a CPU in minutes. 256 bytes and the end token,
/// padded to a multiple of 64 so that the embedding is cut into whole chunks.
fn llama_demo() -> LlamaConfig {
    LlamaConfig {
        hidden_size: 192,
        intermediate_size: 512,
        num_hidden_layers: 6,
        num_attention_heads: 6,
        num_key_value_heads: 3,
        vocab_size: 320,
        max_position_embeddings: 256,
        tie_word_embeddings: true,
        ..base()
    }
}

/// 162 M: the shape of GPT-2's smallest with LLaMA's parts and LLaMA-2's vocabulary.
fn llama_160m() -> LlamaConfig {
    LlamaConfig {
        hidden_size: 768,
        intermediate_size: 3072,
        num_hidden_layers: 12,
        num_attention_heads: 12,
        num_key_value_heads: 12,
        vocab_size: 32_000,
        ..base()
    }
}

/// 512 M: the model of the CCLoco and SparseLoCo sweeps (d 1536, 12 layers, 12 heads, ffn 5440,
/// context 2048, LLaMA-2's vocabulary).
fn llama_512m() -> LlamaConfig {
    LlamaConfig {
        hidden_size: 1536,
        intermediate_size: 5440,
        num_hidden_layers: 12,
        num_attention_heads: 12,
        num_key_value_heads: 12,
        vocab_size: 32_000,
        ..base()
    }
}

/// 1.24 B: the shape of Llama 3.2 1B, at the context length that needs no rotary scaling.
fn llama_1b() -> LlamaConfig {
    LlamaConfig {
        hidden_size: 2048,
        intermediate_size: 8192,
        num_hidden_layers: 16,
        num_attention_heads: 32,
        num_key_value_heads: 8,
        vocab_size: 128_256,
        max_position_embeddings: 8192,
        rope_theta: 500_000.0,
        tie_word_embeddings: true,
        ..base()
    }
}

/// 8.03 B: Llama 3 8B.
fn llama_8b() -> LlamaConfig {
    LlamaConfig {
        hidden_size: 4096,
        intermediate_size: 14_336,
        num_hidden_layers: 32,
        num_attention_heads: 32,
        num_key_value_heads: 8,
        vocab_size: 128_256,
        max_position_embeddings: 8192,
        rope_theta: 500_000.0,
        ..base()
    }
}

/// 72,747,327,488 parameters: Covenant-72B. Only a vocabulary of 262,144 (Gemma 3's, as on the
/// model card) with an output head of its own gives exactly the paper's count.
fn covenant_72b() -> LlamaConfig {
    LlamaConfig {
        hidden_size: 8192,
        intermediate_size: 28_672,
        num_hidden_layers: 80,
        num_attention_heads: 64,
        num_key_value_heads: 8,
        vocab_size: 262_144,
        rope_theta: 500_000.0,
        ..base()
    }
}
