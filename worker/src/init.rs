//! Initial parameters: a function of the run's seed and a tensor's name, and of nothing else. No
//! device, sharding, number of threads or version of libtorch changes a bit of them.

use std::num::NonZero;
use std::ops::Range;
use std::sync::{Mutex, PoisonError};

use plan::model::TensorSpec;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::parameters::Layout;

/// Words of 32 bits that a pair of values takes from its tensor's stream.
const PAIR_WORDS: u128 = 4;

/// Fills a flat buffer with the initial values of all its tensors, one thread for each of several
/// tensors at a time.
pub fn fill_all(seed: u64, layout: &Layout, range: f64, out: &mut [f32]) {
    let mut rest = out;
    let mut parts: Vec<(&TensorSpec, &mut [f32])> = Vec::new();
    for (tensor, place) in layout.ranges() {
        let (part, tail) = rest.split_at_mut(place.len());
        parts.push((tensor, part));
        rest = tail;
    }
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    let queue = Mutex::new(parts.into_iter());
    let work = || {
        let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).next();
        while let Some((tensor, part)) = next() {
            fill(seed, tensor, range, part);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
}

/// Fills `out` with the initial values of `tensor`: matrices are normal with standard deviation
/// `range`, vectors (the norms' weights) are 1. As in Hugging Face's `LlamaPreTrainedModel`.
pub fn fill(seed: u64, tensor: &TensorSpec, range: f64, out: &mut [f32]) {
    fill_from(0, (seed, range), tensor, out);
}

/// Fills `out` with the initial values of some rows of `tensor`, the same as [`fill`] gives them. A
/// vector is a single row.
pub fn fill_rows(seed: u64, tensor: &TensorSpec, range: f64, rows: Range<u64>, out: &mut [f32]) {
    let columns = tensor.shape.last().copied().unwrap_or(0);
    fill_from(rows.start * columns, (seed, range), tensor, out);
}

/// Fills `out` with the values from position `first` on.
fn fill_from(first: u64, (seed, range): (u64, f64), tensor: &TensorSpec, out: &mut [f32]) {
    if tensor.shape.len() < 2 {
        out.fill(1.0);
        return;
    }
    let mut random = generator(seed, &tensor.name);
    random.set_word_pos(u128::from(first / 2) * PAIR_WORDS);
    // The last half of a pair that begins before.
    let (half, pairs) = out.split_at_mut(out.len().min((first % 2) as usize));
    if let [value] = half {
        *value = (range * normal_pair(&mut random).1) as f32;
    }
    for pair in pairs.chunks_mut(2) {
        let (first, second) = normal_pair(&mut random);
        pair[0] = (range * first) as f32;
        if let Some(value) = pair.get_mut(1) {
            *value = (range * second) as f32;
        }
    }
}

/// A stream of its own for every tensor.
fn generator(seed: u64, name: &str) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new_derive_key("heteroloco initial parameters v1");
    hasher.update(&seed.to_le_bytes());
    hasher.update(name.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// Two independent standard normal values (Box and Muller 1958), through libm, whose results do not
/// depend on the machine.
fn normal_pair(random: &mut impl Rng) -> (f64, f64) {
    // In (0, 1], so that the logarithm is finite.
    let uniform = ((random.next_u64() >> 11) + 1) as f64 / (1u64 << 53) as f64;
    let turn = (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    let radius = libm::sqrt(-2.0 * libm::log(uniform));
    let (sine, cosine) = libm::sincos(2.0 * std::f64::consts::PI * turn);
    (radius * cosine, radius * sine)
}

#[cfg(test)]
mod streams;

#[cfg(test)]
mod tests {
    use super::*;

    fn values(seed: u64, name: &str, shape: &[u64]) -> Vec<f32> {
        let tensor = TensorSpec { name: name.into(), shape: shape.into() };
        let mut out = vec![0.0; tensor.numel() as usize];
        fill(seed, &tensor, 0.02, &mut out);
        out
    }

    #[test]
    fn values_depend_on_seed_and_name_alone() {
        let once = values(7, "a.weight", &[64, 64]);
        assert_eq!(once, values(7, "a.weight", &[64, 64]));
        assert_ne!(once, values(8, "a.weight", &[64, 64]));
        assert_ne!(once, values(7, "b.weight", &[64, 64]));
        assert_eq!(once[..4095], values(7, "a.weight", &[4095, 1]));
    }

    #[test]
    fn the_first_values_never_change() {
        let bits: Vec<u32> =
            values(42, "lm_head.weight", &[1, 4]).iter().map(|v| v.to_bits()).collect();
        assert_eq!(bits, [1_020_918_921, 3_172_735_791, 3_151_405_121, 3_157_192_017]);
    }

    #[test]
    fn rows_have_the_values_that_they_have_in_the_whole_tensor() {
        for shape in [[7, 5], [6, 4], [9, 1]] {
            let tensor = TensorSpec { name: "m".into(), shape: shape.into() };
            let whole = values(3, "m", &shape);
            for start in 0..shape[0] {
                for end in start..=shape[0] {
                    let place = (start * shape[1]) as usize..(end * shape[1]) as usize;
                    let mut rows = vec![0.0; place.len()];
                    fill_rows(3, &tensor, 0.02, start..end, &mut rows);
                    assert_eq!(rows, whole[place], "{start}..{end} of {shape:?}");
                }
            }
        }
        let mut vector = [0.0; 4];
        let tensor = TensorSpec { name: "v".into(), shape: vec![4] };
        fill_rows(3, &tensor, 0.02, 0..1, &mut vector);
        assert_eq!(vector, [1.0; 4]);
    }

    #[test]
    fn matrices_are_normal_and_vectors_one() {
        let matrix = values(1, "m", &[256, 256]);
        let count = matrix.len() as f64;
        let moment = |power: i32| {
            matrix.iter().map(|v| (f64::from(*v) / 0.02).powi(power)).sum::<f64>() / count
        };
        assert!(moment(1).abs() < 0.02 && (moment(2) - 1.0).abs() < 0.02);
        assert!(moment(3).abs() < 0.06 && (moment(4) - 3.0).abs() < 0.15);
        assert!(values(1, "v", &[9]).iter().all(|v| *v == 1.0));
    }
}
