//! What lies in the subspace crosses a boundary unchanged, and a round takes nothing away.

use plan::model::TensorSpec;
use tch::Kind;

use super::*;
use crate::parameters::{FlatBuffer, Layout, Leaves};

const WIDTH: i64 = 12;
const RANK: u32 = 5;
const VOCABULARY: i64 = 9;

fn wave(shape: &[i64], step: f64) -> Tensor {
    let count = shape.iter().product::<i64>();
    let values: Vec<f32> =
        (0..count).map(|index| ((index as f64 * 1.3 + step).sin()) as f32).collect();
    Tensor::from_slice(&values).view(shape)
}

fn batch(ids: &[i64]) -> Batch {
    let inputs = Tensor::from_slice(ids);
    Batch { targets: inputs.shallow_clone(), inputs, batch: 1, length: ids.len() as i64 }
}

fn apart(a: &Tensor, b: &Tensor) -> f64 {
    (a - b).abs().max().double_value(&[])
}

/// Two writing matrices [width, 3] and [width, 4], views of one buffer.
struct Writing {
    layout: Layout,
    theta: FlatBuffer,
    gradient: FlatBuffer,
}

impl Writing {
    fn new() -> Writing {
        let tensor = |name: &str, columns: u64| TensorSpec {
            name: name.into(),
            shape: vec![WIDTH as u64, columns],
        };
        let layout = Layout::new(vec![tensor("a", 3), tensor("b", 4)]);
        let buffer = || FlatBuffer::zeros(layout.numel(), Device::Cpu).unwrap();
        let (mut theta, gradient) = (buffer(), buffer());
        let start = Vec::<f32>::try_from(wave(&[layout.numel() as i64], 0.8)).unwrap();
        theta.host().unwrap().copy_from_slice(&start);
        Writing { layout, theta, gradient }
    }

    fn leaves(&self) -> Vec<Leaf> {
        let (theta, gradient) = (self.theta.tensor(), self.gradient.tensor());
        let leaves = Leaves { layout: &self.layout, theta, gradient };
        ["a", "b"].map(|name| leaves.stacked(&[name.into()]).unwrap()).into()
    }
}

fn subspace(table: &Tensor) -> Subspace {
    Subspace::new(3, RANK, table.copy()).unwrap()
}

/// W − UUᵀW, the largest value.
fn outside(subspace: &Subspace, matrix: &Tensor) -> f64 {
    apart(&subspace.inside_columns(&matrix.detach()).unwrap(), &matrix.detach())
}

#[test]
fn the_table_of_a_round_is_what_lies_outside_of_the_subspace() {
    let table = wave(&[VOCABULARY, WIDTH], 0.1);
    let mut subspace = subspace(&table);
    subspace.begin(std::iter::empty()).unwrap();
    let along = subspace.outside.matmul(&subspace.basis).abs().max().double_value(&[]);
    assert!(along < 1e-6, "{along}");
    // With what lies inside it is the whole table.
    let inside = subspace.inside_rows(&table).unwrap();
    assert!(apart(&(&subspace.outside + inside), &table) < 1e-6);
    // A second time it changes nothing.
    let before = subspace.outside.copy();
    subspace.begin(std::iter::empty()).unwrap();
    assert!(apart(&subspace.outside, &before) < 1e-6);
}

#[test]
fn activations_of_tokens_and_what_was_written_inside_cross_unchanged() {
    let table = wave(&[VOCABULARY, WIDTH], 0.1);
    let mut subspace = subspace(&table);
    subspace.begin(std::iter::empty()).unwrap();
    let batch = batch(&[0, 8, 3, 3, 1]);
    let embedded = table.index_select(0, &batch.inputs);
    let written = subspace.restore_gradient(&wave(&[5, RANK.into()], 0.5)).unwrap();
    for x in [embedded.shallow_clone(), &embedded + &written, &embedded + written * 100.0] {
        let z = subspace.compress(&x, &batch).unwrap();
        assert_eq!(z.size(), [5, i64::from(RANK)]);
        let restored = subspace.restore(&z, &batch).unwrap();
        assert!(apart(&restored, &x) < 1e-4, "{}", apart(&restored, &x));
    }
}

#[test]
fn what_was_written_outside_is_lost_and_nothing_else() {
    let table = wave(&[VOCABULARY, WIDTH], 0.1);
    let mut subspace = subspace(&table);
    subspace.begin(std::iter::empty()).unwrap();
    let batch = batch(&[2, 5]);
    let embedded = table.index_select(0, &batch.inputs);
    let anything = wave(&[2, WIDTH], 0.9);
    let restored = subspace
        .restore(&subspace.compress(&(&embedded + &anything), &batch).unwrap(), &batch)
        .unwrap();
    let kept = subspace.inside_rows(&anything).unwrap();
    assert!(apart(&kept, &anything) > 0.1, "some of it lies outside");
    assert!(apart(&restored, &(embedded + kept)) < 1e-5);
}

#[test]
fn gradients_go_back_by_the_transposed_way() {
    let subspace = subspace(&wave(&[VOCABULARY, WIDTH], 0.1));
    let (x, z) = (wave(&[4, WIDTH], 0.2), wave(&[4, RANK.into()], 0.3));
    // ⟨x U, z⟩ = ⟨x, z Uᵀ⟩.
    let forward = (subspace.compress_gradient(&x).unwrap() * &z).sum(Kind::Double);
    let backward = (x * subspace.restore_gradient(&z).unwrap()).sum(Kind::Double);
    assert!(apart(&forward, &backward) < 1e-5);
    let there = subspace.restore_gradient(&z).unwrap();
    assert!(apart(&subspace.compress_gradient(&there).unwrap(), &z) < 1e-6);
}

#[test]
fn a_round_without_a_step_gives_back_what_it_took() {
    let mut writing = Writing::new();
    let before = writing.theta.host().unwrap().to_vec();
    let leaves = writing.leaves();
    let mut subspace = subspace(&wave(&[VOCABULARY, WIDTH], 0.1));
    subspace.begin(leaves.iter()).unwrap();
    for leaf in &leaves {
        assert!(outside(&subspace, &leaf.value) < 1e-6, "while it lasts, all lies inside");
    }
    assert!(writing.theta.host().unwrap() != before);
    subspace.end(leaves.iter()).unwrap();
    for (value, expected) in writing.theta.host().unwrap().iter().zip(&before) {
        assert!((value - expected).abs() < 1e-6, "{value} {expected}");
    }
    // It is given back once.
    let after = writing.theta.host().unwrap().to_vec();
    subspace.end(leaves.iter()).unwrap();
    assert_eq!(writing.theta.host().unwrap(), after);
}

#[test]
fn a_step_is_taken_back_into_the_subspace_by_what_lies_outside_of_it_alone() {
    let writing = Writing::new();
    let leaves = writing.leaves();
    let mut subspace = subspace(&wave(&[VOCABULARY, WIDTH], 0.1));
    subspace.begin(leaves.iter()).unwrap();
    let start: Vec<Tensor> = leaves.iter().map(|leaf| leaf.value.detach().copy()).collect();
    let steps: Vec<Tensor> = leaves.iter().map(|leaf| wave(&leaf.value.size(), 4.0)).collect();
    for (leaf, step) in leaves.iter().zip(&steps) {
        let _ = leaf.value.detach().f_add_(step).unwrap();
    }
    subspace.constrain(None, leaves.iter()).unwrap();
    for ((leaf, step), start) in leaves.iter().zip(&steps).zip(&start) {
        let expected = start + subspace.inside_columns(step).unwrap();
        assert!(apart(&leaf.value.detach(), &expected) < 1e-5);
    }
}

#[test]
fn an_embedding_s_own_rows_keep_what_lies_outside_as_the_round_began() {
    let table = wave(&[VOCABULARY, WIDTH], 0.1);
    let mut subspace = subspace(&table);
    subspace.begin(std::iter::empty()).unwrap();
    // A part of the vocabulary, as a tensor-parallel peer has it.
    let (first, rows) = (4, 3);
    let step = wave(&[rows, WIDTH], 2.0);
    let value = (table.narrow(0, first, rows) + &step).set_requires_grad(true);
    let leaf = Leaf { gradient: value.detach().zeros_like(), value };
    subspace.constrain(Some((&leaf, first)), std::iter::empty()).unwrap();
    let expected = table.narrow(0, first, rows) + subspace.inside_rows(&step).unwrap();
    assert!(apart(&leaf.value.detach(), &expected) < 1e-5);
}

#[test]
fn a_seed_decides_the_basis_and_a_larger_one_begins_like_a_smaller() {
    let basis = |seed, rank: usize| orthonormal(seed, WIDTH as usize, rank);
    assert_eq!(basis(1, 5), basis(1, 5));
    assert_ne!(basis(1, 5), basis(2, 5));
    assert_eq!(basis(1, 12)[..5 * WIDTH as usize], basis(1, 5));
    let one = basis(7, 1);
    let length: f64 = one.iter().map(|value| f64::from(*value).powi(2)).sum();
    assert!((length - 1.0).abs() < 1e-6, "{length}");
}
