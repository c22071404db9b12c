//! `index.json`: what a corpus folder holds, and how its files are named.

use serde::{Deserialize, Serialize};

/// The version that this code writes and reads.
pub(crate) const FORMAT: u32 = 1;
/// Name of the index within its folder. It is written last.
pub(crate) const FILE_NAME: &str = "index.json";
/// Name of a Hugging Face tokenizer's copy within the folder.
pub(crate) const TOKENIZER_NAME: &str = "tokenizer.json";
/// A larger index is refused.
pub(crate) const INDEX_BYTES_MAX: u64 = 64 << 20;

/// The whole index.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Index {
    /// [`FORMAT`].
    pub(crate) format: u32,
    pub(crate) tokenizer: TokenizerIndex,
    /// Bytes of a token: 2 (u16) or 4 (u32), little-endian.
    pub(crate) token_bytes: u8,
    /// Tokens of every shard but a split's last.
    pub(crate) shard_tokens: u64,
    pub(crate) train: SplitIndex,
    pub(crate) validation: SplitIndex,
    pub(crate) source: SourceIndex,
}

/// The tokenizer that made the tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct TokenizerIndex {
    pub(crate) kind: TokenizerKind,
    pub(crate) vocab_size: u32,
    pub(crate) end_token: u32,
    #[serde(with = "hex")]
    pub(crate) blake3: [u8; 32],
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum TokenizerKind {
    Byte,
    HuggingFace,
}

/// Training or validation tokens.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct SplitIndex {
    pub(crate) tokens: u64,
    pub(crate) documents: u64,
    pub(crate) shards: Vec<ShardIndex>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct ShardIndex {
    pub(crate) tokens: u64,
    #[serde(with = "hex")]
    pub(crate) blake3: [u8; 32],
}

/// The inputs that the tokens were made from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct SourceIndex {
    /// Files read, binary ones not counted.
    pub(crate) files: u64,
    /// Bytes of text that became tokens.
    pub(crate) text_bytes: u64,
    /// Files that were skipped for being binary.
    pub(crate) binary_files: u64,
    /// Lines of `.jsonl` files that were skipped.
    pub(crate) malformed_lines: u64,
    /// Byte sequences that were left out for not being UTF-8.
    pub(crate) invalid_utf8: u64,
}

/// Name of a split's n-th shard.
pub(crate) fn shard_name(split: crate::Split, number: usize) -> String {
    format!("{split}-{number:05}.bin")
}

/// The index as it stands in the file.
pub(crate) fn to_bytes(index: &Index) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(index).expect("an index has only string keys");
    bytes.push(b'\n');
    bytes
}

mod hex {
    //! Digests as hexadecimal text.

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(hash: &[u8; 32], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&blake3::Hash::from_bytes(*hash).to_hex())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<[u8; 32], D::Error> {
        let text = String::deserialize(from)?;
        blake3::Hash::from_hex(text).map(Into::into).map_err(D::Error::custom)
    }
}
