//! `docs/wire-format.md` once more, written from that page alone and without the crate: slow, and
//! in the page's order. What it and the crate make of the same is the same, bit for bit.

/// The settings that a run fixes.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) tensors: Vec<(String, Vec<usize>)>,
    pub(crate) k: usize,
    pub(crate) bits: usize,
}

/// The identity of a frame.
#[derive(Clone, Debug)]
pub(crate) struct Who {
    pub(crate) run: String,
    pub(crate) island: String,
    pub(crate) round: u64,
}

/// A chunk: its values, and whether it is a block of a matrix.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    len: usize,
    matrix: bool,
}

/// The message of a chunk: magnitudes, and position, sign and choice of each value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Said {
    low: u16,
    high: u16,
    values: Vec<(usize, bool, bool)>,
}

impl Said {
    fn values(&self) -> impl Iterator<Item = (usize, f32)> + '_ {
        self.values.iter().map(|(position, negative, higher)| {
            let bits = u32::from(if *higher { self.high } else { self.low }) << 16;
            (*position, f32::from_bits(bits | u32::from(*negative) << 31))
        })
    }
}

// ---- 1. Layout

impl Model {
    fn all_chunks(&self) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        for (_, shape) in &self.tensors {
            match shape[..] {
                [n] => chunks.extend(cuts(n, 4096).map(|len| Chunk { len, matrix: false })),
                [rows, columns] => {
                    for height in cuts(rows, 64) {
                        let blocks = cuts(columns, 64).map(|width| height * width);
                        chunks.extend(blocks.map(|len| Chunk { len, matrix: true }));
                    }
                }
                _ => panic!("vectors and matrices"),
            }
        }
        chunks
    }

    pub(crate) fn pieces(&self) -> usize {
        self.all_chunks().len().div_ceil(64)
    }

    fn piece(&self, index: usize) -> Vec<Chunk> {
        self.all_chunks().into_iter().skip(64 * index).take(64).collect()
    }

    /// The place of a piece's values in the canonical order.
    pub(crate) fn range(&self, piece: usize) -> std::ops::Range<usize> {
        let chunks = self.all_chunks();
        let sum = |chunks: &[Chunk]| chunks.iter().map(|chunk| chunk.len).sum::<usize>();
        let (first, end) = (64 * piece, chunks.len().min(64 * piece + 64));
        sum(&chunks[..first])..sum(&chunks[..end])
    }

    /// A flat buffer of row-major tensors in canonical order.
    pub(crate) fn canonical(&self, flat: &[f32]) -> Vec<f32> {
        let (mut canonical, mut start) = (Vec::new(), 0);
        for (_, shape) in &self.tensors {
            let size: usize = shape.iter().product();
            let tensor = &flat[start..start + size];
            start += size;
            let [rows, columns] = shape[..] else {
                canonical.extend(tensor);
                continue;
            };
            let block = |index: usize| {
                let (row, column) = (index / columns, index % columns);
                (row / 64, column / 64, row, column)
            };
            let mut order: Vec<usize> = (0..rows * columns).collect();
            order.sort_by_key(|&index| block(index));
            canonical.extend(order.iter().map(|&index| tensor[index]));
        }
        canonical
    }

    fn kept(&self, len: usize) -> usize {
        ((self.k * len + 2048) / 4096).max(1)
    }

    fn rice(&self, len: usize) -> usize {
        (0..).find(|b| (2 << b) * self.kept(len) >= len).expect("some power of two is enough")
    }

    pub(crate) fn layout_hash(&self) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_derive_key("heteroloco sparseloco layout v1");
        let mut numbers = |list: &[usize]| {
            let bytes: Vec<u8> = list.iter().flat_map(|n| (*n as u64).to_le_bytes()).collect();
            hasher.update(&bytes);
        };
        numbers(&[64, 4096, 64, self.k, self.bits, self.tensors.len()]);
        for (name, shape) in &self.tensors {
            let number = |n: usize| (n as u64).to_le_bytes();
            hasher.update(&number(name.len())).update(name.as_bytes()).update(&number(shape.len()));
            shape.iter().for_each(|dim| {
                hasher.update(&number(*dim));
            });
        }
        *hasher.finalize().as_bytes()
    }
}

/// Lengths of the parts when `all` is cut every `part`.
fn cuts(all: usize, part: usize) -> impl Iterator<Item = usize> {
    (0..all).step_by(part).map(move |start| part.min(all - start))
}

// ---- 2. Frame

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ ((crc & 1) * 0x82f6_3b78))
    })
}

fn header(model: &Model, piece: usize, who: &Who) -> Vec<u8> {
    let island = blake3::derive_key("heteroloco sparseloco island v1", who.island.as_bytes());
    let mut header = b"SLoC\x02".to_vec();
    header.push(model.bits as u8);
    header.extend((model.k as u16).to_le_bytes());
    header.extend((piece as u32).to_le_bytes());
    header.extend([0; 4]);
    header.extend(who.round.to_le_bytes());
    header.extend(&blake3::hash(who.run.as_bytes()).as_bytes()[..8]);
    header.extend(&model.layout_hash()[..8]);
    header.extend(&island[..16]);
    header
}

fn seal(frame: &mut [u8]) {
    let all: Vec<u8> = [&frame[..12], &frame[16..]].concat();
    frame[12..16].copy_from_slice(&crc32c(&all).to_le_bytes());
}

/// A frame's planes as text of `0` and `1`, the scales apart.
#[derive(Default)]
struct Text {
    scales: Vec<u8>,
    planes: [String; 4],
}

fn write(model: &Model, piece: usize, said: &[Said]) -> Text {
    let mut text = Text::default();
    let bit = |bit: bool| if bit { '1' } else { '0' };
    for (chunk, said) in model.piece(piece).iter().zip(said) {
        text.scales.extend(said.low.to_le_bytes());
        if model.bits == 2 {
            text.scales.extend(said.high.to_le_bytes());
        }
        let (b, mut next) = (model.rice(chunk.len), 0);
        for (position, negative, higher) in &said.values {
            let gap = position - next;
            next = position + 1;
            text.planes[0].push(bit(*negative));
            text.planes[1].extend((model.bits == 2).then(|| bit(*higher)));
            text.planes[2].extend((0..b).map(|at| bit(gap >> at & 1 == 1)));
            text.planes[3].push_str(&"0".repeat(gap >> b));
            text.planes[3].push('1');
        }
    }
    text
}

pub(crate) fn frame(model: &Model, piece: usize, who: &Who, said: &[Said]) -> Vec<u8> {
    let text = write(model, piece, said);
    let mut frame = header(model, piece, who);
    frame.extend(text.scales);
    for plane in text.planes {
        frame.extend(plane.as_bytes().chunks(8).map(|eight| {
            eight.iter().rev().fold(0, |byte, bit| byte << 1 | u8::from(*bit == b'1'))
        }));
    }
    seal(&mut frame);
    frame
}

// ---- 3. What a decoder refuses

/// Reads `size` bits that start at a byte; what remains of the last byte has to be zero.
fn plane(frame: &[u8], at: &mut usize, size: usize) -> Result<Vec<bool>, &'static str> {
    let bytes = frame.get(*at..*at + size.div_ceil(8)).ok_or("too short")?;
    *at += bytes.len();
    let mut bits: Vec<bool> =
        bytes.iter().flat_map(|byte| (0..8).map(move |bit| byte >> bit & 1 == 1)).collect();
    if bits.split_off(size).contains(&true) { Err("padding") } else { Ok(bits) }
}

pub(crate) fn decode(
    model: &Model,
    piece: usize,
    who: &Who,
    frame: &[u8],
) -> Result<Vec<Said>, &'static str> {
    match frame.get(..5) {
        Some([b'S', b'L', b'o', b'C', 2]) => {}
        Some([b'S', b'L', b'o', b'C', _]) => return Err("version"),
        _ => return Err("magic"),
    }
    let mut expected = header(model, piece, who);
    expected.extend(frame.get(56..).ok_or("too short")?);
    seal(&mut expected);
    if expected != frame {
        return Err("header or checksum");
    }
    let chunks = model.piece(piece);
    let total = |of: &dyn Fn(usize) -> usize| chunks.iter().map(|chunk| of(chunk.len)).sum();
    let kept: usize = total(&|len| model.kept(len));
    let mut at = 56 + 2 * model.bits * chunks.len();
    let scales = frame.get(56..at).ok_or("too short")?;
    let mut signs = plane(frame, &mut at, kept)?.into_iter();
    let mut choices = plane(frame, &mut at, (model.bits - 1) * kept)?.into_iter();
    let low_bits: usize = total(&|len| model.kept(len) * model.rice(len));
    let mut lows = plane(frame, &mut at, low_bits)?.into_iter();
    let rest = 8 * (frame.len() - at);
    let unary = plane(frame, &mut at, rest)?;
    let end = unary.iter().rposition(|bit| *bit).ok_or("no ones")? + 1;
    if end.div_ceil(8) * 8 != unary.len() {
        return Err("bytes after the end");
    }
    let mut zeros = unary[..end].split(|bit| *bit).map(<[bool]>::len).collect::<Vec<_>>();
    // What follows the last one is empty.
    zeros.pop();
    if zeros.len() != kept {
        return Err("ones");
    }
    let mut zeros = zeros.into_iter();
    let mut said = Vec::new();
    for (chunk, scales) in chunks.iter().zip(scales.chunks(2 * model.bits)) {
        let scale = |at: usize| u16::from_le_bytes([scales[at], scales[at + 1]]);
        let (low, high) = (scale(0), scale(2 * model.bits - 2));
        // 2^96 as a bfloat16: such bits order like the numbers, and above are infinity, NaN, signs.
        if low > high || high > (127 + 96) << 7 {
            return Err("scale");
        }
        let (b, mut next, mut values) = (model.rice(chunk.len), 0, Vec::new());
        for _ in 0..model.kept(chunk.len) {
            let low = (0..b).map(|at| usize::from(lows.next() == Some(true)) << at).sum::<usize>();
            let position = next + low + (zeros.next().ok_or("ones")? << b);
            next = position + 1;
            values.push((position, signs.next() == Some(true), choices.next() == Some(true)));
        }
        if next > chunk.len {
            return Err("position");
        }
        said.push(Said { low, high, values });
    }
    Ok(said)
}

/// All values of a piece; what is not said is zero.
pub(crate) fn message(model: &Model, piece: usize, said: &[Said]) -> Vec<f32> {
    let dense = |(chunk, said): (&Chunk, &Said)| {
        let mut values = vec![0.0; chunk.len];
        said.values().for_each(|(position, value)| values[position] = value);
        values
    };
    model.piece(piece).iter().zip(said).flat_map(dense).collect()
}

// ---- 4. What an encoder does

/// The input of an encoder: e, θ₀ and θ of a piece, β and λ.
pub(crate) struct Input<'a> {
    pub(crate) residual: &'a [f32],
    pub(crate) anchor: &'a [f32],
    pub(crate) theta: &'a [f32],
    pub(crate) decay: f32,
    pub(crate) retention: f32,
}

fn bfloat16(value: f32) -> u16 {
    let bits = value.to_bits();
    let (down, rest) = (bits >> 16, bits & 0xffff);
    (down + u32::from(rest > 0x8000 || rest == 0x8000 && down & 1 == 1)) as u16
}

fn lanes(values: impl Iterator<Item = f32>) -> f32 {
    let mut lanes = [0.0f32; 16];
    for (index, value) in values.enumerate() {
        lanes[index % 16] += value;
    }
    for half in [8, 4, 2, 1] {
        for lane in 0..half {
            lanes[lane] += lanes[lane + half];
        }
    }
    lanes[0]
}

/// Lower and higher magnitude, and the last split.
fn magnitudes(x: &[f32], bits: usize) -> (u16, u16, f32) {
    let all = lanes(x.iter().copied());
    let mean = all / x.len() as f32;
    if bits == 1 {
        return (bfloat16(mean), bfloat16(mean), f32::INFINITY);
    }
    let (mut low, mut high, mut split) = (mean, mean, mean);
    for r in 0..3 {
        let n = x.iter().filter(|x| **x > split).count();
        if n == 0 || n == x.len() {
            break;
        }
        let above = lanes(x.iter().map(|x| if *x > split { *x } else { 0.0 }));
        low = (all - above) / (x.len() - n) as f32;
        high = above / n as f32;
        if r < 2 {
            split = 0.5 * (low + high);
        }
    }
    (bfloat16(low).min(bfloat16(high)), bfloat16(high), split)
}

/// The messages of a piece, and the residual that is left.
pub(crate) fn encode(model: &Model, piece: usize, input: &Input<'_>) -> (Vec<Said>, Vec<f32>) {
    let factor = input.decay - input.retention;
    let a: Vec<f32> = (0..input.anchor.len())
        .map(|p| factor * input.residual[p] + (input.anchor[p] - input.theta[p]))
        .collect();
    let (mut said, mut start) = (Vec::new(), 0);
    for chunk in model.piece(piece) {
        let values = &a[start..start + chunk.len];
        start += chunk.len;
        let mut order: Vec<usize> = (0..chunk.len).collect();
        order.sort_by_key(|&p| (std::cmp::Reverse(values[p].abs().to_bits()), p));
        order.truncate(model.kept(chunk.len));
        order.sort_unstable();
        let x: Vec<f32> = order.iter().map(|&p| values[p].abs()).collect();
        let (low, high, split) = magnitudes(&x, model.bits);
        let say = |&p: &usize| (p, values[p].to_bits() >> 31 == 1, values[p].abs() > split);
        said.push(Said { low, high, values: order.iter().map(say).collect() });
    }
    let sent = message(model, piece, &said);
    (said, a.iter().zip(&sent).map(|(a, m)| a - m).collect())
}

// ---- 5. Digests

/// The root over the digests of parts, in order.
pub(crate) fn root(parts: &[Vec<u8>]) -> blake3::Hash {
    let manifest: Vec<u8> = parts.iter().flat_map(|part| *blake3::hash(part).as_bytes()).collect();
    blake3::hash(&manifest)
}

// ---- 7. Aggregation

fn upper_median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// z, by contribution and chunk.
fn scales(chunks: usize, set: &[(u64, Vec<Said>)]) -> Vec<Vec<f32>> {
    let wide = |bits: u16| f64::from(f32::from_bits(u32::from(bits) << 16));
    let norm = |said: &Said| {
        let (low, high) = (wide(said.low), wide(said.high));
        let g = said.values.iter().filter(|value| value.2).count() as f64;
        low * low * (said.values.len() as f64 - g) + high * high * g
    };
    let n: Vec<Vec<f64>> = set.iter().map(|(_, said)| said.iter().map(norm).collect()).collect();
    let r = upper_median(n.iter().map(|n| n.iter().sum::<f64>() / chunks as f64));
    let usual = upper_median(set.iter().map(|(weight, _)| *weight as f64));
    let scale = |i: usize, c: usize| {
        let f = 4.0 * (set[i].0 as f64 / usual.max(1.0)).max(1.0);
        let b = f * f * upper_median(n.iter().map(|n| n[c])).max(r);
        if n[i][c] > b { (b / n[i][c]).sqrt() as f32 } else { 1.0 }
    };
    (0..set.len()).map(|i| (0..chunks).map(|c| scale(i, c)).collect()).collect()
}

/// How a set is applied.
pub(crate) struct Step {
    pub(crate) counted: bool,
    pub(crate) alpha: f32,
    pub(crate) own: Option<usize>,
}

/// θ and the residual of a piece after a set.
pub(crate) fn apply(
    model: &Model,
    piece: usize,
    step: &Step,
    set: &[(u64, Vec<Said>)],
    (mut theta, mut residual): (Vec<f32>, Vec<f32>),
) -> (Vec<f32>, Vec<f32>) {
    let total: u128 = set.iter().map(|(weight, _)| u128::from(*weight)).sum();
    let shares: Vec<f32> =
        set.iter().map(|(weight, _)| (*weight as f64 / total as f64) as f32).collect();
    let chunks = model.piece(piece);
    let z = scales(chunks.len(), set);
    let mut start = 0;
    for (c, chunk) in chunks.iter().enumerate() {
        let (mut u, mut s, mut mine) =
            (vec![0.0f32; chunk.len], vec![0.0f32; chunk.len], vec![false; chunk.len]);
        for (i, (_, said)) in set.iter().enumerate() {
            for (p, value) in said[c].values() {
                u[p] += (shares[i] * z[i][c]) * value;
                s[p] += shares[i];
                mine[p] |= step.own == Some(i);
            }
        }
        for p in 0..chunk.len {
            if step.counted && chunk.matrix {
                u[p] /= s[p].max(0.25);
            }
            let (theta, e) = (&mut theta[start + p], &mut residual[start + p]);
            *theta -= step.alpha * u[p];
            if step.counted && !mine[p] {
                *e -= u[p].clamp(e.min(0.0), e.max(0.0));
            }
        }
        start += chunk.len;
    }
    (theta, residual)
}
