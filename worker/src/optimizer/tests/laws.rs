//! AdamW over random settings and gradients against the paper's formula in plain f64, and the cases
//! in which nothing or little may happen.

use proptest::prelude::*;

use super::*;
use crate::testing::cases;

/// The formula of Loshchilov and Hutter 2019 with PyTorch's order of operations, a value at a time.
struct Plain {
    theta: Vec<f64>,
    first: Vec<f64>,
    second: Vec<f64>,
    step: i32,
}

impl Plain {
    fn new(theta: &[f32]) -> Plain {
        let zeros = vec![0.0; theta.len()];
        let theta = theta.iter().map(|value| f64::from(*value)).collect();
        Plain { theta, first: zeros.clone(), second: zeros, step: 0 }
    }

    /// One step; `decays` says which values are a matrix's.
    fn step(
        &mut self,
        gradient: &[f32],
        rate: f64,
        spec: &OptimizerSpec,
        decays: impl Fn(usize) -> bool,
    ) {
        self.step += 1;
        let norm = gradient.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
        let clip = if norm > spec.grad_clip { spec.grad_clip / norm } else { 1.0 };
        for (index, slope) in gradient.iter().enumerate() {
            let slope = f64::from(*slope) * clip;
            if decays(index) {
                self.theta[index] *= 1.0 - rate * spec.weight_decay;
            }
            let (first, second) = (&mut self.first[index], &mut self.second[index]);
            *first += (1.0 - spec.beta1) * (slope - *first);
            *second += (1.0 - spec.beta2) * (slope * slope - *second);
            let unbiased = *first / (1.0 - spec.beta1.powi(self.step));
            let root = (*second / (1.0 - spec.beta2.powi(self.step))).sqrt();
            self.theta[index] -= rate * unbiased / (root + spec.epsilon);
        }
    }
}

/// A matrix between two vectors, so that runs begin and end within the buffer.
fn between() -> Layout {
    let tensor = |name: &str, shape: &[u64]| TensorSpec { name: name.into(), shape: shape.into() };
    Layout::new(vec![
        tensor("a", &[5]),
        tensor("b", &[4, 3]),
        tensor("c", &[2, 3]),
        tensor("d", &[7]),
    ])
}

const MATRICES: Range<usize> = 5..23;
const VALUES: usize = 30;

struct Both {
    optimizer: Optimizer,
    theta: FlatBuffer,
    gradient: FlatBuffer,
}

impl Both {
    fn new(spec: &OptimizerSpec, start: &[f32]) -> Both {
        let layout = between();
        let mut theta = FlatBuffer::zeros(VALUES, Device::Cpu).unwrap();
        theta.host().unwrap().copy_from_slice(start);
        Both {
            optimizer: Optimizer::new(spec.clone(), &layout, Device::Cpu, 2).unwrap(),
            theta,
            gradient: FlatBuffer::zeros(VALUES, Device::Cpu).unwrap(),
        }
    }

    fn step(&mut self, gradient: &[f32], rate: f64, fused: bool) {
        let Both { optimizer, theta, gradient: own } = self;
        own.host().unwrap().copy_from_slice(gradient);
        let squares = optimizer.squares(own, slice::from_ref(&(0..VALUES))).unwrap();
        let sums = Sums::on_device(&zero(Device::Cpu).unwrap(), &squares).unwrap();
        let step = if fused { Optimizer::step_fused } else { Optimizer::step };
        step(optimizer, theta, own, rate, &sums).unwrap();
    }
}

/// Of a step, whose size does not depend on the size of the gradient.
fn near(found: &[f32], expected: &[f64], rate: f64) -> Result<(), TestCaseError> {
    for (at, (found, expected)) in found.iter().zip(expected).enumerate() {
        let apart = (f64::from(*found) - expected).abs();
        let allowed = 2e-4 * rate + 1e-6 * expected.abs();
        prop_assert!(apart <= allowed, "value {at}: {found} {expected}");
    }
    Ok(())
}

fn specs() -> impl Strategy<Value = OptimizerSpec> {
    let betas = (0.0..0.95f64, 0.5..0.999f64);
    let rest = (1e-6..1e-2f64, 0.0..0.5f64, prop_oneof![Just(1e9), 0.1..10.0f64]);
    (betas, rest).prop_map(|((beta1, beta2), (epsilon, weight_decay, grad_clip))| OptimizerSpec {
        beta1,
        beta2,
        epsilon,
        weight_decay,
        grad_clip,
        ..OptimizerSpec::default()
    })
}

proptest! {
    #![proptest_config(cases(48))]

    #[test]
    fn both_paths_follow_the_formula_for_any_settings(
        spec in specs(),
        start in proptest::collection::vec(-2.0f32..2.0, VALUES),
        steps in proptest::collection::vec(proptest::collection::vec(-3.0f32..3.0, VALUES), 1..6),
        rate in 1e-4..1e-1f64,
    ) {
        for fused in [false, true] {
            let mut own = Both::new(&spec, &start);
            let mut plain = Plain::new(&start);
            for gradient in &steps {
                own.step(gradient, rate, fused);
                plain.step(gradient, rate, &spec, |index| MATRICES.contains(&index));
            }
            near(own.theta.host().unwrap(), &plain.theta, rate * steps.len() as f64)?;
            prop_assert_eq!(own.optimizer.steps().unwrap(), steps.len() as u64);
            prop_assert!(own.gradient.host().unwrap().iter().all(|value| *value == 0.0));
        }
    }
}

#[test]
fn without_a_gradient_only_matrices_shrink() {
    let spec = OptimizerSpec { weight_decay: 0.5, ..spec(1.0) };
    for fused in [false, true] {
        let mut own = Both::new(&spec, &[2.0; VALUES]);
        own.step(&[0.0; VALUES], 0.1, fused);
        for (index, value) in own.theta.host().unwrap().iter().enumerate() {
            // 2 · (1 − 0.1 · 0.5), and 0 / (√0 + ε) besides.
            let expected = if MATRICES.contains(&index) { 1.9 } else { 2.0 };
            assert!((value - expected).abs() < 1e-6, "{index}: {value}");
        }
    }
}

#[test]
fn a_rate_of_zero_moves_nothing_but_the_moments() {
    for fused in [false, true] {
        let mut own = Both::new(&spec(1.0), &[0.5; VALUES]);
        own.step(&[1.0; VALUES], 0.0, fused);
        assert!(own.theta.host().unwrap().iter().all(|value| *value == 0.5));
        assert_eq!(own.optimizer.steps().unwrap(), 1);
        assert!(own.optimizer.first.host().unwrap().iter().all(|value| *value > 0.0));
    }
}

#[test]
fn a_gradient_below_the_bound_is_not_scaled_and_one_above_it_has_the_bound_as_its_norm() {
    // A norm of 5, or of nothing.
    for (norm, max, expected) in [
        (5.0, 5.1, 1.0),
        (5.0, 1.0, 0.2),
        (5.0, 0.0, 0.0),
        (0.0, 1.0, 1.0),
        (1e-9, 1.0, 1.0),
        (f64::MAX, 1.0, 0.0),
    ] {
        let factor = clip_factor(norm, max);
        assert!((factor - expected).abs() < 1e-6, "{norm} {max}: {factor}");
        let divisor = clip_divisor(&Tensor::from(norm), max).unwrap().double_value(&[]);
        assert!((1.0 / divisor - expected).abs() < 1e-6, "{norm} {max}: {divisor}");
    }
}

#[test]
fn a_norm_is_taken_over_the_parts_that_count_and_no_others() {
    let layout = between();
    let optimizer = Optimizer::new(spec(1.0), &layout, Device::Cpu, 1).unwrap();
    let mut gradient = FlatBuffer::zeros(VALUES, Device::Cpu).unwrap();
    for (index, value) in gradient.host().unwrap().iter_mut().enumerate() {
        *value = index as f32;
    }
    let square = |range: Range<usize>| range.map(|index| (index * index) as f64).sum::<f64>();
    let tables: [(&[Range<usize>], f64); 4] = [
        (&[], 0.0),
        (slice::from_ref(&(0..VALUES)), square(0..VALUES)),
        (&[1..4, 20..30], square(1..4) + square(20..30)),
        (&[7..7, 9..9], 0.0),
    ];
    for (parts, expected) in tables {
        let found = optimizer.squares(&mut gradient, parts).unwrap().double_value(&[]);
        assert_eq!(found, expected, "{parts:?}");
        let card = squares_on_card(gradient.tensor(), parts).unwrap().double_value(&[]);
        assert!((card - expected).abs() <= 1e-6 * expected, "{parts:?}: {card}");
    }
}

#[test]
fn steps_that_come_from_a_checkpoint_count_for_the_correction_of_the_bias() {
    let gradient = [1.0; VALUES];
    let spec = OptimizerSpec { weight_decay: 0.0, epsilon: 1e-12, ..spec(1e9) };
    for fused in [false, true] {
        let mut own = Both::new(&spec, &[0.0; VALUES]);
        own.optimizer.set_steps(1_000_000).unwrap();
        own.step(&gradient, 1.0, fused);
        assert_eq!(own.optimizer.steps().unwrap(), 1_000_001);
        // Nothing is corrected any more: 0.1 / √0.05, where a first step would move by 1.
        let expected = -0.1 / 0.05f64.sqrt();
        let value = f64::from(own.theta.host().unwrap()[0]);
        assert!((value - expected).abs() < 1e-4, "{value}");
    }
}

#[test]
fn values_whose_squares_are_beyond_f32_make_the_step_a_skipped_one() {
    let mut own = Both::new(&spec(1.0), &[0.5; VALUES]);
    own.step(&[1e30; VALUES], 0.1, false);
    assert_eq!(own.optimizer.steps().unwrap(), 0);
    assert!(own.theta.host().unwrap().iter().all(|value| *value == 0.5));
}

#[test]
fn threads_share_whole_blocks_and_leave_nothing_out() {
    for numel in [0, 1, BLOCK - 1, BLOCK + 1, THREAD_MIN, 3 * THREAD_MIN + 5, 10 * THREAD_MIN] {
        for threads in [1, 2, 3, 7, 64] {
            let share = share(numel, threads);
            assert!(share.is_multiple_of(BLOCK) && share >= THREAD_MIN, "{numel} {threads}");
            assert!(share * threads >= numel, "{numel} {threads}");
        }
    }
}
