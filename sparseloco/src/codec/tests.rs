//! Tests of making pieces.

use proptest::prelude::*;

use super::*;
use crate::ValueBits;
use crate::testing::{
    Model, Random, bits, frame, id, layout, message, model, near_a_tie, params, values,
};

/// The input of one piece, and a by its definition.
struct Case {
    anchor: Vec<f32>,
    theta: Vec<f32>,
    residual: Vec<f32>,
    a: Vec<f32>,
}

fn case(model: &Model, piece: u32) -> Case {
    let mut random = Random(model.seed);
    let span = model.layout.piece(piece).values;
    let mut new = |count| values(model.kind, count, &mut random);
    let (theta, anchor, residual) = (new(span.len()), new(span.len()), new(span.len()));
    let factor = model.params.error_decay() - model.params.retention();
    let a = (0..span.len())
        .map(|index| factor * residual[index] + (anchor[index] - theta[index]))
        .collect();
    Case { anchor, theta, residual, a }
}

/// For each chunk, the positions that have to be kept, by sorting.
fn kept(model: &Model, a: &[f32]) -> Vec<usize> {
    let mut kept = Vec::new();
    let mut start = 0;
    for chunk in model.layout.piece_blocks(0) {
        let mut order: Vec<usize> = (start..start + chunk.len()).collect();
        order.sort_by_key(|&index| (std::cmp::Reverse(a[index].abs().to_bits()), index));
        order.truncate(model.params.kept(chunk.len()));
        order.sort_unstable();
        kept.extend(order);
        start += chunk.len();
    }
    kept
}

proptest! {
    #[test]
    fn message_and_residual_make_up_a_exactly(model in model()) {
        let case = case(&model, 0);
        let (at, id) = (model.at(0), model.id());
        let input = PieceInput { anchor: &case.anchor, theta: &case.theta };
        let (mut residual, mut frame) = (case.residual.clone(), Vec::new());
        let stats = compress_piece(at, &id, input, &mut residual, &mut frame).unwrap();

        let message = message(at, &frame);
        let expected: Vec<f32> = case.a.iter().zip(&message).map(|(a, m)| a - m).collect();
        // As numbers: a message does not tell the sign of a zero that rounding made.
        prop_assert_eq!(&residual, &expected);
        let kept = kept(&model, &case.a);
        prop_assert_eq!(stats.values, kept.len());
        let unsent = (0..case.a.len()).filter(|index| kept.binary_search(index).is_err());
        for index in unsent {
            prop_assert_eq!(message[index], 0.0, "{} is not among the largest", index);
        }
        for &index in &kept {
            prop_assert!(message[index] * case.a[index] >= 0.0, "the sign at {}", index);
        }
        prop_assert_eq!(verify_piece(at, &id, &frame), Ok(stats));
    }

    #[test]
    fn every_instruction_set_gives_the_same_bits(model in model()) {
        let case = case(&model, 0);
        let (at, id) = (model.at(0), model.id());
        let input = PieceInput { anchor: &case.anchor, theta: &case.theta };
        let results: Vec<_> = InstructionSet::available()
            .into_iter()
            .map(|set| {
                let (mut residual, mut out) = (case.residual.clone(), Vec::new());
                let compress =
                    Compress { at, id: &id, input, residual: &mut residual, out: &mut out };
                let stats = compress_with(set, compress).unwrap();
                (stats, bits(&residual), out)
            })
            .collect();
        for result in &results {
            prop_assert_eq!(result, &results[0]);
        }
    }

    #[test]
    fn a_contribution_that_was_not_committed_returns_to_the_residual(model in model()) {
        let case = case(&model, 0);
        let (at, id) = (model.at(0), model.id());
        let input = PieceInput { anchor: &case.anchor, theta: &case.theta };
        let (mut residual, mut frame) = (case.residual.clone(), Vec::new());
        compress_piece(at, &id, input, &mut residual, &mut frame).unwrap();
        let message = message(at, &frame);
        let expected: Vec<f32> = residual.iter().zip(&message).map(|(e, m)| e + m).collect();
        restore_piece(at, &id, &frame, &mut residual).unwrap();
        // Not even the sign of a zero may change where nothing was sent.
        for (index, (e, expected)) in residual.iter().zip(&expected).enumerate() {
            prop_assert!(e == expected, "position {}: {} is not {}", index, e, expected);
        }
    }
}

#[test]
fn whatever_k_is_what_the_encoder_writes_near_a_tie_is_taken_by_decoders() {
    let layout = layout(&[&[64, 64]]);
    let mut random = Random(17);
    for k in 1..=4096 {
        for value_bits in [ValueBits::One, ValueBits::Two] {
            let params = params(k, value_bits);
            let at = PieceAt { layout: &layout, params: &params, piece: 0 };
            // So many values that just they are kept, among zeros.
            let mut delta = near_a_tie(k as usize, &mut random);
            delta.resize(4096, 0.0);
            let frame = frame(at, &delta);
            let verdict = verify_piece(at, &id(&layout, &params), &frame);
            assert_eq!(verdict, Ok(PieceStats { values: k as usize }), "k is {k}");
        }
    }
}

#[test]
fn a_value_that_is_not_finite_is_refused_and_nothing_is_written() {
    let layout = layout(&[&[64, 64], &[64, 64], &[70]]);
    let params = params(64, ValueBits::Two);
    let at = PieceAt { layout: &layout, params: &params, piece: 0 };
    let anchor = vec![0.0; layout.values()];
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 2f32.powi(96), f32::MAX] {
        for (position, chunk) in [(17, 0), (5000, 1), (2 * 4096 + 69, 2)] {
            let mut theta = vec![0.5; layout.values()];
            theta[position] = bad;
            let input = PieceInput { anchor: &anchor, theta: &theta };
            let refusal = Err(CompressError::NotFinite { piece: 0, chunk });
            let (mut residual, mut out) = (anchor.clone(), vec![1, 2, 3]);
            let result = compress_piece(at, &id(&layout, &params), input, &mut residual, &mut out);
            assert_eq!(result.map(|_| ()), refusal, "{bad} at {position}");
            assert_eq!(out, [1, 2, 3]);
        }
    }
}

#[test]
fn with_k_of_4096_every_value_is_kept() {
    let layout = layout(&[&[64, 70], &[5]]);
    let params = params(4096, ValueBits::One);
    let at = PieceAt { layout: &layout, params: &params, piece: 0 };
    let delta = Random(3).normals(layout.values(), 1.0);
    let message = message(at, &frame(at, &delta));
    assert!(message.iter().zip(&delta).all(|(m, a)| m.is_sign_negative() == a.is_sign_negative()));
    assert!(message.iter().all(|&value| value != 0.0));
}

#[test]
fn a_second_magnitude_takes_most_of_the_quantisation_error_away() {
    let layout = layout(&[&[256, 256]]);
    let delta = Random(5).normals(layout.values(), 1e-4);
    let loss = |value_bits| {
        let params = params(64, value_bits);
        let at = PieceAt { layout: &layout, params: &params, piece: 0 };
        let message = message(at, &frame(at, &delta));
        let sent = message.iter().zip(&delta).filter(|(m, _)| **m != 0.0);
        let (lost, all) = sent.fold((0.0, 0.0), |(lost, all), (m, a)| {
            (lost + f64::from(a - m).powi(2), all + f64::from(*a).powi(2))
        });
        lost / all
    };
    let (one, two) = (loss(ValueBits::One), loss(ValueBits::Two));
    assert!(one < 0.02, "one bit loses {one}");
    assert!(two < one / 3.0, "two bits lose {two}, one bit {one}");
}

#[test]
fn a_frame_is_as_small_as_promised() {
    let layout = layout(&[&[512, 512]]);
    let delta = Random(9).normals(layout.values(), 1e-4);
    for (value_bits, most) in [(ValueBits::One, 9.0), (ValueBits::Two, 10.3)] {
        let params = params(64, value_bits);
        let at = PieceAt { layout: &layout, params: &params, piece: 0 };
        let bytes = frame(at, &delta).len();
        let per_value = bytes as f64 * 8.0 / (64.0 * 64.0);
        assert!(per_value < most, "{per_value} bits with {value_bits:?}");
        assert!(layout.values() as f64 * 4.0 / bytes as f64 > 195.0);
    }
}

#[test]
fn parameters_out_of_range_are_refused() {
    let new = |k, decay, retention| CodecParams::new(k, ValueBits::Two, decay, retention);
    use crate::params::ParamsError;
    assert_eq!(new(0, 0.95, 0.0), Err(ParamsError::TopK(0)));
    assert_eq!(new(4097, 0.95, 0.0), Err(ParamsError::TopK(4097)));
    assert_eq!(new(64, 1.5, 0.0), Err(ParamsError::ErrorDecay(1.5)));
    assert_eq!(new(64, 0.95, -0.1), Err(ParamsError::Retention(-0.1)));
    assert!(matches!(new(64, f32::NAN, 0.0), Err(ParamsError::ErrorDecay(_))));
    assert!(matches!(new(64, 0.9, f32::INFINITY), Err(ParamsError::Retention(_))));
}

#[test]
fn small_chunks_keep_values_in_proportion_but_at_least_one() {
    let params = params(64, ValueBits::Two);
    let kept = [1, 63, 95, 96, 128, 2048, 4096].map(|len| params.kept(len));
    assert_eq!(kept, [1, 1, 1, 2, 2, 32, 64]);
}
