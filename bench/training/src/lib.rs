//! Benchmarks that train: they link libtorch, the others in `bench` do not.

pub mod convergence;
pub mod island;

/// `count` tokens of a vocabulary: repeatable and of no meaning, as a step's time does not depend
/// on the text.
pub fn tokens(count: usize, vocabulary: u32) -> Vec<u32> {
    let vocabulary = u64::from(vocabulary);
    let token = |index: u64| (index.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33) % vocabulary;
    (0..count as u64).map(|index| token(index) as u32).collect()
}
