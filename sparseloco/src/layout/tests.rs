//! Tests of the layout.

use proptest::prelude::*;

use super::*;
use crate::params::ValueBits;
use crate::testing::{layout, model, params};

#[test]
fn a_matrix_is_walked_block_by_block_and_a_vector_run_by_run() {
    let layout = layout(&[&[65, 66], &[5000]]);
    let flat: Vec<f32> = (0..layout.values()).map(|index| index as f32).collect();
    let mut canonical = vec![0.0; flat.len()];
    layout.gather(0..1, &flat, &mut canonical);

    assert_eq!(layout.chunks(), 4 + 2);
    let at = |row: usize, column: usize| (row * 66 + column) as f32;
    assert_eq!(canonical[..3], [at(0, 0), at(0, 1), at(0, 2)]);
    assert_eq!(canonical[64], at(1, 0), "the second row of the first block");
    assert_eq!(canonical[4096..4100], [at(0, 64), at(0, 65), at(1, 64), at(1, 65)]);
    assert_eq!(canonical[4096 + 128], at(64, 0), "the block below is one row high");
    assert_eq!(canonical[4096 + 128 + 64..65 * 66], [at(64, 64), at(64, 65)]);
    assert_eq!(canonical[65 * 66..], flat[65 * 66..], "a vector is in its own order");
}

#[test]
fn blocks_say_where_in_which_tensor_they_lie() {
    let layout = layout(&[&[65, 66], &[5000]]);
    let block = |tensor, (row, rows), (column, columns), canonical| {
        let kind = [ChunkKind::Matrix, ChunkKind::Vector][tensor];
        Block { tensor, kind, row, column, rows, columns, canonical }
    };
    let blocks: Vec<_> = layout.blocks(0..1).collect();
    let expected = [
        block(0, (0, 64), (0, 64), 0),
        block(0, (0, 64), (64, 2), 4096),
        block(0, (64, 1), (0, 64), 4096 + 128),
        block(0, (64, 1), (64, 2), 4096 + 128 + 64),
        block(1, (0, 1), (0, 4096), 65 * 66),
        block(1, (0, 1), (4096, 904), 65 * 66 + 4096),
    ];
    assert_eq!(blocks, expected);
    assert_eq!(layout.blocks(0..0).next(), None);
}

#[test]
fn what_is_no_layout_is_refused_by_name() {
    let one = |shape: &[u64]| {
        Layout::new(&[TensorShape { name: "w".into(), shape: shape.to_vec() }]).map(|_| ())
    };
    let name = || "w".to_owned();
    assert_eq!(Layout::new(&[]).map(|_| ()), Err(LayoutError::Empty));
    assert_eq!(one(&[]), Err(LayoutError::Dimensions { name: name(), dims: 0 }));
    assert_eq!(one(&[2, 3, 4]), Err(LayoutError::Dimensions { name: name(), dims: 3 }));
    assert_eq!(one(&[0, 3]), Err(LayoutError::ZeroDimension { name: name() }));
    assert_eq!(one(&[u64::MAX, u64::MAX]), Err(LayoutError::TooLarge { name: name() }));
    assert_eq!(one(&[1 << 40, 1 << 10]), Err(LayoutError::TooLarge { name: name() }));
    let twice = [
        TensorShape { name: name(), shape: vec![1] },
        TensorShape { name: name(), shape: vec![2] },
    ];
    assert_eq!(Layout::new(&twice).map(|_| ()), Err(LayoutError::Duplicate { name: name() }));
}

#[test]
fn the_hash_tells_names_shapes_k_and_bits_apart_but_not_beta() {
    let base = layout(&[&[64, 64], &[10]]);
    let hash = |layout: &Layout, k, bits| layout.hash(&params(k, bits));
    let reference = hash(&base, 64, ValueBits::Two);
    assert_ne!(reference, hash(&base, 65, ValueBits::Two));
    assert_ne!(reference, hash(&base, 64, ValueBits::One));
    assert_ne!(reference, hash(&layout(&[&[64, 64], &[11]]), 64, ValueBits::Two));
    assert_ne!(reference, hash(&layout(&[&[4096], &[10]]), 64, ValueBits::Two));
    let renamed = [("t0", vec![64, 64]), ("t2", vec![10])]
        .map(|(name, shape)| TensorShape { name: name.into(), shape });
    assert_ne!(reference, hash(&Layout::new(&renamed).unwrap(), 64, ValueBits::Two));
    let beta = CodecParams::new(64, ValueBits::Two, 0.5, 0.5).unwrap();
    assert_eq!(reference, base.hash(&beta));
}

#[test]
fn the_order_hash_tells_names_shapes_and_their_order_apart() {
    let hash = |tensors: &[(&str, &[u64])]| {
        let shape = |(name, shape): &(&str, &[u64])| TensorShape {
            name: (*name).into(),
            shape: shape.to_vec(),
        };
        Layout::new(&tensors.iter().map(shape).collect::<Vec<_>>()).unwrap().order_hash()
    };
    let reference = hash(&[("a", &[64, 64]), ("b", &[10])]);
    assert_eq!(reference, hash(&[("a", &[64, 64]), ("b", &[10])]));
    assert_ne!(reference, hash(&[("b", &[10]), ("a", &[64, 64])]));
    assert_ne!(reference, hash(&[("a", &[64, 64]), ("c", &[10])]));
    assert_ne!(reference, hash(&[("a", &[4096]), ("b", &[10])]));
    assert_ne!(reference, hash(&[("a", &[64, 64])]));
}

#[test]
fn a_model_of_72_billion_values_is_laid_out_without_memory_for_its_chunks() {
    let layout = layout(&[&[262_208, 8192], &[8192, 28_672 * 3 * 80]]);
    assert_eq!(layout.values(), 262_208 * 8192 + 8192 * 28_672 * 3 * 80);
    let last = layout.piece(layout.pieces() - 1);
    assert_eq!(last.values.end, layout.values());
    assert_eq!(last.chunks.end, layout.chunks());
}

proptest! {
    #[test]
    fn pieces_tile_the_values(model in model()) {
        let layout = &model.layout;
        let mut next = 0;
        for piece in 0..layout.pieces() {
            let span = layout.piece(piece).values;
            prop_assert_eq!(span.start, next);
            prop_assert_eq!(layout.span(piece..piece + 1), span.clone());
            for block in layout.blocks(piece..piece + 1) {
                prop_assert_eq!(block.canonical, next);
                next += block.len();
            }
            prop_assert_eq!(next, span.end);
        }
        prop_assert_eq!(next, layout.values());
        prop_assert_eq!(layout.span(0..layout.pieces()), 0..next);
        prop_assert_eq!(layout.span(0..0), 0..0);
    }

    #[test]
    fn scattering_what_was_gathered_changes_nothing(model in model()) {
        let layout = &model.layout;
        let flat: Vec<f32> = (0..layout.values()).map(|index| index as f32).collect();
        let mut back = vec![-1.0; flat.len()];
        for piece in 0..layout.pieces() {
            let mut canonical = vec![0.0; layout.piece(piece).values.len()];
            layout.gather(piece..piece + 1, &flat, &mut canonical);
            layout.scatter(piece..piece + 1, &canonical, &mut back);
        }
        prop_assert_eq!(back, flat);
    }
}
