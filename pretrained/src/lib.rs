//! A model's folder in Hugging Face's form: [`config`] says which network it is, and [`Folder`]
//! reads the parameters where they lie: a rank takes the rows that it needs and no more.
//!
//! The tensors that count are those that transformers 5 would load; where that would be something
//! else than `config.json` says, the folder is refused.

mod config;
mod header;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use plan::model::{Llama, TensorSpec};
use serde::Deserialize;

pub use config::{ConfigProblem, config};
use header::{Entry, Kind};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// A larger index is refused.
const INDEX_BYTES_MAX: u64 = 64 << 20;
const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD: &str = "lm_head.weight";
/// The prefix of the names of all tensors but the head's.
const PREFIX: &str = "model.";
/// Values that are compared at a time.
const COMPARED: u64 = 1 << 18;

/// Why a folder is not the model that it should be.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file system refused.
    #[error("failed to {operation} {}", path.display())]
    Io {
        /// The operation that failed.
        operation: &'static str,
        /// On what.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There are no parameters.
    #[error(
        "failed to find parameters in {}: it has neither {SINGLE} nor {INDEX}; name the folder of \
         a model in Hugging Face's form", path.display()
    )]
    None {
        /// The folder.
        path: PathBuf,
    },
    /// A file is not of the form that its name says.
    #[error("failed to understand {}: {reason}; fetch it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The problem.
        reason: String,
    },
    /// A tensor that the model has is not there.
    #[error("failed to find the tensor {name} in {}: it is another model's folder", path.display())]
    Missing {
        /// The tensor.
        name: String,
        /// The folder.
        path: PathBuf,
    },
    /// A tensor has another shape than the model's.
    #[error(
        "failed to use the tensor {name}: its shape is {found:?}, but config.json says {expected:?}"
    )]
    Shape {
        /// The tensor.
        name: String,
        /// In the file.
        found: Vec<u64>,
        /// Its shape in the model.
        expected: Vec<u64>,
    },
    /// A tensor is stored in a way that is not read.
    #[error(
        "failed to use the tensor {name}: it is stored as {found}; BF16, F16, F32 and F64 are read"
    )]
    Kind {
        /// The tensor.
        name: String,
        /// As safetensors names it.
        found: String,
    },
    /// The model has no such tensor.
    #[error(
        "failed to use {}: the model of config.json has no tensor {name} of shape {shape:?}; name \
         the folder that config.json belongs to, or take the tensor out of the file",
        path.display()
    )]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// The output head is the embedding, but another one is stored.
    #[error(
        "failed to use the tensor {HEAD} in {}: it differs from {EMBEDDING}, though \
         tie_word_embeddings is true; to train both, set tie_word_embeddings to false in \
         config.json",
        path.display()
    )]
    HeadDiffers {
        /// The folder.
        path: PathBuf,
    },
    /// Another file has a tensor too, which the index does not name and others would read.
    #[error(
        "failed to use the tensor {name}: {} has other values than the file that {INDEX} names, \
         and transformers reads the last file that has it; take it out of one of them",
        path.display()
    )]
    CopyDiffers {
        /// The tensor.
        name: String,
        /// The file with the copy.
        path: PathBuf,
    },
    /// A value that no computation survives.
    #[error("failed to use the tensor {name}: it has values that are not finite")]
    NotFinite {
        /// The tensor.
        name: String,
    },
}

impl ImportError {
    /// Says whether trying the same again is in vain.
    pub fn is_final(&self) -> bool {
        match self {
            ImportError::Io { .. } => false,
            ImportError::None { .. }
            | ImportError::Damaged { .. }
            | ImportError::Missing { .. }
            | ImportError::Shape { .. }
            | ImportError::Kind { .. }
            | ImportError::Unexpected { .. }
            | ImportError::HeadDiffers { .. }
            | ImportError::CopyDiffers { .. }
            | ImportError::NotFinite { .. } => true,
        }
    }

    fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| ImportError::Io { operation, path, source }
    }
}

/// A model's parameters on disk, checked: every tensor is there with its shape, and no other.
#[derive(Debug)]
pub struct Folder {
    files: Vec<(PathBuf, File)>,
    places: Vec<Place>,
}

/// The place of one of the model's tensors.
#[derive(Debug)]
struct Place {
    name: String,
    /// 1 of a vector.
    rows: u64,
    columns: u64,
    file: usize,
    /// First byte in the file.
    offset: u64,
    kind: Kind,
}

/// One file with what its header says.
struct Opened {
    path: PathBuf,
    file: File,
    entries: BTreeMap<String, Entry>,
    /// Tensors that the index says to be elsewhere.
    copies: BTreeMap<String, Entry>,
}

impl Folder {
    /// Reads what the files say of themselves, and compares it with the model.
    ///
    /// # Errors
    /// A tensor is missing, superfluous, of another shape or of a type that is not read; a file is
    /// damaged or not there.
    pub fn open(path: &Path, model: &Llama) -> Result<Folder, ImportError> {
        let mut opened = files(path)?.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
        complete_names(&mut opened);
        let tied = model.config().tie_word_embeddings;
        let head = if tied { take_head(&mut opened, model)? } else { None };
        let tensors = model.tensors();
        check_known(&opened, &tensors)?;
        let place = |tensor: &TensorSpec| {
            let missing = || ImportError::Missing { name: tensor.name.clone(), path: path.into() };
            place(&opened, tensor)?.ok_or_else(missing)
        };
        let places = tensors.iter().map(place).collect::<Result<Vec<_>, _>>()?;
        let copies = later_copies(&opened, &tensors, &places)?;
        let files = opened.into_iter().map(|opened| (opened.path, opened.file)).collect();
        let folder = Folder { files, places };
        // The embedding is the first tensor of every model.
        if let Some(head) = head
            && !folder.is_same(&folder.places[0], &head)?
        {
            return Err(ImportError::HeadDiffers { path: path.into() });
        }
        for (tensor, copy) in copies {
            if !folder.is_same(&folder.places[tensor], &copy)? {
                let path = folder.files[copy.file].0.clone();
                return Err(ImportError::CopyDiffers { name: copy.name, path });
            }
        }
        Ok(folder)
    }

    /// Compares the values of two tensors of one shape.
    fn is_same(&self, a: &Place, b: &Place) -> Result<bool, ImportError> {
        let step = (COMPARED / a.columns.max(1)).max(1);
        let (mut one, mut other) = (Vec::new(), Vec::new());
        for first in (0..a.rows).step_by(step as usize) {
            let rows = first..(first + step).min(a.rows);
            let count = ((rows.end - rows.start) * a.columns) as usize;
            one.resize(count, 0.0);
            other.resize(count, 0.0);
            self.values(a, rows.clone(), &mut one)?;
            self.values(b, rows, &mut other)?;
            if one != other {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads rows of a tensor, `tensor` being its position in [`Llama::tensors`], into `out`, which
    /// has exactly their values. A vector is a single row.
    ///
    /// # Errors
    /// The file cannot be read, or a value is not finite.
    ///
    /// # Panics
    /// There is no such tensor, or `out` is not of its rows.
    pub fn rows(
        &self,
        tensor: usize,
        rows: Range<u64>,
        out: &mut [f32],
    ) -> Result<(), ImportError> {
        self.values(&self.places[tensor], rows, out)
    }

    fn values(&self, place: &Place, rows: Range<u64>, out: &mut [f32]) -> Result<(), ImportError> {
        let Place { name, columns, file, offset, kind, .. } = place;
        assert_eq!(out.len() as u64, (rows.end - rows.start) * columns, "values of {rows:?}");
        let (path, file) = &self.files[*file];
        let mut bytes = vec![0; out.len() * kind.size()];
        let first = offset + rows.start * columns * kind.size() as u64;
        file.read_exact_at(&mut bytes, first).map_err(ImportError::io("read", path))?;
        kind.convert(&bytes, out);
        if out.iter().all(|value| value.is_finite()) {
            return Ok(());
        }
        Err(ImportError::NotFinite { name: name.clone() })
    }
}

/// A file with parameters.
struct Source {
    path: PathBuf,
    /// The tensors that the index says are in it; all where there is no index.
    tensors: Option<BTreeSet<String>>,
}

/// The files with parameters: one, or those that the index names.
fn files(folder: &Path) -> Result<Vec<Source>, ImportError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let (single, index) = (folder.join(SINGLE), folder.join(INDEX));
    if single.is_file() {
        return Ok(vec![Source { path: single, tensors: None }]);
    }
    if !index.is_file() {
        return Err(ImportError::None { path: folder.into() });
    }
    let damaged = |reason| ImportError::Damaged { path: index.clone(), reason };
    let mut bytes = Vec::new();
    let file = File::open(&index).map_err(ImportError::io("open", &index))?;
    file.take(INDEX_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(ImportError::io("read", &index))?;
    if bytes.len() as u64 > INDEX_BYTES_MAX {
        return Err(damaged(format!("it has more than {INDEX_BYTES_MAX} bytes")));
    }
    let found: Index = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
    let mut names: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (tensor, file) in found.weight_map {
        names.entry(file).or_default().insert(tensor);
    }
    let plain = |name: &String| Path::new(name).file_name().is_some_and(|own| own == &name[..]);
    match names.keys().find(|name| !plain(name)) {
        Some(name) => Err(damaged(format!("it names {name:?}, which is no file of its folder"))),
        None => {
            let source = |(name, tensors)| Source {
                path: folder.join::<String>(name),
                tensors: Some(tensors),
            };
            Ok(names.into_iter().map(source).collect())
        }
    }
}

/// A file with those of its tensors that count: a copy of a tensor that the index places in another
/// file does not.
fn open(Source { path, tensors }: Source) -> Result<Opened, ImportError> {
    let file = File::open(&path).map_err(ImportError::io("open", &path))?;
    let mut entries = header::read(&file, &path)?;
    let mut copies = BTreeMap::new();
    if let Some(names) = tensors {
        if let Some(name) = names.iter().find(|name| !entries.contains_key(*name)) {
            let reason = format!("{INDEX} says that {name} is in it, but it is not");
            return Err(ImportError::Damaged { path, reason });
        }
        (entries, copies) = entries.into_iter().partition(|(name, _)| names.contains(name));
    }
    Ok(Opened { path, file, entries, copies })
}

/// A model that was saved without its head has names without a prefix.
fn complete_names(opened: &mut [Opened]) {
    let prefixed = |opened: &Opened| opened.entries.keys().any(|name| name.starts_with(PREFIX));
    if opened.iter().any(prefixed) {
        return;
    }
    for Opened { entries, copies, .. } in opened {
        let complete = |(name, entry)| match name {
            name if name == HEAD => (name, entry),
            name => (format!("{PREFIX}{name}"), entry),
        };
        for named in [entries, copies] {
            *named = std::mem::take(named).into_iter().map(complete).collect();
        }
    }
}

/// Takes the head of a model whose head is its embedding out of the tensors that were found. It is
/// the embedding where that is not stored; otherwise it has to be the same, wherever it is.
fn take_head(opened: &mut [Opened], model: &Llama) -> Result<Option<Place>, ImportError> {
    let Some(embedding) = model.tensors().into_iter().next() else { return Ok(None) };
    let stored = opened.iter().any(|opened| opened.entries.contains_key(EMBEDDING));
    let head = TensorSpec { name: HEAD.into(), ..embedding };
    let place = if stored { place(opened, &head)? } else { None };
    for Opened { entries, .. } in opened {
        if let Some(entry) = entries.remove(HEAD)
            && !stored
        {
            entries.insert(EMBEDDING.into(), entry);
        }
    }
    Ok(place)
}

/// Refuses what the model has not, but for buffers that older versions of transformers stored.
fn check_known(opened: &[Opened], tensors: &[TensorSpec]) -> Result<(), ImportError> {
    let known: BTreeSet<&str> = tensors.iter().map(|tensor| &tensor.name[..]).collect();
    let passed = |name: &str| known.contains(name) || name.ends_with(".rotary_emb.inv_freq");
    for Opened { path, entries, .. } in opened {
        if let Some((name, entry)) = entries.iter().find(|(name, _)| !passed(name)) {
            let (path, name, shape) = (path.clone(), name.clone(), entry.shape.clone());
            return Err(ImportError::Unexpected { path, name, shape });
        }
    }
    Ok(())
}

/// The place of a tensor, if it is there.
fn place(opened: &[Opened], tensor: &TensorSpec) -> Result<Option<Place>, ImportError> {
    let found = opened.iter().enumerate().find_map(|(file, opened)| {
        opened.entries.get(&tensor.name).map(|entry| (file, opened, entry))
    });
    found.map(|(file, opened, entry)| place_in(file, opened, tensor, entry)).transpose()
}

/// Copies of tensors in files after those that the index names, with the tensors' positions: what
/// transformers would read, which takes every file in the order of their names.
fn later_copies(
    opened: &[Opened],
    tensors: &[TensorSpec],
    places: &[Place],
) -> Result<Vec<(usize, Place)>, ImportError> {
    let mut copies = Vec::new();
    for (file, own) in opened.iter().enumerate() {
        for (at, tensor) in tensors.iter().enumerate().filter(|(at, _)| places[*at].file < file) {
            if let Some(entry) = own.copies.get(&tensor.name) {
                copies.push((at, place_in(file, own, tensor, entry)?));
            }
        }
    }
    Ok(copies)
}

fn place_in(
    file: usize,
    opened: &Opened,
    tensor: &TensorSpec,
    entry: &Entry,
) -> Result<Place, ImportError> {
    let name = tensor.name.clone();
    if entry.shape != tensor.shape {
        let (found, expected) = (entry.shape.clone(), tensor.shape.clone());
        return Err(ImportError::Shape { name, found, expected });
    }
    let Some(kind) = Kind::named(&entry.dtype) else {
        return Err(ImportError::Kind { name, found: entry.dtype.clone() });
    };
    let bytes = tensor.numel() * kind.size() as u64;
    if entry.bytes.end - entry.bytes.start != bytes {
        let reason = format!("{name} does not have the {bytes} bytes of its shape");
        return Err(ImportError::Damaged { path: opened.path.clone(), reason });
    }
    let columns = tensor.shape.last().copied().unwrap_or(0);
    let rows = tensor.shape.iter().rev().skip(1).product();
    Ok(Place { name, rows, columns, file, offset: entry.bytes.start, kind })
}
