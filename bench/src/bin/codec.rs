//! Speed and size of the codec: `figure NAME VALUE UNIT` lines.
//!
//! The state is at least `--gib` of f32 for each of θ, anchor and error feedback, so that no cache
//! holds it. The plain pass e ← βe + Δ runs between the codec's passes on as many values.
//!
//! The codec takes θ in canonical order. Bringing it into that order is a pass of its own, which an
//! island makes while its ranks collect their spans: it is not in these figures.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context, bail};
use clap::Parser;
use safetensors::{Dtype, SafeTensors};
use sparseloco::codec::{Compress, compress_with, verify_piece};
use sparseloco::outer::{Apply, apply_with};
use sparseloco::{
    CodecParams, FrameId, InstructionSet, Layout, OuterParams, PieceAt, PieceInput, PieceState,
    Rule, TensorShape, ValueBits, Weighted,
};

const ERROR_DECAY: f32 = 0.95;
const CONTRIBUTIONS: usize = 16;

/// Measures the codec on one thread.
#[derive(Parser)]
struct Args {
    /// Pseudo-gradients of a real run: a safetensors file of f32 tensors by name. Give it several
    /// times for several islands.
    #[arg(long)]
    delta: Vec<PathBuf>,
    /// GiB of f32 for each of θ, anchor and error feedback.
    #[arg(long, default_value_t = 1.0)]
    gib: f64,
    /// Values kept of a chunk of 4,096.
    #[arg(long, default_value_t = 64)]
    top_k: u32,
    /// How often each pass is timed; the median counts.
    #[arg(long, default_value_t = 5)]
    repeats: usize,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let source = Source::open(&args)?;
    for bits in [ValueBits::One, ValueBits::Two] {
        let params = CodecParams::new(args.top_k, bits, ERROR_DECAY, 0.0)?;
        let mut bench = Bench::new(&source, params)?;
        bench.wire()?;
        if bits == ValueBits::Two {
            bench.compress(args.repeats)?;
            bench.apply(args.repeats)?;
        }
    }
    Ok(())
}

fn figure(name: &str, value: f64, unit: &str) {
    println!("figure {name} {value:.3} {unit}");
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Runs `work` and returns what it gives and the seconds that it took.
fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed().as_secs_f64())
}

/// The input of compression: tensors and as many pseudo-gradients as there are files.
struct Source {
    tensors: Vec<TensorShape>,
    deltas: Vec<Vec<f32>>,
}

impl Source {
    fn open(args: &Args) -> anyhow::Result<Source> {
        let values = (args.gib * f64::from(1 << 30) / 4.0) as usize;
        let once = match args.delta.as_slice() {
            [] => {
                println!("data: synthetic (normal, spread over rows and columns); no --delta");
                synthetic()
            }
            files => {
                println!("data: pseudo-gradients of a real run, {} file(s)", files.len());
                real(files)?
            }
        };
        Ok(once.repeated(values))
    }

    /// As many copies, each under its own names, as make up at least `values`.
    fn repeated(self, values: usize) -> Source {
        let once = self.deltas[0].len();
        let copies = values.div_ceil(once).max(1);
        let tensors = (0..copies)
            .flat_map(|copy| {
                self.tensors.iter().map(move |tensor| TensorShape {
                    name: format!("{copy}.{}", tensor.name),
                    shape: tensor.shape.clone(),
                })
            })
            .collect();
        println!("state: {copies} × {once} values, {:.2} GiB of f32", gib(copies * once));
        Source { tensors, deltas: self.deltas.iter().map(|delta| delta.repeat(copies)).collect() }
    }
}

fn gib(values: usize) -> f64 {
    values as f64 * 4.0 / f64::from(1 << 30)
}

/// Reads the files; all have the tensors of the first.
fn real(files: &[PathBuf]) -> anyhow::Result<Source> {
    let mut source = Source { tensors: Vec::new(), deltas: Vec::new() };
    for file in files {
        let bytes = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
        let parsed = SafeTensors::deserialize(&bytes).context("reading safetensors")?;
        let mut tensors = Vec::new();
        let mut delta = Vec::new();
        let mut names = parsed.names();
        names.sort_unstable();
        for name in names {
            let view = parsed.tensor(name)?;
            if view.dtype() != Dtype::F32 {
                bail!("{}: {name} is not f32", file.display());
            }
            let shape = view.shape().iter().map(|&dim| dim as u64).collect();
            tensors.push(TensorShape { name: name.to_owned(), shape });
            let (values, _) = view.data().as_chunks();
            delta.extend(values.iter().map(|&value| f32::from_le_bytes(value)));
        }
        if !source.tensors.is_empty() && source.tensors != tensors {
            bail!("{}: other tensors than the first file", file.display());
        }
        source.tensors = tensors;
        source.deltas.push(delta);
    }
    Ok(source)
}

/// One LLaMA-like layer whose rows and columns differ in size as those of real ones do.
fn synthetic() -> Source {
    let (hidden, feed) = (1024, 2816);
    let shapes: [(&str, &[u64]); 9] = [
        ("q", &[hidden, hidden]),
        ("k", &[hidden / 4, hidden]),
        ("v", &[hidden / 4, hidden]),
        ("o", &[hidden, hidden]),
        ("gate", &[feed, hidden]),
        ("up", &[feed, hidden]),
        ("down", &[hidden, feed]),
        ("norm1", &[hidden]),
        ("norm2", &[hidden]),
    ];
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut delta = Vec::new();
    for (_, shape) in shapes {
        let columns = shape[shape.len() - 1] as usize;
        let rows = shape.iter().product::<u64>() as usize / columns;
        let spread: Vec<f32> = (0..columns).map(|_| (0.5 * random.normal()).exp()).collect();
        for _ in 0..rows {
            let row = 1e-4 * (0.5 * random.normal()).exp();
            delta.extend(spread.iter().map(|column| row * column * random.normal()));
        }
    }
    let tensors = shapes
        .iter()
        .map(|(name, shape)| TensorShape { name: (*name).to_owned(), shape: shape.to_vec() })
        .collect();
    Source { tensors, deltas: vec![delta] }
}

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Nearly normal: the sum of four uniforms of 16 bits.
    fn normal(&mut self) -> f32 {
        let bits = self.next();
        let sum: u64 = (0..4).map(|part| bits >> (16 * part) & 0xffff).sum();
        (sum as f32 / 65536.0 - 2.0) * 3f32.sqrt()
    }
}

/// The state of one island, and what it exchanges.
struct Bench<'a> {
    deltas: &'a [Vec<f32>],
    layout: Layout,
    params: CodecParams,
    anchor: Vec<f32>,
    theta: Vec<f32>,
    residual: Vec<f32>,
}

/// The frames of one contribution, by piece.
type Frames = Vec<Vec<u8>>;

impl<'a> Bench<'a> {
    fn new(source: &'a Source, params: CodecParams) -> anyhow::Result<Bench<'a>> {
        let layout = Layout::new(&source.tensors)?;
        let values = layout.values();
        let anchor = vec![0.0; values];
        let (theta, residual) = (vec![0.0; values], vec![0.0; values]);
        Ok(Bench { deltas: &source.deltas, layout, params, anchor, theta, residual })
    }

    fn id(&self, round: u64) -> FrameId {
        FrameId::new("bench", "island", round, self.layout.hash(&self.params))
    }

    /// Lets θ be what file `nth` says; the anchor is zero.
    fn train(&mut self, nth: usize) {
        let delta = &self.deltas[nth % self.deltas.len()];
        self.anchor.fill(0.0);
        self.layout.gather(0..self.layout.pieces(), delta, &mut self.theta);
        self.theta.iter_mut().for_each(|theta| *theta = -*theta);
    }

    /// Compresses everything once.
    fn round(&mut self, set: InstructionSet, round: u64) -> anyhow::Result<Frames> {
        let id = self.id(round);
        let mut frames = Vec::with_capacity(self.layout.pieces() as usize);
        for piece in 0..self.layout.pieces() {
            let span = self.layout.piece(piece).values;
            let mut out = Vec::new();
            compress_with(
                set,
                Compress {
                    at: PieceAt { layout: &self.layout, params: &self.params, piece },
                    id: &id,
                    input: PieceInput {
                        anchor: &self.anchor[span.clone()],
                        theta: &self.theta[span.clone()],
                    },
                    residual: &mut self.residual[span],
                    out: &mut out,
                },
            )?;
            frames.push(out);
        }
        Ok(frames)
    }

    /// Bytes of a round in which the error feedback has settled.
    fn wire(&mut self) -> anyhow::Result<()> {
        let set = best();
        self.residual.fill(0.0);
        let mut frames = Frames::new();
        for round in 0..4 {
            self.train(round);
            frames = self.round(set, round as u64)?;
        }
        let (mut bytes, mut values) = (0, 0);
        for (piece, frame) in (0u32..).zip(&frames) {
            let at = PieceAt { layout: &self.layout, params: &self.params, piece };
            values += verify_piece(at, &self.id(3), frame)?.values;
            bytes += frame.len();
        }
        let bits = self.params.value_bits().count();
        let name = |name: &str| format!("{name}.{bits}bit");
        figure(&name("wire.bits_per_value"), bytes as f64 * 8.0 / values as f64, "bit");
        figure(&name("wire.ratio_to_f32"), self.theta.len() as f64 * 4.0 / bytes as f64, "x");
        Ok(())
    }

    /// Compressing beside the plain pass over as many values.
    fn compress(&mut self, repeats: usize) -> anyhow::Result<()> {
        self.train(0);
        let mut plain_error = vec![0.0; self.theta.len()];
        let delta = &self.deltas[0];
        plain(&mut plain_error, delta);
        let sets = InstructionSet::available();
        let mut ratios = vec![Vec::new(); sets.len()];
        let mut speeds = vec![Vec::new(); sets.len()];
        for _ in 0..repeats {
            for (nth, &set) in sets.iter().enumerate() {
                let ((), plain) = timed(|| plain(&mut plain_error, delta));
                let (frames, compress) = timed(|| self.round(set, 0));
                frames?;
                ratios[nth].push(plain / compress);
                speeds[nth].push(self.theta.len() as f64 / 1e6 / compress);
            }
        }
        for ((set, ratios), speeds) in sets.iter().zip(ratios).zip(speeds) {
            let name = |name: &str| format!("{name}.{}", set.name());
            let ratio = median(ratios);
            if set.name() == best().name() {
                figure("codec.compress.vs_plain", ratio, "x");
            }
            figure(&name("codec.compress.vs_plain"), ratio, "x");
            figure(&name("codec.compress.mparam_s"), median(speeds), "Mparam/s");
        }
        Ok(())
    }

    /// Decoding and applying the frames of sixteen islands.
    fn apply(&mut self, repeats: usize) -> anyhow::Result<()> {
        let mut set = Vec::new();
        for nth in 0..CONTRIBUTIONS {
            self.train(nth);
            set.push(self.round(best(), 0)?);
        }
        for (rule, name) in [(Rule::Counted, "counted"), (Rule::Paper, "paper")] {
            let outer = OuterParams { rule, alpha: 1.0 };
            let mut speeds = Vec::new();
            for _ in 0..repeats {
                let (done, seconds) = timed(|| self.outer_step(&outer, &set));
                done?;
                speeds.push(self.theta.len() as f64 / 1e6 / seconds);
            }
            let speed = median(speeds);
            if rule == Rule::Counted {
                figure("codec.apply16.mparam_s", speed, "Mparam/s");
            }
            figure(&format!("codec.apply16.mparam_s.{name}"), speed, "Mparam/s");
        }
        Ok(())
    }

    fn outer_step(&mut self, outer: &OuterParams, frames: &[Frames]) -> anyhow::Result<()> {
        let id = self.id(0);
        for piece in 0..self.layout.pieces() {
            let span = self.layout.piece(piece).values;
            let set: Vec<Weighted<'_>> = frames
                .iter()
                .map(|frames| Weighted { weight: 1 << 20, id, bytes: &frames[piece as usize] })
                .collect();
            let state = PieceState {
                anchor: &mut self.anchor[span.clone()],
                residual: &mut self.residual[span],
            };
            let at = PieceAt { layout: &self.layout, params: &self.params, piece };
            apply_with(best(), Apply { at, outer, set: &set, own: Some(0), state })?;
        }
        Ok(())
    }
}

fn best() -> InstructionSet {
    InstructionSet::best()
}

/// The pass that no error feedback can do without: e ← βe + Δ.
fn plain(residual: &mut [f32], delta: &[f32]) {
    for (residual, delta) in residual.iter_mut().zip(delta) {
        *residual = ERROR_DECAY * *residual + delta;
    }
    std::hint::black_box(residual);
}
