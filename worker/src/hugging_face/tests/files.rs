//! Which file has which tensor, and what is said where a folder cannot be written.

use plan::model::TensorSpec;
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::testing::cases;

fn layout_of(rows: &[u64]) -> Layout {
    let tensor = |(index, rows): (usize, &u64)| TensorSpec {
        name: format!("t{index}"),
        shape: vec![*rows, 3],
    };
    Layout::new(rows.iter().enumerate().map(tensor).collect())
}

/// Bytes of a range of values.
fn bytes(range: &Range<usize>) -> u64 {
    (range.len() * size_of::<f32>()) as u64
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn shards_are_whole_tensors_in_order_and_as_few_as_the_limit_allows(
        rows in vec(1u64..40, 1..12),
        limit in 0u64..2_000,
    ) {
        let layout = layout_of(&rows);
        let found = shards(&layout, limit);
        let starts: Vec<usize> = layout.ranges().map(|(_, range)| range.start).collect();
        let mut end = 0;
        for (index, shard) in found.iter().enumerate() {
            prop_assert_eq!(shard.start, end, "nothing is left out or twice");
            prop_assert!(starts.contains(&shard.start), "no tensor is cut");
            let inside = starts.iter().filter(|start| shard.contains(start)).count();
            prop_assert!(inside > 0);
            prop_assert!(bytes(shard) <= limit || inside == 1, "{inside} tensors in {shard:?}");
            if let Some(next) = found.get(index + 1) {
                let following = layout.ranges().find(|(_, range)| range.start == next.start);
                let following = following.map(|(_, range)| range).unwrap();
                prop_assert!(bytes(shard) + bytes(&following) > limit, "it had room for one more");
            }
            end = shard.end;
        }
        prop_assert_eq!(end, layout.numel());
    }
}

#[test]
fn the_index_names_the_file_of_every_tensor_and_the_size_of_all() {
    let folder = tempfile::tempdir().unwrap();
    write_parameters(folder.path(), &layout(), &theta(), 12_000).unwrap();
    let index = fs::read(folder.path().join("model.safetensors.index.json")).unwrap();
    let index: Value = serde_json::from_slice(&index).unwrap();
    assert_eq!(index["metadata"]["total_size"], 4 * layout().numel());
    let map = index["weight_map"].as_object().unwrap();
    assert_eq!(map.len(), layout().tensors().len());
    for (tensor, file) in map {
        let name = file.as_str().unwrap();
        let bytes = fs::read(folder.path().join(name)).unwrap();
        let (_, metadata) = SafeTensors::read_metadata(&bytes).unwrap();
        assert!(metadata.info(tensor).is_some(), "{tensor} in {name}");
        // Without this key transformers refuses the file.
        let said = metadata.metadata().as_ref().and_then(|said| said.get("format"));
        assert_eq!(said.map(String::as_str), Some("pt"), "{name}");
    }
    let names: BTreeSet<&str> = map.values().filter_map(Value::as_str).collect();
    let expected = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];
    assert_eq!(names.into_iter().collect::<Vec<_>>(), expected);
}

#[test]
fn what_the_configuration_says_is_the_same_model_when_it_is_read_back() {
    let wide = LlamaConfig { head_dim: Some(6), tie_word_embeddings: false, ..config() };
    for written in [config(), wide] {
        let folder = tempfile::tempdir().unwrap();
        write_companions(folder.path(), &written, &Tokenizer::Byte).unwrap();
        let text = fs::read_to_string(folder.path().join("config.json")).unwrap();
        let read = pretrained::config(&text).unwrap();
        // What was derived is said.
        let head_dim = Some(written.head_dim.unwrap_or(4));
        assert_eq!(read, LlamaConfig { head_dim, ..written });
    }
}

#[test]
fn a_folder_that_describes_another_model_is_refused_by_what_differs() {
    let folder = tempfile::tempdir().unwrap();
    write_parameters(folder.path(), &layout(), &theta(), u64::MAX).unwrap();
    let said = |config: LlamaConfig| {
        Folder::open(folder.path(), &config.validate().unwrap()).unwrap_err().to_string()
    };
    let table = [
        (LlamaConfig { vocab_size: 258, ..config() }, "model.embed_tokens.weight: its shape is"),
        (LlamaConfig { intermediate_size: 13, ..config() }, "its shape is [12, 8], but"),
        (LlamaConfig { num_hidden_layers: 4, ..config() }, "model.layers.3."),
        (LlamaConfig { num_hidden_layers: 2, ..config() }, "has no tensor model.layers.2."),
        (LlamaConfig { tie_word_embeddings: false, ..config() }, "lm_head.weight"),
    ];
    for (other, part) in table {
        let said = said(other);
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[test]
fn a_shard_that_is_gone_or_cut_off_is_told_of() {
    type Damage = fn(&Path);
    let second = "model-00002-of-00002.safetensors";
    let table: [(&str, Damage, bool); 4] = [
        ("gone", |path| fs::remove_file(path).unwrap(), false),
        ("empty", |path| fs::write(path, b"").unwrap(), true),
        (
            "cut off",
            |path| {
                let bytes = fs::read(path).unwrap();
                fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
            },
            true,
        ),
        ("of another form", |path| fs::write(path, [b'x'; 100]).unwrap(), true),
    ];
    for (what, damage, is_final) in table {
        let folder = tempfile::tempdir().unwrap();
        write_parameters(folder.path(), &layout(), &theta(), 12_000).unwrap();
        damage(&folder.path().join(second));
        let error = Folder::open(folder.path(), &config().validate().unwrap()).unwrap_err();
        assert!(error.to_string().contains(second), "{what}: {error}");
        assert_eq!(error.is_final(), is_final, "{what}: {error}");
    }
}

#[test]
fn what_is_in_the_way_of_a_folder_is_named_and_may_be_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "in the way").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = create_empty(&path).unwrap_err();
        assert!(matches!(error, ExportError::Folder { .. }), "{error}");
        assert!(error.to_string().contains("file") && !error.is_final(), "{error}");
    }
    let missing = folder.path().join("missing");
    let error = write_parameters(&missing, &layout(), &theta(), u64::MAX).unwrap_err();
    assert!(matches!(error, ExportError::Write(_)) && !error.is_final(), "{error}");
    let error = write_companions(&missing, &config(), &Tokenizer::Byte).unwrap_err();
    assert!(matches!(error, ExportError::Write(_)), "{error}");
    let full = ExportError::NotEmpty { path: "full".into() };
    let misfit = ExportError::Parameters { found: 1, expected: 2 };
    assert!(full.is_final() && misfit.is_final(), "they come again");
}
