//! Compressed boundaries between stages (Subspace Networks, arXiv 2506.01260; Heterogeneous
//! SparseLoCo, arXiv 2601.02360).
//!
//! With U [width, k] orthonormal and X₀ the part of the tokens' embeddings outside its span,
//!
//! ```text
//! Z = (X − X₀)U,  X̂ = ZUᵀ + X₀        activations [tokens, width] go as Z [tokens, k]
//! dZ = dX̂ U,      dX = dZ Uᵀ          so do their gradients
//! W ← UUᵀW,       T ← X₀ + (T − X₀)UUᵀ
//! ```
//!
//! What is written to the residual stream, by the output and down projections W and the embedding
//! T, is kept in the subspace, so that nothing is lost on the way. X₀ is T(I − UUᵀ) at the start of
//! the round, which every stage keeps. What the constraint takes from W at the start of a round is
//! put back before the round's update is compressed: it is no update.

use plan::model::TensorSpec;
use tch::{Device, Tensor};

use super::{Batch, ModelError};
use crate::init;
use crate::parameters::Leaf;

const BASIS: &str = "pipeline.basis";

/// The subspace as a device of a compressed island has it.
#[derive(Debug)]
pub(super) struct Subspace {
    /// U.
    basis: Tensor,
    /// X₀ of the whole vocabulary, [vocabulary, width], where a round's embedding arrives.
    outside: Tensor,
    /// What the constraint has taken from each writing matrix, on the host.
    taken: Vec<Tensor>,
}

impl Subspace {
    /// The subspace of a run: `seed` alone decides it. `table`, [vocabulary, width], has the whole
    /// embedding whenever a round begins, and is X₀ from then on.
    pub(super) fn new(seed: u64, rank: u32, table: Tensor) -> Result<Subspace, ModelError> {
        let width = table.size()[1];
        let basis = orthonormal(seed, width as usize, rank as usize);
        let basis = Tensor::f_from_slice(&basis)?.f_view([i64::from(rank), width])?;
        let basis = basis.f_tr()?.f_contiguous()?.f_to_device(table.device())?;
        Ok(Subspace { basis, outside: table, taken: Vec::new() })
    }

    /// k.
    pub(super) fn rank(&self) -> i64 {
        self.basis.size()[1]
    }

    /// Z of X.
    pub(super) fn compress(&self, x: &Tensor, batch: &Batch) -> Result<Tensor, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let own = self.outside.f_index_select(0, &batch.inputs)?;
        self.compress_gradient(&x.f_sub(&own)?)
    }

    /// X̂ of Z.
    pub(super) fn restore(&self, z: &Tensor, batch: &Batch) -> Result<Tensor, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let own = self.outside.f_index_select(0, &batch.inputs)?;
        Ok(own.f_add(&self.restore_gradient(z)?)?)
    }

    /// dZ of dX̂.
    pub(super) fn compress_gradient(&self, gradient: &Tensor) -> Result<Tensor, ModelError> {
        let _no_grad = tch::no_grad_guard();
        Ok(gradient.f_matmul(&self.basis)?)
    }

    /// dX of dZ.
    pub(super) fn restore_gradient(&self, gradient: &Tensor) -> Result<Tensor, ModelError> {
        let _no_grad = tch::no_grad_guard();
        Ok(gradient.f_matmul(&self.basis.f_tr()?)?)
    }

    /// Begins a round with the table and the writing matrices as the outer step left them.
    pub(super) fn begin<'a>(
        &mut self,
        writing: impl Iterator<Item = &'a Leaf>,
    ) -> Result<(), ModelError> {
        let _no_grad = tch::no_grad_guard();
        let inside = self.inside_rows(&self.outside)?;
        let _ = self.outside.f_sub_(&inside)?;
        self.taken.clear();
        for leaf in writing {
            let mut matrix = leaf.value.f_detach()?;
            let inside = self.inside_columns(&matrix)?;
            self.taken.push(matrix.f_sub(&inside)?.f_to_device(Device::Cpu)?);
            matrix.f_copy_(&inside)?;
        }
        Ok(())
    }

    /// Takes an optimiser's step back into the subspace; `embedding` has the rows from
    /// `first_row` on.
    pub(super) fn constrain<'a>(
        &self,
        embedding: Option<(&Leaf, i64)>,
        writing: impl Iterator<Item = &'a Leaf>,
    ) -> Result<(), ModelError> {
        let _no_grad = tch::no_grad_guard();
        for leaf in writing {
            let mut matrix = leaf.value.f_detach()?;
            let inside = self.inside_columns(&matrix)?;
            matrix.f_copy_(&inside)?;
        }
        let Some((leaf, first_row)) = embedding else { return Ok(()) };
        let mut table = leaf.value.f_detach()?;
        let outside = self.outside.f_narrow(0, first_row, table.size()[0])?;
        let inside = self.inside_rows(&table.f_sub(&outside)?)?;
        table.f_copy_(&outside.f_add(&inside)?)?;
        Ok(())
    }

    /// Ends a round: puts back what [`Subspace::begin`] has taken.
    pub(super) fn end<'a>(
        &mut self,
        writing: impl Iterator<Item = &'a Leaf>,
    ) -> Result<(), ModelError> {
        let _no_grad = tch::no_grad_guard();
        for (leaf, taken) in writing.zip(self.taken.drain(..)) {
            let mut matrix = leaf.value.f_detach()?;
            let _ = matrix.f_add_(&taken.f_to_device(matrix.device())?)?;
        }
        Ok(())
    }

    /// UUᵀ W.
    fn inside_columns(&self, matrix: &Tensor) -> Result<Tensor, ModelError> {
        Ok(self.basis.f_matmul(&self.basis.f_tr()?.f_matmul(matrix)?)?)
    }

    /// T UUᵀ.
    fn inside_rows(&self, matrix: &Tensor) -> Result<Tensor, ModelError> {
        self.restore_gradient(&self.compress_gradient(matrix)?)
    }
}

/// `rank` orthonormal vectors of `width` values, one after another: seeded normal ones, made so by
/// Gram and Schmidt's method, twice for the sake of rounding. The same bits on every machine.
fn orthonormal(seed: u64, width: usize, rank: usize) -> Vec<f32> {
    let tensor = TensorSpec { name: BASIS.into(), shape: vec![rank as u64, width as u64] };
    let mut start = vec![0.0; width * rank];
    init::fill(seed, &tensor, 1.0, &mut start);
    let mut basis: Vec<Vec<f64>> = Vec::with_capacity(rank);
    for vector in start.chunks(width) {
        let mut vector: Vec<f64> = vector.iter().map(|value| f64::from(*value)).collect();
        for _ in 0..2 {
            for other in &basis {
                let along = dot(&vector, other);
                vector.iter_mut().zip(other).for_each(|(value, other)| *value -= along * other);
            }
        }
        let length = dot(&vector, &vector).sqrt();
        vector.iter_mut().for_each(|value| *value /= length);
        basis.push(vector);
    }
    basis.into_iter().flatten().map(|value| value as f32).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod rounds;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_basis_is_orthonormal_even_where_it_spans_everything() {
        let (width, rank) = (96, 96);
        let basis = orthonormal(3, width, rank);
        let rows: Vec<Vec<f64>> =
            basis.chunks(width).map(|row| row.iter().map(|v| f64::from(*v)).collect()).collect();
        for (i, a) in rows.iter().enumerate() {
            for (j, b) in rows.iter().enumerate() {
                let expected = if i == j { 1.0 } else { 0.0 };
                assert!((dot(a, b) - expected).abs() < 1e-6, "{i} {j}");
            }
        }
    }
}
