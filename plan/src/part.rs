//! How much of a model a device holds, as numbers: what memory and time are computed from.

use crate::model::Llama;
use crate::shard::{ShardError, Sharded, Slice};
use crate::spec::{PipelineCompression, Sharding, StageSpec};

/// The part of the model that a device at one position holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its stage, from 0.
    pub stage: u32,
    /// Pipeline stages.
    pub stages: u32,
    /// Devices that share each layer.
    pub tensor: u32,
    /// Decoder layers of its stage.
    pub layers: u32,
    /// Whether its stage computes activations again.
    pub recompute: bool,
    /// k of the compression between stages; absent where nothing is compressed.
    pub compression: Option<u32>,
    /// Values of its parts of all tensors.
    pub parameters: u64,
    /// Rows of its part of the head; 0 before the last stage.
    pub head_rows: u64,
}

impl Part {
    /// Says whether nothing follows its stage.
    pub fn is_last(&self) -> bool {
        self.stage + 1 == self.stages
    }

    /// Neighbouring stages.
    pub fn boundaries(&self) -> u32 {
        u32::from(self.stage > 0) + u32::from(!self.is_last())
    }
}

/// Values of each piece of a model for every one of its tensor-parallel devices: the [`Part`]s of
/// any number of stages without cutting the model for each.
#[derive(Clone, Debug)]
pub struct Parts {
    pieces: Vec<Pieces>,
    tied: bool,
}

/// Values that one tensor-parallel device has of each piece.
#[derive(Clone, Copy, Debug)]
struct Pieces {
    layer: u64,
    embedding: u64,
    norm: u64,
    head: u64,
    head_rows: u64,
}

impl Parts {
    /// Cuts a model for so many tensor-parallel devices.
    ///
    /// # Errors
    /// When they cannot share it.
    pub fn new(model: &Llama, tensor: u32) -> Result<Parts, ShardError> {
        let config = model.config();
        let whole = Sharding::whole(config.num_hidden_layers);
        let cut = Sharded::new(model, &Sharding { tensor, ..whole })?;
        let tied = config.tie_word_embeddings;
        Ok(Parts { pieces: (0..tensor).map(|part| pieces(&cut, part, tied)).collect(), tied })
    }

    /// Devices that share each layer.
    pub fn tensor(&self) -> u32 {
        u32::try_from(self.pieces.len()).unwrap_or(u32::MAX)
    }

    /// The tensor-parallel device with the most rows of the vocabulary, which has the most of all.
    pub fn heaviest(&self) -> u32 {
        let rows = |part: &u32| self.pieces[*part as usize].head_rows;
        (0..self.tensor()).rev().max_by_key(rows).unwrap_or(0)
    }

    /// The part of a stage that is its layers and nothing else: less than any stage of so many
    /// layers holds.
    pub fn layers_only(&self, own: StageSpec) -> Part {
        let pieces = self.pieces[self.heaviest() as usize];
        Part {
            stage: 0,
            stages: 1,
            tensor: self.tensor(),
            layers: own.layers,
            recompute: own.recompute,
            compression: None,
            parameters: u64::from(own.layers) * pieces.layer,
            head_rows: 0,
        }
    }

    /// Rows of the head that a tensor-parallel device has.
    pub fn head_rows(&self, tensor: u32) -> u64 {
        self.pieces[tensor as usize].head_rows
    }

    /// The part that a device of a stage holds. The sharding is one of as many tensor-parallel
    /// devices.
    pub fn part(&self, sharding: &Sharding, stage: u32, tensor: u32) -> Part {
        let stages = u32::try_from(sharding.stages.len()).unwrap_or(u32::MAX);
        let place = Place { stage, stages, compression: sharding.compression };
        self.at(place, sharding.stages[stage as usize], tensor)
    }

    /// The part that a device holds of a stage of so many layers at some place.
    pub fn at(&self, place: Place, own: StageSpec, tensor: u32) -> Part {
        let Place { stage, stages, compression } = place;
        let pieces = self.pieces[tensor as usize];
        let last = stage + 1 == stages;
        let embedding = stage == 0 || (last && self.tied);
        let held = [
            (true, u64::from(own.layers) * pieces.layer),
            (embedding, pieces.embedding),
            (last, pieces.norm),
            (last && !self.tied, pieces.head),
        ];
        Part {
            stage,
            stages,
            tensor: self.tensor(),
            layers: own.layers,
            recompute: own.recompute,
            compression: compression.map(|compression| compression.rank),
            parameters: held.iter().filter(|(held, _)| *held).map(|(_, values)| values).sum(),
            head_rows: if last { pieces.head_rows } else { 0 },
        }
    }
}

/// A stage's place in a pipeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// From 0.
    pub stage: u32,
    /// How many there are.
    pub stages: u32,
    /// Compression of what goes between them.
    pub compression: Option<PipelineCompression>,
}

/// The pieces out of the slices of a model of one stage: embedding, equal layers, norm, and a head
/// where it is not the embedding.
fn pieces(cut: &Sharded, tensor: u32, tied: bool) -> Pieces {
    let slices = cut.slices(0, tensor);
    let values = |slice: &Slice| cut.local(slice).numel();
    let layers = cut.layers(0).end as usize;
    let end = slices.len() - if tied { 1 } else { 2 };
    let head = &slices[if tied { 0 } else { end + 1 }];
    Pieces {
        layer: slices[1..end].iter().map(values).sum::<u64>() / layers as u64,
        embedding: values(&slices[0]),
        norm: values(&slices[end]),
        head: values(head),
        head_rows: head.rows.end - head.rows.start,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PRESETS, preset};

    #[test]
    fn parts_are_the_sums_of_their_slices() {
        for name in PRESETS {
            let model = preset(name).expect("a preset").validate().expect("sound");
            let layers = model.config().num_hidden_layers;
            for (tensor, first) in [1, 2, 4].into_iter().flat_map(|t| [(t, None), (t, Some(2))]) {
                let Ok(parts) = Parts::new(&model, tensor) else { continue };
                let counts = first.map_or(vec![layers], |first| vec![first, layers - first - 1, 1]);
                let stages = counts.iter().map(|l| StageSpec { layers: *l, recompute: false });
                let sharding = Sharding { tensor, stages: stages.collect(), compression: None };
                let cut = Sharded::new(&model, &sharding).expect("a sharding");
                for (stage, tensor) in
                    (0..cut.stages()).flat_map(|s| (0..tensor).map(move |t| (s, t)))
                {
                    let slices = cut.slices(stage, tensor);
                    let values = slices.iter().map(|slice| cut.local(slice).numel()).sum::<u64>();
                    assert_eq!(parts.part(&sharding, stage, tensor).parameters, values, "{name}");
                }
            }
        }
    }

    #[test]
    fn the_heaviest_of_unequal_parts_has_the_most_rows() {
        let mut config = preset("llama-160m").expect("a preset");
        config.vocab_size = 320;
        let parts = Parts::new(&config.validate().expect("sound"), 2).expect("a cut");
        let whole = Sharding { tensor: 2, ..Sharding::whole(12) };
        let rows: Vec<_> = (0..2).map(|tensor| parts.part(&whole, 0, tensor).head_rows).collect();
        assert_eq!((rows, parts.heaviest()), (vec![128, 192], 1));
    }
}
