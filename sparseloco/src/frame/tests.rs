//! Tests of reading frames that may be anything.

use proptest::prelude::*;

use super::*;
use crate::codec::{restore_piece, verify_piece};
use crate::outer::{ApplyError, OuterParams, PieceState, Rule, Weighted, apply_piece};
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
    let verify =
        |at: PieceAt<'_>, id: &FrameId, bytes: &[u8]| verify_piece(at, id, bytes).map(|_| ());
    let with = |at: usize, byte: u8| {
        let mut bad = good.clone();
        bad[at] = byte;
        seal(&mut bad);
        bad
    };

    assert_eq!(verify(at, &right, &with(0, b'X')), Err(WireError::Magic));
    assert_eq!(verify(at, &right, &with(4, 3)), Err(WireError::Version(3)));
    assert_eq!(verify(at, &right, &with(5, 1)), Err(WireError::ValueBits));
    assert_eq!(verify(at, &right, &with(6, 65)), Err(WireError::TopK));
    assert_eq!(verify(at, &right, &with(8, 1)), Err(WireError::Piece));
    assert_eq!(verify(at, &FrameId { round: 8, ..right }, &good), Err(WireError::Round));
    assert_eq!(verify(at, &FrameId { run: [0; 16], ..right }, &good), Err(WireError::Run));
    assert_eq!(verify(at, &FrameId { layout: [0; 32], ..right }, &good), Err(WireError::Layout));
    assert_eq!(verify(at, &right.for_island("island-b"), &good), Err(WireError::Island));
    let mut longer = good.clone();
    longer.push(0);
    seal(&mut longer);
    assert_eq!(verify(at, &right, &longer), Err(WireError::Trailing));
    let mut padded = good.clone();
    *padded.last_mut().unwrap() |= 0x80;
    seal(&mut padded);
    assert_eq!(verify(at, &right, &padded), Err(WireError::Padding));
    let mut cut = good[..good.len() - 1].to_vec();
    seal(&mut cut);
    assert_eq!(verify(at, &right, &cut), Err(WireError::Truncated));
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

/// Whoever takes a frame makes the same check and panics at nothing. What passes moves parameters
/// by numbers that are finite. True for a frame that passes.
fn check(at: PieceAt<'_>, bytes: &[u8]) -> bool {
    let id = id(at.layout, at.params);
    let verdict = verify_piece(at, &id, bytes).map(|_| ());
    let mut anchor = vec![0.0; at.layout.piece(at.piece).values.len()];
    let mut residual = anchor.clone();
    for rule in [Rule::Paper, Rule::Counted] {
        let set = [Weighted { weight: 5, id, bytes }, Weighted { weight: u64::MAX, id, bytes }];
        let outer = OuterParams { rule, alpha: 1.0 };
        let state = PieceState { anchor: &mut anchor, residual: &mut residual };
        let applied = apply_piece(at, &outer, &set, Some(1), state);
        let refused = |source| ApplyError::Frame { index: 0, source };
        assert_eq!(applied, verdict.map_err(refused));
    }
    assert!(anchor.iter().all(|value| value.is_finite()));
    assert_eq!(restore_piece(at, &id, bytes, &mut residual), verdict);
    verdict.is_ok()
}

/// Changes a frame as an attacker who knows how frames are read might: the planes' bits, their
/// lengths, and the magnitudes that bound what is made of them.
fn mutate(frame: &mut Vec<u8>, random: &mut Random) {
    for _ in 0..1 + random.next() % 4 {
        let planes = frame.len().saturating_sub(HEADER_BYTES).max(1);
        let [what, at, with] = [(); 3].map(|()| random.next() as usize);
        let at = HEADER_BYTES + at % planes;
        match (what % 7, frame.get_mut(at)) {
            (0, Some(byte)) => *byte ^= 1 << (with % 8),
            (1, Some(byte)) => *byte = [0, 0xff, 0x80, with as u8][with / 256 % 4],
            (2, Some(_)) => frame[at..].fill([0, 0xff][with % 2]),
            (3, Some(_)) => frame.truncate(at),
            (4, Some(_)) => frame.insert(at, with as u8),
            (5, Some(_)) => frame[at..].rotate_left(with % 2),
            (6, _) => frame.extend([0; 9]),
            _ => {}
        }
    }
    if random.next().is_multiple_of(16) {
        let at = random.next() as usize % frame.len();
        frame[at] ^= random.next() as u8;
    }
    seal(frame);
}

#[test]
fn mutated_frames_are_judged_alike_by_all_who_read_them() {
    let mut random = Random(23);
    let shapes: [&[&[u64]]; 4] =
        [&[&[64, 64]], &[&[1]], &[&[65, 3], &[4097]], &[&[7], &[1], &[2, 2], &[4095]]];
    let (mut taken, mut tried) = (0, 0);
    for (shapes, k) in shapes.iter().flat_map(|shapes| [1, 3, 64, 1000, 4096].map(|k| (*shapes, k)))
    {
        for value_bits in [ValueBits::One, ValueBits::Two] {
            let (layout, params) = (layout(shapes), params(k, value_bits));
            let at = PieceAt { layout: &layout, params: &params, piece: 0 };
            let good = frame(at, &random.normals(layout.values(), 1.0));
            assert!(check(at, &good));
            for _ in 0..250 {
                let mut bytes = good.clone();
                mutate(&mut bytes, &mut random);
                taken += u32::from(check(at, &bytes));
                tried += 1;
            }
        }
    }
    // Signs and magnitudes may be any, positions many: what is behind the check is reached too.
    assert!(taken > tried / 50 && taken < tried / 2, "{taken} of {tried} frames were taken");
}

#[test]
fn a_frame_of_version_1_is_refused_with_a_sentence_that_says_what_to_do() {
    let (layout, params) = small(ValueBits::Two);
    let at = PieceAt { layout: &layout, params: &params, piece: 0 };
    // Its header had 40 bytes, so that a small frame is shorter than a header of today.
    let mut old = frame(at, &Random(1).normals(layout.values(), 1.0));
    old.drain(40..HEADER_BYTES);
    old[4] = 1;
    for len in [5, 44, old.len()] {
        let refusal = verify_piece(at, &id(&layout, &params), &old[..len]).unwrap_err();
        assert_eq!(refusal, WireError::Version(1));
        let sentence = refusal.to_string();
        assert!(sentence.contains("version 1"), "{sentence}");
        assert!(sentence.contains("run the same release on all islands"), "{sentence}");
    }
}

#[test]
fn names_of_islands_that_begin_alike_give_other_frames() {
    let (layout, params) = small(ValueBits::One);
    let right = id(&layout, &params);
    let names =
        ["", "a", "b", "ab", "a-very-long-name-of-an-island-1", "a-very-long-name-of-an-island-2"];
    let mut digests: Vec<_> = names.iter().map(|name| right.for_island(name).island).collect();
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len(), names.len());
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
        check(model.at(0), &bytes);
    }
}
