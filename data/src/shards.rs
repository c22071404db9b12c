//! Writes the tokens of one split as shards of bounded size.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::Split;
use crate::index::{ShardIndex, SplitIndex, shard_name};

const BUFFER_BYTES: usize = 1 << 20;

/// How tokens stand in a shard: little-endian, as narrow as the vocabulary allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Width {
    /// u16.
    Two,
    /// u32.
    Four,
}

impl Width {
    pub(crate) fn of(vocab_size: u32) -> Self {
        if vocab_size <= 1 << 16 { Self::Two } else { Self::Four }
    }

    pub(crate) fn bytes(self) -> u8 {
        match self {
            Self::Two => 2,
            Self::Four => 4,
        }
    }
}

/// The shards of one split, the last one open.
pub(crate) struct ShardWriter {
    folder: PathBuf,
    split: Split,
    width: Width,
    shard_tokens: u64,
    open: Option<OpenShard>,
    index: SplitIndex,
    scratch: Vec<u8>,
}

struct OpenShard {
    file: BufWriter<File>,
    hasher: blake3::Hasher,
    tokens: u64,
}

impl ShardWriter {
    pub(crate) fn new(folder: &Path, split: Split, width: Width, shard_tokens: u64) -> Self {
        let (folder, index, scratch) = (folder.to_owned(), SplitIndex::default(), Vec::new());
        Self { folder, split, width, shard_tokens, open: None, index, scratch }
    }

    pub(crate) fn documents(&self) -> u64 {
        self.index.documents
    }

    pub(crate) fn tokens(&self) -> u64 {
        self.index.tokens
    }

    /// Appends a document, which may go on in the next shard.
    pub(crate) fn write_document(&mut self, mut tokens: &[u32]) -> io::Result<()> {
        self.index.documents += 1;
        self.index.tokens += tokens.len() as u64;
        while !tokens.is_empty() {
            let mut shard = match self.open.take() {
                Some(shard) => shard,
                None => self.next_shard()?,
            };
            let room = self.shard_tokens - shard.tokens;
            let fits = usize::try_from(room).map_or(tokens.len(), |room| room.min(tokens.len()));
            let (now, later) = tokens.split_at(fits);
            shard.write(now, self.width, &mut self.scratch)?;
            if shard.tokens == self.shard_tokens {
                self.index.shards.push(shard.finish()?);
            } else {
                self.open = Some(shard);
            }
            tokens = later;
        }
        Ok(())
    }

    /// Makes all shards durable.
    pub(crate) fn finish(mut self) -> io::Result<SplitIndex> {
        if let Some(shard) = self.open.take() {
            self.index.shards.push(shard.finish()?);
        }
        Ok(self.index)
    }

    fn next_shard(&self) -> io::Result<OpenShard> {
        let path = self.folder.join(shard_name(self.split, self.index.shards.len()));
        let file = BufWriter::with_capacity(BUFFER_BYTES, File::create_new(path)?);
        Ok(OpenShard { file, hasher: blake3::Hasher::new(), tokens: 0 })
    }
}

impl OpenShard {
    fn write(&mut self, tokens: &[u32], width: Width, scratch: &mut Vec<u8>) -> io::Result<()> {
        scratch.clear();
        match width {
            // Truncates nothing: the vocabulary fits the width.
            #[allow(clippy::cast_possible_truncation)]
            Width::Two => scratch.extend(tokens.iter().flat_map(|&id| (id as u16).to_le_bytes())),
            Width::Four => scratch.extend(tokens.iter().flat_map(|id| id.to_le_bytes())),
        }
        self.tokens += tokens.len() as u64;
        self.hasher.update(scratch);
        self.file.write_all(scratch)
    }

    fn finish(mut self) -> io::Result<ShardIndex> {
        self.file.flush()?;
        self.file.get_ref().sync_all()?;
        Ok(ShardIndex { tokens: self.tokens, blake3: self.hasher.finalize().into() })
    }
}

#[cfg(test)]
mod tests;
