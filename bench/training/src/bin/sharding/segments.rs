//! A graph for each layer against one graph over all of them.

use anyhow::{Context, Result, ensure};
use plan::model::LlamaConfig;
use plan::spec::{DeviceSpec, OptimizerSpec};
use worker::model::Replica;

use crate::{cpu_seconds, median, tokens};

/// Pairs of steps that are timed.
const PAIRS: usize = 21;
const BATCH: usize = 4;
const LENGTH: usize = 128;

/// Prints the figure of two sizes and the larger one.
pub(crate) fn measure() -> Result<()> {
    let demo = plan::model::preset("llama-demo").context("a preset is missing")?;
    let sizes = [(6, 256, 4, 704), (8, 512, 8, 1408)];
    let mut worst = f64::NEG_INFINITY;
    for (layers, width, heads, intermediate) in sizes {
        let config = LlamaConfig {
            num_hidden_layers: layers,
            hidden_size: width,
            num_attention_heads: heads,
            num_key_value_heads: heads,
            head_dim: None,
            intermediate_size: intermediate,
            ..demo.clone()
        };
        let cost = compare(&config).with_context(|| format!("{layers} layers of {width}"))?;
        println!("figure sharding.segments_cost_percent.{layers}x{width} {cost:.2} %");
        worst = worst.max(cost);
    }
    println!("figure sharding.segments_cost_percent {worst:.2} %");
    Ok(())
}

/// How much longer forward and backward take in a graph for each layer, in percent.
fn compare(config: &LlamaConfig) -> Result<f64> {
    let device = DeviceSpec::Cpu { threads: 1, speed: 1.0 };
    let mut replica = Replica::new(config, 1, &device, &OptimizerSpec::default())?;
    let text = tokens(BATCH * (LENGTH + 1), config.vocab_size);
    let scale = 1.0 / (BATCH * LENGTH) as f64;
    let mut step = |one: bool| -> Result<f64> {
        Ok(if one {
            replica.forward_backward_in_one_graph(&text, BATCH, LENGTH, scale)?
        } else {
            replica.forward_backward(&text, BATCH, LENGTH, scale)?
        })
    };
    let mut times = [Vec::new(), Vec::new()];
    let mut losses = [0.0; 2];
    for pair in 0..=PAIRS {
        // Neither always comes first; the first pair warms up.
        for at in if pair % 2 == 0 { [0, 1] } else { [1, 0] } {
            let started = cpu_seconds();
            losses[at] = step(at == 1)?;
            if pair > 0 {
                times[at].push(cpu_seconds() - started);
            }
        }
    }
    ensure!(losses[0] == losses[1], "the losses are {} and {}", losses[0], losses[1]);
    ensure!(apart(&mut replica, &text)? < 1e-5, "the gradients differ");
    let ratios = times[0].iter().zip(&times[1]).map(|(own, one)| own / one).collect();
    Ok((median(ratios) - 1.0) * 100.0)
}

/// ‖a − b‖ / ‖b‖ of both gradients.
fn apart(replica: &mut Replica, text: &[u32]) -> Result<f64> {
    let mut gradients = Vec::new();
    for one in [false, true] {
        replica.gradients()?.fill(0.0);
        if one {
            replica.forward_backward_in_one_graph(text, BATCH, LENGTH, 1.0)?;
        } else {
            replica.forward_backward(text, BATCH, LENGTH, 1.0)?;
        }
        gradients.push(replica.gradients()?.to_vec());
    }
    let square = |values: &mut dyn Iterator<Item = f32>| -> f64 {
        values.map(|value| f64::from(value).powi(2)).sum()
    };
    let (own, one) = (&gradients[0], &gradients[1]);
    let difference = square(&mut own.iter().zip(one).map(|(a, b)| a - b));
    Ok((difference / square(&mut one.iter().copied())).sqrt())
}
