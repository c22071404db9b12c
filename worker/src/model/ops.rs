//! The operations of a layer, on either of two paths: fused in the shim for f32 on the CPU, or
//! composed of libtorch's for every other device and kind. Both compute the same.

use tch::{Device, Kind, Tensor};
use tch_ext::AttentionShape;

use super::weight::Weight;
use super::{Compute, ModelError};
use crate::parameters::Leaf;

/// How operations are computed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Ops {
    /// By the shim: f32 on the CPU.
    Fused,
    /// By libtorch, with the large products in this kind and all else in f32.
    Composed(Kind),
}

/// Rotary position embedding (Su et al. 2021) in Hugging Face's layout: the first half of a head is
/// turned with its second half. Tables are [positions, head_dim].
#[derive(Debug)]
pub(super) struct Rotary {
    cosine: Tensor,
    sine: Tensor,
}

impl Ops {
    pub(super) fn new(compute: Compute) -> Self {
        match (compute.device, compute.kind) {
            (Device::Cpu, Kind::Float) => Self::Fused,
            (_, kind) => Self::Composed(kind),
        }
    }

    /// The kind in which the large products are.
    pub(super) fn kind(self) -> Kind {
        match self {
            Self::Fused => Kind::Float,
            Self::Composed(kind) => kind,
        }
    }

    /// x Wᵀ in f32, without a gradient.
    pub(super) fn product(self, x: &Tensor, weight: &Tensor) -> Result<Tensor, ModelError> {
        match self {
            Self::Fused => Ok(tch_ext::product(x, weight)?),
            Self::Composed(kind) => {
                let weight = weight.f_to_kind(kind)?.f_tr()?;
                Ok(x.f_to_kind(kind)?.f_mm(&weight)?.f_to_kind(Kind::Float)?)
            }
        }
    }

    /// x Wᵀ.
    pub(super) fn linear(self, x: &Tensor, weight: &Weight) -> Result<Tensor, ModelError> {
        match self {
            Self::Fused => Ok(tch_ext::linear(x, weight.factor())?),
            Self::Composed(kind) => {
                Ok(x.f_to_kind(kind)?.f_linear(weight.factor(), None::<&Tensor>)?)
            }
        }
    }

    /// s · w / √(mean(s²) + ε) (Zhang and Sennrich 2019), and s = x + delta.
    pub(super) fn norm(
        self,
        x: &Tensor,
        delta: Option<&Tensor>,
        weight: &Leaf,
        epsilon: f64,
    ) -> Result<(Tensor, Tensor), ModelError> {
        match self {
            Self::Fused => Ok(tch_ext::norm(x, delta, &weight.value, epsilon)?),
            Self::Composed(_) => {
                let sum = match delta {
                    Some(delta) => x.f_add(delta)?,
                    None => x.shallow_clone(),
                };
                let width = weight.value.size();
                let normed = sum.f_rms_norm(&width[..], Some(&weight.value), Some(epsilon))?;
                Ok((normed, sum))
            }
        }
    }

    /// silu(gate) · up (Shazeer 2020) of [tokens, gate then up].
    pub(super) fn gate(self, both: &Tensor) -> Result<Tensor, ModelError> {
        match self {
            Self::Fused => Ok(tch_ext::gate(both)?),
            Self::Composed(_) => {
                let parts = both.f_chunk(2, -1)?;
                Ok(parts[0].f_silu()?.f_mul(&parts[1])?)
            }
        }
    }

    /// Causal attention over [tokens, (heads + 2 · key_value_heads) · head_dim] with queries and
    /// keys turned by their positions; [tokens, heads · head_dim].
    pub(super) fn attention(
        self,
        mixed: &Tensor,
        rotary: &Rotary,
        shape: AttentionShape,
    ) -> Result<Tensor, ModelError> {
        match self {
            Self::Fused => Ok(tch_ext::attention(mixed, (&rotary.cosine, &rotary.sine), shape)?),
            Self::Composed(kind) => composed_attention(mixed, rotary, shape, kind),
        }
    }

    /// The summed cross-entropy in nats of logits [tokens, vocabulary] in f32, a single f64 on the
    /// device, and its gradient softmax - one-hot in their place.
    pub(super) fn cross_entropy(
        self,
        mut logits: Tensor,
        targets: &Tensor,
    ) -> Result<(Tensor, Tensor), ModelError> {
        if self == Self::Fused {
            let loss = tch_ext::cross_entropy(&mut logits, targets)?;
            return Ok((Tensor::from(loss), logits));
        }
        let column = targets.f_unsqueeze(1)?;
        let mut slope = logits.f_internal_log_softmax(-1, false)?;
        drop(logits);
        let loss = slope.f_gather(1, &column, false)?.f_sum(Kind::Double)?.f_neg()?;
        let minus_one = Tensor::f_full([1], -1.0, (Kind::Float, slope.device()))?;
        let _ = slope.f_exp_()?;
        let _ = slope.f_scatter_add_(1, &column, &minus_one.f_expand_as(&column)?)?;
        Ok((loss, slope))
    }
}

fn composed_attention(
    mixed: &Tensor,
    rotary: &Rotary,
    shape: AttentionShape,
    kind: Kind,
) -> Result<Tensor, ModelError> {
    let AttentionShape { batch, heads, key_value_heads } = shape;
    let tokens = mixed.size()[0];
    let all = heads + 2 * key_value_heads;
    let by_head = mixed.f_view([batch, tokens / batch, all, -1])?.f_transpose(1, 2)?;
    let sizes = [heads, key_value_heads, key_value_heads];
    let parts = by_head.f_split_with_sizes(&sizes[..], 1)?;
    let attended = Tensor::f_scaled_dot_product_attention(
        &rotary.turn(&parts[0], kind)?,
        &rotary.turn(&parts[1], kind)?,
        &parts[2],
        None::<&Tensor>,
        0.0,
        true,
        None,
        heads != key_value_heads,
    )?;
    Ok(attended.f_transpose(1, 2)?.f_reshape([tokens, -1])?)
}

impl Rotary {
    /// Tables of so many positions, by the formula and in the precision of transformers.
    pub(super) fn new(
        positions: i64,
        head_dim: i64,
        theta: f64,
        device: Device,
    ) -> Result<Self, ModelError> {
        let options = (Kind::Float, Device::Cpu);
        let exponents = Tensor::f_arange_start_step(0, head_dim, 2, options)?;
        let powers = Tensor::f_pow_scalar(theta, &exponents.f_div_scalar(head_dim as f64)?)?;
        let angles = Tensor::f_arange(positions, options)?.f_outer(&powers.f_reciprocal()?)?;
        let angles = Tensor::f_cat(&[&angles, &angles], -1)?;
        Ok(Self {
            cosine: angles.f_cos()?.f_to_device(device)?,
            sine: angles.f_sin()?.f_to_device(device)?,
        })
    }

    /// The tables of the first `length` positions.
    pub(super) fn first(&self, length: i64) -> Result<Self, ModelError> {
        Ok(Self {
            cosine: self.cosine.f_narrow(0, 0, length)?,
            sine: self.sine.f_narrow(0, 0, length)?,
        })
    }

    /// Turns [batch, heads, length, head_dim]; in f32, then `kind`.
    fn turn(&self, heads: &Tensor, kind: Kind) -> Result<Tensor, ModelError> {
        let halves = heads.f_chunk(2, -1)?;
        let turned = Tensor::f_cat(&[&halves[1].f_neg()?, &halves[0]], -1)?;
        let sum = heads.f_mul(&self.cosine)?.f_add(&turned.f_mul(&self.sine)?)?;
        Ok(sum.f_to_kind(kind)?)
    }
}

#[cfg(test)]
mod tests;
