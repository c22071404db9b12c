//! AdamW against its formula in f64, and against libtorch's kernel.

use std::slice;

use plan::model::TensorSpec;
use tch::Tensor;

use super::*;

mod laws;

const NUMEL: usize = 3 * 2_000 + 2_000;

fn layout() -> Layout {
    let tensor = |name: &str, shape: &[u64]| TensorSpec { name: name.into(), shape: shape.into() };
    Layout::new(vec![tensor("matrix", &[3, 2_000]), tensor("vector", &[2_000])])
}

fn spec(grad_clip: f64) -> OptimizerSpec {
    OptimizerSpec { grad_clip, ..OptimizerSpec::default() }
}

/// Values of both signs that differ from step to step.
fn wave(index: usize, step: usize) -> f32 {
    ((index * 7 + step * 13 + 1) as f32 * 0.37).sin()
}

struct State {
    optimizer: Optimizer,
    theta: FlatBuffer,
    gradient: FlatBuffer,
}

impl State {
    fn new(grad_clip: f64, threads: usize) -> Self {
        let layout = layout();
        let buffer = || FlatBuffer::zeros(layout.numel(), Device::Cpu).unwrap();
        let optimizer = Optimizer::new(spec(grad_clip), &layout, Device::Cpu, threads).unwrap();
        let mut theta = buffer();
        theta.host().unwrap().iter_mut().enumerate().for_each(|(i, v)| *v = wave(i, 100));
        Self { optimizer, theta, gradient: buffer() }
    }

    fn step(&mut self, step: usize) -> f64 {
        let sums = self.slope(step);
        self.optimizer.step(&mut self.theta, &mut self.gradient, 0.01, &sums).unwrap();
        sums.read().unwrap()[1].sqrt()
    }

    /// The same by libtorch's kernel, as a card makes it.
    fn step_fused(&mut self, sums: &Sums) {
        self.optimizer.step_fused(&mut self.theta, &mut self.gradient, 0.01, sums).unwrap();
    }

    /// The gradient of a step, and its sums.
    fn slope(&mut self, step: usize) -> Sums {
        let gradient = self.gradient.host().unwrap();
        gradient.iter_mut().enumerate().for_each(|(i, v)| *v = wave(i, step));
        self.sums()
    }

    fn sums(&mut self) -> Sums {
        let all = slice::from_ref(&(0..NUMEL));
        let squares = self.optimizer.squares(&mut self.gradient, all).unwrap();
        Sums::on_device(&zero(Device::Cpu).unwrap(), &squares).unwrap()
    }

    /// θ and moments.
    fn values(&mut self) -> [Vec<f32>; 3] {
        let Optimizer { first, second, .. } = &mut self.optimizer;
        [&mut self.theta, first, second].map(|buffer| buffer.host().unwrap().to_vec())
    }
}

/// Three steps of the formula in f64.
fn reference(grad_clip: f64) -> Vec<f64> {
    let settings = spec(grad_clip);
    let mut theta: Vec<f64> = (0..NUMEL).map(|i| f64::from(wave(i, 100))).collect();
    let (mut first, mut second) = (vec![0.0; NUMEL], vec![0.0; NUMEL]);
    for step in 1..=3 {
        let gradient: Vec<f64> = (0..NUMEL).map(|i| f64::from(wave(i, step))).collect();
        let norm = gradient.iter().map(|v| v * v).sum::<f64>().sqrt();
        let clip = (grad_clip / (norm + 1e-6)).min(1.0);
        let correction = |beta: f64| 1.0 - beta.powi(step as i32);
        for i in 0..NUMEL {
            let slope = gradient[i] * clip;
            let decay = if i < 6_000 { settings.weight_decay } else { 0.0 };
            first[i] = 0.9 * first[i] + 0.1 * slope;
            second[i] = 0.95 * second[i] + 0.05 * slope * slope;
            let root = (second[i] / correction(0.95)).sqrt() + settings.epsilon;
            theta[i] -= 0.01 * decay * theta[i] + 0.01 * first[i] / correction(0.9) / root;
        }
    }
    theta
}

#[test]
fn adamw_follows_its_formula_with_and_without_clipping() {
    for grad_clip in [1.0, 1e9] {
        let mut state = State::new(grad_clip, 1);
        for step in 1..=3 {
            let norm = state.step(step);
            let exact: f64 = (0..NUMEL).map(|i| f64::from(wave(i, step)).powi(2)).sum();
            assert!((norm / exact.sqrt() - 1.0).abs() < 1e-6);
        }
        assert!(state.gradient.host().unwrap().iter().all(|v| *v == 0.0));
        for (value, expected) in state.theta.host().unwrap().iter().zip(reference(grad_clip)) {
            assert!((f64::from(*value) - expected).abs() < 1e-5, "{value} {expected}");
        }
    }
}

#[test]
fn libtorchs_kernel_makes_the_same_steps() {
    for grad_clip in [1.0, 1e9] {
        let (mut own, mut fused) = (State::new(grad_clip, 1), State::new(grad_clip, 1));
        for step in 1..=3 {
            own.step(step);
            let sums = fused.slope(step);
            fused.step_fused(&sums);
        }
        for (own, fused) in own.values().iter().zip(&fused.values()) {
            for (value, expected) in own.iter().zip(fused) {
                assert!((value - expected).abs() < 1e-6, "{value} {expected}");
            }
        }
    }
}

#[test]
fn the_number_of_threads_changes_no_bit() {
    // More than one thread's minimum, and no multiple of a block.
    let numel = 2 * THREAD_MIN + 4_321;
    let values: Vec<f32> = (0..numel).map(|i| wave(i, 1)).collect();
    let sums = [1, 2, 5].map(|threads| square_sum(&values, threads).to_bits());
    assert_eq!(sums[0], sums[1]);
    assert_eq!(sums[0], sums[2]);
    let stepped = |threads| {
        let mut theta = values.clone();
        let (mut first, mut second) = (vec![0.0; numel], vec![0.0; numel]);
        let slices = Slices {
            theta: &mut theta,
            gradient: &mut values.clone(),
            first: &mut first,
            second: &mut second,
        };
        let settings =
            AdamW { learning_rate: 0.1, beta1: 0.9, beta2: 0.99, weight_decay: 0.1, epsilon: 1e-8 };
        Pass::new(&settings, 1, 0.5).run(slices, threads);
        theta
    };
    assert_eq!(stepped(1), stepped(3));
}

#[test]
fn a_gradient_that_is_not_finite_makes_no_step() {
    for (loss, value) in [(0.0, f32::NAN), (0.0, f32::INFINITY), (f64::NAN, 1.0)] {
        for fused in [false, true] {
            let mut state = State::new(1.0, 1);
            state.step(1);
            let before = state.values();
            state.gradient.host().unwrap()[17] = value;
            let [_, squares] = state.sums().read().unwrap();
            let sums = Sums::of(loss, squares).unwrap();
            if fused {
                state.step_fused(&sums);
            } else {
                let State { optimizer, theta, gradient } = &mut state;
                optimizer.step(theta, gradient, 0.01, &sums).unwrap();
            }
            assert_eq!(state.optimizer.steps().unwrap(), 1, "{loss} {value} {fused}");
            assert_eq!(state.values(), before, "{loss} {value} {fused}");
            assert!(state.gradient.host().unwrap().iter().all(|v| *v == 0.0));
        }
    }
}

#[test]
fn a_step_that_was_skipped_counts_for_no_correction_of_the_bias() {
    let (mut skipped, mut expected) = (State::new(1.0, 1), State::new(1.0, 1));
    for step in [1, 2, 3] {
        let sums = skipped.slope(step);
        skipped.step_fused(&sums);
        skipped.step_fused(&Sums::of(f64::NAN, 1.0).unwrap());
        let sums = expected.slope(step);
        expected.step_fused(&sums);
    }
    assert_eq!(skipped.values(), expected.values());
    assert_eq!(skipped.optimizer.steps().unwrap(), 3);
}

#[test]
fn a_norm_of_many_values_is_exact_to_five_digits() {
    let numel = 4_000_000;
    let values = vec![1e-3f32; numel];
    let expected = f64::from(1e-3f32) * (numel as f64).sqrt();
    assert!((square_sum(&values, 2).sqrt() / expected - 1.0).abs() < 1e-5);
    let tensor = Tensor::from_slice(&values).square().sum(Kind::Double).double_value(&[]);
    assert!((tensor.sqrt() / expected - 1.0).abs() < 1e-6);
}
