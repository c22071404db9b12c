//! The output head and its loss, a chunk of rows at a time, so that the logits of a batch (tokens ×
//! vocabulary, the largest thing there is for a small model) never exist as a whole, and their
//! gradient takes their own place.

use tch::Tensor;

use super::ModelError;
use super::ops::Ops;
use crate::parameters::Leaf;

/// Logits that exist at a time: on the CPU what fits its cache, elsewhere what keeps a card busy.
const FUSED_CHUNK: i64 = 1 << 20;
const COMPOSED_CHUNK: i64 = 1 << 26;

/// Cross-entropy of hidden states [tokens, width] against targets [tokens].
#[derive(Debug)]
pub(super) struct Head {
    /// [vocabulary, width].
    pub(super) leaf: Leaf,
    /// How it computes.
    pub(super) ops: Ops,
}

impl Head {
    /// Logits [tokens, vocabulary] in f32.
    pub(super) fn logits(&self, hidden: &Tensor) -> Result<Tensor, ModelError> {
        self.ops.product(hidden, &self.leaf.value.f_detach()?)
    }

    /// The summed loss in nats. Runs under `no_grad`.
    pub(super) fn loss(&self, hidden: &Tensor, targets: &Tensor) -> Result<f64, ModelError> {
        let mut total = 0.0;
        for (hidden, targets) in self.chunks(hidden, targets)? {
            total += self.ops.cross_entropy(self.logits(&hidden)?, &targets)?.0;
        }
        Ok(total)
    }

    /// The summed loss in nats, and the gradient with respect to `hidden` of `scale` times it. Adds
    /// the head's own gradient to its flat buffer. Runs under `no_grad`.
    pub(super) fn loss_and_gradient(
        &self,
        hidden: &Tensor,
        targets: &Tensor,
        scale: f64,
    ) -> Result<(f64, Tensor), ModelError> {
        let weight = self.leaf.value.f_detach()?;
        let mut own = self.leaf.gradient.shallow_clone();
        let mut total = 0.0;
        let mut gradients = Vec::new();
        for (hidden, targets) in self.chunks(hidden, targets)? {
            let (loss, slope) = self.ops.cross_entropy(self.logits(&hidden)?, &targets)?;
            total += loss;
            // The scale goes where the values are fewest.
            let scaled = hidden.f_mul_scalar(scale)?;
            let _ = own.f_add_(&self.ops.product(&slope.f_tr()?, &scaled.f_tr()?)?)?;
            gradients.push(self.ops.product(&slope, &weight.f_tr()?)?.f_mul_scalar_(scale)?);
        }
        Ok((total, Tensor::f_cat(&gradients, 0)?))
    }

    fn chunks(
        &self,
        hidden: &Tensor,
        targets: &Tensor,
    ) -> Result<Vec<(Tensor, Tensor)>, ModelError> {
        let values = if self.ops == Ops::Fused { FUSED_CHUNK } else { COMPOSED_CHUNK };
        let rows = (values / self.leaf.value.size()[0]).max(1);
        let (hidden, targets) = (hidden.f_split(rows, 0)?, targets.f_split(rows, 0)?);
        Ok(hidden.into_iter().zip(targets).collect())
    }
}
