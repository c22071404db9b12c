//! Parts that the tests share: data, a naive codec, models.

use proptest::prelude::*;

use crate::codec::{FrameId, PieceAt, PieceInput, compress_piece, restore_piece};
use crate::{CodecParams, Layout, TensorShape, ValueBits};

pub(crate) fn layout(shapes: &[&[u64]]) -> Layout {
    let tensors: Vec<TensorShape> = shapes
        .iter()
        .enumerate()
        .map(|(index, shape)| TensorShape { name: format!("t{index}"), shape: shape.to_vec() })
        .collect();
    Layout::new(&tensors).unwrap()
}

pub(crate) fn params(top_k: u32, value_bits: ValueBits) -> CodecParams {
    CodecParams::new(top_k, value_bits, 0.95, 0.0).unwrap()
}

pub(crate) fn id(layout: &Layout, params: &CodecParams) -> FrameId {
    FrameId::new("a run of the tests", "island-a", 7, layout.hash(params))
}

/// SplitMix64.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Nearly normal, of standard deviation 1.
    pub(crate) fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: u64 = (0..4).map(|part| bits >> (16 * part) & 0xffff).sum();
        (sum as f32 / 65536.0 - 2.0) * 3f32.sqrt()
    }

    pub(crate) fn normals(&mut self, count: usize, scale: f32) -> Vec<f32> {
        (0..count).map(|_| scale * self.normal()).collect()
    }
}

/// Magnitudes that are nearly all equal, the others a little smaller, and all close to the middle
/// between two bfloat16: where rounding a mean's last bit changes the bfloat16.
pub(crate) fn near_a_tie(count: usize, random: &mut Random) -> Vec<f32> {
    // Up to some times as many units in the last place as the sum of `count` values is wrong by.
    let width = (count.ilog2() + random.next() as u32 % 3).min(15);
    let mut some = || random.next() as u32 & ((1 << width) - 1);
    let (away, less) = (some(), some());
    let exponent = 127 - 90 + random.next() as u32 % 180;
    let tie = exponent << 23 | (random.next() as u32 & 0x7f) << 16 | 0x8000;
    let most = if random.next() & 1 == 0 { tie + away } else { tie - away };
    let mut magnitudes = vec![f32::from_bits(most); count];
    for _ in 0..1 + random.next() % 3 {
        magnitudes[random.next() as usize % count] = f32::from_bits(most - less);
    }
    magnitudes
}

/// The kind of values: `Plain` is normal; the others hold what a selection could stumble over.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Plain,
    /// A handful of magnitudes, so that nearly all values tie.
    Ties,
    /// Zeros of both signs, and denormals.
    Tiny,
    /// Magnitudes over the whole range of f32 that is allowed.
    Wild,
}

pub(crate) fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![Just(Kind::Plain), Just(Kind::Ties), Just(Kind::Tiny), Just(Kind::Wild)]
}

pub(crate) fn values(kind: Kind, count: usize, random: &mut Random) -> Vec<f32> {
    let one = |random: &mut Random| {
        let bits = random.next();
        let sign = (bits as u32) & 0x8000_0000;
        let magnitude = match kind {
            Kind::Plain => return random.normal(),
            Kind::Ties => (bits as u32 % 3) as f32,
            Kind::Tiny => f32::from_bits(if bits & 1 == 0 { 0 } else { bits as u32 >> 8 & 0xf }),
            Kind::Wild => 2f32.powi((bits % 180) as i32 - 90),
        };
        f32::from_bits(magnitude.to_bits() | sign)
    };
    (0..count).map(|_| one(random)).collect()
}

/// A model, and values for its pieces.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) layout: Layout,
    pub(crate) params: CodecParams,
    pub(crate) kind: Kind,
    pub(crate) seed: u64,
}

pub(crate) fn model() -> impl Strategy<Value = Model> {
    let vector = (1u64..9000).prop_map(|len| vec![len]);
    let matrix = (1u64..200, 1u64..200).prop_map(|(rows, columns)| vec![rows, columns]);
    let shapes = proptest::collection::vec(prop_oneof![vector, matrix], 1..4);
    let top_k = prop_oneof![Just(64u32), Just(1), Just(4096), 1u32..4096];
    let bits = prop_oneof![Just(ValueBits::One), Just(ValueBits::Two)];
    let factors = prop_oneof![Just((0.95f32, 0.0f32)), (0.0f32..=1.0, 0.0f32..=1.0)];
    (shapes, top_k, bits, factors, kind(), any::<u64>()).prop_map(
        |(shapes, top_k, bits, (decay, retention), kind, seed)| {
            let shapes: Vec<&[u64]> = shapes.iter().map(Vec::as_slice).collect();
            let params = CodecParams::new(top_k, bits, decay, retention).unwrap();
            Model { layout: layout(&shapes), params, kind, seed }
        },
    )
}

impl Model {
    pub(crate) fn at(&self, piece: u32) -> PieceAt<'_> {
        PieceAt { layout: &self.layout, params: &self.params, piece }
    }

    pub(crate) fn id(&self) -> FrameId {
        id(&self.layout, &self.params)
    }
}

/// A frame of `delta`, the whole model in canonical order, made with an empty residual.
pub(crate) fn frame(at: PieceAt<'_>, delta: &[f32]) -> Vec<u8> {
    let span = at.layout.piece(at.piece).values;
    let theta: Vec<f32> = delta[span.clone()].iter().map(|value| -value).collect();
    let zeros = vec![0.0; span.len()];
    let mut residual = zeros.clone();
    let mut out = Vec::new();
    let input = PieceInput { anchor: &zeros, theta: &theta };
    compress_piece(at, &id(at.layout, at.params), input, &mut residual, &mut out).unwrap();
    out
}

/// The message of a frame, every position that was not sent zero.
pub(crate) fn message(at: PieceAt<'_>, frame: &[u8]) -> Vec<f32> {
    let mut message = vec![0.0; at.layout.piece(at.piece).values.len()];
    restore_piece(at, &id(at.layout, at.params), frame, &mut message).unwrap();
    message
}

pub(crate) fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}
