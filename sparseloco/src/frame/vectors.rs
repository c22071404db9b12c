//! The test vectors beside `docs/wire-format.md`: every input gives its frame, every frame its
//! message. `vectors/decode.py` is a second decoder of them.

use std::fs;
use std::path::Path;

use crate::codec::{compress_piece, restore_piece, verify_piece};
use crate::{CodecParams, FrameId, Layout, PieceAt, PieceInput, TensorShape, ValueBits};

fn floats(folder: &Path, file: String) -> Vec<f32> {
    let bytes = fs::read(folder.join(file)).unwrap();
    bytes.as_chunks().0.iter().map(|&value| f32::from_le_bytes(value)).collect()
}

fn check(folder: &Path, line: &str) {
    let mut words = line.split_whitespace();
    let name = words.next().unwrap();
    let [k, bits, piece] = [(); 3].map(|()| words.next().unwrap().parse::<u32>().unwrap());
    let tensors: Vec<TensorShape> = (0..)
        .zip(words)
        .map(|(index, shape)| TensorShape {
            name: format!("t{index}"),
            shape: shape.split('x').map(|dim| dim.parse().unwrap()).collect(),
        })
        .collect();
    let layout = Layout::new(&tensors).unwrap();
    let bits = if bits == 1 { ValueBits::One } else { ValueBits::Two };
    let params = CodecParams::new(k, bits, 0.95, 0.0).unwrap();
    let at = PieceAt { layout: &layout, params: &params, piece };
    let id = FrameId { run: *b"vectors!vectors!", round: 7, layout: layout.hash(&params) };
    let frame = fs::read(folder.join(format!("{name}.frame"))).unwrap();

    verify_piece(at, &id, &frame).unwrap();
    let mut message = vec![0.0; layout.values()];
    restore_piece(at, &frame, &mut message).unwrap();
    assert_eq!(message, floats(folder, format!("{name}.message")), "{name} decodes");

    let anchor = floats(folder, format!("{name}.input"));
    let zeros = vec![0.0; anchor.len()];
    let (mut error, mut out) = (zeros.clone(), Vec::new());
    let input = PieceInput { anchor: &anchor, theta: &zeros };
    compress_piece(at, &id, input, &mut error, &mut out).unwrap();
    assert!(out == frame, "{name} encodes to other bytes");
}

#[test]
fn every_vector_encodes_and_decodes_as_it_did() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let index = fs::read_to_string(folder.join("index.txt")).unwrap();
    assert_eq!(index.lines().count(), 5);
    index.lines().for_each(|line| check(&folder, line));
}
