//! One rank's file of a checkpoint: safetensors with four flat tensors over the same pieces.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use durable::partial;
use safetensors::tensor::{Dtype, Metadata};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sparseloco::layout::Layout;

use super::{CheckpointError, folder_of};

/// Bytes that are read or written at a time.
const BUFFER: usize = 1 << 20;
/// More than any header of a rank's file has.
const HEADER_BYTES_MAX: u64 = 1 << 16;

/// What a checkpoint holds, each as one flat f32 tensor per file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Parameters at the start of the round.
    Theta,
    /// What error feedback keeps back; `error` in file names.
    Residual,
    /// AdamW's first moment.
    Moment1,
    /// AdamW's second moment.
    Moment2,
}

impl Part {
    const ALL: [Part; 4] = [Part::Theta, Part::Residual, Part::Moment1, Part::Moment2];

    fn name(self) -> &'static str {
        match self {
            Part::Theta => "theta",
            Part::Residual => "error",
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

/// Writes a rank's file: `length` values of each kind, which `values` gives. Nothing counts before
/// the manifest.
///
/// All kinds are asked for, whatever becomes of the file: other ranks may have a part in giving
/// them.
pub fn write_part<E: From<CheckpointError>>(
    root: &Path,
    (round, rank): (u64, u32),
    (span, length): (Range<u32>, usize),
    mut values: impl FnMut(Part) -> Result<Vec<f32>, E>,
) -> Result<PartEntry, E> {
    let file = format!("rank-{rank:05}.safetensors");
    let path = folder_of(root, round).join(&file);
    let mut under_way = PartFile::create(&path, length);
    for part in Part::ALL {
        let values = values(part)?;
        under_way = under_way.and_then(|file| file.append(&values));
    }
    let written = under_way.and_then(|file| file.finish(&path)).inspect_err(|_| {
        // The error is told already; what is left over is removed where it can be.
        let _ = fs::remove_file(partial(&path));
    });
    let (bytes, blake3) = written?;
    Ok(PartEntry { file, first_piece: span.start, end_piece: span.end, bytes, blake3 })
}

/// A file under way: kind after kind, so that no second copy of them is ever needed.
struct PartFile {
    path: PathBuf,
    file: File,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl PartFile {
    fn create(path: &Path, length: usize) -> Result<PartFile, CheckpointError> {
        durable::create_folder(durable::parent(path))?;
        let path = partial(path);
        let file = File::create(&path).map_err(CheckpointError::io("create", &path))?;
        let mut part = PartFile { path, file, hasher: blake3::Hasher::new(), bytes: 0 };
        part.write(&header(length))?;
        Ok(part)
    }

    fn append(mut self, values: &[f32]) -> Result<PartFile, CheckpointError> {
        for values in values.chunks(BUFFER / size_of::<f32>()) {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            self.write(&bytes)?;
        }
        Ok(self)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), CheckpointError> {
        self.hasher.update(bytes);
        self.bytes += bytes.len() as u64;
        self.file.write_all(bytes).map_err(CheckpointError::io("write", &self.path))
    }

    /// Makes it durable under its name. Its size and blake3.
    fn finish(self, path: &Path) -> Result<(u64, String), CheckpointError> {
        durable::finish(&self.file, path)?;
        Ok((self.bytes, self.hasher.finalize().to_hex().to_string()))
    }
}

/// The beginning of a safetensors file: all kinds, one after another.
fn header(length: usize) -> Vec<u8> {
    let size = length * size_of::<f32>();
    let entry = |(nth, part): (usize, &Part)| {
        let offsets = [nth * size, (nth + 1) * size];
        let info = json!({"dtype": "F32", "shape": [length], "data_offsets": offsets});
        (part.name().to_owned(), info)
    };
    let entries: Map<String, Value> = Part::ALL.iter().enumerate().map(entry).collect();
    let mut text = Value::Object(entries).to_string().into_bytes();
    text.resize(text.len().next_multiple_of(8), b' ');
    [&(text.len() as u64).to_le_bytes()[..], &text].concat()
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
    let mut buffer = vec![0; BUFFER];
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
    let mut next = wanted.start;
    let mut entries: Vec<&PartEntry> = entries.iter().collect();
    entries.sort_by_key(|entry| entry.first_piece);
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
        if range.start != next {
            let piece = next.min(range.start);
            return Err(damaged(format!("piece {piece} is in two files, or in none before it")));
        }
        let here = layout.span(entry.first_piece..entry.end_piece);
        let mut file = File::open(&path).map_err(CheckpointError::io("open", &path))?;
        let first =
            find(&mut file, part, here.len()).map_err(|error| damaged(error.to_string()))?;
        let take = layout.span(range.clone());
        let skip = ((take.start - here.start) * size_of::<f32>()) as u64;
        let target = &mut values[take.start - span.start..take.end - span.start];
        file.seek(SeekFrom::Start(first + skip))
            .and_then(|_| read_values(&mut file, target))
            .map_err(CheckpointError::io("read", &path))?;
        next = range.end;
    }
    if next < wanted.end {
        let reason = format!("piece {next} is in none of its files");
        return Err(CheckpointError::Damaged { path: folder.into(), reason });
    }
    Ok(values)
}

/// The place of a kind's first value in a file that holds `length` of each.
fn find(file: &mut File, part: Part, length: usize) -> io::Result<u64> {
    let mut size = [0; 8];
    file.read_exact(&mut size)?;
    let size = u64::from_le_bytes(size);
    if size > HEADER_BYTES_MAX {
        return Err(io::Error::other(format!("its header has {size} bytes")));
    }
    let mut header = vec![0; size as usize];
    file.read_exact(&mut header)?;
    let metadata: Metadata = serde_json::from_slice(&header)?;
    let room = file.metadata()?.len().saturating_sub(size + 8);
    let fits = |(start, end): (usize, usize)| {
        end as u64 <= room && end.checked_sub(start) == Some(length * size_of::<f32>())
    };
    let info = metadata.info(part.name());
    let info = info.filter(|info| info.dtype == Dtype::F32 && info.shape == [length]);
    let info = info.filter(|info| fits(info.data_offsets));
    let other = || io::Error::other(format!("{} is not {length} f32 values", part.name()));
    Ok(size + 8 + info.ok_or_else(other)?.data_offsets.0 as u64)
}

fn read_values(file: &mut File, target: &mut [f32]) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    for values in target.chunks_mut(BUFFER / size_of::<f32>()) {
        let bytes = &mut buffer[..size_of_val(values)];
        file.read_exact(bytes)?;
        for (value, word) in values.iter_mut().zip(bytes.as_chunks::<4>().0) {
            *value = f32::from_le_bytes(*word);
        }
    }
    Ok(())
}
