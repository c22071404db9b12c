//! Flat buffers: all parameters of a rank in one tensor, in the order of its tensors, and gradients
//! and moments in others of the same shape. The network's leaves are views of them, so that
//! communication, compression, optimiser and checkpoint see plain slices.

use std::ops::Range;

use plan::model::TensorSpec;
use sparseloco::TensorShape;
use tch::{Device, Kind, Tensor};

use crate::model::ModelError;

/// How names of a decoder layer's tensors begin.
const LAYERS: &str = "model.layers.";

/// Where every tensor lies in a flat buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    tensors: Vec<TensorSpec>,
    /// First value of every tensor, and last the number of all values.
    offsets: Vec<usize>,
}

impl Layout {
    /// Tensors one behind the other.
    pub fn new(tensors: Vec<TensorSpec>) -> Self {
        let mut offsets = vec![0];
        offsets.extend(tensors.iter().scan(0, |end, tensor| {
            *end += tensor.numel() as usize;
            Some(*end)
        }));
        Self { tensors, offsets }
    }

    /// The tensors in their order.
    pub fn tensors(&self) -> &[TensorSpec] {
        &self.tensors
    }

    /// Values of all tensors.
    pub fn numel(&self) -> usize {
        self.offsets[self.tensors.len()]
    }

    /// Every tensor with its range in the buffer.
    pub fn ranges(&self) -> impl Iterator<Item = (&TensorSpec, Range<usize>)> {
        self.tensors.iter().zip(self.offsets.windows(2).map(|pair| pair[0]..pair[1]))
    }

    /// The runs of neighbouring tensors that are all matrices or all vectors: weight decay is for
    /// matrices only. True for matrices.
    pub fn runs(&self) -> Vec<(bool, Range<usize>)> {
        let mut runs: Vec<(bool, Range<usize>)> = Vec::new();
        for (tensor, range) in self.ranges() {
            let matrix = tensor.shape.len() > 1;
            match runs.last_mut() {
                Some((last, run)) if *last == matrix => run.end = range.end,
                _ => runs.push((matrix, range)),
            }
        }
        runs
    }

    /// The place of a tensor.
    pub fn tensor(&self, index: usize) -> Range<usize> {
        self.offsets[index]..self.offsets[index + 1]
    }

    /// The place of a decoder layer, whose tensors lie side by side; empty where it is not here.
    pub fn layer(&self, index: u32) -> Range<usize> {
        let prefix = format!("{LAYERS}{index}.");
        let mut own = self.ranges().filter(|(tensor, _)| tensor.name.starts_with(&prefix));
        let Some((_, first)) = own.next() else { return 0..0 };
        first.start..own.last().map_or(first.end, |(_, last)| last.end)
    }

    /// The places of what belongs to no decoder layer, the last first.
    pub fn outside_layers(&self) -> Vec<Range<usize>> {
        let outside = self.ranges().filter(|(tensor, _)| !tensor.name.starts_with(LAYERS));
        let mut places: Vec<_> = outside.map(|(_, range)| range).collect();
        places.reverse();
        places
    }

    /// The chunks of the tensors: the order in which contributions and checkpoints have them.
    ///
    /// # Errors
    /// A tensor is empty or has more than two dimensions.
    pub fn canonical(&self) -> Result<sparseloco::Layout, sparseloco::LayoutError> {
        let shape = |tensor: &TensorSpec| TensorShape {
            name: tensor.name.clone(),
            shape: tensor.shape.clone(),
        };
        sparseloco::Layout::new(&self.tensors.iter().map(shape).collect::<Vec<_>>())
    }

    /// Offset and shape of tensors that lie side by side and, stacked by rows, are one matrix.
    fn stacked(&self, names: &[String]) -> Option<(usize, Vec<i64>)> {
        let first = self.tensors.iter().position(|tensor| Some(&tensor.name) == names.first())?;
        let found = self.tensors.get(first..first + names.len())?;
        let same = |tensor: &TensorSpec| tensor.shape[1..] == found[0].shape[1..];
        if !found.iter().zip(names).all(|(tensor, name)| tensor.name == *name && same(tensor)) {
            return None;
        }
        let mut shape: Vec<i64> = found[0].shape.iter().map(|size| *size as i64).collect();
        shape[0] = found.iter().map(|tensor| tensor.shape[0] as i64).sum();
        Some((self.offsets[first], shape))
    }
}

/// One flat buffer of f32 on a device, which the host sees as a slice.
#[derive(Debug)]
pub struct FlatBuffer {
    values: Tensor,
    /// The host's copy where `values` is not on the CPU; made when first asked for.
    staged: Option<Tensor>,
}

impl FlatBuffer {
    /// A buffer of zeros.
    ///
    /// # Errors
    /// The device has no room for it.
    pub fn zeros(numel: usize, device: Device) -> Result<Self, ModelError> {
        let values = Tensor::f_zeros([numel as i64], (Kind::Float, device))?;
        Ok(Self { values, staged: None })
    }

    /// The values on their device.
    pub fn tensor(&self) -> &Tensor {
        &self.values
    }

    /// The values on the host: themselves on the CPU, otherwise a fresh copy. What is written here
    /// counts after [`FlatBuffer::store`].
    ///
    /// # Errors
    /// The copy failed.
    pub fn host(&mut self) -> Result<&mut [f32], ModelError> {
        if self.values.device() == Device::Cpu {
            return Ok(tch_ext::host_slice(&mut self.values)?);
        }
        let mut staged = tch_ext::pinned(self.values.numel())?;
        tch::no_grad(|| staged.f_copy_(&self.values))?;
        Ok(tch_ext::host_slice(self.staged.insert(staged))?)
    }

    /// Brings what was written to the host's view back to the device.
    ///
    /// # Errors
    /// The copy failed.
    pub fn store(&mut self) -> Result<(), ModelError> {
        match self.staged.take() {
            Some(staged) => Ok(tch::no_grad(|| self.values.f_copy_(&staged))?),
            None => Ok(()),
        }
    }
}

/// A parameter (or several, stacked by rows) with its gradient; both are views of flat buffers.
#[derive(Debug)]
pub struct Leaf {
    /// The values, a leaf of autograd.
    pub value: Tensor,
    /// What its gradient accumulates into.
    pub gradient: Tensor,
}

/// Makes leaves of the flat buffers.
#[derive(Debug)]
pub struct Leaves<'a> {
    /// Where tensors lie.
    pub layout: &'a Layout,
    /// The flat parameters.
    pub theta: &'a Tensor,
    /// The flat gradient.
    pub gradient: &'a Tensor,
}

impl Leaves<'_> {
    /// The tensors of these names, which have to lie side by side, stacked by rows.
    ///
    /// # Errors
    /// The layout does not have them side by side.
    pub fn stacked(&self, names: &[String]) -> Result<Leaf, ModelError> {
        let (offset, shape) =
            self.layout.stacked(names).ok_or_else(|| ModelError::Layout(names.join(", ")))?;
        let numel = shape.iter().product();
        let view = |flat: &Tensor| flat.f_narrow(0, offset as i64, numel)?.f_view(shape.as_slice());
        let mut value = view(self.theta)?.f_detach()?.f_set_requires_grad(true)?;
        let gradient = view(self.gradient)?;
        tch_ext::set_gradient(&mut value, &gradient)?;
        Ok(Leaf { value, gradient })
    }
}

#[cfg(test)]
mod laws;

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(tensors: &[(&str, &[u64])]) -> Layout {
        let spec = |(name, shape): &(&str, &[u64])| TensorSpec {
            name: (*name).into(),
            shape: (*shape).into(),
        };
        Layout::new(tensors.iter().map(spec).collect())
    }

    #[test]
    fn neighbours_of_one_width_stack_and_others_do_not() {
        let layout = layout(&[("a", &[2, 3]), ("b", &[1, 3]), ("c", &[3]), ("d", &[4, 2])]);
        let stacked = |names: &[&str]| {
            layout.stacked(&names.iter().map(|name| (*name).into()).collect::<Vec<String>>())
        };
        assert_eq!(stacked(&["a", "b"]), Some((0, vec![3, 3])));
        assert_eq!(stacked(&["c"]), Some((9, vec![3])));
        for wrong in [&["b", "a"][..], &["a", "d"], &["b", "c"], &["d", "e"], &["x"], &[]] {
            assert_eq!(stacked(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn runs_separate_matrices_from_vectors() {
        let layout = layout(&[("a", &[2, 3]), ("b", &[1, 3]), ("c", &[3]), ("d", &[4, 2])]);
        assert_eq!(layout.runs(), [(true, 0..9), (false, 9..12), (true, 12..20)]);
        assert_eq!(layout.numel(), 20);
    }
}
