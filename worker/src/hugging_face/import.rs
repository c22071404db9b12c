//! The parameters of a folder as transformers writes it, read where they lie: a rank takes the
//! rows that it needs and no more.

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

use header::{Entry, Kind};

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
/// A larger index is refused.
const INDEX_BYTES_MAX: u64 = 64 << 20;

/// Why a folder is not the model that it should be.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The file system refused.
    #[error("failed to {operation} {}", path.display())]
    Io {
        /// What was tried.
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
        /// What is wrong.
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
        /// Of the model.
        expected: Vec<u64>,
    },
    /// A tensor is stored in a way that is not read.
    #[error("failed to use the tensor {name}: it is stored as {found}; BF16, F16 and F32 are read")]
    Kind {
        /// The tensor.
        name: String,
        /// As safetensors names it.
        found: String,
    },
    /// The model has no such tensor.
    #[error(
        "failed to use {}: the model has no tensor {name} of shape {shape:?}", path.display()
    )]
    Unexpected {
        /// The file.
        path: PathBuf,
        /// The tensor.
        name: String,
        /// Its shape.
        shape: Vec<u64>,
    },
    /// A value that no computation survives.
    #[error("failed to use the tensor {name}: it has values that are not finite")]
    NotFinite {
        /// The tensor.
        name: String,
    },
}

impl ImportError {
    /// Whether trying the same again is in vain.
    pub fn is_final(&self) -> bool {
        match self {
            ImportError::Io { .. } => false,
            ImportError::None { .. }
            | ImportError::Damaged { .. }
            | ImportError::Missing { .. }
            | ImportError::Shape { .. }
            | ImportError::Kind { .. }
            | ImportError::Unexpected { .. }
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

/// Where one of the model's tensors lies.
#[derive(Debug)]
struct Place {
    name: String,
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
}

impl Folder {
    /// Reads what the files say of themselves, and compares it with the model.
    ///
    /// # Errors
    /// A tensor is missing, superfluous, of another shape or of a type that is not read; a file is
    /// damaged or not there.
    pub fn open(path: &Path, model: &Llama) -> Result<Folder, ImportError> {
        let opened = files(path)?.into_iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let tensors = model.tensors();
        check_known(&opened, &tensors, model.config().tie_word_embeddings)?;
        let place = |tensor: &TensorSpec| {
            let missing = || ImportError::Missing { name: tensor.name.clone(), path: path.into() };
            place(&opened, tensor)?.ok_or_else(missing)
        };
        let places = tensors.iter().map(place).collect::<Result<_, _>>()?;
        let files = opened.into_iter().map(|opened| (opened.path, opened.file)).collect();
        Ok(Folder { files, places })
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
        let Place { name, columns, file, offset, kind } = &self.places[tensor];
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

/// The files with parameters: one, or those that the index names.
fn files(folder: &Path) -> Result<Vec<PathBuf>, ImportError> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let (single, index) = (folder.join(SINGLE), folder.join(INDEX));
    if single.is_file() {
        return Ok(vec![single]);
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
    let names: BTreeSet<String> = found.weight_map.into_values().collect();
    let plain = |name: &String| Path::new(name).file_name().is_some_and(|own| own == &name[..]);
    match names.iter().find(|name| !plain(name)) {
        Some(name) => Err(damaged(format!("it names {name:?}, which is no file of its folder"))),
        None => Ok(names.iter().map(|name| folder.join(name)).collect()),
    }
}

fn open(path: PathBuf) -> Result<Opened, ImportError> {
    let file = File::open(&path).map_err(ImportError::io("open", &path))?;
    let entries = header::read(&file, &path)?;
    Ok(Opened { path, file, entries })
}

/// Refuses what the model has not, but for buffers that older versions of transformers stored, and
/// a tied head.
fn check_known(opened: &[Opened], tensors: &[TensorSpec], tied: bool) -> Result<(), ImportError> {
    let known: BTreeSet<&str> = tensors.iter().map(|tensor| &tensor.name[..]).collect();
    let passed = |name: &str| {
        known.contains(name)
            || name.ends_with(".rotary_emb.inv_freq")
            || (tied && name == "lm_head.weight")
    };
    for Opened { path, entries, .. } in opened {
        if let Some((name, entry)) = entries.iter().find(|(name, _)| !passed(name)) {
            let (path, name, shape) = (path.clone(), name.clone(), entry.shape.clone());
            return Err(ImportError::Unexpected { path, name, shape });
        }
    }
    Ok(())
}

/// Where a tensor lies, if it does anywhere.
fn place(opened: &[Opened], tensor: &TensorSpec) -> Result<Option<Place>, ImportError> {
    let found = opened.iter().enumerate().find_map(|(file, opened)| {
        opened.entries.get(&tensor.name).map(|entry| (file, opened, entry))
    });
    let Some((file, opened, entry)) = found else { return Ok(None) };
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
    Ok(Some(Place { name, columns, file, offset: entry.bytes.start, kind }))
}
