//! What is written is what transformers reads.

use std::collections::BTreeSet;

use safetensors::SafeTensors;

use super::*;

mod files;

fn config() -> LlamaConfig {
    LlamaConfig {
        hidden_size: 8,
        intermediate_size: 12,
        num_hidden_layers: 3,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: None,
        vocab_size: 257,
        max_position_embeddings: 16,
        rms_norm_eps: 1e-5,
        rope_theta: 500.0,
        tie_word_embeddings: true,
        initializer_range: 0.2,
    }
}

fn layout() -> Layout {
    Layout::new(config().validate().unwrap().tensors())
}

fn theta() -> Vec<f32> {
    (0..layout().numel()).map(|i| i as f32 * 0.5 - 3.0).collect()
}

/// Reads a folder's tensors as transformers does: through the index where there is one.
fn read(folder: &Path) -> HashMap<String, Vec<f32>> {
    let files: BTreeSet<String> = match fs::read(folder.join("model.safetensors.index.json")) {
        Ok(bytes) => {
            let index: Value = serde_json::from_slice(&bytes).unwrap();
            let map = index["weight_map"].as_object().unwrap();
            map.values().map(|name| name.as_str().unwrap().to_string()).collect()
        }
        Err(_) => BTreeSet::from(["model.safetensors".to_string()]),
    };
    let mut found = HashMap::new();
    for file in files {
        let bytes = fs::read(folder.join(file)).unwrap();
        for (name, view) in SafeTensors::deserialize(&bytes).unwrap().tensors() {
            let (values, _) = view.data().as_chunks::<4>();
            let values = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
            assert!(found.insert(name, values).is_none());
        }
    }
    found
}

#[test]
fn what_is_exported_reads_back_whole_in_one_file_or_many() {
    for (bytes_max, files) in [(u64::MAX, 1), (12_000, 2), (1, layout().tensors().len())] {
        let folder = tempfile::tempdir().unwrap();
        write_parameters(folder.path(), &layout(), &theta(), bytes_max).unwrap();
        let found = read(folder.path());
        for (tensor, range) in layout().ranges() {
            assert_eq!(found[&tensor.name], theta()[range], "{}", tensor.name);
        }
        assert_eq!(found.len(), layout().tensors().len());
        let written = fs::read_dir(folder.path()).unwrap().count();
        assert_eq!(written, if files == 1 { 1 } else { files + 1 });
    }
}

#[test]
fn what_was_exported_comes_back_bit_by_bit_from_one_file_or_many() {
    let model = config().validate().unwrap();
    let mut theta = theta();
    (theta[0], theta[1]) = (1e-42, -0.0);
    for shard_bytes in [u64::MAX, 12_000, 1] {
        let folder = tempfile::tempdir().unwrap();
        write_parameters(folder.path(), &layout(), &theta, shard_bytes).unwrap();
        let found = Folder::open(folder.path(), &model).unwrap();
        for (at, (tensor, range)) in layout().ranges().enumerate() {
            let mut values = vec![0.0; range.len()];
            let rows = if tensor.shape.len() == 1 { 1 } else { tensor.shape[0] };
            found.rows(at, 0..rows, &mut values).unwrap();
            let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&values), bits(&theta[range]), "{}", tensor.name);
        }
    }
}

#[test]
fn the_configuration_says_all_that_the_computation_depends_on() {
    let folder = tempfile::tempdir().unwrap();
    write_companions(folder.path(), &config(), &Tokenizer::Byte).unwrap();
    let bytes = fs::read(folder.path().join("config.json")).unwrap();
    let written: Value = serde_json::from_slice(&bytes).unwrap();
    let own = serde_json::to_value(config()).unwrap();
    for (key, value) in own.as_object().unwrap() {
        assert_eq!(&written[key], value, "{key}");
    }
    assert_eq!(written["head_dim"], 4);
    assert_eq!(written["eos_token_id"], 256);
    assert!(folder.path().join("tokenizer.json").is_file());
}

#[test]
fn a_folder_with_something_in_it_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    create_empty(&folder.path().join("new")).unwrap();
    let error = create_empty(folder.path()).unwrap_err().to_string();
    assert!(error.contains("is not empty"), "{error}");
}

#[test]
fn parameters_of_another_model_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let result = write_parameters(folder.path(), &layout(), &theta()[1..], u64::MAX);
    assert!(matches!(result, Err(ExportError::Parameters { .. })));
}
