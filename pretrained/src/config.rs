//! The `config.json` of a model in Hugging Face's form: which network it is, or why it is none that
//! is computed here. Keys that do not change the computation are passed over.

use plan::model::LlamaConfig;
use serde::Deserialize;
use serde_json::{Map, Value};

/// Why a `config.json` is not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigProblem {
    /// It is no JSON object.
    #[error("config.json is not a JSON object: {0}")]
    NotJson(serde_json::Error),
    /// A key is missing or has a value of another type.
    #[error("config.json does not describe a Llama model: {0}")]
    Keys(serde_json::Error),
    /// A value of another type.
    #[error("config.json has {key} {found}, where {wanted} is expected: correct it")]
    Type {
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// The value that it has to have.
        wanted: &'static str,
    },
    /// The model computes something else.
    #[error("config.json has {key} {found}; only {wanted} is computed here: take another model")]
    Unsupported {
        /// The key.
        key: String,
        /// Its value.
        found: String,
        /// The values that it could have.
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
    /// transformers 4 writes it here, transformers 5 among the parameters of the embedding.
    rope_theta: Option<f64>,
    rope_scaling: Option<Rope>,
    rope_parameters: Option<Rope>,
    #[serde(default)]
    tie_word_embeddings: bool,
    #[serde(default = "default_range")]
    initializer_range: f64,
}

#[derive(Default, Deserialize)]
struct Rope {
    rope_theta: Option<f64>,
}

fn default_eps() -> f64 {
    1e-6
}

fn default_range() -> f64 {
    0.02
}

/// The values that Hugging Face takes where nothing is said,
const ROPE_THETA: f64 = 10_000.0;
/// and what Mistral's class does.
const MISTRAL_KEY_VALUE_HEADS: u32 = 8;
const MISTRAL_WINDOW: u32 = 4096;

/// The model that a `config.json` describes; it may still make no sense.
///
/// Where keys contradict each other, those count that count in transformers 5.
///
/// # Errors
/// It is no such model, or one that is computed otherwise.
pub fn config(text: &str) -> Result<LlamaConfig, ConfigProblem> {
    let mut keys: Map<String, Value> =
        serde_json::from_str(text).map_err(ConfigProblem::NotJson)?;
    let is_mistral = keys.get("model_type").is_some_and(|kind| kind == "mistral");
    // An older name of the same; where both are there, it wins unless it is empty.
    let scaling = keys.get("rope_scaling").is_some_and(|scaling| !is_empty(scaling));
    keys.retain(|key, _| key != if scaling { "rope_parameters" } else { "rope_scaling" });
    check(&keys, is_mistral)?;
    check_types(&keys, is_mistral)?;
    let config: Config =
        serde_json::from_value(Value::Object(keys)).map_err(ConfigProblem::Keys)?;
    let rope = config.rope_scaling.or(config.rope_parameters).unwrap_or_default();
    let heads = config.num_attention_heads;
    let default = if is_mistral { MISTRAL_KEY_VALUE_HEADS } else { heads };
    Ok(LlamaConfig {
        hidden_size: config.hidden_size,
        intermediate_size: config.intermediate_size,
        num_hidden_layers: config.num_hidden_layers,
        num_attention_heads: heads,
        num_key_value_heads: config.num_key_value_heads.unwrap_or(default),
        head_dim: config.head_dim,
        vocab_size: config.vocab_size,
        max_position_embeddings: config.max_position_embeddings,
        rms_norm_eps: config.rms_norm_eps,
        rope_theta: rope.rope_theta.or(config.rope_theta).unwrap_or(ROPE_THETA),
        tie_word_embeddings: config.tie_word_embeddings,
        initializer_range: config.initializer_range,
    })
}

fn is_empty(value: &Value) -> bool {
    value.is_null() || value.as_object().is_some_and(Map::is_empty)
}

/// Refuses what would be computed otherwise than its authors did.
fn check(keys: &Map<String, Value>, is_mistral: bool) -> Result<(), ConfigProblem> {
    let absent = |value: &Value| value.is_null() || value == false;
    require(keys, "", "model_type", "llama or mistral", |value| {
        value == "llama" || value == "mistral"
    })?;
    require(keys, "", "hidden_act", "silu", |value| {
        value.is_null() || value == "silu" || value == "swish"
    })?;
    for key in ["attention_bias", "mlp_bias", "quantization_config", "use_sliding_window"] {
        require(keys, "", key, "none", absent)?;
    }
    for key in keys.keys().filter(|key| key.contains("dropout") || key.ends_with("_pdrop")) {
        require(keys, "", key, "0", |value| value.is_null() || value.as_f64() == Some(0.0))?;
    }
    check_window(keys, is_mistral)?;
    require(keys, "", "partial_rotary_factor", "1", is_one)?;
    for (part, name) in [("rope_scaling.", "rope_scaling"), ("rope_parameters.", "rope_parameters")]
    {
        if let Some(Value::Object(rope)) = keys.get(name) {
            check_rope(rope, part)?;
        }
    }
    Ok(())
}

/// Refuses values of another type by their keys, which serde would not name. Absent keys are left
/// to it; null is another type where transformers does not take it either.
fn check_types(keys: &Map<String, Value>, is_mistral: bool) -> Result<(), ConfigProblem> {
    let typed = |key: &str, wanted, fits: &dyn Fn(&Value) -> bool| match keys.get(key) {
        Some(value) if !fits(value) => {
            Err(ConfigProblem::Type { key: key.into(), found: value.to_string(), wanted })
        }
        _ => Ok(()),
    };
    let whole = |value: &Value| value.as_u64().is_some_and(|value| u32::try_from(value).is_ok());
    for key in [
        "hidden_size",
        "intermediate_size",
        "num_hidden_layers",
        "num_attention_heads",
        "vocab_size",
        "max_position_embeddings",
    ] {
        typed(key, "a whole number", &whole)?;
    }
    let may_be_null = |value: &Value| value.is_null() || whole(value);
    typed("head_dim", "a whole number or null", &may_be_null)?;
    if is_mistral {
        typed("num_key_value_heads", "a whole number", &whole)?;
        typed("attention_dropout", "a number", &Value::is_number)?;
    } else {
        typed("num_key_value_heads", "a whole number or null", &may_be_null)?;
        typed("attention_bias", "true or false", &Value::is_boolean)?;
        typed("mlp_bias", "true or false", &Value::is_boolean)?;
    }
    for key in ["rms_norm_eps", "initializer_range"] {
        typed(key, "a number", &Value::is_number)?;
    }
    typed("hidden_act", "a name", &Value::is_string)?;
    typed("tie_word_embeddings", "true or false", &Value::is_boolean)?;
    let ropes = ["rope_scaling", "rope_parameters"];
    for key in ropes {
        typed(key, "an object or null", &|value| value.is_null() || value.is_object())?;
    }
    let said =
        ropes.iter().any(|key| keys.get(*key).is_some_and(|rope| !rope["rope_theta"].is_null()));
    typed("rope_theta", "a number", &|value| value.is_number() || said && value.is_null())
}

fn is_one(value: &Value) -> bool {
    value.is_null() || value.as_f64() == Some(1.0)
}

/// A window that covers every sequence is no window.
fn check_window(keys: &Map<String, Value>, is_mistral: bool) -> Result<(), ConfigProblem> {
    let positions = keys.get("max_position_embeddings").and_then(Value::as_u64);
    let covers = |window: u64| positions.is_some_and(|positions| window >= positions);
    let wanted = "null or one of all max_position_embeddings";
    let default = is_mistral && !keys.contains_key("sliding_window");
    if default && !covers(MISTRAL_WINDOW.into()) {
        let (key, found) = ("sliding_window".into(), format!("absent, which is {MISTRAL_WINDOW}"));
        return Err(ConfigProblem::Unsupported { key, found, wanted });
    }
    let fits = |value: &Value| value.is_null() || value.as_u64().is_some_and(covers);
    require(keys, "", "sliding_window", wanted, fits)
}

fn check_rope(rope: &Map<String, Value>, part: &str) -> Result<(), ConfigProblem> {
    let kind = if rope.contains_key("rope_type") { "rope_type" } else { "type" };
    require(rope, part, kind, "default", |value| value.is_null() || value == "default")?;
    require(rope, part, "partial_rotary_factor", "1", is_one)?;
    for key in rope.keys() {
        // Layers of one kind have one embedding, those of another have another.
        require(rope, part, key, "one value for all layers", |value| !value.is_object())?;
    }
    if rope.contains_key("rope_theta") {
        require(rope, part, "rope_theta", "a number", Value::is_number)?;
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

    /// By `LlamaConfig.from_dict` of transformers 5.24.
    #[test]
    fn the_base_of_the_rotary_embedding_is_the_one_that_transformers_5_takes() {
        let table = [
            (r#""rope_theta": 1.0"#, 1.0),
            (r#""rope_parameters": {"rope_theta": 2.0}"#, 2.0),
            (r#""rope_scaling": {"rope_theta": 3.0}"#, 3.0),
            (r#""rope_theta": 1.0, "rope_parameters": {"rope_theta": 2.0}"#, 2.0),
            (r#""rope_theta": 1.0, "rope_scaling": {"rope_theta": 3.0}"#, 3.0),
            (r#""rope_theta": 1.0, "rope_scaling": {"type": "default"}"#, 1.0),
            (r#""rope_theta": 1.0, "rope_parameters": {}"#, 1.0),
            (r#""rope_scaling": {"rope_theta": 3.0}, "rope_parameters": {"rope_theta": 2.0}"#, 3.0),
            (r#""rope_scaling": {}, "rope_parameters": {"rope_theta": 2.0}"#, 2.0),
            (r#""rope_scaling": null, "rope_parameters": {"rope_theta": 2.0}"#, 2.0),
            (
                r#""rope_theta": 1.0, "rope_scaling": {"factor": 1.0},
                    "rope_parameters": {"rope_theta": 2.0}"#,
                1.0,
            ),
            (r#""rope_parameters": {"rope_type": "default", "type": "linear"}"#, 10_000.0),
        ];
        for (keys, expected) in table {
            let text = CONFIG
                .replace(r#""rope_theta": 500000.0"#, keys)
                .replace(r#""rope_scaling": null,"#, "");
            assert_eq!(config(&text).unwrap().rope_theta, expected, "{keys}");
        }
    }

    #[test]
    fn what_mistrals_class_takes_where_nothing_is_said_counts() {
        let mistral = CONFIG.replace("\"llama\"", "\"mistral\"");
        assert_eq!(config(&mistral).unwrap().num_key_value_heads, 2, "256 positions, 4096 seen");
        let absent = mistral.replace("\"num_key_value_heads\": 2,", "");
        assert_eq!(config(&absent).unwrap().num_key_value_heads, 8);
        let null = |text: &str| {
            config(&text.replace("\"num_key_value_heads\": 2", "\"num_key_value_heads\": null"))
        };
        assert_eq!(null(CONFIG).unwrap().num_key_value_heads, 4);
        let text = null(&mistral).unwrap_err().to_string();
        assert!(text.contains("num_key_value_heads null, where a whole number is"), "{text}");
        let long = mistral.replace("256", "32768");
        let text = config(&long).unwrap_err().to_string();
        assert!(text.contains("sliding_window absent, which is 4096; only null or"), "{text}");
        let without =
            long.replace("\"rope_scaling\"", "\"sliding_window\": null, \"rope_scaling\"");
        assert!(config(&without).is_ok());
        assert!(config(&without.replace("mistral", "llama")).is_ok());
    }

    #[test]
    fn a_value_of_another_type_is_refused_by_its_key() {
        for (key, value) in [
            ("hidden_size", "\"64\""),
            ("vocab_size", "-1"),
            ("num_hidden_layers", "2.5"),
            ("max_position_embeddings", "4294967296"),
            ("head_dim", "[64]"),
            ("rms_norm_eps", "null"),
            ("initializer_range", "\"0.02\""),
            ("tie_word_embeddings", "1"),
            ("attention_bias", "null"),
            ("mlp_bias", "null"),
            ("hidden_act", "null"),
            ("rope_theta", "null"),
            ("rope_theta", "\"500000\""),
            ("rope_parameters", "[1]"),
            ("rope_scaling", "\"linear\""),
        ] {
            // The last of several equal keys counts.
            let text = CONFIG.replacen("[1, 2]", &format!("1, \"{key}\": {value}"), 1);
            let said = config(&text).unwrap_err().to_string();
            assert!(said.contains(&format!("config.json has {key} {value}, where ")), "{said}");
        }
        let rope = CONFIG
            .replace("\"rope_theta\": 500000.0", "\"rope_theta\": null")
            .replace("\"rope_scaling\": null", "\"rope_scaling\": {\"rope_theta\": 7.0}");
        assert_eq!(config(&rope).unwrap().rope_theta, 7.0);
    }

    #[test]
    fn what_is_not_computed_here_is_refused_by_its_key() {
        let cases = [
            ("\"llama\"", "\"qwen2\"", "model_type \"qwen2\"; only llama or mistral"),
            ("\"silu\"", "\"gelu\"", "hidden_act \"gelu\"; only silu"),
            ("\"attention_bias\": false", "\"attention_bias\": true", "attention_bias true"),
            ("\"some_new_key\": [1, 2]", "\"mlp_bias\": true", "mlp_bias true"),
            ("\"some_new_key\": [1, 2]", "\"sliding_window\": 128", "sliding_window 128"),
            ("[1, 2]", "1, \"attention_dropout\": 0.1", "attention_dropout 0.1; only 0"),
            ("[1, 2]", "1, \"resid_pdrop\": 0.1", "resid_pdrop 0.1; only 0"),
            (
                "\"rope_scaling\": null",
                "\"rope_parameters\": {\"full_attention\": {\"rope_theta\": 1e6}}",
                "rope_parameters.full_attention {\"rope_theta\":1000000.0}; only one value",
            ),
            (
                "\"rope_scaling\": null",
                "\"rope_scaling\": {\"rope_theta\": null}",
                "rope_scaling.rope_theta null; only a number",
            ),
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
