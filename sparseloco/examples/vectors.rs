//! Writes the test vectors in `sparseloco/vectors/`; its README describes them.

use std::path::Path;

use sparseloco::codec::{compress_piece, restore_piece};
use sparseloco::{CodecParams, FrameId, Layout, PieceAt, PieceInput, TensorShape, ValueBits};

/// Name, k, value bits, and shapes; all are of piece 0.
const CASES: [(&str, u32, ValueBits, &[&[u64]]); 5] = [
    ("block-1bit", 64, ValueBits::One, &[&[64, 64]]),
    ("block-2bit", 64, ValueBits::Two, &[&[64, 64]]),
    ("edges-2bit", 64, ValueBits::Two, &[&[70, 90], &[300], &[1]]),
    ("every-value", 4096, ValueBits::Two, &[&[10, 13]]),
    ("sparse-1bit", 1, ValueBits::One, &[&[5000], &[3, 3]]),
];

fn main() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors");
    let mut index = String::new();
    for (name, k, bits, shapes) in CASES {
        let tensors: Vec<TensorShape> = (0..)
            .zip(shapes)
            .map(|(i, shape)| TensorShape { name: format!("t{i}"), shape: shape.to_vec() })
            .collect();
        let layout = Layout::new(&tensors).expect("a good layout");
        let params = CodecParams::new(k, bits, 0.95, 0.0).expect("good parameters");
        let at = PieceAt { layout: &layout, params: &params, piece: 0 };
        let id = FrameId { run: *b"vectors!vectors!", round: 7, layout: layout.hash(&params) };
        let input = input(layout.values());
        // With θ = 0 and an empty residual, a is the anchor.
        let theta = vec![0.0; input.len()];
        let (mut error, mut frame) = (theta.clone(), Vec::new());
        let pair = PieceInput { anchor: &input, theta: &theta };
        compress_piece(at, &id, pair, &mut error, &mut frame).expect("finite values");
        let mut message = theta;
        restore_piece(at, &frame, &mut message).expect("a good frame");
        write(&folder, name, "input", &bytes(&input));
        write(&folder, name, "frame", &frame);
        write(&folder, name, "message", &bytes(&message));
        let dims = |shape: &&[u64]| shape.iter().map(u64::to_string).collect::<Vec<_>>().join("x");
        let shapes: Vec<String> = shapes.iter().map(dims).collect();
        index.push_str(&format!("{name} {k} {} 0 {}\n", bits.count(), shapes.join(" ")));
    }
    std::fs::write(folder.join("index.txt"), index).expect("the vectors' folder is writable");
}

fn write(folder: &Path, name: &str, kind: &str, bytes: &[u8]) {
    std::fs::write(folder.join(format!("{name}.{kind}")), bytes).expect("a writable folder");
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Values of both signs and many sizes; every seventh is 0.25 and larger than all others, so that
/// there are ties.
fn input(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    (0..count)
        .map(|index| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let size = (state >> 8) as f32 / 16_777_216.0 - 0.5;
            if index % 7 == 0 { 0.25 } else { size * size * size }
        })
        .collect()
}
