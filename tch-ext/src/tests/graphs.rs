//! Graphs that the shim's nodes are part of, and what they refuse.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

fn of(values: &[f32]) -> Tensor {
    Tensor::from_slice(values)
}

#[test]
fn several_outputs_go_back_at_once_and_add_up_in_their_leaf() {
    let x = of(&[1.0, 2.0]).set_requires_grad(true);
    let (square, triple) = (&x * &x, &x * 3.0);
    backward(&[(&square, &of(&[1.0, 10.0])), (&triple, &of(&[1.0, 1.0]))]).unwrap();
    assert_eq!(Vec::<f32>::try_from(x.grad()).unwrap(), [5.0, 43.0]);
    backward(&[]).expect("nothing to do");
}

#[test]
fn what_a_backward_cannot_use_is_an_error() {
    let x = of(&[1.0, 2.0]).set_requires_grad(true);
    let y = &x * 2.0;
    assert!(backward(&[(&y, &of(&[1.0]))]).is_err(), "another shape");
    let z = (&x * &x).sum(Kind::Float);
    backward(&[(&z, &Tensor::from(1.0f32))]).unwrap();
    let again = backward(&[(&z, &Tensor::from(1.0f32))]).unwrap_err().to_string();
    assert!(again.contains("a second time"), "the graph is freed: {again}");
    assert!(!again.contains("frame #"), "without the stack: {again}");
}

#[test]
fn a_gradient_that_was_set_is_replaced_by_the_next_and_shared_by_nobody() {
    let mut leaf = of(&[3.0, 4.0]).set_requires_grad(true);
    let (mut first, mut second) = (of(&[0.0, 0.0]), of(&[100.0, 100.0]));
    set_gradient(&mut leaf, &first).unwrap();
    (&leaf * 2.0).sum(Kind::Float).backward();
    set_gradient(&mut leaf, &second).unwrap();
    (&leaf * 3.0).sum(Kind::Float).backward();
    assert_eq!(host_slice(&mut first).unwrap(), [2.0, 2.0]);
    assert_eq!(host_slice(&mut second).unwrap(), [103.0, 103.0]);
}

#[test]
fn slices_of_nothing_and_of_a_part_are_what_they_show() {
    let options = (Kind::Float, Device::Cpu);
    assert_eq!(host_slice(&mut Tensor::zeros([0, 3], options)).unwrap().len(), 0);
    let whole = Tensor::arange(6, options);
    let mut middle = whole.narrow(0, 2, 3);
    assert_eq!(host_slice(&mut middle).unwrap(), [2.0, 3.0, 4.0]);
    host_slice(&mut middle).unwrap()[0] = 9.0;
    assert_eq!(whole.double_value(&[2]), 9.0);
    // Every second value is no slice.
    assert_eq!(host_slice(&mut whole.slice(0, 0, 6, 2)), Err(HostError::Strided));
    assert_eq!(
        HostError::Kind(Kind::Half).to_string(),
        "failed to view a tensor as a slice: it holds Half, not Float"
    );
}

#[test]
fn a_hook_is_called_once_for_each_pass_and_never_changes_what_others_hold() {
    let calls = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&calls);
    let hook = Hook::new(move |tensor| {
        counted.fetch_add(1, Ordering::Relaxed);
        tensor.f_fill_(7.0).is_ok()
    });
    let x = of(&[1.0, 2.0]).set_requires_grad(true);
    let forward = changed_forward(&x, &hook).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 1);
    assert_eq!(Vec::<f32>::try_from(x.detach()).unwrap(), [1.0, 2.0], "the input is as it was");
    let back = changed_backward(&forward, &hook).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 1, "not before there is a gradient");
    let slope = of(&[1.0, 1.0]);
    backward(&[(&back, &slope)]).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 2);
    assert_eq!(Vec::<f32>::try_from(&slope).unwrap(), [1.0, 1.0], "and so is the gradient");
    assert_eq!(Vec::<f32>::try_from(x.grad()).unwrap(), [7.0, 7.0]);
    assert_eq!(format!("{hook:?}"), "Hook");
}

#[test]
fn a_hook_gets_adjacent_values_whatever_the_tensor_is() {
    let hook = Hook::new(|tensor| tensor.is_contiguous() && host_slice(tensor).is_ok());
    let matrix = Tensor::arange(6, (Kind::Float, Device::Cpu)).view([2, 3]);
    let turned = matrix.tr().detach().set_requires_grad(true);
    let out = changed_forward(&turned, &hook).unwrap();
    assert_eq!(out.size(), [3, 2]);
    let back = changed_backward(&turned, &hook).unwrap();
    backward(&[(&back, &matrix.tr())]).expect("the gradient is made adjacent as well");
}

#[test]
fn adamw_refuses_tensors_that_its_kernel_would_read_beyond_their_ends() {
    let good = || of(&[1.0, 2.0]);
    let one = Tensor::from(1.0f32);
    let skip = Tensor::from(0.0f32);
    let step = |mut tensors: [Tensor; 4]| {
        let [theta, gradient, first, second] = &mut tensors;
        let settings =
            AdamW { learning_rate: 0.1, beta1: 0.9, beta2: 0.99, weight_decay: 0.0, epsilon: 1e-8 };
        let scalars = AdamWScalars { step: &one, divisor: &one, skip: &skip };
        fused_adamw(AdamWTensors { theta, gradient, first, second }, &scalars, &settings)
    };
    step([good(), good(), good(), good()]).expect("one shape");
    let shorter = || of(&[1.0]);
    let turned = || of(&[1.0, 2.0]).view([2, 1]);
    let double = || of(&[1.0, 2.0]).to_kind(Kind::Double);
    let strided = || of(&[1.0, 0.0, 2.0, 0.0]).slice(0, 0, 4, 2);
    for wrong in [shorter, turned, double, strided] {
        for place in 0..4 {
            let mut tensors = [good(), good(), good(), good()];
            tensors[place] = wrong();
            let error = step(tensors).unwrap_err().to_string();
            assert!(error.contains("unlike shapes, kinds or devices"), "{place}: {error}");
        }
    }
}
