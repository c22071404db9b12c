//! Places in a flat buffer over random tensors, and leaves that are views of it.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::testing::cases;

fn tensors(shapes: &[Vec<u64>]) -> Vec<TensorSpec> {
    let tensor = |(index, shape): (usize, &Vec<u64>)| TensorSpec {
        name: format!("t{index}"),
        shape: shape.clone(),
    };
    shapes.iter().enumerate().map(tensor).collect()
}

fn model(layers: u32) -> Layout {
    let mut names = vec![("model.embed_tokens".to_string(), vec![4, 2])];
    for layer in 0..layers {
        for (name, shape) in [("q", vec![2, 2]), ("norm", vec![2])] {
            names.push((format!("{LAYERS}{layer}.{name}"), shape));
        }
    }
    names.push(("model.norm".into(), vec![2]));
    names.push(("lm_head".into(), vec![4, 2]));
    Layout::new(names.into_iter().map(|(name, shape)| TensorSpec { name, shape }).collect())
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn tensors_lie_side_by_side_and_runs_are_as_long_as_they_can_be(
        shapes in vec(prop_oneof![vec(1u64..9, 1), vec(1u64..9, 2)], 1..12),
    ) {
        let layout = Layout::new(tensors(&shapes));
        let mut end = 0;
        for (index, (tensor, range)) in layout.ranges().enumerate() {
            prop_assert_eq!(range.start, end);
            prop_assert_eq!(range.len() as u64, shapes[index].iter().product::<u64>());
            prop_assert_eq!(layout.tensor(index), range.clone());
            prop_assert_eq!(&tensor.shape, &shapes[index]);
            end = range.end;
        }
        prop_assert_eq!(layout.numel(), end);
        let runs = layout.runs();
        prop_assert_eq!(runs[0].1.start, 0);
        prop_assert_eq!(runs.last().unwrap().1.end, end);
        for pair in runs.windows(2) {
            prop_assert_eq!(pair[0].1.end, pair[1].1.start);
            prop_assert!(pair[0].0 != pair[1].0, "neighbours of one kind are one run");
        }
        for (tensor, range) in layout.ranges() {
            let (matrix, _) = runs.iter().find(|(_, run)| run.contains(&range.start)).unwrap();
            prop_assert_eq!(*matrix, tensor.shape.len() == 2, "{}", tensor.name);
        }
    }
}

#[test]
fn layers_and_what_is_outside_of_them_are_all_there_is() {
    // With eleven layers the name of one is the beginning of another's.
    let layout = model(11);
    let mut covered = vec![0; layout.numel()];
    let layers = (0..11).map(|layer| layout.layer(layer));
    for range in layers.chain(layout.outside_layers()) {
        assert!(!range.is_empty());
        covered[range].iter_mut().for_each(|count| *count += 1);
    }
    assert!(covered.iter().all(|count| *count == 1), "each value once");
    assert_eq!(layout.layer(1), 14..20);
    assert_eq!(layout.layer(11), 0..0, "it is on another stage");
    let outside = layout.outside_layers();
    assert!(outside.windows(2).all(|pair| pair[0].start > pair[1].start), "the last first");
}

#[test]
fn a_leaf_of_several_tensors_is_their_rows_and_its_gradient_adds_up_in_place() {
    let layout = Layout::new(tensors(&[vec![2], vec![1, 3], vec![2, 3], vec![3]]));
    let mut theta = FlatBuffer::zeros(layout.numel(), Device::Cpu).unwrap();
    let mut gradient = FlatBuffer::zeros(layout.numel(), Device::Cpu).unwrap();
    theta.host().unwrap().iter_mut().enumerate().for_each(|(at, value)| *value = at as f32);
    let leaves = Leaves { layout: &layout, theta: theta.tensor(), gradient: gradient.tensor() };
    let leaf = leaves.stacked(&["t1".into(), "t2".into()]).unwrap();
    assert_eq!(leaf.value.size(), [3, 3]);
    assert_eq!(leaf.value.double_value(&[2, 2]), 10.0, "after the vector's two values");
    for _ in 0..2 {
        (&leaf.value * &leaf.value).sum(Kind::Float).backward();
    }
    for (at, value) in gradient.host().unwrap().iter().enumerate() {
        let expected = if (2..11).contains(&at) { 4.0 * at as f32 } else { 0.0 };
        assert_eq!(*value, expected, "{at}");
    }
    // What is written to the buffer is what the leaf computes with.
    theta.host().unwrap()[2] = 100.0;
    assert_eq!(leaf.value.double_value(&[0, 0]), 100.0);
}

#[test]
fn tensors_that_are_not_side_by_side_are_named() {
    let layout = Layout::new(tensors(&[vec![1, 3], vec![3], vec![2, 3]]));
    let flat = Tensor::zeros([layout.numel() as i64], (Kind::Float, Device::Cpu));
    let leaves = Leaves { layout: &layout, theta: &flat, gradient: &flat };
    let error = leaves.stacked(&["t0".into(), "t2".into()]).unwrap_err();
    assert!(error.to_string().ends_with("side by side in the layout: t0, t2"), "{error}");
}

#[test]
fn a_buffer_on_the_host_has_nothing_to_store() {
    let mut buffer = FlatBuffer::zeros(3, Device::Cpu).unwrap();
    buffer.host().unwrap().copy_from_slice(&[1.0, 2.0, 3.0]);
    buffer.store().unwrap();
    assert_eq!(buffer.tensor().double_value(&[1]), 2.0);
    assert_eq!(FlatBuffer::zeros(0, Device::Cpu).unwrap().host().unwrap().len(), 0);
}

#[test]
fn tensors_that_no_chunk_can_be_made_of_are_refused() {
    for shape in [vec![0, 4], vec![4, 0], vec![0], vec![2, 2, 2]] {
        let layout = Layout::new(tensors(std::slice::from_ref(&shape)));
        assert!(layout.canonical().is_err(), "{shape:?}");
    }
    assert!(Layout::new(Vec::new()).canonical().is_err());
    let whole = model(2).canonical().unwrap();
    assert_eq!(whole.values(), model(2).numel());
}
