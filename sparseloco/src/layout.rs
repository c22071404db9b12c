//! How a model's parameters are cut into chunks and pieces, and the order of their values.
//!
//! Parameters lie one after another in one flat, row-major buffer. The *canonical order* is another
//! order of the same values: tensors in turn; a matrix as 64 × 64 blocks (smaller at its right and
//! lower edges), blocks row by row, row-major inside a block; a vector as runs of 4,096, which is
//! its own order. A block or run is a *chunk*; 64 consecutive chunks are a *piece*. None of this
//! depends on how an island shards the model.

use std::collections::HashSet;
use std::ops::Range;

use crate::params::CodecParams;

/// Rows and columns of a full block of a matrix.
pub const BLOCK: usize = 64;
/// Values of a full chunk.
pub const CHUNK: usize = BLOCK * BLOCK;
/// Chunks of a full piece; the last piece of a layout may have fewer.
pub const PIECE_CHUNKS: usize = 64;

/// One parameter: its name and its shape of one or two dimensions, row-major.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorShape {
    /// Name, unique in the model.
    pub name: String,
    /// One dimension for a vector, rows and columns for a matrix.
    pub shape: Vec<u64>,
}

/// Why a list of tensors is no layout.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// A layout has at least one tensor.
    #[error("failed to lay out the parameters: there are none")]
    Empty,
    /// Only vectors and matrices have chunks.
    #[error("failed to lay out {name}: {dims} dimensions; one or two are possible")]
    Dimensions {
        /// The tensor.
        name: String,
        /// How many dimensions it has.
        dims: usize,
    },
    /// A dimension is zero.
    #[error("failed to lay out {name}: a dimension is zero")]
    ZeroDimension {
        /// The tensor.
        name: String,
    },
    /// Two tensors have one name.
    #[error("failed to lay out {name}: the name occurs twice")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// More values than this machine or the format can count.
    #[error("failed to lay out {name}: too many values")]
    TooLarge {
        /// The tensor with which it became too much.
        name: String,
    },
}

/// What a piece covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceSpan {
    /// Its chunks.
    pub chunks: Range<usize>,
    /// Its values in canonical order.
    pub values: Range<usize>,
}

/// Whether a chunk is a block of a matrix or a run of a vector; the counted rule treats them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkKind {
    /// A block of a matrix.
    Matrix,
    /// A run of a vector.
    Vector,
}

/// One chunk: where its values lie in both orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Block or run.
    pub(crate) kind: ChunkKind,
    /// First value in canonical order.
    pub(crate) canonical: usize,
    /// First value in the flat buffer.
    pub(crate) flat: usize,
    /// Rows: 1 for a run.
    pub(crate) rows: usize,
    /// Values of a row.
    pub(crate) cols: usize,
    /// Distance of two rows in the flat buffer.
    pub(crate) stride: usize,
}

impl Chunk {
    /// Number of values, at most [`CHUNK`].
    pub(crate) fn len(&self) -> usize {
        self.rows * self.cols
    }

    /// For a full chunk, the distance in the flat buffer of its 64 rows of 64 values; a full run
    /// has such rows too, one after another.
    pub(crate) fn full_stride(&self) -> Option<usize> {
        let stride = if self.kind == ChunkKind::Vector { BLOCK } else { self.stride };
        (self.len() == CHUNK).then_some(stride)
    }
}

#[derive(Clone, Debug)]
struct Tensor {
    name: String,
    shape: Vec<u64>,
    kind: ChunkKind,
    rows: usize,
    cols: usize,
    offset: usize,
    first_chunk: usize,
}

impl Tensor {
    fn chunks_across(&self) -> usize {
        match self.kind {
            ChunkKind::Matrix => self.cols.div_ceil(BLOCK),
            ChunkKind::Vector => self.cols.div_ceil(CHUNK),
        }
    }

    fn chunk(&self, index: usize) -> Chunk {
        let (across, edge) = match self.kind {
            ChunkKind::Matrix => (self.chunks_across(), BLOCK),
            ChunkKind::Vector => (self.chunks_across(), CHUNK),
        };
        let (down, right) = (index / across * BLOCK, index % across * edge);
        let rows = (self.rows - down).min(BLOCK);
        let band = self.offset + down * self.cols;
        Chunk {
            kind: self.kind,
            canonical: band + right * rows,
            flat: band + right,
            rows,
            cols: (self.cols - right).min(edge),
            stride: self.cols,
        }
    }
}

/// The chunks and pieces of a model. Immutable.
#[derive(Clone, Debug)]
pub struct Layout {
    tensors: Vec<Tensor>,
    values: usize,
    chunks: usize,
    pieces: u32,
}

impl Layout {
    /// Lays out `tensors`, which lie one after another in the flat buffer in this order.
    pub fn new(tensors: &[TensorShape]) -> Result<Layout, LayoutError> {
        let mut names = HashSet::new();
        let mut layout = Layout { tensors: Vec::new(), values: 0, chunks: 0, pieces: 0 };
        for shape in tensors {
            if !names.insert(shape.name.as_str()) {
                return Err(LayoutError::Duplicate { name: shape.name.clone() });
            }
            layout.push(shape)?;
        }
        if layout.tensors.is_empty() {
            return Err(LayoutError::Empty);
        }
        Ok(layout)
    }

    fn push(&mut self, shape: &TensorShape) -> Result<(), LayoutError> {
        let name = || shape.name.clone();
        let too_large = || LayoutError::TooLarge { name: name() };
        let dims = shape
            .shape
            .iter()
            .map(|&dim| usize::try_from(dim).map_err(|_| too_large()))
            .collect::<Result<Vec<_>, _>>()?;
        let (kind, rows, cols) = match dims[..] {
            [cols] => (ChunkKind::Vector, 1, cols),
            [rows, cols] => (ChunkKind::Matrix, rows, cols),
            _ => return Err(LayoutError::Dimensions { name: name(), dims: dims.len() }),
        };
        if rows == 0 || cols == 0 {
            return Err(LayoutError::ZeroDimension { name: name() });
        }
        let size = rows.checked_mul(cols).ok_or_else(too_large)?;
        let tensor = Tensor {
            name: name(),
            shape: shape.shape.clone(),
            kind,
            rows,
            cols,
            offset: self.values,
            first_chunk: self.chunks,
        };
        // Bytes of the buffer must be countable too, and no chunk is empty, so `chunks` cannot
        // wrap.
        self.values = self.values.checked_add(size).ok_or_else(too_large)?;
        self.values.checked_mul(size_of::<f32>()).ok_or_else(too_large)?;
        self.chunks += rows.div_ceil(BLOCK) * tensor.chunks_across();
        self.pieces = u32::try_from(self.chunks.div_ceil(PIECE_CHUNKS)).map_err(|_| too_large())?;
        self.tensors.push(tensor);
        Ok(())
    }

    /// Number of values of the model.
    pub fn values(&self) -> usize {
        self.values
    }

    /// Number of chunks.
    pub fn chunks(&self) -> usize {
        self.chunks
    }

    /// Number of pieces.
    pub fn pieces(&self) -> u32 {
        self.pieces
    }

    /// What piece `index` covers.
    ///
    /// # Panics
    /// When there is no such piece.
    pub fn piece(&self, index: u32) -> PieceSpan {
        assert!(index < self.pieces, "piece {index} of {}", self.pieces);
        let first = index as usize * PIECE_CHUNKS;
        let chunks = first..(first + PIECE_CHUNKS).min(self.chunks);
        PieceSpan { values: self.start_of(chunks.start)..self.start_of(chunks.end), chunks }
    }

    /// The values of several pieces in canonical order; an empty range gives an empty range.
    ///
    /// # Panics
    /// When the range is decreasing or goes past the last piece.
    pub fn span(&self, pieces: Range<u32>) -> Range<usize> {
        assert!(pieces.start <= pieces.end && pieces.end <= self.pieces, "pieces {pieces:?}");
        let edge = |piece: u32| self.start_of((piece as usize * PIECE_CHUNKS).min(self.chunks));
        edge(pieces.start)..edge(pieces.end)
    }

    /// blake3 over the format's constants, the names and shapes in order, k and the value bits:
    /// two islands with one hash mean the same by the same bytes.
    pub fn hash(&self, params: &CodecParams) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("heteroloco sparseloco layout v1");
        let mut number = |value: u64| {
            hasher.update(&value.to_le_bytes());
        };
        number(BLOCK as u64);
        number(CHUNK as u64);
        number(PIECE_CHUNKS as u64);
        number(u64::from(params.top_k()));
        number(u64::from(params.value_bits().count()));
        number(self.tensors.len() as u64);
        for tensor in &self.tensors {
            hasher.update(&(tensor.name.len() as u64).to_le_bytes());
            hasher.update(tensor.name.as_bytes());
            hasher.update(&(tensor.shape.len() as u64).to_le_bytes());
            for dim in &tensor.shape {
                hasher.update(&dim.to_le_bytes());
            }
        }
        *hasher.finalize().as_bytes()
    }

    /// Copies the values of `pieces` from the whole flat buffer into canonical order.
    ///
    /// # Panics
    /// When `flat` is not the whole buffer or `canonical` not exactly the span of `pieces`.
    pub fn gather(&self, pieces: Range<u32>, flat: &[f32], canonical: &mut [f32]) {
        let start = self.check(&pieces, flat.len(), canonical.len());
        for chunk in pieces.flat_map(|piece| self.piece_chunks(piece)) {
            let at = chunk.canonical - start;
            let rows = canonical[at..at + chunk.len()].chunks_exact_mut(chunk.cols);
            for (row, to) in rows.enumerate() {
                let from = chunk.flat + row * chunk.stride;
                to.copy_from_slice(&flat[from..from + chunk.cols]);
            }
        }
    }

    /// Copies the values of `pieces` from canonical order into the whole flat buffer.
    ///
    /// # Panics
    /// When `flat` is not the whole buffer or `canonical` not exactly the span of `pieces`.
    pub fn scatter(&self, pieces: Range<u32>, canonical: &[f32], flat: &mut [f32]) {
        let start = self.check(&pieces, flat.len(), canonical.len());
        for chunk in pieces.flat_map(|piece| self.piece_chunks(piece)) {
            let at = chunk.canonical - start;
            let rows = canonical[at..at + chunk.len()].chunks_exact(chunk.cols);
            for (row, from) in rows.enumerate() {
                let to = chunk.flat + row * chunk.stride;
                flat[to..to + chunk.cols].copy_from_slice(from);
            }
        }
    }

    /// The chunks of a piece, in order.
    pub(crate) fn piece_chunks(&self, piece: u32) -> impl Iterator<Item = Chunk> + '_ {
        let range = self.piece(piece).chunks;
        let mut tensor = self.tensor_of(range.start);
        range.map(move |index| {
            while self.tensors.get(tensor + 1).is_some_and(|next| next.first_chunk <= index) {
                tensor += 1;
            }
            let tensor = &self.tensors[tensor];
            tensor.chunk(index - tensor.first_chunk)
        })
    }

    fn tensor_of(&self, chunk: usize) -> usize {
        self.tensors.partition_point(|tensor| tensor.first_chunk <= chunk) - 1
    }

    fn start_of(&self, chunk: usize) -> usize {
        if chunk == self.chunks {
            return self.values;
        }
        let tensor = &self.tensors[self.tensor_of(chunk)];
        tensor.chunk(chunk - tensor.first_chunk).canonical
    }

    fn check(&self, pieces: &Range<u32>, flat: usize, canonical: usize) -> usize {
        let span = self.span(pieces.clone());
        assert_eq!(flat, self.values, "values of the flat buffer");
        assert_eq!(canonical, span.len(), "values of pieces {pieces:?}");
        span.start
    }
}

#[cfg(test)]
mod tests;
