//! Checkpoints as the ranks wrote them, read as far as whoever takes a run up has to know them.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// The file that only a complete checkpoint has: the worker writes it last.
pub(super) const MANIFEST: &str = "manifest.json";
/// More than any manifest has.
const MANIFEST_BYTES_MAX: u64 = 64 << 20;

/// The parts of a checkpoint's manifest that are needed here.
#[derive(Debug, Deserialize)]
struct Manifest {
    run: String,
    round: u64,
    tokens: u64,
    #[serde(default)]
    samples: u64,
    parts: Vec<PartEntry>,
}

#[derive(Debug, Deserialize)]
struct PartEntry {
    file: String,
    bytes: u64,
    blake3: String,
}

/// A checkpoint whose manifest and files are there.
#[derive(Debug)]
pub(super) struct Kept {
    /// Its folder.
    pub(super) folder: PathBuf,
    /// The round that it resumes at.
    pub(super) round: u64,
    /// Tokens of the run up to it.
    pub(super) tokens: u64,
    /// Samples of the run up to it; 0 where it does not say.
    pub(super) samples: u64,
    parts: Vec<PartEntry>,
}

impl Kept {
    /// Says whether every file has the content that the manifest says; they are read once.
    pub(super) fn is_whole(&self) -> bool {
        let has_content = |part: &PartEntry| {
            let mut hasher = blake3::Hasher::new();
            let read = File::open(self.folder.join(&part.file))
                .and_then(|mut file| io::copy(&mut file, &mut hasher));
            read.is_ok() && hasher.finalize().to_hex().as_str() == part.blake3
        };
        self.parts.iter().all(has_content)
    }
}

/// The checkpoints of the run `run` in an island's folder; a missing folder holds none, and a
/// checkpoint that is cut off does not count.
///
/// # Errors
/// When the folder cannot be read.
pub(super) fn all(folder: &Path, run: &str) -> io::Result<Vec<Kept>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let folders = entries.flatten().map(|entry| entry.path());
    let kept = folders.filter_map(|folder| {
        let manifest = read(&folder).filter(|manifest| manifest.run == run)?;
        let Manifest { round, tokens, samples, parts, .. } = manifest;
        Some(Kept { folder, round, tokens, samples, parts })
    });
    Ok(kept.collect())
}

fn read(folder: &Path) -> Option<Manifest> {
    folder.file_name()?.to_str()?.strip_prefix("round-")?.parse::<u64>().ok()?;
    let path = folder.join(MANIFEST);
    let size = fs::metadata(&path).ok()?.len();
    if size > MANIFEST_BYTES_MAX {
        return None;
    }
    let manifest: Manifest = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
    let is_there = |part: &PartEntry| {
        // A manifest names files beside it.
        let is_plain = Path::new(&part.file).file_name().is_some_and(|name| name == &*part.file);
        let size = fs::metadata(folder.join(&part.file)).map(|file| file.len());
        is_plain && size.is_ok_and(|size| size == part.bytes)
    };
    manifest.parts.iter().all(is_there).then_some(manifest)
}

#[cfg(test)]
mod hostile;

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Writes a checkpoint of one file; its folder.
    pub(in super::super) fn write(folder: &Path, round: u64, tokens: u64) -> PathBuf {
        let path = folder.join(format!("round-{round:08}"));
        fs::create_dir_all(&path).unwrap();
        let content = format!("values of round {round}");
        let hash = blake3::hash(content.as_bytes()).to_hex();
        fs::write(path.join("rank-00000.safetensors"), &content).unwrap();
        let manifest = serde_json::json!({
            "format": 1, "run": "r", "round": round, "tokens": tokens, "more": {},
            "parts": [{
                "file": "rank-00000.safetensors", "firstPiece": 0, "endPiece": 1,
                "bytes": content.len(), "blake3": hash.as_str(),
            }],
        });
        fs::write(path.join(MANIFEST), manifest.to_string()).unwrap();
        path
    }

    #[test]
    fn only_checkpoints_with_all_of_their_files_count_and_only_their_content_makes_them_whole() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        assert!(all(&root.join("none"), "r").unwrap().is_empty());
        write(root, 2, 200);
        let spoiled = write(root, 4, 400).join("rank-00000.safetensors");
        fs::write(spoiled, "values of round 5").unwrap();
        let cut = write(root, 6, 600).join("rank-00000.safetensors");
        fs::write(cut, "val").unwrap();
        fs::remove_file(write(root, 8, 800).join("rank-00000.safetensors")).unwrap();
        fs::write(write(root, 10, 1000).join(MANIFEST), "{\"run\"").unwrap();
        fs::rename(write(root, 12, 1200), root.join("aside")).unwrap();
        let mut found = all(root, "r").unwrap();
        found.sort_by_key(|kept| kept.round);
        let found: Vec<_> = found.iter().map(|k| (k.round, k.tokens, k.is_whole())).collect();
        assert_eq!(found, [(2, 200, true), (4, 400, false)]);
        assert!(all(root, "other").unwrap().is_empty());
    }
}
