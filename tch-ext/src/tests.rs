//! The shim on the CPU.

use tch::{Device, Kind, Tensor};

use super::*;

mod formulas;
mod graphs;

#[test]
fn backward_uses_the_given_gradient() {
    let x = Tensor::from_slice(&[1.0f32, 2.0, 3.0]).set_requires_grad(true);
    let y = &x * &x;
    backward(&[(&y, &Tensor::from_slice(&[1.0f32, 10.0, 100.0]))]).unwrap();
    assert_eq!(Vec::<f32>::try_from(x.grad()).unwrap(), [2.0, 40.0, 600.0]);
}

#[test]
fn a_backward_that_fails_is_an_error_and_not_an_abort() {
    let x = Tensor::from_slice(&[1.0f32]);
    let error = backward(&[(&x, &x)]).unwrap_err().to_string();
    assert!(error.starts_with("failed to run backward: "), "{error}");
}

#[test]
fn gradients_accumulate_into_the_view_that_was_set() {
    let mut flat = Tensor::zeros([4], (Kind::Float, Device::Cpu));
    let mut leaf = Tensor::from_slice(&[3.0f32, 4.0]).set_requires_grad(true);
    set_gradient(&mut leaf, &flat.narrow(0, 1, 2)).unwrap();
    for _ in 0..2 {
        (&leaf * &leaf).sum(Kind::Float).backward();
    }
    assert_eq!(host_slice(&mut flat).unwrap(), [0.0, 12.0, 16.0, 0.0]);
}

#[test]
fn a_gradient_of_another_shape_is_refused() {
    let mut leaf = Tensor::from_slice(&[3.0f32, 4.0]).set_requires_grad(true);
    assert!(set_gradient(&mut leaf, &Tensor::from_slice(&[1.0f32])).is_err());
}

/// θ after a first fused step with these scalars.
fn stepped(step: &Tensor, divisor: f32, skip: f32) -> Result<Vec<f32>, ShimError> {
    let mut theta = Tensor::from_slice(&[1.0f32, -2.0]);
    let mut gradient = Tensor::from_slice(&[0.5f32, -0.25]);
    let (mut first, mut second) = (gradient.zeros_like(), gradient.zeros_like());
    let settings =
        AdamW { learning_rate: 0.1, beta1: 0.9, beta2: 0.99, weight_decay: 0.1, epsilon: 0.25 };
    let tensors = AdamWTensors {
        theta: &mut theta,
        gradient: &mut gradient,
        first: &mut first,
        second: &mut second,
    };
    let scalars = AdamWScalars { step, divisor: &Tensor::from(divisor), skip: &Tensor::from(skip) };
    fused_adamw(tensors, &scalars, &settings)?;
    Ok(host_slice(&mut theta).unwrap().to_vec())
}

#[test]
fn fused_adamw_makes_the_first_step_of_the_formula() {
    // Slopes of 0.5 and -0.25, and half of them: m̂ / (√v̂ + ε).
    for (divisor, moves) in [(1.0, [0.5 / 0.75, -0.5]), (2.0, [0.5, -0.125 / 0.375])] {
        let theta = stepped(&Tensor::from(1.0f32), divisor, 0.0).unwrap();
        for ((value, start), by) in theta.iter().zip([1.0, -2.0]).zip(moves) {
            let expected = start * 0.99 - 0.1 * by;
            assert!((f64::from(*value) - expected).abs() < 1e-6, "{value} {expected}");
        }
    }
}

#[test]
fn a_fused_step_that_is_to_be_skipped_changes_nothing() {
    assert_eq!(stepped(&Tensor::from(1.0f32), f32::NAN, 1.0).unwrap(), [1.0, -2.0]);
}

#[test]
fn scalars_that_the_kernel_would_misread_are_refused() {
    for wrong in [Tensor::from(1.0f64), Tensor::from_slice(&[1.0f32, 2.0])] {
        let error = stepped(&wrong, 1.0, 0.0).unwrap_err().to_string();
        assert!(error.contains("not a single f32"), "{error}");
    }
}

#[test]
fn a_slice_shows_and_changes_the_tensor() {
    let mut tensor = Tensor::zeros([2, 2], (Kind::Float, Device::Cpu));
    host_slice(&mut tensor).unwrap()[3] = 7.0;
    assert_eq!(tensor.double_value(&[1, 1]), 7.0);
}

#[test]
fn what_is_not_contiguous_f32_is_no_slice() {
    let options = (Kind::Float, Device::Cpu);
    assert_eq!(host_slice(&mut Tensor::zeros([2, 3], options).tr()), Err(HostError::Strided));
    let mut doubles = Tensor::zeros([1], (Kind::Double, Device::Cpu));
    assert_eq!(host_slice(&mut doubles), Err(HostError::Kind(Kind::Double)));
}

#[test]
fn a_machine_without_cuda_says_so() {
    if tch::Cuda::device_count() == 0 {
        assert!(cuda_peak_bytes(0).is_err());
        assert!(cuda_has_bf16(0).is_err());
        assert!(pinned(16).is_err());
        assert!(on_card(&[1, 2], 0).is_err());
    }
}

#[test]
fn shapes_that_do_not_fit_are_errors_and_not_wild_reads() {
    let options = (Kind::Float, Device::Cpu);
    let matrix = |rows: i64, columns: i64| Tensor::zeros([rows, columns], options);
    let shape = |heads| AttentionShape { batch: 1, heads, key_value_heads: 1 };
    let table = matrix(4, 2);
    assert!(product(&matrix(2, 3), &matrix(2, 4)).is_err());
    assert!(linear(&matrix(2, 3).to_kind(Kind::Double), &matrix(2, 3)).is_err());
    assert!(norm(&matrix(2, 3), None, &Tensor::zeros([4], options), 1e-5).is_err());
    let delta = matrix(1, 3);
    assert!(norm(&matrix(2, 3), Some(&delta), &Tensor::zeros([3], options), 1e-5).is_err());
    assert!(gate(&matrix(2, 3)).is_err());
    assert!(attention(&matrix(4, 8), (&table, &table), shape(2)).is_ok());
    assert!(attention(&matrix(5, 8), (&table, &table), shape(2)).is_err());
    assert!(attention(&matrix(4, 8), (&table, &table), shape(3)).is_err());
    let targets = |targets: &[i64]| Tensor::from_slice(targets);
    assert!(cross_entropy(&mut matrix(2, 3), &targets(&[0, 2])).is_ok());
    assert!(cross_entropy(&mut matrix(2, 3), &targets(&[0, 3])).is_err());
    assert!(cross_entropy(&mut matrix(2, 3), &targets(&[0, -1])).is_err());
    assert!(cross_entropy(&mut matrix(2, 3), &targets(&[0])).is_err());
    assert!(cross_entropy(&mut matrix(2, 3).tr(), &targets(&[0, 1, 1])).is_err());
}

#[test]
fn a_hook_changes_what_goes_forward_or_what_comes_back() {
    let times = |factor: f64| Hook::new(move |tensor| tensor.f_mul_scalar_(factor).is_ok());
    let x = Tensor::from_slice(&[1.0f32, 2.0]).set_requires_grad(true);
    let y = changed_backward(&(&x * 3.0), &times(10.0)).unwrap();
    let z = changed_forward(&y, &times(100.0)).unwrap();
    assert_eq!(Vec::<f32>::try_from(&z.detach()).unwrap(), [300.0, 600.0]);
    assert_eq!(Vec::<f32>::try_from(&y.detach()).unwrap(), [3.0, 6.0]);
    backward(&[(&z, &z.ones_like())]).unwrap();
    assert_eq!(Vec::<f32>::try_from(x.grad()).unwrap(), [30.0, 30.0]);
}

#[test]
fn a_hook_that_refuses_or_panics_is_an_error_and_is_released() {
    let held = std::sync::Arc::new(());
    let x = Tensor::from_slice(&[1.0f32]).set_requires_grad(true);
    for panics in [false, true] {
        let kept = std::sync::Arc::clone(&held);
        let hook = Hook::new(move |_| {
            assert!(!panics, "refused by a panic, {}", std::sync::Arc::strong_count(&kept));
            false
        });
        assert!(changed_forward(&x, &hook).is_err());
        let y = changed_backward(&x, &hook).unwrap();
        let error = backward(&[(&y, &y)]).unwrap_err().to_string();
        assert!(error.contains("an exchange between devices failed"), "{error}");
    }
    assert_eq!(std::sync::Arc::strong_count(&held), 1);
}
