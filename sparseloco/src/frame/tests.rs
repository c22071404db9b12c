//! Tests of reading frames that may be anything.

use proptest::prelude::*;

use super::*;
use crate::codec::verify_piece;
use crate::outer::{OuterParams, PieceState, Rule, Weighted, apply_piece};
use crate::testing::{Model, Random, frame, id, layout, model, params, values};
use crate::{CodecParams, Layout};

fn small(value_bits: ValueBits) -> (Layout, CodecParams) {
    (layout(&[&[64, 64], &[20, 30], &[70]]), params(64, value_bits))
}

/// A frame of a model's first piece.
fn frame_of(model: &Model) -> Vec<u8> {
    let delta = values(model.kind, model.layout.values(), &mut Random(model.seed));
    frame(model.at(0), &delta)
}

/// Makes the checksum right again.
fn seal(frame: &mut [u8]) {
    if frame.len() >= HEADER_BYTES {
        let checksum = checksum(frame);
        frame[CHECKSUM].copy_from_slice(&checksum.to_le_bytes());
    }
}

#[test]
fn every_flipped_bit_and_every_cut_is_noticed() {
    for value_bits in [ValueBits::One, ValueBits::Two] {
        let (layout, params) = small(value_bits);
        let at = PieceAt { layout: &layout, params: &params, piece: 0 };
        let id = id(&layout, &params);
        let good = frame(at, &Random(1).normals(layout.values(), 1.0));
        assert!(verify_piece(at, &id, &good).is_ok());
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(verify_piece(at, &id, &bad).is_err(), "bit {bit}");
        }
        for len in 0..good.len() {
            assert!(verify_piece(at, &id, &good[..len]).is_err(), "cut to {len}");
        }
    }
}

#[test]
fn what_is_wrong_with_a_frame_is_named() {
    let (layout, params) = small(ValueBits::Two);
    let at = PieceAt { layout: &layout, params: &params, piece: 0 };
    let right = id(&layout, &params);
    let good = frame(at, &Random(1).normals(layout.values(), 1.0));
    let check =
        |at: PieceAt<'_>, id: &FrameId, bytes: &[u8]| verify_piece(at, id, bytes).map(|_| ());
    let with = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        seal(&mut bad);
        bad
    };

    assert_eq!(check(at, &right, &with(0, b'X')), Err(WireError::Magic));
    assert_eq!(check(at, &right, &with(4, 2)), Err(WireError::Version(2)));
    assert_eq!(check(at, &right, &with(5, 1)), Err(WireError::ValueBits));
    assert_eq!(check(at, &right, &with(6, 65)), Err(WireError::TopK));
    assert_eq!(check(at, &right, &with(8, 1)), Err(WireError::Piece));
    assert_eq!(check(at, &FrameId { round: 8, ..right }, &good), Err(WireError::Round));
    assert_eq!(check(at, &FrameId { run: [0; 16], ..right }, &good), Err(WireError::Run));
    assert_eq!(check(at, &FrameId { layout: [0; 32], ..right }, &good), Err(WireError::Layout));
    let mut longer = good.clone();
    longer.push(0);
    seal(&mut longer);
    assert_eq!(check(at, &right, &longer), Err(WireError::Trailing));
    let mut padded = good.clone();
    *padded.last_mut().unwrap() |= 0x80;
    seal(&mut padded);
    assert_eq!(check(at, &right, &padded), Err(WireError::Padding));
    let mut cut = good[..good.len() - 1].to_vec();
    seal(&mut cut);
    assert_eq!(check(at, &right, &cut), Err(WireError::Truncated));
}

#[test]
fn magnitudes_that_no_encoder_writes_are_refused() {
    let (layout, params) = small(ValueBits::Two);
    let at = PieceAt { layout: &layout, params: &params, piece: 0 };
    let right = id(&layout, &params);
    let good = frame(at, &Random(1).normals(layout.values(), 1.0));
    // NaN, infinity, above 2^96, negative, and lower and higher exchanged.
    for (low, high) in [(0x7fc0, 0x7fc0), (0, 0x7f80), (0, 0x6f81), (0x8000, 0), (0x4000, 0x3f80)] {
        let mut bad = good.clone();
        bad[HEADER_BYTES..HEADER_BYTES + 2].copy_from_slice(&u16::to_le_bytes(low));
        bad[HEADER_BYTES + 2..HEADER_BYTES + 4].copy_from_slice(&u16::to_le_bytes(high));
        seal(&mut bad);
        let refusal = Err(WireError::Scale { chunk: 0 });
        assert_eq!(verify_piece(at, &right, &bad).map(|_| ()), refusal, "{low:x} {high:x}");
    }
}

#[test]
fn a_position_past_the_end_of_its_chunk_is_refused() {
    let layout = layout(&[&[3]]);
    let params = params(4096, ValueBits::One);
    let at = PieceAt { layout: &layout, params: &params, piece: 0 };
    let mut bad = frame(at, &[1.0, 1.0, 1.0]);
    // Header, one magnitude, three signs in a byte, no low bits, then three ones.
    assert_eq!(bad.len(), HEADER_BYTES + 2 + 1 + 1);
    assert_eq!(bad[HEADER_BYTES + 3], 0b111);
    bad[HEADER_BYTES + 3] = 0b1101;
    seal(&mut bad);
    let result = verify_piece(at, &id(&layout, &params), &bad);
    assert_eq!(result.map(|_| ()), Err(WireError::Position { chunk: 0 }));
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(
        model in model(),
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        prop_assert!(verify_piece(model.at(0), &model.id(), &bytes).is_err());
    }

    #[test]
    fn bytes_behind_a_good_header_and_checksum_never_cause_a_panic(
        model in model(),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = frame_of(&model);
        if let Some(cut) = cut {
            bytes.truncate(HEADER_BYTES + cut.index(bytes.len() - HEADER_BYTES + 1));
        }
        for (index, byte) in changes {
            if bytes.len() > HEADER_BYTES {
                let at = HEADER_BYTES + index.index(bytes.len() - HEADER_BYTES);
                bytes[at] ^= byte;
            }
        }
        seal(&mut bytes);
        let verdict = verify_piece(model.at(0), &model.id(), &bytes);
        let mut anchor = vec![0.0; model.layout.piece(0).values.len()];
        let mut error = anchor.clone();
        let set = [Weighted { weight: 1, bytes: &bytes }];
        let outer = OuterParams { rule: Rule::Counted, alpha: 1.0 };
        let state = PieceState { anchor: &mut anchor, error: &mut error };
        let applied = apply_piece(model.at(0), &outer, &set, Some(0), state);
        prop_assert_eq!(verdict.is_ok(), applied.is_ok());
        prop_assert!(anchor.iter().all(|value| value.is_finite()));
    }
}
