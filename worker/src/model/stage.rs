//! One stage of the network: some decoder layers, with the embedding before the first and the norm
//! and head after the last. Nothing here knows of optimisers or schedules.
//!
//! Every layer is a graph of its own, which backward goes through one by one: a layer's gradients
//! are complete before the next one's begin, and with recompute only its input is kept.

use std::ops::Range;

use plan::model::Llama;
use tch::Tensor;
use tch_ext::AttentionShape;

use super::head::Head;
use super::ops::{Ops, Rotary};
use super::peers::Peers;
use super::weight::Weight;
use super::{Batch, Compute, ModelError};
use crate::interrupt::Interrupt;
use crate::parameters::{Leaf, Leaves};

/// What a stage is made of.
#[derive(Clone, Debug)]
pub(super) struct StageSetup {
    /// Its layers, by their number in the model.
    pub(super) layers: Range<u32>,
    /// Whether it keeps only the inputs of its layers.
    pub(super) recompute: bool,
    /// Rows of the embedding that are here, where it is the first stage.
    pub(super) embedding: Option<Range<i64>>,
    /// Rows of the head that are here, where it is the last stage.
    pub(super) head: Option<Range<i64>>,
    /// Those that share the layers.
    pub(super) peers: Peers,
    /// When a step is left: it is asked between layers.
    pub(super) interrupt: Interrupt,
}

/// A stage on one device.
#[derive(Debug)]
pub(super) struct Stage {
    embedding: Option<Embedding>,
    layers: Vec<Layer>,
    end: Option<End>,
    shape: Shape,
    rotary: Rotary,
    recompute: bool,
    peers: Peers,
    interrupt: Interrupt,
}

/// [rows, width]: the rows of the vocabulary that are here.
#[derive(Debug)]
struct Embedding {
    leaf: Leaf,
    rows: Range<i64>,
}

#[derive(Debug)]
struct End {
    norm: Leaf,
    head: Head,
}

/// One decoder layer. Query, key and value rows lie side by side in the flat buffer, as do gate and
/// up: each is one product.
#[derive(Debug)]
struct Layer {
    input_norm: Leaf,
    query_key_value: Weight,
    output: Weight,
    post_norm: Leaf,
    gate_up: Weight,
    down: Weight,
}

/// What every layer needs to know; heads are those of this device.
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
pub(super) struct Residual {
    stream: Tensor,
    delta: Option<Tensor>,
}

/// What backward needs of one micro-batch.
#[derive(Debug)]
pub(super) struct Flight {
    layers: Vec<Kept>,
    /// After the last layer, cut off from the graph.
    output: Residual,
}

#[derive(Debug)]
enum Kept {
    /// The graph between a leaf and a layer's output.
    Graph { leaf: Tensor, output: Residual },
    /// The layer's input, all additions made, to compute the rest from.
    Input(Residual),
}

impl Residual {
    /// The stream before the first layer of a stage.
    fn input(stream: Tensor) -> Self {
        Self { stream, delta: None }
    }

    /// The stream with all additions made.
    pub(super) fn sum(&self) -> Result<Tensor, ModelError> {
        match &self.delta {
            Some(delta) => Ok(self.stream.f_add(delta)?),
            None => Ok(self.stream.shallow_clone()),
        }
    }

    fn detach(&self) -> Result<Self, ModelError> {
        let delta = self.delta.as_ref().map(Tensor::f_detach).transpose()?;
        Ok(Self { stream: self.stream.f_detach()?, delta })
    }

    /// Cut off from the graph, with a stream that takes a gradient: that of the sum.
    fn leaf(&self) -> Result<Self, ModelError> {
        let cut = self.detach()?;
        Ok(Self { stream: cut.stream.f_set_requires_grad(true)?, delta: cut.delta })
    }
}

impl Flight {
    /// What the next stage gets: [tokens, width].
    pub(super) fn output(&self) -> Result<Tensor, ModelError> {
        self.output.sum()
    }
}

impl Stage {
    pub(super) fn new(
        model: &Llama,
        leaves: &Leaves<'_>,
        compute: Compute,
        setup: StageSetup,
    ) -> Result<Self, ModelError> {
        let config = model.config();
        let leaf = |name: &str| leaves.stacked(&[format!("{name}.weight")]);
        let ways = setup.peers.size();
        let shape = Shape {
            heads: i64::from(config.num_attention_heads) / ways,
            key_value_heads: i64::from(config.num_key_value_heads) / ways,
            epsilon: config.rms_norm_eps,
            ops: Ops::new(compute),
        };
        let positions = config.max_position_embeddings.into();
        let head_dim = model.query_width() as i64 / i64::from(config.num_attention_heads);
        let embedding = setup
            .embedding
            .map(|rows| Ok::<_, ModelError>(Embedding { leaf: leaf("model.embed_tokens")?, rows }));
        let end = setup.head.map(|rows| {
            let name = if config.tie_word_embeddings { "model.embed_tokens" } else { "lm_head" };
            let peers = setup.peers.clone();
            let vocabulary = config.vocab_size.into();
            let weight = Weight::new(leaf(name)?, shape.ops.kind())?;
            let head = Head { weight, rows, vocabulary, ops: shape.ops, peers };
            Ok::<_, ModelError>(End { norm: leaf("model.norm")?, head })
        });
        let layers = setup.layers.map(|index| Layer::new(index, leaves, shape.ops));
        Ok(Self {
            embedding: embedding.transpose()?,
            layers: layers.collect::<Result<_, _>>()?,
            end: end.transpose()?,
            shape,
            rotary: Rotary::new(positions, head_dim, config.rope_theta, compute.device)?,
            recompute: setup.recompute,
            peers: setup.peers,
            interrupt: setup.interrupt,
        })
    }

    /// Takes new values of θ into use.
    pub(super) fn renew(&mut self) -> Result<(), ModelError> {
        let kind = self.shape.ops.kind();
        let layers = self.layers.iter_mut().flat_map(Layer::weights);
        let mut all = layers.chain(self.end.as_mut().map(|end| &mut end.head.weight));
        all.try_for_each(|weight| weight.renew(kind))
    }

    /// The residual stream [tokens, width] before the first layer of the model.
    pub(super) fn embed(&self, batch: &Batch) -> Result<Tensor, ModelError> {
        let embedding = self.embedding.as_ref().ok_or(ModelError::Stage("embedding"))?;
        let _no_grad = tch::no_grad_guard();
        let weight = embedding.leaf.value.f_detach()?;
        if self.peers.size() == 1 {
            return Ok(weight.f_index_select(0, &batch.inputs)?);
        }
        let (ids, here) = within(&batch.inputs, &embedding.rows)?;
        let rows = weight.f_index_select(0, &ids)?;
        let mut rows = rows.f_mul(&here.f_unsqueeze(1)?)?;
        self.peers.sum(&mut rows)?;
        Ok(rows)
    }

    /// Adds the gradient [tokens, width] of what [`Stage::embed`] gave.
    pub(super) fn embed_backward(
        &self,
        batch: &Batch,
        gradient: &Tensor,
    ) -> Result<(), ModelError> {
        let embedding = self.embedding.as_ref().ok_or(ModelError::Stage("embedding"))?;
        // Not through autograd, which would make a gradient as large as the vocabulary.
        let _no_grad = tch::no_grad_guard();
        let mut total = embedding.leaf.gradient.shallow_clone();
        if self.peers.size() == 1 {
            let _ = total.f_index_add_(0, &batch.inputs, gradient)?;
            return Ok(());
        }
        let (ids, here) = within(&batch.inputs, &embedding.rows)?;
        let _ = total.f_index_add_(0, &ids, &gradient.f_mul(&here.f_unsqueeze(1)?)?)?;
        Ok(())
    }

    /// All layers over [tokens, width].
    pub(super) fn forward(&self, input: Tensor, batch: &Batch) -> Result<Flight, ModelError> {
        let rotary = self.rotary.first(batch.length)?;
        let mut residual = Residual::input(input);
        let mut layers = Vec::with_capacity(self.layers.len());
        for layer in &self.layers {
            self.interrupt.check()?;
            if self.recompute {
                let _no_grad = tch::no_grad_guard();
                let next = layer.forward(&residual, self, &rotary, batch.batch)?;
                // One tensor to keep, and not two.
                let next = Residual::input(next.sum()?);
                layers.push(Kept::Input(std::mem::replace(&mut residual, next)));
            } else {
                let leaf = residual.leaf()?;
                let output = layer.forward(&leaf, self, &rotary, batch.batch)?;
                residual = output.detach()?;
                layers.push(Kept::Graph { leaf: leaf.stream, output });
            }
        }
        Ok(Flight { layers, output: residual })
    }

    /// From the gradient [tokens, width] of the stage's output to that of its input; adds the
    /// gradients of all parameters. Calls `done` with the number of each layer, counted in the
    /// stage, when its gradients are added.
    pub(super) fn backward(
        &self,
        flight: Flight,
        batch: &Batch,
        mut gradient: Tensor,
        mut done: impl FnMut(usize) -> Result<(), ModelError>,
    ) -> Result<Tensor, ModelError> {
        let rotary = self.rotary.first(batch.length)?;
        let layers = self.layers.iter().zip(flight.layers).enumerate();
        for (index, (layer, kept)) in layers.rev() {
            self.interrupt.check()?;
            let (leaf, output) = match kept {
                Kept::Graph { leaf, output } => (leaf, output),
                Kept::Input(input) => {
                    let leaf = input.leaf()?;
                    let output = layer.forward(&leaf, self, &rotary, batch.batch)?;
                    (leaf.stream, output)
                }
            };
            let mut roots = vec![(&output.stream, &gradient)];
            roots.extend(output.delta.as_ref().map(|delta| (delta, &gradient)));
            self.peers.watched(tch_ext::backward(&roots))?;
            gradient = leaf.f_grad()?;
            done(index)?;
        }
        Ok(gradient)
    }

    /// The summed loss in nats, a single f64 on the device, and the gradient [tokens, width] of
    /// `scale` times it with respect to the stage's output. Adds the gradients of the last norm
    /// and the head.
    pub(super) fn loss_and_gradient(
        &self,
        flight: &Flight,
        batch: &Batch,
        scale: f64,
    ) -> Result<(Tensor, Tensor), ModelError> {
        let end = self.end()?;
        let leaf = flight.output.leaf()?;
        let hidden = self.shape.norm(&leaf, &end.norm)?.0;
        let (loss, gradient) = tch::no_grad(|| {
            end.head.loss_and_gradient(&hidden.f_detach()?, &batch.targets, scale)
        })?;
        tch_ext::backward(&[(&hidden, &gradient)])?;
        Ok((loss, leaf.stream.f_grad()?))
    }

    /// What the layers and the head do with `input`, in one graph: the loss and the gradient of
    /// `input` as forward, [`Stage::loss_and_gradient`] and backward give them. What graphs of
    /// their own cost is measured against it.
    pub(super) fn in_one_graph(
        &self,
        input: &Tensor,
        batch: &Batch,
        scale: f64,
    ) -> Result<(Tensor, Tensor), ModelError> {
        let (end, rotary) = (self.end()?, self.rotary.first(batch.length)?);
        let leaf = Residual::input(input.shallow_clone()).leaf()?;
        let stream = leaf.stream.shallow_clone();
        let mut residual = leaf;
        for layer in &self.layers {
            residual = layer.forward(&residual, self, &rotary, batch.batch)?;
        }
        let hidden = self.shape.norm(&residual, &end.norm)?.0;
        let (loss, gradient) = tch::no_grad(|| {
            end.head.loss_and_gradient(&hidden.f_detach()?, &batch.targets, scale)
        })?;
        tch_ext::backward(&[(&hidden, &gradient)])?;
        Ok((loss, stream.f_grad()?))
    }

    /// The layers' output [tokens, width] without a graph.
    pub(super) fn run(&self, input: Tensor, batch: &Batch) -> Result<Residual, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let rotary = self.rotary.first(batch.length)?;
        let mut residual = Residual::input(input);
        for layer in &self.layers {
            self.interrupt.check()?;
            residual = layer.forward(&residual, self, &rotary, batch.batch)?;
        }
        Ok(residual)
    }

    /// The summed loss in nats of what [`Stage::run`] gave, a single f64 on the device.
    pub(super) fn loss(&self, output: &Residual, batch: &Batch) -> Result<Tensor, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let end = self.end()?;
        let hidden = self.shape.norm(output, &end.norm)?.0;
        end.head.loss(&hidden, &batch.targets)
    }

    /// Logits [positions, vocabulary] after the last `positions` tokens of what [`Stage::run`]
    /// gave; the head has to be whole.
    pub(super) fn logits(&self, output: &Residual, positions: usize) -> Result<Tensor, ModelError> {
        let _no_grad = tch::no_grad_guard();
        let end = self.end()?;
        let hidden = self.shape.norm(output, &end.norm)?.0;
        let (length, positions) = (hidden.size()[0], positions as i64);
        end.head.logits(&hidden.f_narrow(0, length - positions, positions)?)
    }

    /// [`Team::abandon`] of the peers.
    ///
    /// [`Team::abandon`]: crate::parallel::Team::abandon
    pub(super) fn abandon(&self) {
        self.peers.abandon();
    }

    /// Takes the path of the cards, so that a machine without one tests it.
    #[cfg(test)]
    pub(super) fn compose(&mut self, kind: tch::Kind) -> Result<(), ModelError> {
        self.shape.ops = Ops::Composed(kind);
        if let Some(end) = &mut self.end {
            end.head.ops = self.shape.ops;
        }
        self.renew()
    }

    fn end(&self) -> Result<&End, ModelError> {
        self.end.as_ref().ok_or(ModelError::Stage("head"))
    }
}

/// Token ids as rows of a part of the vocabulary, and 1 for those that are in it, else 0.
pub(super) fn within(ids: &Tensor, rows: &Range<i64>) -> Result<(Tensor, Tensor), ModelError> {
    let local = ids.f_sub_scalar(rows.start)?;
    let last = rows.end - rows.start - 1;
    let inside = local.f_clamp(0, last)?;
    let here = inside.f_eq_tensor(&local)?.f_to_kind(tch::Kind::Float)?;
    Ok((inside, here))
}

impl Layer {
    fn new(index: u32, leaves: &Leaves<'_>, ops: Ops) -> Result<Self, ModelError> {
        let stacked = |names: &[&str]| {
            let full = |name: &&str| format!("model.layers.{index}.{name}.weight");
            leaves.stacked(&names.iter().map(full).collect::<Vec<_>>())
        };
        let weight = |names: &[&str]| Weight::new(stacked(names)?, ops.kind());
        Ok(Self {
            input_norm: stacked(&["input_layernorm"])?,
            query_key_value: weight(&["self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"])?,
            output: weight(&["self_attn.o_proj"])?,
            post_norm: stacked(&["post_attention_layernorm"])?,
            gate_up: weight(&["mlp.gate_proj", "mlp.up_proj"])?,
            down: weight(&["mlp.down_proj"])?,
        })
    }

    fn weights(&mut self) -> [&mut Weight; 4] {
        [&mut self.query_key_value, &mut self.output, &mut self.gate_up, &mut self.down]
    }

    /// The residual stream after this layer. Peers that share the layer get the same.
    fn forward(
        &self,
        residual: &Residual,
        stage: &Stage,
        rotary: &Rotary,
        batch: i64,
    ) -> Result<Residual, ModelError> {
        let Stage { shape, peers, .. } = stage;
        let Shape { heads, key_value_heads, ops, .. } = *shape;
        let (normed, stream) = shape.norm(residual, &self.input_norm)?;
        let mixed = ops.linear(&peers.enter(normed)?, &self.query_key_value)?;
        let shape_of_heads = AttentionShape { batch, heads, key_value_heads };
        let attended = ops.attention(&mixed, rotary, shape_of_heads)?;
        let delta = Some(peers.leave(ops.linear(&attended, &self.output)?)?);
        let (normed, stream) = shape.norm(&Residual { stream, delta }, &self.post_norm)?;
        let gated = ops.gate(&ops.linear(&peers.enter(normed)?, &self.gate_up)?)?;
        Ok(Residual { stream, delta: Some(peers.leave(ops.linear(&gated, &self.down)?)?) })
    }
}

impl Shape {
    /// The norm of the residual stream, and the stream with all additions made.
    fn norm(self, residual: &Residual, weight: &Leaf) -> Result<(Tensor, Tensor), ModelError> {
        self.ops.norm(&residual.stream, residual.delta.as_ref(), weight, self.epsilon)
    }
}

#[cfg(test)]
mod tests;
