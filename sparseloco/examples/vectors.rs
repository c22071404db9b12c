//! Writes the test vectors in `sparseloco/vectors/`; its README describes them.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sparseloco::codec::{compress_piece, restore_piece};
use sparseloco::outer::apply_piece;
use sparseloco::{
    CodecParams, FrameId, Layout, OuterParams, PieceAt, PieceInput, PieceState, Rule, TensorShape,
    ValueBits, Weighted,
};

/// A frame of a piece.
struct Case {
    name: &'static str,
    island: &'static str,
    k: u32,
    bits: ValueBits,
    piece: u32,
    shapes: &'static str,
    /// a, the whole model in canonical order.
    input: fn(usize) -> Vec<f32>,
}

const CASES: [Case; 16] = [
    case("block-1bit", "a", (64, ValueBits::One), "64x64", mixed::<1>),
    case("block-2bit", "b", (64, ValueBits::Two), "64x64", mixed::<2>),
    case("edges-2bit", "a", (64, ValueBits::Two), "70x90 300 1", mixed::<3>),
    case("edges-1bit", "a", (37, ValueBits::One), "64x65 1x1", mixed::<4>),
    case("every-value", "island-0", (4096, ValueBits::Two), "10x13", mixed::<5>),
    case("sparse-1bit", "a", (1, ValueBits::One), "5000 3x3", mixed::<6>),
    case("vectors-2bit", "a", (100, ValueBits::Two), "4097 4095 1", mixed::<7>),
    case("splits", "a", (4096, ValueBits::Two), "1 3 3 3 6 4 3 7 5 2 2", splits),
    case("zeros-1bit", "a", (4096, ValueBits::One), "5 5 2x4", zeros),
    case("zeros-2bit", "a", (4096, ValueBits::Two), "5 5 2x4", zeros),
    case("range-2bit", "a", (1500, ValueBits::Two), "222 111", range),
    case("pieces-0", "two", (300, ValueBits::Two), PIECES, mixed::<8>),
    Case { piece: 1, ..case("pieces-1", "two", (300, ValueBits::Two), PIECES, mixed::<8>) },
    case("mix-a", "a", (256, ValueBits::Two), MIX, mixed::<9>),
    case("mix-b", "b", (256, ValueBits::Two), MIX, mixed::<10>),
    case("mix-c", "c", (256, ValueBits::Two), MIX, absurd),
];

/// One chunk more than a piece has, and a vector.
const PIECES: &str = "4160x1 9";
/// The model of the sets.
const MIX: &str = "70x3 130";

const fn case(
    name: &'static str,
    island: &'static str,
    (k, bits): (u32, ValueBits),
    shapes: &'static str,
    input: fn(usize) -> Vec<f32>,
) -> Case {
    Case { name, island, k, bits, piece: 0, shapes, input }
}

fn main() {
    let folder = Folder(Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors"));
    let index: String = CASES.iter().map(|case| frame(&folder, case)).collect();
    folder.write("index.txt", index.as_bytes());
    folder.write("steps.txt", step(&folder).as_bytes());
    let (paper, counted) = ((Rule::Paper, 0.7), (Rule::Counted, 1.5));
    let sets = [
        set(&folder, "paper", paper, None, "3000:mix-a 1000:mix-b"),
        set(&folder, "counted", counted, Some(1), "900:mix-a 5000:mix-b 5000:mix-c"),
    ];
    folder.write("sets.txt", sets.concat().as_bytes());
    folder.write("digests.txt", digests(&folder).as_bytes());
}

struct Folder(PathBuf);

impl Folder {
    fn write(&self, file: &str, bytes: &[u8]) {
        std::fs::write(self.0.join(file), bytes).expect("the vectors' folder is writable");
    }

    fn read(&self, file: &str) -> Vec<u8> {
        std::fs::read(self.0.join(file)).expect("the file was written before")
    }

    fn floats(&self, file: &str, values: &[f32]) {
        self.write(file, &bytes(values));
    }
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn layout(shapes: &str) -> Layout {
    let shape = |text: &str| text.split('x').map(|dim| dim.parse().expect("a number")).collect();
    let tensors: Vec<TensorShape> = (0..)
        .zip(shapes.split(' '))
        .map(|(index, text)| TensorShape { name: format!("t{index}"), shape: shape(text) })
        .collect();
    Layout::new(&tensors).expect("a good layout")
}

fn params(k: u32, bits: ValueBits, decay: f32, retention: f32) -> CodecParams {
    CodecParams::new(k, bits, decay, retention).expect("good parameters")
}

fn id(island: &str, layout: &Layout, params: &CodecParams) -> FrameId {
    FrameId::new("vectors", island, 7, layout.hash(params))
}

/// Writes input, frame and message of a case; returns its line of the index.
fn frame(folder: &Folder, case: &Case) -> String {
    let Case { name, island, k, bits, piece, shapes, .. } = *case;
    let (layout, params) = (layout(shapes), params(k, bits, 0.95, 0.0));
    let at = PieceAt { layout: &layout, params: &params, piece };
    let id = id(island, &layout, &params);
    let input = (case.input)(layout.values())[layout.piece(piece).values].to_vec();
    // With θ and the residual zero, a is the anchor.
    let theta = vec![0.0; input.len()];
    let (mut residual, mut frame) = (theta.clone(), Vec::new());
    let pair = PieceInput { anchor: &input, theta: &theta };
    let stats = compress_piece(at, &id, pair, &mut residual, &mut frame).expect("finite values");
    // Added to −0 a value stays what it is, −0 too; what is not sent is +0.
    let nothing = if stats.values == input.len() { -0.0 } else { 0.0 };
    let mut message = vec![nothing; input.len()];
    restore_piece(at, &id, &frame, &mut message).expect("a good frame");
    folder.floats(&format!("{name}.input"), &input);
    folder.write(&format!("{name}.frame"), &frame);
    folder.floats(&format!("{name}.message"), &message);
    format!("{name} {island} {k} {} {piece} {shapes}\n", bits.count())
}

/// Writes all that an encoder starts from and leaves, β and λ being at work; returns the index's
/// line.
fn step(folder: &Folder) -> String {
    let (name, island, k, decay, retention, shapes) = ("step", "a", 64, 0.95, 0.1, "66x64 100");
    let (layout, params) = (layout(shapes), params(k, ValueBits::Two, decay, retention));
    let at = PieceAt { layout: &layout, params: &params, piece: 0 };
    let [anchor, theta, mut residual] =
        [mixed::<21>, mixed::<22>, mixed::<23>].map(|input| input(layout.values()));
    folder.floats(&format!("{name}.anchor"), &anchor);
    folder.floats(&format!("{name}.theta"), &theta);
    folder.floats(&format!("{name}.residual"), &residual);
    let mut frame = Vec::new();
    let input = PieceInput { anchor: &anchor, theta: &theta };
    let id = id(island, &layout, &params);
    compress_piece(at, &id, input, &mut residual, &mut frame).expect("finite values");
    folder.write(&format!("{name}.frame"), &frame);
    folder.floats(&format!("{name}.left"), &residual);
    format!("{name} {island} {k} 2 0 {decay} {retention} {shapes}\n")
}

/// Applies `contributions`, each a weight and a case of [`MIX`]; returns the set's line.
fn set(
    folder: &Folder,
    name: &str,
    (rule, alpha): (Rule, f32),
    own: Option<usize>,
    contributions: &str,
) -> String {
    let (layout, params) = (layout(MIX), params(256, ValueBits::Two, 0.95, 0.0));
    let at = PieceAt { layout: &layout, params: &params, piece: 0 };
    let held: Vec<(u64, FrameId, Vec<u8>)> = contributions
        .split(' ')
        .map(|text| text.split_once(':').expect("weight:case"))
        .map(|(weight, case)| {
            let island = case.rsplit('-').next().expect("a case's island");
            let bytes = folder.read(&format!("{case}.frame"));
            (weight.parse().expect("a weight"), id(island, &layout, &params), bytes)
        })
        .collect();
    let set: Vec<Weighted<'_>> = held
        .iter()
        .map(|(weight, id, bytes)| Weighted { weight: *weight, id: *id, bytes })
        .collect();
    let (mut anchor, mut residual) = (mixed::<31>(layout.values()), mixed::<32>(layout.values()));
    folder.floats(&format!("{name}.anchor"), &anchor);
    folder.floats(&format!("{name}.residual"), &residual);
    let state = PieceState { anchor: &mut anchor, residual: &mut residual };
    apply_piece(at, &OuterParams { rule, alpha }, &set, own, state).expect("good frames");
    folder.floats(&format!("{name}.after"), &anchor);
    folder.floats(&format!("{name}.left"), &residual);
    let own = own.map_or("-".to_string(), |own| own.to_string());
    format!("{name} {name} {alpha} {own} {contributions}\n")
}

/// The hashes of the model of two pieces and of what an island makes of it.
fn digests(folder: &Folder) -> String {
    let (layout, params) = (layout(PIECES), params(300, ValueBits::Two, 0.95, 0.0));
    let root = |files: [&str; 2]| {
        let mut manifest = blake3::Hasher::new();
        for file in files {
            manifest.update(blake3::hash(&folder.read(file)).as_bytes());
        }
        manifest.finalize()
    };
    let mut lines = String::new();
    let mut line = |name: &str, hash: blake3::Hash| {
        writeln!(lines, "{name} {hash}").expect("a string takes all");
    };
    line("layout", layout.hash(&params).into());
    line("order", layout.order_hash().into());
    line("contribution", root(["pieces-0.frame", "pieces-1.frame"]));
    line("theta", root(["pieces-0.input", "pieces-1.input"]));
    lines
}

/// Values of both signs and many sizes. A few are 0.25 and larger than all others; more are 0.122,
/// and in a full chunk of which 64 are kept it is not all of these.
fn mixed<const SEED: u32>(count: usize) -> Vec<f32> {
    let mut state = SEED;
    (0..count)
        .map(|index| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let size = (state >> 8) as f32 / 16_777_216.0 - 0.5;
            match index {
                _ if index % 128 == 0 => 0.25,
                _ if index % 5 == 1 => -0.122,
                _ => size * size * size,
            }
        })
        .collect()
}

/// Values that no honest island sends beside the others.
fn absurd(count: usize) -> Vec<f32> {
    mixed::<11>(count).iter().map(|value| value * 1e6).collect()
}

/// Every way that the search for two magnitudes ends, chunk after chunk: nothing above the mean;
/// everything above it; nothing above the second split, and its two means apart, the same, and in
/// the wrong order; everything above the second, apart and the same; nothing and everything above
/// the third; means apart and the same after the third.
fn splits(_: usize) -> Vec<f32> {
    let chunks: [&[u32]; 11] = [
        &[0x3fe2_683a],
        &[0x1a7d_7ffe; 3],
        &[0x3825_7fff, 0x3825_8000, 0x3825_7fff],
        &[0x3ffc_0685, 0x3ffc_0686, 0x3ffc_0685],
        &[0x4d67_7ffe, 0x4d67_7ffe, 0x4d67_7ffa, 0x4d67_7ffe, 0x4d67_7ffe, 0x4d67_7ffe],
        &[0x502c_8001, 0x502c_8001, 0x502c_8001, 0x502c_8000],
        &[0x3faf_7b18, 0x3faf_7b1a, 0x3faf_7b19],
        &[
            0x3fe5_44b1,
            0x3fe5_44b2,
            0x3fe5_44b2,
            0x3fe5_44b2,
            0x3fe5_44b3,
            0x3fe5_44b4,
            0x3fe5_44b1,
        ],
        &[0x3ff9_9095, 0x3ff9_9096, 0x3ff9_9096, 0x3ff9_9094, 0x3ff9_9096],
        &[0x5cd0_7ffe, 0x5cd0_8001],
        &[0x3fda_6c55, 0x3fda_6c54],
    ];
    let values = chunks.concat().into_iter().enumerate();
    values.map(|(index, bits)| f32::from_bits(bits | (index as u32 & 1) << 31)).collect()
}

/// Zeros of both signs alone, and beside other values.
fn zeros(_: usize) -> Vec<f32> {
    let mut values = vec![-0.0; 5];
    values.extend([-0.0, 0.0, -0.0, 3.0, -3.0]);
    values.extend([0.0, -0.0, 1.0, -0.0, 0.0, -1.0, -0.5, 0.0]);
    values
}

/// Every exponent that may be: from the smallest number above zero to just below 2^96.
fn range(count: usize) -> Vec<f32> {
    let largest = 2f32.powi(96).to_bits() - 1;
    let size = |index: usize| 1 + (largest - 1) / (count as u32 - 1) * index as u32;
    (0..count)
        .map(|index| f32::from_bits(size(index * 100 % count) | (index as u32 & 1) << 31))
        .collect()
}
