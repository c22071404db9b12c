//! Folders as they are found: one file or many, each kind of value, and what is wrong with them.

use std::fs;

use plan::model::LlamaConfig;
use safetensors::tensor::{Dtype, TensorView, serialize_to_file};
use tempfile::TempDir;

use super::*;

const NORM: &str = "model.norm.weight";

fn model(tied: bool) -> Llama {
    let config = LlamaConfig {
        hidden_size: 8,
        intermediate_size: 12,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        head_dim: None,
        vocab_size: 20,
        max_position_embeddings: 16,
        rms_norm_eps: 1e-5,
        rope_theta: 500.0,
        tie_word_embeddings: tied,
        initializer_range: 0.2,
    };
    config.validate().unwrap()
}

/// Multiples of an eighth between −16 and 16, which all kinds of values have.
fn theta(model: &Llama) -> Vec<f32> {
    (0..model.parameters()).map(|i| ((i * 37) % 256) as f32 / 8.0 - 16.0).collect()
}

fn bytes(kind: Dtype, values: &[f32]) -> Vec<u8> {
    let half = |value: f32| match value.to_bits() {
        0 => 0,
        bits => (bits >> 16 & 0x8000) as u16 | ((bits >> 13 & 0x3ffff) - (112 << 10)) as u16,
    };
    values
        .iter()
        .flat_map(|value| match kind {
            Dtype::F16 => half(*value).to_le_bytes().to_vec(),
            Dtype::BF16 => ((value.to_bits() >> 16) as u16).to_le_bytes().to_vec(),
            Dtype::F64 => f64::from(*value).to_le_bytes().to_vec(),
            _ => value.to_le_bytes().to_vec(),
        })
        .collect()
}

/// The tensors of a file: name, shape, values.
type Tensors = Vec<(String, Vec<u64>, Vec<f32>)>;

fn tensors(model: &Llama) -> Tensors {
    let theta = theta(model);
    let mut left = &theta[..];
    let tensor = |tensor: TensorSpec| {
        let (own, rest) = left.split_at(tensor.numel() as usize);
        left = rest;
        (tensor.name, tensor.shape, own.to_vec())
    };
    model.tensors().into_iter().map(tensor).collect()
}

fn write(path: &Path, kind: Dtype, tensors: &Tensors) {
    let data: Vec<Vec<u8>> = tensors.iter().map(|(.., values)| bytes(kind, values)).collect();
    let views = tensors.iter().zip(&data).map(|((name, shape, _), data)| {
        let shape = shape.iter().map(|length| *length as usize).collect();
        (name, TensorView::new(kind, shape, data).unwrap())
    });
    serialize_to_file(views, None, path).unwrap();
}

/// A folder with one file of the model's tensors after `change`.
fn single(model: &Llama, kind: Dtype, change: impl FnOnce(&mut Tensors)) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut tensors = tensors(model);
    change(&mut tensors);
    write(&folder.path().join(SINGLE), kind, &tensors);
    folder
}

fn read(folder: &Folder, model: &Llama) -> Result<Vec<f32>, ImportError> {
    let mut all = Vec::new();
    for (index, tensor) in model.tensors().iter().enumerate() {
        let mut values = vec![0.0; tensor.numel() as usize];
        let rows = if tensor.shape.len() == 1 { 1 } else { tensor.shape[0] };
        folder.rows(index, 0..rows, &mut values)?;
        all.extend(values);
    }
    Ok(all)
}

fn refusal(folder: &Path, model: &Llama) -> String {
    Folder::open(folder, model).unwrap_err().to_string()
}

#[test]
fn each_kind_of_value_reads_as_the_same_numbers_tied_or_not() {
    for model in [model(false), model(true)] {
        for kind in [Dtype::F64, Dtype::F32, Dtype::F16, Dtype::BF16] {
            let folder = single(&model, kind, |_| {});
            let found = Folder::open(folder.path(), &model).unwrap();
            assert_eq!(read(&found, &model).unwrap(), theta(&model), "{kind:?}");
        }
    }
}

#[test]
fn some_rows_are_read_without_the_others() {
    let model = model(true);
    let folder = single(&model, Dtype::BF16, |_| {});
    let found = Folder::open(folder.path(), &model).unwrap();
    let mut values = [0.0; 16];
    found.rows(0, 3..5, &mut values).unwrap();
    assert_eq!(values, theta(&model)[24..40]);
}

#[test]
fn buffers_that_older_versions_stored_are_passed_over() {
    let model = model(false);
    let folder = single(&model, Dtype::F32, |tensors| {
        let buffer = "model.layers.0.self_attn.rotary_emb.inv_freq";
        tensors.push((buffer.into(), vec![2], vec![1.0, 0.1]));
    });
    let found = Folder::open(folder.path(), &model).unwrap();
    assert_eq!(read(&found, &model).unwrap(), theta(&model));
}

/// As transformers 5 does it: it ties to whichever is stored, and where both are, only if they are
/// the same.
#[test]
fn a_head_that_is_the_embedding_may_be_stored_in_its_place_or_beside_it_but_not_differ() {
    let tied = model(true);
    let head = |tensors: &Tensors| (HEAD.to_string(), tensors[0].1.clone(), tensors[0].2.clone());
    let both = single(&tied, Dtype::F32, |tensors| tensors.push(head(tensors)));
    let alone = single(&tied, Dtype::BF16, |tensors| tensors[0].0 = HEAD.into());
    for folder in [both, alone] {
        let found = Folder::open(folder.path(), &tied).unwrap();
        assert_eq!(read(&found, &tied).unwrap(), theta(&tied));
    }
    let other = single(&tied, Dtype::F32, |tensors| {
        let mut head = head(tensors);
        head.2[159] += 1.0;
        tensors.push(head);
    });
    let text = refusal(other.path(), &tied);
    assert!(text.contains("set tie_word_embeddings to false in config.json"), "{text}");
    // As the sentence says.
    let found = Folder::open(other.path(), &model(false)).unwrap();
    let values = read(&found, &model(false)).unwrap();
    assert_eq!(values.last(), Some(&(theta(&tied)[159] + 1.0)));
    let narrow = single(&tied, Dtype::F32, |tensors| {
        tensors.push((HEAD.into(), vec![8, 20], tensors[0].2.clone()));
    });
    let text = refusal(narrow.path(), &tied);
    assert!(text.contains("lm_head.weight: its shape is [8, 20]"), "{text}");
}

#[test]
fn a_model_that_was_saved_without_its_head_has_shorter_names() {
    let bare = |tensors: &mut Tensors| {
        for (name, ..) in tensors {
            *name = name.strip_prefix(PREFIX).unwrap_or(name).to_string();
        }
    };
    for model in [model(true), model(false)] {
        let folder = single(&model, Dtype::F32, bare);
        let found = Folder::open(folder.path(), &model).unwrap();
        assert_eq!(read(&found, &model).unwrap(), theta(&model));
    }
    let without = single(&model(true), Dtype::F32, bare);
    let text = refusal(without.path(), &model(false));
    assert!(text.contains("failed to find the tensor lm_head.weight"), "{text}");
}

/// A folder of two files which both have the norm, the second with these values; the index says
/// which counts.
fn sharded(model: &Llama, norm_in: &str, second_norm: &[f32]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let mut first = tensors(model);
    let mut second = vec![first.pop().unwrap()];
    second.extend(first.iter().filter(|(name, ..)| name == NORM).cloned());
    second[1].2 = second_norm.to_vec();
    let mut map: BTreeMap<String, &str> = BTreeMap::new();
    map.extend(first.iter().map(|(name, ..)| (name.clone(), "one.safetensors")));
    map.extend(second.iter().map(|(name, ..)| (name.clone(), "two.safetensors")));
    map.insert(NORM.into(), norm_in);
    write(&folder.path().join("one.safetensors"), Dtype::F32, &first);
    write(&folder.path().join("two.safetensors"), Dtype::F32, &second);
    let index = serde_json::json!({ "weight_map": map });
    fs::write(folder.path().join(INDEX), index.to_string()).unwrap();
    folder
}

#[test]
fn a_tensor_is_read_from_the_file_that_the_index_names_and_no_other() {
    let model = model(false);
    let norm = model.tensors().iter().position(|tensor| tensor.name == NORM).unwrap();
    let (own, other) = (tensors(&model)[norm].2.clone(), vec![0.5; 8]);
    for (file, second) in [("two.safetensors", &other), ("one.safetensors", &own)] {
        let folder = sharded(&model, file, second);
        let found = Folder::open(folder.path(), &model).unwrap();
        let mut values = [0.0; 8];
        found.rows(norm, 0..1, &mut values).unwrap();
        assert_eq!(values[..], *second, "{file}");
    }
    // transformers would read the second.
    let folder = sharded(&model, "one.safetensors", &other);
    let text = refusal(folder.path(), &model);
    assert!(text.contains(NORM) && text.contains("two.safetensors has other values"), "{text}");
    let folder = sharded(&model, "one.safetensors", &own);
    let index = fs::read_to_string(folder.path().join(INDEX)).unwrap();
    let moved = index.replace(r#""lm_head.weight":"two"#, r#""lm_head.weight":"one"#);
    assert_ne!(moved, index);
    fs::write(folder.path().join(INDEX), moved).unwrap();
    let text = refusal(folder.path(), &model);
    assert!(
        text.contains("one.safetensors: model.safetensors.index.json says that lm_head"),
        "{text}"
    );
}

#[test]
fn what_is_not_the_model_is_refused_by_name_and_shape() {
    let model = model(false);
    type Change = fn(&mut Tensors);
    let cases: [(Change, &str); 4] = [
        (|tensors| tensors.retain(|(name, ..)| name != NORM), "find the tensor model.norm.weight"),
        (
            |tensors| tensors[0].1 = vec![8, 20],
            "model.embed_tokens.weight: its shape is [8, 20], but config.json says [20, 8]",
        ),
        (
            |tensors| tensors.push(("model.norm.bias".into(), vec![8], vec![0.0; 8])),
            "the model of config.json has no tensor model.norm.bias of shape [8]",
        ),
        (Vec::clear, "failed to find the tensor model.embed_tokens.weight"),
    ];
    for (change, part) in cases {
        let folder = single(&model, Dtype::F32, change);
        let text = refusal(folder.path(), &model);
        assert!(text.contains(part), "{text}");
    }
    let folder = single(&model, Dtype::F32, |_| {});
    let more = folder.path().join("whole-numbers");
    fs::create_dir(&more).unwrap();
    let bytes = fs::read(folder.path().join(SINGLE)).unwrap();
    fs::write(more.join(SINGLE), replaced(&bytes, b"F32", b"I32")).unwrap();
    let text = refusal(&more, &model);
    assert!(text.contains("it is stored as I32; BF16, F16, F32 and F64 are read"), "{text}");
}

/// Every `from` in the header replaced by a `to` of the same length.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for at in 0..bytes.len() - from.len() {
        if bytes[at..].starts_with(from) {
            bytes[at..at + to.len()].copy_from_slice(to);
        }
    }
    bytes
}

#[test]
fn damaged_files_are_refused_before_anything_is_computed() {
    let model = model(true);
    let folder = single(&model, Dtype::F32, |_| {});
    let path = folder.path().join(SINGLE);
    let whole = fs::read(&path).unwrap();
    let cases: [(&[u8], &str); 5] = [
        (&whole[..whole.len() - 4], "the file is cut"),
        (&whole[..100], "a header of"),
        (&whole[..5], "too few for a safetensors file"),
        (&[0xff; 64], "a header of"),
        (&[2, 0, 0, 0, 0, 0, 0, 0, b'[', b']'], "failed to understand"),
    ];
    for (bytes, part) in cases {
        fs::write(&path, bytes).unwrap();
        let text = refusal(folder.path(), &model);
        assert!(text.contains(part) && text.contains(SINGLE), "{text}");
    }
}

#[test]
fn an_index_has_to_name_files_that_are_there() {
    let model = model(true);
    let folder = tempfile::tempdir().unwrap();
    let text = refusal(folder.path(), &model);
    assert!(text.contains("it has neither model.safetensors nor"), "{text}");
    let cases = [
        (r#"{"weight_map": {"a": "model-00001-of-00001.safetensors"}}"#, "failed to open"),
        (r#"{"weight_map": {"a": "../other.safetensors"}}"#, "no file of its folder"),
        ("{}", "missing field `weight_map`"),
    ];
    for (index, part) in cases {
        fs::write(folder.path().join(INDEX), index).unwrap();
        let text = refusal(folder.path(), &model);
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn values_that_are_not_finite_are_refused_where_they_are_read() {
    let model = model(true);
    for value in [f32::NAN, f32::INFINITY] {
        let folder = single(&model, Dtype::F32, |tensors| tensors[3].2[9] = value);
        let name = &model.tensors()[3].name;
        let error = read(&Folder::open(folder.path(), &model).unwrap(), &model).unwrap_err();
        assert!(matches!(&error, ImportError::NotFinite { name: found } if found == name));
    }
}
