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

/// The chunks and values that a piece covers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PieceSpan {
    /// Its chunks.
    pub chunks: Range<usize>,
    /// Its values in canonical order.
    pub values: Range<usize>,
}

/// The kind of a chunk, a block of a matrix or a run of a vector; the counted rule treats them
/// apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChunkKind {
    /// A block of a matrix.
    Matrix,
    /// A run of a vector.
    Vector,
}

/// One chunk: which block of which tensor it is, and where its values lie in canonical order.
///
/// Its values are row-major and lie one after another. Whoever holds a part of a tensor finds in
/// this where the values of its part belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The tensor's index in the list that the layout was made from.
    pub tensor: usize,
    /// Block or run. A vector is one row.
    pub kind: ChunkKind,
    /// First row inside the tensor.
    pub row: usize,
    /// First column inside the tensor.
    pub column: usize,
    /// Rows, at least 1.
    pub rows: usize,
    /// Columns, at least 1: values of a row.
    pub columns: usize,
    /// First value in the canonical order of the whole model.
    pub canonical: usize,
}

impl Block {
    /// Number of values, at most [`CHUNK`].
    pub(crate) fn len(&self) -> usize {
        self.rows * self.columns
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

    /// The tensor's block `index`, if the tensor is number `tensor` of the layout.
    fn block(&self, tensor: usize, index: usize) -> Block {
        let (across, edge) = match self.kind {
            ChunkKind::Matrix => (self.chunks_across(), BLOCK),
            ChunkKind::Vector => (self.chunks_across(), CHUNK),
        };
        let (row, column) = (index / across * BLOCK, index % across * edge);
        let rows = (self.rows - row).min(BLOCK);
        Block {
            tensor,
            kind: self.kind,
            row,
            column,
            rows,
            columns: (self.cols - column).min(edge),
            canonical: self.offset + row * self.cols + column * rows,
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

    /// The chunks and values that piece `index` covers.
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
        self.hash_tensors(&mut hasher);
        *hasher.finalize().as_bytes()
    }

    /// blake3 over the names and shapes in order: two layouts with one hash have one canonical
    /// order, whatever is sent of it.
    pub fn order_hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("heteroloco canonical order v1");
        self.hash_tensors(&mut hasher);
        *hasher.finalize().as_bytes()
    }

    fn hash_tensors(&self, hasher: &mut blake3::Hasher) {
        hasher.update(&(self.tensors.len() as u64).to_le_bytes());
        for tensor in &self.tensors {
            hasher.update(&(tensor.name.len() as u64).to_le_bytes());
            hasher.update(tensor.name.as_bytes());
            hasher.update(&(tensor.shape.len() as u64).to_le_bytes());
            for dim in &tensor.shape {
                hasher.update(&dim.to_le_bytes());
            }
        }
    }

    /// Copies the values of `pieces` from the whole flat buffer into canonical order.
    ///
    /// # Panics
    /// When `flat` is not the whole buffer or `canonical` not exactly the span of `pieces`.
    pub fn gather(&self, pieces: Range<u32>, flat: &[f32], canonical: &mut [f32]) {
        let start = self.check(&pieces, flat.len(), canonical.len());
        for block in self.blocks(pieces) {
            let at = block.canonical - start;
            let rows = canonical[at..at + block.len()].chunks_exact_mut(block.columns);
            for (row, to) in rows.enumerate() {
                to.copy_from_slice(&flat[self.flat_row(&block, row)]);
            }
        }
    }

    /// Copies the values of `pieces` from canonical order into the whole flat buffer.
    ///
    /// # Panics
    /// When `flat` is not the whole buffer or `canonical` not exactly the span of `pieces`.
    pub fn scatter(&self, pieces: Range<u32>, canonical: &[f32], flat: &mut [f32]) {
        let start = self.check(&pieces, flat.len(), canonical.len());
        for block in self.blocks(pieces) {
            let at = block.canonical - start;
            let rows = canonical[at..at + block.len()].chunks_exact(block.columns);
            for (row, from) in rows.enumerate() {
                flat[self.flat_row(&block, row)].copy_from_slice(from);
            }
        }
    }

    /// The chunks of several pieces, in order.
    ///
    /// # Panics
    /// When the range goes past the last piece, on the way.
    pub fn blocks(&self, pieces: Range<u32>) -> impl Iterator<Item = Block> + '_ {
        pieces.flat_map(|piece| self.piece_blocks(piece))
    }

    /// The chunks of a piece, in order.
    pub(crate) fn piece_blocks(&self, piece: u32) -> impl Iterator<Item = Block> + '_ {
        let range = self.piece(piece).chunks;
        let mut tensor = self.tensor_of(range.start);
        range.map(move |index| {
            while self.tensors.get(tensor + 1).is_some_and(|next| next.first_chunk <= index) {
                tensor += 1;
            }
            self.tensors[tensor].block(tensor, index - self.tensors[tensor].first_chunk)
        })
    }

    /// The place of row `row` of a block in the flat buffer.
    fn flat_row(&self, block: &Block, row: usize) -> Range<usize> {
        let tensor = &self.tensors[block.tensor];
        let first = tensor.offset + (block.row + row) * tensor.cols + block.column;
        first..first + block.columns
    }

    fn tensor_of(&self, chunk: usize) -> usize {
        self.tensors.partition_point(|tensor| tensor.first_chunk <= chunk) - 1
    }

    fn start_of(&self, chunk: usize) -> usize {
        if chunk == self.chunks {
            return self.values;
        }
        let tensor = self.tensor_of(chunk);
        self.tensors[tensor].block(tensor, chunk - self.tensors[tensor].first_chunk).canonical
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
