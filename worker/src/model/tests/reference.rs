//! LLaMA in plain loops over f64, written from the formulas and sharing nothing with the product.

use std::ops::Range;

use plan::model::{LlamaConfig, TensorSpec};

/// Reads parameter values by place in the flat buffer.
type Theta<'a> = dyn Fn(usize) -> f64 + 'a;

struct Model<'a> {
    config: &'a LlamaConfig,
    tensors: &'a [TensorSpec],
    theta: &'a Theta<'a>,
}

/// Logits of every position, row by row.
pub(super) fn logits(
    config: &LlamaConfig,
    tensors: &[TensorSpec],
    theta: &[f32],
    tokens: &[u32],
) -> Vec<f64> {
    let theta = |i: usize| f64::from(theta[i]);
    Model { config, tensors, theta: &theta }.logits(tokens).concat()
}

/// Summed loss of one sequence.
pub(super) fn loss(
    config: &LlamaConfig,
    tensors: &[TensorSpec],
    theta: &[f32],
    tokens: &[u32],
) -> f64 {
    loss_of(config, tensors, &|i| f64::from(theta[i]), tokens)
}

/// Summed loss of one sequence for parameters in f64.
pub(super) fn loss_of(
    config: &LlamaConfig,
    tensors: &[TensorSpec],
    theta: &Theta<'_>,
    tokens: &[u32],
) -> f64 {
    let rows = Model { config, tensors, theta }.logits(&tokens[..tokens.len() - 1]);
    let nats = |row: &Vec<f64>, target: u32| {
        row.iter().map(|v| v.exp()).sum::<f64>().ln() - row[target as usize]
    };
    rows.iter().zip(&tokens[1..]).map(|(row, target)| nats(row, *target)).sum()
}

impl Model<'_> {
    fn range(&self, name: &str) -> (Range<usize>, usize) {
        let mut start = 0;
        for tensor in self.tensors {
            let numel = tensor.shape.iter().product::<u64>() as usize;
            if tensor.name == format!("{name}.weight") {
                return (start..start + numel, *tensor.shape.last().unwrap() as usize);
            }
            start += numel;
        }
        panic!("no tensor {name}");
    }

    fn product(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (range, width) = self.range(name);
        assert_eq!(width, x.len());
        let row = |start: usize| (0..width).map(|i| (self.theta)(start + i) * x[i]).sum();
        range.step_by(width).map(row).collect()
    }

    fn norm(&self, name: &str, x: &[f64]) -> Vec<f64> {
        let (range, _) = self.range(name);
        let mean = x.iter().map(|v| v * v).sum::<f64>() / x.len() as f64;
        let root = (mean + self.config.rms_norm_eps).sqrt();
        x.iter().zip(range).map(|(v, i)| v / root * (self.theta)(i)).collect()
    }

    /// Turns every head of `x` by its position.
    fn turn(&self, x: &[f64], position: usize) -> Vec<f64> {
        let width = self.config.head_dim.unwrap() as usize;
        let half = width / 2;
        let mut turned = x.to_vec();
        for (head, out) in x.chunks(width).zip(turned.chunks_mut(width)) {
            for i in 0..half {
                let power = -(2.0 * i as f64) / width as f64;
                let angle = position as f64 * self.config.rope_theta.powf(power);
                let (sine, cosine) = angle.sin_cos();
                out[i] = head[i] * cosine - head[i + half] * sine;
                out[i + half] = head[i + half] * cosine + head[i] * sine;
            }
        }
        turned
    }

    fn attention(&self, prefix: &str, rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let width = self.config.head_dim.unwrap() as usize;
        let group = (self.config.num_attention_heads / self.config.num_key_value_heads) as usize;
        let project = |name: &str| -> Vec<Vec<f64>> {
            rows.iter().map(|row| self.product(&format!("{prefix}.{name}_proj"), row)).collect()
        };
        let turned = |rows: Vec<Vec<f64>>| -> Vec<Vec<f64>> {
            rows.iter().enumerate().map(|(position, row)| self.turn(row, position)).collect()
        };
        let (query, key, value) = (turned(project("q")), turned(project("k")), project("v"));
        let mixed = |position: usize, head: usize| -> Vec<f64> {
            let part = |row: &[f64], head: usize| row[head * width..(head + 1) * width].to_vec();
            let own = part(&query[position], head);
            let score = |other: usize| -> f64 {
                let key = part(&key[other], head / group);
                let dot: f64 = own.iter().zip(&key).map(|(a, b)| a * b).sum();
                (dot / (width as f64).sqrt()).exp()
            };
            let scores: Vec<f64> = (0..=position).map(score).collect();
            let total: f64 = scores.iter().sum();
            let at = |i: usize| -> f64 {
                let value = |other: usize| part(&value[other], head / group)[i];
                scores.iter().enumerate().map(|(other, s)| s / total * value(other)).sum()
            };
            (0..width).map(at).collect()
        };
        let heads = self.config.num_attention_heads as usize;
        (0..rows.len())
            .map(|position| (0..heads).flat_map(|head| mixed(position, head)).collect::<Vec<_>>())
            .map(|row| self.product(&format!("{prefix}.o_proj"), &row))
            .collect()
    }

    fn gated(&self, prefix: &str, row: &[f64]) -> Vec<f64> {
        let gate = self.product(&format!("{prefix}.gate_proj"), row);
        let up = self.product(&format!("{prefix}.up_proj"), row);
        let silu = |v: f64| v / (1.0 + (-v).exp());
        let inner: Vec<f64> = gate.iter().zip(&up).map(|(g, u)| silu(*g) * u).collect();
        self.product(&format!("{prefix}.down_proj"), &inner)
    }

    fn logits(&self, tokens: &[u32]) -> Vec<Vec<f64>> {
        let (embedding, width) = self.range("model.embed_tokens");
        let embed = |token: &u32| -> Vec<f64> {
            let start = embedding.start + *token as usize * width;
            (start..start + width).map(|i| (self.theta)(i)).collect()
        };
        let add = |a: &mut Vec<f64>, b: Vec<f64>| {
            a.iter_mut().zip(b).for_each(|(a, b)| *a += b);
        };
        let mut rows: Vec<Vec<f64>> = tokens.iter().map(embed).collect();
        for layer in 0..self.config.num_hidden_layers {
            let name = |part: &str| format!("model.layers.{layer}.{part}");
            let normed: Vec<_> =
                rows.iter().map(|row| self.norm(&name("input_layernorm"), row)).collect();
            let attended = self.attention(&name("self_attn"), &normed);
            rows.iter_mut().zip(attended).for_each(|(row, more)| add(row, more));
            for row in &mut rows {
                let normed = self.norm(&name("post_attention_layernorm"), row);
                add(row, self.gated(&name("mlp"), &normed));
            }
        }
        let tied = self.config.tie_word_embeddings;
        let head = if tied { "model.embed_tokens" } else { "lm_head" };
        rows.iter().map(|row| self.product(head, &self.norm("model.norm", row))).collect()
    }
}
