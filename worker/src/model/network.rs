//! The network: embedding, decoder layers, norm, head. Nothing here knows of optimisers or ranks; a
//! layer is a unit that takes and returns the residual stream.

use plan::model::Llama;
use tch::{Kind, Tensor};

use super::head::Head;
use super::{Batch, Compute, ModelError};
use crate::parameters::{Leaf, Leaves};

/// A model on one device.
#[derive(Debug)]
pub(super) struct Network {
    /// [vocabulary, width].
    embedding: Leaf,
    layers: Vec<Layer>,
    norm: Leaf,
    head: Head,
    shape: Shape,
    rotary: Rotary,
}

/// One decoder layer. Query, key and value rows lie side by side in the flat buffer, as do gate and
/// up: each is one product.
#[derive(Debug)]
struct Layer {
    input_norm: Leaf,
    query_key_value: Leaf,
    output: Leaf,
    post_norm: Leaf,
    gate_up: Leaf,
    down: Leaf,
}

/// Numbers that every layer needs.
#[derive(Clone, Copy, Debug)]
struct Shape {
    heads: i64,
    key_value_heads: i64,
    head_dim: i64,
    width: i64,
    epsilon: f64,
    kind: Kind,
}

/// Rotary position embedding (Su et al. 2021) in Hugging Face's layout: the first half of a head is
/// turned with its second half. Tables are [positions, head_dim].
#[derive(Debug)]
struct Rotary {
    cosine: Tensor,
    sine: Tensor,
}

impl Network {
    pub(super) fn new(
        model: &Llama,
        leaves: &Leaves<'_>,
        compute: Compute,
    ) -> Result<Self, ModelError> {
        let config = model.config();
        let leaf = |name: &str| leaves.stacked(&[format!("{name}.weight")]);
        let head = if config.tie_word_embeddings { "model.embed_tokens" } else { "lm_head" };
        let shape = Shape {
            heads: config.num_attention_heads.into(),
            key_value_heads: config.num_key_value_heads.into(),
            head_dim: model.query_width() as i64 / i64::from(config.num_attention_heads),
            width: config.hidden_size.into(),
            epsilon: config.rms_norm_eps,
            kind: compute.kind,
        };
        let positions = config.max_position_embeddings.into();
        Ok(Self {
            embedding: leaf("model.embed_tokens")?,
            layers: (0..config.num_hidden_layers)
                .map(|index| Layer::new(index, leaves))
                .collect::<Result<_, _>>()?,
            norm: leaf("model.norm")?,
            head: Head { leaf: leaf(head)?, kind: compute.kind },
            shape,
            rotary: Rotary::new(positions, shape.head_dim, config.rope_theta, compute)?,
        })
    }

    /// Adds `scale` times the gradient to the flat gradient; the summed loss in nats.
    pub(super) fn forward_backward(&self, batch: &Batch, scale: f64) -> Result<f64, ModelError> {
        let embedded = self.embed(&batch.inputs)?.f_set_requires_grad(true)?;
        let hidden = self.hidden(&embedded, batch.batch, batch.length)?;
        let (loss, gradient) = tch::no_grad(|| {
            self.head.loss_and_gradient(&hidden.f_detach()?, &batch.targets, scale)
        })?;
        tch_ext::backward(&hidden, &gradient)?;
        // Not through autograd, which would make a gradient as large as the vocabulary.
        let _no_grad = tch::no_grad_guard();
        let mut total = self.embedding.gradient.shallow_clone();
        let _ = total.f_index_add_(0, &batch.inputs, &embedded.f_grad()?)?;
        Ok(loss)
    }

    /// The summed loss in nats. Runs under `no_grad`.
    pub(super) fn loss(&self, batch: &Batch) -> Result<f64, ModelError> {
        let embedded = self.embed(&batch.inputs)?;
        let hidden = self.hidden(&embedded, batch.batch, batch.length)?;
        self.head.loss(&hidden, &batch.targets)
    }

    /// Logits [positions, vocabulary] after the last `positions` tokens. Runs under `no_grad`.
    pub(super) fn logits(&self, inputs: &Tensor, positions: usize) -> Result<Tensor, ModelError> {
        let length = inputs.size()[0];
        let hidden = self.hidden(&self.embed(inputs)?, 1, length)?;
        let positions = positions as i64;
        self.head.logits(&hidden.f_narrow(0, length - positions, positions)?)
    }

    /// The residual stream [tokens, width] before the first layer, a leaf of the graph.
    fn embed(&self, inputs: &Tensor) -> Result<Tensor, ModelError> {
        Ok(self.embedding.value.f_detach()?.f_index_select(0, inputs)?)
    }

    /// The normed residual stream [tokens, width] after the last layer.
    fn hidden(&self, embedded: &Tensor, batch: i64, length: i64) -> Result<Tensor, ModelError> {
        let rotary = self.rotary.first(length)?;
        let mut stream = embedded.shallow_clone();
        for layer in &self.layers {
            stream = layer.forward(&stream, self.shape, &rotary, batch)?;
        }
        self.shape.norm(&stream, &self.norm)
    }
}

impl Layer {
    fn new(index: u32, leaves: &Leaves<'_>) -> Result<Self, ModelError> {
        let stacked = |names: &[&str]| {
            let full = |name: &&str| format!("model.layers.{index}.{name}.weight");
            leaves.stacked(&names.iter().map(full).collect::<Vec<_>>())
        };
        Ok(Self {
            input_norm: stacked(&["input_layernorm"])?,
            query_key_value: stacked(&[
                "self_attn.q_proj",
                "self_attn.k_proj",
                "self_attn.v_proj",
            ])?,
            output: stacked(&["self_attn.o_proj"])?,
            post_norm: stacked(&["post_attention_layernorm"])?,
            gate_up: stacked(&["mlp.gate_proj", "mlp.up_proj"])?,
            down: stacked(&["mlp.down_proj"])?,
        })
    }

    /// The residual stream after this layer. `stream` is [tokens, width].
    fn forward(
        &self,
        stream: &Tensor,
        shape: Shape,
        rotary: &Rotary,
        batch: i64,
    ) -> Result<Tensor, ModelError> {
        let normed = shape.norm(stream, &self.input_norm)?;
        let mixed = shape.linear(&normed, &self.query_key_value)?;
        let attended = shape.attention(&mixed, rotary, batch)?;
        let stream = stream.f_add(&shape.linear(&attended, &self.output)?)?;
        let normed = shape.norm(&stream, &self.post_norm)?;
        let gated = shape.gate(&shape.linear(&normed, &self.gate_up)?)?;
        Ok(stream.f_add(&shape.linear(&gated, &self.down)?)?)
    }
}

impl Shape {
    /// x · w / √(mean(x²) + ε) in f32 (Zhang and Sennrich 2019).
    fn norm(self, stream: &Tensor, weight: &Leaf) -> Result<Tensor, ModelError> {
        let width = [self.width];
        Ok(stream.f_rms_norm(width.as_slice(), Some(&weight.value), Some(self.epsilon))?)
    }

    /// x Wᵀ in the kind of the products.
    fn linear(self, x: &Tensor, weight: &Leaf) -> Result<Tensor, ModelError> {
        let weight = weight.value.f_to_kind(self.kind)?;
        Ok(x.f_to_kind(self.kind)?.f_linear(&weight, None::<&Tensor>)?)
    }

    /// silu(gate) · up (Shazeer 2020) of [tokens, 2 · intermediate].
    fn gate(self, gate_up: &Tensor) -> Result<Tensor, ModelError> {
        let parts = gate_up.f_chunk(2, -1)?;
        Ok(parts[0].f_silu()?.f_mul(&parts[1])?)
    }

    /// Causal attention over [tokens, (heads + 2 · key_value_heads) · head_dim] with queries and keys
    /// turned by their positions; [tokens, heads · head_dim].
    fn attention(self, mixed: &Tensor, rotary: &Rotary, batch: i64) -> Result<Tensor, ModelError> {
        let length = mixed.size()[0] / batch;
        let all = self.heads + 2 * self.key_value_heads;
        let heads = mixed.f_view([batch, length, all, self.head_dim])?.f_transpose(1, 2)?;
        let sizes = [self.heads, self.key_value_heads, self.key_value_heads];
        let parts = heads.f_split_with_sizes(sizes.as_slice(), 1)?;
        let query = rotary.turn(&parts[0], self.kind)?;
        let key = rotary.turn(&parts[1], self.kind)?;
        let attended = Tensor::f_scaled_dot_product_attention(
            &query,
            &key,
            &parts[2],
            None::<&Tensor>,
            0.0,
            true,
            None,
            self.heads != self.key_value_heads,
        )?;
        Ok(attended.f_transpose(1, 2)?.f_reshape([batch * length, self.heads * self.head_dim])?)
    }
}

impl Rotary {
    fn new(
        positions: i64,
        head_dim: i64,
        theta: f64,
        compute: Compute,
    ) -> Result<Self, ModelError> {
        let options = (Kind::Float, tch::Device::Cpu);
        let exponents = Tensor::f_arange_start_step(0, head_dim, 2, options)?;
        let powers = Tensor::f_pow_scalar(theta, &exponents.f_div_scalar(head_dim as f64)?)?;
        let frequencies = powers.f_reciprocal()?;
        let angles = Tensor::f_arange(positions, options)?.f_outer(&frequencies)?;
        let angles = Tensor::f_cat(&[&angles, &angles], -1)?;
        Ok(Self {
            cosine: angles.f_cos()?.f_to_device(compute.device)?,
            sine: angles.f_sin()?.f_to_device(compute.device)?,
        })
    }

    /// The tables of the first `length` positions.
    fn first(&self, length: i64) -> Result<Self, ModelError> {
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
