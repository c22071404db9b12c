//! The part of the model that every device of an island holds.
//!
//! Tensor-parallel devices share each layer as Megatron-LM does (Shoeybi et al. 2019): query, key,
//! value, gate and up projections are cut by rows, output and down projections by columns, the
//! embedding and the head by vocabulary; norms are whole everywhere. Pipeline stages hold
//! consecutive layers. Cuts are at multiples of 64, so that no chunk of a contribution crosses one.

use std::ops::Range;

use crate::model::{Llama, TensorSpec};
use crate::spec::{IslandSpec, Sharding};

#[cfg(test)]
mod tests;

/// Rows and columns of a chunk; cuts are at multiples of it.
const BLOCK: u64 = 64;
/// Tensors of a layer, in the order of [`Llama::tensors`].
const LAYER: [Cut; 9] = [
    Cut::Rows,
    Cut::Rows,
    Cut::Rows,
    Cut::Columns,
    Cut::Rows,
    Cut::Rows,
    Cut::Columns,
    Cut::Whole,
    Cut::Whole,
];

/// How tensor-parallel devices share a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    Rows,
    Columns,
    /// Every device has all of it.
    Whole,
}

/// Why a model cannot be cut so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShardError {
    /// No devices.
    #[error("the tensor-parallel size is 0; it has to be at least 1")]
    NoTensor,
    /// A stage has nothing to do.
    #[error("pipeline stage {stage} has no layer; every stage needs one")]
    EmptyStage {
        /// The stage, from 0.
        stage: usize,
    },
    /// The stages do not make up the model.
    #[error("the pipeline stages hold {stages} layers, the model has {layers}")]
    Layers {
        /// Layers of all stages.
        stages: u64,
        /// num_hidden_layers.
        layers: u32,
    },
    /// A width that the devices cannot share.
    #[error("{key} is {value}, which tensor-parallel size {tensor} does not divide")]
    DoesNotDivide {
        /// The key.
        key: &'static str,
        /// Its value.
        value: u64,
        /// Devices that share a layer.
        tensor: u32,
    },
    /// A part that ends inside a chunk.
    #[error(
        "with tensor-parallel size {tensor} every part of {what} is {part} wide, which is not a \
         multiple of 64"
    )]
    InsideChunk {
        /// The thing that is shared.
        what: &'static str,
        /// Width of a part.
        part: u64,
        /// Devices that share a layer.
        tensor: u32,
    },
    /// Fewer chunks of vocabulary than devices.
    #[error(
        "vocab_size {vocabulary} has too few rows for tensor-parallel size {tensor}: it is cut at \
         multiples of 64"
    )]
    Vocabulary {
        /// vocab_size.
        vocabulary: u32,
        /// Devices that share a layer.
        tensor: u32,
    },
    /// A subspace that is none.
    #[error("the pipeline's compression rank is {rank}; it has to lie between 1 and {hidden}")]
    CompressionRank {
        /// k.
        rank: u32,
        /// hidden_size.
        hidden: u32,
    },
}

/// The position of a device in its island.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// The replica.
    pub data: u32,
    /// The pipeline stage.
    pub stage: u32,
    /// The tensor-parallel way: which part of the stage's layers.
    pub tensor: u32,
}

/// The positions of an island. Tensor-parallel peers are neighbours, then come stages, then
/// replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Data-parallel size.
    pub data: u32,
    /// Pipeline-parallel size.
    pub stages: u32,
    /// Tensor-parallel size.
    pub tensor: u32,
}

impl Grid {
    /// The positions of a planned island.
    pub fn of(island: &IslandSpec) -> Grid {
        Grid {
            data: count(island.batches.len()),
            stages: count(island.sharding.stages.len()),
            tensor: island.sharding.tensor,
        }
    }

    /// How many there are.
    pub fn size(&self) -> u32 {
        self.data * self.stages * self.tensor
    }

    /// The position of a device, counted over all ranks in order.
    pub fn position(&self, index: u32) -> Position {
        debug_assert!(index < self.size(), "device {index} of {self:?}");
        Position {
            data: index / (self.stages * self.tensor),
            stage: index / self.tensor % self.stages,
            tensor: index % self.tensor,
        }
    }

    /// The device at a position.
    pub fn index(&self, at: Position) -> u32 {
        let inside = at.data < self.data && at.stage < self.stages && at.tensor < self.tensor;
        debug_assert!(inside, "{at:?} of {self:?}");
        (at.data * self.stages + at.stage) * self.tensor + at.tensor
    }
}

/// A rectangle of a tensor. A vector is a single row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Index into [`Llama::tensors`].
    pub tensor: usize,
    /// Its rows.
    pub rows: Range<u64>,
    /// Its columns.
    pub columns: Range<u64>,
}

/// A model cut by a sharding that fits it.
#[derive(Clone, Debug)]
pub struct Sharded {
    tensors: Vec<TensorSpec>,
    layers: u32,
    tied: bool,
    sharding: Sharding,
}

impl Sharded {
    /// Cuts a model.
    ///
    /// # Errors
    /// What does not divide, or makes no sense.
    pub fn new(model: &Llama, sharding: &Sharding) -> Result<Sharded, ShardError> {
        let config = model.config();
        check_stages(config.num_hidden_layers, sharding)?;
        check_tensor(model, sharding.tensor)?;
        if let Some(compression) = sharding.compression
            && !(1..=config.hidden_size).contains(&compression.rank)
        {
            let (rank, hidden) = (compression.rank, config.hidden_size);
            return Err(ShardError::CompressionRank { rank, hidden });
        }
        Ok(Sharded {
            tensors: model.tensors(),
            layers: config.num_hidden_layers,
            tied: config.tie_word_embeddings,
            sharding: sharding.clone(),
        })
    }

    /// All tensors of the model.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// How it is cut.
    pub fn sharding(&self) -> &Sharding {
        &self.sharding
    }

    /// Says whether the head is the embedding, so that first and last stage both have it.
    pub fn tied(&self) -> bool {
        self.tied
    }

    /// Pipeline stages.
    pub fn stages(&self) -> u32 {
        count(self.sharding.stages.len())
    }

    /// Decoder layers of a stage.
    pub fn layers(&self, stage: u32) -> Range<u32> {
        let before = &self.sharding.stages[..stage as usize];
        let first = before.iter().map(|stage| stage.layers).sum();
        first..first + self.sharding.stages[stage as usize].layers
    }

    /// The slices that a device of a stage holds, in the model's order.
    pub fn slices(&self, stage: u32, tensor: u32) -> Vec<Slice> {
        let held = (0..self.tensors.len()).filter(|index| self.holds(stage, *index));
        held.map(|index| self.slice(index, tensor)).collect()
    }

    /// A tensor as a device has it: its name, with the shape of the slice.
    pub fn local(&self, slice: &Slice) -> TensorSpec {
        let TensorSpec { name, shape } = &self.tensors[slice.tensor];
        let (rows, columns) = (length(&slice.rows), length(&slice.columns));
        let shape = if shape.len() == 1 { vec![columns] } else { vec![rows, columns] };
        TensorSpec { name: name.clone(), shape }
    }

    /// All of a tensor.
    pub fn whole(&self, tensor: usize) -> Slice {
        let (rows, columns) = sides(&self.tensors[tensor]);
        Slice { tensor, rows: 0..rows, columns: 0..columns }
    }

    /// The first stage and tensor-parallel device that hold a value of a tensor. Others may have
    /// copies of it.
    pub fn holder(&self, tensor: usize, row: u64, column: u64) -> (u32, u32) {
        let stage = (0..self.stages()).find(|stage| self.holds(*stage, tensor));
        debug_assert!(stage.is_some(), "no stage holds tensor {tensor}");
        let ways = self.sharding.tensor;
        let inside = |part: &u32| {
            let slice = self.slice(tensor, *part);
            slice.rows.contains(&row) && slice.columns.contains(&column)
        };
        let part = (0..ways).find(inside);
        debug_assert!(part.is_some(), "no device holds {row}, {column} of tensor {tensor}");
        (stage.unwrap_or(0), part.unwrap_or(0))
    }

    /// Says whether this device's copy of a slice is the one that counts where all are added up.
    pub fn counts(&self, slice: &Slice, stage: u32, tensor: u32) -> bool {
        self.holder(slice.tensor, slice.rows.start, slice.columns.start) == (stage, tensor)
    }

    fn holds(&self, stage: u32, tensor: usize) -> bool {
        let last = stage + 1 == self.stages();
        match self.place(tensor) {
            Place::Embedding => stage == 0 || (last && self.tied),
            Place::Layer(layer, _) => self.layers(stage).contains(&layer),
            Place::End(_) => last,
        }
    }

    fn slice(&self, tensor: usize, part: u32) -> Slice {
        let mut slice = self.whole(tensor);
        let ways = self.sharding.tensor.into();
        let cut = match self.place(tensor) {
            Place::Embedding => Cut::Rows,
            Place::Layer(_, cut) | Place::End(cut) => cut,
        };
        match cut {
            Cut::Rows => slice.rows = part_of(slice.rows.end, part.into(), ways),
            Cut::Columns => slice.columns = part_of(slice.columns.end, part.into(), ways),
            Cut::Whole => {}
        }
        slice
    }

    fn place(&self, tensor: usize) -> Place {
        let Some(after) = tensor.checked_sub(1) else { return Place::Embedding };
        let (layer, nth) = (after / LAYER.len(), after % LAYER.len());
        match u32::try_from(layer) {
            Ok(layer) if layer < self.layers => Place::Layer(layer, LAYER[nth]),
            _ if nth == 0 => Place::End(Cut::Whole),
            _ => Place::End(Cut::Rows),
        }
    }
}

/// The place of a tensor in the model.
enum Place {
    Embedding,
    Layer(u32, Cut),
    /// The last norm, and a head of its own.
    End(Cut),
}

/// Part `part` of `ways` of so many rows or columns: equal, or as equal as chunks allow.
fn part_of(length: u64, part: u64, ways: u64) -> Range<u64> {
    let blocks = length.div_ceil(BLOCK);
    debug_assert!(part < ways && ways <= blocks, "part {part} of {ways}, of {blocks} blocks");
    let cut = |part: u64| (blocks * part / ways * BLOCK).min(length);
    cut(part)..cut(part + 1)
}

fn sides(tensor: &TensorSpec) -> (u64, u64) {
    match tensor.shape[..] {
        [rows, columns] => (rows, columns),
        _ => (1, tensor.numel()),
    }
}

fn length(range: &Range<u64>) -> u64 {
    range.end - range.start
}

fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}

fn check_stages(layers: u32, sharding: &Sharding) -> Result<(), ShardError> {
    if let Some(stage) = sharding.stages.iter().position(|stage| stage.layers == 0) {
        return Err(ShardError::EmptyStage { stage });
    }
    let stages = sharding.stages.iter().map(|stage| u64::from(stage.layers)).sum();
    if stages != u64::from(layers) {
        return Err(ShardError::Layers { stages, layers });
    }
    Ok(())
}

fn check_tensor(model: &Llama, tensor: u32) -> Result<(), ShardError> {
    let config = model.config();
    if tensor == 0 {
        return Err(ShardError::NoTensor);
    }
    if tensor == 1 {
        return Ok(());
    }
    let shared = [
        ("num_attention_heads", config.num_attention_heads, "the query heads", model.query_width()),
        (
            "num_key_value_heads",
            config.num_key_value_heads,
            "the key and value heads",
            model.key_value_width(),
        ),
        (
            "intermediate_size",
            config.intermediate_size,
            "the feed-forward layer",
            config.intermediate_size.into(),
        ),
    ];
    for (key, value, what, width) in shared {
        if !value.is_multiple_of(tensor) {
            return Err(ShardError::DoesNotDivide { key, value: value.into(), tensor });
        }
        let part = width / u64::from(tensor);
        if !part.is_multiple_of(BLOCK) {
            return Err(ShardError::InsideChunk { what, part, tensor });
        }
    }
    if u64::from(config.vocab_size).div_ceil(BLOCK) < u64::from(tensor) {
        return Err(ShardError::Vocabulary { vocabulary: config.vocab_size, tensor });
    }
    Ok(())
}
