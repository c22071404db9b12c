//! Any bytes, as they are and behind a good header and checksum: whatever is accepted has to apply
//! and leave finite parameters, and nothing may panic.
//!
//! `cargo +nightly fuzz run frame` in `sparseloco/`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sparseloco::codec::{restore_piece, verify_piece};
use sparseloco::outer::apply_piece;
use sparseloco::{
    CodecParams, FrameId, Layout, MAGIC, OuterParams, PieceAt, PieceState, Rule, TensorShape,
    VERSION, ValueBits, Weighted,
};

fuzz_target!(|data: &[u8]| {
    let Some((&choice, bytes)) = data.split_first() else { return };
    let shapes: [&[u64]; 3] = [&[64, 64], &[20, 70], &[5000]];
    let tensors = [0, 1, 2]
        .map(|index| TensorShape { name: format!("t{index}"), shape: shapes[index].to_vec() });
    let layout = Layout::new(&tensors).expect("a good layout");
    let bits = if choice & 1 == 0 { ValueBits::One } else { ValueBits::Two };
    let top_k = [1, 8, 64, 4096][usize::from(choice >> 1 & 3)];
    let params = CodecParams::new(top_k, bits, 0.95, 0.0).expect("good parameters");
    let at = PieceAt { layout: &layout, params: &params, piece: 0 };
    let id = FrameId::new("run", "island", 3, layout.hash(&params));
    check(at, &id, bytes);
    check(at, &id, &sealed(at, &id, bytes));
});

/// `planes` behind the header that they should have.
fn sealed(at: PieceAt<'_>, id: &FrameId, planes: &[u8]) -> Vec<u8> {
    let mut frame = MAGIC.to_vec();
    frame.push(VERSION);
    frame.push(at.params.value_bits().count() as u8);
    frame.extend((at.params.top_k() as u16).to_le_bytes());
    frame.extend(at.piece.to_le_bytes());
    frame.extend([0; 4]);
    frame.extend(id.round.to_le_bytes());
    frame.extend(&id.run[..8]);
    frame.extend(&id.layout[..8]);
    frame.extend(&id.island);
    frame.extend(planes);
    let checksum = crc32c::crc32c_append(crc32c::crc32c(&frame[..12]), &frame[16..]);
    frame[12..16].copy_from_slice(&checksum.to_le_bytes());
    frame
}

fn check(at: PieceAt<'_>, id: &FrameId, bytes: &[u8]) {
    let accepted = verify_piece(at, id, bytes).is_ok();
    let mut anchor = vec![0.0; at.layout.values()];
    let mut residual = anchor.clone();
    let outer = OuterParams { rule: Rule::Counted, alpha: 1.0 };
    let set = [5, 7].map(|weight| Weighted { weight, id: *id, bytes });
    let state = PieceState { anchor: &mut anchor, residual: &mut residual };
    let applied = apply_piece(at, &outer, &set, Some(1), state).is_ok();
    assert_eq!(applied, accepted);
    assert!(anchor.iter().all(|value| value.is_finite()));
    assert_eq!(restore_piece(at, id, bytes, &mut residual).is_ok(), applied);
}
