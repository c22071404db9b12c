//! The streams of values: where they begin, and that they are the distribution that is promised.

use std::collections::HashSet;

use super::*;

fn tensor(name: &str, shape: &[u64]) -> TensorSpec {
    TensorSpec { name: name.into(), shape: shape.into() }
}

fn values(seed: u64, range: f64, tensor: &TensorSpec) -> Vec<f32> {
    let mut out = vec![0.0; tensor.numel() as usize];
    fill(seed, tensor, range, &mut out);
    out
}

#[test]
fn a_buffer_of_many_tensors_has_the_values_of_each_alone() {
    let tensors = [
        tensor("a", &[3, 5]),
        tensor("norm", &[7]),
        tensor("b", &[64, 65]),
        tensor("c", &[1, 1]),
        tensor("d", &[5, 3]),
    ];
    let layout = Layout::new(tensors.to_vec());
    let mut all = vec![f32::NAN; layout.numel()];
    fill_all(9, &layout, 0.3, &mut all);
    for (tensor, range) in layout.ranges() {
        assert_eq!(all[range], values(9, 0.3, tensor), "{}", tensor.name);
    }
    fill_all(9, &Layout::new(Vec::new()), 0.3, &mut []);
}

#[test]
fn the_standard_deviation_is_a_factor_and_nothing_else() {
    let matrix = tensor("m", &[32, 33]);
    let one = values(4, 1.0, &matrix);
    let half = values(4, 0.5, &matrix);
    // A power of two is exact.
    assert!(one.iter().zip(&half).all(|(one, half)| one * 0.5 == *half));
    assert!(values(4, 0.0, &matrix).iter().all(|value| *value == 0.0));
}

#[test]
fn streams_of_neighbouring_seeds_and_like_names_have_nothing_in_common() {
    let mut seen = HashSet::new();
    for seed in [0, 1, 2, u64::MAX] {
        for name in ["a", "aa", "b", "model.layers.1.q", "model.layers.11.q"] {
            for value in values(seed, 1.0, &tensor(name, &[4, 4])) {
                assert!(seen.insert(value.to_bits()), "{seed} {name}: {value} came before");
            }
        }
    }
}

#[test]
fn values_are_finite_symmetric_and_reach_as_far_as_a_normal_distribution_does() {
    let drawn = values(1, 1.0, &tensor("m", &[512, 512]));
    let count = drawn.len() as f64;
    let share = |of: &dyn Fn(f32) -> bool| drawn.iter().filter(|v| of(**v)).count() as f64 / count;
    // The standard normal's own: 1, 2 and 3 standard deviations; four standard errors are allowed.
    for (reach, expected) in [(1.0, 0.682_69), (2.0, 0.954_50), (3.0, 0.997_30)] {
        let found = share(&|value| value.abs() < reach);
        let error = 4.0 * (expected * (1.0 - expected) / count).sqrt();
        assert!((found - expected).abs() < error, "{reach}: {found}");
    }
    assert!((share(&|value| value > 0.0) - 0.5).abs() < 2.0 / count.sqrt());
    assert!(drawn.iter().all(|value| value.is_finite() && value.abs() < 9.0));
}

#[test]
fn the_two_values_of_a_pair_and_neighbouring_rows_are_not_correlated() {
    let drawn = values(2, 1.0, &tensor("m", &[512, 512]));
    let apart = |by: usize| {
        let pairs = drawn.iter().zip(&drawn[by..]);
        let sum: f64 = pairs.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        sum / (drawn.len() - by) as f64
    };
    for by in [1, 2, 3, 512] {
        assert!(apart(by).abs() < 4.0 / (drawn.len() as f64).sqrt(), "{by}: {}", apart(by));
    }
}

#[test]
fn a_position_beyond_four_billion_is_reached_without_what_lies_before() {
    // Rows of the largest models: their values are not made to be thrown away.
    let huge = tensor("m", &[1 << 22, 1 << 13]);
    let first = (1 << 22) - 1;
    let (mut last, mut both) = (vec![0.0; 1 << 13], vec![0.0; 2 << 13]);
    fill_rows(3, &huge, 1.0, first..first + 1, &mut last);
    fill_rows(3, &huge, 1.0, first - 1..first + 1, &mut both);
    assert_eq!(both[1 << 13..], last);
    assert_ne!(both[..1 << 13], last);
}
