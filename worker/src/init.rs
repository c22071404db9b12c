//! Initial parameters: a function of the run's seed and a tensor's name, and of nothing else. No
//! device, sharding, number of threads or version of libtorch changes a bit of them.

use std::num::NonZero;
use std::sync::{Mutex, PoisonError};

use plan::model::TensorSpec;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::parameters::Layout;

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
    if tensor.shape.len() < 2 {
        out.fill(1.0);
        return;
    }
    let mut random = generator(seed, &tensor.name);
    for pair in out.chunks_mut(2) {
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
