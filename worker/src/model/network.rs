//! The network: embedding, decoder layers, norm, head. Nothing here knows of optimisers or ranks; a
//! layer is a unit that takes and returns the residual stream.

use plan::model::Llama;
use tch::Tensor;
use tch_ext::AttentionShape;

use super::head::Head;
use super::ops::{Ops, Rotary};
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

/// What every layer needs to know.
#[derive(Clone, Copy, Debug)]
struct Shape {
    heads: i64,
    key_value_heads: i64,
    epsilon: f64,
    ops: Ops,
}

/// The residual stream [tokens, width] between layers. What the last layer adds is kept apart, so
/// that the addition and the norm after it are one pass.
#[derive(Debug)]
struct Residual {
    stream: Tensor,
    delta: Option<Tensor>,
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
            epsilon: config.rms_norm_eps,
            ops: Ops::new(compute),
        };
        let positions = config.max_position_embeddings.into();
        let head_dim = model.query_width() as i64 / shape.heads;
        Ok(Self {
            embedding: leaf("model.embed_tokens")?,
            layers: (0..config.num_hidden_layers)
                .map(|index| Layer::new(index, leaves))
                .collect::<Result<_, _>>()?,
            norm: leaf("model.norm")?,
            head: Head { leaf: leaf(head)?, ops: shape.ops },
            shape,
            rotary: Rotary::new(positions, head_dim, config.rope_theta, compute.device)?,
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

    /// Takes the path of the cards, so that a machine without one tests it.
    #[cfg(test)]
    pub(super) fn compose(&mut self, kind: tch::Kind) {
        self.shape.ops = Ops::Composed(kind);
        self.head.ops = self.shape.ops;
    }

    /// The residual stream [tokens, width] before the first layer, a leaf of the graph.
    fn embed(&self, inputs: &Tensor) -> Result<Tensor, ModelError> {
        Ok(self.embedding.value.f_detach()?.f_index_select(0, inputs)?)
    }

    /// The normed residual stream [tokens, width] after the last layer.
    fn hidden(&self, embedded: &Tensor, batch: i64, length: i64) -> Result<Tensor, ModelError> {
        let rotary = self.rotary.first(length)?;
        let mut residual = Residual { stream: embedded.shallow_clone(), delta: None };
        for layer in &self.layers {
            residual = layer.forward(&residual, self.shape, &rotary, batch)?;
        }
        Ok(self.shape.norm(&residual, &self.norm)?.0)
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

    /// The residual stream after this layer.
    fn forward(
        &self,
        residual: &Residual,
        shape: Shape,
        rotary: &Rotary,
        batch: i64,
    ) -> Result<Residual, ModelError> {
        let Shape { heads, key_value_heads, ops, .. } = shape;
        let (normed, stream) = shape.norm(residual, &self.input_norm)?;
        let mixed = ops.linear(&normed, &self.query_key_value)?;
        let shape_of_heads = AttentionShape { batch, heads, key_value_heads };
        let attended = ops.attention(&mixed, rotary, shape_of_heads)?;
        let delta = Some(ops.linear(&attended, &self.output)?);
        let (normed, stream) = shape.norm(&Residual { stream, delta }, &self.post_norm)?;
        let gated = ops.gate(&ops.linear(&normed, &self.gate_up)?)?;
        Ok(Residual { stream, delta: Some(ops.linear(&gated, &self.down)?) })
    }
}

impl Shape {
    /// The norm of the residual stream, and the stream with all additions made.
    fn norm(self, residual: &Residual, weight: &Leaf) -> Result<(Tensor, Tensor), ModelError> {
        self.ops.norm(&residual.stream, residual.delta.as_ref(), weight, self.epsilon)
    }
}
