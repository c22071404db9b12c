//! The output head and its loss, a chunk of rows at a time, so that the logits of a batch (tokens ×
//! vocabulary, the largest thing there is for a small model) never exist as a whole, and their
//! gradient takes their own place. Where peers share the vocabulary, nobody has another's logits.

use std::ops::Range;

use plan::memory::{CARD_LOGITS, CPU_LOGITS};
use tch::{Kind, Tensor};

use super::ModelError;
use super::ops::Ops;
use super::peers::Peers;
use super::stage::within;
use super::weight::Weight;
use crate::sums::zero;

/// Cross-entropy of hidden states [tokens, width] against targets [tokens].
#[derive(Debug)]
pub(super) struct Head {
    /// [rows, width].
    pub(super) weight: Weight,
    /// The rows of the vocabulary that are here.
    pub(super) rows: Range<i64>,
    /// All of them.
    pub(super) vocabulary: i64,
    /// How it computes.
    pub(super) ops: Ops,
    /// Those that have the other rows.
    pub(super) peers: Peers,
}

impl Head {
    /// Logits [tokens, rows] in f32.
    pub(super) fn logits(&self, hidden: &Tensor) -> Result<Tensor, ModelError> {
        self.ops.product(hidden, &self.weight.factor().f_detach()?)
    }

    /// The summed loss in nats, a single f64 on the device. Runs under `no_grad`.
    pub(super) fn loss(&self, hidden: &Tensor, targets: &Tensor) -> Result<Tensor, ModelError> {
        let mut total = zero(hidden.device())?;
        for (hidden, targets) in self.chunks(hidden, targets)? {
            let _ = total.f_add_(&self.cross_entropy(self.logits(&hidden)?, &targets)?.0)?;
        }
        Ok(total)
    }

    /// The summed loss as in [`Head::loss`], and the gradient with respect to `hidden` of `scale`
    /// times it. Adds the head's own gradient to its flat buffer. Runs under `no_grad`.
    pub(super) fn loss_and_gradient(
        &self,
        hidden: &Tensor,
        targets: &Tensor,
        scale: f64,
    ) -> Result<(Tensor, Tensor), ModelError> {
        let weight = self.weight.factor().f_detach()?;
        let mut own = self.weight.gradient().shallow_clone();
        let mut total = zero(hidden.device())?;
        let mut gradients = Vec::new();
        for (hidden, targets) in self.chunks(hidden, targets)? {
            let (loss, slope) = self.cross_entropy(self.logits(&hidden)?, &targets)?;
            let _ = total.f_add_(&loss)?;
            // The scale goes where the values are fewest.
            let scaled = hidden.f_mul_scalar(scale)?;
            let _ = own.f_add_(&self.ops.product(&slope.f_tr()?, &scaled.f_tr()?)?)?;
            gradients.push(self.ops.product(&slope, &weight.f_tr()?)?.f_mul_scalar_(scale)?);
        }
        let mut gradient = Tensor::f_cat(&gradients, 0)?;
        self.peers.sum(&mut gradient)?;
        Ok((total, gradient))
    }

    /// The summed cross-entropy in nats of logits [tokens, rows], and its gradient in their place.
    ///
    /// With mᵢ and sᵢ the maximum and Σ exp(l − mᵢ) over the rows of peer i, and m the largest mᵢ,
    /// a token's loss is ln Σ sᵢ exp(mᵢ − m) + m − l\[target\]: three values of each peer.
    fn cross_entropy(
        &self,
        logits: Tensor,
        targets: &Tensor,
    ) -> Result<(Tensor, Tensor), ModelError> {
        if self.peers.size() == 1 {
            return self.ops.cross_entropy(logits, targets);
        }
        let (ids, here) = within(targets, &self.rows)?;
        let column = ids.f_unsqueeze(1)?;
        let here = here.f_unsqueeze(1)?;
        let top = logits.f_amax([1i64].as_slice(), true)?;
        let target = logits.f_gather(1, &column, false)?.f_mul(&here)?;
        let mut slope = logits.f_sub(&top)?;
        let _ = slope.f_exp_()?;
        let sum = slope.f_sum_dim_intlist([1i64].as_slice(), true, Kind::Float)?;
        let stats = self.exchange(&Tensor::f_cat(&[&top, &sum, &target], 1)?)?;
        // [peers, tokens, 1] each.
        let part = |index| stats.f_narrow(2, index, 1);
        let (tops, sums, targets) = (part(0)?, part(1)?, part(2)?);
        let highest = tops.f_amax([0i64].as_slice(), false)?;
        let sums = sums.f_mul(&tops.f_sub(&highest)?.f_exp()?)?;
        let sum = sums.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Float)?;
        let target = targets.f_sum_dim_intlist([0i64].as_slice(), false, Kind::Float)?;
        let losses = sum.f_log()?.f_add(&highest)?.f_sub(&target)?;
        let loss = losses.f_sum(Kind::Double)?;
        let _ = slope.f_mul_(&top.f_sub(&highest)?.f_exp()?.f_div(&sum)?)?;
        let _ = slope.f_scatter_add_(1, &column, &here.f_neg()?)?;
        Ok((loss, slope))
    }

    /// Every peer's values [tokens, n], stacked: [peers, tokens, n].
    fn exchange(&self, mine: &Tensor) -> Result<Tensor, ModelError> {
        let shape = [self.peers.size(), mine.size()[0], mine.size()[1]];
        let mut all = Tensor::f_zeros(shape, (Kind::Float, mine.device()))?;
        all.f_select(0, self.peers.position())?.f_copy_(mine)?;
        self.peers.sum(&mut all)?;
        Ok(all)
    }

    fn chunks(
        &self,
        hidden: &Tensor,
        targets: &Tensor,
    ) -> Result<Vec<(Tensor, Tensor)>, ModelError> {
        let values = if self.ops == Ops::Fused { CPU_LOGITS } else { CARD_LOGITS } as i64;
        // Not by the rows that are here: peers go through the same chunks.
        let rows = (values * self.peers.size() / self.vocabulary).max(1);
        let (hidden, targets) = (hidden.f_split(rows, 0)?, targets.f_split(rows, 0)?);
        Ok(hidden.into_iter().zip(targets).collect())
    }
}

#[cfg(test)]
mod tests;
