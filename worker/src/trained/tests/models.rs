//! A model that was trained, exported and opened again is the same model.

use data::Tokenizer;
use plan::model::LlamaConfig;

use super::super::*;
use crate::checkpoint::{self, CheckpointError, Manifest};
use crate::hugging_face::{write_companions, write_parameters};
use crate::init;

/// A model of bytes, with grouped heads and tensors that do not end with a chunk.
pub(super) fn config(tied: bool) -> LlamaConfig {
    LlamaConfig {
        hidden_size: 24,
        intermediate_size: 40,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: Some(8),
        vocab_size: 257,
        max_position_embeddings: 16,
        rms_norm_eps: 1e-5,
        rope_theta: 500.0,
        tie_word_embeddings: tied,
        initializer_range: 0.2,
    }
}

/// Its parameters in the order of the flat buffer.
pub(super) fn theta(tied: bool) -> (Layout, Vec<f32>) {
    let layout = Layout::new(config(tied).validate().unwrap().tensors());
    let mut theta = vec![0.0; layout.numel()];
    init::fill_all(3, &layout, 0.2, &mut theta);
    (layout, theta)
}

/// Writes a checkpoint of round 4 by one rank.
pub(super) fn checkpoint(root: &Path, tied: bool) {
    let (layout, theta) = theta(tied);
    let pieces = layout.canonical().unwrap();
    let all = 0..pieces.pieces();
    let mut canonical = vec![0.0; theta.len()];
    pieces.gather(all.clone(), &theta, &mut canonical);
    let other = vec![9.0; theta.len()];
    let of = |part| {
        Ok::<_, CheckpointError>(if part == Part::Theta {
            canonical.clone()
        } else {
            other.clone()
        })
    };
    let part = checkpoint::write_part(root, (4, 0), (all, theta.len()), of).unwrap();
    let manifest = Manifest {
        format: checkpoint::FORMAT,
        run: "run".into(),
        island: "a".into(),
        seed: 3,
        round: 4,
        tokens: 100,
        samples: 0,
        theta_hash: None,
        optimizer_steps: 4,
        model: config(tied),
        layout: None,
        parts: vec![part],
    };
    let folder = checkpoint::folder_of(root, 4);
    write_companions(&folder, &config(tied), &Tokenizer::Byte).unwrap();
    checkpoint::commit(root, &manifest).unwrap();
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

#[test]
fn a_checkpoint_and_what_is_exported_from_it_are_one_model_bit_by_bit() {
    for tied in [false, true] {
        let root = tempfile::tempdir().unwrap();
        checkpoint(&root.path().join("a"), tied);
        let trained = Trained::open(root.path()).unwrap();
        let (layout, theta) = theta(tied);
        assert_eq!((&trained.config, &trained.layout), (&config(tied), &layout));
        assert!(bits(&trained.theta) == bits(&theta), "tied: {tied}");
        let out = root.path().join("exported");
        std::fs::create_dir(&out).unwrap();
        write_companions(&out, &trained.config, &trained.tokenizer).unwrap();
        write_parameters(&out, &trained.layout, &trained.theta, 20_000).unwrap();
        let again = Trained::open(&out).unwrap();
        assert_eq!(again.config, config(tied));
        assert!(bits(&again.theta) == bits(&theta), "tied: {tied}");
        let files = |trained: &Trained| trained.tokenizer.hugging_face_files();
        assert_eq!(files(&again), files(&trained));
    }
}

#[test]
fn a_replica_computes_with_the_model_s_values_and_not_with_new_ones() {
    let root = tempfile::tempdir().unwrap();
    checkpoint(root.path(), true);
    let trained = Trained::open(root.path()).unwrap();
    let mut replica = trained.replica().unwrap();
    assert_eq!(replica.theta().unwrap(), theta(true).1);
    let other = Trained { theta: vec![0.0; trained.theta.len()], ..trained };
    let logits = other.replica().unwrap().logits(&[1, 2], 1).unwrap();
    assert_eq!(logits, vec![0.0; 257], "a model of zeros has no opinion");
    assert!(replica.logits(&[1, 2], 1).unwrap() != logits);
}

#[test]
fn a_model_without_its_tokenizer_or_of_another_kind_is_refused_in_a_sentence() {
    let root = tempfile::tempdir().unwrap();
    checkpoint(root.path(), true);
    let folder = checkpoint::folder_of(root.path(), 4);
    let said = |path: &Path| format!("{:#}", Trained::open(path).unwrap_err());
    fs::remove_file(folder.join("tokenizer.json")).unwrap();
    let text = said(root.path());
    assert!(text.starts_with("failed to read the model's tokenizer"), "{text}");
    let out = root.path().join("out");
    fs::create_dir(&out).unwrap();
    write_companions(&out, &config(true), &Tokenizer::Byte).unwrap();
    let text = said(&out);
    assert!(text.contains("failed to find parameters in"), "{text}");
    let edits = [
        ("\"llama\"", "\"gpt2\"", "failed to take the model in"),
        ("\"attention_bias\": false", "\"attention_bias\": true", "attention_bias"),
        ("\"num_attention_heads\": 4", "\"num_attention_heads\": 0", "failed to"),
    ];
    let whole = fs::read_to_string(out.join("config.json")).unwrap();
    for (from, to, part) in edits {
        assert!(whole.contains(from), "{from}");
        fs::write(out.join("config.json"), whole.replace(from, to)).unwrap();
        let text = said(&out);
        assert!(text.contains(part), "{to}: {text}");
    }
}

#[test]
fn a_checkpoint_of_a_model_that_makes_no_sense_is_refused_before_it_is_read() {
    let root = tempfile::tempdir().unwrap();
    checkpoint(root.path(), true);
    let path = checkpoint::folder_of(root.path(), 4).join("manifest.json");
    let whole = fs::read_to_string(&path).unwrap();
    for (from, to) in [
        ("\"hidden_size\": 24", "\"hidden_size\": 0"),
        ("\"vocab_size\": 257", "\"vocab_size\": 4294967295"),
        ("\"num_key_value_heads\": 2", "\"num_key_value_heads\": 3"),
    ] {
        assert!(whole.contains(from), "{from}");
        fs::write(&path, whole.replace(from, to)).unwrap();
        let text = format!("{:#}", Trained::open(root.path()).unwrap_err());
        assert!(text.starts_with("failed to accept the model"), "{to}: {text}");
    }
    // Of a model of other shapes the files have too few values.
    fs::write(&path, whole.replace("\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3"))
        .unwrap();
    let text = format!("{:#}", Trained::open(root.path()).unwrap_err());
    assert!(text.contains("failed to use the checkpoint file"), "{text}");
}
