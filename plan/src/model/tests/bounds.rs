//! The edges of what is accepted, and what holds of all that is.

use proptest::prelude::*;

use super::*;

fn demo() -> LlamaConfig {
    preset("llama-demo").expect("a preset")
}

fn refused(change: impl FnOnce(&mut LlamaConfig)) -> ModelError {
    let mut config = demo();
    change(&mut config);
    config.validate().expect_err("refused")
}

#[test]
fn each_size_has_a_largest_that_is_accepted_and_one_more_is_not() {
    type Set = fn(&mut LlamaConfig, u32);
    let table: [(&str, Set, u32); 6] = [
        ("intermediate_size", |c, v| c.intermediate_size = v, 1 << 20),
        ("num_hidden_layers", |c, v| c.num_hidden_layers = v, 1 << 12),
        ("head_dim", |c, v| c.head_dim = Some(v), 1 << 12),
        ("vocab_size", |c, v| c.vocab_size = v, 1 << 24),
        ("max_position_embeddings", |c, v| c.max_position_embeddings = v, 1 << 24),
        ("hidden_size", |c, v| (c.hidden_size, c.head_dim) = (v, Some(64)), 1 << 20),
    ];
    for (key, set, most) in table {
        let mut config = demo();
        set(&mut config, most);
        assert!(config.validate().is_ok(), "{key} of {most}");
        for value in [most + 1, 0, u32::MAX] {
            let error = refused(|config| set(config, value));
            assert_eq!(error, ModelError::OutOfRange { key, value, max: most });
        }
    }
}

/// A worker checks what it is told again, with the width filled in.
#[test]
fn a_width_of_a_head_that_follows_from_the_others_is_bounded_as_one_that_is_given() {
    let with = |hidden_size, heads| LlamaConfig {
        hidden_size,
        num_attention_heads: heads,
        num_key_value_heads: heads,
        head_dim: None,
        ..demo()
    };
    assert_eq!(with(4096, 1).validate().expect("just accepted").config().head_dim, Some(4096));
    let error = with(4098, 1).validate().expect_err("wider than any head");
    assert_eq!(error.to_string(), "head_dim is 4098; it has to lie between 1 and 4096");
}

#[test]
fn more_parameters_than_any_model_has_are_refused_with_about_how_many() {
    let config = LlamaConfig {
        hidden_size: 1 << 20,
        intermediate_size: 1 << 20,
        num_hidden_layers: 1 << 12,
        num_attention_heads: 1 << 10,
        num_key_value_heads: 1 << 10,
        head_dim: None,
        ..demo()
    };
    let error = config.validate().expect_err("7 × 2^52").to_string();
    let about = (1_u128 << 20) * ((1 << 12) * 7 * (1 << 20) + 2 * 320);
    let expected = format!(
        "the model has about {about} parameters, at most {} are possible; make it smaller",
        1_u64 << 50
    );
    assert_eq!(error, expected);
    // An eighth of the layers is still too much, a thirty-second is not.
    let layers = |num_hidden_layers| LlamaConfig { num_hidden_layers, ..config.clone() }.validate();
    assert!(layers(1 << 9).is_err() && layers(1 << 7).is_ok());
}

#[test]
fn key_and_value_heads_divide_the_query_heads() {
    for (heads, key_value, fits) in [(6, 6, true), (6, 2, true), (6, 1, true), (6, 12, false)] {
        let config =
            LlamaConfig { num_attention_heads: heads, num_key_value_heads: key_value, ..demo() };
        assert_eq!(config.validate().is_ok(), fits, "{heads} of {key_value}");
    }
    let error = refused(|config| config.num_key_value_heads = 4);
    assert_eq!(error, ModelError::KeyValueHeadsDoNotDivide { heads: 6, key_value_heads: 4 });
}

#[test]
fn a_width_of_heads_that_is_given_need_not_share_the_models() {
    let config = LlamaConfig { head_dim: Some(64), num_attention_heads: 7, ..demo() };
    let config = LlamaConfig { num_key_value_heads: 7, ..config };
    let model = config.validate().expect("given");
    assert_eq!((model.query_width(), model.key_value_width()), (448, 448));
    let odd = LlamaConfig { head_dim: None, num_attention_heads: 64, ..demo() };
    let odd = LlamaConfig { num_key_value_heads: 64, ..odd };
    assert_eq!(odd.validate(), Err(ModelError::OddHead(3)));
}

#[test]
fn figures_that_are_none_are_refused_by_key() {
    type Set = fn(&mut LlamaConfig, f64);
    let table: [(&str, Set); 3] = [
        ("rms_norm_eps", |c, v| c.rms_norm_eps = v),
        ("rope_theta", |c, v| c.rope_theta = v),
        ("initializer_range", |c, v| c.initializer_range = v),
    ];
    for (key, set) in table {
        for value in [0.0, -0.0, -1e-9, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let error = refused(|config| set(config, value));
            assert!(error.to_string().starts_with(&format!("{key} is ")), "{error}");
        }
    }
}

prop_compose! {
    fn any_config()(
        [hidden_size, intermediate_size, vocab_size] in prop::array::uniform3(0_u32..300),
        [layers, heads, key_value] in prop::array::uniform3(0_u32..9),
        head_dim in prop::option::of(0_u32..70),
        tied in any::<bool>(),
    ) -> LlamaConfig {
        LlamaConfig {
            hidden_size,
            intermediate_size,
            num_hidden_layers: layers,
            num_attention_heads: heads,
            num_key_value_heads: key_value,
            head_dim,
            vocab_size,
            tie_word_embeddings: tied,
            ..demo()
        }
    }
}

proptest! {
    #[test]
    fn what_is_accepted_once_is_accepted_again_as_it_is(config in any_config()) {
        let Ok(model) = config.validate() else { return Ok(()) };
        let again = model.config().validate();
        prop_assert_eq!(again.as_ref(), Ok(&model));
        let text = serde_json::to_string(model.config()).expect("no map keys");
        let read: LlamaConfig = serde_json::from_str(&text).expect("a configuration");
        prop_assert_eq!(read.validate(), Ok(model));
    }

    #[test]
    fn parameters_and_flops_are_those_of_the_tensors(
        config in any_config(),
        sequence_length in 1_u32..5000,
    ) {
        let Ok(model) = config.validate() else { return Ok(()) };
        let tensors = model.tensors();
        let sum = |with: fn(&str) -> bool| {
            let own = tensors.iter().filter(|tensor| with(&tensor.name));
            own.map(TensorSpec::numel).sum::<u64>()
        };
        prop_assert_eq!(sum(|_| true), model.parameters());
        let layers = u64::from(config.num_hidden_layers);
        prop_assert_eq!(sum(|name| name.contains("layers.")), layers * model.layer_parameters());
        // Every name once, and every matrix as wide as what it reads.
        let names: std::collections::BTreeSet<_> = tensors.iter().map(|it| &it.name).collect();
        prop_assert_eq!(names.len(), tensors.len());
        // What multiplies, and attention's two products of s × s by each head.
        let head = u64::from(config.vocab_size) * u64::from(config.hidden_size);
        let multiplied = sum(|name| name.contains("layers.")) + head;
        let attention = 12 * layers * model.query_width() * u64::from(sequence_length);
        let expected = 6.0 * multiplied as f64 + attention as f64;
        let flops = model.flops_per_token(sequence_length);
        prop_assert!((flops / expected - 1.0).abs() < 1e-12, "{flops} of {expected}");
    }

    #[test]
    fn no_configuration_makes_the_check_panic(
        sizes in prop::array::uniform7(any::<u32>()),
        head_dim in prop::option::of(any::<u32>()),
        figures in prop::array::uniform3(prop::num::f64::ANY),
    ) {
        let [hidden, wide, layers, heads, key_value, vocabulary, positions] = sizes;
        let [rms_norm_eps, rope_theta, initializer_range] = figures;
        // Half of the sizes fall within the bounds, so that what follows them is reached.
        for shift in [0, 12, 20] {
            let config = LlamaConfig {
                hidden_size: hidden >> shift,
                intermediate_size: wide >> shift,
                num_hidden_layers: layers >> shift,
                num_attention_heads: heads >> shift,
                num_key_value_heads: key_value >> shift,
                head_dim: head_dim.map(|width| width >> shift),
                vocab_size: vocabulary >> shift,
                max_position_embeddings: positions >> shift,
                rms_norm_eps,
                rope_theta,
                initializer_range,
                tie_word_embeddings: hidden % 2 == 0,
            };
            if let Ok(model) = config.validate() {
                prop_assert!(model.parameters() <= 1 << 51);
            }
        }
    }
}
