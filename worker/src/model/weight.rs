//! The matrices of the large products, in the kind in which they are multiplied.

use tch::{Kind, Tensor};

use super::ModelError;
use crate::parameters::Leaf;

/// A matrix with what stands for it in products: itself in f32, otherwise one copy that all
/// micro-batches of a step share.
#[derive(Debug)]
pub(super) struct Weight {
    leaf: Leaf,
    /// A copy has a graph to the leaf of a single cast, which keeps nothing and so lets as many
    /// backwards through as come: each adds to the leaf's gradient in f32.
    factor: Tensor,
}

impl Weight {
    pub(super) fn new(leaf: Leaf, kind: Kind) -> Result<Weight, ModelError> {
        let factor = leaf.value.shallow_clone();
        let mut weight = Weight { leaf, factor };
        weight.renew(kind)?;
        Ok(weight)
    }

    /// Takes new values of the leaf into use; no backward that has seen the old ones may follow.
    pub(super) fn renew(&mut self, kind: Kind) -> Result<(), ModelError> {
        // Frees the old copy before there is a new one.
        self.factor = self.leaf.value.shallow_clone();
        self.factor = tch::with_grad(|| self.leaf.value.f_to_kind(kind))?;
        Ok(())
    }

    /// What products take: [rows, columns].
    pub(super) fn factor(&self) -> &Tensor {
        &self.factor
    }

    /// What the leaf's gradient accumulates into, in f32.
    pub(super) fn gradient(&self) -> &Tensor {
        &self.leaf.gradient
    }
}
