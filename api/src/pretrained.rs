//! The `config.json` of a model in Hugging Face's form: which network it is, or why it is none that
//! is computed here. Keys that do not change the computation are passed over.

use plan::model::LlamaConfig;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Why a `config.json` is not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigProblem {
    /// It is no JSON object.
    #[error("config.json is not a JSON object: {0}")]
    NotJson(serde_json::Error),
    /// A key is missing or has a value of another type.
    #[error("config.json does not describe a Llama model: {0}")]
    Keys(serde_json::Error),
    /// The model computes something else.
    #[error("config.json has {key} {found}; only {wanted} is computed here: take another model")]
    Unsupported {
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// What it could be.
        wanted: &'static str,
    },
}

/// The keys that the network depends on. Those without a default are in every `config.json`.
#[derive(Deserialize)]
struct Config {
    hidden_size: u32,
    intermediate_size: u32,
    num_hidden_layers: u32,
    num_attention_heads: u32,
    num_key_value_heads: Option<u32>,
    head_dim: Option<u32>,
    vocab_size: u32,
    max_position_embeddings: u32,
    #[serde(default = "default_eps")]
    rms_norm_eps: f64,
    /// transformers 4 writes it here, transformers 5 in `rope_parameters`.
    rope_theta: Option<f64>,
    rope_parameters: Option<Rope>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default = "default_range")]
    initializer_range: f64,
}

#[derive(Deserialize)]
struct Rope {
    rope_theta: Option<f64>,
}

fn default_eps() -> f64 {
    1e-6
}

fn default_range() -> f64 {
    0.02
}

/// What Hugging Face takes where nothing is said.
const ROPE_THETA: f64 = 10_000.0;

/// The model that a `config.json` describes; it may still make no sense.
pub(crate) fn config(text: &str) -> Result<LlamaConfig, ConfigProblem> {
    let keys: Map<String, Value> = serde_json::from_str(text).map_err(ConfigProblem::NotJson)?;
    check(&keys)?;
    let config: Config =
        serde_json::from_value(Value::Object(keys)).map_err(ConfigProblem::Keys)?;
    let rope_theta = config.rope_parameters.and_then(|rope| rope.rope_theta);
    Ok(LlamaConfig {
        hidden_size: config.hidden_size,
        intermediate_size: config.intermediate_size,
        num_hidden_layers: config.num_hidden_layers,
        num_attention_heads: config.num_attention_heads,
        num_key_value_heads: config.num_key_value_heads.unwrap_or(config.num_attention_heads),
        head_dim: config.head_dim,
        vocab_size: config.vocab_size,
        max_position_embeddings: config.max_position_embeddings,
        rms_norm_eps: config.rms_norm_eps,
        rope_theta: config.rope_theta.or(rope_theta).unwrap_or(ROPE_THETA),
        tie_word_embeddings: config.tie_word_embeddings,
        initializer_range: config.initializer_range,
    })
}

/// Refuses what would be computed otherwise than its authors did.
fn check(keys: &Map<String, Value>) -> Result<(), ConfigProblem> {
    let absent = |value: &Value| value.is_null() || value == false;
    let is_one = |value: &Value| value.is_null() || value == 1.0 || value == 1;
    require(keys, "", "model_type", "llama or mistral", |value| {
        value == "llama" || value == "mistral"
    })?;
    require(keys, "", "hidden_act", "silu", |value| value.is_null() || value == "silu")?;
    for key in ["attention_bias", "mlp_bias", "quantization_config", "use_sliding_window"] {
        require(keys, "", key, "none", absent)?;
    }
    // Qwen's folders have a window that is switched off; here it has to be absent.
    require(keys, "", "sliding_window", "none", Value::is_null)?;
    require(keys, "", "partial_rotary_factor", "1", is_one)?;
    for (part, name) in [("rope_scaling.", "rope_scaling"), ("rope_parameters.", "rope_parameters")]
    {
        let Some(Value::Object(rope)) = keys.get(name) else { continue };
        for kind in ["rope_type", "type"] {
            let plain = |value: &Value| value.is_null() || value == "default";
            require(rope, part, kind, "default", plain)?;
        }
        require(rope, part, "partial_rotary_factor", "1", is_one)?;
    }
    Ok(())
}

fn require(
    keys: &Map<String, Value>,
    part: &str,
    key: &str,
    wanted: &'static str,
    fits: impl Fn(&Value) -> bool,
) -> Result<(), ConfigProblem> {
    let value = keys.get(key).unwrap_or(&Value::Null);
    if fits(value) {
        return Ok(());
    }
    let found = value.to_string();
    Err(ConfigProblem::Unsupported { key: format!("{part}{key}"), found, wanted })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = r#"{
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16",
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 320,
        "max_position_embeddings": 256, "rms_norm_eps": 1e-05, "rope_theta": 500000.0,
        "rope_scaling": null, "hidden_act": "silu", "attention_bias": false,
        "tie_word_embeddings": true, "some_new_key": [1, 2]
    }"#;

    #[test]
    fn a_config_of_transformers_4_and_of_5_is_read() {
        let four = config(CONFIG).unwrap();
        assert_eq!((four.num_key_value_heads, four.head_dim), (2, None));
        assert_eq!((four.rope_theta, four.rms_norm_eps), (500_000.0, 1e-5));
        assert!(four.tie_word_embeddings);
        let rope = r#""rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}"#;
        let five = CONFIG.replace(r#""rope_theta": 500000.0"#, rope);
        assert_eq!(config(&five).unwrap(), four);
    }

    #[test]
    fn what_may_be_absent_is_as_hugging_face_has_it() {
        let text = CONFIG
            .replace("\"num_key_value_heads\": 2,", "")
            .replace("\"rope_theta\": 500000.0,", "")
            .replace("\"rms_norm_eps\": 1e-05,", "");
        let model = config(&text).unwrap();
        assert_eq!((model.num_key_value_heads, model.rope_theta), (4, 10_000.0));
        assert_eq!((model.rms_norm_eps, model.initializer_range), (1e-6, 0.02));
    }

    #[test]
    fn what_is_not_computed_here_is_refused_by_its_key() {
        let cases = [
            ("\"llama\"", "\"qwen2\"", "model_type \"qwen2\"; only llama or mistral"),
            ("\"silu\"", "\"gelu\"", "hidden_act \"gelu\"; only silu"),
            ("\"attention_bias\": false", "\"attention_bias\": true", "attention_bias true"),
            ("\"some_new_key\": [1, 2]", "\"mlp_bias\": true", "mlp_bias true"),
            ("\"some_new_key\": [1, 2]", "\"sliding_window\": 4096", "sliding_window 4096"),
            ("[1, 2]", "1, \"quantization_config\": {\"bits\": 4}", "quantization_config {"),
            ("[1, 2]", "1, \"partial_rotary_factor\": 0.5", "partial_rotary_factor 0.5"),
            (
                "\"rope_scaling\": null",
                "\"rope_scaling\": {\"type\": \"linear\"}",
                ".type \"linear\"",
            ),
            (
                "\"rope_scaling\": null",
                "\"rope_parameters\": {\"rope_type\": \"llama3\"}",
                "rope_parameters.rope_type \"llama3\"; only default",
            ),
            ("\"hidden_size\": 64,", "", "missing field `hidden_size`"),
            ("{", "[", "not a JSON object"),
        ];
        for (from, to, part) in cases {
            let text = config(&CONFIG.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(text.contains(part), "{text}");
        }
    }
}
