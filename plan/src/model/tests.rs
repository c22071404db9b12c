//! Tests of presets, shapes and refusals.

mod bounds;

use super::*;

fn llama(name: &str) -> Llama {
    preset(name).expect("a preset").validate().expect("a sound preset")
}

#[test]
fn every_preset_is_sound_and_counts_the_parameters_of_its_tensors() {
    for name in PRESETS {
        let model = llama(name);
        let counted: u64 = model.tensors().iter().map(TensorSpec::numel).sum();
        assert_eq!(counted, model.parameters(), "{name}");
    }
    assert_eq!(preset("llama-9000b"), None);
}

#[test]
fn presets_have_the_published_numbers_of_parameters() {
    let count = |name| llama(name).parameters();
    assert_eq!(count("covenant-72b"), 72_747_327_488);
    assert_eq!(count("llama-8b"), 8_030_261_248);
    assert_eq!(count("llama-1b"), 1_235_814_400);
    assert_eq!(count("llama-512m"), 512_398_848);
    assert_eq!(count("llama-160m"), 162_417_408);
    assert_eq!(count("llama-demo"), 2_496_960);
}

#[test]
fn tensors_carry_hugging_faces_names_in_its_order() {
    let names: Vec<_> = llama("llama-160m").tensors().into_iter().map(|t| t.name).collect();
    assert_eq!(names[0], "model.embed_tokens.weight");
    assert_eq!(
        &names[1..10],
        [
            "model.layers.0.self_attn.q_proj.weight",
            "model.layers.0.self_attn.k_proj.weight",
            "model.layers.0.self_attn.v_proj.weight",
            "model.layers.0.self_attn.o_proj.weight",
            "model.layers.0.mlp.gate_proj.weight",
            "model.layers.0.mlp.up_proj.weight",
            "model.layers.0.mlp.down_proj.weight",
            "model.layers.0.input_layernorm.weight",
            "model.layers.0.post_attention_layernorm.weight",
        ]
    );
    assert_eq!(&names[names.len() - 2..], ["model.norm.weight", "lm_head.weight"]);
    assert_eq!(names.len(), 1 + 12 * 9 + 2);
}

#[test]
fn a_tied_head_is_no_tensor_of_its_own() {
    let tensors = llama("llama-demo").tensors();
    assert!(tensors.iter().all(|tensor| tensor.name != "lm_head.weight"));
    assert_eq!(tensors[0].shape, [320, 192]);
}

#[test]
fn grouped_heads_narrow_the_keys_and_values() {
    let model = llama("llama-8b");
    let shape = |name: &str| {
        let name = format!("model.layers.31.{name}.weight");
        model.tensors().into_iter().find(|t| t.name == name).expect("the tensor").shape
    };
    assert_eq!(shape("self_attn.k_proj"), [1024, 4096]);
    assert_eq!(shape("self_attn.o_proj"), [4096, 4096]);
    assert_eq!(shape("mlp.down_proj"), [4096, 14_336]);
}

#[test]
fn flops_follow_palms_formula() {
    // 6 × (32 layers + head) + 12 · 32 · 4096 · 8192.
    let model = llama("llama-8b");
    let multiplied = 8_030_261_248_u64 - 128_256 * 4096 - 4096;
    let expected = 6.0 * multiplied as f64 + 12.0 * f64::from(32 * 4096) * 8192.0;
    assert_eq!(model.flops_per_token(8192), expected);
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused_by_key() {
    type Change = fn(&mut LlamaConfig);
    let cases: [(Change, &str); 9] = [
        (|c| c.hidden_size = 0, "hidden_size is 0; it has to lie between 1 and 1048576"),
        (|c| c.num_hidden_layers = 9999, "num_hidden_layers is 9999"),
        (|c| c.num_attention_heads = 7, "hidden_size 192 is not a multiple"),
        (|c| c.num_key_value_heads = 4, "num_attention_heads 6 is not a multiple"),
        (|c| c.head_dim = Some(33), "head_dim 33 is odd"),
        (|c| c.rms_norm_eps = 0.0, "rms_norm_eps is 0; it has to be a finite number above 0"),
        (|c| c.rope_theta = f64::NAN, "rope_theta is NaN"),
        (|c| c.initializer_range = -1.0, "initializer_range is -1"),
        (|c| c.vocab_size = u32::MAX, "vocab_size is 4294967295"),
    ];
    for (change, sentence) in cases {
        let mut config = preset("llama-demo").expect("a preset");
        change(&mut config);
        let error = config.validate().expect_err(sentence).to_string();
        assert!(error.starts_with(sentence), "{error}");
    }
}

#[test]
fn an_unknown_key_is_named() {
    let config = serde_json::to_value(preset("llama-demo")).expect("a value");
    let mut with_more = config.clone();
    with_more["sliding_window"] = 3.into();
    let error = serde_json::from_value::<LlamaConfig>(with_more).expect_err("unknown key");
    assert!(error.to_string().contains("sliding_window"), "{error}");
    assert!(serde_json::from_value::<LlamaConfig>(config).is_ok());
}
