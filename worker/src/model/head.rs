//! The output head and its loss, a chunk of rows at a time, so that the logits of a batch (tokens ×
//! vocabulary, the largest thing there is for a small model) never exist as a whole, and their
//! gradient takes their own place.

use tch::{Kind, Tensor};

use crate::model::ModelError;
use crate::parameters::Leaf;

/// Logits that exist at a time.
const CHUNK: i64 = 1 << 20;

/// Cross-entropy of `hidden` [tokens, width] against `targets` [tokens].
#[derive(Debug)]
pub(super) struct Head {
    /// [vocabulary, width].
    pub(super) leaf: Leaf,
    /// Kind of the products.
    pub(super) kind: Kind,
}

impl Head {
    /// Logits [tokens, vocabulary] in f32.
    pub(super) fn logits(&self, hidden: &Tensor) -> Result<Tensor, ModelError> {
        let weight = self.leaf.value.f_detach()?.f_to_kind(self.kind)?;
        Ok(hidden.f_to_kind(self.kind)?.f_mm(&weight.f_tr()?)?.f_to_kind(Kind::Float)?)
    }

    /// The summed loss in nats. Runs under `no_grad`.
    pub(super) fn loss(&self, hidden: &Tensor, targets: &Tensor) -> Result<f64, ModelError> {
        let mut loss = Tensor::f_zeros([1], (Kind::Double, hidden.device()))?;
        for (hidden, targets) in self.chunks(hidden, targets)? {
            let log_p = self.logits(&hidden)?.f_internal_log_softmax(-1, false)?;
            let _ = loss.f_sub_(&picked(&log_p, &targets)?)?;
        }
        Ok(loss.f_double_value(&[0])?)
    }

    /// The summed loss in nats, and the gradient with respect to `hidden` of `scale` times it. Adds
    /// the head's own gradient to its flat buffer. Runs under `no_grad`.
    pub(super) fn loss_and_gradient(
        &self,
        hidden: &Tensor,
        targets: &Tensor,
        scale: f64,
    ) -> Result<(f64, Tensor), ModelError> {
        let mut loss = Tensor::f_zeros([1], (Kind::Double, hidden.device()))?;
        let weight = self.leaf.value.f_detach()?.f_to_kind(self.kind)?;
        let mut gradients = Vec::new();
        for (hidden, targets) in self.chunks(hidden, targets)? {
            let mut log_p = self.logits(&hidden)?.f_internal_log_softmax(-1, false)?;
            let _ = loss.f_sub_(&picked(&log_p, &targets)?)?;
            // d loss / d logits = softmax - one-hot, in the logits' place.
            let column = targets.f_unsqueeze(1)?;
            let minus_one = Tensor::f_full([1], -1.0, (Kind::Float, hidden.device()))?;
            let _ = log_p.f_exp_()?;
            let _ = log_p.f_scatter_add_(1, &column, &minus_one.f_expand_as(&column)?)?;
            let slope = log_p.f_to_kind(self.kind)?;
            let scaled = (&hidden * scale).f_to_kind(self.kind)?;
            self.add_gradient(&slope, &scaled)?;
            gradients.push(slope.f_mm(&weight)?.f_to_kind(Kind::Float)?.f_mul_scalar_(scale)?);
        }
        let gradient = match gradients.len() {
            1 => gradients.remove(0),
            _ => Tensor::f_cat(&gradients, 0)?,
        };
        Ok((loss.f_double_value(&[0])?, gradient))
    }

    fn add_gradient(&self, slope: &Tensor, hidden: &Tensor) -> Result<(), ModelError> {
        let mut total = self.leaf.gradient.shallow_clone();
        if self.kind == Kind::Float {
            let _ = total.f_addmm_(&slope.f_tr()?, hidden)?;
        } else {
            let _ = total.f_add_(&slope.f_tr()?.f_mm(hidden)?)?;
        }
        Ok(())
    }

    fn chunks(
        &self,
        hidden: &Tensor,
        targets: &Tensor,
    ) -> Result<Vec<(Tensor, Tensor)>, ModelError> {
        let rows = (CHUNK / self.leaf.value.size()[0]).max(1);
        let (hidden, targets) = (hidden.f_split(rows, 0)?, targets.f_split(rows, 0)?);
        Ok(hidden.into_iter().zip(targets).collect())
    }
}

/// Σ over rows of the value that `targets` names, in f64.
fn picked(log_p: &Tensor, targets: &Tensor) -> Result<Tensor, ModelError> {
    Ok(log_p.f_gather(1, &targets.f_unsqueeze(1)?, false)?.f_sum(Kind::Double)?)
}
