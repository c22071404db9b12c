//! One rank's file of a checkpoint: safetensors with four flat tensors over the same pieces.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView, serialize};
use serde::{Deserialize, Serialize};
use sparseloco::layout::Layout;

use super::{CheckpointError, folder_of, write_atomically};

/// What a checkpoint holds, each as one flat f32 tensor per file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Parameters at the start of the round.
    Theta,
    /// Error feedback.
    Error,
    /// AdamW's first moment.
    Moment1,
    /// AdamW's second moment.
    Moment2,
}

impl Part {
    const ALL: [Part; 4] = [Part::Theta, Part::Error, Part::Moment1, Part::Moment2];

    fn name(self) -> &'static str {
        match self {
            Part::Theta => "theta",
            Part::Error => "error",
            Part::Moment1 => "moment1",
            Part::Moment2 => "moment2",
        }
    }
}

/// One file, as the manifest lists it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct PartEntry {
    /// Name within the folder.
    pub file: String,
    /// First piece that it holds.
    pub first_piece: u32,
    /// One past the last.
    pub end_piece: u32,
    /// Its size.
    pub bytes: u64,
    /// Its blake3, hexadecimal.
    pub blake3: String,
}

/// Writes a rank's file: `values` in the order of [`Part`]. Nothing counts before the manifest.
pub fn write_part(
    root: &Path,
    round: u64,
    rank: u32,
    (span, values): (Range<u32>, [&[f32]; 4]),
) -> Result<PartEntry, CheckpointError> {
    let folder = folder_of(root, round);
    fs::create_dir_all(&folder).map_err(CheckpointError::io("create", &folder))?;
    let file = format!("rank-{rank:05}.safetensors");
    let path = folder.join(&file);
    let bytes = encode(&values).map_err(|error| CheckpointError::Damaged {
        path: path.clone(),
        reason: error.to_string(),
    })?;
    write_atomically(&path, &bytes)?;
    Ok(PartEntry {
        file,
        first_piece: span.start,
        end_piece: span.end,
        bytes: bytes.len() as u64,
        blake3: blake3::hash(&bytes).to_hex().to_string(),
    })
}

fn encode(values: &[&[f32]; 4]) -> Result<Vec<u8>, safetensors::SafeTensorError> {
    let bytes =
        values.map(|part| -> Vec<u8> { part.iter().flat_map(|v| v.to_le_bytes()).collect() });
    let views = Part::ALL.iter().zip(values).zip(&bytes).map(|((part, values), bytes)| {
        TensorView::new(Dtype::F32, vec![values.len()], bytes).map(|view| (part.name(), view))
    });
    serialize(views.collect::<Result<HashMap<_, _>, _>>()?, None)
}

/// Checks size and blake3 against the manifest, reading the file once.
pub(super) fn verify(folder: &Path, entry: &PartEntry) -> Result<(), CheckpointError> {
    let path = folder.join(&entry.file);
    let plain = Path::new(&entry.file).file_name().is_some_and(|name| name == &entry.file[..]);
    let damaged = |reason: String| CheckpointError::Damaged { path: path.clone(), reason };
    if !plain {
        return Err(damaged("the manifest names a file outside its folder".into()));
    }
    let mut file = File::open(&path).map_err(CheckpointError::io("open", &path))?;
    let size = file.metadata().map_err(CheckpointError::io("read", &path))?.len();
    if size != entry.bytes {
        return Err(damaged(format!("it has {size} bytes instead of {}", entry.bytes)));
    }
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let read = file.read(&mut buffer).map_err(CheckpointError::io("read", &path))?;
        if read == 0 {
            break;
        }
        hasher.update(&buffer[..read]);
    }
    if hasher.finalize().to_hex().as_str() != entry.blake3 {
        return Err(damaged("its contents are not those that were written".into()));
    }
    Ok(())
}

/// Collects the wanted pieces of one kind out of whichever files hold them.
pub(super) fn read(
    folder: &Path,
    entries: &[PartEntry],
    part: Part,
    (layout, wanted): (&Layout, Range<u32>),
) -> Result<Vec<f32>, CheckpointError> {
    let span = layout.span(wanted.clone());
    let mut values = vec![0.0; span.len()];
    let mut filled = 0;
    for entry in entries {
        let range = entry.first_piece.max(wanted.start)..entry.end_piece.min(wanted.end);
        if range.start >= range.end {
            continue;
        }
        let path = folder.join(&entry.file);
        let damaged = |reason: String| CheckpointError::Damaged { path: path.clone(), reason };
        if entry.end_piece > layout.pieces() {
            return Err(damaged(format!("the model has {} pieces", layout.pieces())));
        }
        let bytes = fs::read(&path).map_err(CheckpointError::io("read", &path))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|e| damaged(e.to_string()))?;
        let tensor = tensors.tensor(part.name()).map_err(|e| damaged(e.to_string()))?;
        let here = layout.span(entry.first_piece..entry.end_piece);
        if tensor.dtype() != Dtype::F32 || tensor.data().len() != here.len() * size_of::<f32>() {
            return Err(damaged(format!("{} is not {} f32 values", part.name(), here.len())));
        }
        let words = tensor.data().as_chunks::<4>().0;
        let take = layout.span(range);
        let source = &words[take.start - here.start..take.end - here.start];
        let target = &mut values[take.start - span.start..take.end - span.start];
        for (value, word) in target.iter_mut().zip(source) {
            *value = f32::from_le_bytes(*word);
        }
        filled += source.len();
    }
    if filled != values.len() {
        let reason = format!("its files hold {filled} of {} values", values.len());
        return Err(CheckpointError::Damaged { path: folder.into(), reason });
    }
    Ok(values)
}
