//! Tests of the outer step against naive references.

use proptest::prelude::*;

use super::*;
use crate::ValueBits;
use crate::aggregate::SHARE_MIN;
use crate::testing::{Model, Random, bits, frame, id, layout, message, model, params, values};

const PAPER: OuterParams = OuterParams { rule: Rule::Paper, alpha: 0.7 };
const COUNTED: OuterParams = OuterParams { rule: Rule::Counted, alpha: 0.7 };

/// Frames of one piece, with weights.
fn set_of(model: &Model, weights: &[u64], piece: u32) -> Vec<(u64, Vec<u8>)> {
    let mut random = Random(model.seed);
    let one = |&weight: &u64| {
        let delta = values(model.kind, model.layout.values(), &mut random);
        (weight, frame(model.at(piece), &delta))
    };
    weights.iter().map(one).collect()
}

fn weighted<'a>(at: PieceAt<'_>, set: &'a [(u64, Vec<u8>)]) -> Vec<Weighted<'a>> {
    let id = id(at.layout, at.params);
    set.iter().map(|(weight, bytes)| Weighted { weight: *weight, id, bytes }).collect()
}

/// u by its definition, over dense messages; `None` where a position was not sent.
fn naive_update(
    rule: Rule,
    shares: &[f32],
    messages: &[Vec<Option<f32>>],
    vector: bool,
) -> Vec<f32> {
    (0..messages[0].len())
        .map(|position| {
            let (mut sum, mut senders) = (0.0, 0.0);
            for (share, message) in shares.iter().zip(messages) {
                if let Some(value) = message[position] {
                    sum += share * value;
                    senders += share;
                }
            }
            let counted = rule == Rule::Counted && !vector;
            if counted { sum / f32::max(senders, SHARE_MIN) } else { sum }
        })
        .collect()
}

/// Messages with the positions that were sent, of values that are not zero.
fn sent(at: PieceAt<'_>, set: &[(u64, Vec<u8>)]) -> Vec<Vec<Option<f32>>> {
    let dense = |bytes: &[u8]| {
        message(at, bytes).into_iter().map(|value| (value != 0.0).then_some(value)).collect()
    };
    set.iter().map(|(_, bytes)| dense(bytes)).collect()
}

fn check_against_reference(outer: OuterParams, shape: &[u64], own: Option<usize>) {
    let model = Model {
        layout: layout(&[shape]),
        params: params(64, ValueBits::Two),
        kind: crate::testing::Kind::Plain,
        seed: 11,
    };
    let at = model.at(0);
    let weights = [3000, 1000, 2500, 900, 1];
    let set = set_of(&model, &weights, 0);
    let mut random = Random(99);
    let theta = random.normals(model.layout.values(), 1.0);
    let before = random.normals(model.layout.values(), 0.5);
    let (mut anchor, mut residual) = (theta.clone(), before.clone());
    let state = PieceState { anchor: &mut anchor, residual: &mut residual };
    apply_piece(at, &outer, &weighted(at, &set), own, state).unwrap();

    let total: u64 = weights.iter().sum();
    let shares = weights.map(|weight| (weight as f64 / total as f64) as f32);
    let messages = sent(at, &set);
    let update = naive_update(outer.rule, &shares, &messages, shape.len() == 1);
    for position in 0..theta.len() {
        let (u, e) = (update[position], before[position]);
        assert_eq!(anchor[position], theta[position] - outer.alpha * u, "θ at {position}");
        let mine = own.is_some_and(|own| messages[own][position].is_some());
        let expected = match outer.rule {
            Rule::Counted if !mine && u * e > 0.0 => e.signum() * (e.abs() - u.abs()).max(0.0),
            _ => e,
        };
        assert_eq!(residual[position], expected, "the residual at {position}");
    }
}

#[test]
fn the_papers_rule_is_the_weighted_mean_over_all_islands() {
    check_against_reference(PAPER, &[130, 200], Some(1));
    check_against_reference(PAPER, &[5000], None);
}

#[test]
fn the_counted_rule_divides_by_the_senders_and_clips_what_arrived() {
    check_against_reference(COUNTED, &[130, 200], Some(1));
    check_against_reference(COUNTED, &[130, 200], None);
}

#[test]
fn the_counted_rule_takes_the_plain_mean_of_vectors() {
    check_against_reference(COUNTED, &[5000], Some(0));
}

/// Frames that each hold one value, 1.0, at the given positions of a 2 × 2 matrix.
fn single(at: PieceAt<'_>, position: usize) -> Vec<u8> {
    let mut delta = vec![0.0; 4];
    delta[position] = 1.0;
    frame(at, &delta)
}

#[test]
fn a_lone_sender_of_four_counts_fully_and_one_of_eight_by_half() {
    let (layout, params) = (layout(&[&[2, 2]]), params(1, ValueBits::One));
    let at = PieceAt { layout: &layout, params: &params, piece: 0 };
    for (islands, expected) in [(1, 1.0), (2, 1.0), (4, 1.0), (8, 0.5), (16, 0.25)] {
        let mut frames = vec![single(at, 3)];
        frames.resize(islands, single(at, 0));
        let set: Vec<_> = frames
            .iter()
            .map(|bytes| Weighted { weight: 9, id: id(&layout, &params), bytes })
            .collect();
        let (mut anchor, mut residual) = ([0.0; 4], [0.0; 4]);
        let state = PieceState { anchor: &mut anchor, residual: &mut residual };
        apply_piece(at, &OuterParams { rule: Rule::Counted, alpha: 1.0 }, &set, None, state)
            .unwrap();
        assert!((anchor[3] + expected).abs() < 1e-6, "{islands} islands: {anchor:?}");
    }
}

proptest! {
    #[test]
    fn every_instruction_set_makes_the_same_step(model in model(), counted in any::<bool>()) {
        let set = set_of(&model, &[5, 70, 3], 0);
        let mut random = Random(model.seed ^ 1);
        let len = model.layout.piece(0).values.len();
        let start = (random.normals(len, 1.0), random.normals(len, 1.0));
        let outer = if counted { COUNTED } else { PAPER };
        let results: Vec<_> = InstructionSet::available()
            .into_iter()
            .map(|instructions| {
                let (mut anchor, mut residual) = start.clone();
                let state = PieceState { anchor: &mut anchor, residual: &mut residual };
                let (set, own) = (weighted(model.at(0), &set), Some(1));
                let apply = Apply { at: model.at(0), outer: &outer, set: &set, own, state };
                apply_with(instructions, apply).unwrap();
                (bits(&anchor), bits(&residual))
            })
            .collect();
        for result in &results {
            prop_assert_eq!(result, &results[0]);
        }
    }
}

#[test]
fn pieces_are_independent_of_each_other() {
    let model = Model {
        layout: layout(&[&[640, 640], &[300]]),
        params: params(64, ValueBits::Two),
        kind: crate::testing::Kind::Plain,
        seed: 4,
    };
    let run = |order: &[u32]| {
        let mut random = Random(8);
        let mut anchor = random.normals(model.layout.values(), 1.0);
        let mut residual = random.normals(model.layout.values(), 1.0);
        for &piece in order {
            let span = model.layout.piece(piece).values;
            let set = set_of(&model, &[1, 2, 3], piece);
            let state = PieceState {
                anchor: &mut anchor[span.clone()],
                residual: &mut residual[span.clone()],
            };
            apply_piece(
                model.at(piece),
                &COUNTED,
                &weighted(model.at(piece), &set),
                Some(0),
                state,
            )
            .unwrap();
        }
        (bits(&anchor), bits(&residual))
    };
    assert_eq!(model.layout.pieces(), 2);
    assert_eq!(run(&[0, 1]), run(&[1, 0]));
}

#[test]
fn a_set_with_a_bad_frame_changes_nothing_and_names_it() {
    let (layout, params) = (layout(&[&[64, 64]]), params(64, ValueBits::Two));
    let at = PieceAt { layout: &layout, params: &params, piece: 0 };
    let good = frame(at, &Random(2).normals(4096, 1.0));
    let mut bad = good.clone();
    bad[100] ^= 4;
    let id = id(&layout, &params);
    let one = |weight, bytes| Weighted { weight, id, bytes };
    let set = [one(1, &good), one(1, &bad)];
    let nothing = [one(0, &good)];
    let foreign = [one(1, &good), Weighted { id: id.for_island("b"), ..one(1, &good) }];
    let (mut anchor, mut residual) = (vec![1.0; 4096], vec![2.0; 4096]);
    for (set, own, result) in [
        (&set[..], Some(0), Err(ApplyError::Frame { index: 1, source: WireError::Checksum })),
        (&foreign[..], None, Err(ApplyError::Frame { index: 1, source: WireError::Island })),
        (&nothing[..], None, Err(ApplyError::NoWeight)),
        (&[], None, Ok(())),
    ] {
        let state = PieceState { anchor: &mut anchor, residual: &mut residual };
        assert_eq!(apply_piece(at, &COUNTED, set, own, state), result);
    }
    assert!(anchor.iter().all(|&value| value == 1.0) && residual.iter().all(|&value| value == 2.0));
}

#[test]
fn lossless_contributions_give_the_weighted_mean() {
    let layout = layout(&[&[70, 70], &[100]]);
    let params = params(64, ValueBits::Two);
    let at = PieceAt { layout: &layout, params: &params, piece: 0 };
    let mut random = Random(21);
    let deltas = [1u64, 3].map(|weight| (weight, random.normals(layout.values(), 1.0)));
    let set = deltas.each_ref().map(|(weight, values)| Dense { weight: *weight, values });
    for outer in [PAPER, COUNTED] {
        let mut anchor = vec![0.0; layout.values()];
        apply_dense(at, &outer, &set, &mut anchor).unwrap();
        for (position, theta) in anchor.iter().enumerate() {
            let mean = 0.25 * deltas[0].1[position] + 0.75 * deltas[1].1[position];
            assert!((theta + outer.alpha * mean).abs() < 1e-6, "position {position}");
        }
    }
}

#[test]
fn an_island_begins_its_next_round_with_a_part_of_its_residual() {
    let params = CodecParams::new(64, ValueBits::Two, 0.95, 0.5).unwrap();
    let mut start = [0.0; 2];
    local_start(&params, &[1.0, 2.0], &[0.5, -1.0], &mut start);
    assert_eq!(start, [0.75, 2.5]);
}

#[test]
fn an_absurd_contribution_moves_no_chunk_further_than_the_bound() {
    let (layout, params) = (layout(&[&[64, 128]]), params(64, ValueBits::Two));
    let at = PieceAt { layout: &layout, params: &params, piece: 0 };
    let mut random = Random(77);
    let mut set: Vec<(u64, Vec<u8>)> =
        (0..5).map(|_| (100, frame(at, &random.normals(8192, 1.0)))).collect();
    let norm = |values: &[f32]| values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    let usual = norm(&message(at, &set[0].1)[..4096]);
    set.push((100, frame(at, &random.normals(8192, 1e20))));
    let (mut anchor, mut residual) = (vec![0.0; 8192], vec![0.0; 8192]);
    let state = PieceState { anchor: &mut anchor, residual: &mut residual };
    apply_piece(
        at,
        &OuterParams { rule: Rule::Paper, alpha: 1.0 },
        &weighted(at, &set),
        None,
        state,
    )
    .unwrap();
    let moved = norm(&anchor[..4096]);
    assert!(moved < 1.5 * usual, "moved by {moved}, a usual contribution has {usual}");
}
