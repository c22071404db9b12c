//! Every operation of a layer against its formula in plain f64, and its gradient against finite
//! differences of that.

use super::*;

const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

fn wave(count: usize, step: f64) -> Vec<f64> {
    // Values that f32 has exactly.
    (0..count).map(|index| f64::from(((index as f64 * 1.7 + step).sin()) as f32)).collect()
}

fn tensor(values: &[f64], shape: &[i64]) -> Tensor {
    let values: Vec<f32> = values.iter().map(|value| *value as f32).collect();
    Tensor::from_slice(&values).view(shape)
}

fn values(tensor: &Tensor) -> Vec<f64> {
    Vec::try_from(tensor.detach().to_kind(Kind::Double).flatten(0, -1)).unwrap()
}

fn near(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let allowed = 2e-5 * expected.abs().max(1.0);
        assert!((found - expected).abs() < allowed, "{what} {at}: {found} {expected}");
    }
}

/// Compares an operation and its gradient with a formula, input by input.
fn check(
    what: &str,
    inputs: &[(Vec<f64>, Vec<i64>)],
    operation: impl Fn(&[Tensor]) -> Tensor,
    formula: impl Fn(&[Vec<f64>]) -> Vec<f64>,
) {
    let tensors: Vec<Tensor> = inputs
        .iter()
        .map(|(values, shape)| tensor(values, shape).set_requires_grad(true))
        .collect();
    let plain: Vec<Vec<f64>> = inputs.iter().map(|(values, _)| values.clone()).collect();
    let out = operation(&tensors);
    let expected = formula(&plain);
    near(&values(&out), &expected, what);
    let slope = wave(expected.len(), 5.1);
    backward(&[(&out, &tensor(&slope, &out.size()))]).unwrap();
    for (input, tensor) in tensors.iter().enumerate() {
        let along = |at: usize, change: f64| -> f64 {
            let mut moved = plain.clone();
            moved[input][at] += change;
            formula(&moved).iter().zip(&slope).map(|(a, b)| a * b).sum()
        };
        let difference = |at| (along(at, 1e-5) - along(at, -1e-5)) / 2e-5;
        let expected: Vec<f64> = (0..plain[input].len()).map(difference).collect();
        near(&values(&tensor.grad()), &expected, &format!("{what}: the gradient of input {input}"));
    }
}

#[test]
fn a_linear_layer_and_its_gradients_are_products_of_any_shape() {
    for (rows, inner, columns) in [(1, 1, 1), (3, 5, 2), (2, 33, 17), (65, 4, 3)] {
        let formula = |inputs: &[Vec<f64>]| {
            let [x, weight] = inputs else { panic!("two inputs") };
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let rows = x.chunks(inner).flat_map(|x| weight.chunks(inner).map(move |w| dot(x, w)));
            rows.collect()
        };
        let inputs = [
            (wave(rows * inner, 0.1), vec![rows as i64, inner as i64]),
            (wave(columns * inner, 0.7), vec![columns as i64, inner as i64]),
        ];
        let linear = |inputs: &[Tensor]| linear(&inputs[0], &inputs[1]).unwrap();
        check(&format!("{rows} × {inner} × {columns}"), &inputs, linear, formula);
        let [x, weight] = inputs.map(|(values, shape)| tensor(&values, &shape));
        let alone = values(&product(&x, &weight).unwrap());
        near(&alone, &values(&x.matmul(&weight.tr())), "a product without a gradient");
    }
}

#[test]
fn a_norm_and_its_gradients_follow_the_formula_with_and_without_a_residual() {
    const EPSILON: f64 = 1e-3;
    // Widths that fill no vector of the processor.
    for (rows, width) in [(1, 1), (3, 7), (4, 16), (2, 19)] {
        let normed = move |x: &[f64], weight: &[f64]| -> Vec<f64> {
            let of_row = |row: &[f64]| {
                let mean = row.iter().map(|value| value * value).sum::<f64>() / width as f64;
                let root = (mean + EPSILON).sqrt();
                row.iter()
                    .zip(weight)
                    .map(|(value, weight)| value / root * weight)
                    .collect::<Vec<_>>()
            };
            x.chunks(width).flat_map(of_row).collect()
        };
        let matrix = vec![rows as i64, width as i64];
        let x = (wave(rows * width, 0.3), matrix.clone());
        let weight = (wave(width, 2.0), vec![width as i64]);
        check(
            "a norm",
            &[x.clone(), weight.clone()],
            |inputs| norm(&inputs[0], None, &inputs[1], EPSILON).unwrap().0,
            |inputs| normed(&inputs[0], &inputs[1]),
        );
        let delta = (wave(rows * width, 1.3), matrix);
        // Both outputs: the norm, and the sum that goes on.
        check(
            "a norm after a sum",
            &[x, delta, weight],
            |inputs| {
                let (normed, sum) =
                    norm(&inputs[0], Some(&inputs[1]), &inputs[2], EPSILON).unwrap();
                Tensor::cat(&[normed, sum], 0)
            },
            |inputs| {
                let sum: Vec<f64> = inputs[0].iter().zip(&inputs[1]).map(|(a, b)| a + b).collect();
                [normed(&sum, &inputs[2]), sum].concat()
            },
        );
    }
}

#[test]
fn a_gate_and_its_gradients_follow_the_formula() {
    for (rows, width) in [(1, 1), (3, 5), (2, 40)] {
        let mut both = wave(rows * 2 * width, 0.2);
        both.iter_mut().for_each(|value| *value *= 8.0);
        let formula = |inputs: &[Vec<f64>]| -> Vec<f64> {
            let of_row = |row: &[f64]| {
                let (gate, up) = row.split_at(width);
                let silu = |value: f64| value / (1.0 + (-value).exp());
                gate.iter().zip(up).map(|(gate, up)| silu(*gate) * up).collect::<Vec<_>>()
            };
            inputs[0].chunks(2 * width).flat_map(of_row).collect()
        };
        let inputs = [(both, vec![rows as i64, 2 * width as i64])];
        check("a gate", &inputs, |inputs| gate(&inputs[0]).unwrap(), formula);
    }
}

/// Causal attention of one sequence with rotary positions, as the papers have it.
fn attended(mixed: &[f64], heads: usize, shared: usize, width: usize) -> Vec<f64> {
    let row = (heads + 2 * shared) * width;
    let length = mixed.len() / row;
    let part = |token: usize, head: usize| &mixed[token * row + head * width..][..width];
    let turned = |token: usize, head: usize| -> Vec<f64> {
        let (x, half) = (part(token, head), width / 2);
        (0..width)
            .map(|at| {
                let angle = table(token, at, width);
                let other = if at < half { -x[at + half] } else { x[at - half] };
                x[at] * angle.cos() + other * angle.sin()
            })
            .collect()
    };
    let mut out = Vec::new();
    for token in 0..length {
        for head in 0..heads {
            let own = head * shared / heads;
            let query = turned(token, head);
            let score = |other: usize| {
                let key = turned(other, heads + own);
                let dot: f64 = query.iter().zip(&key).map(|(a, b)| a * b).sum();
                (dot / (width as f64).sqrt()).exp()
            };
            let scores: Vec<f64> = (0..=token).map(score).collect();
            let total: f64 = scores.iter().sum();
            out.extend((0..width).map(|at| {
                let value = |other: usize| part(other, heads + shared + own)[at];
                scores.iter().enumerate().map(|(t, score)| score / total * value(t)).sum::<f64>()
            }));
        }
    }
    out
}

/// The angle of a position.
fn table(token: usize, at: usize, width: usize) -> f64 {
    token as f64 / 100f64.powf((at % (width / 2)) as f64 * 2.0 / width as f64)
}

#[test]
fn attention_and_its_gradient_follow_the_formula_with_shared_heads_and_without() {
    for (batch, length, heads, shared, width) in
        [(1, 1, 1, 1, 2), (1, 4, 2, 2, 4), (2, 3, 4, 2, 4), (1, 5, 3, 1, 6)]
    {
        let row = (heads + 2 * shared) * width;
        let tables = |of: fn(f64) -> f64| {
            let angles =
                (0..length).flat_map(|token| (0..width).map(move |at| table(token, at, width)));
            let values: Vec<f64> = angles.map(of).collect();
            tensor(&values, &[length as i64, width as i64])
        };
        let (cosine, sine) = (tables(f64::cos), tables(f64::sin));
        let shape = AttentionShape {
            batch: batch as i64,
            heads: heads as i64,
            key_value_heads: shared as i64,
        };
        let inputs = [(wave(batch * length * row, 0.4), vec![(batch * length) as i64, row as i64])];
        check(
            &format!("{batch} × {length} tokens, {heads} heads over {shared} of {width}"),
            &inputs,
            |inputs| attention(&inputs[0], (&cosine, &sine), shape).unwrap(),
            |inputs| {
                let sequences = inputs[0].chunks(length * row);
                sequences.flat_map(|mixed| attended(mixed, heads, shared, width)).collect()
            },
        );
    }
}

#[test]
fn a_cross_entropy_and_the_gradient_in_its_place_follow_the_formula() {
    for (rows, width) in [(1, 1), (3, 5), (7, 67)] {
        let logits: Vec<f64> = wave(rows * width, 0.6).iter().map(|value| value * 6.0).collect();
        let targets: Vec<i64> = (0..rows).map(|row| ((row * 13 + 4) % width) as i64).collect();
        let mut own = tensor(&logits, &[rows as i64, width as i64]);
        let loss = cross_entropy(&mut own, &Tensor::from_slice(&targets)).unwrap();
        let (mut expected, mut slope) = (0.0, Vec::new());
        for (row, target) in logits.chunks(width).zip(&targets) {
            let sum: f64 = row.iter().map(|logit| logit.exp()).sum();
            expected += sum.ln() - row[*target as usize];
            let one = |at: usize| if at as i64 == *target { 1.0 } else { 0.0 };
            slope.extend(row.iter().enumerate().map(|(at, logit)| logit.exp() / sum - one(at)));
        }
        near(&[loss], &[expected], "the loss");
        near(&values(&own), &slope, "its gradient");
    }
}

#[test]
fn logits_at_their_edges_give_the_loss_that_they_mean() {
    let loss = |logits: &[f32], target: i64| {
        let mut logits = Tensor::from_slice(logits).view([1, -1]);
        cross_entropy(&mut logits, &Tensor::from_slice(&[target])).unwrap()
    };
    assert!((loss(&[1e30, 1e30], 0) - 2f64.ln()).abs() < 1e-6, "no overflow");
    assert_eq!(loss(&[0.0, -1e4], 0), 0.0);
    assert_eq!(loss(&[0.0, -1e4], 1), 1e4);
    assert_eq!(loss(&[0.0, f32::NEG_INFINITY], 1), f64::INFINITY);
    // In whichever place it stands: a step is skipped by it.
    for place in 0..40 {
        let mut logits = vec![0.5f32; 40];
        logits[place] = f32::NAN;
        assert!(loss(&logits, 0).is_nan(), "{place}");
        logits[place] = f32::INFINITY;
        assert!(!loss(&logits, 0).is_finite(), "{place}");
    }
}

#[test]
fn gates_of_any_size_neither_overflow_nor_lose_what_is_no_number() {
    let gated =
        |value: f32| values(&gate(&Tensor::from_slice(&[value, 1.0]).view([1, 2])).unwrap())[0];
    for (value, expected) in [(0.0, 0.0), (100.0, 100.0), (-100.0, 0.0), (3e38, f64::from(3e38f32))]
    {
        let found = gated(value);
        assert!((found - expected).abs() <= 1e-6 * expected.abs().max(1.0), "{value}: {found}");
    }
    assert!(gated(f32::NAN).is_nan());
    let zeros = norm(&Tensor::zeros([2, 3], CPU), None, &Tensor::ones([3], CPU), 1e-5).unwrap().0;
    assert_eq!(values(&zeros), [0.0; 6]);
}
