//! Tests that tokens stand in shards as the index says.

use std::fs;

use proptest::prelude::*;

use super::*;

/// The tokens of a shard's file.
fn stored(path: &Path, width: Width) -> Vec<u32> {
    let bytes = fs::read(path).unwrap();
    match width {
        Width::Two => {
            let words = bytes.as_chunks::<2>().0.iter();
            words.map(|word| u32::from(u16::from_le_bytes(*word))).collect()
        }
        Width::Four => {
            bytes.as_chunks::<4>().0.iter().map(|word| u32::from_le_bytes(*word)).collect()
        }
    }
}

fn written(documents: &[Vec<u32>], width: Width, shard_tokens: u64) -> (Vec<Vec<u32>>, SplitIndex) {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = ShardWriter::new(folder.path(), Split::Train, width, shard_tokens);
    for document in documents {
        writer.write_document(document).unwrap();
    }
    let index = writer.finish().unwrap();
    let mut shards = Vec::new();
    for (number, shard) in index.shards.iter().enumerate() {
        let path = folder.path().join(format!("train-{number:05}.bin"));
        assert_eq!(blake3::hash(&fs::read(&path).unwrap()), shard.blake3);
        shards.push(stored(&path, width));
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), shards.len());
    (shards, index)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn shards_are_full_but_for_the_last_and_have_all_tokens_in_order(
        documents in proptest::collection::vec(
            proptest::collection::vec(0_u32..=65_535, 0..20), 0..8,
        ),
        shard_tokens in 1_u64..12, wide: bool,
    ) {
        let width = if wide { Width::Four } else { Width::Two };
        let (shards, index) = written(&documents, width, shard_tokens);
        prop_assert_eq!(shards.concat(), documents.concat());
        prop_assert_eq!(index.documents, documents.len() as u64);
        prop_assert_eq!(index.tokens, documents.concat().len() as u64);
        for (at, (shard, told)) in shards.iter().zip(&index.shards).enumerate() {
            prop_assert_eq!(shard.len() as u64, told.tokens);
            let last = at + 1 == shards.len();
            prop_assert!(told.tokens == shard_tokens || (last && told.tokens > 0));
        }
    }
}

#[test]
fn a_vocabulary_that_fits_two_bytes_takes_two() {
    for (vocabulary, bytes) in [(1, 2), (257, 2), (65_535, 2), (65_536, 2), (65_537, 4)] {
        assert_eq!(Width::of(vocabulary).bytes(), bytes, "{vocabulary}");
    }
    assert_eq!(Width::of(u32::MAX).bytes(), 4);
    // The highest id of either.
    assert_eq!(written(&[vec![65_535]], Width::of(65_536), 9).0, [[65_535]]);
    assert_eq!(written(&[vec![65_536, u32::MAX]], Width::Four, 9).0, [[65_536, u32::MAX]]);
}

#[test]
fn what_stands_in_the_way_of_a_shard_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let taken = folder.path().join("validation-00001.bin");
    fs::write(&taken, "other").unwrap();
    let mut writer = ShardWriter::new(folder.path(), Split::Validation, Width::Two, 2);
    writer.write_document(&[1, 2]).unwrap();
    let error = writer.write_document(&[3]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
    assert_eq!(fs::read(&taken).unwrap(), b"other");
}
